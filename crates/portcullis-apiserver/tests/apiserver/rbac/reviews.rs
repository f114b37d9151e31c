//! Access reviews and rules reviews: good ones, bad ones, and those of people without rights.

use serde_json::{Value, json};

use super::{AUTHORIZATION, Asked, Pair, assert_none};

#[tokio::test(flavor = "multi_thread")]
async fn reviews_answer_and_refuse_as_the_real_server_does() {
    let pair = Pair::start(&[("admin", &["system:masters"]), ("jane", &["devs"])]).await;
    pair.both("POST", "/api/v1/namespaces", json!({"metadata": {"name": "x"}})).await;
    let rules = json!([
        {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/log"]},
        {"verbs": ["get"], "nonResourceURLs": ["/metrics"]},
    ]);
    pair.grant("jane", "reader", "", rules.clone()).await;
    pair.grant("jane", "local-reader", "x", rules).await;
    pair.bind("jane", "lost", "x", "gone").await;
    pair.settle("x").await;

    let asked = |members: &str| format!(r#"{{"spec":{{"user":"jane",{members}}}}}"#);
    let resource =
        |members: &str| asked(&format!(r#""resourceAttributes":{{"verb":"list","resource":"pods"{members}}}"#));
    let bodies: Vec<String> = vec![
        "{}".to_owned(),
        r#"{"spec":null}"#.to_owned(),
        r#"{"spec":{"user":"jane"}}"#.to_owned(),
        r#"{"spec":{"groups":["devs"],"nonResourceAttributes":{"path":"/metrics","verb":"get"}}}"#.to_owned(),
        r#"{"spec":{"user":"","groups":[],"resourceAttributes":{}}}"#.to_owned(),
        asked(r#""resourceAttributes":{"verb":"get"},"nonResourceAttributes":{"path":"/<x>","verb":"get"}"#),
        asked(r#""nonResourceAttributes":{"path":"/metrics","verb":"get"}"#),
        asked(r#""nonResourceAttributes":{}"#),
        asked(r#""resourceAttributes":{},"uid":"7","extra":{"a":["b"]}"#),
        resource(""),
        resource(r#","namespace":"x""#),
        resource(r#","namespace":"x","subresource":"log""#),
        resource(r#","namespace":"x","verb":"delete""#),
        resource(r#","group":"apps","version":"v1","name":"n""#),
        resource(r#","fieldSelector":{},"labelSelector":{}"#),
        resource(r#","fieldSelector":{"rawSelector":"a=b"},"labelSelector":{"rawSelector":"a in (b)"}"#),
        resource(r#","fieldSelector":{"rawSelector":"a"},"labelSelector":{"rawSelector":"a b"}"#),
        resource(r#","fieldSelector":{"rawSelector":"a=b","requirements":[{"key":"","operator":"In"}]}"#),
        resource(r#","fieldSelector":{"requirements":[{"key":"a","operator":"Exists","values":["x"]},{"key":"a","operator":"odd"}]}"#),
        resource(r#","fieldSelector":{"requirements":[{"key":"a","operator":"In","values":["1"]},{"key":"a","operator":"In","values":["1","2"]}]}"#),
        resource(r#","labelSelector":{"rawSelector":"a","requirements":[{"key":"_","operator":"In"},{"key":"b","operator":"Exists","values":["_"]}]}"#),
        resource(r#","labelSelector":{"requirements":[{"key":"a","operator":"Gt","values":["1"]},{"key":"a","operator":"Exists"}]}"#),
        resource(r#","labelSelector":{"requirements":[{"key":"a","operator":"Gt","values":["1"]}]}"#),
        resource(r#","odd":1"#),
        r#"{"metadata":{"name":"n","namespace":"x","labels":{"a":"<b>"}},"spec":{"user":"jane","resourceAttributes":{"namespace":"x"}}}"#.to_owned(),
        r#"{"metadata":{"namespace":"x"},"spec":{"user":"jane","resourceAttributes":{"namespace":"x"}}}"#.to_owned(),
        r#"{"metadata":{"namespace":"other"},"spec":{"user":"jane","resourceAttributes":{"namespace":"other"}}}"#.to_owned(),
        r#"{"metadata":{"generateName":"n"},"spec":{"user":"jane","resourceAttributes":{"namespace":"x"}},"status":{"allowed":true,"reason":"mine"}}"#.to_owned(),
        r#"{"spec":{"namespace":""}}"#.to_owned(),
        r#"{"metadata":{"name":"n"},"spec":{"namespace":"x"}}"#.to_owned(),
        r#"{"spec":{"namespace":"elsewhere"}}"#.to_owned(),
    ];
    let kinds = [
        "subjectaccessreviews",
        "selfsubjectaccessreviews",
        "namespaces/x/localsubjectaccessreviews",
        "selfsubjectrulesreviews",
    ];
    let (mut wrong, mut count) = (Vec::new(), 0);
    for kind in kinds {
        for user in ["admin", "jane"] {
            for body in &bodies {
                let body = serde_json::from_str(body).unwrap();
                let mut asked = Asked::new(user, "POST", format!("{AUTHORIZATION}/{kind}"), body);
                asked.path.push_str("?fieldValidation=Warn");
                count += 1;
                compare_review(&pair, &asked, &mut wrong).await;
            }
        }
    }
    assert_none(&wrong, count);
    pair.stop().await;
}

/// As [`Pair::compare`], with lists of rules in order: the real server's have none.
async fn compare_review(pair: &Pair, asked: &Asked, wrong: &mut Vec<String>) {
    let (mut theirs, mut ours) = (pair.real.ask(asked).await, pair.ours.ask(asked).await);
    for answer in [&mut theirs.1, &mut ours.1] {
        for list in ["resourceRules", "nonResourceRules"] {
            if let Some(rules) = answer["status"].get_mut(list).and_then(Value::as_array_mut) {
                rules.sort_by_key(ToString::to_string);
            }
        }
    }
    if theirs != ours {
        wrong.push(format!("{asked:?}\n  theirs {} {}\n  ours   {} {}", theirs.0, theirs.1, ours.0, ours.1));
    }
}
