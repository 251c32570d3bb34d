//! The granted slowness: a candidate's observation is booked some buckets lower, and then equality is tested.
//!
//! A shift turns "not more than 9 % slower" into the equality test that color-given-bucket is; the grant in µs keeps
//! fast services from being condemned for a constant overhead of a millisecond or two.

use crate::histogram::{FIRST_BUCKET, LAST_BUCKET};
use alloc::vec::Vec;
use libm::{ceil, exp2, log2};

/// Where each bucket of the candidate is booked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Margin {
    booked: Vec<u16>,
}

// === impl Margin ===

impl Margin {
    /// Grants both: `shift` buckets and `guard_us` µs.
    pub fn new(shift: u32, guard_us: u64) -> Self {
        let booked = |bucket: u16| {
            let shifted = bucket.saturating_sub(u16::try_from(shift).unwrap_or(u16::MAX));
            let faster = if guard_us == 0 { bucket } else { bucket_before(bucket, guard_us) };
            shifted.min(faster).max(FIRST_BUCKET)
        };
        Margin { booked: (FIRST_BUCKET..=LAST_BUCKET).map(booked).collect() }
    }

    /// Where a candidate's observation of any bucket is booked.
    pub fn booked(&self, bucket: i32) -> u16 {
        let bucket = clamped(bucket);
        self.booked.get(usize::from(bucket - FIRST_BUCKET)).copied().unwrap_or(bucket)
    }
}

/// The bucket of a bucket's upper bound, `guard_us` earlier. Bounds are no whole numbers, hence the logarithm; none
/// of them lies near another one less a whole number of µs, so no rounding decides.
fn bucket_before(bucket: u16, guard_us: u64) -> u16 {
    let us = exp2((f64::from(bucket) + 1.0) / 16.0) - guard_us as f64;
    // The cast saturates; a value up to 1 µs lies in the lowest bucket.
    if us <= 1.0 { FIRST_BUCKET } else { clamped(ceil(16.0 * log2(us)) as i32 - 1) }
}

/// The bucket within the range that is kept.
pub fn clamped(bucket: i32) -> u16 {
    let bucket = bucket.clamp(i32::from(FIRST_BUCKET), i32::from(LAST_BUCKET));
    u16::try_from(bucket).unwrap_or(FIRST_BUCKET)
}
