//! Signing in.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portcullis_login::{Io, Outcome, run, trust_file};

use crate::issuer::Issuer;
use crate::world::{Behaviour, World, get};

#[test]
fn signing_in_sends_what_kubelogin_sends_and_prints_the_credential() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    let finished = world.get_token(&issuer, &[]).ok();
    assert_eq!(
        finished.stdout,
        format!(
            "{{\"kind\":\"ExecCredential\",\"apiVersion\":\"client.authentication.k8s.io/v1\",\"spec\":{{\"interactive\":false}},\"status\":{{\"expirationTimestamp\":\"2020-01-01T01:00:00Z\",\"token\":\"{}\"}}}}\n",
            issuer.last_id_token()
        )
    );
    assert_eq!(finished.stderr, "");

    let auth = &issuer.requests("/auth")[0].form;
    assert_eq!(auth["scope"], "openid");
    assert_eq!((auth["response_type"].as_str(), auth["access_type"].as_str()), ("code", "offline"));
    assert_eq!(auth["code_challenge_method"], "S256");
    assert_eq!((auth["state"].len(), auth["nonce"].len()), (43, 43));
    let port = auth["redirect_uri"].strip_prefix("http://localhost:").expect("localhost");
    assert!(port.parse::<u16>().is_ok(), "no path and no slash: {}", auth["redirect_uri"]);
    assert_eq!(world.opened(), [format!("http://localhost:{port}/")]);

    let token = &issuer.requests("/token")[0];
    assert_eq!(token.form["client_id"], "kubernetes");
    assert_eq!(token.form["code_verifier"].len(), 43);
    assert!(!token.headers.contains_key("authorization"));
}

#[test]
fn the_browser_ends_on_a_page_that_says_authenticated_and_cannot_be_abused() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    world.get_token(&issuer, &[]).ok();
    let page = world.page();
    assert_eq!(page.status, 200);
    assert!(page.body.contains("Authenticated"));
    let header =
        |name: &str| page.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    assert!(header("content-security-policy").starts_with("default-src 'none'"));
    assert_eq!(header("cache-control"), "no-store");
    assert_eq!(header("referrer-policy"), "no-referrer");
}

#[test]
fn the_page_is_shown_after_the_exchange_and_tells_a_failure() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    issuer.behave(|behaviour| behaviour.no_id_token = true);
    let finished = world.get_token(&issuer, &[]).fails();
    assert!(finished.error().ends_with("id_token is missing in the token response"), "{}", finished.stderr);
    let page = world.page();
    assert_eq!(page.status, 500);
    assert!(page.body.contains("authorization error") && !page.body.contains("Authenticated"), "{}", page.body);
}

#[test]
fn a_private_ca_is_trusted_when_given_by_file_data_or_trust_folder_and_not_otherwise() {
    let mut world = World::new();
    let issuer = Issuer::tls(&world.clock);
    let ca = issuer.ca_pem.clone().unwrap();
    world.trust(&ca);
    let file = world.root.path().join("ca.pem");
    std::fs::write(&file, &ca).unwrap();
    let by_file = format!("--certificate-authority={}", file.display());
    let by_data = format!("--certificate-authority-data={}", STANDARD.encode(&ca));
    let uncached = "--token-cache-storage=none";
    world.get_token(&issuer, &[&by_file, uncached]).ok();
    world.get_token(&issuer, &[&by_data, uncached]).ok();
    world.get_token(&issuer, &["--insecure-skip-tls-verify", uncached]).ok();

    let refused = world.get_token(&issuer, &[uncached]).fails();
    assert!(refused.error().starts_with("error: get-token: authentication error: oidc error: oidc discovery error: "));

    assert!(refused.stderr.contains("\nhint: if the provider has a private CA"), "{}", refused.stderr);

    let state = world.root.path().join("state");
    world.vars.insert("PORTCULLIS_STATE".into(), state.clone().into());
    let trusted = trust_file(&state, &issuer.url);
    std::fs::create_dir_all(trusted.parent().unwrap()).unwrap();
    std::fs::write(&trusted, &ca).unwrap();
    world.get_token(&issuer, &[uncached]).ok();
}

