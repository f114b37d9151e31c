//! How long a key set may be reused, from the headers of its response.
//!
//! Compat: kube-apiserver computes this with pquerna/cachecontrol 0.1 as a shared cache, and so do we, also where that
//! library departs from RFC 9111: only the first `Cache-Control` header counts, `no-store`, `no-cache` and `private` do
//! not shorten a `max-age`, `Age` is ignored, a malformed directive voids all headers, and without explicit freshness a
//! tenth of the time since `Last-Modified` (at most a day) is assumed.

use std::time::Duration;

use http::HeaderMap;
use portcullis_runtime::Timestamp;
use time::{PrimitiveDateTime, format_description::StaticFormatDescription, macros::format_description};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long the response stays fresh from `now` on; none when the headers do not say or cannot be read.
pub fn fresh_for(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).filter(|value| !value.is_empty());
    let directives = Directives::parse(text("cache-control").unwrap_or_default())?;
    // An unreadable Expires means "expired already"; an unreadable Date or Last-Modified voids everything.
    let expires = text("expires").and_then(http_date);
    let date = text("date").map(|date| http_date(date).ok_or(())).transpose().ok()?;
    let last_modified = text("last-modified").map(|date| http_date(date).ok_or(())).transpose().ok()?;

    if let Some(seconds) = directives.s_maxage.or(directives.max_age) {
        return Some(Duration::from_secs(u64::from(seconds)));
    }
    if let Some(expires) = expires {
        return Some(expires.saturating_since(date.unwrap_or(now))).filter(|fresh| !fresh.is_zero());
    }
    last_modified.map(|modified| (now.saturating_since(modified) / 10).min(DAY)).filter(|fresh| !fresh.is_zero())
}

#[derive(Default)]
struct Directives {
    max_age: Option<u32>,
    s_maxage: Option<u32>,
}

impl Directives {
    /// None when a directive that needs seconds has none, or one that takes nothing has something.
    fn parse(header: &str) -> Option<Self> {
        let mut directives = Self::default();
        let mut rest = header;
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            if rest.is_empty() {
                return Some(directives);
            }
            let end = rest.find(|c: char| !is_token(c)).unwrap_or(rest.len()).max(1);
            let (name, tail) = rest.split_at_checked(end)?;
            let name = name.to_ascii_lowercase();
            let value;
            (value, rest) = match tail.strip_prefix('=').filter(|tail| !tail.is_empty()) {
                None => (None, tail),
                Some(tail) if tail.starts_with('"') => {
                    let (quoted, tail) = unquote(tail)?;
                    (Some(quoted), tail)
                }
                Some(tail) => {
                    // Unquoted field lists run on over commas, as the upstream reader lets them.
                    let field_list = matches!(name.as_str(), "no-cache" | "private");
                    let end = tail.find(|c| c == ' ' || c == '\t' || (c == ',' && !field_list)).unwrap_or(tail.len());
                    let (value, tail) = tail.split_at_checked(end)?;
                    (Some(value.to_owned()), tail)
                }
            };
            directives.add(&name, value.as_deref())?;
        }
    }

    fn add(&mut self, name: &str, value: Option<&str>) -> Option<()> {
        match (name, value) {
            ("max-age", value) => self.max_age = Some(delta_seconds(value?)?),
            ("s-maxage", value) => self.s_maxage = Some(delta_seconds(value?)?),
            ("stale-if-error" | "stale-while-revalidate", value) => drop(delta_seconds(value?)?),
            (
                "must-revalidate" | "no-store" | "no-transform" | "public" | "proxy-revalidate" | "immutable",
                Some(_),
            ) => return None,
            _ => {}
        }
        Some(())
    }
}

/// A non-negative count of seconds; beyond 2^31-1 it is that.
fn delta_seconds(value: &str) -> Option<u32> {
    const MAX: u64 = i32::MAX as u64;
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds = value.parse::<u64>().unwrap_or(MAX).min(MAX);
    u32::try_from(seconds).ok()
}

fn is_token(c: char) -> bool {
    c.is_ascii_graphic() && !"()<>@,;:\\\"/[]?={}".contains(c)
}

/// The content of the quoted string that `text` starts with, and what follows it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut characters = text.char_indices().skip(1);
    let mut content = String::new();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((content, text.get(at + 1..)?)),
            '\\' => content.push(characters.next()?.1),
            _ => content.push(character),
        }
    }
    None
}

