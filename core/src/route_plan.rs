//! The plan as it travels in the route name:
//! `hs1.<id>.r<release>.e<epoch>.s<b|g>.l<limit>.p<k|m|x>.v<key>[.k<rule>]…`.
//!
//! The name is the one free text that reaches the proxy together with the weights, so one route update carries
//! weights, epoch and session rule atomically per stream. What stands before the plan belongs to the user or to
//! the mesh and varies; the plan is therefore found by its marker, never by position.
//!
//! Reading is strict where a mistake could steer traffic (every known part, in its fixed order) and lenient
//! where a newer controller may add something (parts after the key number): those are skipped and counted.
//! What this module deliberately does not do: judge whether a plan makes sense for a service.

use crate::color::Color;
use crate::contract::{PLAN_MARKER, ServiceId};
use crate::share::Bps;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};

/// Most characters of an encoded plan, in a VirtualService (a Gateway API rule name holds 253).
pub const MAX_PLAN_CHARS: usize = 1024;

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

/// A plan that was read from a route name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// The plan.
    pub plan: RoutePlan,
    /// Trailing parts that this version does not know (and key rules of unknown kind).
    pub skipped: u32,
}

/// Why a route name holds no plan that may be acted on. Only [`PlanError::NoPlan`] is an ordinary sight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanError {
    /// There is no marker: the route is idle or not ours.
    NoPlan,
    /// A plan of another format version.
    OtherVersion,
    /// The plan is longer than [`MAX_PLAN_CHARS`].
    TooLong,
    /// A part is empty, holds a character other than `[a-z0-9-]`, or begins or ends with `-`.
    BadPart,
    /// A known part is not at its place.
    Missing(Part),
    /// A number is not plain decimal digits.
    NotDecimal(Part),
    /// A number has a leading zero.
    LeadingZero(Part),
    /// A number does not fit its range.
    OutOfRange(Part),
    /// A part has none of its allowed values.
    BadValue(Part),
    /// A key rule of a known kind names nothing that could be looked up.
    BadKey,
}

/// The known parts of a plan, in their fixed order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// 16 hex digits.
    Id,
    /// `r`, a u32.
    Release,
    /// `e`, a u64.
    Epoch,
    /// `s`, `b` or `g`.
    Stable,
    /// `l`, 0..=10000.
    Limit,
    /// `p`, `k`, `m` or `x`.
    Pins,
    /// `v`, a u8.
    KeyVersion,
}

// === impl RoutePlan ===

impl RoutePlan {
    /// The text for a route's match name. A key rule with an empty name could never match and is left out.
    /// The caller checks the length where the text must fit (many or long keys): [`MAX_PLAN_CHARS`].
    pub fn encode(&self) -> String {
        let stable = match self.stable {
            Color::Blue => 'b',
            Color::Green => 'g',
        };
        let mut text = String::with_capacity(96);
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "{PLAN_MARKER}{}.r{}.e{}.s{stable}.l{}.p{}.v{}",
            self.id,
            self.release,
            self.epoch,
            self.limit.get(),
            self.pins.letter(),
            self.key_version
        );
        self.keys.iter().for_each(|rule| rule.encode_into(&mut text));
        text
    }

    /// Reads the plan from an Envoy route name. Any bytes are fine; cost is linear.
    pub fn decode(route_name: &[u8]) -> Result<Decoded, PlanError> {
        let body = body(route_name)?;
        if body.len() + PLAN_MARKER.len() > MAX_PLAN_CHARS {
            return Err(PlanError::TooLong);
        }
        let mut parts = body.split(|byte| *byte == b'.').map(part_text);
        let mut next = |part: Part| parts.next().ok_or(PlanError::Missing(part))?;

        let id = ServiceId::parse(next(Part::Id)?).map_err(|_| PlanError::BadValue(Part::Id))?;
        let release = number(Part::Release, next(Part::Release)?, u64::from(u32::MAX))?;
        let epoch = number(Part::Epoch, next(Part::Epoch)?, u64::MAX)?;
        let stable = match value(Part::Stable, next(Part::Stable)?)? {
            "b" => Color::Blue,
            "g" => Color::Green,
            _ => return Err(PlanError::BadValue(Part::Stable)),
        };
        let limit = number(Part::Limit, next(Part::Limit)?, u64::from(Bps::ALL.get()))?;
        let pins = Pins::from_letter(value(Part::Pins, next(Part::Pins)?)?)?;
        let key_version = number(Part::KeyVersion, next(Part::KeyVersion)?, u64::from(u8::MAX))?;

        let mut keys = Vec::new();
        let mut skipped = 0u32;
        for part in parts {
            match KeyRule::decode(part?)? {
                Some(rule) => keys.push(rule),
                None => skipped += 1,
            }
        }
        let plan = RoutePlan {
            id,
            release: narrow(Part::Release, release)?,
            epoch,
            stable,
            limit: Bps::new(narrow(Part::Limit, limit)?).map_err(|_| PlanError::OutOfRange(Part::Limit))?,
            pins,
            key_version: narrow(Part::KeyVersion, key_version)?,
            keys,
        };
        Ok(Decoded { plan, skipped })
    }
}

