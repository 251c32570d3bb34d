//! Vocabulary, wire contract and every decision of Hueshift.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod color;
pub mod contract;
pub mod fuse;
pub mod hang;
pub mod histogram;
pub mod intake;
pub mod judge;
pub mod keys;
pub mod lottery;
pub mod outcome;
pub mod planner;
pub mod problem;
pub mod release;
pub mod revival;
pub mod route_plan;
pub mod share;
