//! The local fuse: an e-CUSUM per color that takes the candidate off at once when it fails hard while stable is
//! well. It works inside one worker, without controller, and may only reduce.
//!
//! `s = max(s, 0) + (error ? ln(p1/p0) : ln((1-p1)/(1-p0)))`, tripped at `s >= h`: mean requests between false
//! trips are at least e^h, which "five errors in a row" cannot promise and is slower at a half-broken candidate.
//! **Only if stable is well**, or a shared dependency would take a healthy candidate off. Stable's own score must be below
//! h/2, and the two colors must differ by more than chance since the candidate's score last left zero: the
//! likelihood of two error rates over that of one (`DIFFERENCE`). The scores alone do not suffice: they are noisy, and
//! at a high share stable has few requests, so that the candidate's reaches h first in many shared faults
//! (`core/tests/fuse.rs` measures it). Both conditions only keep it from tripping, so the guarantee above stays. While
//! stable gets requests its next outcomes are waited for; a color that was never seen, or not for long, cannot vouch.
//! The trip itself (its number, who knows of it, what it does to the limit) is the filter's business; this
//! module only says *now*.

use crate::color::{Color, PerColor};
use crate::contract::FuseParams;
use alloc::vec::Vec;

/// The error rate of a hard failure.
const P1: f64 = 0.5;
/// Errors of one session (lottery slot) that count while the score is above zero: one broken client is one
/// client, so a trip needs several.
const ERRORS_PER_SLOT: u8 = 3;

/// Log-likelihood by which two error rates must explain the outcomes better than one. By chance alone 5 is passed in one
/// of some hundred shared faults; eight failures against two successes reach it.
const DIFFERENCE: f64 = 5.0;
/// Candidate outcomes without any of stable after which stable counts as without traffic.
const UNCOMPARED: u32 = 200;

/// What an error and a success add, and where it trips.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Steps {
    /// What an error adds.
    pub up: f64,
    /// What a success adds; negative.
    pub down: f64,
    /// Where it trips.
    pub h: f64,
}

/// The running score of one color.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ECusum {
    s: f64,
}

/// Errors per slot, sorted by slot.
#[derive(Debug, Clone, Default)]
struct Counted(Vec<(u16, u8)>);

/// Outcomes of both colors since the candidate's score last left zero.
#[derive(Debug, Clone, Copy, Default)]
struct Compared {
    outcomes: PerColor<u32>,
    errors: PerColor<u32>,
}

/// The fuse of one service in one release.
#[derive(Debug, Clone)]
pub struct Fuse {
    candidate: Color,
    steps: Option<Steps>,
    scores: PerColor<ECusum>,
    /// Errors per slot since the color's score last left zero.
    counted: PerColor<Counted>,
    compared: Compared,
    /// Stable had an outcome at all.
    stable_seen: bool,
    /// Candidate outcomes for which it does not trip: the controller wants to see them.
    probe: u32,
}

// === impl Steps ===

impl Steps {
    /// `None` for parameters that mean nothing: a wrong reply must not make a fuse that trips on healthy traffic.
    pub fn new(params: &FuseParams) -> Option<Steps> {
        let sound = params.p0 > 0.0 && params.p0 < P1 && params.h > 0.0 && params.h.is_finite();
        sound.then(|| Steps {
            up: libm::log(P1 / params.p0),
            down: libm::log((1.0 - P1) / (1.0 - params.p0)),
            h: params.h,
        })
    }
}

// === impl ECusum ===

impl ECusum {
    /// Takes one outcome and returns the new score.
    pub fn step(&mut self, steps: &Steps, error: bool) -> f64 {
        self.s = self.s.max(0.0) + if error { steps.up } else { steps.down };
        self.s
    }
}

// === impl Counted ===

impl Counted {
    /// Counts an error of a slot, unless it has had its share.
    fn may_add(&mut self, slot: u16) -> bool {
        match self.0.binary_search_by_key(&slot, |(known, _)| *known) {
            Err(at) => self.0.insert(at, (slot, 1)),
            Ok(at) => match self.0.get_mut(at) {
                Some((_, errors)) if *errors < ERRORS_PER_SLOT => *errors += 1,
                _ => return false,
            },
        }
        true
    }
}

// === impl Compared ===

