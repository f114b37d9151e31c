//! Asking a part through its own socket whether it is well.
//!
//! Compat: the words are those of a kubelet's HTTP and TCP probes (`pkg/probe/http`, `pkg/probe/tcp`).

use std::net::Ipv4Addr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bytes of an answer that are looked at.
const HEAD: usize = 1024;

/// Connects to a port of this machine.
pub(crate) async fn connect(port: u16) -> Result<TcpStream, String> {
    let connected = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
    connected.map_err(|error| format!("dial tcp 127.0.0.1:{port}: connect: {}", error.kind()))
}

/// Sends a plain GET; any answer below 400 is good.
pub(crate) async fn http<T>(stream: T, port: u16, path: &str) -> Result<(), String>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    match ask(stream, port, path).await? {
        200..400 => Ok(()),
        status => Err(format!("HTTP probe failed with statuscode: {status}")),
    }
}

/// Sends a plain GET; any answer at all is good.
pub(crate) async fn any_http<T>(stream: T, port: u16) -> Result<(), String>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    ask(stream, port, "/").await.map(drop)
}

async fn ask<T>(mut stream: T, port: u16, path: &str) -> Result<u16, String>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let broken = |error: std::io::Error| format!("Get \"http://localhost:{port}{path}\": {}", error.kind());
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nUser-Agent: kube-probe/1.37\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    let mut head = Vec::new();
    while head.len() < HEAD && !head.contains(&b'\n') {
        if stream.read_buf(&mut head).await.map_err(broken)? == 0 {
            break;
        }
    }
    let line = String::from_utf8_lossy(&head);
    let status = line.split(' ').nth(1).and_then(|status| status.get(..3)?.parse().ok());
    status.ok_or_else(|| format!("Get \"http://localhost:{port}{path}\": EOF"))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answered(answer: &'static [u8]) -> Result<(), String> {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        let answering = tokio::spawn(async move {
            let mut request = [0; 4];
            theirs.read_exact(&mut request).await.unwrap();
            theirs.write_all(answer).await.unwrap();
        });
        let result = http(ours, 1, "/healthz").await;
        answering.await.unwrap();
        result
    }

    #[tokio::test]
    async fn an_answer_decides() {
        assert_eq!(answered(b"HTTP/1.1 200 OK\r\n\r\n").await, Ok(()));
        let failed = answered(b"HTTP/1.1 500 Internal Server Error\r\n\r\n").await;
        assert_eq!(failed, Err("HTTP probe failed with statuscode: 500".to_owned()));
        for silence in [&b""[..], b"nonsense\n", b"HTTP/1.1 \xff\xff\xff\r\n"] {
            assert_eq!(answered(silence).await, Err("Get \"http://localhost:1/healthz\": EOF".to_owned()));
        }
    }
}
