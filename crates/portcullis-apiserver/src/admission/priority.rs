//! `Priority`: a pod's priority is that of its class, and only one class is the default.
//!
//! Compat: `plugin/pkg/admission/priority` of Kubernetes 1.37.

use serde_json::{Value, json};

use super::{refusal, refuse, told_name};
use crate::engine::Engine;
use crate::handlers::Asked;
use crate::http::Outcome;
use crate::resources::priority_classes;
use crate::resources::tree::{Members, at, flag_at, object, string_at};

const ALWAYS: &str = "PreemptLowerPriority";

/// Gives a new pod the priority of its class, or of the default one.
pub(super) fn change_new(engine: &Engine, asked: &Asked<'_>, pod: &mut Members) -> Outcome<()> {
    let name = told_name(pod).to_owned();
    let refuse = |why: String| Err(refusal(asked, &name, &why));
    let spec = object(pod, "spec");
    let wanted = string_at(spec, &["priorityClassName"]).to_owned();
    let class = if wanted.is_empty() {
        default_class(engine)
    } else {
        match engine.store.get(priority_classes(), "", &wanted) {
            Some(class) => Some(class.members()),
            None => return refuse(format!("no PriorityClass with name {wanted} was found")),
        }
    };
    let (class_name, number, policy) = match &class {
        Some(class) => (string_at(class, &["metadata", "name"]), value(class), string_at(class, &["preemptionPolicy"])),
        None => ("", 0, ALWAYS),
    };
    if let Some(given) = at(spec, &["priority"]).and_then(Value::as_i64).filter(|given| *given != number) {
        return refuse(format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller \
             computed {number} from the given PriorityClass name"
        ));
    }
    let given = string_at(spec, &["preemptionPolicy"]);
    if !policy.is_empty() && !given.is_empty() && given != policy {
        return refuse(format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission \
             controller computed {policy} from the given PriorityClass name"
        ));
    }
    if !class_name.is_empty() {
        spec.insert("priorityClassName".to_owned(), json!(class_name));
    }
    spec.insert("priority".to_owned(), json!(number));
    if !policy.is_empty() {
        spec.insert("preemptionPolicy".to_owned(), json!(policy));
    }
    Ok(())
}

/// Refuses a second default class.
pub(super) fn judge_class(engine: &Engine, asked: &Asked<'_>, new: &Members) -> Outcome<()> {
    if !flag_at(new, &["globalDefault"]) {
        return Ok(());
    }
    let Some(there) = default_class(engine) else { return Ok(()) };
    let there = string_at(&there, &["metadata", "name"]);
    if !asked.name.is_empty() && asked.name == there {
        return Ok(());
    }
    refuse(asked, new, &format!("PriorityClass {there} is already marked as default. Only one default can exist"))
}

/// The default class; of several, which only a race can make, the lowest.
fn default_class(engine: &Engine) -> Option<Members> {
    let classes = engine.store.all(priority_classes(), "").into_iter().map(|class| class.members());
    classes.filter(|class| flag_at(class, &["globalDefault"])).min_by_key(value)
}

fn value(class: &Members) -> i64 {
    at(class, &["value"]).and_then(Value::as_i64).unwrap_or(0)
}
