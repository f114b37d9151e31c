//! Metrics in Prometheus' text format 0.0.4, with the names that Dex has.
//!
//! The encoder is our own, a page of code, because the official crate writes OpenMetrics only: `le="1.0"` and
//! `# TYPE http_requests counter` would break the dashboards and alerts that Dex's users have.
//!
//! Label values come from bounded sets; beyond [`SERIES`] series of one metric, new ones are counted together under
//! `other`, so that no client can make the process grow.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::process::process_metrics;
use crate::{Clock, Timestamp};

/// Most series of one metric.
const SERIES: usize = 1_000;
/// Label value of what did not fit.
const OTHER: &str = "other";

/// A registry of metrics. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Metrics {
    families: Arc<Mutex<BTreeMap<&'static str, Arc<Family>>>>,
    http: HttpMetrics,
    start: Timestamp,
}

impl Metrics {
    /// A registry with Dex's HTTP metrics (dex.md section 7) and, on Linux, the process's own.
    #[must_use]
    pub fn new(clock: &Clock) -> Self {
        let families = Arc::default();
        let labels = &["code", "method", "handler"];
        let http = HttpMetrics {
            requests: Counter(family(
                &families,
                "http_requests_total",
                "Count of all HTTP requests.",
                labels,
                Kind::Counter,
            )),
            duration: Histogram(family(
                &families,
                "request_duration_seconds",
                "A histogram of latencies for requests.",
                labels,
                Kind::Histogram(&[0.25, 0.5, 1.0, 2.5, 5.0, 10.0]),
            )),
            size: Histogram(family(
                &families,
                "response_size_bytes",
                "A histogram of response sizes for requests.",
                labels,
                Kind::Histogram(&[200.0, 500.0, 900.0, 1500.0]),
            )),
        };
        Self { families, http, start: clock.now() }
    }

