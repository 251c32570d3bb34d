//! What stands behind `cargo wasm`, `cargo demo`, `cargo verify` and `cargo measure`.
//!
//! Ordinary programs of the workspace instead of scripts: they run wherever Rust does, their errors name the
//! remedy, and there is nothing to install. No product logic lives here.

#![forbid(unsafe_code)]

pub mod cluster;
pub mod compile;
pub mod inspect;
pub mod oci;
pub mod problem;
pub mod ready;
pub mod steps;
pub mod tools;
pub mod workspace;
