//! What to change: for each refusal, the setting or claim, and the value that it should have.
//!
//! The verdict is already there; this looks at the same token, settings and keys for the likeliest cause.

use portcullis_authn::{
    ALL_SIGNING_ALGS, AuthnError, ClaimsError, ConfigError, DistributedError, Purpose, StrictError, VerifyError,
};
use portcullis_jose::JoseError;
use portcullis_kube::field::FieldError;
use portcullis_oidc::client::{DiscoveryError, JwksFetchError};
use portcullis_runtime::http_client::HttpClientError;
use serde_json::Value;

use super::config::{
    AUDIENCE, CA, EXTRA, GROUPS, ISSUER, OWN_ISSUER, Origin, REQUIRED, Setting, UID, USER_RULES, USERNAME,
};
use super::expressions::{self, Wanted, is_identifier};
use super::keys::{DiscoveryFault, Read, Undiscovered};
use super::view::{Case, span};

/// Seconds that clocks may differ before somebody should look at them.
const SKEW: i64 = 5;
/// Claims that are named in a hint.
pub(crate) const CLAIMS_NAMED: usize = 12;

const CRITICAL: &str = "the provider must not use critical header members";
const NEW_TOKEN: &str = "the token is cut or changed on its way: get a new one, and copy all of it";

/// For a configuration that kube-apiserver refuses.
pub(crate) fn for_config(error: &ConfigError, origin: &Origin) -> Option<String> {
    if let Some(hint) = error.hint() {
        return Some(hint);
    }
    let name = |setting: Setting| match origin {
        Origin::File(_) => setting.1.to_owned(),
        Origin::Flags | Origin::FlagsIn(_) => origin.name(setting, 0),
    };
    Some(match error {
        ConfigError::IncompleteFlags => format!("give {} and {} both", name(ISSUER), name(AUDIENCE)),
        ConfigError::UnsupportedSigningAlg(_) => {
            format!("use one or more of {}, with commas between", ALL_SIGNING_ALGS.join(", "))
        }
        ConfigError::Decode(error) if error.to_string().contains("yaml: line ") => {
            "correct the YAML there or in the line before: indentation, quotes and blanks behind colons are what people get wrong".to_owned()
        }
        ConfigError::CaFile { .. } => "name the file with --ca".to_owned(),
        ConfigError::Invalid(errors) | ConfigError::Refused(errors) => for_field(errors.errors.first()?, origin),
        _ => return None,
    })
}

/// What each rule asks for, by the words in which it is told.
fn for_field(error: &FieldError, origin: &Origin) -> String {
    let text = error.to_string();
    let field = match (origin, error.field.as_str()) {
        (Origin::File(_), field) => field.to_owned(),
        (_, field) => {
            let settings = [ISSUER, AUDIENCE, CA, USERNAME, GROUPS, REQUIRED];
            let found = settings.into_iter().find(|setting| field.contains(setting.1));
            origin.name(found.unwrap_or(ISSUER), 0)
        }
    };
    let has = |part: &str| text.contains(part);
    let audiences = error.field.contains("audience");
    if has("scheme must be https") {
        format!("serve the issuer over https, and write https:// in {field}; the token's iss must say the same")
    } else if has("must not contain a") {
        format!("leave that part of the URL out of {field}; the provider's issuer must be the same URL")
    } else if has("disallowed issuers") {
        format!("{field} is the issuer of the cluster's own service accounts: name your provider there")
    } else if audiences && has("MatchAny") {
        "add audienceMatchPolicy: MatchAny beside audiences".to_owned()
    } else if audiences {
        format!("{field} must name the client id that tokens are issued for, once each")
    } else if has("prefix is required") {
        format!("add {field}: \"\" for no prefix, or one such as \"oidc:\"")
    } else if has("discoveryURL must be different") {
        "leave discoveryURL out: it is for a document that is not below the issuer's URL".to_owned()
    } else if has("certificates") {
        format!(
            "put the authority's certificate itself there ({field}): PEM text that begins with -----BEGIN CERTIFICATE-----"
        )
    } else if has("both be set") {
        format!("leave one of claim and expression out at {field}")
    } else if has("claims.email_verified must be used") {
        "add a claimValidationRules entry such as: expression: claims.?email_verified.orValue(true) == true".to_owned()
    } else if has("matching overload for '_?_:_'") {
        format!("both sides of the colon at {field} must have one type: write string(…) or dyn(…) around them")
    } else if has("invalid argument to has() macro") {
        format!("has() takes a form such as claims.x alone; of other names, write claims[?'x'].hasValue() at {field}")
    } else if has("exceeds limit") || has("recursion limit exceeded") || has("recursion depth exceeded") {
        format!("shorten the expression at {field}, or make several claimValidationRules of it")
    } else if has("must evaluate to bool") {
        format!("compare it at {field}, as in: claims.x == 'y', or claims.x == true")
    } else if has("Too many") {
        "split the issuers over clusters, or leave some out".to_owned()
    } else if has("Duplicate value") {
        format!("leave one of the two out at {field}")
    } else if has("Required value") {
        format!("add {field}")
    } else {
        format!("correct {field}")
    }
}

