//! Watches: their options, and what they begin with.

use std::sync::Arc;
use std::time::Duration;

use portcullis_kube::Status;
use portcullis_kube::field::FieldError;
use portcullis_kube::go::quote;

use super::read::{rows, selection};
use super::{Asked, no_such_resource};
use crate::engine::Engine;
use crate::http::Outcome;
use crate::http::negotiate::Encoding;
use crate::http::params::{Params, invalid};
use crate::http::reply::Reply;
use crate::store::list::ListQuery;
use crate::store::object::Object;
use crate::watch::{WatchRequest, frames};

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
    let wanted = version(params)?;
    let send_initial = initial_events.unwrap_or(matches!(wanted, None | Some(0)));
    let (from, initial) = if send_initial {
        let filter = |object: &Object| selection.matches(object);
        let query = ListQuery { namespace: asked.namespace, at: None, from: None, limit: 0, filter: Some(&filter) };
        let page = engine
            .store
            .list(asked.resource, &query)
            .map_err(|gone| Box::new(Status::expired(format!("too old resource version: 0 ({})", gone.oldest))))?;
        (page.version, page.objects)
    } else {
        (wanted.filter(|wanted| *wanted > 0).unwrap_or_else(|| engine.store.version()), Vec::new())
    };
    let timeout = match seconds {
        Some(seconds) if seconds > 0 => u64::try_from(seconds.min(MAX_SECONDS)).unwrap_or(1),
        _ => u64::from(MIN_SECONDS + engine.rng.below(MIN_SECONDS)),
    };
    let bookmarks = params.flag("allowWatchBookmarks");
    let request = WatchRequest {
        resource: asked.resource,
        namespace: asked.namespace.to_owned(),
        selection,
        form: asked.accepted.form,
        rows: rows(params)?,
        from,
        initial,
        end_of_initial: initial_events == Some(true) && bookmarks,
        bookmarks,
        timeout: Duration::from_secs(timeout),
    };
    frames(request, Arc::clone(&engine.store), engine.clock.clone()).map(Reply::pieces).ok_or_else(no_such_resource)
}

/// Compat: the rules of `ValidateListOptions` for watches.
fn initial_events(params: &Params) -> Outcome<Option<bool>> {
    let asked = params.has("sendInitialEvents").then(|| params.flag("sendInitialEvents"));
    let rule = params.get("resourceVersionMatch");
    let field = "resourceVersionMatch";
    let mut wrong = Vec::new();
    match (asked, rule) {
        (Some(_), "") => {
            wrong.push(FieldError::forbidden(
                field,
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ));
        }
        (None, "") => {}
        (asked, rule) => {
            if asked.is_none() {
                let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                wrong.push(FieldError::forbidden(field, why));
            }
            if rule != "NotOlderThan" {
                wrong.push(FieldError::not_supported(field, rule, &["NotOlderThan"]));
            }
        }
    }
    invalid("ListOptions", &wrong)?;
    Ok(asked)
}

/// Compat: a malformed version is a 500 without a reason here, and a 400 for lists.
fn version(params: &Params) -> Outcome<Option<u64>> {
    match params.get("resourceVersion") {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| {
            let quoted = quote(text);
            let why = format!(
                "resourceVersion: Invalid value: {quoted}: strconv.ParseUint: parsing {quoted}: invalid syntax"
            );
            Box::new(Status::failure(500, "", why))
        }),
    }
}
