//! Our answer to a case, in the oracle's terms.

use portcullis_patch::{Answer, FieldValidation, JsonPatch, MergePatch, PatchText, StrategicPatch, document_text};
use serde_json::{Map, Value};

use crate::oracle::{Case, Op, Outcome};
use crate::types::TYPES;

/// What we make of a case.
pub(crate) fn answer(case: &Case) -> Outcome {
    let validation = if case.report { FieldValidation::Report } else { FieldValidation::Ignore };
    let text = match PatchText::check(&case.patch) {
        Ok(text) => text,
        Err(error) => return refused(error.answer(), error.to_string()),
    };
    let done = |result: Vec<u8>, findings: &[String], left: String| Outcome {
        class: "ok".to_owned(),
        result,
        left,
        findings: findings.to_vec(),
        ..Outcome::default()
    };
    match case.op {
        Op::Json => {
            let patch = JsonPatch::decode(text, validation);
            let applied = patch.and_then(|patch| Ok((patch.apply(&case.document)?, patch.findings().to_vec())));
            match applied {
                Ok((result, findings)) => done(result, &findings, String::new()),
                Err(error) => refused(error.answer(), error.to_string()),
            }
        }
        Op::Merge => {
            let patch = MergePatch::decode(text, validation);
            let applied = patch.and_then(|patch| Ok((patch.apply(&case.document)?, patch.findings().to_vec())));
            match applied {
                Ok((result, findings)) => done(result, &findings, String::new()),
                Err(error) => refused(error.answer(), error.to_string()),
            }
        }
        Op::Strategic => {
            let original: Map<String, Value> =
                serde_json::from_slice(&case.document).expect("the document is an object");
            let patch = StrategicPatch::decode(text, validation);
            let schema = TYPES.of_kind(case.kind);
            let applied = patch.and_then(|patch| Ok((patch.apply(original, &schema)?, patch.findings().to_vec())));
            match applied {
                Ok((merged, findings)) => {
                    let left = merged.left();
                    let mut result = Value::Object(merged.members);
                    result.sort_all_objects();
                    done(document_text(&result), &findings, left)
                }
                Err(error) => refused(error.answer(), error.to_string()),
            }
        }
    }
}

fn refused(answer: Answer, text: String) -> Outcome {
    let class = match answer {
        Answer::BadRequest => "bad",
        Answer::TooLarge => "large",
        Answer::Invalid => "unprocessable",
        Answer::Failure => "failure",
        Answer::Crash => "crash",
    };
    Outcome { class: class.to_owned(), text, ..Outcome::default() }
}
