//! Who signed in, as a connector said it.

use serde::{Deserialize, Serialize};

/// The identity that a connector returned. Compat: the fields of Dex's `storage.Claims`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Identity {
    /// The user's id at the connector; with the connector's id it makes `sub`.
    pub user_id: String,
    /// The claim `name`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// The claim `preferred_username`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub preferred_username: String,
    /// The claim `email`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub email: String,
    /// The claim `email_verified`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub email_verified: bool,
    /// The claim `groups`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
}
