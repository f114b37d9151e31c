//! Watches: their options, and what they begin with.

use std::sync::Arc;
use std::time::Duration;

use portcullis_kube::Status;
use portcullis_kube::field::FieldError;

use super::read::{rows, selection, unprefixed_version};
use super::{Asked, no_such_resource, too_large_version};
use crate::engine::Engine;
use crate::http::Outcome;
use crate::http::negotiate::Encoding;
use crate::http::params::{Params, invalid};
use crate::http::reply::Reply;
use crate::store::beginning::Everything;
use crate::store::list::ListQuery;
use crate::store::object::Object;
use crate::watch::{WatchRequest, frames, refused};

/// Seconds that a watch without `timeoutSeconds` lives at least; at most twice as long (`--min-request-timeout`).
const MIN_SECONDS: u32 = 1_800;
/// Seconds that a client can ask for.
const MAX_SECONDS: i64 = 24 * 3_600;

/// Starts a watch.
pub(crate) fn watch(engine: &Engine, asked: &Asked<'_>) -> Outcome<Reply> {
    if asked.accepted.encoding == Encoding::Yaml {
        let accepted = ["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];
        return Err(Box::new(Status::not_acceptable(&accepted)));
    }
    let params = &asked.call.params;
    let mut selection = selection(asked)?;
    if !asked.name.is_empty() {
        selection.fields.require_name(asked.name);
    }
    let seconds = params.number("timeoutSeconds")?;
    params.number("limit")?;
    let initial_events = initial_events(params)?;
    let wanted = unprefixed_version(params)?;
    let send_initial = initial_events.unwrap_or(matches!(wanted, None | Some(0)));
    let current = engine.store.version();
    if let Some(wanted) = wanted.filter(|wanted| send_initial && *wanted > current) {
        return Ok(Reply::pieces(refused(&too_large_version(wanted, current))));
    }
    let (from, initial) = if !send_initial {
        (wanted.filter(|wanted| *wanted > 0).unwrap_or_else(|| engine.store.version()), Everything::default())
    } else if selection.everything() {
        engine.store.everything(asked.resource)
    } else {
        let filter = |object: &Object| selection.matches(object);
        let query = ListQuery { namespace: asked.namespace, at: None, from: None, limit: 0, filter: Some(&filter) };
        let page = engine
            .store
            .list(asked.resource, &query)
            .map_err(|gone| Box::new(Status::expired(format!("too old resource version: 0 ({})", gone.oldest))))?;
        (page.version, Everything::new(page.objects))
    };
    let timeout = match seconds {
        Some(seconds) if seconds > 0 => u64::try_from(seconds.min(MAX_SECONDS)).unwrap_or(1),
        _ => u64::from(MIN_SECONDS + engine.rng.below(MIN_SECONDS)),
    };
    let bookmarks = params.flag("allowWatchBookmarks");
    let request = WatchRequest {
        resource: asked.resource,
        served: asked.served,
        namespace: asked.namespace.to_owned(),
        selection,
        form: asked.accepted.form,
        rows: rows(asked)?,
        from,
        initial,
        end_of_initial: initial_events == Some(true) && bookmarks,
        bookmarks,
        timeout: Duration::from_secs(timeout),
    };
    frames(request, Arc::clone(&engine.store), engine.clock.clone()).map(Reply::pieces).ok_or_else(no_such_resource)
}

/// Whether what is there is sent first, and whether the client asked for that. Compat: `SetListOptionsDefaults` and the
/// rules of `ValidateListOptions` for watches.
fn initial_events(params: &Params) -> Outcome<Option<bool>> {
    let mut asked = params.has("sendInitialEvents").then(|| params.flag("sendInitialEvents"));
    let mut rule = params.get("resourceVersionMatch");
    if asked.is_none() && rule.is_empty() && matches!(params.get("resourceVersion"), "" | "0") {
        (asked, rule) = (Some(true), NOT_OLDER);
    }
    let field = "resourceVersionMatch";
    let mut wrong = Vec::new();
    if asked.is_some() && rule != NOT_OLDER {
        let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        wrong.push(FieldError::forbidden(field, why));
    }
    if !rule.is_empty() {
        if asked.is_none() {
            let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            wrong.push(FieldError::forbidden(field, why));
        }
        if rule != NOT_OLDER {
            wrong.push(FieldError::not_supported(field, rule, &[NOT_OLDER]));
        }
        if !params.get("continue").is_empty() {
            let why = "resourceVersionMatch is forbidden when continue is provided";
            wrong.push(FieldError::forbidden(field, why));
        }
    }
    invalid("ListOptions", &wrong)?;
    Ok(asked)
}

const NOT_OLDER: &str = "NotOlderThan";
