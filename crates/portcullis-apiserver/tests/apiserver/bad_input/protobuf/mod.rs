//! Bodies in protobuf: broken envelopes, and messages that lie about their fields.
//!
//! The real server writes good bodies of every kind; they are taken apart, spoilt and put together again.

mod message;

use portcullis_testkit::HttpClient;
use serde_json::Value;

use self::message::{Item, change, messages, number, parse, varint, write};
use super::seeds::seeds;
use super::wire::Case;
use super::{metadata::THERE, reviews};
use crate::rbac::Dice;

const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
const KEPT: &str = "/api/v1/namespaces/bad/configmaps/kept";
const MAGIC: &[u8] = b"k8s\0";
const STRATA: [&str; 20] = [
    "valid",
    "cut body",
    "cut message",
    "magic",
    "envelope",
    "envelope",
    "wire type",
    "wire type",
    "length",
    "length",
    "unknown field",
    "group",
    "overlong",
    "twice",
    "changed byte",
    "changed byte",
    "random bytes",
    "utf-8",
    "left out",
    "number",
];

/// A good body.
pub(super) struct Sample {
    path: String,
    kind: &'static str,
    api_version: &'static str,
    raw: Vec<Item>,
}

/// One of each kind, as the real server writes it.
pub(super) async fn learn(admin: &HttpClient, base: &str) -> Vec<Sample> {
    let mut out = Vec::new();
    let others = reviews::seeds().into_iter().chain([reviews::request()]);
    // Labels of a job's template are given with it, and have its id in them.
    for seed in seeds().into_iter().filter(|seed| seed.kind != "Job").chain(others) {
        let mut body = seed.named("proto");
        if seed.path.ends_with("reviews") || seed.path.ends_with("/token") {
            body["metadata"] = Value::Object(serde_json::Map::new());
        }
        let headers = [("content-type", "application/json"), ("accept", MEDIA_TYPE)];
        let url = format!("{base}{}?dryRun=All", seed.path);
        let made = admin.request(http::Method::POST, &url, &headers, Some(body.to_string().into())).await.unwrap();
        assert_eq!(made.status, 201, "{}", seed.kind);
        let envelope = parse(made.body.strip_prefix(MAGIC).unwrap()).unwrap();
        let raw = envelope.into_iter().find_map(|item| match item {
            Item::Message(2, raw) => Some(raw),
            _ => None,
        });
        let mut raw = raw.unwrap();
        forget_what_was_given(&mut raw);
        let (kind, api_version, path) = (seed.kind, seed.api_version, format!("{}?dryRun=All", seed.path));
        out.push(Sample { path, kind, api_version, raw });
    }
    out
}

/// Takes off what each server gives by itself: of metadata the id, the time, managed fields and an annotation, of services
/// their addresses.
fn forget_what_was_given(raw: &mut Vec<Item>) {
    for item in raw {
        match item {
            Item::Message(1, metadata) => {
                metadata.retain(|item| {
                    let annotation = write(std::slice::from_ref(item));
                    let deprecated = annotation.windows(11).any(|window| window == b"deprecated.");
                    !matches!(number(item), 5 | 8 | 17) && !deprecated
                });
            }
            Item::Message(2, spec) => spec.retain(|item| {
                let text = write(std::slice::from_ref(item));
                !(matches!(number(item), 3 | 18) && text.windows(6).any(|window| window == b"10.96."))
            }),
            _ => {}
        }
    }
}

pub(super) fn cases(dice: &Dice, samples: &[Sample]) -> Vec<Case> {
    let mut out = Vec::new();
    for stratum in STRATA {
        for sample in samples {
            let body = spoilt(dice, sample, stratum);
            out.push(Case::new(stratum, "POST", &sample.path).header("content-type", MEDIA_TYPE).body(body));
        }
        for _ in 0..3 {
            let raw = vec![
                Item::Number(1, dice.below(3) as u64),
                Item::Message(2, vec![Item::Bytes(1, b"u".to_vec())]),
                Item::Bytes(4, b"Background".to_vec()),
                Item::Bytes(5, b"All".to_vec()),
            ];
            let options = Sample { path: KEPT.to_owned(), kind: "DeleteOptions", api_version: "v1", raw };
            let body = spoilt(dice, &options, stratum);
            out.push(Case::new(stratum, "DELETE", &options.path).header("content-type", MEDIA_TYPE).body(body));
        }
    }
    out.extend(fixed(samples));
    for sample in samples {
        let path = sample.path.replace('?', &format!("/{THERE}?"));
        let body = spoilt(dice, sample, dice.word(&["cut body", "magic", "envelope", "length"]));
        if !sample.path.contains("reviews") && !sample.path.contains("/token") {
            out.push(Case::new("changes", "PUT", path).header("content-type", MEDIA_TYPE).body(body));
        }
    }
    out
}

