//! The sign-in of `up`: the plugin as a spawned process, exactly as kubectl runs it, and a person or the demo user at
//! the provider's real pages.

use std::path::PathBuf;
use std::process::Stdio;

use portcullis_runtime::http_client::{HttpClient, HttpClientConfig, HttpClientError};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{ChildStderr, Command};
use url::Url;

use crate::form::{self, Credentials, FormError};
use crate::steps::Steps;

/// What kubectl tells a plugin about itself.
const EXEC_INFO: &str =
    r#"{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","spec":{"interactive":true}}"#;

/// Lines of the plugin's own words that are kept for an error text.
const MAX_LINES: usize = 20;
/// Bytes of the plugin's answer: a token of 64 KiB and its wrapping.
const MAX_ANSWER: u64 = 256 * 1024;

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
}

impl SignInError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Form { source: FormError::WrongPassword, .. } => {
                Some("without a terminal `up` signs in with the guide's password; set PORTCULLIS_DEMO_PASSWORD to another, or run it in a terminal and sign in yourself".to_owned())
            }
            _ => None,
        }
    }
}

/// Who goes through the pages.
pub(crate) enum Who<'a> {
    /// A person; the plugin opens a browser, or prints the URL where there is none.
    Person {
        /// Whether there is a desktop to open a browser on.
        desktop: bool,
    },
    /// The demo user, without a browser.
    Demo(Credentials<'a>),
}

/// The plugin as kubectl would run it.
pub(crate) struct Plugin {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
}

impl Plugin {
    /// Runs the plugin until it has printed a credential, and returns the token.
    pub(crate) async fn token(&self, who: &Who<'_>, steps: &Steps) -> Result<String, SignInError> {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .env("KUBERNETES_EXEC_INFO", EXEC_INFO)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if !matches!(who, Who::Person { desktop: true }) {
            command.arg("--skip-open-browser");
        }
        let mut child = command.spawn().map_err(|source| SignInError::Start { path: self.program.clone(), source })?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(SignInError::NoToken);
        };
        let mut said = Said::new(stderr);
        let mut answer = Vec::new();
        let mut limited = stdout.take(MAX_ANSWER);
        let pages = async {
            match who {
                Who::Person { .. } => said.pass_on(steps).await,
                Who::Demo(credentials) => {
                    if let Some(url) = said.wait_for_url().await {
                        go_through_the_form(&url, credentials).await?;
                    }
                    said.keep_rest().await;
                }
            }
            Ok::<(), SignInError>(())
        };
        // Pages that lead nowhere end the plugin too, which would wait for its browser: it is killed when dropped.
        let read = async { limited.read_to_end(&mut answer).await.map_err(|_broken_pipe| SignInError::NoToken) };
        tokio::try_join!(pages, read)?;
        let status = child.wait().await.map_err(|source| SignInError::Start { path: self.program.clone(), source })?;
        if !status.success() {
            return Err(SignInError::Plugin(said.lines.join("; ")));
        }
        let credential: Value = serde_json::from_slice(&answer).map_err(|_not_json| SignInError::NoToken)?;
        credential.pointer("/status/token").and_then(Value::as_str).map(str::to_owned).ok_or(SignInError::NoToken)
    }
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
                return url;
            }
        }
        None
    }

    async fn pass_on(&mut self, steps: &Steps) {
        while let Some(line) = self.next().await {
            steps.line(&format!("  {line}"));
        }
    }

    async fn keep_rest(&mut self) {
        while self.next().await.is_some() {}
    }
}
