//! The server without its listener: from a [`Call`] to a [`Reply`].
//!
//! Flow: path → authentication → impersonation → authorization → (only now is a body read) → resource → handler.
//!
//! It must never act on a request before the authorizer has agreed, and never let routing and authorization read a URL
//! differently: both use the one [`RequestInfo`].

use std::sync::{Arc, PoisonError, RwLock};

use http::Method;
use portcullis_kube::authentication_config::AnonymousAuthConfig;
use portcullis_kube::discovery::VersionInfo;
use portcullis_kube::go::quote;
use portcullis_kube::{Status, UserInfo};
use portcullis_rbac::{RequestInfo, RequestInfoError, authorize, forbidden};
use portcullis_runtime::telemetry::Metrics;
use portcullis_runtime::{Clock, Rng};
use serde_json::{Value, json};

use crate::audit::AuditLog;
use crate::audit::record::{NotStored, attempted};
use crate::authenticate::{TokenAuthenticator, TokenChain, authenticate};
use crate::controllers::Controllers;
use crate::discovery::Discovery;
use crate::handlers::{
    self, Asked, attach, binding, check_routed, delete, eviction, exec, health, logs, nameless, no_such_method,
    no_such_resource, not_acceptable, patch, port_forward, proxy, read, reviews, token, watch, write,
};
use crate::http::negotiate::{Encoding, Forms, negotiate, wants_pretty};
use crate::http::reply::Reply;
use crate::http::{Call, Outcome, deadline};
use crate::impersonate::{LastModes, effective_user};
use crate::openapi::OpenApi;
use crate::parts::Parts;
use crate::policy::LivePolicy;
use crate::resources::subresources::Serves;
use crate::resources::{self, Resource, strategy};
use crate::service_account::ServiceAccounts;
use crate::store::Store;
use crate::store::object::Object;
use crate::streams::Streams;

/// Events in the store before the oldest tenth goes.
const MAX_EVENTS: usize = 1_000;

/// Everything that answers requests.
pub(crate) struct Engine {
    pub(crate) store: Arc<Store>,
    pub(crate) policy: LivePolicy,
    pub(crate) last_modes: LastModes,
    /// What knows bearer tokens now.
    pub(crate) tokens: RwLock<Arc<TokenAuthenticator>>,
    /// Whether and where requests without credentials are let in.
    pub(crate) anonymous: AnonymousAuthConfig,
    pub(crate) service_accounts: ServiceAccounts,
    pub(crate) discovery: Discovery,
    pub(crate) openapi: Arc<OpenApi>,
    pub(crate) version: VersionInfo,
    pub(crate) audit: Option<AuditLog>,
    /// What `/metrics` shows.
    pub(crate) metrics: Metrics,
    pub(crate) clock: Clock,
    pub(crate) rng: Rng,
    pub(crate) controllers: Controllers,
    /// Our own parts, whose pods come back when someone deletes them.
    pub(crate) parts: Parts,
    /// Connections that have left HTTP.
    pub(crate) streams: Streams,
}

/// A request that may be served.
#[derive(Debug)]
pub(crate) struct Admitted {
    info: RequestInfo,
    user: UserInfo,
}

impl Admitted {
    /// Whether it asks for a resource; whatever else there is takes no body.
    pub(crate) fn is_of_resource(&self) -> bool {
        self.info.is_resource_request
    }
}

impl Engine {
    /// Who asks, and whether they may. The error is the whole answer.
    pub(crate) async fn admit(&self, call: &Call) -> Result<Admitted, Reply> {
        let refuse = |status: &Status| refusal(call, status);
        let info =
            RequestInfo::read(call.method.as_str(), &call.path, call.params.query()).map_err(|error| match error {
                RequestInfoError::MalformedPath => Reply::bad_head(),
                RequestInfoError::Incomplete(_) => {
                    let mut reply = internal_error(call, &format!("failed to create RequestInfo: {error}"));
                    // Compat: it is refused before caching is thought of.
                    reply.headers.remove(http::header::CACHE_CONTROL);
                    reply
                }
            })?;
        deadline::check(call, &info, |status| refuse(status)).map_err(|reply| *reply)?;
        let user = authenticate(call, &info.path, &self.token_chain(), &self.anonymous).await.map_err(|why| {
            // Compat: of a request without credentials nothing is said.
            if !why.reasons.is_empty() {
                tracing::warn!(reasons = ?why.reasons, path = %info.path, "unable to authenticate the request");
            }
            let certificate = call.client_cert.is_some() || call.client_cert_refused;
            call.audit.refused(&info, &attempted(&call.headers, &call.params, certificate));
            refuse(&Status::unauthorized())
        })?;
        call.audit.admitted(&info, &user).await.map_err(|NotStored| not_stored(call))?;
        let policy = self.policy.snapshot();
        let user = effective_user(user, &info, call, &policy, &self.last_modes).map_err(|status| {
            let mut reply = refuse(&status);
            reply.headers.insert(http::header::X_CONTENT_TYPE_OPTIONS, http::HeaderValue::from_static("nosniff"));
            reply
        })?;
        let attributes = info.attributes(&user);
        let decision = authorize(&*policy, &attributes);
        call.audit.annotate("authorization.k8s.io/decision", if decision.allowed { "allow" } else { "forbid" });
        call.audit.annotate("authorization.k8s.io/reason", &decision.reason);
        if !decision.allowed {
            return Err(refuse(&forbidden(&attributes, &decision.reason)));
        }
        tracing::debug!(user = %user.username, verb = %info.verb, path = %info.path, reason = %decision.reason, "allowed");
        Ok(Admitted { info, user })
    }

