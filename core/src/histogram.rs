//! Latency histograms with fixed exponential buckets, and quantiles for display.
//!
//! Bucket i holds (2^(i/16), 2^((i+1)/16)] microseconds (OpenTelemetry's exponential histogram, scale 4), clamped
//! to 160..=415: 1 ms to 67 s in steps of 4.4 %. Boundaries are fixed for ever, so counts of different proxies,
//! versions and days add up; and they are exact, because a value that lands in another bucket on another machine
//! would make a live judgement differ from its replay. Hence integers only, no logarithm.
//! Deliberately absent: comparing histograms, which is the judge's work.

use alloc::collections::BTreeMap;

/// Lowest bucket: everything up to 1.07 ms.
pub const FIRST_BUCKET: u16 = 160;
/// Highest bucket: everything above 64.3 s.
pub const LAST_BUCKET: u16 = 415;

/// A sparse histogram: bucket to count. Also its form on the wire.
pub type Sparse = BTreeMap<u16, u64>;

/// floor(2^63 * 2^(j/16)): the upper bounds of an octave's buckets, as mantissas.
const BOUNDS: [u64; 16] = [
    0x8000000000000000,
    0x85aac367cc487b14,
    0x8b95c1e3ea8bd6e6,
    0x91c3d373ab11c336,
    0x9837f0518db8a96f,
    0x9ef5326091a111ad,
    0xa5fed6a9b15138ea,
    0xad583eea42a14ac6,
    0xb504f333f9de6484,
    0xbd08a39f580c36be,
    0xc5672a115506dadd,
    0xce248c151f8480e3,
    0xd744fccad69d6af4,
    0xe0ccdeec2a94e111,
    0xeac0c6e7dd24392e,
    0xf5257d152486cc2c,
];

/// The bucket of a duration in microseconds.
pub fn bucket_of(us: u64) -> u16 {
    let zeros = us.leading_zeros();
    if zeros == u64::BITS {
        return FIRST_BUCKET;
    }
    // An integer is at most an irrational bound iff it is at most the bound's floor; the first bound is exact.
    let mantissa = us << zeros;
    let octave = u64::BITS - 1 - zeros;
    let above = BOUNDS.iter().filter(|bound| mantissa > **bound).count();
    // `above` bounds lie below the value, so it is in the (above)th bucket of its octave, counted from one.
    let bucket = (octave * 16 + above as u32).saturating_sub(1);
    u16::try_from(bucket).unwrap_or(LAST_BUCKET).clamp(FIRST_BUCKET, LAST_BUCKET)
}

/// Adds one duration.
pub fn record(counts: &mut Sparse, us: u64) {
    *counts.entry(bucket_of(us)).or_default() += 1;
}

/// The largest whole number of microseconds in a bucket.
pub fn upper_us(bucket: u16) -> u64 {
    let next = u32::from(bucket) + 1;
    let mantissa = BOUNDS.get((next % 16) as usize).copied().unwrap_or(u64::MAX);
    let octave = next / 16;
    if octave > 63 { u64::MAX } else { mantissa >> (63 - octave) }
}

/// The duration below which `per_mille` of the counted ones lie, interpolated within its bucket. For display:
/// right within a bucket's width. `None` without counts.
pub fn quantile_us(counts: &Sparse, per_mille: u16) -> Option<u64> {
    let total: u128 = counts.values().map(|count| u128::from(*count)).sum();
    let wanted = (total * u128::from(per_mille.min(1000))).div_ceil(1000).max(1);
    let mut below = 0u128;
    for (bucket, count) in counts {
        let count = u128::from(*count);
        if below + count >= wanted {
            let low = if *bucket <= FIRST_BUCKET { 0 } else { upper_us(bucket - 1) };
            let width = u128::from(upper_us(*bucket).saturating_sub(low));
            let into = width * (wanted - below) / count.max(1);
            return Some(low.saturating_add(u64::try_from(into).unwrap_or(u64::MAX)));
        }
        below += count;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bounds_are_the_floors_of_the_roots_of_two() {
        for (j, bound) in BOUNDS.iter().enumerate() {
            let exact = (63.0 + j as f64 / 16.0).exp2();
            assert!((*bound as f64 / exact - 1.0).abs() < 1e-15, "{j}");
        }
        // The middle one can be proved in 128 bits: b^2 <= 2^127 < (b+1)^2.
        let middle = u128::from(BOUNDS[8]);
        assert!(middle * middle <= 1 << 127 && (middle + 1) * (middle + 1) > 1 << 127);
    }

    #[test]
    fn powers_of_two_close_their_bucket() {
        for octave in 11..26 {
            assert_eq!(bucket_of(1 << octave), octave as u16 * 16 - 1);
            assert_eq!(bucket_of((1 << octave) + 1), octave as u16 * 16);
        }
        assert_eq!((bucket_of(0), bucket_of(1), bucket_of(u64::MAX)), (160, 160, 415));
    }

    #[test]
    fn a_bucket_ends_at_its_upper_bound() {
        for bucket in FIRST_BUCKET..LAST_BUCKET {
            let upper = upper_us(bucket);
            assert_eq!((bucket_of(upper), bucket_of(upper + 1)), (bucket, bucket + 1));
        }
    }

    #[test]
    fn quantiles_fall_into_the_bucket_of_the_right_value() {
        let mut counts = Sparse::new();
        assert_eq!(quantile_us(&counts, 500), None);
        (1..=1000u64).for_each(|n| record(&mut counts, n * 1000));
        for per_mille in [1, 10, 500, 900, 990, 999, 1000] {
            let found = quantile_us(&counts, per_mille).unwrap();
            let off = bucket_of(found).abs_diff(bucket_of(u64::from(per_mille) * 1000));
            assert!(off <= 1, "{per_mille}: {found}");
        }
    }

    proptest! {
        #[test]
        fn buckets_never_fall_as_durations_grow(us in 0u64..1 << 27, more in 0u64..1 << 20) {
            prop_assert!(bucket_of(us) <= bucket_of(us + more));
        }

        #[test]
        fn a_quantile_exists_for_any_counts(counts in prop::collection::btree_map(any::<u16>(), any::<u64>(), 0..8), q in any::<u16>()) {
            let total: u128 = counts.values().map(|count| u128::from(*count)).sum();
            prop_assert_eq!(quantile_us(&counts, q).is_some(), total > 0 );
        }
    }
}
