//! Real Chromium signs in through the real pages.
//!
//! The provider is the released `portcullis serve`; the client is this test, on a loopback port of its own. Screenshots
//! of every page, light and dark, wide and narrow, are kept in `PORTCULLIS_ARTEFACTS`. What axe-core finds, fails.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use fantoccini::key::Key;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

use crate::world::{PASSWORD, Running, USER, World};

/// The longest that a page may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// A page with its style sheet may be this large (issue: 30 KB).
const MAX_PAGE: usize = 30_000;

/// Provider, client and browser of one test.
struct Stage {
    world: World,
    provider: String,
    redirect: String,
    codes: Receiver<String>,
    browser: Client,
    _driver: Driver,
    _serve: Running,
}

impl Stage {
    async fn new(extra_config: &str) -> Self {
        let world = World::new();
        let (redirect, codes) = relying_party();
        let (serve, provider) = start_provider(&world, &redirect, extra_config);
        let driver = Driver::start();
        let browser = driver.session().await;
        Self { world, provider, redirect, codes, browser, _driver: driver, _serve: serve }
    }

    fn authorization_url(&self, state: &str) -> String {
        // RFC 7636 appendix B's verifier and challenge.
        let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
        let query: String = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs([
                ("client_id", "app"),
                ("redirect_uri", &self.redirect),
                ("response_type", "code"),
                ("scope", "openid email offline_access"),
                ("state", state),
                ("nonce", "n-0S6_WzA2Mj"),
                ("code_challenge", challenge),
                ("code_challenge_method", "S256"),
            ])
            .finish();
        format!("{}/auth?{query}", self.provider)
    }

    async fn open(&self, state: &str) {
        self.browser.goto(&self.authorization_url(state)).await.unwrap();
    }

    async fn fill_in(&self, password: &str) {
        let login = self.find("input[name=login]").await;
        login.clear().await.unwrap();
        login.send_keys(USER).await.unwrap();
        self.find("input[name=password]").await.send_keys(password).await.unwrap();
        self.find("button[type=submit]").await.click().await.unwrap();
    }

    async fn approve(&self) {
        self.find("button[value=approve], form:has(input[value=approve]) button").await.click().await.unwrap();
    }

    async fn find(&self, css: &str) -> fantoccini::elements::Element {
        self.browser
            .wait()
            .at_most(PATIENCE)
            .for_element(Locator::Css(css))
            .await
            .unwrap_or_else(|e| panic!("no {css}: {e}"))
    }

    async fn text(&self) -> String {
        self.find("body").await.text().await.unwrap()
    }

    /// The query of the next request that reached the client.
    fn next_callback(&self) -> String {
        self.codes.recv_timeout(PATIENCE).expect("a callback")
    }

    fn no_callback(&self) {
        assert!(self.codes.try_recv().is_err(), "a second code was sent");
    }

    async fn script(&self, source: &str) -> Value {
        self.browser.execute(source, vec![]).await.unwrap()
    }

    /// Photographs the page in four ways, checks its size, its reflow and what axe-core says.
    async fn inspect(&self, name: &str) {
        for (width, height, look) in [(1280, 800, "wide"), (320, 640, "narrow")] {
            self.browser.set_window_size(width, height).await.unwrap();
            for scheme in ["light", "dark"] {
                self.emulate(scheme).await;
                let picture = self.browser.screenshot().await.unwrap();
                fs::write(artefacts().join(format!("{name}-{look}-{scheme}.png")), picture).unwrap();
                let overflow = self
                    .script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
                    .await;
                assert_eq!(overflow, json!(0), "{name} scrolls sideways when {look}");
                self.axe(&format!("{name} {look} {scheme}")).await;
            }
        }
        // 200 % zoom on a 1280 pixel screen is a page of 640 CSS pixels.
        self.browser.set_window_size(640, 400).await.unwrap();
        let overflow =
            self.script("return document.documentElement.scrollWidth - document.documentElement.clientWidth").await;
        assert_eq!(overflow, json!(0), "{name} scrolls sideways at 200 %");
        self.browser.set_window_size(1280, 800).await.unwrap();
        let bytes = self.script("return performance.getEntriesByType('navigation').concat(performance.getEntriesByType('resource')).reduce((sum, e) => sum + e.decodedBodySize, 0)").await;
        assert!(bytes.as_u64().is_some_and(|b| b > 0 && b as usize <= MAX_PAGE), "{name}: {bytes} bytes");
    }

