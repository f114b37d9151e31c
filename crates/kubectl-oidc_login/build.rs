//! Links the small binary tighter where the linker is LLD, as rustc's own is on x86-64 Linux: identical functions, of
//! which generic code has many, are kept once. Rust promises nothing about the addresses of functions.
#![expect(clippy::disallowed_methods, reason = "cargo speaks to build scripts through the environment")]

fn main() {
    let target = |name: &str| std::env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    if target("OS") == "linux" && target("ARCH") == "x86_64" && target("ENV") == "gnu" {
        println!("cargo:rustc-link-arg-bins=-Wl,--icf=all");
    }
    println!("cargo:rerun-if-changed=build.rs");
}
