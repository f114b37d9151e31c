//! What a job makes of failed and successful pods, and the lists of indexes in which its status counts them.
//!
//! Compat: `validatePodFailurePolicy`, `validateSuccessPolicy` and `validateIndexesFormat` of `pkg/apis/batch/validation`.

use std::collections::HashSet;

use portcullis_kube::field::FieldError;
use portcullis_kube::{go, names};
use serde_json::{Value, json};

use super::super::check::{Path, Wrong};
use super::super::tree::{child, has, integer, list, string};
use super::jobs::INDEXED;

const MAX_RULES: usize = 20;
const MAX_PATTERNS: usize = 20;
const MAX_EXIT_CODES: usize = 255;
/// Longest list of indexes, in bytes.
const MAX_INDEXES: usize = 64 * 1024;

/// What becomes of a job whose pods fail.
pub(super) fn failure(spec: &Value, path: &Path, wrong: &mut Wrong) {
    let policy = child(spec, "podFailurePolicy");
    if policy.is_null() {
        return;
    }
    let at_rules = path.child("podFailurePolicy").child("rules");
    let rules = list(policy, "rules");
    if rules.len() > MAX_RULES {
        wrong.push(FieldError::too_many(&at_rules, rules.len(), MAX_RULES));
    }
    let pod = child(child(spec, "template"), "spec");
    let containers = list(pod, "containers").iter().chain(list(pod, "initContainers"));
    let containers: Vec<&str> = containers.map(|container| string(container, "name")).collect();
    for (index, rule) in rules.iter().enumerate() {
        let at = at_rules.index(index);
        match string(rule, "action") {
            "FailIndex" if has(spec, "backoffLimitPerIndex") => {}
            "FailIndex" => {
                wrong.invalid(&at.child("action"), "FailIndex", "requires the backoffLimitPerIndex to be set");
            }
            action => one_of(&at.child("action"), action, &["Count", "FailIndex", "FailJob", "Ignore"], wrong),
        }
        let (codes, conditions) = (child(rule, "onExitCodes"), list(rule, "onPodConditions"));
        if !codes.is_null() {
            exit_codes(codes, &containers, &at.child("onExitCodes"), wrong);
        }
        pod_conditions(conditions, &at.child("onPodConditions"), wrong);
        match (!codes.is_null(), !conditions.is_empty()) {
            (true, true) => {
                without_value(&at, "specifying both OnExitCodes and OnPodConditions is not supported", wrong)
            }
            (false, false) => {
                without_value(&at, "specifying one of OnExitCodes and OnPodConditions is required", wrong)
            }
            _ => {}
        }
    }
}

/// Compat: upstream names the values that there are as Go prints a list.
fn one_of(path: &Path, value: &str, supported: &[&str], wrong: &mut Wrong) {
    if value.is_empty() {
        let quoted: Vec<String> = supported.iter().map(|one| go::quote(one)).collect();
        wrong.required(path, &format!("valid values: [{}]", quoted.join(" ")));
    } else {
        wrong.one_of(path, value, supported);
    }
}

fn without_value(path: &Path, why: &str, wrong: &mut Wrong) {
    let mut error = FieldError::invalid(path, "", why);
    error.value = None;
    wrong.push(error);
}

fn exit_codes(codes: &Value, containers: &[&str], path: &Path, wrong: &mut Wrong) {
    let operator = string(codes, "operator");
    one_of(&path.child("operator"), operator, &["In", "NotIn"], wrong);
    let name = string(codes, "containerName");
    if has(codes, "containerName") && !containers.contains(&name) {
        let why = "must be one of the container or initContainer names in the pod template";
        wrong.invalid(&path.child("containerName"), name, why);
    }
    let at = path.child("values");
    let values: Vec<i64> = list(codes, "values").iter().filter_map(Value::as_i64).collect();
    if values.is_empty() {
        wrong.invalid_value(&at, child(codes, "values"), "at least one value is required");
    } else if values.len() > MAX_EXIT_CODES {
        wrong.push(FieldError::too_many(&at, values.len(), MAX_EXIT_CODES));
    }
    let mut seen = HashSet::new();
    for (index, value) in values.iter().enumerate() {
        let at = at.index(index);
        if operator == "In" && *value == 0 {
            wrong.invalid_value(&at, &json!(0), "must not be 0 for the In operator");
        }
        if !seen.insert(*value) {
            wrong.duplicate_value(&at, &json!(value));
        }
    }
    if !values.is_sorted() {
        wrong.invalid_value(&at, child(codes, "values"), "must be ordered");
    }
}

