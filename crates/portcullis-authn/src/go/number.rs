//! How go-oidc turns a JSON number, quoted or not, into Unix seconds.

use super::json::{self, Kind};
use portcullis_kube::go::quote;

/// `jsonTime.UnmarshalJSON`: an integer as it is, anything else through a float and cut off towards zero.
///
/// The error is Go's text.
pub(crate) fn unix_seconds(value: &[u8]) -> Result<i64, String> {
    let literal = match json::kind(value) {
        Kind::Number => String::from_utf8_lossy(value).into_owned(),
        Kind::String => {
            let text = json::string(value);
            if !json::is_number(text.as_bytes()) {
                let literal = quote(&String::from_utf8_lossy(value));
                return Err(format!("json: invalid number literal, trying to unmarshal {literal} into Number"));
            }
            text.into_owned()
        }
        // `null` leaves the number empty, and parsing nothing fails.
        Kind::Null => return Err(r#"strconv.ParseFloat: parsing "": invalid syntax"#.to_owned()),
        other => return Err(format!("json: cannot unmarshal {} into Go value of type json.Number", other.name())),
    };
    if let Ok(whole) = literal.parse::<i64>() {
        return Ok(whole);
    }
    match literal.parse::<f64>() {
        Ok(float) if float.is_finite() => Ok(truncate(float)),
        Ok(_) | Err(_) => Err(format!("strconv.ParseFloat: parsing {}: value out of range", quote(&literal))),
    }
}

/// `int64(f)` as on amd64 and arm64 for numbers in range; out of range, the smallest value, which is what amd64 gives.
///
/// Compat: this is why a token that expires in the year 10^22 counts as expired.
#[expect(clippy::cast_possible_truncation, reason = "cutting off is the point, and the range is checked")]
fn truncate(float: f64) -> i64 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if (-LIMIT..LIMIT).contains(&float) { float as i64 } else { i64::MIN }
}

/// Whether Unix second `a` lies before the instant `b_seconds` + `b_nanos`, with `time.Unix`'s wrap-around.
///
/// Compat: `time.Unix` adds the seconds between year 1 and 1970 without an overflow check.
pub(crate) fn before(a: i64, b_seconds: i64, b_nanos: u32) -> bool {
    let (a, b) = (since_year_one(a), since_year_one(b_seconds));
    a < b || (a == b && b_nanos > 0)
}

/// Whether the instant `a_seconds` + `a_nanos` lies before Unix second `b`.
pub(crate) fn after(b: i64, a_seconds: i64) -> bool {
    since_year_one(a_seconds) < since_year_one(b)
}

const fn since_year_one(unix: i64) -> i64 {
    unix.wrapping_add(62_135_596_800)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_times_as_go_does() {
        let table: &[(&str, Result<i64, &str>)] = &[
            ("1999999999", Ok(1_999_999_999)),
            ("\"1999999999\"", Ok(1_999_999_999)),
            ("\"\\u0031\"", Ok(1)),
            ("1999999999.9", Ok(1_999_999_999)),
            ("-1.9", Ok(-1)),
            ("1e12", Ok(1_000_000_000_000)),
            ("-0", Ok(0)),
            ("1e30", Ok(i64::MIN)),
            ("-1e30", Ok(i64::MIN)),
            ("9223372036854775807", Ok(i64::MAX)),
            ("9223372036854775808", Ok(i64::MIN)),
            ("1e999", Err("strconv.ParseFloat: parsing \"1e999\": value out of range")),
            ("null", Err("strconv.ParseFloat: parsing \"\": invalid syntax")),
            ("\"x\"", Err("json: invalid number literal, trying to unmarshal \"\\\"x\\\"\" into Number")),
            ("\"\"", Err("json: invalid number literal, trying to unmarshal \"\\\"\\\"\" into Number")),
            ("\"+1\"", Err("json: invalid number literal, trying to unmarshal \"\\\"+1\\\"\" into Number")),
            ("true", Err("json: cannot unmarshal bool into Go value of type json.Number")),
            ("[1]", Err("json: cannot unmarshal array into Go value of type json.Number")),
        ];
        for (value, want) in table {
            assert_eq!(
                unix_seconds(value.as_bytes()).as_ref().map_err(String::as_str),
                want.as_ref().map_err(|e| *e),
                "{value}"
            );
        }
    }

    #[test]
    fn the_same_second_is_before_only_when_the_clock_has_moved_on_within_it() {
        assert!(!before(10, 10, 0));
        assert!(before(10, 10, 1));
        assert!(before(9, 10, 0));
        assert!(!before(11, 10, 5));
        assert!(before(i64::MAX, 0, 0), "wraps around, as time.Unix does");
        assert!(before(i64::MIN, 0, 0) != after(i64::MIN, 0), "one of both sides");
    }
}
