//! Who is asking: the request's credentials, tried in kube-apiserver's order.
//!
//! Flow: client certificate → bearer token → bearer token of a WebSocket → anonymous, only when nothing was presented that
//! failed, and where that is let in. Whoever is recognised is also in `system:authenticated`. A failure is the fixed 401; the
//! reason goes to the log.
//!
//! It must never let a bad credential pass as anonymous (a client would not notice that its token has expired), and never
//! write a token to the log.
//!
//! Compat: `pkg/kubeapiserver/authenticator/config.go` and `apiserver/pkg/authentication/request` of Kubernetes 1.37.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, CONNECTION, HeaderMap, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use portcullis_authn::{Authenticator, Verdict as OidcVerdict};
use portcullis_kube::UserInfo;
use portcullis_kube::authentication_config::AnonymousAuthConfig;
use portcullis_runtime::Timestamp;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::http::Call;
use crate::service_account::{ServiceAccounts, Verdict};
use crate::store::Store;

/// Where a WebSocket client puts its token.
const WEBSOCKET_BEARER: &str = "base64url.bearer.authorization.k8s.io.";
/// Extra key under which a credential is named.
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// Longest reason for a refusal that is passed on to the log, in bytes: strangers write part of it.
const REASON_BYTES: usize = 4 * 1024;

/// What is said of a token that nobody knows.
const INVALID: &str = "invalid bearer token";

/// What knows bearer tokens.
pub enum TokenAuthenticator {
    /// No token is good.
    Nobody,
    /// Tokens of the configured OIDC issuers.
    Oidc(Box<Authenticator>),
    /// Tokens known by heart, for tests.
    Fixed(BTreeMap<String, UserInfo>),
}

impl TokenAuthenticator {
    /// The user behind a token, or why it is refused.
    pub(crate) async fn authenticate(&self, token: &str) -> Result<UserInfo, String> {
        match self {
            Self::Nobody => Err(INVALID.to_owned()),
            Self::Fixed(users) => users.get(token).cloned().ok_or_else(|| INVALID.to_owned()),
            Self::Oidc(authenticator) => match authenticator.authenticate(token).await {
                OidcVerdict::User(user) => Ok(user.info().clone()),
                OidcVerdict::NoOpinion => Err(INVALID.to_owned()),
                OidcVerdict::Refused(error) => Err(shortened(error.to_string())),
            },
        }
    }
}

impl std::fmt::Debug for TokenAuthenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nobody => "TokenAuthenticator::Nobody",
            Self::Oidc(_) => "TokenAuthenticator::Oidc",
            Self::Fixed(_) => "TokenAuthenticator::Fixed",
        })
    }
}

/// The request is not authenticated; the log says why, the client only hears 401. No reason: nothing was presented.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unauthenticated {
    pub(crate) reasons: Vec<String>,
}

/// Everything that knows bearer tokens, in upstream's order: service accounts first.
pub(crate) struct TokenChain<'e> {
    pub(crate) accounts: &'e ServiceAccounts,
    pub(crate) store: &'e Store,
    pub(crate) now: Timestamp,
    pub(crate) others: Arc<TokenAuthenticator>,
}

impl TokenChain<'_> {
    /// The user behind a token for the API server itself, or why it is refused.
    pub(crate) async fn authenticate(&self, token: &str) -> Result<UserInfo, String> {
        self.review(token, self.accounts.audiences()).await.map(|(user, _)| user)
    }

    /// The user behind a token for any of the audiences `wanted`, and for which of them it is.
    pub(crate) async fn review(&self, token: &str, wanted: &[String]) -> Result<(UserInfo, Vec<String>), String> {
        match self.accounts.verify(self.store, self.now, token, wanted).await {
            Verdict::Account { user, audiences } => return Ok((user, audiences)),
            // Compat: the reasons of all authenticators, as one.
            Verdict::Refused(why) => return Err(format!("[{INVALID}, {why}]")),
            Verdict::NoOpinion => {}
        }
        // Compat: whoever knows nothing of audiences speaks for the API server's own.
        let own = self.accounts.audiences();
        let audiences: Vec<String> = wanted.iter().filter(|audience| own.contains(audience)).cloned().collect();
        if audiences.is_empty() {
            return Err(INVALID.to_owned());
        }
        self.others.authenticate(token).await.map(|user| (user, audiences))
    }
}

/// The user who makes a call. `path` is that of its URL, decoded.
pub(crate) async fn authenticate(
    call: &Call,
    path: &str,
    tokens: &TokenChain<'_>,
    anonymous: &AnonymousAuthConfig,
) -> Result<UserInfo, Unauthenticated> {
    let mut reasons = Vec::new();
    match &call.client_cert {
        Some(der) => match certificate_user(der) {
            Ok(user) => return Ok(user.with_authenticated_group()),
            Err(why) => reasons.push(why),
        },
        None if call.client_cert_refused => reasons.push("the client certificate is not valid".to_owned()),
        None => {}
    }
    match bearer(&call.headers) {
        Ok(Some(token)) => match tokens.authenticate(&token).await {
            Ok(user) => return Ok(user.with_authenticated_group()),
            Err(why) => reasons.push(why),
        },
        Ok(None) => {}
        Err(why) => reasons.push(why.to_owned()),
    }
    if reasons.is_empty() && lets_in(anonymous, path) {
        Ok(UserInfo::anonymous())
    } else {
        Err(Unauthenticated { reasons })
    }
}

