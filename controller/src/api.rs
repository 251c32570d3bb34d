//! The `BlueGreen` document (`hueshift.dev/v1alpha1`), one shape for both homes.
//!
//! These are wire types: they say what may be written, with every default in one place. `document.rs` reads
//! them from YAML and checks what a type cannot say, naming file, line and field.

use hueshift_core::color::PerColor;
use hueshift_core::share::Bps;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// `apiVersion` of every object.
pub const API_VERSION: &str = "hueshift.dev/v1alpha1";
/// `kind` of the only object that the standalone home reads.
pub const KIND: &str = "BlueGreen";

/// One service that is released blue/green.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BlueGreen {
    /// Always [`API_VERSION`].
    pub api_version: String,
    /// Always `BlueGreen`.
    pub kind: String,
    /// Name of the service.
    pub metadata: Metadata,
    /// What is wished.
    pub spec: Spec,
}

/// Name of an object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// DNS-1123 label, unique in the file.
    pub name: String,
}

/// What is wished of one service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spec {
    /// Standalone: address and port on which Envoy serves this service, e.g. `127.0.0.1:8080`.
    pub listen: String,
    /// The two environments.
    pub colors: PerColor<ColorSpec>,
    /// What a conversation is.
    #[serde(default)]
    pub session: SessionSpec,
    /// How a release proceeds.
    #[serde(default)]
    pub release: ReleaseSpec,
    /// How it is judged.
    #[serde(default)]
    pub analysis: AnalysisSpec,
}

/// One color.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ColorSpec {
    /// Addresses `IP:port` of the model servers.
    pub endpoints: Vec<String>,
    /// What runs there, in the owner's words; a change of the standby's revision starts a release.
    pub revision: String,
    /// Standalone: start this program (argv, no shell) and keep it running; it inherits `HUESHIFT_COLOR` and
    /// `HUESHIFT_REVISION`. Absent: the color is started by someone else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
}

/// What a conversation is and whether it may move.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SessionSpec {
    /// Where the session key is found, first present wins; none: every request draws for itself.
    #[serde(default)]
    pub keys: Vec<KeySpec>,
    /// `move` (default): sessions follow the lottery. `keep` needs pins.
    #[serde(default)]
    pub mode: SessionMode,
}

/// Exactly one of the three.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeySpec {
    /// A request header.
    Header(String),
    /// A cookie.
    Cookie(String),
    /// A query parameter.
    Query(String),
}

/// What happens to running sessions when the share changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionMode {
    /// Sessions follow the lottery: at most one change per release.
    #[default]
    Move,
    /// Sessions stay on the color on which they started.
    Keep,
}

/// How a release proceeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ReleaseSpec {
    /// Shares of the candidate, rising; the cutover follows the last.
    pub steps: Vec<StepSpec>,
    /// When a step advances.
    pub advance: Advance,
    /// The watch after cutover.
    pub soak: SoakSpec,
    /// How long requests on the old color may finish after the soak.
    #[serde(with = "human_duration")]
    pub drain_deadline: Duration,
    /// How long a step may stay without a verdict.
    #[serde(with = "human_duration")]
    pub deadline: Duration,
    /// What happens at that deadline.
    pub on_inconclusive: OnInconclusive,
}

/// One step of the ramp.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StepSpec {
    /// The candidate's share, `"5%"`.
    #[serde(with = "percent")]
    pub share: Bps,
    /// Shortest time at this share.
    #[serde(default, with = "human_duration")]
    pub min_time: Duration,
    /// `advance: unsuspicious` only: fewest candidate requests at this share.
    #[serde(default)]
    pub min_requests: u64,
}

/// When a step advances.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Advance {
    /// When its evidence certifies the candidate.
    #[default]
    Certified,
    /// When its minimum time and sample passed without suspicion.
    Unsuspicious,
}

/// The watch after cutover: a concurrent control stays on the old color.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SoakSpec {
    /// Share that stays on the old color, `"5%"`.
    #[serde(with = "percent")]
    pub holdback: Bps,
    /// How long.
    #[serde(with = "human_duration")]
    pub time: Duration,
}

/// What a step's deadline does without a verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnInconclusive {
    /// Wait for a person.
    #[default]
    Hold,
    /// Go on as if certified.
    Promote,
    /// Back to stable.
    Rollback,
}

/// How a release is judged; the defaults fit most services.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AnalysisSpec {
    /// Chance of a false rollback per release, 0 < alpha <= 0.1.
    pub alpha: f64,
    /// Chance of a false certificate, 0 < beta <= 0.2.
    pub beta: f64,
    /// Ratio of error rates that is still acceptable, >= 1.
    pub ratio_margin: f64,
    /// Error rate below which nothing is rolled back, 0 < floor <= 0.1.
    pub error_floor: f64,
    /// Whether steps may also be certified by an absolute error rate (5 %, 2 %, 1 % by share).
    pub absolute_certificate: bool,
    /// The fuse inside each Envoy.
    pub fuse: FuseSpec,
}

