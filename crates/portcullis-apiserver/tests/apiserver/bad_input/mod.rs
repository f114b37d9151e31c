//! Bad input of every sort, to a real kube-apiserver and to ours: both must say the same and treat the connection alike.
//!
//! A family is a place for mistakes (bodies, queries, paths …); its strata are the mistakes, each with random choices,
//! which are the same in every run unless `PORTCULLIS_SEED` says otherwise. `PORTCULLIS_FAMILY` runs one family alone,
//! `PORTCULLIS_ROUNDS` so many seeds, one after another.
//! What is known to differ stands in `known`, and in `docs/compat/kube-apiserver.md` for users.

mod accept;
mod bodies;
mod changes;
mod headers;
mod known;
mod metadata;
mod methods;
mod mutate;
mod paths;
mod protobuf;
mod queries;
mod reviews;
mod seeds;
mod smuggling;
mod transfer;
mod types;
mod wire;
mod words;

use std::collections::BTreeMap;

use portcullis_testkit::{ControlPlane, HttpClient};
use serde_json::{Value, json};

use self::known::KNOWN;
use self::protobuf::Sample;
use self::wire::{Case, Payload, Raw, Wire};
use crate::bench::Bench;
use crate::differential::{self, scrub};
use crate::rbac::Dice;

/// A family: its name, its cases, and how many of a hundred the real server must accept at least.
type Family = (&'static str, fn(&Dice, &[Sample]) -> Vec<Case>, usize);

const FAMILIES: &[Family] = &[
    ("bodies", |dice, _| bodies::cases(dice), 20),
    ("metadata", |dice, _| metadata::cases(dice), 20),
    ("methods", |dice, _| methods::cases(dice), 10),
    ("types", |dice, _| types::cases(dice), 10),
    ("headers", |dice, _| headers::cases(dice), 20),
    ("queries", |dice, _| queries::cases(dice), 30),
    ("paths", |dice, _| paths::cases(dice), 10),
    ("accept", |dice, _| accept::cases(dice), 20),
    ("transfer", |dice, _| transfer::cases(dice), 20),
    ("changes", |dice, _| changes::cases(dice), 15),
    ("reviews", |dice, _| reviews::cases(dice), 15),
    ("protobuf", protobuf::cases, 15),
];
/// The config map that is there when a request comes.
const KEPT: &str = "/configmaps/kept";
/// Whose choices are made in every run: rarer mistakes, which other seeds find, are not all mended yet.
const SEED: u64 = 7;
/// Headers that clients act on.
const HEADERS: [&str; 11] = [
    "content-type",
    "warning",
    "retry-after",
    "allow",
    "location",
    "cache-control",
    "x-content-type-options",
    "www-authenticate",
    "vary",
    "content-encoding",
    // What came before the answer.
    "interim",
];
/// How often the real server is asked again when it refuses in other words.
const AGAIN: usize = 20;
/// Differences that a failed run shows.
const SHOWN: usize = 40;
/// Characters that are shown of a body before the place where it differs, and behind it.
const BEFORE: usize = 200;
const BEHIND: usize = 300;

/// What is compared of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
    closed: bool,
}

impl Answer {
    fn of(raw: &Raw, base: &str) -> Self {
        let headers = raw.headers.iter().filter(|(name, _)| HEADERS.contains(&name.as_str())).cloned();
        let mut headers: Vec<_> = headers.collect();
        headers.sort_by(|left, right| left.0.cmp(&right.0));
        let text = String::from_utf8_lossy(&raw.body);
        // How YAML is written differs, what it says does not.
        let yaml = raw.header("content-type") == "application/yaml";
        let value = yaml.then(|| portcullis_kube::yaml::parse::<Value>(&text, "answer", raw.body.len()).ok()).flatten();
        let body = scrub::body(&value.map_or(text.into_owned(), |value| value.to_string()), base);
        Self { status: raw.status, headers, body, closed: raw.closed }
    }

    /// A member of the body.
    fn text(&self, name: &str) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    }
}

