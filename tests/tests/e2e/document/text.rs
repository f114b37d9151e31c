//! What a document says to do, and what it says one sees.
//!
//! ```text
//! ```console                  commands after `$ `, each with what one sees; a `\` at the end and a here-document go on
//! ```console terminal=2       the same in another terminal, where the last command keeps running
//! ```yaml file=NAME           a file to save
//! Sign in as `X` with the password `Y`     who is meant in the browser from here on
//! ```
//! In what one sees, `…` stands for anything within a line, and alone for any number of lines. Runs of blanks count as one:
//! columns are as wide as what is in them.

/// Stands for what differs.
const ANYTHING: char = '…';

/// One thing to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// To type, and to see.
    Command {
        /// Which terminal, from 1 on.
        terminal: usize,
        text: String,
        expected: Vec<String>,
    },
    /// To press.
    Key { terminal: usize, key: &'static str },
    /// To save.
    File { name: String, text: String },
    /// Who signs in from here on.
    SignIn(Person),
}

/// Somebody in front of the browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Person {
    pub(super) login: String,
    pub(super) password: String,
}

impl Person {
    /// Whoever a paragraph is about.
    fn in_prose(text: &str) -> Option<Self> {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let (_, rest) = text.split_once("ign in as `")?;
        let (login, rest) = rest.split_once('`')?;
        let password = rest.strip_prefix(" with the password `")?.split_once('`')?.0;
        Some(Self { login: login.to_owned(), password: password.to_owned() })
    }
}

/// Everything that a document says to do, in its order.
pub(super) fn items(document: &str) -> Vec<Item> {
    let mut items = Vec::new();
    let mut prose = String::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        let ticks = line.len() - line.trim_start_matches('`').len();
        if ticks < 3 {
            prose.push_str(line);
            prose.push('\n');
            continue;
        }
        items.extend(Person::in_prose(&std::mem::take(&mut prose)).map(Item::SignIn));
        let (fence, info) = line.split_at(ticks);
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != fence).collect();
        let mut words = info.split_whitespace();
        let (language, attribute) = (words.next(), words.next().and_then(|word| word.split_once('=')));
        match (language, attribute) {
            (Some("console"), Some(("terminal", number))) => console(number.parse().unwrap(), &block, &mut items),
            (Some("console"), None) => console(1, &block, &mut items),
            (_, Some(("file", name))) => {
                items.push(Item::File { name: name.to_owned(), text: format!("{}\n", block.join("\n")) });
            }
            (Some("sh"), None) => {}
            other => panic!("a block that nobody reads: {other:?}"),
        }
    }
    items
}

fn console(terminal: usize, block: &[&str], items: &mut Vec<Item>) {
    let mut lines = block.iter();
    while let Some(line) = lines.next() {
        if *line == "^C" {
            items.push(Item::Key { terminal, key: "\u{3}" });
        } else if let Some(first) = line.strip_prefix("$ ") {
            let mut text = first.to_owned();
            let here_document = first.rsplit_once("<<'").map(|(_, word)| word.trim_end_matches('\''));
            while here_document.is_some_and(|end| text.lines().last() != Some(end)) || text.ends_with('\\') {
                text = format!("{text}\n{}", lines.next().expect("a command that ends"));
            }
            items.push(Item::Command { terminal, text, expected: Vec::new() });
        } else if let Some(Item::Command { expected, .. }) = items.last_mut() {
            expected.push((*line).to_owned());
        } else {
            panic!("output before the first command: {line}");
        }
    }
}

/// Whether what is seen is what is expected.
pub(super) fn agrees(expected: &[String], seen: &[String]) -> bool {
    let Some((first, rest)) = expected.split_first() else { return seen.is_empty() };
    if first.trim() == ANYTHING.to_string() {
        return (0..=seen.len()).any(|skipped| agrees(rest, &seen[skipped..]));
    }
    seen.split_first().is_some_and(|(line, others)| line_agrees(first, line) && agrees(rest, others))
}

fn line_agrees(expected: &str, seen: &str) -> bool {
    let one = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (expected, seen) = (one(expected), one(seen));
    let mut parts = expected.split(ANYTHING);
    let Some(mut rest) = parts.next().and_then(|start| seen.strip_prefix(start)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, between)) = parts.split_last() else { return rest.is_empty() };
    for part in between {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

#[test]
fn a_document_is_read_in_its_order() {
    let document = "Prose.\n\n```sh\nnot run\n```\n\n```yaml file=a.yaml\na: 1\n```\n````console\n$ one \\\n    more\nseen\n```\n\n$ cat <<'EOF'\n$ body\nEOF\n````\nSign in as `me` with the\npassword `it`.\n\n```console terminal=2\n$ stay\n^C\n```\n";
    let command = |terminal, text: &str, expected: &[&str]| Item::Command {
        terminal,
        text: text.to_owned(),
        expected: expected.iter().map(ToString::to_string).collect(),
    };
    assert_eq!(
        items(document),
        [
            Item::File { name: "a.yaml".to_owned(), text: "a: 1\n".to_owned() },
            command(1, "one \\\n    more", &["seen", "```", ""]),
            command(1, "cat <<'EOF'\n$ body\nEOF", &[]),
            Item::SignIn(Person { login: "me".to_owned(), password: "it".to_owned() }),
            command(2, "stay", &[]),
            Item::Key { terminal: 2, key: "\u{3}" },
        ]
    );
}

#[test]
fn what_differs_may_differ_and_nothing_else() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    for (expected, seen, agree) in [
        ("a\nb", "a\nb", true),
        ("a\nb", "a", false),
        ("a", "a\nb", false),
        ("", "a", false),
        ("…\nb", "x\ny\nb", true),
        ("…\nb", "b", true),
        ("…\nb", "b\nc", false),
        ("a\n…", "a\nb\nc", true),
        ("pod/dex-… condition met", "pod/dex-x condition met", true),
        ("pod/dex-… condition met", "pod/dex-x condition met!", false),
        ("NAME   AGE\ndex-…   …", "NAME        AGE\ndex-abcde   3s", true),
        ("a … c … e", "a b c d e", true),
        ("a … c … e", "a b d e", false),
    ] {
        assert_eq!(agrees(&lines(expected), &lines(seen)), agree, "{expected:?} and {seen:?}");
    }
}
