//! Proxies as Go's tools choose them: `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, handed in as values.
//!
//! Compat: golang.org/x/net/http/httpproxy. An http URL uses the first, an https URL the second; `localhost` and
//! loopback addresses are never proxied; `NO_PROXY` holds names (which cover their subdomains; a leading dot or `*.`
//! only those), addresses, prefixes, each with an optional port, or `*`.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use url::{Host, Url};

use crate::net::{self, Cidr};

/// Most `NO_PROXY` entries that are read.
const ENTRIES: usize = 1024;

/// The values of the proxy variables (upper case before lower case, as Go does; the caller reads them).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ProxyFromEnv {
    /// `HTTP_PROXY`: the proxy of http URLs.
    pub http: Option<String>,
    /// `HTTPS_PROXY`: the proxy of https URLs.
    pub https: Option<String>,
    /// `NO_PROXY`: what is reached without a proxy.
    pub no: Option<String>,
}

/// A proxy's address cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid proxy address in {variable}: {reason}")]
pub struct InvalidProxy {
    /// The variable that holds it.
    pub variable: &'static str,
    /// Why; never the address itself, which may hold a password.
    pub reason: String,
}

impl ProxyFromEnv {
    /// Reads the values through `lookup`, which is given variable names.
    #[must_use]
    pub fn read(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let either = |upper: &str, lower: &str| {
            lookup(upper).filter(|v| !v.is_empty()).or_else(|| lookup(lower).filter(|v| !v.is_empty()))
        };
        Self {
            http: either("HTTP_PROXY", "http_proxy"),
            https: either("HTTPS_PROXY", "https_proxy"),
            no: either("NO_PROXY", "no_proxy"),
        }
    }

    pub(super) fn compile(&self) -> Result<Option<Arc<ProxyRules>>, InvalidProxy> {
        let http = parse_proxy("HTTP_PROXY", self.http.as_deref())?;
        let https = parse_proxy("HTTPS_PROXY", self.https.as_deref())?;
        if http.is_none() && https.is_none() {
            return Ok(None);
        }
        let exceptions =
            self.no.as_deref().unwrap_or_default().split(',').take(ENTRIES).filter_map(Exception::parse).collect();
        Ok(Some(Arc::new(ProxyRules { http, https, exceptions })))
    }
}

impl fmt::Debug for ProxyFromEnv {
    /// Shows which are set; proxy addresses may hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyFromEnv")
            .field("http", &self.http.is_some())
            .field("https", &self.https.is_some())
            .field("no", &self.no)
            .finish()
    }
}

fn parse_proxy(variable: &'static str, value: Option<&str>) -> Result<Option<Url>, InvalidProxy> {
    let Some(value) = value.map(str::trim).filter(|value| !value.is_empty()) else { return Ok(None) };
    let usable = |url: &Url| matches!(url.scheme(), "http" | "https" | "socks5" | "socks5h") && url.has_host();
    Url::parse(value)
        .ok()
        .filter(usable)
        .or_else(|| {
            Some(value)
                .filter(|v| !v.contains("://"))
                .and_then(|v| Url::parse(&format!("http://{v}")).ok())
                .filter(usable)
        })
        .map(Some)
        .ok_or_else(|| InvalidProxy { variable, reason: "want a URL such as http://host:port".to_owned() })
}

/// Which proxy a URL is requested through.
pub(super) struct ProxyRules {
    http: Option<Url>,
    https: Option<Url>,
    exceptions: Vec<Exception>,
}

impl ProxyRules {
    pub(super) fn proxy_for(&self, url: &Url) -> Option<&Url> {
        let proxy = match url.scheme() {
            "https" => self.https.as_ref(),
            "http" => self.http.as_ref(),
            _ => None,
        }?;
        let port = url.port_or_known_default();
        let direct = match url.host()? {
            Host::Domain(name) => {
                let name = name.trim().to_ascii_lowercase();
                name == "localhost" || self.exceptions.iter().any(|exception| exception.covers_name(&name, port))
            }
            Host::Ipv4(ip) => self.direct_ip(IpAddr::V4(ip), port),
            Host::Ipv6(ip) => self.direct_ip(IpAddr::V6(ip), port),
        };
        if direct { None } else { Some(proxy) }
    }

    fn direct_ip(&self, ip: IpAddr, port: Option<u16>) -> bool {
        net::is_loopback(ip) || self.exceptions.iter().any(|exception| exception.covers_ip(ip, port))
    }
}

/// One entry of `NO_PROXY`.
enum Exception {
    All,
    Prefix(Cidr),
    Address {
        ip: IpAddr,
        port: Option<String>,
    },
    /// `suffix` starts with a dot; `itself` says that the name without the dot is meant too.
    Name {
        suffix: String,
        itself: bool,
        port: Option<String>,
    },
}

