//! The declarations of all functions, recorded from upstream's environment; `library/decls.rs` compares ours with the record.
//!
//! `PORTCULLIS_RECORD=1 cargo test -p portcullis-cel --test cel functions` writes `tests/golden/functions.txt` anew.

use std::path::Path;

use crate::golden::recording;
use crate::oracle;

#[test]
fn the_recorded_functions_are_those_of_kube_apiserver() {
    let [claims, user] = ["claims", "user"].map(oracle::functions);
    assert_eq!(claims, user, "variables change no function");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/functions.txt");
    if recording() {
        std::fs::write(&path, &claims).expect("the file is written");
    }
    let recorded = std::fs::read_to_string(&path).expect("the functions are recorded");
    assert_eq!(recorded, claims);
}
