//! For fuzz targets alone (`--cfg fuzzing`): the whole server without a socket, and what it makes of objects and selectors.
//!
//! It only opens doors; what must hold behind them is said in `fuzz/targets`.

mod objects;
mod site;

pub use self::objects::{Kind, Selector, Stored, structured};
pub use self::site::{Answer, Body, Frames, Site, Upgraded};
