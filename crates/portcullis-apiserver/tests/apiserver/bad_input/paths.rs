//! Paths: what is not there, what is there in another spelling, and what no name can be.

use super::wire::Case;
use crate::rbac::Dice;

/// Where a word can stand.
const PLACES: &[&str] = &[
    "/api/v1/namespaces/odd/configmaps/{}",
    "/api/v1/namespaces/{}/limitranges/c",
    "/api/v1/namespaces/{}/limitranges",
    "/api/v1/namespaces/{}",
    "/api/v1/namespaces/odd/{}",
    "/api/v1/namespaces/odd/pods/{}/log",
    "/api/v1/namespaces/odd/pods/{}/status",
    "/api/v1/namespaces/odd/configmaps/c/{}",
    "/api/v1/namespaces/odd/configmaps{}",
    "/apis/apps/v1/namespaces/odd/deployments/{}/scale",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles/{}",
    "/api/v1/watch/namespaces/odd/configmaps/{}",
    "/apis/{}",
    "/apis/{}/v1",
    "/apis/{}/v1/things",
    "/apis/apps/{}",
    "/apis/apps/{}/deployments",
    "/api/{}",
    "/api/{}/configmaps",
    "/api/v1/{}",
    "/{}",
    "/{}/v1",
    "/livez/{}",
    "/openapi/v3/{}",
];
/// What stands there, as it is sent.
const WORDS: &[&str] = &[
    "",
    ".",
    "..",
    "...",
    "%2e",
    "%2E%2e",
    "%2F",
    "a%2Fb",
    "a%2fb",
    "..%2f..",
    "%252F",
    "%25",
    "%",
    "a%",
    "%zz",
    "%4",
    "%00",
    "a%00b",
    "%ff",
    "%C3%A9",
    "%C3",
    "\u{e9}",
    "%F0%9F%98%80",
    "%20",
    "a%20b",
    "%0A",
    "%7F",
    "%09",
    "%E2%80%8B",
    "a+b",
    "a%2Bb",
    "a;b",
    ";",
    "a:b",
    ":",
    "a=b",
    "a&b",
    "a,b",
    "a@b",
    "!",
    "$a",
    "'",
    "(a)",
    "*",
    "~",
    "a|b",
    "{a}",
    "[a]",
    "a\\b",
    "^",
    "`",
    "\"",
    "<a>",
    "#a",
    "a#b",
    "?",
    "a?b",
    "/",
    "a/",
    "/a",
    "//",
    "a//b",
    "-a",
    "a-",
    "_",
    "a_b",
    "a..b",
    "A",
    "C",
    "c.",
    "c%20",
    "%63",
    "c",
    "none",
    "system:node",
    "system%3Anode",
    "status",
    "scale",
    "namespaces",
    "watch",
    "proxy",
    "v1",
    "apps",
    "api",
    "odd",
    "ping",
];
/// Whole targets.
const TARGETS: &[&str] = &[
    "//",
    "///",
    "/api//",
    "//api",
    "//api/v1",
    "/api//v1",
    "/api/v1//",
    "/api/v1//configmaps",
    "/api/v1/namespaces//limitranges",
    "/api/v1/namespaces//configmaps/c",
    "/api/v1/namespaces/odd//configmaps",
    "/api/v1/namespaces/odd/configmaps//",
    "/api/v1/namespaces/odd/configmaps//c",
    "/api/v1/namespaces/odd/configmaps/c//",
    "/api/v1/namespaces/odd/configmaps/c/",
    "/api/v1/namespaces/odd/configmaps/",
    "/api/v1/namespaces/odd/",
    "/api/v1/namespaces/odd//",
    "/API",
    "/Api/v1",
    "/api/V1",
    "/apis/Apps/v1",
    "/apis/apps/V1",
    "/api/v1/Namespaces",
    "/api/v1/namespaces/odd/ConfigMaps",
    "/api/v1/namespaces/odd/configmap",
    "/api/v1/namespaces/odd/cm",
    "/./api",
    "/../api",
    "/api/./v1",
    "/api/../api",
    "/api/v1/../v1",
    "/api/v1/namespaces/odd/../odd/configmaps",
    "/api/v1/namespaces/odd/configmaps/../secrets",
    "/%61pi/v1",
    "/api%2Fv1",
    "/api/v1%2Fnamespaces",
    "/api/v1/namespaces%2Fodd%2Fconfigmaps",
    "/api/v1/namespaces/odd%2Fconfigmaps",
    "/api/v1/configmaps/c",
    "/api/v1/pods/waiting",
    "/api/v1/pods/waiting/log",
    "/api/v1/namespaces/odd/nodes",
    "/api/v1/namespaces/odd/nodes/none",
    "/api/v1/namespaces/odd/namespaces",
    "/api/v1/namespaces/odd/namespaces/odd",
    "/api/v1/namespaces/odd/persistentvolumes",
    "/api/v1/namespaces/odd/status",
    "/api/v1/namespaces/odd/status/x",
    "/api/v1/namespaces/odd/finalize",
    "/api/v1/namespaces/odd/finalize/x",
    "/apis/rbac.authorization.k8s.io/v1/namespaces/odd/clusterroles",
    "/apis/rbac.authorization.k8s.io/v1/roles/none",
    "/apis/apps/v1/pods",
    "/apis/apps/v1/namespaces",
    "/api/v1/deployments",
    "/apis/core/v1/pods",
    "/apis//v1/pods",
    "/apis/v1/pods",
    "/api/apps/v1/deployments",
    "/apis/apps/v1beta1/deployments",
    "/apis/extensions/v1beta1/ingresses",
    "/apis/apps",
    "/apis/apps/",
    "/apis/apps//",
    "/apis/apps/v1",
    "/apis/apps/v1/",
    "/apis/apps/v1//",
    "/apis/",
    "/apis//",
    "/api/",
    "/api/v1/watch",
    "/api/v1/watch/",
    "/api/v1/watch//",
    "/api/v1/watch/configmaps/c",
    "/api/v1/watch/namespaces/odd",
    "/api/v1/watch/namespaces/odd/configmaps/c/x",
    "/api/v1/watch/namespaces/odd/configmaps/c/status",
    "/api/v1/watch/namespaces/odd/things",
    "/api/v1/watch/nodes/none",
    "/api/v1/watch/things",
    "/api/v1/watch/watch",
    "/api/v1/watch/namespaces/odd/pods/waiting/log",
    "/api/v1/proxy",
    "/api/v1/proxy/",
    "/api/v1/proxy/namespaces/odd/pods/waiting",
    "/api/v1/proxy/nodes/none",
    "/apis/apps/v1/watch",
    "/apis/apps/v1/watch/deployments/none",
    "/apis/apps/v1/watch/namespaces/odd/deployments/none",
    "/apis/authorization.k8s.io/v1/watch/selfsubjectaccessreviews",
    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews/",
    "/apis/authorization.k8s.io/v1/namespaces/odd/selfsubjectaccessreviews",
    "/apis/authorization.k8s.io/v1/localsubjectaccessreviews",
    "/healthz/",
    "/healthz//",
    "/livez/",
    "/readyz/",
    "/healthz/ping/",
    "/healthz/ping/x",
    "/healthz//ping",
    "/Healthz",
    "/healthzz",
    "/livez/log",
    "/livez/poststarthook",
    "/livez/poststarthook/nothing",
    "/livez/poststarthook/rbac",
    "/version",
    "/version/",
    "/version//",
    "/version/x",
    "/Version",
    "/openapi",
    "/openapi/",
    "/openapi/v1",
    "/openapi/v2",
    "/openapi/v2/",
    "/openapi/v2/x",
    "/openapi/v3",
    "/openapi/v3/",
    "/openapi/v3/apis",
    "/openapi/v3/apis/apps",
    "/openapi/v3/apis/apps/v1",
    "/openapi/v3/apis/apps/v1/",
    "/openapi/v3/apis/apps/v9",
    "/openapi/v3/api",
    "/openapi/v3/api/v1/",
    "/openapi/v3/version",
    "/openapi/v3/version/",
    "/openid",
    "/openid/",
    "/openid/v1",
    "/openid/v1/jwks/",
    "/openid/v1/jwks/x",
    "/.well-known",
    "/.well-known/",
    "/.well-known/openid-configuration/",
    "/.well-known/openid-configuration/x",
    "/.well-known/x",
    "/favicon.ico",
    "/robots.txt",
    "/index.html",
    "/swagger.json",
    "/swaggerapi",
    "/ui",
    "/ui/",
    "/logs",
    "/static",
    "/api/v1?",
    "/?",
    "/??",
    "/api/v1/namespaces/odd/configmaps?",
    "http://127.0.0.1/api",
    "https://127.0.0.1/api/v1",
    "https://other.example/version",
    "HTTPS://other.example/api/v1/namespaces/odd/configmaps/c",
    "http://user:word@127.0.0.1/version",
    "http://[::1]/version",
    "http://[::1/version",
    "ftp://x/version",
    "x://y/version",
    "//host/api",
    "api/v1",
    "version",
    "?x",
    "*",
    "127.0.0.1:443",
    ":",
];

