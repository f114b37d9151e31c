//! Local users: those of the configuration file, and stored ones, by e-mail address in lower case.
//!
//! Compat: a static user shadows a stored one with the same address and cannot be changed; of two static ones with one
//! address the last wins (Dex `storage/static.go`).

use std::{collections::HashMap, sync::Arc};

use portcullis_runtime::Secret;
use serde::{Deserialize, Serialize};

use crate::{
    clients::WriteError,
    document::{Indexed, Inserted, RACES, Stored, Swapped, decode},
    error::StoreError,
    kernel::{Kind, Page},
    store::Store,
};

const PAGE: usize = 200;

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

/// The local users of the configuration file.
#[derive(Default)]
pub(crate) struct StaticPasswords {
    by_email: HashMap<String, Arc<Password>>,
    in_order: Vec<Arc<Password>>,
}

impl StaticPasswords {
    pub(crate) fn new(passwords: Vec<Password>) -> Self {
        let mut by_email = HashMap::with_capacity(passwords.len());
        let mut order = Vec::with_capacity(passwords.len());
        for password in passwords {
            let email = lower_case_email(&password.email);
            if by_email.insert(email.clone(), Arc::new(password)).is_some() {
                tracing::error!(email, "two static passwords for one address; the last one counts");
            } else {
                order.push(email);
            }
        }
        let in_order = order.iter().filter_map(|email| by_email.get(email).cloned()).collect();
        Self { by_email, in_order }
    }
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
        let id = lower_case_email(email);
        if let Some(password) = self.store.static_passwords().by_email.get(&id) {
            return Ok(Some(Arc::clone(password)));
        }
        let stored = self.store.read::<PasswordDoc>(Kind::Password, &id).await?;
        Ok(stored.map(|stored| Arc::new(stored.value.into())))
    }

    /// As [`Passwords::get`], but the store is asked also about a user of the file, so that the time it takes does not
    /// tell the file's users from names that do not exist.
    ///
    /// # Errors
    /// [`StoreError`], for users that are not in the file.
    pub async fn get_evenly(&self, email: &str) -> Result<Option<Arc<Password>>, StoreError> {
        let id = lower_case_email(email);
        let stored = self.store.read::<PasswordDoc>(Kind::Password, &id).await;
        if let Some(password) = self.store.static_passwords().by_email.get(&id) {
            return Ok(Some(Arc::clone(password)));
        }
        Ok(stored?.map(|stored| Arc::new(stored.value.into())))
    }

    /// All users.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list(&self) -> Result<Vec<Arc<Password>>, StoreError> {
        let fixed = self.store.static_passwords();
        let mut all = Vec::new();
        let mut page = Some(Page::first(PAGE));
        while let Some(current) = page {
            let listing = self.store.kernel().list(Kind::Password, current).await?;
            for record in listing.records.iter().filter(|record| !fixed.by_email.contains_key(&record.id)) {
                all.push(Arc::new(decode::<PasswordDoc>(Kind::Password, record)?.value.into()));
            }
            page = listing.next;
        }
        all.extend(fixed.in_order.iter().cloned());
        Ok(all)
    }

    /// Stores a new user.
    ///
    /// # Errors
    /// [`WriteError::Exists`], [`WriteError::Static`], [`WriteError::Store`].
    pub async fn create(&self, password: &Password) -> Result<(), WriteError> {
        let id = lower_case_email(&password.email);
        self.refuse_static(&id, "create")?;
        let doc = PasswordDoc::from(password.clone());
        match self.store.insert(Kind::Password, &id, &doc, Indexed::default()).await? {
            Inserted::Done(_) => Ok(()),
            Inserted::Exists => Err(WriteError::Exists),
        }
    }

    /// Changes a stored user. The change may be made several times, each time to a fresh copy, when others write too; it
    /// cannot change the address.
    ///
    /// # Errors
    /// [`WriteError::NotFound`], [`WriteError::Static`], [`WriteError::Store`].
    pub async fn update(&self, email: &str, change: impl Fn(&mut Password) + Send) -> Result<Password, WriteError> {
        let id = lower_case_email(email);
        self.refuse_static(&id, "update")?;
        for _ in 0..RACES {
            let Some(stored) = self.store.read::<PasswordDoc>(Kind::Password, &id).await? else {
                return Err(WriteError::NotFound);
            };
            let Stored { version, value, .. } = stored;
            let mut password = Password::from(value);
            let address = password.email.clone();
            change(&mut password);
            password.email = address;
            let doc = PasswordDoc::from(password.clone());
            if let Swapped::Done(_) = self.store.swap(Kind::Password, &id, version, &doc, Indexed::default()).await? {
                return Ok(password);
            }
        }
        Err(StoreError::Contended { kind: Kind::Password }.into())
    }

    /// Deletes a stored user.
    ///
    /// # Errors
    /// [`WriteError::NotFound`], [`WriteError::Static`], [`WriteError::Store`].
    pub async fn delete(&self, email: &str) -> Result<(), WriteError> {
        let id = lower_case_email(email);
        self.refuse_static(&id, "delete")?;
        if self.store.remove_any(Kind::Password, &id).await? { Ok(()) } else { Err(WriteError::NotFound) }
    }

    fn refuse_static(&self, id: &str, verb: &'static str) -> Result<(), WriteError> {
        match self.store.static_passwords().by_email.contains_key(id) {
            true => Err(WriteError::Static { what: "passwords", verb, noun: "password" }),
            false => Ok(()),
        }
    }
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

/// The hash is a verifier and no secret that could be presented, but the store's file is treated as if it were one.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct PasswordDoc {
    email: String,
    hash: String,
    username: String,
    name: String,
    preferred_username: String,
    email_verified: Option<bool>,
    user_id: String,
    groups: Vec<String>,
}

impl From<Password> for PasswordDoc {
    fn from(password: Password) -> Self {
        Self {
            email: password.email,
            hash: password.hash.expose().to_owned(),
            username: password.username,
            name: password.name,
            preferred_username: password.preferred_username,
            email_verified: password.email_verified,
            user_id: password.user_id,
            groups: password.groups,
        }
    }
}

impl From<PasswordDoc> for Password {
    fn from(doc: PasswordDoc) -> Self {
        Self {
            email: doc.email,
            hash: Secret::new(doc.hash),
            username: doc.username,
            name: doc.name,
            preferred_username: doc.preferred_username,
            email_verified: doc.email_verified,
            user_id: doc.user_id,
            groups: doc.groups,
        }
    }
}
