//! Metadata: what stands in `metadata`, `kind` and `apiVersion`, in objects of every kind, new, changed and patched.

use serde_json::{Map, Value, json};

use super::seeds::{Seed, seeds};
use super::wire::{Case, Payload};
use crate::rbac::Dice;

/// The object of each kind that is there to be changed. Whatever changes it does so without effect (`dryRun`).
pub(super) const THERE: &str = "there";
/// How often each mistake is made in each kind.
const ROUNDS: usize = 2;
const ZERO_TIME: &str = "0001-01-01T00:00:00Z";
const STRATA: [&str; 20] = [
    "name",
    "generateName",
    "namespace",
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "labels",
    "annotations",
    "finalizers",
    "ownerReferences",
    "managedFields",
    "selfLink",
    "unknown member",
    "options",
    "kind and version",
    "a list",
    "hardly any metadata",
];

pub(super) fn cases(dice: &Dice) -> Vec<Case> {
    let seeds = seeds();
    let mut out = Vec::new();
    for round in 0..ROUNDS {
        for (turn, stratum) in STRATA.into_iter().enumerate() {
            for (index, seed) in seeds.iter().enumerate() {
                let name = format!("m{}-{round}-{turn}-{index}", dice.seed() % 1_000_000);
                out.push(case(dice, seed, stratum, &name));
            }
        }
    }
    out.extend(sizes(&seeds));
    out
}

/// An answer without the characters that a server put behind a stem.
pub(super) fn without_generated(case: &Case, body: &str) -> String {
    let Payload::Sized(sent) = &case.payload else { return body.to_owned() };
    let sent: Value = serde_json::from_slice(sent).unwrap_or_default();
    let stem = sent.pointer("/metadata/generateName").and_then(Value::as_str).unwrap_or_default();
    let quoted = Value::from(stem).to_string();
    let stem: String = quoted.trim_matches('"').chars().take(58).collect();
    if stem.is_empty() {
        return body.to_owned();
    }
    let given = |c: char| "bcdfghjklmnpqrstvwxz2456789".contains(c);
    let mut parts = body.split(stem.as_str());
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(&stem);
        match part.char_indices().take_while(|(_, c)| given(*c)).count() {
            5 => out.push_str(&format!("?????{}", &part[5..])),
            _ => out.push_str(part),
        }
    }
    out
}

