//! Command line flags with the semantics of spf13/pflag 1.0.10, which kubeconfigs written for kubelogin rely on.
//!
//! Compat: `--f=v` and `--f v`; a boolean takes a value only after `=`; `-v1`, `-v=1` and `-v 1`; lists go through a CSV
//! reader and are appended; the first use of a list replaces its default; `--` ends the flags; flags and words mix.
//! Never reads the environment and never prints: warnings are handed back.

mod csv;
mod number;

use std::collections::BTreeMap;

pub(crate) use csv::write_field as csv_field;

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any text.
    Text,
    /// `true`/`false` in the spellings of Go's `strconv.ParseBool`; alone it means true.
    Bool,
    /// A signed integer with Go's base prefixes.
    Int,
    /// klog's verbosity: a 32-bit decimal integer.
    Level,
    /// Comma-separated values, repeatable.
    Slice,
    /// One value each time, repeatable.
    Array,
    /// `key=value`, comma-separated, repeatable.
    Map,
}

/// The declaration of one flag.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flag {
    /// Long name without dashes.
    pub(crate) name: &'static str,
    /// One-letter form.
    pub(crate) short: Option<char>,
    /// What it takes.
    pub(crate) kind: Kind,
    /// Default as pflag prints it in help; empty prints nothing.
    pub(crate) default: &'static str,
    /// One line of help.
    pub(crate) usage: &'static str,
    /// Set when its use is to be warned about: what to use instead.
    pub(crate) deprecated: Option<&'static str>,
}

/// Shorthand for tables of flags.
pub(crate) const fn flag(name: &'static str, kind: Kind, default: &'static str, usage: &'static str) -> Flag {
    Flag { name, short: None, kind, default, usage, deprecated: None }
}

/// A parsed value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// From [`Kind::Text`].
    Text(String),
    /// From [`Kind::Bool`].
    Bool(bool),
    /// From [`Kind::Int`] and [`Kind::Level`].
    Int(i64),
    /// From [`Kind::Slice`] and [`Kind::Array`].
    List(Vec<String>),
    /// From [`Kind::Map`].
    Map(BTreeMap<String, String>),
}

/// What the arguments said.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    values: BTreeMap<&'static str, Value>,
    /// Words that are no flags, in order.
    pub(crate) words: Vec<String>,
    /// Lines for stderr about deprecated flags, in order.
    pub(crate) warnings: Vec<String>,
}

impl Parsed {
    /// The value of a flag that was given.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// Text of a flag, empty when not given.
    pub(crate) fn text(&self, name: &str) -> String {
        self.text_or(name, "")
    }

    /// Text of a flag or its default.
    pub(crate) fn text_or(&self, name: &str, default: &str) -> String {
        match self.get(name) {
            Some(Value::Text(text)) => text.clone(),
            _ => default.to_owned(),
        }
    }

    /// A boolean flag, false when not given.
    pub(crate) fn bool(&self, name: &str) -> bool {
        matches!(self.get(name), Some(Value::Bool(true)))
    }

    /// An integer flag or its default.
    pub(crate) fn int_or(&self, name: &str, default: i64) -> i64 {
        match self.get(name) {
            Some(Value::Int(number)) => *number,
            _ => default,
        }
    }

    /// A list flag, `None` when not given.
    pub(crate) fn list(&self, name: &str) -> Option<Vec<String>> {
        match self.get(name) {
            Some(Value::List(list)) => Some(list.clone()),
            _ => None,
        }
    }

    /// A map flag, `None` when not given.
    pub(crate) fn map(&self, name: &str) -> Option<BTreeMap<String, String>> {
        match self.get(name) {
            Some(Value::Map(map)) => Some(map.clone()),
            _ => None,
        }
    }

    /// Gives a flag a value as if it had been on the command line, unless it was.
    pub(crate) fn set_unless_given(&mut self, name: &'static str, value: Value) {
        self.values.entry(name).or_insert(value);
    }

