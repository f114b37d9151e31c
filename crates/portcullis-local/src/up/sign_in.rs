//! The sign-in of `up`: the plugin as a spawned process, as kubectl runs it, and a person or the demo user at the
//! provider's real pages.
//!
//! The plugin holds a port, so it must never outlive this process. It is written down before it is waited for, its standard
//! input is a pipe whose other end is here (the plugin ends when that closes, however this process ends), and every way out
//! of here kills and reaps it. It has a process group of its own: Ctrl-C in the terminal reaches this process alone, which
//! then ends it, and not a browser that the plugin started. To a person it speaks itself, on the terminal, as under kubectl.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use portcullis_runtime::Shutdown;
use portcullis_runtime::http_client::{HttpClient, HttpClientConfig, HttpClientError};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use url::Url;

use crate::form::{self, Credentials, FormError};
use crate::process::Recorded;
use crate::state::StateError;
use crate::steps::Steps;

/// What kubectl tells a plugin about itself.
const EXEC_INFO: &str =
    r#"{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","spec":{"interactive":true}}"#;
/// Tells our binary to end the plugin when its standard input ends.
pub const END_WITH_STDIN: &str = "PORTCULLIS_END_WITH_STDIN";

/// Lines of the plugin's own words that are kept for an error text.
const MAX_LINES: usize = 20;
/// Bytes of the plugin's answer: a token of 64 KiB and its wrapping.
const MAX_ANSWER: u64 = 256 * 1024;
/// How long the plugin waits for a person, for this run alone: until Ctrl-C, so the most that it takes.
const PERSON_TIMEOUT_SECONDS: u32 = u32::MAX;
/// How long the plugin may take to end once it has answered.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// The pause before a failed sign-in starts again, and how far it grows when it fails at once.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Why nobody is signed in.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// The plugin could not be started.
    #[error("cannot start {path}")]
    Start {
        /// The plugin.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The plugin ended without a token.
    #[error("the sign-in plugin failed: {0}")]
    Plugin(String),
    /// The provider's pages did not lead back to the plugin.
    #[error("cannot sign in as {login}")]
    Form {
        /// Who.
        login: String,
        /// Why not.
        #[source]
        source: FormError,
    },
    /// A client could not be made.
    #[error("cannot reach the provider's pages")]
    Client(#[from] HttpClientError),
    /// The plugin's answer is no ExecCredential with a token.
    #[error("the sign-in plugin answered without a token")]
    NoToken,
    /// The plugin could not be written down.
    #[error(transparent)]
    State(#[from] StateError),
    /// Stopping was asked for first.
    #[error("interrupted before anyone had signed in")]
    Interrupted,
}

impl SignInError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Form { source: FormError::WrongPassword, .. } => {
                Some("without a terminal `up` signs in with the guide's password; set PORTCULLIS_DEMO_PASSWORD to another, or run it in a terminal and sign in yourself".to_owned())
            }
            Self::State(error) => error.hint(),
            _ => None,
        }
    }
}

/// What a person is told.
pub(crate) struct Person {
    /// Whether there is a desktop to open a browser on.
    pub(crate) desktop: bool,
    /// Where the plugin waits for the browser.
    pub(crate) url: String,
    /// Who may sign in, such as `as USER / PASSWORD`.
    pub(crate) who: String,
}

/// Who goes through the pages.
enum Who<'a> {
    /// A person; the plugin opens a browser, or prints the URL where there is none.
    Person(&'a Person),
    /// The demo user, without a browser.
    Demo(Credentials<'a>),
}

/// Takes down which plugin waits; `None` when it has ended.
pub(crate) type Record<'a> = &'a mut (dyn FnMut(Option<Recorded>) -> Result<(), StateError> + Send);

/// The plugin as kubectl would run it.
pub(crate) struct Plugin<'a> {
    pub(crate) program: PathBuf,
    /// As they are when it is started: a change of the files may change them while somebody is waited for.
    pub(crate) arguments: &'a (dyn Fn() -> Vec<String> + Sync),
    pub(crate) record: Record<'a>,
}