    async fn emulate(&self, scheme: &str) {
        let command = json!({"cmd": "Emulation.setEmulatedMedia", "params": {"features": [{"name": "prefers-color-scheme", "value": scheme}]}});
        self.browser.issue_cmd(Devtools(command)).await.unwrap();
    }

    async fn axe(&self, name: &str) {
        let source =
            fs::read_to_string(std::env::var_os("PORTCULLIS_AXE").expect("PORTCULLIS_AXE names axe.min.js")).unwrap();
        // The page's own policy forbids eval; a script that the driver injects is not the page's.
        self.browser.execute(&format!("{source}; window.axe = axe;"), vec![]).await.unwrap();
        let run = "const done = arguments[0]; axe.run(document).then(r => done(r.violations.map(v => v.id + ': ' + v.nodes.map(n => n.html).join(' | '))), e => done([String(e)]))";
        let found = self.browser.execute_async(run, vec![]).await.unwrap();
        assert_eq!(found, json!([]), "axe-core on {name}");
    }

    async fn end(self) {
        self.browser.clone().close().await.unwrap();
    }
}

#[derive(Debug)]
struct Devtools(Value);

impl fantoccini::wd::WebDriverCompatibleCommand for Devtools {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/goog/cdp/execute", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _url: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.0.to_string()))
    }
}

/// chromedriver on a free port, ended by its id.
pub(crate) struct Driver {
    child: Child,
    port: u16,
    _profile: tempfile::TempDir,
    profile: PathBuf,
}

impl Driver {
    pub(crate) fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut child = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is installed");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines
            .find_map(|line| {
                line.unwrap()
                    .rsplit_once("successfully on port ")
                    .and_then(|(_, port)| port.trim_end_matches('.').parse().ok())
            })
            .expect("chromedriver names its port");
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, port, profile: profile.path().to_owned(), _profile: profile }
    }

    pub(crate) async fn session(&self) -> Client {
        let profile = self
            .profile
            .join(format!("{:?}", std::time::Instant::now()).replace(|c: char| !c.is_ascii_alphanumeric(), ""));
        let arguments = [
            "--headless=new".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-quic".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--disable-sync".to_owned(),
            format!("--user-data-dir={}", profile.display()),
        ];
        let capabilities = json!({"goog:chromeOptions": {"args": arguments, "binary": "/usr/bin/chromium"}});
        let Value::Object(capabilities) = capabilities else { unreachable!() };
        ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities.into_iter().collect())
            .connect(&format!("http://127.0.0.1:{}", self.port))
            .await
            .expect("a browser")
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // It ends its browsers when asked; killed, it would leave those of a test that has failed.
        if let Ok(mut connection) = std::net::TcpStream::connect(("127.0.0.1", self.port)) {
            let _gone_already = connection.set_read_timeout(Some(Duration::from_secs(10)));
            let _gone_already = connection
                .write_all(b"GET /shutdown HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                .and_then(|()| connection.read_to_end(&mut Vec::new()));
        }
        let _ended_already = self.child.kill();
        let _reaped_already = self.child.wait();
    }
}

fn artefacts() -> PathBuf {
    let folder = std::env::var_os("PORTCULLIS_ARTEFACTS").map_or_else(std::env::temp_dir, PathBuf::from).join("pages");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// A client that only notes the queries it is sent, and answers with a page.
fn relying_party() -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let redirect = format!("http://localhost:{}/callback", listener.local_addr().unwrap().port());
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let Ok(mut connection) = connection else { return };
            let mut request = String::new();
            if BufReader::new(&connection).read_line(&mut request).is_err() {
                continue;
            }
            let body = "<!doctype html><title>Client</title><h1>Client</h1>";
            let _closed = write!(
                connection,
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            if let Some(query) = request.split(' ').nth(1).and_then(|target| target.strip_prefix("/callback?"))
                && sender.send(query.to_owned()).is_err()
            {
                return;
            }
        }
    });
    (redirect, receiver)
}

/// `portcullis serve` with a Dex config on a free port; returns its issuer.
fn start_provider(world: &World, redirect: &str, extra: &str) -> (Running, String) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let issuer = format!("http://localhost:{port}");
    let hash = "$2a$10$2b2cU8CPhOTaGrs1HRQuAueS7JTT5ZHsHSzYiFPm1leZck7Mc8T4W";
    let config = format!(
        "issuer: {issuer}\nstorage:\n  type: memory\nweb:\n  http: 127.0.0.1:{port}\nenablePasswordDB: true\nstaticPasswords:\n- email: {USER}\n  hash: '{hash}'\n  username: demo\n  userID: '1'\n\
         staticClients:\n- id: app\n  name: Example App\n  secret: app-secret\n  redirectURIs: ['{redirect}']\n{extra}"
    );
    let file = world.write("provider.yaml", &config);
    let mut serve = Running::start(&mut world.portcullis(&["serve", file.to_str().unwrap()]));
    serve.wait_for("listening");
    (serve, issuer)
}

