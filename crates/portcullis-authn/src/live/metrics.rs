//! Metrics of the file that is followed.
//!
//! Compat: `pkg/server/options/authenticationconfig/metrics` of `k8s.io/apiserver` v0.37: names, labels, help and hashes. A
//! failure to read that lasts is counted when it is said, once a minute; upstream, which looks that often, counts each look.

use aws_lc_rs::digest;
use portcullis_runtime::Timestamp;
use portcullis_runtime::telemetry::{Counter, Gauge, Metrics};

/// Counts reloads, and says which content is in force.
#[derive(Clone)]
pub struct ReloadMetrics {
    reloads: Counter,
    last: Gauge,
    info: Gauge,
    server_hash: String,
}

impl ReloadMetrics {
    /// `server` is the API server's identity among others; the metrics have its hash.
    #[must_use]
    pub fn new(metrics: &Metrics, server: &str) -> Self {
        let labels = &["status", "apiserver_id_hash"];
        Self {
            reloads: metrics.counter(
                "apiserver_authentication_config_controller_automatic_reloads_total",
                "[BETA] Total number of automatic reloads of authentication configuration split by status and apiserver identity.",
                labels,
            ),
            last: metrics.gauge(
                "apiserver_authentication_config_controller_automatic_reload_last_timestamp_seconds",
                "[BETA] Timestamp of the last automatic reload of authentication configuration split by status and apiserver identity.",
                labels,
            ),
            info: metrics.gauge(
                "apiserver_authentication_config_controller_last_config_info",
                "[ALPHA] Information about the last applied authentication configuration with hash as label, split by apiserver identity.",
                &["apiserver_id_hash", "hash"],
            ),
            server_hash: hash(server.as_bytes()),
        }
    }

    /// `data` is in force.
    pub(super) fn applied(&self, data: &[u8]) {
        self.info.only(&[&self.server_hash, &hash(data)], 1.0);
    }

    /// `data` has taken the place of what was in force.
    pub(super) fn reloaded(&self, data: &[u8], now: Timestamp) {
        self.count("success", now);
        self.applied(data);
    }

    /// What was in force stays.
    pub(super) fn failed(&self, now: Timestamp) {
        self.count("failure", now);
    }

    fn count(&self, status: &str, now: Timestamp) {
        let labels = [status, self.server_hash.as_str()];
        self.reloads.inc(&labels);
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^53")]
        self.last.set(&labels, now.unix_seconds() as f64);
    }
}

impl std::fmt::Debug for ReloadMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReloadMetrics").field("server_hash", &self.server_hash).finish_non_exhaustive()
    }
}

/// Compat: nothing has no hash.
fn hash(data: &[u8]) -> String {
    if data.is_empty() {
        return String::new();
    }
    let digest = digest::digest(&digest::SHA256, data);
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
