//! What is known to differ, and how it is told. `docs/compat/kube-apiserver.md` says it to users.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Answer;
use super::wire::{Case, Payload};

/// A difference that is there by decision, or because Go's or a library's own words are not worth having.
pub(super) struct Known {
    pub(super) what: &'static str,
    pub(super) applies: fn(&Case, &Answer, &Answer) -> bool,
}

/// One that is seen no more fails the test.
pub(super) const KNOWN: &[Known] = &[
    Known {
        what: "data of a ControllerRevision that is nested deeper than 128",
        applies: |case, want, got| {
            of_revision(case, want, got.status == 400) && got.text("message").ends_with(": nested deeper than 128")
        },
    },
    Known {
        what: "data of a ControllerRevision with numbers beyond all types",
        applies: |case, want, got| {
            of_revision(case, want, got.status == 400) && got.text("message").ends_with(": number out of range")
        },
    },
    Known {
        what: "data of a ControllerRevision that is no JSON, which only protobuf can bring",
        applies: |case, want, got| protobuf(case) && of_revision(case, want, got.status == 422) && want.status == 0,
    },
    Known {
        what: "data of a ControllerRevision with halves of surrogate pairs",
        applies: |case, want, got| of_revision(case, want, got.status == 201) && want.body.contains("\\ud800"),
    },
    Known {
        what: "managedFields in the refusal of a review's metadata",
        applies: |case, want, got| {
            case.target.contains("reviews")
                && (want.status, got.status) == (422, 422)
                && want.body.contains("\\\"managedFields\\\":[")
                && without_managed_fields(&want.body) == without_managed_fields(&got.body)
        },
    },
    Known {
        what: "a service without a name: the real server gives it an address first, and says that this failed",
        applies: |case, want, got| {
            case.target.contains("/services")
                && (want.status, got.status) == (422, 422)
                && want.text("message").contains("spec.parentRef.name: ")
                && got.text("message").contains("metadata.name: ")
        },
    },
    Known {
        what: "an empty capacity in a message",
        applies: |case, want, got| {
            case.sends("\"capacity\":{}")
                && want.body.replace("Unsupported value: {}", "Unsupported value: null") == got.body
        },
    },
    Known {
        what: "quantities beyond 29 digits",
        applies: |case, want, got| case.sends("1e40") && want.body.replace("10e39", &"9".repeat(29)) == got.body,
    },
    Known {
        what: "what is served, as discovery and OpenAPI tell it",
        applies: |case, want, got| {
            let path = case.target.split('?').next().unwrap_or_default();
            let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
            let document = matches!(
                parts.as_slice(),
                ["" | "api" | "apis" | "index.html"]
                    | ["openid" | "openapi" | ".well-known", ..]
                    | ["api" | "apis", _]
                    | ["apis", _, _]
            );
            let document = document || matches!(&*want.text("kind"), "APIGroup" | "APIGroupList" | "APIResourceList");
            document && want.status == 200 && same_but_for_the_body(want, got) && same_document(want, got)
        },
    },
    Known {
        what: "names of health checks",
        applies: |case, want, got| {
            let rest =
                |answer: &Answer| answer.body.lines().filter(|line| !line.starts_with("[+]")).collect::<String>();
            case.target.contains("verbose") && same_but_for_the_body(want, got) && rest(want) == rest(got)
        },
    },
    Known {
        what: "nodes: ours has one of its own",
        applies: |case, want, got| {
            case.target.split('?').next() == Some("/api/v1/nodes")
                && same_but_for_the_body(want, got)
                && want.body.len() < got.body.len()
        },
    },
    Known {
        what: "a library's words about control characters in YAML",
        applies: |case, want, got| {
            case.headers.iter().any(|(name, value)| name == "content-type" && value.starts_with(b"application/yaml"))
                && same_but_for_the_body(want, got)
                && want.text("message").contains("yaml: control characters are not allowed")
                && got.text("message").contains("yaml: body:")
        },
    },
    Known {
        what: "a head that is no HTTP: the words, and whether the connection is kept",
        applies: |case, want, got| {
            let wire = !matches!(case.payload, Payload::None | Payload::Sized(_));
            let told = want.body.starts_with("400 Bad Request") || (case.method == "HEAD" && want.status == 400);
            (got.status == 400 && got.body.trim().is_empty() && told)
                || (wire && want.status == got.status && wordless(&want.body) == got.body.trim_end())
        },
    },
    Known {
        what: "a transfer encoding or a version that nobody knows: 400 instead of 501 and 505",
        applies: |case, want, got| {
            let encoding = case.stratum == "transfer encoding" && want.status == 400;
            (encoding || matches!(want.status, 501 | 505)) && got.status == 400 && want.closed && got.closed
        },
    },
    Known {
        what: "HTTP/1.2 and later: no HTTP/1.1; HTTP/2 only where TLS has agreed on it",
        applies: |case, want, got| {
            case.stratum == "version" && matches!(want.status, 200 | 404) && matches!(got.status, 0 | 400) && got.closed
        },
    },
    Known {
        what: "a length beside chunks: counts for nothing, and ends the connection",
        applies: |case, _, got| case.stratum == "length and chunks" && got.closed && got.status < 400,
    },
    Known {
        what: "an end that comes too early, where the real server says one thing or another",
        applies: |case, want, got| {
            let ends = matches!(case.payload, Payload::Wire { ends: true, .. });
            ends && want.status != 201 && got.closed && matches!(got.status, 0 | 400 | 500)
        },
    },
    Known {
        what: "empty lines before a request",
        applies: |case, want, got| {
            let bare = |bytes: &[u8]| bytes.starts_with(b"\r\n") || bytes.ends_with(b"\r\n\r\n\r\n");
            let empty = matches!(&case.payload, Payload::Wire { bytes, .. } if bare(bytes));
            empty && want.closed && !got.closed && (want.status == 400 || want.body.contains("400 Bad Request"))
        },
    },
    Known {
        what: "targets that are no URI for hyper, or have a fragment",
        applies: |case, want, got| {
            case.stratum == "request line" && want.status == 404 && matches!(got.status, 200 | 400)
        },
    },
    Known {
        what: "a length of 2^64-1: as a head that is too large",
        applies: |case, want, got| case.stratum == "length" && (want.status, got.status) == (400, 431),
    },
    Known {
        what: "what is wrong with chunks, in Go's words",
        applies: |_, want, got| {
            (want.status, want.closed, got.status, got.closed) == (500, true, 500, true)
                && got.text("message") == "the request body could not be read"
        },
    },
    Known {
        what: "a space behind the size of a chunk",
        applies: |case, want, got| case.stratum == "size of a chunk" && want.status == 500 && got.status == 201,
    },
    Known {
        what: "trailers that are no headers",
        applies: |case, want, got| {
            case.stratum == "end of chunks" && want.status == 201 && got.status == 500 && got.closed
        },
    },
    Known {
        what: "heads beyond 64 KiB or 100 lines",
        applies: |case, _, got| {
            ["large head", "huge header"].contains(&case.stratum) && matches!(got.status, 414 | 431) && got.closed
        },
    },
    Known {
        what: "a header line that begins with a space",
        applies: |case, want, got| {
            let wire = case.stratum == "header line" && want.status == 200;
            (wire || case.headers.iter().any(|(name, _)| name.starts_with(' '))) && got.status == 400
        },
    },
    Known {
        what: "a Content-Type that is no text, where the body does not matter",
        applies: |case, want, got| {
            let odd = |(name, value): &(String, Vec<u8>)| name == "content-type" && !value.is_ascii();
            case.headers.iter().any(odd) && want.status == 415 && got.status < 300
        },
    },
    Known {
        what: "OpenAPI v3, which ours compresses",
        applies: |case, want, got| {
            let packed = got.headers.iter().any(|(name, value)| name == "content-encoding" && value == "gzip");
            packed && case.target.starts_with("/openapi/v3/") && (want.status, got.status) == (200, 200)
        },
    },
    Known {
        what: "protobuf, which ours passes over",
        applies: |_, want, got| {
            let told = |answer: &Answer, media_type: &str| {
                answer.headers.iter().any(|(name, value)| name == "content-type" && value.starts_with(media_type))
            };
            told(want, "application/vnd.kubernetes.protobuf")
                && told(got, "application/")
                && (want.status == got.status || got.status == 406)
                && want.closed == got.closed
        },
    },
    Known {
        what: "what no URL has in it, unescaped in a request line",
        applies: |case, want, got| {
            let fragment = case.target.contains('#') && got.status < 500;
            (fragment && (want.status >= 400 || case.target.contains("/watch/")))
                || (case.target.contains(['"', '<', '>', '`'])
                    && got.status == 400
                    && got.body.trim().is_empty()
                    && got.closed)
        },
    },
    Known {
        what: "a patch that upstream's code panics of",
        applies: |case, want, got| case.method == "PATCH" && want.status == 0 && got.status == 500,
    },
    Known {
        what: "patches that are nested deeper than 127",
        applies: |case, want, got| {
            case.method == "PATCH" && want.status != 0 && got.text("message").contains("levels of nested objects")
        },
    },
    Known {
        what: "the version of a new object that is only tried, which a real server tells as it was sent",
        applies: |case, want, got| {
            let rest = want.body.lines().filter(|line| !line.contains("\"resourceVersion\": ")).collect::<Vec<_>>();
            case.method == "POST" && case.target.contains("dryRun") && rest == got.body.lines().collect::<Vec<_>>()
        },
    },
    Known {
        what: "bytes in bodies that are no UTF-8, in messages",
        applies: |case, want, got| {
            let (told, ours) = (without_odd_bytes(want), without_odd_bytes(got));
            // They are three bytes each here, which may be too many.
            let longer = told.len() < want.body.len() && ours.contains("must be no more than");
            (protobuf(case) || case.method == "PATCH") && same_but_for_the_body(want, got) && (told == ours || longer)
        },
    },
    Known {
        what: "a list in protobuf where an object is wanted: what is wrong in it comes first",
        applies: |case, want, got| {
            let (told, ours) = (want.text("message"), got.text("message"));
            let start = told.find(" cannot be handled as a ").map_or("", |at| &told[..at]);
            let other = ours.ends_with(": unknown conversion") || ours.contains("no kind ");
            protobuf(case) && same_but_for_the_body(want, got) && ours.starts_with(start) && other
        },
    },
    Known {
        what: "what follows a # in a request line: not read",
        applies: |case, want, got| {
            let read = case.target.split_once('#').is_some_and(|(before, _)| before.starts_with("/api/v1/namespaces/"));
            read && want.status == 200 && matches!(got.status, 200 | 404) && want.text("kind").ends_with("List")
        },
    },
    Known {
        what: "more than twelve media types, which Go's sort puts into an order of its own",
        applies: |case, want, got| {
            let many =
                |(name, value): &(String, Vec<u8>)| name == "accept" && value.split(|byte| *byte == b',').count() > 12;
            case.headers.iter().any(many) && (want.status, got.status) == (200, 200)
        },
    },
    Known {
        what: "a pointer to the time zero, which only protobuf can bring: shown as null, and left out",
        applies: |case, want, got| {
            let untimed =
                |line: &&str| !(line.trim().starts_with('"') && line.trim_end_matches(',').ends_with("Time\": null"));
            let rest = |body: &str| {
                body.lines().filter(untimed).map(|line| line.trim_end_matches(',').to_owned()).collect::<Vec<_>>()
            };
            protobuf(case)
                && same_but_for_the_body(want, got)
                && want.status == 201
                && rest(&want.body) == rest(&got.body)
        },
    },
    Known {
        what: "bytes in URLs that are no UTF-8",
        applies: |case, want, got| {
            let broken = ["%ff", "%C3"].iter().any(|byte| case.target.contains(byte));
            let shown = ["\\\\xff", "\\\\xc3", "\\\\ufffd", "\\\\xef\\\\xbf\\\\xbd"];
            let plain = |body: &str| shown.iter().fold(body.to_owned(), |body, shown| body.replace(shown, "\u{fffd}"));
            broken && want.status == got.status && plain(&want.body) == plain(&got.body)
        },
    },
    Known {
        what: "selectors beyond 32 KiB, 256 requirements or 256 terms",
        applies: |_, _, got| {
            let message = got.text("message");
            got.status == 400
                && (message.contains("selector is longer than") || message.contains("selector has more than"))
        },
    },
];

