//! The token as people see it: header and claims decoded for showing, never for deciding.

use std::collections::BTreeMap;

use portcullis_authn::{JwtConfig, Purpose, ValidConfig};
use portcullis_jose::base64url_decode_as_go;
use portcullis_kube::go::json::{self, Document, Kind};
use portcullis_runtime::Timestamp;
use serde_json::{Map, Value};

use super::config::Origin;
use super::keys::Read;

/// Everything that an explanation looks at.
pub(crate) struct Case<'a> {
    pub(crate) token: &'a str,
    pub(crate) header: Option<Map<String, Value>>,
    /// As mapping and expressions read them: by their exact names.
    pub(crate) claims: Option<Map<String, Value>>,
    /// What verification reads, in any case of letters: by its right name, how it is spelled and what it is.
    registered: BTreeMap<&'static str, (String, Value)>,
    /// As it is in the token.
    pub(crate) payload: Vec<u8>,
    pub(crate) issuers: &'a [ValidConfig],
    pub(crate) origin: &'a Origin,
    /// Which of them the token names.
    pub(crate) at: Option<usize>,
    pub(crate) config: Option<&'a JwtConfig>,
    pub(crate) keys: Option<&'a Read>,
    pub(crate) now: Timestamp,
}

impl<'a> Case<'a> {
    pub(crate) fn new(token: &'a str, issuers: &'a [ValidConfig], origin: &'a Origin, now: Timestamp) -> Self {
        let part = |at: usize| {
            let text: String = token.split('.').nth(at)?.chars().filter(|c| !c.is_whitespace()).collect();
            base64url_decode_as_go(&text)
        };
        let payload = part(1);
        Self {
            token,
            header: part(0).and_then(|bytes| object(&bytes)),
            claims: payload.as_ref().and_then(|bytes| object(bytes)),
            registered: payload.as_ref().map(|bytes| registered(bytes)).unwrap_or_default(),
            payload: payload.unwrap_or_default(),
            issuers,
            origin,
            at: None,
            config: None,
            keys: None,
            now,
        }
    }

    /// A text of the header.
    pub(crate) fn header(&self, member: &str) -> Option<&str> {
        self.header.as_ref()?.get(member)?.as_str()
    }

    /// The key that the token names. Compat: an empty name is none.
    pub(crate) fn kid(&self) -> Option<&str> {
        self.header("kid").filter(|kid| !kid.is_empty())
    }

    /// A claim as mapping and expressions read it.
    pub(crate) fn claim(&self, name: &str) -> Option<&Value> {
        self.claims.as_ref()?.get(name)
    }

    /// A claim as verification reads it.
    pub(crate) fn registered(&self, name: &str) -> Option<&Value> {
        self.registered.get(name).map(|(_, value)| value)
    }

    /// How such a claim is spelled, where that is not its right name.
    pub(crate) fn spelling(&self, name: &str) -> Option<&str> {
        self.registered.get(name).map(|(spelling, _)| spelling.as_str()).filter(|spelling| *spelling != name)
    }

    /// A claim whose name differs from that of one which is missing by the case of letters alone.
    pub(crate) fn odd_case(&self, name: &str) -> Option<&str> {
        let claims = self.claims.as_ref().filter(|claims| !claims.contains_key(name))?;
        claims.keys().map(String::as_str).find(|other| other.eq_ignore_ascii_case(name))
    }

    /// The expression of this purpose; empty when there is none.
    pub(crate) fn expression(&self, purpose: &Purpose) -> String {
        let valid = self.at.and_then(|at| self.issuers.get(at));
        let all = valid.map(|valid| valid.evaluations(&self.payload)).unwrap_or_default();
        all.into_iter().find(|one| one.purpose == *purpose).map(|one| one.expression).unwrap_or_default()
    }

    /// The names of claims that are texts and say something of the user, at most so many.
    pub(crate) fn text_claims(&self, most: usize) -> String {
        let claims = self.claims.iter().flatten();
        let names: Vec<&str> = claims
            .filter(|(name, value)| value.is_string() && !OF_THE_TOKEN.contains(&name.as_str()))
            .map(|(name, _)| name.as_str())
            .take(most)
            .collect();
        if names.is_empty() { "no claim that is a text".to_owned() } else { names.join(", ") }
    }
}

/// Claims that say nothing of the user.
const OF_THE_TOKEN: [&str; 12] =
    ["iss", "aud", "azp", "nonce", "at_hash", "c_hash", "jti", "sid", "session_state", "acr", "typ", "scope"];
/// Claims that Go's decoder reads in any case of letters.
const REGISTERED: [&str; 10] =
    ["iss", "sub", "aud", "exp", "iat", "nbf", "nonce", "at_hash", "_claim_names", "_claim_sources"];
/// Those of them that are texts.
const TEXTS: [&str; 4] = ["iss", "sub", "nonce", "at_hash"];
/// Levels of nesting that are shown.
const DEPTH: usize = 32;

