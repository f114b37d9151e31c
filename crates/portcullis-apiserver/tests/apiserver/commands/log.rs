//! kubectl's log at `-v=8`, taken apart: what it says to people, and the requests that it sent with what came back.
//!
//! The log stands on stderr between what people see. Lines of level I are the log's; a value of several lines ends with a
//! line that begins with ` >`. Warnings and errors of the log are seen without `-v` too, so they count as said.

/// What people see on stderr, and one line for each request: method, path, query, status, content type.
pub(super) fn split(stderr: &str) -> (String, Vec<String>) {
    let (mut said, mut traffic) = (String::new(), Traffic::default());
    let mut lines = stderr.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((level, text)) = logged(line) else {
            said.push_str(line);
            said.push('\n');
            continue;
        };
        let mut inside = Vec::new();
        if line.ends_with("=<") {
            for more in lines.by_ref() {
                if more.starts_with(" >") {
                    break;
                }
                inside.push(more.trim_start());
            }
        }
        if text.contains("] server response object: ") && line.ends_with('{') {
            for more in lines.by_ref() {
                if more == "}" || more == "}]" {
                    break;
                }
            }
        }
        if level == 'I' {
            traffic.read(text, &inside);
        } else {
            said.push(level);
            said.push(' ');
            said.push_str(text);
            said.push('\n');
        }
    }
    (said, traffic.done())
}

/// Level and text of a line of the log, without time and process id.
fn logged(line: &str) -> Option<(char, &str)> {
    let level = line.chars().next().filter(|level| "IWEF".contains(*level))?;
    let (head, _) = line.split_once("] ")?;
    let digits = head.get(1..5)?.bytes().all(|byte| byte.is_ascii_digit());
    let place = head.rfind(' ')? + 1;
    (digits && head.contains(".go:") && head.matches(':').count() == 3)
        .then(|| (level, line.get(place..).unwrap_or("")))
}

#[derive(Default)]
struct Traffic {
    lines: Vec<String>,
    /// Places in `lines` of requests without an answer yet.
    open: std::collections::VecDeque<usize>,
}

impl Traffic {
    fn read(&mut self, text: &str, headers: &[&str]) {
        if let (Some(verb), Some(url)) = (value(text, "\"Request\" verb=\""), value(text, " url=\"")) {
            let path = url.split_once("://").and_then(|(_, rest)| Some(&rest[rest.find('/')?..])).unwrap_or(&url);
            self.open.push_back(self.lines.len());
            self.lines.push(format!("{verb} {}", query(path)));
        } else if let Some(status) = value(text, "\"Response\" status=\"") {
            let kind = headers.iter().find_map(|header| header.strip_prefix("Content-Type: ")).unwrap_or("-");
            let code = status.split(' ').next().unwrap_or_default();
            if let Some(line) = self.open.pop_front().and_then(|place| self.lines.get_mut(place)) {
                line.push_str(&format!(" -> {code} {kind}"));
            }
        }
    }

    fn done(self) -> Vec<String> {
        self.lines
    }
}

/// The quoted value after `name`.
fn value(text: &str, name: &str) -> Option<String> {
    let rest = &text[text.find(name)? + name.len()..];
    let mut out = String::new();
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '"' => return Some(out),
            '\\' => out.push(chars.next()?),
            other => out.push(other),
        }
    }
}

/// Values that no two runs have in common, out of a path's query.
fn query(path: &str) -> String {
    let Some((path, query)) = path.split_once('?') else { return path.to_owned() };
    // A watch lasts as long as kubectl dices.
    let diced = query.contains("timeoutSeconds=");
    let parts = query.split('&').map(|part| match part.split_once('=') {
        Some((name @ "timeout", value)) if diced && value.len() > 1 => format!("{name}=N"),
        Some((name @ ("resourceVersion" | "timeoutSeconds"), value)) if value.len() > 1 => format!("{name}=N"),
        Some((name @ ("continue" | "hash"), value)) if !value.is_empty() => format!("{name}=-"),
        // kubectl writes them down in the order of Go's maps, which is random; some name an id.
        Some(("fieldSelector", value)) => {
            let mut fields: Vec<String> = value.split("%2C").map(field).collect();
            fields.sort();
            format!("fieldSelector={}", fields.join("%2C"))
        }
        _ => part.to_owned(),
    });
    format!("{path}?{}", parts.collect::<Vec<_>>().join("&"))
}

fn field(requirement: &str) -> String {
    match requirement.split_once("%3D") {
        Some((name, value)) if name.ends_with(".uid") && value.len() == 36 => format!("{name}%3D-"),
        _ => requirement.to_owned(),
    }
}

#[test]
fn the_log_is_taken_apart() {
    let stderr = "I1126 06:22:50.134963    1069 raw.go:84] \"Request Body\" body=\"\"\n\
        I1126 06:22:50.135084    1069 round_trippers.go:527] \"Request\" verb=\"GET\" url=\"https://h:1/a?watch=true&resourceVersion=123&timeout=9m1s&timeoutSeconds=541\" headers=<\n\
        \tAccept: x\n >\n\
        I1126 06:22:50.136572    1069 round_trippers.go:632] \"Response\" status=\"404 Not Found\" headers=<\n\
        \tContent-Type: application/json\n\tDate: x\n > milliseconds=1\n\
        E1126 06:22:50.138386    1069 memcache.go:381] \"Couldn't\" err=\"no\"\n\
        Warning: hey\n\
        I1126 06:22:50.224574    1075 helpers.go:247] server response object: {\n  \"metadata\": {},\n  \"code\": 404\n}\n\
        Error from server\n";
    let (said, traffic) = split(stderr);
    assert_eq!(said, "E memcache.go:381] \"Couldn't\" err=\"no\"\nWarning: hey\nError from server\n");
    assert_eq!(traffic, ["GET /a?watch=true&resourceVersion=N&timeout=N&timeoutSeconds=N -> 404 application/json"]);
}