/// For a token that is none of the cluster's.
pub(crate) fn for_nobody(case: &Case<'_>) -> String {
    let parts = case.token.split('.').count();
    if let Some(hint) = for_copy(case.token) {
        return hint.to_owned();
    }
    if parts == 5 {
        return "this token is encrypted (five parts): let the provider sign ID tokens for this client, and not encrypt them"
            .to_owned();
    }
    if parts != 3 {
        return format!(
            "this is no JWT ({parts} part{}, not three): an access token may look so; kube-apiserver wants the ID token",
            if parts == 1 { "" } else { "s" }
        );
    }
    let Some(claims) = &case.claims else { return NEW_TOKEN.to_owned() };
    let Some(issuer) = case.registered("iss").and_then(Value::as_str) else {
        return "the token has no iss that is a text: the provider must put its issuer URL there".to_owned();
    };
    if issuer == OWN_ISSUER
        || claims.contains_key("kubernetes.io")
        || claims.contains_key("kubernetes.io/serviceaccount/namespace")
    {
        return "this is a service account's token: another authenticator of the API server knows it".to_owned();
    }
    near(issuer, case).unwrap_or_else(|| {
        let trusted: Vec<&str> = case.issuers.iter().map(|one| one.config().issuer_url.as_str()).collect();
        match trusted.as_slice() {
            [] => "nobody is trusted: add the issuer to jwt".to_owned(),
            [only] => {
                let change = case.origin.change(ISSUER, 0, issuer);
                format!("the token is from {issuer}, and {only} is trusted: sign in there, or {change}")
            }
            many => {
                format!("the token is from {issuer}; sign in at one of {}, or add an entry to jwt", many.join(", "))
            }
        }
    })
}

/// What comes along when a token is copied.
fn for_copy(token: &str) -> Option<&'static str> {
    if token.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("bearer ")) {
        return Some("leave the word Bearer out: the token is what follows it");
    }
    token.starts_with(['"', '\'']).then_some("leave the quotes around the token out")
}

/// An issuer that differs from a trusted one by what people get wrong.
fn near(issuer: &str, case: &Case<'_>) -> Option<String> {
    let bare = |url: &str| {
        let url = url.trim().to_lowercase();
        let url = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")).unwrap_or(&url).to_owned();
        url.trim_end_matches('/').replacen(":443", "", 1)
    };
    let (at, trusted) = case
        .issuers
        .iter()
        .map(|one| one.config().issuer_url.as_str())
        .enumerate()
        .find(|(_, trusted)| bare(trusted) == bare(issuer))?;
    let name = case.origin.name(ISSUER, at);
    let change = case.origin.change(ISSUER, at, issuer);
    Some(if issuer.trim_end_matches('/') == trusted.trim_end_matches('/') {
        let (with, without) =
            if issuer.len() > trusted.len() { ("in the token", "in") } else { ("in", "in the token") };
        if with == "in" {
            format!("the issuer ends in / in {name} and not {without}: {change}")
        } else {
            format!("the issuer ends in / {with} and not {without} {name}: {change}")
        }
    } else if issuer.starts_with("http://") {
        format!("the token's issuer is http: let the provider call itself {trusted}; http issuers are not accepted")
    } else {
        format!("the issuer must be the same letter by letter, and the token says {issuer}: {change}")
    })
}

