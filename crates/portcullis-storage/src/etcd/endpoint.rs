//! An etcd server's address, and connections to it.

use std::{sync::Arc, time::Duration};

use http::uri::Authority;
use hyper_util::rt::{TokioExecutor, TokioIo};
use portcullis_runtime::http_client::{ClientIdentity, HttpClientError, Roots, tls_client_config};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::{TlsConnector, rustls::ClientConfig};

use super::{
    EtcdOpenError, EtcdTls,
    client::RANGE,
    flight::Flight,
    grpc::{self, Call, Connection, Failure},
    wire::{RangeRequest, RangeResponse},
};
use crate::error::Trouble;

/// etcd's own port.
const DEFAULT_PORT: u16 = 2379;
/// Largest certificate or key file, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// One of the servers, with the connection to it.
pub(super) struct Endpoint {
    /// As in messages and in the requests' URLs: scheme, host and port.
    pub(super) origin: String,
    host: String,
    port: u16,
    tls: Option<Arc<EtcdTls>>,
    pub(super) connection: Flight<Connection, Trouble>,
}

impl Endpoint {
    /// Reads `http://host:port`, `https://host:port`, or `host:port`, which is encrypted when TLS is configured at all.
    ///
    /// # Errors
    /// [`EtcdOpenError::Settings`].
    pub(super) fn parse(text: &str, tls: Option<&Arc<EtcdTls>>) -> Result<Self, EtcdOpenError> {
        let wrong = |why: &str| EtcdOpenError::Settings { reason: format!("the endpoint {text:?} {why}") };
        let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
        if rest.contains('@') {
            // Not shown: it may be a password.
            let reason = "an endpoint names a user; use `username` and `password` instead".to_owned();
            return Err(EtcdOpenError::Settings { reason });
        }
        let tls = match scheme {
            "https" => Some(tls.map_or_else(Default::default, Arc::clone)),
            "http" => None,
            "" => tls.map(Arc::clone),
            _ => return Err(wrong("has another scheme than http or https")),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let authority: Authority = authority.parse().map_err(|_| wrong("is not host:port"))?;
        let port = authority.port_u16();
        let named = authority.as_str() != authority.host();
        if authority.host().is_empty() || (named && port.is_none()) || port == Some(0) {
            return Err(wrong("is not host:port"));
        }
        let port = port.unwrap_or(DEFAULT_PORT);
        let scheme = if tls.is_some() { "https" } else { "http" };
        let host = authority.host();
        let origin = format!("{scheme}://{host}:{port}");
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).to_owned();
        Ok(Self { origin, host, port, tls, connection: Flight::new() })
    }

    /// Connects, and has one question answered: a socket that was accepted in the name of a process that is gone, or by
    /// something else than etcd, must not get a write. Certificates are read anew each time, so that renewed ones are used.
    pub(super) async fn dial(self: Arc<Self>, time: Duration) -> Result<Connection, Trouble> {
        let deadline = Instant::now() + time;
        let connect = async {
            let connection = self.connect().await?;
            // A range without a key is refused at once, whoever asks.
            let (frame, origin) = (grpc::frame(&RangeRequest::default()), self.origin.as_str());
            let call = Call { origin, path: RANGE, token: None, frame, deadline };
            match grpc::unary::<RangeResponse>(connection.clone(), call).await {
                Ok(_) | Err(Failure::Status(_)) => Ok(connection),
                Err(Failure::Unsent(trouble) | Failure::Lost(trouble)) => Err(trouble.to_string()),
            }
        };
        match timeout_at(deadline, connect).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(reason)) => Err(Trouble::Other(format!("cannot connect to etcd at {}: {reason}", self.origin))),
            Err(_) => {
                let reason = format!("no connection within {} ms", time.as_millis());
                Err(Trouble::Other(format!("cannot connect to etcd at {}: {reason}", self.origin)))
            }
        }
    }

    async fn connect(&self) -> Result<Connection, String> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(|error| error.to_string())?;
        tcp.set_nodelay(true).map_err(|error| error.to_string())?;
        let Some(tls) = &self.tls else { return speak(tcp).await };
        let config = tls.client_config().await?;
        let name = tls.server_name.as_deref().unwrap_or(&self.host);
        let name = ServerName::try_from(name.to_owned()).map_err(|_| format!("{name:?} is not a server's name"))?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
        speak(stream.map_err(|error| format!("TLS: {error}"))?).await
    }
}

async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) -> Result<Connection, String> {
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(|error| portcullis_runtime::chain(&error))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!("the connection to etcd has ended: {}", portcullis_runtime::chain(&error));
        }
    });
    Ok(sender)
}

impl EtcdTls {
    /// Reads the files.
    pub(super) async fn client_config(&self) -> Result<ClientConfig, String> {
        let roots = match &self.ca_file {
            None => Roots::System,
            Some(file) => {
                Roots::only_pem(&read(file).await?).map_err(|error| format!("{}: {}", file.display(), said(error)))?
            }
        };
        let identity = match &self.client {
            None => None,
            Some(files) => {
                let key = read(&files.key_file).await?;
                let key = String::from_utf8(key).map_err(|_| format!("{} is not PEM", files.key_file.display()))?;
                Some(ClientIdentity { certificate_pem: read(&files.cert_file).await?, key_pem: key.into() })
            }
        };
        let mut config = tls_client_config(roots, identity.as_ref()).map_err(said)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

/// What is wrong with a certificate, without a word about HTTP.
fn said(error: HttpClientError) -> String {
    match error {
        HttpClientError::Config(reason) => reason,
        other => other.to_string(),
    }
}

async fn read(file: &std::path::Path) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("cannot read {}: {error}", file.display());
    let length = tokio::fs::metadata(file).await.map_err(failed)?.len();
    if length > MAX_FILE_BYTES {
        return Err(format!("{} has more than {MAX_FILE_BYTES} bytes", file.display()));
    }
    tokio::fs::read(file).await.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_as_dex_reads_them() {
        let tls = Arc::new(EtcdTls::default());
        for (text, with_tls, origin) in [
            ("http://127.0.0.1:2379", false, "http://127.0.0.1:2379"),
            ("http://127.0.0.1:2379", true, "http://127.0.0.1:2379"),
            ("https://etcd.example:1/", false, "https://etcd.example:1"),
            ("etcd.example:2379", false, "http://etcd.example:2379"),
            ("etcd.example:2379", true, "https://etcd.example:2379"),
            ("[::1]:7", true, "https://[::1]:7"),
            ("etcd", false, "http://etcd:2379"),
        ] {
            let endpoint = Endpoint::parse(text, with_tls.then_some(&tls)).unwrap();
            assert_eq!(endpoint.origin, origin, "{text}");
            assert!(!endpoint.host.contains('['), "{text}");
        }
    }

    #[test]
    fn what_is_not_an_endpoint_is_refused() {
        for text in
            ["", "http://", "unix:///run/etcd.sock", "http://a:b", "http://a:0", "a:", "http://a/b", "a b", "a:70000"]
        {
            assert!(Endpoint::parse(text, None).is_err(), "{text}");
        }
        for text in ["http://root:pw-hidden@a:1", "htps://root:pw-hidden@a:1", "root:pw-hidden@a"] {
            let error = Endpoint::parse(text, None).err().unwrap().to_string();
            assert!(!error.contains("pw-hidden") && error.contains("`username`"), "{error}");
        }
    }
}
