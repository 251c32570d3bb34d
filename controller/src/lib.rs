//! The controller: observe, judge, plan, apply; the CLI; the standalone home.
#![forbid(unsafe_code)]

pub mod api;
pub mod cli;
pub mod control;
pub mod document;
pub mod engine;
pub mod home;
pub mod ingest;
pub mod mesh;
pub mod policy;
pub mod ramp;
pub mod random;
pub mod rivals;
pub mod routes;
pub mod standalone;
pub mod supervise;
pub mod text;
pub mod view;
pub mod world;
