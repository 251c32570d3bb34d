//! Tests only: a header with which a request kills the VM that it meets, as a bug in the filter would.
//!
//! It is compiled with the feature `trap` alone, which no shipped module has: `cargo wasm inspect` finds the line that
//! such a build says when it starts.

use crate::host::{Host, Level};

/// The header.
const HEADER: &[u8] = b"x-hueshift-trap";

/// Says what this is.
pub fn warn(host: &mut impl Host) {
    host.log(Level::Error, "hueshift: TRAP BUILD: a request header kills it; for tests only");
}

/// Traps if the request asks for it.
pub fn spring(host: &mut impl Host) {
    let raw = host.request_headers().unwrap_or_default();
    if raw.windows(HEADER.len()).any(|window| window == HEADER) {
        core::arch::wasm32::unreachable();
    }
}