#[test]
fn the_default_state_folder_is_asked_for_the_ca() {
    let world = World::new();
    let issuer = Issuer::tls(&world.clock);
    let ca = issuer.ca_pem.clone().unwrap();
    world.trust(&ca);
    let trusted = trust_file(&world.root.path().join("home/.local/state/portcullis"), &issuer.url);
    std::fs::create_dir_all(trusted.parent().unwrap()).unwrap();
    std::fs::write(&trusted, &ca).unwrap();
    world.get_token(&issuer, &[]).ok();
}

#[test]
fn pkce_follows_the_provider_unless_told_otherwise() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    let challenge = |methods: &[&'static str], flags: &[&str]| {
        issuer.forget();
        issuer.behave(|behaviour| behaviour.pkce_methods = methods.to_vec());
        world.get_token(&issuer, &[&["--token-cache-storage=none"], flags].concat()).ok();
        issuer.requests("/auth")[0].form.contains_key("code_challenge")
    };
    assert!(challenge(&["plain", "S256"], &[]));
    assert!(!challenge(&[], &[]));
    assert!(!challenge(&["plain"], &[]));
    assert!(challenge(&[], &["--oidc-use-pkce"]));
    assert!(challenge(&[], &["--oidc-pkce-method=S256"]));
    assert!(!challenge(&["S256"], &["--oidc-pkce-method=no"]));
}

#[test]
fn scopes_parameters_and_headers_reach_the_provider() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    world
        .get_token(
            &issuer,
            &[
                "--oidc-extra-scope=email",
                "--oidc-extra-scope=profile",
                "--oidc-auth-request-extra-params=ttl=86400",
                "--oidc-auth-request-extra-params=reauth=false",
                "--oidc-request-header=Origin=http://localhost",
            ],
        )
        .ok();
    let auth = &issuer.requests("/auth")[0].form;
    assert_eq!(auth["scope"], "email profile openid");
    assert_eq!((auth["ttl"].as_str(), auth["reauth"].as_str()), ("86400", "false"));
    for path in ["/.well-known/openid-configuration", "/token", "/keys"] {
        assert_eq!(issuer.requests(path)[0].headers["origin"], "http://localhost", "{path}");
    }
}

#[test]
fn a_page_of_choice_can_follow_the_sign_in() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    world.get_token(&issuer, &["--open-url-after-authentication=https://example.com/success"]).ok();
    assert!(world.page().body.contains("URL=https://example.com/success"));
}

#[test]
fn the_local_server_can_speak_tls() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert, key) = (world.root.path().join("cert.pem"), world.root.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    world.trust(&made.cert.pem());
    let cert_flag = format!("--local-server-cert={}", cert.display());
    world.get_token(&issuer, &[&cert_flag, &format!("--local-server-key={}", key.display())]).ok();
    assert!(issuer.requests("/auth")[0].form["redirect_uri"].starts_with("https://localhost:"));
    assert!(world.page().body.contains("Authenticated"));

    let half = world.get_token(&issuer, &[&cert_flag, "--token-cache-storage=none"]).fails();
    assert!(
        half.error()
            .ends_with("oauth2 error: invalid config: both LocalServerCertFile and LocalServerKeyFile must be set")
    );
}

#[test]
fn a_redirect_url_is_used_as_it_is_and_its_path_is_the_callback() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    let port = free_port();
    let flags =
        [format!("--listen-address=127.0.0.1:{port}"), format!("--oidc-redirect-url=http://localhost:{port}/callback")];
    let mut arguments = world.arguments(&issuer, &[&flags[1]]);
    arguments.retain(|argument| !argument.starts_with("--listen-address"));
    arguments.push(flags[0].clone());
    world.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).ok();
    assert_eq!(issuer.requests("/auth")[0].form["redirect_uri"], format!("http://localhost:{port}/callback"));
    assert_eq!(world.opened(), [format!("http://localhost:{port}/")]);
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn a_browser_that_does_not_open_is_no_failure() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    world.browser_does(Behaviour::Fails);
    let finished = std::thread::scope(|scope| {
        let helper = scope.spawn(|| {
            let url = wait_for(|| world.opened().first().cloned());
            get(&url, &[], 10)
        });
        let finished = world.get_token(&issuer, &[]).ok();
        assert_eq!(helper.join().unwrap().status, 200);
        finished
    });
    let url = &world.opened()[0];
    assert_eq!(
        finished.stderr,
        format!(
            "error: could not open the browser: no display\n\nPlease visit the following URL in your browser manually: {url}\n"
        )
    );
}

