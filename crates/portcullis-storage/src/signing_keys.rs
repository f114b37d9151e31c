//! The provider's signing keys: one record, changed by compare-and-swap, so that of several replicas one rotates.
//!
//! What a rotation does is the provider's business; here keys are only kept, their private halves sealed when a
//! key-encryption key is given.

use portcullis_jose::{JoseError, SigningKey};
use portcullis_runtime::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    document::{Indexed, Inserted, Swapped, decode},
    error::StoreError,
    inspect::{Mentions, misplaced},
    kernel::{Kind, Record, Version},
    seal::{Blob, Place, SecretBytes},
    stamp,
    store::Store,
};

/// The singleton's id. Compat: Dex's SQL backends use the same.
const ID: &str = "keys";

/// A key and its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKeyRecord {
    /// The key id.
    pub kid: String,
    /// The algorithm's name, such as `RS256`.
    pub algorithm: String,
    /// The private half as PKCS#8; absent once the key only verifies.
    pub private: Option<SecretBytes>,
    /// The public half as a JWK.
    pub public: String,
    /// When the key was made.
    pub created_at: Timestamp,
    /// From when on it signs: the key sets that clients cached without it are gone by then.
    pub signs_from: Timestamp,
    /// Until when it is published; absent while it signs or is going to.
    pub verifies_until: Option<Timestamp>,
}

impl SigningKeyRecord {
    /// The record of a key that has just been made.
    ///
    /// # Errors
    /// When the key cannot be exported.
    pub fn of(key: &SigningKey, created_at: Timestamp, signs_from: Timestamp) -> Result<Self, JoseError> {
        Ok(Self {
            kid: key.kid().to_owned(),
            algorithm: key.default_algorithm().to_string(),
            private: Some(SecretBytes::from(key.to_pkcs8_der()?.as_slice())),
            public: key.public().to_json().to_string(),
            created_at: stamp::truncate(created_at),
            signs_from: stamp::truncate(signs_from),
            verifies_until: None,
        })
    }

    /// The private key, parsed; `None` once it is gone.
    ///
    /// # Errors
    /// When it cannot be parsed.
    pub fn signing_key(&self) -> Result<Option<SigningKey>, JoseError> {
        self.private.as_ref().map(|der| SigningKey::from_pkcs8_der(der.expose(), self.kid.clone())).transpose()
    }
}

/// All keys of the provider.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SigningKeySet {
    /// The keys, in the order in which they were made.
    pub keys: Vec<SigningKeyRecord>,
    /// When the next rotation is due.
    pub next_rotation: Timestamp,
}

/// A value with the version under which it was read.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// The value.
    pub value: T,
    version: Version,
}

/// The facade of the signing keys.
#[derive(Clone, Copy)]
pub struct SigningKeys<'a> {
    store: &'a Store,
}

impl<'a> SigningKeys<'a> {
    pub(crate) const fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// Reads the keys; `None` before the first were made.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn load(&self) -> Result<Option<Loaded<SigningKeySet>>, StoreError> {
        let Some(stored) = self.store.read::<SetDoc>(Kind::SigningKeys, ID).await? else { return Ok(None) };
        Ok(Some(Loaded { value: stored.value.open(self.store)?, version: stored.version }))
    }

    /// Writes the first keys. False when another replica was faster: read again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn create(&self, keys: &SigningKeySet) -> Result<bool, StoreError> {
        let doc = SetDoc::seal(keys, self.store)?;
        let inserted = self.store.insert(Kind::SigningKeys, ID, &doc, Indexed::default()).await?;
        Ok(matches!(inserted, Inserted::Done(_)))
    }

    /// Replaces the keys that `old` read. False when another replica was faster: read again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn replace(&self, old: &Loaded<SigningKeySet>, new: &SigningKeySet) -> Result<bool, StoreError> {
        let doc = SetDoc::seal(new, self.store)?;
        let swapped = self.store.swap(Kind::SigningKeys, ID, old.version, &doc, Indexed::default()).await?;
        Ok(matches!(swapped, Swapped::Done(_)))
    }
}

#[derive(Serialize, Deserialize)]
struct SetDoc {
    keys: Vec<KeyDoc>,
    #[serde(with = "stamp")]
    next_rotation: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct KeyDoc {
    kid: String,
    algorithm: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    private: Option<Blob>,
    public: String,
    #[serde(with = "stamp")]
    created_at: Timestamp,
    #[serde(with = "stamp")]
    signs_from: Timestamp,
    #[serde(default, with = "stamp::option", skip_serializing_if = "Option::is_none")]
    verifies_until: Option<Timestamp>,
}

/// For [`Store::check`].
pub(crate) fn inspect(store: &Store, record: &Record) -> Result<Mentions, StoreError> {
    let set = decode::<SetDoc>(Kind::SigningKeys, record)?.value.open(store)?;
    for key in &set.keys {
        key.signing_key().map_err(|_| misplaced(Kind::SigningKeys, record, "a private key cannot be read"))?;
    }
    Ok(Mentions::default())
}

/// The key id is part of the place, so that a sealed key does not open under another id.
fn place(kid: &str) -> Place<'_> {
    Place { kind: Kind::SigningKeys, id: kid, field: "private" }
}

impl SetDoc {
    fn seal(set: &SigningKeySet, store: &Store) -> Result<Self, StoreError> {
        let seal = |key: &SigningKeyRecord| {
            let private = key.private.as_ref().map(|der| store.seal(place(&key.kid), der.expose())).transpose()?;
            Ok(KeyDoc {
                kid: key.kid.clone(),
                algorithm: key.algorithm.clone(),
                private,
                public: key.public.clone(),
                created_at: key.created_at,
                signs_from: key.signs_from,
                verifies_until: key.verifies_until,
            })
        };
        let keys = set.keys.iter().map(seal).collect::<Result<_, StoreError>>()?;
        Ok(Self { keys, next_rotation: set.next_rotation })
    }

    fn open(self, store: &Store) -> Result<SigningKeySet, StoreError> {
        let open = |key: KeyDoc| {
            let private = key.private.as_ref().map(|blob| store.unseal(place(&key.kid), blob)).transpose()?;
            Ok(SigningKeyRecord {
                kid: key.kid,
                algorithm: key.algorithm,
                private,
                public: key.public,
                created_at: key.created_at,
                signs_from: key.signs_from,
                verifies_until: key.verifies_until,
            })
        };
        let keys = self.keys.into_iter().map(open).collect::<Result<_, StoreError>>()?;
        Ok(SigningKeySet { keys, next_rotation: self.next_rotation })
    }
}
