//! No single witness decides: evidence with each proxy's word left out in turn.
//!
//! A proxy that forges one candidate error per report condemns a healthy candidate within seconds if evidence is
//! simply summed, and one that forges stable errors hides a real fault. So for each witness there is a [`Case`] that
//! never heard it, and for each pair one that heard neither. What counts is, per metric,
//! `min over j of (mean over i of E without i and j)`: whoever lies, one of the terms has not heard the lie, so the
//! smallest is at most that honest test (no false rollback), and in each term but one the liar that hides is left out
//! by some i (no fault hidden). A mean of e-values is one, and so is what is smaller, so alpha still holds.
//!
//! It needs three witnesses of which none has most of the traffic. With fewer nobody's word can be left out without
//! loss; then half of the weight stays on what all say together and half on what is said without each one, which costs
//! at most ln 2 and still finds what a liar hides, but a liar can condemn. A proxy that claims most of the traffic to
//! get there shows as such in [`Witnesses::protection`].
//!
//! Each case has its own state, and its own view of which slots are new, so a liar cannot use up the others' slots.
//! Trusted proxies are heard in every case. What is deliberately absent: who a proxy is (the report's authenticated
//! identity is the intake's to know), and certificates, which hear everybody.

use super::analysis::{Analysis, Metric};
use super::case::{Case, Scene};
use super::ledger::{Seat, Without};
use super::line::MetricLogs;
use super::math::lse;
use super::testimony::{Heard, Hearing};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use libm::log;
use serde::{Deserialize, Serialize};

/// Proxies that have a seat of their own; later ones share, which only makes more than one of them be left out at a
/// time. The cost of a tick grows with the square: `cargo bench -p hueshift-core` says how it stands.
pub const SEATS: usize = 32;

/// The witnesses of a release.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Witnesses {
    /// The seat of each proxy that is not trusted, in the order of first sight.
    places: BTreeMap<String, usize>,
    trusted: BTreeSet<String>,
    /// Candidate requests by seat, and of the trusted ones together.
    requests: Vec<u64>,
    trusted_requests: u64,
}

/// The cases that never heard one witness or two.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Absent {
    /// By seat. Not kept in a checkpoint, where there would be too many; see [`Absent::restore`].
    #[serde(skip)]
    without: Vec<Case>,
    /// For seat `j` those without `j` and each `i < j`.
    #[serde(skip)]
    without_both: Vec<Vec<Case>>,
    /// What they said, in a record: it can be combined again without them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    said: Option<Words>,
}

/// The evidence of each case.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Words {
    without: Vec<MetricLogs>,
    without_both: Vec<Vec<MetricLogs>>,
    /// Whether predictions are too far for each case without one witness.
    #[serde(default)]
    too_far: bool,
}

/// How much one proxy's word can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protection {
    /// There is one witness, or only trusted ones: what they say is what counts.
    None,
    /// Too few witnesses, or one has most of the traffic: what all say together counts for half.
    Partial,
    /// No single proxy can condemn, none can hide a fault.
    Full,
}

// === impl Witnesses ===

impl Witnesses {
    /// Nobody has spoken yet; these proxies are never left out.
    pub fn new(trusted: &[String]) -> Self {
        Witnesses { trusted: trusted.iter().cloned().collect(), ..Witnesses::default() }
    }

    /// This proxy is never left out. One that has a seat already keeps it.
    pub fn trust(&mut self, proxy: &str) {
        self.trusted.insert(String::from(proxy));
    }

    /// Counts requests and gives a seat to everyone who speaks for the first time; says how many seats are new.
    pub fn meet(&mut self, hearing: &Hearing) -> usize {
        let before = self.seats();
        for ((proxy, _), said) in &hearing.strata {
            if !self.trusted.contains(proxy) && !self.places.contains_key(proxy) {
                let taken = self.places.len();
                self.places.insert(proxy.clone(), taken % SEATS);
                if taken < SEATS {
                    self.requests.push(0);
                }
            }
            let seat = self.places.get(proxy).copied();
            let sum = match seat.and_then(|seat| self.requests.get_mut(seat)) {
                Some(sum) => sum,
                None => &mut self.trusted_requests,
            };
            *sum = sum.saturating_add(said.requests);
        }
        self.seats() - before
    }

