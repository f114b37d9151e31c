//! Reading what a token endpoint answered.
//!
//! Compat: x/oauth2 0.36 as kubelogin uses it: JSON, or form encoding when the Content-Type says so; `expires_in` may be
//! a string; an `error` member makes even a 200 an error; an answer without `access_token` is an error.

use portcullis_runtime::{Secret, http_client::HttpResponse};
use serde::Deserialize;
use serde_json::Value;

use super::TokenError;
use crate::{json, quote::bounded, vocabulary::TokenResponse};

#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    access_token: Option<Secret>,
    token_type: Option<String>,
    refresh_token: Option<Secret>,
    id_token: Option<Secret>,
    expires_in: Value,
    error: Option<String>,
    error_description: Option<String>,
    error_uri: Option<String>,
}

/// `sent` are the secrets of the request; an endpoint that echoes them does not get them into our errors.
pub(super) fn read(response: &HttpResponse, sent: &[&str]) -> Result<TokenResponse, TokenError> {
    let failed = !response.is_success();
    let redacted = |text: &str, max| bounded(&redact(text, sent), max);
    let unreadable = |reason: String| {
        if failed {
            let body = String::from_utf8_lossy(response.body.get(..4096).unwrap_or(&response.body)).into_owned();
            TokenError::Status { status: response.status, body: redacted(&body, 256) }
        } else {
            TokenError::Unreadable { reason: bounded(&reason, 128) }
        }
    };
    let body = parse(response).map_err(unreadable)?;
    if let Some(code) = body.error.filter(|code| !code.is_empty()) {
        return Err(TokenError::Refused {
            status: response.status,
            code: redacted(&code, 64),
            description: redacted(&body.error_description.unwrap_or_default(), 512),
            uri: redacted(&body.error_uri.unwrap_or_default(), 256),
        });
    }
    if failed {
        let body = String::from_utf8_lossy(response.body.get(..4096).unwrap_or(&response.body)).into_owned();
        return Err(TokenError::Status { status: response.status, body: redacted(&body, 256) });
    }
    let present = |secret: Option<Secret>| secret.filter(|secret| !secret.is_empty());
    Ok(TokenResponse {
        access_token: present(body.access_token).ok_or(TokenError::NoAccessToken)?,
        token_type: body.token_type.unwrap_or_default(),
        expires_in: seconds(&body.expires_in),
        refresh_token: present(body.refresh_token),
        id_token: present(body.id_token),
    })
}

fn parse(response: &HttpResponse) -> Result<Body, String> {
    let media = response.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !["application/x-www-form-urlencoded", "text/plain"].iter().any(|form| media.eq_ignore_ascii_case(form)) {
        // The reader's message could quote the body, which may hold tokens; its category and place cannot.
        return json::object(&response.body).map_err(|error| {
            format!("{:?} error at line {} column {}", error.classify(), error.line(), error.column())
        });
    }
    let mut body = Body::default();
    for (name, value) in url::form_urlencoded::parse(&response.body) {
        let value = value.into_owned();
        match name.as_ref() {
            "access_token" => body.access_token = Some(value.into()),
            "token_type" => body.token_type = Some(value),
            "refresh_token" => body.refresh_token = Some(value.into()),
            "id_token" => body.id_token = Some(value.into()),
            "expires_in" => body.expires_in = Value::String(value),
            "error" => body.error = Some(value),
            "error_description" => body.error_description = Some(value),
            "error_uri" => body.error_uri = Some(value),
            _ => {}
        }
    }
    Ok(body)
}

fn seconds(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64().or_else(|| number.as_f64().map(|seconds| seconds as u64)),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
    .filter(|seconds| *seconds > 0)
}

fn redact(text: &str, sent: &[&str]) -> String {
    let mut text = text.to_owned();
    for secret in sent.iter().filter(|secret| secret.len() >= 4) {
        text = text.replace(*secret, "[redacted]");
        text = text.replace(&super::form::escape(secret), "[redacted]");
    }
    text
}
