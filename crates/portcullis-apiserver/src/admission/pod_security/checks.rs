//! The rules of the levels: what a pod that is held to one may not say, and has to say.
//!
//! Compat: `pod-security-admission/policy` of v0.37.2; rules are told in the order of upstream's names.

use std::collections::BTreeSet;

use portcullis_kube::go::quote;
use serde_json::Value;

use super::policy::{Level, LevelVersion, Version};
use crate::resources::tree::{Members, child, flag, flag_at, has, integer, list, list_at, members, string, string_at};

/// What a rule has found: in a word, and exactly.
pub(super) struct Found {
    pub(super) reason: String,
    pub(super) detail: String,
}

/// A pod, or what pods are to be made of.
pub(super) struct Pod<'a> {
    pub(super) annotations: &'a Members,
    pub(super) spec: &'a Members,
}

struct Rule {
    /// The minor version with which it began.
    since: u64,
    /// Since when a stricter rule stands in its place at the level `restricted`.
    gives_way: Option<u64>,
    check: fn(&Pod<'_>, Version) -> Option<Found>,
}

const fn rule(since: u64, check: fn(&Pod<'_>, Version) -> Option<Found>) -> Rule {
    Rule { since, gives_way: None, check }
}

const BASELINE: [Rule; 12] = [
    rule(0, app_armor),
    Rule { gives_way: Some(22), ..rule(0, added_capabilities) },
    rule(0, host_namespaces),
    Rule { gives_way: Some(0), ..rule(0, host_paths) },
    rule(0, host_ports),
    rule(34, hosts_of_probes),
    rule(0, privileged),
    Rule { gives_way: Some(35), ..rule(0, proc_mount) },
    rule(0, se_linux_options),
    Rule { gives_way: Some(19), ..rule(0, seccomp) },
    rule(0, sysctls),
    rule(0, host_process),
];
const RESTRICTED: [Rule; 7] = [
    rule(8, privilege_escalation),
    rule(22, dropped_capabilities),
    rule(35, |pod, _| masked_proc(pod)),
    rule(0, volumes),
    rule(0, non_root),
    rule(23, user_zero),
    rule(19, seccomp_is_said),
];
const SAFE_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// Kernel settings that are safe, and since when they count as such.
const SAFE_SYSCTLS: [(&str, u64); 14] = [
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
    ("net.ipv4.tcp_slow_start_after_idle", 37),
    ("net.ipv4.tcp_notsent_lowat", 37),
];
const SAFE_VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];
const SECCOMP: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_OF: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APP_ARMOR_OF: &str = "container.apparmor.security.beta.kubernetes.io/";

/// What is beyond a level.
pub(super) fn beyond(pod: &Pod<'_>, held_to: LevelVersion) -> Vec<Found> {
    let (level, version) = (held_to.level, held_to.version);
    let replaced = |rule: &&Rule| level == Level::Restricted && rule.gives_way.is_some_and(|since| version.has(since));
    let baseline = BASELINE.iter().filter(|rule| level >= Level::Baseline && !replaced(rule));
    let restricted = RESTRICTED.iter().filter(|_| level == Level::Restricted);
    let rules = baseline.chain(restricted).filter(|rule| version.has(rule.since));
    rules.filter_map(|rule| (rule.check)(pod, version)).collect()
}

impl<'a> Pod<'a> {
    fn containers(&self) -> impl Iterator<Item = &'a Value> {
        let spec = self.spec;
        ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(move |list| list_at(spec, &[list]))
    }

    /// Names of the containers of which something holds.
    fn named(&self, holds: impl Fn(&Value) -> bool) -> Vec<&'a str> {
        self.containers().filter(|container| holds(container)).map(|container| string(container, "name")).collect()
    }

    /// The security context of the pod.
    fn context(&self) -> &'a Value {
        self.spec.get("securityContext").unwrap_or(&Value::Null)
    }

    fn is_windows(&self) -> bool {
        string_at(self.spec, &["os", "name"]) == "windows"
    }

    /// Compat: since 1.35 a pod with users of its own may be root there.
    fn has_own_users(&self, version: Version) -> bool {
        version.has(35) && self.spec.get("hostUsers") == Some(&Value::Bool(false))
    }
}

