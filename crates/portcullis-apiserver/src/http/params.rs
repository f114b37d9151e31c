//! Query parameters, read as Kubernetes reads them.
//!
//! Compat: conversions follow `apimachinery/pkg/runtime/conversion.go` (a boolean that is neither true nor false is
//! true) and the option validations of `apis/meta/v1/validation` and `internalversion/validation`.

use portcullis_kube::field::FieldError;
use portcullis_kube::query::is_false;
use portcullis_kube::{Query, Status, go};

use super::Outcome;

/// The parameters of a request: the same that it was authorized by.
#[derive(Debug, Default)]
pub(crate) struct Params(Query);

impl Params {
    /// Reads the text after `?`.
    pub(crate) fn parse(query: &str) -> Self {
        Self(Query::parse(query))
    }

    /// What they were read from.
    pub(crate) fn query(&self) -> &Query {
        &self.0
    }

    /// The first value; empty when absent.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.first(name).unwrap_or_default()
    }

    /// Every value.
    pub(crate) fn all<'p>(&'p self, name: &'p str) -> impl Iterator<Item = &'p str> {
        self.0.all(name)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.first(name).is_some()
    }

    /// Whether a boolean parameter is there and not false.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.has(name) && !is_false(self.get(name))
    }

    /// A whole number; `None` when absent.
    pub(crate) fn number(&self, name: &str) -> Outcome<Option<i64>> {
        if !self.has(name) {
            return Ok(None);
        }
        let text = self.get(name);
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        let number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        text.parse().map(Some).map_err(|_| {
            let why = if number { "value out of range" } else { "invalid syntax" };
            let quoted = go::quote(text);
            Box::new(Status::bad_request(format!("strconv.ParseInt: parsing {quoted}: {why}")))
        })
    }
}

/// What the server does with fields that a kind does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

/// Options of a write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    pub(crate) field_validation: FieldValidation,
}

impl WriteOptions {
    /// Reads them for `kind`: `CreateOptions`, `UpdateOptions` or `PatchOptions`.
    pub(crate) fn parse(params: &Params, kind: &str) -> Outcome<Self> {
        Self::read(params, kind, Vec::new())
    }

    /// Reads those of a patch. Compat: `force` belongs to server-side apply.
    pub(crate) fn of_patch(params: &Params) -> Outcome<Self> {
        let mut wrong = Vec::new();
        if params.has("force") {
            wrong.push(FieldError::forbidden("force", "may not be specified for non-apply patch"));
        }
        Self::read(params, "PatchOptions", wrong)
    }

    fn read(params: &Params, kind: &str, mut wrong: Vec<FieldError>) -> Outcome<Self> {
        let manager = params.get("fieldManager");
        if manager.len() > 128 {
            wrong.push(FieldError::too_long("fieldManager", 128));
        }
        for (at, odd) in manager.char_indices().filter(|(_, c)| !go::is_print(*c)) {
            let why = format!("invalid character U+{:04X} (at position {at})", u32::from(odd));
            wrong.push(FieldError::invalid("fieldManager", manager, why));
        }
        let dry_run = dry_run(params, &mut wrong);
        let field_validation = match params.get("fieldValidation") {
            "Ignore" => FieldValidation::Ignore,
            "" | "Warn" => FieldValidation::Warn,
            "Strict" => FieldValidation::Strict,
            other => {
                wrong.push(FieldError::not_supported("fieldValidation", other, &["", "Ignore", "Strict", "Warn"]));
                FieldValidation::Strict
            }
        };
        invalid(kind, &wrong)?;
        Ok(Self { dry_run, field_validation })
    }
}

/// `dryRun`: only `All` is known.
pub(crate) fn dry_run(params: &Params, wrong: &mut Vec<FieldError>) -> bool {
    let values: Vec<&str> = params.all("dryRun").collect();
    check_dry_run(&values, wrong)
}

pub(crate) fn check_dry_run(values: &[&str], wrong: &mut Vec<FieldError>) -> bool {
    if values.iter().any(|value| *value != "All") {
        let mut error = FieldError::not_supported("dryRun", "", &["All"]);
        error.value = String::from_utf8(crate::json::to_vec(values)).ok();
        wrong.push(error);
    }
    !values.is_empty()
}

/// The 422 of options, when something is wrong with them.
pub(crate) fn invalid(kind: &str, wrong: &[FieldError]) -> Outcome<()> {
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Box::new(Status::invalid("meta.k8s.io", kind, "", wrong)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_true_unless_they_say_no() {
        for (query, want) in [
            ("", false),
            ("watch=0", false),
            ("watch=False", false),
            ("watch=fal%C5%BFe", false),
            ("watch=1", true),
            ("watch=", true),
            ("watch=maybe", true),
        ] {
            assert_eq!(Params::parse(query).flag("watch"), want, "{query}");
        }
    }

    #[test]
    fn bad_options_read_as_the_real_server_words_them() {
        let error = |query: &str| WriteOptions::parse(&Params::parse(query), "CreateOptions").err().unwrap().message;
        assert_eq!(
            error("dryRun=Some"),
            "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"Some\"]: supported values: \"All\""
        );
        assert_eq!(
            error("fieldValidation=Odd"),
            "CreateOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \"Odd\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\""
        );
        let number = Params::parse("limit=abc").number("limit").unwrap_err();
        assert_eq!(number.message, "strconv.ParseInt: parsing \"abc\": invalid syntax");
        assert!(WriteOptions::parse(&Params::parse("dryRun=All"), "CreateOptions").unwrap().dry_run);
    }
}
