//! `staticClients`.
//!
//! Unlike Dex (dex.md 0.1 T8), a confidential client whose secret turns out empty is refused: it would accept anybody.

use portcullis_runtime::Secret;

use super::raw::RawClient;
use super::rules;
use super::settings::Client;
use super::validate::{Findings, last_wins, text};

pub(super) fn validate(raw: &[RawClient], f: &mut Findings<'_>) -> Vec<Client> {
    let entries =
        raw.iter().filter_map(|client| one(client, f).map(|c| (c.id.clone(), client.place.clone(), c))).collect();
    last_wins(entries, "client", f)
}

fn one(raw: &RawClient, f: &mut Findings<'_>) -> Option<Client> {
    let before = f.problems.len();
    let name = text(raw.name.as_ref());
    if let Err(what) = rules::client_name(name) {
        let hint = "add `name`, which people see when they are asked for consent";
        f.value(&raw.place, format!("invalid config: {what}"), hint);
    }
    let id = client_id(raw, f);
    let public = raw.public.as_ref().is_some_and(|b| b.value);
    let secret = client_secret(raw, &id, public, f);
    if let Some(field) = &raw.refresh_token_lifetime {
        match rules::refresh_token_lifetime(&id, &field.value) {
            Ok(()) if field.value == "session" => {
                f.notice(&field.place, "sessions are not served yet, so the key has no effect", "");
            }
            Ok(()) => {}
            Err(what) => f.value(&field.place, format!("staticClients: {what}"), ""),
        }
    }
    if let Some(chain) = raw.mfa_chain.as_ref()
        && let Err(what) = rules::mfa_chain(&id, &chain.value)
    {
        f.value(&chain.place, format!("staticClients: {what}"), "second factors are not served yet: remove `mfaChain`");
    }
    for place in &raw.inert {
        f.notice(place, "this needs a feature that is not served yet, so the key has no effect", "");
    }
    if f.problems.len() > before {
        return None;
    }
    let list =
        |field: &Option<super::reader::Field<Vec<String>>>| field.as_ref().map(|x| x.value.clone()).unwrap_or_default();
    Some(Client {
        id,
        secret,
        name: name.to_owned(),
        redirect_uris: list(&raw.redirect_uris),
        public,
        trusted_peers: list(&raw.trusted_peers),
        logo_url: text(raw.logo_url.as_ref()).to_owned(),
        allowed_connectors: list(&raw.allowed_connectors),
    })
}

fn client_id(raw: &RawClient, f: &mut Findings<'_>) -> String {
    let id = text(raw.id.as_ref());
    let Some(env) = raw.id_env.as_ref().filter(|e| !e.value.is_empty()) else {
        if id.is_empty() {
            f.value(&raw.place, "invalid config: ID or IDEnv field is required for a client", "add `id`");
        }
        return id.to_owned();
    };
    if !id.is_empty() {
        f.value(
            &env.place,
            format!("invalid config: ID and IDEnv fields are exclusive for client {id:?}"),
            "remove one of the two",
        );
        return id.to_owned();
    }
    let id = (f.env)(&env.value).unwrap_or_default();
    if id.is_empty() {
        f.value(&env.place, format!("the environment variable {:?} is empty", env.value), "set it to the client's id");
    }
    id
}

fn client_secret(raw: &RawClient, id: &str, public: bool, f: &mut Findings<'_>) -> Secret {
    let secret = raw.secret.as_ref().map(|s| s.value.clone()).unwrap_or_default();
    let Some(env) = raw.secret_env.as_ref().filter(|e| !e.value.is_empty()) else {
        if let Err(what) = rules::client_secret(id, public, !secret.is_empty()) {
            let hint = "add `secret`, or `public: true` for a client that cannot keep one";
            f.value(&raw.place, format!("invalid config: {what}"), hint);
        }
        return secret;
    };
    if !secret.is_empty() {
        f.value(
            &env.place,
            format!("invalid config: Secret and SecretEnv fields are exclusive for client {id:?}"),
            "remove one of the two",
        );
        return secret;
    }
    let secret = Secret::from((f.env)(&env.value).unwrap_or_default());
    if secret.is_empty() && !public {
        f.value(
            &env.place,
            format!("the environment variable {:?} is empty, so anybody could act as this client", env.value),
            "set it to the client's secret",
        );
    }
    secret
}
