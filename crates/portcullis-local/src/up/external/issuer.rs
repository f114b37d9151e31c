//! The user's own provider, asked before anything is started: its address, discovery document, keys, and what a kubectl
//! plugin and an API server need of it.
//!
//! kube-apiserver starts without its issuer and keeps trying; here a mistyped address is far likelier than a provider that is
//! away for a moment, so it is refused (docs/decisions/0025).

use std::time::Duration;

use portcullis_authn::{Network, OidcFlags};
use portcullis_oidc::DiscoveryDocument;
use portcullis_oidc::client::{DiscoveryError, DiscoveryOptions, JwksCache, JwksOptions, discover};
use portcullis_runtime::Clock;
use portcullis_runtime::http_client::{HttpClient, HttpClientConfig, Roots};
use url::Url;

use super::client;
use super::error::IssuerError;
use super::wish::Wish;

/// How long one request to the provider may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A provider that answers.
pub(super) struct Checked {
    /// The API server's flags, without the file of the authority.
    pub(super) flags: OidcFlags,
    /// What the plugin asks for beside `openid`.
    pub(super) scopes: Vec<String>,
    /// Why a sign-in might not work.
    pub(super) doubt: Option<String>,
}

/// Asks the provider.
pub(super) async fn check(wish: &Wish, network: &Network, clock: &Clock) -> Result<Checked, IssuerError> {
    check_within(PATIENCE, wish, network, clock).await
}

async fn check_within(
    patience: Duration,
    wish: &Wish,
    network: &Network,
    clock: &Clock,
) -> Result<Checked, IssuerError> {
    let flags = wish.flags()?;
    check_url(&flags)?;
    let roots = match &wish.ca_pem {
        Some(pem) => Roots::only_pem(pem.as_bytes()).map_err(IssuerError::Ca)?,
        None => Roots::System,
    };
    flags.config(&[])?;
    let url = DiscoveryDocument::url(&flags.issuer_url);
    let unreachable = |source| IssuerError::Unreachable { url: url.clone(), source };
    let settings = HttpClientConfig {
        roots,
        timeout: patience,
        proxy: network.proxy.clone(),
        egress: network.egress,
        ..HttpClientConfig::default()
    };
    let http = HttpClient::new(settings.clone()).map_err(unreachable)?;
    let document =
        discover(&http, &flags.issuer_url, &DiscoveryOptions::default()).await.map_err(|error| match error {
            DiscoveryError::Http(source) => unreachable(source),
            DiscoveryError::IssuerMismatch { expected, got } => {
                IssuerError::OtherName { url: url.clone(), asked: expected, got }
            }
            source => IssuerError::Discovery { url: url.clone(), source },
        })?;
    let has = |member, value: &Option<String>| match value {
        Some(value) if !value.is_empty() => Ok(value.clone()),
        _ => Err(IssuerError::Lacks { url: url.clone(), member }),
    };
    let keys = has("jwks_uri", &document.jwks_uri)?;
    has("authorization_endpoint", &document.authorization_endpoint)?;
    has("token_endpoint", &document.token_endpoint)?;
    check_algorithms(&flags, &document)?;
    let cache = JwksCache::new(http, keys.clone(), JwksOptions::faithful(), clock.clone());
    cache.refresh().await.map_err(|source| IssuerError::Keys { url: keys, source })?;
    let scopes = scopes(&flags, &document, &wish.extra_scopes);
    let http = HttpClient::new(HttpClientConfig { max_redirects: 0, ..settings }).map_err(unreachable)?;
    let doubt = client::doubt(&http, &document, &flags, &scopes).await;
    Ok(Checked { flags, scopes, doubt })
}

fn check_url(flags: &OidcFlags) -> Result<(), IssuerError> {
    if flags.client_id.is_empty() {
        return Err(IssuerError::Empty("--client-id"));
    }
    let issuer = &flags.issuer_url;
    let url =
        Url::parse(issuer).map_err(|error| IssuerError::NotUrl { found: issuer.clone(), reason: error.to_string() })?;
    if url.scheme() == "https" { Ok(()) } else { Err(IssuerError::NotHttps(issuer.clone())) }
}

