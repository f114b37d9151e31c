//! Queries and paths that nobody should send, through the whole server without a listener.

use serde_json::Value;

use crate::world::world;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn said(line: &str) -> (u16, String) {
    let (code, body) = world().call("admin", line, "").await;
    let text = body.get("message").or(body.get("kind")).and_then(Value::as_str).unwrap_or_default();
    (code, text.to_owned())
}

#[tokio::test]
async fn doubled_slashes_and_escapes_lead_where_upstreams_router_leads() {
    for (line, code, text) in [
        ("GET /%61pi/v1", 200, "APIResourceList"),
        ("GET /api/v1//", 200, "APIResourceList"),
        ("GET /apis/apps//", 200, "APIGroup"),
        ("GET /apis//", 404, ""),
        ("GET //api/v1", 404, ""),
        ("GET //api/v1/pods", 404, ""),
        ("GET /version//", 200, ""),
        ("GET /version/x", 404, "the server could not find the requested resource"),
        ("GET /livez/", 404, ""),
        ("GET /api/v1/namespaces/default%2Fconfigmaps", 200, "ConfigMapList"),
        ("GET /api/v1/namespaces//configmaps", 200, "ConfigMapList"),
        ("GET /api/v1/namespaces//configmaps/a", 400, "Namespace parameter required."),
        ("DELETE /api/v1/namespaces//configmaps", 400, "Namespace parameter required."),
        ("GET /api/v1/namespaces/default/pods//status", 400, "name must be provided"),
        ("GET /api/v1/namespaces/./configmaps", 500, "invalid key: \"/configmaps/.\""),
        ("GET /api/v1/watch/namespaces/../configmaps/a", 500, "invalid key: \"/configmaps/../a\""),
        (
            "GET /api/v1/namespaces/default/configmaps/%252F",
            400,
            "Name parameter invalid: \"%2F\": may not contain '%'",
        ),
        ("GET /api/v1/namespaces/default/configmaps/a%2Fb", 404, "the server could not find the requested resource"),
        (
            "DELETE /api/v1/watch/namespaces/default/configmaps/a",
            405,
            "the server does not allow this method on the requested resource",
        ),
        ("GET /api/v1/proxy/nodes/a", 404, "the server could not find the requested resource"),
        ("GET /api/v1/namespaces/%zz", 400, ""),
    ] {
        assert_eq!(said(line).await, (code, text.to_owned()), "{line}");
    }
}

#[tokio::test]
async fn the_first_mistake_in_upstreams_order_is_told() {
    for (query, code, text) in [
        ("labelSelector=,&limit=x", 400, "strconv.ParseInt: parsing \"x\": invalid syntax"),
        ("resourceVersionMatch=Odd&fieldSelector==", 422, "ListOptions.meta.k8s.io"),
        ("resourceVersionMatch=Odd&fieldSelector=a", 400, "invalid selector: 'a'"),
        ("fieldSelector=a=b&resourceVersion=x", 400, "\"a\" is not a known field selector"),
        ("continue=!&resourceVersion=x", 400, "invalid continue token"),
        ("resourceVersion=x", 400, "invalid resource version"),
    ] {
        let (got, message) = said(&format!("GET {MAPS}?{query}")).await;
        assert!(got == code && message.starts_with(text), "{query}: {got} {message}");
    }
    let many = |count: usize| format!("GET {MAPS}?{}limit=x", "a&".repeat(count));
    assert_eq!(said(&many(9_999)).await.0, 400);
    assert_eq!(said(&many(10_000)).await.0, 200, "none of too many is read");
}