/// The well-known hash above is of this password (dex.md section 1.4).
const GOOD: &str = "password";

fn parameter(query: &str, name: &str) -> String {
    url::form_urlencoded::parse(query.as_bytes())
        .find(|(key, _)| key == name)
        .unwrap_or_else(|| panic!("no {name} in {query}"))
        .1
        .into_owned()
}

fn block<F: Future<Output = ()>>(test: F) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

#[test]
fn a_wrong_password_is_refused_and_the_right_one_leads_to_the_client_after_consent() {
    block(async {
        let stage = Stage::new("").await;
        stage.open("first").await;
        stage.inspect("login").await;
        stage.fill_in("wrong").await;
        stage.find("[role=alert]").await;
        let login = stage.find("input[name=login]").await;
        assert_eq!(login.prop("value").await.unwrap().as_deref(), Some(USER), "the name is kept");
        let password = stage.find("input[name=password]").await;
        assert_eq!(password.prop("value").await.unwrap().as_deref(), Some(""), "the password is not");
        stage.inspect("login-wrong").await;
        stage.no_callback();

        stage.fill_in(GOOD).await;
        stage.find("button[value=approve], input[value=approve]").await;
        assert!(stage.text().await.contains("Example App"));
        stage.inspect("approval").await;
        stage.no_callback();
        stage.approve().await;
        let callback = stage.next_callback();
        assert_eq!(parameter(&callback, "state"), "first");
        assert_eq!(parameter(&callback, "iss"), stage.provider);
        assert!(!parameter(&callback, "code").is_empty());
        stage.end().await;
    });
}

#[test]
fn under_up_the_browser_meets_no_warning_from_the_plugins_page_to_its_end() {
    block(async {
        let world = World::new();
        let _up = world.up_and_keep(&["--no-bind"]);
        let driver = Driver::start();
        let browser = driver.session().await;
        let kubeconfig = fs::read_to_string(world.dev("kubeconfig")).unwrap();
        let config = portcullis_kube::Kubeconfig::parse(&kubeconfig, "kubeconfig").unwrap();
        let exec = config.user("oidc").unwrap().unwrap().exec.unwrap();
        let mut command = world.command(&exec.command);
        command.args(&exec.args).args(["--skip-open-browser", "--force-refresh"]);
        command.arg(format!("--token-cache-dir={}/elsewhere", world.home().display()));
        let mut plugin = Running::start(&mut command);
        let line = plugin.wait_for("http://localhost:");
        let url = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap();

        browser.goto(url).await.unwrap();
        let field = |name: &'static str| browser.wait().at_most(PATIENCE).for_element(Locator::Css(name));
        field("input[name=login]").await.unwrap().send_keys(USER).await.unwrap();
        let at = browser.current_url().await.unwrap();
        assert_eq!((at.scheme(), at.host_str()), ("http", Some("localhost")), "no certificate is shown to a browser");
        field("input[name=password]").await.unwrap().send_keys(PASSWORD).await.unwrap();
        field("button[type=submit]").await.unwrap().click().await.unwrap();

        let finished = plugin.output();
        assert!(finished.status.success(), "{}", String::from_utf8_lossy(&finished.stderr));
        let credential: Value = serde_json::from_slice(&finished.stdout).unwrap();
        assert!(credential["status"]["token"].is_string());
        let end = browser.current_url().await.unwrap();
        assert_eq!(end.host_str(), Some("localhost"));
        let text = field("body").await.unwrap().text().await.unwrap();
        assert!(text.contains("close"), "the last page says that it can be closed: {text}");
        browser.close().await.unwrap();
    });
}

#[test]
fn the_whole_flow_works_by_keyboard_alone() {
    block(async {
        let stage = Stage::new("").await;
        stage.open("keys").await;
        tab_to(&stage, "login").await;
        type_keys(&stage, USER).await;
        tab_to(&stage, "password").await;
        type_keys(&stage, &format!("{GOOD}{}", char::from(Key::Enter))).await;
        stage.find("button[value=approve], input[value=approve]").await;
        for _ in 0..20 {
            type_keys(&stage, &char::from(Key::Tab).to_string()).await;
            let on_approve = stage.script("const e = document.activeElement; return e.value === 'approve' || !!(e.form && e.form.querySelector('[value=approve]') && e.type === 'submit' && e.value !== 'rejected')").await;
            if on_approve == json!(true) {
                break;
            }
        }
        let outline = stage.script("const s = getComputedStyle(document.activeElement); return s.outlineStyle !== 'none' || s.boxShadow !== 'none'").await;
        assert_eq!(outline, json!(true), "the focus is visible");
        type_keys(&stage, &char::from(Key::Enter).to_string()).await;
        assert_eq!(parameter(&stage.next_callback(), "state"), "keys");
        stage.end().await;
    });
}

