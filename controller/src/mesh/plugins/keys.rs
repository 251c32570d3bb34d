//! The mesh keys as they lie in their Secret: one entry per version, its name the number, its value 64 hex digits.
//!
//! A person rotates by adding an entry with the next number; the highest is the current one, the one below it is
//! still accepted, so that no session is lost.

use hueshift_core::contract::MeshKey;
use std::collections::BTreeMap;

/// Most keys that a filter takes.
pub const MAX_KEYS: usize = 2;

/// Why a Secret holds no keys. Never names a key's digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// It is empty.
    #[error("it holds no key; delete it and a new one is drawn")]
    Empty,
    /// A name is no version.
    #[error("its entry `{0}` is not named by a number from 0 to 255; name it so or remove it")]
    Name(String),
    /// A value is no key.
    #[error("its entry `{0}` is not 64 hex digits; correct it or remove it")]
    Digits(u8),
}

/// The keys to use, current first.
pub fn parse(entries: &BTreeMap<String, Vec<u8>>) -> Result<Vec<MeshKey>, KeysError> {
    let mut keys = Vec::new();
    for (name, value) in entries {
        // `007` and `7` would be the same version twice.
        let version: u8 = name
            .parse()
            .ok()
            .filter(|version: &u8| version.to_string() == *name)
            .ok_or_else(|| KeysError::Name(name.clone()))?;
        let hex = std::str::from_utf8(value).ok().map(str::trim);
        let hex = hex.filter(|hex| hex.len() == 64 && hex.bytes().all(|digit| digit.is_ascii_hexdigit()));
        keys.push(MeshKey { version, hex: hex.ok_or(KeysError::Digits(version))?.to_owned() });
    }
    keys.sort_by_key(|key| std::cmp::Reverse(key.version));
    keys.truncate(MAX_KEYS);
    if keys.is_empty() { Err(KeysError::Empty) } else { Ok(keys) }
}

/// The first key.
pub(super) fn first(random: [u8; 32]) -> MeshKey {
    MeshKey { version: 1, hex: random.iter().map(|byte| format!("{byte:02x}")).collect() }
}
