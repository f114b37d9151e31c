//! `web`: listeners, headers, CORS, the client's address.

use std::path::PathBuf;

use http::{HeaderName, HeaderValue};
use portcullis_runtime::net::Cidr;

use super::raw::RawWeb;
use super::reader::Field;
use super::settings::{ClientRemoteIp, Https, TlsVersion, Web};
use super::validate::{Findings, text};

pub(super) fn validate(raw: &RawWeb, f: &mut Findings<'_>) -> Web {
    for field in [&raw.http, &raw.https].into_iter().flatten() {
        listen_address(field, f);
    }
    let min = if text(raw.tls_min_version.as_ref()) == "1.3" { TlsVersion::V13 } else { TlsVersion::V12 };
    let max = if text(raw.tls_max_version.as_ref()) == "1.2" { TlsVersion::V12 } else { TlsVersion::V13 };
    let https = raw.https.as_ref().filter(|a| !a.value.is_empty()).map(|addr| Https {
        addr: addr.value.clone(),
        cert: PathBuf::from(text(raw.tls_cert.as_ref())),
        key: PathBuf::from(text(raw.tls_key.as_ref())),
        min,
        max,
    });
    let headers = raw
        .headers
        .iter()
        .filter(|(_, field)| !field.value.is_empty())
        .filter_map(|(name, field)| {
            match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&field.value)) {
                (Ok(name), Ok(value)) => Some((name, value)),
                _ => {
                    f.value(&field.place, "not a valid header value", "use one line of ASCII");
                    None
                }
            }
        })
        .collect();
    Web {
        http: raw.http.as_ref().map(|a| a.value.clone()).filter(|a| !a.is_empty()),
        https,
        headers,
        allowed_origins: raw.allowed_origins.as_ref().map(|o| o.value.clone()).unwrap_or_default(),
        allowed_headers: raw
            .allowed_headers
            .as_ref()
            .map_or_else(|| vec!["Authorization".to_owned()], |h| h.value.clone()),
        client_remote_ip: client_remote_ip(raw, f),
    }
}

/// An https issuer without TLS of its own has a proxy in front. Until it is named, it is one address to us.
pub(super) fn notice_unnamed_proxy(raw: &RawWeb, issuer: &str, f: &mut Findings<'_>) {
    let given = |field: &Option<Field<String>>| field.as_ref().is_some_and(|f| !f.value.is_empty());
    if let Some(http) = raw.http.as_ref().filter(|a| !a.value.is_empty())
        && issuer.starts_with("https:")
        && !given(&raw.https)
        && !given(&raw.client_ip_header)
    {
        f.notice(
            &http.place,
            "the issuer is https and only web.http is served, so a proxy stands in front: until web.clientRemoteIP.header \
             and web.clientRemoteIP.trustedProxies name it, everybody behind it counts as one address and shares one limit \
             of sign-in attempts",
            "set the header to what the proxy sends, such as X-Forwarded-For, and list its prefix",
        );
    }
}

/// Go's listen addresses: `host:port`, where the host may be empty.
fn listen_address(field: &Field<String>, f: &mut Findings<'_>) {
    if field.value.is_empty() {
        return;
    }
    let port_ok = field.value.rsplit_once(':').is_some_and(|(host, port)| {
        let bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
        !bare_v6 && port.parse::<u16>().is_ok()
    });
    if !port_ok {
        f.value(
            &field.place,
            format!("{:?} is no address to listen on", field.value),
            "write host:port, such as 127.0.0.1:5556 or [::1]:5556",
        );
    }
}

fn client_remote_ip(raw: &RawWeb, f: &mut Findings<'_>) -> Option<ClientRemoteIp> {
    let mut trusted = Vec::new();
    if let Some(field) = &raw.trusted_proxies {
        for proxy in &field.value {
            match proxy.parse::<Cidr>() {
                Ok(cidr) => trusted.push(cidr),
                Err(error) => f.value(
                    &field.place,
                    format!("failed to parse CIDR: {error}"),
                    "write prefixes such as 10.0.0.0/8 or 192.0.2.1/32",
                ),
            }
        }
    }
    let header = raw.client_ip_header.as_ref().filter(|h| !h.value.is_empty())?;
    if trusted.is_empty() {
        f.notice(
            &header.place,
            "no trustedProxies are given, so the header is ignored",
            "list the proxies' prefixes in web.clientRemoteIP.trustedProxies",
        );
        return None;
    }
    match HeaderName::from_bytes(header.value.as_bytes()) {
        Ok(name) => Some(ClientRemoteIp { header: name, trusted }),
        Err(_) => {
            f.value(&header.place, "not a valid header name", "write a name such as X-Forwarded-For");
            None
        }
    }
}
