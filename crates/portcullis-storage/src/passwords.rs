//! Local users: those of the configuration file, and stored ones, by e-mail address in lower case.
//!
//! Compat: a static user shadows a stored one with the same address and cannot be changed; of two static ones with one
//! address the last wins (Dex `storage/static.go`).

use std::sync::Arc;

use portcullis_runtime::Secret;
use serde::{Deserialize, Serialize};

use crate::{
    changes::Changes,
    clients::WriteError,
    configured::{self, ConfiguredObject, Fixed},
    document::decode,
    error::StoreError,
    inspect::{Mentions, misplaced},
    kernel::{Kind, Record, Verdict},
    seal::{Blob, Place},
    store::Store,
};

/// A local user. Compat: Dex's `storage.Password`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Password {
    /// The address with which the user signs in; also the claim `email`, as it is spelled here.
    pub email: String,
    /// The bcrypt hash, as text.
    pub hash: Secret,
    /// The user name; the claim `name` when [`Password::name`] is empty.
    pub username: String,
    /// The claim `name`.
    pub name: String,
    /// The claim `preferred_username`.
    pub preferred_username: String,
    /// The claim `email_verified`; true when absent.
    pub email_verified: Option<bool>,
    /// The user's id; with the connector's id it makes `sub`.
    pub user_id: String,
    /// The claim `groups`.
    pub groups: Vec<String>,
}

/// The facade of local users.
#[derive(Clone, Copy)]
pub struct Passwords<'a> {
    store: &'a Store,
}

impl<'a> Passwords<'a> {
    pub(crate) const fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// Finds a user by address, in any case of letters.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn get(&self, email: &str) -> Result<Option<Arc<Password>>, StoreError> {
        configured::get(self.store, &lower_case_email(email)).await
    }

    /// As [`Passwords::get`], but the store is asked also about a user of the file, so that the time it takes does not
    /// tell the file's users from names that do not exist.
    ///
    /// # Errors
    /// [`StoreError`], for users that are not in the file.
    pub async fn get_evenly(&self, email: &str) -> Result<Option<Arc<Password>>, StoreError> {
        let id = lower_case_email(email);
        let stored = configured::stored(self.store, &id).await;
        self.store.static_passwords().get(&id).map_or(stored, |fixed| Ok(Some(fixed)))
    }

    /// All users.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list(&self) -> Result<Vec<Arc<Password>>, StoreError> {
        configured::list(self.store).await
    }

    /// Stores a new user.
    ///
    /// # Errors
    /// [`WriteError::Exists`], [`WriteError::Static`], [`WriteError::Store`].
    pub async fn create(&self, password: &Password) -> Result<(), WriteError> {
        configured::create(self.store, password).await
    }

    /// Changes a stored user. The change may be made several times, each time to a fresh copy, when others write too; it
    /// cannot change the address.
    ///
    /// # Errors
    /// [`WriteError::NotFound`], [`WriteError::Static`], [`WriteError::Store`].
    pub async fn update(&self, email: &str, change: impl Fn(&mut Password) + Send) -> Result<Password, WriteError> {
        configured::update(self.store, &lower_case_email(email), change).await
    }

    /// Deletes a stored user.
    ///
    /// # Errors
    /// [`WriteError::NotFound`], [`WriteError::Static`], [`WriteError::Store`].
    pub async fn delete(&self, email: &str) -> Result<(), WriteError> {
        configured::delete::<Password>(self.store, &lower_case_email(email)).await
    }

    /// Tells of changes from now on.
    #[must_use]
    pub fn changes(&self) -> Changes {
        Changes::new(self.store, Kind::Password)
    }

    /// Writes down how a stored user was found: in its status on Kubernetes, in the log elsewhere.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn report(&self, email: &str, verdict: Verdict) -> Result<(), StoreError> {
        Ok(self.store.kernel().report(Kind::Password, &lower_case_email(email), verdict).await?)
    }
}

/// For [`Store::check`].
pub(crate) fn inspect(store: &Store, record: &Record) -> Result<Mentions, StoreError> {
    let password = decode::<PasswordDoc>(Kind::Password, record)?.value;
    if lower_case_email(&password.email) != record.id {
        return Err(misplaced(Kind::Password, record, "its id is not its address in lower case"));
    }
    Password::open(password, &record.id, store).map(|_| Mentions::default())
}

/// An address in lower case. Compat: Go's `strings.ToLower`, which maps character by character: İ (U+0130) becomes a
/// plain i, and a final Σ is not treated specially.
#[must_use]
pub fn lower_case_email(email: &str) -> String {
    if email.is_ascii() {
        return email.to_ascii_lowercase();
    }
    email.chars().filter_map(|c| if c == '\u{130}' { Some('i') } else { c.to_lowercase().next() }).collect()
}

/// The hash is a verifier and no secret that could be presented; but it can be guessed at by whoever has it, so it is sealed
/// like one.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PasswordDoc {
    email: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<Blob>,
    username: String,
    name: String,
    preferred_username: String,
    email_verified: Option<bool>,
    user_id: String,
    groups: Vec<String>,
}

impl ConfiguredObject for Password {
    const KIND: Kind = Kind::Password;
    const WORDS: (&'static str, &'static str) = ("passwords", "password");
    type Doc = PasswordDoc;

    fn id(&self) -> String {
        lower_case_email(&self.email)
    }

    fn keep_id(&mut self, before: &Self) {
        self.email.clone_from(&before.email);
    }

    fn seal(&self, id: &str, store: &Store) -> Result<PasswordDoc, StoreError> {
        let password = self.clone();
        let hash = (!password.hash.is_empty())
            .then(|| store.seal(place(id), password.hash.expose().as_bytes()))
            .transpose()?;
        Ok(PasswordDoc {
            email: password.email,
            hash,
            username: password.username,
            name: password.name,
            preferred_username: password.preferred_username,
            email_verified: password.email_verified,
            user_id: password.user_id,
            groups: password.groups,
        })
    }

    fn open(doc: PasswordDoc, id: &str, store: &Store) -> Result<Self, StoreError> {
        let hash = match &doc.hash {
            None => Secret::default(),
            Some(blob) => store.unseal_text(place(id), blob)?,
        };
        Ok(Self {
            email: doc.email,
            hash,
            username: doc.username,
            name: doc.name,
            preferred_username: doc.preferred_username,
            email_verified: doc.email_verified,
            user_id: doc.user_id,
            groups: doc.groups,
        })
    }

    fn fixed(store: &Store) -> &Fixed<Self> {
        store.static_passwords()
    }
}

const fn place(id: &str) -> Place<'_> {
    Place { kind: Kind::Password, id, field: "hash" }
}
