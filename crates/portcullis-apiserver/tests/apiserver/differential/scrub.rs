//! Takes out of answers what no two servers have in common.

use serde_json::Value;

/// Ids, versions and times out; one JSON value a line.
pub(crate) fn body(body: &str, base: &str) -> String {
    let lines = body.lines().map(|line| match serde_json::from_str::<Value>(line) {
        Ok(mut value) => {
            scrub(&mut value);
            value.to_string()
        }
        Err(_) => line.to_owned(),
    });
    let whole = match serde_json::from_str::<Value>(body) {
        Ok(mut value) => {
            scrub(&mut value);
            serde_json::to_string_pretty(&value).unwrap()
        }
        Err(_) => lines.collect::<Vec<_>>().join("\n"),
    };
    let host = base.trim_start_matches("https://");
    let port = host.rsplit(':').next().unwrap_or_default();
    text(&whole.replace(host, "HOST").replace(&format!(": {port}"), ": PORT"))
}

/// Drawn ends of names that begin with a stem out.
pub(crate) fn drawn(text: &str, stem: &str) -> String {
    const LETTERS: &str = "bcdfghjklmnpqrstvwxz2456789";
    let mut parts = text.split(stem);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let end = part.get(..5).filter(|end| end.chars().all(|letter| LETTERS.contains(letter)));
        text + stem + part.get(end.map_or(0, str::len)..).unwrap_or_default()
    })
}

/// The end of what is told of a pod that may not change so.
const PODS_MAY_NOT: &str = "(allow it to be set to 1 if it was previously negative)";

fn scrub(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.shift_remove("managedFields");
            if let Some(stem) = members.get("object").and_then(|object| object["metadata"]["generateName"].as_str())
                && let stem = Value::from(stem)
                && let Some(name) = members.get_mut("cells").and_then(|cells| cells.get_mut(0))
            {
                *name = stem;
            }
            // Ours says why nothing runs a user's pod.
            if members.get("conditions").and_then(Value::as_array).is_some_and(|list| matches!(list.as_slice(), [only] if only.get("reason").is_some_and(|reason| reason == "Unschedulable"))) {
                members.shift_remove("conditions");
            }
            if members.contains_key("aggregationRule") {
                // Without a controller manager the real server leaves these empty.
                members.shift_remove("rules");
            }
            if let (Some(stem), Some(name)) = (members.get("generateName"), members.get("name"))
                && name.as_str().is_some_and(|name| name.starts_with(stem.as_str().unwrap_or_default()))
            {
                let stem = stem.clone();
                // A namespace has its name as a label too.
                if let Some(label) =
                    members.get_mut("labels").and_then(|labels| labels.get_mut("kubernetes.io/metadata.name"))
                {
                    label.clone_from(&stem);
                }
                members.insert("name".to_owned(), stem);
            }
            for (key, value) in members.iter_mut() {
                let scrubbed = match key.as_str() {
                    "uid"
                    | "resourceVersion"
                    | "continue"
                    | "creationTimestamp"
                    | "deletionTimestamp"
                    | "lastPhaseTransitionTime"
                    | "lastTransitionTime"
                    | "description"
                    | "kubernetes.io/description"
                    | "ca.crt"
                    | "gitVersion"
                    | "gitCommit"
                    | "goVersion"
                    | "compiler"
                    | "platform" => value.is_string(),
                    // Those that were asked for lie below those that are given.
                    "nodePort" | "healthCheckNodePort" => value.as_i64().is_some_and(|port| port >= 30_086),
                    // Which of several bindings gives the reason depends on the real server's cache.
                    "reason" => value.as_str().is_some_and(|reason| reason.starts_with("RBAC: allowed by")),
                    "resourceRules" | "nonResourceRules" => {
                        if let Some(rules) = value.as_array_mut() {
                            rules.sort_by_key(ToString::to_string);
                        }
                        false
                    }
                    "cells" => {
                        scrub_cells(value);
                        false
                    }
                    _ => false,
                };
                if scrubbed {
                    *value = Value::from("-");
                }
                scrub(value);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(scrub),
        Value::String(text) if text.contains(TOKEN_VOLUME) && !text.contains("Invalid value: \"{\\\"") => {
            *text = token_volumes(text)
        }
        // What differs follows, in Go's notation.
        Value::String(text) if text.contains(PODS_MAY_NOT) => {
            let end = text.find(PODS_MAY_NOT).unwrap() + PODS_MAY_NOT.len();
            text.truncate(end);
        }
        Value::String(text) if given_address(text) => "(an address)".clone_into(text),
        Value::String(text) if text.contains("Invalid value: \"{\\\"") => *text = token_volumes(&shown_object(text)),
        _ => {}
    }
}

/// Beginning of a volume's name whose end is drawn.
const TOKEN_VOLUME: &str = "kube-api-access-";

/// Drawn ends of names of volumes out.
fn token_volumes(text: &str) -> String {
    let mut parts = text.split(TOKEN_VOLUME);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + TOKEN_VOLUME + "-----" + part.get(5..).unwrap_or_default())
}

