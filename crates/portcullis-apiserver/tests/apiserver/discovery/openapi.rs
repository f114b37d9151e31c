//! OpenAPI in both versions: what ours describes, and that it describes all that it serves.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::absent::{Absent, Part};
use super::{Answer, Side};

fn paths_of(index: &Value) -> Map<String, Value> {
    index["paths"].as_object().unwrap().clone()
}

pub(super) async fn documents_agree(real: &Side<'_>, ours: &Side<'_>, absent: &mut Absent) {
    let (index, own_index) = (real.get("/openapi/v3", &[]).await, ours.get("/openapi/v3", &[]).await);
    assert_eq!(own_index.1, index.1);
    let places = paths_of(&serde_json::from_str(&own_index.2).unwrap());
    let known = paths_of(&serde_json::from_str(&index.2).unwrap());
    let wanted: Vec<&String> = known.keys().filter(|place| !is_absent(place, absent)).collect();
    assert_eq!(places.keys().collect::<BTreeSet<_>>(), wanted.into_iter().collect(), "documents");
    let mut compared = (0, 0);
    for (place, entry) in &places {
        let url = entry["serverRelativeURL"].as_str().unwrap();
        let want = real.get(known[place]["serverRelativeURL"].as_str().unwrap(), &[]).await;
        let got = ours.get(url, &[]).await;
        assert_eq!(
            got.1.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            want.1.iter().map(|(name, _)| name).collect::<Vec<_>>()
        );
        assert_eq!(got.1[1], ("cache-control", "public, immutable".to_owned()));
        let (want, got): (Value, Value) =
            (serde_json::from_str(&want.2).unwrap(), serde_json::from_str(&got.2).unwrap());
        let paths = rest(&want["paths"], absent);
        same_members(place, &paths, &got["paths"]);
        let schemas = &want["components"]["schemas"];
        let schemas = reached(&[&paths], schemas, "#/components/schemas/");
        same_members(place, &schemas, &got["components"]["schemas"]);
        compared.0 += paths.as_object().unwrap().len();
        compared.1 += schemas.as_object().unwrap().len();
        assert_eq!(got["info"], want["info"]);
        assert_eq!(got["components"]["securitySchemes"].to_string(), want["components"]["securitySchemes"].to_string());
        // A wrong hash leads to the right one; the client follows.
        for (side, right) in [(real, known[place]["serverRelativeURL"].as_str().unwrap()), (ours, url)] {
            let stale = side.get(&format!("/openapi/v3/{place}?hash=AB"), &[]).await;
            assert_eq!(stale, side.get(right, &[]).await, "{place}");
        }
    }
    assert!(compared.0 > 60 && compared.1 > 250, "{compared:?}");

    let json = |answer: Answer| serde_json::from_str::<Value>(&answer.2).unwrap();
    let (want, got) = (json(real.get("/openapi/v2", &[]).await), json(ours.get("/openapi/v2", &[]).await));
    let paths = rest(&want["paths"], absent);
    assert!(paths.as_object().unwrap().len() > 60);
    same_members("v2", &paths, &got["paths"]);
    let definitions = reached(&[&paths, &want["parameters"]], &want["definitions"], "#/definitions/");
    let (definitions, own) = (definitions.as_object().unwrap(), got["definitions"].as_object().unwrap());
    let missing: Vec<&String> = definitions.keys().filter(|name| !own.contains_key(*name)).collect();
    assert!(missing.is_empty(), "v2 lacks {missing:?}");
    // Their members stand in another order.
    for (name, definition) in own {
        assert_eq!(Some(definition), definitions.get(name), "{name}");
    }
    for part in ["swagger", "info", "parameters", "security", "securityDefinitions"] {
        assert_eq!(got[part].to_string(), want[part].to_string(), "{part}");
    }
}

/// Whether a document is that of a group that is absent.
fn is_absent(place: &str, absent: &mut Absent) -> bool {
    let group = place.strip_prefix("apis/").and_then(|rest| rest.split('/').next());
    group.is_some_and(|group| absent.group(group))
}

/// The paths that ours has to describe, with their operations.
fn rest(paths: &Value, absent: &mut Absent) -> Value {
    let mut kept = Map::new();
    for (path, item) in paths.as_object().unwrap() {
        let mut item = item.clone();
        match part_of(path, absent) {
            Part::Nothing => {}
            Part::Verbs(gone) => {
                let item = item.as_object_mut().unwrap();
                item.retain(|_, operation| {
                    let verb = match operation["x-kubernetes-action"].as_str() {
                        Some("post") => "create",
                        Some("put") => "update",
                        Some(action) => action,
                        None => return true,
                    };
                    !gone.split(' ').any(|gone| gone == verb)
                });
                if !item.values().any(|member| member.get("operationId").is_some()) {
                    continue;
                }
            }
            Part::Whole => continue,
        }
        kept.insert(path.clone(), item);
    }
    Value::Object(kept)
}

/// What is absent of what a path is about.
fn part_of(path: &str, absent: &mut Absent) -> Part {
    let mut segments = path.trim_matches('/').split('/');
    let group_version = match (segments.next(), segments.next(), segments.clone().next()) {
        (Some("api"), Some(version), _) => version.to_owned(),
        (Some("apis"), Some(group), _) if absent.group(group) => return Part::Whole,
        (Some("apis"), Some(group), Some(version)) => {
            segments.next();
            format!("{group}/{version}")
        }
        _ => return Part::Nothing,
    };
    let mut segments: Vec<&str> = segments.filter(|segment| *segment != "watch").collect();
    if segments.len() > 2 && segments[..2] == ["namespaces", "{namespace}"] {
        segments.drain(..2);
    }
    match segments[..] {
        [] => Part::Nothing,
        [resource] | [resource, _] => absent.resource(&group_version, resource),
        [resource, _, part, ..] => absent.resource(&group_version, &format!("{resource}/{part}")),
    }
}

/// The schemas that paths lead to, directly or through others.
fn reached(from: &[&Value], schemas: &Value, root: &str) -> Value {
    let (mut names, mut open) = (BTreeSet::new(), from.to_vec());
    while let Some(value) = open.pop() {
        match value {
            Value::Object(members) => {
                open.extend(members.values());
                let name = members.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix(root));
                if let Some(name) = name.filter(|name| names.insert((*name).to_owned())) {
                    open.push(&schemas[name]);
                }
            }
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
    let all = members(schemas).iter();
    Value::Object(
        all.filter(|(name, _)| names.contains(*name)).map(|(name, value)| (name.clone(), value.clone())).collect(),
    )
}

/// Both have the same members, byte for byte.
fn same_members(place: &str, want: &Value, got: &Value) {
    let (want, got) = (members(want), members(got));
    for (name, value) in got {
        assert_eq!(value.to_string(), want.get(name).unwrap_or(&Value::Null).to_string(), "{place} {name}");
    }
    let missing: Vec<&String> = want.keys().filter(|name| !got.contains_key(*name)).collect();
    assert!(missing.is_empty(), "{place} lacks {missing:?}");
}

/// The members of an object; none where there is no object.
fn members(value: &Value) -> &Map<String, Value> {
    static NONE: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
    value.as_object().unwrap_or(&NONE)
}