#[test]
fn a_browser_command_gets_the_url_and_its_failure_is_no_failure() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    let script = world.root.path().join("browser");
    let seen = world.root.path().join("seen");
    std::fs::write(
        &script,
        format!(
            "#!/bin/sh\nprintf '%s %s' \"$#\" \"$1\" > {0}.tmp\nmv {0}.tmp {0}\necho noise\nexit 3\n",
            seen.display()
        ),
    )
    .unwrap();
    #[cfg(unix)]
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let finished = std::thread::scope(|scope| {
        let helper = scope.spawn(|| {
            let text = wait_for(|| std::fs::read_to_string(&seen).ok());
            let url = text.strip_prefix("1 ").expect("one argument").to_owned();
            get(&url, &[], 10)
        });
        let finished = world.get_token(&issuer, &[&format!("--browser-command={}", script.display())]).ok();
        assert_eq!(helper.join().unwrap().status, 200);
        finished
    });
    assert!(finished.stdout.starts_with("{\"kind\"") && finished.stdout.lines().count() == 1, "noise stays off stdout");
    assert_eq!(world.opened(), Vec::<String>::new());
}

/// Polls until there is something; gives up after a while.
pub fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(std::time::Instant::now() < deadline, "nothing came");
        std::thread::yield_now();
    }
}

#[test]
fn the_code_can_be_typed_in() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    let flags = ["--grant-type=authcode-keyboard", "--oidc-redirect-url=urn:ietf:wg:oauth:2.0:oob"];
    let arguments = world.arguments(&issuer, &flags);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let eof = world.run(&arguments).fails();
    assert!(eof.stderr.starts_with(&format!(
        "Please visit the following URL in your browser: {}/auth?access_type=offline&",
        issuer.url
    )));
    assert!(eof.stderr.contains("Enter code: error: get-token: authentication error: authcode-keyboard error: could not read an authorization code: read error: EOF"));

    let bare = world.arguments(&issuer, &["--grant-type=authcode-keyboard"]);
    let bare = world.run(&bare.iter().map(String::as_str).collect::<Vec<_>>()).fails();
    assert!(!bare.stderr.contains("redirect_uri"), "without a flag the registered one is meant: {}", bare.stderr);

    let wrong = world.run_typing(&arguments, "WRONG\n").fails();
    assert!(
        wrong.error().contains(
            "could not exchange the authorization code: exchange error: oauth2: \"invalid_grant\" \"unknown code\""
        ),
        "{}",
        wrong.stderr
    );
}

/// Standard input of somebody who types what comes over a channel.
struct Typed(std::sync::mpsc::Receiver<String>);

impl std::io::Read for Typed {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let Ok(line) = self.0.recv() else { return Ok(0) };
        into[..line.len()].copy_from_slice(line.as_bytes());
        Ok(line.len())
    }
}

