//! Every name that crosses a process boundary, and the report and reply that filter and controller exchange.
//!
//! Both sides compile this one module, so they cannot disagree. What it deliberately does not hold: the plan in
//! the route name ([`crate::route_plan`]) has its own text format.
//!
//! **Compatibility.** A reader ignores unknown fields (but for the plugin's configuration, where a typo must be told); a missing counter is 0. A name is never reused for
//! another meaning.

use crate::color::PerColor;
use crate::share::Bps;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize, de};

/// Request header that steers the route; *set* by the filter, a client's own value is dropped.
pub const COLOR_HEADER: &str = "x-hueshift-color";
/// Where reports are posted, on the cluster named in the plugin configuration.
pub const REPORT_PATH: &str = "/v1/report";
/// Marker that begins a plan inside a route name.
pub const PLAN_MARKER: &str = "hs1.";
/// Prefix of every key in Envoy's shared data: all plugins of a proxy share one map.
pub const SHARED_PREFIX: &str = "hueshift.";
/// Most bytes of a reply that the filter looks at.
pub const MAX_REPLY_BYTES: usize = 64 * 1024;
/// Most bytes of a report that the controller accepts.
pub const MAX_REPORT_BYTES: usize = 256 * 1024;
/// Most entries of a reply's lists that the filter takes.
pub const MAX_REPLY_ENTRIES: usize = 256;
/// Default time between two reports while two colors are open, in ms.
pub const REPORT_MS: u32 = 250;
/// Time between two reports while one color is open, in ms.
pub const REPORT_IDLE_MS: u32 = 10_000;
/// Lottery slots: a session key falls into one of these, a share of one basis point each.
pub const SLOTS: u16 = 10_000;
/// How long the filter remembers which slots it has told of, ms: then it tells of them again, with their next error and
/// the first latency after that. The judge's shortest window is twice as long, so that a session that comes often is
/// told of in each window, wherever within it the filter's clock falls.
pub const TOLD_MS: u64 = 5_000;

/// Above every latency bucket: what a slot and then a bucket is multiplied with in `first_times`.
pub const TIME_BUCKETS: u32 = 512;
/// Most bins of predictions: what a slot is multiplied with in `first_predictions`.
pub const PREDICTION_BINS: u32 = 64;

/// First 16 hex digits of the BlueGreen's UID: which service a plan, a report or a cap is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId([u8; 8]);

/// A text that is not 16 lowercase hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAServiceId;

/// What one worker of one Envoy has counted. Counters are cumulative since the VM (`vm`) was built, so a lost,
/// repeated or reordered report harms nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The Envoy's node id. The judge sums an Envoy's workers.
    pub proxy: String,
    /// This VM's number, drawn from shared data; unique within (proxy, incarnation).
    pub vm: u64,
    /// Wall clock in ms of the Envoy process's first configuration; a rebuilt VM keeps it.
    pub incarnation: u64,
    /// Grows with each report of (proxy, incarnation, vm), from 1.
    pub seq: u64,
    /// Time since this VM was built, ms: one that was built after another fell silent may stand in its place.
    #[serde(default)]
    pub age_ms: u64,
    /// The next report comes within this time, news or not, ms: a worker that breaks its word is dead or stuck. 0: no
    /// such promise.
    #[serde(default)]
    pub next_ms: u32,
    /// One entry per service whose plan this VM has seen.
    #[serde(default)]
    pub plans: Vec<PlanReport>,
    /// Things that went wrong inside the filter, by kind ([`crate::problem`]).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub problems: BTreeMap<String, u64>,
}

/// One service in a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanReport {
    /// The service.
    pub id: ServiceId,
    /// The release that the plan in force belongs to.
    pub release: u32,
    /// The epoch of the plan in force: proof that this worker enforces it.
    pub epoch: u64,
    /// Number of the fuse's current trip (1, 2, …); 0: not tripped.
    #[serde(default)]
    pub tripped: u32,
    /// Lotteries of this release whose books changed since the leader's ack, each whole.
    #[serde(default)]
    pub lotteries: Vec<LotteryReport>,
}

