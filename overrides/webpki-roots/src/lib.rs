//! Stands in for the crate of this name, which holds Mozilla's list of certificate authorities (docs/decisions/0029).
//!
//! sqlx trusts that list beside the authority that it is told to trust, and cannot be told not to. With `verify-ca`, which looks at
//! no name, a certificate that anybody can get for a domain of their own would then pass for the database's. The list is empty
//! here, so sqlx trusts what it is given and nothing else.

/// No authority.
pub const TLS_SERVER_ROOTS: &[rustls_pki_types::TrustAnchor<'static>] = &[];
