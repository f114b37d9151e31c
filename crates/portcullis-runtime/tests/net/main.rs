//! Listeners, TLS and the HTTP client over real loopback sockets.

#[cfg(test)]
mod client;
#[cfg(test)]
mod configured_root;
#[cfg(test)]
mod context;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod shutdown;
#[cfg(test)]
mod support;
#[cfg(test)]
mod telemetry;
#[cfg(test)]
mod tls;
