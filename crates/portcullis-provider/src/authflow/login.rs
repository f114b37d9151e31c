//! `/auth/{connector}/login`: the form, and the password.
//!
//! A right password inserts the login record under the flow's id, which is spent by that, and makes the browser known at
//! the account ([`super::Devices`]). Whoever comes back to the form
//! after signing in (back button) and signs in again gets a flow of their own; a flow that has given a code is over.

use std::time::Duration;

use http::{HeaderValue, Method, StatusCode, header};
use portcullis_runtime::Secret;
use portcullis_storage::{Identity, LoginError, LoginState, NewLogin};

use super::flow::{Flow, FlowError, Step};
use super::{START_AGAIN, database_error, error_source, flow_of, login_error};
use crate::app::App;
use crate::http::{Inbound, Reply, encode, encode_pairs, redirect};
use crate::pages::PasswordPage;
use crate::passwords::{Attempt, Outcome, PasswordError, account_name};

/// Compat: what Dex calls the name field of the local connector.
const PROMPT: &str = "Email Address";

/// `GET` shows the form, `POST` judges what was filled in.
pub(crate) async fn login(app: &App, inbound: &Inbound, connector_id: &str) -> Reply {
    let query = match inbound.query_params() {
        Ok(query) => query,
        Err(error) => return app.pages.error(StatusCode::BAD_REQUEST, &error.to_string(), START_AGAIN),
    };
    let flow = match flow_of(app, inbound, query.get("state")).await {
        Ok(flow) => flow,
        Err(page) => return page,
    };
    if flow.request.connector_id != connector_id {
        return app.pages.error(StatusCode::BAD_REQUEST, "Bad connector ID", START_AGAIN);
    }
    let form = Form { app, inbound, flow, back: safe_back(query.get("back")).to_owned() };
    match inbound.method {
        Method::GET => form.page(StatusCode::OK, "", "", false).await,
        Method::POST => form.post().await,
        _ => app.pages.error(StatusCode::BAD_REQUEST, "Unsupported request method.", ""),
    }
}

struct Form<'a> {
    app: &'a App,
    inbound: &'a Inbound,
    flow: Flow,
    back: String,
}

impl Form<'_> {
    async fn page(&self, status: StatusCode, username: &str, problem: &str, invalid: bool) -> Reply {
        let app = self.app;
        let client = match app.store.clients().get(&self.flow.request.client_id).await {
            Ok(client) => client.map_or_else(|| self.flow.request.client_id.clone(), |c| c.name.clone()),
            Err(error) => return database_error(app, &error),
        };
        let query = encode_pairs(&[("back", &self.back), ("state", &self.flow.id)]);
        let route = app.browser_path(&format!("/auth/{}/login", encode(&self.flow.request.connector_id)));
        app.pages.password(
            status,
            &PasswordPage {
                client: &client,
                post_url: &format!("{route}?{query}"),
                back_link: &self.back,
                csrf: &self.flow.mac(Step::Login),
                username,
                username_prompt: PROMPT,
                problem,
                invalid,
            },
        )
    }

    async fn post(self) -> Reply {
        let app = self.app;
        let Ok(fields) = self.inbound.body_params() else {
            return app.pages.error(StatusCode::BAD_REQUEST, "Invalid request. Please try again.", START_AGAIN);
        };
        // Login CSRF: another site must not sign this browser in as somebody else.
        if self.inbound.is_cross_site() || !self.flow.allows(Step::Login, fields.get("csrf")) {
            tracing::warn!(connector_id = %self.flow.request.connector_id, "a login form was posted that this browser did not get from us");
            return app.pages.error(StatusCode::FORBIDDEN, "Invalid request. Please try again.", START_AGAIN);
        }
        let name = fields.get("login");
        let account = account_name(name);
        let device = app.devices.find(self.inbound, &account).await;
        let password = Secret::from(fields.get("password"));
        let attempt = Attempt { login: name, password, from: self.inbound.from, device: device.as_deref() };
        match app.passwords.check(attempt).await {
            Ok(Outcome::Identity(identity)) => self.signed_in(*identity, &account).await,
            Ok(Outcome::Wrong) => {
                tracing::error!(user = %name, "failed login attempt: Invalid credentials.");
                let problem = format!("Invalid {PROMPT} and password.");
                self.page(StatusCode::UNAUTHORIZED, name, &problem, true).await
            }
            Ok(Outcome::Wait(wait)) => {
                let seconds = wait_seconds(wait);
                tracing::warn!(user = %name, seconds, "login attempt delayed: too many attempts");
                let unit = if seconds == 1 { "second" } else { "seconds" };
                let problem = format!("Too many attempts. Please wait {seconds} {unit} and try again.");
                retry_after(self.page(StatusCode::TOO_MANY_REQUESTS, name, &problem, false).await, seconds)
            }
            Ok(Outcome::Busy) => {
                let problem = "Many people are signing in right now. Please try again in a few seconds.";
                retry_after(self.page(StatusCode::SERVICE_UNAVAILABLE, name, problem, false).await, BUSY_SECONDS)
            }
            Err(PasswordError::Store(error)) => database_error(app, &error),
            Err(error @ PasswordError::Hash(_)) => {
                tracing::error!(user = %name, %error, "failed to log in user");
                app.pages.error(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "Login error. Please contact your administrator or try again later.",
                    "",
                )
            }
        }
    }

    async fn signed_in(self, identity: Identity, account: &str) -> Reply {
        let Self { app, inbound, flow, .. } = self;
        tracing::info!(
            connector_id = %flow.request.connector_id,
            user_id = %identity.user_id,
            username = %identity.username,
            preferred_username = %identity.preferred_username,
            email = %identity.email,
            groups = ?identity.groups,
            "login successful"
        );
        let new = NewLogin {
            client_id: flow.request.client_id.clone(),
            connector_id: flow.request.connector_id.clone(),
            connector_data: None,
            identity,
            auth_time: app.clock.now(),
            approved: app.config.oauth2.skip_approval && !flow.request.force_consent,
        };
        let reply = match app.store.logins().begin(&flow.id, new.clone(), flow.expires_at).await {
            Ok(_) => go_on(app, &flow).unwrap_or_else(|| cannot_redirect(app)),
            Err(LoginError::Spent) => again(app, inbound, flow, new).await,
            Err(error) => login_error(app, error),
        };
        app.devices.remember(inbound, account, reply).await
    }
}