/// The books of one lottery (release, epoch, limit in force) on one worker. In JSON the colors stand beside the
/// other fields.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(from = "FlatLottery")]
pub struct LotteryReport {
    /// Epoch of the plan that drew.
    pub epoch: u64,
    /// Limit in force: the smallest of route, cap and fuse.
    pub limit: Bps,
    /// Counters per color.
    pub tallies: PerColor<Tally>,
    /// Lottery slots with an error on either color, since the ack: the first one in this release (all of them again
    /// after a new term), and then the first one in each [`TOLD_MS`], so that a fault among sessions that all erred
    /// before is seen.
    pub error_slots: Vec<u16>,
    /// Lottery slots whose first completed request *on the candidate* in this release was booked here; likewise. A
    /// session that moves over at a step is a new unit of the absolute certificate, whatever it did on stable.
    pub done_slots: Vec<u16>,
    /// Lottery slots with the times of their first good answer in each [`TOLD_MS`], since the ack, to its first byte and
    /// in all: (slot × [`TIME_BUCKETS`] + bucket ([`crate::histogram`])) × [`TIME_BUCKETS`] + bucket.
    pub first_times: Vec<u32>,
    /// Likewise with the bin of their first prediction: slot × [`PREDICTION_BINS`] + bin.
    pub first_predictions: Vec<u32>,
    /// Lottery slots with an event ([`Params::client_errors`], [`Params::event_header`]) on either color: the first one in
    /// each [`TOLD_MS`], since the ack.
    pub event_slots: Vec<u16>,
}

/// [`LotteryReport`] as it is read. Not `serde(flatten)`: that hands the histograms' keys over as strings, and
/// reading them back as numbers fails.
#[derive(Deserialize)]
struct FlatLottery {
    epoch: u64,
    limit: Bps,
    #[serde(default)]
    blue: Tally,
    #[serde(default)]
    green: Tally,
    #[serde(default)]
    error_slots: Vec<u16>,
    #[serde(default)]
    done_slots: Vec<u16>,
    #[serde(default)]
    first_times: Vec<u32>,
    #[serde(default)]
    first_predictions: Vec<u32>,
    #[serde(default)]
    event_slots: Vec<u16>,
}

/// [`LotteryReport`] as it is written: borrowed, because the filter writes it several times a second.
#[derive(Serialize)]
struct FlatLotteryRef<'a> {
    epoch: u64,
    limit: Bps,
    blue: &'a Tally,
    green: &'a Tally,
    #[serde(skip_serializing_if = "<[u16]>::is_empty")]
    error_slots: &'a [u16],
    #[serde(skip_serializing_if = "<[u16]>::is_empty")]
    done_slots: &'a [u16],
    #[serde(skip_serializing_if = "<[u32]>::is_empty")]
    first_times: &'a [u32],
    #[serde(skip_serializing_if = "<[u32]>::is_empty")]
    first_predictions: &'a [u32],
    #[serde(skip_serializing_if = "<[u16]>::is_empty")]
    event_slots: &'a [u16],
}

/// Counters of one color in one lottery. `completed` = `ok` + `errors`; a client that went away is in neither.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    /// Requests whose color was drawn.
    pub started: u64,
    /// Requests with a final outcome that counts for the color.
    pub completed: u64,
    /// Of those, failures.
    pub errors: u64,
    /// All ends by class name ([`crate::outcome`]), the client's aborts included.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub outcomes: BTreeMap<String, u64>,
    /// Time to first byte of successful requests: bucket index ([`crate::histogram`]) to count.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub first_byte: BTreeMap<u16, u64>,
    /// Total duration of successful requests, likewise.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub total: BTreeMap<u16, u64>,
    /// Successful answers with a prediction, by its bin.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub predictions: BTreeMap<u16, u64>,
    /// Of the completed ones, those with an event ([`Params::client_errors`], [`Params::event_header`]).
    #[serde(skip_serializing_if = "is_zero")]
    pub events: u64,
    /// Gauge: requests in flight now.
    pub in_flight: u32,
    /// Gauge: longest time since the upstream's last byte (or the start) among them, ms.
    pub oldest_ms: u64,
    /// Requests that were once in flight for longer than `hang_ms` without a byte from upstream: each counts as
    /// completed and failed (as a timeout) at that moment, and never again.
    pub hung: u64,
    /// The part of the stable color's requests that is the negative control.
    #[serde(skip_serializing_if = "Control::is_empty")]
    pub control: Control,
}

/// The negative control: requests of the stable color whose slot lies in [limit, 2 limit), as many slots as the candidate
/// has. Only where each request drew for itself (the plan names no session key): sessions that stick are few draws, and
/// any two parts of them differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Control {
    /// As [`Tally::started`].
    pub started: u64,
    /// As [`Tally::completed`].
    pub completed: u64,
    /// As [`Tally::errors`].
    pub errors: u64,
}

