//! The value of a string or bytes literal.
//!
//! Compat: cel-go `parser/unescape.go` 0.29.2.

/// Takes quotes and escapes off `literal`, a token of the lexer without its `b`.
pub(super) fn unescape(literal: &str, bytes: bool) -> Result<Vec<u8>, &'static str> {
    const FAILED: &str = "unable to unescape string";
    let literal = literal.replace("\r\n", "\n").replace('\r', "\n");
    let raw = literal.starts_with(['r', 'R']);
    let quoted = if raw { literal.get(1..).unwrap_or_default() } else { literal.as_str() };
    let mut body = None;
    if quoted.len() >= 6 {
        for fence in ["'''", "\"\"\""] {
            if let Some(tail) = quoted.strip_prefix(fence) {
                body = Some(tail.strip_suffix(fence).ok_or(FAILED)?);
            }
        }
    }
    let body = match body {
        Some(body) => body,
        None => quoted.get(1..quoted.len().saturating_sub(1)).ok_or(FAILED)?,
    };
    if raw || !body.contains('\\') {
        return Ok(body.as_bytes().to_vec());
    }
    let mut out = Vec::with_capacity(body.len());
    let mut chars = body.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            push(&mut out, c);
            continue;
        }
        let kind = chars.next().ok_or("unable to unescape string, found '\\' as last character")?;
        let simple = match kind {
            'a' => Some(0x07),
            'b' => Some(0x08),
            'f' => Some(0x0c),
            'n' => Some(b'\n'),
            'r' => Some(b'\r'),
            't' => Some(b'\t'),
            'v' => Some(0x0b),
            '\\' | '\'' | '"' | '`' | '?' => u8::try_from(kind).ok(),
            _ => None,
        };
        if let Some(byte) = simple {
            out.push(byte);
            continue;
        }
        let (digits, radix, mut value) = match kind {
            'x' | 'X' => (2, 16, 0),
            'u' | 'U' if bytes => return Err(FAILED),
            'u' => (4, 16, 0),
            'U' => (8, 16, 0),
            '0'..='3' => (2, 8, kind.to_digit(8).unwrap_or_default()),
            _ => return Err(FAILED),
        };
        for _ in 0..digits {
            let digit = chars.next().and_then(|c| c.to_digit(radix)).ok_or(FAILED)?;
            value = value.wrapping_mul(radix).wrapping_add(digit);
        }
        if bytes {
            out.push(u8::try_from(value).map_err(|_| FAILED)?);
        } else {
            push(&mut out, char::from_u32(value).ok_or("invalid unicode code point")?);
        }
    }
    Ok(out)
}

fn push(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}