impl Plugin<'_> {
    /// Signs the demo user in without a person.
    pub(crate) async fn demo(
        &mut self,
        credentials: Credentials<'_>,
        steps: &Steps,
        stop: &Shutdown,
    ) -> Result<String, SignInError> {
        self.token(&Who::Demo(credentials), steps, stop).await
    }

    /// Waits until a person has signed in. A sign-in that fails (consent refused, a broken answer) is said, and starts again.
    pub(crate) async fn person(
        &mut self,
        person: &Person,
        steps: &Steps,
        stop: &Shutdown,
    ) -> Result<String, SignInError> {
        let mut pause = FIRST_PAUSE;
        loop {
            let started = Instant::now();
            match self.token(&Who::Person(person), steps, stop).await {
                Err(SignInError::Plugin(_)) => {}
                ended => return ended,
            }
            // A person took their time: the next failure is not the same one over and over.
            if started.elapsed() > LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            steps.line(&format!("  the sign-in failed; it starts again in {} s, until Ctrl-C", pause.as_secs()));
            if stop.unless(tokio::time::sleep(pause)).await.is_none() {
                return Err(SignInError::Interrupted);
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Runs the plugin until it has printed a credential, and returns the token.
    async fn token(&mut self, who: &Who<'_>, steps: &Steps, stop: &Shutdown) -> Result<String, SignInError> {
        if let Who::Person(Person { desktop, url, who }) = who {
            // Without a desktop the plugin says the URL.
            let at = if *desktop { format!("your browser opens {url}: ") } else { String::new() };
            steps.line(&format!("  {at}sign in {who}"));
        }
        let mut child = self.command(who).spawn().map_err(|source| self.not_started(source))?;
        // Kept open until the plugin has ended: waiting for the child would close it.
        let lifeline = child.stdin.take();
        let recorded = (self.record)(child.id().and_then(Recorded::of));
        let talked = match recorded {
            Ok(()) => stop.unless(talk(&mut child, who)).await,
            Err(error) => Some(Err(error.into())),
        };
        // Whatever came of it, nothing is left behind.
        let ended = match &talked {
            Some(Ok(_)) => tokio::time::timeout(LAST_WORDS, child.wait()).await.ok(),
            _ => None,
        };
        let status = match ended {
            Some(status) => status,
            None => {
                let _ended_already = child.start_kill();
                child.wait().await
            }
        };
        drop(lifeline);
        (self.record)(None)?;
        let (said, answer) = talked.unwrap_or(Err(SignInError::Interrupted))?;
        if !status.map_err(|source| self.not_started(source))?.success() {
            return Err(SignInError::Plugin(said.join("; ")));
        }
        let credential: Value = serde_json::from_slice(&answer).map_err(|_not_json| SignInError::NoToken)?;
        credential.pointer("/status/token").and_then(Value::as_str).map(str::to_owned).ok_or(SignInError::NoToken)
    }

    fn command(&self, who: &Who<'_>) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args((self.arguments)())
            .env("KUBERNETES_EXEC_INFO", EXEC_INFO)
            .env(END_WITH_STDIN, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        match who {
            Who::Person(person) => {
                command.stderr(Stdio::inherit());
                command.arg(format!("--authentication-timeout-sec={PERSON_TIMEOUT_SECONDS}"));
                if !person.desktop {
                    command.arg("--skip-open-browser");
                }
            }
            Who::Demo(_) => {
                command.stderr(Stdio::piped()).arg("--skip-open-browser");
            }
        }
        command
    }

    fn not_started(&self, source: std::io::Error) -> SignInError {
        SignInError::Start { path: self.program.clone(), source }
    }
}

/// Listens to the plugin until it has answered; what it said, and its answer.
async fn talk(child: &mut Child, who: &Who<'_>) -> Result<(Vec<String>, Vec<u8>), SignInError> {
    let stdout = child.stdout.take().ok_or(SignInError::NoToken)?;
    let Who::Demo(credentials) = who else {
        return Ok((Vec::new(), read(stdout).await?));
    };
    let mut said = Said::new(child.stderr.take().ok_or(SignInError::NoToken)?);
    let pages = async {
        if let Some(url) = said.wait_for_url().await {
            go_through_the_form(&url, credentials).await?;
        }
        said.keep_rest().await;
        Ok::<(), SignInError>(())
    };
    // Pages that lead nowhere end the plugin too, which would wait for its browser for ever.
    let ((), answer) = tokio::try_join!(pages, read(stdout))?;
    Ok((said.lines, answer))
}

async fn read(stdout: ChildStdout) -> Result<Vec<u8>, SignInError> {
    let mut answer = Vec::new();
    let mut limited = stdout.take(MAX_ANSWER);
    limited.read_to_end(&mut answer).await.map_err(|_broken_pipe| SignInError::NoToken)?;
    Ok(answer)
}

async fn go_through_the_form(url: &Url, credentials: &Credentials<'_>) -> Result<(), SignInError> {
    let client = HttpClient::new(HttpClientConfig { max_redirects: 0, ..HttpClientConfig::default() })?;
    form::sign_in(&client, url, url, credentials)
        .await
        .map_err(|source| SignInError::Form { login: credentials.login.to_owned(), source })?;
    Ok(())
}

/// What the plugin says on stderr.
struct Said {
    reader: tokio::io::Lines<BufReader<ChildStderr>>,
    lines: Vec<String>,
}

impl Said {
    fn new(stderr: ChildStderr) -> Self {
        Self { reader: BufReader::new(stderr).lines(), lines: Vec::new() }
    }

    async fn next(&mut self) -> Option<String> {
        let line = self.reader.next_line().await.ok().flatten()?;
        if self.lines.len() < MAX_LINES {
            self.lines.push(line.trim().to_owned());
        }
        Some(line)
    }

    /// The URL that the plugin asks to open: `Please visit the following URL in your browser: U`.
    async fn wait_for_url(&mut self) -> Option<Url> {
        while let Some(line) = self.next().await {
            let url = line.split_whitespace().last().and_then(|word| Url::parse(word).ok());
            if line.contains("visit the following URL") && url.is_some() {
                // What it says from here on is why it failed.
                self.lines.clear();
                return url;
            }
        }
        None
    }

    async fn keep_rest(&mut self) {
        while self.next().await.is_some() {}
    }
}
