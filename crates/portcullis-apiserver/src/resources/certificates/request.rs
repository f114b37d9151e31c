//! What stands in `spec.request` and `status.certificate`: PEM with a PKCS #10 request, and PEM with certificates.
//!
//! Compat: `pkg/apis/certificates/helpers.go`, and which text counts as PEM in Go's `encoding/pem`. What is wrong inside of
//! DER is not told in Go's words.

use aws_lc_rs::signature as aws;
use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;
use x509_parser::asn1_rs::{Oid, oid};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The field's own base64, and that inside of PEM: bits beyond the last byte may be any.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&base64::alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));
const START: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";
const REQUEST: &str = "CERTIFICATE REQUEST";
const CERTIFICATE: &str = "CERTIFICATE";
/// Certificates that one field may hold.
const MOST_CERTIFICATES: usize = 1_024;

const P256: Oid<'_> = oid!(1.2.840.10045.3.1.7);
const P384: Oid<'_> = oid!(1.3.132.0.34);
const P521: Oid<'_> = oid!(1.3.132.0.35);

/// A block of PEM.
pub(in crate::resources) struct Block {
    pub(in crate::resources) label: String,
    has_headers: bool,
    pub(in crate::resources) der: Vec<u8>,
}

/// The bytes of a field that is base64 in JSON.
fn bytes(field: &Value) -> Vec<u8> {
    field.as_str().and_then(|text| BASE64.decode(text).ok()).unwrap_or_default()
}

/// The next block of `text`, and what comes after it. What is no block is passed over.
pub(in crate::resources) fn next_block(text: &str) -> Option<(Block, &str)> {
    let mut rest = text;
    loop {
        rest = match rest.strip_prefix(START) {
            Some(rest) => rest,
            None => rest.split_once("\n-----BEGIN ")?.1,
        };
        let (first, after) = line(rest);
        rest = after;
        let Some(label) = first.strip_suffix(DASHES) else { continue };
        let mut has_headers = false;
        loop {
            if rest.is_empty() {
                return None;
            }
            let (header, after) = line(rest);
            if !header.contains(':') {
                break;
            }
            has_headers = true;
            rest = after;
        }
        let (body, after) = if !has_headers && rest.starts_with(END) {
            ("", rest.strip_prefix(END).unwrap_or_default())
        } else if let Some(split) = rest.split_once("\n-----END ") {
            split
        } else {
            continue;
        };
        let ended = after.strip_prefix(label).and_then(|after| after.strip_prefix(DASHES)).map(line);
        let Some(("", beyond)) = ended else { continue };
        let body: String = body.chars().filter(|c| !matches!(c, ' ' | '\t' | '\r' | '\n')).collect();
        if let Ok(der) = BASE64.decode(body) {
            return Some((Block { label: label.to_owned(), has_headers, der }, beyond));
        }
    }
}

/// The first line without the blanks at its end, and the rest.
fn line(text: &str) -> (&str, &str) {
    let (line, rest) = text.split_once('\n').unwrap_or((text, ""));
    (line.strip_suffix('\r').unwrap_or(line).trim_end_matches([' ', '\t']), rest)
}

