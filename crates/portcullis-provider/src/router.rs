//! Paths to handlers.
//!
//! Compat: every path is below the issuer's; paths are matched as they come, without cleaning, and there is no redirect
//! for a trailing slash. Which methods count is each handler's matter. `web.headers` go on every answer (Dex forgets its
//! static files: dex.md 0.1 T16).

use http::{HeaderValue, StatusCode};
use portcullis_runtime::telemetry::{Health, MatchedRoute};

use crate::app::App;
use crate::http::{Decision, Inbound, Params, Reply, text};
use crate::{authflow, endpoints, grants, pages};

/// A path of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Route<'a> {
    Discovery,
    Keys,
    Authorize,
    Connector(&'a str),
    Login(&'a str),
    Approval,
    Token,
    UserInfo,
    Health,
    Home,
    Asset,
    Unknown,
}

impl<'a> Route<'a> {
    fn of(path: &'a str) -> Self {
        match path {
            "/.well-known/openid-configuration" => Self::Discovery,
            "/keys" => Self::Keys,
            "/auth" => Self::Authorize,
            "/approval" => Self::Approval,
            "/token" => Self::Token,
            "/userinfo" => Self::UserInfo,
            "/healthz" => Self::Health,
            "" | "/" => Self::Home,
            _ if pages::asset(path).is_some() => Self::Asset,
            _ => {
                let Some(rest) = path.strip_prefix("/auth/") else { return Self::Unknown };
                match rest.split_once('/') {
                    None if !rest.is_empty() => Self::Connector(rest),
                    Some((connector, "login")) if !connector.is_empty() => Self::Login(connector),
                    _ => Self::Unknown,
                }
            }
        }
    }

    /// The label in metrics: Dex's patterns.
    const fn pattern(&self) -> Option<&'static str> {
        match self {
            Self::Discovery => Some("/.well-known/openid-configuration"),
            Self::Keys => Some("/keys"),
            Self::Authorize => Some("/auth"),
            Self::Connector(_) => Some("/auth/{connector}"),
            Self::Login(_) => Some("/auth/{connector}/login"),
            Self::Approval => Some("/approval"),
            Self::Token => Some("/token"),
            Self::UserInfo => Some("/userinfo"),
            Self::Health => Some("/healthz"),
            Self::Home => Some("/"),
            Self::Asset | Self::Unknown => None,
        }
    }

    /// Whether scripts of other origins may call it.
    const fn has_cors(&self) -> bool {
        matches!(self, Self::Discovery | Self::Keys | Self::Token | Self::UserInfo | Self::Home)
    }
}

/// Answers a request.
pub(crate) async fn route(app: &App, health: &Health, inbound: &Inbound) -> Reply {
    let route = Route::of(&inbound.path);
    let mut added = Vec::new();
    let mut reply = match route.has_cors().then(|| app.cors.decide(&inbound.method, &inbound.headers)) {
        Some(Decision::Answer(reply)) => *reply,
        Some(Decision::Serve(headers)) => {
            added = headers;
            serve(app, health, inbound, &route).await
        }
        None => serve(app, health, inbound, &route).await,
    };
    if let Some(pattern) = route.pattern() {
        reply.extensions_mut().insert(MatchedRoute(pattern));
    }
    let headers = reply.headers_mut();
    headers.extend(added);
    for (name, value) in &app.config.web.headers {
        headers.insert(name.clone(), value.clone());
    }
    if !headers.contains_key(http::header::X_CONTENT_TYPE_OPTIONS) {
        headers.insert(http::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
    reply
}

async fn serve(app: &App, health: &Health, inbound: &Inbound, route: &Route<'_>) -> Reply {
    match route {
        Route::Discovery => app.discovery.reply(&app.signer.ring(), &inbound.headers),
        Route::Keys => endpoints::keys(app, inbound),
        Route::Authorize => authflow::authorize(app, inbound).await,
        Route::Connector(id) => authflow::authorize_connector(app, inbound, &decoded(id)).await,
        Route::Login(id) => authflow::login(app, inbound, &decoded(id)).await,
        Route::Approval => authflow::approval(app, inbound).await,
        Route::Token => grants::token(app, inbound).await,
        Route::UserInfo => endpoints::userinfo(app, inbound),
        Route::Health => endpoints::health(app, health),
        Route::Home => app.pages.home(&app.config.issuer.at("/.well-known/openid-configuration")),
        Route::Asset => pages::asset(&inbound.path).map_or_else(not_found, |asset| asset.reply(&inbound.headers)),
        Route::Unknown => not_found(),
    }
}

/// Compat: Go's text.
pub(crate) fn not_found() -> Reply {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// A path segment; what cannot be decoded stays as it is and names no connector.
fn decoded(segment: &str) -> String {
    let form = format!("v={}", segment.replace('+', "%2B").replace('&', "%26").replace(';', "%3B"));
    Params::parse(form.as_bytes()).map_or_else(|_| segment.to_owned(), |p| p.get("v").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_matched_as_they_come() {
        for (path, want) in [
            ("/auth", Route::Authorize),
            ("/auth/", Route::Unknown),
            ("/auth/local", Route::Connector("local")),
            ("/auth/local/", Route::Unknown),
            ("/auth/local/login", Route::Login("local")),
            ("/auth//login", Route::Unknown),
            ("/auth/local/login/", Route::Unknown),
            ("/auth/../keys", Route::Unknown),
            ("//keys", Route::Unknown),
            ("/keys", Route::Keys),
            ("/keys/", Route::Unknown),
            ("/KEYS", Route::Unknown),
            ("", Route::Home),
            ("/", Route::Home),
            ("/static/main.css", Route::Asset),
            ("/static/../main.css", Route::Unknown),
            ("/robots.txt", Route::Asset),
            ("/.well-known/openid-configuration", Route::Discovery),
        ] {
            assert_eq!(Route::of(path), want, "{path}");
        }
    }

    #[test]
    fn segments_are_decoded_once() {
        for (segment, want) in
            [("local", "local"), ("a%2Fb", "a/b"), ("a+b", "a+b"), ("a%252F", "a%2F"), ("a%", "a%"), ("a&b;c", "a&b;c")]
        {
            assert_eq!(decoded(segment), want);
        }
    }
}