fn pod_conditions(patterns: &[Value], path: &Path, wrong: &mut Wrong) {
    if patterns.len() > MAX_PATTERNS {
        wrong.push(FieldError::too_many(path, patterns.len(), MAX_PATTERNS));
    }
    for (index, pattern) in patterns.iter().enumerate() {
        let (at, kind) = (path.index(index), string(pattern, "type"));
        wrong.each(&at.child("type"), kind, names::label_key(kind));
        one_of(&at.child("status"), string(pattern, "status"), &["False", "True", "Unknown"], wrong);
    }
}

/// When a job has succeeded before all of its pods have.
pub(super) fn success(spec: &Value, path: &Path, wrong: &mut Wrong) {
    let policy = child(spec, "successPolicy");
    if policy.is_null() {
        return;
    }
    let path = path.child("successPolicy");
    if string(spec, "completionMode") != INDEXED {
        let rules: Vec<Value> = list(policy, "rules")
            .iter()
            .map(|rule| {
                json!({"SucceededIndexes": child(rule, "succeededIndexes"), "SucceededCount": child(rule, "succeededCount")})
            })
            .collect();
        let rules = if has(policy, "rules") { Value::Array(rules) } else { Value::Null };
        wrong.invalid_value(&path, &json!({"Rules": rules}), "requires indexed completion mode");
        return;
    }
    let (rules, at_rules) = (list(policy, "rules"), path.child("rules"));
    if rules.is_empty() {
        wrong.required(&at_rules, "at least one rules must be specified when the successPolicy is specified");
    }
    if rules.len() > MAX_RULES {
        wrong.push(FieldError::too_many(&at_rules, rules.len(), MAX_RULES));
    }
    // Compat: where there are no completions, upstream's server breaks off; here there is room for none.
    let completions = integer(spec, "completions").unwrap_or(0);
    for (index, rule) in rules.iter().enumerate() {
        success_rule(rule, completions, &at_rules.index(index), wrong);
    }
}

fn success_rule(rule: &Value, completions: i64, path: &Path, wrong: &mut Wrong) {
    let (indexes, count) = (has(rule, "succeededIndexes"), integer(rule, "succeededCount"));
    if !indexes && count.is_none() {
        wrong.required(path, "at least one of succeededCount or succeededIndexes must be specified");
    }
    let mut total = 0;
    if indexes {
        let (text, at) = (string(rule, "succeededIndexes"), path.child("succeededIndexes"));
        if text.len() > MAX_INDEXES {
            wrong.push(FieldError::too_long(&at, MAX_INDEXES));
        }
        match parse_indexes(text, completions) {
            Ok(indexes) => total = indexes,
            Err(why) => wrong.invalid(&at, text, format!("error parsing succeededIndexes: {why}")),
        }
    }
    let Some(count) = count else { return };
    let at = path.child("succeededCount");
    wrong.not_negative(&at, Some(count));
    if count > completions {
        let why = format!("must be less than or equal to {completions} (the number of specified completions)");
        wrong.invalid_value(&at, &json!(count), why);
    }
    if indexes && count > total {
        let why = format!(
            "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
        );
        wrong.invalid_value(&at, &json!(count), why);
    }
}

/// Compat: limits that keep the lists of indexes in a status short.
pub(super) fn many_indexes(spec: &Value, path: &Path, wrong: &mut Wrong) {
    const MANY: i64 = 100_000;
    const FEW: i64 = 10_000;
    let failed = integer(spec, "maxFailedIndexes");
    let at_failed = path.child("maxFailedIndexes");
    if let Some(failed) = failed.filter(|failed| *failed > MANY) {
        wrong.push(FieldError::invalid_json(&at_failed, &failed, format!("must be less than or equal to {MANY}")));
    }
    if integer(spec, "completions").unwrap_or(0) <= MANY || !has(spec, "backoffLimitPerIndex") {
        return;
    }
    if failed.is_none() {
        wrong.required(&at_failed, &format!("must be specified when completions is above {MANY}"));
    }
    let parallelism = integer(spec, "parallelism");
    for (at, number) in [(path.child("parallelism"), parallelism), (at_failed, failed)] {
        if let Some(number) = number.filter(|number| *number > FEW) {
            let why = format!(
                "must be less than or equal to {FEW} when completions are above {MANY} and used with backoff limit per index"
            );
            wrong.push(FieldError::invalid_json(at, &number, why));
        }
    }
}

