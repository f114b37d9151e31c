//! The ports of `up`: taken before anything else is made, because the issuer's name carries one.

use tokio::net::TcpListener;

use crate::ports::{self, Loopback};
use crate::steps::Steps;

use super::error::UpError;
use super::inputs::Inputs;

/// Everything that `up` listens on, all of it on loopback.
pub(crate) struct Listeners {
    /// The provider's, unless it is behind a port-forward.
    provider: Option<OfProvider>,
    /// The port in the issuer's URL: the listener's own, or that of a port-forward.
    issuer_port: u16,
    api: Loopback,
}

struct OfProvider {
    issuer: Loopback,
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

fn bind(what: &str, port: u16, steps: &Steps) -> Result<Loopback, UpError> {
    let bound = ports::bind(port).map_err(|source| UpError::Listen { port, source })?;
    if let Some((wanted, obstacle)) = &bound.moved_from {
        steps.word(&format!("port {wanted} {obstacle}: {what} is on {}", bound.port));
    }
    Ok(bound)
}

impl Listeners {
    /// Binds what the flags and the files ask for; a port that cannot be had moves, with a word.
    pub(crate) fn bind(inputs: &Inputs, steps: &Steps) -> Result<Self, UpError> {
        let issuer = bind("the provider", inputs.issuer_port(), steps)?;
        let issuer_port = issuer.port;
        let api = bind("the API server", inputs.api_port(), steps)?;
        let http = inputs.http_port().map(|port| bind("web.http", port, steps)).transpose()?;
        let telemetry = inputs.telemetry_port().map(|port| bind("telemetry.http", port, steps)).transpose()?;
        Ok(Self { provider: Some(OfProvider { issuer, http, telemetry }), issuer_port, api })
    }

    /// The same for a provider that is behind a port-forward: it listens nowhere on this machine. The issuer's port is where
    /// the port-forward will.
    pub(crate) fn of_the_api_server(inputs: &Inputs, steps: &Steps) -> Result<Self, UpError> {
        let issuer_port = match inputs.issuer_port() {
            0 => ports::bind(0).map_err(|source| UpError::Listen { port: 0, source })?.port,
            port => port,
        };
        Ok(Self { provider: None, issuer_port, api: bind("the API server", inputs.api_port(), steps)? })
    }

    /// The port in the issuer's URL.
    pub(crate) const fn issuer_port(&self) -> u16 {
        self.issuer_port
    }

    pub(crate) const fn api_port(&self) -> u16 {
        self.api.port
    }

    /// The ports that the provider's configuration names.
    pub(crate) fn ports(&self) -> Ports {
        let port = |bound: &Option<Loopback>| bound.as_ref().map(|bound| bound.port);
        Ports {
            https: self.issuer_port,
            http: self.provider.as_ref().and_then(|provider| port(&provider.http)),
            telemetry: self.provider.as_ref().and_then(|provider| port(&provider.telemetry)),
        }
    }

    /// The API server is known by its IPv4 address alone, so one listener is enough.
    pub(crate) fn take_api(&mut self) -> Result<TcpListener, UpError> {
        let port = self.api.port;
        let gone = || UpError::Listen { port, source: std::io::ErrorKind::AddrNotAvailable.into() };
        into_tokio(&mut self.api)?.into_iter().next().ok_or_else(gone)
    }

    /// The provider's listeners: for the issuer, `web.http`, `telemetry.http`.
    pub(crate) fn take_provider(&mut self) -> Result<[Vec<TcpListener>; 3], UpError> {
        let Some(OfProvider { mut issuer, http, telemetry }) = self.provider.take() else {
            return Ok([Vec::new(), Vec::new(), Vec::new()]);
        };
        let optional =
            |bound: Option<Loopback>| bound.map_or_else(|| Ok(Vec::new()), |mut bound| into_tokio(&mut bound));
        Ok([into_tokio(&mut issuer)?, optional(http)?, optional(telemetry)?])
    }
}

fn into_tokio(bound: &mut Loopback) -> Result<Vec<TcpListener>, UpError> {
    let port = bound.port;
    std::mem::take(&mut bound.listeners)
        .into_iter()
        .map(|listener| TcpListener::from_std(listener).map_err(|source| UpError::Listen { port, source }))
        .collect()
}