/// Ids, versions, times and managed fields out of an object that a message shows in quotes.
fn shown_object(text: &str) -> String {
    let mut text = text.to_owned();
    while let Some(at) = text.find(r#"\"managedFields\":["#) {
        let mut level = 0_usize;
        let length = text[at..].find(|c| {
            level = if c == '[' { level + 1 } else { level - usize::from(c == ']') };
            c == ']' && level == 0
        });
        let end = at + length.unwrap() + 1;
        match text[end..].strip_prefix(',') {
            Some(_) => text.replace_range(at..=end, ""),
            None => text.replace_range(at - 1..end, ""),
        }
    }
    for name in ["uid", "resourceVersion", "creationTimestamp", "deletionTimestamp"] {
        let head = format!(r#"\"{name}\":\""#);
        let parts: Vec<&str> = text.split(&head).collect();
        let rest = parts[1..].iter().map(|part| format!("{head}-{}", &part[part.find('\\').unwrap()..]));
        text = parts[0].to_owned() + &rest.collect::<String>();
    }
    text
}

/// Whether a cluster address was given and not asked for: those that are asked for lie at the beginning of the range.
fn given_address(text: &str) -> bool {
    text.parse::<std::net::Ipv4Addr>().is_ok_and(|address| {
        let [first, second, third, _] = address.octets();
        first == 10 && (96..112).contains(&second) && (second, third) != (96, 0)
    })
}

fn scrub_cells(cells: &mut Value) {
    for cell in cells.as_array_mut().into_iter().flatten() {
        let text = cell.as_str().unwrap_or_default();
        let age = is_age(text);
        let event = text
            .rsplit_once('.')
            .is_some_and(|(_, hash)| hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()));
        if age || event || (text.ends_with('Z') && text.contains('T')) {
            *cell = Value::from("-");
        } else if let Some(shown) = ports(text) {
            *cell = Value::from(shown);
        }
    }
}

/// Whether it is an age as tables show it: `5s`, `5m`, `2m10s`, `3d`.
pub(crate) fn is_age(word: &str) -> bool {
    let mut parts = 0;
    let mut rest = word;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let Some(unit) = rest[digits..].chars().next().filter(|unit| digits > 0 && "smhdy".contains(*unit)) else {
            return false;
        };
        (parts, rest) = (parts + 1, &rest[digits + unit.len_utf8()..]);
    }
    parts > 0
}

/// Ports of a service without the node ports that were given.
fn ports(text: &str) -> Option<String> {
    let parts: Vec<String> = text
        .split(',')
        .map(|part| {
            let (port, rest) = part.split_once(':')?;
            let (node, protocol) = rest.split_once('/')?;
            let given = port.parse::<u16>().is_ok() && node.parse::<u16>().is_ok_and(|node| node >= 30_086);
            Some(if given { format!("{port}:-/{protocol}") } else { part.to_owned() })
        })
        .collect::<Option<_>>()?;
    Some(parts.join(","))
}

/// Ids and versions inside texts out.
fn ids(text: &str) -> String {
    const PARTS: [usize; 5] = [8, 4, 4, 4, 12];
    let is_id = |word: &str| {
        let parts: Vec<&str> = word.split('-').collect();
        parts.len() == PARTS.len()
            && parts
                .iter()
                .zip(PARTS)
                .all(|(part, length)| part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    let mut out = String::with_capacity(text.len());
    let mut word = String::new();
    for character in text.chars().chain(['\n']) {
        if character.is_ascii_hexdigit() || character == '-' {
            word.push(character);
            continue;
        }
        let version = (out.ends_with("in record (") || out.ends_with("in object meta: "))
            && word.bytes().all(|byte| byte.is_ascii_digit());
        out.push_str(if is_id(&word) {
            "ID"
        } else if version {
            "N"
        } else {
            &word
        });
        word.clear();
        out.push(character);
    }
    out
}

/// What stands inside messages and YAML.
fn text(text: &str) -> String {
    let managed = text.lines().scan(false, |inside, line| {
        *inside =
            line.starts_with("  managedFields:") || (*inside && (line.starts_with("  -") || line.starts_with("   ")));
        Some((!*inside).then_some(line))
    });
    let lines = managed.flatten().map(|line| {
        let key = line.trim_start().split(':').next().unwrap_or_default();
        let yaml = ["uid", "resourceVersion", "creationTimestamp"].contains(&key);
        let line = if yaml { format!("{key}: -") } else { line.to_owned() };
        match line.find("current: ") {
            Some(at) => {
                format!("{}current: N{}", &line[..at], line[at + 9..].trim_start_matches(|c: char| c.is_ascii_digit()))
            }
            None => line,
        }
    });
    let joined = ids(&lines.collect::<Vec<_>>().join("\n"));
    let mut parts = joined.split("X509SHA256=");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + "X509SHA256=-" + &part[64..])
}