/// Whether anonymous requests come to a path.
fn lets_in(anonymous: &AnonymousAuthConfig, path: &str) -> bool {
    let AnonymousAuthConfig { enabled, conditions } = anonymous;
    *enabled && (conditions.is_empty() || conditions.iter().any(|condition| condition.path == path))
}

/// `reason`, cut off where it is too long.
fn shortened(mut reason: String) -> String {
    if reason.len() > REASON_BYTES {
        reason.truncate(reason.floor_char_boundary(REASON_BYTES));
        reason.push('…');
    }
    reason
}

/// CN is the user, O the groups. The listener has verified the chain.
fn certificate_user(der: &Arc<[u8]>) -> Result<UserInfo, String> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|_| "the client certificate is malformed".to_owned())?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().filter_map(|name| name.as_str().ok()).last().unwrap_or_default();
    if name.is_empty() {
        return Err("the client certificate has no common name".to_owned());
    }
    let mut user = UserInfo::new(name, subject.iter_organization().filter_map(|group| group.as_str().ok()));
    let hash: String = digest::digest(&digest::SHA256, der).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    user.extra.insert(CREDENTIAL_ID.to_owned(), vec![format!("X509SHA256={hash}")]);
    Ok(user)
}

/// The token of `Authorization`, else that of a WebSocket's subprotocols.
fn bearer(headers: &HeaderMap) -> Result<Option<String>, &'static str> {
    if let Some(header) = headers.get(AUTHORIZATION) {
        let header = header.to_str().map_err(|_| "the Authorization header is not text")?.trim();
        let mut parts = header.splitn(3, ' ');
        let (scheme, token) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() {
            return Ok(Some(token.to_owned()));
        }
    }
    if is_websocket(headers) { websocket_bearer(headers) } else { Ok(None) }
}

/// What a client is told whose token was not looked at, because two spaces stand before it.
pub(crate) fn ignored_token(headers: &HeaderMap) -> Option<&'static str> {
    let header = headers.get(AUTHORIZATION)?.to_str().ok()?.trim();
    let mut parts = header.splitn(3, ' ');
    let (scheme, token, rest) = (parts.next()?, parts.next()?, parts.next());
    (scheme.eq_ignore_ascii_case("bearer") && token.is_empty() && rest.is_some())
        .then_some("the provided Authorization header contains extra space before the bearer token, and is ignored")
}

fn is_websocket(headers: &HeaderMap) -> bool {
    let has = |name: http::HeaderName, wanted: &str| {
        let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(wanted))
    };
    has(CONNECTION, "upgrade") && has(UPGRADE, "websocket")
}

fn websocket_bearer(headers: &HeaderMap) -> Result<Option<String>, &'static str> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).into_iter().filter_map(|value| value.to_str().ok());
    let protocols: Vec<&str> = values.flat_map(|value| value.split(',')).map(str::trim).collect();
    let mut token = None;
    for protocol in &protocols {
        let Some(encoded) = protocol.strip_prefix(WEBSOCKET_BEARER) else { continue };
        if token.is_some() {
            return Err("multiple base64.bearer.authorization tokens specified");
        }
        let decoded = URL_SAFE_NO_PAD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        token = Some(decoded.ok_or("invalid base64.bearer.authorization token encoding")?);
    }
    // Such a client would otherwise get its token back as the chosen subprotocol.
    if token.is_some() && protocols.len() < 2 {
        return Err("missing additional subprotocol");
    }
    Ok(token.filter(|token| !token.is_empty()))
}

#[cfg(test)]
mod tests {
    use crate::store::StoreLimits;
    use portcullis_kube::authentication_config::AnonymousAuthCondition;
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn tokens() -> TokenAuthenticator {
        TokenAuthenticator::Fixed(BTreeMap::from([("good".to_owned(), UserInfo::new("jane", ["devs"]))]))
    }

    fn certificate(cn: &str, groups: &[&str]) -> Arc<[u8]> {
        let mut params = CertificateParams::default();
        for group in groups {
            params.distinguished_name.push(DnType::OrganizationName, *group);
        }
        params.distinguished_name.push(DnType::CommonName, cn);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec().into()
    }

    async fn ask(call: Call) -> Result<UserInfo, Unauthenticated> {
        let (accounts, store) = (ServiceAccounts::new("127.0.0.1", None), Store::new(StoreLimits::default()));
        let now = Timestamp::from_unix_seconds(0);
        let chain = TokenChain { accounts: &accounts, store: &store, now, others: Arc::new(tokens()) };
        let everywhere = AnonymousAuthConfig::everywhere(true);
        authenticate(&call, &call.path, &chain, &everywhere).await
    }

