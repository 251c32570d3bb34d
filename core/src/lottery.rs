//! Who goes to the candidate: a keyed hash of (release, session key) gives a slot, a limit cuts the slots in two.
//!
//! Within a release raising the limit moves only new slots over and lowering it only those back, so no session
//! ping-pongs. Each release draws anew, so that not the same users are the guinea pigs every time. The hash is
//! keyed per service: a client cannot aim for a slot, and a leaked key of one service says nothing about another.
//! Deliberately absent: where the key comes from ([`crate::keys`]) and what may lower the limit.

use crate::color::Color;
use crate::contract::{SLOTS, ServiceId};
use crate::share::Bps;
use core::fmt;
use core::hash::Hasher;
use hmac_sha256::HMAC;
use siphasher::sip::SipHasher24;

/// The lottery's key of one service: the first 16 bytes of HMAC-SHA256(mesh key, the id's 16 characters).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ServiceKey([u8; 16]);

// === impl ServiceKey ===

impl ServiceKey {
    /// Derives the key of a service from one version of the mesh key.
    pub fn derive(mesh_key: &[u8], id: &ServiceId) -> ServiceKey {
        let mac = HMAC::mac(id.ascii(), mesh_key);
        let mut key = [0u8; 16];
        key.iter_mut().zip(mac).for_each(|(to, from)| *to = from);
        ServiceKey(key)
    }

    /// The lottery slot of a session in a release, 0..10 000. All of the session key is hashed.
    pub fn slot(&self, release: u32, session_key: &[u8]) -> u16 {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write(&u64::from(release).to_be_bytes());
        hasher.write(session_key);
        u16::try_from(hasher.finish() % u64::from(SLOTS)).unwrap_or_default()
    }
}

impl fmt::Debug for ServiceKey {
    /// A key never reaches a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServiceKey(<redacted>)")
    }
}

/// The color that a slot draws: the candidate for slots below the limit.
pub fn draw(slot: u16, limit: Bps, stable: Color) -> Color {
    if slot < limit.get() { stable.other() } else { stable }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    const MESH_KEY: [u8; 32] = [7; 32];

    fn key() -> ServiceKey {
        ServiceKey::derive(&MESH_KEY, &ServiceId::parse("0123456789abcdef").unwrap())
    }

    fn slots(release: u32, count: u32) -> Vec<u16> {
        let key = key();
        (0..count).map(|session| key.slot(release, &session.to_le_bytes())).collect()
    }

    /// Computed apart from this code (Python's hmac and an own SipHash-2-4 checked against the paper's vectors):
    /// all gateways of a mesh, of any version, must agree on these.
    #[test]
    fn the_same_key_gives_the_same_slot_for_ever() {
        assert_eq!(key().0, KNOWN_KEY);
        let known: Vec<u16> =
            [(1, "user-1"), (1, "user-2"), (2, "user-1"), (4_294_967_295, ""), (7, "caf\u{e9}")]
                .map(|(release, session)| key().slot(release, session.as_bytes()))
                .to_vec();
        assert_eq!(known, KNOWN_SLOTS);
    }

    const KNOWN_KEY: [u8; 16] = [15, 109, 151, 199, 152, 208, 31, 144, 233, 155, 164, 245, 96, 196, 165, 119];
    const KNOWN_SLOTS: [u16; 5] = [5755, 8244, 6037, 7706, 8943];

    #[test]
    fn raising_the_limit_moves_only_new_slots() {
        let limits = [0, 1, 100, 500, 5000, 9999, 10_000].map(|bps| Bps::new(bps).unwrap());
        for slot in 0..SLOTS {
            for pair in limits.windows(2) {
                let (before, after) = (draw(slot, pair[0], Color::Blue), draw(slot, pair[1], Color::Blue));
                let new = (pair[0].get()..pair[1].get()).contains(&slot);
                assert_eq!(before != after, new);
                assert!(!new || after == Color::Green);
            }
        }
    }

    #[test]
    fn nothing_and_everything_are_exact() {
        for slot in [0, 1, 4999, 9998, 9999] {
            assert_eq!(draw(slot, Bps::ZERO, Color::Green), Color::Green);
            assert_eq!(draw(slot, Bps::ALL, Color::Green), Color::Blue);
        }
    }

    #[test]
    fn shares_stay_within_binomial_bounds() {
        let keys = 1_000_000;
        let slots = slots(3, keys);
        for bps in [1u16, 100, 500, 5000, 9999] {
            let share = f64::from(bps) / 1e4;
            let hits =
                slots.iter().filter(|slot| draw(**slot, Bps::new(bps).unwrap(), Color::Blue) == Color::Green);
            let off = hits.count() as f64 - share * f64::from(keys);
            let sigma = (f64::from(keys) * share * (1.0 - share)).sqrt();
            assert!(off.abs() < 4.5 * sigma, "{bps} bps: {off} off at sigma {sigma}");
        }
    }

    #[test]
    fn releases_draw_independently() {
        let keys = 200_000;
        let (one, two) = (slots(1, keys), slots(2, keys));
        for bps in [500u16, 5000] {
            let share = f64::from(bps) / 1e4;
            let both = one.iter().zip(&two).filter(|(a, b)| **a < bps && **b < bps).count() as f64;
            let expected = share * share;
            let sigma = (f64::from(keys) * expected * (1.0 - expected)).sqrt();
            assert!((both - expected * f64::from(keys)).abs() < 4.5 * sigma, "{bps} bps: {both} in both");
        }
    }

    #[test]
    fn services_and_mesh_keys_draw_independently() {
        let other = ServiceKey::derive(&MESH_KEY, &ServiceId::parse("fedcba9876543210").unwrap());
        let rotated = ServiceKey::derive(&[8; 32], &ServiceId::parse("0123456789abcdef").unwrap());
        assert_ne!(key(), other);
        assert_ne!(key(), rotated);
    }

    #[test]
    fn the_whole_of_a_long_key_counts() {
        let mut long = alloc::vec![b'x'; 8192];
        let before = key().slot(1, &long);
        let changed = (0..20u8).filter(|n| {
            long[8191] = *n;
            key().slot(1, &long) != before
        });
        assert!(changed.count() > 15);
    }
}
