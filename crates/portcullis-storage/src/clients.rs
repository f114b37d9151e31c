//! OAuth clients: those of the configuration file, and stored ones.
//!
//! Compat: a static client shadows a stored one with the same id and cannot be changed; a list has the stored ones that
//! are not shadowed, then the static ones (Dex `storage/static.go`).

use std::sync::Arc;

use portcullis_runtime::Secret;
use serde::{Deserialize, Serialize};

use crate::{
    changes::Changes,
    configured::{self, ConfiguredObject, Fixed},
    document::decode,
    error::StoreError,
    inspect::Mentions,
    kernel::{Kind, Record, Verdict},
    seal::{Blob, Place},
    store::Store,
};

/// A client. Compat: Dex's `storage.Client`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// The client id.
    pub id: String,
    /// The client secret; empty for a client without one.
    pub secret: Secret,
    /// Redirect URIs, compared byte by byte.
    pub redirect_uris: Vec<String>,
    /// Clients that may ask for tokens with this one as audience.
    pub trusted_peers: Vec<String>,
    /// Whether the client cannot keep a secret.
    pub public: bool,
    /// The name that people see.
    pub name: String,
    /// A picture's address.
    pub logo_url: String,
    /// The connectors that it may use; all when empty.
    pub allowed_connectors: Vec<String>,
    /// Second factors that it asks for; the default chain when absent.
    pub mfa_chain: Option<Vec<String>>,
    /// Clients with which it shares sign-ins; the default when absent.
    pub sso_shared_with: Option<Vec<String>>,
    /// Where a logout may return to, compared byte by byte.
    pub post_logout_redirect_uris: Vec<String>,
    /// Where it is told of logouts; empty when nowhere.
    pub backchannel_logout_uri: String,
    /// `""`, `standalone` or `session`.
    pub refresh_token_lifetime: String,
    /// Claims of its own tokens (client credentials grant).
    pub client_credentials_claims: Option<ClientCredentialsClaims>,
}

/// Claims of a client's own tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientCredentialsClaims {
    /// The claim `groups`.
    pub groups: Vec<String>,
}

/// Why a configured object cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The caller: the id is taken.
    #[error("ID already exists")]
    Exists,
    /// The caller: there is no such object.
    #[error("not found")]
    NotFound,
    /// The caller: the object is in the configuration file. Compat: Dex's text.
    #[error("static {what}: read-only cannot {verb} {noun}")]
    Static {
        /// `clients`, `passwords` or `connectors`.
        what: &'static str,
        /// `create`, `update` or `delete`.
        verb: &'static str,
        /// `client`, `password` or `connector`.
        noun: &'static str,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The facade of clients.
#[derive(Clone, Copy)]
pub struct Clients<'a> {
    store: &'a Store,
}

impl<'a> Clients<'a> {
    pub(crate) const fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// Reads a client. A static one costs no read of the store.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn get(&self, id: &str) -> Result<Option<Arc<Client>>, StoreError> {
        configured::get(self.store, id).await
    }

    /// All clients.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list(&self) -> Result<Vec<Arc<Client>>, StoreError> {
        configured::list(self.store).await
    }

    /// Stores a new client.
    ///
    /// # Errors
    /// [`WriteError::Exists`], [`WriteError::Static`], [`WriteError::Store`].
    pub async fn create(&self, client: &Client) -> Result<(), WriteError> {
        configured::create(self.store, client).await
    }

    /// Changes a stored client. The change may be made several times, each time to a fresh copy, when others write too;
    /// it cannot change the id.
    ///
    /// # Errors
    /// [`WriteError::NotFound`], [`WriteError::Static`], [`WriteError::Store`].
    pub async fn update(&self, id: &str, change: impl Fn(&mut Client) + Send) -> Result<Client, WriteError> {
        configured::update(self.store, id, change).await
    }

    /// Deletes a stored client.
    ///
    /// # Errors
    /// [`WriteError::NotFound`], [`WriteError::Static`], [`WriteError::Store`].
    pub async fn delete(&self, id: &str) -> Result<(), WriteError> {
        configured::delete::<Client>(self.store, id).await
    }

    /// Tells of changes from now on.
    #[must_use]
    pub fn changes(&self) -> Changes {
        Changes::new(self.store, Kind::Client)
    }

    /// Writes down how a stored client was found: in its status on Kubernetes, in the log elsewhere.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn report(&self, id: &str, verdict: Verdict) -> Result<(), StoreError> {
        Ok(self.store.kernel().report(Kind::Client, id, verdict).await?)
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ClientDoc {
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<Blob>,
    redirect_uris: Vec<String>,
    trusted_peers: Vec<String>,
    public: bool,
    name: String,
    logo_url: String,
    allowed_connectors: Vec<String>,
    mfa_chain: Option<Vec<String>>,
    sso_shared_with: Option<Vec<String>>,
    post_logout_redirect_uris: Vec<String>,
    backchannel_logout_uri: String,
    refresh_token_lifetime: String,
    client_credentials_claims: Option<ClientCredentialsClaims>,
}

impl ConfiguredObject for Client {
    const KIND: Kind = Kind::Client;
    const WORDS: (&'static str, &'static str) = ("clients", "client");
    type Doc = ClientDoc;

    fn id(&self) -> String {
        self.id.clone()
    }

    fn keep_id(&mut self, before: &Self) {
        self.id.clone_from(&before.id);
    }

    fn seal(&self, id: &str, store: &Store) -> Result<ClientDoc, StoreError> {
        let client = self.clone();
        let secret = (!client.secret.is_empty())
            .then(|| store.seal(place(id), client.secret.expose().as_bytes()))
            .transpose()?;
        Ok(ClientDoc {
            secret,
            redirect_uris: client.redirect_uris,
            trusted_peers: client.trusted_peers,
            public: client.public,
            name: client.name,
            logo_url: client.logo_url,
            allowed_connectors: client.allowed_connectors,
            mfa_chain: client.mfa_chain,
            sso_shared_with: client.sso_shared_with,
            post_logout_redirect_uris: client.post_logout_redirect_uris,
            backchannel_logout_uri: client.backchannel_logout_uri,
            refresh_token_lifetime: client.refresh_token_lifetime,
            client_credentials_claims: client.client_credentials_claims,
        })
    }

    fn open(doc: ClientDoc, id: &str, store: &Store) -> Result<Self, StoreError> {
        let secret = match &doc.secret {
            None => Secret::default(),
            Some(blob) => store.unseal_text(place(id), blob)?,
        };
        Ok(Self {
            id: id.to_owned(),
            secret,
            redirect_uris: doc.redirect_uris,
            trusted_peers: doc.trusted_peers,
            public: doc.public,
            name: doc.name,
            logo_url: doc.logo_url,
            allowed_connectors: doc.allowed_connectors,
            mfa_chain: doc.mfa_chain,
            sso_shared_with: doc.sso_shared_with,
            post_logout_redirect_uris: doc.post_logout_redirect_uris,
            backchannel_logout_uri: doc.backchannel_logout_uri,
            refresh_token_lifetime: doc.refresh_token_lifetime,
            client_credentials_claims: doc.client_credentials_claims,
        })
    }

    fn fixed(store: &Store) -> &Fixed<Self> {
        store.static_clients()
    }
}

/// For [`Store::check`].
pub(crate) fn inspect(store: &Store, record: &Record) -> Result<Mentions, StoreError> {
    Client::open(decode(Kind::Client, record)?.value, &record.id, store)?;
    Ok(Mentions::default())
}

fn place(id: &str) -> Place<'_> {
    Place { kind: Kind::Client, id, field: "secret" }
}
