//! What is known of one request for the audit log, from its arrival to its end.
//!
//! Flow: arrival → who asks, and so which rule counts (`RequestReceived`) → what the handlers say of bodies and reasons →
//! the answer (`ResponseStarted` of watches and of refused credentials, `ResponseComplete` of all others and of watches'
//! ends). A request whose handling breaks off is written down too: `Panic`, or complete with what is known.
//!
//! Compat: `audit/{context,request}.go` and `endpoints/filters/audit.go` of apiserver v0.37.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use portcullis_kube::{Status, UserInfo};
use portcullis_rbac::RequestInfo;
use portcullis_runtime::{Clock, Timestamp};
use serde_json::{Map, Value};

use super::AuditLog;
use super::event::{AuthenticationMetadata, Empty, Event, Level, ObjectReference, ResponseStatus, Stage, compact, raw};
use super::policy::Evaluated;
use crate::http::body::Expected;
use crate::http::params::Params;
use crate::resources::{defaults, text};
use crate::schema::normalise::normalise;

/// Longest user agent; what is longer is cut.
const MAX_USER_AGENT: usize = 1_024;
const CUT: &str = "...TRUNCATED";
/// A request that takes longer says so.
const SLOW: Duration = Duration::from_millis(500);
const LATENCY: &str = "apiserver.latency.k8s.io/total";

/// The audit context of a request. Cheap to clone; off when nothing is to be written down.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    log: AuditLog,
    clock: Clock,
    received: Timestamp,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    event: Event,
    evaluated: Option<Evaluated>,
    /// It lasts longer than an answer takes.
    long_running: bool,
    /// What stage comes last when nothing more is said.
    open: bool,
}

/// What of a request is known before anybody looks at it.
pub(crate) struct Arrival<'a> {
    pub(crate) id: &'a str,
    pub(crate) uri: &'a http::Uri,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) peer: Option<IpAddr>,
}

impl Record {
    /// Begins the record of a request that has just arrived.
    pub(crate) fn begin(log: &AuditLog, clock: &Clock, arrival: &Arrival<'_>) -> Self {
        let header = |name: &str| arrival.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let received = clock.now();
        let event = Event {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level: Level::None,
            audit_id: arrival.id.to_owned(),
            stage: Stage::RequestReceived,
            request_uri: arrival.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned(),
            verb: String::new(),
            user: UserInfo::default(),
            impersonated_user: None,
            authentication_metadata: None,
            source_ips: source_ips(header("x-forwarded-for"), header("x-real-ip"), arrival.peer),
            user_agent: cut(header("user-agent")),
            object_ref: None,
            response_status: None,
            request_object: None,
            response_object: None,
            request_received_timestamp: received.rfc3339_micros(),
            stage_timestamp: String::new(),
            annotations: Default::default(),
        };
        let state = Mutex::new(State { event, evaluated: None, long_running: false, open: false });
        Self(Some(Arc::new(Inner { log: log.clone(), clock: clock.clone(), received, state })))
    }

    /// The rule that counts is known now: who asks, and for what. The error is that the event could not be stored, and must be.
    pub(crate) async fn admitted(&self, info: &RequestInfo, user: &UserInfo) -> Result<(), NotStored> {
        let Some(inner) = &self.0 else { return Ok(()) };
        if !inner.evaluate(info, Some(user)) {
            return Ok(());
        }
        inner.state().open = true;
        inner.emit(Stage::RequestReceived).await
    }

    /// Nobody could be authenticated.
    pub(crate) fn refused(&self, info: &RequestInfo, attempted: &str) {
        let Some(inner) = &self.0 else { return };
        if inner.evaluate(info, None) {
            inner.state().event.response_status =
                Some(ResponseStatus { message: attempted.to_owned(), ..ResponseStatus::default() });
        }
    }

    /// The request is served as somebody else.
    pub(crate) fn impersonates(&self, user: &UserInfo, constraint: &'static str) {
        self.change(Level::Metadata, |event| {
            event.impersonated_user = Some(user.clone());
            let constraint = (!constraint.is_empty()).then_some(constraint);
            event.authentication_metadata =
                constraint.map(|impersonation_constraint| AuthenticationMetadata { impersonation_constraint });
        });
    }

