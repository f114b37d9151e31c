//! Two facts of a certificate that rustls checks but does not tell: when it is valid, and for what (RFC 5280 sections
//! 4.1.2.5 and 4.2.1.12).
//!
//! It must only be asked about certificates that webpki has parsed already and that the operator configured: it reads
//! what it needs and nothing else. What it does not understand is `None`, never a guess.

use time::{Date, Month, PrimitiveDateTime, Time};

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// `version`, `issuerUniqueID`, `subjectUniqueID`, `extensions`.
const VERSION: u8 = 0xa0;
const ISSUER_UNIQUE_ID: u8 = 0x81;
const SUBJECT_UNIQUE_ID: u8 = 0x82;
const EXTENSIONS: u8 = 0xa3;

/// 2.5.29.37, `extKeyUsage`.
const EXT_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
/// 2.5.29.37.0, `anyExtendedKeyUsage`.
const ANY_USAGE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];
/// 1.3.6.1.5.5.7.3.1, `id-kp-serverAuth`.
const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];

/// What a certificate says of its time and purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    /// The first second in which it is valid, in Unix time.
    pub(super) not_before: i64,
    /// The last one.
    pub(super) not_after: i64,
    /// Whether it may be a TLS server's. Compat: crypto/x509 `checkChainForKeyUsage`: without the extension, with
    /// `anyExtendedKeyUsage` or with `serverAuth`.
    pub(super) server_auth: bool,
}

impl Facts {
    /// Reads a certificate in DER.
    pub(super) fn read(certificate: &[u8]) -> Option<Self> {
        let mut fields = Der(Der(Der(certificate).expect(SEQUENCE)?).expect(SEQUENCE)?);
        fields.optional(VERSION)?;
        fields.expect(INTEGER)?;
        fields.expect(SEQUENCE)?; // signature algorithm
        fields.expect(SEQUENCE)?; // issuer
        let mut validity = Der(fields.expect(SEQUENCE)?);
        fields.expect(SEQUENCE)?; // subject
        fields.expect(SEQUENCE)?; // public key
        fields.optional(ISSUER_UNIQUE_ID)?;
        fields.optional(SUBJECT_UNIQUE_ID)?;
        let server_auth = match fields.optional(EXTENSIONS)? {
            Some(extensions) => may_serve(extensions)?,
            None => true,
        };
        Some(Self { not_before: validity.time()?, not_after: validity.time()?, server_auth })
    }
}

fn may_serve(extensions: &[u8]) -> Option<bool> {
    let mut list = Der(Der(extensions).expect(SEQUENCE)?);
    while !list.0.is_empty() {
        let mut extension = Der(list.expect(SEQUENCE)?);
        let id = extension.expect(OBJECT_IDENTIFIER)?;
        extension.optional(BOOLEAN)?; // critical
        let value = extension.expect(OCTET_STRING)?;
        if id == EXT_KEY_USAGE {
            let mut usages = Der(Der(value).expect(SEQUENCE)?);
            let mut serves = false;
            while !usages.0.is_empty() {
                let usage = usages.expect(OBJECT_IDENTIFIER)?;
                serves |= usage == SERVER_AUTH || usage == ANY_USAGE;
            }
            return Some(serves);
        }
    }
    Some(true)
}

