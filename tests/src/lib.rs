//! Sample models, load client, harness and offline checker of the end-to-end tests, the demo and the measurements.
//!
//! The layers below (core's tables and properties, the filter's fake host) prove the rules; here the compiled
//! module runs in a real Envoy and the real `hueshift` drives it, and one checker over the event logs of client
//! and model servers decides what happened. Nothing here ships.
#![forbid(unsafe_code)]
// A harness asserts by panicking: the panic names the broken expectation and unwinding ends the child processes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod checker;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod controller;
pub mod envoy;
pub mod http;
pub mod lottery;
pub mod model;
pub mod ports;
pub mod process;
pub mod programs;
pub mod raw;
pub mod scene;
pub mod sink;
pub mod stage;
pub mod vms;
pub mod workplace;
