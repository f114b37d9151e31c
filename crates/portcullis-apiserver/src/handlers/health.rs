//! Health endpoints, `/version`, `/metrics` and the list of paths.
//!
//! Compat: `/livez`, `/readyz` and `/healthz` with `?verbose` and `?exclude`, and one path per check, as
//! `apiserver/pkg/server/healthz` answers them. The checks are ours.

use std::collections::BTreeSet;

use portcullis_kube::discovery::VersionInfo;
use portcullis_kube::go::quote;

use super::no_representation;
use crate::engine::Engine;
use crate::http::negotiate::{Encoding, routed};
use crate::http::reply::Reply;
use crate::http::{Call, Outcome};
use crate::openapi::OpenApi;

const ENDPOINTS: [&str; 3] = ["livez", "readyz", "healthz"];
/// What is checked; all of it holds once requests are answered at all.
const CHECKS: [&str; 4] = ["ping", "log", "store", "poststarthook/rbac/bootstrap-roles"];

/// The answer of a health endpoint; `None` for another path.
pub(crate) fn health(call: &Call, path: &str) -> Option<Reply> {
    let path = path.strip_prefix('/')?;
    let (endpoint, check) = path.split_once('/').map_or((path, None), |(endpoint, check)| (endpoint, Some(check)));
    let endpoint = ENDPOINTS.into_iter().find(|known| *known == endpoint)?;
    if let Some(check) = check {
        // Compat: a slash at the end leads elsewhere.
        if !CHECKS.contains(&check) {
            return Some(Reply::page_not_found());
        }
        // Compat: a single check says nothing about sniffing.
        let mut reply = Reply::text(200, "ok");
        reply.headers.remove(http::header::X_CONTENT_TYPE_OPTIONS);
        return Some(reply);
    }
    if !call.params.has("verbose") {
        return Some(Reply::text(200, "ok"));
    }
    let excluded: Vec<&str> = call.params.all("exclude").collect();
    let mut text = String::new();
    for check in CHECKS {
        let state = if excluded.contains(&check) { "excluded: ok" } else { "ok" };
        text.push_str(&format!("[+]{check} {state}\n"));
    }
    let unknown: BTreeSet<&str> = excluded.into_iter().filter(|name| !CHECKS.contains(name)).collect();
    if !unknown.is_empty() {
        let unknown: Vec<String> = unknown.into_iter().map(quote).collect();
        let unknown = unknown.join(",");
        text.push_str(&format!("warn: some health checks cannot be excluded: no matches for {unknown}\n"));
    }
    text.push_str(&format!("{endpoint} check passed\n"));
    Some(Reply::text(200, text))
}

/// `/version`.
///
/// Compat: it is JSON only, indented for everyone.
pub(crate) fn version(engine: &Engine, call: &Call) -> Outcome<Reply> {
    let produced = "application/json";
    if !routed(&call.accept(), &[produced]) {
        return Err(no_representation(produced));
    }
    Ok(Reply::json(200, &engine.version, Encoding::Pretty).unlogged())
}

/// `/metrics`, in Prometheus' text format whatever the client takes.
pub(crate) fn metrics(engine: &Engine) -> Reply {
    let mut reply = Reply::text(200, engine.metrics.encode()).unlogged();
    reply.set(http::header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
    reply.headers.remove(http::header::X_CONTENT_TYPE_OPTIONS);
    reply
}

/// `/`: every path, indented for everyone.
pub(crate) fn paths(engine: &Engine) -> Reply {
    let mut paths: Vec<String> = engine.discovery.paths().map(str::to_owned).collect();
    paths.extend(OpenApi::paths());
    paths.push("/apis/".to_owned());
    paths.extend(["/metrics", "/version"].map(str::to_owned));
    for endpoint in ENDPOINTS {
        paths.push(format!("/{endpoint}"));
        paths.extend(CHECKS.iter().map(|check| format!("/{endpoint}/{check}")));
    }
    paths.sort();
    Reply::json(200, &serde_json::json!({"paths": paths}), Encoding::Pretty).unlogged()
}

/// What `/version` says: the Kubernetes release whose behaviour this is, with build metadata that says it is not that.
pub(crate) fn version_info(git_version: &str, go_arch: &str) -> VersionInfo {
    let mut numbers = git_version.trim_start_matches('v').split('.');
    let major = numbers.next().unwrap_or_default().to_owned();
    let minor = numbers.next().unwrap_or_default().to_owned();
    let before = minor.parse::<u32>().map(|minor| minor.saturating_sub(1).to_string()).unwrap_or_default();
    VersionInfo {
        emulation_major: major.clone(),
        emulation_minor: minor.clone(),
        min_compatibility_major: major.clone(),
        min_compatibility_minor: before,
        major,
        minor,
        git_version: git_version.to_owned(),
        git_commit: String::new(),
        git_tree_state: "clean".to_owned(),
        build_date: "1970-01-01T00:00:00Z".to_owned(),
        go_version: String::new(),
        compiler: "rustc".to_owned(),
        platform: format!("linux/{go_arch}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(line: &str) -> Option<(u16, String)> {
        let call = Call::test(line, "");
        let reply = health(&call, &call.path)?;
        Some((reply.status.as_u16(), String::from_utf8(reply.bytes().to_vec()).unwrap()))
    }

    #[test]
    fn each_endpoint_has_its_short_and_its_long_form() {
        for endpoint in ENDPOINTS {
            assert_eq!(body(&format!("GET /{endpoint}")), Some((200, "ok".to_owned())));
            let (_, long) = body(&format!("GET /{endpoint}?verbose")).unwrap();
            assert!(long.starts_with("[+]ping ok\n") && long.ends_with(&format!("{endpoint} check passed\n")));
            assert_eq!(body(&format!("GET /{endpoint}/ping")), Some((200, "ok".to_owned())));
            for other in ["nope", "", "ping/"] {
                assert_eq!(body(&format!("GET /{endpoint}/{other}")).unwrap().0, 404);
            }
        }
        assert_eq!(body("GET /livezz"), None);
        let excluded = body("GET /livez?verbose&exclude=ping&exclude=y&exclude=x&exclude=y").unwrap().1;
        assert!(excluded.contains("no matches for \"x\",\"y\"\n"));
    }

    #[tokio::test]
    async fn metrics_are_for_those_who_may_get_them() {
        let world = crate::world::world();
        world.engine.metrics.gauge("answer", "A.", &[]).set(&[], 42.0);
        let ask = async |user: &str, line: &str| {
            let call = Call::test(line, "").with("authorization", &format!("Bearer {user}"));
            world.send(call).await
        };
        let reply = ask("admin", "GET /metrics").await;
        assert_eq!(reply.status.as_u16(), 200);
        assert_eq!(reply.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
        assert!(String::from_utf8_lossy(reply.bytes()).contains("\nanswer 42\n"));
        assert_eq!(ask("jane", "GET /metrics").await.status.as_u16(), 403);
        assert_eq!(ask("admin", "POST /metrics").await.status.as_u16(), 405);
        assert_eq!(ask("admin", "GET /metrics/slis").await.status.as_u16(), 404);
        assert!(String::from_utf8_lossy(ask("admin", "GET /").await.bytes()).contains("\"/metrics\""));
    }

    #[test]
    fn the_version_names_the_release_and_us() {
        let version = version_info("v1.37.2+portcullis", "amd64");
        assert_eq!((version.major.as_str(), version.minor.as_str()), ("1", "37"));
        assert_eq!(version.min_compatibility_minor, "36");
    }
}