impl Exception {
    fn parse(entry: &str) -> Option<Self> {
        let entry = entry.trim().to_ascii_lowercase();
        if entry.is_empty() {
            return None;
        }
        if entry == "*" {
            return Some(Self::All);
        }
        if let Ok(prefix) = entry.parse() {
            return Some(Self::Prefix(prefix));
        }
        let (host, port) = split_port(&entry);
        let host = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return None;
        }
        let port = port.map(str::to_owned);
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Some(Self::Address { ip: ip.to_canonical(), port });
        }
        let host = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
        Some(if host.starts_with('.') {
            Self::Name { suffix: host.to_owned(), itself: false, port }
        } else {
            Self::Name { suffix: format!(".{host}"), itself: true, port }
        })
    }

    fn covers_name(&self, name: &str, port: Option<u16>) -> bool {
        match self {
            Self::All => true,
            Self::Name { suffix, itself, port: wanted } => {
                (name.ends_with(suffix) || (*itself && suffix.strip_prefix('.') == Some(name)))
                    && same_port(wanted.as_deref(), port)
            }
            Self::Prefix(_) | Self::Address { .. } => false,
        }
    }

    fn covers_ip(&self, ip: IpAddr, port: Option<u16>) -> bool {
        match self {
            Self::All => true,
            Self::Prefix(prefix) => prefix.contains(ip),
            Self::Address { ip: wanted, port: wanted_port } => {
                *wanted == ip.to_canonical() && same_port(wanted_port.as_deref(), port)
            }
            Self::Name { .. } => false,
        }
    }
}

/// Splits `host:port` and `[v6]:port`; a bare IPv6 address has no port.
fn split_port(entry: &str) -> (&str, Option<&str>) {
    match entry.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            (host, Some(port).filter(|port| !port.is_empty()))
        }
        _ => (entry, None),
    }
}

fn same_port(wanted: Option<&str>, port: Option<u16>) -> bool {
    match (wanted, port) {
        (None, _) => true,
        (Some(wanted), Some(port)) => wanted == port.to_string(),
        (Some(_), None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(no: &str, url: &str) -> Option<String> {
        let env = ProxyFromEnv {
            http: Some("plain.example:3128".into()),
            https: Some("http://tls.example:3129".into()),
            no: Some(no.into()),
        };
        env.compile()
            .unwrap()
            .unwrap()
            .proxy_for(&Url::parse(url).unwrap())
            .map(|proxy| proxy.host_str().unwrap().to_owned())
    }

    #[test]
    fn the_scheme_chooses_the_proxy() {
        assert_eq!(uses("", "http://a.example/").as_deref(), Some("plain.example"));
        assert_eq!(uses("", "https://a.example/").as_deref(), Some("tls.example"));
    }

    #[test]
    fn loopback_is_never_proxied() {
        for url in [
            "http://localhost/",
            "https://localhost:8443/",
            "http://127.0.0.1/",
            "http://127.8.8.8/",
            "http://[::1]:5/",
            "http://[::ffff:127.0.0.1]/",
        ] {
            assert_eq!(uses("", url), None, "{url}");
        }
    }

    #[test]
    fn exceptions_match_as_in_go() {
        for (no, url, proxied) in [
            ("*", "http://a.example/", false),
            ("a.example", "http://a.example/", false),
            ("a.example", "http://b.a.example/", false),
            ("a.example", "http://aa.example/", true),
            (".a.example", "http://a.example/", true),
            (".a.example", "http://b.a.example/", false),
            ("*.a.example", "http://b.a.example/", false),
            ("*.a.example", "http://a.example/", true),
            ("A.Example ", "http://a.example/", false),
            ("x, a.example", "http://a.example/", false),
            ("a.example:80", "http://a.example/", false),
            ("a.example:443", "https://a.example/", false),
            ("a.example:8080", "http://a.example/", true),
            ("192.0.2.1", "http://192.0.2.1/", false),
            ("192.0.2.1:80", "http://192.0.2.1:81/", true),
            ("192.0.2.0/24", "http://192.0.2.77/", false),
            ("192.0.2.0/24", "http://192.0.3.1/", true),
            ("2001:db8::1", "http://[2001:db8::1]/", false),
            ("[2001:db8::1]:80", "http://[2001:db8::1]/", false),
            ("[2001:db8::1]:81", "http://[2001:db8::1]/", true),
            (":80", "http://a.example/", true),
            (",,", "http://a.example/", true),
        ] {
            assert_eq!(uses(no, url).is_some(), proxied, "{no:?} {url}");
        }
    }

    #[test]
    fn a_bad_proxy_address_is_refused_without_showing_it() {
        let env = ProxyFromEnv { https: Some("http://user:pa ss@[bad".into()), ..ProxyFromEnv::default() };
        let error = env.compile().err().unwrap();
        assert_eq!(error.variable, "HTTPS_PROXY");
        assert!(!error.to_string().contains("pa ss") && !format!("{env:?}").contains("pa ss"));
        assert!(ProxyFromEnv { http: Some(" ".into()), ..ProxyFromEnv::default() }.compile().unwrap().is_none());
    }

    #[test]
    fn upper_case_variables_win() {
        let env = ProxyFromEnv::read(|name| match name {
            "HTTP_PROXY" => Some(String::new()),
            "http_proxy" => Some("low".into()),
            "HTTPS_PROXY" => Some("up".into()),
            "https_proxy" => Some("down".into()),
            _ => None,
        });
        assert_eq!(env, ProxyFromEnv { http: Some("low".into()), https: Some("up".into()), no: None });
    }
}
