//! Watches: their options, and what they begin with.

use std::sync::Arc;
use std::time::Duration;

use portcullis_kube::Status;

use super::list_options::{Numbers, initial_events, selection, selectors, wrong};
use super::place::check_list;
use super::read::{rows, unprefixed_version};
use super::{Asked, no_such_resource, too_large_version};
use crate::engine::Engine;
use crate::http::Outcome;
use crate::http::negotiate::{Encoding, Form};
use crate::http::params::invalid;
use crate::http::reply::Reply;
use crate::store::beginning::Everything;
use crate::store::list::ListQuery;
use crate::store::object::Object;
use crate::table::Rows;
use crate::watch::{WatchRequest, frames, refused};

/// Seconds that a watch without `timeoutSeconds` lives at least; at most twice as long (`--min-request-timeout`).
const MIN_SECONDS: u32 = 1_800;
/// Seconds that a client can ask for.
const MAX_SECONDS: u64 = 24 * 3_600;
/// Nanoseconds of a second: Go counts in them.
const NANOS: i64 = 1_000_000_000;

/// Starts a watch.
pub(crate) fn watch(engine: &Engine, asked: &Asked<'_>) -> Outcome<Reply> {
    let params = &asked.call.params;
    let Numbers { seconds, .. } = Numbers::read(params)?;
    let written = selectors(params)?;
    invalid("ListOptions", &wrong(params))?;
    let initial_events = initial_events(params);
    let mut selection = selection(asked, written)?;
    if !asked.name.is_empty() {
        // Compat: who names an object in the path may select no other.
        if !selection.fields.is_empty() && selection.fields.required("metadata.name") != Some(asked.name) {
            return Err(Box::new(Status::bad_request("fieldSelector metadata.name doesn't match requested name")));
        }
        selection.fields.require_name(asked.name);
    }
    let wanted = unprefixed_version(params)?;
    check_list(asked.resource, asked.namespace, selection.fields.required("metadata.name"))?;
    let send_initial = initial_events.unwrap_or(matches!(wanted, None | Some(0)));
    let rows = match asked.accepted.form {
        Form::Table(version) => Some(Rows { object: rows(asked)?, version }),
        _ => None,
    };
    if asked.accepted.encoding == Encoding::Yaml {
        let accepted = ["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];
        return Err(Box::new(Status::not_acceptable(&accepted)));
    }
    if matches!(asked.accepted.form, Form::MetadataList(_)) {
        // Compat: what is told of is no list, which ends the watch without a word.
        return Ok(Reply::pieces(Box::pin(futures_util::stream::empty())));
    }
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
    let timeout = match seconds.unwrap_or(0).wrapping_mul(NANOS) {
        0 => u64::from(MIN_SECONDS + engine.rng.below(MIN_SECONDS)),
        // Compat: what no duration can hold, or is negative, is over at once.
        nanos => u64::try_from(nanos / NANOS).unwrap_or(0).min(MAX_SECONDS),
    };
    let bookmarks = params.flag("allowWatchBookmarks");
    let request = WatchRequest {
        resource: asked.resource,
        served: asked.served,
        namespace: asked.namespace.to_owned(),
        selection,
        form: asked.accepted.form,
        rows,
        from,
        initial,
        end_of_initial: initial_events == Some(true) && bookmarks,
        bookmarks,
        timeout: Duration::from_secs(timeout),
    };
    frames(request, Arc::clone(&engine.store), engine.clock.clone()).map(Reply::pieces).ok_or_else(no_such_resource)
}
