//! A document and a JSON patch, a NUL between them: applying never panics, a result is JSON and stays what it is, and a
//! patch that tests for the document passes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_patch::{FieldValidation, JsonPatch, PatchText, TextError};

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (document, patch) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let Ok(text) = PatchText::check(patch) else { return };
    let _ = JsonPatch::decode(text, FieldValidation::Report);
    let Ok(patch) = JsonPatch::decode(text, FieldValidation::Ignore) else { return };
    let Ok(result) = patch.apply(document) else { return };
    match PatchText::check(&result) {
        Ok(_) => {}
        // A few copies of copies are enough.
        Err(TextError::TooManyValues | TextError::TooLong { .. }) => return,
        Err(error) => panic!("{error}"),
    }
    let nothing = PatchText::check(b"[]").expect("JSON");
    let nothing = JsonPatch::decode(nothing, FieldValidation::Ignore).expect("a patch");
    let again = nothing.apply(&result).expect("our own output");
    assert_eq!(nothing.apply(&again).as_ref(), Ok(&again), "what Go has written once, it writes again");
});
