//! Bodies: broken JSON, right JSON of the wrong shape, YAML, odd lengths.

use serde_json::Value;

use super::mutate::{Text, objects, pointers};
use super::seeds::{Seed, seeds};
use super::wire::Case;
use crate::rbac::Dice;

/// Rounds over all kinds; each takes one mistake after the other.
pub(super) const STRATA: [&str; 18] = [
    "valid",
    "truncated",
    "wrong type",
    "wrong type",
    "duplicate",
    "unknown",
    "kind",
    "casing",
    "number",
    "null",
    "utf-8",
    "odd bytes",
    "changed byte",
    "yaml",
    "deep",
    "trailing",
    "valid",
    "scalar body",
];
const NUMBERS: [&str; 19] = [
    "1.5",
    "1.0",
    "1e2",
    "1E+2",
    "0.0",
    "2147483648",
    "-2147483649",
    "9223372036854775808",
    "18446744073709551616",
    "99999999999999999999999999",
    "0.1e1",
    "1e18",
    "1e19",
    "-0.0",
    "1e21",
    "100000000000000000000",
    "4294967296",
    "-1",
    "0.000001",
];
const BROKEN_NUMBERS: [&str; 8] = ["01", "1.", ".5", "+1", "0x10", "1e", "NaN", "-"];

pub(super) fn cases(dice: &Dice) -> Vec<Case> {
    let seeds = seeds();
    let mut out = Vec::new();
    for (round, stratum) in STRATA.iter().enumerate() {
        for (index, seed) in seeds.iter().enumerate() {
            out.push(case(dice, seed, stratum, &format!("c{}-{round}-{index}", dice.seed() % 1_000_000)));
        }
    }
    out.extend(fixed());
    out
}