/// A provider that says nothing about it may sign with anything.
fn check_algorithms(flags: &OidcFlags, document: &DiscoveryDocument) -> Result<(), IssuerError> {
    let offered = &document.id_token_signing_alg_values_supported;
    if offered.is_empty() || offered.iter().any(|name| flags.signing_algs.contains(name)) {
        return Ok(());
    }
    Err(IssuerError::Algorithms {
        issuer: flags.issuer_url.clone(),
        offered: offered.join(","),
        taken: flags.signing_algs.join(","),
    })
}

/// The scopes that carry the claims which the API server is to read, as far as the provider knows them: some refuse a
/// request for a scope that they do not have. What was asked for comes on top, as it is.
fn scopes(flags: &OidcFlags, document: &DiscoveryDocument, extra: &[String]) -> Vec<String> {
    let known = &document.scopes_supported;
    // OpenID Connect Core 1.0 section 5.4; a provider need not list its scopes.
    let standard = |scope: &str| known.is_empty() || known.iter().any(|known| known == scope);
    let listed = |scope: &str| known.iter().any(|known| known == scope);
    let carries = |claim: &str| match claim {
        "email" | "email_verified" => Some("email"),
        "name" | "preferred_username" | "nickname" | "given_name" | "family_name" => Some("profile"),
        _ => None,
    };
    let claims = [&flags.username_claim, &flags.groups_claim].into_iter().chain(flags.required_claims.keys());
    let mut scopes: Vec<String> = Vec::new();
    let mut add = |scope: &str| {
        if scope != "openid" && !scopes.iter().any(|there| there == scope) {
            scopes.push(scope.to_owned());
        }
    };
    claims.filter_map(|claim| carries(claim)).filter(|scope| standard(scope)).for_each(&mut add);
    if !flags.groups_claim.is_empty() && listed("groups") {
        add("groups");
    }
    if listed("offline_access") {
        add("offline_access");
    }
    extra.iter().for_each(|scope| add(scope));
    scopes
}

#[cfg(test)]
mod tests {
    use portcullis_testkit::{FakeIssuer, Reply, TestCa};

    use super::*;

    fn flags(arguments: &[&str]) -> OidcFlags {
        OidcFlags::parse(arguments).unwrap().0
    }

