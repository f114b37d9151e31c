//! A terminal with a shell in it, into which a test types.

use std::path::Path;
use std::time::{Duration, Instant};

use super::text::agrees;
use crate::world::{Running, World, bin, peers};

/// The longest that one command may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a line is waited for before something else is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Precedes a command's exit code, after all that it has printed.
const ENDED: char = '\u{1e}';

pub(super) struct Terminal {
    shell: Running,
}

/// A command that was typed, and what has been seen of it.
pub(super) struct Typed {
    text: String,
    seen: Vec<String>,
    code: Option<String>,
    until: Instant,
}

impl Terminal {
    /// Opens one in the home folder: only its own home, the released programs, the real kubectl, and the system's.
    pub(super) fn open(world: &World, environment: &[(&str, &str)]) -> Self {
        let mut shell = world.command("bash");
        let path = [bin(), world.home().join("bin"), peers()].map(|folder| folder.display().to_string()).join(":");
        shell
            .args(["--noprofile", "--norc", "--noediting", "-i"])
            .env("PATH", format!("{path}:/usr/local/bin:/usr/bin:/bin"))
            .envs(environment.iter().copied())
            .envs([("PS1", ""), ("PS2", ""), ("TERM", "dumb")]);
        let mut terminal = Self { shell: Running::in_terminal(&shell) };
        let home = world.home().display();
        let mut ready = terminal.start(&format!("stty -echo -echoctl; cd '{home}'"));
        while !terminal.has_ended(&mut ready) {}
        terminal
    }

    /// Types a command.
    pub(super) fn start(&mut self, text: &str) -> Typed {
        self.shell.press(&format!("{text}\nprintf '\\036%s\\n' $?\n"));
        Typed { text: text.to_owned(), seen: Vec::new(), code: None, until: Instant::now() + PATIENCE }
    }

    /// Reads on for a moment; whether the command has ended.
    pub(super) fn has_ended(&mut self, typed: &mut Typed) -> bool {
        if let Some(line) = self.shell.next_line(LOOK) {
            match line.split_once(ENDED) {
                // The terminal shows the first command of all as it is typed.
                Some((_, code)) if code.parse::<u8>().is_err() => {}
                Some((last, code)) => {
                    typed.seen.extend((!last.is_empty()).then(|| last.to_owned()));
                    typed.code = Some(code.to_owned());
                }
                None => typed.seen.push(line),
            }
        }
        assert!(Instant::now() < typed.until, "{} still runs:\n{}", typed.text, typed.seen.join("\n"));
        typed.code.is_some()
    }

    /// Types a command that goes on, and waits until it shows what is expected.
    pub(super) fn leave_running(&mut self, text: &str, expected: &[String], home: &Path) {
        self.shell.press(&format!("{text}\n"));
        let until = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        while !agrees(expected, &seen) {
            seen.extend(self.shell.next_line(LOOK).map(|line| at_home(&line, home)));
            assert!(
                Instant::now() < until,
                "{text}\n--- expected\n{}\n--- seen\n{}",
                expected.join("\n"),
                seen.join("\n")
            );
        }
    }

    pub(super) fn press(&mut self, key: &str) {
        self.shell.press(key);
    }

    pub(super) fn wait_for(&mut self, text: &str) {
        self.shell.wait_for(text);
    }
}

impl Typed {
    /// Compares what was seen with what the document says. A command fails where it says so.
    pub(super) fn compare(self, expected: &[String], home: &Path) {
        let seen: Vec<String> = self.seen.iter().map(|line| at_home(line, home)).collect();
        let both = || format!("{}\n--- expected\n{}\n--- seen\n{}", self.text, expected.join("\n"), seen.join("\n"));
        assert!(agrees(expected, &seen), "{}", both());
        let says_error = expected.iter().any(|line| line.to_lowercase().starts_with("error"));
        assert_eq!(self.code.as_deref() != Some("0"), says_error, "exit code {:?}: {}", self.code, both());
    }
}

/// The document's reader has another home.
fn at_home(line: &str, home: &Path) -> String {
    line.replace(&*home.to_string_lossy(), "/home/you")
}
