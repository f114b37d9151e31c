//! Create and update, of objects and of their parts; what a patch makes of an object is stored here too.
//!
//! Flow: options → body in its kind's shape → names and namespace → escalation check → what admission makes of it → strategy
//! (defaults, addresses, validation) → what admission refuses → store → what follows from it.
//!
//! Compat: the order of checks and their texts follow `endpoints/handlers` and `registry/generic` of Kubernetes 1.37.

use std::collections::HashSet;
use std::sync::Arc;

use portcullis_kube::Status;
use portcullis_kube::field::FieldError;
use portcullis_kube::status::GroupResource;
use serde_json::Value;

use super::form::one;
use super::place::{is_of_no_namespace, registry_key};
use super::read::version_number;
use super::{Asked, certificates, no_such_method, store_error};
use crate::admission;
use crate::deletion::registry;
use crate::engine::Engine;
use crate::http::body::{self, Decoded, Expected};
use crate::http::params::WriteOptions;
use crate::http::reply::Reply;
use crate::http::{Call, Outcome};
use crate::policy::{check_create_on_update, check_escalation};
use crate::resources::pod_spec::annotations;
use crate::resources::services::allocate::{self, Taken};
use crate::resources::strategy::Through;
use crate::resources::tree::{Members, string_at};
use crate::resources::{self, SCALE_KIND, Serves, pods, scale, strategy, text};
use crate::store::StoreError;
use crate::store::object::Object;

/// How often a write is tried again because another came between. Compat: upstream tries for 34 seconds.
const ATTEMPTS: usize = 1_000;
/// How often a name is generated for an object while each is taken. Compat: `maxNameGenerationCreateAttempts`.
const GENERATED_NAMES: usize = 8;

/// POST to a collection.
pub(crate) fn create(engine: &Engine, asked: &Asked<'_>) -> Outcome<Reply> {
    let nowhere = asked.resource.namespaced && asked.namespace.is_empty();
    if !asked.name.is_empty() || (nowhere && !is_of_no_namespace(&asked.call.path)) {
        return Err(no_such_method());
    }
    let options = WriteOptions::parse(&asked.call.params, "CreateOptions")?;
    let decoded = decode(asked, options)?;
    create_object(engine, asked, decoded, options)
}

fn create_object(engine: &Engine, asked: &Asked<'_>, mut decoded: Decoded, options: WriteOptions) -> Outcome<Reply> {
    check_namespace(asked, &decoded.members)?;
    if asked.resource.namespaced && asked.namespace.is_empty() {
        let (what, why) = (asked.resource, FieldError::required("metadata.namespace", ""));
        let name = text(&decoded.members, &["metadata", "name"]);
        return Err(Box::new(Status::invalid(what.group, what.kind, &name, &[why])));
    }
    one_of_each_owner(asked.call, &mut decoded, "");
    let (policy, place) = (engine.policy.snapshot(), (asked.namespace, asked.name));
    check_escalation(&policy, asked.user, asked.resource, place, &decoded.members, None)?;
    admission::change_new(engine, asked, &mut decoded.members)?;
    if std::ptr::eq(asked.resource, pods()) {
        decoded.warnings.extend(annotations::app_armor_as_fields(&mut decoded.members));
        asked.call.note(&decoded.warnings);
    }
    let at = |name| !text(&decoded.members, &["metadata", name]).is_empty();
    if at("generateName") && !at("name") {
        for _ in 1..GENERATED_NAMES {
            let again = Decoded { members: decoded.members.clone(), warnings: decoded.warnings.clone() };
            match place_new(engine, asked, again, options) {
                Err(status) if status.reason == "AlreadyExists" => {}
                done => return done,
            }
        }
    }
    place_new(engine, asked, decoded, options)
}

