//! Random questions. Most are made for a rule that should allow them, and many of those are then bent in one place.

use portcullis_kube::rbac::{PolicyRule, RoleBinding, RoleRef, Subject};
use portcullis_rbac::Policy;
use portcullis_rbac::PolicySource as _;
use serde_json::{Map, Value, json};

use super::world::{GROUPS, NAMES, RESOURCES, SUBRESOURCES, URLS, VERBS, World};
use crate::dice::Dice;

/// A question, and how it came about.
pub(crate) struct Case {
    pub(crate) spec: Value,
    /// What was bent.
    pub(crate) bent: Option<&'static str>,
}

#[derive(Clone, Default)]
struct Draft {
    user: String,
    groups: Vec<String>,
    verb: String,
    /// A path, instead of a resource.
    path: Option<String>,
    group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

/// A question for one world.
pub(crate) fn random(dice: &Dice, world: &World, policy: &Policy) -> Case {
    let (mut draft, mut bent) = (Draft::default(), None);
    match dice.below(100) {
        0..62 => {
            aim(dice, world, policy, &mut draft);
            if dice.percent(45) {
                bent = Some(bend(dice, world, &mut draft));
            }
        }
        62..66 => {
            aim_at_named(dice, world, policy, &mut draft);
            draft.name.clear();
            bent = Some("name");
        }
        66..70 => {
            aim_at(dice, world, policy, dice.pick(&world.role_bindings), &mut draft);
            draft.namespace.clear();
            bent = Some("namespace");
        }
        70..78 => everybody(dice, world, &mut draft),
        78..86 => stranger(dice, world, &mut draft),
        86..92 => {
            stranger(dice, world, &mut draft);
            draft.groups.push("system:masters".to_owned());
        }
        _ => bootstrap_subject(dice, &mut draft),
    }
    Case { spec: spec(dice, draft), bent }
}

/// A question that one rule of one binding answers with yes.
fn aim(dice: &Dice, world: &World, policy: &Policy, draft: &mut Draft) {
    if dice.percent(50) {
        aim_at(dice, world, policy, dice.pick(&world.role_bindings), draft);
        return;
    }
    let binding = dice.pick(&world.cluster_role_bindings);
    become_subject(dice, world, dice.pick(&binding.subjects), "", draft);
    draft.namespace = some_namespace(dice, world);
    match rules(policy, &binding.role_ref, "") {
        [] => random_target(dice, world, draft),
        rules => fit(dice, dice.pick(rules), draft),
    }
}

fn aim_at(dice: &Dice, world: &World, policy: &Policy, binding: &RoleBinding, draft: &mut Draft) {
    let namespace = &binding.metadata.namespace;
    become_subject(dice, world, dice.pick(&binding.subjects), namespace, draft);
    draft.namespace.clone_from(namespace);
    match rules(policy, &binding.role_ref, namespace) {
        [] => random_target(dice, world, draft),
        rules => fit(dice, dice.pick(rules), draft),
    }
}

/// At a rule with names, if the world has one that is bound.
fn aim_at_named(dice: &Dice, world: &World, policy: &Policy, draft: &mut Draft) {
    let named = world.role_bindings.iter().flat_map(|binding| {
        let rules = rules(policy, &binding.role_ref, &binding.metadata.namespace);
        rules.iter().filter(|rule| !rule.resource_names.is_empty()).map(move |rule| (binding, rule))
    });
    let named: Vec<(&RoleBinding, &PolicyRule)> = named.collect();
    if named.is_empty() {
        return aim(dice, world, policy, draft);
    }
    let (binding, rule) = *dice.pick(&named);
    let namespace = &binding.metadata.namespace;
    become_subject(dice, world, dice.pick(&binding.subjects), namespace, draft);
    draft.namespace.clone_from(namespace);
    fit(dice, rule, draft);
}

fn rules<'a>(policy: &'a Policy, role: &RoleRef, namespace: &str) -> &'a [PolicyRule] {
    portcullis_rbac::referenced_rules(policy, role, namespace).unwrap_or_default()
}

