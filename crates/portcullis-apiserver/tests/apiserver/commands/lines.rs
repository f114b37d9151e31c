//! How the script is written down: `lines/*.txt`, a file for each theme, one command a line.
//!
//! A line is an id and a command of the shell in which `kubectl` is the real one. `@jane` before the command says whose
//! kubeconfig it uses (`admin` without it), `&` that it runs on, and `stop ID` ends such a one. Empty lines and lines that
//! begin with `#` say nothing.

use std::path::Path;

/// What a line does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Does {
    /// Runs a command to its end.
    Run,
    /// Starts a command that runs on.
    Start,
    /// Ends the one with this id, once it has nothing more to say.
    Stop(String),
}

/// A line of the script.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) theme: String,
    pub(super) id: String,
    pub(super) user: String,
    pub(super) does: Does,
    pub(super) command: String,
}

impl Line {
    /// Its name among all: theme and id.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.theme, self.id)
    }
}

/// The lines of every theme, in the order of the files' names.
pub(super) fn all(folder: &Path) -> Vec<Line> {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |path: &Path| {
        let theme =
            path.file_stem().unwrap().to_str().unwrap().trim_start_matches(|c: char| c.is_ascii_digit() || c == '-');
        theme_lines(theme, &std::fs::read_to_string(path).unwrap())
    };
    let lines: Vec<Line> = files.iter().flat_map(|path| read(path)).collect();
    let mut names: Vec<String> = lines.iter().map(Line::name).collect();
    names.sort();
    let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
    assert_eq!(twice, None, "an id must be its theme's only one");
    lines
}

fn theme_lines(theme: &str, text: &str) -> Vec<Line> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| parse(theme, line)).collect()
}

fn parse(theme: &str, line: &str) -> Line {
    let (id, mut rest) = line.split_once(' ').unwrap();
    rest = rest.trim_start();
    let mut made = Line {
        theme: theme.to_owned(),
        id: id.to_owned(),
        user: "admin".to_owned(),
        does: Does::Run,
        command: String::new(),
    };
    if let Some((user, after)) = rest.strip_prefix('@').and_then(|rest| rest.split_once(' ')) {
        (made.user, rest) = (user.to_owned(), after.trim_start());
    }
    if let Some(after) = rest.strip_prefix("& ") {
        (made.does, rest) = (Does::Start, after.trim_start());
    } else if let Some(of) = rest.strip_prefix("stop ") {
        made.does = Does::Stop(of.to_owned());
    }
    rest.clone_into(&mut made.command);
    made
}

#[test]
fn a_line_says_who_runs_what_and_whether_it_runs_on() {
    let line = parse("t", "a-b   @jane & kubectl get pods -w");
    assert_eq!((line.name(), line.user.as_str(), line.does), ("t/a-b".to_owned(), "jane", Does::Start));
    assert_eq!(line.command, "kubectl get pods -w");
    assert_eq!(parse("t", "x stop a-b").does, Does::Stop("a-b".to_owned()));
    let plain = parse("t", "y kubectl get cm -o go-template='{{ . }}' # all");
    assert_eq!(
        (plain.user.as_str(), plain.command.as_str()),
        ("admin", "kubectl get cm -o go-template='{{ . }}' # all")
    );
}
