//! The ports of `up`: taken before anything else is made, because the issuer's name carries one.

use tokio::net::TcpListener;

use crate::ports::{self, Loopback};
use crate::steps::Steps;

use super::error::UpError;
use super::inputs::Inputs;

/// Everything that `up` listens on, all of it on loopback.
pub(crate) struct Listeners {
    issuer: Loopback,
    api: Loopback,
    http: Option<Loopback>,
    telemetry: Option<Loopback>,
}

/// The ports of the provider.
#[derive(Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) https: u16,
    pub(crate) http: Option<u16>,
    pub(crate) telemetry: Option<u16>,
}

impl Listeners {
    /// Binds what the flags and the files ask for; a port that cannot be had moves, with a word.
    pub(crate) fn bind(inputs: &Inputs, steps: &Steps) -> Result<Self, UpError> {
        let bind = |what: &str, port: u16| {
            let bound = ports::bind(port).map_err(|source| UpError::Listen { port, source })?;
            if let Some((wanted, obstacle)) = &bound.moved_from {
                steps.word(&format!("port {wanted} {obstacle}: {what} is on {}", bound.port));
            }
            Ok::<_, UpError>(bound)
        };
        Ok(Self {
            issuer: bind("the provider", inputs.issuer_port())?,
            api: bind("the API server", inputs.api_port())?,
            http: inputs.http_port().map(|port| bind("web.http", port)).transpose()?,
            telemetry: inputs.telemetry_port().map(|port| bind("telemetry.http", port)).transpose()?,
        })
    }

    pub(crate) const fn issuer_port(&self) -> u16 {
        self.issuer.port
    }

    pub(crate) const fn api_port(&self) -> u16 {
        self.api.port
    }

    /// The ports that the provider's configuration names.
    pub(crate) fn ports(&self) -> Ports {
        Ports {
            https: self.issuer.port,
            http: self.http.as_ref().map(|bound| bound.port),
            telemetry: self.telemetry.as_ref().map(|bound| bound.port),
        }
    }

    pub(crate) fn take_issuer(&mut self) -> Result<Vec<TcpListener>, UpError> {
        into_tokio(&mut self.issuer)
    }

    /// The API server is known by its IPv4 address alone, so one listener is enough.
    pub(crate) fn take_api(&mut self) -> Result<TcpListener, UpError> {
        let port = self.api.port;
        let gone = || UpError::Listen { port, source: std::io::ErrorKind::AddrNotAvailable.into() };
        into_tokio(&mut self.api)?.into_iter().next().ok_or_else(gone)
    }

    pub(crate) fn take_http(&mut self) -> Result<Vec<TcpListener>, UpError> {
        self.http.as_mut().map_or_else(|| Ok(Vec::new()), into_tokio)
    }

    pub(crate) fn take_telemetry(&mut self) -> Result<Vec<TcpListener>, UpError> {
        self.telemetry.as_mut().map_or_else(|| Ok(Vec::new()), into_tokio)
    }
}

fn into_tokio(bound: &mut Loopback) -> Result<Vec<TcpListener>, UpError> {
    let port = bound.port;
    std::mem::take(&mut bound.listeners)
        .into_iter()
        .map(|listener| TcpListener::from_std(listener).map_err(|source| UpError::Listen { port, source }))
        .collect()
}