    /// Forgets a flag and returns its value.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.values.remove(name)
    }

    fn set(&mut self, flag: &Flag, text: &str) -> Result<(), String> {
        let label = match flag.short {
            Some(short) => format!("-{short}, --{}", flag.name),
            None => format!("--{}", flag.name),
        };
        self.apply(flag, text)
            .map_err(|reason| format!("invalid argument {} for \"{label}\" flag: {reason}", go_quote(text)))?;
        if let Some(instead) = flag.deprecated {
            self.warnings.push(format!("Flag --{} has been deprecated, {instead}", flag.name));
        }
        Ok(())
    }

    fn apply(&mut self, flag: &Flag, text: &str) -> Result<(), String> {
        let value = match flag.kind {
            Kind::Text => Value::Text(text.to_owned()),
            Kind::Bool => Value::Bool(number::parse_bool(text)?),
            Kind::Int => Value::Int(number::parse_int(text, 0, 64)?),
            Kind::Level => Value::Int(number::parse_int(text, 10, 32)?),
            Kind::Array | Kind::Slice => {
                let more = match (flag.kind, text) {
                    (Kind::Array, _) => vec![text.to_owned()],
                    (_, "") => Vec::new(),
                    _ => csv::read_record(text)?,
                };
                let mut list = self.list(flag.name).unwrap_or_default();
                list.extend(more);
                Value::List(list)
            }
            Kind::Map => {
                let mut map = self.map(flag.name).unwrap_or_default();
                map.extend(pairs(text)?);
                Value::Map(map)
            }
        };
        self.values.insert(flag.name, value);
        Ok(())
    }
}

/// Parses `arguments` against `flags`. The error is the text pflag would give.
pub(crate) fn parse(flags: &[Flag], arguments: &[String]) -> Result<Parsed, String> {
    let mut parsed = Parsed::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == "--" {
            parsed.words.extend(rest.cloned());
            break;
        }
        if let Some(long) = argument.strip_prefix("--") {
            if long.starts_with(['-', '=']) {
                return Err(format!("bad flag syntax: {argument}"));
            }
            let (name, given) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let Some(flag) = flags.iter().find(|flag| flag.name == name) else {
                return Err(format!("unknown flag: --{name}"));
            };
            let value = match given {
                Some(value) => value,
                None if flag.kind == Kind::Bool => "true".to_owned(),
                None => rest.next().cloned().ok_or_else(|| format!("flag needs an argument: --{name}"))?,
            };
            parsed.set(flag, &value)?;
        } else if let Some(shorts) = argument.strip_prefix('-').filter(|shorts| !shorts.is_empty()) {
            parse_shorts(flags, &mut parsed, shorts, &mut rest)?;
        } else {
            parsed.words.push(argument.clone());
        }
    }
    Ok(parsed)
}

fn parse_shorts<'a>(
    flags: &[Flag],
    parsed: &mut Parsed,
    shorts: &str,
    rest: &mut impl Iterator<Item = &'a String>,
) -> Result<(), String> {
    let mut remaining = shorts;
    while let Some(letter) = remaining.chars().next() {
        let after = remaining.get(letter.len_utf8()..).unwrap_or_default();
        let Some(flag) = flags.iter().find(|flag| flag.short == Some(letter)) else {
            return Err(format!("unknown shorthand flag: '{letter}' in -{remaining}"));
        };
        let (value, next) = match after.strip_prefix('=') {
            Some(value) if !value.is_empty() => (value.to_owned(), ""),
            _ if flag.kind == Kind::Bool => ("true".to_owned(), after),
            _ if !after.is_empty() => (after.to_owned(), ""),
            _ => {
                let value = rest.next().cloned();
                (value.ok_or_else(|| format!("flag needs an argument: '{letter}' in -{remaining}"))?, "")
            }
        };
        parsed.set(flag, &value)?;
        remaining = next;
    }
    Ok(())
}

