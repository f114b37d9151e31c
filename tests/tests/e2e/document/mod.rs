//! `docs/guide.md` is walked as it stands: its files are written, its commands typed into terminals, its browser steps done in
//! Chromium, and what it says one sees is compared with what one sees.
//!
//! It takes the ports that it names, 5554, 6443 and 8000: the guide's own. Where one is taken it says by whom, and fails.

mod ports;
mod terminal;
mod text;

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fantoccini::{Client, Locator};

use self::terminal::Terminal;
use self::text::{Item, Person, items};
use crate::browser::Driver;
use crate::world::{World, finish};

/// The button that the document names.
const PRESS: &str = "Grant access";
/// The longest that a page may take.
const PAGE: Duration = Duration::from_secs(15);

/// How the browser steps are done.
enum Browser {
    Chromium(Box<(Driver, Client, tokio::runtime::Runtime)>),
    /// The forms alone, without a browser.
    Forms,
}

impl Browser {
    fn chromium() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let driver = Driver::start();
        let client = runtime.block_on(driver.session());
        Self::Chromium(Box::new((driver, client, runtime)))
    }

    /// What the document says to do in the browser.
    fn sign_in(&self, world: &World, url: &str, person: &Person) {
        match self {
            Self::Chromium(all) => {
                let (_, client, runtime) = &**all;
                runtime.block_on(in_chromium(client, url, person));
            }
            Self::Forms => {
                let mut browser = world.command(env!("CARGO_BIN_EXE_sign-in"));
                finish(browser.arg(url).env("SIGN_IN_LOGIN", &person.login).env("SIGN_IN_PASSWORD", &person.password))
                    .ok();
            }
        }
    }
}

async fn in_chromium(client: &Client, url: &str, person: &Person) {
    let find = async |css: &str| match client.wait().at_most(PAGE).for_element(Locator::Css(css)).await {
        Ok(element) => element,
        Err(error) => {
            let page = client.source().await.unwrap_or_default();
            panic!("no {css} at {:?}: {error}\n{page}", client.current_url().await.map(String::from))
        }
    };
    client.goto(url).await.unwrap();
    find("input[name=login]").await.send_keys(&person.login).await.unwrap();
    assert_eq!(client.current_url().await.unwrap().scheme(), "http", "no certificate is met");
    find("input[name=password]").await.send_keys(&person.password).await.unwrap();
    find("button[type=submit]").await.click().await.unwrap();
    let approve = find("form:has(input[value=approve]) button").await;
    assert_eq!(approve.text().await.unwrap(), PRESS);
    approve.click().await.unwrap();
    let end = Instant::now() + PAGE;
    loop {
        // One page may go while it is read, and the next one come.
        let text = find("body").await.text().await.unwrap_or_default();
        if text.contains("close") {
            return;
        }
        assert!(Instant::now() < end, "the last page says that it can be closed: {text}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A desktop's way to open a URL, which notes it down.
fn install_opener(world: &World) -> PathBuf {
    let urls = world.home().join("urls");
    let path = world.home().join("bin/xdg-open");
    fs::write(&path, format!("#!/bin/sh\necho \"$1\" >>'{}'\n", urls.display())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    for other in ["x-www-browser", "www-browser"] {
        symlink(&path, world.home().join("bin").join(other)).unwrap();
    }
    urls
}

/// Walks the whole document; `environment` is that of its terminals, besides the usual.
fn walk(browser: &Browser, environment: &[(&str, &str)]) {
    let world = World::new();
    ports::must_be_free();
    let document = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/guide.md")).unwrap();
    assert!(document.contains(&format!("choose **{PRESS}**")));
    let urls = install_opener(&world);
    let mut terminals: Vec<Terminal> = (1..=3).map(|_| Terminal::open(&world, environment)).collect();
    let items = items(&document);
    // Step 10 opens the browser, and step 11 says who is to sign in there.
    let mut person = items.iter().find_map(|item| match item {
        Item::SignIn(person) => Some(person.clone()),
        _ => None,
    });
    let (mut opened, mut compared) = (0, 0);
    for item in items {
        match item {
            Item::File { name, text } => {
                // Saved where the first terminal is.
                fs::write(world.home().join("oidc-demo").join(name), text).unwrap();
            }
            Item::SignIn(new) => person = Some(new),
            Item::Key { terminal, key } => terminals[terminal - 1].press(key),
            Item::Command { terminal: 1, text, expected } => {
                let terminal = &mut terminals[0];
                let mut running = terminal.start(&text);
                while !terminal.has_ended(&mut running) {
                    let asked = fs::read_to_string(&urls).unwrap_or_default();
                    if let Some(url) = asked.lines().nth(opened) {
                        opened += 1;
                        browser.sign_in(&world, url, person.as_ref().expect("the document says who signs in"));
                    }
                }
                running.compare(&expected, world.home());
                compared += 1;
            }
            Item::Command { terminal, text, expected } => {
                terminals[terminal - 1].leave_running(&text, &expected, world.home());
                compared += 1;
            }
        }
    }
    assert!(compared >= 25 && opened >= 3, "the document was walked: {compared} commands, {opened} sign-ins");
    // What the last paragraph says.
    terminals[1].wait_for("stopped; the same command starts it again");
    let left: Vec<_> = fs::read_dir(world.home()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        !left.iter().any(|name| name.to_string_lossy().contains("kubeconfig") || *name == *"oidc-demo"),
        "{left:?}"
    );
    assert!(!world.state().join("dev").exists());
    assert!([5554, 6443].into_iter().all(|port| TcpStream::connect(("127.0.0.1", port)).is_err()));
}

#[test]
fn every_step_of_the_guide_is_as_it_says_in_chromium() {
    walk(&Browser::chromium(), &[]);
}

/// kubectl's other transport, plain SPDY; without a browser, because the pages are the same.
#[test]
fn every_step_of_the_guide_is_as_it_says_also_over_plain_spdy() {
    walk(&Browser::Forms, &[("KUBECTL_PORT_FORWARD_WEBSOCKETS", "false")]);
}
