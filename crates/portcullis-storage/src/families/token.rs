//! Refresh tokens and the chain that they form.
//!
//! Token 0 is random; token n+1 is HMAC-SHA-256 of token n under the family's key. So whoever holds token n and the
//! record can make n+1 again after a lost reply, while the record alone (key and hashes) gives no token and a token
//! alone gives no successor. What is presented is the token followed by a tag under the same key: it tells a token that
//! this family once issued, however old, from an invented one, so that only genuine ones count as reuse.

use std::fmt;

use aws_lc_rs::{digest, hmac};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_runtime::{Rng, Secret};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

const TOKEN_BYTES: usize = 32;
const TAG_BYTES: usize = 16;
const TAG_CONTEXT: &[u8] = b"portcullis refresh token tag v1";
/// Longest refresh token that is looked at, in bytes on the wire.
const MAX_WIRE_BYTES: usize = 2048;

/// The id of a refresh token family.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FamilyId(String);

impl FamilyId {
    pub(super) fn random(rng: &Rng) -> Self {
        Self(rng.token(16))
    }

    /// The id as text. Not a secret: alone it gives nothing.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for FamilyId {
    fn from(id: String) -> Self {
        Self(id)
    }
}

impl fmt::Display for FamilyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for FamilyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A refresh token as a client holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefreshToken {
    /// The family.
    pub family: FamilyId,
    /// The family's current secret.
    pub secret: Secret,
}

impl RefreshToken {
    /// The token on the wire. Compat: base64url of the protobuf message `{1: refresh_id, 2: token}`, as Dex's
    /// `server/internal` writes it.
    #[must_use]
    pub fn encode(&self) -> Secret {
        let mut message = Zeroizing::new(Vec::with_capacity(128));
        put_field(&mut message, 1, self.family.as_str());
        put_field(&mut message, 2, self.secret.expose());
        Secret::new(URL_SAFE_NO_PAD.encode(message.as_slice()))
    }

    /// Reads a token from the wire; `None` when it is not one. Unknown fields are refused.
    #[must_use]
    pub fn decode(wire: &str) -> Option<Self> {
        if wire.len() > MAX_WIRE_BYTES {
            return None;
        }
        let message = Zeroizing::new(URL_SAFE_NO_PAD.decode(wire.trim_end_matches('=')).ok()?);
        let (mut family, mut secret) = (None, None);
        let mut rest = message.as_slice();
        while !rest.is_empty() {
            let (number, value, after) = take_field(rest)?;
            let value = std::str::from_utf8(value).ok()?;
            match number {
                1 => family = Some(FamilyId(value.to_owned())),
                2 => secret = Some(Secret::new(value)),
                _ => return None,
            }
            rest = after;
        }
        Some(Self { family: family.filter(|family| !family.0.is_empty())?, secret: secret.unwrap_or_default() })
    }
}

fn put_field(out: &mut Vec<u8>, number: u8, value: &str) {
    out.push(number << 3 | 2);
    let mut length = value.len();
    while length >= 0x80 {
        out.push(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
        length >>= 7;
    }
    out.push(u8::try_from(length).unwrap_or(0));
    out.extend_from_slice(value.as_bytes());
}

/// The number and content of the first length-delimited field, and what follows it.
fn take_field(message: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&key, mut rest) = message.split_first()?;
    if key & 0b1000_0111 != 2 {
        return None;
    }
    let mut length = 0_usize;
    // Two length bytes reach 16 KiB, more than a token may have.
    for shift in [0, 7] {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let (value, after) = rest.split_at_checked(length)?;
            return Some((key >> 3, value, after));
        }
    }
    None
}

/// One link of a family's chain.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Link([u8; TOKEN_BYTES]);

impl Drop for Link {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link([redacted])")
    }
}

impl Link {
    pub(super) fn random(rng: &Rng) -> Self {
        Self(rng.bytes())
    }

    /// What the record keeps of a link.
    pub(super) fn hash(&self) -> LinkHash {
        LinkHash(URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &self.0)))
    }
}

/// The hash of a link.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct LinkHash(String);

impl PartialEq for LinkHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

/// A link and the tag that came with it; the tag is not verified yet.
#[derive(Debug)]
pub(super) struct Presented {
    pub(super) link: Link,
    tag: [u8; TAG_BYTES],
}