/// An object as kube-apiserver's decoder reads it: the last of several names counts, broken text is replaced.
fn object(bytes: &[u8]) -> Option<Map<String, Value>> {
    let Ok(Document::Object(members)) = json::parse(bytes) else { return None };
    Some(members.into_iter().map(|member| (member.name.into_owned(), value(member.value, DEPTH))).collect())
}

/// What it takes for one of [`REGISTERED`].
fn registered(bytes: &[u8]) -> BTreeMap<&'static str, (String, Value)> {
    let Ok(Document::Object(members)) = json::parse(bytes) else { return BTreeMap::new() };
    let mut found = BTreeMap::new();
    for member in members {
        let Some(name) = REGISTERED.into_iter().find(|name| member.folds_to(name)) else { continue };
        // Compat: null leaves a text as it is.
        if json::kind(member.value) == Kind::Null && TEXTS.contains(&name) && found.contains_key(name) {
            continue;
        }
        found.insert(name, (member.name.into_owned(), value(member.value, DEPTH)));
    }
    found
}

/// A value of it. Numbers that no program of ours can hold, and what lies too deep, are shown as they are written.
fn value(bytes: &[u8], depth: usize) -> Value {
    let as_written = || Value::String(String::from_utf8_lossy(bytes).into_owned());
    match json::kind(bytes) {
        Kind::Object | Kind::Array if depth == 0 => as_written(),
        Kind::Object => {
            let members = json::members(bytes).into_iter();
            Value::Object(members.map(|member| (member.name.into_owned(), value(member.value, depth - 1))).collect())
        }
        Kind::Array => Value::Array(json::elements(bytes).into_iter().map(|one| value(one, depth - 1)).collect()),
        Kind::String => Value::String(json::string(bytes).into_owned()),
        Kind::Number => serde_json::from_slice(bytes).unwrap_or_else(|_| as_written()),
        Kind::Bool => Value::Bool(bytes == b"true"),
        Kind::Null => Value::Null,
    }
}

/// A span of seconds, for people.
pub(crate) fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// A value on one line, cut.
pub(crate) fn shown(value: &Value) -> String {
    cut(&value.to_string())
}

/// At most some 200 characters.
pub(crate) fn cut(text: &str) -> String {
    const MOST: usize = 200;
    let mut out: String = text.chars().take(MOST).collect();
    if text.chars().nth(MOST).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_read_as_by_kube_apiserver() {
        let read = |text: &[u8]| object(text).map(|claims| Value::Object(claims).to_string());
        for (text, want) in [
            (&br#"{"AUD":"a","sub":"x","sub":"y"}"#[..], Some(r#"{"AUD":"a","sub":"y"}"#)),
            (br#"{"Email":"a","email":"b"}"#, Some(r#"{"Email":"a","email":"b"}"#)),
            (
                b"{\"x\":\"\xff\",\"y\":\"\\ud800\",\"z\":1e999}",
                Some("{\"x\":\"\u{fffd}\",\"y\":\"\u{fffd}\",\"z\":\"1e999\"}"),
            ),
            (br#"{"a":[1,{"b":null}],"c":true}"#, Some(r#"{"a":[1,{"b":null}],"c":true}"#)),
            (b"[]", None),
            (b"{", None),
        ] {
            assert_eq!(read(text).as_deref(), want, "{}", String::from_utf8_lossy(text));
        }
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(9_000), "]".repeat(9_000));
        assert!(read(deep.as_bytes()).is_some());
    }

    #[test]
    fn what_verification_reads_is_found_in_any_case_of_letters() {
        for (text, name, want) in [
            (r#"{"AUD":"a"}"#, "aud", Some(("AUD", "\"a\""))),
            (r#"{"aud":"a","Aud":"b"}"#, "aud", Some(("Aud", "\"b\""))),
            (r#"{"ISS":"a","iss":null}"#, "iss", Some(("ISS", "\"a\""))),
            (r#"{"exp":1,"EXP":null}"#, "exp", Some(("EXP", "null"))),
            (r#"{"i\u017fs":"a"}"#, "iss", Some(("i\u{17f}s", "\"a\""))),
            (r#"{"Email":"a"}"#, "email", None),
            ("[]", "iss", None),
        ] {
            let found = registered(text.as_bytes());
            let found = found.get(name).map(|(spelling, value)| (spelling.clone(), value.to_string()));
            assert_eq!(found.as_ref().map(|(a, b)| (a.as_str(), b.as_str())), want, "{text}");
        }
    }

    #[test]
    fn spans_are_told_in_two_units_at_most() {
        for (seconds, want) in [
            (-1, "0 s"),
            (59, "59 s"),
            (61, "1 min"),
            (3_700, "1 h 1 min"),
            (90_000, "1 d 1 h"),
            (86_399, "23 h 59 min"),
        ] {
            assert_eq!(span(seconds), want);
        }
        assert_eq!((cut(&"x".repeat(200)).chars().count(), cut(&"x".repeat(201)).chars().count()), (200, 201));
    }
}
