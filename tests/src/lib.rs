//! Tests that need more than one crate: end to end, differential, regression. See `tests/`.