/// Gives a new object its name and what else the server gives it, judges and stores it.
fn place_new(engine: &Engine, asked: &Asked<'_>, decoded: Decoded, options: WriteOptions) -> Outcome<Reply> {
    let (policy, place) = (engine.policy.snapshot(), (asked.namespace, asked.name));
    let version = text(&decoded.members, &["metadata", "resourceVersion"]);
    let now = engine.clock.now();
    let mut members = strategy::new_object(asked.resource, decoded.members, asked.namespace, &engine.rng, now);
    body::check_values(&members)?;
    certificates::of_caller(asked, &mut members);
    let of_services = std::ptr::eq(asked.resource, resources::services());
    let turn = of_services.then(|| engine.address_turn());
    if of_services {
        let mut taken = Taken::of(&engine.store).only_tried(options.dry_run);
        allocate::create(&mut members, &mut taken, &engine.rng)?;
    }
    let members = strategy::finish_create(asked.resource, members);
    let name = text(&members, &["metadata", "name"]);
    let wrong = strategy::validate_create(asked.served, &members);
    if !wrong.is_empty() {
        return Err(Box::new(Status::invalid(asked.resource.group, asked.resource.kind, &name, &wrong)));
    }
    let mut warnings = decoded.warnings;
    warnings.extend((asked.served.rules.warnings)(&members, None));
    asked.call.note(&warnings);
    warnings.extend(admission::judge_new(engine, asked, &members)?);
    if !asked.name.is_empty() {
        check_create_on_update(&policy, asked.user, asked.resource, place)?;
    }
    // Compat: the store looks at it, and takes what is no number for nothing.
    if !options.dry_run && version_number(&version).is_ok_and(|version| version.unwrap_or(0) != 0) {
        return Err(Box::new(Status::failure(500, "", "resourceVersion should not be set on objects to be created")));
    }
    let members = strategy::stored(asked.resource, members);
    let stem = !string_at(&members, &["metadata", "generateName"]).is_empty();
    let object =
        if options.dry_run { dry_create(engine, asked, members) } else { engine.store.create(asked.resource, members) };
    drop(turn);
    let object = object.map_err(|error| match error {
        StoreError::Exists => already_there(engine, asked, &name, stem),
        error => store_error(error, asked.served, asked.namespace, &name),
    })?;
    if !options.dry_run {
        engine.written(asked.resource, asked.namespace, &name);
        engine.explain(asked.resource, &object);
    }
    let mut reply = one(engine, asked, 201, &object)?;
    reply.warn(&warnings);
    Ok(reply)
}

/// The 409 for a name that is taken. Compat: it tells whether the other one is going, and whether the name could have been
/// another.
fn already_there(engine: &Engine, asked: &Asked<'_>, name: &str, stem: bool) -> Box<Status> {
    let what = asked.served.group_resource();
    let mut status = if stem { Status::name_not_generated(what, name) } else { Status::already_exists(what, name) };
    if engine.store.get(asked.resource, asked.namespace, name).is_some_and(|there| there.terminating) {
        status.message = format!("object is being deleted: {}", status.message);
    }
    Box::new(status)
}

/// What every POST below an object is judged by first: namespaces.
pub(super) fn admit_part(engine: &Engine, asked: &Asked<'_>, members: &Members) -> Outcome<()> {
    check_namespace(asked, members)?;
    admission::change_part(engine, asked)
}

/// The answer to a POST that leaves nothing to show.
pub(super) fn done() -> Status {
    Status { status: "Success".to_owned(), code: 201, ..Status::default() }
}

/// What a create would have given. Its version is not assigned.
fn dry_create(engine: &Engine, asked: &Asked<'_>, members: Members) -> Result<Arc<Object>, StoreError> {
    let name = text(&members, &["metadata", "name"]);
    if engine.store.get(asked.resource, asked.namespace, &name).is_some() {
        return Err(StoreError::Exists);
    }
    Ok(Object::seal(asked.resource, members, 0))
}

/// The body, in the form that is stored.
fn decode(asked: &Asked<'_>, options: WriteOptions) -> Outcome<Decoded> {
    Ok(taken(asked, body::decode(asked.call, expected(asked)?, options.field_validation)?))
}