/// For an issuer that cannot be discovered.
pub(crate) fn for_undiscovered(fault: &Undiscovered, case: &Case<'_>) -> String {
    let at = case.at.unwrap_or_default();
    match &fault.error {
        DiscoveryFault::Discovery(DiscoveryError::Http(error)) => for_http(error, case),
        DiscoveryFault::Discovery(DiscoveryError::Status { status: 404, .. }) => {
            format!(
                "there is no discovery document at {}: is {} right, path included?",
                fault.url,
                case.origin.name(ISSUER, at)
            )
        }
        DiscoveryFault::Discovery(DiscoveryError::IssuerMismatch { expected, got }) => format!(
            "the provider calls itself {expected} in its tokens and {got} in its discovery document: give it one issuer URL, which \
             {} must be too",
            case.origin.name(ISSUER, at)
        ),
        DiscoveryFault::Discovery(DiscoveryError::Json { .. }) => {
            format!("{} is no discovery document: a login page or proxy may answer there; open it and see", fault.url)
        }
        DiscoveryFault::Discovery(_) => format!("ask again when {} answers with 200", fault.url),
        DiscoveryFault::NoJwksUri => "the discovery document must name jwks_uri".to_owned(),
    }
}

fn for_http(error: &HttpClientError, case: &Case<'_>) -> String {
    let at = case.at.unwrap_or_default();
    match error {
        HttpClientError::Tls { unknown_issuer: true, .. } => format!(
            "put the authority that signed the issuer's certificate into {} (here: --ca)",
            case.origin.name(CA, at)
        ),
        HttpClientError::Tls { .. } => "the issuer's certificate must name its host and be valid now".to_owned(),
        HttpClientError::Connect { .. } => {
            "is the name right, and can this machine reach it? The API server needs the same way; --jwks takes the keys from a file"
                .to_owned()
        }
        HttpClientError::Timeout { .. } => "the issuer takes too long; --jwks takes the keys from a file".to_owned(),
        _ => "the API server would meet the same; --jwks takes the keys from a file".to_owned(),
    }
}

/// For a token that is refused.
pub(crate) fn for_refusal(error: &AuthnError, case: &Case<'_>) -> String {
    match error {
        AuthnError::NotInitialized => "the issuer must answer before a token is looked at".to_owned(),
        AuthnError::Verify(error) => for_verify(error, case),
        AuthnError::Distributed(error) => for_distributed(error),
        AuthnError::Claims(error) => for_claims(error, case),
        AuthnError::Strict(error) => for_strict(error),
        _ => NEW_TOKEN.to_owned(),
    }
}

