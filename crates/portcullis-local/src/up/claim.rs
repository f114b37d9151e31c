//! The state folder of a run: one `up` for each name has it, and a further one asks that one.

use std::sync::{Mutex, PoisonError};

use crate::state::{StateDir, StateError, StateFile};
use crate::steps::Steps;

use super::control::{self, ControlError};
use super::error::UpError;
use super::{Options, name_flag, outside};

/// How often a running `up` that ends before it answers is looked for.
const TRIES: u32 = 3;

/// Runs `run` with the folder to itself, and gives it back however that ends. Where this name runs already, `ask` hands what is
/// wanted to that one, and nothing is started. `is_first` is called when that is known not to be so.
pub(super) async fn alone(
    (options, state, steps): (&Options, &StateDir, &Steps),
    ask: impl AsyncFn() -> Result<(), UpError>,
    is_first: impl FnOnce(),
    run: impl AsyncFnOnce(&Mutex<StateFile>) -> Result<(), UpError>,
) -> Result<(), UpError> {
    let mut tries = 0;
    let (_lock, mut file) = loop {
        match state.open() {
            Err(StateError::Running { .. }) => {}
            opened => break opened?,
        }
        tries += 1;
        match ask().await {
            // It ended meanwhile: then this one is the first.
            Err(UpError::Control(ControlError::Ended(_))) if tries < TRIES => {}
            answered => return answered,
        }
    };
    is_first();
    outside::check(options, state, &file)?;
    outside::end_left_over(state, &mut file, steps).await?;
    file.claim();
    control::note(&mut file);
    state.write(&file)?;
    let file = Mutex::new(file);
    let outcome = run(&file).await;
    let mut file = file.into_inner().unwrap_or_else(PoisonError::into_inner);
    file.release();
    let written = state.write(&file);
    outcome?;
    written?;
    let (called, name) = (&options.called, name_flag(state.name()));
    steps.line(&format!("stopped; the same command starts it again, `{called} down{name}` removes it"));
    Ok(())
}
