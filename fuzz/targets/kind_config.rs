//! A kind cluster configuration from a user: reading never panics, and its limits hold.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_platform::kind::Cluster;

fuzz_target!(|data: &str| {
    if let Ok(cluster) = Cluster::parse(data, "kind.yaml") {
        assert!(cluster.extra_args().count() <= 500);
    }
});