/// The lists of indexes in a status that has changed.
pub(super) fn indexes(spec: &Value, status: &Value, before: &Value, path: &Path, wrong: &mut Wrong) {
    let changed = |name: &str| child(status, name) != child(before, name);
    let completed = string(status, "completedIndexes");
    let failed = status.get("failedIndexes").and_then(Value::as_str);
    let (at_completed, at_failed) = (path.child("completedIndexes"), path.child("failedIndexes"));
    let completions = integer(spec, "completions");
    if let Some(completions) = completions.filter(|_| changed("completedIndexes"))
        && let Err(why) = parse_indexes(completed, completions)
    {
        wrong.invalid(&at_completed, completed, format!("error parsing completedIndexes: {why}"));
    }
    let per_index = has(spec, "backoffLimitPerIndex");
    if let (Some(completions), Some(failed), true) = (completions, failed, per_index && changed("failedIndexes"))
        && let Err(why) = parse_indexes(failed, completions)
    {
        wrong.invalid(&at_failed, failed, format!("error parsing failedIndexes: {why}"));
    }
    if changed("completedIndexes") && !completed.is_empty() && string(spec, "completionMode") != INDEXED {
        let why = "cannot set non-empty completedIndexes when non-indexed completion mode";
        wrong.invalid(&at_completed, completed, why);
    }
    let Some(failed) = failed else { return };
    if changed("failedIndexes") && !per_index {
        wrong.invalid(&at_failed, failed, "cannot set non-null failedIndexes when backoffLimitPerIndex is null");
    }
    if (changed("failedIndexes") || changed("completedIndexes"))
        && let Some(index) = completions.and_then(|completions| overlap(completed, failed, completions))
    {
        let why = format!("failedIndexes and completedIndexes overlap at index: {index}");
        wrong.invalid(&at_failed, failed, why);
    }
}

/// How many indexes there are in a list such as `0-2,5`.
fn parse_indexes(text: &str, completions: i64) -> Result<i64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let (mut last, mut total) = (None, 0);
    for interval in text.split(',') {
        let (from, to) = parse_interval(interval, completions)?;
        if let Some(last) = last.filter(|last| *last >= from) {
            return Err(format!("non-increasing order, previous: {last}, current: {from}"));
        }
        total += to - from + 1;
        last = Some(to);
    }
    Ok(total)
}

fn parse_interval(text: &str, completions: i64) -> Result<(i64, i64), String> {
    let number = |text: &str| -> Result<i64, String> {
        let number: i64 =
            text.parse().map_err(|_| format!("cannot convert string to integer for index: {}", go::quote(text)))?;
        if number >= completions { Err(format!("too large index: {}", go::quote(text))) } else { Ok(number) }
    };
    match text.split('-').collect::<Vec<_>>().as_slice() {
        [one] => number(one).map(|one| (one, one)),
        [from, to] => {
            let (from, to) = (number(from)?, number(to)?);
            if from >= to {
                return Err(format!("non-increasing order, previous: {from}, current: {to}"));
            }
            Ok((from, to))
        }
        _ => Err(format!(
            "the fragment {} violates the requirement that an index interval can have at most two parts separated by '-'",
            go::quote(text)
        )),
    }
}

