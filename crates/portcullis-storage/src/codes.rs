//! Authorization codes (RFC 6749 section 4.1, RFC 9700 section 2.1.1).
//!
//! [`Codes::open`] looks at a code and changes nothing, so that a request that fails its checks (client, redirect URI,
//! PKCE) leaves the code usable, as Dex does; [`Codes::redeem`] spends it by compare-and-swap. The code's record decides
//! who redeemed it, and it fixes the id of the refresh token family that the redemption may create. A code that comes a
//! second time ends that family, also when the first redemption has not created it yet: the tombstone makes the late
//! insert fail.
//!
//! The record's id is a hash of the code; the code itself is stored nowhere.

use std::time::Duration;

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_runtime::{Secret, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    document::{Indexed, Stored, Swapped, decode},
    error::StoreError,
    families::{EndReason, FamilyId},
    identity::Identity,
    inspect::{Mentions, same_expiry},
    kernel::{Kind, Record, Version},
    seal::{Blob, Place, SecretBytes},
    stamp,
    store::Store,
};

/// How long a code's record outlives the code, to recognise replays.
const OUTLIVES_CODE: Duration = Duration::from_secs(60 * 60);
/// Longest text that is looked up as a code.
const MAX_CODE_BYTES: usize = 1024;

/// A PKCE challenge (RFC 7636).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pkce {
    /// `code_challenge`.
    pub challenge: String,
    /// `code_challenge_method`: `S256` or `plain`.
    pub method: String,
}

/// What a code stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeGrant {
    /// The client that it was issued to.
    pub client_id: String,
    /// The redirect URI of the authorization request.
    pub redirect_uri: String,
    /// The scopes that were granted.
    pub scopes: Vec<String>,
    /// The authorization request's `nonce`; empty when it had none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub nonce: String,
    /// The PKCE challenge, when there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pkce: Option<Pkce>,
    /// The connector that vouched for the identity.
    pub connector_id: String,
    /// Who signed in.
    pub identity: Identity,
    /// When they proved it.
    #[serde(with = "stamp")]
    pub auth_time: Timestamp,
}

/// A code that is good, and not spent yet.
#[derive(Debug)]
pub struct OpenCode {
    id: String,
    version: Version,
    grant: CodeGrant,
    connector_data: Option<Blob>,
    family: FamilyId,
    expires_at: Timestamp,
}

impl OpenCode {
    /// What the code stands for.
    #[must_use]
    pub const fn grant(&self) -> &CodeGrant {
        &self.grant
    }

    /// When the code ends.
    #[must_use]
    pub const fn expires_at(&self) -> Timestamp {
        self.expires_at
    }
}

/// Proof that this call, and no other, redeemed a code.
#[derive(Debug)]
#[non_exhaustive]
pub struct RedeemedCode {
    /// What the code stood for.
    pub grant: CodeGrant,
    /// What the connector wants to see again at a refresh.
    pub connector_data: Option<SecretBytes>,
    /// The only id under which a refresh token family may be created for this code.
    pub family: FamilyId,
}

/// Why a code gives nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// The client: there is no such code.
    #[error("the code is not known")]
    Invalid,
    /// The client: the code is too old.
    #[error("the code has expired")]
    Expired,
    /// The client: the code was issued to another one. Nothing was changed.
    #[error("the code was issued to another client")]
    OtherClient,
    /// The client, or a thief: the code was redeemed before. What the first redemption gave has been revoked.
    #[error("the code was used before")]
    Replayed,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The facade of codes.
#[derive(Clone, Copy)]
pub struct Codes<'a> {
    store: &'a Store,
}

impl<'a> Codes<'a> {
    pub(crate) const fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// A fresh code: 32 random bytes in base64url.
    #[must_use]
    pub fn new_code(&self) -> Secret {
        Secret::new(self.store.rng().token(32))
    }