/// What the controller answers to a report. A reply can only *lower* the candidate below what the route allows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The leader's term; another one than before asks for a full row.
    #[serde(default)]
    pub term: u64,
    /// Last `seq` of this VM that the leader took.
    #[serde(default)]
    pub ack: u64,
    /// Time until the next report while two colors are open, ms (clamped to 50..=60 000 by the filter).
    #[serde(default)]
    pub report_ms: u32,
    /// The fast rollback.
    #[serde(default)]
    pub caps: Vec<Cap>,
    /// Settings per service; a service that is not listed keeps its last settings.
    #[serde(default)]
    pub params: Vec<Params>,
    /// Lifts a local fuse.
    #[serde(default)]
    pub rearm: Vec<Rearm>,
}

/// An upper bound of the candidate's share, until the release number changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cap {
    /// The service.
    pub id: ServiceId,
    /// The release it bounds; it never applies to another.
    pub release: u32,
    /// Largest share of the candidate.
    pub max: Bps,
    /// What becomes of pins to the candidate.
    pub pins: CapPins,
}

/// Whether pins to the candidate survive a cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CapPins {
    /// They stay.
    Keep,
    /// They count as void: the session goes to stable and stays there for this release.
    Void,
}

/// Per service settings of the filter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Params {
    /// The service.
    pub id: ServiceId,
    /// The local fuse; `null` switches it off.
    pub fuse: Option<FuseParams>,
    /// Age without a byte from upstream from which a request counts as hung, ms.
    pub hang_ms: u64,
    /// Where answers carry a prediction; absent: nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predictions: Option<PredictionParams>,
    /// Answers that blame the client (4xx, or such a gRPC code) are events: no failures, but something that a release
    /// should not bring more of.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub client_errors: bool,
    /// So are answers that carry this response header, whatever its value; empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub event_header: String,
}

/// Where an answer carries what the model says, and the bins it is counted in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PredictionParams {
    /// Response header with one number.
    pub header: String,
    /// Least number that is a prediction.
    pub min: f64,
    /// Largest one.
    pub max: f64,
    /// Bins of equal width between them, 2..=[`PREDICTION_BINS`].
    pub bins: u16,
}

/// The local fuse's e-CUSUM ([`crate::fuse`]); its p1 is 0.5.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FuseParams {
    /// Error rate that is still healthy, 0 < p0 < 0.5.
    pub p0: f64,
    /// Height at which it trips; mean requests between false trips are at least e^h.
    pub h: f64,
}

/// Lifts a local fuse for some requests, never a cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rearm {
    /// The service.
    pub id: ServiceId,
    /// The release.
    pub release: u32,
    /// Must equal the `tripped` that was reported, else it is ignored.
    pub trip: u32,
    /// How many candidate requests may pass before it is armed as before.
    pub probe: u32,
}

/// The plugin's configuration (JSON): everything the filter needs before the first reply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginConfig {
    /// Envoy cluster of the controller's report service.
    #[serde(default)]
    pub cluster: String,
    /// Mesh keys, current first; at most two, so that a rotation loses no session. None yet: the filter is inert.
    #[serde(default)]
    pub keys: Vec<MeshKey>,
    /// Time between reports while two colors are open, ms, until a reply says otherwise.
    #[serde(default = "default_report_ms")]
    pub report_ms: u32,
    /// Fuse of services without settings of their own yet; `null`: off.
    #[serde(default = "default_fuse")]
    pub fuse: Option<FuseParams>,
    /// Hang threshold of services without settings of their own yet, ms.
    #[serde(default = "default_hang_ms")]
    pub hang_ms: u64,
}

/// One version of the mesh key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshKey {
    /// Its number, as in the plan's `v` part.
    pub version: u8,
    /// 64 hex digits.
    pub hex: String,
}

// === impl ServiceId ===

impl ServiceId {
    /// From the first eight bytes of a UID.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        ServiceId(bytes)
    }

    /// Reads 16 lowercase hex digits.
    pub fn parse(text: &str) -> Result<Self, NotAServiceId> {
        let digits = text.as_bytes();
        if digits.len() != 16 {
            return Err(NotAServiceId);
        }
        let mut bytes = [0u8; 8];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            for digit in pair {
                let value = match digit {
                    b'0'..=b'9' => digit - b'0',
                    b'a'..=b'f' => digit - b'a' + 10,
                    _ => return Err(NotAServiceId),
                };
                *byte = (*byte << 4) | value;
            }
        }
        Ok(ServiceId(bytes))
    }

    /// The 16 ASCII characters, as hashed for the service key.
    pub fn ascii(&self) -> [u8; 16] {
        let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
        let mut text = [0u8; 16];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            if let [high, low] = pair {
                *high = digit(byte >> 4);
                *low = digit(byte & 15);
            }
        }
        text
    }
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ServiceId {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ServiceId {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        ServiceId::parse(&String::deserialize(from)?).map_err(de::Error::custom)
    }
}

impl fmt::Display for NotAServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a service id is 16 lowercase hex digits")
    }
}

