//! `oauth2`: what is offered to clients.
//!
//! What RFC 9700 forbids is off unless the file asks for it, and a line in the log says so when it is on: the password
//! grant (only with `passwordConnector`), plain PKCE (only for a file without `oauth2.pkce`, or that lists it).

use portcullis_oidc::vocabulary::PkceMethod;

use super::raw::RawOAuth2;
use super::settings::{Grant, OAuth2};
use super::validate::Findings;
use crate::LOCAL_CONNECTOR;

pub(super) fn validate(raw: &RawOAuth2, password_db: bool, f: &mut Findings<'_>) -> OAuth2 {
    response_types(raw, f);
    let password_connector = password_connector(raw, password_db, f);
    let grants = grants(raw, password_connector.is_some(), f);
    let is = |b: &Option<super::reader::Field<bool>>| b.as_ref().is_some_and(|b| b.value);
    OAuth2 {
        grants,
        skip_approval: is(&raw.skip_approval_screen),
        always_show_login: is(&raw.always_show_login_screen),
        password_connector,
        pkce_enforce: is(&raw.pkce_enforce),
        pkce_methods: pkce_methods(raw, f),
    }
}

fn response_types(raw: &RawOAuth2, f: &mut Findings<'_>) {
    let Some(field) = &raw.response_types else { return };
    for response_type in &field.value {
        let words: Vec<&str> = response_type.split(' ').collect();
        if words.iter().any(|w| !matches!(*w, "code" | "token" | "id_token")) {
            f.value(&field.place, format!("unsupported response_type {response_type:?}"), "use `code`");
        } else if response_type != "code" {
            let hint = "use `responseTypes: [code]`: RFC 9700 forbids tokens in the browser's address";
            f.unsupported(
                &field.place,
                format!("response type {response_type:?} (implicit and hybrid flows) is not served yet"),
                hint,
            );
        }
    }
}

fn password_connector(raw: &RawOAuth2, password_db: bool, f: &mut Findings<'_>) -> Option<String> {
    let field = raw.password_connector.as_ref().filter(|c| !c.value.is_empty())?;
    if field.value != LOCAL_CONNECTOR || !password_db {
        let message = format!("there is no connector {:?} that can check passwords", field.value);
        f.value(&field.place, message, "use `local`, with `enablePasswordDB: true`");
        return None;
    }
    f.notice(
        &field.place,
        "the password grant is on: applications see the user's password, which RFC 9700 forbids",
        "remove `passwordConnector` if nobody uses it",
    );
    Some(field.value.clone())
}

fn grants(raw: &RawOAuth2, password: bool, f: &mut Findings<'_>) -> Vec<Grant> {
    let possible: &[Grant] = if password {
        &[Grant::AuthorizationCode, Grant::Password, Grant::RefreshToken]
    } else {
        &[Grant::AuthorizationCode, Grant::RefreshToken]
    };
    let Some(field) = raw.grant_types.as_ref().filter(|g| !g.value.is_empty()) else { return possible.to_vec() };
    for name in &field.value {
        let later = [
            "urn:ietf:params:oauth:grant-type:device_code",
            "urn:ietf:params:oauth:grant-type:token-exchange",
            "client_credentials",
        ];
        if later.contains(&name.as_str()) {
            f.unsupported(
                &field.place,
                format!("grant type {name:?} is not served yet"),
                "remove it from `oauth2.grantTypes`",
            );
        }
    }
    possible.iter().copied().filter(|g| field.value.iter().any(|name| name == g.as_str())).collect()
}

fn pkce_methods(raw: &RawOAuth2, f: &mut Findings<'_>) -> Vec<PkceMethod> {
    let listed = raw.pkce_methods.as_ref().filter(|m| !m.value.is_empty());
    let methods = match (listed, &raw.pkce) {
        (Some(field), _) => {
            let mut methods = Vec::new();
            for name in &field.value {
                match PkceMethod::from_name(name) {
                    Some(method) if methods.contains(&method) => {}
                    Some(method) => methods.push(method),
                    None => f.value(&field.place, format!("unsupported PKCE challenge method {name:?}"), "use S256"),
                }
            }
            methods
        }
        (None, Some(_)) => vec![PkceMethod::S256],
        (None, None) => vec![PkceMethod::S256, PkceMethod::Plain],
    };
    if methods.contains(&PkceMethod::Plain) {
        let place = listed
            .map(|l| l.place.clone())
            .unwrap_or_else(|| super::problem::Place { path: "oauth2.pkce".to_owned(), ..f.whole_file() });
        let hint = "set `oauth2.pkce.codeChallengeMethodsSupported: [S256]`";
        f.notice(&place, "plain PKCE is accepted as Dex does, which RFC 9700 advises against", hint);
    }
    methods
}
