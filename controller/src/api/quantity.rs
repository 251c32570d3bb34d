//! Durations and shares as people write them in documents.

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

    /// The same where it may be absent.
    pub mod optional {
        use super::{Deserialize, Deserializer, Duration, Serializer, de, format, parse};

        /// Writes the shortest form.
        pub fn serialize<S: Serializer>(value: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
            match value {
                Some(value) => to.serialize_str(&format(*value)),
                None => to.serialize_none(),
            }
        }

        /// Reads any form.
        pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
            Option::<String>::deserialize(from)?
                .map(|text| parse(&text))
                .transpose()
                .map_err(de::Error::custom)
        }
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
        to.serialize_str(&format(*value))
    }

    /// The same where it may be absent.
    pub mod optional {
        use super::{Bps, Deserialize, Deserializer, Serializer, de, format, parse};

        /// Writes `5%`.
        pub fn serialize<S: Serializer>(value: &Option<Bps>, to: S) -> Result<S::Ok, S::Error> {
            match value {
                Some(value) => to.serialize_str(&format(*value)),
                None => to.serialize_none(),
            }
        }

        /// Reads `5%`.
        pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Bps>, D::Error> {
            Option::<String>::deserialize(from)?
                .map(|text| parse(&text))
                .transpose()
                .map_err(de::Error::custom)
        }
    }

    /// The form that [`parse`] reads back: `5%`, `0.25%`.
    pub fn format(value: Bps) -> String {
        value.to_string().replace(' ', "")
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
