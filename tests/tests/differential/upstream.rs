//! Rows of upstream's own tables of cases, and borders of times, that no family makes by chance. What each is to come to is
//! written here, so that all three must agree: the table, kube-apiserver's package, and ours.

use std::sync::Arc;

use portcullis_authn::Policy;
use portcullis_runtime::Clock;
use serde_json::{Value, json};

use crate::draft::{CLIENT, Case, ISSUER, World};
use crate::{oracle, ours, world};

enum Want {
    /// The name of the user.
    User(&'static str),
    /// A part of the refusal.
    Refused(&'static str),
    /// A part of what is said of the file.
    NotLoaded(&'static str),
}
use Want::{NotLoaded, Refused, User};

struct Row {
    name: &'static str,
    want: Want,
}

const LONG: &str = "lists.range(1000).all(a, lists.range(1000).all(b, a + b >= 0))";
const REVOKED: &str =
    "!user.extra[?'authentication.kubernetes.io/credential-id'].orValue([]).exists(c, c in ['JTI=revoked'])";

/// A file of one issuer with these parts beside its URL and audience.
fn file(parts: &Value) -> String {
    let mut entry = json!({
        "issuer": { "url": ISSUER, "audiences": [CLIENT] },
        "claimMappings": { "username": { "claim": "sub", "prefix": "" } },
    });
    for (name, part) in parts.as_object().expect("members") {
        entry[name] = part.clone();
    }
    json!({ "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": [entry] })
        .to_string()
}

fn username(expression: &str) -> Value {
    json!({ "claimMappings": { "username": { "expression": expression } } })
}

fn rows(world: &Arc<World>) -> (Vec<Row>, Vec<Case>) {
    let (mut rows, mut cases) = (Vec::new(), Vec::new());
    let mut row = |name, parts: Value, claims: &[(&str, String)], want| {
        let mut draft = world.draft().claim("sub", json!("jane").to_string());
        for (claim, value) in claims {
            draft = draft.claim(claim, value.clone());
        }
        cases.push(Case { file: file(&parts), ..draft.into_case("upstream") });
        rows.push(Row { name, want });
    };
    let all = |claim: &str| {
        json!({
            "issuer": { "url": ISSUER, "audiences": ["other", CLIENT], "audienceMatchPolicy": "MatchAny" },
            "claimValidationRules": [{
                "expression": format!("sets.equivalent({claim}, ['other', '{CLIENT}'])"), "message": "both, and no third",
            }],
        })
    };
    row("#48, ok", all("claims.aud"), &[("aud", json!([CLIENT, "other"]).to_string())], User("jane"));
    row("#48, fail", all("claims.aud"), &[("aud", json!([CLIENT]).to_string())], Refused("both, and no third"));

    let deep = [("turtle", r#"{"a":{"b":{"c":"deep"}}}"#.to_owned())];
    row("#81, direct", username("claims.turtle.a.b.c"), &deep, User("deep"));
    row("#81, optional", username("claims.?turtle.?a.?x.?c.orValue('none')"), &deep, User("none"));
    row("#81, failing", username("claims.turtle.b.a"), &deep, Refused("no such key: b"));
    let account = [("kubernetes.io", r#"{"namespace":"ns","serviceaccount":{"name":"sa","uid":"7"}}"#.to_owned())];
    let payload = "'system:serviceaccount:' + claims['kubernetes.io'].namespace + ':' + claims['kubernetes.io'].serviceaccount.name";
    row("#81, a service account's payload", username(payload), &account, User("system:serviceaccount:ns:sa"));
    row("#81, __dot__", username("claims.kubernetes__dot__io.namespace"), &account, User("ns"));

    let named = [("a.b", json!("dot").to_string()), ("https://x/y", json!("url").to_string())];
    row("#82, a dot", username("claims['a.b']"), &named, User("dot"));
    row("#82, a URL", username("claims['https://x/y']"), &named, User("url"));

    let rule = json!({ "userValidationRules": [{ "expression": REVOKED, "message": "revoked" }] });
    row("#96, revoked", rule.clone(), &[("jti", json!("revoked").to_string())], Refused("revoked"));
    row("#96, another", rule, &[("jti", json!("fine").to_string())], User("jane"));

    // Every number is a floating-point one, and its text is Go's.
    for (name, number, want) in [
        ("#101, 2^53 + 1", "9007199254740993", "9.007199254740992e+15"),
        ("#101, 2^53 - 1", "9007199254740991", "9.007199254740991e+15"),
        ("#101, below", "-9007199254740993", "-9.007199254740992e+15"),
        ("#101, a time", "1999999999", "1.999999999e+09"),
        ("#101, beyond 63 bits", "9223372036854775808", "9.223372036854776e+18"),
        ("#101, beyond 64 bits", "18446744073709551616", "1.8446744073709552e+19"),
        ("#101, small", "42", "42"),
        ("#101, with a fraction of nothing", "42.0", "42"),
    ] {
        row(name, username("string(claims.big)"), &[("big", number.to_owned())], User(want));
    }
    for (name, number, want) in [
        ("#101, as an integer", "9007199254740993", User("9007199254740992")),
        ("#101, a time as an integer", "1999999999", User("1999999999")),
        ("#101, too large an integer", "9223372036854775808", Refused("integer overflow")),
    ] {
        row(name, username("string(int(claims.big))"), &[("big", number.to_owned())], want);
    }
    let big = [("big", "9007199254740993".to_owned())];
    for (name, expression, want) in [
        ("#101, equal to its neighbour", "claims.big == 9007199254740992", User("jane")),
        ("#101, its type", "type(claims.big) == double", User("jane")),
        ("#101, not itself", "claims.big > 9007199254740992", Refused("not itself")),
    ] {
        row(
            name,
            json!({ "claimValidationRules": [{ "expression": expression, "message": "not itself" }] }),
            &big,
            want,
        );
    }
    let claim = json!({ "claimMappings": { "username": { "claim": "big", "prefix": "" } } });
    row("#101, as a claim", claim, &big, Refused("cannot unmarshal number"));

    let rule = json!({ "claimValidationRules": [{ "expression": LONG }] });
    row("#102, a rule", rule, &[], Refused("actual cost limit exceeded"));
    row("#102, a name", username(&format!("{LONG} ? 'a' : 'b'")), &[], Refused("actual cost limit exceeded"));

    // Of addresses and who has verified them only what is written as a selection of claims counts.
    let address = [("email", json!("a@b").to_string()), ("email_verified", "true".to_owned())];
    for (name, rule, want) in [
        ("claims.email", "claims.?email_verified.orValue(true) == true", User("a@b")),
        ("claims.email", "[claims].exists(c, c.email_verified == true)", NotLoaded("email_verified")),
        ("claims.email", "(true ? claims : claims).email_verified == true", NotLoaded("email_verified")),
        ("claims.email", "[{'email_verified': true}].exists(claims, claims.email_verified)", User("a@b")),
        ("(true ? claims : claims).email", "true", User("a@b")),
        ("[claims][0].email", "true", User("a@b")),
        ("optional.of(claims).value().email", "true", User("a@b")),
        ("{'a': claims}['a'].email", "true", User("a@b")),
        ("string([dyn(1), dyn(claims['sub']), dyn(claims.email)][2])", "true", NotLoaded("email_verified")),
    ] {
        let parts = json!({
            "claimMappings": { "username": { "expression": name } }, "claimValidationRules": [{ "expression": rule, "message": "m" }],
        });
        row(name, parts, &address, want);
    }

    // Far enough from the border for the time that asking takes.
    let now = Clock::system().now().unix_seconds();
    let at = |seconds: i64| (now + seconds).to_string();
    row("#41", json!({}), &[("exp", at(-1))], Refused("token is expired"));
    for (name, ahead, want) in [
        ("#43, 50 s", 50, User("jane")),
        ("#43, 58 s", 58, User("jane")),
        ("#43, 120 s", 120, Refused("before the nbf")),
        ("#43, 61 minutes", 3_660, Refused("before the nbf")),
    ] {
        row(name, json!({}), &[("nbf", at(ahead))], want);
    }

    // A key in the header is read whole, and never trusted.
    let public = world.keys.p256[1].public().to_json();
    for (name, value, refused) in [
        ("kid", json!("x"), false),
        ("use", json!("enc"), false),
        ("x5u", json!("https://x.example"), true),
        ("x5u", json!({}), false),
        ("x5t", json!("AAAA"), true),
        ("x5t#S256", json!("AAAA"), true),
        ("x5c", json!(["AAAA"]), true),
        ("x5c", json!([]), false),
        ("kid", json!(1), true),
        ("x", json!("!"), true),
    ] {
        let mut key = public.clone();
        key[name] = value;
        let draft = world.draft().claim("sub", json!("jane").to_string()).header("jwk", key.to_string());
        cases.push(Case { file: file(&json!({})), ..draft.into_case("upstream") });
        rows.push(Row { name, want: if refused { Refused("malformed jwt") } else { User("jane") } });
    }
    (rows, cases)
}

#[tokio::test]
async fn rows_of_upstreams_tables_come_to_what_they_say() {
    let (rows, cases) = rows(&world(1));
    let theirs = oracle::ask(&cases);
    assert_eq!(theirs.len(), rows.len());
    for ((Row { name, want }, case), theirs) in rows.iter().zip(&cases).zip(&theirs) {
        let ours = ours::ask(case, Policy::Faithful).await;
        for (who, answer) in [("kube-apiserver", theirs), ("Portcullis", &ours)] {
            let fits = match want {
                User(wanted) => answer.user.as_ref().is_some_and(|user| user.name == *wanted),
                Refused(part) => answer.err.as_ref().is_some_and(|error| error.contains(part)),
                NotLoaded(part) => answer.init_err.as_ref().is_some_and(|error| error.contains(part)),
            };
            assert!(fits, "{name}: {who}: {answer:?}");
        }
        assert_eq!(ours.user, theirs.user, "{name}");
    }
}
