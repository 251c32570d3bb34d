//! The plan as it travels in the route name (design: `hs1.<id>.r<release>.e<epoch>.s<b|g>.l<limit>.p<k|m|x>.v<key>[.k<rule>]…`).

use crate::color::Color;
use crate::contract::ServiceId;
use crate::share::Bps;
use alloc::string::String;
use alloc::vec::Vec;

/// Weights, epoch and session rule of one service, as one atomic value per stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutePlan {
    /// The service.
    pub id: ServiceId,
    /// Counts releases of this service.
    pub release: u32,
    /// Grows when limit, pins or stable color change.
    pub epoch: u64,
    /// The color that serves.
    pub stable: Color,
    /// The candidate's share.
    pub limit: Bps,
    /// What pins mean.
    pub pins: Pins,
    /// Number of the mesh key in use.
    pub key_version: u8,
    /// Where session keys are found; the first present wins. None: the request id.
    pub keys: Vec<KeyRule>,
}

/// What a pin means under a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pins {
    /// `k`: sessions stay where they are.
    Keep,
    /// `m`: sessions move with the lottery.
    Move,
    /// `x`: the candidate is condemned, its pins are void.
    Condemned,
}

/// Where to look for a session key. Header names are lowercase.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyRule {
    /// A request header.
    Header(String),
    /// A cookie.
    Cookie(String),
    /// A query parameter.
    Query(String),
}

impl RoutePlan {
    /// The text for a route's match name.
    pub fn encode(&self) -> String {
        unimplemented!()
    }
}