/// The flow has been used for a sign-in. If that has led nowhere yet, this one continues in a flow of its own.
async fn again(app: &App, inbound: &Inbound, spent: Flow, new: NewLogin) -> Reply {
    match app.store.logins().get(&spent.id).await {
        Ok(old) if matches!(old.state, LoginState::Authenticated | LoginState::Approved) => {}
        Ok(_) => return login_error(app, LoginError::Spent),
        Err(error) => return login_error(app, error),
    }
    let flow = Flow::begin(&app.rng, spent.request, spent.expires_at);
    if let Err(error) = app.store.logins().begin(&flow.id, new, flow.expires_at).await {
        return login_error(app, error);
    }
    let Some(reply) = go_on(app, &flow) else { return cannot_redirect(app) };
    let reply = app.flows.forget(inbound, &spent.id, reply);
    match app.flows.put(inbound, &flow, reply).await {
        Ok(reply) => reply,
        Err(FlowError::Store(error)) => database_error(app, &error),
        Err(error) => {
            tracing::warn!(%error, source = error_source(&error), "a flow could not be continued");
            login_error(app, LoginError::Spent)
        }
    }
}

/// On to the dispatcher.
fn go_on(app: &App, flow: &Flow) -> Option<Reply> {
    let query = encode_pairs(&[("hmac", &flow.mac(Step::Continue)), ("req", &flow.id)]);
    redirect(&format!("{}?{query}", app.browser_path("/auth")))
}

fn cannot_redirect(app: &App) -> Reply {
    app.pages.error(
        StatusCode::INTERNAL_SERVER_ERROR,
        "Login error. Please contact your administrator or try again later.",
        "",
    )
}

/// How long to wait when the pool is full: long enough for the queue to have moved.
pub(crate) const BUSY_SECONDS: u64 = 5;

pub(crate) fn wait_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

pub(crate) fn retry_after(mut reply: Reply, seconds: u64) -> Reply {
    reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    reply
}

/// Keeps a back link only if it leads to a path of this server.
///
/// Compat: Dex drops absolute, scheme-relative (`//host`, `/\host`), relative and broken links.
fn safe_back(back: &str) -> &str {
    let rooted = back.starts_with('/') && !back.starts_with("//") && !back.starts_with("/\\");
    let clean = back.bytes().all(|b| b.is_ascii_graphic()) && !back.contains('\\');
    if rooted && clean { back } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_rooted_path_is_kept_as_back_link() {
        assert_eq!(safe_back("/dex/auth?client_id=x&y=%2F"), "/dex/auth?client_id=x&y=%2F");
        for bad in [
            "",
            "https://evil/",
            "//evil",
            "/\\evil",
            "\\/evil",
            "auth",
            "javascript:x",
            "/a\r\nX:",
            "/a b",
            "/x/\\evil",
        ] {
            assert_eq!(safe_back(bad), "", "{bad:?}");
        }
    }

    #[test]
    fn waits_are_rounded_up() {
        assert_eq!((wait_seconds(Duration::from_millis(1)), wait_seconds(Duration::from_secs(2))), (1, 2));
    }
}
