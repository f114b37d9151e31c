//! Static files: compiled in, with an ETag, and with a version in their links so that they may be cached for long.

use std::sync::LazyLock;

use http::HeaderMap;

use crate::http::Reply;
use crate::tokens::Document;

/// A static file.
pub(crate) struct Asset {
    document: Document,
    content_type: &'static str,
}

impl Asset {
    /// The answer to a request for it.
    pub(crate) fn reply(&self, headers: &HeaderMap) -> Reply {
        self.document.reply(headers, self.content_type, "public, max-age=86400")
    }
}

struct Assets {
    css: Asset,
    logo: Asset,
    robots: Asset,
    version: String,
}

const CSS: &str = include_str!("../../../../web/static/main.css");
const LOGO: &str = include_str!("../../../../web/static/logo.svg");
/// Nothing here is for search engines.
const ROBOTS: &str = "User-agent: *\nDisallow: /\n";

static ASSETS: LazyLock<Assets> = LazyLock::new(|| {
    let asset = |text: &'static str, content_type| Asset { document: Document::new(text), content_type };
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    context.update(CSS.as_bytes());
    context.update(LOGO.as_bytes());
    let version = context.finish().as_ref().iter().take(4).map(|b| format!("{b:02x}")).collect();
    Assets {
        css: asset(CSS, "text/css; charset=utf-8"),
        logo: asset(LOGO, "image/svg+xml"),
        robots: asset(ROBOTS, "text/plain; charset=utf-8"),
        version,
    }
});

/// The static file at a path below the issuer's.
pub(crate) fn asset(path: &str) -> Option<&'static Asset> {
    match path {
        "/static/main.css" => Some(&ASSETS.css),
        "/static/logo.svg" => Some(&ASSETS.logo),
        "/robots.txt" => Some(&ASSETS.robots),
        _ => None,
    }
}

/// What changes when a static file changes.
pub(crate) fn version() -> &'static str {
    &ASSETS.version
}
