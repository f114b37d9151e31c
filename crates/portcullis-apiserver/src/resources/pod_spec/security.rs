//! Security contexts, and what holds for one operating system only.
//!
//! Compat: `ValidateSecurityContext`, `validateWindows`, `validateLinux` and `validateWindowsHostProcessPod` of
//! `pkg/apis/core/validation`.

use portcullis_kube::field::FieldError;
use portcullis_kube::names;
use serde_json::{Value, json};

use super::super::check::{Path, Wrong, formats};
use super::super::tree::{Members, at, child, flag, flag_at, has, integer, list_at, string};

/// Longest credential specification, in KiB.
const MAX_SPECIFICATION: usize = 64;
/// A domain is shorter than that, in bytes.
const MAX_DOMAIN: usize = 256;
/// Longest path of an AppArmor profile, in bytes.
const MAX_PROFILE: usize = 4_095;
/// Longest name of a user, in bytes.
const MAX_USER: usize = 104;

/// The security context of a container.
pub(super) fn of_container(context: &Value, path: &Path, wrong: &mut Wrong) {
    if context.is_null() {
        return;
    }
    for name in ["runAsUser", "runAsGroup"] {
        if let Some(id) = integer(context, name) {
            wrong.each_number(&path.child(name), id, formats::unix_id(id));
        }
    }
    wrong.one_of(&path.child("procMount"), string(context, "procMount"), &["Default", "Unmasked"]);
    seccomp(child(context, "seccompProfile"), &path.child("seccompProfile"), wrong);
    let escalation = context.get("allowPrivilegeEscalation").and_then(Value::as_bool);
    if escalation == Some(false) && flag(context, "privileged") {
        let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
        wrong.invalid_value(path, &printed(context), why);
    }
    windows_options(child(context, "windowsOptions"), &path.child("windowsOptions"), wrong);
    app_armor(child(context, "appArmorProfile"), &path.child("appArmorProfile"), wrong);
}

/// The internal type as messages print it.
fn printed(context: &Value) -> Value {
    let or_null = |name: &str| child(context, name).clone();
    json!({"Capabilities": or_null("capabilities"), "Privileged": or_null("privileged"), "SELinuxOptions": or_null("seLinuxOptions"),
        "WindowsOptions": or_null("windowsOptions"), "RunAsUser": or_null("runAsUser"), "RunAsGroup": or_null("runAsGroup"),
        "RunAsNonRoot": or_null("runAsNonRoot"), "ReadOnlyRootFilesystem": or_null("readOnlyRootFilesystem"),
        "AllowPrivilegeEscalation": or_null("allowPrivilegeEscalation"), "ProcMount": or_null("procMount"),
        "SeccompProfile": or_null("seccompProfile"), "AppArmorProfile": or_null("appArmorProfile")})
}

pub(super) fn seccomp(profile: &Value, path: &Path, wrong: &mut Wrong) {
    if profile.is_null() {
        return;
    }
    let kind = string(profile, "type");
    if kind.is_empty() {
        wrong.required(&path.child("type"), "type is required when seccompProfile is set");
    } else {
        wrong.one_of(&path.child("type"), kind, &["Localhost", "RuntimeDefault", "Unconfined"]);
    }
    let at_file = path.child("localhostProfile");
    let file = at(profile.as_object().unwrap_or(&Members::new()), &["localhostProfile"])
        .and_then(Value::as_str)
        .map(str::to_owned);
    match (kind == "Localhost", file) {
        (true, None) => wrong.required(&at_file, "must be set when seccomp type is Localhost"),
        (true, Some(file)) => formats::relative_path(&at_file, &file, wrong),
        (false, Some(file)) => {
            let printed = json!({"Type": kind, "LocalhostProfile": file});
            wrong.invalid_value(&at_file, &printed, "can only be set when seccomp type is Localhost");
        }
        (false, None) => {}
    }
}

/// An AppArmor profile, of a pod or of a container.
pub(super) fn app_armor(profile: &Value, path: &Path, wrong: &mut Wrong) {
    const MISSING: &str = "must be set when AppArmor type is Localhost";
    if profile.is_null() {
        return;
    }
    let (file, at) = (profile.get("localhostProfile").and_then(Value::as_str), path.child("localhostProfile"));
    match string(profile, "type") {
        "Localhost" => {
            let file = file.unwrap_or_default();
            if file.trim() != file {
                wrong.invalid(&at, file, "must not be padded with whitespace");
            } else if file.is_empty() {
                wrong.required(&at, MISSING);
            }
            if file.len() > MAX_PROFILE {
                wrong.push(FieldError::too_long(&at, MAX_PROFILE));
            }
        }
        "RuntimeDefault" | "Unconfined" => {
            if let Some(file) = file {
                wrong.invalid(&at, file, "can only be set when AppArmor type is Localhost");
            }
        }
        "" => wrong.required(&path.child("type"), "type is required when appArmorProfile is set"),
        kind => wrong.not_supported(&path.child("type"), kind, &["Localhost", "RuntimeDefault", "Unconfined"]),
    }
}

