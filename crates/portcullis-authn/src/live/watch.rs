//! Following the file: when it is looked at, and what the log hears of it.
//!
//! Flow: every five seconds it is read → a content that has not been dealt with is read until it stays, so that a file half
//! written is no configuration → [`LiveAuthenticator::look`] → the log.
//!
//! Compat: Kubernetes v1.37 hears of changes from the system and looks once a minute besides. It takes whatever it reads, a file
//! half written too.

use std::time::Duration;

use portcullis_runtime::Shutdown;
use tokio::time::Instant;

use super::{LiveAuthenticator, ReloadError, Reloaded, read_again};

/// How often a file is looked at, and how.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// Between two looks.
    look: Duration,
    /// For a changed file to stay as it is.
    settle: Duration,
    /// Before a failure that goes on is said again.
    again: Duration,
}

const PACE: Pace =
    Pace { look: Duration::from_secs(5), settle: Duration::from_millis(200), again: Duration::from_secs(60) };
/// How often a file is read that does not stay as it is, before it is taken as it happens to be.
const READS: usize = 20;

impl LiveAuthenticator {
    /// Looks at the file every five seconds until `shutdown`, and logs what changed.
    pub async fn watch(&self, shutdown: &Shutdown) {
        self.watch_at(PACE, shutdown).await;
    }

    async fn watch_at(&self, pace: Pace, shutdown: &Shutdown) {
        let mut said = Said::default();
        while shutdown.unless(tokio::time::sleep(pace.look)).await.is_some() {
            if shutdown.unless(self.settled(|| tokio::time::sleep(pace.settle))).await.is_none() {
                return;
            }
            let looked = self.blocking(Self::look).await;
            match looked {
                Ok(Ok(Some(reloaded))) => {
                    self.0.measure(|metrics, data| metrics.reloaded(data, self.0.around.now()));
                    report(&reloaded);
                }
                Ok(Err(error)) if said.is_news(&error, Instant::now(), pace.again) => {
                    self.0.measure(|metrics, _| metrics.failed(self.0.around.now()));
                    let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
                    tracing::error!("authentication configuration not reloaded, the former one stays: {error}{hint}");
                }
                Ok(Ok(None) | Err(_)) => {}
                Err(error) => tracing::error!("authentication configuration not reloaded: {error}"),
            }
        }
    }

    /// Waits while somebody writes the file: until a content that is new has been read twice, with a pause between.
    async fn settled<F: Future<Output = ()>>(&self, pause: impl Fn() -> F) {
        let Some(mut before) = self.unseen().await else { return };
        for _ in 0..READS {
            pause().await;
            match self.unseen().await {
                Some(now) if now != before => before = now,
                Some(_) | None => return,
            }
        }
    }

    /// What the file holds, where that has not been dealt with.
    async fn unseen(&self) -> Option<Vec<u8>> {
        let read = self.blocking(|live| {
            let data = read_again(&live.0.file.path).ok()??;
            let last = live.0.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            (*last != data).then_some(data)
        });
        // A failure is found again, and told, by the look that follows.
        read.await.ok().flatten()
    }

    /// Reads the file away from the threads that serve.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, tokio::task::JoinError> {
        let live = self.clone();
        let runtime = tokio::runtime::Handle::current();
        let work = move || {
            // Discoveries are started from there.
            let _inside = runtime.enter();
            work(&live)
        };
        tokio::task::spawn_blocking(work).await
    }
}

/// The failure that was said last. A file that is missing fails at every look, and would fill the log.
#[derive(Debug, Default)]
struct Said(Option<(String, Instant)>);

impl Said {
    fn is_news(&mut self, error: &ReloadError, now: Instant, again: Duration) -> bool {
        let text = error.to_string();
        let is_old = self.0.as_ref().is_some_and(|(said, at)| *said == text && now.duration_since(*at) < again);
        // What does not come of itself is dealt with once, so it is new each time.
        let lasts = matches!(error, ReloadError::Read { .. });
        if lasts && is_old {
            return false;
        }
        self.0 = Some((text, now));
        true
    }
}

fn report(reloaded: &Reloaded) {
    for change in &reloaded.changes {
        tracing::info!("authentication configuration reloaded: {change}");
    }
    tracing::info!(unchanged = reloaded.unchanged, "reloaded authentication config");
}

