//! Cron schedules as cron jobs take them: five fields, or a word such as `@daily`.
//!
//! Only judged, never run. Compat: rules and texts are those of the parser that Kubernetes uses (`robfig/cron` v3, standard
//! form); the day of the month and the week take `?` as well as `*`.

use crate::http::go_duration;

/// Names that a field knows, with the number of the first.
struct Field {
    low: u32,
    high: u32,
    names: &'static [&'static str],
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const FIELDS: [Field; 5] = [
    Field { low: 0, high: 59, names: &[] },
    Field { low: 0, high: 23, names: &[] },
    Field { low: 1, high: 31, names: &[] },
    Field { low: 1, high: 12, names: &MONTHS },
    Field { low: 0, high: 6, names: &DAYS },
];
const WORDS: [&str; 7] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

/// What is wrong with a schedule.
pub(super) fn check(schedule: &str) -> Result<(), String> {
    let schedule = match schedule.strip_prefix("TZ=").or_else(|| schedule.strip_prefix("CRON_TZ=")) {
        // A zone in the schedule is refused by who asks; what follows it is judged.
        Some(zoned) => zoned.split_once(' ').map_or("", |(_, rest)| rest.trim()),
        None => schedule,
    };
    if schedule.starts_with('@') {
        return word(schedule);
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    for (text, field) in fields.into_iter().zip(&FIELDS) {
        for range in text.split(',').filter(|range| !range.is_empty()) {
            check_range(range, field)?;
        }
    }
    Ok(())
}

fn word(schedule: &str) -> Result<(), String> {
    if WORDS.contains(&schedule) {
        return Ok(());
    }
    match schedule.strip_prefix("@every ") {
        Some(duration) => go_duration::parse(duration)
            .map(|_| ())
            .map_err(|why| format!("failed to parse duration {schedule}: {why}")),
        None => Err(format!("unrecognized descriptor: {schedule}")),
    }
}

fn check_range(range: &str, field: &Field) -> Result<(), String> {
    let mut parts = range.split('/');
    let (bounds, step, more) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    let ends: Vec<&str> = bounds.split('-').collect();
    let single = ends.len() == 1;
    let (start, mut end) = match ends.as_slice() {
        ["*" | "?", ..] => (field.low, field.high),
        [start] => {
            let start = number_or_name(start, field)?;
            (start, start)
        }
        [start, end] => (number_or_name(start, field)?, number_or_name(end, field)?),
        _ => {
            number_or_name(ends.first().copied().unwrap_or_default(), field)?;
            return Err(format!("too many hyphens: {range}"));
        }
    };
    let step = match step {
        None => 1,
        Some(_) if more.is_some() => return Err(format!("too many slashes: {range}")),
        Some(step) => {
            let step = number(step)?;
            if single {
                end = field.high;
            }
            step
        }
    };
    if start < field.low {
        return Err(format!("beginning of range ({start}) below minimum ({}): {range}", field.low));
    }
    if end > field.high {
        return Err(format!("end of range ({end}) above maximum ({}): {range}", field.high));
    }
    if start > end {
        return Err(format!("beginning of range ({start}) beyond end of range ({end}): {range}"));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {range}"));
    }
    Ok(())
}

fn number_or_name(text: &str, field: &Field) -> Result<u32, String> {
    let lower = text.to_lowercase();
    match field.names.iter().position(|name| *name == lower) {
        Some(at) => Ok(field.low + u32::try_from(at).unwrap_or(0)),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u32, String> {
    match text.parse::<i64>() {
        Ok(number) if number < 0 => Err(format!("negative number ({number}) not allowed: {text}")),
        Ok(number) => u32::try_from(number).map_err(|_| format!("failed to parse int from {text}: value out of range")),
        Err(_) => {
            let quoted = portcullis_kube::go::quote(text);
            Err(format!("failed to parse int from {text}: strconv.Atoi: parsing {quoted}: invalid syntax"))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn schedules_are_judged_as_cron_jobs_are() {
        for good in ["* * * * *", "*/5 0-3,7 1 JAN-mar ?", "@daily", "@every 1h30m", "0 0 1 1 sun", "5/10 * * * *"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, want) in [
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("x * * * *", "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-3 * * * *", "beginning of range (5) beyond end of range (3): 5-3"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("*/2/3 * * * *", "too many slashes: */2/3"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("@sometimes", "unrecognized descriptor: @sometimes"),
            ("@every x", "failed to parse duration @every x: time: invalid duration \"x\""),
        ] {
            assert_eq!(check(bad).unwrap_err(), want, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[-*/,?0-9a-z@ ]{0,30}|\\PC{0,20}") {
            let _ = check(&text);
        }
    }
}