/// Options for Windows, of a pod or of a container.
pub(super) fn windows_options(options: &Value, path: &Path, wrong: &mut Wrong) {
    if has(options, "gmsaCredentialSpecName") {
        let name = string(options, "gmsaCredentialSpecName");
        wrong.each(&path.child("gmsaCredentialSpecName"), name, names::dns_subdomain(name));
    }
    if has(options, "gmsaCredentialSpec") {
        let (text, at) = (string(options, "gmsaCredentialSpec"), path.child("gmsaCredentialSpec"));
        if text.is_empty() {
            wrong.invalid(&at, text, "gmsaCredentialSpec cannot be an empty string");
        } else if text.len() > MAX_SPECIFICATION * 1024 {
            wrong.invalid(&at, text, format!("gmsaCredentialSpec size must be under {MAX_SPECIFICATION} KiB"));
        }
    }
    if has(options, "runAsUserName") {
        let name = string(options, "runAsUserName");
        for why in user_name(name) {
            wrong.invalid(&path.child("runAsUserName"), name, why);
        }
    }
}

/// What is wrong with `user` or `domain\\user`.
fn user_name(name: &str) -> Vec<String> {
    let parts: Vec<&str> = name.split('\\').collect();
    let (domain, user) = match parts.as_slice() {
        _ if name.is_empty() => return vec!["runAsUserName cannot be an empty string".to_owned()],
        _ if name.bytes().any(|byte| byte.is_ascii_control()) => {
            return vec!["runAsUserName cannot contain control characters".to_owned()];
        }
        [user] => (None, *user),
        [domain, user] => (Some(*domain), *user),
        _ => return vec!["runAsUserName cannot contain more than one backslash".to_owned()],
    };
    let mut wrong = Vec::new();
    let mut say = |is_so: bool, why: String| {
        if is_so {
            wrong.push(why);
        }
    };
    let long = domain.is_some_and(|domain| domain.len() >= MAX_DOMAIN);
    say(long, format!("runAsUserName's Domain length must be under {MAX_DOMAIN} characters"));
    let odd = domain.is_some_and(|domain| !is_net_bios(domain) && !is_domain(domain));
    say(odd, "runAsUserName's Domain doesn't match the NetBios nor the DNS format".to_owned());
    say(user.is_empty(), "runAsUserName's User cannot be empty".to_owned());
    let long = user.len() > MAX_USER;
    say(long, format!("runAsUserName's User length must not be longer than {MAX_USER} characters"));
    let blank = !user.is_empty() && user.bytes().all(|byte| matches!(byte, b'.' | b' '));
    say(blank, "runAsUserName's User cannot contain only periods or spaces".to_owned());
    let odd = user.contains(['"', '/', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']']);
    let why = r#"runAsUserName's User cannot contain the following characters: "/\:;|=,+*?<>@[]"#;
    say(odd, why.to_owned());
    wrong
}

fn is_net_bios(domain: &str) -> bool {
    let odd = ['\\', '/', ':', '*', '?', '"', '<', '>', '|'];
    (1..=15).contains(&domain.chars().count()) && !domain.starts_with('.') && !domain.contains(odd)
}

fn is_domain(domain: &str) -> bool {
    domain.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    })
}

/// Every container with its place.
pub(super) fn visit<'s>(spec: &'s Members, path: &'s Path) -> impl Iterator<Item = (&'s Value, Path)> {
    ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(move |kind| {
        let all = list_at(spec, &[kind]).iter().enumerate();
        all.map(move |(index, container)| (container, path.child(kind).index(index)))
    })
}

/// Containers that are processes of a Windows host.
pub(super) fn host_processes(spec: &Members, path: &Path, wrong: &mut Wrong) {
    let said = |context: &Value| child(context, "windowsOptions").get("hostProcess").and_then(Value::as_bool);
    let of_pod = at(spec, &["securityContext"]).and_then(said);
    let (mut all, mut hosts) = (0, 0);
    for (container, at) in visit(spec, path) {
        all += 1;
        let own = said(child(container, "securityContext"));
        if let (Some(pod), Some(own)) = (of_pod, own)
            && pod != own
        {
            let at = at.child("securityContext").child("windowsOptions").child("hostProcess");
            let why = format!("pod hostProcess value must be identical if both are specified, was {pod}");
            wrong.invalid_value(&at, &json!(own), why);
        }
        hosts += usize::from(own.or(of_pod) == Some(true));
    }
    if hosts == 0 {
        return;
    }
    if hosts != all {
        let why = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        wrong.invalid(path, "", why);
    }
    if !flag_at(spec, &["hostNetwork"]) {
        let why = "hostNetwork must be true if pod contains any hostProcess containers";
        wrong.invalid_value(&path.child("hostNetwork"), &json!(false), why);
    }
}

