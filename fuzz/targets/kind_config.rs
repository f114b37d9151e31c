//! What names the API server's flags, from a user: kind's, kubeadm's and k3s' files. Reading never panics, its limits hold, and what is
//! refused says where.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_platform::kind::{ITEMS_LIMIT, KindConfig, KindConfigError};
use portcullis_platform::{k3s, kubeadm};

fn flags(read: Result<kubeadm::ApiServerFlags, KindConfigError>) -> Option<usize> {
    match read {
        Ok(flags) => {
            assert!(flags.arguments.len() <= ITEMS_LIMIT);
            Some(flags.arguments.len())
        }
        Err(error) => {
            assert!(error.to_string().starts_with("f.yaml"), "{error}");
            None
        }
    }
}

fuzz_target!(|data: &str| {
    match KindConfig::parse(data, "f.yaml") {
        Ok(config) => assert!(config.extra_args.len() <= ITEMS_LIMIT),
        Err(error) => assert!(error.to_string().starts_with("f.yaml"), "{error}"),
    }
    flags(kubeadm::parse(data, "f.yaml"));
    if let Some(count) = flags(k3s::parse(data, "f.yaml")) {
        // The same file once more as a drop-in: what it adds is there twice, what it replaces once.
        if let Some(twice) = flags(k3s::parse_all(&[(data, "f.yaml"), (data, "f.yaml")])) {
            assert!((count..=2 * count).contains(&twice), "{count} flags, {twice}");
        }
    }
});
