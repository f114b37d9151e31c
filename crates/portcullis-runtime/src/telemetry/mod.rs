//! What a running program tells its operators: logs in Go's slog shape, metrics in Prometheus' text format, health.
//!
//! Nothing here may carry a secret: log fields are what the caller names, foreign crates' records below WARN are
//! dropped (they would show headers), and metric labels are bounded sets.

mod health;
mod level;
mod logs;
mod metrics;
mod process;
#[cfg(feature = "server")]
mod serve;
mod slog;

pub use health::{CheckResult, Health};
pub use level::{Level, LevelError};
pub use logs::{CrateLog, LogConfig, LogFormat, Logs, LogsError, init_logs, log_dispatch};
pub use metrics::{Counter, Gauge, Histogram, HttpMetrics, Metrics};
#[cfg(feature = "server")]
pub use serve::{MatchedRoute, TelemetryHandler, instrument};
