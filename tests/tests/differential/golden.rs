//! Recording: a sample of every family with the oracle's answers, so that the Rust side can be checked without Go.
//!
//! `PORTCULLIS_RECORD=file cargo test -p portcullis-tests --test differential record` writes `tests/golden/authn/file*.jsonl`:
//! the families whose names begin so; an empty value means all.
//! Tokens in recordings expire in the year 2100.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use portcullis_runtime::Rng;
use serde_json::json;

use crate::draft::{Keys, Times, World};
use crate::{families, oracle};

/// Cases of each family that are kept.
const SAMPLE: usize = 24;
/// Cases of a family made from a grammar, of which hardly two are alike.
const GENERATED_SAMPLE: usize = 120;
/// Longer cases are not kept.
const MAX_LINE: usize = 8_000;

#[test]
#[expect(clippy::disallowed_methods, reason = "recording is asked for by the environment")]
fn record() {
    let Ok(wanted) = std::env::var("PORTCULLIS_RECORD") else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/authn");
    std::fs::create_dir_all(&folder).expect("a folder");
    let world = Arc::new(World { keys: Keys::generate(), times: Times::far(), rng: Rng::seeded(1), prefer_rsa: false });
    for mut family in families::all(&world, 1).into_iter().filter(|family| family.name.starts_with(&wanted)) {
        // Evenly over the family, so that each kind of case is there.
        let sample = if family.name.contains("generated") { GENERATED_SAMPLE } else { SAMPLE };
        let step = family.cases.len().div_ceil(sample).max(1);
        family.cases = family.cases.into_iter().step_by(step).collect();
        let answers = oracle::ask(&family.cases);
        let mut lines = String::new();
        for (case, answer) in family.cases.iter().zip(answers) {
            let line = json!({
                "file": case.file,
                "initial": case.initial,
                "algs": case.algs,
                "disallowed": case.disallowed,
                "jwks": case.jwks,
                "issuerJwks": case.issuer_jwks,
                "token": case.token,
                "want": answer,
            });
            let line = line.to_string();
            if line.len() <= MAX_LINE {
                writeln!(lines, "{line}").expect("writing to a string");
            }
        }
        let name = family.name.replace(' ', "-");
        std::fs::write(folder.join(format!("{name}.jsonl")), lines).expect("a golden file");
    }
}