/// What a pod for one operating system cannot have.
pub(super) fn by_system(spec: &Members, system: &str, path: &Path, wrong: &mut Wrong) {
    const POD: [&str; 11] = [
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "fsGroup",
        "fsGroupChangePolicy",
        "sysctls",
        "runAsUser",
        "runAsGroup",
        "supplementalGroups",
        "supplementalGroupsPolicy",
        "seLinuxChangePolicy",
    ];
    const CONTAINER: [&str; 10] = [
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "capabilities",
        "readOnlyRootFilesystem",
        "privileged",
        "allowPrivilegeEscalation",
        "procMount",
        "runAsUser",
        "runAsGroup",
    ];
    const FOR_WINDOWS: &str = "cannot be set for a windows pod";
    const FOR_LINUX: &str = "windows options cannot be set for a linux pod";
    let own = spec.get("securityContext").unwrap_or(&Value::Null);
    let (of_pod, of_container, why): (&[&str], &[&str], &str) = match system {
        "windows" => (&POD, &CONTAINER, FOR_WINDOWS),
        _ => (&["windowsOptions"], &["windowsOptions"], FOR_LINUX),
    };
    let at = path.child("securityContext");
    for name in of_pod.iter().filter(|name| has(own, name)) {
        wrong.forbidden(&at.child(name), why);
    }
    if system == "windows" {
        for (name, set) in [
            ("hostUsers", spec.contains_key("hostUsers")),
            ("hostPID", flag_at(spec, &["hostPID"])),
            ("hostIPC", flag_at(spec, &["hostIPC"])),
            ("shareProcessNamespace", spec.contains_key("shareProcessNamespace")),
        ] {
            if set {
                wrong.forbidden(&path.child(name), why);
            }
        }
    }
    for (container, at) in visit(spec, path) {
        let context = child(container, "securityContext");
        for name in of_container.iter().filter(|name| has(context, name)) {
            wrong.forbidden(&at.child("securityContext").child(name), why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::problems;
    use super::*;

    #[test]
    fn names_of_windows_users_have_a_form() {
        for name in ["user", "DOMAIN\\user", "a.example.com\\user", "NT AUTHORITY\\SYSTEM", "a b"] {
            assert!(user_name(name).is_empty(), "{name}");
        }
        let long = "u".repeat(MAX_USER + 1);
        let domain = format!("{}\\u", "d.".repeat(MAX_DOMAIN / 2));
        for (name, count) in [
            ("", 1),
            ("a\\b\\c", 1),
            ("a\u{7}", 1),
            ("\\u", 1),
            ("d\\", 1),
            ("..", 1),
            ("a:b", 1),
            (&*long, 1),
            (&*domain, 2),
        ] {
            assert_eq!(user_name(name).len(), count, "{name}: {:?}", user_name(name));
        }
        let mut wrong = Wrong::default();
        let most = "x".repeat(MAX_SPECIFICATION * 1024);
        windows_options(&json!({"gmsaCredentialSpec": most}), &Path::new("w"), &mut wrong);
        assert!(wrong.is_empty());
        windows_options(&json!({"gmsaCredentialSpec": most + "x"}), &Path::new("w"), &mut wrong);
        assert_eq!(wrong.finish().len(), 1);
    }

    #[test]
    fn a_pod_is_for_one_system() {
        let pod = |system: &str, context: Value| {
            problems(
                json!({"os": {"name": system}, "containers": [{"name": "c", "image": "i", "securityContext": context}]}),
            )
        };
        assert!(pod("windows", json!({"windowsOptions": {"runAsUserName": "u"}})).is_empty());
        assert_eq!(
            pod("linux", json!({"windowsOptions": {}})),
            [
                "spec.containers[0].securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod"
            ]
        );
        assert_eq!(
            pod("windows", json!({"privileged": true})),
            ["spec.containers[0].securityContext.privileged: Forbidden: cannot be set for a windows pod"]
        );
        assert_eq!(
            pod("windows", json!({"windowsOptions": {"hostProcess": true}})),
            [
                "spec.hostNetwork: Invalid value: false: hostNetwork must be true if pod contains any hostProcess containers"
            ]
        );
    }
}
