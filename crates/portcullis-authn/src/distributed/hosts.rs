//! Which hosts claims may be fetched from.
//!
//! A signed token names the endpoint, and what the endpoint answers names an issuer, whose keys are then looked for: both are asked by
//! us, so both have to be at a host that the administrator knows. A host is a name with a port, and what is reached there is https.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use portcullis_kube::go::quote;
use url::Url;

use crate::config::JwtConfig;

/// Most hosts of a list.
const MAX_HOSTS: usize = 64;

/// Hosts that claims may be fetched from beside those of the issuer itself. The empty list, which is the default, leaves only those.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClaimHosts(Arc<[Host]>);

impl ClaimHosts {
    /// A list of hosts, each `name` or `name:port`. Without a port it is 443.
    ///
    /// # Errors
    /// [`ClaimHostError`] for what is no such host, and for more than 64 of them.
    pub fn new<'a>(hosts: impl IntoIterator<Item = &'a str>) -> Result<Self, ClaimHostError> {
        let hosts = hosts.into_iter().map(str::parse).collect::<Result<Vec<Host>, _>>()?;
        if hosts.len() > MAX_HOSTS {
            return Err(ClaimHostError::TooMany(hosts.len()));
        }
        Ok(Self(hosts.into()))
    }
}

/// What is no list of hosts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimHostError {
    /// One of them is not a host.
    #[error("{} is no host: write name or name:port, without a scheme or a path", quote(.0))]
    NotAHost(String),
    /// There are too many.
    #[error("{0} hosts, at most {MAX_HOSTS} are taken")]
    TooMany(usize),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    /// As the URL standard writes it: lower case, punycode, brackets around IPv6.
    name: String,
    port: u16,
}

impl Host {
    /// That of an https URL.
    fn of(url: &Url) -> Option<Self> {
        let (name, port) = (url.host_str()?, url.port_or_known_default()?);
        (url.scheme() == "https").then(|| Self { name: name.to_owned(), port })
    }
}

impl FromStr for Host {
    type Err = ClaimHostError;

    fn from_str(text: &str) -> Result<Self, ClaimHostError> {
        let wrong = || ClaimHostError::NotAHost(text.to_owned());
        // What a URL could hold beside a host, and what the URL standard passes over.
        if text.is_empty()
            || text.contains(['/', '\\', '@', '?', '#'])
            || text.contains(|c: char| c.is_whitespace() || c.is_control())
        {
            return Err(wrong());
        }
        Url::parse(&format!("https://{text}")).ok().as_ref().and_then(Self::of).ok_or_else(wrong)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.port)
    }
}

/// Where one issuer's claims may come from.
pub(crate) enum Reach {
    /// Anywhere, as upstream.
    Anywhere,
    /// Https at these.
    Hosts(Vec<Host>),
}

impl Reach {
    /// The issuer's own hosts, that of its document included, and the listed ones.
    pub(crate) fn within(config: &JwtConfig, listed: &ClaimHosts) -> Self {
        let own = [Some(&config.issuer_url), config.discovery_url.as_ref()].into_iter().flatten();
        let own = own.filter_map(|url| Host::of(&Url::parse(url).ok()?));
        Self::Hosts(own.chain(listed.0.iter().cloned()).collect())
    }

    pub(crate) fn allows(&self, url: &Url) -> bool {
        match self {
            Self::Anywhere => true,
            Self::Hosts(hosts) => Host::of(url).is_some_and(|host| hosts.contains(&host)),
        }
    }

    /// The same of an issuer's name.
    pub(crate) fn allows_issuer(&self, issuer: &str) -> bool {
        matches!(self, Self::Anywhere) || Url::parse(issuer).is_ok_and(|url| self.allows(&url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_and_a_port() {
        for (text, want) in [
            ("groups.example", "groups.example:443"),
            ("GROUPS.example:8443", "groups.example:8443"),
            ("bücher.example", "xn--bcher-kva.example:443"),
            ("10.0.0.1:1", "10.0.0.1:1"),
            ("[::1]", "[::1]:443"),
        ] {
            assert_eq!(text.parse::<Host>().map(|host| host.to_string()).as_deref(), Ok(want), "{text}");
        }
        for text in [
            "",
            ":443",
            "https://a.example",
            "a.example/",
            "u@a.example",
            "a b",
            "a.example:x",
            "a.example\n",
            "a?b",
            "a#b",
            "a\\b",
            "::1",
        ] {
            let error = text.parse::<Host>().expect_err(text);
            assert_eq!(error, ClaimHostError::NotAHost(text.to_owned()));
        }
    }

    #[test]
    fn a_list_holds_64_hosts() {
        assert!(ClaimHosts::new(std::iter::repeat_n("a.example", MAX_HOSTS)).is_ok());
        let error = ClaimHosts::new(std::iter::repeat_n("a.example", MAX_HOSTS + 1)).expect_err("too many");
        assert_eq!(error.to_string(), "65 hosts, at most 64 are taken");
    }

    #[test]
    fn only_https_at_the_issuers_own_and_the_listed_hosts_is_within_reach() {
        let config = JwtConfig {
            issuer_url: "https://issuer.example/realm".into(),
            discovery_url: Some("https://inside.example:8443/doc".into()),
            ..JwtConfig::default()
        };
        let reach = Reach::within(&config, &ClaimHosts::new(["groups.example", "other.example:1"]).expect("hosts"));
        for (url, want) in [
            ("https://issuer.example/groups", true),
            ("https://ISSUER.example:443/x?y", true),
            ("https://issuer.example:444/", false),
            ("http://issuer.example/", false),
            ("http://issuer.example:443/", false),
            ("https://inside.example:8443/", true),
            ("https://inside.example/", false),
            ("https://groups.example", true),
            ("https://sub.groups.example", false),
            ("https://groups.example.", false),
            ("https://other.example:1/", true),
            ("https://issuer.example@evil.example/", false),
            ("https://169.254.169.254/", false),
        ] {
            assert_eq!(reach.allows_issuer(url), want, "{url}");
            assert!(Reach::Anywhere.allows_issuer(url));
        }
        assert!(!reach.allows_issuer("no URL") && Reach::Anywhere.allows_issuer("no URL"));
    }
}
