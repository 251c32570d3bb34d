//! Warm-up: for a while after each raise of the candidate's share the latency of both colors does not count.
//!
//! A raise sends the candidate requests that it has never seen: its caches are cold, its connections new, a model may
//! still be compiling. That is no slowness of the model, and it comes back with every raise. What is left out is latency
//! alone, of both colors alike (leaving out one would compare different hours): a failure counts from the first request.

use serde::{Deserialize, Serialize};

/// Since when the newest share is tried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Warmup {
    /// The largest share that rows told of, 0..=1; a share given back is not tried anew.
    highest: f64,
    raised_ms: u64,
}

// === impl Warmup ===

impl Warmup {
    /// Takes the share of a row that counts; the first one is a raise, too.
    pub fn see(&mut self, t_ms: u64, split: f64) {
        if split > self.highest {
            (self.highest, self.raised_ms) = (split, t_ms);
        }
    }

    /// Whether `length_ms` have passed since the last raise.
    pub fn is_over(&self, t_ms: u64, length_ms: u64) -> bool {
        t_ms >= self.raised_ms.saturating_add(length_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_again_with_each_raise_and_not_when_a_share_is_given_back() {
        let mut warmup = Warmup::default();
        warmup.see(100, 0.05);
        assert!(!warmup.is_over(5_099, 5_000) && warmup.is_over(5_100, 5_000));
        warmup.see(6_000, 0.05);
        assert!(warmup.is_over(6_000, 5_000), "the same share");
        warmup.see(7_000, 0.25);
        assert!(!warmup.is_over(11_999, 5_000) && warmup.is_over(12_000, 5_000));
        warmup.see(20_000, 0.0);
        assert!(warmup.is_over(20_000, 5_000), "given back");
    }

    #[test]
    fn of_no_length_it_is_always_over() {
        let mut warmup = Warmup::default();
        warmup.see(100, 0.05);
        assert!(warmup.is_over(100, 0));
    }
}