    /// Whoever knows bearer tokens, now.
    pub(crate) fn token_chain(&self) -> TokenChain<'_> {
        let others = self.tokens.read().unwrap_or_else(PoisonError::into_inner).clone();
        TokenChain { accounts: &self.service_accounts, store: &self.store, now: self.clock.now(), others }
    }

    /// Serves an admitted request, whose body is there by now.
    pub(crate) async fn serve(&self, call: &Call, admitted: &Admitted) -> Reply {
        let served = if admitted.info.is_resource_request {
            self.resource(call, admitted).await
        } else {
            self.path(call, &admitted.info.path).await
        };
        served.unwrap_or_else(|status| {
            let mut reply = refusal(call, &status);
            // Compat: a body's warnings are told whatever becomes of the request.
            reply.warn(&call.noted());
            reply
        })
    }

    async fn resource(&self, call: &Call, Admitted { info, user }: &Admitted) -> Outcome<Reply> {
        let known_group = info.api_prefix == "api" || resources::GROUPS.contains(&info.api_group.as_str());
        // Compat: upstream's router looks at the beginning of the path as it is.
        let prefix = info.path.strip_prefix('/').and_then(|path| path.strip_prefix(info.api_prefix.as_str()));
        if !known_group || !prefix.is_some_and(|rest| rest.starts_with('/')) {
            return Ok(Reply::page_not_found());
        }
        if !resources::serves(&info.api_group, &info.api_version) {
            return Err(no_such_resource());
        }
        let accept = call.accept();
        if let Some(review) = resources::find_review(&info.api_group, &info.api_version, &info.resource) {
            let in_place = review.namespaced != info.namespace.is_empty();
            if info.parts.len() > 1 || !in_place || info.is_watch_path() {
                return Err(no_such_resource());
            }
            if review.kind == "Binding" {
                return binding::create_by_body(self, call, info, user);
            }
            return reviews::review(self, call, info, user, review).await;
        }
        let served =
            resources::find(&info.api_group, &info.api_version, &info.resource).ok_or_else(no_such_resource)?;
        let resource = served.stored();
        // Compat: upstream's router has these paths for GET alone, not below subresources, and nothing to proxy.
        if info.verb == "proxy" || (info.is_watch_path() && info.parts.len() > 2) {
            return Err(no_such_resource());
        }
        let (namespace, name) = handlers::place::place(resource, info).ok_or_else(no_such_resource)?;
        if token::is_of(resource, info) {
            return token::create(self, call, info).await;
        }
        let subresource = match info.parts.get(2..).unwrap_or_default() {
            [] => None,
            [part] => Some(resources::subresources::find(served, part).ok_or_else(no_such_resource)?),
            [part, ..] => {
                let part = resources::subresources::find(served, part);
                Some(part.filter(|part| matches!(part.serves, Serves::Proxy)).ok_or_else(no_such_resource)?)
            }
        };
        let verbs = subresource.map_or(served.verbs, |part| part.verbs);
        // A subresource of nothing looks like a collection.
        let verb = match info.verb.as_str() {
            "list" | "watch" if subresource.is_some() => "get",
            "deletecollection" if subresource.is_some() => "delete",
            verb => verb,
        };
        let only_read = info.is_watch_path() && call.method != Method::GET;
        let taken = match subresource.map(|part| &part.serves) {
            Some(Serves::Proxy) => proxy::METHODS.contains(&call.method),
            _ => verbs.contains(&verb) && call.method != Method::HEAD,
        };
        if !taken || only_read {
            return Err(no_such_method());
        }
        if subresource.is_some() && name.is_empty() {
            return Err(nameless());
        }
        match subresource.map(|part| &part.serves) {
            Some(Serves::Attach) => return attach::connect(self, call, info, user),
            Some(Serves::Proxy) => return proxy::connect(self, call, info),
            Some(Serves::Exec) => return exec::connect(self, call, info, user),
            Some(Serves::PortForward) => return port_forward::connect(self, call, info, user),
            Some(Serves::Log) => return logs::get(self, call, info),
            None if misplaced(info, resource, namespace, name) => return Err(no_such_method()),
            _ => {}
        }
        if info.verb == "patch" {
            patch::check_routed(call)?;
        }
        check_routed(&accept, &[], name.is_empty() && call.method == Method::GET)?;
        let forms = subresource.map_or(Forms::All, |part| part.forms());
        let handled = || -> Outcome<Reply> {
            if info.verb == "patch" {
                patch::check_media_type(call)?;
            }
            let accepted = negotiate(&accept, pretty(call), forms).ok_or_else(not_acceptable)?;
            let asked = Asked { call, user, resource, served, subresource, namespace, name, accepted };
            match subresource.map(|part| &part.serves) {
                Some(Serves::Eviction) => eviction::create(self, &asked),
                Some(Serves::Binding) => binding::create(self, &asked),
                _ => self.stored(&asked, &info.verb),
            }
        };
        let reply = handled();
        if served.deprecated.is_empty() {
            return reply;
        }
        call.audit.annotate("k8s.io/deprecated", "true");
        let mut reply = reply.unwrap_or_else(|status| {
            let mut reply = refusal(call, &status);
            reply.warn(&call.noted());
            reply
        });
        reply.warn_first(served.deprecated);
        Ok(reply)
    }

    fn stored(&self, asked: &Asked<'_>, verb: &str) -> Outcome<Reply> {
        match (verb, asked.name.is_empty()) {
            ("list", true) => read::list(self, asked),
            ("watch", _) => watch::watch(self, asked),
            ("get", false) => read::get(self, asked),
            ("create", _) => write::create(self, asked),
            ("update", false) => write::update(self, asked),
            ("patch", false) => patch::patch(self, asked),
            ("delete", false) => delete::delete(self, asked),
            ("deletecollection", true) => delete::delete_collection(self, asked),
            _ => Err(no_such_method()),
        }
    }

    async fn path(&self, call: &Call, path: &str) -> Outcome<Reply> {
        if let Some(reply) = health::health(call, path) {
            return Ok(reply);
        }
        let refused_method = call.method != Method::GET && !takes_any_method(path);
        match self.document(call, path).await {
            // Compat: the method is looked at before `Accept` is.
            Ok(Some(_)) | Err(_) if refused_method => Err(no_such_method()),
            Ok(Some(reply)) => Ok(reply),
            // Compat: below `/api` and known groups only versions can be missing, and below a document nothing is; elsewhere
            // nothing is registered at all.
            Ok(None) if path.starts_with("/api/") || below_group(path) || below_document(path) => {
                Err(no_such_resource())
            }
            Ok(None) => Ok(Reply::page_not_found()),
            Err(status) => Err(status),
        }
    }

    /// The document at a path that is no resource's.
    async fn document(&self, call: &Call, path: &str) -> Outcome<Option<Reply>> {
        // Compat: where upstream's router serves one document, slashes at the end do not count.
        let trimmed = path.trim_end_matches('/');
        Ok(match path {
            "/" | "/index.html" => Some(health::paths(self)),
            METRICS => Some(health::metrics(self)),
            _ if trimmed == VERSION => Some(health::version(self, call)?),
            _ if token::is_document(trimmed) => Some(token::document(self, call, trimmed).await?),
            _ => match self.openapi.answer(call, path, &self.clock).await {
                Some(reply) => Some(reply),
                None => self.discovery.answer(call, path, pretty(call))?,
            },
        })
    }

    /// What follows from a write that was made.
    pub(crate) fn written(&self, resource: &'static Resource, namespace: &str, name: &str) {
        self.policy.refresh(&self.store, resource, namespace, name);
        self.keep_up(resource, namespace, name);
    }

    /// Records an event about an object.
    pub(crate) fn record(&self, resource: &Resource, object: &Object, kind: &str, reason: &str, message: &str) {
        self.record_as("portcullis", resource, object, kind, reason, message);
    }

    /// Records an event about an object, in the name of a component.
    pub(crate) fn record_as(
        &self,
        component: &str,
        resource: &Resource,
        object: &Object,
        kind: &str,
        reason: &str,
        message: &str,
    ) {
        let now = self.clock.now().rfc3339();
        let namespace = if object.namespace.is_empty() { "default" } else { &object.namespace };
        let suffix: String = self.rng.bytes::<8>().iter().map(|byte| format!("{byte:02x}")).collect();
        let members = json!({
            "metadata": {"name": format!("{}.{suffix}", object.name), "namespace": namespace},
            "involvedObject": {"kind": resource.kind, "namespace": object.namespace, "name": object.name, "uid": object.uid,
                "apiVersion": resource.api_version(), "resourceVersion": object.version.to_string()},
            "reason": reason, "message": message, "source": {"component": component}, "firstTimestamp": now,
            "lastTimestamp": now, "count": 1, "type": kind, "reportingComponent": component, "reportingInstance": ""
        });
        self.make_event(namespace, members);
    }

    /// Stores an event, and makes room for it.
    pub(crate) fn make_event(&self, namespace: &str, event: Value) {
        let Value::Object(members) = event else { return };
        let events = resources::events();
        self.forget_old_events(events);
        let members = strategy::for_create(events, members, namespace, &self.rng, self.clock.now());
        if let Err(error) = self.store.create(events, members) {
            tracing::debug!(%error, "an event could not be recorded");
        }
    }
}