    #[tokio::test]
    async fn nothing_presented_is_anonymous_and_a_bad_credential_is_not() {
        assert_eq!(ask(Call::test("GET /", "")).await.unwrap(), UserInfo::anonymous());
        for header in ["Bearer bad", "bearer bad extra"] {
            assert!(ask(Call::test("GET /", "").with("authorization", header)).await.is_err(), "{header}");
        }
        for header in ["Basic dTpw", "Bearer", "Bearer ", "bad"] {
            let user = ask(Call::test("GET /", "").with("authorization", header)).await;
            assert_eq!(user.unwrap(), UserInfo::anonymous(), "{header}: no bearer token");
        }
    }

    #[test]
    fn anonymous_requests_come_where_they_are_let_in_and_paths_are_compared_whole() {
        let config = |enabled, paths: &[&str]| AnonymousAuthConfig {
            enabled,
            conditions: paths.iter().map(|path| AnonymousAuthCondition { path: (*path).to_owned() }).collect(),
        };
        assert!(lets_in(&config(true, &[]), "/anything") && !lets_in(&config(false, &[]), "/livez"));
        // No valid file has this; it must not let anybody in all the same.
        assert!(!lets_in(&config(false, &["/livez"]), "/livez"));
        let some = config(true, &["/livez", "/a b", ""]);
        for path in ["/livez", "/a b", ""] {
            assert!(lets_in(&some, path), "{path:?}");
        }
        for path in ["/livez/", "/livez/ping", "/LIVEZ", "//livez", "/", "/a%20b"] {
            assert!(!lets_in(&some, path), "{path:?}");
        }
    }

    #[test]
    fn a_reason_is_no_longer_than_a_log_bears() {
        let long = "é".repeat(REASON_BYTES / 2);
        assert_eq!(shortened(long.clone()), long);
        assert_eq!(shortened(format!("{long}x")), format!("{long}…"));
        assert_eq!(shortened(format!("x{long}")), format!("x{}…", &long[2..]));
    }

    #[test]
    fn a_token_behind_two_spaces_is_worth_a_warning() {
        let warned = |header: &str| ignored_token(&Call::test("GET /", "").with("authorization", header).headers);
        for header in ["Bearer  good", "bearer  a b", "Bearer   x"] {
            assert!(warned(header).is_some_and(|text| text.contains("extra space")), "{header}");
        }
        for header in ["Bearer good", "Bearer ", "Bearer", "Basic  x", " Bearer good "] {
            assert_eq!(warned(header), None, "{header}");
        }
    }

    #[tokio::test]
    async fn a_good_token_gives_its_user_and_the_group_of_everyone() {
        for header in ["Bearer good", "bearer good", "  BEARER good "] {
            let user = ask(Call::test("GET /", "").with("authorization", header)).await.unwrap();
            assert_eq!(
                (user.username.as_str(), user.groups.as_slice()),
                ("jane", &["devs".to_owned(), "system:authenticated".to_owned()][..])
            );
        }
    }

    #[tokio::test]
    async fn a_certificate_comes_before_a_token_and_a_good_token_mends_a_bad_certificate() {
        let with_cert = |der: Arc<[u8]>| {
            let mut call = Call::test("GET /", "").with("authorization", "Bearer good");
            call.client_cert = Some(der);
            call
        };
        let user = ask(with_cert(certificate("admin", &["system:masters"]))).await.unwrap();
        assert_eq!((user.username.as_str(), user.groups.len()), ("admin", 2));
        assert!(user.extra[CREDENTIAL_ID][0].starts_with("X509SHA256="));
        for broken in [certificate("", &[]), Arc::from(&b"junk"[..])] {
            assert_eq!(ask(with_cert(Arc::clone(&broken))).await.unwrap().username, "jane");
            let mut alone = with_cert(broken);
            alone.headers.clear();
            assert!(ask(alone).await.is_err());
        }
        let mut refused = Call::test("GET /", "");
        refused.client_cert_refused = true;
        assert!(ask(refused).await.is_err());
    }

    #[tokio::test]
    async fn a_websocket_carries_its_token_among_the_subprotocols() {
        let good = format!("{WEBSOCKET_BEARER}{}", URL_SAFE_NO_PAD.encode("good"));
        let ask_with = |protocols: String, upgrade: bool| {
            let call = Call::test("GET /", "").with("sec-websocket-protocol", &protocols);
            ask(if upgrade {
                call.with("connection", "keep-alive, Upgrade").with("upgrade", "websocket")
            } else {
                call
            })
        };
        assert_eq!(ask_with(format!("v5.channel.k8s.io, {good}"), true).await.unwrap().username, "jane");
        assert_eq!(ask_with(format!("v5.channel.k8s.io, {good}"), false).await.unwrap(), UserInfo::anonymous());
        for (protocols, why) in [
            (good.clone(), "missing additional subprotocol"),
            (format!("a,{good},{good}"), "multiple base64.bearer.authorization tokens specified"),
            (format!("a,{WEBSOCKET_BEARER}!!"), "invalid base64.bearer.authorization token encoding"),
        ] {
            assert_eq!(ask_with(protocols, true).await.unwrap_err().reasons, [why]);
        }
    }
}
