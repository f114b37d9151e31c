//! Cron jobs.

use portcullis_kube::field::FieldError;
use portcullis_kube::names;
use serde_json::Value;

use super::super::check::{Path, Wrong, meta};
use super::super::rules::Rules;
use super::super::tree::{Members, at, child, default, flag, has, object, string, string_at};
use super::jobs::job_spec;
use super::{cron_schedule, name_warning, not_negative, template_warnings};

pub(crate) const RULES: Rules = Rules {
    validate,
    validate_update,
    validate_status: |_, _, _| {},
    warnings: |new, old| {
        let mut out = if old.is_none() { name_warning(new) } else { Vec::new() };
        out.extend(template_warnings(new, old, &["spec", "jobTemplate", "spec", "template"]));
        out
    },
    ..Rules::WITH_STATUS
};
/// The longest name: eleven characters are left for the numbers of its jobs.
const LONGEST_NAME: usize = 52;

pub(crate) fn fill(members: &mut Members) {
    let spec = object(members, "spec");
    default(spec, "concurrencyPolicy", "Allow");
    default(spec, "suspend", false);
    default(spec, "successfulJobsHistoryLimit", 3);
    default(spec, "failedJobsHistoryLimit", 1);
}

pub(crate) fn fill_condition_pattern(pattern: &mut Members) {
    default(pattern, "status", "True");
}

fn validate(new: &Members, wrong: &mut Wrong) {
    meta::object_meta(new, true, names::dns_subdomain, wrong);
    spec(new, None, wrong);
    let name = string_at(new, &["metadata", "name"]);
    if name.len() > LONGEST_NAME {
        wrong.invalid(&Path::new("metadata.name"), name, "must be no more than 52 characters");
    }
}

fn validate_update(new: &Members, old: &Members, wrong: &mut Wrong) {
    meta::object_meta_update(new, old, wrong);
    spec(new, Some(old), wrong);
}

fn spec(new: &Members, old: Option<&Members>, wrong: &mut Wrong) {
    let (spec, path) = (new.get("spec").unwrap_or(&Value::Null), Path::new("spec"));
    schedule(spec, old, &path.child("schedule"), wrong);
    not_negative(spec, &["startingDeadlineSeconds"], &path, wrong);
    let before = old.map(|old| at(old, &["spec", "timeZone"]).cloned().unwrap_or_default());
    if before.as_ref() != Some(child(spec, "timeZone")) {
        time_zone(spec, &path.child("timeZone"), wrong);
    }
    let policies = ["Allow", "Forbid", "Replace"];
    wrong.required_one_of(&path.child("concurrencyPolicy"), string(spec, "concurrencyPolicy"), &policies);
    let (job, at_job) = (child(child(spec, "jobTemplate"), "spec"), path.child("jobTemplate").child("spec"));
    job_spec(job, &at_job, wrong);
    if has(job, "selector") {
        wrong.invalid_value(&at_job.child("selector"), child(job, "selector"), "`selector` will be auto-generated");
    }
    if flag(job, "manualSelector") {
        let mut error = FieldError::not_supported(at_job.child("manualSelector"), "", &["nil", "false"]);
        error.value = Some("true".to_owned());
        wrong.push(error);
    }
    not_negative(spec, &["successfulJobsHistoryLimit", "failedJobsHistoryLimit"], &path, wrong);
}

