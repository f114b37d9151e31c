//! Names of images.

/// The tag of an image; empty when a digest names it, `latest` when nothing does.
///
/// Compat: the grammar of `distribution/reference`, with the default domain.
pub(super) fn tag_of(image: &str) -> Option<&str> {
    let (image, digest) = image.split_once('@').map_or((image, None), |(image, digest)| (image, Some(digest)));
    let (folder, last) = image.rsplit_once('/').map_or(("", image), |(folder, last)| (folder, last));
    let (last, tag) = last.split_once(':').map_or((last, None), |(last, tag)| (last, Some(tag)));
    let (domain, folder) = match folder.split_once('/').unwrap_or((folder, "")) {
        (first, rest) if first.contains(['.', ':']) || first == "localhost" || first.to_lowercase() != first => {
            (first, rest)
        }
        _ => ("", folder),
    };
    let components = folder.split('/').filter(|_| !folder.is_empty());
    let is_id = last.len() == 64 && last == image && last.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let fits = components.chain([last]).all(is_component)
        && (domain.is_empty() || is_domain(domain))
        && tag.is_none_or(is_tag)
        && digest.is_none_or(is_digest)
        && !is_id;
    fits.then_some(tag.unwrap_or(if digest.is_some() { "" } else { "latest" }))
}

/// Lower case letters and digits, with a dot, one or two underscores or dashes between them.
fn is_component(text: &str) -> bool {
    let word = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = text.as_bytes().first().is_some_and(word) && text.as_bytes().last().is_some_and(word);
    let mut between = text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    ends && between.all(|between| matches!(between, "" | "." | "_" | "__") || between.bytes().all(|byte| byte == b'-'))
}

fn is_domain(text: &str) -> bool {
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let label = |label: &str| {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty() && label.bytes().all(word) && !label.starts_with('-') && !label.ends_with('-')
    };
    host.split('.').all(label)
        && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    (1..=128).contains(&text.len()) && text.bytes().all(word) && !text.starts_with(['.', '-'])
}

fn is_digest(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else { return false };
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    algorithm.split(['-', '_', '+', '.']).all(part)
        && hex.len() >= 32
        && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_tags_or_are_none() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (image, tag) in [
            ("a", Some("latest")),
            ("a:1", Some("1")),
            ("a/b_c/d--e:v1.2_x", Some("v1.2_x")),
            ("localhost/a", Some("latest")),
            ("LOCAL/a", Some("latest")),
            ("r.example:5000/a/b:t", Some("t")),
            ("r.example:5000/a", Some("latest")),
            (&format!("a@{digest}"), Some("")),
            (&format!("a:t@{digest}"), Some("t")),
            ("", None),
            ("A", None),
            ("a/B", None),
            ("a b", None),
            ("a:", None),
            ("a:-", None),
            ("a..b", None),
            ("a___b", None),
            ("-.x/a", None),
            ("r:x/a", None),
            ("a//b", None),
            ("a@sha256:0a", None),
            ("é", None),
            (&"0a".repeat(32), None),
            (&format!("a:{}", "t".repeat(129)), None),
        ] {
            assert_eq!(tag_of(image), tag, "{image}");
        }
    }
}
