//! The document that names the invariants names tests that exist.

use std::{collections::BTreeSet, fs, path::Path};

#[test]
fn every_test_that_the_invariants_name_exists() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(here.join("../../docs/store-invariants.md")).unwrap();
    let folders = [
        "tests/storage",
        "tests/storage/faults",
        "tests/storage/simulation",
        "tests/kubernetes",
        "src",
        "src/backup",
        "src/etcd",
        "src/kubernetes",
        "src/leases",
        "src/seal",
        "src/sqlite",
        "src/conformance",
        "../portcullis-kubeclient/tests/kubeclient",
        "../portcullis-provider/src/tests",
        "../portcullis/src",
    ];
    let sources: String = folders
        .iter()
        .flat_map(|folder| fs::read_dir(here.join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let is_name = |word: &&str| word.matches('_').count() >= 2 && !word.contains(['/', '.', ':']);
    let named: BTreeSet<&str> = document.split('`').skip(1).step_by(2).filter(is_name).collect();
    assert!(named.len() >= 50, "{named:?}");
    for name in named {
        assert!(sources.contains(&format!("fn {name}(")), "{name} is named and does not exist");
    }
}
