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
    let (mut accepted, mut texts) = (0, Texts::default());
    for entry in std::fs::read_dir(&folder).expect("the recordings") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("a recording");
        for (at, line) in text.lines().enumerate() {
            let recorded: Recorded = serde_json::from_str(line).expect("a recorded line");
            let place = format!("{}:{}", path.display(), at + 1);
            accepted += usize::from(compare(&recorded, &place, &mut texts).await);
            *counts.entry(path.file_stem().expect("a name").to_string_lossy().into_owned()).or_default() += 1;
        }
    }
    println!("{counts:?} {texts:?}");
    let total: usize = counts.values().sum();
    assert!(counts.len() >= 38 && total >= 750, "{total} recordings of {} families", counts.len());
    assert!(accepted * 5 >= total, "only {accepted} of {total} accepted");
    assert!(texts.same >= 410 && texts.quoted <= 30, "{texts:?}");
}

/// Refusals by how their words compare.
#[derive(Debug, Default)]
struct Texts {
    same: usize,
    /// Where upstream quotes what is not to be had here; the rest is the same.
    quoted: usize,
}

impl Texts {
    /// Compares the words of a refusal, `want` being kube-apiserver's if it refused.
    fn compare(&mut self, want: &Value, got: Option<String>, place: &str) {
        match (want.as_str(), got) {
            (None, None) => {}
            (Some(want), Some(got)) if want == got => self.same += 1,
            (Some(want), Some(got)) => {
                assert_eq!(own(want), own(&got), "{place}:\n  {got}\nwanted\n  {want}");
                self.quoted += 1;
            }
            (want, got) => panic!("{place}: {got:?}, wanted {want:?}"),
        }
    }
}

/// The words of a refusal without those of Go's parsers (JOSE, YAML, X.509) and the time of day.
fn own(text: &str) -> String {
    const QUOTES: [&str; 4] = [
        "yaml: line ",
        "unsupported map key of type",
        "oidc: verify token: oidc: malformed jwt: ",
        "oidc: verify token: oidc: current time ",
    ];
    let text = text.replace("malformed tbs certificate", "malformed certificate");
    match QUOTES.into_iter().find(|start| text.starts_with(start)) {
        // A text that is no YAML may be found to be none in either way.
        Some("yaml: line " | "unsupported map key of type") => "no YAML".to_owned(),
        Some(start) => start.to_owned(),
        None => text,
    }
}

/// Whether the token was accepted.
async fn compare(recorded: &Recorded, place: &str, texts: &mut Texts) -> bool {
    let want = &recorded.want;
    let file = AuthenticationConfiguration::decode(recorded.file.as_bytes());
    texts.compare(&want["decodeErr"], file.as_ref().err().map(ToString::to_string), place);
    let Ok(file) = file else { return false };
    let keys = file.jwt.iter().map(|jwt| keys(recorded, &jwt.issuer.url)).collect::<Option<Vec<_>>>();
    assert_eq!(keys.is_none(), want["jwksErr"].is_string(), "{place}: key sets, wanted {want}");
    let Some(keys) = keys else { return false };
    let trust = load(recorded);
    texts.compare(&want["initErr"], trust.as_ref().err().map(ToString::to_string), place);
    let Ok(trust) = trust else { return false };
    let anonymous = trust.anonymous().map(|anonymous| {
        let paths: Vec<_> = anonymous.conditions.iter().map(|condition| &condition.path).collect();
        json!({ "enabled": anonymous.enabled, "paths": paths })
    });
    assert_eq!(json!(anonymous), want["anonymous"], "{place}");
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
            texts.compare(&want["err"], Some(error.to_string()), place);
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