    /// Looks at a code that `client_id` presents.
    ///
    /// # Errors
    /// [`CodeError`]. [`CodeError::Replayed`] has revoked what the code had given.
    pub async fn open(&self, code: &str, client_id: &str) -> Result<OpenCode, CodeError> {
        if code.is_empty() || code.len() > MAX_CODE_BYTES {
            return Err(CodeError::Invalid);
        }
        let id = code_id(code);
        let stored = self.store.read::<CodeDoc>(Kind::Code, &id).await?.ok_or(CodeError::Invalid)?;
        let Stored { version, value, .. } = stored;
        match value {
            CodeDoc::Redeemed(redeemed) => {
                if redeemed.client_id != client_id {
                    return Err(CodeError::OtherClient);
                }
                self.store.families().end(&redeemed.family, EndReason::CodeReplayed).await?;
                Err(CodeError::Replayed)
            }
            CodeDoc::Open(open) if open.grant.client_id != client_id => Err(CodeError::OtherClient),
            CodeDoc::Open(open) if self.store.now() >= open.expires_at => Err(CodeError::Expired),
            CodeDoc::Open(open) => {
                let OpenDoc { grant, connector_data, family, expires_at } = *open;
                Ok(OpenCode { id, version, grant, connector_data, family, expires_at })
            }
        }
    }

    /// Spends a code. Of any number of calls, on any number of replicas, one succeeds.
    ///
    /// # Errors
    /// [`CodeError::Replayed`] when another call was first, [`CodeError::Expired`], [`CodeError::Store`].
    pub async fn redeem(&self, code: OpenCode) -> Result<RedeemedCode, CodeError> {
        let OpenCode { id, version, grant, connector_data, family, expires_at } = code;
        if self.store.now() >= expires_at {
            return Err(CodeError::Expired);
        }
        let connector_data = connector_data.map(|blob| self.store.unseal(data_place(&id), &blob)).transpose()?;
        let redeemed = RedeemedDoc { client_id: grant.client_id.clone(), family: family.clone(), expires_at };
        let doc = CodeDoc::Redeemed(redeemed);
        match self.store.swap(Kind::Code, &id, version, &doc, doc.indexed()).await? {
            Swapped::Done(_) => Ok(RedeemedCode { grant, connector_data, family }),
            Swapped::Lost => {
                self.store.families().end(&family, EndReason::CodeReplayed).await?;
                Err(CodeError::Replayed)
            }
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CodeDoc {
    Open(Box<OpenDoc>),
    Redeemed(RedeemedDoc),
}

#[derive(Serialize, Deserialize)]
pub(crate) struct OpenDoc {
    grant: CodeGrant,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    connector_data: Option<Blob>,
    family: FamilyId,
    #[serde(with = "stamp")]
    expires_at: Timestamp,
}

/// What is left of a redeemed code: enough to recognise a replay and to know what to revoke.
#[derive(Serialize, Deserialize)]
pub(crate) struct RedeemedDoc {
    client_id: String,
    family: FamilyId,
    #[serde(with = "stamp")]
    expires_at: Timestamp,
}

impl CodeDoc {
    /// The record of a code that has just been issued.
    pub(crate) fn open(
        store: &Store,
        id: &str,
        grant: CodeGrant,
        connector_data: Option<&SecretBytes>,
        family: FamilyId,
        expires_at: Timestamp,
    ) -> Result<Self, StoreError> {
        let connector_data = connector_data.map(|data| store.seal(data_place(id), data.expose())).transpose()?;
        Ok(Self::Open(Box::new(OpenDoc { grant, connector_data, family, expires_at })))
    }

    pub(crate) fn indexed(&self) -> Indexed {
        let expires_at = match self {
            Self::Open(open) => open.expires_at,
            Self::Redeemed(redeemed) => redeemed.expires_at,
        };
        Indexed::until(Some(expires_at + OUTLIVES_CODE))
    }
}

/// The id of a code's record: its SHA-256, in base64url.
pub(crate) fn code_id(code: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, code.as_bytes()))
}

/// For [`Store::check`].
pub(crate) fn inspect(store: &Store, record: &Record) -> Result<Mentions, StoreError> {
    let doc = decode::<CodeDoc>(Kind::Code, record)?.value;
    if let CodeDoc::Open(open) = &doc
        && let Some(blob) = &open.connector_data
    {
        store.unseal(data_place(&record.id), blob)?;
    }
    same_expiry(Kind::Code, record, doc.indexed())?;
    Ok(Mentions::default())
}

const fn data_place(id: &str) -> Place<'_> {
    Place { kind: Kind::Code, id, field: "connector_data" }
}
