//! Who is asking: HTTP Basic or form parameters (RFC 6749 section 2.3.1).
//!
//! Compat: whether a client is public does not matter: what it sends must equal what is configured, in constant time, so
//! a public client with a configured secret has to send it (dex.md 0.1 T8). Unlike Dex, a client that is not public and
//! has no secret can never prove itself.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header;
use portcullis_runtime::Secret;
use portcullis_storage::Client;

use super::GrantError;
use crate::app::App;
use crate::http::{Inbound, Params};

/// A client that has proved who it is. Only [`authenticate`] makes one.
pub(crate) struct AuthenticatedClient(Arc<Client>);

impl std::ops::Deref for AuthenticatedClient {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.0
    }
}

/// Finds the client and checks its secret.
pub(crate) async fn authenticate(
    app: &App,
    inbound: &Inbound,
    params: &Params,
) -> Result<AuthenticatedClient, GrantError> {
    let (id, secret) = match basic(inbound)? {
        Some(pair) => pair,
        None => (params.get("client_id").to_owned(), Secret::from(params.get("client_secret"))),
    };
    let client = app.store.clients().get(&id).await?.ok_or(GrantError::InvalidClient)?;
    let usable = client.public || !client.secret.is_empty();
    if !usable || !client.secret.ct_eq(secret.expose()) {
        tracing::info!(client_id = %client.id, public = client.public, "invalid client_secret on token request");
        return Err(GrantError::InvalidClient);
    }
    Ok(AuthenticatedClient(client))
}

/// Id and secret of an `Authorization: Basic` header; `None` when there is none, or none that can be read (as Go).
fn basic(inbound: &Inbound) -> Result<Option<(String, Secret)>, GrantError> {
    let Some(value) = inbound.headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()) else { return Ok(None) };
    let Some((scheme, encoded)) = value.split_once(' ') else { return Ok(None) };
    if !scheme.eq_ignore_ascii_case("basic") {
        return Ok(None);
    }
    let Some(pair) = STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok()) else {
        return Ok(None);
    };
    let pair = zeroize::Zeroizing::new(pair);
    let Some((id, secret)) = pair.split_once(':') else { return Ok(None) };
    let unescape = |text: &str, what: &str| {
        // A form with one name and no value: the same decoding, the same limits.
        let quoted = text.replace('&', "%26").replace('=', "%3D").replace(';', "%3B");
        let form = format!("v={quoted}");
        Params::parse(form.as_bytes())
            .map(|p| p.get("v").to_owned())
            .map_err(|_| GrantError::invalid_request(format!("{what} improperly encoded")))
    };
    Ok(Some((unescape(id, "client_id")?, Secret::from(unescape(secret, "client_secret")?))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(value: &str) -> Inbound {
        Inbound {
            method: http::Method::POST,
            path: String::new(),
            query: String::new(),
            headers: [(header::AUTHORIZATION, http::HeaderValue::from_str(value).unwrap())].into_iter().collect(),
            body: bytes::Bytes::new(),
            secure: true,
            from: crate::http::Source::default(),
        }
    }

    #[test]
    fn basic_credentials_are_decoded_twice() {
        for (pair, id, secret) in [
            ("a:b", "a", "b"),
            ("my%20app:p%3Aw%2Bx", "my app", "p:w+x"),
            ("a+b:c", "a b", "c"),
            ("a:b:c", "a", "b:c"),
            ("a:", "a", ""),
            ("a:b=c&d;e", "a", "b=c&d;e"),
        ] {
            for scheme in ["Basic", "basic"] {
                let found = basic(&with(&format!("{scheme} {}", STANDARD.encode(pair)))).unwrap().unwrap();
                assert_eq!((found.0.as_str(), found.1.expose()), (id, secret), "{pair}");
            }
        }
    }

    #[test]
    fn what_is_no_basic_is_ignored_and_what_is_badly_encoded_is_refused() {
        for other in [
            "Bearer x",
            "Basic",
            "Basic !!!",
            &format!("Basic {}", STANDARD.encode("nocolon")),
            &format!("Basic {}", STANDARD.encode(b"\xff:x")),
        ] {
            assert!(basic(&with(other)).unwrap().is_none(), "{other}");
        }
        let bad = basic(&with(&format!("Basic {}", STANDARD.encode("a%zz:b")))).unwrap_err();
        assert_eq!(bad.to_string(), "client_id improperly encoded");
        assert_eq!(
            basic(&with(&format!("Basic {}", STANDARD.encode("a:%")))).unwrap_err().to_string(),
            "client_secret improperly encoded"
        );
    }
}
