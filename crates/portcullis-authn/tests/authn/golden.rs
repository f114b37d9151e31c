//! Verdicts of kube-apiserver's own package, recorded by the differential test (`tests/golden/authn`): the same without Go.

use std::collections::BTreeMap;
use std::path::Path;

use portcullis_authn::{Authenticator, ConfigError, Options, TrustConfiguration, Verdict};
use portcullis_jose::{JwkSet, Limits, UnknownKeys};
use portcullis_kube::authentication_config::AuthenticationConfiguration;
use portcullis_runtime::Clock;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Recorded {
    /// The text of the AuthenticationConfiguration.
    file: String,
    /// The one that the server started with, when `file` is a reload.
    initial: Option<String>,
    algs: Vec<String>,
    disallowed: Vec<String>,
    jwks: String,
    /// The keys of issuers that have others.
    issuer_jwks: Vec<(String, String)>,
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
    assert!(counts.len() >= 38 && total >= 750, "{total} recordings of {} families", counts.len());
    assert!(accepted * 5 >= total, "only {accepted} of {total} accepted");
}

/// Whether the token was accepted.
async fn compare(recorded: &Recorded, place: &str) -> bool {
    let want = &recorded.want;
    let file = AuthenticationConfiguration::decode(recorded.file.as_bytes());
    assert_eq!(file.is_err(), want["decodeErr"].is_string(), "{place}: {file:?}, wanted {want}");
    let Ok(file) = file else { return false };
    let keys = file.jwt.iter().map(|jwt| keys(recorded, &jwt.issuer.url)).collect::<Option<Vec<_>>>();
    assert_eq!(keys.is_none(), want["jwksErr"].is_string(), "{place}: key sets, wanted {want}");
    let Some(keys) = keys else { return false };
    let trust = load(recorded);
    assert_eq!(trust.is_err(), want["initErr"].is_string(), "{place}: {trust:?}, wanted {want}");
    let Ok(trust) = trust else { return false };
    let issuers = trust.issuers().iter().cloned().zip(keys);
    let authenticator = Authenticator::with_static_keys(issuers, Options::new(Clock::system()));
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

/// The key set of an issuer; `None` when it is refused.
fn keys(recorded: &Recorded, issuer: &str) -> Option<JwkSet> {
    let own = recorded.issuer_jwks.iter().find(|(url, _)| url == issuer);
    let text = own.map_or(&recorded.jwks, |(_, jwks)| jwks);
    JwkSet::parse(text.as_bytes(), UnknownKeys::RejectSet, &Limits::default()).ok()
}

fn load(recorded: &Recorded) -> Result<TrustConfiguration, ConfigError> {
    let load = |file: &str| TrustConfiguration::load(file.as_bytes(), &recorded.disallowed);
    let trust = match &recorded.initial {
        None => load(&recorded.file)?,
        Some(initial) => load(initial)?.reload(recorded.file.as_bytes(), &recorded.disallowed)?,
    };
    trust.with_signing_algs(&recorded.algs)
}
