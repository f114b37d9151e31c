//! The authorization code grant with a browser and a local server (kubelogin `authcode/browser.go`, oauth2cli).
//!
//! 1. Bind a local port; build the request with state, nonce and, when the provider knows it, PKCE S256.
//! 2. Open the browser at the local server, which redirects to the provider.
//! 3. Wait for the code, at most the time limit; exchange and verify within the same limit.
//! 4. Tell the browser how it ended.
//!
//! A browser that cannot be opened is no failure: the URL is printed and the wait goes on. Ctrl-C ends every step.

use std::path::Path;

use portcullis_runtime::server::Transport;
use portcullis_runtime::tls::{self, ClientAuth, ServerTls, TlsIdentity, TlsVersions};
use tokio::time::{Instant, sleep_until};
use url::Url;

use crate::browser;
use crate::callback::{CallbackConfig, CallbackServer, listen};
use crate::console::Console;
use crate::error::{BrowserError, CANCELED, DEADLINE};
use crate::options::BrowserOptions;
use crate::session::{Exchange, ExchangeError, Session, Tokens};
use crate::world::Env;

/// Signs in. See the module.
pub(crate) async fn sign_in(
    session: &Session<'_>,
    options: &BrowserOptions,
    env: &Env,
    console: &mut Console<'_>,
) -> Result<Tokens, BrowserError> {
    console.log(1, "starting the authorization code flow using the browser");
    let local_tls = load_tls(options)?;
    let bound = listen::bind(&options.listen).await.map_err(BrowserError::Ports)?;
    let redirect_uri = redirect_uri(session, options, local_tls.is_some(), bound.port);
    let redirect = Url::parse(&redirect_uri).map_err(|error| BrowserError::RedirectUrl(error.to_string()))?;
    let index = index_url(&redirect).ok_or_else(|| BrowserError::RedirectUrl("it has no host".to_owned()))?;

    let request = session.authorization_request(&redirect_uri, &env.rng).map_err(BrowserError::Request)?;
    let config = CallbackConfig {
        callback_path: redirect.path().to_owned(),
        redirect_host: redirect.host_str().map(|host| host.trim_matches(['[', ']']).to_owned()),
        authorization_url: request.url.clone(),
        state: request.state.clone(),
        open_url_after: options.open_url_after.clone(),
    };
    let transport = || local_tls.clone().map_or(Transport::Plain, Transport::Tls);
    let mut server = CallbackServer::start(bound, transport, config);
    let deadline = Instant::now() + options.timeout;

    // Lives until the end: a `--browser-command` that is cut off earlier would not show the last page.
    let mut opening = std::pin::pin!(open(options, env, index.as_str()));
    let code = {
        let mut answer = std::pin::pin!(server.code());
        let mut timer = std::pin::pin!(sleep_until(deadline));
        let mut opened = options.skip_open;
        if options.skip_open {
            console.say(&format!("Please visit the following URL in your browser: {index}"));
        } else {
            console.log(1, &format!("opening {index} in the browser"));
        }
        loop {
            tokio::select! {
                biased;
                () = env.shutdown.triggered() => return Err(BrowserError::Canceled),
                answer = &mut answer => break answer,
                () = &mut timer => return Err(BrowserError::TimedOut),
                ended = &mut opening, if !opened => {
                    opened = true;
                    if let Err(reason) = ended {
                        console.say(&format!(
                            "error: could not open the browser: {reason}\n\nPlease visit the following URL in your browser manually: {index}"
                        ));
                    }
                }
            }
        }
    };
    let result = match code {
        Err(error) => Err(BrowserError::Callback(error)),
        Ok(code) => {
            console.log(1, "exchanging the code and token");
            let exchange = session.exchange(Exchange { code: &code, redirect_uri: &redirect_uri, request: &request });
            tokio::select! {
                biased;
                () = env.shutdown.triggered() => Err(BrowserError::Exchange(CANCELED.to_owned())),
                exchanged = exchange => exchanged.map_err(|error| match error {
                    ExchangeError::Token(text) => BrowserError::Exchange(text),
                    ExchangeError::Verify(text) => BrowserError::Verify(text),
                }),
                () = sleep_until(deadline) => Err(BrowserError::Exchange(DEADLINE.to_owned())),
            }
        }
    };
    server.finish(result.is_ok()).await;
    result
}

async fn open(options: &BrowserOptions, env: &Env, url: &str) -> Result<(), String> {
    if options.command.is_empty() {
        env.browser.open(url).await
    } else {
        browser::run_command(&options.command, url).await
    }
}

fn load_tls(options: &BrowserOptions) -> Result<Option<ServerTls>, BrowserError> {
    match (options.cert.as_str(), options.key.as_str()) {
        ("", "") => Ok(None),
        ("", _) | (_, "") => Err(BrowserError::HalfTls),
        (cert, key) => TlsIdentity::from_files(Path::new(cert), Path::new(key))
            .and_then(|identity| tls::server_config(identity, TlsVersions::default(), ClientAuth::None))
            .map(Some)
            .map_err(|error| BrowserError::LocalTls(error.to_string())),
    }
}

/// The redirect URI that the provider gets. Compat: without the flag it has neither path nor trailing slash.
fn redirect_uri(session: &Session<'_>, options: &BrowserOptions, tls: bool, port: u16) -> String {
    let given = &session.options.redirect_url;
    if !given.is_empty() {
        return given.clone();
    }
    let scheme = if tls { "https" } else { "http" };
    let host = if options.hostname.is_empty() { "localhost" } else { options.hostname.as_str() };
    format!("{scheme}://{host}:{port}")
}

/// The redirect URL with the path `/`: where the browser starts.
fn index_url(redirect: &Url) -> Option<Url> {
    redirect.host_str()?;
    let mut index = redirect.clone();
    index.set_path("/");
    index.set_query(None);
    index.set_fragment(None);
    Some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_browser_starts_at_the_root_of_the_redirect_url() {
        for (redirect, want) in [
            ("http://localhost:8000", "http://localhost:8000/"),
            ("http://localhost:8000/callback?x=1#y", "http://localhost:8000/"),
            ("https://[::1]:8000/a/b", "https://[::1]:8000/"),
        ] {
            assert_eq!(index_url(&Url::parse(redirect).expect("a URL")).expect("a host").as_str(), want);
        }
        assert_eq!(index_url(&Url::parse("urn:ietf:wg:oauth:2.0:oob").expect("a URL")), None);
    }
}