fn for_verify(error: &VerifyError, case: &Case<'_>) -> String {
    let at = case.at.unwrap_or_default();
    match error {
        VerifyError::Malformed(JoseError::TokenTooLarge { .. }) => {
            "no HTTP server takes such a header: have the provider put fewer groups or claims into the token".to_owned()
        }
        VerifyError::Malformed(JoseError::Critical) => CRITICAL.to_owned(),
        VerifyError::Malformed(_) => for_copy(case.token).unwrap_or(NEW_TOKEN).to_owned(),
        VerifyError::UnsupportedAlgorithm { got, .. } => for_algorithm(got, case),
        VerifyError::Signature(reason) => for_signature(reason, case),
        VerifyError::FetchingKeys(_) => match case.keys.map(|keys| &keys.faithful) {
            Some(Err(JwksFetchError::Decode { reason: JoseError::SetJson, .. })) => {
                "the key set must be JSON with a list keys: take it from the discovery document's jwks_uri".to_owned()
            }
            Some(Err(JwksFetchError::Decode { reason, .. })) => format!(
                "one key makes kube-apiserver refuse the whole set ({reason}): take it out of the issuer's key set"
            ),
            Some(Err(JwksFetchError::Http(error))) => for_http(error, case),
            _ => "the issuer's jwks_uri must answer with 200 and a key set".to_owned(),
        },
        VerifyError::ClaimTypes(text) => {
            let claim = text.split_once("idToken.").map_or("", |(_, rest)| rest).split(' ').next().unwrap_or_default();
            match claim {
                "" => "exp, iat and nbf must be numbers: correct the mapper at the provider".to_owned(),
                "aud" => "the provider must send aud as a text or a list of texts".to_owned(),
                claim => format!(
                    "the provider must send {claim} with its type of OpenID Connect; a mapper may have changed it"
                ),
            }
        }
        VerifyError::EmptySource | VerifyError::UnknownSource => {
            "the provider's _claim_names and _claim_sources do not fit together: turn off distributed claims there"
                .to_owned()
        }
        VerifyError::Issuer { expected, .. } => format!("the provider must spell the claim iss so, and as {expected}"),
        VerifyError::Audience { got, .. } | VerifyError::AudienceAny { got, .. } => for_audience(got, case, at),
        VerifyError::Expired { expiry } => for_expiry(*expiry, case),
        VerifyError::NotYetValid { now, not_before } => format!(
            "the token begins in {}: the clock here, or the API server's, is behind the provider's; synchronise them (NTP)",
            span(not_before.saturating_sub(*now))
        ),
        _ => NEW_TOKEN.to_owned(),
    }
}

fn for_algorithm(got: &str, case: &Case<'_>) -> String {
    let flags = !case.origin.is_file();
    if flags && ALL_SIGNING_ALGS.contains(&got) {
        let allowed = case.config.map(|config| config.signing_algs.join(",")).unwrap_or_default();
        let name = match case.origin {
            Origin::Flags => format!("use --oidc-signing-algs={allowed},{got}"),
            _ => format!("set oidc-signing-algs to {allowed},{got}"),
        };
        return format!("{name}, or let the provider sign with {allowed}");
    }
    let what = match got {
        "none" | "" => "the token is not signed",
        _ if got.starts_with("HS") => "the token is signed with a secret that kube-apiserver does not share",
        _ => "kube-apiserver never accepts this algorithm",
    };
    format!("{what}: let the provider sign this client's ID tokens with RS256")
}

fn for_signature(reason: &JoseError, case: &Case<'_>) -> String {
    let set = case.keys.map(Read::kids).unwrap_or_default();
    let alg = case.header("alg").unwrap_or_default();
    let Some(kid) = case.kid() else {
        return match reason {
            JoseError::NoMatchingKey => "the key set has no key: is it this issuer's?".to_owned(),
            JoseError::AlgorithmKeyMismatch => format!(
                "the token names no key, and the set has none of the kind that {alg} needs: it is another issuer's, or the header was \
                 changed"
            ),
            JoseError::Critical => CRITICAL.to_owned(),
            _ => "the token names no key, so all of the set were tried, and none has signed it: the set is another issuer's or older than \
                  the key, or the token was changed after it was signed"
                .to_owned(),
        };
    };
    match reason {
        JoseError::NoMatchingKey if set.is_empty() => {
            "the key set has no key with an id: is it this issuer's?".to_owned()
        }
        JoseError::NoMatchingKey => format!(
            "the key {kid:?} is not in the set ({}): it was rotated away, or the set is older than it; sign in again, and fetch the set anew",
            set.join(", ")
        ),
        JoseError::AlgorithmKeyMismatch => format!(
            "the key {kid:?} is of another kind than {alg} needs: the set is another issuer's, or the header was changed"
        ),
        JoseError::Critical => CRITICAL.to_owned(),
        JoseError::BadSignature if alg.starts_with("PS") => {
            "the set is another issuer's with the same key id, or the token was changed after it was signed, or its salt is not as long \
             as its hash, which kube-apiserver accepts and Portcullis does not"
                .to_owned()
        }
        _ => {
            "the set is another issuer's with the same key id, or the token was changed after it was signed".to_owned()
        }
    }
}

