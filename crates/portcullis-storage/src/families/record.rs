//! What is stored of a family.

use std::time::Duration;

use portcullis_runtime::Timestamp;
use serde::{Deserialize, Serialize};

use super::{policy::RotationPolicy, token::LinkHash};
use crate::{document::Indexed, identity::Identity, seal::Blob, stamp};

/// How long the tombstone of an ended family is kept: longer than any request is under way.
const TOMBSTONE_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// What a refresh token family stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Family {
    /// The client that holds it.
    pub client_id: String,
    /// The connector that vouched for the identity.
    pub connector_id: String,
    /// Who signed in, as of the last refresh that asked the connector.
    pub identity: Identity,
    /// The scopes that were granted.
    pub scopes: Vec<String>,
    /// The authorization request's `nonce`; empty when it had none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub nonce: String,
    /// When the person proved who they are.
    #[serde(with = "stamp")]
    pub auth_time: Timestamp,
    /// When the family began.
    #[serde(with = "stamp")]
    pub created_at: Timestamp,
    /// When its token was last used.
    #[serde(with = "stamp")]
    pub last_used: Timestamp,
}

/// Why a family was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// A token came again after its successor was in use (RFC 9700 section 4.14.2).
    TokenReused,
    /// The code from which it came was presented twice (RFC 6749 section 4.1.2).
    CodeReplayed,
    /// The user had too many families at the client, and this one was idle the longest.
    TooMany,
    /// Somebody asked for it.
    Revoked,
}

/// The record of a family: live, or the tombstone that keeps its id from ever being live again.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FamilyDoc {
    Live(Box<LiveDoc>),
    Ended(EndedDoc),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LiveDoc {
    pub(super) key: Blob,
    pub(super) current: LinkHash,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) previous: Option<LinkHash>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) connector_data: Option<Blob>,
    /// The user's epoch in which it was created.
    #[serde(default)]
    pub(super) epoch: u64,
    pub(super) family: Family,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct EndedDoc {
    pub(super) reason: EndReason,
    #[serde(with = "stamp")]
    pub(super) at: Timestamp,
}

impl LiveDoc {
    pub(super) fn indexed(&self, policy: &RotationPolicy) -> Indexed {
        Indexed::until(policy.collect_at(self.family.created_at, self.family.last_used))
    }

    pub(super) fn is_over(&self, policy: &RotationPolicy, now: Timestamp) -> bool {
        policy.is_over(self.family.created_at, self.family.last_used, now)
    }
}

impl EndedDoc {
    pub(super) fn indexed(&self) -> Indexed {
        Indexed::until(Some(self.at + TOMBSTONE_LIFE))
    }
}
