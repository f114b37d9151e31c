//! The URL that starts a sign-in in the browser.
//!
//! Compat: kubelogin 1.36 (x/oauth2): parameters sorted by name, `access_type=offline` always, extra parameters may
//! override any other.

use std::collections::BTreeMap;

use super::form;

/// Longest authorization endpoint, in bytes.
const MAX_ENDPOINT: usize = 8 * 1024;

/// What goes into the URL.
#[derive(Clone, Copy, Debug)]
pub struct AuthorizationRequest<'a> {
    /// The authorization endpoint; may have a query of its own.
    pub endpoint: &'a str,
    /// The client.
    pub client_id: &'a str,
    /// Where the browser comes back to; not sent when empty (the provider then takes the registered one).
    pub redirect_uri: &'a str,
    /// Scopes in the order to be sent.
    pub scopes: &'a [String],
    /// Binds the callback to this attempt.
    pub state: &'a str,
    /// Binds the ID token to this attempt.
    pub nonce: &'a str,
    /// The S256 challenge, when PKCE is used.
    pub code_challenge: Option<&'a str>,
    /// Further parameters; they win over the others.
    pub extra: &'a [(String, String)],
}

/// The authorization endpoint is not an http or https URL, or is over 8 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the authorization endpoint is not an http or https URL")]
pub struct InvalidEndpoint;

/// Builds the URL. The endpoint is not interpreted beyond its scheme: a browser opens it as it is.
///
/// # Errors
/// [`InvalidEndpoint`].
pub fn authorization_url(request: &AuthorizationRequest<'_>) -> Result<String, InvalidEndpoint> {
    let parsed = url::Url::parse(request.endpoint).map_err(|_| InvalidEndpoint)?;
    if !matches!(parsed.scheme(), "http" | "https") || request.endpoint.len() > MAX_ENDPOINT {
        return Err(InvalidEndpoint);
    }
    let scope = request.scopes.join(" ");
    let mut parameters = BTreeMap::from([
        ("access_type", "offline"),
        ("client_id", request.client_id),
        ("nonce", request.nonce),
        ("response_type", "code"),
        ("scope", scope.as_str()),
        ("state", request.state),
    ]);
    if !request.redirect_uri.is_empty() {
        parameters.insert("redirect_uri", request.redirect_uri);
    }
    if let Some(challenge) = request.code_challenge {
        parameters.extend([("code_challenge", challenge), ("code_challenge_method", "S256")]);
    }
    parameters.extend(request.extra.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let query = form::encode(&parameters.into_iter().collect::<Vec<_>>());
    let separator = if request.endpoint.contains('?') { '&' } else { '?' };
    Ok(format!("{}{separator}{query}", request.endpoint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> AuthorizationRequest<'static> {
        AuthorizationRequest {
            endpoint: "https://issuer.example/auth",
            client_id: "kubernetes",
            redirect_uri: "http://localhost:8000",
            scopes: &[],
            state: "st",
            nonce: "no",
            code_challenge: None,
            extra: &[],
        }
    }

    #[test]
    fn parameters_are_those_of_kubelogin() {
        let scopes = ["email".to_owned(), "openid".to_owned()];
        let with_pkce = AuthorizationRequest { scopes: &scopes, code_challenge: Some("ch"), ..request() };
        assert_eq!(
            authorization_url(&with_pkce).unwrap(),
            "https://issuer.example/auth?access_type=offline&client_id=kubernetes&code_challenge=ch&\
             code_challenge_method=S256&nonce=no&redirect_uri=http%3A%2F%2Flocalhost%3A8000&response_type=code&\
             scope=email+openid&state=st"
        );
    }

    #[test]
    fn extra_parameters_override_and_a_query_is_continued() {
        let extra = [("state".to_owned(), "mine".to_owned()), ("hd".to_owned(), "a b".to_owned())];
        let request = AuthorizationRequest { endpoint: "https://i/auth?tenant=1", extra: &extra, ..request() };
        let url = authorization_url(&request).unwrap();
        assert!(url.starts_with("https://i/auth?tenant=1&access_type=offline&"), "{url}");
        assert!(url.contains("&hd=a+b&") && url.contains("&state=mine") && !url.contains("state=st"), "{url}");
    }

    #[test]
    fn endpoints_that_a_browser_must_not_open_are_refused() {
        let long = format!("https://i/{}", "a".repeat(MAX_ENDPOINT));
        for endpoint in ["", "/auth", "javascript:alert(1)", "file:///etc/passwd", "data:text/html,x", &long] {
            assert_eq!(authorization_url(&AuthorizationRequest { endpoint, ..request() }), Err(InvalidEndpoint));
        }
    }
}
