//! One record of RFC 4180 text, read the way Go's `encoding/csv` reads it, because list and map flags of kubelogin go
//! through that reader (pflag `string_slice.go`, `string_to_string.go`).
//!
//! Compat: only the first record counts, empty lines before it are skipped, a quote inside an unquoted field is an
//! error. Never looks beyond the first record.

use std::fmt::Write as _;

/// Reads the first record of `text`. The error is the text Go's reader would give.
pub(crate) fn read_record(text: &str) -> Result<Vec<String>, String> {
    let mut reader = Reader { rest: text, line: 0 };
    let mut line = loop {
        let Some(line) = reader.next_line() else { return Err("EOF".to_owned()) };
        if line != "\n" {
            break line;
        }
    };
    let start_line = reader.line;
    let mut fields = Vec::new();
    let mut column = 1_usize;
    loop {
        let Some(quoted) = line.strip_prefix('"') else {
            let content = line.strip_suffix('\n').unwrap_or(&line);
            let (field, more) = match content.split_once(',') {
                Some((field, rest)) => (field, Some(rest.len())),
                None => (content, None),
            };
            if let Some(at) = field.find('"') {
                return Err(error(start_line, reader.line, column + at, "bare \" in non-quoted field"));
            }
            fields.push(field.to_owned());
            if more.is_none() {
                return Ok(fields);
            }
            let used = field.len() + 1;
            column += used;
            line = line.get(used..).unwrap_or_default().to_owned();
            continue;
        };
        let mut rest = quoted.to_owned();
        column += 1;
        let mut field = String::new();
        loop {
            if let Some((before, after)) = rest.split_once('"') {
                field.push_str(before);
                column += before.len() + 1;
                if let Some(after) = after.strip_prefix('"') {
                    field.push('"');
                    column += 1;
                    rest = after.to_owned();
                } else if let Some(after) = after.strip_prefix(',') {
                    column += 1;
                    line = after.to_owned();
                    fields.push(field);
                    break;
                } else if after.is_empty() || after == "\n" {
                    fields.push(field);
                    return Ok(fields);
                } else {
                    return Err(error(start_line, reader.line, column - 1, "extraneous or missing \" in quoted-field"));
                }
            } else {
                field.push_str(&rest);
                column += rest.len();
                match reader.next_line() {
                    Some(next) => {
                        rest = next;
                        column = 1;
                    }
                    None => {
                        let text = "extraneous or missing \" in quoted-field";
                        return Err(error(start_line, reader.line, column, text));
                    }
                }
            }
        }
    }
}

/// Writes `field` so that [`read_record`] gives it back as one field.
pub(crate) fn write_field(field: &str) -> String {
    let plain = !field.contains(['"', ',', '\n', '\r']) && !field.starts_with([' ', '\t']) && !field.is_empty();
    if plain { field.to_owned() } else { format!("\"{}\"", field.replace('"', "\"\"")) }
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
}

impl Reader<'_> {
    /// The next line with its line feed; `\r\n` becomes `\n` and a carriage return at the very end is dropped.
    fn next_line(&mut self) -> Option<String> {
        if self.rest.is_empty() {
            return None;
        }
        self.line += 1;
        let (line, rest) = match self.rest.find('\n') {
            Some(at) => self.rest.split_at(at + 1),
            None => (self.rest, ""),
        };
        self.rest = rest;
        Some(if let Some(text) = line.strip_suffix("\r\n") {
            format!("{text}\n")
        } else if line.ends_with('\n') {
            line.to_owned()
        } else {
            line.strip_suffix('\r').unwrap_or(line).to_owned()
        })
    }
}

fn error(start_line: usize, line: usize, column: usize, text: &str) -> String {
    let mut out = String::new();
    if start_line != line {
        let _ = write!(out, "record on line {start_line}; ");
    }
    let _ = write!(out, "parse error on line {line}, column {column}: {text}");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_split_as_go_splits_them() {
        let table: &[(&str, &[&str])] = &[
            ("a", &["a"]),
            ("a,b", &["a", "b"]),
            ("a,", &["a", ""]),
            (",", &["", ""]),
            ("a, b", &["a", " b"]),
            ("\"a,b\",c", &["a,b", "c"]),
            ("\"a\"\"b\"", &["a\"b"]),
            ("\"\"", &[""]),
            ("\"a\nb\",c", &["a\nb", "c"]),
            ("\n\na,b\nc", &["a", "b"]),
            ("a\r\nb", &["a"]),
            ("a\r", &["a"]),
        ];
        for (text, want) in table {
            assert_eq!(read_record(text).expect(text), *want, "{text:?}");
        }
    }

    #[test]
    fn broken_quotes_are_refused_with_gos_words() {
        let table = [
            ("a\"b", "parse error on line 1, column 2: bare \" in non-quoted field"),
            ("\"a\"b", "parse error on line 1, column 3: extraneous or missing \" in quoted-field"),
            ("\"a", "parse error on line 1, column 3: extraneous or missing \" in quoted-field"),
            ("\n", "EOF"),
        ];
        for (text, want) in table {
            assert_eq!(read_record(text).expect_err(text), want, "{text:?}");
        }
    }

    #[test]
    fn a_written_field_reads_back() {
        for field in ["a", "a,b", "a\"b", "", " a", "a\nb", "\"", "é,ü"] {
            assert_eq!(read_record(&write_field(field)).expect(field), [field], "{field:?}");
        }
    }
}
