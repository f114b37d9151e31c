//! A look into a token that was verified when it came: its expiry and its claims as text.
//!
//! Nothing here verifies. It serves the warm path (is the cached token still good?) and what `setup` prints.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use thiserror::Error;

/// Seconds before its expiry from which a cached token is not handed out any more.
///
/// A request made with a token of one second would be refused on the way; kubelogin has no such margin. Tokens that
/// live shorter than twice this get half their life.
pub(crate) const LEEWAY_SECONDS: i64 = 10;

/// The parts of a payload that the plugin looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glance {
    /// `exp` in Unix seconds; 0 without one.
    pub(crate) expiry: i64,
    /// `iat` in Unix seconds.
    pub(crate) issued_at: Option<i64>,
    /// The payload's JSON text.
    pub(crate) payload: String,
}

/// Why a text is no JWT.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum NotAJwt {
    /// Not three parts.
    #[error("could not decode the payload: wants 3 segments but got {0}")]
    Segments(usize),
    /// The middle part is not base64url.
    #[error("could not decode the payload: invalid base64url")]
    Encoding,
    /// The payload is not a JSON object with numeric dates.
    #[error("could not decode the payload: invalid JSON")]
    Json,
}

#[derive(Deserialize)]
struct Dates {
    #[serde(default)]
    exp: Option<f64>,
    #[serde(default)]
    iat: Option<f64>,
}

impl Glance {
    /// Looks into `token`.
    pub(crate) fn at(token: &str) -> Result<Self, NotAJwt> {
        let mut parts = token.split('.');
        let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(NotAJwt::Segments(token.split('.').count()));
        };
        let bytes = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).map_err(|_| NotAJwt::Encoding)?;
        // The derived reader would take an array too.
        if !bytes.trim_ascii_start().starts_with(b"{") {
            return Err(NotAJwt::Json);
        }
        let dates: Dates = serde_json::from_slice(&bytes).map_err(|_| NotAJwt::Json)?;
        let payload = String::from_utf8(bytes).map_err(|_| NotAJwt::Json)?;
        let seconds = |date: Option<f64>| date.map(whole_seconds);
        Ok(Self { expiry: seconds(dates.exp).unwrap_or_default(), issued_at: seconds(dates.iat), payload })
    }

    /// Whether the token can be handed out at `now` (Unix seconds).
    pub(crate) fn is_fresh(&self, now: i64) -> bool {
        let margin = match self.issued_at {
            Some(issued) if issued < self.expiry => LEEWAY_SECONDS.min((self.expiry - issued) / 2),
            _ => LEEWAY_SECONDS,
        };
        self.expiry.saturating_sub(margin) > now
    }
}

/// A NumericDate in whole seconds; what is out of range is cut to the range.
#[expect(clippy::cast_possible_truncation, reason = "a cast from float to integer saturates, which is wanted")]
fn whole_seconds(date: f64) -> i64 {
    date as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(payload: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn expiry_is_read_in_every_numeric_form() {
        for (payload, want) in [
            (r#"{"exp":1700000000}"#, 1_700_000_000),
            (r#"{"exp":1.7e9}"#, 1_700_000_000),
            (r#"{"exp":1700000000.9}"#, 1_700_000_000),
            (r#"{"exp":1e300}"#, i64::MAX),
            ("{}", 0),
            (r#"{"exp":null}"#, 0),
        ] {
            assert_eq!(Glance::at(&token(payload)).expect(payload).expiry, want, "{payload}");
        }
    }

    #[test]
    fn what_is_no_jwt_is_told_apart() {
        assert_eq!(Glance::at("opaque"), Err(NotAJwt::Segments(1)));
        assert_eq!(Glance::at("a.b.c.d"), Err(NotAJwt::Segments(4)));
        assert_eq!(Glance::at(""), Err(NotAJwt::Segments(1)));
        assert_eq!(Glance::at("a.!.c"), Err(NotAJwt::Encoding));
        for payload in ["", "[]", "1", r#"{"exp":"soon"}"#, "{"] {
            assert_eq!(Glance::at(&token(payload)), Err(NotAJwt::Json), "{payload}");
        }
    }

    #[test]
    fn a_token_about_to_expire_is_not_handed_out() {
        let hour = Glance::at(&token(r#"{"iat":1000,"exp":4600}"#)).expect("a token");
        assert!(hour.is_fresh(4600 - LEEWAY_SECONDS - 1));
        assert!(!hour.is_fresh(4600 - LEEWAY_SECONDS));
        assert!(!hour.is_fresh(9000));
        let short = Glance::at(&token(r#"{"iat":1000,"exp":1010}"#)).expect("a token");
        assert!(short.is_fresh(1004), "a token of ten seconds is good for five");
        assert!(!short.is_fresh(1005));
        let no_expiry = Glance::at(&token("{}")).expect("a token");
        assert!(!no_expiry.is_fresh(0));
    }
}
