//! A configuration file before it becomes text: members keep their order and may occur twice, and the same tree is printed as
//! JSON or as YAML.

use std::fmt::Write as _;

use serde_json::json;

use crate::draft::World;

/// A value.
#[derive(Clone, Debug)]
pub(crate) enum Tree {
    /// Text, quoted where that is needed.
    Text(String),
    /// Anything else, as JSON writes it.
    Raw(String),
    /// What YAML is to find without quotes; JSON has it as text.
    Plain(String),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

/// A map of these members.
pub(crate) fn map<const N: usize>(members: [(&str, Tree); N]) -> Tree {
    Tree::Map(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// Text.
pub(crate) fn text(text: &str) -> Tree {
    Tree::Text(text.to_owned())
}

impl Tree {
    /// Adds a member to a map.
    pub(crate) fn with(mut self, name: &str, value: Self) -> Self {
        if let Self::Map(members) = &mut self {
            members.push((name.to_owned(), value));
        }
        self
    }

    /// Takes a member out of a map.
    pub(crate) fn without(mut self, name: &str) -> Self {
        if let Self::Map(members) = &mut self {
            members.retain(|(other, _)| other != name);
        }
        self
    }

    /// The member of this name.
    pub(crate) fn get_mut(&mut self, name: &str) -> &mut Self {
        let Self::Map(members) = self else { panic!("no map: {name}") };
        &mut members.iter_mut().find(|(other, _)| other == name).unwrap_or_else(|| panic!("no {name}")).1
    }

    /// The element at this place.
    pub(crate) fn at_mut(&mut self, at: usize) -> &mut Self {
        let Self::List(items) = self else { panic!("no list") };
        &mut items[at]
    }

    /// This value and all below it.
    pub(crate) fn count(&self) -> u32 {
        1 + match self {
            Self::Text(_) | Self::Raw(_) | Self::Plain(_) => 0,
            Self::List(items) => items.iter().map(Self::count).sum(),
            Self::Map(members) => members.iter().map(|(_, value)| value.count()).sum(),
        }
    }

    /// The value that comes `nth` when they are counted from above.
    pub(crate) fn nth_mut(&mut self, nth: u32) -> &mut Self {
        if nth == 0 {
            return self;
        }
        let mut left = nth - 1;
        let children: Vec<&mut Self> = match self {
            Self::Text(_) | Self::Raw(_) | Self::Plain(_) => Vec::new(),
            Self::List(items) => items.iter_mut().collect(),
            Self::Map(members) => members.iter_mut().map(|(_, value)| value).collect(),
        };
        for child in children {
            let size = child.count();
            if left < size {
                return child.nth_mut(left);
            }
            left -= size;
        }
        panic!("no value {nth}")
    }

    pub(crate) fn json(&self) -> String {
        match self {
            Self::Text(text) | Self::Plain(text) => json!(text).to_string(),
            Self::Raw(raw) => raw.clone(),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(Self::json).collect();
                format!("[{}]", items.join(","))
            }
            Self::Map(members) => {
                let members: Vec<String> =
                    members.iter().map(|(name, value)| format!("{}:{}", json!(name), value.json())).collect();
                format!("{{{}}}", members.join(","))
            }
        }
    }

    /// As people write YAML: blocks, with styles chosen at random.
    pub(crate) fn yaml(&self, world: &World) -> String {
        let mut out = String::new();
        if world.chance(4) {
            out.push_str("---\n");
        }
        self.block(world, 0, &mut out);
        if out.starts_with('{') {
            out.insert(0, '\n');
            out.insert_str(0, "# flow");
        }
        out
    }

    fn block(&self, world: &World, depth: usize, out: &mut String) {
        let indent = "  ".repeat(depth);
        match self {
            Self::Map(members) if !members.is_empty() && (depth == 0 || !world.chance(8)) => {
                for (name, value) in members {
                    let name = if world.chance(6) { json!(name).to_string() } else { scalar(name, world) };
                    let _infallible = write!(out, "{indent}{name}:");
                    value.nested(world, depth, out);
                }
            }
            Self::List(items) if !items.is_empty() && (depth == 0 || !world.chance(8)) => {
                for item in items {
                    let _infallible = write!(out, "{indent}-");
                    item.nested(world, depth, out);
                }
            }
            other => {
                let _infallible = writeln!(out, "{indent}{}", other.flow(world));
            }
        }
    }

    /// What follows a key or a dash.
    fn nested(&self, world: &World, depth: usize, out: &mut String) {
        match self {
            Self::Map(members) if !members.is_empty() => {
                out.push('\n');
                self.block(world, depth + 1, out);
            }
            Self::List(items) if !items.is_empty() => {
                out.push('\n');
                self.block(world, depth + 1, out);
            }
            Self::Text(text) if text.ends_with('\n') && !text.starts_with([' ', '\n']) && !text.contains("\n\n") => {
                let indent = "  ".repeat(depth + 1);
                out.push_str(" |\n");
                for line in text.lines() {
                    let _infallible = writeln!(out, "{indent}{line}");
                }
            }
            other => {
                let _infallible = write!(out, " {}", other.flow(world));
                out.push_str(world.pick(&["\n", "\n", "\n", "  # why\n", "\n\n"]));
            }
        }
    }

    fn flow(&self, world: &World) -> String {
        match self {
            Self::Text(text) => scalar(text, world),
            Self::Raw(text) | Self::Plain(text) => text.clone(),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(|item| item.flow(world)).collect();
                format!("[{}]", items.join(", "))
            }
            Self::Map(members) => {
                let members: Vec<String> = members
                    .iter()
                    .map(|(name, value)| format!("{}: {}", scalar(name, world), value.flow(world)))
                    .collect();
                format!("{{{}}}", members.join(", "))
            }
        }
    }
}

/// A text in one of the styles that it may have.
fn scalar(text: &str, world: &World) -> String {
    const NOT_TEXT: [&str; 14] =
        ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf", "Y", "N", "x"];
    let simple = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "./_-".contains(c) || c == ':')
        && !text.ends_with(':')
        && !NOT_TEXT.contains(&text.to_ascii_lowercase().as_str());
    let printable = text.chars().all(|c| c == ' ' || c.is_ascii_graphic());
    match world.rng.below(3) {
        0 | 1 if simple => text.to_owned(),
        2 if printable => format!("'{}'", text.replace('\'', "''")),
        _ => json!(text).to_string(),
    }
}
