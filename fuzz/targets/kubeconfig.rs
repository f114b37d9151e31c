//! A kubeconfig from a user: reading never panics, and what is written again is read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_kube::Kubeconfig;

fuzz_target!(|data: &str| {
    let Ok(config) = Kubeconfig::parse(data, "config") else { return };
    let _ = config.resolve(None);
    let written = config.to_yaml().expect("what was read can be written");
    let again = Kubeconfig::parse(&written, "config").expect("our own output");
    assert_eq!(again.as_value(), config.as_value());
});
