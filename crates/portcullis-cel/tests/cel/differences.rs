//! Rows of "What differs" in docs/compat/kube-apiserver-cel.md: what is just taken, and what is said about the next.
//!
//! Limits of time and memory have their tests in [`crate::examples`].

use portcullis_cel::limits;

use crate::ours;

/// What comes of an expression: its value, or the text of the error at whichever stage.
fn outcome(expression: &str) -> Result<String, String> {
    let program = ours::claims().compile(expression).map_err(|issues| match issues.instantiation_failure() {
        Some(text) => format!("program instantiation failed: {text}"),
        None => issues.iter().map(|issue| issue.message.clone()).collect::<Vec<_>>().join("\n"),
    })?;
    let value = program.evaluate(&("claims", ours::variable("claims", "{}")), limits::PER_CALL_COST);
    value.map(|value| ours::encode(&value)).map_err(|error| error.to_string())
}

fn said(expression: &str) -> String {
    outcome(expression).expect_err(expression)
}

#[test]
fn what_upstream_takes_is_refused_in_the_words_that_the_table_has() {
    for (taken, refused, message) in [
        (
            "type(1) == int",
            "google.protobuf.Int64Value{value: 1} == 1",
            "literals of 'google.protobuf.Int64Value' are not supported",
        ),
        ("[] == []", "list{} == []", "literals of 'list' are not supported"),
        (
            "type(timestamp(0)) == google.protobuf.Timestamp",
            "type(1) == google.protobuf.Int32Value",
            "undeclared reference to 'google' (in container '')",
        ),
        (
            "timestamp(0).getHours('+01:00') == 1 && timestamp(0).getHours('UTC') == 0",
            "timestamp(0).getHours('Europe/Berlin') == 1",
            "unknown time zone Europe/Berlin",
        ),
    ] {
        assert_eq!(outcome(taken).as_deref(), Ok("true"), "{taken}");
        assert_eq!(said(refused), message, "{refused}");
    }
}

#[test]
fn what_upstream_panics_at_is_refused() {
    for (expression, message) in [
        ("[?dyn('a')]", "an optional element cannot have the type 'dyn'"),
        ("{?'a': dyn('a')}", "an optional element cannot have the type 'dyn'"),
        ("{b'a': 1}", "program instantiation failed: bytes cannot be the key of a map"),
    ] {
        assert_eq!(said(expression), message, "{expression}");
    }
}

#[test]
fn a_quantity_is_counted_in_nanos_in_128_bits() {
    let most = (i128::MAX / 1_000_000_000).to_string();
    let next = (i128::MAX / 1_000_000_000 + 1).to_string();
    assert_eq!(most.len(), 30);
    assert_eq!(outcome(&format!("quantity('{most}')")), Ok(format!("quantity({most}.000000000)")));
    for refused in [
        format!("quantity('{next}')"),
        format!("quantity('{}')", "1".repeat(5_000)),
        format!("quantity('{most}').add(quantity('{most}'))"),
    ] {
        assert_eq!(said(&refused), "quantity has too many digits", "{refused}");
    }
}

#[test]
fn a_compiled_pattern_takes_four_mebibytes() {
    // Any character a thousand times takes some 900 KiB.
    let pattern = |times: usize| format!("'{}'", ".{1000}".repeat(times));
    assert_eq!(outcome(&format!("'a'.matches({})", pattern(4))).as_deref(), Ok("false"));
    assert_eq!(said(&format!("'a'.matches({})", pattern(5))), "invalid matches argument");
    assert_eq!(said(&format!("'a'.matches('' + {})", pattern(5))), "error parsing regexp: expression too large");
}

#[test]
fn the_patterns_of_an_expression_take_sixteen_mebibytes() {
    let calls = |call: &str, times: usize| vec![call; times].join(" || ");
    let large = format!("'a'.matches('{}')", ".{1000}".repeat(4));
    assert_eq!(outcome(&calls(&large, 4)).as_deref(), Ok("false"));
    let message = "the regular expressions of the expression are too large: limit 16777216 bytes";
    assert_eq!(said(&calls(&large, 5)), message);
    let found = large.replace(".matches(", ".find(");
    let lists = |times: usize| format!("[{}] == []", vec![found.as_str(); times].join(", "));
    assert_eq!(outcome(&lists(4)).as_deref(), Ok("false"));
    assert_eq!(said(&lists(5)), format!("program instantiation failed: {message}"));
    // Patterns as people write them are counted as 16 KiB.
    let small = "[1].all(x, 'team-a'.matches('^team-[a-z0-9]+$'))";
    assert_eq!(outcome(&format!("[{}].size()", vec![small; 1_000].join(", "))).as_deref(), Ok("int(1000)"));
}

#[test]
fn maps_are_walked_and_equal_keys_sorted_in_their_order() {
    assert_eq!(outcome("{'b': 1, 'c': 2, 'a': 3}.map(k, k)").as_deref(), Ok(r#"["b", "c", "a"]"#));
    assert_eq!(outcome("lists.range(20).sortBy(x, x % 1) == lists.range(20)").as_deref(), Ok("true"));
}

#[test]
fn a_quantity_is_shown_in_digits() {
    assert_eq!(said("[dyn('a'), dyn(quantity('1k'))].join()"), "join: invalid input: 1000");
}
