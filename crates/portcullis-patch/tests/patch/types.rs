//! The Go types of the core, apps, batch and rbac groups, as `patch-oracle` lists them (`types.txt`).
//!
//! `K kind type` names the type of a kind, `T type` begins a struct; then a line `json-name type [strategies [key]]` for
//! each field. A type is a struct's name or `:kind`, behind any of `*`, `[]` and `{}`.

use std::collections::HashMap;
use std::sync::LazyLock;

use portcullis_patch::{GoKind, PatchField, PatchSchema, names_field};

pub(crate) static TYPES: LazyLock<Types> = LazyLock::new(|| Types::parse(include_str!("types.txt")));

#[derive(Default)]
pub(crate) struct Types {
    pub(crate) kinds: Vec<(&'static str, &'static str)>,
    structs: HashMap<&'static str, Vec<Field>>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) at: At,
    pub(crate) strategies: &'static str,
    pub(crate) key: &'static str,
}

impl Types {
    fn parse(text: &'static str) -> Self {
        let mut types = Self::default();
        let mut current = "";
        for line in text.lines() {
            let words: Vec<&'static str> = line.split(' ').collect();
            match words[..] {
                ["K", kind, name] => types.kinds.push((kind, name)),
                ["T", name] => {
                    current = name;
                    types.structs.insert(name, Vec::new());
                }
                [name, spelling, ref tags @ ..] => {
                    let strategies = tags.first().copied().filter(|tag| *tag != "-").unwrap_or_default();
                    let key = tags.get(1).copied().unwrap_or_default();
                    let field = Field { name, at: At(spelling), strategies, key };
                    types.structs.get_mut(current).expect("a struct").push(field);
                }
                _ => panic!("{line}"),
            }
        }
        types
    }

    pub(crate) fn of_kind(&self, kind: &str) -> At {
        At(self.kinds.iter().find(|(name, _)| *name == kind).expect("a kind").1)
    }

    pub(crate) fn structs(&self) -> impl Iterator<Item = (&'static str, &[Field])> {
        self.structs.iter().map(|(name, fields)| (*name, fields.as_slice()))
    }
}

/// A type, as the table spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct At(pub(crate) &'static str);

impl At {
    pub(crate) fn fields(self) -> &'static [Field] {
        TYPES.structs.get(self.0).expect("a struct")
    }

    /// What a map's values are.
    pub(crate) fn values(self) -> Option<Self> {
        self.0.strip_prefix("{}").map(Self)
    }
}

impl PatchSchema for At {
    fn kind(&self) -> GoKind {
        match self.0 {
            spelling if spelling.starts_with('*') => GoKind::Pointer,
            spelling if spelling.starts_with("[]") => GoKind::Slice,
            spelling if spelling.starts_with("{}") => GoKind::Map,
            ":string" => GoKind::String,
            ":bool" => GoKind::Bool,
            ":int32" => GoKind::Int32,
            ":int64" => GoKind::Int64,
            ":float64" => GoKind::Float64,
            ":uint8" => GoKind::Uint8,
            ":interface" => GoKind::Interface,
            spelling => {
                assert!(!spelling.starts_with(':'), "{spelling}");
                GoKind::Struct
            }
        }
    }

    fn struct_name(&self) -> &str {
        self.0.rsplit('.').next().unwrap_or_default()
    }

    fn field(&self, name: &str) -> Option<PatchField<'_, Self>> {
        let fields = self.fields();
        let exact = fields.iter().find(|field| field.name == name);
        let field = exact.or_else(|| fields.iter().find(|field| names_field(field.name, name)))?;
        Some(PatchField { schema: field.at, strategies: field.strategies, merge_key: field.key })
    }

    fn element(&self) -> Option<Self> {
        self.0.strip_prefix('*').or_else(|| self.0.strip_prefix("[]")).map(Self)
    }
}

/// The table that the dev API server uses was made by reading Go's sources; this one by asking Go's reflection.
#[test]
fn the_api_servers_table_merges_lists_as_go_does() {
    let table = include_str!("../../../portcullis-apiserver/src/schema/types.txt");
    let mut theirs: HashMap<(String, &str), (&str, &str)> = HashMap::new();
    for (name, fields) in TYPES.structs() {
        let package = [
            ("core/v1.", "core."),
            ("rbac/v1.", "rbac."),
            ("apps/v1.", "apps."),
            ("batch/v1.", "batch."),
            ("apis/meta/v1.", "meta."),
        ];
        let Some((long, short)) = package.into_iter().find(|(long, _)| name.starts_with(long)) else { continue };
        for field in fields {
            theirs.insert((name.replacen(long, short, 1), field.name), (field.strategies, field.key));
        }
    }
    let (mut current, mut compared, mut tagged) = ("", 0, 0);
    for line in table.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        if let ["T", name] = words[..] {
            current = name;
        } else if let [name, _, _, _, ref tags @ ..] = words[..]
            && let Some(want) = theirs.get(&(current.to_owned(), name))
        {
            let strategies = tags.first().copied().filter(|tag| *tag != "-").unwrap_or_default();
            assert_eq!((strategies, tags.get(1).copied().unwrap_or_default()), *want, "{current}.{name}");
            compared += 1;
            tagged += usize::from(!tags.is_empty());
        }
    }
    assert!(compared > 500 && tagged > 30, "{compared} fields compared, {tagged} with tags");
}