struct Side {
    base: String,
    wire: Wire,
    nobody: Wire,
    admin: HttpClient,
    /// Whether someone may have changed the config map.
    changed: bool,
    /// Whether someone makes what belongs into a new namespace.
    complete: bool,
    /// Whether watches are given seconds for what they say.
    patient: bool,
    /// What stands in braces in targets, as this side says it.
    words: Vec<(&'static str, String)>,
}

impl Side {
    async fn ask(&mut self, case: &Case) -> Answer {
        let case = &words::fill(case, &self.words);
        // Another one's change must not be seen by the next.
        if case.target.contains(KEPT) && (self.changed || case.method != "GET") {
            self.keep().await;
            self.changed = case.method != "GET";
        }
        let wire = if case.anonymous { &mut self.nobody } else { &mut self.wire };
        let raw = match &case.payload {
            Payload::Wire { .. } => wire.transfer(case).await,
            _ if case.watches() => wire.glance(case, self.patient).await,
            _ => wire.ask(case).await,
        };
        // Compat: what cannot be told has been done all the same.
        if matches!(raw.status, 201 | 406) && case.method == "POST" {
            self.forget(case, &raw).await;
        }
        let mut answer = Answer::of(&raw, &self.base);
        if case.target.starts_with(reviews::REQUESTS) {
            answer.body = reviews::without_administrator(&answer.body);
        }
        if case.target.contains("/token") {
            answer.body = reviews::without_token(&answer.body);
        }
        if case.stratum == "generateName" {
            answer.body = metadata::without_generated(case, &answer.body);
        }
        answer
    }

    /// The config map as it was at first.
    async fn keep(&self) {
        let maps = format!("{}/api/v1/namespaces/bad/configmaps", self.base);
        let json = [("content-type", "application/json")];
        let free = r#"{"metadata":{"finalizers":null}}"#;
        let kept = format!("{maps}/kept");
        let patch = [("content-type", "application/merge-patch+json")];
        let _ = self.admin.request(http::Method::PATCH, &kept, &patch, Some(free.into())).await;
        let _ = self.admin.request(http::Method::DELETE, &kept, &[], None).await;
        let body = r#"{"metadata":{"name":"kept"},"data":{"a":"b"}}"#;
        let made = self.admin.request(http::Method::POST, &maps, &json, Some(body.into())).await.unwrap();
        assert_eq!(made.status, 201);
    }

    /// Removes what the families before have left in a collection: what happens to one depends on whether it is empty.
    async fn clear(&self, plural: &str) {
        let all = self.admin.get(&format!("{}/api/v1/{plural}", self.base), &[]).await.unwrap();
        let all: Value = serde_json::from_slice(&all.body).unwrap();
        for left in all["items"].as_array().unwrap() {
            let (namespace, name) = (&left["metadata"]["namespace"], &left["metadata"]["name"]);
            if *name == metadata::THERE {
                continue;
            }
            let place = format!("namespaces/{}/{plural}/{}", namespace.as_str().unwrap(), name.as_str().unwrap());
            let url = format!("{}/api/v1/{place}", self.base);
            let gone = self.admin.request(http::Method::DELETE, &url, &[], None).await.unwrap();
            assert_eq!(gone.status, 200, "{place}");
        }
    }

    /// An object of each kind, for requests that change it without effect.
    async fn stand(&self, request: &seeds::Seed) {
        let stored = |seed: &&seeds::Seed| !seed.path.ends_with("reviews") && !seed.is_another_form();
        for seed in seeds::seeds().iter().filter(stored).chain([request]) {
            let (url, body) = (format!("{}{}", self.base, seed.path), seed.named(metadata::THERE).to_string());
            let json = [("content-type", "application/json")];
            let made = self.admin.request(http::Method::POST, &url, &json, Some(body.into())).await.unwrap();
            assert_eq!(made.status, 201, "{}", seed.kind);
        }
    }

