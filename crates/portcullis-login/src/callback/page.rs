//! The pages that the local server shows when a sign-in has ended.
//!
//! Compat: title and heading `Authenticated`, a script that closes the window, a page that leads on with
//! `--open-url-after-authentication` (kubelogin's `authcode` templates). Unlike kubelogin's, everything inserted is
//! escaped, and a Content-Security-Policy allows exactly this page's own style and script, by hash.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Url;

/// A page with the policy that fits it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    /// HTML.
    pub(crate) html: String,
    /// Value of `Content-Security-Policy`.
    pub(crate) policy: String,
}

const STYLE: &str = ":root{color-scheme:light dark}body{margin:0;padding:2rem;font:1.1rem/1.5 system-ui,sans-serif;\
background:#f2f2f2;color:#1a1a1a}main{max-width:34rem;margin:10vh auto 0;padding:2rem;border-radius:1rem;background:#fff}\
h1{margin-top:0;font-size:1.6rem}a{color:#0b57d0}@media(prefers-color-scheme:dark){body{background:#161616;color:#eee}\
main{background:#262626}a{color:#a8c7fa}}";

const CLOSE: &str = "window.close()";

/// What to show after a successful sign-in. `open_url` is `--open-url-after-authentication`, empty for none.
pub(crate) fn success(open_url: &str) -> Page {
    if open_url.is_empty() {
        return page("Authenticated", "", "<p>You are logged in to the cluster. You can close this window.</p>", true);
    }
    match Url::parse(open_url).ok().filter(|url| matches!(url.scheme(), "http" | "https")) {
        Some(url) => {
            let target = escape(url.as_str());
            let refresh = format!("<meta http-equiv=\"refresh\" content=\"0;URL={target}\">");
            page("Authenticated", &refresh, &format!("<p><a href=\"{target}\">redirecting...</a></p>"), false)
        }
        None => page("Authenticated", "", &format!("<p>invalid URL is set: {}</p>", escape(open_url)), false),
    }
}

/// What to show when the sign-in failed.
pub(crate) fn failure() -> Page {
    page(
        "Not authenticated",
        "",
        "<p>authorization error</p><p>The terminal in which the sign-in was started tells what went wrong.</p>",
        false,
    )
}

fn page(title: &str, head: &str, body: &str, close: bool) -> Page {
    let script = if close { format!("<script>{CLOSE}</script>") } else { String::new() };
    let html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n{head}<title>{title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n{body}\n</main>\n{script}</body>\n</html>\n"
    );
    let mut policy = format!("default-src 'none'; style-src '{}'", source_hash(STYLE));
    if close {
        policy.push_str(&format!("; script-src '{}'", source_hash(CLOSE)));
    }
    policy.push_str("; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
    Page { html, policy }
}

/// A hash source expression (CSP Level 3, section 2.3.1).
fn source_hash(source: &str) -> String {
    format!("sha256-{}", STANDARD.encode(digest::digest(&digest::SHA256, source.as_bytes())))
}

/// Escapes text for HTML, in content and in quoted attributes.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_success_page_says_authenticated_and_closes_itself() {
        let page = success("");
        assert!(page.html.contains("<title>Authenticated</title>") && page.html.contains("<h1>Authenticated</h1>"));
        assert!(page.html.contains("<script>window.close()</script>"));
        assert!(page.policy.contains("script-src 'sha256-") && page.policy.starts_with("default-src 'none'"));
        assert!(!page.policy.contains("unsafe"));
    }

    #[test]
    fn a_page_to_open_next_is_linked_and_escaped() {
        let page = success("https://example.com/success?a=1&b=\"><script>alert(1)</script>");
        assert!(page.html.contains("URL=https://example.com/success?a=1&amp;b=%22%3E%3Cscript%3E"), "{}", page.html);
        assert!(!page.html.contains("<script>") && !page.policy.contains("script-src"));
        assert!(success("https://example.com/success").html.contains("URL=https://example.com/success"));
    }

    #[test]
    fn what_is_no_web_address_is_shown_and_never_followed() {
        for url in ["javascript:alert(1)", "data:text/html,x", "<b>", "example.com"] {
            let page = success(url);
            assert!(page.html.contains("invalid URL is set: ") && !page.html.contains("http-equiv"), "{url}");
            assert!(!page.html.contains("<b>"));
        }
    }

    #[test]
    fn every_page_is_small_and_knows_dark_and_light() {
        for page in [success(""), success("https://example.com/"), failure()] {
            assert!(page.html.len() < 4096);
            assert!(page.html.contains("color-scheme:light dark") && page.html.contains("lang=\"en\""));
            assert!(!page.html.contains("style=") && !page.html.contains("onload"));
        }
    }
}