fn context(container: &Value) -> &Value {
    child(container, "securityContext")
}

fn found(reason: &str, detail: String) -> Option<Found> {
    Some(Found { reason: reason.to_owned(), detail })
}

fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

/// `container "a"`, `containers "a", "b"`.
fn told(containers: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", containers.len()), quoted(containers.iter().copied()))
}

/// Who says something: the pod, containers, or both; `None` when nobody does.
fn setters(pod: bool, containers: &[&str]) -> Option<String> {
    let of_pod = pod.then(|| "pod".to_owned());
    let of_containers = (!containers.is_empty()).then(|| told(containers));
    let all: Vec<String> = of_pod.into_iter().chain(of_containers).collect();
    (!all.is_empty()).then(|| all.join(" and "))
}

fn app_armor(pod: &Pod<'_>, _: Version) -> Option<Found> {
    let odd = |context: &'_ Value| {
        let profile = child(context, "appArmorProfile");
        profile.is_object() && !matches!(string(profile, "type"), "RuntimeDefault" | "Localhost")
    };
    let kind = |context: &Value| string(child(context, "appArmorProfile"), "type").to_owned();
    let containers = pod.named(|container| odd(context(container)));
    let contexts = pod.containers().map(context).chain([pod.context()]);
    let mut values: Vec<String> =
        contexts.filter(|context| odd(context)).map(kind).collect::<BTreeSet<_>>().into_iter().collect();
    let annotations = pod.annotations.iter().filter_map(|(name, value)| {
        let value = value.as_str().unwrap_or_default();
        let fine = value.is_empty() || value == "runtime/default" || value.starts_with("localhost/");
        (name.starts_with(APP_ARMOR_OF) && !fine).then(|| format!("{name}={}", quote(value)))
    });
    let annotations: BTreeSet<String> = annotations.collect();
    let of_annotations =
        (!annotations.is_empty()).then(|| plural("annotation", "annotations", annotations.len()).to_owned());
    let who: Vec<String> = setters(odd(pod.context()), &containers).into_iter().chain(of_annotations).collect();
    if who.is_empty() {
        return None;
    }
    values.extend(annotations);
    let reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", values.len());
    let values = quoted(values.iter().map(String::as_str));
    found(reason, format!("{} must not set AppArmor profile type to {values}", who.join(" and ")))
}

/// Capabilities that a container adds and that are not among those that are let through.
fn added<'a>(container: &'a Value, fine: &'a [&str]) -> impl Iterator<Item = &'a str> {
    let names = list(child(context(container), "capabilities"), "add").iter().filter_map(Value::as_str);
    names.filter(move |name| !fine.contains(name))
}

fn too_many_capabilities(pod: &Pod<'_>, fine: &[&str]) -> Option<String> {
    let containers = pod.named(|container| added(container, fine).next().is_some());
    let names: BTreeSet<&str> = pod.containers().flat_map(|container| added(container, fine)).collect();
    let detail =
        || format!("{} must not include {} in securityContext.capabilities.add", told(&containers), quoted(names));
    (!containers.is_empty()).then(detail)
}

fn added_capabilities(pod: &Pod<'_>, _: Version) -> Option<Found> {
    too_many_capabilities(pod, &SAFE_CAPABILITIES).and_then(|detail| found("non-default capabilities", detail))
}

