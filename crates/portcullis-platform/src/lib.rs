//! Platforms: how each one's API server is told to trust an issuer. One file a platform, text in, text out.
//!
//! It knows no network and no files: whoever calls it reads and writes. What it reads comes with the file's name, so that
//! every error names the place.

pub mod kind;
