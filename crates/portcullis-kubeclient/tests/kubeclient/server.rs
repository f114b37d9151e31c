//! An HTTP server that answers each request as its script says, and remembers what it was asked.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};

use portcullis_kubeclient::{Access, Client};
use portcullis_runtime::Rng;
use portcullis_runtime::http_client::ProxyFromEnv;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What happens to a request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// These bytes are sent; the connection stays.
    Bytes(String),
    /// These bytes are sent, and the connection ends.
    Broken(String),
    /// The connection ends.
    Close,
    /// Nothing comes.
    Hang,
}

impl Answer {
    pub(crate) fn new(status: u16, headers: &str, body: &str) -> Self {
        let length = body.len();
        Self::Bytes(format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n{headers}\r\n{body}"))
    }

    pub(crate) fn ok(body: &str) -> Self {
        Self::new(200, "", body)
    }
}

/// The server; it ends with the test's runtime.
pub(crate) struct Server {
    pub(crate) port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(crate) async fn start(script: impl IntoIterator<Item = Answer>) -> Self {
        Self::at("127.0.0.1:0", script).await
    }

    pub(crate) async fn at(address: &str, script: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let script = Arc::new(Mutex::new(script.into_iter().collect()));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let server = Self { port, asked: Arc::clone(&asked) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&script), Arc::clone(&asked)));
            }
        });
        server
    }

    /// The requests so far: head and body of each.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// A client whose user has these members of a kubeconfig.
    pub(crate) async fn client(&self, user: &str, folder: &Path) -> Client {
        client_of(self.port, user, folder).await
    }
}

pub(crate) async fn client_of(port: u16, user: &str, folder: &Path) -> Client {
    client_at(&format!("http://127.0.0.1:{port}"), user, folder).await
}

pub(crate) async fn client_at(server: &str, user: &str, folder: &Path) -> Client {
    let path = folder.join("kubeconfig");
    let text = format!(
        "contexts:\n- name: c\n  context: {{cluster: k, user: u, namespace: ns}}\n\
         clusters:\n- name: k\n  cluster: {{server: '{server}'}}\nusers:\n- name: u\n  user: {{{user}}}\n"
    );
    std::fs::write(&path, text).unwrap();
    Client::new(Access::kubeconfig(&path, ProxyFromEnv::default()).await.unwrap(), Rng::seeded(1)).unwrap()
}

async fn serve(mut stream: TcpStream, script: Arc<Mutex<VecDeque<Answer>>>, asked: Arc<Mutex<Vec<String>>>) {
    loop {
        let Some(request) = read(&mut stream).await else { return };
        asked.lock().unwrap().push(request);
        let answer = script.lock().unwrap().pop_front().unwrap_or(Answer::Close);
        match answer {
            Answer::Bytes(bytes) => {
                if stream.write_all(bytes.as_bytes()).await.is_err() {
                    return;
                }
            }
            Answer::Broken(bytes) => {
                let _ = stream.write_all(bytes.as_bytes()).await;
                return;
            }
            Answer::Close => return,
            Answer::Hang => std::future::pending().await,
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
            if body.len() >= length.parse().unwrap() {
                return Some(text);
            }
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&chunk[..read]),
        }
    }
}
