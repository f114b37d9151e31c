//! What the local server answers.
//!
//! Compat: `GET callback?error` and `GET callback?code` end the sign-in, the first one counts; `GET /` redirects to the
//! provider; everything else is 404 (oauth2cli `server.go`). Ours: the host check, the state of an `error`, refusal of
//! requests that are no navigation, and the page after the exchange instead of before.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use portcullis_runtime::server::{Handler, Request, Response, empty, full};
use subtle::ConstantTimeEq as _;
use tokio::sync::{oneshot, watch};
use url::form_urlencoded;

use super::page::{self, Page};
use super::{CallbackConfig, CallbackError, Ending};
use crate::encoding::printable;

/// How long a page waits for the exchange, which has a time limit of its own.
const PATIENCE: Duration = Duration::from_secs(90);

/// Longest piece of a provider's error that is shown.
const MAX_SHOWN: usize = 500;

pub(super) struct CallbackHandler {
    config: CallbackConfig,
    answer: Mutex<Option<oneshot::Sender<Result<String, CallbackError>>>>,
    ending: watch::Receiver<Ending>,
}

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
enum Ask {
    Answer(Result<String, CallbackError>),
    Index,
    Unknown,
    ForeignHost,
    NoNavigation,
}

impl CallbackHandler {
    pub(super) fn new(
        config: CallbackConfig,
        answer: oneshot::Sender<Result<String, CallbackError>>,
        ending: watch::Receiver<Ending>,
    ) -> Self {
        Self { config, answer: Mutex::new(Some(answer)), ending }
    }

    fn ask(&self, method: &Method, path: &str, query: &str, host: Option<&str>, headers: &HeaderMap) -> Ask {
        if !host.is_some_and(|host| self.knows_host(host)) {
            return Ask::ForeignHost;
        }
        if method != Method::GET {
            return Ask::Unknown;
        }
        let first = |wanted: &str| {
            form_urlencoded::parse(query.as_bytes())
                .find(|(name, _)| name == wanted)
                .map(|(_, value)| value.into_owned())
        };
        let given = |wanted: &str| first(wanted).filter(|value| !value.is_empty());
        let on_callback = path == self.config.callback_path;
        if on_callback && (given("error").is_some() || given("code").is_some()) {
            if !is_navigation(headers) {
                return Ask::NoNavigation;
            }
            let state = first("state").unwrap_or_default();
            if !bool::from(state.as_bytes().ct_eq(self.config.state.as_bytes())) {
                let got = printable(&state, MAX_SHOWN);
                return Ask::Answer(Err(CallbackError::State { wants: self.config.state.clone(), got }));
            }
            if let Some(code) = given("error") {
                let description = printable(&first("error_description").unwrap_or_default(), MAX_SHOWN);
                return Ask::Answer(Err(CallbackError::Refused { code: printable(&code, MAX_SHOWN), description }));
            }
            return Ask::Answer(Ok(given("code").unwrap_or_default()));
        }
        if path == "/" { Ask::Index } else { Ask::Unknown }
    }

    /// A rebinding attack needs a name of its own: an address or `localhost` cannot be one.
    fn knows_host(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => host.split(':').next().unwrap_or_default(),
        };
        name.eq_ignore_ascii_case("localhost")
            || name.parse::<IpAddr>().is_ok()
            || self.config.redirect_host.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(name))
    }

    async fn respond(&self, ask: Ask) -> Response {
        match ask {
            Ask::Answer(answer) => {
                let refused = answer.is_err();
                let sender = self.answer.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(sender) = sender {
                    let _ = sender.send(answer);
                }
                if !refused && self.wait().await == Ending::Success {
                    return html(StatusCode::OK, page::success(&self.config.open_url_after));
                }
                html(StatusCode::INTERNAL_SERVER_ERROR, page::failure())
            }
            Ask::Index => match HeaderValue::from_str(&self.config.authorization_url) {
                Ok(target) => {
                    let mut response = plain(StatusCode::FOUND, "");
                    response.headers_mut().insert(LOCATION, target);
                    response
                }
                Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the authorization URL cannot be sent\n"),
            },
            Ask::Unknown => plain(StatusCode::NOT_FOUND, "404 page not found\n"),
            Ask::ForeignHost => plain(StatusCode::FORBIDDEN, "this host name is not served here\n"),
            Ask::NoNavigation => plain(StatusCode::FORBIDDEN, "only a page that is opened can sign in\n"),
        }
    }

    async fn wait(&self) -> Ending {
        let mut ending = self.ending.clone();
        let ended = tokio::time::timeout(PATIENCE, ending.wait_for(|ending| *ending != Ending::Pending)).await;
        match ended {
            Ok(Ok(ending)) => *ending,
            _ => Ending::Failure,
        }
    }
}

impl Handler for CallbackHandler {
    fn handle(self: Arc<Self>, request: Request) -> Pin<Box<dyn Future<Output = Response> + Send>> {
        let uri = request.uri();
        let host = request
            .headers()
            .get(http::header::HOST)
            .and_then(|host| host.to_str().ok())
            .or_else(|| uri.authority().map(|authority| authority.as_str()));
        let ask = self.ask(request.method(), uri.path(), uri.query().unwrap_or_default(), host, request.headers());
        Box::pin(async move { self.respond(ask).await })
    }
}

