//! What can go wrong with a request, by blame.

use super::egress::EgressRefused;
use super::{RedirectRefused, causes, proxy::InvalidProxy, root_cause};

/// A request that brought no response. URLs in it carry no query, user or password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpClientError {
    /// The URL cannot be requested.
    #[error("cannot request {url:?}: {reason}")]
    Url {
        /// The URL.
        url: String,
        /// Why.
        reason: String,
    },
    /// A setting of the client cannot be used.
    #[error("HTTP client: {0}")]
    Config(String),
    /// The proxy's address cannot be used.
    #[error(transparent)]
    Proxy(#[from] InvalidProxy),
    /// The egress policy does not admit the address.
    #[error(transparent)]
    Egress(#[from] EgressRefused),
    /// A redirect was not followed: too many, or from https to http.
    #[error("request to {url}: {reason}")]
    Redirect {
        /// The URL that was asked for.
        url: String,
        /// Why.
        reason: String,
    },
    /// The TLS handshake failed, mostly because the certificate is not trusted.
    #[error("request to {url}: TLS: {reason}")]
    Tls {
        /// The URL.
        url: String,
        /// Why, in rustls' words; with a hint for a certificate that names no host.
        reason: String,
        /// Whether the certificate's issuer is not among the trusted roots.
        unknown_issuer: bool,
    },
    /// The name did not resolve, nobody listens there, or no connection was made in time. Nothing was sent.
    #[error("request to {url}: cannot connect: {reason}")]
    Connect {
        /// The URL.
        url: String,
        /// Why.
        reason: String,
    },
    /// No complete response within the time allowed.
    #[error("request to {url}: timed out")]
    Timeout {
        /// The URL.
        url: String,
    },
    /// The response's body is larger than allowed.
    #[error("request to {url}: the response is larger than {limit} bytes")]
    BodyTooLarge {
        /// The URL.
        url: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// The connection broke, or what came was not HTTP.
    #[error("request to {url}: {reason}")]
    Broken {
        /// The URL.
        url: String,
        /// Why.
        reason: String,
    },
}

impl HttpClientError {
    /// Whether the same request may succeed later without anybody changing anything.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Timeout { .. } | Self::Broken { .. })
    }

    /// The time was over before there was a connection.
    pub(super) fn no_connection(url: String) -> Self {
        Self::Connect { url, reason: "no connection in time".to_owned() }
    }

    pub(super) fn from_reqwest(url: &str, error: &reqwest::Error) -> Self {
        let url = url.to_owned();
        for cause in causes(error) {
            if let Some(refused) = cause.downcast_ref::<RedirectRefused>() {
                return match refused {
                    RedirectRefused::Egress(egress) => Self::Egress(egress.clone()),
                    RedirectRefused::TooMany(_) | RedirectRefused::Downgrade(_) => {
                        Self::Redirect { url, reason: refused.to_string() }
                    }
                };
            }
            if let Some(refused) = cause.downcast_ref::<EgressRefused>() {
                return Self::Egress(refused.clone());
            }
            if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
                use rustls::{CertificateError, Error::InvalidCertificate};
                // An authority that was made anew under its old name does not verify what the other one signed.
                let unknown_issuer =
                    matches!(tls, InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature));
                return Self::Tls { url, reason: tls_reason(tls), unknown_issuer };
            }
        }
        let reason = root_cause(error);
        if error.is_timeout() && error.is_connect() {
            Self::no_connection(url)
        } else if error.is_timeout() {
            Self::Timeout { url }
        } else if error.is_builder() {
            Self::Url { url, reason }
        } else if error.is_redirect() {
            Self::Redirect { url, reason }
        } else if error.is_connect() {
            Self::Connect { url, reason }
        } else {
            Self::Broken { url, reason }
        }
    }
}

/// rustls' words, and what to do when the certificate names no host at all.
fn tls_reason(error: &rustls::Error) -> String {
    use rustls::{CertificateError::NotValidForNameContext, Error::InvalidCertificate};
    match error {
        InvalidCertificate(NotValidForNameContext { presented, .. }) if presented.is_empty() => format!(
            "{error}; hint: the certificate has no subjectAltName, and its common name does not count; make one with the \
             server's name (openssl req -x509 -addext subjectAltName=DNS:NAME)"
        ),
        _ => error.to_string(),
    }
}