impl Compared {
    fn add(&mut self, color: Color, error: bool) {
        let outcomes = self.outcomes.get_mut(color);
        *outcomes = outcomes.saturating_add(1);
        let errors = self.errors.get_mut(color);
        *errors = errors.saturating_add(u32::from(error));
    }

    /// How much better two error rates explain the outcomes than one; 0 if the candidate's is not the higher one.
    fn difference(&self, candidate: Color) -> f64 {
        let of = |color: Color| (f64::from(*self.errors.get(color)), f64::from(*self.outcomes.get(color)));
        let ((bad, all), (stable_bad, stable_all)) = (of(candidate), of(candidate.other()));
        if bad * stable_all <= stable_bad * all {
            return 0.0;
        }
        likelihood(bad, all) + likelihood(stable_bad, stable_all)
            - likelihood(bad + stable_bad, all + stable_all)
    }
}

/// The highest log-likelihood that any one rate gives `bad` errors in `all` outcomes.
fn likelihood(bad: f64, all: f64) -> f64 {
    let part = |n: f64| if n > 0.0 { n * libm::log(n / all) } else { 0.0 };
    part(bad) + part(all - bad)
}

// === impl Fuse ===

impl Fuse {
    /// A fresh fuse; without parameters (or with senseless ones) it never trips.
    pub fn new(candidate: Color, params: Option<&FuseParams>) -> Fuse {
        Fuse {
            candidate,
            steps: params.and_then(Steps::new),
            scores: PerColor::default(),
            counted: PerColor::default(),
            compared: Compared::default(),
            stable_seen: false,
            probe: 0,
        }
    }

    /// Changes the parameters; the scores stay. Returns whether they make sense; senseless ones change nothing.
    pub fn set_params(&mut self, params: Option<&FuseParams>) -> bool {
        match params.map(Steps::new) {
            None => self.steps = None,
            Some(Some(steps)) => self.steps = Some(steps),
            Some(None) => return false,
        }
        true
    }

    /// Takes the outcome of a request that drew `color` with `slot`; true if the candidate has to go now.
    ///
    /// True is said again with each outcome until someone acts on it.
    pub fn observe(&mut self, color: Color, slot: u16, error: bool) -> bool {
        let Some(steps) = self.steps else { return false };
        if color == self.candidate {
            self.probe = self.probe.saturating_sub(1);
        }
        let counted = self.counted.get_mut(color);
        if error && !counted.may_add(slot) {
            return false;
        }
        self.compared.add(color, error);
        self.stable_seen |= color != self.candidate;
        if self.scores.get_mut(color).step(&steps, error) <= 0.0 {
            counted.0.clear();
            if color == self.candidate {
                self.compared = Compared::default();
            }
        }
        self.probe == 0 && self.scores.get(self.candidate).s >= steps.h && self.stable_is_well(&steps)
    }

    fn stable_is_well(&self, steps: &Steps) -> bool {
        let stable = self.candidate.other();
        if self.scores.get(stable).s >= steps.h / 2.0 {
            return false;
        }
        let Compared { outcomes, .. } = &self.compared;
        match *outcomes.get(stable) {
            0 => !self.stable_seen || *outcomes.get(self.candidate) >= UNCOMPARED,
            _ => self.compared.difference(self.candidate) >= DIFFERENCE,
        }
    }

