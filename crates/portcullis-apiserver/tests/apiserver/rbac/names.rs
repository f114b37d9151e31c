//! Lists, watches and deletions by people who may only touch objects of certain names: what the selector says to the authorizer
//! is what is served.

use serde_json::{Value, json};

use super::{Asked, Dice, Pair, assert_none};

const USERS: &[(&str, &[&str])] = &[("admin", &["system:masters"]), ("reader", &[]), ("all", &[])];
const SECRETS: &str = "/api/v1/namespaces/x/secrets";
/// Names of the secrets there are; only the first may be read by `reader`.
const NAMES: [&str; 4] = ["allowed", "other", "third", "allowed.more"];

/// A part of a query that may say which name is meant, or hide it.
fn part(dice: &Dice) -> String {
    let selector = || {
        let (key, value) = (
            dice.word(&[
                "metadata.name",
                "metadata.name",
                "metadata.name",
                "metadata%2Ename",
                "metadata.namespace",
                "type",
            ]),
            dice.word(&[
                "allowed",
                "allowed",
                "other",
                "",
                "%FF",
                "%EF%BF%BD",
                "allow%65d",
                "+allowed",
                "allowed%20",
                "%61llowed",
                "x",
                "..",
            ]),
        );
        format!("{key}{}{value}", dice.word(&["%3D", "%3D", "%3D%3D", "!%3D", "=", "%3D%3D%3D", "%20in%20", "%5C%3D"]))
    };
    match dice.below(16) {
        0..7 => {
            let name = dice.word(&[
                "fieldSelector",
                "fieldSelector",
                "fieldSelector",
                "field%53elector",
                "fieldselector",
                "fieldSelector%00",
            ]);
            let more = if dice.percent(20) { format!("%2C{}", selector()) } else { String::new() };
            format!("{name}={}{more}", selector())
        }
        7 => dice
            .word(&["fieldSelector", "fieldSelector=", "fieldSelector=%zz", "fieldSelector=a;b", "fieldSelector=%F"])
            .to_owned(),
        8 => format!("limit={}", dice.word(&["", "0", "1", "x", "9223372036854775808", "-1"])),
        9 => format!("timeoutSeconds={}", dice.word(&["1", "x", ""])),
        10 => format!("labelSelector={}", dice.word(&["", "a", "a%3D%3D%3Db", "%21a", "%FF", "a in ("])),
        11 => "&".repeat(dice.below(3)),
        12 => "a&".repeat(dice.word(&["1", "127", "128", "129", "300"]).parse().unwrap()),
        13 => format!("watch={}", dice.word(&["0", "false", "False"])),
        _ => dice.word(&["pretty=0", "x=%zz", "a;b", "%", "resourceVersion=0"]).to_owned(),
    }
}

fn attempt(dice: &Dice) -> Asked {
    let user = if dice.percent(85) { "reader" } else { "all" };
    let mut query: Vec<String> = (0..=dice.below(4)).map(|_| part(dice)).collect();
    if dice.percent(25) {
        query.insert(dice.below(query.len()), "fieldSelector=metadata.name%3Dallowed".to_owned());
    }
    let (method, place) = match dice.below(20) {
        0 => ("DELETE", SECRETS),
        1 => ("GET", "/api/v1/secrets"),
        2 => ("GET", "/api/v1/watch/namespaces/x/secrets"),
        _ => ("GET", SECRETS),
    };
    // Old watch paths are only asked for what they refuse; an answer would not end.
    let watch = if place.contains("watch") { "&timeoutSeconds=1" } else { "" };
    Asked::new(user, method, format!("{place}?{}{watch}", query.join("&")), Value::Null)
}

/// The names of what was given, or why nothing was. (Messages are compared under bad input.)
fn given(answer: &Value) -> Value {
    match answer["items"].as_array() {
        Some(items) => items.iter().map(|item| item["metadata"]["name"].clone()).collect(),
        None => answer["reason"].clone(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_limited_to_names_gives_no_other_object_under_any_query() {
    let dice = Dice::roll();
    let pair = Pair::start(USERS).await;
    pair.both("POST", "/api/v1/namespaces", json!({"metadata": {"name": "x"}})).await;
    let rule = json!({"verbs": ["list", "watch", "deletecollection"], "apiGroups": [""], "resources": ["secrets"]});
    let mut named = rule.clone();
    named["resourceNames"] = json!(["allowed"]);
    pair.grant("reader", "named", "", json!([named])).await;
    pair.grant("all", "all", "", json!([rule])).await;
    pair.settle("x").await;
    let mut wrong = Vec::new();
    let (mut allowed, mut refused) = (0, 0);
    for n in 0..800 {
        if n % 20 == 0 {
            for side in [&pair.real, &pair.ours] {
                for name in NAMES {
                    let made = Asked::new("admin", "POST", SECRETS, json!({"metadata": {"name": name}}));
                    assert!([201, 409].contains(&side.ask(&made).await.0));
                }
            }
        }
        let asked = attempt(&dice);
        let (theirs, ours) = (pair.real.ask(&asked).await, pair.ours.ask(&asked).await);
        match theirs.0 {
            200 if asked.user == "reader" => allowed += 1,
            403 => refused += 1,
            _ => {}
        }
        let (theirs, ours) = ((theirs.0, given(&theirs.1)), (ours.0, given(&ours.1)));
        if theirs != ours {
            wrong.push(format!("{asked:?}\n  theirs {theirs:?}\n  ours   {ours:?}"));
        }
        if asked.user == "reader" && ours.0 == 200 {
            let items = ours.1.as_array().unwrap();
            assert!(items.iter().all(|name| name == "allowed"), "a stranger's secrets: {asked:?} {items:?}");
        }
    }
    println!("by name: {allowed} answered, {refused} refused");
    assert_none(&wrong, 800);
    assert!(allowed >= 30 && refused >= 300, "{allowed} answered, {refused} refused");
    pair.stop().await;
}
