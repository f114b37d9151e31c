//! The pages: server-rendered, without scripts, usable by keyboard and screen reader, light and dark.
//!
//! Templates and styles are compiled in (`web/`); template names and variables follow Dex's (dex.md 2.7). Everything
//! that is put into a page is escaped. Security headers go on every page: no framing (CVE class: clickjacking of the
//! consent page), no referrer (the flow's id is in our URLs), no cache, and a content policy that allows our own style
//! sheet and images alone. There is no `form-action`: Chromium applies it to redirects that follow a form, which would
//! break every client whose callback redirects to another origin; markup cannot be injected in the first place.

mod assets;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use minijinja::{Environment, Output, State, Value, context};

pub(crate) use assets::asset;

use crate::config::{Frontend, Issuer, Theme};
use crate::http::{Reply, html, no_store};

macro_rules! page {
    ($name:literal) => {
        concat!(
            include_str!("../../../../web/templates/header.html"),
            include_str!(concat!("../../../../web/templates/", $name, ".html")),
            include_str!("../../../../web/templates/footer.html"),
        )
    };
}

const TEMPLATES: &[(&str, &str)] = &[
    ("login.html", page!("login")),
    ("password.html", page!("password")),
    ("approval.html", page!("approval")),
    ("oob.html", page!("oob")),
    ("error.html", page!("error")),
    ("home.html", page!("home")),
];

/// The templates cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("a page template cannot be used")]
pub struct PagesError(#[from] minijinja::Error);

/// Renders pages.
pub(crate) struct Pages {
    templates: Environment<'static>,
    base: String,
    title: String,
    logo: String,
    theme: &'static str,
    csp: HeaderValue,
}

/// The password page.
#[derive(Default)]
pub(crate) struct PasswordPage<'a> {
    pub(crate) client: &'a str,
    pub(crate) post_url: &'a str,
    pub(crate) back_link: &'a str,
    pub(crate) csrf: &'a str,
    pub(crate) username: &'a str,
    pub(crate) username_prompt: &'a str,
    /// What went wrong, if anything.
    pub(crate) problem: &'a str,
    /// Whether name or password were wrong.
    pub(crate) invalid: bool,
}

/// The consent page.
pub(crate) struct ApprovalPage<'a> {
    pub(crate) client: &'a str,
    pub(crate) user: &'a str,
    pub(crate) scopes: &'a [&'static str],
    pub(crate) req: &'a str,
    pub(crate) post_url: &'a str,
}

/// A way to sign in.
pub(crate) struct ConnectorChoice {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) kind: &'static str,
}

impl Pages {
    pub(crate) fn new(issuer: &Issuer, frontend: &Frontend) -> Result<Self, PagesError> {
        let mut templates = Environment::new();
        templates.set_formatter(escaped);
        for (name, source) in TEMPLATES {
            templates.add_template(name, source)?;
        }
        let base = issuer.path().to_owned();
        let (logo, logo_origin) = match &frontend.logo_url {
            Some(logo) => {
                (logo.clone(), url::Url::parse(logo).map(|u| u.origin().ascii_serialization()).unwrap_or_default())
            }
            None => (format!("{base}/static/logo.svg?v={}", assets::version()), String::new()),
        };
        let csp = format!(
            "default-src 'none'; style-src 'self'; img-src 'self' data: {logo_origin}; base-uri 'none'; frame-ancestors 'none'"
        );
        let csp = HeaderValue::from_str(&csp).unwrap_or(HeaderValue::from_static(
            "default-src 'none'; style-src 'self'; img-src 'self'; frame-ancestors 'none'",
        ));
        let theme = match frontend.theme {
            Theme::Auto => "",
            Theme::Light => "light",
            Theme::Dark => "dark",
        };
        Ok(Self { templates, base, title: frontend.title.clone(), logo, theme, csp })
    }

    pub(crate) fn password(&self, status: StatusCode, page: &PasswordPage<'_>) -> Reply {
        let values = context! {
            page => "Sign in",
            client => page.client,
            post_url => page.post_url,
            back_link => page.back_link,
            csrf => page.csrf,
            username => page.username,
            username_prompt => page.username_prompt,
            problem => page.problem,
            invalid => page.invalid,
        };
        self.render(status, "password.html", values)
    }

    pub(crate) fn login(&self, client: &str, connectors: &[ConnectorChoice]) -> Reply {
        let connectors: Vec<Value> = connectors
            .iter()
            .map(|c| context! { id => c.id.as_str(), name => c.name.as_str(), url => c.url.as_str(), type => c.kind })
            .collect();
        self.render(StatusCode::OK, "login.html", context! { page => "Sign in", client, connectors })
    }

    pub(crate) fn approval(&self, page: &ApprovalPage<'_>) -> Reply {
        let values = context! {
            page => "Allow access?",
            client => page.client,
            user => page.user,
            scopes => page.scopes.to_vec(),
            req => page.req,
            post_url => page.post_url,
        };
        self.render(StatusCode::OK, "approval.html", values)
    }

    pub(crate) fn oob(&self, code: &str) -> Reply {
        self.render(StatusCode::OK, "oob.html", context! { page => "Signed in", code })
    }

    pub(crate) fn home(&self, discovery: &str) -> Reply {
        self.render(StatusCode::OK, "home.html", context! { page => "Home", discovery })
    }

    /// An error page. `message` is Dex's text; `advice` says what the person can do.
    pub(crate) fn error(&self, status: StatusCode, message: &str, advice: &str) -> Reply {
        let err_type = status.canonical_reason().unwrap_or("Error");
        self.render(
            status,
            "error.html",
            context! { page => err_type, problem => message, err_type, err_msg => message, advice },
        )
    }

    fn render(&self, status: StatusCode, name: &str, values: Value) -> Reply {
        let shared = context! {
            base => self.base.as_str(),
            title => self.title.as_str(),
            logo => self.logo.as_str(),
            theme => self.theme,
            assets => assets::version(),
        };
        let page = self.templates.get_template(name).and_then(|t| t.render(context! { ..values, ..shared }));
        let body = match page {
            Ok(page) => Bytes::from(page),
            Err(error) => {
                tracing::error!(%error, template = name, "a page could not be rendered");
                return no_store(crate::http::text(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error\n"));
            }
        };
        let mut reply = no_store(html(status, body));
        let headers = reply.headers_mut();
        headers.insert(header::CONTENT_SECURITY_POLICY, self.csp.clone());
        headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        reply
    }
}

/// Writes a value as text for HTML, fit for elements and quoted attributes. Slashes stay as they are, so that links can
/// be read by programs as simple as those that scrape Dex's pages.
fn escaped(out: &mut Output<'_>, _state: &mut State<'_, '_>, value: &Value) -> Result<(), minijinja::Error> {
    if value.is_undefined() || value.is_none() {
        return Ok(());
    }
    let text = value.to_string();
    let mut rest = text.as_str();
    while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
        let (before, after) = rest.split_at(at);
        out.write_str(before)?;
        let mut after = after.chars();
        out.write_str(match after.next() {
            Some('&') => "&amp;",
            Some('<') => "&lt;",
            Some('>') => "&gt;",
            Some('"') => "&#34;",
            _ => "&#39;",
        })?;
        rest = after.as_str();
    }
    out.write_str(rest)?;
    Ok(())
}

#[cfg(test)]
mod tests;