/// Whether a browser says that this is a page being opened. An image or a script on some page must not be able to end
/// the sign-in. Clients that send no fetch metadata (curl) pass.
fn is_navigation(headers: &HeaderMap) -> bool {
    let says = |name: &str, wanted: &str| {
        headers.get(name).is_none_or(|value| value.as_bytes().eq_ignore_ascii_case(wanted.as_bytes()))
    };
    says("sec-fetch-mode", "navigate") && says("sec-fetch-dest", "document")
}

fn html(status: StatusCode, page: Page) -> Response {
    let mut response = Response::new(full(page.html));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    if let Ok(policy) = HeaderValue::from_str(&page.policy) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    harden(headers);
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response {
    let mut response = Response::new(if text.is_empty() { empty() } else { full(text) });
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'"));
    harden(headers);
    response
}

fn harden(headers: &mut HeaderMap) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handler(callback_path: &str, redirect_host: Option<&str>) -> CallbackHandler {
        let config = CallbackConfig {
            callback_path: callback_path.to_owned(),
            redirect_host: redirect_host.map(str::to_owned),
            authorization_url: "https://issuer.example.com/auth?x=1".to_owned(),
            state: "STATE".to_owned(),
            open_url_after: String::new(),
        };
        CallbackHandler::new(config, oneshot::channel().0, watch::channel(Ending::Pending).1)
    }

    fn ask(handler: &CallbackHandler, method: &Method, target: &str) -> Ask {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        handler.ask(method, path, query, Some("localhost:8000"), &HeaderMap::new())
    }

    fn wrong_state(got: &str) -> Ask {
        Ask::Answer(Err(CallbackError::State { wants: "STATE".to_owned(), got: got.to_owned() }))
    }

    #[test]
    fn answers_need_our_state_also_when_they_are_errors() {
        let handler = handler("/", None);
        let get = |target: &str| ask(&handler, &Method::GET, target);
        assert_eq!(get("/?code=C&state=STATE"), Ask::Answer(Ok("C".to_owned())));
        assert_eq!(get("/?code=C&state=WRONG"), wrong_state("WRONG"));
        assert_eq!(get("/?code=C"), wrong_state(""));
        assert_eq!(get("/?error=access_denied"), wrong_state(""));
        assert_eq!(get("/?error=access_denied&state=S"), wrong_state("S"));
        assert_eq!(
            get("/?error=access_denied&error_description=nope&state=STATE"),
            Ask::Answer(Err(CallbackError::Refused {
                code: "access_denied".to_owned(),
                description: "nope".to_owned()
            }))
        );
    }

    #[test]
    fn everything_else_is_the_index_or_not_found() {
        let root = handler("/", None);
        assert_eq!(ask(&root, &Method::GET, "/"), Ask::Index);
        assert_eq!(ask(&root, &Method::GET, "/?state=x"), Ask::Index);
        assert_eq!(ask(&root, &Method::GET, "/?code=&state=STATE"), Ask::Index);
        assert_eq!(ask(&root, &Method::GET, "/favicon.ico"), Ask::Unknown);
        assert_eq!(ask(&root, &Method::POST, "/?code=C&state=STATE"), Ask::Unknown);
        assert_eq!(ask(&root, &Method::HEAD, "/"), Ask::Unknown);
        let path = handler("/callback", None);
        assert_eq!(ask(&path, &Method::GET, "/?code=C&state=STATE"), Ask::Index);
        assert_eq!(ask(&path, &Method::GET, "/callback?code=C&state=STATE"), Ask::Answer(Ok("C".to_owned())));
        assert_eq!(ask(&path, &Method::GET, "/callback"), Ask::Unknown);
    }

    #[test]
    fn a_foreign_host_name_is_not_served() {
        let handler = handler("/", Some("login.example.com"));
        for (host, known) in [
            ("localhost:8000", true),
            ("LOCALHOST", true),
            ("127.0.0.1:8000", true),
            ("[::1]:8000", true),
            ("192.168.1.7:8000", true),
            ("login.example.com:8000", true),
            ("evil.example.com:8000", false),
            ("localhost.evil.example.com", false),
            ("", false),
        ] {
            let got = handler.ask(&Method::GET, "/", "", Some(host), &HeaderMap::new());
            assert_eq!(got, if known { Ask::Index } else { Ask::ForeignHost }, "{host}");
        }
        assert_eq!(handler.ask(&Method::GET, "/", "", None, &HeaderMap::new()), Ask::ForeignHost);
    }

    #[test]
    fn only_a_navigation_can_end_the_sign_in() {
        let handler = handler("/", None);
        let with = |mode: &'static str, dest: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("sec-fetch-mode", HeaderValue::from_static(mode));
            headers.insert("sec-fetch-dest", HeaderValue::from_static(dest));
            handler.ask(&Method::GET, "/", "code=C&state=WRONG", Some("localhost"), &headers)
        };
        assert_eq!(with("no-cors", "image"), Ask::NoNavigation);
        assert_eq!(with("cors", "empty"), Ask::NoNavigation);
        assert_eq!(with("navigate", "iframe"), Ask::NoNavigation);
        assert_eq!(with("navigate", "document"), wrong_state("WRONG"));
    }

    #[test]
    fn control_characters_from_the_request_never_reach_the_terminal() {
        let handler = handler("/", None);
        let Ask::Answer(Err(error)) =
            ask(&handler, &Method::GET, "/?error=a%1b%5b2J&error_description=b%0a&state=STATE")
        else {
            panic!("an error is an answer");
        };
        assert!(!error.to_string().chars().any(char::is_control), "{error:?}");
    }
}
