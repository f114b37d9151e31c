//! `pods/log`: the last lines of one of our own parts, and those to come.
//!
//! Flow: options from the query → validation → pod and container → the part's ring of lines → text.
//!
//! Compat: `pkg/registry/core/pod/rest/log.go` and `pkg/registry/core/pod/strategy.go` of Kubernetes 1.37 up to the node; from
//! there the kubelet (`kubelet_pods.go`) and `cri-client/pkg/logs/logs.go`. A pod without a node has no output: 204. Unlike a
//! kubelet's, what is followed goes on when the part is started again.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use portcullis_kube::field::FieldError;
use portcullis_kube::{Status, go};
use portcullis_rbac::RequestInfo;
use portcullis_runtime::{LogLine, LogRing, Shutdown, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::connect::{container, part_of, pod_there};
use super::{check_routed, not_acceptable};
use crate::engine::Engine;
use crate::http::negotiate::{Forms, negotiate};
use crate::http::params::Params;
use crate::http::reply::Reply;
use crate::http::{Call, Outcome};
use crate::resources::text;
use crate::resources::tree::{Members, list_at, string};
use crate::schema::go_time;

/// Lines that are sent in one piece.
const BATCH: usize = 256;

/// What is asked for.
#[derive(Debug, Default)]
struct Options {
    container: String,
    follow: bool,
    previous: bool,
    timestamps: bool,
    since_seconds: Option<i64>,
    since_time: Option<Timestamp>,
    tail: Option<i64>,
    bytes: Option<i64>,
    stream: Option<String>,
}

/// GET of a pod's `log`.
///
/// Compat: the router knows plain text here, and what answers errors does not, so that plain text alone is refused too.
pub(crate) fn get(engine: &Engine, call: &Call, info: &RequestInfo) -> Outcome<Reply> {
    check_routed(&call.accept(), &["text/plain"], false)?;
    negotiate(&call.accept(), false, Forms::Metadata).ok_or_else(not_acceptable)?;
    let options = Options::read(&call.params)?;
    let wrong = options.validate();
    if !wrong.is_empty() {
        return Err(Box::new(Status::invalid("", "PodLogOptions", &info.name, &wrong)));
    }
    let pod = pod_there(engine, info)?;
    let members = pod.members();
    let container = container(&options.container, &members, &pod.name)?;
    let node = text(&members, &["spec", "nodeName"]);
    if node.is_empty() {
        return Ok(Reply::no_content());
    }
    let part = part_of(engine, info, &pod)?;
    let run = shown_run(&options, &container, &members, &part.part.logs)
        .map_err(|why| Box::new(Status::bad_request(format!("{why} in pod \"{}\" not found", pod.name))))?;
    let follow = if options.follow && !options.previous { Some(engine.streams.follower()?) } else { None };
    Ok(Reply::log(Box::pin(pieces(
        Reading::new(&options, &part.part.logs, run, engine.clock.now(), follow),
        part.over,
    ))))
}

/// Which run of the part is shown.
fn shown_run(options: &Options, container: &str, pod: &Members, logs: &LogRing) -> Result<u32, String> {
    let current = logs.run();
    if !options.previous {
        return Ok(current);
    }
    let ended = list_at(pod, &["status", "containerStatuses"])
        .iter()
        .find(|status| string(status, "name") == container)
        .and_then(|status| status.get("lastState")?.get("terminated"));
    let before = current.checked_sub(1).filter(|_| ended.is_some());
    before.ok_or_else(|| format!("previous terminated container \"{container}\""))
}

impl Options {
    fn read(params: &Params) -> Outcome<Self> {
        let time = params.has("sinceTime").then(|| go_time::parse_query(params.get("sinceTime"))).transpose();
        // Compat: the first mistake in this order is the one that is told.
        let since_seconds = number(params, "sinceSeconds")?;
        Ok(Self {
            container: params.get("container").to_owned(),
            follow: params.flag("follow"),
            previous: params.flag("previous"),
            timestamps: params.flag("timestamps"),
            since_seconds,
            since_time: time.map_err(|why| Box::new(Status::bad_request(why)))?,
            tail: number(params, "tailLines")?,
            bytes: number(params, "limitBytes")?,
            stream: params.has("stream").then(|| params.get("stream").to_owned()),
        })
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut wrong = Vec::new();
        let mut below = |value: Option<i64>, least: i64, field: &str, why: &str| {
            if value.is_some_and(|value| value < least) {
                wrong.push(FieldError::invalid_json(field, &value, why));
            }
        };
        below(self.tail, 0, "tailLines", "must be greater than or equal to 0");
        below(self.bytes, 1, "limitBytes", "must be greater than 0");
        if self.since_seconds.is_some() && self.since_time.is_some() {
            wrong.push(FieldError::forbidden("[]", "at most one of `sinceTime` or `sinceSeconds` may be specified"));
        } else {
            below(self.since_seconds, 1, "sinceSeconds", "must be greater than 0");
        }
        if self.stream.is_some() {
            wrong.push(FieldError::forbidden("stream", "may not be specified"));
        }
        wrong
    }

    /// From when on lines are shown.
    fn since(&self, now: Timestamp) -> Timestamp {
        let seconds = self.since_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        match (seconds, self.since_time) {
            (Some(seconds), _) => now - Duration::from_secs(seconds),
            (None, Some(time)) => time,
            (None, None) => Timestamp::from_unix_nanos(i64::MIN),
        }
    }
}

fn number(params: &Params, name: &str) -> Outcome<Option<i64>> {
    if !params.has(name) {
        return Ok(None);
    }
    let text = params.get(name);
    text.parse().map(Some).map_err(|_| {
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        let range = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let why = if range { "value out of range" } else { "invalid syntax" };
        Box::new(Status::bad_request(format!("strconv.ParseInt: parsing {}: {why}", go::quote(text))))
    })
}

/// How far a reader has come.
struct Reading {
    ring: LogRing,
    /// Lines of the run that was there at the start.
    first: VecDeque<LogLine>,
    /// The number of the next line after those.
    next: u64,
    follow: Option<Following>,
    since: Timestamp,
    timestamps: bool,
    /// Bytes that may still be sent.
    left: usize,
}

struct Following {
    changes: watch::Receiver<u64>,
    _place: OwnedSemaphorePermit,
}

impl Reading {
    fn new(options: &Options, ring: &LogRing, run: u32, now: Timestamp, follow: Option<OwnedSemaphorePermit>) -> Self {
        let changes = ring.follow();
        // Lines that come between this and the next step are among the first, and not told twice.
        let before = *changes.borrow();
        let follow = follow.map(|place| Following { changes, _place: place });
        let mut first: VecDeque<LogLine> = ring.lines_of(run).into();
        let next = first.back().map_or(0, |line| line.number + 1).max(before);
        if let Some(tail) = options.tail.and_then(|tail| usize::try_from(tail).ok()) {
            first.drain(..first.len().saturating_sub(tail));
        }
        let left = options.bytes.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(usize::MAX);
        let (since, timestamps) = (options.since(now), options.timestamps);
        Self { ring: ring.clone(), first, next, follow, since, timestamps, left }
    }

    /// The next piece; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        while self.left > 0 {
            let mut lines: Vec<LogLine> = self.first.drain(..self.first.len().min(BATCH)).collect();
            if lines.is_empty() {
                let following = self.follow.as_mut()?;
                // Before looking, so that no line is missed.
                following.changes.borrow_and_update();
                lines = self.ring.lines_from(self.next, BATCH);
                if lines.is_empty() {
                    following.changes.changed().await.ok()?;
                    continue;
                }
                self.next = lines.last().map_or(self.next, |line| line.number + 1);
            }
            let piece = self.write(&lines);
            if !piece.is_empty() {
                return Some(piece);
            }
        }
        None
    }

    fn write(&mut self, lines: &[LogLine]) -> Bytes {
        let mut out = Vec::new();
        for line in lines.iter().filter(|line| line.time >= self.since) {
            let start = out.len();
            if self.timestamps {
                out.extend_from_slice(line.time.rfc3339_nanos().as_bytes());
                out.push(b' ');
            }
            out.extend_from_slice(line.text.as_bytes());
            out.truncate(start + self.left.min(out.len() - start));
            self.left -= out.len() - start;
            if self.left == 0 {
                break;
            }
        }
        out.into()
    }
}