impl Engine {
    /// Keeps our own events from filling the store: they go after an hour, and before when there are too many.
    fn forget_old_events(&self, events: &'static Resource) {
        let mut all = self.store.all(events, "");
        if all.len() < MAX_EVENTS {
            return;
        }
        all.sort_by_key(|event| event.version);
        for old in all.iter().take(MAX_EVENTS / 10) {
            // One that has changed meanwhile is not old.
            let _ = self.store.remove(events, old);
        }
    }
}

/// Compat: what upstream's router does not know by method: the list of paths and of groups, groups, and OpenAPI.
fn takes_any_method(path: &str) -> bool {
    let group = path.strip_prefix("/apis").filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let group = group.map(|rest| rest.strip_suffix('/').unwrap_or(rest));
    matches!(path, "/" | "/index.html")
        || path.starts_with("/openapi/")
        || group.is_some_and(|rest| !rest.trim_start_matches('/').contains('/'))
}

/// Whether a verb is for collections and the path names an object, or the other way round, or needs a namespace in the path.
fn misplaced(info: &RequestInfo, resource: &Resource, namespace: &str, name: &str) -> bool {
    let of_collection = matches!(info.verb.as_str(), "list" | "create" | "deletecollection");
    let nowhere = resource.namespaced && namespace.is_empty() && !handlers::place::is_of_no_namespace(&info.path);
    match info.verb.as_str() {
        "watch" => false,
        "list" => !name.is_empty(),
        _ => nowhere || name.is_empty() != of_collection,
    }
}

