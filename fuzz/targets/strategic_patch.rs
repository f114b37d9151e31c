//! An object and a strategic merge patch, a NUL between them, of a type that has every kind of list and holds itself:
//! merging never panics, and an empty patch changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_patch::{FieldValidation, GoKind, PatchField, PatchSchema, PatchText, StrategicPatch};
use serde_json::{Map, Value};

/// A type: `T` is the struct, `*`, `[]` and `{}` as in Go, anything else a string.
struct At(&'static str);

/// Short names, so that the fuzzer finds them.
const FIELDS: &[(&str, &str, &str, &str)] = &[
    ("o", "T", "", ""),
    ("p", "*T", "", ""),
    ("m", "{}s", "", ""),
    ("n", "s", "", ""),
    ("r", "T", "replace", ""),
    ("k", "T", "retainKeys", ""),
    ("l", "[]T", "merge", "n"),
    ("v", "[]*T", "merge,retainKeys", "n"),
    ("i", "[]T", "merge", ""),
    ("f", "[]s", "merge", ""),
    ("a", "[]s", "", ""),
    ("x", "[][]s", "merge", ""),
    ("w", "[]T", "merge,replace", "n"),
];

impl PatchSchema for At {
    fn kind(&self) -> GoKind {
        match self.0.as_bytes() {
            [b'*', ..] => GoKind::Pointer,
            [b'[', ..] => GoKind::Slice,
            [b'{', ..] => GoKind::Map,
            [b'T'] => GoKind::Struct,
            _ => GoKind::String,
        }
    }

    fn struct_name(&self) -> &str {
        self.0
    }

    fn field(&self, name: &str) -> Option<PatchField<'_, Self>> {
        let (_, at, strategies, merge_key) = *FIELDS.iter().find(|(field, ..)| *field == name)?;
        Some(PatchField { schema: Self(at), strategies, merge_key })
    }

    fn element(&self) -> Option<Self> {
        self.0.strip_prefix('*').or_else(|| self.0.strip_prefix("[]")).map(Self)
    }
}

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (document, patch) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let Ok(original) = serde_json::from_slice::<Map<String, Value>>(document) else { return };
    let Ok(text) = PatchText::check(patch) else { return };
    let Ok(patch) = StrategicPatch::decode(text, FieldValidation::Report) else { return };
    let Ok(merged) = patch.apply(original, &At("T")) else { return };
    let _ = merged.left();
    let nothing = PatchText::check(b"{}").expect("JSON");
    let nothing = StrategicPatch::decode(nothing, FieldValidation::Ignore).expect("a patch");
    let again = nothing.apply(merged.members.clone(), &At("T")).expect("an empty patch");
    assert_eq!(again.members, merged.members);
});
