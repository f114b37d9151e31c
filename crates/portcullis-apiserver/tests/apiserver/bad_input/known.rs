//! What is known to differ, and how it is told. `docs/compat/kube-apiserver.md` says it to users.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Answer;
use super::wire::Case;

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
        what: "a body that calls itself a Status: what is wrong in it as one comes first",
        applies: |case, want, got| {
            let says = |answer: &Answer| {
                answer.text("message").starts_with("Status in version \"v1\" cannot be handled as a ")
            };
            case.sends("\"kind\":\"Status\"") && same_but_for_the_body(want, got) && says(want) && says(got)
        },
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
                && want.text("message").contains("spec.parentRef.name: Required value")
                && got.text("message").contains("metadata.name: Required value")
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
            case.headers.iter().any(|(name, value)| name == "content-type" && value.ends_with(b"yaml"))
                && same_but_for_the_body(want, got)
                && want.text("message").contains("yaml: control characters are not allowed")
                && got.text("message").contains("yaml: body:")
        },
    },
    Known {
        what: "a head that is no HTTP: the words",
        applies: |_, want, got| {
            let words = want.body.trim().is_empty() || want.body.starts_with("400 Bad Request");
            want.status == 400 && got.status == 400 && got.body.trim().is_empty() && words
        },
    },
    Known {
        what: "a header line that begins with a space",
        applies: |case, _, got| case.headers.iter().any(|(name, _)| name.starts_with(' ')) && got.status == 400,
    },
    Known {
        what: "Accept and Content-Type that are no text, where the body does not matter",
        applies: |case, want, got| {
            let odd = |(name, value): &(String, Vec<u8>)| {
                matches!(name.as_str(), "accept" | "content-type") && !value.is_ascii()
            };
            case.headers.iter().any(odd) && matches!(want.status, 406 | 415) && got.status < 300
        },
    },
    Known {
        what: "a Host that is no host",
        applies: |case, want, got| {
            let host = case.headers.iter().any(|(name, _)| name == "host");
            host && want.status == 400 && got.status < 300
        },
    },
    Known {
        what: "what no URL has in it, unescaped in a request line",
        applies: |case, _, got| {
            case.target.contains('#')
                || (case.target.contains(['"', '<', '>', '`'])
                    && got.status == 400
                    && got.body.trim().is_empty()
                    && got.closed)
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
    Known { what: "an expectation that nobody knows", applies: |_, want, got| want.status == 417 && got.status < 300 },
];

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
