//! From tracing's events to slog lines.
//!
//! An event's own fields come first, then those of the spans around it, innermost last, so that `request_id` ends the
//! line as in Dex. Records of crates that are not ours are dropped below WARN: HTTP libraries log whole requests there.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record as SpanRecord};
use tracing::{Dispatch, Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use super::level::Level;
use super::slog::{Record, Value, json_line, text_line};
use crate::{Clock, LogRing};

/// Most fields of a line.
const FIELDS: usize = 64;
/// Targets of our own crates begin with this.
const OWN: &str = "portcullis";
/// The plugin's binary crate.
const OWN_PLUGIN: &str = "kubectl_oidc_login";

/// Shape of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// `time=… level=… msg=…`.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The logs cannot be set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogsError {
    /// Compat: Dex's text.
    #[error("log format is not one of the supported values (json, text): {0}")]
    Format(String),
    /// This process has logs already.
    #[error("logs are set up already")]
    AlreadySet,
}

impl FromStr for LogFormat {
    type Err = LogsError;

    /// Reads `text`, `json` or nothing, which is text.
    fn from_str(text: &str) -> Result<Self, LogsError> {
        match text {
            "" | "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(LogsError::Format(text.chars().take(64).collect())),
        }
    }
}

/// Settings of the logs.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// Less severe records are dropped.
    pub level: Level,
    /// Shape of the lines.
    pub format: LogFormat,
    /// Keys that are dropped from every line (`logger.excludeFields`).
    pub exclude_fields: Vec<String>,
    /// Where the lines' time comes from.
    pub clock: Clock,
    /// Rings that get the lines of some crates too.
    pub rings: Vec<CrateLog>,
}

/// The lines of some crates, which one part of the process is made of.
#[derive(Debug, Clone)]
pub struct CrateLog {
    /// What the targets of their events begin with.
    pub targets: &'static [&'static str],
    /// Where their lines go, beside the log.
    pub ring: LogRing,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            level: Level::INFO,
            format: LogFormat::Text,
            exclude_fields: Vec::new(),
            clock: Clock::system(),
            rings: Vec::new(),
        }
    }
}

/// Makes lines of this process's tracing events, for its whole life. Lines are written one by one; a writer that fails
/// loses lines and nothing else.
///
/// # Errors
/// When it was called before.
pub fn init_logs(config: LogConfig, writer: impl Write + Send + 'static) -> Result<Logs, LogsError> {
    let (dispatch, logs) = dispatch(config, writer);
    tracing::dispatcher::set_global_default(dispatch).map_err(|_| LogsError::AlreadySet)?;
    Ok(logs)
}

/// The same for a part of the process or a test: use it with `tracing::dispatcher::with_default`.
pub fn log_dispatch(config: LogConfig, writer: impl Write + Send + 'static) -> Dispatch {
    dispatch(config, writer).0
}

fn dispatch(config: LogConfig, writer: impl Write + Send + 'static) -> (Dispatch, Logs) {
    let logs = Logs(Arc::new(RwLock::new(Shown::of(&config))));
    let LogConfig { clock, rings, .. } = config;
    let layer = SlogLayer { shown: logs.clone(), clock, rings, writer: Mutex::new(Box::new(writer)) };
    (Dispatch::new(tracing_subscriber::registry().with(layer)), logs)
}

/// The logs that were set up: what is written can be changed, where it goes cannot. Cheap to clone.
#[derive(Clone)]
pub struct Logs(Arc<RwLock<Shown>>);

impl Logs {
    /// Uses the level, the shape and the left-out keys of `config` from the next event on.
    pub fn change(&self, config: &LogConfig) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Shown::of(config);
        // Each place that logs remembers whether it is heard.
        tracing::callsite::rebuild_interest_cache();
    }

    fn shown(&self) -> RwLockReadGuard<'_, Shown> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logs").field("level", &self.shown().level).finish_non_exhaustive()
    }
}

/// What is written.
struct Shown {
    level: Option<tracing::Level>,
    format: LogFormat,
    exclude_fields: Vec<String>,
}

impl Shown {
    fn of(config: &LogConfig) -> Self {
        Self { level: config.level.filter(), format: config.format, exclude_fields: config.exclude_fields.clone() }
    }
}

