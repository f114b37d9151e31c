//! What a person sees while `up` works: one line a step with its time, words of warning, and the way on.
//!
//! All of it goes to stderr; stdout carries the table alone.

use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Writes the lines of a run.
pub struct Steps {
    out: Mutex<Box<dyn Write + Send>>,
    start: Instant,
    last: Mutex<Instant>,
    words: Mutex<Vec<String>>,
}

impl Steps {
    /// Starts the clock; lines go to `out`.
    #[must_use]
    pub fn new(out: Box<dyn Write + Send>) -> Self {
        let start = Instant::now();
        Self { out: Mutex::new(out), start, last: Mutex::new(start), words: Mutex::default() }
    }

    /// Keeps the words and shows nothing.
    #[must_use]
    pub fn silent() -> Self {
        Self::new(Box::new(std::io::sink()))
    }

    /// A step is done: its name, what came of it, and how long it took, in 80 columns where that can be.
    pub fn done(&self, name: &str, result: &str) {
        let now = Instant::now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let took = now.duration_since(*last);
        *last = now;
        drop(last);
        self.line(&format!("  {name:<14} {result:<51} {:>6} ms", took.as_millis()));
    }

    /// Something that the user should know: what was changed in what they gave, and why.
    pub fn word(&self, text: &str) {
        self.part("note", text);
        let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        if !words.iter().any(|said| said == text) {
            words.push(text.to_owned());
        }
    }

    /// A line about a part, under its name.
    pub fn part(&self, name: &str, text: &str) {
        self.line(&format!("  {name:<14} {text}"));
    }

    /// What has been said with [`Steps::word`] so far, each once.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A line as it is.
    pub fn line(&self, text: &str) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        // A closed terminal must not end the servers.
        let _closed = writeln!(out, "{text}").and_then(|()| out.flush());
    }

    /// Time since the start, in seconds.
    #[must_use]
    pub fn elapsed(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }
}

/// A word that a POSIX shell reads as it is.
#[must_use]
pub fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn each_step_is_one_line_with_its_time() {
        let shared = Shared::default();
        let steps = Steps::new(Box::new(shared.clone()));
        steps.done("CA", "kept");
        steps.word("moved");
        let text = String::from_utf8(shared.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 2);
        let first = text.lines().next().unwrap();
        assert!(first.ends_with(" ms") && first.len() < 80, "{first}");
    }

    #[test]
    fn words_for_the_shell_are_quoted_where_they_must_be() {
        assert_eq!(shell_word("/a/b-c_1.2"), "/a/b-c_1.2");
        assert_eq!(shell_word("/a b/$x"), "'/a b/$x'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
    }
}
