//! The ways to sign in. One file per grant; the names are kubelogin's.

mod authcode_browser;
mod authcode_keyboard;
mod password;

use crate::console::Console;
use crate::error::LoginError;
use crate::options::Grant;
use crate::session::{Session, Tokens};
use crate::world::Env;

/// Signs in with the grant of the session's options.
pub(crate) async fn sign_in(session: &Session<'_>, env: &Env, console: &mut Console<'_>) -> Result<Tokens, LoginError> {
    match &session.options.grant {
        Grant::Browser(options) => {
            authcode_browser::sign_in(session, options, env, console).await.map_err(LoginError::Browser)
        }
        Grant::Keyboard => authcode_keyboard::sign_in(session, env, console).await.map_err(LoginError::Keyboard),
        Grant::Password { username, password } => {
            password::sign_in(session, username, password, env, console).await.map_err(LoginError::Password)
        }
        Grant::NotBuilt { name, instead } => Err(LoginError::NotBuilt { name, instead }),
    }
}