struct SlogLayer {
    shown: Logs,
    clock: Clock,
    rings: Vec<CrateLog>,
    writer: Mutex<Box<dyn Write + Send>>,
}

impl SlogLayer {
    fn admits(&self, metadata: &Metadata<'_>) -> bool {
        let own = metadata.target().starts_with(OWN) || metadata.target().starts_with(OWN_PLUGIN);
        let floor = if own { tracing::Level::TRACE } else { tracing::Level::WARN };
        // More severe levels are smaller in tracing's order. Spans of ours always count: they only carry fields.
        (metadata.is_span() && own)
            || self.shown.shown().level.is_some_and(|level| *metadata.level() <= level.min(floor))
    }

    fn write(&self, line: &str) -> io::Result<()> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.write_all(line.as_bytes())?;
        writer.flush()
    }
}

impl<S> Layer<S> for SlogLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.admits(metadata)
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &SpanRecord<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut own = Fields::default();
        event.record(&mut own);
        let mut around = Vec::new();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(fields) = span.extensions().get::<Fields>() {
                around.extend(fields.list.iter().cloned());
            }
        }
        let shown = self.shown.shown();
        let fields: Vec<(&str, &Value)> = own
            .list
            .iter()
            .chain(&around)
            .map(|(key, value)| (*key, value))
            .filter(|(key, _)| !shown.exclude_fields.iter().any(|excluded| excluded == key))
            .take(FIELDS)
            .collect();
        let record = Record {
            time: self.clock.now(),
            level: Level::of(*event.metadata().level()),
            message: &own.message,
            fields: &fields,
        };
        let line = match shown.format {
            LogFormat::Text => text_line(&record),
            LogFormat::Json => json_line(&record),
        };
        let target = event.metadata().target();
        for log in &self.rings {
            if log.targets.iter().any(|prefix| target.starts_with(prefix)) {
                log.ring.push(&line);
            }
        }
        // There is nowhere to report a log line that cannot be written.
        let _ = self.write(&line);
    }
}

/// The fields of an event or span, in order.
#[derive(Default)]
struct Fields {
    message: String,
    list: Vec<(&'static str, Value)>,
}

impl Fields {
    fn push(&mut self, field: &Field, value: Value) {
        if self.list.len() < FIELDS {
            self.list.push((field.name(), value));
        }
    }

