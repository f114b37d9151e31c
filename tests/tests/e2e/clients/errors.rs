//! Which errors a client may be told, when, and how many: in calm times none.

use std::collections::HashMap;

use super::program::{Client, Line, Stream};

/// A stretch of the scenario.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) enum Window {
    /// Nothing is wrong.
    #[default]
    Calm,
    /// From a cut of all connections until everybody has seen a change after it.
    Cut,
    /// Nobody gets through, and then not from where they stood.
    Down,
}

/// What clients say when they meet an error.
const ERRORS: &[&str] = &["broken", "refused", "gone", "relist", "failed"];
/// How an error of a connection is told, in small letters: by Go, by urllib3 and by hyper.
const CONNECTION: &[&str] = &[
    ": ended",
    ": eof",
    "unexpected eof",
    "unexpected-eof",
    "connection reset by peer",
    "broken pipe",
    "response ended prematurely",
    "connection aborted",
    "incompleteread",
    "eof occurred in violation of protocol",
    "peer closed connection",
    "connection closed before message completed",
    "tls handshake eof",
];

/// An error that may come.
struct Allowed {
    window: Window,
    what: &'static str,
    /// One of these is in its text.
    words: &'static [&'static str],
    /// How many a stretch has, for each stream; calls count as one.
    least: usize,
    most: usize,
}

/// What a stream may be told.
fn of_stream(stream: &Stream) -> Vec<Allowed> {
    let felt = usize::from(stream.tells_cut);
    let gone = usize::from(stream.tells_gone);
    vec![
        // A cut ends the watch, once; it goes on from where it stood.
        Allowed { window: Window::Cut, what: "broken", words: CONNECTION, least: felt, most: 1 },
        // It tries until it gets through, as often as it likes, and is told once that this is too late. An informer whose watch
        // could not begin lists without being told.
        Allowed { window: Window::Down, what: "broken", words: CONNECTION, least: felt, most: usize::MAX },
        Allowed { window: Window::Down, what: "relist", words: CONNECTION, least: 0, most: usize::MAX },
        Allowed { window: Window::Down, what: "gone", words: &["too old resource version"], least: gone, most: 1 },
    ]
}

/// What calls may be told: the one that is cut.
const OF_CALLS: &[Allowed] = &[Allowed { window: Window::Cut, what: "broken", words: CONNECTION, least: 0, most: 1 }];

/// What is wrong with the errors that a client was told; nothing when all is well.
pub(crate) fn judge(client: &Client) -> Vec<String> {
    let lines = client.lines.lock().unwrap();
    let named: HashMap<&str, Vec<Allowed>> =
        client.streams.iter().map(|stream| (stream.name, of_stream(stream))).collect();
    let rules = |name: &str| named.get(name).map_or(OF_CALLS, Vec::as_slice);
    let mut wrong = Vec::new();
    for (window, lines) in stretches(&lines) {
        let mut counts = HashMap::<(&str, &str), usize>::new();
        for line in lines.iter().filter(|line| ERRORS.contains(&line.what.as_str())) {
            let of = |rule: &&Allowed| rule.window == window && rule.what == line.what;
            let known = rules(&line.stream).iter().find(of);
            let text = line.text.to_lowercase();
            if known.is_none_or(|rule| !rule.words.iter().any(|word| text.contains(word))) {
                wrong.push(format!("{window:?}: {line:?}"));
            }
            *counts.entry((&line.stream, &line.what)).or_default() += 1;
        }
        for name in client.streams.iter().map(|stream| stream.name).chain([""]) {
            for rule in rules(name).iter().filter(|rule| rule.window == window) {
                let count = counts.get(&(name, rule.what)).copied().unwrap_or(0);
                if !(rule.least..=rule.most).contains(&count) {
                    wrong.push(format!("{window:?}: {name:?} was told {:?} {count} times", rule.what));
                }
            }
        }
    }
    wrong.into_iter().map(|why| format!("{}: {why}", client.name)).collect()
}

/// The record, from window to window.
fn stretches(lines: &[Line]) -> Vec<(Window, &[Line])> {
    let begins = |at: &usize| lines[*at].what == "window";
    let starts: Vec<usize> = std::iter::once(0).chain((0..lines.len()).filter(begins)).collect();
    let ends = starts.iter().skip(1).copied().chain([lines.len()]);
    let stretch = |(start, end): (usize, usize)| {
        let window = if start == 0 { Window::Calm } else { lines[start].window };
        (window, &lines[start..end])
    };
    starts.iter().copied().zip(ends).map(stretch).collect()
}

/// The verdict would have found an error more, one less, and one that nobody knows.
pub(crate) fn doubted(client: &Client) {
    let as_it_was = client.lines.lock().unwrap().clone();
    let is_error = |line: &Line| ERRORS.contains(&line.what.as_str());
    let in_window = |window: Window| as_it_was.iter().position(|line| line.window == window).unwrap() + 1;
    for stream in client.streams {
        let told = |what: &str| {
            let text = "event: too old resource version: 1 (2); connection reset by peer".to_owned();
            Line { stream: stream.name.to_owned(), what: what.to_owned(), text, ..Line::default() }
        };
        let mut records = Vec::new();
        for what in ERRORS {
            let mut calm = as_it_was.clone();
            calm.push(told(what));
            records.push(calm);
        }
        for (window, what, times) in [
            (Window::Cut, "broken", 2),
            (Window::Cut, "gone", 1),
            (Window::Cut, "relist", 1),
            (Window::Down, "gone", 2),
        ] {
            let mut more = as_it_was.clone();
            (0..times).for_each(|_| more.insert(in_window(window), told(what)));
            records.push(more);
        }
        let mut unknown = as_it_was.clone();
        unknown.insert(in_window(Window::Down), Line { text: "event: who knows".to_owned(), ..told("broken") });
        records.push(unknown);
        if stream.tells_cut || stream.tells_gone {
            let mine = |line: &Line| line.stream == stream.name && is_error(line);
            records.push(as_it_was.iter().filter(|line| !mine(line)).cloned().collect());
        }
        for record in records {
            *client.lines.lock().unwrap() = record;
            assert!(!judge(client).is_empty(), "{} {}", client.name, stream.name);
        }
    }
    *client.lines.lock().unwrap() = as_it_was;
}