#[cfg(test)]
mod tests {
    use std::future::{Ready, ready};
    use std::path::Path;
    use std::sync::atomic::{AtomicU16, Ordering};

    use portcullis_runtime::Clock;
    use portcullis_runtime::telemetry::Metrics;

    use super::super::{ConfigFile, ReloadMetrics};
    use super::*;
    use crate::authenticator::Options;
    use crate::keys::Network;

    const QUICK: Pace =
        Pace { look: Duration::from_millis(1), settle: Duration::from_millis(1), again: Duration::from_secs(60) };
    const NOW: i64 = 1_800_000_000;
    const PATIENCE: Duration = Duration::from_secs(30);

    fn entry(port: u16) -> String {
        format!(
            r#"{{"issuer":{{"url":"https://127.0.0.1:{port}","audiences":["c"]}},"claimMappings":{{"username":{{"claim":"sub","prefix":""}}}}}}"#
        )
    }

    /// A file with issuers at ports where nobody listens.
    fn file(ports: &[u16]) -> String {
        let entries: Vec<String> = ports.iter().copied().map(entry).collect();
        format!(
            r#"{{"apiVersion":"apiserver.config.k8s.io/v1","kind":"AuthenticationConfiguration","jwt":[{}]}}"#,
            entries.join(",")
        )
    }

    fn start(path: &Path, shutdown: &Shutdown) -> LiveAuthenticator {
        start_with(ConfigFile::at(path), shutdown)
    }

    fn start_with(file: ConfigFile, shutdown: &Shutdown) -> LiveAuthenticator {
        let options = Options::new(Clock::mock(NOW).0);
        LiveAuthenticator::start(file, options, &Network::default(), shutdown).expect("a valid file")
    }

    fn sha256(text: &str) -> String {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sha256:{hex}")
    }

    fn urls(ports: &[u16]) -> Vec<String> {
        ports.iter().map(|port| format!("https://127.0.0.1:{port}")).collect()
    }