    fn push_text(&mut self, field: &Field, text: String) {
        if field.name() == "message" {
            let Value::Text(text) = Value::text(text) else { return };
            self.message = text;
        } else {
            self.push(field, Value::text(text));
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push_text(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push_text(field, value.to_owned());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.push_text(field, value.to_string());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, Value::Signed(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, Value::Unsigned(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, Value::Float(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, Value::Bool(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: &str, format: LogFormat, exclude: &[&str], events: impl FnOnce()) -> String {
        let sink = Sink::default();
        let config = LogConfig {
            level: level.parse().unwrap(),
            format,
            exclude_fields: exclude.iter().map(ToString::to_string).collect(),
            clock: Clock::mock(1_785_576_600).0,
            rings: Vec::new(),
        };
        tracing::dispatcher::with_default(&log_dispatch(config, sink.clone()), events);
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn login() {
        let span = tracing::info_span!("request", request_id = "r-1");
        span.in_scope(|| {
            tracing::info!(connector_id = "local", n = 3, ok = true, groups = ?["a", "b"], email = %"e@x", "login successful");
        });
    }

    #[test]
    fn events_become_text_lines_with_the_request_at_the_end() {
        assert_eq!(
            logged("info", LogFormat::Text, &[], login),
            "time=2026-08-01T09:30:00.000Z level=INFO msg=\"login successful\" connector_id=local n=3 ok=true groups=\"[\\\"a\\\", \\\"b\\\"]\" email=e@x request_id=r-1\n"
        );
    }

    #[test]
    fn events_become_json_lines_and_excluded_fields_are_left_out() {
        assert_eq!(
            logged("info", LogFormat::Json, &["email", "groups", "request_id"], login),
            "{\"time\":\"2026-08-01T09:30:00Z\",\"level\":\"INFO\",\"msg\":\"login successful\",\"connector_id\":\"local\",\"n\":3,\"ok\":true}\n"
        );
    }

    #[test]
    fn the_level_decides_what_is_written() {
        let all = || {
            tracing::trace!("t");
            tracing::debug!("d");
            tracing::info!("i");
            tracing::warn!("w");
            tracing::error!("e");
        };
        for (level, lines) in
            [("debug-4", 5), ("debug", 4), ("info", 3), ("info+1", 2), ("warn", 2), ("error", 1), ("error+1", 0)]
        {
            assert_eq!(logged(level, LogFormat::Text, &[], all).lines().count(), lines, "{level}");
        }
    }

    #[test]
    fn level_shape_and_keys_change_while_it_runs() {
        let sink = Sink::default();
        let clock = Clock::mock(1_785_576_600).0;
        let (dispatch, logs) = dispatch(LogConfig { clock, ..LogConfig::default() }, sink.clone());
        let both = || {
            tracing::debug!(n = 1, secret = "s", "quiet");
            tracing::info!(n = 2, "loud");
        };
        tracing::dispatcher::with_default(&dispatch, || {
            both();
            let (level, exclude_fields) = ("debug".parse().unwrap(), vec!["secret".to_owned()]);
            logs.change(&LogConfig { level, format: LogFormat::Json, exclude_fields, ..LogConfig::default() });
            both();
            logs.change(&LogConfig { level: "error".parse().unwrap(), ..LogConfig::default() });
            both();
        });
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let heads: Vec<&str> = text.lines().map(|line| line.split_at(line.len().min(5)).0).collect();
        assert_eq!(heads, ["time=", "{\"tim", "{\"tim"], "{text}");
        assert!(text.contains("\"msg\":\"quiet\",\"n\":1}") && !text.contains("secret"), "{text}");
    }

    #[test]
    fn foreign_crates_are_heard_from_warn_on_only() {
        let foreign = || {
            tracing::debug!(target: "h2::codec", authorization = "Bearer secret", "frame");
            tracing::info!(target: "hyper", "chatter");
            tracing::warn!(target: "rustls", "odd");
        };
        let lines = logged("debug-4", LogFormat::Text, &[], foreign);
        assert_eq!(lines.lines().count(), 1, "{lines}");
        assert!(!lines.contains("secret"));
    }

    #[test]
    fn a_ring_gets_the_lines_of_its_crates_alone() {
        let ring = LogRing::default();
        let rings = vec![CrateLog { targets: &["portcullis_provider", "portcullis_storage"], ring: ring.clone() }];
        let config = LogConfig { clock: Clock::mock(1_785_576_600).0, rings, ..LogConfig::default() };
        let sink = Sink::default();
        tracing::dispatcher::with_default(&log_dispatch(config, sink.clone()), || {
            tracing::info!(target: "portcullis_provider::grants", "one");
            tracing::info!(target: "portcullis_authn", "other");
            tracing::info!(target: "portcullis_storage", "two");
            tracing::debug!(target: "portcullis_storage", "below the level");
        });
        let lines: Vec<_> = ring.lines_of(0).iter().map(|line| line.text.to_string()).collect();
        let line = |message: &str| format!("time=2026-08-01T09:30:00.000Z level=INFO msg={message}\n");
        assert_eq!(lines, [line("one"), line("two")]);
        assert_eq!(sink.0.lock().unwrap().iter().filter(|byte| **byte == b'\n').count(), 3);
    }

    #[test]
    fn a_span_survives_a_level_above_its_own() {
        let lines = logged("error", LogFormat::Text, &[], || {
            tracing::info_span!("request", request_id = "r-2").in_scope(|| tracing::error!("failed"));
        });
        assert!(lines.ends_with("msg=failed request_id=r-2\n"), "{lines}");
    }

    #[test]
    fn the_format_is_text_json_or_refused_in_dexs_words() {
        assert_eq!("".parse(), Ok(LogFormat::Text));
        assert_eq!("json".parse(), Ok(LogFormat::Json));
        let refused = "xml".parse::<LogFormat>().unwrap_err();
        assert_eq!(refused.to_string(), "log format is not one of the supported values (json, text): xml");
    }
}
