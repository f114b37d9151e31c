//! Random JSON as text, in all the spellings that a client may use.

use serde_json::Value;

use super::Draft;

/// Strings that are themselves in JSON.
const PLAIN: &[&str] = &["a", "b", "c", "x y", "", "1", "é", "😀"];

/// Writes values.
pub(super) struct Writer<'d, 'r> {
    pub(super) draft: &'d mut Draft<'r>,
    pub(super) out: Vec<u8>,
}

impl<'d, 'r> Writer<'d, 'r> {
    pub(super) const fn new(draft: &'d mut Draft<'r>) -> Self {
        Self { draft, out: Vec::new() }
    }

    pub(super) fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// White space, now and then.
    pub(super) fn space(&mut self) {
        if self.draft.hit("white space", 2) {
            let space = self.draft.random.pick(&[" ", "\n", "\t ", "\r\n  "]);
            self.raw(space);
        }
    }

    /// A string that says `text`, spelled one way or another.
    pub(super) fn string(&mut self, text: &str) {
        self.out.push(b'"');
        for c in text.chars() {
            match c {
                '"' => self.raw("\\\""),
                '\\' => self.raw("\\\\"),
                '\0'..='\u{1f}' => self.raw(&format!("\\u{:04x}", u32::from(c))),
                '/' if self.draft.hit("escaped characters", 5) => self.raw("\\/"),
                c if u32::from(c) < 0x1_0000 && self.draft.hit("escaped characters", 2) => {
                    self.raw(&format!("\\u{:04X}", u32::from(c)));
                }
                c => self.raw(c.encode_utf8(&mut [0; 4])),
            }
        }
        self.out.push(b'"');
    }

    /// Any string.
    pub(super) fn any_string(&mut self) {
        if self.draft.hit("not UTF-8", 1) {
            let bytes: &[u8] =
                self.draft.random.pick(&[b"\"a\xff\"".as_slice(), b"\"\xe2\x80\"", b"\"\xed\xa0\x80x\""]);
            self.out.extend_from_slice(bytes);
        } else if self.draft.hit("half a surrogate pair", 1) {
            let text =
                self.draft.random.pick(&[r#""\ud800""#, r#""\udc00\ud83d""#, r#""\ud83d\u0041""#, r#""\ud83d\ude00""#]);
            self.raw(text);
        } else if self.draft.hit("characters that Go escapes", 3) {
            let text = self.draft.random.pick(&["<b>", "a&b", "\u{2028}", "x\u{2029}<"]);
            self.string(text);
        } else {
            let text = self.draft.random.pick(PLAIN);
            self.string(text);
        }
    }

    fn number(&mut self) {
        let text = if self.draft.hit("integer over 64 bits", 1) {
            self.draft.random.pick(&[
                "9223372036854775808",
                "18446744073709551615",
                "-9223372036854775809",
                "123456789012345678901234567890",
            ])
        } else if self.draft.hit("float", 8) {
            self.draft.random.pick(&["1.0", "1.5", "-0.0", "1e2", "1E+21", "2.5e-7", "0.1", "123456.789", "1e-400"])
        } else if self.draft.hit("number out of range", 0) {
            self.draft.random.pick(&["1e999", "-2E400"])
        } else {
            self.draft.random.pick(&[
                "0",
                "1",
                "-1",
                "-0",
                "7",
                "100000",
                "9223372036854775807",
                "-9223372036854775808",
            ])
        };
        self.raw(text);
    }

    pub(super) fn scalar(&mut self) {
        match self.draft.random.below(6) {
            0 | 4 => self.number(),
            1 => self.raw("true"),
            2 => self.raw("false"),
            3 if self.draft.is_for("number out of range") || self.draft.is_for("float") => self.number(),
            _ => self.any_string(),
        }
    }

    /// Any value, at most `depth` levels deep.
    pub(super) fn value(&mut self, depth: usize, names: &[&str]) {
        self.space();
        match self.draft.random.below(if depth == 0 { 4 } else { 8 }) {
            0 => self.raw("null"),
            1..4 => self.scalar(),
            4 | 5 => self.list(depth - 1, names),
            _ => self.object(depth - 1, names),
        }
        self.space();
    }

    fn list(&mut self, depth: usize, names: &[&str]) {
        self.raw("[");
        for at in 0..self.draft.random.below(4) {
            if at > 0 {
                self.raw(",");
            }
            if self.draft.hit("null inside of a list", 3) {
                self.raw("null");
            } else {
                self.value(depth, names);
            }
        }
        self.space();
        self.raw("]");
    }

    fn object(&mut self, depth: usize, names: &[&str]) {
        self.raw("{");
        let mut used: Vec<&str> = Vec::new();
        for _ in 0..self.draft.random.below(5) {
            let again = !used.is_empty() && self.draft.hit("duplicate member", 1);
            let name = if again { self.draft.random.pick(&used) } else { self.draft.random.pick(names) };
            if used.contains(&name) && !again {
                continue;
            }
            if !used.is_empty() {
                self.raw(",");
            }
            used.push(name);
            self.space();
            self.string(name);
            self.space();
            self.raw(":");
            self.value(depth, names);
        }
        self.space();
        self.raw("}");
    }

    /// A value that was made before. A string that begins with NUL stands for the JSON text that follows it.
    pub(super) fn spell(&mut self, value: &Value) {
        self.space();
        match value {
            Value::String(text) => match text.strip_prefix('\0') {
                Some(raw) => self.raw(raw),
                None => self.string(text),
            },
            Value::Array(items) => {
                self.raw("[");
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        self.raw(",");
                    }
                    self.spell(item);
                }
                self.raw("]");
            }
            Value::Object(members) => {
                self.raw("{");
                for (at, (name, member)) in members.iter().enumerate() {
                    if at > 0 {
                        self.raw(",");
                    }
                    self.string(name);
                    self.raw(":");
                    if self.draft.hit("duplicate member", 0) {
                        self.raw("[{\"x\":1}],");
                        self.string(name);
                        self.raw(":");
                    }
                    self.spell(member);
                }
                self.raw("}");
            }
            scalar => self.raw(&scalar.to_string()),
        }
        self.space();
    }

