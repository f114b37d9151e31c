//! Hundreds of hostile requests at a time cost the dev API server a bounded amount of memory, none of them hangs, and whoever
//! behaves is served meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Method;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::clients::Server;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// Connections of each sort at a time.
const EACH: usize = 24;
/// For the last of a sort to be over: the server gives a body 30 s, and up to 64 bodies are taken in at a time.
const PATIENCE: Duration = Duration::from_secs(170);
const MIB: u64 = 1024 * 1024;
/// The largest body.
const BODY: usize = 3 * 1024 * 1024;

/// What the requests may add to the process' memory at most.
///
/// 64 bodies are held at a time. A declared one takes its 3 MiB; one that comes in chunks is kept in a buffer that doubles,
/// so 4 MiB. A connection keeps a head of at most 64 KiB, which hyper may have twice while it grows, and two TLS buffers of
/// 16 KiB. What a body says becomes a tree on one of the threads at a time, one for each processor: 200,000 values of at most
/// 500 bytes each, and once more while it takes its kind's shape.
fn bound(connections: usize) -> u64 {
    let processors = std::thread::available_parallelism().unwrap().get() as u64;
    64 * 4 * MIB + connections as u64 * 160 * 1024 + processors * 2 * 100 * MIB
}

/// One sort of hostile request, and what may come of it: 0 is a connection that is closed without a word.
struct Hostile {
    what: &'static str,
    request: Vec<u8>,
    then: Then,
    allowed: &'static [u16],
}

/// What the client does when its request is sent.
enum Then {
    /// Waits for the answer.
    Wait,
    /// Sends this again and again until it is refused.
    More(Vec<u8>),
}

fn request(method: &str, path: &str, headers: &[String], body: &[u8]) -> Vec<u8> {
    let mut out = format!("{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n").into_bytes();
    for header in headers {
        out.extend(format!("{header}\r\n").into_bytes());
    }
    out.extend(b"\r\n");
    out.extend(body);
    out
}

/// A body with its type and length.
fn sized(method: &str, path: &str, media_type: &str, body: &[u8]) -> Vec<u8> {
    let headers = [format!("content-type: {media_type}"), format!("content-length: {}", body.len())];
    request(method, path, &headers, body)
}

fn chunks(rest: &[u8]) -> Vec<u8> {
    let headers = ["content-type: application/json".to_owned(), "transfer-encoding: chunked".to_owned()];
    request("POST", MAPS, &headers, rest)
}

/// As often as it fits into a body, between two texts.
fn filled(start: &str, piece: &str, end: &str) -> Vec<u8> {
    let times = (BODY - start.len() - end.len()) / piece.len();
    format!("{start}{}{end}", piece.repeat(times)).into_bytes()
}

/// `count` elements of a list.
fn list(count: usize, element: impl Fn(usize) -> String) -> String {
    (0..count).map(element).collect::<Vec<_>>().join(",")
}

/// A ConfigMap in protobuf, of whose data each entry has four bytes and says that its key has 32,767.
fn overlapping() -> Vec<u8> {
    let entry = b"\x12\x04\x0a\xff\xff\x01";
    let data = entry.repeat((BODY - 100) / entry.len());
    let kind = b"\x0a\x02v1\x12\x09ConfigMap";
    let mut out = [b"k8s\0\x0a".as_slice(), &[kind.len() as u8], kind, b"\x12"].concat();
    let mut length = data.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    [out, data].concat()
}