fn some_namespace(dice: &Dice, world: &World) -> String {
    match dice.below(4) {
        0 => String::new(),
        1 => "elsewhere".to_owned(),
        _ => dice.pick(&world.namespaces).clone(),
    }
}

fn become_subject(dice: &Dice, world: &World, subject: &Subject, namespace: &str, draft: &mut Draft) {
    let mut groups = dice.some(&world.groups.iter().map(String::as_str).collect::<Vec<_>>(), 0, 2);
    match subject.kind.as_str() {
        "Group" => {
            groups.retain(|_| dice.percent(50));
            draft.user = if dice.percent(80) { format!("{}-nobody", world.mark) } else { String::new() };
            if let Some(namespace) = subject.name.strip_prefix("system:serviceaccounts:") {
                draft.user = format!("system:serviceaccount:{namespace}:{}", world.account(dice));
            }
            groups.insert(dice.below(groups.len() + 1), subject.name.clone());
        }
        "ServiceAccount" => {
            let own = if subject.namespace.is_empty() { namespace } else { &subject.namespace };
            draft.user = format!("system:serviceaccount:{own}:{}", subject.name);
            if dice.percent(70) {
                groups.extend(["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{own}")]);
            }
        }
        _ => draft.user = subject.name.clone(),
    }
    if dice.percent(60) {
        groups.push("system:authenticated".to_owned());
    }
    draft.groups = groups;
}

/// Fills in what a rule allows.
fn fit(dice: &Dice, rule: &PolicyRule, draft: &mut Draft) {
    let choose = |list: &[String], any: &[&str]| match dice.pick(list).as_str() {
        "*" => dice.text(any),
        literal => literal.to_owned(),
    };
    draft.verb = choose(&rule.verbs, VERBS);
    if !rule.non_resource_urls.is_empty() {
        let pattern = dice.pick(&rule.non_resource_urls);
        let path = match pattern.strip_suffix('*') {
            Some("") => dice.text(URLS),
            Some(prefix) => prefix.trim_end_matches('*').to_owned() + dice.word(&["", "x", "/a/b", "*"]),
            None => pattern.clone(),
        };
        draft.path = Some(path);
        return;
    }
    draft.group = choose(&rule.api_groups, GROUPS);
    let pattern = dice.pick(&rule.resources);
    (draft.resource, draft.subresource) = match pattern.split_once('/') {
        None if pattern == "*" => (dice.text(RESOURCES), optional(dice, SUBRESOURCES)),
        None => (pattern.clone(), String::new()),
        Some(("*", sub)) => (dice.text(RESOURCES), sub.to_owned()),
        // It is no wildcard: only a subresource of that very name fits.
        Some((resource, "*")) => {
            (resource.to_owned(), if dice.percent(50) { "*".to_owned() } else { dice.text(SUBRESOURCES) })
        }
        Some((resource, sub)) => (resource.to_owned(), sub.to_owned()),
    };
    draft.name = match rule.resource_names.as_slice() {
        [] => optional(dice, NAMES),
        names => dice.pick(names).clone(),
    };
}

fn optional(dice: &Dice, list: &[&str]) -> String {
    if dice.percent(50) { String::new() } else { dice.text(list) }
}