/// The first word that is no flag and no flag's value: the command, found as cobra's `stripFlags` finds it.
/// Returns its position.
pub(crate) fn command_position(flags: &[Flag], arguments: &[String]) -> Option<usize> {
    let takes_next = |found: Option<&Flag>| found.is_none_or(|flag| flag.kind != Kind::Bool);
    let mut skip = false;
    for (position, argument) in arguments.iter().enumerate() {
        if std::mem::take(&mut skip) {
            continue;
        }
        if argument == "--" {
            return None;
        }
        if let Some(long) = argument.strip_prefix("--") {
            skip = !long.contains('=') && takes_next(flags.iter().find(|flag| flag.name == long));
        } else if let Some(short) = argument.strip_prefix('-') {
            let mut letters = short.chars();
            if let (Some(letter), None) = (letters.next(), letters.next()) {
                skip = takes_next(flags.iter().find(|flag| flag.short == Some(letter)));
            }
        } else if !argument.is_empty() {
            return Some(position);
        }
    }
    None
}

fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let fields = match text.matches('=').count() {
        0 => return Err(format!("{text} must be formatted as key=value")),
        1 => vec![text.trim_matches('"').to_owned()],
        _ => csv::read_record(text)?,
    };
    let mut out = Vec::with_capacity(fields.len());
    for field in fields {
        let Some((key, value)) = field.split_once('=') else {
            return Err(format!("{field} must be formatted as key=value"));
        };
        out.push((key.to_owned(), value.to_owned()));
    }
    Ok(out)
}

