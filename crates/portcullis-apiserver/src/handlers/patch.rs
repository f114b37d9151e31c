//! PATCH of objects and of their parts: JSON patch, merge patch, strategic merge patch.
//!
//! Flow: media type → options → is it JSON → is the object there → decode → (apply → read the result → names and namespace
//! → store, as `write` does), again when another write came between.
//!
//! Compat: `apiserver/pkg/endpoints/handlers/patch.go`. Server-side apply is refused as by a server that has it switched off.

use portcullis_kube::Status;
use portcullis_kube::status::StatusDetails;
use portcullis_patch::{
    Answer, FieldValidation as Reporting, JsonPatch, JsonPatchError, MergePatch, MergePatchError, PatchText,
    StrategicError, StrategicPatch, TextError,
};

use super::{Asked, store_error, write};
use crate::engine::Engine;
use crate::http::body::{Decoded, Expected};
use crate::http::params::{FieldValidation, WriteOptions};
use crate::http::reply::Reply;
use crate::http::{Call, Outcome, patched};
use crate::schema::patch::PatchType;
use crate::store::StoreError;
use crate::store::object::Object;

const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const STRATEGIC_MERGE_PATCH: &str = "application/strategic-merge-patch+json";
/// Server-side apply: the real server's router knows it.
const APPLY_PATCH: &str = "application/apply-patch+yaml";
/// What a patch may be written in.
const MEDIA_TYPES: [&str; 3] = [JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH];

/// A patch, decoded.
enum Patch<'a> {
    Json(JsonPatch<'a>),
    Merge(MergePatch<'a>),
    Strategic(StrategicPatch),
}

/// The router's 415. Compat: it looks at every media type of a list, and takes none for one that nothing is written in.
pub(crate) fn check_routed(call: &Call) -> Outcome<()> {
    let sent = call.header(http::header::CONTENT_TYPE).split(',');
    let mut sent = sent.map(|one| one.split(';').next().unwrap_or_default().trim_matches(' '));
    if sent.any(|media_type| media_type == APPLY_PATCH || MEDIA_TYPES.contains(&media_type)) {
        return Ok(());
    }
    let mut status = Status::failure(415, "UnsupportedMediaType", "415: Unsupported Media Type");
    status.details = Some(Box::default());
    Err(Box::new(status))
}

/// The handler's 415.
pub(crate) fn check_media_type(call: &Call) -> Outcome<()> {
    if MEDIA_TYPES.contains(&media_type(call)) {
        return Ok(());
    }
    Err(Box::new(Status::unsupported_media_type(&MEDIA_TYPES)))
}

fn media_type(call: &Call) -> &str {
    let content_type = call.header(http::header::CONTENT_TYPE);
    content_type.split_once(';').map_or(content_type, |(media_type, _)| media_type)
}

/// PATCH of an object or of a part of one, in a media type that has been looked at.
pub(crate) fn patch(engine: &Engine, asked: &Asked<'_>) -> Outcome<Reply> {
    let media_type = media_type(asked.call);
    let options = WriteOptions::of_patch(&asked.call.params)?;
    let text = PatchText::check(&asked.call.body).map_err(refused_text)?;
    asked.call.audit.request_patch(&asked.call.body);
    asked.check_key()?;
    if engine.store.get(asked.resource, asked.namespace, asked.name).is_none() {
        return Err(store_error(StoreError::NotFound, asked.served, asked.namespace, asked.name));
    }
    let patch = Patch::decode(media_type, text, options.field_validation)?;
    let expected = write::expected(asked)?;
    write::settle(engine, asked, options, |old| {
        let decoded = patch.apply(asked, old, expected, options.field_validation)?;
        let mut decoded = write::taken(asked, decoded);
        asked.call.note(&decoded.warnings);
        write::check_identity(asked, &decoded.members)?;
        write::one_of_each_owner(asked.call, &mut decoded, " after mutating admission happens");
        Ok(decoded)
    })
}

impl<'a> Patch<'a> {
    fn decode(media_type: &str, text: PatchText<'a>, validation: FieldValidation) -> Outcome<Self> {
        let reporting = match validation {
            FieldValidation::Ignore => Reporting::Ignore,
            FieldValidation::Warn | FieldValidation::Strict => Reporting::Report,
        };
        Ok(match media_type {
            JSON_PATCH => Self::Json(JsonPatch::decode(text, reporting).map_err(refused_json)?),
            MERGE_PATCH => Self::Merge(MergePatch::decode(text, reporting).map_err(refused_merge)?),
            _ => Self::Strategic(StrategicPatch::decode(text, reporting).map_err(refused_strategic)?),
        })
    }

    /// What the patch makes of the document that the path shows.
    fn apply(
        &self,
        asked: &Asked<'_>,
        old: &Object,
        expected: Expected,
        validation: FieldValidation,
    ) -> Outcome<Decoded> {
        let shown = asked.shown(old);
        let document = shown.as_deref().unwrap_or(old);
        match self {
            Self::Json(patch) => {
                let text = patch.apply(&document.bytes).map_err(refused_json)?;
                patched::from_text(&text, patch.findings(), expected, validation)
            }
            Self::Merge(patch) => {
                let text = patch.apply(&document.bytes).map_err(refused_merge)?;
                patched::from_text(&text, patch.findings(), expected, validation)
            }
            Self::Strategic(patch) => {
                let merged = patch.apply(document.tree(), &PatchType::object(expected.schema));
                let merged = merged.map_err(refused_strategic)?;
                let left = merged.left();
                patched::from_tree(merged.members, &left, patch.findings(), expected, validation)
            }
        }
    }
}

fn refused_text(error: TextError) -> Box<Status> {
    refused(error.answer(), &error)
}

fn refused_json(error: JsonPatchError) -> Box<Status> {
    refused(error.answer(), &error)
}

fn refused_merge(error: MergePatchError) -> Box<Status> {
    refused(error.answer(), &error)
}

fn refused_strategic(error: StrategicError) -> Box<Status> {
    refused(error.answer(), &error)
}

/// The answer to a patch that cannot be applied.
fn refused(answer: Answer, error: &dyn std::error::Error) -> Box<Status> {
    Box::new(match answer {
        Answer::BadRequest => Status::bad_request(error.to_string()),
        Answer::TooLarge => Status::too_large(&error.to_string()),
        Answer::Invalid => {
            tracing::debug!(%error, "a patch cannot be applied");
            let message = "the server rejected our request due to an error in our request";
            let mut status = Status::failure(422, "Invalid", message);
            status.details = Some(Box::new(StatusDetails::default()));
            status
        }
        Answer::Failure | Answer::Crash => Status::failure(500, "", error.to_string()),
    })
}