    /// An object, at most `depth` levels deep.
    pub(super) fn root(&mut self, depth: usize, names: &[&str]) {
        self.space();
        self.object(depth, names);
        self.space();
    }
}

/// Documents, as Go writes them: no white space, no duplicates, few spellings.
impl Writer<'_, '_> {
    pub(super) fn object_of_the_server(&mut self, depth: usize, names: &[&str]) {
        self.raw("{");
        let mut first = true;
        for name in names {
            if self.draft.random.chance(45) {
                continue;
            }
            if !std::mem::take(&mut first) {
                self.raw(",");
            }
            self.go_string(name);
            self.raw(":");
            self.value_of_the_server(depth, names);
        }
        self.raw("}");
    }

    fn value_of_the_server(&mut self, depth: usize, names: &[&str]) {
        match self.draft.random.below(if depth == 0 { 4 } else { 8 }) {
            0 => {
                let text = if self.draft.random.chance(30) { "null" } else { "3" };
                self.raw(text);
            }
            1 => {
                let text = self.draft.random.pick(&["1", "0", "-5", "1.5", "1e+21", "true", "9223372036854775807"]);
                self.raw(text);
            }
            2 | 3 => {
                let text = self.draft.random.pick(&["a", "b", "<b>", "a&b", "", "é", "1"]);
                self.go_string(text);
            }
            4 | 5 => {
                self.raw("[");
                for at in 0..self.draft.random.below(4) {
                    if at > 0 {
                        self.raw(",");
                    }
                    self.value_of_the_server(depth - 1, names);
                }
                self.raw("]");
            }
            _ => self.object_of_the_server(depth - 1, names),
        }
    }

    fn go_string(&mut self, text: &str) {
        let escaped = text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
        self.raw(&format!("\"{escaped}\""));
    }
}