    /// Removes what a request made, so that the next one finds what it found. Namespaces stay: only a controller empties them.
    async fn forget(&self, case: &Case, raw: &Raw) {
        let path = case.target.split('?').next().unwrap_or_default();
        let name = name_in(&raw.body).or_else(|| match &case.payload {
            Payload::Sized(sent) => name_in(sent),
            Payload::None | Payload::Wire { .. } => None,
        });
        let Some(name) = name else { return };
        if name.is_empty() || path.ends_with("reviews") || path.ends_with("/token") || case.target.contains("dryRun") {
            return;
        }
        if path.ends_with("/namespaces") {
            if raw.status == 201 && !self.complete {
                differential::complete(&self.admin, &self.base, &name).await;
            }
            return;
        }
        let name = name.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
        let url = format!("{}{}/{name}?gracePeriodSeconds=0", self.base, path.trim_end_matches('/'));
        let gone = self.admin.request(http::Method::DELETE, &url, &[], None).await;
        let held = gone.ok().and_then(|gone| serde_json::from_slice::<Value>(&gone.body).ok());
        if held.is_some_and(|held| held.pointer("/metadata/finalizers").is_some()) {
            // What it was given, or that no controller says on the real side that nothing uses a volume.
            let patch = [("content-type", "application/merge-patch+json")];
            let free = r#"{"metadata":{"finalizers":null}}"#;
            let _ = self.admin.request(http::Method::PATCH, &url, &patch, Some(free.into())).await;
        }
    }
}

/// The name of an object, also of one that is written in another way than JSON is.
fn name_in(body: &[u8]) -> Option<String> {
    if let Ok(body) = serde_json::from_slice::<Value>(body) {
        return body.pointer("/metadata/name").and_then(Value::as_str).map(str::to_owned);
    }
    let text = String::from_utf8_lossy(body);
    let name = text.split_once("\"metadata\":{\"name\":\"")?.1.split('"').next()?;
    Some(name.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_answered_as_a_real_kube_apiserver_answers_it() {
    let first = Dice::roll_unless_given(SEED);
    let more = (1..rounds()).map(|round| Dice::of(first.seed() + round));
    let dice: Vec<Dice> = std::iter::once(Dice::of(first.seed())).chain(more).collect();
    let only = only();
    let plane = ControlPlane::start(&[]).await;
    let bench = Bench::start().await;
    let masters: &[&str] = &["system:masters"];
    let leaf = plane.ca().client("admin", masters);
    let mut real = Side {
        base: plane.url().to_owned(),
        wire: Wire::new(plane.port(), plane.ca(), Some(&leaf)),
        nobody: Wire::new(plane.port(), plane.ca(), None),
        admin: plane.admin_client(),
        changed: false,
        complete: false,
        patient: false,
        words: Vec::new(),
    };
    let leaf = bench.ca.client("admin", masters);
    let port = bench.running.addr().port();
    let mut ours = Side {
        base: bench.url(""),
        wire: Wire::new(port, &bench.ca, Some(&leaf)),
        nobody: Wire::new(port, &bench.ca, None),
        admin: bench.client(Some(("admin", masters))),
        changed: false,
        complete: true,
        patient: false,
        words: Vec::new(),
    };
    let request = reviews::request();
    for side in [&real, &ours] {
        let body = json!({"metadata": {"name": "bad"}}).to_string().into();
        let url = format!("{}/api/v1/namespaces", side.base);
        let made = side.admin.request(http::Method::POST, &url, &[("content-type", "application/json")], Some(body));
        assert_eq!(made.await.unwrap().status, 201);
    }
    differential::settled(&plane).await;
    differential::complete(&real.admin, &real.base, "bad").await;
    for side in [&real, &ours] {
        side.keep().await;
        words::furnish(&side.admin, &side.base).await;
        side.stand(&request).await;
    }
    for namespace in [words::FIRST, "odd"] {
        differential::complete(&real.admin, &real.base, namespace).await;
    }
    let samples = protobuf::learn(&real.admin, &real.base).await;
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut wrong, dice_count) = (0, dice.len());
    for (family, cases, accepted_least) in FAMILIES {
        if only.as_ref().is_some_and(|only| only != family) {
            continue;
        }
        let start = std::time::Instant::now();
        let (mut strata, mut accepted, mut differing) = (BTreeMap::<&str, usize>::new(), 0, 0);
        let mut count = 0;
        for dice in &dice {
            for side in [&mut real, &mut ours] {
                side.words = words::learn(&side.admin, &side.base).await;
                side.clear("limitranges").await;
                side.keep().await;
            }
            for case in &cases(dice, &samples) {
                count += 1;
                *strata.entry(case.stratum).or_default() += 1;
                let (mut want, mut got) = tokio::join!(real.ask(case), ours.ask(case));
                if want != got && case.watches() {
                    // One of them may have been cut short.
                    (real.patient, ours.patient) = (true, true);
                    (want, got) = tokio::join!(real.ask(case), ours.ask(case));
                    (real.patient, ours.patient) = (false, false);
                }
                // The real server judges what stands in a map in an order that it draws anew each time.
                for _ in 0..AGAIN {
                    let refused = (want.status, got.status) == (422, 422);
                    // And ends some connections without a word when it has no time.
                    let silent = want.status == 0 && case.method == "GET" && case.target.contains("timeout=");
                    if want == got || !(refused || silent) || is_known(case, &want, &got) {
                        break;
                    }
                    want = real.ask(case).await;
                }
                accepted += usize::from((200..300).contains(&want.status));
                if want == got {
                    continue;
                }
                match KNOWN.iter().find(|known| (known.applies)(case, &want, &got)) {
                    Some(known) => *seen.entry(known.what).or_default() += 1,
                    None => {
                        differing += 1;
                        wrong += 1;
                        // At once: a run over many seeds takes long.
                        if wrong <= SHOWN * dice_count {
                            println!("{}", difference(family, case, &want, &got));
                        }
                    }
                }
            }
        }
        println!("{family}: {count} cases, {accepted} accepted, {differing} differ, {:?}; {strata:?}", start.elapsed());
        assert!(
            count >= 100 && accepted * 100 >= count * accepted_least,
            "{family}: too few cases, or too few that are accepted"
        );
    }
    println!("known differences: {seen:?}");
    assert_eq!(wrong, 0, "answers differ");
    if only.is_none() {
        for known in KNOWN {
            assert!(seen.contains_key(known.what), "{} no longer differs: take it off the list", known.what);
        }
    }
    bench.stop().await;
}

#[expect(clippy::disallowed_methods, reason = "one family alone is what one mends")]
fn only() -> Option<String> {
    std::env::var("PORTCULLIS_FAMILY").ok()
}

/// How many seeds are tried, one after another.
#[expect(clippy::disallowed_methods, reason = "many rounds are for those who mend")]
fn rounds() -> u64 {
    std::env::var("PORTCULLIS_ROUNDS").map_or(1, |rounds| rounds.parse().unwrap())
}

fn is_known(case: &Case, want: &Answer, got: &Answer) -> bool {
    KNOWN.iter().any(|known| (known.applies)(case, want, got))
}

/// Where two answers part.
fn difference(family: &str, case: &Case, want: &Answer, got: &Answer) -> String {
    let cut = |text: &str| text.chars().take(700).collect::<String>();
    let headers: Vec<String> =
        case.headers.iter().map(|(name, value)| format!("{name}: {}", cut(&String::from_utf8_lossy(value)))).collect();
    let body = match &case.payload {
        Payload::None => String::new(),
        Payload::Sized(body) | Payload::Wire { bytes: body, .. } => cut(&String::from_utf8_lossy(body)),
    };
    let mut out = format!("== {family}/{}: {} {} {headers:?} {body}", case.stratum, case.method, cut(&case.target));
    for (name, left, right) in [
        ("status", want.status.to_string(), got.status.to_string()),
        ("headers", format!("{:?}", want.headers), format!("{:?}", got.headers)),
        ("closed", want.closed.to_string(), got.closed.to_string()),
    ] {
        if left != right {
            out.push_str(&format!("\n  {name}\n    real {}\n    ours {}", cut(&left), cut(&right)));
        }
    }
    if want.body != got.body {
        let same = want.body.chars().zip(got.body.chars()).take_while(|(left, right)| left == right).count();
        for (side, body) in [("real", &want.body), ("ours", &got.body)] {
            let part: String = body.chars().skip(same.saturating_sub(BEFORE)).take(BEFORE + BEHIND).collect();
            out.push_str(&format!("\n    {side} …{}", part.replace('\n', "\n         ")));
        }
    }
    out
}