    /// The place of a proxy; `None`: it is trusted.
    pub fn seat_of(&self, proxy: &str) -> Option<Seat> {
        self.places.get(proxy).and_then(|seat| Seat::try_from(*seat).ok())
    }

    /// How many seats are taken.
    pub fn seats(&self) -> usize {
        self.requests.len()
    }

    /// What the present witnesses allow. It follows counts of requests, never of errors.
    pub fn protection(&self) -> Protection {
        let parties = self.seats() + usize::from(self.trusted_requests > 0);
        let most = self.requests.iter().copied().max().unwrap_or(0);
        let all = self.requests.iter().fold(self.trusted_requests, |sum, n| sum.saturating_add(*n));
        let dominated = most > all.saturating_sub(most);
        if self.requests.is_empty() || parties < 2 {
            Protection::None
        } else if parties < 3 || dominated {
            Protection::Partial
        } else {
            Protection::Full
        }
    }

    /// The proxy that has this seat for itself.
    fn alone_at(&self, seat: usize) -> Option<&str> {
        let mut there = self.places.iter().filter(|(_, at)| **at == seat);
        match (there.next(), there.next()) {
            (Some((proxy, _)), None) => Some(proxy),
            _ => None,
        }
    }
}

// === impl Absent ===

impl Absent {
    /// One more witness. `everyone` is the case that heard all so far: without the newcomer that is all there is.
    pub fn seat(&mut self, everyone: Option<&Case>) {
        if let Some(everyone) = everyone {
            self.without_both.push(self.without.clone());
            self.without.push(everyone.clone());
        }
    }

    /// Hears a tick, case by case.
    pub fn hear(&mut self, all: &Witnesses, scene: Scene<'_>, heard: &Heard<'_>) {
        // Alone nobody can be left out.
        if all.protection() == Protection::None {
            return;
        }
        for (j, case) in (0..).zip(&mut self.without) {
            case.hear(scene, heard, Without::one(j));
        }
        for (j, row) in (0..).zip(&mut self.without_both) {
            for (i, case) in (0..).zip(row) {
                case.hear(scene, heard, Without::both(i, j));
            }
        }
    }

    /// Every case.
    pub fn cases(&mut self) -> impl Iterator<Item = &mut Case> {
        self.without.iter_mut().chain(self.without_both.iter_mut().flatten())
    }

    /// Takes up after a restore: what was kept is what everyone said. The cases begin again from what has not started
    /// there, which is less than they had, hence valid.
    pub fn restore(&mut self, seats: usize, everyone: Option<&Case>) {
        *self = Absent::default();
        if let Some(everyone) = everyone {
            let begun = everyone.begun_again();
            (0..seats).for_each(|_| self.seat(Some(&begun)));
        }
    }

    /// The evidence per metric. `everyone` is that of all witnesses.
    pub fn metrics(
        &self,
        all: &Witnesses,
        everyone: &MetricLogs,
        analysis: &Analysis,
        noisy: bool,
    ) -> MetricLogs {
        let protection = all.protection();
        if protection == Protection::None {
            return *everyone;
        }
        let words = self.said.clone().unwrap_or_else(|| self.words(protection, analysis, noisy));
        let mut metrics = MetricLogs::default();
        for metric in Metric::ALL {
            let Some(together) = everyone.get(metric) else { continue };
            let get = |logs: &MetricLogs| logs.get(metric).unwrap_or(0.0);
            let without: Vec<f64> = words.without.iter().map(get).collect();
            let combined = match protection {
                Protection::None => together,
                Protection::Partial => partial(together, &without),
                Protection::Full => least(&without, |i, j| {
                    let (low, high) = if i < j { (i, j) } else { (j, i) };
                    words.without_both.get(high).and_then(|row| row.get(low)).map_or(0.0, get)
                }),
            };
            metrics.set(metric, combined);
        }
        metrics
    }

    /// Keeps what the cases say, for a record.
    pub fn keep_words(&mut self, all: &Witnesses, analysis: &Analysis, noisy: bool) {
        self.said = Some(self.words(all.protection(), analysis, noisy));
    }

