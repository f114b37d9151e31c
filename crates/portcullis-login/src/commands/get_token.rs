//! `get-token`: what kubectl runs to get a token.
//!
//! 1. Read what client-go asks, compute the key, take the lock if it is free, read the cache.
//! 2. A token that is still good is printed. No runtime, no TLS, no network: this path has a budget of 2 ms.
//! 3. Else wait for the lock (somebody else is signing in, their token will do), refresh, or sign in; verify, save, print.
//!
//! Compat: kubelogin `credentialplugin/get_token.go` v1.36. Never prints anything but the credential on stdout. A cache
//! that cannot be locked, read or written costs a sign-in, never the command.

use std::time::Duration;

use portcullis_runtime::{Timestamp, shutdown};
use tokio::time::Instant;

use crate::cache::{Backoff, CacheDir, CacheKey, CacheLock, CacheReadError, LockAttempt, TokenSet};
use crate::console::Console;
use crate::encoding::printable;
use crate::error::{BrowserError, CANCELED, DEADLINE, LoginError};
use crate::exec_credential::ExecInfo;
use crate::grant;
use crate::jwt::Glance;
use crate::options::{GetTokenOptions, Grant, Storage};
use crate::session::{Session, Tokens};
use crate::world::Env;

/// How often a busy lock is tried again.
const LOCK_POLL: Duration = Duration::from_millis(25);

/// How much longer than one sign-in a busy lock is waited for.
const LOCK_GRACE: Duration = Duration::from_secs(60);

/// A failed command: the line after `error: get-token: `, and what to do.
#[derive(Debug)]
pub(crate) struct Failure {
    /// kubelogin's text.
    pub(crate) text: String,
    /// A hint for the user.
    pub(crate) hint: Option<String>,
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self { text, hint: None }
    }
}

impl From<LoginError> for Failure {
    fn from(error: LoginError) -> Self {
        Self { text: format!("authentication error: {error}"), hint: error.hint() }
    }
}

/// Runs the command.
pub(crate) fn run(options: &GetTokenOptions, env: &Env, console: &mut Console<'_>) -> Result<(), Failure> {
    let exec = ExecInfo::parse(env.var("KUBERNETES_EXEC_INFO"))
        .map_err(|error| format!("could not read the input of credential plugin: {error}"))?;
    let cache = match options.storage {
        Storage::Disk => Some(Cache::new(options)),
        Storage::None => None,
        Storage::Keyring => {
            return Err(Failure {
                text: "token-cache-storage keyring is not built yet".to_owned(),
                hint: Some("use --token-cache-storage=disk, or none".to_owned()),
            });
        }
    };
    let Some(cache) = cache else {
        let tokens = block_on(env, login(options, None, None, env, console))??;
        return emit(&exec, &tokens.glance, &tokens.token, console);
    };

    let (lock, busy) = match cache.dir.try_lock(&cache.name) {
        Ok(LockAttempt::Held(lock)) => (Some(lock), false),
        Ok(LockAttempt::Busy) => (None, true),
        Err(error) => {
            console.log(1, &format!("could not lock the token cache: {error}; going on without"));
            (None, false)
        }
    };
    let mut cached = cache.find(env.clock.now(), console);
    if let Some((set, glance)) = cached.fresh.take_if(|_| !options.force_refresh) {
        console.log(1, "you already have a valid token");
        return emit(&exec, &glance, &set.id_token, console);
    }
    let outcome = block_on(env, slow(options, &cache, lock, busy, cached, env, console))??;
    match outcome {
        Slow::Cached(set, glance) => emit(&exec, &glance, &set.id_token, console),
        Slow::New(tokens) => emit(&exec, &tokens.glance, &tokens.token, console),
    }
}

/// The cached login of this command line.
struct Cache {
    dir: CacheDir,
    key: CacheKey,
    name: String,
}

