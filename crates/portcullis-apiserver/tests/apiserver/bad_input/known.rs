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
];

/// A message about a wrong type without the type's Go name and the number's digits.
fn plain(message: &str) -> Option<String> {
    let (before, after) = message.split_once("cannot unmarshal ")?;
    let (found, place) = after.split_once(" into Go ")?;
    let (place, _) = place.split_once(" of type ")?;
    Some(format!("{before}{} {place}", found.split(' ').next()?))
}
