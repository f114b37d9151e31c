//! A Dex config file from a user: reading and checking never panic, and every problem names a place.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_provider::config::{Document, RawConfig};

fuzz_target!(|data: &str| {
    let Ok(document) = Document::parse(data, "config.yaml") else { return };
    let (raw, warnings) = RawConfig::read(&document.root());
    for warning in warnings {
        assert!(warning.to_string().starts_with("config.yaml"));
    }
    if let Err(errors) = raw.validate(&|_| None) {
        assert!(!errors.problems().is_empty());
    }
});