/// What is known to differ and would come too rarely by chance.
fn fixed(samples: &[Sample]) -> Vec<Case> {
    let of = |kind: &str, change: &dyn Fn(&mut Vec<Item>)| {
        let sample = samples.iter().find(|sample| sample.kind == kind).unwrap();
        let mut raw = sample.raw.clone();
        change(&mut raw);
        let body = body(sample, &raw);
        Case::new("fixed", "POST", &sample.path).header("content-type", MEDIA_TYPE).body(body)
    };
    let version = |raw: &mut Vec<Item>| match raw.first_mut() {
        Some(Item::Message(1, metadata)) => {
            metadata.retain(|item| number(item) != 6);
            metadata.push(Item::Bytes(6, b"odd".to_vec()));
        }
        other => unreachable!("{other:?}"),
    };
    let data = |raw: &mut Vec<Item>| {
        raw.retain(|item| number(item) != 2);
        raw.push(Item::Message(2, vec![Item::Bytes(1, b"{".to_vec())]));
    };
    let time = |raw: &mut Vec<Item>| match raw.iter_mut().find(|item| number(item) == 2) {
        Some(Item::Message(_, spec)) => {
            spec.retain(|item| number(item) != 4);
            spec.push(Item::Message(4, Vec::new()));
        }
        other => unreachable!("{other:?}"),
    };
    vec![of("ConfigMap", &version), of("ControllerRevision", &data), of("Lease", &time)]
}

fn spoilt(dice: &Dice, sample: &Sample, stratum: &str) -> Vec<u8> {
    let mut raw = sample.raw.clone();
    let all = messages(&raw);
    let chosen = if dice.percent(30) { 0 } else { dice.below(all) };
    match stratum {
        "cut body" => {
            let whole = body(sample, &raw);
            return whole[..dice.below(whole.len())].to_vec();
        }
        "cut message" => {
            let mut short = Vec::new();
            change(&mut raw, chosen, &mut |items| {
                let bytes = write(items);
                short = bytes[..dice.below(bytes.len().max(1))].to_vec();
                *items = vec![Item::Odd(std::mem::take(&mut short))];
            });
        }
        "magic" => {
            let whole = body(sample, &raw);
            let rest = &whole[4..];
            return match dice.below(9) {
                0 => Vec::new(),
                1 => MAGIC.to_vec(),
                2 => b"k8s".to_vec(),
                3 => [b"k8s\x01", rest].concat(),
                4 => [MAGIC, &whole].concat(),
                5 => rest.to_vec(),
                6 => [b"K8S\0", rest].concat(),
                7 => [b"\n", &*whole].concat(),
                _ => b"{}".to_vec(),
            };
        }
        "envelope" => return envelope(dice, sample, &write(&raw)),
        "random bytes" => {
            let bytes: Vec<u8> = (0..1 + dice.below(60)).map(|_| u8::try_from(dice.below(256)).unwrap()).collect();
            return match dice.below(3) {
                0 => [MAGIC, &bytes].concat(),
                1 => bytes,
                _ => body(sample, &[Item::Odd(bytes)]),
            };
        }
        "changed byte" => {
            let mut whole = body(sample, &raw);
            for _ in 0..=dice.below(2) {
                let at = 4 + dice.below(whole.len() - 4);
                whole[at] = u8::try_from(dice.below(256)).unwrap();
            }
            return whole;
        }
        "valid" => {}
        _ => change(&mut raw, chosen, &mut |items| spoil(dice, items, stratum)),
    }
    body(sample, &raw)
}