/// What was sent to a view, in the form that is stored.
pub(super) fn taken(asked: &Asked<'_>, decoded: Decoded) -> Decoded {
    Decoded { members: strategy::taken(asked.served, decoded.members), ..decoded }
}

/// PUT of an object or of a part of one.
pub(crate) fn update(engine: &Engine, asked: &Asked<'_>) -> Outcome<Reply> {
    let options = WriteOptions::parse(&asked.call.params, "UpdateOptions")?;
    let decoded = decode(asked, options)?;
    check_identity(asked, &decoded.members)?;
    asked.check_key()?;
    if engine.store.get(asked.resource, asked.namespace, asked.name).is_none() {
        // Compat: objects of some kinds are created by an update.
        if asked.subresource.is_some() || !asked.resource.rules.create_on_update {
            return Err(store_error(StoreError::NotFound, asked.served, asked.namespace, asked.name));
        }
        check_uid(asked, &decoded.members, "", options)?;
        let mut decoded = decoded;
        if let Some(Value::Object(metadata)) = decoded.members.get_mut("metadata") {
            metadata.shift_remove("resourceVersion");
        }
        return create_object(engine, asked, decoded, options);
    }
    let mut first = Some(decoded);
    settle(engine, asked, options, |old| {
        let mut decoded = match first.take() {
            Some(decoded) => decoded,
            None => decode(asked, options)?,
        };
        one_of_each_owner(asked.call, &mut decoded, "");
        check_uid(asked, &decoded.members, &old.uid, options)?;
        Ok(decoded)
    })
}

/// Stores what `wanted` makes of the object, and does so again when another write came between.
///
/// Compat: `GuaranteedUpdate`: whoever named a version meets the newer one the second time, and is told.
pub(super) fn settle(
    engine: &Engine,
    asked: &Asked<'_>,
    options: WriteOptions,
    mut wanted: impl FnMut(&Object) -> Outcome<Decoded>,
) -> Outcome<Reply> {
    let failed = |error| Err(store_error(error, asked.served, asked.namespace, asked.name));
    for _ in 0..ATTEMPTS {
        let Some(old) = engine.store.get(asked.resource, asked.namespace, asked.name) else {
            return failed(StoreError::NotFound);
        };
        let decoded = wanted(&old)?;
        match replace(engine, asked, &old, decoded, options)? {
            Err(StoreError::Conflict) => {}
            Err(error) => return failed(error),
            Ok((object, warnings)) => {
                let mut reply = one(engine, asked, 200, &object)?;
                reply.warn(&warnings);
                return Ok(reply);
            }
        }
    }
    failed(StoreError::Conflict)
}

/// Takes away owners that stand there twice, and warns of them. `when` is what a patch's warning says in addition.
pub(super) fn one_of_each_owner(call: &Call, decoded: &mut Decoded, when: &str) {
    let owners = decoded.members.get_mut("metadata").and_then(|metadata| metadata.get_mut("ownerReferences"));
    let Some(Value::Array(owners)) = owners else { return };
    let mut seen = HashSet::new();
    let mut twice = Vec::new();
    owners.retain(|owner| {
        let first = seen.insert(owner.to_string());
        if !first {
            twice.push(owner.get("uid").and_then(Value::as_str).unwrap_or_default().to_owned());
        }
        first
    });
    if twice.is_empty() {
        return;
    }
    let warning = format!(
        ".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, and may \
         reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
        twice.join(", ")
    );
    decoded.warnings.push(warning);
    call.note(&decoded.warnings);
}

