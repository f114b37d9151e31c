//! What is known to differ, and how it is told. `docs/compat/kube-apiserver.md` says it to users.

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
        what: "bodies nested deeper than 128",
        applies: |_, _, got| got.text("message").contains("recursion limit exceeded"),
    },
    Known {
        what: "managedFields in the refusal of a review's metadata",
        applies: |_, want, got| {
            want.status == 422
                && got.status == 422
                && want.text("message").contains("\"managedFields\":[")
                && got.text("message").contains("must be empty")
        },
    },
    Known {
        what: "names of Go's types, and how a number was written, in messages about wrong types",
        applies: |_, want, got| {
            want.status == 400
                && got.status == 400
                && plain(&want.text("message")).is_some_and(|text| Some(text) == plain(&got.text("message")))
        },
    },
    Known {
        what: "a service without a name: the real server gives it an address first, and says that this failed",
        applies: |_, want, got| {
            want.text("message").contains("spec.parentRef.name: Required value")
                && got.text("message").contains("metadata.name: Required value")
        },
    },
    Known {
        what: "a LimitRange without a name is called by its id",
        applies: |case, want, got| {
            case.target.contains("/limitranges")
                && want.status == 201
                && got.text("message").contains("metadata.name: Required value")
        },
    },
    Known {
        what: "what else is wrong in a body of another kind or version",
        applies: |case, want, got| {
            case.stratum == "kind" && want.status == got.status && want.closed == got.closed && want.status == 400
        },
    },
    Known {
        what: "quantities beyond 64 bits",
        applies: |_, want, got| {
            want.status == got.status
                && (got.body.contains("9223372036854775807")
                    || want.body.contains("\\\"100E\\\"")
                    || want.body.contains("\"100E\""))
        },
    },
    Known {
        what: "-0 where a whole number stands",
        applies: |case, want, got| case.sends(":-0}") && want.status == 422 && got.status == 400,
    },
    Known {
        what: "a member that comes twice, the second time as null",
        applies: |case, want, got| case.sends("\"name\":null") && want.status == 201 && got.status == 422,
    },
    Known {
        what: "numbers beyond all types",
        applies: |_, want, got| {
            (400..500).contains(&want.status) && got.text("message").contains("number out of range")
        },
    },
    Known {
        what: "how a number is quoted that stands for a quantity",
        applies: |_, want, got| {
            let bare = |answer: &Answer| answer.text("message").replace('"', "");
            want.status == 422 && got.status == 422 && bare(want) == bare(got)
        },
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
            document && same_but_for_the_body(want, got) && want.status == 200
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
            case.target.split('?').next() == Some("/api/v1/nodes") && same_but_for_the_body(want, got)
        },
    },
    Known {
        what: "a library's words about control characters in YAML",
        applies: |_, want, got| {
            (want.status, &want.headers) == (got.status, &got.headers)
                && want.text("message").contains("yaml: control characters are not allowed")
                && got.text("message").contains("yaml: body:")
        },
    },
    Known {
        what: "a head that is no HTTP: the words, and whether the connection is kept",
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

/// A message about a wrong type without the type's Go name and the number's digits.
fn plain(message: &str) -> Option<String> {
    let (before, after) = message.split_once("cannot unmarshal ")?;
    let (found, place) = after.split_once(" into Go ")?;
    let (place, _) = place.split_once(" of type ")?;
    Some(format!("{before}{} {place}", found.split(' ').next()?))
}
