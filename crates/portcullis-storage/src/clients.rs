//! OAuth clients: those of the configuration file, and stored ones.
//!
//! Compat: a static client shadows a stored one with the same id and cannot be changed; a list has the stored ones that
//! are not shadowed, then the static ones (Dex `storage/static.go`).

use std::{collections::HashMap, sync::Arc};

use portcullis_runtime::Secret;
use serde::{Deserialize, Serialize};

use crate::{
    document::{Indexed, Inserted, Stored, Swapped, decode},
    error::StoreError,
    kernel::{Kind, Page},
    seal::{Blob, Place},
    store::Store,
};

const PAGE: usize = 200;

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
        /// `clients` or `passwords`.
        what: &'static str,
        /// `create`, `update` or `delete`.
        verb: &'static str,
        /// `client` or `password`.
        noun: &'static str,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The clients of the configuration file.
#[derive(Default)]
pub(crate) struct StaticClients {
    by_id: HashMap<String, Arc<Client>>,
    in_order: Vec<Arc<Client>>,
}

impl StaticClients {
    /// Of two with one id, the last wins, as in Dex.
    pub(crate) fn new(clients: Vec<Client>) -> Self {
        let mut by_id = HashMap::with_capacity(clients.len());
        let mut order = Vec::with_capacity(clients.len());
        for client in clients {
            let id = client.id.clone();
            if by_id.insert(id.clone(), Arc::new(client)).is_none() {
                order.push(id);
            }
        }
        let in_order = order.iter().filter_map(|id| by_id.get(id).cloned()).collect();
        Self { by_id, in_order }
    }
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
        if let Some(client) = self.store.static_clients().by_id.get(id) {
            return Ok(Some(Arc::clone(client)));
        }
        let stored = self.store.read::<ClientDoc>(Kind::Client, id).await?;
        stored.map(|stored| stored.value.open(id, self.store).map(Arc::new)).transpose()
    }

    /// All clients.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list(&self) -> Result<Vec<Arc<Client>>, StoreError> {
        let fixed = self.store.static_clients();
        let mut all = Vec::new();
        let mut page = Some(Page::first(PAGE));
        while let Some(current) = page {
            let listing = self.store.kernel().list(Kind::Client, current).await?;
            for record in listing.records.iter().filter(|record| !fixed.by_id.contains_key(&record.id)) {
                let doc = decode::<ClientDoc>(Kind::Client, record)?.value;
                all.push(Arc::new(doc.open(&record.id, self.store)?));
            }
            page = listing.next;
        }
        all.extend(fixed.in_order.iter().cloned());
        Ok(all)
    }

    /// Stores a new client.
    ///
    /// # Errors
    /// [`WriteError::Exists`], [`WriteError::Static`], [`WriteError::Store`].
    pub async fn create(&self, client: &Client) -> Result<(), WriteError> {
        self.refuse_static(&client.id, "create")?;
        let doc = ClientDoc::seal(client, self.store)?;
        match self.store.insert(Kind::Client, &client.id, &doc, Indexed::default()).await? {
            Inserted::Done(_) => Ok(()),
            Inserted::Exists => Err(WriteError::Exists),
        }
    }

    /// Changes a stored client. The change may be made several times, each time to a fresh copy, when others write too;
    /// it cannot change the id.
    ///
    /// # Errors
    /// [`WriteError::NotFound`], [`WriteError::Static`], [`WriteError::Store`].
    pub async fn update(&self, id: &str, change: impl Fn(&mut Client) + Send) -> Result<Client, WriteError> {
        self.refuse_static(id, "update")?;
        for _ in 0..crate::document::RACES {
            let Some(stored) = self.store.read::<ClientDoc>(Kind::Client, id).await? else {
                return Err(WriteError::NotFound);
            };
            let Stored { version, value, .. } = stored;
            let mut client = value.open(id, self.store)?;
            change(&mut client);
            id.clone_into(&mut client.id);
            let doc = ClientDoc::seal(&client, self.store)?;
            if let Swapped::Done(_) = self.store.swap(Kind::Client, id, version, &doc, Indexed::default()).await? {
                return Ok(client);
            }
        }
        Err(StoreError::Contended { kind: Kind::Client }.into())
    }

    /// Deletes a stored client.
    ///
    /// # Errors
    /// [`WriteError::NotFound`], [`WriteError::Static`], [`WriteError::Store`].
    pub async fn delete(&self, id: &str) -> Result<(), WriteError> {
        self.refuse_static(id, "delete")?;
        if self.store.remove_any(Kind::Client, id).await? { Ok(()) } else { Err(WriteError::NotFound) }
    }

    fn refuse_static(&self, id: &str, verb: &'static str) -> Result<(), WriteError> {
        match self.store.static_clients().by_id.contains_key(id) {
            true => Err(WriteError::Static { what: "clients", verb, noun: "client" }),
            false => Ok(()),
        }
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct ClientDoc {
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

impl ClientDoc {
    fn seal(client: &Client, store: &Store) -> Result<Self, StoreError> {
        let client = client.clone();
        let secret = (!client.secret.is_empty())
            .then(|| store.seal(place(&client.id), client.secret.expose().as_bytes()))
            .transpose()?;
        Ok(Self {
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

    fn open(self, id: &str, store: &Store) -> Result<Client, StoreError> {
        let secret = match &self.secret {
            None => Secret::default(),
            Some(blob) => {
                let bytes = store.unseal(place(id), blob)?;
                let text = std::str::from_utf8(bytes.expose()).map_err(|_| StoreError::Damaged {
                    kind: Kind::Client,
                    id: id.to_owned(),
                    what: "its secret is not UTF-8".to_owned(),
                })?;
                Secret::new(text)
            }
        };
        Ok(Client {
            id: id.to_owned(),
            secret,
            redirect_uris: self.redirect_uris,
            trusted_peers: self.trusted_peers,
            public: self.public,
            name: self.name,
            logo_url: self.logo_url,
            allowed_connectors: self.allowed_connectors,
            mfa_chain: self.mfa_chain,
            sso_shared_with: self.sso_shared_with,
            post_logout_redirect_uris: self.post_logout_redirect_uris,
            backchannel_logout_uri: self.backchannel_logout_uri,
            refresh_token_lifetime: self.refresh_token_lifetime,
            client_credentials_claims: self.client_credentials_claims,
        })
    }
}

fn place(id: &str) -> Place<'_> {
    Place { kind: Kind::Client, id, field: "secret" }
}
