//! A client that sends what no HTTP library would, byte for byte, and says what became of the connection.

use std::time::Duration;

use portcullis_testkit::{Leaf, TestCa};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::tls::Connector;

/// For an answer to begin.
const PATIENCE: Duration = Duration::from_secs(15);
/// For a watch to say what it says at once.
const GLANCE: Duration = Duration::from_millis(60);
/// For a watch that says nothing.
const SILENCE: Duration = Duration::from_millis(1_000);
/// For whatever a watch may still say on a busy machine.
const LONG: Duration = Duration::from_secs(4);

/// A harmless request, which shows whether a connection still lives.
const PROBE: &[u8] = b"GET /livez/ping HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: test\r\n\r\n";

/// What is sent behind the head.
#[derive(Debug, Clone)]
pub(super) enum Payload {
    None,
    /// With its length.
    Sized(Vec<u8>),
    /// The whole request, head and all, byte for byte. `ends`: the client sends no more, and so ends its side.
    Wire {
        bytes: Vec<u8>,
        ends: bool,
    },
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

    /// A request byte for byte, or several.
    pub(super) fn wire(stratum: &'static str, bytes: Vec<u8>) -> Self {
        Self { payload: Payload::Wire { bytes, ends: false }, ..Self::new(stratum, "", "") }
    }

    /// Behind which nothing comes.
    pub(super) fn ends(mut self) -> Self {
        if let Payload::Wire { ends, .. } = &mut self.payload {
            *ends = true;
        }
        self
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

    /// Whether the answer may go on and on.
    pub(super) fn watches(&self) -> bool {
        self.method == "GET" && self.target.contains("watch") && !matches!(self.payload, Payload::Wire { .. })
    }

    fn bytes(&self) -> Vec<u8> {
        if let Payload::Wire { bytes, .. } = &self.payload {
            return bytes.clone();
        }
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
            Payload::None | Payload::Wire { .. } => out.extend(b"\r\n"),
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
    connector: Connector,
    stream: Option<TlsStream<TcpStream>>,
}

impl Wire {
    pub(super) fn new(port: u16, ca: &TestCa, leaf: Option<&Leaf>) -> Self {
        Self { connector: Connector::new(port, ca, leaf), stream: None }
    }

    /// Sends a request and reads the answer; then a second, harmless one, to see whether the connection still lives.
    pub(super) async fn ask(&mut self, case: &Case) -> Raw {
        let mut answer = self.exchange(&case.bytes(), &case.method).await;
        if answer.closed || self.stream.is_none() {
            self.stream = None;
            answer.closed = true;
            return answer;
        }
        let probe = self.exchange(PROBE, "GET").await;
        if probe.status != 200 || probe.body != b"ok" {
            self.stream = None;
            answer.closed = true;
        }
        answer
    }

    /// Sends bytes on a connection of their own, and behind them a harmless request or the end; reads whatever comes. The
    /// answers behind the first stand in its body.
    pub(super) async fn transfer(&self, case: &Case) -> Raw {
        let mut stream = self.connector.connect().await;
        let (mut reader, mut writer) = tokio::io::split(&mut stream);
        let ends = matches!(case.payload, Payload::Wire { ends: true, .. });
        let mut request = case.bytes();
        if !ends {
            // Who is nobody may ask for no single check.
            let probe = if case.anonymous {
                String::from_utf8_lossy(PROBE).replace("/ping", "")
            } else {
                String::from_utf8_lossy(PROBE).into_owned()
            };
            request.extend(probe.into_bytes());
        }
        let send = async {
            let sent = writer.write_all(&request).await.is_ok() && writer.flush().await.is_ok();
            if sent && ends {
                let _ = writer.shutdown().await;
            }
            std::future::pending::<()>().await;
        };
        let receive = async {
            let mut bytes = Vec::new();
            loop {
                let mut buffer = vec![0; 16 * 1024];
                match reader.read(&mut buffer).await {
                    Ok(0) | Err(_) => return (answers(&bytes, true), true),
                    Ok(read) => bytes.extend_from_slice(&buffer[..read]),
                }
                let seen = answers(&bytes, false);
                // The probe is the last that is answered.
                if seen.last().is_some_and(|last| last.status == 200 && last.body == b"ok") {
                    return (seen, false);
                }
            }
        };
        let received = tokio::select! {
            received = tokio::time::timeout(PATIENCE, receive) => received,
            () = send => unreachable!(),
        };
        let Ok((mut seen, closed)) = received else { return Raw { status: 1, closed: true, ..Raw::default() } };
        if !closed {
            seen.pop();
        }
        let mut seen = seen.into_iter();
        let mut first = seen.next().unwrap_or_default();
        for further in seen {
            first.body.extend(format!("\n\n{}\n", further.status).into_bytes());
            first.body.extend(further.body);
        }
        first.closed = closed;
        first
    }

    async fn exchange(&mut self, request: &[u8], method: &str) -> Raw {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connector.connect().await,
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

    /// Sends the request of a watch and takes what comes at once; with patience, what comes in seconds.
    pub(super) async fn glance(&self, case: &Case, patient: bool) -> Raw {
        let mut stream = self.connector.connect().await;
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
            if let Some(open) = read_open(&bytes) {
                // The head may be well ahead of the first event on a busy machine.
                wait = match (patient, open.body.is_empty()) {
                    (true, _) => LONG,
                    (false, true) => SILENCE,
                    (false, false) => GLANCE,
                };
            }
        }
    }
}

/// All answers that are there, whole ones unless nothing more comes.
fn answers(mut bytes: &[u8], ended: bool) -> Vec<Raw> {
    let mut out = Vec::new();
    while let Some(answer) = read_answer(bytes, "GET", ended) {
        let (_, rest) = head(bytes).unwrap();
        let body = match answer.header("content-length").parse::<usize>() {
            Ok(length) => length.min(rest.len()),
            Err(_) if answer.header("transfer-encoding") == "chunked" => {
                rest.windows(5).position(|window| window == b"0\r\n\r\n").map_or(rest.len(), |at| at + 5)
            }
            Err(_) if matches!(answer.status, 204 | 304) => 0,
            Err(_) => rest.len(),
        };
        bytes = &rest[body..];
        out.push(answer);
    }
    out
}

fn head(bytes: &[u8]) -> Option<(Raw, &[u8])> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (text, rest) = (String::from_utf8_lossy(&bytes[..end]).into_owned(), &bytes[end + 4..]);
    let mut lines = text.split("\r\n");
    let status: u16 = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    if (100..200).contains(&status) && status != 101 {
        let (mut answer, rest) = head(rest)?;
        answer.headers.push(("interim".to_owned(), status.to_string()));
        return Some((answer, rest));
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
            return (out, after.starts_with(b"\r\n"));
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