/// The fuse inside each Envoy: it trips without the controller.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FuseSpec {
    /// Off leaves only the controller's judge.
    pub enabled: bool,
    /// Error rate that is still healthy, 0 < p0 < 0.5.
    pub healthy_error_rate: f64,
    /// ln of the mean requests between false trips, 5..=60.
    pub height: f64,
}

impl Default for ReleaseSpec {
    fn default() -> Self {
        let step = |bps| StepSpec {
            share: Bps::new(bps).unwrap_or(Bps::ZERO),
            min_time: Duration::ZERO,
            min_requests: 0,
        };
        ReleaseSpec {
            steps: vec![step(500), step(2_500), step(5_000)],
            advance: Advance::default(),
            soak: SoakSpec::default(),
            drain_deadline: Duration::from_secs(300),
            deadline: Duration::from_secs(3_600),
            on_inconclusive: OnInconclusive::default(),
        }
    }
}

impl Default for SoakSpec {
    fn default() -> Self {
        SoakSpec { holdback: Bps::new(500).unwrap_or(Bps::ZERO), time: Duration::from_secs(300) }
    }
}

impl Default for AnalysisSpec {
    fn default() -> Self {
        AnalysisSpec {
            alpha: 0.01,
            beta: 0.05,
            ratio_margin: 1.25,
            error_floor: 0.001,
            absolute_certificate: true,
            fuse: FuseSpec::default(),
        }
    }
}

impl Default for FuseSpec {
    fn default() -> Self {
        FuseSpec { enabled: true, healthy_error_rate: 0.02, height: 24.0 }
    }
}

/// Durations as people write them: `250ms`, `30s`, `5m`, `1h30m`.
pub mod human_duration {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use std::time::Duration;

    /// Writes the shortest form.
    pub fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format(*value))
    }

    /// Reads any form.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        parse(&String::deserialize(from)?).map_err(de::Error::custom)
    }

    /// Reads numbers each with a unit (`ms`, `s`, `m`, `h`, `d`), largest first.
    pub fn parse(text: &str) -> Result<Duration, String> {
        let wrong = || {
            format!("`{text}` is not a duration; write numbers with units, such as 250ms, 30s, 5m or 1h30m")
        };
        let mut rest = text;
        let mut sum = Duration::ZERO;
        let mut smallest = u64::MAX;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
            let (number, tail) = rest.split_at(digits);
            let unit_len = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit_len);
            let ms: u64 = match unit {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return Err(wrong()),
            };
            // Largest unit first, each once: `5m1h` is more likely a slip than a wish.
            if ms >= smallest {
                return Err(wrong());
            }
            smallest = ms;
            let number: u64 = number.parse().map_err(|_| wrong())?;
            let part = Duration::from_millis(number.checked_mul(ms).ok_or_else(wrong)?);
            sum = sum.checked_add(part).ok_or_else(wrong)?;
            rest = tail;
        }
        if text.is_empty() { Err(wrong()) } else { Ok(sum) }
    }

    /// The shortest form that [`parse`] reads back.
    pub fn format(value: Duration) -> String {
        let mut ms = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
        if ms == 0 {
            return "0s".to_owned();
        }
        let mut text = String::new();
        for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
            if ms >= size {
                text.push_str(&format!("{}{unit}", ms / size));
                ms %= size;
            }
        }
        text
    }
}

/// Shares as people write them: `5%`, `0.25%`.
pub mod percent {
    use hueshift_core::share::Bps;
    use serde::{Deserialize, Deserializer, Serializer, de};

    /// Writes `5%`.
    pub fn serialize<S: Serializer>(value: &Bps, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&value.to_string().replace(' ', ""))
    }

    /// Reads `5%`.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bps, D::Error> {
        parse(&String::deserialize(from)?).map_err(de::Error::custom)
    }

    /// Reads a percentage with at most two decimals.
    pub fn parse(text: &str) -> Result<Bps, String> {
        let wrong = || {
            format!(
                "`{text}` is not a share; write a percentage from 0% to 100% with at most two decimals, such as 5% or 0.25%"
            )
        };
        let number = text.strip_suffix('%').ok_or_else(wrong)?.trim_end();
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty()
            || whole.len() > 3
            || part.len() > 2
            || !digits(whole)
            || !digits(part)
            || number.ends_with('.')
        {
            return Err(wrong());
        }
        let bps: u16 = format!("{whole}{part:0<2}").parse().map_err(|_| wrong())?;
        Bps::new(bps).map_err(|_| wrong())
    }
}
