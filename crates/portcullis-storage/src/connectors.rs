//! Connectors: those of the configuration file, and stored ones.
//!
//! Compat: a static connector shadows a stored one with the same id and cannot be changed; a list has the stored ones that
//! are not shadowed, then the static ones (Dex `storage/static.go`).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    changes::Changes,
    clients::WriteError,
    configured::{self, ConfiguredObject, Fixed},
    document::decode,
    error::StoreError,
    inspect::Mentions,
    kernel::{Kind, Record, Verdict},
    seal::{Blob, Place, SecretBytes},
    store::Store,
};

/// A connector. Compat: Dex's `storage.Connector`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connector {
    /// Its id; a part of every `sub` of those who sign in through it.
    pub id: String,
    /// What it is, such as `oidc` or `ldap`.
    pub kind: String,
    /// The name that people see.
    pub name: String,
    /// Its configuration as JSON; there are secrets in it.
    pub config: SecretBytes,
    /// Grants for which it may be used; all when empty.
    pub grant_types: Vec<String>,
}

/// The facade of connectors.
#[derive(Clone, Copy)]
pub struct Connectors<'a> {
    store: &'a Store,
}

impl<'a> Connectors<'a> {
    pub(crate) const fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// Reads a connector. A static one costs no read of the store.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn get(&self, id: &str) -> Result<Option<Arc<Connector>>, StoreError> {
        configured::get(self.store, id).await
    }

    /// All connectors.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list(&self) -> Result<Vec<Arc<Connector>>, StoreError> {
        configured::list(self.store).await
    }

    /// Stores a new connector.
    ///
    /// # Errors
    /// [`WriteError::Exists`], [`WriteError::Static`], [`WriteError::Store`].
    pub async fn create(&self, connector: &Connector) -> Result<(), WriteError> {
        configured::create(self.store, connector).await
    }

    /// Changes a stored connector. The change may be made several times, each time to a fresh copy, when others write too;
    /// it cannot change the id.
    ///
    /// # Errors
    /// [`WriteError::NotFound`], [`WriteError::Static`], [`WriteError::Store`].
    pub async fn update(&self, id: &str, change: impl Fn(&mut Connector) + Send) -> Result<Connector, WriteError> {
        configured::update(self.store, id, change).await
    }

    /// Deletes a stored connector.
    ///
    /// # Errors
    /// [`WriteError::NotFound`], [`WriteError::Static`], [`WriteError::Store`].
    pub async fn delete(&self, id: &str) -> Result<(), WriteError> {
        configured::delete::<Connector>(self.store, id).await
    }

    /// Tells of changes from now on.
    #[must_use]
    pub fn changes(&self) -> Changes {
        Changes::new(self.store, Kind::Connector)
    }

    /// Writes down how a stored connector was found: in its status on Kubernetes, in the log elsewhere.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn report(&self, id: &str, verdict: Verdict) -> Result<(), StoreError> {
        Ok(self.store.kernel().report(Kind::Connector, id, verdict).await?)
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ConnectorDoc {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<Blob>,
    grant_types: Vec<String>,
}

impl ConfiguredObject for Connector {
    const KIND: Kind = Kind::Connector;
    const WORDS: (&'static str, &'static str) = ("connectors", "connector");
    type Doc = ConnectorDoc;

    fn id(&self) -> String {
        self.id.clone()
    }

    fn keep_id(&mut self, before: &Self) {
        self.id.clone_from(&before.id);
    }

    fn seal(&self, id: &str, store: &Store) -> Result<ConnectorDoc, StoreError> {
        let Self { kind, name, config, grant_types, .. } = self;
        let config = config.expose();
        let config = (!config.is_empty()).then(|| store.seal(place(id), config)).transpose()?;
        Ok(ConnectorDoc { kind: kind.clone(), name: name.clone(), config, grant_types: grant_types.clone() })
    }

    fn open(doc: ConnectorDoc, id: &str, store: &Store) -> Result<Self, StoreError> {
        let ConnectorDoc { kind, name, config, grant_types } = doc;
        let config = match &config {
            None => SecretBytes::default(),
            Some(blob) => store.unseal(place(id), blob)?,
        };
        Ok(Self { id: id.to_owned(), kind, name, config, grant_types })
    }

    fn fixed(store: &Store) -> &Fixed<Self> {
        store.static_connectors()
    }
}

/// For [`Store::check`].
pub(crate) fn inspect(store: &Store, record: &Record) -> Result<Mentions, StoreError> {
    Connector::open(decode(Kind::Connector, record)?.value, &record.id, store)?;
    Ok(Mentions::default())
}

fn place(id: &str) -> Place<'_> {
    Place { kind: Kind::Connector, id, field: "config" }
}