/// Calls `then` with the request in `field`, or says why there is none.
fn with_request<T>(
    field: &Value,
    then: impl FnOnce(&X509CertificationRequest<'_>) -> Result<T, String>,
) -> Result<T, String> {
    let bytes = bytes(field);
    let block = next_block(&String::from_utf8_lossy(&bytes)).map(|(block, _)| block);
    let Some(block) = block.filter(|block| block.label == REQUEST) else {
        return Err("PEM block type must be CERTIFICATE REQUEST".to_owned());
    };
    match X509CertificationRequest::from_der(&block.der) {
        Ok(([], request)) => then(&request),
        Ok(_) => Err("asn1: syntax error: trailing data".to_owned()),
        Err(error) => Err(format!("asn1: structure error: {error}")),
    }
}

/// Whether `spec.request` holds a request that its own key has signed.
pub(super) fn check(field: &Value) -> Result<(), String> {
    with_request(field, check_signature)
}

/// The organizations that a request asks for.
pub(crate) fn organizations(field: &Value) -> Result<Vec<String>, String> {
    with_request(field, |request| {
        let subject = &request.certification_request_info.subject;
        let names = subject.iter_organization().filter_map(|name| name.as_str().ok());
        Ok(names.map(str::to_owned).collect())
    })
}

fn check_signature(request: &X509CertificationRequest<'_>) -> Result<(), String> {
    let info = &request.certification_request_info;
    let curve = info.subject_pki.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    let algorithm = request.signature_algorithm.algorithm.to_id_string();
    let Some((algorithm, failure)) = algorithm_of(&algorithm, curve.as_ref()) else {
        return Err("x509: cannot verify signature: algorithm unimplemented".to_owned());
    };
    let key = aws::UnparsedPublicKey::new(algorithm, &info.subject_pki.subject_public_key.data);
    key.verify(info.raw, &request.signature_value.data).map_err(|_| failure.to_owned())
}

/// How a signature is checked, and what is said of a wrong one. Compat: SHA-1 counts for requests.
fn algorithm_of(
    name: &str,
    curve: Option<&Oid<'_>>,
) -> Option<(&'static dyn aws::VerificationAlgorithm, &'static str)> {
    const RSA: &str = "crypto/rsa: verification error";
    let rsa =
        |algorithm: &'static aws::RsaParameters| -> (&'static dyn aws::VerificationAlgorithm, _) { (algorithm, RSA) };
    Some(match name {
        "1.2.840.113549.1.1.5" => rsa(&aws::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY),
        "1.2.840.113549.1.1.11" => rsa(&aws::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY),
        "1.2.840.113549.1.1.12" => rsa(&aws::RSA_PKCS1_2048_8192_SHA384),
        "1.2.840.113549.1.1.13" => rsa(&aws::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY),
        "1.3.101.112" => (&aws::ED25519, "x509: Ed25519 verification failure"),
        _ => (ecdsa_of(name, curve?)?, "x509: ECDSA verification failure"),
    })
}

