//! Proof Key for Code Exchange (RFC 7636).

use aws_lc_rs::digest::{SHA256, digest};
use portcullis_jose::base64url_encode;
use portcullis_runtime::Rng;
use subtle::ConstantTimeEq as _;

/// How a challenge is made from a verifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PkceMethod {
    /// The base64url SHA-256 of the verifier.
    S256,
    /// The verifier itself: protects against nothing that can read the request.
    Plain,
}

impl PkceMethod {
    /// The value of `code_challenge_method`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::S256 => "S256",
            Self::Plain => "plain",
        }
    }

    /// The method with exactly this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::S256, Self::Plain].into_iter().find(|method| method.as_str() == name)
    }
}

/// A new verifier: 32 random bytes as 43 characters of base64url (as kubelogin).
pub fn new_verifier(rng: &Rng) -> String {
    base64url_encode(&rng.bytes::<32>())
}

/// The S256 challenge of a verifier.
pub fn challenge_s256(verifier: &str) -> String {
    base64url_encode(digest(&SHA256, verifier.as_bytes()).as_ref())
}

/// Whether `verifier` belongs to `challenge`. Takes the same time wherever they differ.
pub fn verify(method: PkceMethod, challenge: &str, verifier: &str) -> bool {
    match method {
        PkceMethod::S256 => challenge_s256(verifier).as_bytes().ct_eq(challenge.as_bytes()).into(),
        PkceMethod::Plain => verifier.as_bytes().ct_eq(challenge.as_bytes()).into(),
    }
}

/// Whether the text has the form of a verifier: 43 to 128 unreserved characters (RFC 7636 section 4.1). Dex does not
/// check this.
pub fn valid_verifier(verifier: &str) -> bool {
    (43..=128).contains(&verifier.len())
        && verifier.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_7636_appendix_b_and_dex_vectors() {
        for (verifier, challenge) in [
            ("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
            (
                "66114650f56cc45dee7ee03c49f048ddf9aa53cbf5b09985832fa4f790ff2604",
                "L7ZqsT_zNwvrH8E7J0CqPHx1wgBaFiaE-fAZcKUUAbc",
            ),
        ] {
            assert_eq!(challenge_s256(verifier), challenge);
            assert!(verify(PkceMethod::S256, challenge, verifier));
            assert!(!verify(PkceMethod::Plain, challenge, verifier));
            assert!(!verify(PkceMethod::S256, challenge, &verifier[1..]));
            assert!(!verify(PkceMethod::S256, "", verifier));
            assert!(valid_verifier(verifier));
        }
        assert!(verify(PkceMethod::Plain, "abc", "abc"));
        assert!(!verify(PkceMethod::Plain, "abc", "abd"));
    }

    #[test]
    fn the_form_of_a_verifier_is_bounded_on_both_sides() {
        for (text, valid) in [
            ("x".repeat(42), false),
            ("x".repeat(43), true),
            ("~".repeat(128), true),
            ("x".repeat(129), false),
            ("x".repeat(42) + "+", false),
            ("x".repeat(41) + "ä", false),
        ] {
            assert_eq!(valid_verifier(&text), valid, "{text}");
        }
        let rng = Rng::seeded(1);
        let (one, two) = (new_verifier(&rng), new_verifier(&rng));
        assert!(valid_verifier(&one) && one.len() == 43 && one != two);
    }

    #[test]
    fn methods_are_case_sensitive() {
        assert_eq!(PkceMethod::from_name("S256"), Some(PkceMethod::S256));
        assert_eq!(PkceMethod::from_name("plain"), Some(PkceMethod::Plain));
        assert_eq!(PkceMethod::from_name("s256"), None);
        assert_eq!(PkceMethod::from_name(""), None);
    }
}
