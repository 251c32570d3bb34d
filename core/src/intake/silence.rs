//! Which workers broke their word to report: dead, or stuck, while their Envoy may serve on without them.
//!
//! A worker says in each report when the next one comes at the latest. It counts as *silent* once it is four times as
//! late (and a second at least), measured in time in which anybody reported at all ([`Ear`]): when the controller
//! itself was stopped, or its network down, nobody is silent.
//!
//! Silence ends when the worker reports again, and in bounded time when it is gone for good: a worker that was built
//! after the silent one's last report stands in its place, one for one at once, and for all of its elders
//! [`REPLACED_MS`] after its first report (VMs of an Envoy are rebuilt together, but a new one reports only when it gets
//! a request); an Envoy of which nothing at all is heard is forgotten after [`VANISHED_MS`].

use super::facts::SilentVm;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// So many times the promised time may pass.
const LATE: u64 = 4;
/// Nobody is silent before this, ms: a lost packet comes within it.
const LEAST_MS: u64 = 1_000;
/// A pause between two reports of anybody counts as this at most, ms.
const MAX_GAP_MS: u64 = 500;
/// Rebuilt workers stand for all of their elders after this time, ms.
const REPLACED_MS: u64 = 10_000;
/// An Envoy that says nothing at all is gone after this time, ms.
const VANISHED_MS: u64 = 30_000;

/// Time in which somebody reported.
#[derive(Debug, Default)]
pub(super) struct Ear {
    heard_ms: u64,
    last_ms: Option<u64>,
}

/// What a worker's last report said about time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    /// [`Ear::heard_ms`] at that report.
    pub heard_ms: u64,
    /// The promise; 0: none.
    pub next_ms: u32,
    /// When the VM was built, by our clock.
    pub built_ms: u64,
}

/// A worker, as far as silence goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Voice {
    pub pace: Pace,
    pub first_ms: u64,
    pub reported_ms: u64,
}

/// What becomes of the late workers of one Envoy.
#[derive(Debug, Default)]
pub(super) struct Late {
    /// To be named.
    pub silent: Vec<SilentVm>,
    /// Replaced or vanished: they need not be remembered.
    pub gone: Vec<u64>,
}

// === impl Ear ===

impl Ear {
    /// A report came.
    pub fn hear(&mut self, now_ms: u64) {
        let gap = self.last_ms.map_or(0, |last| now_ms.saturating_sub(last));
        self.heard_ms = self.heard_ms.saturating_add(gap.min(MAX_GAP_MS));
        self.last_ms = Some(self.last_ms.map_or(now_ms, |last| last.max(now_ms)));
    }

    /// How long reports were heard, ms.
    pub fn heard_ms(&self) -> u64 {
        self.heard_ms
    }
}

// === impl Voice ===

impl Voice {
    fn is_late(&self, heard_ms: u64) -> bool {
        let Pace { heard_ms: last, next_ms, .. } = self.pace;
        let allowed = u64::from(next_ms).saturating_mul(LATE).max(LEAST_MS);
        next_ms > 0 && heard_ms.saturating_sub(last) > allowed
    }

    fn follows(&self, other: &Voice) -> bool {
        self.pace.built_ms > other.reported_ms
    }
}