fn ecdsa_of(name: &str, curve: &Oid<'_>) -> Option<&'static aws::EcdsaVerificationAlgorithm> {
    let bits = name.strip_prefix("1.2.840.10045.4.3.")?;
    Some(match bits {
        "2" if *curve == P256 => &aws::ECDSA_P256_SHA256_ASN1,
        "3" if *curve == P256 => &aws::ECDSA_P256_SHA384_ASN1,
        "4" if *curve == P256 => &aws::ECDSA_P256_SHA512_ASN1,
        "2" if *curve == P384 => &aws::ECDSA_P384_SHA256_ASN1,
        "3" if *curve == P384 => &aws::ECDSA_P384_SHA384_ASN1,
        "4" if *curve == P384 => &aws::ECDSA_P384_SHA512_ASN1,
        "2" if *curve == P521 => &aws::ECDSA_P521_SHA256_ASN1,
        "3" if *curve == P521 => &aws::ECDSA_P521_SHA384_ASN1,
        "4" if *curve == P521 => &aws::ECDSA_P521_SHA512_ASN1,
        _ => return None,
    })
}

/// Whether `status.certificate` holds certificates and nothing else; an empty one is right.
pub(super) fn check_certificates(field: &Value) -> Result<(), String> {
    let bytes = bytes(field);
    let text = String::from_utf8_lossy(&bytes);
    if text.is_empty() {
        return Ok(());
    }
    let (mut rest, mut blocks) = (&*text, 0_usize);
    while let Some((block, beyond)) = next_block(rest) {
        if block.label != CERTIFICATE {
            let found = portcullis_kube::go::quote(&block.label);
            return Err(format!("only CERTIFICATE PEM blocks are allowed, found {found}"));
        }
        if block.has_headers {
            return Err("no PEM block headers are permitted".to_owned());
        }
        if block.der.is_empty() {
            return Err("found CERTIFICATE PEM block containing 0 certificates".to_owned());
        }
        let mut der = block.der.as_slice();
        while !der.is_empty() {
            der = X509Certificate::from_der(der).map_err(|_| "x509: malformed certificate".to_owned())?.0;
        }
        (rest, blocks) = (beyond, blocks + 1);
        if blocks > MOST_CERTIFICATES {
            return Err(format!("more than {MOST_CERTIFICATES} certificates"));
        }
    }
    if blocks == 0 {
        return Err("must contain at least one CERTIFICATE PEM block".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SignatureAlgorithm};
    use serde_json::json;

    use super::*;

    fn field(text: &str) -> Value {
        json!(BASE64.encode(text))
    }

    fn request(algorithm: &'static SignatureAlgorithm) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationName, "devs");
        params.serialize_request(&KeyPair::generate_for(algorithm).unwrap()).unwrap().pem().unwrap()
    }

    /// The same request with the last byte of its signature changed.
    fn forged(pem: &str) -> String {
        let (block, _) = next_block(pem).unwrap();
        let mut der = block.der;
        *der.last_mut().unwrap() ^= 1;
        format!("{START}{REQUEST}-----\n{}\n{END}{REQUEST}-----\n", BASE64.encode(der))
    }

    #[test]
    fn a_request_is_signed_by_its_own_key() {
        for (algorithm, failure) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, "x509: ECDSA verification failure"),
            (&rcgen::PKCS_ECDSA_P384_SHA384, "x509: ECDSA verification failure"),
            (&rcgen::PKCS_ECDSA_P521_SHA512, "x509: ECDSA verification failure"),
            (&rcgen::PKCS_ED25519, "x509: Ed25519 verification failure"),
            (&rcgen::PKCS_RSA_SHA256, "crypto/rsa: verification error"),
        ] {
            let pem = request(algorithm);
            assert_eq!(check(&field(&pem)), Ok(()), "{algorithm:?}");
            assert_eq!(check(&field(&forged(&pem))), Err(failure.to_owned()));
            assert_eq!(organizations(&field(&pem)).unwrap(), ["devs"]);
        }
    }

    #[test]
    fn what_is_around_a_block_is_passed_over() {
        let pem = request(&rcgen::PKCS_ED25519);
        for text in [format!("words\n{pem}words"), pem.replace('\n', " \r\n"), format!("{START}x\n{pem}")] {
            assert_eq!(check(&field(&text)), Ok(()), "{text}");
        }
        for text in
            [String::new(), pem.replace(REQUEST, CERTIFICATE), pem.replace("-----END", "----END"), format!("x{pem}")]
        {
            assert_eq!(check(&field(&text)), Err("PEM block type must be CERTIFICATE REQUEST".to_owned()), "{text}");
        }
    }

    #[test]
    fn a_certificate_field_holds_certificates_only() {
        let pem = CertificateParams::default().self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
        assert_eq!(check_certificates(&Value::Null), Ok(()));
        assert_eq!(check_certificates(&field(&format!("{pem}{pem}"))), Ok(()));
        for (text, why) in [
            ("x".to_owned(), "must contain at least one CERTIFICATE PEM block"),
            (pem.replace(CERTIFICATE, "KEY"), "only CERTIFICATE PEM blocks are allowed, found \"KEY\""),
            (pem.replacen("-----\n", "-----\na: b\n", 1), "no PEM block headers are permitted"),
            (
                format!("{START}CERTIFICATE-----\n{END}CERTIFICATE-----\n"),
                "found CERTIFICATE PEM block containing 0 certificates",
            ),
            (format!("{START}CERTIFICATE-----\nAAAA\n{END}CERTIFICATE-----\n"), "x509: malformed certificate"),
            (pem.repeat(MOST_CERTIFICATES + 1), "more than 1024 certificates"),
        ] {
            assert_eq!(check_certificates(&field(&text)), Err(why.to_owned()));
        }
    }
}
