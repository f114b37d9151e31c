//! Options of lists, of watches and of deletions of collections, which are read alike.
//!
//! Flow: numbers → selectors as such → all options together → what selectors name → only then versions and tokens, which
//! depend on the store. The first mistake in this order is the one that is told.
//!
//! Compat: `ListOptions`, its defaults and its validation in `apis/meta/internalversion` of Kubernetes 1.37.

use portcullis_kube::Status;
use portcullis_kube::field::FieldError;

use super::read::{read_continue, version_param};
use super::{Asked, too_large_version};
use crate::http::Outcome;
use crate::http::params::{Params, invalid};
use crate::selector::{Selection, Written};

const NOT_OLDER: &str = "NotOlderThan";

/// What a list is about.
pub(crate) struct ListOptions {
    pub(super) selection: Selection,
    pub(super) limit: usize,
    pub(super) at: Option<u64>,
    pub(super) from: Option<String>,
}

/// The options of a list as far as they can be judged by themselves.
pub(crate) struct ListRequest<'a> {
    asked: &'a Asked<'a>,
    selection: Selection,
    limit: usize,
}

impl<'a> ListRequest<'a> {
    pub(crate) fn read(asked: &'a Asked<'a>) -> Outcome<Self> {
        let params = &asked.call.params;
        let Numbers { limit, .. } = Numbers::read(params)?;
        let limit = usize::try_from(limit).unwrap_or(0);
        let written = selectors(params)?;
        invalid("ListOptions", &wrong(params))?;
        Ok(Self { asked, selection: selection(asked, written)?, limit })
    }

    /// What is meant now, when the store has reached `current`.
    pub(crate) fn at(self, current: u64) -> Outcome<ListOptions> {
        let Self { asked, selection, limit } = self;
        let params = &asked.call.params;
        let (text, rule) = (params.get("resourceVersion"), params.get("resourceVersionMatch"));
        let token = params.get("continue");
        // Compat: what is read from the watch cache is not cut into pages.
        let limit = if text == "0" { 0 } else { limit };
        if !token.is_empty() {
            let (at, from) = read_continue(asked.namespace, token)?;
            if !matches!(text, "" | "0") {
                let why = "specifying resource version is not allowed when using continue";
                return Err(Box::new(Status::bad_request(why)));
            }
            if at.is_some_and(|at| at > current) {
                return Err(too_large_version(at.unwrap_or(0), current));
            }
            return Ok(ListOptions { selection, limit, at: at.filter(|at| *at < current), from: Some(from) });
        }
        let wanted = version_param(params)?;
        let at = match (wanted, rule) {
            (None | Some(0), _) => None,
            (Some(wanted), _) if wanted > current => return Err(too_large_version(wanted, current)),
            (Some(wanted), "Exact") => Some(wanted),
            // Compat: the legacy meaning of a page at a version.
            (Some(wanted), "") if limit > 0 => Some(wanted),
            (Some(_), _) => None,
        };
        Ok(ListOptions { selection, limit, at, from: None })
    }
}

/// The numbers among the options of lists and watches.
pub(crate) struct Numbers {
    pub(crate) seconds: Option<i64>,
    pub(crate) limit: i64,
}

impl Numbers {
    /// Reads them. Compat: they come first, in this order; then selectors as such, then all options together, and at last
    /// what selectors name.
    pub(crate) fn read(params: &Params) -> Outcome<Self> {
        Ok(Self { seconds: params.number("timeoutSeconds")?, limit: params.number("limit")?.unwrap_or(0) })
    }
}

/// The selectors of a request as they are written.
pub(crate) fn selectors(params: &Params) -> Outcome<Written> {
    Written::read(params.get("labelSelector"), params.get("fieldSelector"))
        .map_err(|why| Box::new(Status::bad_request(why)))
}

/// What they select.
pub(crate) fn selection(asked: &Asked<'_>, written: Written) -> Outcome<Selection> {
    written.of(asked.served).map_err(|why| Box::new(Status::bad_request(why)))
}

/// What is wrong with all options together. Compat: whether it is a watch is a matter of the query alone, even where the path
/// says so too.
pub(crate) fn wrong(params: &Params) -> Vec<FieldError> {
    if params.flag("watch") { wrong_of_watch(params) } else { wrong_of_list(params) }
}

fn wrong_of_list(params: &Params) -> Vec<FieldError> {
    let (text, rule) = (params.get("resourceVersion"), params.get("resourceVersionMatch"));
    let field = "resourceVersionMatch";
    let mut wrong = Vec::new();
    if !rule.is_empty() {
        if text.is_empty() {
            let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            wrong.push(FieldError::forbidden(field, why));
        }
        wrong.extend(with_token(params));
        if !matches!(rule, "Exact" | NOT_OLDER) {
            wrong.push(FieldError::not_supported_typed(field, rule, &["Exact", NOT_OLDER, ""]));
        } else if rule == "Exact" && text == "0" {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            wrong.push(FieldError::forbidden(field, why));
        }
    }
    if params.has("sendInitialEvents") {
        wrong.push(FieldError::forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
    }
    wrong
}

fn wrong_of_watch(params: &Params) -> Vec<FieldError> {
    let (asked, rule) = (initial_events(params), params.get("resourceVersionMatch"));
    let field = "resourceVersionMatch";
    let mut wrong = Vec::new();
    if params.has("sendInitialEvents") && rule != NOT_OLDER {
        let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        wrong.push(FieldError::forbidden(field, why));
    }
    let defaulted = asked.is_some() && !params.has("sendInitialEvents");
    if rule.is_empty() && !defaulted {
        return wrong;
    }
    if asked.is_none() {
        let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
        wrong.push(FieldError::forbidden(field, why));
    }
    if !matches!(rule, "" | NOT_OLDER) {
        wrong.push(FieldError::not_supported_typed(field, rule, &[NOT_OLDER]));
    }
    wrong.extend(with_token(params));
    wrong
}

fn with_token(params: &Params) -> Option<FieldError> {
    let why = "resourceVersionMatch is forbidden when continue is provided";
    (!params.get("continue").is_empty()).then(|| FieldError::forbidden("resourceVersionMatch", why))
}

/// Whether a watch sends first what is there, as far as the client says. Compat: `SetListOptionsDefaults`.
pub(crate) fn initial_events(params: &Params) -> Option<bool> {
    if params.has("sendInitialEvents") {
        return Some(params.flag("sendInitialEvents"));
    }
    let unsaid = params.get("resourceVersionMatch").is_empty() && matches!(params.get("resourceVersion"), "" | "0");
    (params.flag("watch") && unsaid).then_some(true)
}
