//! Stored clients, local users and connectors: which of them are served, by the rules that hold for the configuration file.
//!
//! Where people write them past the provider (custom resources on Kubernetes) the store has each judged before it comes into
//! force, and says in its status what came of it. On other backends the provider is the only writer of clients and users,
//! and checks before it writes; stored connectors are looked at there as they change, and the log says what cannot be served.

use std::collections::HashMap;

use portcullis_storage::kernel::{Kind, Verdict};
use portcullis_storage::{Client, Configured, Connector, Password, StoreError};

use crate::LOCAL_CONNECTOR;
use crate::app::App;
use crate::authflow::error_source;
use crate::config::rules;

/// Judges a configured object. `password_db` says whether local users are served.
pub(crate) fn judge(object: Configured<'_>, password_db: bool) -> Verdict {
    let judged = match object {
        Configured::Client(client) => judge_client(client),
        Configured::Password(_) if !password_db => {
            return Verdict::refused("NotEnabled", "local users are not served: set `enablePasswordDB: true`");
        }
        Configured::Password(password) => judge_password(password),
        Configured::Connector(connector) => match judge_connector(connector) {
            Err(what) => Err(what),
            Ok(()) => {
                let what = format!("connectors of type {:?} are not served yet", connector.kind);
                return Verdict::refused("TypeNotServed", what);
            }
        },
    };
    match judged {
        Ok(()) => Verdict::Accepted,
        Err(what) => Verdict::refused("Invalid", what),
    }
}

fn judge_client(client: &Client) -> Result<(), String> {
    let id = &client.id;
    rules::client_name(&client.name)?;
    rules::client_secret(id, client.public, !client.secret.is_empty())?;
    rules::refresh_token_lifetime(id, &client.refresh_token_lifetime)?;
    rules::mfa_chain(id, client.mfa_chain.as_deref().unwrap_or_default())
}

fn judge_password(password: &Password) -> Result<(), String> {
    if password.user_id.is_empty() {
        return Err("userID is empty: all users without one would be the same `sub` to every application".to_owned());
    }
    rules::password_hash(password.hash.expose()).map(|_| ()).map_err(|error| error.to_string())
}

fn judge_connector(connector: &Connector) -> Result<(), String> {
    let Connector { id, kind, name, config, grant_types } = connector;
    if id == LOCAL_CONNECTOR {
        return Err(format!("the id {LOCAL_CONNECTOR:?} is that of the local users: choose another one"));
    }
    rules::connector(id, kind, name, grant_types)?;
    if config.expose().is_empty() {
        return Err(format!("no config field for connector {id:?}"));
    }
    Ok(())
}

/// Looks at the stored connectors whenever they change, and reports what is new, for ever. On backends that have them judged
/// there is nothing left to do.
pub(crate) async fn report_connectors(app: &App) {
    let connectors = app.store.connectors();
    if app.store.kernel().feed(Kind::Connector).is_some() {
        return;
    }
    let mut changes = connectors.changes();
    let mut known = HashMap::new();
    loop {
        let looked = match changes.next().await {
            Ok(_) => look(app, &mut known).await,
            Err(error) => Err(error),
        };
        if let Err(error) = looked {
            tracing::warn!(%error, source = error_source(&error), "stored connectors cannot be looked at");
        }
    }
}

async fn look(app: &App, known: &mut HashMap<String, Verdict>) -> Result<(), StoreError> {
    let connectors = app.store.connectors();
    let mut now = HashMap::new();
    for connector in connectors.list().await? {
        let verdict = judge(Configured::Connector(&connector), app.config.password_db);
        if known.get(&connector.id) != Some(&verdict) {
            connectors.report(&connector.id, verdict.clone()).await?;
        }
        now.insert(connector.id.clone(), verdict);
    }
    *known = now;
    Ok(())
}

#[cfg(test)]
mod tests {
    use portcullis_runtime::Secret;

    use super::*;
    use crate::config::GUIDE_GOOD_HASH;

    fn refusal(object: Configured<'_>) -> Option<(&'static str, String)> {
        match judge(object, true) {
            Verdict::Accepted => None,
            Verdict::Refused { reason, message } => Some((reason, message)),
        }
    }

    #[test]
    fn clients_are_judged_as_those_of_the_file() {
        let good = Client { id: "app".to_owned(), name: "App".to_owned(), public: true, ..Client::default() };
        assert_eq!(refusal(Configured::Client(&good)), None);
        let session = Client { refresh_token_lifetime: "session".to_owned(), mfa_chain: Some(vec![]), ..good.clone() };
        assert_eq!(refusal(Configured::Client(&session)), None);
        let secret = Client { public: false, secret: Secret::new("s"), ..good.clone() };
        assert_eq!(refusal(Configured::Client(&secret)), None);
        for (bad, said) in [
            (Client { name: String::new(), ..good.clone() }, "Name field is required"),
            (Client { public: false, ..good.clone() }, "Secret or SecretEnv field is required for client \"app\""),
            (Client { refresh_token_lifetime: "x".to_owned(), ..good.clone() }, "invalid refresh token lifetime \"x\""),
            (Client { mfa_chain: Some(vec!["totp".to_owned()]), ..good }, "unknown MFA authenticator \"totp\""),
        ] {
            let (reason, message) = refusal(Configured::Client(&bad)).unwrap();
            assert!(reason == "Invalid" && message.contains(said), "{message}");
        }
    }

    #[test]
    fn users_are_judged_by_their_hash_and_only_where_they_are_served() {
        let with = |hash: &str| Password { hash: Secret::new(hash), user_id: "1".to_owned(), ..Password::default() };
        let good = with(GUIDE_GOOD_HASH);
        assert_eq!(refusal(Configured::Password(&good)), None);
        for (hash, said) in [
            ("", "no password hash provided"),
            ("hunter2", "malformed bcrypt hash"),
            (&GUIDE_GOOD_HASH.replace("$12$", "$09$"), "does not meet minimum cost"),
            (&GUIDE_GOOD_HASH.replace("$12$", "$17$"), "above upper bound cost"),
        ] {
            let (reason, message) = refusal(Configured::Password(&with(hash))).unwrap();
            assert!(reason == "Invalid" && message.contains(said) && !message.contains("hunter2"), "{message}");
        }
        let nobody = Password { user_id: String::new(), ..good.clone() };
        assert!(refusal(Configured::Password(&nobody)).unwrap().1.contains("userID is empty"));
        assert!(matches!(judge(Configured::Password(&good), false), Verdict::Refused { reason: "NotEnabled", .. }));
    }

    #[test]
    fn a_connector_is_told_apart_from_one_that_only_is_not_served_yet() {
        let good = Connector {
            id: "corp".to_owned(),
            kind: "oidc".to_owned(),
            name: "Corp".to_owned(),
            config: b"{}"[..].into(),
            grant_types: vec!["refresh_token".to_owned()],
        };
        for (connector, reason, said) in [
            (good.clone(), "TypeNotServed", "connectors of type \"oidc\" are not served yet"),
            (Connector { name: String::new(), ..good.clone() }, "Invalid", "ID, Type and Name fields are required"),
            (Connector { id: "local".to_owned(), ..good.clone() }, "Invalid", "choose another one"),
            (Connector { config: Vec::new().into(), ..good.clone() }, "Invalid", "no config field for connector"),
            (Connector { grant_types: vec!["x".to_owned()], ..good }, "Invalid", "unknown grant type \"x\""),
        ] {
            let (found, message) = refusal(Configured::Connector(&connector)).unwrap();
            assert!(found == reason && message.contains(said), "{found}: {message}");
        }
    }
}