/// Changes one thing, and says which.
fn bend(dice: &Dice, world: &World, draft: &mut Draft) -> &'static str {
    match dice.below(9) {
        0 => {
            draft.verb = dice.text(VERBS);
            "verb"
        }
        1 => {
            // Case counts everywhere.
            match dice.below(4) {
                0 => draft.verb = draft.verb.to_uppercase(),
                1 => draft.user = draft.user.to_uppercase(),
                2 => draft.groups.iter_mut().for_each(|group| *group = group.to_uppercase()),
                _ => match &mut draft.path {
                    Some(path) => *path = path.to_uppercase(),
                    None => draft.resource = draft.resource.to_uppercase(),
                },
            }
            "case"
        }
        2 => {
            match &mut draft.path {
                Some(path) => path.push_str(dice.word(&["/", "x", "?a=b"])),
                None => draft.group = dice.text(GROUPS),
            }
            "group or path"
        }
        3 => {
            draft.subresource = if draft.subresource.is_empty() { dice.text(SUBRESOURCES) } else { String::new() };
            "subresource"
        }
        4 => {
            draft.resource = dice.text(RESOURCES);
            "resource"
        }
        5 => {
            draft.name = if dice.percent(50) { String::new() } else { dice.text(NAMES) };
            "name"
        }
        6 => {
            draft.namespace = some_namespace(dice, world);
            "namespace"
        }
        7 => {
            draft.user = match dice.below(3) {
                0 => dice.pick(&world.users).clone(),
                1 => format!("{}x", draft.user),
                _ => format!("system:serviceaccount:{}:{}", dice.pick(&world.namespaces), world.account(dice)),
            };
            draft.groups.truncate(dice.below(2));
            "subject"
        }
        _ => {
            draft.path = match draft.path {
                Some(_) => None,
                None => Some(dice.text(URLS)),
            };
            "resource for path"
        }
    }
}

/// A member of the groups that the server gives.
fn everybody(dice: &Dice, world: &World, draft: &mut Draft) {
    let group = dice.word(&["system:authenticated", "system:serviceaccounts", "system:unauthenticated"]);
    draft.user =
        if group == "system:unauthenticated" { "system:anonymous".to_owned() } else { format!("{}-x", world.mark) };
    draft.groups = vec![group.to_owned()];
    draft.namespace = some_namespace(dice, world);
    random_target(dice, world, draft);
    if dice.percent(85) {
        let roles = world.cluster_roles.iter().filter(|role| role.metadata.name.contains("-all"));
        let binding = world.cluster_role_bindings.iter().find(|binding| {
            binding.metadata.name.contains("-all") && binding.subjects.iter().any(|subject| subject.name == group)
        });
        let wanted = &binding.expect("a binding of the group").role_ref.name;
        let role = roles.into_iter().find(|role| role.metadata.name == *wanted).expect("its role");
        draft.path = None;
        fit(dice, &role.rules[0], draft);
    }
}

/// Somebody of this world, asking for anything.
fn stranger(dice: &Dice, world: &World, draft: &mut Draft) {
    draft.user = dice.pick(&world.users).clone();
    draft.groups = dice.some(&world.groups.iter().map(String::as_str).collect::<Vec<_>>(), 0, 3);
    draft.namespace = some_namespace(dice, world);
    random_target(dice, world, draft);
}

fn random_target(dice: &Dice, world: &World, draft: &mut Draft) {
    draft.verb = dice.text(VERBS);
    if dice.percent(25) {
        draft.path = Some(dice.text(URLS));
        return;
    }
    draft.group = dice.text(GROUPS);
    draft.resource = if dice.percent(15) { format!("{}-things", world.mark) } else { dice.text(RESOURCES) };
    draft.subresource = optional(dice, SUBRESOURCES);
    draft.name = optional(dice, NAMES);
}

/// One of those whom a new cluster knows: components, controllers, nodes.
fn bootstrap_subject(dice: &Dice, draft: &mut Draft) {
    let objects = portcullis_rbac::bootstrap::policy();
    let bindings: Vec<_> = objects.cluster_role_bindings().collect();
    let binding = loop {
        let binding = *dice.pick(&bindings);
        if !binding.subjects.is_empty() && binding.metadata.name != "cluster-admin" {
            break binding;
        }
    };
    let subject = dice.pick(&binding.subjects);
    match subject.kind.as_str() {
        "User" => draft.user = subject.name.clone(),
        "Group" => {
            draft.user = "somebody".to_owned();
            draft.groups = vec![subject.name.clone()];
        }
        _ => draft.user = format!("system:serviceaccount:{}:{}", subject.namespace, subject.name),
    }
    if dice.percent(20) {
        draft.user = "system:node:n1".to_owned();
        draft.groups = vec!["system:nodes".to_owned()];
    }
    draft.namespace = dice.text(&["", "default", "kube-system"]);
    match rules(&objects, &binding.role_ref, "") {
        [] => draft.verb = "get".to_owned(),
        rules => fit(dice, dice.pick(rules), draft),
    }
    if dice.percent(30) {
        draft.verb = dice.text(VERBS);
    }
}