/// How a mistake is brought to the server.
#[derive(Clone, Copy, PartialEq)]
enum By {
    Post,
    Put,
    Patch(&'static str),
}

const PATCHES: [&str; 3] =
    ["application/merge-patch+json", "application/json-patch+json", "application/strategic-merge-patch+json"];

/// Sizes and counts at their limits and beyond.
fn sizes(seeds: &[Seed]) -> Vec<Case> {
    let limit = 256 * 1024;
    let of = |bytes: usize| json!({"annotations": {"a": "x".repeat(bytes - 1)}});
    let many = |count: usize| (0..count).map(|n| (format!("k{n:05}"), json!("v"))).collect::<Map<_, _>>();
    let mistakes = [
        of(limit),
        of(limit + 1),
        json!({"annotations": {"a": "x".repeat(limit / 2), "b": "x".repeat(limit / 2)}}),
        json!({"annotations": many(20_000)}),
        json!({"annotations": many(40_000)}),
        json!({"labels": many(5_000)}),
        json!({"finalizers": (0..2_000).map(|n| format!("a.b/{n}")).collect::<Vec<_>>()}),
        json!({"ownerReferences": (0..1_000).map(|n| owner(&n.to_string())).collect::<Vec<_>>()}),
        json!({"selfLink": "x".repeat(limit)}),
        json!({"generateName": "a".repeat(10_000)}),
    ];
    let mut out = Vec::new();
    for (index, mistake) in mistakes.into_iter().enumerate() {
        let kinds = seeds.iter().filter(|seed| !seed.path.ends_with("reviews") && !seed.path.ends_with("/jobs"));
        for (turn, seed) in kinds.skip(index % 3).step_by(11).enumerate() {
            let by = if turn % 2 == 0 { By::Post } else { By::Put };
            let members = mistake.as_object().unwrap();
            out.push(bring("size", seed, by, &format!("size{index}-{turn}"), members, ""));
        }
    }
    out
}

fn owner(uid: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": uid})
}

fn case(dice: &Dice, seed: &Seed, stratum: &'static str, name: &str) -> Case {
    // Their refusals show what no two servers have in common: addresses, times, labels, conditions.
    let own = ["pods", "services", "persistentvolumes"].iter().any(|plural| seed.path.ends_with(plural));
    let only_new = seed.path.ends_with("reviews") || seed.path.ends_with("/jobs");
    let by = match dice.below(5) {
        _ if only_new => By::Post,
        3.. if own => By::Put,
        0 | 1 => By::Post,
        2 => By::Put,
        _ => By::Patch(dice.word(&PATCHES)),
    };
    let any = |list: Vec<Value>| list[dice.below(list.len())].clone();
    let one = |member: &str, value: Value| Map::from_iter([(member.to_owned(), value)]);
    let validation = dice.word(&["", "", "fieldValidation=Strict", "fieldValidation=Warn", "fieldValidation=Ignore"]);
    let members = match stratum {
        "name" => one("name", any(names())),
        "generateName" => {
            let mut members = one("generateName", any(stems()));
            if dice.percent(80) {
                members.insert("name".to_owned(), Value::Null);
            }
            members
        }
        "namespace" => {
            one("namespace", any(list(r#"["bad","other","","default","kube-system","BAD","a b",null,1,[]]"#)))
        }
        "uid" => one("uid", any(list(r#"["u","","00000000-0000-0000-0000-000000000000","é \n",null,1,{}]"#))),
        "resourceVersion" => one(
            "resourceVersion",
            any(list(
                r#"["x","0","1","-1","99999999999999999999"," 1","","01","1.5","0x10","+1","999999999","1 ",null,1,true]"#,
            )),
        ),
        "creationTimestamp" => one(stratum, any(times())),
        // The time zero is told from none.
        "deletionTimestamp" => one(stratum, any(times().into_iter().filter(|time| *time != ZERO_TIME).collect())),
        "deletionGracePeriodSeconds" => one(stratum, any(list(r#"[0,30,-1,"1",null,1.5,9223372036854775808]"#))),
        "generation" => one(stratum, any(list(r#"[0,5,-1,9223372036854775807,"1",1.5,null,1e3]"#))),
        "labels" => one(stratum, labels(dice)),
        "annotations" => one(stratum, annotations(dice)),
        "finalizers" => one(stratum, any(finalizers())),
        "ownerReferences" => one(stratum, any(owners())),
        "managedFields" => one(stratum, any(managed_fields())),
        "selfLink" => one(stratum, any(list(r#"["/api/v1/x","",1,null,{}]"#))),
        "unknown member" => {
            let mut members = Map::new();
            for _ in 0..=dice.below(3) {
                members.insert(
                    dice.word(&["clusterName", "Name", "zzz", "initializers", "", "a.b", "label", "name "]).to_owned(),
                    any(list(r#"[1,null,"x",{"a":{"b":1}},[1,2]]"#)),
                );
            }
            members
        }
        "options" => return options(dice, seed, by, name),
        "kind and version" => return kind(dice, seed, by, name),
        "a list" => return of_list(dice, seed, by),
        _ => return hardly_any(dice, seed, by),
    };
    bring(stratum, seed, by, name, &members, validation)
}

fn list(text: &str) -> Vec<Value> {
    serde_json::from_str(text).unwrap()
}

fn names() -> Vec<Value> {
    let mut out = list(
        r#"["","A","a_b","a.b","-a","a-","a/b","a%b","..",".","a:b","é","a b","1","a\n","a..b",".a","a.","system:x","there",null,1,{},[],"a%2fb","a?b=c","con"]"#,
    );
    out.extend([63, 64, 253, 254, 300].map(|length| Value::from("a".repeat(length))));
    out.push(Value::from(format!("{}.b", "a".repeat(63))));
    out.push(Value::from(format!("{}.b", "a".repeat(64))));
    out
}

fn stems() -> Vec<Value> {
    let mut out = list(r#"["g-","g","G-","g_","-g","g.","g/","é-","","a b-","%","..",".","-","a--",1,null,[]]"#);
    // No letter that a server gives, or its own might look like the stem's.
    out.extend([57, 58, 59, 63, 64, 253, 300].map(|length| Value::from("a".repeat(length))));
    out
}

fn times() -> Vec<Value> {
    list(
        r#"[null,"2026-01-01T00:00:00Z","x","","2026-01-01","2026-01-01T00:00:00.5Z","2026-01-01T00:00:00+02:00",1,{},[],true,
            "0001-01-01T00:00:00Z","2026-13-01T00:00:00Z","2026-02-30T00:00:00Z","2026-01-01T24:00:00Z","2026-01-01 00:00:00Z",
            "2026-01-01T00:00:00","2026-01-01T00:00:00z","2026-01-01T00:00:00Z ","20260101T000000Z","2026-01-01T1:00:00Z"]"#,
    )
}

fn labels(dice: &Dice) -> Value {
    if dice.percent(25) {
        return list(r#"[null,{},[],"a",1,{"a":null},{"a":1},{"a":{}},{"a":["b"]},{"a":true}]"#)[dice.below(10)]
            .clone();
    }
    let long = "k".repeat(64);
    let (prefix, subdomain) = (format!("{}/k", "p".repeat(253)), format!("{}.a/k", "p".repeat(64)));
    let keys = [
        "",
        "a b",
        "/a",
        "a/",
        "a/b/c",
        "-a",
        "a-",
        "A",
        "É",
        "a.b/c",
        "A.b/c",
        "a_b/c",
        &long,
        &prefix,
        &subdomain,
        "a\n",
        "kubernetes.io/metadata.name",
        ".",
        "a..b",
        "x/.",
    ];
    let values = ["", "a", "a b", "-a", "a-", "é", "a/b", "a:b", "A_b.c-d", "a\n", &long];
    let mut out = Map::new();
    if dice.percent(50) {
        out.insert(keys[dice.below(keys.len())].to_owned(), Value::from("v"));
    } else {
        out.insert("key".to_owned(), Value::from(values[dice.below(values.len())]));
    }
    Value::Object(out)
}

fn annotations(dice: &Dice) -> Value {
    if dice.percent(30) {
        return list(r#"[null,{},[],"a",1,{"a":null},{"a":1},{"a":{}},{"a":"é\n\u0000"},{"a":false}]"#)[dice.below(10)]
            .clone();
    }
    let (long, prefix) = ("k".repeat(64), format!("{}/k", "p".repeat(254)));
    let keys = ["", "a b", "/a", "a/", "a/b/c", "-a", "A", "A/B", "É", "a_b/c", &long, &prefix, "a.b/c", "."];
    json!({keys[dice.below(keys.len())]: "any \u{1f980} text"})
}

fn finalizers() -> Vec<Value> {
    let mut out = list(
        r#"[null,[],{},"a",[1],[null],[""],["a"],["a.b/c"],["a.b/c","a.b/c"],["kubernetes"],["orphan"],["foregroundDeletion"],
            ["orphan","foregroundDeletion"],["a/b/c"],["/a"],["a b/c"],["-a/b"],["a","a"],["orphan","orphan"],["A.b/c"],["é/x"],["a.b/c","x"]]"#,
    );
    out.extend([63, 64].map(|length| json!([format!("a.b/{}", "f".repeat(length))])));
    out.extend([253, 254].map(|length| json!([format!("{}/f", "a".repeat(length))])));
    out
}

fn owners() -> Vec<Value> {
    let mut out = list(
        r#"[null,[],{},"x",[null],[1],[{}],[{"apiVersion":"v1"}],[{"apiVersion":"v1","kind":"Pod","name":"p"}],[{"kind":"Pod","name":"p","uid":"u"}],
            [{"apiVersion":"v1","kind":"Event","name":"p","uid":"u"}],[{"apiVersion":"a/b/c","kind":"Pod","name":"p","uid":"u"}],
            [{"apiVersion":"v1/","kind":"Pod","name":"p","uid":"u"}],[{"apiVersion":"/v1","kind":"Pod","name":"p","uid":"u"}],
            [{"apiVersion":"/","kind":"Pod","name":"p","uid":"u"}],[{"apiVersion":"/v1","kind":"Event","name":"p","uid":"u"}],
            [{"apiVersion":"v1","kind":"a b","name":"<&>","uid":"u u"}],[{"apiVersion":"v1","kind":"Pod","name":"p","uid":"u","controller":"x"}],
            [{"apiVersion":"v1","kind":"Pod","name":"p","uid":1}],[{"apiVersion":"v1","kind":"Pod","name":"p","uid":"u","zzz":1}],
            [{"apiVersion":"v1","kind":"Pod","name":"p","uid":"u","controller":true,"blockOwnerDeletion":true},{"apiVersion":"v1","kind":"Pod","name":"q","uid":"v","controller":true}],
            [{"apiVersion":"v1","kind":"Pod","name":"p","uid":"u","controller":true},{"apiVersion":"v1","kind":"Pod","name":"q","uid":"v","controller":true},{"apiVersion":"v1","kind":"Pod","name":"r","uid":"w","controller":true}],
            [{"apiVersion":"v1","kind":"Pod","name":"p","uid":"u"},{"apiVersion":"v1","kind":"Pod","name":"p","uid":"u"}],
            [{"apiVersion":"v1","kind":"Pod","name":"p","uid":"u"},{"apiVersion":"v1","kind":"Pod","name":"q","uid":"u"}],
            [{"apiVersion":"v1","kind":"Pod","name":"p","uid":"u","controller":false},{"apiVersion":"v1","kind":"Pod","name":"p","uid":"u"},{"apiVersion":"v1","kind":"Pod","name":"p","uid":"u"}],
            [{"uid":"u"},{"uid":"u"}]]"#,
    );
    out.push(json!([{"apiVersion": "v1", "kind": "K".repeat(300), "name": "n".repeat(300), "uid": "u".repeat(300)}]));
    out
}

fn managed_fields() -> Vec<Value> {
    let mut out = list(
        r#"[null,[],{},"x",[null],[{}],[1],[{"manager":"m"}],[{"manager":"m","operation":"Update"}],[{"manager":"m","operation":"Odd","apiVersion":"v1"}],
            [{"manager":"m","operation":"Update","apiVersion":"v1","fieldsType":"FieldsV1"}],[{"manager":"m","operation":"Update","apiVersion":"v1","fieldsType":"FieldsV2","fieldsV1":{}}],
            [{"manager":"m","operation":"Update","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:labels":{}}}}],
            [{"manager":"m","operation":"Update","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"x":1}}],
            [{"manager":"m","operation":"Update","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":"x"}],
            [{"manager":"m","operation":"Apply","apiVersion":"v9","fieldsType":"FieldsV1","fieldsV1":{"f:spec":{}},"time":"2026-01-01T00:00:00Z"}],
            [{"manager":"m","operation":"Apply","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{},"time":"x"}],
            [{"manager":"m\n","operation":"Apply","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{}}],
            [{"manager":"m","operation":"Apply","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{},"subresource":"status","zzz":1}],
            [{"manager":1}]]"#,
    );
    out.push(json!([{"manager": "m".repeat(200), "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {}}]));
    out
}

/// A request with those members in its metadata; a null stands for a member that is taken away, except in patches.
fn bring(stratum: &'static str, seed: &Seed, by: By, name: &str, members: &Map<String, Value>, query: &str) -> Case {
    let object = |name: &str| {
        let mut tree = seed.named(name);
        for (member, value) in members {
            match value {
                Value::Null if member == "name" => {
                    tree["metadata"].as_object_mut().unwrap().shift_remove(member);
                }
                value => tree["metadata"][member] = value.clone(),
            }
        }
        tree.to_string()
    };
    match by {
        By::Post => request(stratum, seed, by, query).json(object(name)),
        By::Put => request(stratum, seed, by, query).json(object(THERE)),
        By::Patch(kind) if kind.contains("json-patch") => {
            let add = |(member, value): (&String, &Value)| json!({"op": "add", "path": format!("/metadata/{}", member.replace('~', "~0").replace('/', "~1")), "value": value});
            let patch = Value::Array(members.iter().map(add).collect());
            request(stratum, seed, by, query).header("content-type", kind).body(patch.to_string())
        }
        By::Patch(kind) => {
            let patch = json!({"metadata": members}).to_string();
            request(stratum, seed, by, query).header("content-type", kind).body(patch)
        }
    }
}

/// A request without a body. What is there is not really changed.
fn request(stratum: &'static str, seed: &Seed, by: By, query: &str) -> Case {
    let glue = if query.is_empty() { "" } else { "&" };
    match by {
        By::Post => Case::new(stratum, "POST", format!("{}?{query}", seed.path).trim_end_matches('?').to_owned()),
        By::Put => Case::new(stratum, "PUT", format!("{}/{THERE}?dryRun=All{glue}{query}", seed.path)),
        By::Patch(_) => Case::new(stratum, "PATCH", format!("{}/{THERE}?dryRun=All{glue}{query}", seed.path)),
    }
}

fn options(dice: &Dice, seed: &Seed, by: By, name: &str) -> Case {
    let query = dice.word(&[
        "dryRun=",
        "dryRun=all",
        "dryRun=None",
        "dryRun=All&dryRun=All",
        "dryRun=true",
        "fieldValidation=strict",
        "fieldValidation=",
        "fieldValidation=x",
        "fieldManager=m",
        "fieldManager=a%0Ab",
        "fieldManager=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "force=true",
        "pretty=true",
        "zzz=1",
    ]);
    let members = Map::from_iter([("zzz".to_owned(), json!(1))]);
    bring("options", seed, by, name, &members, query)
}

fn kind(dice: &Dice, seed: &Seed, by: By, name: &str) -> Case {
    let (member, value) = [
        ("kind", json!("Pod")),
        ("kind", json!("ConfigMap")),
        ("kind", json!("Odd")),
        ("kind", json!("")),
        ("kind", json!(1)),
        ("kind", json!(seed.kind.to_lowercase())),
        ("kind", json!(format!("{}List", seed.kind))),
        ("kind", json!("Status")),
        ("kind", json!("List")),
        ("kind", Value::Null),
        ("apiVersion", json!("v1")),
        ("apiVersion", json!("apps/v1")),
        ("apiVersion", json!("v2")),
        ("apiVersion", json!("a/b/c")),
        ("apiVersion", json!("")),
        ("apiVersion", json!(1)),
        ("apiVersion", json!("example.com/v1")),
        ("apiVersion", Value::Null),
        ("apiVersion", json!("V1")),
    ][dice.below(19)]
    .clone();
    let request = request("kind and version", seed, by, "");
    match by {
        By::Post | By::Put => {
            let mut tree = seed.named(if by == By::Post { name } else { THERE });
            tree[member] = value;
            if dice.percent(30) {
                tree["zzz"] = json!(1);
            }
            request.json(tree.to_string())
        }
        By::Patch(kind) if kind.contains("json-patch") => {
            let patch = json!([{"op": "replace", "path": format!("/{member}"), "value": value}]);
            request.header("content-type", kind).body(patch.to_string())
        }
        By::Patch(kind) => request.header("content-type", kind).body(json!({member: value}).to_string()),
    }
}

fn of_list(dice: &Dice, seed: &Seed, by: By) -> Case {
    let item = seed.named(THERE);
    let body = match dice.below(6) {
        0 => json!({"kind": "List", "apiVersion": "v1", "items": [item]}),
        1 => json!({"kind": format!("{}List", seed.kind), "apiVersion": seed.api_version, "items": [item]}),
        2 => json!([item]),
        3 => json!({"kind": seed.kind, "apiVersion": seed.api_version, "items": [item]}),
        4 => json!({"kind": seed.kind, "apiVersion": seed.api_version, "metadata": [item["metadata"]]}),
        _ => json!([]),
    };
    send("a list", seed, by, &body)
}

fn hardly_any(dice: &Dice, seed: &Seed, by: By) -> Case {
    let bodies = list(
        r#"[{},{"metadata":{}},{"metadata":null},{"metadata":[]},{"metadata":"x"},{"metadata":1},{"metadata":{"name":null}},null,{"metadata":{"name":""}},{"Metadata":{"name":"there"}}]"#,
    );
    let mut body = bodies[dice.below(bodies.len())].clone();
    if dice.percent(50) && body.is_object() {
        // The rest of the object is right.
        for (member, value) in seed.object.as_object().unwrap() {
            body[member] = value.clone();
        }
    }
    send("hardly any metadata", seed, by, &body)
}

fn send(stratum: &'static str, seed: &Seed, by: By, body: &Value) -> Case {
    let request = request(stratum, seed, by, "");
    match by {
        By::Patch(kind) => request.header("content-type", kind).body(body.to_string()),
        By::Post | By::Put => request.json(body.to_string()),
    }
}