fn schedule(spec: &Value, old: Option<&Members>, path: &Path, wrong: &mut Wrong) {
    let schedule = string(spec, "schedule");
    if schedule.is_empty() {
        wrong.push_last(FieldError::required(path, ""));
        return;
    }
    if let Err(why) = cron_schedule::check(schedule) {
        wrong.invalid(path, schedule, why);
    }
    if !schedule.contains("TZ") {
        return;
    }
    let had_one = old.is_some_and(|old| string_at(old, &["spec", "schedule"]).contains("TZ"));
    if !had_one {
        wrong.invalid(path, schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
    } else if has(spec, "timeZone") {
        wrong.invalid(path, schedule, "cannot use both timeZone field and TZ or CRON_TZ in schedule");
    }
}

/// The zones there are.
static TIME_ZONES: &str = include_str!("time_zones.txt");

/// Compat: `time.LoadLocation` of Go, which looks at the case of letters.
fn is_known(zone: &str) -> bool {
    matches!(zone, "UTC" | "Local")
        || TIME_ZONES.lines().filter(|line| !line.starts_with('#')).any(|known| known == zone)
}

fn time_zone(spec: &Value, path: &Path, wrong: &mut Wrong) {
    if !has(spec, "timeZone") {
        return;
    }
    let zone = string(spec, "timeZone");
    if zone.is_empty() {
        wrong.invalid(path, zone, "timeZone must be nil or non-empty string");
        return;
    }
    let good = |part: &str| {
        (1..=14).contains(&part.len())
            && ![".", ".."].contains(&part)
            && !part.starts_with('-')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'+' | b'-'))
    };
    if !zone.split('/').all(good) {
        wrong.invalid(path, zone, format!("unknown time zone {zone}"));
        return;
    }
    if zone.eq_ignore_ascii_case("Local") {
        let why = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        wrong.invalid(path, zone, why);
    }
    if !is_known(zone) {
        wrong.invalid(path, zone, format!("unknown time zone {zone}"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{filled, problems, template_of};
    use super::*;

    fn good() -> Value {
        let mut template = template_of("a");
        template["spec"]["restartPolicy"] = json!("OnFailure");
        json!({"schedule": "*/5 * * * *", "jobTemplate": {"spec": {"template": template}}})
    }

    #[test]
    fn a_cron_job_gets_what_the_real_server_fills_in() {
        let job = filled("cronjobs", good());
        assert_eq!(
            (&job["spec"]["concurrencyPolicy"], &job["spec"]["successfulJobsHistoryLimit"]),
            (&json!("Allow"), &json!(3))
        );
        assert_eq!(
            job["spec"]["jobTemplate"]["spec"].get("completions"),
            None,
            "the job itself is filled in when it is made"
        );
        assert!(problems("cronjobs", good()).is_empty());
    }

    #[test]
    fn common_mistakes_read_as_upstream_words_them() {
        let with = |name: &str, value: Value| {
            let mut spec = good();
            spec[name] = value;
            problems("cronjobs", spec)
        };
        assert_eq!(with("schedule", json!("")), ["spec.schedule: Required value"]);
        assert_eq!(
            with("schedule", json!("daily")),
            ["spec.schedule: Invalid value: \"daily\": expected exactly 5 fields, found 1: [daily]"]
        );
        assert!(with("schedule", json!("TZ=UTC * * * * *"))[0].ends_with("use timeZone field instead"));
        assert_eq!(
            with("timeZone", json!("a/../b")),
            ["spec.timeZone: Invalid value: \"a/../b\": unknown time zone a/../b"]
        );
        assert!(with("timeZone", json!("Europe/Berlin")).is_empty());
        assert_eq!(
            with("concurrencyPolicy", json!("Odd")),
            [
                "spec.concurrencyPolicy: Unsupported value: \"Odd\": supported values: \"Allow\", \"Forbid\", \"Replace\""
            ]
        );
        let mut spec = good();
        spec["jobTemplate"]["spec"]["selector"] = json!({});
        spec["jobTemplate"]["spec"]["manualSelector"] = json!(true);
        assert_eq!(problems("cronjobs", spec).len(), 2);
    }

    #[test]
    fn a_time_zone_is_one_that_there_is() {
        let zones: Vec<&str> = TIME_ZONES.lines().skip(1).collect();
        assert!(zones.len() > 550 && zones.is_sorted());
        let problems = |zone: &str| {
            let mut wrong = Wrong::default();
            time_zone(&json!({"timeZone": zone}), &Path::new("z"), &mut wrong);
            wrong.finish().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        for zone in ["Europe/Berlin", "UTC", "Etc/GMT+12", "America/Argentina/Buenos_Aires"] {
            assert!(problems(zone).is_empty(), "{zone}");
        }
        for zone in ["Europe/Atlantis", "europe/berlin", "# The", "Europe"] {
            assert_eq!(problems(zone), [format!("z: Invalid value: {zone:?}: unknown time zone {zone}")]);
        }
        assert_eq!((problems("Local").len(), problems("LOCAL").len()), (1, 2));
    }
}