/// What is known to differ and would come too rarely by chance.
fn fixed() -> Vec<Case> {
    let post = |path: &str, body: &str| Case::new("fixed", "POST", path).json(body);
    let volume = |storage: &str| {
        let body = r#"{"metadata":{"name":"fixed"},"spec":{"capacity":{"storage":STORAGE},"accessModes":["ReadWriteOnce"],"hostPath":{"path":"/x"}}}"#;
        post("/api/v1/persistentvolumes", &body.replace("STORAGE", storage))
    };
    // Each has its own name: of some answers nobody can tell that the object was made.
    let revision = |name: &str, data: &str| {
        let body = r#"{"metadata":{"name":"NAME"},"revision":1,"data":DATA}"#;
        let body = body.replace("NAME", name).replace("DATA", data);
        post("/apis/apps/v1/namespaces/bad/controllerrevisions", &body)
    };
    vec![
        post("/api/v1/namespaces/bad/services", "null"),
        post("/api/v1/namespaces/bad/limitranges", "null"),
        post("/api/v1/nodes", r#"{"metadata":{"name":"fixed"},"spec":{"podCIDRs":["10.1.0.0/24"]}}"#),
        post("/api/v1/namespaces/bad/configmaps", r#"{"metadata":{"name":1e400}}"#),
        Case::new("kind", "POST", "/api/v1/nodes").json(r#"{"kind":"Status","apiVersion":"v1","status":{}}"#),
        post(
            "/api/v1/namespaces/bad/pods",
            r#"{"metadata":{"name":"fixed"},"spec":{"containers":[{"name":"c","image":"i","resources":{"limits":{"cpu":"1"},"requests":{"cpu":"100E"}}}]}}"#,
        ),
        post(
            "/api/v1/namespaces/bad/configmaps",
            &format!(r#"{{"metadata":{{"name":"fixed"}},"zzz":{}{}}}"#, "[".repeat(200), "]".repeat(200)),
        ),
        post("/api/v1/namespaces/bad/configmaps", r#"{"metadata":{"name":"fixed"},"immutable":1e2}"#),
        post("/api/v1/namespaces/bad/configmaps", r#"{"metadata":{"name":"fixed","generation":1E2}}"#),
        post(
            "/api/v1/namespaces/bad/pods",
            r#"{"metadata":{"name":"fixed"},"spec":{"containers":[{"name":"c","image":"i","ports":[{"containerPort":-0}]}]}}"#,
        ),
        post("/api/v1/namespaces/bad/configmaps", r#"{"metadata":{"name":"fixed","name":null}}"#),
        volume("-1"),
        volume("1e40"),
        post(
            "/api/v1/persistentvolumes",
            r#"{"metadata":{"name":"fixed"},"spec":{"capacity":{},"accessModes":["ReadWriteOnce"],"hostPath":{"path":"/x"}}}"#,
        ),
        revision("half", r#"{"a":"\ud800"}"#),
        revision("deep", &format!(r#"{{"a":{}{}}}"#, "[".repeat(200), "]".repeat(200))),
        revision("huge", r#"{"a":1e400}"#),
        Case::new("fixed", "POST", "/api/v1/namespaces/bad/configmaps")
            .header("content-type", "application/yaml")
            .body("metadata:\n  name: \u{1}\n"),
    ]
}

pub(super) fn validation(dice: &Dice) -> &'static str {
    dice.word(&["", "?fieldValidation=Strict", "?fieldValidation=Warn", "?fieldValidation=Ignore"])
}

fn case(dice: &Dice, seed: &Seed, stratum: &'static str, name: &str) -> Case {
    let path = format!("{}{}", seed.path, validation(dice));
    spoil(dice, &seed.named(name), stratum, Case::new(stratum, "POST", path))
}

/// A request with a body that is right but for one mistake.
pub(super) fn spoil(dice: &Dice, tree: &Value, stratum: &str, case: Case) -> Case {
    let any = |list: &[String]| list[dice.below(list.len())].clone();
    let mut text = Text::new(tree.clone());
    let named = |at: &&str| tree.pointer(at).is_some();
    match stratum {
        "valid" => {}
        "truncated" => {
            let bytes = text.bytes();
            return case.json(&bytes[..dice.below(bytes.len())]);
        }
        "wrong type" => {
            let at = any(&pointers(tree));
            text.put(
                &at,
                dice.word(&[
                    "1",
                    "-1",
                    "\"x\"",
                    "\"\"",
                    "true",
                    "[]",
                    "{}",
                    "[1]",
                    "{\"a\":1}",
                    "[{}]",
                    "[null]",
                    "[\"x\"]",
                    "{\"a\":\"b\"}",
                    "{\"a\":null}",
                ]),
            );
        }
        "duplicate" => {
            let candidates: Vec<String> = pointers(tree)
                .into_iter()
                .filter(|at| !at.rsplit('/').next().unwrap().chars().all(|c| c.is_ascii_digit()))
                .collect();
            let at = any(&candidates);
            let (outer, key) = at.rsplit_once('/').unwrap();
            let key = key.replace("~1", "/").replace("~0", "~");
            let value = if dice.percent(80) {
                tree.pointer(&at).unwrap().to_string()
            } else {
                dice.word(&["1", "\"other\""]).to_owned()
            };
            text.add_member(outer, format!("{}:{value}", Value::from(key)));
        }
        "unknown" => {
            for _ in 0..=dice.below(3) {
                let outer = any(&objects(tree));
                let member = dice.word(&[
                    "\"zzz\":1",
                    "\"Zzz\":{\"a\":1,\"a\":2}",
                    "\"\":null",
                    "\"metadatas\":[]",
                    "\"a b\\n\":\"x\"",
                    "\"é\":1",
                    "\"selfLink\":1",
                ]);
                text.add_member(&outer, member);
            }
        }
        "kind" => {
            let (field, value) = [
                ("/kind", "\"Pod\""),
                ("/kind", "\"\""),
                ("/kind", "null"),
                ("/kind", "1"),
                ("/kind", "\"pod\""),
                ("/kind", "\"PodList\""),
                ("/kind", "\"Status\""),
                ("/kind", "\"a b/c\""),
                ("/apiVersion", "\"v2\""),
                ("/apiVersion", "\"\""),
                ("/apiVersion", "null"),
                ("/apiVersion", "[]"),
                ("/apiVersion", "\"a/b/c\""),
                ("/apiVersion", "\"/\""),
                ("/apiVersion", "\"apps/v1\""),
                ("/apiVersion", "\"extensions/v1beta1\""),
                ("/apiVersion", "\"v1 \""),
                ("/apiVersion", "\"/v1\""),
                ("/apiVersion", "\"apps/\""),
                ("/apiVersion", "\"rbac.authorization.k8s.io/v1beta1\""),
            ][dice.below(20)];
            text.put(field, value);
        }
        "casing" => {
            let candidates: Vec<String> = pointers(tree)
                .into_iter()
                .filter(|at| !at.rsplit('/').next().unwrap().chars().all(|c| c.is_ascii_digit()))
                .collect();
            let first = dice.word(&["/kind", "/apiVersion", "/metadata", "/metadata/name"]);
            let at =
                Some(first).filter(named).filter(|_| dice.percent(40)).map_or_else(|| any(&candidates), str::to_owned);
            let (outer, key) = at.rsplit_once('/').unwrap();
            let odd = match dice.below(3) {
                0 => key.to_uppercase(),
                1 => key.to_lowercase(),
                _ => format!("{}{}", key[..1].to_uppercase(), &key[1..]),
            };
            let value = tree.pointer(&at).unwrap().to_string();
            if dice.percent(60)
                && let Some(Value::Object(members)) = text.tree.pointer_mut(outer)
            {
                members.shift_remove(key);
            }
            text.add_member(outer, format!("{}:{value}", Value::from(odd)));
        }
        "number" => {
            let places = pointers(tree);
            let numbers: Vec<String> =
                places.iter().filter(|at| tree.pointer(at).unwrap().is_number()).cloned().collect();
            let at = if !numbers.is_empty() && dice.percent(60) { any(&numbers) } else { any(&places) };
            text.put(&at, if dice.percent(85) { dice.word(&NUMBERS) } else { dice.word(&BROKEN_NUMBERS) });
        }
        "null" => {
            for _ in 0..=dice.below(2) {
                let places = pointers(&text.tree);
                text.put(&any(&places), "null");
            }
        }
        "utf-8" => {
            let at = any(&pointers(tree));
            text.put(
                &at,
                [
                    b"\"a\xffb\"".as_slice(),
                    b"\"\xc3\x28\"",
                    b"\"\xed\xa0\x80\"",
                    b"\"\\ud800\"",
                    b"\"\\udc00x\"",
                    b"\"\\ud83d\\ude00\"",
                    b"\"\\ud800\\ud800\"",
                    b"\"\xf0\x9f\xa6\x80\"",
                    b"\"\xe2\x80\xa8\"",
                    b"\"\\u0000\"",
                ][dice.below(10)],
            );
        }
        "odd bytes" => {
            let bytes = text.bytes();
            let odd: &[u8] =
                [b"\xef\xbb\xbf".as_slice(), b"\0", b"\xff\xfe", b"\x0b", b"\xc2\xa0", b"// c\n", b"/**/", b"\n\n\t "]
                    [dice.below(8)];
            let at = [0, 0, 1, bytes.len()][dice.below(4)];
            return case.json([&bytes[..at], odd, &bytes[at..]].concat());
        }
        "changed byte" => {
            let mut bytes = text.bytes();
            for _ in 0..=dice.below(2) {
                let at = dice.below(bytes.len());
                bytes[at] = b"{}[]\",:\\ \n\t0-.eEtfnu/x'\x01\x1f\x7f\x80"[dice.below(27)];
            }
            return case.json(bytes);
        }
        "yaml" => {
            let yaml = portcullis_kube::yaml::print(tree).unwrap();
            let yaml = match dice.below(6) {
                0 => format!("---\n{yaml}"),
                1 => format!("# a comment\n{yaml}\n...\n"),
                2 => format!("%YAML 1.1\n---\n{yaml}"),
                3 => tree.to_string(),
                4 => serde_json::to_string_pretty(&tree).unwrap(),
                _ => yaml,
            };
            return case.header("content-type", "application/yaml").body(yaml);
        }
        "deep" => {
            let depth = [20, 60, 120, 130, 500, 9_990, 9_998, 9_999, 10_000, 10_001, 12_000][dice.below(11)];
            let raw = if dice.percent(50) {
                format!("{}{}", "[".repeat(depth), "]".repeat(depth))
            } else {
                format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth))
            };
            text.add_member("", format!("\"zzz\":{raw}"));
        }
        "trailing" => {
            let bytes = text.bytes();
            let tail: &[u8] =
                [b"{}".as_slice(), b" ", b"\n", b"null", b"}", b",", b"\0", b"trailing", b"\n---\n", b"[", b"\"x\""]
                    [dice.below(11)];
            return case.json([&bytes, tail].concat());
        }
        _ => {
            let body: &[u8] = [
                b"".as_slice(),
                b" ",
                b"null",
                b"1",
                b"\"x\"",
                b"[]",
                b"true",
                b"{}",
                b"[{}]",
                b"1.5",
                b"nul",
                b"\"",
                b"{\"kind\":\"List\",\"apiVersion\":\"v1\",\"items\":[]}",
            ][dice.below(13)];
            return case.json(body);
        }
    }
    case.json(text.bytes())
}