/// What the cache holds.
#[derive(Debug, Default)]
struct Found {
    /// A token that can be handed out.
    fresh: Option<(TokenSet, Glance)>,
    /// The refresh token of an outdated one, empty without.
    refresh_token: String,
    /// A word about a damaged cache.
    notice: Option<String>,
}

impl Cache {
    fn new(options: &GetTokenOptions) -> Self {
        let key = options.login.cache_key();
        let name = key.file_name();
        Self { dir: CacheDir::new(&options.cache_dir), key, name }
    }

    /// Looks under our own name, then under the names that kubelogin may have used for the same flags.
    fn find(&self, now: Timestamp, console: &mut Console<'_>) -> Found {
        console.log(1, &format!("finding a token from the cache {}", self.dir.file(&self.name).display()));
        let mut found = self.look(&self.name, now);
        if found.fresh.is_none() && self.key.is_ambiguous() {
            let mut newest = i64::MIN;
            for name in self.key.candidates().iter().skip(1) {
                let Ok(set) = self.dir.read(name) else { continue };
                let Ok(glance) = Glance::at(&set.id_token) else { continue };
                if glance.expiry > newest {
                    newest = glance.expiry;
                    if found.refresh_token.is_empty() {
                        found.refresh_token.clone_from(&set.refresh_token);
                    }
                    if glance.is_fresh(now.unix_seconds()) {
                        found.fresh = Some((set, glance));
                    }
                }
            }
        }
        found
    }

    fn look(&self, name: &str, now: Timestamp) -> Found {
        let set = match self.dir.read(name) {
            Ok(set) => set,
            Err(CacheReadError::Missing) => return Found::default(),
            Err(error) => return Found { notice: Some(error.to_string()), ..Found::default() },
        };
        let refresh_token = set.refresh_token.clone();
        match Glance::at(&set.id_token) {
            Ok(glance) if glance.is_fresh(now.unix_seconds()) => {
                Found { fresh: Some((set, glance)), refresh_token, notice: None }
            }
            Ok(_) => Found { fresh: None, refresh_token, notice: None },
            Err(error) => {
                let notice = format!("the token cache {} holds no token: {error}", self.dir.file(name).display());
                Found { fresh: None, refresh_token, notice: Some(notice) }
            }
        }
    }
}

enum Slow {
    Cached(TokenSet, Glance),
    New(Tokens),
}

/// Everything after the warm path.
async fn slow(
    options: &GetTokenOptions,
    cache: &Cache,
    lock: Option<CacheLock>,
    busy: bool,
    mut cached: Found,
    env: &Env,
    console: &mut Console<'_>,
) -> Result<Slow, Failure> {
    let mut lock = lock;
    if busy {
        console.log(1, "waiting for another process that is signing in");
        lock = wait_for_lock(options, cache, env, console).await?;
        cached = cache.find(env.clock.now(), console);
        // Whoever held the lock has signed in; a forced refresh comes on top, as in kubelogin.
        if let Some((set, glance)) = cached.fresh.take_if(|_| !options.force_refresh) {
            return Ok(Slow::Cached(set, glance));
        }
    }
    if let Some(notice) = &cached.notice {
        let then = if cached.refresh_token.is_empty() { "signing in again" } else { "refreshing" };
        console.say(&format!("{notice}; {then}"));
    }
    let tokens = login(options, Some(cache), Some(&cached.refresh_token), env, console).await?;
    let set = TokenSet { id_token: tokens.token.clone(), refresh_token: tokens.refresh_token.clone() };
    if let Err(error) = cache.dir.write(&cache.name, &set) {
        console.say(&format!("could not write the token cache: {error}; the next command will have to sign in again"));
    }
    Backoff::clear(&cache.dir, &cache.name);
    drop(lock);
    Ok(Slow::New(tokens))
}

