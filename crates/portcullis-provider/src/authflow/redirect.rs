//! Redirect URIs: which are registered, and how parameters are added to them.
//!
//! RFC 9700 section 2.1: compared byte by byte, except for public clients without registered URIs, which Dex lets use
//! any port and path of this machine.

use std::net::IpAddr;

use portcullis_oidc::vocabulary::ErrorCode;
use portcullis_storage::Client;

use crate::http::{Reply, encode_pairs, redirect};

/// The URI of clients that cannot be redirected to: the code is shown on a page.
pub(crate) const OUT_OF_BAND: &str = "urn:ietf:wg:oauth:2.0:oob";

/// Whether `uri` belongs to the client.
///
/// Compat: Dex `validateRedirectURI`.
pub(crate) fn is_registered(client: &Client, uri: &str) -> bool {
    if uri.is_empty() {
        return false;
    }
    if client.redirect_uris.iter().any(|u| u == uri) {
        return true;
    }
    if !client.public || !client.redirect_uris.is_empty() {
        return false;
    }
    uri == OUT_OF_BAND || is_loopback_http(uri)
}

/// `http://` + localhost or a loopback address, with any port and path. Read by hand and narrowly, because browsers and
/// libraries read odd URIs differently (`http://localhost\@evil.example`).
fn is_loopback_http(uri: &str) -> bool {
    let Some(rest) = uri.strip_prefix("http://") else { return false };
    if !uri.bytes().all(|b| b.is_ascii_graphic()) || uri.contains(['\\', '#', '"', '<', '>', '^', '`', '{', '|', '}']) {
        return false;
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let (host, port) = match authority.strip_prefix('[') {
        Some(v6) => match v6.split_once(']') {
            Some((host, "")) => (host, None),
            Some((host, rest)) => match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None => return false,
            },
            None => return false,
        },
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    local && port.is_none_or(|p| p.is_empty() || (p.bytes().all(|b| b.is_ascii_digit()) && p.parse::<u16>().is_ok()))
}

/// `uri` with more parameters in its query; what is there stays as it is.
pub(crate) fn with_query(uri: &str, pairs: &[(&str, &str)]) -> String {
    let (before, fragment) = uri.split_once('#').map_or((uri, None), |(b, f)| (b, Some(f)));
    let separator = match before.split_once('?') {
        None => "?",
        Some((_, "")) => "",
        Some((_, query)) if query.ends_with('&') => "",
        Some(_) => "&",
    };
    let fragment = fragment.map(|f| format!("#{f}")).unwrap_or_default();
    format!("{before}{separator}{}{fragment}", encode_pairs(pairs))
}

/// An error for the client, sent through the browser (RFC 6749 section 4.1.2.1). With `iss` (RFC 9207), so that a client
/// of several providers knows which one answers.
pub(crate) struct ErrorRedirect {
    pub(crate) redirect_uri: String,
    pub(crate) state: String,
    pub(crate) issuer: String,
    pub(crate) code: ErrorCode,
    pub(crate) description: String,
}

impl ErrorRedirect {
    /// The redirect; `None` when the registered URI cannot be a location, such as the out-of-band one.
    pub(crate) fn reply(&self) -> Option<Reply> {
        if self.redirect_uri == OUT_OF_BAND {
            return None;
        }
        let mut pairs = Vec::new();
        if !self.state.is_empty() {
            pairs.push(("state", self.state.as_str()));
        }
        pairs.push(("error", self.code.as_str()));
        if !self.description.is_empty() {
            pairs.push(("error_description", self.description.as_str()));
        }
        pairs.push(("iss", &self.issuer));
        redirect(&with_query(&self.redirect_uri, &pairs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(public: bool, uris: &[&str]) -> Client {
        Client { public, redirect_uris: uris.iter().map(|u| (*u).to_owned()).collect(), ..Client::default() }
    }

    #[test]
    fn a_public_client_without_uris_may_use_this_machine() {
        let client = client(true, &[]);
        for good in [
            "urn:ietf:wg:oauth:2.0:oob",
            "http://localhost",
            "http://localhost/",
            "http://localhost:8000",
            "http://localhost:8000/a/b?c=d",
            "http://127.0.0.1",
            "http://127.0.0.1:9/x",
            "http://127.9.9.9/",
            "http://[::1]",
            "http://[::1]:8000/x",
            "http://localhost:/x",
        ] {
            assert!(is_registered(&client, good), "{good}");
        }
        for bad in [
            "",
            "http://foo.com/bar",
            "http://localhost.localhost:8080/",
            "https://localhost/",
            "http://localhost@evil.example/",
            "http://localhost:80@evil.example/",
            "http://localhost\\@evil.example/",
            "http://evil.example#localhost",
            "http://localhost#x",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://localhost:99999/",
            "http://localhost:8a/",
            "http://[::1",
            "http://[::1]x/",
            "http://[::2]/",
            "http:///x",
            "http://",
            "HTTP://localhost/",
            "http://LOCALHOST/",
            "http://localhost /",
            "http://localhost/\r\nX: y",
            "javascript:alert(1)",
            "/device/callback",
            "http://192.168.0.1/",
            "http://localhost.evil/",
            "http://\u{ff4c}ocalhost/",
        ] {
            assert!(!is_registered(&client, bad), "{bad:?}");
        }
    }

    #[test]
    fn listed_uris_are_compared_byte_by_byte() {
        let listed = "https://app.example/cb";
        for public in [true, false] {
            let client = client(public, &[listed]);
            assert!(is_registered(&client, listed));
            for bad in [
                "https://app.example/cb/",
                "https://app.example/cb?x",
                "https://APP.example/cb",
                "https://app.example/c%62",
                "http://localhost/",
                OUT_OF_BAND,
                "",
            ] {
                assert!(!is_registered(&client, bad), "{bad}");
            }
        }
        assert!(!is_registered(&client(false, &[]), "http://localhost/"));
    }

    #[test]
    fn parameters_are_added_and_what_is_there_stays() {
        for (uri, want) in [
            ("http://localhost:8000", "http://localhost:8000?code=a+b&iss=x"),
            ("https://a/cb?q=%20&", "https://a/cb?q=%20&code=a+b&iss=x"),
            ("https://a/cb?q=1", "https://a/cb?q=1&code=a+b&iss=x"),
            ("https://a/cb?", "https://a/cb?code=a+b&iss=x"),
            ("com.app:/cb#f", "com.app:/cb?code=a+b&iss=x#f"),
        ] {
            assert_eq!(with_query(uri, &[("code", "a b"), ("iss", "x")]), want);
        }
    }

    #[test]
    fn an_error_that_cannot_be_a_redirect_is_none() {
        let error = |uri: &str| ErrorRedirect {
            redirect_uri: uri.to_owned(),
            state: "s".to_owned(),
            issuer: "i".to_owned(),
            code: ErrorCode::InvalidScope,
            description: String::new(),
        };
        assert!(error(OUT_OF_BAND).reply().is_none());
        assert!(error("https://a/\r\n").reply().is_none());
        assert_eq!(
            error("https://a/").reply().unwrap().headers()["location"],
            "https://a/?state=s&error=invalid_scope&iss=i"
        );
    }
}
