//! bcrypt hashes as Dex takes them.
//!
//! Compat: Go `golang.org/x/crypto/bcrypt` reads every minor version letter and ignores the bits that the salt's last
//! character has too many; passwords are compared by their first 72 bytes. `$2x$` is refused: it marks hashes of an old
//! implementation that mishandled bytes over 127, so that different passwords fit.

use std::fmt;

use base64::Engine;
use base64::alphabet::BCRYPT;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Lowest accepted cost (Dex's minimum).
const MIN_COST: u32 = 10;
/// Highest accepted cost (Dex's bound: beyond, one attempt takes seconds).
const MAX_COST: u32 = 16;
/// bcrypt looks at this many bytes of a password.
const USED_BYTES: usize = 72;

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &BCRYPT,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// Why a text is no usable bcrypt hash. No variant holds any of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// It has another form.
    #[error("this is not a bcrypt hash ($2a$, $2b$ or $2y$, cost, 53 characters)")]
    NotBcrypt,
    /// `$2x$`.
    #[error("the version $2x$ is unsafe: its hashes can match more than one password")]
    UnsafeVersion,
    /// The cost is outside of what bcrypt knows.
    #[error("the cost {0} is not between 4 and 31")]
    CostUnknown(u32),
    /// The cost is below the lower bound.
    #[error("given hash cost = {0} does not meet minimum cost requirement = {MIN_COST}")]
    CostTooLow(u32),
    /// The cost is above the upper bound.
    #[error("given hash cost = {0} is above upper bound cost = {MAX_COST}, recommended cost = 12")]
    CostTooHigh(u32),
}

/// A parsed bcrypt hash. `Debug` shows the cost alone.
#[derive(Clone, PartialEq, Eq)]
pub struct BcryptHash {
    cost: u32,
    salt: [u8; 16],
    digest: [u8; 23],
}

impl BcryptHash {
    /// Reads a hash such as `$2y$12$…`.
    ///
    /// # Errors
    /// See [`HashError`]; the cost's bounds are those of bcrypt, not Dex's: see [`BcryptHash::check_cost`].
    pub fn parse(text: &str) -> Result<Self, HashError> {
        let rest = text.strip_prefix("$2").ok_or(HashError::NotBcrypt)?;
        let (version, rest) = rest.split_once('$').ok_or(HashError::NotBcrypt)?;
        if version == "x" {
            return Err(HashError::UnsafeVersion);
        }
        if version.len() > 1 || !version.bytes().all(|b| b.is_ascii_lowercase()) {
            return Err(HashError::NotBcrypt);
        }
        let (cost, rest) = rest.split_once('$').ok_or(HashError::NotBcrypt)?;
        if cost.len() != 2 || !cost.bytes().all(|b| b.is_ascii_digit()) || rest.len() != 53 || !rest.is_ascii() {
            return Err(HashError::NotBcrypt);
        }
        let cost: u32 = cost.parse().map_err(|_| HashError::NotBcrypt)?;
        if !(4..=31).contains(&cost) {
            return Err(HashError::CostUnknown(cost));
        }
        let (salt, digest) = rest.split_at(22);
        Ok(Self { cost, salt: decode(salt)?, digest: decode(digest)? })
    }

    /// The hash as text, in the version that every library reads.
    #[must_use]
    pub(crate) fn to_text(&self) -> String {
        format!("$2a${:02}${}{}", self.cost, LENIENT.encode(self.salt), LENIENT.encode(self.digest))
    }

    /// A hash that no password has, of the given cost: for equal work when there is no such user.
    #[must_use]
    pub(crate) fn dummy(cost: u32) -> Self {
        Self { cost: cost.clamp(MIN_COST, MAX_COST), salt: [0x5a; 16], digest: [0; 23] }
    }

    /// The cost.
    #[must_use]
    pub const fn cost(&self) -> u32 {
        self.cost
    }

    /// Refuses costs that Dex refuses.
    ///
    /// # Errors
    /// [`HashError::CostTooLow`], [`HashError::CostTooHigh`].
    pub const fn check_cost(&self) -> Result<(), HashError> {
        match self.cost {
            c if c < MIN_COST => Err(HashError::CostTooLow(c)),
            c if c > MAX_COST => Err(HashError::CostTooHigh(c)),
            _ => Ok(()),
        }
    }

    /// Whether the password belongs to the hash. Takes as long as the cost says: never call it on a thread that serves.
    #[must_use]
    pub fn verify(&self, password: &str) -> bool {
        let mut key = Zeroizing::new(Vec::with_capacity(USED_BYTES));
        // The terminating zero is part of the key, unless there is no room for it.
        key.extend(password.bytes().chain(std::iter::once(0)).take(USED_BYTES));
        let computed = bcrypt::bcrypt(self.cost, self.salt, &key);
        computed.get(..23).is_some_and(|c| c.ct_eq(&self.digest).into())
    }
}

