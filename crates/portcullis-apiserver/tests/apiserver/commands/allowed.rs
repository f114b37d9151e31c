//! What is known to differ, and why; `docs/compat/kube-apiserver.md` says it to users. Whatever no longer differs fails the
//! test.

use super::side::Outcome;

/// A difference that lines of many themes share.
pub(super) struct Rule {
    pub(super) name: &'static str,
    pub(super) why: &'static str,
    /// Makes what the real server's side (`true`) or ours did into what both have in common.
    pub(super) level: fn(&mut Outcome, bool),
}

/// Rules, tried one after another where a line differs.
pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "answers in JSON",
        why: "kubectl's typed commands take protobuf or JSON; ours answers in JSON",
        level: |outcome, _| {
            for line in &mut outcome.traffic {
                *line = line.replace("application/vnd.kubernetes.protobuf;stream=watch", "application/json");
                *line = line.replace("application/vnd.kubernetes.protobuf", "application/json");
            }
        },
    },
    Rule {
        name: "events that say that nothing acts",
        why: "nothing runs users' pods or acts on workloads, and an event says so",
        level: |outcome, _| outcome.stdout = without_events(&outcome.stdout),
    },
    Rule {
        name: "the condition that says that nothing runs a pod",
        why: "no scheduler and no kubelet: ours says on the pod why it stays Pending",
        level: |outcome, _| outcome.stdout = blanks(&once_pending(&without_condition(&outcome.stdout))),
    },
    Rule {
        name: "diffs of what may not change",
        why: "ours says what may not change, and not how it was changed",
        level: |outcome, _| outcome.stderr = without_diff(&outcome.stderr),
    },
    Rule {
        name: "managed fields",
        why: "they belong to server-side apply, and ours never writes them",
        level: |outcome, _| {
            outcome.stdout = without_managed_fields(&outcome.stdout);
            outcome.stderr = without_managed_fields(&outcome.stderr);
        },
    },
    Rule {
        name: "kinds that are not served",
        why: "some groups and kinds are absent from discovery, so kubectl does not ask for them",
        level: without_unserved,
    },
    Rule {
        name: "deletion waits for the garbage collector",
        why: "ours lets objects go within milliseconds; upstream's controller takes longer, so kubectl begins to wait",
        level: |outcome, _| without_waiting(&mut outcome.traffic),
    },
];

/// Differences that one line alone has. What each does to the real server's side makes it ours, to the letter.
pub(super) const LINES: &[Rule] = &[
    Rule {
        name: "basics/endpointslices",
        why: "a kube-apiserver that listens on loopback publishes no endpoints of its own; ours shows them",
        level: |outcome, real| {
            if real && outcome.stderr == "No resources found in default namespace.\n" && outcome.stdout.is_empty() {
                outcome.stderr.clear();
                outcome.stdout =
                    "NAME  ADDRESSTYPE  PORTS  ENDPOINTS  AGE\nkubernetes  IPv4  PORT  127.0.0.1  AGE\n".to_owned();
            }
        },
    },
    Rule {
        name: "apply/server-side",
        why: "server-side apply is not served; kubectl says so",
        level: |outcome, real| {
            if real && (outcome.code.as_str(), outcome.stdout.as_str()) == ("0", "configmap/saved serverside-applied\n")
            {
                outcome.code = "1".to_owned();
                outcome.stdout.clear();
                outcome.stderr = NO_SERVER_SIDE_APPLY.to_owned();
                // The first patch is the last request.
                let patch = outcome.traffic.iter().position(|line| line.starts_with("PATCH ")).unwrap();
                outcome.traffic.truncate(patch + 1);
                outcome.traffic[patch] = outcome.traffic[patch].replace("-> 200", "-> 415");
            }
        },
    },
];

const NO_SERVER_SIDE_APPLY: &str = "error: Server-side apply not available on the server: (the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json)\n";

/// Groups with their versions that the real server serves and ours does not.
const GROUPS: &[&str] = &[
    "admissionregistration.k8s.io/v1",
    "apiregistration.k8s.io/v1",
    "flowcontrol.apiserver.k8s.io/v1",
    "node.k8s.io/v1",
    "resource.k8s.io/v1",
    "storagemigration.k8s.io/v1",
];
/// Resources of groups that ours serves in part, and names in the form `-o name` prints.
const RESOURCES: &[&str] = &[
    "clustertrustbundles",
    "componentstatuses",
    "csidrivers",
    "csinodes",
    "csistoragecapacities",
    "ipaddresses",
    "podcertificaterequests",
    "servicecidrs",
    "volumeattachments",
    "volumeattributesclasses",
];
/// Kinds that kubectl asks for by itself when they are served.
const ASKED: &[&str] = &["resourceslices"];

/// The real side without what it says of kinds that ours does not serve. What ours says of them stays, so that the lists
/// above are kept true.
fn without_unserved(outcome: &mut Outcome, real: bool) {
    outcome.traffic.retain(|line| !ASKED.iter().any(|kind| line.contains(&format!("/{kind}"))));
    if real {
        let served = |line: &&str| {
            let mut words = line.split_whitespace();
            let named = words.clone().next().is_some_and(|first| RESOURCES.contains(&first));
            !named && !words.any(|word| GROUPS.contains(&word))
        };
        outcome.stdout = lines(outcome.stdout.lines().filter(served));
        let asked = |line: &&str| !ASKED.iter().any(|kind| line.contains(kind));
        outcome.stderr = lines(outcome.stderr.lines().filter(asked));
    } else {
        (outcome.stdout, outcome.stderr) = (lines(outcome.stdout.lines()), lines(outcome.stderr.lines()));
    }
    outcome.stdout = blanks(&outcome.stdout);
}