/// Answers without what Go says behind a 400.
fn wordless(body: &str) -> String {
    let parts = body.split("\n\n").map(|part| part.split("400 Bad Request").next().unwrap_or_default().trim_end());
    parts.collect::<Vec<_>>().join("\n\n").trim_end().to_owned()
}

fn protobuf(case: &Case) -> bool {
    case.headers.iter().any(|(name, value)| name == "content-type" && value == b"application/vnd.kubernetes.protobuf")
}

/// An answer's message without the marks of bytes that are no text.
fn without_odd_bytes(answer: &Answer) -> String {
    let mut out = without_managed_fields(&answer.body).replace(r"\\ufffd", "").replace('\u{fffd}', "");
    let odd = |rest: &str| rest.as_bytes().get(3).is_some_and(|digit| b"89abcdef".contains(digit));
    while let Some(at) = out.match_indices(r"\\x").map(|(at, _)| at).find(|at| odd(&out[*at..])) {
        out.replace_range(at..at + 5, "");
    }
    out
}

/// Whether two answers have all but the body in common.
fn same_but_for_the_body(want: &Answer, got: &Answer) -> bool {
    (want.status, want.closed, &want.headers) == (got.status, got.closed, &got.headers)
}

/// Whether an answer is about data that the real server keeps as it came.
fn of_revision(case: &Case, want: &Answer, ours: bool) -> bool {
    case.method == "POST" && case.target.contains("/controllerrevisions") && matches!(want.status, 0 | 201) && ours
}