impl fmt::Debug for BcryptHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BcryptHash(cost {})", self.cost)
    }
}

fn decode<const N: usize>(text: &str) -> Result<[u8; N], HashError> {
    let bytes = LENIENT.decode(text).map_err(|_| HashError::NotBcrypt)?;
    bytes.get(..N).and_then(|b| b.try_into().ok()).ok_or(HashError::NotBcrypt)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dex's own test hash of "password".
    const PASSWORD: &str = "$2a$10$2b2cU8CPhOTaGrs1HRQuAueS7JTT5ZHsHSzYiFPm1leZck7Mc8T4W";

    #[test]
    fn known_hashes_verify_and_others_do_not() {
        let hash = BcryptHash::parse(PASSWORD).unwrap();
        assert!(hash.verify("password"));
        assert_eq!(hash.to_text(), PASSWORD);
        for wrong in ["", "Password", "password ", "passwor", "password\0"] {
            assert!(!hash.verify(wrong), "{wrong:?}");
        }
        let good = BcryptHash::parse(crate::config::GUIDE_GOOD_HASH).unwrap();
        let bad = BcryptHash::parse(crate::config::GUIDE_BAD_HASH).unwrap();
        assert!(good.verify("ChangeMe!234"));
        assert!(!bad.verify("ChangeMe!234"));
    }

    #[test]
    fn every_version_letter_but_x_is_read() {
        for version in ["", "a", "b", "y", "z"] {
            let hash = PASSWORD.replacen("2a", &format!("2{version}"), 1);
            assert!(BcryptHash::parse(&hash).unwrap().verify("password"), "{hash}");
        }
        assert_eq!(BcryptHash::parse(&PASSWORD.replacen("2a", "2x", 1)), Err(HashError::UnsafeVersion));
    }

    #[test]
    fn only_the_first_72_bytes_of_a_password_count() {
        let raw = bcrypt::bcrypt(4, [7; 16], &[b'a'; 72]);
        let hash = BcryptHash { cost: 4, salt: [7; 16], digest: raw[..23].try_into().unwrap() };
        assert!(hash.verify(&"a".repeat(72)));
        assert!(hash.verify(&"a".repeat(100)));
        assert!(!hash.verify(&"a".repeat(71)));
    }

    #[test]
    fn what_is_no_bcrypt_hash_is_refused() {
        for text in [
            "",
            "password",
            "$",
            "$2",
            "$2a$",
            "$2a$10$",
            "$1$abc$def",
            "$2a$10$short",
            "$2ab$10$2b2cU8CPhOTaGrs1HRQuAueS7JTT5ZHsHSzYiFPm1leZck7Mc8T4W",
        ] {
            assert_eq!(BcryptHash::parse(text), Err(HashError::NotBcrypt), "{text}");
        }
        assert_eq!(BcryptHash::parse(&PASSWORD.replace('W', "é")), Err(HashError::NotBcrypt));
        assert_eq!(BcryptHash::parse(&PASSWORD.replacen("$10$", "$+9$", 1)), Err(HashError::NotBcrypt));
        assert_eq!(BcryptHash::parse(&PASSWORD.replacen("$10$", "$03$", 1)), Err(HashError::CostUnknown(3)));
        assert_eq!(BcryptHash::parse(&PASSWORD.replacen("$10$", "$32$", 1)), Err(HashError::CostUnknown(32)));
    }

    #[test]
    fn costs_outside_dex_s_bounds_are_refused_with_its_words() {
        let with =
            |cost: &str| BcryptHash::parse(&PASSWORD.replacen("$10$", &format!("${cost}$"), 1)).unwrap().check_cost();
        assert_eq!(with("10"), Ok(()));
        assert_eq!(with("16"), Ok(()));
        assert_eq!(
            with("04").unwrap_err().to_string(),
            "given hash cost = 4 does not meet minimum cost requirement = 10"
        );
        assert_eq!(
            with("17").unwrap_err().to_string(),
            "given hash cost = 17 is above upper bound cost = 16, recommended cost = 12"
        );
    }

    #[test]
    fn debug_shows_no_hash() {
        assert_eq!(format!("{:?}", BcryptHash::parse(PASSWORD).unwrap()), "BcryptHash(cost 10)");
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "\\$2[a-z]?\\$[0-9]{1,3}\\$[./A-Za-z0-9é]{0,60}") {
            let _ = BcryptHash::parse(&text);
        }
    }
}