/// Waits for a busy lock, at most one sign-in and a little.
async fn wait_for_lock(
    options: &GetTokenOptions,
    cache: &Cache,
    env: &Env,
    console: &mut Console<'_>,
) -> Result<Option<CacheLock>, Failure> {
    let patience = LOCK_GRACE
        + match &options.login.grant {
            Grant::Browser(browser) => browser.timeout,
            Grant::Keyboard | Grant::Password { .. } | Grant::NotBuilt { .. } => Duration::from_secs(180),
        };
    let deadline = Instant::now() + patience;
    let failed = |reason: &str| Failure {
        text: format!("could not lock the token cache: {reason}"),
        hint: (reason == DEADLINE).then(|| {
            format!("another process holds {}.lock; end it if it hangs", cache.dir.file(&cache.name).display())
        }),
    };
    loop {
        match cache.dir.try_lock(&cache.name) {
            Ok(LockAttempt::Held(lock)) => return Ok(Some(lock)),
            Ok(LockAttempt::Busy) if Instant::now() >= deadline => return Err(failed(DEADLINE)),
            Ok(LockAttempt::Busy) => {}
            Err(error) => {
                console.log(1, &format!("could not lock the token cache: {error}; going on without"));
                return Ok(None);
            }
        }
        if env.shutdown.unless(tokio::time::sleep(LOCK_POLL)).await.is_none() {
            return Err(failed(CANCELED));
        }
    }
}

/// Refreshes with the cached refresh token, or signs in.
async fn login(
    options: &GetTokenOptions,
    cache: Option<&Cache>,
    refresh_token: Option<&str>,
    env: &Env,
    console: &mut Console<'_>,
) -> Result<Tokens, Failure> {
    let session = Session::connect(&options.login, env, console).await?;
    if let Some(refresh_token) = refresh_token.filter(|token| !token.is_empty()) {
        console.log(1, "refreshing the token");
        match env.shutdown.unless(session.refresh(refresh_token)).await {
            None => {
                return Err(Failure::from(format!("authentication error: could not refresh the token: {CANCELED}")));
            }
            Some(Ok(tokens)) => return Ok(tokens),
            Some(Err(error)) => {
                let reason = printable(&error.to_string(), 300);
                console.say(&format!("could not refresh the token: {reason}; signing in again"));
            }
        }
    }
    let is_browser = matches!(options.login.grant, Grant::Browser(_));
    let guard = cache.filter(|_| is_browser && !env.stdin_is_terminal);
    if let Some(cache) = guard
        && let Some(seconds) = Backoff::read(&cache.dir, &cache.name).wait_seconds(env.clock.now().unix_seconds())
    {
        return Err(LoginError::Browser(BrowserError::BackingOff { seconds }).into());
    }
    let signed_in = grant::sign_in(&session, env, console).await;
    if let (Err(error), Some(cache)) = (&signed_in, guard)
        && error.is_unfinished()
    {
        Backoff::read(&cache.dir, &cache.name).record(&cache.dir, &cache.name, env.clock.now().unix_seconds());
    }
    Ok(signed_in?)
}

/// Prints the credential.
fn emit(exec: &ExecInfo, glance: &Glance, token: &str, console: &mut Console<'_>) -> Result<(), Failure> {
    let expiry = Timestamp::from_unix_seconds(glance.expiry).rfc3339();
    console.log(1, &format!("writing the token to client-go, valid until {expiry}"));
    let line =
        exec.credential(token, &expiry).map_err(|error| format!("could not write the token to client-go: {error}"))?;
    console.data(&line).map_err(|error| format!("could not write the token to client-go: write error: {error}").into())
}

/// Runs the slow path on a runtime of its own; Ctrl-C triggers `env.shutdown` from here on. The runtime is not waited
/// for: a name resolution or a prompt that hangs must not hold the program back.
pub(crate) fn block_on<F: Future>(env: &Env, work: F) -> Result<F::Output, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("could not start: {error}"))?;
    let output = runtime.block_on(async {
        if env.handle_signals {
            let token = env.shutdown.clone();
            tokio::spawn(async move { shutdown::on_signals(&token).await });
            tokio::task::yield_now().await;
        }
        work.await
    });
    runtime.shutdown_background();
    Ok(output)
}