/// The id that a body names has to be the object's.
fn check_uid(asked: &Asked<'_>, members: &Members, old: &str, options: WriteOptions) -> Outcome<()> {
    let uid = string_at(members, &["metadata", "uid"]);
    if uid.is_empty() || uid == old {
        return Ok(());
    }
    // Compat: without effect it is not etcd that says so, but what stands before it.
    let key = registry_key(asked.resource, asked.namespace, asked.name);
    let key = if options.dry_run { key.trim_start_matches("/registry") } else { key.as_str() };
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: \
         Precondition failed: UID in precondition: {uid}, UID in object meta: {old}"
    );
    Err(Box::new(Status::conflict(asked.served.group_resource(), asked.name, &why)))
}

/// An object as it was stored, and what its owner is to be told.
type Written = (Arc<Object>, Vec<String>);

/// The new state of an object and its warnings. The inner error is the store's: the object may have changed meanwhile.
fn replace(
    engine: &Engine,
    asked: &Asked<'_>,
    old: &Object,
    decoded: Decoded,
    options: WriteOptions,
) -> Outcome<Result<Written, StoreError>> {
    let version = text(&decoded.members, &["metadata", "resourceVersion"]);
    let before = old.members();
    let place = (asked.namespace, asked.name);
    let policy = engine.policy.snapshot();
    check_escalation(&policy, asked.user, asked.resource, place, &decoded.members, Some(&before))?;
    // Compat: a version of zero is none.
    let version = version_number(&version).map_err(|why| Box::new(Status::failure(500, "", why)))?.unwrap_or(0);
    if version == 0 && !asked.resource.rules.unconditional_update {
        let why = FieldError::invalid_json("metadata.resourceVersion", &0, "must be specified for an update");
        // Compat: this one message names the resource where others name the kind.
        return Err(Box::new(Status::invalid(asked.resource.group, asked.resource.plural, asked.name, &[why])));
    }
    if version != 0 && version != old.version {
        return Err(store_error(StoreError::Conflict, asked.served, asked.namespace, asked.name));
    }
    let mut sent = whole(asked, decoded.members, &before)?;
    admission::change_update(engine, asked, &mut sent, &before);
    let of_services = std::ptr::eq(asked.resource, resources::services()) && asked.subresource.is_none();
    let turn = of_services.then(|| engine.address_turn());
    let mut members = strategy::next_state(asked.resource, sent, &before);
    body::check_values(&members)?;
    if of_services {
        let mut taken = Taken::of(&engine.store).only_tried(options.dry_run);
        allocate::update(&mut members, &before, &mut taken, &engine.rng)?;
    }
    certificates::stamp_conditions(engine, asked, &mut members, &before);
    let members = strategy::finish_update(asked.resource, through(asked), members, &before);
    let wrong = strategy::validate_update(asked.served, through(asked), &members, &before);
    if !wrong.is_empty() {
        return Err(Box::new(Status::invalid(asked.resource.group, asked.resource.kind, asked.name, &wrong)));
    }
    let mut warnings = decoded.warnings;
    if let Through::Object = through(asked) {
        warnings.extend((asked.served.rules.warnings)(&members, Some(&before)));
    }
    asked.call.note(&warnings);
    warnings.extend(admission::judge_update(engine, asked, &members, &before)?);
    certificates::check_signer(&policy, asked, &members, &before)?;
    let mut members = strategy::stored(asked.resource, members);
    // Compat: it is not kept, and an update without effect shows it.
    if let Some(Value::Object(metadata)) = members.get_mut("metadata").filter(|_| !options.dry_run) {
        metadata.shift_remove("selfLink");
    }
    if members == before || options.dry_run {
        return Ok(Ok((Object::seal(asked.resource, members, old.version), warnings)));
    }
    // Compat: what is going goes with its last finalizer. Watches see it as it was stored, the client as it asked for it.
    let released = old.terminating && registry::is_free(asked.resource, &members) && registry::is_due(&before);
    let object = if released {
        let gone = engine.store.remove(asked.resource, old);
        gone.map(|_| Object::seal(asked.resource, members, old.version))
    } else {
        engine.store.replace(asked.resource, old, members)
    };
    drop(turn);
    let object = match object {
        Ok(object) => object,
        Err(error) => return Ok(Err(error)),
    };
    if released {
        engine.removed(asked.resource, asked.namespace, asked.name);
    } else {
        engine.written(asked.resource, asked.namespace, asked.name);
        if std::ptr::eq(asked.resource, pods()) && pods::is_gated(&before) {
            engine.explain_pending(&object);
        }
    }
    Ok(Ok((object, warnings)))
}

