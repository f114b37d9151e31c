//! Binding the local server's address.
//!
//! Compat: the addresses of `--listen-address` are tried in order, the first that binds wins, port 0 takes a free one
//! (int128/listener). Beyond kubelogin: an IPv4 loopback address is bound on `::1` too, because the redirect says
//! `localhost` and browsers try IPv6 first (kubelogin issue #1151). When somebody else holds that port on `::1`, the
//! address counts as busy: the code would be delivered to them.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;
use tokio::net::TcpListener;

use crate::encoding::printable;

/// How often another free port is taken when its twin on `::1` is not free.
const FREE_PORT_TRIES: usize = 8;

/// Most addresses that are tried.
const MAX_ADDRESSES: usize = 64;

/// A port that is ours on every address the browser may try.
#[derive(Debug)]
pub(crate) struct Bound {
    /// One listener, or two for a loopback address.
    pub(crate) listeners: Vec<TcpListener>,
    /// The port of all of them.
    pub(crate) port: u16,
}

/// No address could be bound; one line for each.
#[derive(Debug, Error)]
#[error("no available port: could not listen: {}", .0.join("\n"))]
pub(crate) struct NoAvailablePort(pub(crate) Vec<String>);

/// Binds the first of `addresses` that is free. An empty list means any port on 127.0.0.1.
pub(crate) async fn bind(addresses: &[String]) -> Result<Bound, NoAvailablePort> {
    let any_port = ["127.0.0.1:0".to_owned()];
    let addresses = if addresses.is_empty() { &any_port[..] } else { addresses };
    let mut failures = Vec::new();
    for address in addresses.iter().take(MAX_ADDRESSES) {
        match bind_one(address).await {
            Ok(bound) => return Ok(bound),
            Err(failure) => failures.push(failure),
        }
    }
    Err(NoAvailablePort(failures))
}

async fn bind_one(address: &str) -> Result<Bound, String> {
    let (host, port) = split(address)?;
    let ip = match host {
        "" => return bind_every_interface(port).await,
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        host => match host.parse() {
            Ok(ip) => ip,
            Err(_) => resolve(host, port).await?,
        },
    };
    if ip != IpAddr::V4(Ipv4Addr::LOCALHOST) {
        let listener = listen(SocketAddr::new(ip, port)).await?;
        return bound(vec![listener]);
    }
    let mut tries = if port == 0 { FREE_PORT_TRIES } else { 1 };
    loop {
        let first = listen(SocketAddr::new(ip, port)).await?;
        let taken = first.local_addr().map_err(|error| error.to_string())?.port();
        let twin = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), taken);
        match TcpListener::bind(twin).await {
            Ok(second) => return bound(vec![first, second]),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                tries -= 1;
                if tries == 0 {
                    return Err(failure(twin, &error));
                }
            }
            // No IPv6 on this machine.
            Err(_) => return bound(vec![first]),
        }
    }
}

async fn bind_every_interface(port: u16) -> Result<Bound, String> {
    match TcpListener::bind(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)).await {
        Ok(listener) => bound(vec![listener]),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            Err(format!("listen tcp :{port}: bind: {}", plain_reason(&error)))
        }
        Err(_) => bound(vec![listen(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)).await?]),
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| failure(address, &error))
}

fn failure(address: SocketAddr, error: &io::Error) -> String {
    format!("listen tcp {address}: bind: {}", plain_reason(error))
}

fn bound(listeners: Vec<TcpListener>) -> Result<Bound, String> {
    let port = listeners.first().map_or(Ok(0), |listener| listener.local_addr().map(|address| address.port()));
    Ok(Bound { port: port.map_err(|error| error.to_string())?, listeners })
}

async fn resolve(host: &str, port: u16) -> Result<IpAddr, String> {
    let unknown = || format!("listen tcp: lookup {}: no such host", printable(host, 200));
    let found: Vec<_> = tokio::net::lookup_host((host, port)).await.map_err(|_| unknown())?.collect();
    let preferred = found.iter().find(|address| address.is_ipv4()).or(found.first());
    preferred.map(SocketAddr::ip).ok_or_else(unknown)
}

/// Splits `host:port` and `[v6]:port`.
fn split(address: &str) -> Result<(&str, u16), String> {
    let shown = printable(address, 200);
    let (host, port) =
        address.rsplit_once(':').ok_or_else(|| format!("listen tcp: address {shown}: missing port in address"))?;
    let host = match host.strip_prefix('[') {
        Some(inside) => {
            inside.strip_suffix(']').ok_or_else(|| format!("listen tcp: address {shown}: missing ']' in address"))?
        }
        None if host.contains(':') => return Err(format!("listen tcp: address {shown}: too many colons in address")),
        None => host,
    };
    let port = port.parse().map_err(|_| format!("listen tcp: address {shown}: invalid port"))?;
    Ok((host, port))
}

/// The system's reason in Go's form: lower case, without the number.
pub(crate) fn plain_reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut characters = text.chars();
    characters.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(characters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(addresses: &[&str]) -> Vec<String> {
        addresses.iter().map(|text| (*text).to_owned()).collect()
    }

    #[tokio::test]
    async fn a_loopback_address_is_bound_on_both_families() {
        let bound = bind(&list(&["127.0.0.1:0"])).await.expect("binds");
        for listener in &bound.listeners {
            let address = listener.local_addr().expect("an address");
            assert!(address.ip().is_loopback());
            assert_eq!(address.port(), bound.port);
        }
        if TcpListener::bind("[::1]:0").await.is_ok() {
            assert_eq!(bound.listeners.len(), 2);
        }
        assert_ne!(bind(&[]).await.expect("binds").port, 0);
    }

    #[tokio::test]
    async fn the_first_free_address_wins_and_busy_ones_are_all_named() {
        let holder = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let busy = holder.local_addr().expect("an address").to_string();
        let bound = bind(&list(&[&busy, "127.0.0.1:0"])).await.expect("binds");
        assert_ne!(bound.port, holder.local_addr().expect("an address").port());
        let error = bind(&list(&[&busy, &busy])).await.expect_err("busy").to_string();
        assert_eq!(
            error,
            format!(
                "no available port: could not listen: listen tcp {busy}: bind: address already in use\nlisten tcp {busy}: bind: address already in use"
            )
        );
    }

    #[tokio::test]
    async fn a_port_that_somebody_else_holds_on_ipv6_is_busy() {
        let Ok(holder) = TcpListener::bind("[::1]:0").await else { return };
        let port = holder.local_addr().expect("an address").port();
        let error = bind(&list(&[&format!("127.0.0.1:{port}")])).await.expect_err("busy").to_string();
        assert!(error.contains(&format!("[::1]:{port}")), "{error}");
    }

    #[tokio::test]
    async fn addresses_that_are_none_are_named() {
        for (address, want) in [
            ("8000", "missing port in address"),
            ("127.0.0.1:x", "invalid port"),
            ("127.0.0.1:70000", "invalid port"),
            ("::1:8000", "too many colons"),
            ("[::1:8000", "missing ']'"),
        ] {
            let error = bind(&list(&[address])).await.expect_err(address).to_string();
            assert!(error.contains(want), "{error}");
        }
    }
}