fn for_audience(got: &[String], case: &Case<'_>, at: usize) -> String {
    if got.iter().all(String::is_empty) {
        return "the token has no aud: let the provider put the client id there".to_owned();
    }
    let access = case.header("typ").is_some_and(|typ| typ.eq_ignore_ascii_case("at+jwt"))
        || case.claims.as_ref().is_some_and(|claims| claims.contains_key("scope") || claims.contains_key("scp"))
        // Keycloak's access tokens of any client.
        || got == ["account"];
    if access {
        // Whoever trusted its audience would let in all who may ask that API for something.
        return "this looks like an access token: use the ID token, whose audience is the client that has signed in"
            .to_owned();
    }
    let audience = got.first().map_or("", String::as_str);
    let change = if case.origin.is_file() {
        // A list, which others may rest upon.
        let name = case.origin.name(AUDIENCE, at);
        format!("add {audience:?} to {name}, with audienceMatchPolicy: MatchAny")
    } else {
        case.origin.change(AUDIENCE, at, audience)
    };
    format!("the token is for another client: sign in with the one that the cluster trusts, or {change}")
}

fn for_expiry(expiry: Option<i64>, case: &Case<'_>) -> String {
    let Some(expiry) = expiry else { return "the token has no exp: the provider must set it".to_owned() };
    let now = case.now.unix_seconds();
    let issued = case.registered("iat").and_then(Value::as_i64);
    if issued.is_some_and(|issued| issued > now.saturating_add(SKEW)) {
        return "the token was issued in the future and has expired already: the clocks differ; synchronise them (NTP)"
            .to_owned();
    }
    let late = now.saturating_sub(expiry);
    let lived = issued.map_or(i64::MAX, |issued| expiry.saturating_sub(issued));
    if (1..60).contains(&lived) {
        return format!("the provider gives its tokens {} only: have it give them more", span(lived));
    }
    format!("it ended {} ago: sign in again (kubectl's plugin does so by itself)", span(late))
}

fn for_distributed(error: &DistributedError) -> String {
    match error {
        DistributedError::NotFetched { endpoint, .. } => format!(
            "the groups are not in the token but at {endpoint}, and check does not ask there; an overage at Entra ID is always \
             refused by kube-apiserver: let the provider send fewer groups (those assigned to the application)"
        ),
        _ => "the provider's _claim_names and _claim_sources do not fit together: turn off distributed claims there"
            .to_owned(),
    }
}