impl Presented {
    /// Reads a token's secret; `None` when it cannot be one of ours.
    pub(super) fn parse(secret: &Secret) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; TOKEN_BYTES + TAG_BYTES]);
        if secret.expose().len() != base64::encoded_len(TOKEN_BYTES + TAG_BYTES, false)? {
            return None;
        }
        if URL_SAFE_NO_PAD.decode_slice(secret.expose(), bytes.as_mut_slice()).ok()? != TOKEN_BYTES + TAG_BYTES {
            return None;
        }
        let (link, tag) = bytes.split_at_checked(TOKEN_BYTES)?;
        Some(Self { link: Link(link.try_into().ok()?), tag: tag.try_into().ok()? })
    }
}

/// A family's key.
pub(super) struct Chain(hmac::Key);

impl Chain {
    pub(super) fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The link after this one.
    pub(super) fn next(&self, link: &Link) -> Link {
        let mut next = [0; TOKEN_BYTES];
        copy(hmac::sign(&self.0, &link.0).as_ref(), &mut next);
        Link(next)
    }

    /// Whether this family issued the link, now or earlier.
    pub(super) fn issued(&self, presented: &Presented) -> bool {
        self.tag(&presented.link).ct_eq(&presented.tag).into()
    }

    /// What the client is given.
    pub(super) fn secret(&self, link: &Link) -> Secret {
        let mut bytes = Zeroizing::new([0; TOKEN_BYTES + TAG_BYTES]);
        if let Some((head, tail)) = bytes.split_at_mut_checked(TOKEN_BYTES) {
            copy(&link.0, head);
            copy(&self.tag(link), tail);
        }
        Secret::new(URL_SAFE_NO_PAD.encode(bytes.as_slice()))
    }

    fn tag(&self, link: &Link) -> [u8; TAG_BYTES] {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(TAG_CONTEXT);
        context.update(&link.0);
        let mut tag = [0; TAG_BYTES];
        copy(context.sign().as_ref(), &mut tag);
        tag
    }
}

fn copy(from: &[u8], to: &mut [u8]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_form_is_dexs() {
        // protobuf {1: "abc", 2: "def"}
        let token = RefreshToken { family: "abc".to_owned().into(), secret: Secret::new("def") };
        assert_eq!(URL_SAFE_NO_PAD.decode(token.encode().expose()).unwrap(), b"\x0a\x03abc\x12\x03def");
        assert_eq!(RefreshToken::decode(token.encode().expose()), Some(token));
    }

    #[test]
    fn long_fields_use_two_length_bytes() {
        let token = RefreshToken { family: "a".repeat(300).into(), secret: Secret::new("b".repeat(128)) };
        assert_eq!(RefreshToken::decode(token.encode().expose()), Some(token));
    }

    #[test]
    fn what_is_no_token_is_none_and_never_a_panic() {
        let whole = RefreshToken { family: "abc".to_owned().into(), secret: Secret::new("def") }.encode();
        for length in 0..whole.expose().len() {
            let _ = RefreshToken::decode(&whole.expose()[..length]);
        }
        let cases: [&[u8]; 9] = [
            b"",
            b"\x0a",
            b"\x0a\x05abc",
            b"\x0a\x00\x12\x03def",
            b"\x12\x03def",
            b"\x08\x01",
            b"\x1a\x01a\x0a\x01a",
            b"\x0a\xff\xff\xff\x01",
            b"\x0a\x01\xff",
        ];
        for case in cases {
            assert_eq!(RefreshToken::decode(&URL_SAFE_NO_PAD.encode(case)), None, "{case:?}");
        }
        assert_eq!(RefreshToken::decode("not base64!"), None);
        assert_eq!(RefreshToken::decode(&"A".repeat(MAX_WIRE_BYTES + 1)), None);
    }

    #[test]
    fn the_chain_is_hmac_sha256_of_the_previous_token() {
        // RFC 4231 test case 2 has another length, so this only fixes our own construction.
        let chain = Chain::new(&[7; 32]);
        let link = Link([1; 32]);
        let expected = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]), &[1; 32]);
        assert_eq!(chain.next(&link).0, expected.as_ref());
    }

    #[test]
    fn only_secrets_that_the_family_made_carry_its_tag() {
        let chain = Chain::new(&[7; 32]);
        let link = Link([1; 32]);
        let genuine = Presented::parse(&chain.secret(&link)).unwrap();
        assert!(genuine.link == link && chain.issued(&genuine));
        assert!(!Chain::new(&[8; 32]).issued(&genuine));
        assert!(!chain.issued(&Presented { link: Link([2; 32]), tag: genuine.tag }));
        assert!(!chain.issued(&Presented { link, tag: [0; TAG_BYTES] }));
        for text in ["", "abc", &"A".repeat(63), &"A".repeat(65), &"!".repeat(64)] {
            assert!(Presented::parse(&Secret::new(text)).is_none(), "{text}");
        }
    }
}