/// What follows the last marker that stands at the start or after `.` or `-`.
fn body(route_name: &[u8]) -> Result<&[u8], PlanError> {
    let marker = PLAN_MARKER.as_bytes();
    let starts_part = |at: usize| {
        let before = at.checked_sub(1).and_then(|before| route_name.get(before));
        matches!(before, None | Some(b'.' | b'-'))
    };
    let mut windows = route_name.windows(marker.len()).enumerate().rev();
    let found = windows.find(|(at, window)| *window == marker && starts_part(*at));
    if let Some(body) = found.and_then(|(at, _)| route_name.get(at + marker.len()..)) {
        return Ok(body);
    }
    let other = route_name.split(|byte| matches!(byte, b'.' | b'-')).any(|part| {
        matches!(part, [b'h', b's', version @ ..] if !version.is_empty() && version.iter().all(u8::is_ascii_digit))
    });
    // The marker's own version is found here only as a last part without anything behind it: no plan either.
    Err(if other { PlanError::OtherVersion } else { PlanError::NoPlan })
}

fn part_text(part: &[u8]) -> Result<&str, PlanError> {
    let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    match part {
        [] | [b'-', ..] | [.., b'-'] => Err(PlanError::BadPart),
        part if part.iter().all(inner) => core::str::from_utf8(part).map_err(|_| PlanError::BadPart),
        _ => Err(PlanError::BadPart),
    }
}

/// What follows the part's letter.
fn value(part: Part, text: &str) -> Result<&str, PlanError> {
    text.strip_prefix(part.letter()).ok_or(PlanError::Missing(part))
}

fn number(part: Part, text: &str, max: u64) -> Result<u64, PlanError> {
    let digits = value(part, text)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(PlanError::NotDecimal(part));
    }
    if digits.len() > 1 && digits.starts_with('0') {
        return Err(PlanError::LeadingZero(part));
    }
    digits.parse().ok().filter(|number| *number <= max).ok_or(PlanError::OutOfRange(part))
}

fn narrow<T: TryFrom<u64>>(part: Part, number: u64) -> Result<T, PlanError> {
    T::try_from(number).map_err(|_| PlanError::OutOfRange(part))
}

// === impl Pins ===

impl Pins {
    fn letter(self) -> char {
        match self {
            Pins::Keep => 'k',
            Pins::Move => 'm',
            Pins::Condemned => 'x',
        }
    }

    fn from_letter(letter: &str) -> Result<Pins, PlanError> {
        match letter {
            "k" => Ok(Pins::Keep),
            "m" => Ok(Pins::Move),
            "x" => Ok(Pins::Condemned),
            _ => Err(PlanError::BadValue(Part::Pins)),
        }
    }
}

// === impl KeyRule ===

impl KeyRule {
    /// A header rule; header names are compared in lowercase.
    pub fn header(name: &str) -> KeyRule {
        KeyRule::Header(name.to_ascii_lowercase())
    }

    /// The name that is looked up.
    pub fn name(&self) -> &str {
        match self {
            KeyRule::Header(name) | KeyRule::Cookie(name) | KeyRule::Query(name) => name,
        }
    }

    fn encode_into(&self, text: &mut String) {
        let (kind, name) = match self {
            KeyRule::Header(name) => ('h', name.to_ascii_lowercase()),
            KeyRule::Cookie(name) => ('c', name.clone()),
            KeyRule::Query(name) => ('q', name.clone()),
        };
        if name.is_empty() {
            return;
        }
        if is_plain(&name) {
            let _ = write!(text, ".k{kind}-{name}");
        } else {
            let _ = write!(text, ".kx{kind}-");
            name.bytes().for_each(|byte| {
                let _ = write!(text, "{byte:02x}");
            });
        }
    }

