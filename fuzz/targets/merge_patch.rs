//! A document and a merge patch, a NUL between them: merging never panics, and a result is JSON and stays what it is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_patch::{FieldValidation, MergePatch, PatchText};

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (document, patch) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let Ok(text) = PatchText::check(patch) else { return };
    let _ = MergePatch::decode(text, FieldValidation::Report);
    let Ok(patch) = MergePatch::decode(text, FieldValidation::Ignore) else { return };
    let Ok(result) = patch.apply(document) else { return };
    PatchText::check(&result).expect("a small result is JSON within the limits");
    if result.first() == Some(&b'{') {
        let nothing = PatchText::check(b"{}").expect("JSON");
        let nothing = MergePatch::decode(nothing, FieldValidation::Ignore).expect("a patch");
        let again = nothing.apply(&result).expect("our own output");
        assert_eq!(again, result, "merging nothing changes nothing");
    }
});
