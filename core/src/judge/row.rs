//! What one proxy counted in one lottery: the judge's only input, live and replayed.
//!
//! Sides are roles, not colors: `green` is the candidate, `blue` is stable, whichever slot really plays the part.
//! Counters are signed, so that a hostile row is a malformed row and not an unreadable file.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// One proxy's news about one lottery. Counters are cumulative per (proxy, incarnation, epoch) and sparse: what is
/// not written keeps its last accepted value.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The Envoy.
    pub proxy: String,
    /// Grows when the proxy restarts; its counters then start at 0.
    pub incarnation: u64,
    /// Grows with each report of an incarnation.
    pub seq: u64,
    /// The lottery.
    pub epoch: u64,
    /// The candidate's configured share in that lottery.
    pub split: f64,
    /// Stable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blue: Option<Side>,
    /// The candidate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub green: Option<Side>,
    /// The part of stable whose slot lies in [limit, 2 limit): as many as the candidate has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<Side>,
    /// Slots with a first error, new since the proxy's last row. "First" is within the proxy's own memory of the
    /// release, which it should clear every few seconds ([`crate::contract::TOLD_MS`]): the judge knows which slots it
    /// has counted, and a slot that is reported again lets it find a late fault among sessions that all erred before
    /// (the judge's scales).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub error_slots: Vec<u16>,
    /// Slots below the limit with a first completed request on the candidate in this release, new since the proxy's
    /// last row. Absent in worlds of the plain format: tests that have the slot as their unit then count requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done_slots: Option<Vec<u16>>,
    /// Slots with a first successful answer, new since the proxy's last row, each with the latency bucket of that
    /// answer (the memory of firsts is cleared as for `error_slots`): a session is one observation, whatever the
    /// number of its requests. The role follows from the slot and the split.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first_latency: Vec<(u16, i32)>,
    /// Of the same slots and answers the bucket of the total time, where it is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first_total: Vec<(u16, i32)>,
    /// Slots with a first prediction, likewise with its bin.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first_predictions: Vec<(u16, i32)>,
    /// Slots with a first event, new since the proxy's last row; their memory, too, is cleared as for `error_slots`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub event_slots: Vec<u16>,
}

/// Counters of one role.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Side {
    /// Completed requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<i64>,
    /// Of those, failures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<i64>,
    /// Of the completed ones, those with an event of the metric `custom`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<i64>,
    /// Requests started; where a side has it, blocks count these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<i64>,
    /// Completed answers that are no errors, by latency bucket: time to the first byte where the row has `total`, too.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub latency: BTreeMap<i32, i64>,
    /// The same answers by the bucket of their total time. Absent in worlds of the plain format, which have one time.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub total: BTreeMap<i32, i64>,
    /// Answers by prediction bin.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub predictions: BTreeMap<i32, i64>,
}
