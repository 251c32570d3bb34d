//! Vocabulary, wire contract and every decision of Hueshift.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod color;
pub mod contract;
pub mod intake;
pub mod judge;
pub mod lottery;
pub mod route_plan;
pub mod share;