async fn tab_to(stage: &Stage, name: &str) {
    for _ in 0..20 {
        if stage.script("return document.activeElement.name").await == json!(name) {
            return;
        }
        type_keys(stage, &char::from(Key::Tab).to_string()).await;
    }
    panic!("no field {name} is reached with Tab");
}

async fn type_keys(stage: &Stage, keys: &str) {
    stage.browser.active_element().await.unwrap().send_keys(keys).await.unwrap();
}

#[test]
fn going_back_after_the_end_gives_no_second_code() {
    block(async {
        let stage = Stage::new("oauth2:\n  skipApprovalScreen: true\n").await;
        stage.open("back").await;
        stage.fill_in(GOOD).await;
        stage.next_callback();
        stage.browser.back().await.unwrap();
        if stage.script("return !!document.querySelector('input[name=password]')").await == json!(true) {
            stage.fill_in(GOOD).await;
        }
        stage.find("h1").await;
        assert!(!stage.text().await.contains("panicked"));
        stage.no_callback();
        stage.inspect("spent").await;
        stage.end().await;
    });
}

#[test]
fn two_tabs_finish_each_its_own_flow() {
    block(async {
        let stage = Stage::new("oauth2:\n  skipApprovalScreen: true\n").await;
        stage.open("one").await;
        let first = stage.browser.window().await.unwrap();
        let second = stage.browser.new_window(true).await.unwrap().handle;
        stage.browser.switch_to_window(second).await.unwrap();
        stage.open("two").await;
        stage.browser.switch_to_window(first).await.unwrap();
        stage.fill_in(GOOD).await;
        assert_eq!(parameter(&stage.next_callback(), "state"), "one");
        let windows = stage.browser.windows().await.unwrap();
        stage.browser.switch_to_window(windows[1].clone()).await.unwrap();
        stage.fill_in(GOOD).await;
        assert_eq!(parameter(&stage.next_callback(), "state"), "two");
        stage.end().await;
    });
}

#[test]
fn an_expired_flow_says_so_and_gives_no_code() {
    block(async {
        // Longer than a browser takes to show the page beside all others.
        let stage = Stage::new("expiry:\n  authRequests: 6s\n").await;
        stage.open("late").await;
        stage.find("input[name=password]").await;
        // The process' own clock decides; waiting past its six seconds is the event itself.
        tokio::time::sleep(Duration::from_millis(6_200)).await;
        stage.fill_in(GOOD).await;
        stage.find("h1").await;
        assert!(stage.text().await.contains("expired"), "{}", stage.text().await);
        stage.no_callback();
        stage.inspect("expired").await;
        stage.end().await;
    });
}

#[test]
fn a_flow_replayed_in_another_browser_or_after_its_end_is_refused() {
    block(async {
        let stage = Stage::new("").await;
        stage.open("replay").await;
        let login_page = stage.browser.current_url().await.unwrap();
        stage.fill_in(GOOD).await;
        stage.find("button[value=approve], input[value=approve]").await;
        let approval_page = stage.browser.current_url().await.unwrap();

        let stranger = stage._driver.session().await;
        for page in [&login_page, &approval_page] {
            stranger.goto(page.as_str()).await.unwrap();
            let offers = stranger
                .execute("return !!document.querySelector('input[name=password], [value=approve]')", vec![])
                .await
                .unwrap();
            assert_eq!(offers, json!(false), "another browser must not go on at {}", page.path());
        }
        stranger.close().await.unwrap();
        stage.no_callback();

        stage.approve().await;
        stage.next_callback();
        for page in [&login_page, &approval_page] {
            stage.browser.goto(page.as_str()).await.unwrap();
            stage.find("h1").await;
            if stage.script("return !!document.querySelector('[value=approve]')").await == json!(true) {
                stage.approve().await;
            } else if stage.script("return !!document.querySelector('input[name=password]')").await == json!(true) {
                stage.fill_in(GOOD).await;
            }
            stage.no_callback();
        }
        assert_ne!(PASSWORD, GOOD);
        assert!(stage.world.home().exists());
        stage.end().await;
    });
}
