//! A client that sends what no HTTP library would, byte for byte, and says what became of the connection.

use std::sync::Arc;
use std::time::Duration;

use portcullis_testkit::{Leaf, TestCa};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// For an answer to begin.
const PATIENCE: Duration = Duration::from_secs(15);
/// For a watch to say what it says at once.
const GLANCE: Duration = Duration::from_millis(60);

/// What is sent behind the head.
#[derive(Debug, Clone)]
pub(super) enum Payload {
    None,
    /// With its length.
    Sized(Vec<u8>),
}

/// A request.
#[derive(Debug, Clone)]
pub(super) struct Case {
    /// What kind of mistake it is: known differences name it.
    pub(super) stratum: &'static str,
    pub(super) method: String,
    pub(super) target: String,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) payload: Payload,
    /// By someone without a certificate.
    pub(super) anonymous: bool,
}

impl Case {
    pub(super) fn new(stratum: &'static str, method: &str, target: impl Into<String>) -> Self {
        let (method, target) = (method.to_owned(), target.into());
        Self { stratum, method, target, headers: Vec::new(), payload: Payload::None, anonymous: false }
    }

    /// From someone without a certificate.
    pub(super) fn nobody(mut self) -> Self {
        self.anonymous = true;
        self
    }

    pub(super) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    pub(super) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.payload = Payload::Sized(body.into());
        self
    }

    /// With a JSON body.
    pub(super) fn json(self, body: impl Into<Vec<u8>>) -> Self {
        self.header("content-type", "application/json").body(body)
    }

    /// Whether the body has that text in it.
    pub(super) fn sends(&self, text: &str) -> bool {
        matches!(&self.payload, Payload::Sized(body) if String::from_utf8_lossy(body).contains(text))
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        let has = |wanted: &str| self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted));
        if !has("host") {
            out.extend(b"host: 127.0.0.1\r\n");
        }
        if !has("user-agent") {
            out.extend(b"user-agent: test\r\n");
        }
        for (name, value) in &self.headers {
            out.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        match &self.payload {
            Payload::None => out.extend(b"\r\n"),
            Payload::Sized(body) => {
                out.extend(format!("content-length: {}\r\n\r\n", body.len()).into_bytes());
                out.extend(body);
            }
        }
        out
    }
}

/// What came back.
#[derive(Debug, Clone, Default)]
pub(super) struct Raw {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// Whether the connection can take no further request.
    pub(super) closed: bool,
}

impl Raw {
    pub(super) fn header(&self, wanted: &str) -> &str {
        self.headers.iter().find(|(name, _)| name == wanted).map_or("", |(_, value)| value)
    }
}

/// One server as one user sees it; the connection is used again as long as it lives.
pub(super) struct Wire {
    port: u16,
    connector: TlsConnector,
    stream: Option<TlsStream<TcpStream>>,
}