fn hostile() -> Vec<Hostile> {
    let maps = format!("{MAPS}?dryRun=All");
    let post = |body: &[u8]| sized("POST", &maps, "application/json", body);
    let wait = |what, request, allowed| Hostile { what, request, then: Then::Wait, allowed };
    let most = 199_000 / 2;
    let piece = vec![b'x'; 64 * 1024];
    let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), &piece, b"\r\n"].concat();
    let protobuf = [b"k8s\0\x12\xff\xff\xff\xff\x0f".as_slice(), &vec![0x12; BODY - 100]].concat();
    let pods = "/api/v1/namespaces/default/pods?dryRun=All";
    let pod = |containers: &str| {
        let body = format!("{{\"metadata\":{{\"name\":\"a\"}},\"spec\":{{\"containers\":[{containers}]}}}}");
        sized("POST", pods, "application/json", body.as_bytes())
    };
    let container = |more: &str| pod(&format!("{{\"name\":\"a\",\"image\":\"a\",{more}}}"));
    let yaml = "application/yaml";
    let merge = "application/merge-patch+json";
    let patch = format!("{MAPS}/kube-root-ca.crt?dryRun=All");
    let unfinished = |length: usize| {
        let headers = ["content-type: application/json".to_owned(), format!("content-length: {BODY}")];
        request("POST", &maps, &headers, &vec![b' '; length])
    };
    vec![
        wait("deep JSON", post(&filled("{\"data\":", "[", "")), &[400]),
        wait("many small values", post(&filled("{\"data\":[0", ",0", "]}")), &[413]),
        wait(
            "as many objects as are read",
            post(format!("{{\"metadata\":{{\"name\":\"a\"}},\"odd\":[{}{{}}]}}", "{\"a\":0},".repeat(most)).as_bytes()),
            &[201, 400],
        ),
        wait("one long text", post(&filled("{\"metadata\":{\"name\":\"", "\\u00e9", "\"}}")), &[422]),
        wait(
            "YAML that means itself often",
            sized("POST", &maps, yaml, &filled("a: &a [x,x,x,x,x,x,x,x]\nb: [", "*a,", "]\n")),
            &[400, 413],
        ),
        wait(
            "YAML that doubles",
            sized(
                "POST",
                &maps,
                yaml,
                (1..40)
                    .fold("a0: &a0 [x,x]\n".to_owned(), |text, n| {
                        format!("{text}a{n}: &a{n} [*a{},*a{}]\n", n - 1, n - 1)
                    })
                    .as_bytes(),
            ),
            &[400, 413],
        ),
        wait("deep YAML", sized("POST", &maps, yaml, &filled("data: ", "[", "")), &[400]),
        wait(
            "a patch that copies what it copied",
            sized(
                "PATCH",
                &patch,
                "application/json-patch+json",
                &filled("[", r#"{"op":"copy","from":"/data","path":"/data/a"},"#, r#"{"op":"test","path":""}]"#),
            ),
            &[400, 413, 422],
        ),
        wait(
            "a large merge patch",
            sized("PATCH", &patch, merge, &filled("{\"data\":{\"a\":\"", "x", "\"}}")),
            &[413, 422, 500, 200],
        ),
        wait(
            "a patch of many members",
            sized("PATCH", &patch, merge, &filled("{\"data\":{\"a\":0", ",\"a\":0", "}}")),
            &[400, 413, 422],
        ),
        wait(
            "protobuf that lies about its lengths",
            sized("POST", &maps, "application/vnd.kubernetes.protobuf", &protobuf),
            &[400],
        ),
        // Each key of the map reaches far behind its entry.
        wait(
            "a protobuf map whose entries overlap",
            sized("POST", &maps, "application/vnd.kubernetes.protobuf", &overlapping()),
            &[400, 413, 422],
        ),
        wait("containers that are filled in beyond the limit", pod(&list(99_500, |_| "{}".to_owned())), &[413]),
        wait("as many containers as are judged", pod(&list(9_950, |_| "{}".to_owned())), &[422]),
        wait(
            "claims that nothing fulfils",
            container(&format!(
                "\"resources\":{{\"claims\":[{}]}}",
                list(49_000, |number| format!("{{\"name\":\"a{number}\"}}"))
            )),
            &[422],
        ),
        wait(
            "variables that hide each other",
            container(&format!("\"env\":[{}]", list(49_000, |number| format!("{{\"name\":\"A{}\"}}", number / 2)))),
            &[201],
        ),
        wait(
            "a large selector",
            request("GET", &format!("{MAPS}?labelSelector=a+in+({})", "x,".repeat(28_000)), &[], b""),
            &[200, 400],
        ),
        wait("a large head", request("GET", MAPS, &[format!("x: {}", "x".repeat(60_000))], b""), &[200]),
        Hostile {
            what: "a head without an end",
            request: b"GET / HTTP/1.1\r\nhost: a\r\nx: ".to_vec(),
            then: Then::More(piece.clone()),
            allowed: &[0, 431],
        },
        Hostile { what: "chunks without an end", request: chunks(b""), then: Then::More(chunk), allowed: &[0, 413] },
        Hostile {
            what: "a body that is longer than it says",
            request: unfinished(0),
            then: Then::More(piece),
            allowed: &[0, 400],
        },
        wait("a head that stops", b"GET / HTTP/1.1\r\nhost: a\r\n".to_vec(), &[0, 408]),
        wait("a body that stops before its end", unfinished(BODY - 1), &[408]),
        wait("nothing at all", Vec::new(), &[0]),
    ]
}

