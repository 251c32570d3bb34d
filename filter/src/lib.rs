//! The proxy-wasm filter: session-affine color routing and per-request health accounting inside Envoy.
//!
//! It asks [`hueshift_core`] for every decision; what lives here is state that must survive between callbacks
//! (plans, books, requests in flight) and the translation to and from the proxy.
//!
//! | module | its one job |
//! |---|---|
//! | `abi` | the only `unsafe` code: host calls that no status and no byte can make panic |
//! | `entry`, `mute` | where Envoy enters; the SDK's own host calls, taken out |
//! | [`host`] | the seam: what we ask of the proxy; everything above it runs on any machine |
//! | [`config`] | the plugin's configuration, checked before it is taken |
//! | [`stream`] | one request, from its headers to its end |
//! | [`vm`] | what all requests and ticks of one worker share, and the tick |
//! | [`plans`], [`service`], [`books`], [`flights`] | parsed plans; caps and fuse; counters; requests in flight |
//! | [`report`] | reports out, replies in |
//! | [`shared`] | values that all workers of an Envoy see and that outlive a VM |
//! | [`vec_map`] | a small ordered map |
//! | `trap` | only in a build for tests: a header that kills the VM |
//! | [`metrics`], [`problem`] | Envoy statistics by color; what went wrong, by kind |
//!
//! **It never answers a request, never blocks and never panics.** A panic would cost every open request of its
//! worker and, with `FAIL_OPEN`, silence the worker for good; so any inner error means "request untouched, one
//! counter bumped", and each memory has a bound with a defined behavior when it is full.
//!
//! **Cost** is the number of host calls that return bytes (about 0.6 us each, all others 0.1): two per request
//! with one color open, three in a release. A test counts them.

#[cfg(target_arch = "wasm32")]
mod abi;
pub mod books;
pub mod config;
#[cfg(target_arch = "wasm32")]
mod entry;
#[cfg(test)]
mod fake_host;
pub mod flights;
pub mod host;
pub mod metrics;
#[cfg(target_arch = "wasm32")]
mod mute;
pub mod plans;
pub mod problem;
pub mod report;
pub mod service;
pub mod shared;
pub mod stream;
#[cfg(all(target_arch = "wasm32", feature = "trap"))]
mod trap;
pub mod vec_map;
pub mod vm;