    /// Says more about the request. What was said first stays.
    pub(crate) fn annotate(&self, key: &str, value: &str) {
        self.change(Level::Metadata, |event| {
            event.annotations.entry(key.to_owned()).or_insert_with(|| value.to_owned());
        });
    }

    /// The body, once it has its kind's shape.
    pub(crate) fn request_object(&self, expected: Expected, members: &Map<String, Value>) {
        let Some(inner) = &self.0 else { return };
        let Some(evaluated) = inner.state().evaluated.clone().filter(|evaluated| evaluated.level > Level::None) else {
            return;
        };
        let object = (evaluated.level >= Level::Request)
            .then(|| whole(expected, members, evaluated.omit_managed_fields))
            .and_then(|object| raw(&object));
        let mut state = inner.state();
        let about = state.event.object_ref.get_or_insert_with(ObjectReference::default);
        for (member, name) in [
            (&mut about.namespace, "namespace"),
            (&mut about.name, "name"),
            (&mut about.uid, "uid"),
            (&mut about.resource_version, "resourceVersion"),
        ] {
            if member.is_empty() {
                *member = text(members, &["metadata", name]).into();
            }
        }
        if object.is_some() {
            state.event.request_object = object;
        }
    }

    /// The body of a PATCH, as JSON.
    pub(crate) fn request_patch(&self, patch: &[u8]) {
        self.change(Level::Request, |event| event.request_object = compact(patch));
    }

    /// The answer, if it is an object of the API: its JSON, and what it says if it is a `Status`.
    pub(crate) fn response(&self, object: &Bytes, status: Option<&Status>) {
        self.change(Level::Metadata, |event| {
            if let Some(status) = status {
                event.response_status = Some(ResponseStatus::of(status, status.http_code()));
            }
        });
        self.change(Level::RequestResponse, |event| {
            let text = std::str::from_utf8(object).ok();
            event.response_object =
                text.and_then(|text| serde_json::value::RawValue::from_string(text.to_owned()).ok());
        });
    }

    /// The answer's head is about to go out. A long-running request goes on.
    pub(crate) async fn responds(&self, code: u16) {
        let Some(inner) = &self.0 else { return };
        let (open, long_running) = {
            let mut state = inner.state();
            let status = state.event.response_status.get_or_insert_with(ResponseStatus::default);
            status.code = code;
            (state.open, state.long_running)
        };
        if long_running || !open {
            // Stored or not, the answer goes out: only the first stage can refuse a request.
            let _ = inner.emit(Stage::ResponseStarted).await;
        }
        if open && !long_running {
            inner.state().open = false;
            inner.note_latency();
            let _ = inner.emit(Stage::ResponseComplete).await;
        }
    }

    /// The handling of the request has panicked.
    pub(crate) fn panicked(&self, why: &str) {
        let Some(inner) = &self.0 else { return };
        let mut state = inner.state();
        if !std::mem::take(&mut state.open) {
            return;
        }
        state.event.response_status = Some(ResponseStatus {
            metadata: Empty {},
            status: "Failure".to_owned(),
            message: format!("APIServer panic'd: {why}"),
            reason: "InternalError".to_owned(),
            details: None,
            code: 500,
        });
        drop(state);
        inner.emit_now(Stage::Panic);
    }

    fn change(&self, least: Level, change: impl FnOnce(&mut Event)) {
        let Some(inner) = &self.0 else { return };
        let mut state = inner.state();
        if state.evaluated.as_ref().is_some_and(|evaluated| evaluated.level >= least) {
            change(&mut state.event);
        }
    }
}