    /// `None`: not a key rule, or one of a kind that this version does not know.
    fn decode(part: &str) -> Result<Option<KeyRule>, PlanError> {
        let (kind, name) = part.split_once('-').unwrap_or((part, ""));
        let (make, hex): (fn(String) -> KeyRule, bool) = match kind {
            "kh" => (KeyRule::Header, false),
            "kc" => (KeyRule::Cookie, false),
            "kq" => (KeyRule::Query, false),
            "kxh" => (|name| KeyRule::header(&name), true),
            "kxc" => (KeyRule::Cookie, true),
            "kxq" => (KeyRule::Query, true),
            _ => return Ok(None),
        };
        if name.is_empty() || (!hex && name.starts_with('-')) {
            return Err(PlanError::BadKey);
        }
        let name = if hex { from_hex(name)? } else { String::from(name) };
        Ok(Some(make(name)))
    }
}

/// Whether a name may stand in a plan as it is. A name that ends in the marker's own word could be taken for the
/// start of a plan by whoever reads the text, so it takes the hex form too.
fn is_plain(name: &str) -> bool {
    let word = PLAN_MARKER.trim_end_matches('.');
    let marker = name.strip_suffix(word).is_some_and(|before| before.is_empty() || before.ends_with('-'));
    part_text(name.as_bytes()).is_ok() && !marker
}

fn from_hex(digits: &str) -> Result<String, PlanError> {
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(PlanError::BadKey),
    };
    let mut bytes = Vec::with_capacity(digits.len() / 2);
    for pair in digits.as_bytes().chunks(2) {
        match pair {
            [high, low] => bytes.push(nibble(*high)? << 4 | nibble(*low)?),
            _ => return Err(PlanError::BadKey),
        }
    }
    String::from_utf8(bytes).map_err(|_| PlanError::BadKey)
}

// === impl Part ===

impl Part {
    fn letter(self) -> &'static str {
        match self {
            Part::Id => "",
            Part::Release => "r",
            Part::Epoch => "e",
            Part::Stable => "s",
            Part::Limit => "l",
            Part::Pins => "p",
            Part::KeyVersion => "v",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Part::Id => "service id",
            Part::Release => "release number",
            Part::Epoch => "epoch",
            Part::Stable => "stable color",
            Part::Limit => "limit",
            Part::Pins => "pins",
            Part::KeyVersion => "key number",
        }
    }
}

// === impl PlanError ===

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlanError::NoPlan => f.write_str("no plan in the route name"),
            PlanError::OtherVersion => f.write_str("a plan of another version"),
            PlanError::TooLong => write!(f, "the plan is longer than {MAX_PLAN_CHARS} characters"),
            PlanError::BadPart => {
                f.write_str("a part of the plan is not of [a-z0-9-] with a letter or digit at both ends")
            }
            PlanError::Missing(part) => write!(f, "the {} is not at its place", part.name()),
            PlanError::NotDecimal(part) => write!(f, "the {} is not a decimal number", part.name()),
            PlanError::LeadingZero(part) => write!(f, "the {} has a leading zero", part.name()),
            PlanError::OutOfRange(part) => write!(f, "the {} is out of range", part.name()),
            PlanError::BadValue(part) => write!(f, "the {} has no known value", part.name()),
            PlanError::BadKey => f.write_str("a key rule names nothing"),
        }
    }
}

impl core::error::Error for PlanError {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::{format, vec};
    use proptest::prelude::*;

    const PLAN: &str = "hs1.0123456789abcdef.r7.e42.sb.l500.pk.v1.kh-x-user.kc-sid";

    fn plan() -> RoutePlan {
        RoutePlan {
            id: ServiceId::parse("0123456789abcdef").unwrap(),
            release: 7,
            epoch: 42,
            stable: Color::Blue,
            limit: Bps::new(500).unwrap(),
            pins: Pins::Keep,
            key_version: 1,
            keys: vec![KeyRule::header("X-User"), KeyRule::Cookie("sid".to_string())],
        }
    }

    fn decode(name: &str) -> Result<Decoded, PlanError> {
        RoutePlan::decode(name.as_bytes())
    }

    #[test]
    fn a_plan_is_written_in_the_fixed_order() {
        assert_eq!(plan().encode(), PLAN);
    }

