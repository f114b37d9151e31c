//! A kind cluster configuration from a user: reading never panics, and its limits hold.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_platform::kind::{ITEMS_LIMIT, KindConfig};

fuzz_target!(|data: &str| {
    if let Ok(config) = KindConfig::parse(data, "kind.yaml") {
        assert!(config.extra_args.len() <= ITEMS_LIMIT);
    }
});
