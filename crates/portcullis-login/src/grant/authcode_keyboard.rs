//! The authorization code grant where the user types the code (kubelogin `authcode/keyboard.go`).
//!
//! Compat: the URL and the prompt are kubelogin's; the state cannot come back with a bare code. Ours: a whole redirect
//! URL may be pasted instead, and then its state is checked; Ctrl-C ends the prompt.

use url::Url;

use crate::callback::CallbackError;
use crate::console::Console;
use crate::encoding::printable;
use crate::error::{CANCELED, KeyboardError};
use crate::session::{AuthorizationRequest, Exchange, ExchangeError, Session, Tokens};
use crate::world::Env;

const PROMPT: &str = "Enter code: ";

/// Signs in. See the module.
pub(crate) async fn sign_in(
    session: &Session<'_>,
    env: &Env,
    console: &mut Console<'_>,
) -> Result<Tokens, KeyboardError> {
    console.log(1, "starting the authorization code flow with keyboard interactive");
    let redirect_uri = &session.options.redirect_url;
    let request = session.authorization_request(redirect_uri, &env.rng).map_err(KeyboardError::Request)?;
    console.say(&format!("Please visit the following URL in your browser: {}", request.url));
    console.prompt(PROMPT);
    let canceled = || KeyboardError::Read(CANCELED.to_owned());
    let line = env.shutdown.unless(console.read_line()).await.ok_or_else(canceled)?;
    let line = line.map_err(|error| KeyboardError::Read(read_error(&error)))?;
    let code = code_of(&line, &request)?;
    console.log(1, "exchanging the code and token");
    let exchange = session.exchange(Exchange { code: &code, redirect_uri, request: &request });
    let exchanged = env.shutdown.unless(exchange).await;
    exchanged.ok_or_else(|| KeyboardError::Exchange(CANCELED.to_owned()))?.map_err(|error| match error {
        ExchangeError::Token(text) => KeyboardError::Exchange(text),
        ExchangeError::Verify(text) => KeyboardError::Verify(text),
    })
}

/// A failed prompt in kubelogin's words.
pub(super) fn read_error(error: &std::io::Error) -> String {
    if error.kind() == std::io::ErrorKind::UnexpectedEof {
        "read error: EOF".to_owned()
    } else {
        format!("read error: {error}")
    }
}

/// The code in what was typed: the line itself, or the `code` of a pasted redirect URL with our state.
fn code_of(line: &str, request: &AuthorizationRequest) -> Result<String, KeyboardError> {
    let typed = line.trim();
    let Some(url) = Url::parse(typed).ok().filter(|url| url.has_host()) else { return Ok(typed.to_owned()) };
    let value = |wanted: &str| {
        url.query_pairs().find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned()).unwrap_or_default()
    };
    let state = value("state");
    if state != request.state {
        let got = printable(&state, 500);
        return Err(KeyboardError::Callback(CallbackError::State { wants: request.state.clone(), got }));
    }
    let error = value("error");
    if !error.is_empty() {
        let description = printable(&value("error_description"), 500);
        return Err(KeyboardError::Callback(CallbackError::Refused { code: printable(&error, 500), description }));
    }
    Ok(value("code"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_code_or_a_redirect_url_with_our_state_is_taken() {
        let request =
            AuthorizationRequest { url: String::new(), state: "S".to_owned(), nonce: String::new(), verifier: None };
        assert_eq!(code_of(" abc \n", &request).expect("a code"), "abc");
        assert_eq!(code_of("http://localhost:8000/?code=a%2Fb&state=S", &request).expect("a code"), "a/b");
        assert!(matches!(
            code_of("http://localhost:8000/?code=a&state=X", &request),
            Err(KeyboardError::Callback(CallbackError::State { .. }))
        ));
        assert!(matches!(
            code_of("http://localhost:8000/?error=access_denied&state=S", &request),
            Err(KeyboardError::Callback(CallbackError::Refused { .. }))
        ));
    }
}