    fn words(&self, protection: Protection, analysis: &Analysis, noisy: bool) -> Words {
        let of = |case: &Case| case.metrics(analysis, noisy);
        let too_far = self.without.iter().all(Case::is_too_far);
        let without_both = match protection {
            Protection::Full => self.without_both.iter().map(|row| row.iter().map(of).collect()).collect(),
            _ => Vec::new(),
        };
        Words { without: self.without.iter().map(of).collect(), without_both, too_far }
    }

    /// Whether predictions condemn, whoever is left out.
    pub fn predictions_condemn(
        &mut self,
        all: &Witnesses,
        everyone: bool,
        analysis: &Analysis,
        ln_part: f64,
    ) -> bool {
        if all.protection() != Protection::Full {
            return everyone;
        }
        if let Some(said) = &self.said {
            return everyone && said.too_far;
        }
        // All of them: each latches by itself.
        self.without.iter_mut().fold(everyone, |all, case| case.predictions_condemn(analysis, ln_part) && all)
    }

    /// The proxy on whose word alone a condemnation by all would rest: without it nothing is left of the suspicion.
    /// `part` is ln of these cases' part of the budget.
    pub fn sole_witness<'a>(
        &self,
        all: &'a Witnesses,
        everyone: &MetricLogs,
        part: f64,
        analysis: &Analysis,
        noisy: bool,
    ) -> Option<&'a str> {
        let condemned = everyone.combine(analysis) + part >= log(1.0 / analysis.alpha);
        if all.protection() != Protection::Full || !condemned {
            return None;
        }
        let suspicion = |case: &Case| case.metrics(analysis, noisy).combine(analysis) + part;
        let mut innocent = self.without.iter().enumerate();
        innocent
            .find(|(_, case)| suspicion(case) < log(analysis.hold_at))
            .and_then(|(seat, _)| all.alone_at(seat))
    }
}

/// Half of the weight on what all say, half on what is said without each one.
fn partial(all: f64, without: &[f64]) -> f64 {
    let half = log(0.5);
    lse([half + all, half + mean(without.iter().copied())].into_iter())
}

/// `min over j of (mean over i of E without i and j)`; of one seat: what the others say.
fn least(without: &[f64], both: impl Fn(usize, usize) -> f64) -> f64 {
    let seats = without.len();
    if let [without] = without {
        return *without;
    }
    (0..seats)
        .map(|j| mean((0..seats).filter(|i| *i != j).map(|i| both(i, j)).collect::<Vec<_>>().into_iter()))
        .fold(f64::INFINITY, f64::min)
}

fn mean(logs: impl ExactSizeIterator<Item = f64> + Clone) -> f64 {
    let n = logs.len() as f64;
    lse(logs) - log(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_mean_leaves_out_whoever_lies() {
        // Three witnesses; the first lies and has said 9, the others -1 each.
        let said = [9.0, -1.0, -1.0];
        let all: f64 = said.iter().sum();
        let both = |i: usize, j: usize| all - said[i] - said[j];
        let without: Vec<f64> = said.iter().map(|s| all - s).collect();
        assert_eq!(least(&without, both), -1.0, "its word is out of one term altogether");
        // It hides: each term but one leaves it out in one of its two cases.
        let said = [-20.0, 4.0, 4.0];
        let all: f64 = said.iter().sum();
        let both = |i: usize, j: usize| all - said[i] - said[j];
        let without: Vec<f64> = said.iter().map(|s| all - s).collect();
        let hidden = least(&without, both);
        assert!((hidden - (4.0 - 2f64.ln())).abs() < 1e-6, "{hidden}");
    }

    #[test]
    fn one_trusted_and_one_other_is_heard_without_the_other() {
        assert_eq!(least(&[3.5], |_, _| 0.0), 3.5);
    }

    #[test]
    fn with_two_witnesses_half_of_the_weight_stays_on_both() {
        let got = partial(6.0, &[3.0, 3.0]);
        assert!((got - (0.5 * 6f64.exp() + 0.5 * 3f64.exp()).ln()).abs() < 1e-12);
    }
}