/// An event that had to be stored was not.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotStored;

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what is known of the request, if it is to be written down.
    fn evaluate(&self, info: &RequestInfo, user: Option<&UserInfo>) -> bool {
        let nobody = UserInfo::default();
        let attributes = info.attributes(user.unwrap_or(&nobody));
        let evaluated = self.log.policy().evaluate(user, &attributes);
        let wanted = evaluated.level > Level::None;
        let mut state = self.state();
        state.event.level = evaluated.level;
        state.evaluated = Some(evaluated);
        state.long_running = long_running(info);
        if wanted {
            state.event.verb = info.verb.clone();
            state.event.user = user.cloned().unwrap_or_default();
            state.event.object_ref = info.is_resource_request.then(|| ObjectReference {
                resource: info.resource.clone(),
                namespace: info.namespace.clone(),
                name: info.name.clone(),
                uid: String::new(),
                api_group: info.api_group.clone(),
                api_version: info.api_version.clone(),
                resource_version: String::new(),
                subresource: info.subresource.clone(),
            });
        }
        wanted
    }

    /// The event at a stage, unless the policy leaves that out.
    fn at(&self, stage: Stage) -> Option<Event> {
        let mut state = self.state();
        let evaluated = state.evaluated.as_ref()?;
        if evaluated.level == Level::None || evaluated.omit_stages.contains(&stage) {
            return None;
        }
        let time = if stage == Stage::RequestReceived { self.received } else { self.clock.now() };
        state.event.stage = stage;
        state.event.stage_timestamp = time.rfc3339_micros();
        Some(state.event.clone())
    }

    /// Compat: upstream says how long its layers took as well.
    fn note_latency(&self) {
        let latency = self.clock.now().saturating_since(self.received);
        if latency > SLOW {
            self.state().event.annotations.insert(LATENCY.to_owned(), go_duration(latency));
        }
    }

    async fn emit(&self, stage: Stage) -> Result<(), NotStored> {
        match self.at(stage) {
            Some(event) => self.log.store(event).await,
            None => Ok(()),
        }
    }

    /// Without waiting for room: for ends that cannot wait.
    fn emit_now(&self, stage: Stage) {
        if let Some(event) = self.at(stage) {
            self.log.store_now(event);
        }
    }
}

impl Drop for Inner {
    /// The end of a watch, or of a request whose client has gone.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::take(&mut state.open) {
            return;
        }
        // Compat: upstream fakes this success when nothing was answered, and that a long-running request had begun.
        let begins = state.long_running && state.event.response_status.is_none();
        state.event.response_status.get_or_insert_with(|| ResponseStatus {
            status: "Success".to_owned(),
            message: "Connection closed early".to_owned(),
            code: 200,
            ..ResponseStatus::default()
        });
        if begins {
            self.emit_now(Stage::ResponseStarted);
        }
        self.emit_now(Stage::ResponseComplete);
    }
}

/// The body as upstream keeps it: with defaults filled in, under its kind.
fn whole(expected: Expected, members: &Map<String, Value>, omit_managed_fields: bool) -> Value {
    let mut filled = members.clone();
    if omit_managed_fields && let Some(Value::Object(metadata)) = filled.get_mut("metadata") {
        metadata.shift_remove("managedFields");
    }
    defaults::fill(expected.schema, &mut filled);
    let shaped = normalise(expected.schema, Value::Object(filled)).map(|shaped| shaped.value).unwrap_or_default();
    let mut object = Map::new();
    object.insert("kind".to_owned(), expected.kind.into());
    let api_version = match expected.kind {
        // Compat: these are kept in the form that has no version.
        "DeleteOptions" => "meta.k8s.io/__internal".to_owned(),
        _ => crate::resources::api_version(expected.group, expected.version),
    };
    object.insert("apiVersion".to_owned(), api_version.into());
    object.extend(shaped);
    Value::Object(object)
}

/// A duration of more than a millisecond as Go prints it.
fn go_duration(duration: Duration) -> String {
    let fraction = |nanos: u32, digits: usize| {
        let text = format!("{nanos:0digits$}");
        let text = text.trim_end_matches('0');
        if text.is_empty() { String::new() } else { format!(".{text}") }
    };
    let seconds = duration.as_secs();
    if seconds == 0 {
        let nanos = duration.subsec_nanos();
        return format!("{}{}ms", nanos / 1_000_000, fraction(nanos % 1_000_000, 6));
    }
    let rest = format!("{}{}s", seconds % 60, fraction(duration.subsec_nanos(), 9));
    match (seconds / 3_600, seconds / 60 % 60) {
        (0, 0) => rest,
        (0, minutes) => format!("{minutes}m{rest}"),
        (hours, minutes) => format!("{hours}h{minutes}m{rest}"),
    }
}

