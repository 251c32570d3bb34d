//! How soon a broken watch starts anew: within a second, because a rollback may wait behind it, and not all at once.

use kube::runtime::utils::Backoff;
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LAST: Duration = Duration::from_secs(1);

/// 100 ms, doubling up to 1 s, each up to a half longer by chance.
#[derive(Debug, Clone)]
pub struct Soon {
    next: Duration,
}

// === impl Soon ===

impl Default for Soon {
    fn default() -> Self {
        Soon { next: FIRST }
    }
}

impl Iterator for Soon {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        // Without randomness all start at once; the server copes.
        let [byte] = crate::random::bytes().unwrap_or_default();
        let wait = self.next + self.next * u32::from(byte) / 512;
        self.next = (self.next * 2).min(LAST);
        Some(wait)
    }
}

impl Backoff for Soon {
    fn reset(&mut self) {
        *self = Soon::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_second_and_a_half_at_most_and_start_anew_after_a_success() {
        let mut soon = Soon::default();
        let waits: Vec<_> = soon.by_ref().take(50).collect();
        assert!(waits[0] >= FIRST && waits[0] <= FIRST * 3 / 2, "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= LAST * 3 / 2), "{waits:?}");
        assert!(waits[10..].iter().all(|wait| *wait >= LAST), "{waits:?}");
        soon.reset();
        assert!(soon.next().unwrap() <= FIRST * 3 / 2);
    }
}