impl core::error::Error for NotAServiceId {}

// === impl LotteryReport ===

impl From<FlatLottery> for LotteryReport {
    fn from(flat: FlatLottery) -> Self {
        let FlatLottery {
            epoch,
            limit,
            blue,
            green,
            error_slots,
            done_slots,
            first_times,
            first_predictions,
            event_slots,
        } = flat;
        LotteryReport {
            epoch,
            limit,
            tallies: PerColor { blue, green },
            error_slots,
            done_slots,
            first_times,
            first_predictions,
            event_slots,
        }
    }
}

impl Serialize for LotteryReport {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        FlatLotteryRef {
            epoch: self.epoch,
            limit: self.limit,
            blue: &self.tallies.blue,
            green: &self.tallies.green,
            error_slots: &self.error_slots,
            done_slots: &self.done_slots,
            first_times: &self.first_times,
            first_predictions: &self.first_predictions,
            event_slots: &self.event_slots,
        }
        .serialize(to)
    }
}

// === impl Control ===

impl Control {
    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        *self == Control::default()
    }
}

// === impl PredictionParams ===

impl PredictionParams {
    /// Whether they make sense.
    pub fn is_sound(&self) -> bool {
        let width = self.max - self.min;
        let bins = 2..=PREDICTION_BINS;
        !self.header.is_empty() && width > 0.0 && width.is_finite() && bins.contains(&self.bins.into())
    }

    /// The bin of a number; `None`: it is no prediction. The last bin has both of its ends.
    pub fn bin(&self, value: f64) -> Option<u16> {
        let Self { min, max, bins, .. } = *self;
        let place = (value - min) / (max - min) * f64::from(bins);
        (value >= min && value <= max).then(|| (place as u16).min(bins.saturating_sub(1)))
    }
}

// === impl FuseParams ===

impl Default for FuseParams {
    fn default() -> Self {
        FuseParams { p0: 0.02, h: 24.0 }
    }
}

// === impl MeshKey ===

impl fmt::Debug for MeshKey {
    /// A key never reaches a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MeshKey {{ version: {}, hex: <redacted> }}", self.version)
    }
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn default_report_ms() -> u32 {
    REPORT_MS
}

fn default_fuse() -> Option<FuseParams> {
    Some(FuseParams::default())
}

fn default_hang_ms() -> u64 {
    crate::hang::DEFAULT_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_with_histograms_reads_back_as_it_was_written() {
        let control = Control { started: 2, completed: 2, errors: 1 };
        let tally = Tally {
            started: 3,
            completed: 2,
            first_byte: BTreeMap::from([(160, 2)]),
            control,
            ..Tally::default()
        };
        let lottery = LotteryReport {
            epoch: 7,
            tallies: PerColor { blue: tally.clone(), green: tally },
            done_slots: alloc::vec![1, 9_999],
            first_times: alloc::vec![(9_999 * TIME_BUCKETS + 415) * TIME_BUCKETS + 415],
            first_predictions: alloc::vec![9_999 * PREDICTION_BINS + 63],
            ..LotteryReport::default()
        };
        let text = serde_json::to_string(&lottery).unwrap();
        assert!(text.starts_with(r#"{"epoch":7,"limit":0,"blue":{"#), "{text}");
        assert_eq!(serde_json::from_str::<LotteryReport>(&text).unwrap(), lottery);
    }

    #[test]
    fn a_prediction_falls_into_one_bin_or_is_none() {
        let params = PredictionParams { header: "x".into(), min: -1.0, max: 1.0, bins: 20 };
        let bins = [-1.0, -0.95, -0.85, 0.0, 0.99, 1.0].map(|value| params.bin(value));
        assert_eq!(bins, [0, 0, 1, 10, 19, 19].map(Some));
        for value in [-1.01, 1.01, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(params.bin(value), None, "{value}");
        }
    }

    #[test]
    fn bounds_of_predictions_that_make_no_sense_are_known() {
        let sound = |header: &str, min, max, bins| {
            PredictionParams { header: header.into(), min, max, bins }.is_sound()
        };
        assert!(sound("x", 0.0, 1.0, 2) && sound("x", -5.0, 1e9, 64));
        for (header, min, max, bins) in [
            ("", 0.0, 1.0, 20),
            ("x", 1.0, 1.0, 20),
            ("x", 2.0, 1.0, 20),
            ("x", 0.0, f64::NAN, 20),
            ("x", f64::MIN, f64::MAX, 20),
            ("x", 0.0, 1.0, 1),
            ("x", 0.0, 1.0, 65),
        ] {
            assert!(!sound(header, min, max, bins), "{header} {min} {max} {bins}");
        }
    }
}