impl Wire {
    pub(super) fn new(port: u16, ca: &TestCa, leaf: Option<&Leaf>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(ca.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        let config = match leaf {
            None => builder.with_no_client_auth(),
            Some(leaf) => {
                let chain = vec![CertificateDer::from_pem_slice(leaf.certificate_pem.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        Self { port, connector: TlsConnector::from(Arc::new(config)), stream: None }
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        self.connector.connect(ServerName::try_from("127.0.0.1").unwrap(), stream).await.unwrap()
    }

    /// Sends a request and reads the answer; then a second, harmless one, to see whether the connection still lives.
    pub(super) async fn ask(&mut self, case: &Case) -> Raw {
        let mut answer = self.exchange(&case.bytes(), &case.method).await;
        if answer.closed || self.stream.is_none() {
            self.stream = None;
            answer.closed = true;
            return answer;
        }
        let probe =
            self.exchange(b"GET /livez/ping HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: test\r\n\r\n", "GET").await;
        if probe.status != 200 || probe.body != b"ok" {
            self.stream = None;
            answer.closed = true;
        }
        answer
    }

    async fn exchange(&mut self, request: &[u8], method: &str) -> Raw {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect().await,
        };
        // A server may answer and close before it has taken everything in.
        let (mut reader, mut writer) = tokio::io::split(&mut stream);
        let send = async {
            let sent = writer.write_all(request).await.is_ok() && writer.flush().await.is_ok();
            if !sent {
                std::future::pending::<()>().await;
            }
        };
        let mut bytes = Vec::new();
        let receive = async {
            loop {
                let mut buffer = vec![0; 16 * 1024];
                match reader.read(&mut buffer).await {
                    Ok(0) | Err(_) => return read_answer(&bytes, method, true),
                    Ok(read) => bytes.extend_from_slice(&buffer[..read]),
                }
                if let Some(answer) = read_answer(&bytes, method, false) {
                    return Some(answer);
                }
            }
        };
        let sent_then_forever = async {
            send.await;
            std::future::pending::<()>().await;
        };
        let answered = tokio::select! {
            answered = tokio::time::timeout(PATIENCE, receive) => answered,
            () = sent_then_forever => unreachable!(),
        };
        match answered {
            Ok(Some(answer)) if !answer.closed => {
                self.stream = Some(stream);
                answer
            }
            Ok(Some(answer)) => answer,
            Ok(None) => Raw { closed: true, ..Raw::default() },
            // Nothing within the time: status 1 stands for that.
            Err(_) => Raw { status: 1, closed: true, ..Raw::default() },
        }
    }

    /// Sends the request of a watch and takes what comes at once.
    pub(super) async fn glance(&self, case: &Case) -> Raw {
        let mut stream = self.connect().await;
        stream.write_all(&case.bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let mut bytes = Vec::new();
        let mut wait = PATIENCE;
        loop {
            let mut buffer = vec![0; 16 * 1024];
            match tokio::time::timeout(wait, stream.read(&mut buffer)).await {
                Ok(Ok(0) | Err(_)) => return read_answer(&bytes, &case.method, true).unwrap_or_default(),
                Ok(Ok(read)) => bytes.extend_from_slice(&buffer[..read]),
                Err(_) => return read_open(&bytes).unwrap_or_default(),
            }
            if let Some(answer) = read_answer(&bytes, &case.method, false) {
                return answer;
            }
            if read_open(&bytes).is_some() {
                wait = GLANCE;
            }
        }
    }
}

fn head(bytes: &[u8]) -> Option<(Raw, &[u8])> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (text, rest) = (String::from_utf8_lossy(&bytes[..end]).into_owned(), &bytes[end + 4..]);
    let mut lines = text.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    if (100..200).contains(&status) && status != 101 {
        return head(rest);
    }
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    Some((Raw { status, headers, ..Raw::default() }, rest))
}

/// The whole answer, when it is there.
fn read_answer(bytes: &[u8], method: &str, ended: bool) -> Option<Raw> {
    let (mut answer, rest) = head(bytes)?;
    let close = answer.headers.iter().any(|(name, value)| name == "connection" && value.eq_ignore_ascii_case("close"));
    answer.closed = close || ended || bytes.starts_with(b"HTTP/1.0");
    if method == "HEAD" || matches!(answer.status, 101 | 204 | 304) {
        return Some(answer);
    }
    if answer.header("transfer-encoding") == "chunked" {
        let (body, whole) = dechunk(rest);
        answer.body = body;
        return (whole || ended).then_some(answer);
    }
    match answer.header("content-length").parse::<usize>() {
        Ok(length) if rest.len() >= length => {
            answer.body = rest[..length].to_vec();
            Some(answer)
        }
        Err(_) | Ok(_) if ended => {
            answer.body = rest.to_vec();
            Some(answer)
        }
        _ => None,
    }
}

/// The head and what there is of the body of an answer that goes on.
fn read_open(bytes: &[u8]) -> Option<Raw> {
    let (mut answer, rest) = head(bytes)?;
    answer.body = dechunk(rest).0;
    Some(answer)
}

fn dechunk(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut out = Vec::new();
    while let Some(line) = rest.windows(2).position(|window| window == b"\r\n") {
        let size = std::str::from_utf8(&rest[..line]).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        let Some(size) = size else { return (out, false) };
        let after = &rest[line + 2..];
        if size == 0 {
            return (out, after.ends_with(b"\r\n"));
        }
        if after.len() < size + 2 {
            out.extend(&after[..after.len().min(size)]);
            return (out, false);
        }
        out.extend(&after[..size]);
        rest = &after[size + 2..];
    }
    (out, false)
}
