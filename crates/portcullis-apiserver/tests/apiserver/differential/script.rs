//! How requests are written down: a line with method and path, lines with headers if there are any, and the body.
//!
//! Empty lines and lines that begin with `#` say nothing. In paths and bodies short names stand for longer texts, and `$RV` and
//! `$UID` for the version and id in the last answer that had them; `$UID(name)` for the id of the last object of that name.
//! `%*3*text*` is the text three times.

/// A request.
pub(super) struct Step {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

const METHODS: [&str; 7] = ["GET ", "POST ", "PUT ", "PATCH ", "DELETE ", "OPTIONS ", "HEAD "];
/// Beginnings of paths.
const ROOTS: [(&str, &str); 13] = [
    ("CRDS", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"),
    ("CSRS", "/apis/certificates.k8s.io/v1/certificatesigningrequests"),
    ("NS", "/api/v1/namespaces"),
    ("RBAC", "/apis/rbac.authorization.k8s.io/v1"),
    ("APPS", "/apis/apps/v1/namespaces"),
    ("BATCH", "/apis/batch/v1/namespaces"),
    ("NET", "/apis/networking.k8s.io/v1"),
    ("STORAGE", "/apis/storage.k8s.io/v1"),
    ("SLICES", "/apis/discovery.k8s.io/v1/namespaces"),
    ("HPA1", "/apis/autoscaling/v1/namespaces"),
    ("HPA2", "/apis/autoscaling/v2/namespaces"),
    ("EVENTS", "/apis/events.k8s.io/v1/namespaces"),
    ("LEASES", "/apis/coordination.k8s.io/v1/namespaces"),
];
/// Values of headers.
const VALUES: [(&str, &str); 8] = [
    ("TABLE", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"),
    ("PARTIAL", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"),
    ("PARTIALS", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"),
    ("MERGE", "application/merge-patch+json"),
    ("JSONPATCH", "application/json-patch+json"),
    ("STRATEGIC", "application/strategic-merge-patch+json"),
    ("APPLY", "application/apply-patch+yaml"),
    ("YAML", "application/yaml"),
];
/// Parts of bodies.
const PARTS: [(&str, &str); 4] = [
    ("%SELECTOR", r#""selector":{"matchLabels":{"app":"a"}}"#),
    (
        "%TEMPLATE",
        r#""template":{"metadata":{"labels":{"app":"a"}},"spec":{"containers":[{"name":"c","image":"i:1"}]}}"#,
    ),
    ("%JOB", r#""template":{"spec":{"restartPolicy":"Never","containers":[{"name":"c","image":"i:1"}]}}"#),
    ("%CONTAINERS", r#""containers":[{"name":"c","image":"i:1"}]"#),
];

/// Reads the requests of a theme, whose name `%NS` stands for.
pub(super) fn steps(theme: &str, text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let line = line.replace("%NS", theme);
        if METHODS.iter().any(|method| line.starts_with(method)) {
            let (method, path) = line.split_once(' ').unwrap();
            let root = ROOTS.iter().find(|(short, _)| path.starts_with(short));
            let path = root.map_or_else(|| path.to_owned(), |(short, long)| path.replacen(short, long, 1));
            steps.push(Step { method: method.to_owned(), path, headers: Vec::new(), body: String::new() });
            continue;
        }
        let step = steps.last_mut().unwrap();
        match line.split_once(": ") {
            Some((name, value)) if step.body.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '-') => {
                let value = VALUES.iter().find(|(short, _)| *short == value).map_or(value, |(_, long)| long);
                step.headers.push((name.to_owned(), value.to_owned()));
            }
            _ => {
                let line = PARTS.iter().fold(line, |line, (short, long)| line.replace(short, long));
                if !step.body.is_empty() {
                    step.body.push('\n');
                }
                step.body.push_str(&repeated(&line));
            }
        }
    }
    steps
}

/// Writes out what is to stand there often.
fn repeated(line: &str) -> String {
    let mut parts = line.split("%*");
    let mut out = parts.next().unwrap().to_owned();
    for part in parts {
        let [times, text, rest] = part.splitn(3, '*').collect::<Vec<_>>()[..] else { return line.to_owned() };
        out.push_str(&text.repeat(times.parse().unwrap()));
        out.push_str(rest);
    }
    out
}
