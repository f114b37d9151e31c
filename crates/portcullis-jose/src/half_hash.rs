//! The half hashes that bind an ID token to what was issued with it (OpenID Connect Core 1.0 section 3.1.3.6).

use aws_lc_rs::digest;

use crate::{Algorithm, base64url_encode};

/// `at_hash` of an access token, or `c_hash` of a code: the left half of the hash that belongs to the ID token's
/// algorithm, as base64url. EdDSA uses SHA-512 (as Dex and go-oidc do for Ed25519).
pub fn half_hash(algorithm: Algorithm, value: &str) -> String {
    let hash = digest::digest(algorithm.digest(), value.as_bytes());
    let whole = hash.as_ref();
    base64url_encode(whole.get(..whole.len() / 2).unwrap_or(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openid_core_example_of_appendix_a_3() {
        let token = "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y";
        assert_eq!(half_hash(Algorithm::Rs256, token), "77QmUPtjPfzWtF2AnpK9RQ");
    }

    #[test]
    fn the_length_follows_the_hash() {
        let lengths = [Algorithm::Ps256, Algorithm::Es384, Algorithm::EdDsa].map(|a| half_hash(a, "x").len());
        assert_eq!(lengths, [22, 32, 43]);
    }
}