/// An answer without a member of objects that messages show.
fn without_managed_fields(body: &str) -> String {
    const MEMBER: &str = "\\\"managedFields\\\":[";
    let mut out = body.to_owned();
    while let Some(at) = out.find(MEMBER) {
        let (mut depth, start) = (1_usize, at + MEMBER.len());
        let end = out[start..].find(|c| {
            depth = if c == '[' { depth + 1 } else { depth - usize::from(c == ']') };
            depth == 0
        });
        out.replace_range(at..=start + end.unwrap(), "");
    }
    out.replace(",}", "}").replace("{,", "{")
}

/// Whether two documents have the same form: the members at the top, and what they say of themselves. `discovery` and
/// `openapi` have tests of their own.
fn same_document(want: &Answer, got: &Answer) -> bool {
    let top = |answer: &Answer| {
        let body: Value = serde_json::from_str(&answer.body).ok()?;
        let names: BTreeSet<String> = body.as_object()?.keys().cloned().collect();
        Some((
            names,
            ["kind", "apiVersion", "groupVersion", "name", "openapi", "swagger"].map(|name| body[name].clone()),
        ))
    };
    match (top(want), top(got)) {
        (Some(want), Some(got)) => want == got,
        (None, None) => want.body.is_empty() == got.body.is_empty(),
        _ => false,
    }
}