fn dropped_capabilities(pod: &Pod<'_>, version: Version) -> Option<Found> {
    if version.has(25) && pod.is_windows() {
        return None;
    }
    let kept = pod
        .named(|container| !list(child(context(container), "capabilities"), "drop").iter().any(|name| name == "ALL"));
    let kept =
        (!kept.is_empty()).then(|| format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", told(&kept)));
    let all: Vec<String> = kept.into_iter().chain(too_many_capabilities(pod, &["NET_BIND_SERVICE"])).collect();
    if all.is_empty() { None } else { found("unrestricted capabilities", all.join("; ")) }
}

fn host_namespaces(pod: &Pod<'_>, _: Version) -> Option<Found> {
    let named = ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|name| flag_at(pod.spec, &[*name]));
    let named: Vec<String> = named.map(|name| format!("{name}=true")).collect();
    if named.is_empty() { None } else { found("host namespaces", named.join(", ")) }
}

fn host_paths(pod: &Pod<'_>, _: Version) -> Option<Found> {
    let volumes = list_at(pod.spec, &["volumes"]).iter().filter(|volume| has(volume, "hostPath"));
    let names: Vec<&str> = volumes.map(|volume| string(volume, "name")).collect();
    if names.is_empty() {
        return None;
    }
    found("hostPath volumes", format!("{} {}", plural("volume", "volumes", names.len()), quoted(names)))
}

fn host_ports(pod: &Pod<'_>, _: Version) -> Option<Found> {
    let ports = |container: &Value| -> Vec<String> {
        let numbers = list(container, "ports").iter().filter_map(|port| integer(port, "hostPort"));
        numbers.filter(|number| *number != 0).map(|number| number.to_string()).collect()
    };
    let containers = pod.named(|container| !ports(container).is_empty());
    let numbers: BTreeSet<String> = pod.containers().flat_map(ports).collect();
    if containers.is_empty() {
        return None;
    }
    let detail = format!(
        "{} {} {} {}",
        told(&containers),
        plural("uses", "use", containers.len()),
        plural("hostPort", "hostPorts", numbers.len()),
        numbers.into_iter().collect::<Vec<_>>().join(", ")
    );
    found("hostPort", detail)
}

/// Hosts other than the pod that a container's probes and hooks talk to.
fn hosts(container: &Value) -> BTreeSet<&str> {
    let probes = ["livenessProbe", "readinessProbe", "startupProbe"].map(|name| child(container, name));
    let hooks = ["postStart", "preStop"].map(|name| child(child(container, "lifecycle"), name));
    let actions = probes.into_iter().chain(hooks).flat_map(|one| [child(one, "httpGet"), child(one, "tcpSocket")]);
    actions.map(|action| string(action, "host")).filter(|host| !host.is_empty()).collect()
}

fn hosts_of_probes(pod: &Pod<'_>, _: Version) -> Option<Found> {
    let containers: BTreeSet<&str> = pod.named(|container| !hosts(container).is_empty()).into_iter().collect();
    let hosts: BTreeSet<&str> = pod.containers().flat_map(hosts).collect();
    if containers.is_empty() {
        return None;
    }
    let containers: Vec<&str> = containers.into_iter().collect();
    let detail = format!(
        "{} {} {} {}",
        told(&containers),
        plural("uses", "use", containers.len()),
        plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len()),
        quoted(hosts)
    );
    found("probe or lifecycle host", detail)
}

fn privileged(pod: &Pod<'_>, _: Version) -> Option<Found> {
    let containers = pod.named(|container| flag(context(container), "privileged"));
    let detail = || format!("{} must not set securityContext.privileged=true", told(&containers));
    if containers.is_empty() { None } else { found("privileged", detail()) }
}

fn proc_mount(pod: &Pod<'_>, version: Version) -> Option<Found> {
    if pod.has_own_users(version) { None } else { masked_proc(pod) }
}

fn masked_proc(pod: &Pod<'_>) -> Option<Found> {
    let kind = |container: &Value| {
        child(context(container), "procMount").as_str().filter(|kind| *kind != "Default").map(str::to_owned)
    };
    let containers = pod.named(|container| kind(container).is_some());
    let kinds: BTreeSet<String> = pod.containers().filter_map(kind).collect();
    if containers.is_empty() {
        return None;
    }
    let kinds = quoted(kinds.iter().map(String::as_str));
    found("procMount", format!("{} must not set securityContext.procMount to {kinds}", told(&containers)))
}