    fn document(scopes: &[&str], algorithms: &[&str]) -> DiscoveryDocument {
        let text = serde_json::json!({"issuer": "https://a", "scopes_supported": scopes,
            "id_token_signing_alg_values_supported": algorithms});
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn scopes_are_those_that_carry_the_claims_and_that_the_provider_knows() {
        let all = ["openid", "email", "groups", "profile", "offline_access"];
        let email = flags(&["--oidc-username-claim=email", "--oidc-groups-claim=groups"]);
        assert_eq!(scopes(&email, &document(&all, &[]), &[]), ["email", "groups", "offline_access"]);
        // One that lists nothing is asked for what the standard has; Google, for one, refuses `groups`.
        assert_eq!(scopes(&email, &document(&[], &[]), &[]), ["email"]);
        assert_eq!(scopes(&email, &document(&["openid"], &[]), &[]), Vec::<String>::new());
        let sub = flags(&["--oidc-client-id=x"]);
        assert_eq!(scopes(&sub, &document(&all, &[]), &[]), ["offline_access"]);
        let extra = ["api://x".to_owned(), "openid".to_owned(), "offline_access".to_owned()];
        assert_eq!(scopes(&sub, &document(&all, &[]), &extra), ["offline_access", "api://x"]);
        let name = flags(&["--oidc-username-claim=preferred_username", "--oidc-required-claim=email=a@b.c"]);
        assert_eq!(scopes(&name, &document(&[], &[]), &[]), ["profile", "email"]);
    }

    #[test]
    fn a_provider_that_signs_otherwise_is_refused_and_one_that_says_nothing_is_not() {
        let rs = flags(&["--oidc-issuer-url=https://a"]);
        assert!(check_algorithms(&rs, &document(&[], &[])).is_ok());
        assert!(check_algorithms(&rs, &document(&[], &["ES256", "RS256"])).is_ok());
        let error = check_algorithms(&rs, &document(&[], &["ES256", "ES384"])).unwrap_err();
        assert_eq!(error.to_string(), "https://a signs with ES256,ES384, and the API server would take RS256 alone");
        assert_eq!(error.hint().unwrap(), "name them: --signing-algs ES256,ES384");
        assert!(check_algorithms(&flags(&["--oidc-signing-algs=ES384"]), &document(&[], &["ES256", "ES384"])).is_ok());
    }

    #[test]
    fn an_issuer_is_an_https_url() {
        let of = |url: &str| check_url(&flags(&[&format!("--oidc-issuer-url={url}"), "--oidc-client-id=x"]));
        assert!(of("https://a.example.com/realm").is_ok());
        for url in ["http://a.example.com", "http://localhost:5556"] {
            assert!(matches!(of(url), Err(IssuerError::NotHttps(found)) if found == url));
        }
        for url in ["", "accounts.example.com", "https://"] {
            assert!(matches!(of(url), Err(IssuerError::NotUrl { .. })), "{url}");
        }
        let nobody = check_url(&flags(&["--oidc-issuer-url=https://a", "--oidc-client-id="]));
        assert!(matches!(nobody, Err(IssuerError::Empty("--client-id"))));
    }

    const DISCOVERY: &str = "/.well-known/openid-configuration";

    fn wish(issuer: &str, ca: Option<&TestCa>) -> Wish {
        Wish {
            arguments: vec![format!("--oidc-issuer-url={issuer}"), "--oidc-client-id=k".to_owned()],
            client_secret: None,
            ca_pem: ca.map(|ca| ca.pem().to_owned()),
            extra_scopes: Vec::new(),
        }
    }

    async fn ask(wish: &Wish) -> Result<Checked, IssuerError> {
        check(wish, &Network::default(), &Clock::system()).await
    }

    /// What comes of a discovery document that an edit has changed.
    async fn ask_with(edit: impl FnOnce(&mut serde_json::Value)) -> IssuerError {
        let issuer = FakeIssuer::start().await;
        let mut document = issuer.discovery_document();
        edit(&mut document);
        issuer.reply(DISCOVERY, Reply::json(&document));
        ask(&wish(issuer.issuer(), Some(issuer.ca()))).await.map(drop).unwrap_err()
    }

    #[tokio::test]
    async fn a_provider_that_answers_is_asked_for_its_document_and_its_keys() {
        let issuer = FakeIssuer::start().await;
        let checked = ask(&wish(issuer.issuer(), Some(issuer.ca()))).await.unwrap();
        assert_eq!((checked.flags.issuer_url.as_str(), checked.scopes.len()), (issuer.issuer(), 0));
        assert_eq!((issuer.count(DISCOVERY), issuer.count("/keys")), (1, 1));
    }

    #[tokio::test]
    async fn what_is_no_provider_is_refused_with_what_was_asked() {
        let issuer = FakeIssuer::start().await;
        let wish = wish(issuer.issuer(), Some(issuer.ca()));
        for reply in [Reply::bytes("no such page").status(404), Reply::bytes("<html>"), Reply::redirect("/elsewhere")] {
            issuer.reply(DISCOVERY, reply);
            let error = ask(&wish).await.map(drop).unwrap_err();
            assert!(matches!(error, IssuerError::Discovery { .. }), "{error:?}");
            assert_eq!(error.to_string(), format!("asked {} for the discovery document", issuer.url(DISCOVERY)));
            assert!(error.hint().is_some());
        }
    }

    #[tokio::test]
    async fn a_provider_of_another_name_is_refused_with_the_name() {
        let error = ask_with(|document| document["issuer"] = "https://other.example".into()).await;
        assert!(matches!(&error, IssuerError::OtherName { got, .. } if got == "https://other.example"), "{error:?}");
        assert!(error.hint().unwrap().ends_with("--issuer https://other.example"));
    }

    #[tokio::test]
    async fn a_document_without_what_kubectl_or_an_api_server_needs_is_refused() {
        for member in ["jwks_uri", "authorization_endpoint", "token_endpoint"] {
            let error = ask_with(|document| drop(document.as_object_mut().unwrap().remove(member))).await;
            assert!(matches!(error, IssuerError::Lacks { member: lacks, .. } if lacks == member), "{error:?}");
        }
    }

    #[tokio::test]
    async fn keys_that_cannot_be_read_are_refused() {
        let issuer = FakeIssuer::start().await;
        issuer.reply("/keys", Reply::bytes("{}").status(503));
        let error = ask(&wish(issuer.issuer(), Some(issuer.ca()))).await.map(drop).unwrap_err();
        assert!(matches!(&error, IssuerError::Keys { url, .. } if *url == issuer.url("/keys")), "{error:?}");
    }

    #[tokio::test]
    async fn an_authority_that_is_not_known_is_named_in_the_hint_and_one_that_is_none_is_refused() {
        let issuer = FakeIssuer::start().await;
        let error = ask(&wish(issuer.issuer(), Some(&TestCa::default()))).await.map(drop).unwrap_err();
        assert!(matches!(error, IssuerError::Unreachable { .. }), "{error:?}");
        assert!(error.hint().unwrap().ends_with("--issuer-ca FILE"), "{:?}", error.hint());
        let none = Wish { ca_pem: Some("no certificate".to_owned()), ..wish(issuer.issuer(), None) };
        assert!(matches!(ask(&none).await, Err(IssuerError::Ca(_))));
    }

    #[tokio::test]
    async fn a_provider_that_does_not_answer_in_time_is_refused_for_each_of_its_documents() {
        let issuer = FakeIssuer::start().await;
        let wish = wish(issuer.issuer(), Some(issuer.ca()));
        let late = async || {
            let (patience, network) = (Duration::from_secs(1), Network::default());
            check_within(patience, &wish, &network, &Clock::system()).await.map(drop).unwrap_err()
        };
        issuer.reply("/keys", Reply::hang());
        let error = late().await;
        assert!(error.to_string().starts_with("asked "), "{error}");
        assert_eq!(
            portcullis_runtime::chain(&error),
            format!(
                "asked {0} for the provider's keys: oidc: get keys failed request to {0}: timed out",
                issuer.url("/keys")
            )
        );
        issuer.reply(DISCOVERY, Reply::hang());
        let error = late().await;
        let asked = issuer.url(DISCOVERY);
        assert_eq!(
            portcullis_runtime::chain(&error),
            format!("asked {asked}, and there is no answer: request to {asked}: timed out")
        );
        assert!(error.hint().unwrap().starts_with("start the provider, or correct --issuer"));
    }

    #[tokio::test]
    async fn a_client_that_the_provider_does_not_know_is_a_doubt() {
        let issuer = FakeIssuer::start().await;
        issuer.reply("/auth", Reply::bytes("no such client").status(400));
        let checked = ask(&wish(issuer.issuer(), Some(issuer.ca()))).await.unwrap();
        assert!(checked.doubt.as_ref().is_some_and(|doubt| doubt.contains("the client \"k\"")), "{:?}", checked.doubt);
    }

    #[tokio::test]
    async fn a_provider_that_is_away_is_refused() {
        let mut issuer = FakeIssuer::start().await;
        issuer.stop().await;
        let error = ask(&wish(issuer.issuer(), Some(issuer.ca()))).await.map(drop).unwrap_err();
        assert!(matches!(error, IssuerError::Unreachable { .. }), "{error:?}");
        assert!(error.hint().unwrap().starts_with("start the provider, or correct --issuer"));
    }
}