    #[test]
    fn a_plan_is_found_behind_any_prefix_by_its_marker() {
        for prefix in ["", ".", "route.", "theirs.", "root-", "hs1.old.", "hs1-", "a.hs2.", "ns/é€."] {
            let decoded = decode(&format!("{prefix}{PLAN}"));
            assert_eq!(decoded, Ok(Decoded { plan: plan(), skipped: 0 }), "{prefix:?}");
        }
    }

    #[test]
    fn a_marker_inside_a_word_is_not_a_plan() {
        assert_eq!(decode(&format!("x{PLAN}")), Err(PlanError::NoPlan));
        assert_eq!(decode(&format!("route_{PLAN}")), Err(PlanError::NoPlan));
        assert_eq!(decode(""), Err(PlanError::NoPlan));
        assert_eq!(decode("default"), Err(PlanError::NoPlan));
        assert_eq!(decode("this.route.is.not.ours"), Err(PlanError::NoPlan));
    }

    #[test]
    fn another_version_is_not_ours() {
        assert_eq!(decode(&PLAN.replace("hs1.", "hs2.")), Err(PlanError::OtherVersion));
        assert_eq!(decode("theirs.hs17.whatever"), Err(PlanError::OtherVersion));
    }

    #[test]
    fn unknown_trailing_parts_are_skipped_and_counted_also_between_key_rules() {
        let name = format!("{PLAN}.z9.kj-claim.w-x-y.kq-user.kx.r9");
        let mut expected = plan();
        expected.keys.push(KeyRule::Query("user".to_string()));
        assert_eq!(decode(&name), Ok(Decoded { plan: expected, skipped: 5 }));
    }