/// A date in one of the three forms of RFC 9110 section 5.6.7.
fn http_date(text: &str) -> Option<Timestamp> {
    const IMF: StaticFormatDescription =
        format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
    const ASCTIME: StaticFormatDescription = format_description!(
        "[weekday repr:short] [month repr:short] [day padding:space] [hour]:[minute]:[second] [year]"
    );
    const RFC_850: StaticFormatDescription =
        format_description!("[day]-[month repr:short]-[year] [hour]:[minute]:[second] GMT");
    let date = PrimitiveDateTime::parse(text, IMF)
        .or_else(|_| PrimitiveDateTime::parse(text, ASCTIME))
        .or_else(|_| PrimitiveDateTime::parse(&with_century(text), RFC_850))
        .ok()?;
    Some(Timestamp::from_unix_seconds(date.assume_utc().unix_timestamp()))
}

/// `Monday, 23-Nov-26 19:00:00 GMT` without the day's name and with four digits of the year, as Go completes it.
fn with_century(text: &str) -> String {
    let date = text.split_once(", ").map_or("", |(_, date)| date);
    let Some((day_month, year_time)) = date.rsplit_once('-') else { return String::new() };
    let century = if year_time.get(..2).is_some_and(|year| year < "69") { "20" } else { "19" };
    format!("{day_month}-{century}{year_time}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-23T18:00:00Z.
    const NOW: i64 = 1_795_456_800;

    fn fresh(headers: &[(&'static str, &str)]) -> Option<u64> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        fresh_for(&map, Timestamp::from_unix_seconds(NOW)).map(|fresh| fresh.as_secs())
    }

    #[test]
    fn cache_control_is_read_as_kube_apiserver_reads_it() {
        for (value, expected) in [
            ("", None),
            ("max-age=600", Some(600)),
            ("max-age=600, must-revalidate", Some(600)),
            ("MAX-AGE=600", Some(600)),
            ("public, max-age=600, s-maxage=30", Some(30)),
            ("max-age=\"600\"", Some(600)),
            ("max-age=0", Some(0)),
            ("max-age=99999999999", Some(i32::MAX as u64)),
            ("no-store", None),
            ("no-store, max-age=600", Some(600)),
            ("private, max-age=600", Some(600)),
            ("no-cache=\"a, b\", max-age=60", Some(60)),
            ("no-cache=a, max-age=60", Some(60)),
            ("x-new=1, max-age=60", Some(60)),
            (", ,max-age=60,", Some(60)),
            ("max-age", None),
            ("max-age=", None),
            ("max-age=-1", None),
            ("max-age=+1", None),
            ("max-age=1.5", None),
            ("max-age=abc, s-maxage=60", None),
            ("public=1, max-age=60", None),
            ("max-age=60, x=\"open", None),
            ("max-age=60, stale-if-error=x", None),
        ] {
            assert_eq!(fresh(&[("cache-control", value)]), expected, "{value:?}");
        }
    }

    #[test]
    fn only_the_first_cache_control_header_counts() {
        assert_eq!(fresh(&[("cache-control", "public"), ("cache-control", "max-age=60")]), None);
    }

    #[test]
    fn dates_are_the_fallback() {
        let hour = ("expires", "Mon, 23 Nov 2026 19:00:00 GMT");
        assert_eq!(fresh(&[hour]), Some(3600));
        assert_eq!(fresh(&[hour, ("date", "Mon, 23 Nov 2026 18:59:00 GMT")]), Some(60));
        assert_eq!(fresh(&[hour, ("date", "yesterday")]), None);
        assert_eq!(fresh(&[hour, ("cache-control", "max-age=5")]), Some(5));
        assert_eq!(fresh(&[("expires", "0")]), None);
        assert_eq!(fresh(&[("expires", "Mon, 23 Nov 2026 17:00:00 GMT")]), None);
        assert_eq!(fresh(&[("last-modified", "Mon, 23 Nov 2026 17:50:00 GMT")]), Some(60));
        assert_eq!(fresh(&[("last-modified", "Thu, 23 Nov 2000 17:50:00 GMT")]), Some(86_400));
        assert_eq!(fresh(&[("last-modified", "Mon, 23 Nov 2026 19:00:00 GMT")]), None);
        assert_eq!(fresh(&[("expires", "Mon Nov 23 19:00:00 2026")]), Some(3600));
        assert_eq!(fresh(&[("expires", "Monday, 23-Nov-26 19:00:00 GMT")]), Some(3600));
        assert_eq!(fresh(&[("expires", "Monday, 23-Nov-70 19:00:00 GMT")]), None);
        assert_eq!(fresh(&[("expires", "Monday, 23-Nov-ä 19:00:00 GMT")]), None);
    }
}
