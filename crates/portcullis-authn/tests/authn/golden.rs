//! Verdicts of kube-apiserver's own package, recorded by the differential test (`tests/golden/authn`): the same without Go.

use std::collections::BTreeMap;
use std::path::Path;

use portcullis_authn::{Authenticator, JwtConfig, Options, PrefixedClaim, Verdict};
use portcullis_jose::{JwkSet, Limits, UnknownKeys};
use portcullis_runtime::Clock;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Recorded {
    config: Value,
    algs: Vec<String>,
    disallowed: Vec<String>,
    jwks: String,
    token: String,
    want: Value,
}

#[tokio::test]
async fn recorded_verdicts_are_ours() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/authn");
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut accepted = 0;
    for entry in std::fs::read_dir(&folder).expect("the recordings") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("a recording");
        for (at, line) in text.lines().enumerate() {
            let recorded: Recorded = serde_json::from_str(line).expect("a recorded line");
            let place = format!("{}:{}", path.display(), at + 1);
            accepted += usize::from(compare(&recorded, &place).await);
            *counts.entry(path.file_stem().expect("a name").to_string_lossy().into_owned()).or_default() += 1;
        }
    }
    println!("{counts:?}");
    let total: usize = counts.values().sum();
    assert!(counts.len() >= 20 && total >= 300, "{total} recordings of {} families", counts.len());
    assert!(accepted * 5 >= total, "only {accepted} of {total} accepted");
}

/// Whether the token was accepted.
async fn compare(recorded: &Recorded, place: &str) -> bool {
    let want = &recorded.want;
    let Ok(keys) = JwkSet::parse(recorded.jwks.as_bytes(), UnknownKeys::RejectSet, &Limits::default()) else {
        assert!(want["jwksErr"].is_string(), "{place}: key set refused, wanted {want}");
        return false;
    };
    assert!(want["jwksErr"].is_null(), "{place}: key set taken, wanted {want}");
    let Ok(config) = config(recorded).validate("", &recorded.disallowed) else {
        assert!(want["initErr"].is_string(), "{place}: configuration refused, wanted {want}");
        return false;
    };
    assert!(want["initErr"].is_null(), "{place}: configuration taken, wanted {want}");
    let authenticator = Authenticator::with_static_keys([(config, keys)], Options::new(Clock::system()));
    match authenticator.authenticate(&recorded.token).await {
        Verdict::User(user) => {
            let info = user.info();
            let got = json!({ "name": info.username, "uid": info.uid, "groups": info.groups, "extra": info.extra });
            assert_eq!(got, want["user"], "{place}");
            true
        }
        Verdict::NoOpinion => {
            assert!(want["ok"] == json!(false) && want["err"].is_null(), "{place}: no opinion, wanted {want}");
            false
        }
        Verdict::Refused(error) => {
            assert!(want["err"].is_string(), "{place}: {error}, wanted {want}");
            false
        }
    }
}

/// The AuthenticationConfiguration of a recording.
fn config(recorded: &Recorded) -> JwtConfig {
    let jwt = &recorded.config["jwt"][0];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let texts = |value: &Value| value.as_array().into_iter().flatten().map(text).collect::<Vec<_>>();
    let prefixed = |value: &Value| PrefixedClaim { claim: text(&value["claim"]), prefix: text(&value["prefix"]) };
    let (issuer, mappings) = (&jwt["issuer"], &jwt["claimMappings"]);
    let rules = jwt["claimValidationRules"].as_array().into_iter().flatten();
    JwtConfig {
        issuer_url: text(&issuer["url"]),
        discovery_url: issuer["discoveryURL"].as_str().map(str::to_owned),
        certificate_authority: text(&issuer["certificateAuthority"]),
        audiences: texts(&issuer["audiences"]),
        audience_match_policy: text(&issuer["audienceMatchPolicy"]),
        username: prefixed(&mappings["username"]),
        groups: mappings.get("groups").map(prefixed),
        uid_claim: mappings["uid"]["claim"].as_str().map(str::to_owned),
        required_claims: rules.map(|rule| (text(&rule["claim"]), text(&rule["requiredValue"]))).collect(),
        signing_algs: recorded.algs.clone(),
    }
}