    #[test]
    fn names_that_are_not_plain_take_the_hex_form() {
        let mut odd = plan();
        odd.keys = vec![
            KeyRule::Header("x_user".to_string()),
            KeyRule::Cookie("SID".to_string()),
            KeyRule::Query("-q-".to_string()),
            KeyRule::Cookie("naïve.".to_string()),
            KeyRule::Header("x-hs1".to_string()),
            KeyRule::Header("hs1".to_string()),
            KeyRule::Header("chs1".to_string()),
        ];
        let text = odd.encode();
        assert!(text.contains(".kxh-785f75736572.kxc-534944.kxq-2d712d."), "{text}");
        assert!(text.ends_with(".kh-chs1"), "{text}");
        assert!(text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-')));
        assert_eq!(decode(&text), Ok(Decoded { plan: odd, skipped: 0 }));
    }

    #[test]
    fn every_malformed_form_has_its_error() {
        use Part::*;
        let cases: &[(&str, &str, PlanError)] = &[
            ("0123456789abcdef", "0123456789abcde", PlanError::BadValue(Id)),
            ("0123456789abcdef", "0123456789ABCDEF", PlanError::BadPart),
            ("0123456789abcdef", "0123456789abcdeg", PlanError::BadValue(Id)),
            ("0123456789abcdef", "", PlanError::BadPart),
            (".r7", "", PlanError::Missing(Release)),
            (".r7", ".r", PlanError::NotDecimal(Release)),
            (".r7", ".r+7", PlanError::BadPart),
            (".r7", ".r7a", PlanError::NotDecimal(Release)),
            (".r7", ".r07", PlanError::LeadingZero(Release)),
            (".r7", ".r4294967296", PlanError::OutOfRange(Release)),
            (".r7.e42", ".e42.r7", PlanError::Missing(Release)),
            (".e42", ".e18446744073709551616", PlanError::OutOfRange(Epoch)),
            (".e42", ".e00", PlanError::LeadingZero(Epoch)),
            (".sb", ".s", PlanError::BadValue(Stable)),
            (".sb", ".sr", PlanError::BadValue(Stable)),
            (".sb", ".sblue", PlanError::BadValue(Stable)),
            (".sb", ".b", PlanError::Missing(Stable)),
            (".l500", ".l10001", PlanError::OutOfRange(Limit)),
            (".l500", ".l0500", PlanError::LeadingZero(Limit)),
            (".l500", ".l-5", PlanError::NotDecimal(Limit)),
            (".l500", ".l5.0", PlanError::Missing(Pins)),
            (".pk", ".pq", PlanError::BadValue(Pins)),
            (".pk", ".p", PlanError::BadValue(Pins)),
            (".v1", ".v256", PlanError::OutOfRange(KeyVersion)),
            (".v1.kh-x-user.kc-sid", "", PlanError::Missing(KeyVersion)),
            (".v1", ".z1.v1", PlanError::Missing(KeyVersion)),
            (".kh-x-user", ".kh-", PlanError::BadPart),
            (".kh-x-user", ".kh", PlanError::BadKey),
            (".kh-x-user", ".kh--x", PlanError::BadKey),
            (".kh-x-user", ".kh-X", PlanError::BadPart),
            (".kh-x-user", ".kxh-7", PlanError::BadKey),
            (".kh-x-user", ".kxh-7g", PlanError::BadKey),
            (".kh-x-user", ".kxh-ff", PlanError::BadKey),
            (".kh-x-user", ".kh-x_user", PlanError::BadPart),
            (".kc-sid", ".", PlanError::BadPart),
            (".kc-sid", "..kc-sid", PlanError::BadPart),
            (".kc-sid", ".kc-sid ", PlanError::BadPart),
            (".kc-sid", ".kc-s\u{e9}d", PlanError::BadPart),
            (".kc-sid", ".hs1.", PlanError::BadPart),
        ];
        for (good, bad, expected) in cases {
            let name = PLAN.replacen(good, bad, 1);
            assert_ne!(name, PLAN, "the case {bad:?} changes nothing");
            assert_eq!(decode(&name), Err(*expected), "{name}");
        }
    }

    #[test]
    fn the_extremes_of_every_range_are_read() {
        let mut extreme = plan();
        extreme.release = u32::MAX;
        extreme.epoch = u64::MAX;
        extreme.limit = Bps::ALL;
        extreme.key_version = u8::MAX;
        assert_eq!(decode(&extreme.encode()).unwrap().plan, extreme);
        let zero = RoutePlan { release: 0, epoch: 0, limit: Bps::ZERO, key_version: 0, ..plan() };
        assert_eq!(decode(&zero.encode()).unwrap().plan, zero);
    }

    #[test]
    fn a_plan_may_have_1024_characters_and_not_one_more() {
        let room = MAX_PLAN_CHARS - PLAN.len() - ".kh-".len();
        let name = format!("a-long-prefix.{PLAN}.kh-{}", "x".repeat(room));
        assert!(decode(&name).is_ok());
        assert_eq!(decode(&format!("{name}x")), Err(PlanError::TooLong));
    }

    prop_compose! {
        fn any_plan()(
            id in any::<[u8; 8]>(), release in any::<u32>(), epoch in any::<u64>(), green in any::<bool>(),
            limit in 0u16..=10_000, pins in 0..3, key_version in any::<u8>(),
            keys in prop::collection::vec((0..3, "[a-zA-Z0-9_.-]{1,12}|\\PC{1,6}|(x-)?hs1"), 0..5),
        ) -> RoutePlan {
            let rule = |(kind, name): (i32, String)| match kind {
                0 => KeyRule::header(&name),
                1 => KeyRule::Cookie(name),
                _ => KeyRule::Query(name),
            };
            RoutePlan {
                id: ServiceId::from_bytes(id), release, epoch,
                stable: if green { Color::Green } else { Color::Blue },
                limit: Bps::new(limit).unwrap(),
                pins: [Pins::Keep, Pins::Move, Pins::Condemned][pins as usize],
                key_version,
                keys: keys.into_iter().map(rule).collect(),
            }
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_back(plan in any_plan(), prefix in "([a-z0-9-]{0,8}[.-])?") {
            let text = plan.encode();
            prop_assert!(text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-')));
            prop_assert_eq!(decode(&(prefix + &text)), Ok(Decoded { plan, skipped: 0 }));
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = RoutePlan::decode(&bytes);
            let behind_marker = [PLAN_MARKER.as_bytes(), &bytes].concat();
            let _ = RoutePlan::decode(&behind_marker);
        }

        /// One byte changed, dropped or added gives an error or a plan that says exactly what the text says.
        #[test]
        fn a_near_miss_is_refused_or_read_as_it_stands(plan in any_plan(), at in any::<prop::sample::Index>(), byte in any::<u8>(), how in 0..3) {
            let mut bytes = plan.encode().into_bytes();
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, byte),
            }
            if let Ok(Decoded { plan, skipped: 0 }) = RoutePlan::decode(&bytes) {
                let canonical = plan.encode();
                let known = canonical.split(".k").next().unwrap();
                prop_assert!(bytes.windows(known.len()).any(|window| window == known.as_bytes()));
            }
        }
    }
}
