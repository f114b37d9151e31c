//! `Content-Type` of a request's body, read as strictly as the real server reads it.
//!
//! Compat: `negotiation.NegotiateInputSerializerForMediaType`, with Go's `mime.ParseMediaType`.

use http::HeaderMap;

/// Parameters that are looked at; more are refused.
const MAX_PARAMETERS: usize = 32;

/// The media type of a body in small letters, empty when the client names none; `None` for a header that cannot be read.
pub(crate) fn of(headers: &HeaderMap) -> Option<String> {
    let Some(header) = headers.get(http::header::CONTENT_TYPE) else { return Some(String::new()) };
    let header = header.to_str().ok()?;
    if header.is_empty() {
        return Some(String::new());
    }
    let (base, mut rest) = header.find(';').map_or((header, ""), |at| header.split_at(at));
    let base = base.trim().to_ascii_lowercase();
    let mut parts = base.splitn(2, '/');
    if !parts.all(is_token) {
        return None;
    }
    let mut seen: Vec<(String, String)> = Vec::new();
    while !rest.trim_start().is_empty() {
        if rest.trim() == ";" {
            break;
        }
        let (name, value, after) = parameter(rest)?;
        if seen.len() >= MAX_PARAMETERS || seen.iter().any(|(other, old)| *other == name && *old != value) {
            return None;
        }
        seen.push((name, value));
        rest = after;
    }
    Some(base)
}

/// One parameter and what follows it.
fn parameter(text: &str) -> Option<(String, String, &str)> {
    let text = text.trim_start().strip_prefix(';')?.trim_start();
    let (name, rest) = token(text)?;
    let rest = rest.trim_start().strip_prefix('=')?.trim_start();
    let name = name.to_ascii_lowercase();
    let Some(quoted) = rest.strip_prefix('"') else {
        let (value, rest) = token(rest)?;
        return Some((name, value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((name, value, quoted.get(at + 1..)?)),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

/// The token at the beginning, if there is one.
fn token(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !is_token_character(c)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_token_character)
}

fn is_token_character(c: char) -> bool {
    c.is_ascii_graphic() && !"()<>@,;:\\\"/[]?=".contains(c)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(value: &[u8]) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_bytes(value).unwrap());
        of(&headers)
    }

    #[test]
    fn types_are_read_as_go_reads_them() {
        for value in [
            "application/json",
            "APPLICATION/JSON",
            " application/json ;",
            "application/json; charset=utf-8",
            "application/json;a=\"b;\\\"c\";d=e",
            "application/json;a=b;a=b",
        ] {
            assert_eq!(read(value.as_bytes()).as_deref(), Some("application/json"), "{value}");
        }
        assert_eq!(of(&HeaderMap::new()).as_deref(), Some(""));
        for value in [";", "application/json;odd", "application/json;a=b;a=c", "a/b/c", "application/json;a=\"b", "/"] {
            assert_eq!(read(value.as_bytes()), None, "{value}");
        }
        assert_eq!(read(b"\xff"), None);
    }

    #[test]
    fn the_number_of_parameters_is_bounded() {
        let with = |count: usize| {
            let parameters: String = (0..count).map(|number| format!(";a{number}=b")).collect();
            read(format!("application/json{parameters}").as_bytes())
        };
        assert!(with(MAX_PARAMETERS).is_some() && with(MAX_PARAMETERS + 1).is_none());
    }
}
