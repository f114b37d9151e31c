//! When keys are fetched: the same scripts before Kubernetes' own authenticator and before ours.
//!
//! A script is what happens to an issuer's keys (sets, rotation, failures, cache headers, time) and tokens in between. For
//! each token the requests that it made and what became of it must be the same on both sides.
//!
//! `PORTCULLIS_RECORD=keys cargo test -p portcullis-tests --test differential traces` writes the first of them to
//! `tests/golden/authn-keys.jsonl`, which `cargo test -p portcullis-authn` compares without Go.

mod audiences;
mod script;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use portcullis_runtime::Rng;
use portcullis_testkit::{KeyBody, KeyReply, KeyRing, KeyScript, KeyStep, KeyTrace};
use serde_json::json;

use audiences::{Ours, Theirs};

/// Scripts of a run.
const SCRIPTS: usize = 400;
/// Scripts that are recorded.
const RECORDED: usize = 120;
/// One script in so many has an issuer that hangs; each of them falls to another player.
const HANGS: usize = 20 * AT_ONCE + 1;
/// Scripts that are played at a time.
const AT_ONCE: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn traces_of_keys_agree_with_kube_apiserver() {
    let seed = crate::seed();
    println!("PORTCULLIS_SEED={seed}");
    let rng = Rng::seeded(seed);
    let scripts: Arc<Vec<KeyScript>> = Arc::new((0..SCRIPTS).map(|at| script::script(&rng, at % HANGS == 0)).collect());
    let ring = Arc::new(KeyRing::default());
    let players: Vec<_> = (0..AT_ONCE)
        .map(|first| {
            let (scripts, ring) = (Arc::clone(&scripts), Arc::clone(&ring));
            tokio::task::spawn_blocking(move || {
                tokio::runtime::Handle::current().block_on(play(&scripts, first, &ring))
            })
        })
        .collect();
    let mut all = Vec::new();
    for player in players {
        all.extend(player.await.expect("the scripts are played"));
    }
    all.sort_by_key(|played| played.at);
    let different: Vec<String> = all.iter().filter(|played| played.ours != played.theirs).map(describe).collect();
    let shown = different.iter().take(5).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(different.is_empty(), "{} traces differ:\n{shown}", different.len());
    let played: Vec<Vec<KeyTrace>> = all.into_iter().map(|played| played.theirs).collect();
    count(&scripts, &played);
    record(&scripts, &played);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_refused_of_an_answer_by_decision_is_a_refusal() {
    let ring = KeyRing::default();
    let own = |more| KeyBody::Set { keys: vec![('a', Some("a".to_owned()))], more };
    let long = vec![json!({ "kty": "oct", "k": "A".repeat(1 << 20) })];
    let many = vec![json!({ "kty": "oct", "k": "AAAA" }); 100];
    for body in [own(long), own(many)] {
        let steps = vec![
            KeyStep::Keys(KeyReply::ok(body)),
            KeyStep::Tokens { signer: 'a', kid: Some("a".to_owned()), count: 1 },
        ];
        let script = KeyScript { discovery: KeyReply::ok(KeyBody::Document(Vec::new())), steps };
        let theirs = script.play(&ring, &mut Theirs::start()).await;
        let ours = script.play(&ring, &mut Ours::start()).await;
        assert_eq!(theirs[1].verdicts, ["user jane"], "upstream changed");
        assert!(ours[1].verdicts[0].starts_with("keys: no "), "{ours:?}");
        assert_eq!(ours[1].asked, theirs[1].asked);
    }
}

/// The traces of one script.
struct Played {
    at: usize,
    script: String,
    theirs: Vec<KeyTrace>,
    ours: Vec<KeyTrace>,
}

fn describe(Played { at, script, theirs, ours }: &Played) -> String {
    let first = theirs.iter().zip(ours).find(|(theirs, ours)| theirs != ours);
    format!("script {at}: {script}\n  kube-apiserver's and ours: {first:?}")
}

/// Plays every [`AT_ONCE`]th script from the `first` on both sides.
async fn play(scripts: &[KeyScript], first: usize, ring: &KeyRing) -> Vec<Played> {
    let mut oracle = Theirs::start();
    let mut played = Vec::new();
    for (at, script) in scripts.iter().enumerate().skip(first).step_by(AT_ONCE) {
        let theirs = script.play(ring, &mut oracle).await;
        let ours = script.play(ring, &mut Ours::start()).await;
        played.push(Played { at, script: json!(script).to_string(), theirs, ours });
    }
    played
}

/// Counts what the scripts have come across; each has its floor.
fn count(scripts: &[KeyScript], played: &[Vec<KeyTrace>]) {
    let mut seen: BTreeMap<&'static str, usize> = BTreeMap::new();
    let mut see = |what: &'static str, happened: bool| *seen.entry(what).or_default() += usize::from(happened);
    for (script, traces) in scripts.iter().zip(played) {
        let (opening, traces) = traces.split_first().expect("every script is opened");
        let ready = opening.verdicts == ["ready"];
        see("discovered", ready);
        see("not discovered", !ready);
        see("discovered through a redirect", ready && opening.asked.len() > 1);
        let mut fetched = false;
        let mut tokens = traces.iter();
        let mut reply: Option<&KeyReply> = None;
        for step in &script.steps {
            match step {
                KeyStep::Keys(keys) => reply = Some(keys),
                KeyStep::Discovery(_) => see("another document, which nobody reads", ready),
                KeyStep::Wait(_) => {}
                KeyStep::Tokens { kid, count, .. } => {
                    let KeyTrace { asked, verdicts } = tokens.next().expect("a trace for each");
                    let first = verdicts.first().expect("a verdict");
                    let (accepted, fetch) = (first == "user jane", !asked.is_empty());
                    see("tokens", true);
                    see("first fetch", fetch && !fetched);
                    see("accepted with keys at hand", accepted && !fetch);
                    see("accepted after a further fetch", accepted && fetch && fetched);
                    see("refused with keys at hand", first.ends_with("verify id token signature") && !fetch);
                    see("refused after a fetch", first.ends_with("verify id token signature") && fetch);
                    see("without a key id", ready && kid.is_none());
                    see("with an unknown key id", ready && kid.as_deref() == Some("unknown"));
                    see("not initialized", first.ends_with("not initialized"));
                    see("keys: a failing status", first.starts_with("keys: status"));
                    see("keys: no answer", first == "keys: no answer");
                    see("keys: no key set", first == "keys: no key set");
                    see("a fetch through redirects", asked.len() > 1);
                    see("several tokens, one fetch", *count > 1 && asked.len() == 1);
                    see("no answer in time", fetch && reply.is_some_and(|reply| matches!(reply.body, KeyBody::Hang)));
                    let headers = reply.map(|reply| reply.headers.as_slice()).unwrap_or_default();
                    let headers = |name: &str| fetch && headers.iter().any(|(other, _)| other == name);
                    see("a fetch with Cache-Control", headers("cache-control"));
                    see("a fetch with Expires", headers("expires"));
                    see("a fetch with Last-Modified", headers("last-modified"));
                    fetched = fetched || fetch;
                }
            }
        }
    }
    println!("{seen:#?}");
    for (what, least) in [
        ("tokens", 2_000),
        ("discovered", 300),
        ("not discovered", 20),
        ("discovered through a redirect", 25),
        ("another document, which nobody reads", 80),
        ("first fetch", 250),
        ("accepted with keys at hand", 250),
        ("accepted after a further fetch", 100),
        ("refused with keys at hand", 200),
        ("refused after a fetch", 300),
        ("without a key id", 250),
        ("with an unknown key id", 150),
        ("not initialized", 100),
        ("keys: a failing status", 80),
        ("keys: no answer", 50),
        ("keys: no key set", 90),
        ("a fetch through redirects", 25),
        ("several tokens, one fetch", 40),
        ("no answer in time", 3),
        ("a fetch with Cache-Control", 500),
        ("a fetch with Expires", 80),
        ("a fetch with Last-Modified", 30),
    ] {
        let times = seen[what];
        assert!(times >= least, "{what}: only {times} times");
    }
}

#[expect(clippy::disallowed_methods, reason = "recording is asked for by the environment")]
fn record(scripts: &[KeyScript], played: &[Vec<KeyTrace>]) {
    if std::env::var("PORTCULLIS_RECORD").as_deref() != Ok("keys") {
        return;
    }
    let mut lines = String::new();
    let hangs = |script: &KeyScript| json!(script).to_string().contains("Hang");
    for (script, traces) in scripts.iter().zip(played).filter(|(script, _)| !hangs(script)).take(RECORDED) {
        writeln!(lines, "{}", json!({ "script": script, "traces": traces })).expect("writing to a string");
    }
    std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/authn-keys.jsonl"), lines)
        .expect("a golden file");
}
