//! What clients say that they take: media types, qualities, parameters, and other forms of objects.

use super::wire::Case;
use crate::rbac::Dice;

const MAPS: &str = "/api/v1/namespaces/bad/configmaps";
const KEPT: &str = "/api/v1/namespaces/bad/configmaps/kept";
const REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
/// Values of `Accept` that ask for no other form.
const PLAIN: &[&str] = &[
    "",
    " ",
    "*/*",
    "*",
    "*/",
    "*/json",
    "application/*",
    "application",
    "application/",
    "/json",
    "/",
    "json",
    ",",
    ",,",
    ";",
    ";q=1",
    "application/json",
    "APPLICATION/JSON",
    "application/JSON",
    " application/json ",
    "application / json",
    "\tapplication/json\t",
    "application/json\t,text/html",
    "application/json,",
    ",application/json",
    "application/json;",
    "application/json;;",
    "application/json; charset=utf-8",
    "application/json;charset=latin1",
    "application/json;odd",
    "application/json;odd=",
    "application/json;odd=a",
    "application/json;a=b=c",
    "application/json;a==",
    "application/json;a=\"b,c\"",
    "application/json;pretty=1",
    "application/json;pretty=0",
    "application/json;pretty=true",
    "application/yaml;pretty=1",
    "*/*;pretty=1",
    "application/json;q=0",
    "application/json;q=0.5",
    "application/json;q=1.5",
    "application/json;q=-1",
    "application/json;q=x",
    "application/json;q=",
    "application/json;q=inf",
    "application/json;q=NaN",
    "application/json;q=1e400",
    "application/json; q = 0.5",
    "application/json;q=0.1;q=1,application/yaml;q=0.5",
    "application/json;q=0.1,application/yaml",
    "application/json;q=x,application/yaml;q=0.1",
    "application/json;q=inf,application/yaml",
    "application/json;q=NaN,application/yaml",
    "application/yaml,application/json;q=NaN",
    "application/yaml;q=0.1,application/json",
    "application/yaml,application/json",
    "application/json,application/yaml",
    "*/*;q=0.1,application/yaml;q=0.2",
    "*/*,application/yaml;q=0.2",
    "application/*,application/yaml;q=0.2",
    "application/yaml;q=0.1,*/*",
    "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "text/html,application/json;q=0.1",
    "text/html;q=0.1,application/yaml;q=0.5,application/json;q=0.5",
    "application/json/x",
    "application/json/",
    "application//json",
    "application/json application/yaml",
    "application/problem+json",
    "application/yaml",
    "application/x-yaml",
    "text/yaml",
    "text/plain",
    "text/*",
    "text/html",
    "application/octet-stream",
    "application/cbor",
    "application/cbor,application/json",
    "application/cbor-seq",
    "application/vnd.kubernetes.protobuf",
    "application/vnd.kubernetes.protobuf,application/json",
    "application/json,application/vnd.kubernetes.protobuf",
    "application/vnd.kubernetes.protobuf;q=0.1,application/json;q=0.2",
    "application/vnd.kubernetes.protobuf;stream=odd,application/yaml",
    "application/json;stream=watch",
    "application/json;stream=odd",
    "application/json;stream=",
    "application/json;stream=odd,application/json",
    "application/yaml;stream=watch",
    "application/yaml;stream=watch,application/json",
    "*/*;stream=watch",
    "application/json;sv=v1",
    "application/json;sv=v2",
    "application/json;sv=",
    "application/json;sv=v2,application/yaml",
    "application/json;export=1",
    "application/json;profile=nopeer",
    "application/jwk-set+json",
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf;q=0.1,*/*",
    "\"application/json\"",
    "<>",
    "null",
];
const KINDS: &[&str] =
    &["Table", "PartialObjectMetadata", "PartialObjectMetadataList", "Odd", "table", "APIGroupDiscoveryList", "List"];
const GROUPS: &[&str] = &["meta.k8s.io", "meta.k8s.io", "meta.k8s.io", "", "odd", "apidiscovery.k8s.io"];
const VERSIONS: &[&str] = &["v1", "v1", "v1", "v1beta1", "v2", "", "V1"];
const TYPES: &[&str] =
    &["application/json", "application/json", "application/yaml", "*/*", "application/*", "text/html"];
/// What comes behind a clause.
const BEHIND: &[&str] =
    &["", "", "", ",application/json", ",application/yaml;q=0.5", ",*/*", ";stream=watch", ";odd=a", ";pretty=1"];
/// Paths that tell what there is, and others that are no resources.
const DOCUMENTS: &[&str] = &[
    "/",
    "/api",
    "/api/",
    "/api/v1",
    "/apis",
    "/apis/",
    "/apis/apps",
    "/apis/apps/v1",
    "/apis/nothing",
    "/apis/apps/v9",
    "/version",
    "/healthz",
    "/livez/ping",
    "/nothing",
    "/openid/v1/jwks",
    "/.well-known/openid-configuration",
    "/openapi/v3",
    "/openapi/v3/api",
    "/openapi/v3/nothing",
];

pub(super) fn cases(dice: &Dice) -> Vec<Case> {
    let mut out = Vec::new();
    for accept in PLAIN {
        for target in [KEPT, MAPS] {
            out.push(Case::new("plain", "GET", target).header("accept", accept));
        }
        out.push(write(dice.below(WRITES), dice).header("accept", accept));
        out.push(error(dice.below(ERRORS)).header("accept", accept));
        out.push(Case::new("document", "GET", dice.word(DOCUMENTS)).header("accept", accept));
    }
    for path in DOCUMENTS {
        for _ in 0..5 {
            out.push(Case::new("document", "GET", *path).header("accept", dice.word(PLAIN)));
        }
        out.push(Case::new("document", "GET", *path).header("accept", form(dice)));
        out.push(Case::new("document", "POST", *path).header("accept", dice.word(PLAIN)).json("{}"));
    }
    for _ in 0..12 {
        let accept = dice.word(PLAIN);
        out.push(Case::new("document", "GET", "/openapi/v2").header("accept", accept));
    }
    for kind in &KINDS[..4] {
        for version in ["v1", "v1beta1"] {
            let accept = format!("application/json;as={kind};v={version};g=meta.k8s.io");
            for number in 0..WRITES {
                out.push(write(number, dice).header("accept", &accept));
            }
            for number in 0..ERRORS {
                out.push(error(number).header("accept", &accept));
            }
            for target in READS {
                out.push(Case::new("form", "GET", *target).header("accept", &accept));
                out.push(Case::new("form", "GET", *target).header("accept", format!("{accept},application/yaml")));
            }
            out.push(watch(dice).header("accept", &accept));
        }
    }
    for _ in 0..220 {
        out.push(Case::new("form", "GET", dice.word(READS)).header("accept", form(dice)));
    }
    for _ in 0..60 {
        out.push(write(dice.below(WRITES), dice).header("accept", form(dice)));
    }
    for number in 0..50 {
        let accept = if number % 2 == 0 { form(dice) } else { dice.word(PLAIN).to_owned() };
        out.push(watch(dice).header("accept", accept));
    }
    for _ in 0..60 {
        out.push(Case::new("discovery", "GET", dice.word(&["/api", "/apis", "/apis/", "/api/v1"])).header(
            "accept",
            format!(
                "{}{};g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList{}",
                dice.word(&["", "application/json,", "text/html,", "application/yaml;q=0.1,"]),
                dice.word(TYPES),
                dice.word(&["v2", "v2", "v2beta1", "v1"]),
                dice.word(BEHIND)
            ),
        ));
    }
    for _ in 0..80 {
        let mut accept = Vec::new();
        for _ in 0..2 + dice.below(8) {
            let quality = if dice.percent(60) { format!(";q=0.{}", 1 + dice.below(9)) } else { String::new() };
            let clause = if dice.percent(30) { form(dice) } else { dice.word(PLAIN).to_owned() };
            accept.push(clause + &quality);
        }
        out.push(Case::new("many", "GET", dice.word(READS)).header("accept", accept.join(",")));
    }
    for _ in 0..30 {
        let case = Case::new("two headers", "GET", dice.word(&[KEPT, MAPS, "/api/v1"]));
        out.push(case.header("accept", dice.word(PLAIN)).header("accept", dice.word(PLAIN)));
    }
    // What is known to differ and would come too rarely by chance.
    out.push(Case::new("many", "GET", MAPS).header("accept", MANY));
    for length in [100, 2_000, 7_000] {
        for last in ["application/json", "application/yaml;q=0.5", "text/html"] {
            let accept = format!("{}{last}", "text/plain,".repeat(length / 11));
            out.push(Case::new("long", "GET", KEPT).header("accept", accept));
            let accept = format!("application/json{},{last}", ";odd=a".repeat(length / 6));
            out.push(Case::new("long", "GET", KEPT).header("accept", accept));
        }
    }
    for encoding in ["gzip", "GZIP", "gzip;q=0", "br, gzip", "*", "identity;q=0", "deflate", "", "gzip,,"] {
        for target in [KEPT, MAPS, "/api/v1", "/openapi/v3/version", "/version"] {
            out.push(Case::new("encoding", "GET", target).header("accept-encoding", encoding));
        }
    }
    out
}

/// More clauses than Go's sort leaves in their order.
const MANY: &str = "*/;q=0.6,text/html;;v=v1;;g=meta.k8s.io,application/json;q=0.5,text/html,application/xhtml+xml,\
    application/xml;q=0.9,*/*;q=0.8;q=0.4,application/yaml;q=0.1,*/*;q=0.1,*/*;as=Table;v=V1;g=,\
    application/json;g=meta.k8s.io;v=v1beta1;as=Table,application/json;q=0.2,application/json;;,\
    application/json;q=0;q=0.7,application/json;sv=v2,application/yaml";

/// A clause that asks for another form.
fn form(dice: &Dice) -> String {
    let mut params = Vec::new();
    for (name, values) in [("as", KINDS), ("v", VERSIONS), ("g", GROUPS)] {
        if dice.percent(90) {
            params.push(format!("{name}={}", dice.word(values)));
        }
    }
    if dice.percent(30) {
        params.reverse();
    }
    let glue = dice.word(&[";", ";", "; ", ";;"]);
    format!("{}{glue}{}{}", dice.word(TYPES), params.join(glue), dice.word(BEHIND))
}

const READS: &[&str] = &[
    KEPT,
    MAPS,
    "/api/v1/configmaps?labelSelector=none",
    "/api/v1/namespaces/bad",
    "/api/v1/namespaces/bad/status",
    "/apis/apps/v1/namespaces/bad/deployments",
    "/api/v1/namespaces/bad/endpoints",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles/view",
    "/apis/rbac.authorization.k8s.io/v1/namespaces/bad/roles?includeObject=Object",
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "/api/v1/namespaces/bad/configmaps/kept?includeObject=None",
    "/api/v1/namespaces/bad/configmaps/kept?includeObject=odd",
    "/api/v1/namespaces/bad/configmaps?pretty=true",
];
const WRITES: usize = 9;
const ERRORS: usize = 9;

fn write(number: usize, dice: &Dice) -> Case {
    let case = |method: &str, target: &str| Case::new("write", method, target);
    let merge =
        |case: Case| case.header("content-type", "application/merge-patch+json").body("{\"data\":{\"c\":\"d\"}}");
    match number {
        0 => case("POST", "/api/v1/namespaces/bad/configmaps?dryRun=All").json(r#"{"metadata":{"name":"made"}}"#),
        1 => case("PUT", "/api/v1/namespaces/bad/configmaps/kept?dryRun=All").json(r#"{"metadata":{"name":"kept"}}"#),
        2 => merge(case("PATCH", "/api/v1/namespaces/bad/configmaps/kept?dryRun=All")),
        3 => case("DELETE", "/api/v1/namespaces/bad/configmaps/kept?dryRun=All"),
        4 => case("DELETE", "/api/v1/namespaces/bad/configmaps?dryRun=All&labelSelector=none"),
        5 => case("POST", REVIEWS).json(r#"{"spec":{"nonResourceAttributes":{"verb":"get","path":"/"}}}"#),
        6 => case("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews").json("{}"),
        // Written for real: what cannot be told has been done all the same.
        7 => merge(case("PATCH", KEPT)),
        _ => case("POST", MAPS).json(format!(r#"{{"metadata":{{"name":"made-{}"}}}}"#, dice.below(1_000_000))),
    }
}

fn error(number: usize) -> Case {
    let case = |method: &str, target: &str| Case::new("error", method, target);
    match number {
        0 => case("GET", "/api/v1/namespaces/bad/configmaps/none"),
        1 => case("GET", "/api/v1/namespaces/bad/configmaps?limit=odd"),
        2 => case("POST", "/api/v1/configmaps").json("{}"),
        3 => case("GET", "/api/v1/things"),
        4 => case("GET", KEPT).nobody(),
        5 => case("GET", KEPT).header("authorization", "Bearer odd").nobody(),
        6 => case("POST", MAPS).json("{"),
        7 => case("GET", "/api/v1/namespaces/bad/pods/none/log"),
        _ => case("PATCH", KEPT).header("content-type", "application/odd").body("{}"),
    }
}

fn watch(dice: &Dice) -> Case {
    let target = dice.word(&[
        "/api/v1/namespaces/bad/configmaps?watch=true",
        "/api/v1/namespaces/bad/configmaps?watch=true&includeObject=Object",
        "/api/v1/watch/namespaces/bad/configmaps",
        "/api/v1/namespaces/bad/configmaps?watch=true&resourceVersion=odd",
    ]);
    Case::new("watch", "GET", target)
}
