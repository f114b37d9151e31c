//! `staticPasswords`.

use super::problem::ProblemKind;
use super::raw::RawPassword;
use super::rules::{self, PasswordHashError};
use super::settings::LocalUser;
use super::validate::{Findings, last_wins, text};
use crate::passwords::{BcryptHash, HashError};

/// The hash that the guide prints for its demo user. It does not verify against the guide's password.
pub const GUIDE_BAD_HASH: &str = "$2y$12$14X9Hz5bl8JdH5xaQQuGUe0cC./cb7n2wKGF08jm3jRjPpDkEfyAi";
/// A hash that does verify against the guide's password, `ChangeMe!234`.
pub const GUIDE_GOOD_HASH: &str = "$2y$12$VQP6H7iU2C3O59odzJFYYuYhBqUi0wyvbitNdLFdcE8zmsMGIXgHu";

const HASH_HINT: &str = "make one with `htpasswd -BnC 12 user` (the part after the colon), and put it in single quotes";

pub(super) fn validate(raw: &[RawPassword], f: &mut Findings<'_>) -> Vec<LocalUser> {
    let entries = raw
        .iter()
        .enumerate()
        .filter_map(|(index, user)| one(index, user, f).map(|u| (u.email.clone(), user.place.clone(), u)))
        .collect();
    last_wins(entries, "password entry", f)
}

fn one(index: usize, raw: &RawPassword, f: &mut Findings<'_>) -> Option<LocalUser> {
    let shown_email = text(raw.email.as_ref());
    if shown_email.is_empty() {
        f.notice(&raw.place, "the entry has no email, so nobody can sign in with it", "add `email`");
    }
    let user_id = text(raw.user_id.as_ref());
    if user_id.is_empty() {
        f.notice(
            &raw.place,
            "the entry has no userID: all such users share one `sub`",
            "add a `userID` that never changes, such as a UUID",
        );
    }
    let hash = hash(index, raw, f)?;
    let username = text(raw.username.as_ref());
    Some(LocalUser {
        email: shown_email.to_lowercase(),
        shown_email: shown_email.to_owned(),
        hash,
        username: username.to_owned(),
        name: text(raw.name.as_ref()).to_owned(),
        preferred_username: text(raw.preferred_username.as_ref()).to_owned(),
        email_verified: raw.email_verified.as_ref().is_none_or(|b| b.value),
        user_id: user_id.to_owned(),
        groups: raw.groups.as_ref().map(|g| g.value.clone()).unwrap_or_default(),
    })
}

fn hash(index: usize, raw: &RawPassword, f: &mut Findings<'_>) -> Option<BcryptHash> {
    let (place, written) = match (&raw.hash, &raw.hash_from_env) {
        (Some(hash), _) if !hash.value.is_empty() => (&hash.place, hash.value.expose().to_owned()),
        (_, Some(env)) if !env.value.is_empty() => (&env.place, (f.env)(&env.value).unwrap_or_default()),
        _ => (&raw.place, String::new()),
    };
    if written == GUIDE_BAD_HASH {
        let message = "this is the hash that the guide prints for its demo user, but it does not belong to the guide's password \"ChangeMe!234\": nobody could sign in";
        f.problem(
            ProblemKind::GuideHash { password: index },
            place,
            message,
            &format!("a hash that does belong to it: '{GUIDE_GOOD_HASH}'"),
        );
        return None;
    }
    match rules::password_hash(&written) {
        Ok(hash) => Some(hash),
        Err(error) => {
            let hint = match error {
                PasswordHashError::Cost(_) => "make a new hash with cost 12",
                PasswordHashError::Malformed(HashError::UnsafeVersion) => "make a new hash",
                PasswordHashError::Missing | PasswordHashError::Malformed(_) => HASH_HINT,
            };
            f.value(place, error.to_string(), hint);
            None
        }
    }
}