/// The first index that is in both lists. What cannot be read is left out.
fn overlap(completed: &str, failed: &str, completions: i64) -> Option<i64> {
    let intervals = |text: &str| -> Vec<(i64, i64)> {
        text.split(',').filter_map(|interval| parse_interval(interval, completions).ok()).collect()
    };
    let (completed, failed) = (intervals(completed), intervals(failed));
    let (mut left, mut right) = (completed.iter().peekable(), failed.iter().peekable());
    while let (Some((c_from, c_to)), Some((f_from, f_to))) = (left.peek(), right.peek()) {
        if c_from <= f_to && f_from <= c_to {
            return Some(*c_from.max(f_from));
        }
        if c_from <= f_from {
            left.next()
        } else {
            right.next()
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(judge: impl Fn(&mut Wrong)) -> Vec<String> {
        let mut wrong = Wrong::default();
        judge(&mut wrong);
        wrong.finish().iter().map(ToString::to_string).collect()
    }

    fn failed(rules: Value) -> Vec<String> {
        let spec = json!({"podFailurePolicy": {"rules": rules}, "template": {"spec": {"containers": [{"name": "c"}]}}});
        texts(|wrong| failure(&spec, &Path::new("s"), wrong))
    }

    #[test]
    fn a_failure_is_known_by_its_code_or_by_a_condition() {
        let codes = |values: Value| json!([{"action": "FailJob", "onExitCodes": {"operator": "In", "values": values, "containerName": "c"}}]);
        assert!(failed(codes(json!([1, 2]))).is_empty());
        assert_eq!(
            failed(codes(json!([2, 0, 2]))),
            [
                "s.podFailurePolicy.rules[0].onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator",
                "s.podFailurePolicy.rules[0].onExitCodes.values[2]: Duplicate value: 2",
                "s.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [2,0,2]: must be ordered",
            ]
        );
        let most: Vec<usize> = (1..=MAX_EXIT_CODES).collect();
        assert!(failed(codes(json!(most))).is_empty());
        let more: Vec<usize> = (1..=MAX_EXIT_CODES + 1).collect();
        assert!(failed(codes(json!(more)))[0].contains("Too many: 256: must have at most 255 items"));
        let rule = json!({"action": "Ignore", "onPodConditions": [{"type": "A", "status": "True"}]});
        assert!(failed(json!(vec![rule.clone(); MAX_RULES])).is_empty());
        assert!(failed(json!(vec![rule; MAX_RULES + 1]))[0].contains("must have at most 20 items"));
        let patterns = json!([{"action": "Count", "onPodConditions": vec![json!({"type": "A", "status": "True"}); MAX_PATTERNS + 1]}]);
        assert!(failed(patterns)[0].contains("must have at most 20 items"));
        assert_eq!(
            failed(
                json!([{"action": ""}, {"action": "FailIndex", "onPodConditions": [{"type": "", "status": "Odd"}]}])
            )[..2],
            [
                "s.podFailurePolicy.rules[0].action: Required value: valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]",
                "s.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required",
            ]
        );
    }

    #[test]
    fn success_is_counted_within_the_completions() {
        let judged = |rule: Value| {
            let spec = json!({"completionMode": "Indexed", "completions": 5, "successPolicy": {"rules": [rule]}});
            texts(|wrong| success(&spec, &Path::new("s"), wrong))
        };
        assert!(judged(json!({"succeededIndexes": "0-2,4", "succeededCount": 4})).is_empty());
        assert_eq!(
            judged(json!({"succeededIndexes": "0-1", "succeededCount": 3})),
            [
                "s.successPolicy.rules[0].succeededCount: Invalid value: 3: must be less than or equal to 2 (the number of indexes in the specified succeededIndexes field)"
            ]
        );
        let long = "0,".repeat(MAX_INDEXES / 2 + 1);
        assert!(judged(json!({"succeededIndexes": long}))[0].contains("Too long: may not be more than 65536 bytes"));
        assert!(judged(json!({}))[0].contains("at least one of"));
    }

    #[test]
    fn many_indexes_need_limits() {
        let judged = |spec: Value| texts(|wrong| many_indexes(&spec, &Path::new("s"), wrong));
        let spec = |parallelism: i64, failed: i64| json!({"completions": 100_001, "backoffLimitPerIndex": 1, "parallelism": parallelism, "maxFailedIndexes": failed});
        assert!(judged(spec(10_000, 10_000)).is_empty());
        assert_eq!(judged(spec(10_001, 10_001)).len(), 2);
        assert_eq!(
            judged(json!({"maxFailedIndexes": 100_001})),
            ["s.maxFailedIndexes: Invalid value: 100001: must be less than or equal to 100000"]
        );
        assert!(
            judged(json!({"completions": 100_001, "backoffLimitPerIndex": 1}))[0].contains("must be specified when")
        );
    }

    #[test]
    fn lists_of_indexes_increase() {
        for (text, want) in [
            ("", Ok(0)),
            ("0", Ok(1)),
            ("0-2,4", Ok(4)),
            ("1,0", Err("non-increasing order, previous: 1, current: 0")),
            ("2-1", Err("non-increasing order, previous: 2, current: 1")),
            ("5", Err("too large index: \"5\"")),
            ("a", Err("cannot convert string to integer for index: \"a\"")),
        ] {
            assert_eq!(parse_indexes(text, 5), want.map_err(str::to_owned), "{text}");
        }
        assert!(parse_indexes("1-2-3", 5).unwrap_err().contains("at most two parts"));
        assert_eq!(
            (overlap("0-2,4", "3", 5), overlap("0-2,4", "x,2-3", 5), overlap("4", "0,4", 5)),
            (None, Some(2), Some(4))
        );
    }
}
