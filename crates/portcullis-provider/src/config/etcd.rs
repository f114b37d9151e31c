//! `storage` of type `etcd`, with Dex's keys.
//!
//! Compat: dex.md 4.4. TLS is spoken to `https` endpoints, and to those without a scheme when `ssl` says anything; user
//! and password count only together (etcd's client).

use std::path::PathBuf;

use portcullis_runtime::Secret;
use portcullis_storage::{EtcdClientCertificate, EtcdCredentials, EtcdOptions, EtcdTls};

use super::problem::Place;
use super::raw::RawEtcd;
use super::reader::{Field, Keys, Reader};
use super::settings::Storage;
use super::validate::{Findings, text};

/// Reads `storage.config`.
pub(super) fn read<'a>(r: &mut Reader<'a>, storage: &Keys<'a>) -> RawEtcd {
    let Some(k) = r.sub(storage, "config", &["endpoints", "namespace", "username", "password", "ssl"]) else {
        return RawEtcd::default();
    };
    let mut raw = RawEtcd {
        endpoints: r.strings(&k, "endpoints"),
        namespace: r.string(&k, "namespace"),
        username: r.string(&k, "username"),
        password: r.string(&k, "password").map(|field| field.map(Secret::from)),
        ..RawEtcd::default()
    };
    if let Some(ssl) = r.sub(&k, "ssl", &["serverName", "caFile", "keyFile", "certFile"]) {
        raw.server_name = r.string(&ssl, "serverName");
        raw.ca_file = r.string(&ssl, "caFile");
        raw.key_file = r.string(&ssl, "keyFile");
        raw.cert_file = r.string(&ssl, "certFile");
    }
    raw
}

/// Checks it. `place` is that of the type.
pub(super) fn storage(place: &Place, raw: &RawEtcd, f: &mut Findings<'_>) -> Option<Storage> {
    let place = raw.endpoints.as_ref().map_or(place, |field| &field.place);
    let endpoints: Vec<String> = raw.endpoints.iter().flat_map(|field| &field.value).map(|e| f.expand(e)).collect();
    if endpoints.is_empty() {
        f.value(
            place,
            "etcdclient: no available endpoints",
            "list etcd's servers in storage.config.endpoints, such as https://etcd:2379",
        );
        return None;
    }
    let tls = tls(raw, f)?;
    let tls = (tls != EtcdTls::default()).then_some(tls);
    if tls.is_some() && endpoints.iter().any(|endpoint| endpoint.starts_with("http://")) {
        f.notice(place, "connections to http:// endpoints are not encrypted, whatever `ssl` says", "write https://");
    }
    let options = EtcdOptions {
        endpoints,
        namespace: f.expand(text(raw.namespace.as_ref())),
        credentials: credentials(raw, f),
        tls,
        ..EtcdOptions::default()
    };
    match options.check() {
        Ok(()) => Some(Storage::Etcd(Box::new(options))),
        Err(error) => {
            f.value(place, error.to_string(), "");
            None
        }
    }
}

/// What `ssl` says, which may be nothing; `None` after a finding.
fn tls(raw: &RawEtcd, f: &mut Findings<'_>) -> Option<EtcdTls> {
    let expanded = |field: Option<&Field<String>>| Some(f.expand(text(field))).filter(|text| !text.is_empty());
    let server_name = expanded(raw.server_name.as_ref());
    let ca_file = expanded(raw.ca_file.as_ref()).map(PathBuf::from);
    let cert_file = expanded(raw.cert_file.as_ref()).map(PathBuf::from);
    let key_file = expanded(raw.key_file.as_ref()).map(PathBuf::from);
    let client = match (cert_file, key_file) {
        (None, None) => None,
        (Some(cert_file), Some(key_file)) => Some(EtcdClientCertificate { cert_file, key_file }),
        (cert_file, key_file) => {
            let half = raw.cert_file.as_ref().or(raw.key_file.as_ref()).map(|field| field.place.clone());
            let place = half.unwrap_or_else(|| f.whole_file());
            let (key, cert) = (key_file.is_some(), cert_file.is_some());
            f.value(
                &place,
                format!("KeyFile and CertFile must both be present[key: {key}, cert: {cert}]"),
                "name both `certFile` and `keyFile`, or neither",
            );
            return None;
        }
    };
    Some(EtcdTls { server_name, ca_file, client })
}

fn credentials(raw: &RawEtcd, f: &mut Findings<'_>) -> Option<EtcdCredentials> {
    let username = f.expand(text(raw.username.as_ref()));
    let password = Secret::new(f.expand(raw.password.as_ref().map_or("", |field| field.value.expose())));
    if username.is_empty() != password.is_empty() {
        let half = raw.username.as_ref().map(|field| &field.place).or(raw.password.as_ref().map(|field| &field.place));
        let place = half.cloned().unwrap_or_else(|| f.whole_file());
        f.notice(&place, "`username` and `password` count only together; nobody signs in to etcd", "give both");
    }
    (!username.is_empty() && !password.is_empty()).then_some(EtcdCredentials { username, password })
}
