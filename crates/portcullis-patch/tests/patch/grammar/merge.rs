//! Merge patches.

use super::Draft;
use super::text::Writer;

pub(super) const FEATURES: &[&str] = &[
    "white space",
    "escaped characters",
    "characters that Go escapes",
    "not UTF-8",
    "half a surrogate pair",
    "duplicate member",
    "integer over 64 bits",
    "float",
    "number out of range",
    "null inside of a list",
    "patch is a list",
    "patch is a scalar",
    "patch is null",
    "patch is not JSON",
    "document is no object",
    "document is null",
];

/// Few names, so that patch and document meet.
const NAMES: &[&str] = &["a", "b", "c", "d<e", "f", "", "é"];

pub(super) fn draft(draft: &mut Draft<'_>) -> (&'static str, Vec<u8>, Vec<u8>) {
    let document = document(draft);
    let mut writer = Writer::new(draft);
    if writer.draft.hit("patch is not JSON", 1) {
        let text = writer.draft.random.pick(&["", "{", "{'a':1}", "nul", "{\"a\":01}", "[1,]", "{} {}", "\"\u{1}\""]);
        writer.raw(text);
    } else if writer.draft.hit("patch is null", 1) {
        let text = writer.draft.random.pick(&["null", " null\n"]);
        writer.raw(text);
    } else if writer.draft.hit("patch is a scalar", 1) {
        writer.scalar();
    } else if writer.draft.hit("patch is a list", 1) {
        let text =
            writer.draft.random.pick(&["[]", "[null]", "[{\"a\":null,\"b\":[{\"c\":null}]}]", "[1,[null,{}],\"<\"]"]);
        writer.raw(text);
    } else {
        writer.root(4, NAMES);
    }
    ("", document, writer.out)
}

/// What the API server would hand over, with nulls that its types may write; now and then something that it never would.
fn document(draft: &mut Draft<'_>) -> Vec<u8> {
    if draft.hit("document is no object", 1) {
        return draft.random.pick(&["[]", "[{\"a\":null}]", "1", "\"x\"", "true"]).as_bytes().to_vec();
    }
    if draft.hit("document is null", 0) {
        return b"null".to_vec();
    }
    let mut writer = Writer::new(draft);
    writer.object_of_the_server(4, NAMES);
    writer.out
}
