//! A run of the plugin in this process: its own cache, clock, browser and streams.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, Cursor};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use portcullis_login::{Browser, Env, Io, Opening, Outcome, run};
use portcullis_runtime::http_client::{HttpClient, HttpClientConfig, Roots};
use portcullis_runtime::{Clock, MockClock, Rng, Shutdown};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;

use crate::issuer::Issuer;

pub const NOW: i64 = 1_577_836_800;

/// The last page of a sign-in.
#[derive(Clone, Debug)]
pub struct Page {
    pub status: u16,
    pub body: String,
    pub headers: http::HeaderMap,
}

/// A browser that follows redirects and trusts what it is told to.
pub struct TestBrowser {
    trusted: Mutex<Vec<String>>,
    opened: Mutex<Vec<String>>,
    pages: Mutex<Sender<Page>>,
    pub behaviour: Mutex<Behaviour>,
}

/// What the browser does when asked to open a page.
#[derive(Clone, Copy, Default, PartialEq)]
pub enum Behaviour {
    #[default]
    FollowsRedirects,
    Fails,
    DoesNothing,
}

impl Browser for TestBrowser {
    fn open<'a>(&'a self, url: &'a str) -> Opening<'a> {
        self.opened.lock().unwrap().push(url.to_owned());
        match *self.behaviour.lock().unwrap() {
            Behaviour::Fails => return Box::pin(async { Err("no display".to_owned()) }),
            Behaviour::DoesNothing => return Box::pin(async { Ok(()) }),
            Behaviour::FollowsRedirects => {}
        }
        let (url, trusted, pages) =
            (url.to_owned(), self.trusted.lock().unwrap().clone(), self.pages.lock().unwrap().clone());
        std::thread::spawn(move || {
            let _ = pages.send(get(&url, &trusted, 10));
        });
        Box::pin(async { Ok(()) })
    }
}

/// Gets a page as a browser does, also from https to http.
pub fn get(url: &str, trusted: &[String], max_redirects: usize) -> Page {
    let roots = trusted.iter().map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).collect();
    let config = HttpClientConfig { roots: Roots::Only(roots), max_redirects: 0, ..HttpClientConfig::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = HttpClient::new(config).unwrap();
    let mut url = url.to_owned();
    for _ in 0..=max_redirects {
        let response = runtime.block_on(client.get(&url, &[])).unwrap();
        match response.header("location") {
            Some(location) if max_redirects > 0 => location.clone_into(&mut url),
            _ => {
                let body = String::from_utf8(response.body.to_vec()).unwrap();
                return Page { status: response.status, body, headers: response.headers };
            }
        }
    }
    panic!("too many redirects");
}

/// A user's machine.
pub struct World {
    pub root: tempfile::TempDir,
    pub clock: Clock,
    pub hand: MockClock,
    pub browser: Arc<TestBrowser>,
    pub shutdown: Shutdown,
    pub vars: BTreeMap<OsString, OsString>,
    pages: Mutex<Receiver<Page>>,
}

/// A finished run.
#[derive(Debug)]
pub struct Finished {
    pub outcome: Outcome,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.outcome, Outcome::Success, "{}", self.stderr);
        self
    }

    #[track_caller]
    pub fn fails(self) -> Self {
        assert_eq!(self.outcome, Outcome::Failure, "{}", self.stderr);
        assert_eq!(self.stdout, "");
        self
    }

    /// The line that starts with `error: `.
    pub fn error(&self) -> &str {
        self.stderr.split("error: ").nth(1).map_or("", |_| {
            let at = self.stderr.find("error: ").unwrap();
            self.stderr[at..].trim_end()
        })
    }

    pub fn token(&self) -> String {
        let credential: Value = serde_json::from_str(&self.stdout).unwrap();
        credential["status"]["token"].as_str().unwrap().to_owned()
    }
}

impl World {
    pub fn new() -> Self {
        let (clock, hand) = Clock::mock(NOW);
        let (send, pages) = channel();
        let browser = TestBrowser {
            trusted: Mutex::default(),
            opened: Mutex::default(),
            pages: Mutex::new(send),
            behaviour: Mutex::default(),
        };
        let root = tempfile::tempdir().unwrap();
        let mut vars = BTreeMap::new();
        vars.insert("HOME".into(), root.path().join("home").into());
        vars.insert(
            "KUBERNETES_EXEC_INFO".into(),
            r#"{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","spec":{"interactive":true}}"#
                .into(),
        );
        Self {
            root,
            clock,
            hand,
            browser: Arc::new(browser),
            shutdown: Shutdown::new(),
            vars,
            pages: Mutex::new(pages),
        }
    }

    pub fn cache_dir(&self) -> PathBuf {
        self.root.path().join("cache")
    }

    pub fn env(&self) -> Env {
        Env {
            vars: self.vars.clone(),
            clock: self.clock.clone(),
            rng: Rng::system(),
            browser: Arc::<TestBrowser>::clone(&self.browser),
            stdin_is_terminal: false,
            shutdown: self.shutdown.clone(),
            handle_signals: false,
            version: "1.2.3".to_owned(),
        }
    }

    pub fn trust(&self, pem: &str) {
        self.browser.trusted.lock().unwrap().push(pem.to_owned());
    }

    pub fn browser_does(&self, behaviour: Behaviour) {
        *self.browser.behaviour.lock().unwrap() = behaviour;
    }

    pub fn opened(&self) -> Vec<String> {
        self.browser.opened.lock().unwrap().clone()
    }

    /// The page that the browser ended on.
    pub fn page(&self) -> Page {
        self.pages.lock().unwrap().recv_timeout(std::time::Duration::from_secs(20)).expect("a page")
    }

    pub fn run(&self, args: &[&str]) -> Finished {
        run_in(&self.env(), args, Box::new(Cursor::new(Vec::new())))
    }

    /// Runs with these lines on standard input.
    pub fn run_typing(&self, args: &[&str], typed: &str) -> Finished {
        run_in(&self.env(), args, Box::new(Cursor::new(typed.as_bytes().to_vec())))
    }

    /// `get-token` for the issuer with a cache of this world, on a free port.
    pub fn arguments(&self, issuer: &Issuer, more: &[&str]) -> Vec<String> {
        let mut arguments = vec![
            "get-token".to_owned(),
            format!("--oidc-issuer-url={}", issuer.url),
            "--oidc-client-id=kubernetes".to_owned(),
            format!("--token-cache-dir={}", self.cache_dir().display()),
            "--listen-address=127.0.0.1:0".to_owned(),
            "--authentication-timeout-sec=30".to_owned(),
        ];
        arguments.extend(more.iter().map(|text| (*text).to_owned()));
        arguments
    }

    pub fn get_token(&self, issuer: &Issuer, more: &[&str]) -> Finished {
        let arguments = self.arguments(issuer, more);
        self.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Names in the cache folder, sorted.
    pub fn cache_files(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.cache_dir()) else { return Vec::new() };
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The one cached login.
    pub fn cached(&self) -> Value {
        let name = self.cache_files().into_iter().find(|name| name.len() == 64).expect("a cached login");
        serde_json::from_slice(&std::fs::read(self.cache_dir().join(name)).unwrap()).unwrap()
    }
}

pub fn run_in(env: &Env, args: &[&str], stdin: Box<dyn BufRead + Send>) -> Finished {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let io = Io { stdout: &mut stdout, stderr: &mut stderr, stdin };
    let outcome = run(args.iter().map(OsString::from).collect(), env, io);
    Finished { outcome, stdout: String::from_utf8(stdout).unwrap(), stderr: String::from_utf8(stderr).unwrap() }
}