fn for_claims(error: &ClaimsError, case: &Case<'_>) -> String {
    let at = case.at.unwrap_or_default();
    let name = |setting| case.origin.name(setting, at);
    match error {
        ClaimsError::Username { claim, reason } if reason.contains("not present") => {
            if let Some(other) = case.odd_case(claim) {
                return spelled(claim, other, &name(USERNAME));
            }
            let scope = match claim.as_str() {
                "email" => "let the plugin ask for the scope email, ",
                "name" | "preferred_username" | "nickname" => "let the plugin ask for the scope profile, ",
                _ => "",
            };
            let texts = case.text_claims(CLAIMS_NAMED);
            format!("{scope}let the provider send it, or name a claim that is there in {}: {texts}", name(USERNAME))
        }
        ClaimsError::Username { claim, .. } => {
            format!("the provider must send {claim} as one text, or name another claim in {}", name(USERNAME))
        }
        ClaimsError::EmailVerifiedType(_) => {
            "the provider must send email_verified as true or false, without quotes: correct its mapper".to_owned()
        }
        ClaimsError::EmailNotVerified => {
            format!("verify the address at the provider, or name another claim in {}", name(USERNAME))
        }
        ClaimsError::Groups { claim, .. } => {
            let named = |list: &Vec<Value>| list.iter().all(|one| one.get("name").is_some_and(Value::is_string));
            let instead = match case.claim(claim).and_then(Value::as_array) {
                Some(list) if case.origin.is_file() && is_identifier(claim) && named(list) => {
                    format!("; or use an expression, as in: dyn(claims.{claim}).map(g, g.name)")
                }
                _ => String::new(),
            };
            format!("the provider must send {claim} as a list of texts, or one text{instead}")
        }
        ClaimsError::Uid { claim, .. } => match case.odd_case(claim) {
            Some(other) => spelled(claim, other, &name(UID)),
            None => format!("the provider must send {claim} as a text; see {}", name(UID)),
        },
        ClaimsError::RequiredMissing(claim) => match case.odd_case(claim) {
            Some(other) => spelled(claim, other, &name(REQUIRED)),
            // To ask for it no more would let everybody in whom the issuer knows.
            None => format!(
                "whoever has no {claim} is to be refused, says {}; if this user is to come in, let the provider send it; this token has {}",
                name(REQUIRED),
                case.text_claims(CLAIMS_NAMED)
            ),
        },
        ClaimsError::RequiredType { claim, .. } => {
            let instead = match case.claim(claim) {
                Some(Value::Bool(value)) if case.origin.is_file() && is_identifier(claim) => {
                    format!("; or use an expression, as in: claims.{claim} == {value}")
                }
                _ => String::new(),
            };
            format!("a required claim must be a text: let the provider send {claim} so{instead}")
        }
        ClaimsError::RequiredValue { claim, got, .. } => {
            format!("this user's {claim} is {got:?}: sign in as somebody else, or change {}", name(REQUIRED))
        }
        ClaimsError::UsernameExpression(text) => {
            expressions::hint(text, &case.expression(&Purpose::Username), Wanted::Name, &name(USERNAME), case)
        }
        ClaimsError::EmptyUsername => format!("the claim behind {} is empty: let the provider fill it", name(USERNAME)),
        ClaimsError::GroupsExpression(text) => {
            expressions::hint(text, &case.expression(&Purpose::Groups), Wanted::Texts, &name(GROUPS), case)
        }
        ClaimsError::UidExpression(text) => {
            expressions::hint(text, &case.expression(&Purpose::Uid), Wanted::Text, &name(UID), case)
        }
        ClaimsError::ExtraExpression(text) => expressions::hint(text, "", Wanted::Texts, &name(EXTRA), case),
        ClaimsError::ExtraValue { expression, reason } => {
            expressions::hint(reason, expression, Wanted::Texts, &name(EXTRA), case)
        }
        ClaimsError::ClaimRule(text) => for_rule(text, &name(REQUIRED), case),
        ClaimsError::UserRule(text) => for_rule(text, &name(USER_RULES), case),
        _ => NEW_TOKEN.to_owned(),
    }
}

/// For a claim whose name the token writes in another case of letters.
pub(crate) fn spelled(claim: &str, other: &str, place: &str) -> String {
    format!(
        "the token spells it {other:?}, and names are compared letter by letter: write {other} at {place}, or let the provider send {claim}"
    )
}

fn for_rule(text: &str, place: &str, case: &Case<'_>) -> String {
    if text.contains("resulted in error") {
        expressions::hint(text, "", Wanted::Truth, place, case)
    } else {
        format!("the rule at {place} does not hold for this token: see what it came to above")
    }
}

fn for_strict(error: &StrictError) -> String {
    match error {
        StrictError::NotCanonical => "take white space and line breaks out of the token".to_owned(),
        StrictError::DuplicateClaim(claim) => format!("the provider must send {claim} once: two mappers may write it"),
        StrictError::OddCase { expected, .. } => format!("the provider must spell the claim {expected}"),
        StrictError::EmptyUsername => "let the provider fill the claim behind the user name".to_owned(),
        StrictError::SystemName(_) => {
            "put a prefix before names, so that a token cannot claim Kubernetes' own".to_owned()
        }
        _ => "see docs/compat/kube-apiserver-authn.md".to_owned(),
    }
}