/// Who is silent among the workers of one Envoy process, now and after `heard_ms` of reports.
pub(super) fn late(workers: &BTreeMap<u64, Voice>, now_ms: u64, heard_ms: u64) -> Late {
    let mut late: Vec<(u64, &Voice)> =
        workers.iter().filter(|(_, voice)| voice.is_late(heard_ms)).map(|(vm, voice)| (*vm, voice)).collect();
    let mut found = Late::default();
    if late.is_empty() {
        return found;
    }
    late.sort_by_key(|(vm, voice)| (voice.reported_ms, *vm));
    let mut built: Vec<&Voice> = workers.values().collect();
    built.sort_by_key(|voice| voice.pace.built_ms);
    let mut successors = built.into_iter().peekable();
    let anybody = workers.values().any(|voice| !voice.is_late(heard_ms));
    for (vm, voice) in late {
        // Both lists are in order, so the first that follows this one is the earliest that may stand in its place.
        while successors.peek().is_some_and(|next| !next.follows(voice)) {
            successors.next();
        }
        let replaced = successors.next().is_some();
        let outlived = workers
            .values()
            .any(|other| other.follows(voice) && now_ms.saturating_sub(other.first_ms) >= REPLACED_MS);
        let for_ms = now_ms.saturating_sub(voice.reported_ms);
        if replaced || outlived || (!anybody && for_ms > VANISHED_MS) {
            found.gone.push(vm);
        } else {
            found.silent.push(SilentVm { vm, for_ms });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Workers as (vm, built, last report), each of which promised 250 ms, with others reporting up to `now_ms`.
    fn silent(workers: &[(u64, u64, u64)], now_ms: u64) -> Vec<u64> {
        let mut ear = Ear::default();
        let mut voices = BTreeMap::new();
        for t in (0..=now_ms).step_by(50) {
            ear.hear(t);
            for (vm, built_ms, _) in workers.iter().filter(|(_, built, last)| (*built..=*last).contains(&t)) {
                let pace = Pace { heard_ms: ear.heard_ms(), next_ms: 250, built_ms: *built_ms };
                voices.entry(*vm).or_insert(Voice { pace, first_ms: t, reported_ms: t });
                let voice = voices.get_mut(vm).unwrap();
                (voice.pace, voice.reported_ms) = (pace, t);
            }
        }
        late(&voices, now_ms, ear.heard_ms()).silent.into_iter().map(|silent| silent.vm).collect()
    }

    #[test]
    fn a_worker_that_breaks_its_word_is_named_within_two_seconds_and_as_long_as_it_lasts() {
        let workers = [(1, 0, 1_000_000), (2, 0, 5_000)];
        assert_eq!(silent(&workers, 6_000), [0; 0]);
        for now_ms in [6_100, 7_000, 60_000, 600_000] {
            assert_eq!(silent(&workers, now_ms), [2]);
        }
    }

    #[test]
    fn a_pause_in_which_nobody_reports_is_nobodys_silence() {
        let mut ear = Ear::default();
        ear.hear(1_000);
        let pace = Pace { heard_ms: ear.heard_ms(), next_ms: 250, built_ms: 0 };
        let voices = BTreeMap::from([(1, Voice { pace, first_ms: 1_000, reported_ms: 1_000 })]);
        ear.hear(61_000);
        assert!(
            late(&voices, 61_000, ear.heard_ms()).silent.is_empty(),
            "the controller was away, not the worker"
        );
        (61_050..62_000).step_by(50).for_each(|t| ear.hear(t));
        assert_eq!(late(&voices, 62_000, ear.heard_ms()).gone, [1], "and then the Envoy vanished");
    }

    #[test]
    fn without_a_promise_nobody_is_silent() {
        let mut ear = Ear::default();
        (0..100_000).step_by(100).for_each(|t| ear.hear(t));
        let voice = Voice { pace: Pace::default(), first_ms: 0, reported_ms: 0 };
        assert!(late(&BTreeMap::from([(1, voice)]), 100_000, ear.heard_ms()).silent.is_empty());
    }

    #[test]
    fn rebuilt_workers_stand_for_silent_ones_one_by_one_and_soon_for_all() {
        // Worker 2 dies; both are rebuilt at 20 s; only one of the new ones gets requests.
        let one = [(1, 0, 20_000), (2, 0, 5_000), (3, 20_100, 1_000_000)];
        assert_eq!(silent(&one, 22_000), [1], "two are late, one stands for them");
        assert_eq!(silent(&one, 31_000), [0; 0]);
        let both = [(1, 0, 20_000), (2, 0, 5_000), (3, 20_100, 1_000_000), (4, 20_100, 1_000_000)];
        assert_eq!(silent(&both, 22_000), [0; 0]);
    }

    #[test]
    fn a_worker_that_is_as_old_stands_for_nobody() {
        // Worker 3 was built with the others and only now got its first request.
        let workers = [(1, 0, 1_000_000), (2, 0, 5_000), (3, 0, 1_000_000)];
        assert_eq!(silent(&workers, 60_000), [2]);
    }

    #[test]
    fn an_envoy_that_vanished_is_forgotten() {
        let workers = [(1, 0, 5_000), (2, 0, 5_000)];
        assert_eq!(silent(&workers, 10_000), [1, 2]);
        assert_eq!(silent(&workers, 40_000), [0; 0]);
    }
}