    /// A counter; its name ends in `_total`. The same name gives the same counter.
    #[must_use]
    pub fn counter(&self, name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Counter {
        Counter(family(&self.families, name, help, labels, Kind::Counter))
    }

    /// A gauge. The same name gives the same gauge.
    #[must_use]
    pub fn gauge(&self, name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Gauge {
        Gauge(family(&self.families, name, help, labels, Kind::Gauge))
    }

    /// A histogram with these upper bounds, in ascending order. The same name gives the same histogram.
    #[must_use]
    pub fn histogram(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        bounds: &'static [f64],
    ) -> Histogram {
        Histogram(family(&self.families, name, help, labels, Kind::Histogram(bounds)))
    }

    /// The HTTP metrics.
    #[must_use]
    pub const fn http(&self) -> &HttpMetrics {
        &self.http
    }

    /// All metrics, as `text/plain; version=0.0.4`.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut out = self.encode_own();
        process_metrics(&mut out, self.start);
        out
    }

    /// Without those of the process.
    fn encode_own(&self) -> String {
        let families: Vec<_> = lock(&self.families).values().cloned().collect();
        let mut out = String::new();
        for family in families {
            family.encode(&mut out);
        }
        out
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// A number that only grows.
#[derive(Clone)]
pub struct Counter(Arc<Family>);

impl Counter {
    /// Adds one to the series with these label values, in the order of the labels.
    pub fn inc(&self, values: &[&str]) {
        self.add(values, 1);
    }

    /// Adds `count` to the series with these label values.
    pub fn add(&self, values: &[&str], count: u64) {
        self.0.series(values).count.fetch_add(count, Ordering::Relaxed);
    }
}

/// A number that goes up and down.
#[derive(Clone)]
pub struct Gauge(Arc<Family>);

impl Gauge {
    /// Sets the series with these label values.
    pub fn set(&self, values: &[&str], to: f64) {
        self.0.series(values).sum.store(to.to_bits(), Ordering::Relaxed);
    }

    /// Sets the series with these label values, and removes all others: for what only one of them can hold.
    pub fn only(&self, values: &[&str], to: f64) {
        let series = Series { sum: AtomicU64::new(to.to_bits()), ..Series::default() };
        *lock(&self.0.series) = BTreeMap::from([(self.0.key(values), Arc::new(series))]);
    }
}

/// How observations are distributed.
#[derive(Clone)]
pub struct Histogram(Arc<Family>);

impl Histogram {
    /// Counts one observation in the series with these label values.
    pub fn observe(&self, values: &[&str], observation: f64) {
        let series = self.0.series(values);
        if let Kind::Histogram(bounds) = self.0.kind
            && let Some(at) = bounds.iter().position(|bound| observation <= *bound)
            && let Some(bucket) = series.buckets.get(at)
        {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        series.count.fetch_add(1, Ordering::Relaxed);
        let add = |bits| Some((f64::from_bits(bits) + observation).to_bits());
        // The closure always returns Some, so the update cannot fail.
        let _ = series.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

/// Dex's metrics of HTTP requests.
#[derive(Clone)]
pub struct HttpMetrics {
    requests: Counter,
    duration: Histogram,
    size: Histogram,
}

impl HttpMetrics {
    /// Counts one request. `handler` is the route's pattern, never the path that was asked for.
    pub fn observe(&self, code: u16, method: &str, handler: &str, took: Duration, response_bytes: u64) {
        let code = code.to_string();
        let values = [code.as_str(), method_label(method), handler];
        self.requests.inc(&values);
        self.duration.observe(&values, took.as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "sizes beyond 2^53 bytes do not occur")]
        self.size.observe(&values, response_bytes as f64);
    }
}

/// Compat: promhttp's method labels, in lower case, `unknown` for what is no common method.
fn method_label(method: &str) -> &'static str {
    match method {
        "GET" => "get",
        "PUT" => "put",
        "HEAD" => "head",
        "POST" => "post",
        "DELETE" => "delete",
        "CONNECT" => "connect",
        "OPTIONS" => "options",
        "NOTIFY" => "notify",
        "TRACE" => "trace",
        "PATCH" => "patch",
        _ => "unknown",
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram(&'static [f64]),
}

struct Family {
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    kind: Kind,
    series: Mutex<BTreeMap<Vec<String>, Arc<Series>>>,
}

/// One combination of label values. Gauges and sums are the bits of an f64.
#[derive(Default)]
struct Series {
    count: AtomicU64,
    sum: AtomicU64,
    buckets: Vec<AtomicU64>,
}

fn family(
    families: &Mutex<BTreeMap<&'static str, Arc<Family>>>,
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    kind: Kind,
) -> Arc<Family> {
    let new = || Arc::new(Family { name, help, labels, kind, series: Mutex::default() });
    lock(families).entry(name).or_insert_with(new).clone()
}

impl Family {
    fn key(&self, values: &[&str]) -> Vec<String> {
        let mut key: Vec<String> = values.iter().take(self.labels.len()).map(ToString::to_string).collect();
        key.resize(self.labels.len(), String::new());
        key
    }

    fn series(&self, values: &[&str]) -> Arc<Series> {
        let mut key = self.key(values);
        let mut all = lock(&self.series);
        if !all.contains_key(&key) && all.len() >= SERIES {
            key.fill(OTHER.to_owned());
        }
        let buckets = match self.kind {
            Kind::Histogram(bounds) => bounds.len(),
            Kind::Counter | Kind::Gauge => 0,
        };
        let new =
            || Arc::new(Series { buckets: (0..buckets).map(|_| AtomicU64::new(0)).collect(), ..Series::default() });
        all.entry(key).or_insert_with(new).clone()
    }

    fn encode(&self, out: &mut String) {
        let all: Vec<_> = lock(&self.series).iter().map(|(values, series)| (values.clone(), series.clone())).collect();
        if all.is_empty() {
            return;
        }
        let kind = match self.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        let _ = writeln!(out, "# HELP {} {}\n# TYPE {} {kind}", self.name, self.help, self.name);
        for (values, series) in all {
            let labels = self.labels(&values);
            let count = series.count.load(Ordering::Relaxed);
            let sum = f64::from_bits(series.sum.load(Ordering::Relaxed));
            match self.kind {
                Kind::Counter => line(out, self.name, "", &labels, None, &count.to_string()),
                Kind::Gauge => line(out, self.name, "", &labels, None, &number(sum)),
                Kind::Histogram(bounds) => {
                    let mut below = 0;
                    for (bound, bucket) in bounds.iter().zip(&series.buckets) {
                        below += bucket.load(Ordering::Relaxed);
                        line(out, self.name, "_bucket", &labels, Some(&number(*bound)), &below.to_string());
                    }
                    line(out, self.name, "_bucket", &labels, Some("+Inf"), &count.to_string());
                    line(out, self.name, "_sum", &labels, None, &number(sum));
                    line(out, self.name, "_count", &labels, None, &count.to_string());
                }
            }
        }
    }

    /// `code="200",method="get"`, in the alphabetical order that Go's client writes.
    fn labels(&self, values: &[String]) -> String {
        let mut pairs: Vec<_> = self.labels.iter().zip(values).collect();
        pairs.sort_unstable();
        pairs.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect::<Vec<_>>().join(",")
    }
}

fn line(out: &mut String, name: &str, suffix: &str, labels: &str, le: Option<&str>, value: &str) {
    let le = le.map(|le| format!("le=\"{le}\""));
    let labels = [Some(labels).filter(|labels| !labels.is_empty()), le.as_deref()]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(",");
    let _ = if labels.is_empty() {
        writeln!(out, "{name}{suffix} {value}")
    } else {
        writeln!(out, "{name}{suffix}{{{labels}}} {value}")
    };
}

/// A number as Go's client writes it: the shortest text, with an exponent from 1e21 on and below 1e-6.
pub(super) fn number(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if value != 0.0 && !(1e-4..1e21).contains(&value.abs()) {
        let text = format!("{value:e}");
        return match text.split_once('e') {
            Some((mantissa, exponent)) => {
                let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
                format!("{mantissa}e{sign}{digits:0>2}")
            }
            None => text,
        };
    }
    format!("{value}")
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> Metrics {
        Metrics::new(&Clock::mock(0).0)
    }

    #[test]
    fn golden_http_metrics() {
        let metrics = metrics();
        metrics.http().observe(200, "GET", "/keys", Duration::from_millis(300), 700);
        metrics.http().observe(200, "GET", "/keys", Duration::from_secs(20), 5_000);
        metrics.http().observe(400, "BREW", "/token", Duration::ZERO, 0);
        let want = "\
# HELP http_requests_total Count of all HTTP requests.
# TYPE http_requests_total counter
http_requests_total{code=\"200\",handler=\"/keys\",method=\"get\"} 2
http_requests_total{code=\"400\",handler=\"/token\",method=\"unknown\"} 1
# HELP request_duration_seconds A histogram of latencies for requests.
# TYPE request_duration_seconds histogram
request_duration_seconds_bucket{code=\"200\",handler=\"/keys\",method=\"get\",le=\"0.25\"} 0
request_duration_seconds_bucket{code=\"200\",handler=\"/keys\",method=\"get\",le=\"0.5\"} 1
request_duration_seconds_bucket{code=\"200\",handler=\"/keys\",method=\"get\",le=\"1\"} 1
request_duration_seconds_bucket{code=\"200\",handler=\"/keys\",method=\"get\",le=\"2.5\"} 1
request_duration_seconds_bucket{code=\"200\",handler=\"/keys\",method=\"get\",le=\"5\"} 1
request_duration_seconds_bucket{code=\"200\",handler=\"/keys\",method=\"get\",le=\"10\"} 1
request_duration_seconds_bucket{code=\"200\",handler=\"/keys\",method=\"get\",le=\"+Inf\"} 2
request_duration_seconds_sum{code=\"200\",handler=\"/keys\",method=\"get\"} 20.3
request_duration_seconds_count{code=\"200\",handler=\"/keys\",method=\"get\"} 2
";
        let text = metrics.encode_own();
        assert!(text.starts_with(want), "{text}");
        assert!(
            text.contains("response_size_bytes_bucket{code=\"200\",handler=\"/keys\",method=\"get\",le=\"900\"} 1\n"),
            "{text}"
        );
        assert!(
            text.contains("response_size_bytes_bucket{code=\"200\",handler=\"/keys\",method=\"get\",le=\"1500\"} 1\n"),
            "{text}"
        );
        assert!(
            text.contains("response_size_bytes_sum{code=\"200\",handler=\"/keys\",method=\"get\"} 5700\n"),
            "{text}"
        );
        assert!(
            text.contains(
                "request_duration_seconds_bucket{code=\"400\",handler=\"/token\",method=\"unknown\",le=\"0.25\"} 1\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn counters_and_gauges_without_labels_have_no_braces() {
        let metrics = metrics();
        metrics.counter("logins_total", "Logins.", &[]).add(&[], 3);
        metrics.gauge("dex_build_info", "Build.", &["version"]).set(&["a\"b\\c\n"], 1.0);
        let text = metrics.encode_own();
        assert!(text.contains("# TYPE logins_total counter\nlogins_total 3\n"), "{text}");
        assert!(text.contains("# TYPE dex_build_info gauge\ndex_build_info{version=\"a\\\"b\\\\c\\n\"} 1\n"), "{text}");
    }

    #[test]
    fn a_gauge_that_holds_one_thing_forgets_the_one_before() {
        let metrics = metrics();
        let gauge = metrics.gauge("info", "I.", &["hash"]);
        gauge.set(&["a"], 1.0);
        gauge.only(&["b"], 1.0);
        gauge.only(&["c"], 2.0);
        let text = metrics.encode_own();
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("info")).collect();
        assert_eq!(lines, ["info{hash=\"c\"} 2"]);
    }

    #[test]
    fn the_same_name_is_the_same_metric() {
        let metrics = metrics();
        metrics.counter("c_total", "C.", &[]).inc(&[]);
        metrics.counter("c_total", "C.", &[]).inc(&[]);
        assert!(metrics.encode_own().contains("c_total 2\n"));
    }

    #[test]
    fn a_metric_cannot_grow_without_end() {
        let metrics = metrics();
        let counter = metrics.counter("c_total", "C.", &["who"]);
        for n in 0..SERIES + 50 {
            counter.inc(&[&n.to_string()]);
        }
        counter.inc(&["0"]);
        let text = metrics.encode_own();
        assert_eq!(text.lines().filter(|line| line.starts_with("c_total{")).count(), SERIES + 1);
        assert!(text.contains("c_total{who=\"other\"} 50\n") && text.contains("c_total{who=\"0\"} 2\n"));
    }

    #[test]
    fn numbers_are_written_as_go_does() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (0.25, "0.25"),
            (1e21, "1e+21"),
            (2.5e-7, "2.5e-07"),
            (f64::INFINITY, "+Inf"),
            (f64::NAN, "NaN"),
            (-2.5, "-2.5"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
