//! The plugin's configuration, checked as a whole before anything of it is taken: never half of a new one.
//!
//! What cannot be used is never refused towards the proxy: Envoy answers every request of a listener with 500 as long
//! as it has no configuration of a filter that it accepted, and a mesh delivers the plugin before the controller
//! put the keys into it. [`crate::vm::Vm::configure`] says what holds instead.

use hueshift_core::contract::{FuseParams, PluginConfig};
use hueshift_core::fuse::Steps;
use std::fmt;

/// Most mesh keys: the current one and its predecessor.
const MAX_KEYS: usize = 2;

/// A configuration that was checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Envoy cluster of the controller's report service.
    pub cluster: String,
    /// Mesh keys by version.
    pub keys: Vec<(u8, [u8; 32])>,
    /// Time between reports while two colors are open, until a reply says otherwise.
    pub report_ms: u32,
    /// Fuse of services without settings of their own.
    pub fuse: Option<FuseParams>,
    /// Hang threshold of services without settings of their own.
    pub hang_ms: u64,
}

/// What is wrong with a configuration.
#[derive(Debug)]
pub enum ConfigError {
    /// It is no JSON of the right shape.
    Json(serde_json::Error),
    /// `cluster` is empty.
    NoCluster,
    /// There are more than two keys.
    KeyCount(usize),
    /// A key is not 64 hex digits.
    KeyDigits(u8),
    /// Two keys have the same version.
    KeyTwice(u8),
    /// `report_ms` is out of range.
    ReportMs(u32),
    /// `fuse` has senseless numbers.
    Fuse,
    /// `hang_ms` is 0.
    HangMs,
}

// === impl Config ===

impl Config {
    /// Reads and checks the configuration that Envoy hands over; `None`: it has no keys yet.
    pub fn parse(json: &[u8]) -> Result<Option<Config>, ConfigError> {
        if json.is_empty() {
            return Ok(None);
        }
        let raw: PluginConfig = serde_json::from_slice(json).map_err(ConfigError::Json)?;
        if raw.keys.is_empty() {
            return Ok(None);
        }
        if raw.cluster.is_empty() {
            return Err(ConfigError::NoCluster);
        }
        if raw.keys.len() > MAX_KEYS {
            return Err(ConfigError::KeyCount(raw.keys.len()));
        }
        let mut keys: Vec<(u8, [u8; 32])> = Vec::with_capacity(MAX_KEYS);
        for key in &raw.keys {
            if keys.iter().any(|(version, _)| *version == key.version) {
                return Err(ConfigError::KeyTwice(key.version));
            }
            keys.push((key.version, key_bytes(&key.hex).ok_or(ConfigError::KeyDigits(key.version))?));
        }
        if !(50..=60_000).contains(&raw.report_ms) {
            return Err(ConfigError::ReportMs(raw.report_ms));
        }
        if raw.fuse.is_some_and(|fuse| Steps::new(&fuse).is_none()) {
            return Err(ConfigError::Fuse);
        }
        if raw.hang_ms == 0 {
            return Err(ConfigError::HangMs);
        }
        let PluginConfig { cluster, report_ms, fuse, hang_ms, .. } = raw;
        Ok(Some(Config { cluster, keys, report_ms, fuse, hang_ms }))
    }

    /// The mesh key of a version.
    pub fn key(&self, version: u8) -> Option<&[u8]> {
        self.keys.iter().find(|(known, _)| *known == version).map(|(_, key)| key.as_slice())
    }
}

fn key_bytes(hex: &str) -> Option<[u8; 32]> {
    let mut key = [0u8; 32];
    let digits = hex.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        for digit in pair {
            let value = char::from(*digit).to_digit(16)?;
            *byte = *byte << 4 | u8::try_from(value).ok()?;
        }
    }
    Some(key)
}

// === impl ConfigError ===

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Json(error) => write!(f, "{error}"),
            ConfigError::NoCluster => {
                f.write_str("cluster: is empty; name the Envoy cluster of the report service")
            }
            ConfigError::KeyCount(count) => {
                write!(f, "keys: {count} given; at most two can be used, the current one first")
            }
            ConfigError::KeyDigits(version) => {
                write!(f, "keys: the key of version {version} is not 64 hex digits")
            }
            ConfigError::KeyTwice(version) => write!(f, "keys: version {version} is given twice"),
            ConfigError::ReportMs(ms) => write!(f, "report_ms: {ms} is not in 50..=60000"),
            ConfigError::Fuse => f.write_str("fuse: needs 0 < p0 < 0.5 and a finite h > 0"),
            ConfigError::HangMs => f.write_str("hang_ms: must be above 0"),
        }
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(digit: char) -> String {
        digit.to_string().repeat(64)
    }

    fn parse(json: &str) -> Result<Option<Config>, String> {
        Config::parse(json.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_minimal_configuration_takes_the_defaults() {
        let config = parse(&format!(r#"{{"cluster":"c","keys":[{{"version":1,"hex":"{}"}}]}}"#, hex('a')));
        let config = config.unwrap().unwrap();
        assert_eq!((config.report_ms, config.hang_ms), (250, 30_000));
        assert_eq!(config.fuse, Some(FuseParams::default()));
        assert_eq!(config.key(1), Some(&[0xaa; 32][..]));
        assert_eq!(config.key(2), None);
    }

    #[test]
    fn without_keys_there_is_nothing_to_do_and_nothing_wrong() {
        for json in ["", "{}", r#"{"cluster":"c"}"#, r#"{"cluster":"","keys":[]}"#] {
            assert_eq!(parse(json).unwrap(), None, "{json}");
        }
    }

    #[test]
    fn every_mistake_is_refused_and_named() {
        let (a, b) = (hex('a'), hex('B'));
        let one = format!(r#"{{"version":1,"hex":"{a}"}}"#);
        let cases = [
            ("{".to_owned(), "EOF"),
            ("7".to_owned(), "invalid"),
            (format!(r#"{{"cluster":"","keys":[{one}]}}"#), "cluster"),
            (format!(r#"{{"keys":[{one}]}}"#), "cluster"),
            (format!(r#"{{"cluster":"c","keys":[{one},{one}]}}"#), "twice"),
            (format!(r#"{{"cluster":"c","keys":[{one},{one},{one}]}}"#), "keys: 3"),
            (r#"{"cluster":"c","keys":[{"version":1,"hex":"abc"}]}"#.to_owned(), "64 hex"),
            (format!(r#"{{"cluster":"c","keys":[{{"version":300,"hex":"{b}"}}]}}"#), "300"),
            (format!(r#"{{"cluster":"c","keys":[{{"version":1,"hex":"{}"}}]}}"#, hex('x')), "64 hex"),
            (format!(r#"{{"cluster":"c","keys":[{one}],"report_ms":10}}"#), "report_ms"),
            (format!(r#"{{"cluster":"c","keys":[{one}],"hang_ms":0}}"#), "hang_ms"),
            (format!(r#"{{"cluster":"c","keys":[{one}],"fuse":{{"p0":0.7,"h":24}}}}"#), "fuse"),
            (format!(r#"{{"cluster":"c","keys":[{one}],"colour":1}}"#), "colour"),
        ];
        for (json, expected) in cases {
            let error = parse(&json).unwrap_err();
            assert!(error.contains(expected), "{json}: {error}");
            assert!(!error.contains(&a), "a key reached the log: {error}");
        }
    }
}
