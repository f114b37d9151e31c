//! `/userinfo` (OpenID Connect Core 5.3, RFC 6750).
//!
//! Compat: any token that we signed will do, also an ID token (dex.md 0.1 T7); the answer is its claims. A missing token
//! is 401 with a challenge, an invalid one 403, both with the same body.

use http::{HeaderValue, Method, StatusCode, header};
use portcullis_oidc::vocabulary::ErrorCode;

use crate::app::App;
use crate::http::{Inbound, Reply, json_error, no_store, with_type};

/// The claims of the bearer's token.
pub(crate) fn userinfo(app: &App, inbound: &Inbound) -> Reply {
    let refuse = |status| json_error(status, ErrorCode::AccessDenied, "Invalid bearer token.");
    let Some(token) = bearer(inbound) else {
        let mut reply = refuse(StatusCode::UNAUTHORIZED);
        reply.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return reply;
    };
    match app.tokens.verify(&token) {
        Some(claims) => no_store(with_type(StatusCode::OK, "application/json", claims)),
        None => refuse(StatusCode::FORBIDDEN),
    }
}

/// The token of the header, or of a form body (RFC 6750 sections 2.1, 2.2); never of the query, which ends up in logs.
fn bearer(inbound: &Inbound) -> Option<String> {
    if let Some(value) = inbound.headers.get(header::AUTHORIZATION) {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        return (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.trim().to_owned());
    }
    if inbound.method != Method::POST {
        return None;
    }
    let params = inbound.body_params().ok()?;
    Some(params.get("access_token").to_owned()).filter(|token| !token.is_empty())
}