/// Compat: `LongRunningFunc` of kube-apiserver.
fn long_running(info: &RequestInfo) -> bool {
    matches!(info.verb.as_str(), "watch" | "proxy")
        || matches!(info.subresource.as_str(), "attach" | "exec" | "proxy" | "log" | "portforward")
}

fn cut(user_agent: &str) -> String {
    let end =
        user_agent.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= MAX_USER_AGENT).last();
    match user_agent.get(..end.unwrap_or(0)) {
        Some(start) if start.len() < user_agent.len() => format!("{start}{CUT}"),
        _ => user_agent.to_owned(),
    }
}

/// Compat: `SourceIPs` of apimachinery: what proxies say comes first, and the peer is always there.
fn source_ips(forwarded: &str, real: &str, peer: Option<IpAddr>) -> Vec<String> {
    let mut found: Vec<IpAddr> = forwarded.split(',').filter_map(|part| part.trim().parse().ok()).collect();
    if let Ok(real) = real.parse()
        && !found.contains(&real)
    {
        found.push(real);
    }
    if let Some(peer) = peer
        && found.last() != Some(&peer)
    {
        found.push(peer);
    }
    found.iter().map(|ip| ip.to_canonical().to_string()).collect()
}

/// What was tried, when nobody could be authenticated.
///
/// Compat: `getAuthMethods`.
pub(crate) fn attempted(headers: &HeaderMap, params: &Params, certificate: bool) -> String {
    let authorization = headers.get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let authorization = authorization.unwrap_or_default().trim();
    let scheme = authorization.split_once(' ').map(|(scheme, _)| scheme.to_ascii_lowercase());
    let mut methods = Vec::new();
    if scheme.as_deref() == Some("basic") {
        methods.push("basic");
    }
    if scheme.as_deref() == Some("bearer") {
        methods.push("bearer");
    }
    if !params.get("access_token").trim().is_empty() {
        methods.push("access_token");
    }
    if certificate {
        methods.push("x509");
    }
    if methods.is_empty() {
        "Authentication failed, no credentials provided".to_owned()
    } else {
        format!("Authentication failed, attempted: {}", methods.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_addresses_are_those_of_proxies_and_the_peer() {
        let peer = Some("127.0.0.1".parse().unwrap());
        for (forwarded, real, want) in [
            ("", "", vec!["127.0.0.1"]),
            ("1.2.3.4, junk,5.6.7.8", "", vec!["1.2.3.4", "5.6.7.8", "127.0.0.1"]),
            ("1.2.3.4", "1.2.3.4", vec!["1.2.3.4", "127.0.0.1"]),
            ("", "9.9.9.9", vec!["9.9.9.9", "127.0.0.1"]),
            ("1.1.1.1,127.0.0.1", "", vec!["1.1.1.1", "127.0.0.1"]),
        ] {
            assert_eq!(source_ips(forwarded, real, peer), want, "{forwarded} {real}");
        }
    }

    #[test]
    fn durations_read_as_in_go() {
        for (nanos, want) in [
            (512_300_000, "512.3ms"),
            (600_000_000, "600ms"),
            (3_001_153_271, "3.001153271s"),
            (60_000_000_000, "1m0s"),
            (3_723_500_000_000, "1h2m3.5s"),
        ] {
            assert_eq!(go_duration(Duration::from_nanos(nanos)), want);
        }
    }

    #[test]
    fn long_user_agents_are_cut() {
        assert_eq!(cut(&"a".repeat(1_024)).len(), 1_024);
        assert_eq!(cut(&"a".repeat(1_025)), format!("{}{CUT}", "a".repeat(1_024)));
        assert_eq!(cut(&"é".repeat(600)), format!("{}{CUT}", "é".repeat(512)));
        assert_eq!(cut(""), "");
    }
}