/// Go's `%q` for text that is shown in a message.
pub(crate) fn go_quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() && u32::from(c) < 0x80 => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag] = &[
        flag("text", Kind::Text, "", ""),
        flag("yes", Kind::Bool, "", ""),
        flag("number", Kind::Int, "", ""),
        flag("slice", Kind::Slice, "", ""),
        flag("array", Kind::Array, "", ""),
        flag("map", Kind::Map, "", ""),
        Flag { name: "v", short: Some('v'), kind: Kind::Level, default: "", usage: "", deprecated: None },
        Flag { name: "help", short: Some('h'), kind: Kind::Bool, default: "", usage: "", deprecated: None },
        Flag {
            name: "old",
            short: None,
            kind: Kind::Bool,
            default: "",
            usage: "",
            deprecated: Some("use --text instead"),
        },
    ];

    fn parsed(arguments: &[&str]) -> Result<Parsed, String> {
        parse(FLAGS, &arguments.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn long_flags_take_their_value_after_equals_or_as_the_next_word() {
        for arguments in [&["--text=a b"][..], &["--text", "a b"]] {
            assert_eq!(parsed(arguments).expect("parses").text("text"), "a b");
        }
        assert_eq!(parsed(&["--text="]).expect("parses").get("text"), Some(&Value::Text(String::new())));
        assert_eq!(parsed(&["--text", "--yes"]).expect("parses").text("text"), "--yes");
        assert_eq!(parsed(&["--text=a=b"]).expect("parses").text("text"), "a=b");
    }

    #[test]
    fn a_boolean_takes_a_value_only_after_equals() {
        let result = parsed(&["--yes", "false"]).expect("parses");
        assert!(result.bool("yes"));
        assert_eq!(result.words, ["false"]);
        assert!(!parsed(&["--yes=false"]).expect("parses").bool("yes"));
        for spelling in ["1", "t", "T", "TRUE", "true", "True"] {
            assert!(parsed(&[&format!("--yes={spelling}")]).expect("parses").bool("yes"), "{spelling}");
        }
    }

    #[test]
    fn the_verbosity_is_read_in_each_of_its_forms() {
        for arguments in [&["-v1"][..], &["-v=1"], &["-v", "1"], &["--v=1"], &["--v", "1"]] {
            assert_eq!(parsed(arguments).expect("parses").int_or("v", 0), 1, "{arguments:?}");
        }
        assert!(parsed(&["-hv3"]).expect("parses").bool("help"));
        assert_eq!(parsed(&["-hv3"]).expect("parses").int_or("v", 0), 3);
    }

    #[test]
    fn lists_are_split_and_appended_and_arrays_are_not_split() {
        let result = parsed(&["--slice=a,b", "--slice", "\"c,d\"", "--array=a,b", "--array=c"]).expect("parses");
        assert_eq!(result.list("slice").expect("given"), ["a", "b", "c,d"]);
        assert_eq!(result.list("array").expect("given"), ["a,b", "c"]);
        assert_eq!(parsed(&["--slice="]).expect("parses").list("slice"), Some(vec![]));
        assert_eq!(parsed(&[]).expect("parses").list("slice"), None);
    }

    #[test]
    fn a_map_keeps_commas_with_one_equals_sign_and_splits_with_two() {
        let pairs = |arguments: &[&str]| parsed(arguments).expect("parses").map("map").expect("given");
        let map = |entries: &[(&str, &str)]| -> BTreeMap<String, String> {
            entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        assert_eq!(pairs(&["--map=k=a,b"]), map(&[("k", "a,b")]));
        assert_eq!(pairs(&["--map=k=a,l=b"]), map(&[("k", "a"), ("l", "b")]));
        assert_eq!(pairs(&["--map=k=1", "--map=l=2", "--map=k=3"]), map(&[("k", "3"), ("l", "2")]));
        assert_eq!(pairs(&["--map=\"k=a\""]), map(&[("k", "a")]));
        assert_eq!(pairs(&["--map=\"k=a,b=c\",l=d"]), map(&[("k", "a,b=c"), ("l", "d")]));
    }

    #[test]
    fn errors_are_pflags_own() {
        let table: &[(&[&str], &str)] = &[
            (&["--nope"], "unknown flag: --nope"),
            (&["--nope=1"], "unknown flag: --nope"),
            (&["--=1"], "bad flag syntax: --=1"),
            (&["---x"], "bad flag syntax: ---x"),
            (&["--text"], "flag needs an argument: --text"),
            (&["-x"], "unknown shorthand flag: 'x' in -x"),
            (&["-v"], "flag needs an argument: 'v' in -v"),
            (&["-vx"], "invalid argument \"x\" for \"-v, --v\" flag: strconv.ParseInt: parsing \"x\": invalid syntax"),
            (
                &["--yes=no"],
                "invalid argument \"no\" for \"--yes\" flag: strconv.ParseBool: parsing \"no\": invalid syntax",
            ),
            (
                &["--number=99999999999999999999"],
                "invalid argument \"99999999999999999999\" for \"--number\" flag: strconv.ParseInt: parsing \"99999999999999999999\": value out of range",
            ),
            (&["--map=abc"], "invalid argument \"abc\" for \"--map\" flag: abc must be formatted as key=value"),
            (
                &["--map=a=b,c=d,e"],
                "invalid argument \"a=b,c=d,e\" for \"--map\" flag: e must be formatted as key=value",
            ),
        ];
        for (arguments, want) in table {
            assert_eq!(parsed(arguments).expect_err("must fail"), *want, "{arguments:?}");
        }
    }

    #[test]
    fn two_dashes_end_the_flags() {
        let result = parsed(&["a", "--yes", "--", "--nope", "b"]).expect("parses");
        assert_eq!(result.words, ["a", "--nope", "b"]);
        assert_eq!(parsed(&["-"]).expect("parses").words, ["-"]);
    }

    #[test]
    fn a_deprecated_flag_works_and_is_warned_about() {
        let result = parsed(&["--old"]).expect("parses");
        assert!(result.bool("old"));
        assert_eq!(result.warnings, ["Flag --old has been deprecated, use --text instead"]);
    }

    #[test]
    fn the_command_is_found_behind_flags() {
        let position = |arguments: &[&str]| {
            command_position(FLAGS, &arguments.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(position(&["get-token", "x"]), Some(0));
        assert_eq!(position(&["-v1", "get-token"]), Some(1));
        assert_eq!(position(&["-v", "1", "get-token"]), Some(2));
        assert_eq!(position(&["--v", "1", "get-token"]), Some(2));
        assert_eq!(position(&["--yes", "get-token"]), Some(1));
        assert_eq!(position(&["--unknown=x", "get-token"]), Some(1));
        assert_eq!(position(&["--unknown", "get-token"]), None);
        assert_eq!(position(&["--", "get-token"]), None);
        assert_eq!(position(&[]), None);
    }
}