    async fn until(what: &str, holds: impl Fn() -> bool) {
        let looks = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, looks).await.expect(what);
    }

    #[tokio::test]
    async fn a_watched_file_is_followed_until_the_shutdown() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("authentication.json");
        std::fs::write(&path, file(&[1])).expect("the file");
        let shutdown = Shutdown::new();
        let metrics = Metrics::new(&Clock::mock(NOW).0);
        let counted = Some(ReloadMetrics::new(&metrics, "dev-control-plane"));
        let live = start_with(ConfigFile { metrics: counted, ..ConfigFile::at(&path) }, &shutdown);
        let has = |name: &str, labels: &str, value: &str| {
            let line = format!("apiserver_authentication_config_controller_{name}{{{labels}}} {value}\n");
            assert!(metrics.encode().contains(&line), "{line}is not in\n{}", metrics.encode());
        };
        // The first is `sha256sum` of the server's name.
        let id = "apiserver_id_hash=\"sha256:c9e75a0b3222c1bc4b69e96ac08805e04173aeb12ea0e2a1aa2effd78b82cdcd\"";
        let in_force = |text: &str| has("last_config_info", &format!("{id},hash=\"{}\"", sha256(text)), "1");
        in_force(&file(&[1]));
        assert!(!metrics.encode().contains("automatic_reload"), "the start is no reload");
        let (watched, stop) = (live.clone(), shutdown.clone());
        let watch = tokio::spawn(async move { watched.watch_at(QUICK, &stop).await });
        let dealt_with = async |text: &str| {
            // At once: who looks while it is written would take the half of it for another change.
            let new = path.with_extension("new");
            std::fs::write(&new, text).expect("the file");
            std::fs::rename(&new, &path).expect("its name");
            until("somebody looks", || *live.0.last.lock().expect("no panic") == text.as_bytes()).await;
            live.authenticator().issuer_urls()
        };
        for port in 2..5 {
            assert_eq!(dealt_with(&file(&[port])).await, urls(&[port]));
            assert_eq!(dealt_with("broken").await, urls(&[port]), "a broken file changes nothing");
        }
        shutdown.trigger();
        watch.await.expect("it ends");
        for status in ["success", "failure"] {
            let labels = format!("{id},status=\"{status}\"");
            has("automatic_reloads_total", &labels, "3");
            has("automatic_reload_last_timestamp_seconds", &labels, &NOW.to_string());
        }
        in_force(&file(&[4]));
        assert_eq!(metrics.encode().matches("last_config_info{").count(), 1, "that of before has gone");
        std::fs::write(&path, file(&[1])).expect("the file");
        assert_eq!(live.authenticator().issuer_urls(), urls(&[4]));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_volume_whose_link_is_swapped_is_followed() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        // As a kubelet does it: a folder for each state, `..data` at the one that counts, the file behind that.
        let swap = |state: &str, port: u16| {
            std::fs::create_dir(at(state)).expect("a folder");
            std::fs::write(at(state).join("file"), file(&[port])).expect("the file");
            symlink(state, at("..data_tmp")).expect("a link");
            std::fs::rename(at("..data_tmp"), at("..data")).expect("the link is swapped");
        };
        swap("..1", 1);
        symlink("..data/file", at("file")).expect("a link");
        let shutdown = Shutdown::new();
        let live = start(&at("file"), &shutdown);
        let (watched, stop) = (live.clone(), shutdown.clone());
        let watch = tokio::spawn(async move { watched.watch_at(QUICK, &stop).await });
        swap("..2", 2);
        std::fs::remove_dir_all(at("..1")).expect("the former state is removed");
        until("the new state is found", || live.authenticator().issuer_urls() == urls(&[2])).await;
        shutdown.trigger();
        watch.await.expect("it ends");
    }

    #[tokio::test]
    async fn a_file_half_written_is_no_configuration() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("authentication.yaml");
        let text = |ports: &[u16]| {
            let entries: String = ports.iter().map(|port| format!("- {}\n", entry(*port))).collect();
            format!("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n{entries}")
        };
        std::fs::write(&path, text(&[1, 2])).expect("the file");
        let shutdown = Shutdown::new();
        let live = start(&path, &shutdown);
        // Cut between two entries the file is valid, and an issuer that works would be dropped.
        std::fs::write(&path, text(&[1])).expect("the file");
        let pauses = AtomicU16::new(0);
        let written_meanwhile = || {
            let pause = pauses.fetch_add(1, Ordering::Relaxed);
            if pause < 3 {
                std::fs::write(&path, text(&(1..=3 + pause).collect::<Vec<_>>())).expect("the file");
            }
            ready(())
        };
        live.settled(written_meanwhile).await;
        assert_eq!(pauses.load(Ordering::Relaxed), 4, "it was read until it stayed");
        live.look().expect("valid").expect("new");
        assert_eq!(live.authenticator().issuer_urls(), urls(&[1, 2, 3, 4, 5]));
        live.settled(|| -> Ready<()> { panic!("nobody waits for what is known") }).await;
        shutdown.trigger();
    }

    #[tokio::test]
    async fn a_file_that_never_stays_is_not_waited_for_for_ever() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("authentication.json");
        std::fs::write(&path, file(&[1])).expect("the file");
        let shutdown = Shutdown::new();
        let live = start(&path, &shutdown);
        std::fs::write(&path, "0").expect("the file");
        let pauses = AtomicU16::new(0);
        live.settled(|| {
            let text = (1 + pauses.fetch_add(1, Ordering::Relaxed)).to_string();
            std::fs::write(&path, text).expect("the file");
            ready(())
        })
        .await;
        assert_eq!(usize::from(pauses.load(Ordering::Relaxed)), READS);
        shutdown.trigger();
    }

    #[test]
    fn a_file_that_stays_away_is_said_once_a_minute() {
        let gone = |path: &str| ReloadError::Read { action: "open", path: path.to_owned(), reason: "gone".to_owned() };
        let (mut said, again, start) = (Said::default(), PACE.again, Instant::now());
        let just_before = start + again - Duration::from_millis(1);
        assert!(said.is_news(&gone("a"), start, again));
        assert!(!said.is_news(&gone("a"), just_before, again));
        assert!(said.is_news(&gone("a"), start + again, again));
        assert!(said.is_news(&gone("b"), start + again, again), "another one is another one");
        let bad = ReloadError::Config(crate::ConfigError::FileAndFlags);
        assert!(
            said.is_news(&bad, start, again) && said.is_news(&bad, start, again),
            "it is met once for each content"
        );
    }
}