/// Makes a mistake in one message.
fn spoil(dice: &Dice, items: &mut Vec<Item>, stratum: &str) {
    let at = dice.below(items.len().max(1));
    let number = items.get(at).map_or(1, number);
    let tag = |number: u32, wire: u64| varint((u64::from(number) << 3) | wire);
    let odd = |parts: &[&[u8]]| Item::Odd(parts.concat());
    let huge =
        [0x7fff_ffff, 0x8000_0000, u64::MAX, u64::MAX >> 1, 1 << 62, 1 << 32, 0x7fff_ffff_ffff_fff0][dice.below(7)];
    match stratum {
        "wire type" => {
            let value = match dice.below(6) {
                0 => odd(&[&tag(number, 0), &varint(dice.below(300) as u64)]),
                1 => odd(&[&tag(number, 1), &[1; 8]]),
                2 => odd(&[&tag(number, 2), &[2, b'a', b'b']]),
                3 => odd(&[&tag(number, 5), &[1; 4]]),
                wire => odd(&[&tag(number, wire as u64 + 2)]),
            };
            put(items, at, value, dice.percent(70));
        }
        "length" => {
            let length = match dice.below(4) {
                0 => items.get(at).map_or(1, |item| write(std::slice::from_ref(item)).len() as u64),
                1 => 1 + dice.below(40) as u64,
                _ => huge,
            };
            put(items, at, odd(&[&tag(number, 2), &varint(length), b"ab"]), dice.percent(70));
        }
        "unknown field" => {
            let number = [99, 1000, 0, 536_870_911, 536_870_912, u32::MAX >> 2][dice.below(6)];
            let value = match dice.below(5) {
                0 => odd(&[&tag(number, 0), &varint(huge)]),
                1 => odd(&[&tag(number, 1), &[1; 8]]),
                2 => odd(&[&tag(number, 2), &varint(if dice.percent(50) { 2 } else { huge }), b"ab"]),
                3 => odd(&[&tag(number, 5), &[1; 4]]),
                _ => odd(&[&tag(number, 6), b"ab"]),
            };
            put(items, at, value, false);
        }
        "group" => {
            let number = if dice.percent(50) { number } else { 99 };
            let deep = [1, 2, 100, 50_000][dice.below(4)];
            let (start, end) =
                (tag(number, 3).repeat(deep), tag(number, 4).repeat(deep - usize::from(dice.percent(30))));
            put(items, at, odd(&[&start, &tag(7, 0), &[5], &end]), false);
        }
        "overlong" => {
            let long = [vec![0x80; 8 + dice.below(6)], vec![u8::try_from(dice.below(4)).unwrap()]].concat();
            let value = match dice.below(3) {
                0 => Item::Odd(long),
                1 => odd(&[&tag(number, 0), &long]),
                _ => odd(&[&tag(number, 2), &long]),
            };
            put(items, at, value, dice.percent(50));
        }
        "twice" => {
            let again = if dice.percent(70) { items.get(at).cloned().into_iter().collect() } else { items.clone() };
            items.extend(again);
        }
        "utf-8" => {
            let texts: Vec<usize> = (0..items.len()).filter(|at| matches!(items[*at], Item::Bytes(..))).collect();
            let Some(at) = texts.get(dice.below(texts.len().max(1))) else { return };
            let Item::Bytes(_, text) = &mut items[*at] else { return };
            let odd: &[u8] = [b"\xff".as_slice(), b"\xc3\x28", b"\xed\xa0\x80", b"\0", b"\xf0\x9f\xa6\x80", b"\"\\\n"]
                [dice.below(6)];
            let at = dice.below(text.len() + 1);
            text.splice(at..at, odd.iter().copied());
        }
        "left out" => {
            if at < items.len() {
                items.remove(at);
            }
            if dice.percent(30) {
                items.clear();
            }
        }
        _ => {
            let numbers: Vec<usize> = (0..items.len()).filter(|at| matches!(items[*at], Item::Number(..))).collect();
            let value = [0, 1, 2, huge, u64::MAX - 1, 100_000][dice.below(6)];
            match numbers.get(dice.below(numbers.len().max(1))) {
                Some(at) => {
                    let Item::Number(_, number) = &mut items[*at] else { return };
                    *number = value;
                }
                None => put(items, at, Item::Number(number, value), true),
            }
        }
    }
}

fn put(items: &mut Vec<Item>, at: usize, item: Item, instead: bool) {
    match items.get_mut(at).filter(|_| instead) {
        Some(place) => *place = item,
        None => items.insert(at, item),
    }
}

/// Envelopes that say something else about what is in them.
fn envelope(dice: &Dice, sample: &Sample, raw: &[u8]) -> Vec<u8> {
    let (kind, version) = (sample.kind, sample.api_version);
    let kind = dice.word(&[
        kind,
        kind,
        "",
        "Pod",
        "ConfigMap",
        "pod",
        "PodList",
        "Status",
        "DeleteOptions",
        "a b/c",
        "\"",
        "Scale",
    ]);
    let version = dice.word(&[
        version,
        version,
        "",
        "v1",
        "v2",
        "/",
        "/v1",
        "apps/",
        "apps/v1",
        "a/b/c",
        "extensions/v1beta1",
        "v1 ",
        "meta.k8s.io/v1",
    ]);
    let meta = vec![Item::Bytes(1, version.into()), Item::Bytes(2, kind.into())];
    let raw = Item::Bytes(2, raw.to_vec());
    let items = match dice.below(9) {
        0 => vec![raw],
        1 => vec![Item::Message(1, meta)],
        2 => vec![Item::Message(1, meta), raw, Item::Message(1, vec![Item::Bytes(2, b"Odd".to_vec())])],
        3 => vec![Item::Message(1, meta), raw, Item::Bytes(2, b"ab".to_vec())],
        4 => vec![Item::Number(1, 5), raw],
        5 => vec![Item::Message(1, vec![Item::Number(1, 5)]), raw],
        6 => vec![
            Item::Message(1, meta),
            raw,
            Item::Bytes(3, b"gzip".to_vec()),
            Item::Bytes(4, b"application/json".to_vec()),
            Item::Number(9, 9),
        ],
        _ => vec![Item::Message(1, meta), raw],
    };
    [MAGIC, &write(&items)].concat()
}

fn body(sample: &Sample, raw: &[Item]) -> Vec<u8> {
    let meta = vec![Item::Bytes(1, sample.api_version.into()), Item::Bytes(2, sample.kind.into())];
    [
        MAGIC,
        &write(&[
            Item::Message(1, meta),
            Item::Bytes(2, write(raw)),
            Item::Bytes(3, Vec::new()),
            Item::Bytes(4, Vec::new()),
        ]),
    ]
    .concat()
}