/// What is read, until there is no more or the part is over.
fn pieces(reading: Reading, over: Shutdown) -> impl Stream<Item = std::io::Result<Bytes>> + Send {
    futures_util::stream::unfold((reading, over), |(mut reading, over)| async move {
        let piece = over.unless(reading.next()).await??;
        Some((Ok(piece), (reading, over)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_judged() {
        let read = |query: &str| Options::read(&Params::parse(query));
        let why = |query: &str| read(query).unwrap_err().message;
        assert_eq!(why("tailLines=x"), "strconv.ParseInt: parsing \"x\": invalid syntax");
        assert_eq!(
            why("limitBytes=99999999999999999999"),
            "strconv.ParseInt: parsing \"99999999999999999999\": value out of range"
        );
        let fields = |query: &str| read(query).unwrap().validate().into_iter().map(|e| e.field).collect::<Vec<_>>();
        assert_eq!(fields("tailLines=-1&limitBytes=0&sinceSeconds=0"), ["tailLines", "limitBytes", "sinceSeconds"]);
        assert_eq!(fields("sinceSeconds=0&sinceTime=2026-01-01T00:00:00Z"), ["[]"]);
        assert!(fields("tailLines=0&limitBytes=1&sinceSeconds=1&follow&previous=0").is_empty());
    }

    fn ring() -> (LogRing, portcullis_runtime::MockClock) {
        let (clock, hand) = portcullis_runtime::Clock::mock(1_700_000_000);
        let ring = LogRing::new(clock, Default::default());
        for line in ["one", "two", "three"] {
            ring.push(line);
            hand.advance(Duration::from_secs(1));
        }
        (ring, hand)
    }

    async fn read(query: &str) -> String {
        let (ring, _) = ring();
        let options = Options::read(&Params::parse(query)).unwrap();
        let mut reading = Reading::new(&options, &ring, 0, Timestamp::from_unix_seconds(1_700_000_003), None);
        let mut all = Vec::new();
        while let Some(piece) = reading.next().await {
            all.extend_from_slice(&piece);
        }
        String::from_utf8(all).unwrap()
    }

    #[tokio::test]
    async fn lines_are_chosen_as_a_kubelet_chooses_them() {
        for (query, want) in [
            ("", "one\ntwo\nthree\n"),
            ("tailLines=2", "two\nthree\n"),
            ("tailLines=0", ""),
            ("tailLines=9", "one\ntwo\nthree\n"),
            ("sinceSeconds=2", "two\nthree\n"),
            ("sinceTime=2023-11-14T22:13:22Z", "three\n"),
            ("limitBytes=5", "one\nt"),
            ("tailLines=2&limitBytes=6", "two\nth"),
            ("tailLines=2&sinceTime=2023-11-14T22:13:22Z", "three\n"),
            ("timestamps=true&tailLines=1", "2023-11-14T22:13:22.000000000Z three\n"),
            ("timestamps=true&limitBytes=10", "2023-11-14"),
        ] {
            assert_eq!(read(query).await, want, "{query}");
        }
    }

    #[tokio::test]
    async fn following_goes_on_with_each_line_and_over_a_new_start() {
        let (ring, _) = ring();
        let place = std::sync::Arc::new(tokio::sync::Semaphore::new(1)).try_acquire_owned().unwrap();
        let options = Options::read(&Params::parse("tailLines=1&follow=true&limitBytes=20")).unwrap();
        let mut reading = Reading::new(&options, &ring, 0, Timestamp::from_unix_seconds(1_700_000_003), Some(place));
        assert_eq!(reading.next().await.unwrap(), "three\n");
        let waiting = tokio::spawn(async move { (reading.next().await.unwrap(), reading) });
        tokio::task::yield_now().await;
        ring.push("four");
        let (piece, mut reading) = waiting.await.unwrap();
        assert_eq!(piece, "four\n");
        ring.begin_run();
        ring.push("five");
        assert_eq!(reading.next().await.unwrap(), "five\n");
        ring.push("six and more");
        assert_eq!(reading.next().await.unwrap(), "six ", "the limit counts all");
        assert!(reading.next().await.is_none());
    }
}