const VERSION: &str = "/version";
pub(crate) const METRICS: &str = "/metrics";

fn below_document(path: &str) -> bool {
    path.match_indices('/').filter_map(|(at, _)| path.get(..at)).any(|up| up == VERSION || token::is_document(up))
}

/// Whether a path leads below a group that is served.
fn below_group(path: &str) -> bool {
    let rest = path.strip_prefix("/apis/").and_then(|rest| rest.split_once('/'));
    rest.is_some_and(|(group, _)| resources::GROUPS.contains(&group))
}

fn not_stored(call: &Call) -> Reply {
    internal_error(call, "failed to store audit event")
}

/// Compat: `responsewriters.InternalError`.
fn internal_error(call: &Call, why: &str) -> Reply {
    let query = call.params.query().as_str();
    let target = if query.is_empty() { call.path.clone() } else { format!("{}?{query}", call.path) };
    let text = format!("Internal Server Error: {}: {why}", quote(&target));
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    Reply::text(500, format!("{text}\n"))
}

/// Whether a person is reading.
pub(crate) fn pretty(call: &Call) -> bool {
    wants_pretty(call.params.get("pretty"), call.header(http::header::USER_AGENT))
}

/// A refusal, in what the client takes.
///
/// Compat: who takes none of it gets indented JSON, past the audit log.
pub(crate) fn refusal(call: &Call, status: &Status) -> Reply {
    match negotiate(&call.accept(), pretty(call), Forms::Object) {
        Some(accepted) => Reply::status(status, accepted.encoding),
        None => Reply::status(status, Encoding::Pretty).unlogged(),
    }
}
