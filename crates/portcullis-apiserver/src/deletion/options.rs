//! `DeleteOptions`: from the body, or from the query when the body is empty.
//!
//! Compat: `endpoints/handlers/delete.go` and `ValidateDeleteOptions` of Kubernetes 1.37.

use portcullis_kube::field::FieldError;
use serde_json::Value;

use crate::handlers::Asked;
use crate::http::Outcome;
use crate::http::body;
use crate::http::params::{check_dry_run, invalid};
use crate::resources::at;
use crate::resources::tree::{Members, list_at, members_at};

/// What a client asks for.
#[derive(Debug, Default, Clone)]
pub(crate) struct DeleteOptions {
    /// Seconds that the object has to end.
    pub(crate) grace: Option<i64>,
    /// The identity that the object must have.
    pub(crate) uid: Option<String>,
    /// The version that the object must have.
    pub(crate) version: Option<String>,
    pub(crate) policy: Option<Policy>,
    /// The older word for a policy: true leaves dependants behind.
    pub(crate) orphan: Option<bool>,
    pub(crate) dry_run: bool,
    /// Only an object that cannot be read is to go.
    pub(crate) unreadable: bool,
}

/// What becomes of the dependants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    Orphan,
    Background,
    Foreground,
}

impl Policy {
    const ALL: [(&'static str, Self); 3] =
        [("Foreground", Self::Foreground), ("Background", Self::Background), ("Orphan", Self::Orphan)];

    fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, policy)| *policy)
    }
}

/// The options as they were sent.
#[derive(Debug, Default, Clone)]
pub(crate) struct Sent {
    pub(crate) grace: Option<i64>,
    pub(crate) preconditions: bool,
    pub(crate) uid: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) policy: Option<String>,
    pub(crate) orphan: Option<bool>,
    pub(crate) dry_run: Vec<String>,
    pub(crate) unreadable: bool,
}

/// Reads the options of a DELETE.
pub(crate) fn read(asked: &Asked<'_>, collection: bool) -> Outcome<DeleteOptions> {
    let sent = if asked.call.body.is_empty() { of_query(asked)? } else { of_body(asked)? };
    let unreadable = sent.unreadable;
    let options = sent.checked()?;
    if unreadable && collection {
        let why = "is not allowed with DELETECOLLECTION, try again after removing the option";
        invalid("DeleteOptions", &[FieldError::invalid_json(UNREADABLE, &true, why)])?;
    }
    Ok(options)
}

pub(crate) const UNREADABLE: &str = "ignoreStoreReadErrorWithClusterBreakingPotential";

impl Sent {
    /// The options of a document.
    pub(crate) fn of(members: &Members) -> Self {
        let text = |path: &[&str]| at(members, path).and_then(Value::as_str).map(str::to_owned);
        Self {
            grace: at(members, &["gracePeriodSeconds"]).and_then(Value::as_i64),
            preconditions: has_preconditions(members),
            uid: text(&["preconditions", "uid"]),
            version: text(&["preconditions", "resourceVersion"]),
            policy: text(&["propagationPolicy"]),
            orphan: at(members, &["orphanDependents"]).and_then(Value::as_bool),
            dry_run: list_at(members, &["dryRun"]).iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            unreadable: at(members, &[UNREADABLE]).and_then(Value::as_bool).unwrap_or(false),
        }
    }

    /// What is asked for, when nothing is wrong with it.
    pub(crate) fn checked(self) -> Outcome<DeleteOptions> {
        let mut wrong = Vec::new();
        validate(&self, &mut wrong);
        let dry_run: Vec<&str> = self.dry_run.iter().map(String::as_str).collect();
        let dry_run = check_dry_run(&dry_run, &mut wrong);
        if self.unreadable {
            alone(&self, &mut wrong);
        }
        invalid("DeleteOptions", &wrong)?;
        Ok(DeleteOptions {
            grace: self.grace,
            uid: self.uid,
            version: self.version,
            policy: self.policy.as_deref().and_then(Policy::named),
            orphan: self.orphan,
            dry_run,
            unreadable: self.unreadable,
        })
    }
}

fn validate(sent: &Sent, wrong: &mut Vec<FieldError>) {
    let Some(policy) = &sent.policy else { return };
    if sent.orphan.is_some() {
        let why = "orphanDependents and deletionPropagation cannot be both set";
        wrong.push(FieldError::invalid_json("propagationPolicy", policy, why));
    }
    if Policy::named(policy).is_none() {
        let supported = ["Foreground", "Background", "Orphan", "nil"];
        wrong.push(FieldError::not_supported_typed("propagationPolicy", policy, &supported));
    }
}

fn alone(sent: &Sent, wrong: &mut Vec<FieldError>) {
    let others = [
        (sent.policy.is_some(), "propagationPolicy"),
        (sent.orphan.is_some(), "orphanDependents"),
        (sent.grace.is_some(), "gracePeriodSeconds"),
        (sent.preconditions, "preconditions"),
    ];
    for (_, name) in others.iter().filter(|(set, _)| *set) {
        wrong.push(FieldError::invalid_json(UNREADABLE, &true, format!("cannot be set together with .{name}")));
    }
}

fn of_query(asked: &Asked<'_>) -> Outcome<Sent> {
    let params = &asked.call.params;
    let flag = |name: &str| params.has(name).then(|| params.flag(name));
    // Compat: `Convert_url_Values_To_v1_DeleteOptions`.
    let precondition = |name: &str| Some(params.get(name)).filter(|text| !text.is_empty()).map(str::to_owned);
    let (uid, version) = (precondition("uid"), precondition("resourceVersion"));
    Ok(Sent {
        grace: params.number("gracePeriodSeconds")?,
        orphan: flag("orphanDependents"),
        policy: params.has("propagationPolicy").then(|| params.get("propagationPolicy").to_owned()),
        dry_run: params.all("dryRun").map(str::to_owned).collect(),
        unreadable: params.flag(UNREADABLE),
        preconditions: uid.is_some() || version.is_some(),
        uid,
        version,
    })
}

fn of_body(asked: &Asked<'_>) -> Outcome<Sent> {
    Ok(Sent::of(&body::decode_options(asked.call, "DeleteOptions", "meta.DeleteOptions")?))
}

fn has_preconditions(members: &Members) -> bool {
    members.get("preconditions").is_some_and(Value::is_object) || !members_at(members, &["preconditions"]).is_empty()
}