/// What is left of a run of DER elements.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The content of the next element, which must have this tag.
    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.optional(tag)?
    }

    /// The same, or `Some(None)` when the next element has another tag or there is none.
    #[expect(clippy::option_option, reason = "absent and damaged are two things")]
    fn optional(&mut self, tag: u8) -> Option<Option<&'a [u8]>> {
        let Some((_, rest)) = self.0.split_first().filter(|(first, _)| **first == tag) else { return Some(None) };
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(Some(content))
    }

    /// The next element as a time (RFC 5280 section 4.1.2.5: seconds and `Z` are always there), in Unix time.
    fn time(&mut self) -> Option<i64> {
        let (year, rest) = match self.optional(UTC_TIME)? {
            Some(text) => {
                let (year, rest) = text.split_at_checked(2)?;
                let year = digits(year)?;
                (if year < 50 { 2000 + year } else { 1900 + year }, rest)
            }
            None => {
                let (year, rest) = self.expect(GENERALIZED_TIME)?.split_at_checked(4)?;
                (digits(year)?, rest)
            }
        };
        let [month, day, hour, minute, second] = {
            let (pairs, [b'Z']) = rest.as_chunks::<2>() else { return None };
            let pairs: &[[u8; 2]; 5] = pairs.try_into().ok()?;
            let mut values = [0_u8; 5];
            for (value, pair) in values.iter_mut().zip(pairs) {
                *value = u8::try_from(digits(pair)?).ok()?;
            }
            values
        };
        let date = Date::from_calendar_date(i32::from(year), Month::try_from(month).ok()?, day).ok()?;
        let time = Time::from_hms(hour, minute, second).ok()?;
        Some(PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp())
    }
}

/// A number of at most four decimal digits.
fn digits(text: &[u8]) -> Option<u16> {
    text.iter().try_fold(0, |number: u16, byte| byte.is_ascii_digit().then(|| number * 10 + u16::from(byte - b'0')))
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose as Usage, IsCa, KeyPair};
    use time::OffsetDateTime;
    use time::macros::datetime;

    use super::*;

    fn certificate(from: OffsetDateTime, until: OffsetDateTime, usages: Vec<Usage>) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.not_before, params.not_after, params.extended_key_usages) = (from, until, usages);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn times_are_read_in_both_forms() {
        for (from, until) in [
            (datetime!(1950-01-01 00:00:00 UTC), datetime!(2049-12-31 23:59:59 UTC)),
            (datetime!(1999-02-28 01:02:03 UTC), datetime!(2050-01-01 00:00:00 UTC)),
            (datetime!(2024-02-29 12:00:00 UTC), datetime!(9999-12-31 23:59:59 UTC)),
        ] {
            let facts = Facts::read(&certificate(from, until, Vec::new())).unwrap();
            assert_eq!((facts.not_before, facts.not_after), (from.unix_timestamp(), until.unix_timestamp()));
        }
        for text in ["", "Z", "240229120000", "24022912000Z", "240230120000Z", "2402291200000Z", "24x229120000Z"] {
            let element = [&[UTC_TIME, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
            assert_eq!(Der(&element).time(), None, "{text}");
        }
    }

    #[test]
    fn a_server_needs_no_usage_or_one_that_fits() {
        let (from, until) = (datetime!(2024-01-01 0:00 UTC), datetime!(2034-01-01 0:00 UTC));
        for (usages, serves) in [
            (vec![], true),
            (vec![Usage::ServerAuth], true),
            (vec![Usage::ClientAuth, Usage::ServerAuth], true),
            (vec![Usage::Any], true),
            (vec![Usage::ClientAuth], false),
            (vec![Usage::OcspSigning, Usage::CodeSigning], false),
        ] {
            assert_eq!(
                Facts::read(&certificate(from, until, usages.clone())).unwrap().server_auth,
                serves,
                "{usages:?}"
            );
        }
    }

    #[test]
    fn damaged_certificates_are_none_or_read_and_never_a_panic() {
        let (from, until) = (datetime!(2024-01-01 0:00 UTC), datetime!(2034-01-01 0:00 UTC));
        let whole = certificate(from, until, vec![Usage::ServerAuth]);
        for length in 0..whole.len() {
            assert_eq!(Facts::read(&whole[..length]), None, "{length}");
        }
        for at in 0..whole.len() {
            for value in [0, 0x30, 0x7f, 0x80, 0x84, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                if let Some(facts) = Facts::read(&damaged) {
                    assert!(facts.not_before >= -62_167_219_200 && facts.not_after <= 253_402_300_799);
                }
            }
        }
    }
}