/// The kind that the path takes.
pub(super) fn expected(asked: &Asked<'_>) -> Outcome<Expected> {
    Expected::at(asked.served, asked.subresource)
}

/// The part of the object that the path is about.
fn through(asked: &Asked<'_>) -> Through {
    match asked.subresource.map(|part| &part.serves) {
        Some(Serves::Status) => Through::Status,
        Some(Serves::Part(rules)) => Through::Part(rules),
        None | Some(_) => Through::Object,
    }
}

/// The whole object that a body of the path's kind asks for.
fn whole(asked: &Asked<'_>, sent: Members, before: &Members) -> Outcome<Members> {
    let Some(Serves::Scale) = asked.subresource.map(|part| &part.serves) else { return Ok(sent) };
    let wrong = scale::validate(&sent);
    if !wrong.is_empty() {
        let name = string_at(&sent, &["metadata", "name"]);
        return Err(Box::new(Status::invalid(SCALE_KIND.0, SCALE_KIND.2, name, &wrong)));
    }
    let uid = |members| string_at(members, &["metadata", "uid"]).to_owned();
    let (sent_uid, own_uid) = (uid(&sent), uid(before));
    if !sent_uid.is_empty() && sent_uid != own_uid {
        let why = format!("Precondition failed: UID in precondition: {sent_uid}, UID in object meta: {own_uid}");
        let what = format!("{}/scale", asked.resource.plural);
        let what = GroupResource::new(asked.resource.group, &what);
        return Err(Box::new(Status::conflict(what, asked.name, &why)));
    }
    Ok(scale::apply(&sent, before))
}

/// Namespace and name of an object are those of the path.
pub(super) fn check_identity(asked: &Asked<'_>, members: &Members) -> Outcome<()> {
    check_namespace(asked, members)?;
    let name = string_at(members, &["metadata", "name"]);
    if name.is_empty() {
        let why = "undeterminable: name must be provided";
        let why = format!("the name of the object ({} based on URL) was {why}", asked.name);
        return Err(Box::new(Status::bad_request(why)));
    }
    if name != asked.name {
        let why = format!("the name of the object ({name}) does not match the name on the URL ({})", asked.name);
        return Err(Box::new(Status::bad_request(why)));
    }
    Ok(())
}

/// The namespace of a body is that of the path, or absent.
fn check_namespace(asked: &Asked<'_>, members: &Members) -> Outcome<()> {
    let sent = text(members, &["metadata", "namespace"]);
    if asked.resource.namespaced && !sent.is_empty() && *sent != *asked.namespace {
        let why = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Box::new(Status::bad_request(why)));
    }
    Ok(())
}

impl Engine {
    /// Says on the pod and in an event why a user's pod stays Pending.
    pub(crate) fn explain_pending(&self, pod: &Object) {
        let now = self.clock.now();
        let mut members = pod.members();
        let node = text(&members, &["spec", "nodeName"]);
        if !node.is_empty() && !self.is_own_node(&node) {
            // It waits for that node's kubelet, and no scheduler has a say.
            return;
        }
        if pods::is_gated(&members) {
            // It waits for its gates to go.
            return;
        }
        pods::mark_unschedulable(&mut members, &now.rfc3339());
        let members = strategy::shape(pods(), members);
        // Lost to a parallel change: the event still says it.
        let _ = self.store.replace(pods(), pod, members);
        self.record(pods(), pod, "Warning", "FailedScheduling", pods::NOTHING_RUNS);
    }
}