/// Requests without those by which kubectl sees whether what it deleted has gone.
fn without_waiting(traffic: &mut Vec<String>) {
    let deleted: Vec<String> = traffic
        .iter()
        .filter_map(|line| Some(line.strip_prefix("DELETE ")?.split([' ', '?']).next()?.to_owned()))
        .collect();
    traffic.retain(|line| {
        !deleted.iter().any(|path| {
            let (collection, name) = path.rsplit_once('/').unwrap_or_default();
            let asked = line.starts_with(&format!("GET {path} -> "));
            let watched = line.starts_with(&format!("GET {collection}?"))
                && line.contains(&format!("fieldSelector=metadata.name%3D{name}&"))
                && line.contains("watch=true");
            asked || watched
        })
    });
}

/// YAML and JSON without `metadata.managedFields`, be the JSON a value inside another or not.
fn without_managed_fields(text: &str) -> String {
    let mut out: Vec<String> = Vec::new();
    let mut rest = text.lines().peekable();
    while let Some(line) = rest.next() {
        let bare = line.trim_start();
        let indent = line.len() - bare.len();
        if bare != "managedFields:" {
            out.push(compact(line));
            continue;
        }
        let inside = |line: &&str| {
            let bare = line.trim_start();
            line.len() - bare.len() > indent || (line.len() - bare.len() == indent && bare.starts_with('-'))
        };
        while rest.next_if(inside).is_some() {}
    }
    lines(out.iter().map(String::as_str))
}

/// A line without members `managedFields` of JSON.
fn compact(line: &str) -> String {
    let mut out = line.to_owned();
    for quote in ["\"", "\\\"", "\\\\\\\""] {
        let member = format!(",{quote}managedFields{quote}:[");
        while let Some(start) = out.find(&member) {
            let mut depth = 1_usize;
            let after = start + member.len();
            let end = out[after..].bytes().position(|byte| {
                match byte {
                    b'[' => depth += 1,
                    b']' => depth -= 1,
                    _ => {}
                }
                depth == 0
            });
            let Some(end) = end else { break };
            out.replace_range(start..=after + end, "");
        }
    }
    out
}

/// A table's columns are as wide as what stands in them, and what goes on in a column is as far in.
fn blanks(text: &str) -> String {
    lines(text.lines().map(|line| {
        let bare = line.trim_start();
        format!("{}{}", " ".repeat((line.len() - bare.len()).min(12)), super::scrub::columns(bare))
    }))
}

fn lines<T: AsRef<str>>(lines: impl Iterator<Item = T>) -> String {
    lines.map(|line| line.as_ref().to_owned() + "\n").collect()
}

/// The part of a description about events without those by which ours says that nothing acts on an object.
fn without_events(text: &str) -> String {
    const REASONS: [&str; 2] = ["NoController", "FailedScheduling"];
    let mut out: Vec<&str> = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if !line.starts_with("Events:") {
            out.push(line);
            continue;
        }
        let mut events = Vec::new();
        while let Some(event) = lines.next_if(|line| line.starts_with("  ")) {
            if !REASONS.iter().any(|reason| event.split_whitespace().nth(1) == Some(reason)) {
                events.push(event);
            }
        }
        // Two lines of heading; a description of nothing else says so in one.
        out.push(if events.len() > 2 { "Events:" } else { "Events: <none>" });
        out.extend(events.iter().skip(2));
    }
    out.join("\n")
}

/// What is said, without lines of a diff.
fn without_diff(text: &str) -> String {
    let mut inside = false;
    lines(text.lines().filter(|line| {
        inside = line.starts_with("@@ ") || (inside && line.starts_with(['+', '-', ' ']));
        !inside
    }))
}

/// A table in which a pod that waits is not shown again because it was given that condition.
fn once_pending(text: &str) -> String {
    let mut shown: Vec<&str> = text.lines().collect();
    shown.dedup_by(|line, before| line == before && line.contains(" Pending "));
    shown.join("\n")
}

/// An object or a description without `PodScheduled=False`.
fn without_condition(text: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let bare = line.trim_start();
        if !["conditions:", "\"conditions\":", "Conditions:"].iter().any(|name| bare.starts_with(name)) {
            out.push(line);
            continue;
        }
        let indent = line.len() - bare.len();
        let inside = |line: &&str| {
            let bare = line.trim_start();
            let ends = bare.starts_with(['-', ']', '}']);
            line.len() - bare.len() > indent || (ends && line.len() - bare.len() == indent)
        };
        let mut block = vec![line];
        while let Some(more) = lines.next_if(inside) {
            block.push(more);
            if more.trim_start().starts_with([']', '}']) && more.len() - more.trim_start().len() == indent {
                break;
            }
        }
        let ours =
            |line: &&str| line.contains("Unschedulable") || line.split_whitespace().eq(["PodScheduled", "False"]);
        if !block.iter().any(ours) {
            out.extend(block);
        }
    }
    out.join("\n")
}