fn se_linux_options(pod: &Pod<'_>, version: Version) -> Option<Found> {
    let fine = |kind: &str| {
        matches!(kind, "" | "container_t" | "container_init_t" | "container_kvm_t")
            || (kind == "container_engine_t" && version.has(31))
    };
    let options = |context: &Value| members(context, "seLinuxOptions").clone();
    let wrong = |context: &Value| {
        let of = options(context);
        !fine(string_at(&of, &["type"])) || ["user", "role"].iter().any(|name| !string_at(&of, &[*name]).is_empty())
    };
    let containers = pod.named(|container| wrong(context(container)));
    let who = setters(wrong(pod.context()), &containers)?;
    let all: Vec<Members> = pod.containers().map(context).chain([pod.context()]).map(options).collect();
    let kinds: BTreeSet<&str> = all.iter().map(|of| string_at(of, &["type"])).filter(|kind| !fine(kind)).collect();
    let mut data = Vec::new();
    if !kinds.is_empty() {
        data.push(format!("{} {}", plural("type", "types", kinds.len()), quoted(kinds)));
    }
    for name in ["user", "role"] {
        if all.iter().any(|of| !string_at(of, &[name]).is_empty()) {
            data.push(format!("{name} may not be set"));
        }
    }
    found("seLinuxOptions", format!("{who} set forbidden securityContext.seLinuxOptions: {}", data.join("; ")))
}

/// Whether a seccomp profile is named that takes nothing away.
fn odd_profile(context: &Value) -> bool {
    let profile = child(context, "seccompProfile");
    profile.is_object() && !matches!(string(profile, "type"), "Localhost" | "RuntimeDefault")
}

fn seccomp(pod: &Pod<'_>, version: Version) -> Option<Found> {
    if !version.has(19) {
        return old_seccomp(pod);
    }
    let containers = pod.named(|container| odd_profile(context(container)));
    let who = setters(odd_profile(pod.context()), &containers)?;
    let contexts = pod.containers().map(context).chain([pod.context()]).filter(|context| odd_profile(context));
    let kinds: BTreeSet<&str> = contexts.map(|context| string(child(context, "seccompProfile"), "type")).collect();
    found("seccompProfile", format!("{who} must not set securityContext.seccompProfile.type to {}", quoted(kinds)))
}

/// Compat: before 1.19 annotations named the profile.
fn old_seccomp(pod: &Pod<'_>) -> Option<Found> {
    let of_containers = pod.containers().map(|container| format!("{SECCOMP_OF}{}", string(container, "name")));
    let names = of_containers.chain([SECCOMP.to_owned()]);
    let wrong = names.filter_map(|name| {
        let value = pod.annotations.get(&name)?.as_str()?;
        let fine = matches!(value, "runtime/default" | "docker/default") || value.starts_with("localhost/");
        (!fine).then(|| format!("{name}={}", quote(value)))
    });
    let wrong: BTreeSet<String> = wrong.collect();
    if wrong.is_empty() {
        return None;
    }
    let detail = format!(
        "forbidden {} {}",
        plural("annotation", "annotations", wrong.len()),
        wrong.into_iter().collect::<Vec<_>>().join(", ")
    );
    found("seccompProfile", detail)
}

fn seccomp_is_said(pod: &Pod<'_>, version: Version) -> Option<Found> {
    if version.has(25) && pod.is_windows() {
        return None;
    }
    if let Some(odd) = seccomp(pod, version) {
        return Some(odd);
    }
    if has(pod.context(), "seccompProfile") {
        return None;
    }
    let containers = pod.named(|container| !has(context(container), "seccompProfile"));
    let detail = || {
        let must = "must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"";
        format!("pod or {} {must}", told(&containers))
    };
    if containers.is_empty() { None } else { found("seccompProfile", detail()) }
}