pub(super) fn cases(dice: &Dice) -> Vec<Case> {
    let mut out = Vec::new();
    for place in PLACES {
        for word in WORDS {
            if dice.percent(30) {
                out.push(ask("word", "GET", place.replace("{}", word)));
            }
        }
    }
    for _ in 0..240 {
        let method = dice.word(&["HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "DELETE", "FOO"]);
        let path = if dice.percent(70) {
            dice.word(PLACES).replace("{}", dice.word(WORDS))
        } else {
            dice.word(TARGETS).to_owned()
        };
        out.push(ask("method", method, path));
    }
    for target in TARGETS {
        out.push(ask("target", "GET", *target));
    }
    for method in ["OPTIONS", "HEAD", "POST"] {
        for target in ["*", "127.0.0.1:443", "http://127.0.0.1/version", "/"] {
            out.push(ask("target", method, target));
        }
    }
    out.push(ask("target", "CONNECT", "127.0.0.1:443"));
    for length in [63, 64, 253, 254, 255, 1_000, 8_000, 40_000] {
        for place in PLACES {
            if dice.percent(40) {
                out.push(ask("length", "GET", place.replace("{}", &"x".repeat(length))));
            }
        }
        let deep = "/a".repeat(length / 2);
        out.push(ask("length", "GET", format!("/api/v1{deep}")));
        out.push(ask("length", "GET", deep));
    }
    for _ in 0..60 {
        // By someone who may not even ask.
        let path = dice.word(PLACES).replace("{}", dice.word(WORDS));
        out.push(ask("nobody", dice.word(&["GET", "GET", "DELETE", "POST"]), path).nobody());
    }
    // What is known to differ and would come too rarely by chance.
    out.push(Case::new("word", "GET", "/api/v1/namespaces/a#b/limitranges"));
    out
}

/// Nothing is really written.
fn ask(stratum: &'static str, method: &str, target: impl Into<String>) -> Case {
    let mut target = target.into();
    if matches!(method, "POST" | "PUT" | "PATCH" | "DELETE") {
        let glue = if target.contains('?') { '&' } else { '?' };
        target.push(glue);
        target.push_str("dryRun=All");
    }
    let case = Case::new(stratum, method, target);
    match method {
        "POST" | "PUT" => case.json(r#"{"metadata":{"name":"c"}}"#),
        "PATCH" => case.header("content-type", "application/merge-patch+json").body("{}"),
        _ => case,
    }
}
