//! Whether the user's provider would let the plugin's client begin a sign-in, as far as it says so without a person.
//!
//! The same request is made that a browser will make. Most providers answer a client or a redirect URI that they do not know
//! with an error page. Some say it only after a password, so nothing is refused here: what is wrong is a word.

use portcullis_authn::OidcFlags;
use portcullis_oidc::DiscoveryDocument;
use portcullis_oidc::client::{AuthorizationRequest, authorization_url};
use portcullis_runtime::Rng;
use portcullis_runtime::http_client::{HttpClient, HttpResponse};
use url::Url;

/// Where the plugin waits for the browser.
pub(super) const REDIRECT_URI: &str = "http://localhost:8000";
/// Redirects of the provider to itself, as Dex makes one to the only way to sign in.
const REDIRECTS: usize = 3;
/// Characters of a provider's own words.
const WORDS: usize = 200;

/// What is wrong, for the user; `None` when nothing shows. `http` does not follow redirects.
pub(super) async fn doubt(
    http: &HttpClient,
    document: &DiscoveryDocument,
    flags: &OidcFlags,
    scopes: &[String],
) -> Option<String> {
    let rng = Rng::system();
    let (state, nonce, challenge) = (rng.token(32), rng.token(32), rng.token(32));
    let scopes: Vec<String> = scopes.iter().cloned().chain(["openid".to_owned()]).collect();
    let request = AuthorizationRequest {
        endpoint: document.authorization_endpoint.as_deref()?,
        client_id: &flags.client_id,
        redirect_uri: REDIRECT_URI,
        scopes: &scopes,
        state: &state,
        nonce: &nonce,
        code_challenge: document.supports_s256().then_some(&*challenge),
        extra: &[],
    };
    let mut url = Url::parse(&authorization_url(&request).ok()?).ok()?;
    for _ in 0..=REDIRECTS {
        let answer = http.get(url.as_str(), &[]).await.ok()?;
        let Some(next) = redirect(&answer, &url) else { return refusal(answer.status, &flags.client_id) };
        if next.as_str().starts_with(REDIRECT_URI) {
            return error_of(&next);
        }
        // Beyond the request as it was made there are cookies and other hosts, which are a browser's.
        if next.origin() != url.origin() || !next.query_pairs().any(|(name, _)| name == "client_id") {
            return None;
        }
        url = next;
    }
    None
}

fn redirect(answer: &HttpResponse, from: &Url) -> Option<Url> {
    let location = answer.header("location").filter(|_| (300..400).contains(&answer.status))?;
    from.join(location).ok()
}

/// An error page.
fn refusal(status: u16, client: &str) -> Option<String> {
    (400..500).contains(&status).then(|| {
        format!(
            "the provider refuses a sign-in by the client {client:?} that comes back to {REDIRECT_URI} (status {status}): \
             correct --client-id, or add that redirect URI to the client"
        )
    })
}

/// An error that the plugin would be told (RFC 6749 section 4.1.2.1).
fn error_of(url: &Url) -> Option<String> {
    let value = |wanted: &str| {
        let found = url.query_pairs().find(|(name, _)| name == wanted)?;
        Some(found.1.chars().filter(|char| !char.is_control()).take(WORDS).collect::<String>())
    };
    let error = value("error")?;
    let why = value("error_description").map(|why| format!(": {why}")).unwrap_or_default();
    // Without a person these are the right answers.
    let asks_for_one = ["login_required", "consent_required", "interaction_required", "account_selection_required"];
    (!asks_for_one.contains(&error.as_str())).then(|| format!("the provider refuses a sign-in: {error}{why}"))
}

#[cfg(test)]
mod tests {
    use portcullis_runtime::http_client::{HttpClientConfig, Roots};
    use portcullis_testkit::{FakeIssuer, Reply};

    use super::*;

    const AUTH: &str = "/auth";

    /// What is said of a provider that answers so.
    async fn said(replies: &[(&str, Reply)]) -> (Option<String>, FakeIssuer) {
        let issuer = FakeIssuer::start().await;
        for (path, reply) in replies {
            issuer.reply(path, reply.clone());
        }
        let roots = Roots::only_pem(issuer.ca().pem().as_bytes()).unwrap();
        let config = HttpClientConfig { roots, max_redirects: 0, ..HttpClientConfig::default() };
        let document = DiscoveryDocument {
            authorization_endpoint: Some(issuer.url(AUTH)),
            code_challenge_methods_supported: vec!["S256".to_owned()],
            ..DiscoveryDocument::default()
        };
        let flags = OidcFlags::parse(["--oidc-issuer-url=https://a", "--oidc-client-id=my app"]).unwrap().0;
        let said = doubt(&HttpClient::new(config).unwrap(), &document, &flags, &["email".to_owned()]).await;
        (said, issuer)
    }

    #[tokio::test]
    async fn the_request_is_the_plugins_and_a_page_is_no_doubt() {
        let (said, issuer) = said(&[(AUTH, Reply::bytes("sign in here"))]).await;
        assert_eq!(said, None);
        let query = &issuer.requests_to(AUTH)[0].query;
        for part in [
            "access_type=offline&client_id=my+app&",
            "code_challenge_method=S256",
            "redirect_uri=http%3A%2F%2Flocalhost%3A8000&response_type=code&scope=email+openid&state=",
        ] {
            assert!(query.contains(part), "{query}");
        }
    }

    #[tokio::test]
    async fn an_error_page_is_said_also_behind_a_redirect_of_the_provider_to_itself() {
        let wanted = "the provider refuses a sign-in by the client \"my app\" that comes back to http://localhost:8000 (status 400)";
        let page = Reply::bytes("Invalid client_id").status(400);
        let (at_once, _) = said(&[(AUTH, page.clone())]).await;
        let (behind, _) = said(&[(AUTH, Reply::redirect("/auth/local?client_id=x")), ("/auth/local", page)]).await;
        for doubt in [at_once, behind] {
            assert!(doubt.as_ref().is_some_and(|doubt| doubt.starts_with(wanted)), "{doubt:?}");
        }
    }

    #[tokio::test]
    async fn an_error_for_the_plugin_is_said_in_the_providers_words_unless_it_asks_for_a_person() {
        let back = |query: &str| Reply::redirect(&format!("http://localhost:8000/?{query}"));
        let (doubt, _) = said(&[(AUTH, back("error=invalid_scope&error_description=no%20such%0Ascope"))]).await;
        assert_eq!(doubt.as_deref(), Some("the provider refuses a sign-in: invalid_scope: no suchscope"));
        for query in ["error=login_required", "code=x"] {
            assert_eq!(said(&[(AUTH, back(query))]).await.0, None, "{query}");
        }
    }

    #[tokio::test]
    async fn other_hosts_cookies_and_loops_are_a_browsers() {
        let elsewhere = Reply::redirect("https://accounts.example/?client_id=x");
        let page = Reply::bytes("").status(400);
        for replies in [
            vec![(AUTH, elsewhere)],
            vec![(AUTH, Reply::redirect("/login?state=x")), ("/login", page)],
            vec![(AUTH, Reply::redirect("/auth?client_id=x"))],
            vec![(AUTH, Reply::bytes("").status(503))],
        ] {
            let (said, issuer) = said(&replies).await;
            assert_eq!(said, None, "{replies:?}");
            assert!(issuer.count(AUTH) <= 4 && issuer.count("/login") == 0);
        }
    }
}