fn sysctls(pod: &Pod<'_>, version: Version) -> Option<Found> {
    let fine = |name: &str| SAFE_SYSCTLS.iter().any(|(safe, since)| *safe == name && version.has(*since));
    let names = list(pod.context(), "sysctls").iter().map(|setting| string(setting, "name"));
    let names: Vec<&str> = names.filter(|name| !fine(name)).collect();
    if names.is_empty() { None } else { found("forbidden sysctls", names.join(", ")) }
}

fn host_process(pod: &Pod<'_>, _: Version) -> Option<Found> {
    let is = |context: &Value| flag(child(context, "windowsOptions"), "hostProcess");
    let containers = pod.named(|container| is(context(container)));
    let who = setters(is(pod.context()), &containers)?;
    found("hostProcess", format!("{who} must not set securityContext.windowsOptions.hostProcess=true"))
}

fn privilege_escalation(pod: &Pod<'_>, version: Version) -> Option<Found> {
    if version.has(25) && pod.is_windows() {
        return None;
    }
    let refused = |container: &Value| child(context(container), "allowPrivilegeEscalation") == &Value::Bool(false);
    let containers = pod.named(|container| !refused(container));
    let detail = || format!("{} must set securityContext.allowPrivilegeEscalation=false", told(&containers));
    if containers.is_empty() { None } else { found("allowPrivilegeEscalation != false", detail()) }
}

fn volumes(pod: &Pod<'_>, _: Version) -> Option<Found> {
    let volumes = list_at(pod.spec, &["volumes"]).iter();
    let unsafe_ones: Vec<&Value> =
        volumes.filter(|volume| !SAFE_VOLUMES.iter().any(|kind| has(volume, kind))).collect();
    if unsafe_ones.is_empty() {
        return None;
    }
    let kind = |volume: &&'_ Value| -> String {
        let kinds =
            volume.as_object().into_iter().flatten().filter(|(name, value)| *name != "name" && value.is_object());
        kinds.map(|(name, _)| name.clone()).next().unwrap_or_else(|| "unknown".to_owned())
    };
    let kinds: BTreeSet<String> = unsafe_ones.iter().map(kind).collect();
    let names: Vec<&str> = unsafe_ones.iter().map(|volume| string(volume, "name")).collect();
    let detail = format!(
        "{} {} {} {} {}",
        plural("volume", "volumes", names.len()),
        quoted(names.iter().copied()),
        plural("uses", "use", names.len()),
        plural("restricted volume type", "restricted volume types", kinds.len()),
        quoted(kinds.iter().map(String::as_str))
    );
    found("restricted volume types", detail)
}

fn non_root(pod: &Pod<'_>, version: Version) -> Option<Found> {
    if pod.has_own_users(version) {
        return None;
    }
    let said = |context: &Value| child(context, "runAsNonRoot").as_bool();
    let containers = pod.named(|container| said(context(container)) == Some(false));
    if let Some(who) = setters(said(pod.context()) == Some(false), &containers) {
        return found("runAsNonRoot != true", format!("{who} must not set securityContext.runAsNonRoot=false"));
    }
    if said(pod.context()) == Some(true) {
        return None;
    }
    let containers = pod.named(|container| said(context(container)).is_none());
    let detail = || format!("pod or {} must set securityContext.runAsNonRoot=true", told(&containers));
    if containers.is_empty() { None } else { found("runAsNonRoot != true", detail()) }
}

fn user_zero(pod: &Pod<'_>, version: Version) -> Option<Found> {
    if pod.has_own_users(version) {
        return None;
    }
    let zero = |context: &Value| integer(context, "runAsUser") == Some(0);
    let containers = pod.named(|container| zero(context(container)));
    let who = setters(zero(pod.context()), &containers)?;
    found("runAsUser=0", format!("{who} must not set runAsUser=0"))
}