#[test]
fn hostile_requests_cost_a_bounded_amount_of_memory_and_hold_nobody_up() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let server = Arc::new(Server::ours());
        let connector = connector(&server);
        let before = peak(&server);
        let over = Arc::new(AtomicBool::new(false));
        let good =
            [tokio::spawn(reads(server.clone(), over.clone())), tokio::spawn(writes(server.clone(), over.clone()))];
        let mut attacks = Vec::new();
        let sorts = hostile();
        let connections = sorts.len() * EACH;
        for sort in sorts {
            let sort = Arc::new(sort);
            for _ in 0..EACH {
                let (sort, connector, addr) = (sort.clone(), connector.clone(), server.addr);
                attacks.push(tokio::spawn(async move {
                    let stream = TcpStream::connect(addr).await.unwrap();
                    let stream = connector.connect(ServerName::try_from("127.0.0.1").unwrap(), stream).await.unwrap();
                    let status = tokio::time::timeout(PATIENCE, attack(stream, &sort)).await;
                    let status = status.unwrap_or_else(|_| panic!("{}: nothing came of it", sort.what));
                    assert!(sort.allowed.contains(&status), "{}: {status}", sort.what);
                }));
            }
        }
        for attack in attacks {
            attack.await.unwrap();
        }
        over.store(true, Ordering::Relaxed);
        for good in good {
            assert!(good.await.unwrap() > 0, "nobody else was served");
        }
        let (after, bound) = (peak(&server), bound(connections));
        println!(
            "{before} before, {after} at most: {} of {bound} allowed, by {connections} connections",
            after - before
        );
        assert!(after - before <= bound, "{before} before, {after} at most");
    });
}

/// Sends a request and says which status came back.
async fn attack(mut stream: TlsStream<TcpStream>, sort: &Hostile) -> u16 {
    let (mut reader, mut writer) = tokio::io::split(&mut stream);
    let send = async {
        let mut open = writer.write_all(&sort.request).await.is_ok() && writer.flush().await.is_ok();
        while let (true, Then::More(more)) = (open, &sort.then) {
            open = writer.write_all(more).await.is_ok();
        }
        std::future::pending::<()>().await;
    };
    let mut answer = Vec::new();
    // A server that refuses may end the connection before it has taken everything in.
    let receive = async {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = reader.read(&mut buffer).await {
            answer.extend_from_slice(&buffer[..read]);
        }
    };
    tokio::select! {
        () = receive => {}
        () = send => {}
    }
    String::from_utf8_lossy(&answer).split(' ').nth(1).map_or(0, |status| status.parse().unwrap())
}

/// Reads until it is over; how often.
async fn reads(server: Arc<Server>, over: Arc<AtomicBool>) -> usize {
    let client = server.admin();
    let mut served = 0;
    while !over.load(Ordering::Relaxed) {
        let answer = client.request(Method::GET, &server.url(MAPS), &[], None).await.unwrap();
        assert_eq!(answer.status, 200);
        served += 1;
    }
    served
}

/// Writes until it is over; how often.
async fn writes(server: Arc<Server>, over: Arc<AtomicBool>) -> usize {
    let client = server.admin();
    let json = [("content-type", "application/json")];
    let mut served = 0;
    while !over.load(Ordering::Relaxed) {
        let body = json!({"metadata": {"name": format!("good-{served}")}}).to_string();
        let made = client.request(Method::POST, &server.url(MAPS), &json, Some(body.into())).await.unwrap();
        assert_eq!(made.status, 201);
        served += 1;
    }
    served
}

fn connector(server: &Server) -> TlsConnector {
    let credentials = server.credentials();
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&credentials.authority_pem) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let chain = CertificateDer::pem_slice_iter(&credentials.certificate_pem).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(credentials.key_pem.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = builder.with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap();
    TlsConnector::from(Arc::new(config))
}

/// The most that the process has had in memory.
fn peak(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    kib.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() * 1024
}