fn spec(dice: &Dice, draft: Draft) -> Value {
    let mut spec = json!({});
    let mut user = draft.user;
    if user.is_empty() && draft.groups.is_empty() {
        "nobody".clone_into(&mut user);
    }
    set(&mut spec, "user", &user);
    if !draft.groups.is_empty() {
        spec["groups"] = json!(draft.groups);
    }
    if dice.percent(15) {
        spec["uid"] = json!("7");
        spec["extra"] = json!({"example.com/scope": ["a", "b"]});
    }
    if let Some(path) = draft.path {
        spec["nonResourceAttributes"] = json!({"path": path, "verb": draft.verb});
        return spec;
    }
    let mut asked = json!({"verb": draft.verb});
    for (member, value) in [
        ("group", &draft.group),
        ("resource", &draft.resource),
        ("subresource", &draft.subresource),
        ("namespace", &draft.namespace),
        ("name", &draft.name),
    ] {
        set(&mut asked, member, value);
    }
    if dice.percent(30) {
        asked["version"] = json!(dice.text(&["v1", "*", "v1beta1"]));
    }
    if dice.percent(12) {
        asked["fieldSelector"] = field_selector(dice);
    }
    if dice.percent(12) {
        asked["labelSelector"] = label_selector(dice);
    }
    spec["resourceAttributes"] = asked;
    spec
}

fn set(object: &mut Value, member: &str, value: &str) {
    if !value.is_empty() {
        object[member] = json!(value);
    }
}

/// Text from pieces of the selectors' grammar.
fn pieces(dice: &Dice, pieces: &[&str]) -> String {
    (0..=dice.below(6)).map(|_| dice.text(pieces)).collect()
}

fn field_selector(dice: &Dice) -> Value {
    match dice.below(3) {
        0 => json!({"rawSelector": dice.text(&["metadata.name=x", "a!=b,c==d", "spec.x=a\\,b", "a="])}),
        1 => json!({"rawSelector": pieces(dice, &["a", "=", "==", "!=", ",", "\\", "\\,", "x", "metadata.name", " "])}),
        _ => requirements(dice, &["In", "NotIn", "Exists", "DoesNotExist", "Gt", "odd"], &["a", "metadata.name"]),
    }
}

fn label_selector(dice: &Dice) -> Value {
    match dice.below(3) {
        0 => json!({"rawSelector": dice.text(&["a=b", "a in (b,c),!d", "x notin ()", "a>1", "example.com/a"])}),
        1 => json!({"rawSelector": pieces(dice, &[
            "a", "b", "=", "==", "!=", "!", ",", "(", ")", " in ", " notin ", "in", ">", "<", "1", " ", "_", "\t", "x.y/z",
        ])}),
        _ => requirements(dice, &["In", "NotIn", "Exists", "DoesNotExist", "Gt", "odd"], &["a", "example.com/b"]),
    }
}

/// Requirements that are valid, though not always understood.
fn requirements(dice: &Dice, operators: &[&str], keys: &[&str]) -> Value {
    let one = |_| {
        let operator = dice.text(operators);
        let mut requirement = Map::new();
        requirement.insert("key".to_owned(), json!(dice.text(keys)));
        let values = match operator.as_str() {
            "In" | "NotIn" => dice.some(&["x", "y", ""], 1, 2),
            "Exists" | "DoesNotExist" => Vec::new(),
            _ => dice.some(&["1", "x"], 0, 2),
        };
        requirement.insert("operator".to_owned(), json!(operator));
        if !values.is_empty() {
            requirement.insert("values".to_owned(), json!(values));
        }
        Value::Object(requirement)
    };
    json!({"requirements": (0..=dice.below(3)).map(one).collect::<Vec<_>>()})
}