    /// The candidate was taken off (here or by another worker), or gets another chance of `probe` outcomes:
    /// what was counted against it is spent.
    pub fn restart(&mut self, probe: u32) {
        *self.scores.get_mut(self.candidate) = ECusum::default();
        self.counted.get_mut(self.candidate).0.clear();
        self.compared = Compared::default();
        self.probe = probe;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARAMS: FuseParams = FuseParams { p0: 0.02, h: 24.0 };

    fn fuse() -> Fuse {
        Fuse::new(Color::Green, Some(&PARAMS))
    }

    /// The outcome number (from 1) at which `count` outcomes of the candidate, each from its own slot, trip.
    fn trips_at(fuse: &mut Fuse, count: u16, error: impl Fn(u16) -> bool) -> Option<u16> {
        (1..=count).find(|n| fuse.observe(Color::Green, *n, error(*n)))
    }

    #[test]
    fn eight_errors_in_a_row_trip() {
        assert_eq!(trips_at(&mut fuse(), 20, |_| true), Some(8));
        assert_eq!(trips_at(&mut fuse(), 2000, |n| n % 50 == 0), None);
    }

    #[test]
    fn one_failing_session_does_not_trip() {
        let mut fuse = fuse();
        assert!((0..1000).all(|_| !fuse.observe(Color::Green, 5, true)));
        assert!((0..1000).all(|_| !fuse.observe(Color::Green, 6, true)));
        assert_eq!((0..10).position(|_| fuse.observe(Color::Green, 7, true)), Some(1));
    }

    #[test]
    fn old_errors_of_a_session_do_not_blind_the_fuse() {
        let mut fuse = fuse();
        for _ in 0..100 {
            (0..9).for_each(|slot| assert!(!fuse.observe(Color::Green, slot, slot == 0)));
        }
        assert_eq!((0..20).position(|n| fuse.observe(Color::Green, n % 4, true)), Some(7));
    }

    #[test]
    fn a_shared_fault_does_not_trip_and_the_candidates_own_does_once_stable_recovers() {
        let mut fuse = fuse();
        for slot in 0..50 {
            assert!(!fuse.observe(Color::Blue, slot, true));
            assert!(!fuse.observe(Color::Green, slot, true) || slot < 4);
        }
        let recovered = (0..1000).position(|slot| fuse.observe(Color::Blue, slot, false));
        assert!(recovered.is_some_and(|successes| successes > 100));
    }

    #[test]
    fn the_difference_is_that_of_two_binomials() {
        let with = |of: [(u32, u32); 2]| {
            let [(bad, all), (stable_bad, stable_all)] = of;
            let errors = PerColor { blue: stable_bad, green: bad };
            Compared { outcomes: PerColor { blue: stable_all, green: all }, errors }.difference(Color::Green)
        };
        // By hand: 8 ln(10/8) + 2 ln(10/2), 8 ln 2 + 8 ln 2, and none in the other direction.
        assert!((with([(8, 8), (0, 2)]) - 5.004_024_235).abs() < 1e-8);
        assert!((with([(8, 8), (0, 8)]) - 16.0 * core::f64::consts::LN_2).abs() < 1e-12);
        assert_eq!(with([(1, 10), (2, 10)]), 0.0);
        assert!(with([(5, 10), (5, 10)]).abs() < 1e-12);
    }

    #[test]
    fn a_candidate_that_alone_gets_nearly_all_requests_waits_for_stables_word() {
        let mut fuse = fuse();
        assert!(!fuse.observe(Color::Blue, 0, false) && !fuse.observe(Color::Green, 0, false));
        assert_eq!(trips_at(&mut fuse, 10, |_| true), None, "nothing of stable since the fault began");
        assert!(!fuse.observe(Color::Blue, 1, false));
        assert!(fuse.observe(Color::Blue, 2, false), "stable answers, the candidate does not");
        fuse.restart(0);
        assert_eq!(trips_at(&mut fuse, 500, |_| true), Some(200), "stable gets nothing any more");
    }

    #[test]
    fn stable_never_trips() {
        let mut fuse = fuse();
        assert!((0..100).all(|slot| !fuse.observe(Color::Blue, slot, true)));
    }

    #[test]
    fn a_probe_lets_its_requests_pass_and_is_then_armed_as_before() {
        let mut fuse = fuse();
        assert_eq!(trips_at(&mut fuse, 20, |_| true), Some(8));
        fuse.restart(20);
        assert_eq!(trips_at(&mut fuse, 50, |_| true), Some(20));
        fuse.restart(10);
        assert_eq!(trips_at(&mut fuse, 50, |_| false), None);
        assert_eq!(trips_at(&mut fuse, 50, |_| true), Some(8));
    }

    #[test]
    fn without_parameters_it_is_off_and_senseless_ones_are_refused() {
        assert_eq!(trips_at(&mut Fuse::new(Color::Green, None), 100, |_| true), None);
        let mut fuse = fuse();
        for (p0, h) in
            [(0.0, 24.0), (0.5, 24.0), (-1.0, 24.0), (0.02, 0.0), (0.02, f64::NAN), (f64::NAN, 1.0)]
        {
            assert!(!fuse.set_params(Some(&FuseParams { p0, h })));
        }
        assert_eq!(trips_at(&mut fuse, 20, |_| true), Some(8));
        assert!(fuse.set_params(None));
        assert_eq!(trips_at(&mut fuse, 20, |_| true), None);
    }
}