/// Standard error that can be read while the plugin runs.
#[derive(Clone, Default)]
struct Shared(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// Runs the keyboard grant; `answer` gets what the plugin said up to its prompt, and may type a line.
fn keyboard(world: &World, issuer: &Issuer, answer: impl FnOnce(&str) -> Option<String>) -> (Outcome, String, String) {
    let flags = ["--grant-type=authcode-keyboard", "--oidc-redirect-url=urn:ietf:wg:oauth:2.0:oob"];
    let (env, arguments) = (world.env(), world.arguments(issuer, &flags));
    let (type_line, typed) = std::sync::mpsc::channel();
    let shared = Shared::default();
    std::thread::scope(|scope| {
        let mut stderr = shared.clone();
        let running = scope.spawn(move || {
            let mut stdout = Vec::new();
            let stdin = Box::new(std::io::BufReader::new(Typed(typed)));
            let io = Io { stdout: &mut stdout, stderr: &mut stderr, stdin };
            let outcome = run(arguments.iter().map(Into::into).collect(), &env, io);
            (outcome, String::from_utf8(stdout).unwrap())
        });
        let said = wait_for(|| Some(shared.text()).filter(|text| text.ends_with("Enter code: ")));
        if let Some(line) = answer(&said) {
            type_line.send(line).unwrap();
        }
        let (outcome, stdout) = running.join().unwrap();
        (outcome, stdout, shared.text())
    })
}

#[test]
fn a_typed_code_or_a_pasted_redirect_signs_in_and_ctrl_c_ends_the_prompt() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    let redirect = |said: &str| {
        let url = said.split_whitespace().find(|word| word.starts_with(&issuer.url)).expect("a URL");
        get(url, &[], 0).headers["location"].to_str().unwrap().to_owned()
    };
    let (outcome, stdout, _) = keyboard(&world, &issuer, |said| {
        let location = redirect(said);
        let code = location.split(['=', '&']).nth(1).expect("a code");
        Some(format!("{code}\n"))
    });
    assert_eq!(outcome, Outcome::Success);
    assert!(stdout.contains(&issuer.last_id_token()));

    world.run(&["clean", &format!("--token-cache-dir={}", world.cache_dir().display())]).ok();
    let (outcome, ..) = keyboard(&world, &issuer, |said| {
        Some(format!("{}\n", redirect(said).replace("urn:ietf:wg:oauth:2.0:oob", "http://localhost:1/")))
    });
    assert_eq!(outcome, Outcome::Success);

    world.run(&["clean", &format!("--token-cache-dir={}", world.cache_dir().display())]).ok();
    let (outcome, stdout, stderr) = keyboard(&world, &issuer, |_| {
        world.shutdown.trigger();
        None
    });
    assert_eq!((outcome, stdout.as_str()), (Outcome::Failure, ""));
    assert!(
        stderr.ends_with("authcode-keyboard error: could not read an authorization code: context canceled\n"),
        "{stderr}"
    );
}

#[test]
fn a_username_means_the_password_grant_and_no_browser() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    let finished = world.get_token(&issuer, &["--username=USER", "--password=PASS"]).ok();
    let form = &issuer.requests("/token")[0].form;
    assert_eq!(
        ["grant_type", "username", "password", "scope"].map(|name| form[name].as_str()),
        ["password", "USER", "PASS", "openid"]
    );
    assert_eq!(finished.token(), issuer.last_id_token());
    assert!(world.opened().is_empty());

    let asked = world.get_token(&issuer, &["--username=OTHER"]).fails();
    assert!(asked.stderr.starts_with("Password: \n"));
    assert!(
        asked.error().ends_with("ropc error: could not read a password: read error: inappropriate ioctl for device")
    );
}

#[test]
fn a_secret_is_tried_as_basic_and_then_in_the_body() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    issuer.behave(|behaviour| behaviour.only_post = true);
    world.get_token(&issuer, &["--oidc-client-secret=s3cr3t"]).ok();
    let requests = issuer.requests("/token");
    assert_eq!(requests.len(), 2);
    assert!(requests[0].headers.contains_key("authorization") && !requests[0].form.contains_key("client_secret"));
    assert_eq!(requests[1].form["client_secret"], "s3cr3t");
}

#[test]
fn grants_that_are_not_built_say_what_to_use() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    for (grant, instead) in [("device-code", "authcode-keyboard"), ("client-credentials", "authcode")] {
        let finished = world.get_token(&issuer, &[&format!("--grant-type={grant}")]).fails();
        assert_eq!(
            finished.error(),
            format!("error: get-token: authentication error: {grant} error: not built yet, use --grant-type={instead}")
        );
    }
    let keyring = world.get_token(&issuer, &["--token-cache-storage=keyring"]).fails();
    assert!(keyring.error().contains("token-cache-storage keyring is not built yet"));
    assert!(world.opened().is_empty(), "nobody signs in for nothing");
}

#[test]
fn the_access_token_can_be_the_one() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    let finished = world.get_token(&issuer, &["--oidc-use-access-token"]).ok();
    assert_ne!(finished.token(), issuer.last_id_token());
    assert_eq!(world.cached()["id_token"], finished.token());
}
