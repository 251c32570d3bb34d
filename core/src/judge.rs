//! The judge: is the candidate worse than stable, and is it good enough to go on?
//!
//! One running score per test (an e-process): it starts at 1 and, while the candidate is healthy, no new data
//! raises it in expectation; so the chance that it ever reaches 1/alpha is at most alpha, however often we look.
//! The judge is a function of the rows it was given and their ticks: no clock, no randomness, no hash order. Live
//! judging and replay are this same code.
//!
//! What it deliberately does not do: decide what happens next (the planner), weigh tripped fuses ([`trips`]) or apply
//! the dead-candidate rule ([`dead`]); those are plain rules beside the tests.

pub mod analysis;
pub mod block;
pub mod buckets;
pub mod case;
pub mod certificate;
pub mod dead;
pub mod dispersion;
pub mod errors;
pub mod evidence;
pub mod firsts;
pub mod history;
pub mod hours;
pub mod latency;
pub mod ledger;
pub mod line;
pub mod load;
pub mod math;
pub mod one_sample;
pub mod planning;
pub mod predictions;
pub mod psi;
pub mod quantile;
pub mod ratio;
pub mod ratio_interval;
pub mod restarts;
pub mod row;
pub mod scales;
pub mod seconds;
pub mod share;
pub mod slots;
pub mod srm;
pub mod tally;
pub mod testimony;
pub mod trips;
pub mod verdict;
pub mod warmup;
pub mod watches;
pub mod witness;

mod units;

pub use analysis::{Analysis, AnalysisError, Metric, Mode};
pub use certificate::{Requirement, Tolerance};
pub use evidence::Evidence;
pub use history::History;
pub use line::Line;
pub use load::Load;
pub use row::{Row, Side};
pub use verdict::Verdict;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use analysis::PredictionMode;
use block::{Block, Blocks, Stratum};
use buckets::Buckets;
use case::{Case, Scene};
use certificate::Certificates;
use history::Holdback;
use latency::Reference;
use latency::margin::clamped;
use latency::weights::Weights;
use ledger::Without;
use libm::log;
use line::{Counted, MetricLogs};
use load::LoadGuard;
use predictions::{Distance, Past};
use ratio::{Errors, Ratio};
use restarts::{Restarts, Schedule, Scheme};
use scales::{Scale, Window};
use serde::{Deserialize, Serialize};
use share::SecondErrors;
use tally::{Delta, Outcome, Tally};
use testimony::{Closed, Hearing, Sessions, Testimony};
use units::Units;
use warmup::Warmup;
use witness::{Absent, Witnesses};

/// The judge of one release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judge {
    analysis: Analysis,
    requirement: Requirement,
    t_ms: u64,
    tally: Tally,
    counted: Counted,
    blocks: Blocks,
    /// Errors per stratum since the last full second.
    #[serde(with = "block::pairs")]
    second: BTreeMap<Stratum, SecondErrors>,
    /// Likewise its events.
    #[serde(default, with = "block::pairs")]
    second_events: BTreeMap<Stratum, SecondErrors>,
    units: Units,
    /// Where latencies are booked; `None` if they are not judged.
    reference: Option<Reference>,
    /// Predictions of earlier blocks.
    past: Past,
    sittings: Vec<Sitting>,
    /// Where no single witness decides.
    witnesses: Option<Witnesses>,
    control: Control,
    guard: Option<LoadGuard>,
    #[serde(default)]
    warmup: Warmup,
    /// Stable's latencies by its load.
    at_load: load::Past,
    /// Since cutover.
    holdback: Option<Holdback>,
    history_limit: Option<f64>,
    certificates: Certificates,
    /// Requests by the bits of the configured split (0..=1: their order is that of the numbers).
    srm: BTreeMap<u64, (u64, u64)>,
    last: Scores,
    condemned: bool,
    /// Completed requests with an event so far.
    #[serde(default)]
    events: evidence::Events,
}

/// What a tick is told beside its rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Conditions {
    /// What both colors carry, if it is known; it is only looked at in ticks with rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<Load>,
    /// Cutover: from this tick on the holdback is the control and this past the second opinion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cutover: Option<History>,
    /// Proxies whose word is never left out from here on, told before their first row: whoever was heard as a witness
    /// among others stays one for this release.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trusted: Vec<String>,
}

/// Everything a judge needs to go on after a restart of the controller.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    version: u32,
    judge: Judge,
}

/// A checkpoint that another version wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownCheckpoint(pub u32);

/// As many slots of stable as the candidate has, judged against the rest of stable: what this environment makes of
/// two equal halves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Control {
    test: Ratio,
    restarts: Restarts,
    /// Likewise without each proxy whose word is left out in turn, so that none alone makes an environment noisy.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    without: BTreeMap<String, Restarts>,
    noisy: bool,
}

/// The case in one window of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Sitting {
    window: Window,
    /// `None` from a restore to the next window: short windows are not kept, and one window may not begin twice.
    case: Option<Case>,
    /// Which sessions were counted.
    sessions: Sessions,
    /// Those that never heard one witness or two.
    #[serde(default)]
    absent: Absent,
}

/// What the last tick came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Scores {
    log_e: f64,
    metrics: MetricLogs,
    /// Per metric the nearest window, its part taken off.
    #[serde(default)]
    alone: MetricLogs,
    log_srm: f64,
    suspicious: bool,
    /// History condemns, but the holdback does not bear it out.
    shared_incident: bool,
    /// The candidate is slower than stable was at that load.
    slow_at_load: bool,
    /// Predictions that may differ, but not so much: how far they are, and whether that condemns.
    #[serde(default)]
    distance: Option<Distance>,
    #[serde(default)]
    too_far: bool,
}

const CHECKPOINT_VERSION: u32 = 1;
/// Most strata whose counts a record lists; no formula needs them, and an object of the cluster has 1.5 MiB.
const MOST_RECORDED: usize = 2_000;

// === impl Judge ===

impl Judge {
    /// A judge at time 0. After lost state pass half of the last `alpha`.
    pub fn new(analysis: Analysis) -> Result<Judge, AnalysisError> {
        analysis.check()?;
        let requirement = Requirement { rho_max: analysis.rho_max, p_ceiling: analysis.p_ceiling };
        let reference = analysis.metrics.contains(&Metric::Latency).then(|| Reference::new(&analysis));
        let weights = reference.as_ref().and_then(Reference::weights);
        let shorter: &[Scale] = if analysis.mode == Mode::Sessions { &analysis.scales } else { &[] };
        let windows = scales::begin(analysis.renew_ms, shorter);
        let sittings = windows.into_iter().map(|window| Sitting::open(window, &analysis, weights)).collect();
        let mut certificates = Certificates::new();
        certificates.follow(requirement);
        let witnesses = analysis.witness.map(|_| Witnesses::new(&analysis.trusted));
        let mut judge = Judge {
            witnesses,
            reference,
            past: Past::default(),
            sittings,
            control: Control::new(schedule(&analysis, None)),
            guard: analysis.load_tolerance.map(LoadGuard::new),
            warmup: Warmup::default(),
            at_load: load::Past::default(),
            holdback: None,
            history_limit: None,
            certificates,
            requirement,
            t_ms: 0,
            tally: Tally::default(),
            counted: Counted::default(),
            blocks: Blocks::default(),
            second: BTreeMap::new(),
            second_events: BTreeMap::new(),
            units: Units::default(),
            srm: BTreeMap::new(),
            last: Scores::default(),
            condemned: false,
            events: evidence::Events::default(),
            analysis,
        };
        judge.score();
        Ok(judge)
    }

    /// Sets what the current step asks for; [`Judge::verdict`] and [`Judge::evidence`] follow it. The line does not:
    /// it must be the same in a replay, which knows no steps.
    pub fn require(&mut self, requirement: Requirement) {
        self.certificates.follow(requirement);
        self.requirement = requirement;
    }

    /// [`Judge::tick_under`] without anything beside the rows.
    pub fn tick(&mut self, t_ms: u64, rows: &[Row]) -> Line {
        self.tick_under(t_ms, rows, &Conditions::default())
    }

    /// Takes the rows of a tick, in the order of their arrival. `t_ms` counts from the start of the analysis, is
    /// above 0 and grows from call to call.
    pub fn tick_under(&mut self, t_ms: u64, rows: &[Row], conditions: &Conditions) -> Line {
        self.t_ms = t_ms;
        if let Some(history) = &conditions.cutover {
            self.cut_over(history);
        }
        if let Some(witnesses) = &mut self.witnesses {
            conditions.trusted.iter().for_each(|proxy| witnesses.trust(proxy));
        }
        // Most live ticks bring nothing; a restart alone changes no evidence.
        let quiet = rows.is_empty()
            && self.second.is_empty()
            && self.second_events.is_empty()
            && !self.blocks.any_closes(t_ms, &self.analysis)
            && !self.sittings.iter().any(|s| {
                s.window.is_over(t_ms)
                    || self.begun_by(t_ms, s).is_some()
                    || (s.case.is_some() && s.sessions.any_closes(t_ms))
            });
        if quiet {
            return self.line();
        }
        self.open_sittings(t_ms);
        let mut hearing = self.take(t_ms, rows, conditions.load.filter(|_| !rows.is_empty()));
        self.close_blocks(t_ms, &mut hearing);
        self.close_second(t_ms, &mut hearing);
        self.hear(t_ms, &hearing);
        self.control.hear(t_ms, &hearing, self.witnesses.as_ref());
        self.certify(&hearing);
        self.freeze_reference();
        self.score();
        self.line()
    }

    /// Whether the candidate has taken over and the holdback is the control.
    pub fn is_cut_over(&self) -> bool {
        self.holdback.is_some()
    }

    /// Whether the negative control is noisy (latched): two parts of stable that should be alike differ.
    pub fn is_noisy(&self) -> bool {
        self.control.noisy
    }

    /// The verdict after the last tick, `certified` as the current step asks for it.
    pub fn verdict(&self) -> Verdict {
        self.verdict_for(self.requirement)
    }

    /// The proxy on whose word alone a condemnation would rest: its fault, or its lie, and no verdict on the candidate.
    pub fn sole_witness(&self) -> Option<&str> {
        let all = self.witnesses.as_ref()?;
        self.sittings.iter().find_map(|sitting| {
            let everyone = sitting.case.as_ref()?.metrics(&self.analysis, self.control.noisy);
            let part = sitting.window.ln_part();
            sitting.absent.sole_witness(all, &everyone, part, &self.analysis, self.control.noisy)
        })
    }

    /// Each metric's evidence as if it were judged alone and had all of the budget: it condemns from `ln(1/alpha)` on.
    /// The line has that of the window that counts, before the window's part comes off.
    pub fn alone(&self) -> MetricLogs {
        self.last.alone
    }

    /// How much one proxy's word can be left out; `None`: the rule is off.
    pub fn protection(&self) -> Option<witness::Protection> {
        self.witnesses.as_ref().map(Witnesses::protection)
    }

    /// The parameters.
    pub fn analysis(&self) -> &Analysis {
        &self.analysis
    }

    /// The state in numbers for people.
    pub fn evidence(&self) -> Evidence {
        let Analysis { alpha, beta, hold_at, .. } = self.analysis;
        let Counted { blue_requests, blue_errors, green_requests, green_errors } = self.counted;
        Evidence {
            t_ms: self.t_ms,
            verdict: self.verdict(),
            log_e: self.last.log_e,
            metrics: self.last.metrics,
            rollback_at: self.analysis.rollback_at(),
            hold_at: log(hold_at),
            counted: self.counted,
            stable_rate: evidence::Interval::of(blue_errors, blue_requests, alpha),
            candidate_rate: evidence::Interval::of(green_errors, green_requests, alpha),
            candidate_slots: self.units.candidate_slots(),
            ratio: self.certificates.ratio(self.requirement, beta),
            ceiling: self.certificates.ceiling(self.requirement, beta),
            noisy: self.control.noisy,
            log_srm: self.last.log_srm,
            protection: self.protection(),
            events: self.analysis.metrics.contains(&Metric::Custom).then_some(self.events),
            shared_incident: self.last.shared_incident,
            slow_at_load: self.last.slow_at_load,
            comparable: self.is_comparable(),
            predictions: self.last.distance.map(|distance| evidence::Predictions {
                distance,
                allowed: self.analysis.ks_reject,
                too_far: self.last.too_far,
            }),
        }
    }

    /// The state to keep. Take the intake's checkpoint at the same moment.
    pub fn checkpoint(&self) -> Checkpoint {
        let mut judge = self.without_histograms();
        let short = judge.sittings.iter_mut().filter(|sitting| !sitting.window.is_whole());
        short.for_each(|sitting| (sitting.case, sitting.sessions) = (None, Sessions::default()));
        judge.sittings.iter_mut().for_each(|sitting| sitting.sessions.drop_exceptions());
        Checkpoint { version: CHECKPOINT_VERSION, judge }
    }

    /// Everything from which the present evidence can be computed again. Unlike a checkpoint it has the short windows,
    /// and what each case without a witness came to.
    pub fn record(&self) -> Checkpoint {
        let mut judge = self.without_histograms();
        if let Some(all) = &self.witnesses {
            let words = judge.sittings.iter_mut().map(|sitting| &mut sitting.absent);
            words.for_each(|absent| absent.keep_words(all, &self.analysis, self.control.noisy));
        }
        judge.tally.keep_first(MOST_RECORDED);
        // Which sessions were counted says nothing about the evidence that is there.
        judge.sittings.iter_mut().for_each(|sitting| sitting.sessions = Sessions::default());
        Checkpoint { version: CHECKPOINT_VERSION, judge }
    }

    /// Computes the evidence of a record again, from its state and with this version's formulas.
    pub fn recompute(record: Checkpoint) -> Result<Evidence, UnknownCheckpoint> {
        match record.version {
            CHECKPOINT_VERSION => {
                let mut judge = record.judge;
                // A latch is no evidence: whether it condemns must follow from what is there.
                judge.condemned = false;
                judge.last.too_far = false;
                judge.counted = judge.tally.counted().unwrap_or(judge.counted);
                judge.score();
                Ok(judge.evidence())
            }
            other => Err(UnknownCheckpoint(other)),
        }
    }

    fn without_histograms(&self) -> Judge {
        let mut judge = self.clone();
        judge.tally.forget_histograms();
        judge.blocks.drop_latency();
        judge.blocks.drop_predictions();
        judge
    }

    /// Goes on from a checkpoint: the first row of a key counts what happened since.
    pub fn restore(checkpoint: Checkpoint) -> Result<Judge, UnknownCheckpoint> {
        if checkpoint.version == CHECKPOINT_VERSION {
            let mut judge = checkpoint.judge;
            let seats = judge.witnesses.as_ref().map_or(0, Witnesses::seats);
            judge
                .sittings
                .iter_mut()
                .for_each(|sitting| sitting.absent.restore(seats, sitting.case.as_ref()));
            Ok(judge)
        } else {
            Err(UnknownCheckpoint(checkpoint.version))
        }
    }

    fn take(&mut self, t_ms: u64, rows: &[Row], load: Option<Load>) -> Hearing {
        let mut hearing = Hearing::default();
        let (mut started, mut observed) = ((0u64, 0u64), Buckets::default());
        for row in rows {
            if let Outcome::Accepted(delta) = self.tally.take(row) {
                self.count(row, &delta);
                started.0 = started.0.saturating_add(delta.green.n);
                started.1 = started.1.saturating_add(delta.blue.n);
                self.warmup.see(t_ms, row.split);
                let stratum = (row.proxy.clone(), row.epoch);
                self.book(t_ms, &stratum, row.split, &delta);
                let said = hearing.strata.entry(stratum).or_default();
                said.add(row, &delta, self.analysis.mode);
                if self.is_warm(t_ms) {
                    self.observe(row, &delta, &mut observed);
                }
                self.book_firsts(t_ms, row, said);
            }
        }
        if let Some(guard) = &mut self.guard {
            let whole = schedule(&self.analysis, None);
            self.at_load.add(
                guard,
                t_ms,
                (&observed.green, &observed.blue),
                self.analysis.latency_shift,
                whole,
            );
            // Whether this tick was comparable followed from the ticks before it.
            guard.see(t_ms, load, started);
        }
        hearing
    }

    /// Latencies by their own buckets, for stable's past.
    fn observe(&self, row: &Row, delta: &Delta, observed: &mut Buckets) {
        if self.counts_firsts() {
            let limit = slots::limit_of(row.split);
            for (slot, bucket) in &row.first_latency {
                let side = if *slot < limit { &mut observed.green } else { &mut observed.blue };
                buckets::add(side, clamped(*bucket), 1);
            }
        } else {
            for (side, new) in
                [(&mut observed.green, &delta.green.latency), (&mut observed.blue, &delta.blue.latency)]
            {
                new.iter().for_each(|(bucket, n)| buckets::add(side, clamped(*bucket), *n));
            }
        }
    }

    /// Whether latencies count by now.
    fn is_warm(&self, t_ms: u64) -> bool {
        t_ms > self.analysis.latency_warmup_ms && self.warmup.is_over(t_ms, self.analysis.raise_warmup_ms)
    }

    /// Whether latencies may be compared now.
    fn is_comparable(&self) -> bool {
        self.guard.as_ref().is_none_or(LoadGuard::comparable)
    }

    fn cut_over(&mut self, history: &History) {
        if self.holdback.is_some() {
            return;
        }
        self.holdback = Some(Holdback::new(self.counted.blue_requests));
        // Stable's part of this release is a window, too.
        let own = history::Window { n: self.counted.blue_requests, errors: self.counted.blue_errors };
        let windows: Vec<history::Window> = history.errors.iter().copied().chain([own]).collect();
        let wrong = history::limit_alpha(self.analysis.alpha);
        self.history_limit = history::error_limit(&windows, wrong).filter(|limit| *limit > 0.0);
        if let Some(limit) = self.history_limit {
            let cases = self.sittings.iter_mut().flat_map(Sitting::cases);
            cases.for_each(|case| case.begin_history(limit));
        }
    }

    /// The newest window of a sitting's scale, if it has yet to be opened.
    fn begun_by(&self, t_ms: u64, sitting: &Sitting) -> Option<Window> {
        let newest = sitting.window.newest(t_ms)?;
        self.sittings.iter().all(|other| other.window != newest).then_some(newest)
    }

    /// New windows begin with a fresh case, and those that are over go.
    fn open_sittings(&mut self, t_ms: u64) {
        for at in 0..self.sittings.len() {
            let Some(begun) = self.sittings.get(at).and_then(|sitting| self.begun_by(t_ms, sitting)) else {
                continue;
            };
            let weights = self.reference.as_ref().and_then(Reference::weights);
            let mut sitting = Sitting::open(begun, &self.analysis, weights);
            let seats = self.witnesses.as_ref().map_or(0, Witnesses::seats);
            (0..seats).for_each(|_| sitting.absent.seat(sitting.case.as_ref()));
            if let Some(limit) = self.history_limit {
                sitting.cases().for_each(|case| case.begin_history(limit));
            }
            self.sittings.push(sitting);
        }
        self.sittings.retain(|sitting| !sitting.window.is_over(t_ms));
    }

    fn hear(&mut self, t_ms: u64, hearing: &Hearing) {
        let weights = self.reference.as_ref().and_then(Reference::weights);
        // Who speaks for the first time: without the newcomer there is what all said so far.
        let new = self.witnesses.as_mut().map_or(0, |all| all.meet(hearing));
        for sitting in &mut self.sittings {
            let scene = Scene { t_ms, since_ms: sitting.window.since_ms(), analysis: &self.analysis };
            let Some(case) = &mut sitting.case else { continue };
            let seat_of = |proxy: &str| self.witnesses.as_ref()?.seat_of(proxy);
            let heard = sitting.sessions.hear(t_ms, &self.analysis, weights, hearing, seat_of);
            if let Some(all) = &self.witnesses {
                (0..new).for_each(|_| sitting.absent.seat(Some(case)));
                sitting.absent.hear(all, scene, &heard);
            }
            case.hear(scene, &heard, Without::NOBODY);
        }
    }

    /// Firsts as their role books them; stable's also fill the reference.
    fn book_firsts(&mut self, t_ms: u64, row: &Row, said: &mut Testimony) {
        if !self.counts_firsts() {
            return;
        }
        if self.is_warm(t_ms)
            && self.is_comparable()
            && let Some(reference) = &mut self.reference
        {
            let totals: BTreeMap<u16, i32> = row.first_total.iter().copied().collect();
            let book = |(slot, bucket): &(u16, i32)| {
                let (is_candidate, total) = (*slot < said.limit, totals.get(slot));
                let total = total.map(|bucket| reference.book_first_total(is_candidate, *bucket));
                (*slot, reference.book_first(is_candidate, *bucket), total)
            };
            said.first_latency.extend(row.first_latency.iter().map(book));
        }
        let bins = self.analysis.prediction_bins;
        let book = |(slot, bin): &(u16, i32)| (*slot, predictions::bin(*bin, bins));
        said.first_predictions.extend(row.first_predictions.iter().map(book));
    }

    fn counts_firsts(&self) -> bool {
        self.analysis.firsts && self.analysis.mode == Mode::Sessions
    }

    fn book(&mut self, t_ms: u64, stratum: &Stratum, split: f64, delta: &Delta) {
        let counts_firsts = self.counts_firsts();
        let comparable = self.is_warm(t_ms) && self.is_comparable();
        let Some(block) = self.blocks.add(t_ms, stratum.clone(), split, delta) else { return };
        if counts_firsts {
            return;
        }
        if comparable && let Some(reference) = &mut self.reference {
            reference.book(&mut block.latency, &delta.blue, &delta.green);
        }
        if self.analysis.metrics.contains(&Metric::Predictions) {
            let bins = self.analysis.prediction_bins;
            let predicted = &mut block.predictions;
            for (counts, new) in [
                (&mut predicted.green, &delta.green.predictions),
                (&mut predicted.blue, &delta.blue.predictions),
            ] {
                new.iter().for_each(|(bin, n)| buckets::add(counts, predictions::bin(*bin, bins), *n));
            }
        }
    }

    fn count(&mut self, row: &Row, delta: &Delta) {
        let (blue, green) = (&delta.blue, &delta.green);
        let counted = &mut self.counted;
        for (sum, more) in [
            (&mut counted.blue_requests, blue.requests),
            (&mut counted.blue_errors, blue.errors),
            (&mut counted.green_requests, green.requests),
            (&mut counted.green_errors, green.errors),
        ] {
            *sum = sum.saturating_add(more);
        }
        self.events.stable = self.events.stable.saturating_add(blue.events);
        self.events.candidate = self.events.candidate.saturating_add(green.events);
        if self.analysis.srm {
            // -0.0 is 0.0, but not its bits.
            let (candidate, stable) = self.srm.entry((row.split + 0.0).to_bits()).or_default();
            // What was drawn, where it is known: a candidate that is slow has completed less of it.
            *candidate = candidate.saturating_add(green.n);
            *stable = stable.saturating_add(blue.n);
        }
        if self.analysis.mode != Mode::Sessions {
            for (second, candidate, stable) in [
                (&mut self.second, green.errors, blue.errors),
                (&mut self.second_events, green.events, blue.events),
            ] {
                if candidate.saturating_add(stable) > 0 {
                    let stratum = (row.proxy.clone(), row.epoch);
                    let none = SecondErrors { split: row.split, candidate: 0, stable: 0 };
                    let second = second.entry(stratum).or_insert(none);
                    second.candidate = second.candidate.saturating_add(candidate);
                    second.stable = second.stable.saturating_add(stable);
                }
            }
        }
    }

    /// Tests of two samples take whole blocks.
    fn close_blocks(&mut self, t_ms: u64, hearing: &mut Hearing) {
        let Analysis { rho0, mode, split_mode, prediction_bins, .. } = self.analysis;
        let equality = self.analysis.prediction_mode == PredictionMode::Equality
            && self.analysis.metrics.contains(&Metric::Predictions);
        let ratio_test = Ratio::worse_than(rho0);
        let plug_in = equality.then(|| self.past.weights(prediction_bins, predictions::STRENGTH));
        let weights = self.reference.as_ref().and_then(Reference::weights);
        for (stratum, block) in self.blocks.close(t_ms, &self.analysis) {
            let mut ratio = [0.0; ratio::ALTERNATIVES];
            if mode != Mode::Sessions {
                ratio_test.add(block.errors(split_mode), &mut ratio);
            }
            let latency = weights.map(|weights| {
                let mut sums = vec![0.0; weights.len()];
                weights.add(&block.latency, &mut sums);
                sums
            });
            let predictions = plug_in.as_ref().map_or(0.0, |weights| weights.increment(&block.predictions));
            if equality {
                self.past.learn(&block.predictions);
            }
            let closed = Closed { ratio, latency: latency.unwrap_or_default(), predictions, block };
            hearing.strata.entry(stratum).or_default().closed = Some(closed);
        }
    }

    fn close_second(&mut self, t_ms: u64, hearing: &mut Hearing) {
        if t_ms.is_multiple_of(1_000) {
            for (stratum, errors) in core::mem::take(&mut self.second) {
                hearing.strata.entry(stratum).or_default().second = Some(errors);
            }
            for (stratum, events) in core::mem::take(&mut self.second_events) {
                hearing.strata.entry(stratum).or_default().second_events = Some(events);
            }
        }
    }

    fn certify(&mut self, hearing: &Hearing) {
        // By the last tick's word: scoring changes no evidence, so that a record comes to the same verdict again.
        let history_speaks = |log_e| log_e >= log(self.analysis.hold_at);
        if let Some(holdback) = &mut self.holdback {
            holdback.ask(self.last.alone.history.is_some_and(history_speaks));
        }
        let fresh = self.units.take(hearing);
        let (n, bad) = self.units.totals();
        self.certificates.set_units(n, bad);
        let errors = if self.analysis.mode == Mode::Sessions {
            fresh
        } else {
            let closed = hearing.strata.values().filter_map(|said| said.closed.as_ref());
            closed.map(|closed| closed.block.errors(self.analysis.split_mode)).collect()
        };
        for errors in errors {
            self.certificates.add(errors);
            if let Some(holdback) = &mut self.holdback {
                holdback.add(errors);
            }
        }
        self.certificates.mark();
    }

    /// A frozen reference takes part from the next tick on, and never scores the data it was built from.
    fn freeze_reference(&mut self) {
        if let Some(reference) = &mut self.reference
            && reference.freeze()
        {
            self.blocks.drop_latency();
            if let Some(weights) = reference.weights() {
                for sitting in &mut self.sittings {
                    // What waits in open blocks may be part of the reference.
                    sitting.sessions.drop_open_latency();
                    sitting.cases().for_each(|case| case.begin_latency(weights.prior()));
                }
            }
        }
    }

    fn score(&mut self) {
        let analysis = &self.analysis;
        self.control.noisy |= self.control.log_e() >= log(analysis.noisy_at);
        let mut counted = f64::NEG_INFINITY;
        // Any window may reach its own threshold: what counts is the one that is nearest.
        let (mut log_e, mut metrics) = (f64::NEG_INFINITY, MetricLogs::default());
        let mut alone = MetricLogs::default();
        let bears_out = self.holdback.as_ref().is_none_or(|holdback| {
            holdback.bears_out(self.counted.blue_requests, analysis.alpha, analysis.beta)
        });
        for sitting in &self.sittings {
            let Some(case) = &sitting.case else { continue };
            let everyone = case.metrics(analysis, self.control.noisy);
            let said = match &self.witnesses {
                Some(all) => sitting.absent.metrics(all, &everyone, analysis, self.control.noisy),
                None => everyone,
            };
            let ln_part = sitting.window.ln_part();
            let all = said.combine(analysis) + ln_part;
            alone.raise_to(&said, ln_part);
            let without_history = MetricLogs { history: said.history.map(|log_e| log_e.min(0.0)), ..said };
            let counts = if bears_out { said } else { without_history };
            counted = counted.max(counts.combine(analysis) + ln_part);
            if all > log_e {
                (log_e, metrics) = (all, said);
            }
        }
        let groups = self.srm.iter();
        let log_srm = groups.fold(0.0, |sum, (split, (candidate, stable))| {
            sum + srm::log_e(srm::STRENGTH, f64::from_bits(*split), *candidate, *stable)
        });
        let shared_incident = log_e >= analysis.rollback_at() && counted < analysis.rollback_at();
        // What a busy candidate shows against stable's past can hold, not condemn.
        let slow_at_load = self.at_load.log_e() >= log(1.0 / analysis.alpha);
        let suspicious = log_e >= log(analysis.hold_at)
            || (analysis.srm && log_srm >= log(1.0 / analysis.alpha_srm))
            || self.control.noisy
            || slow_at_load;
        self.condemned |= counted >= analysis.rollback_at();
        // Bands of all windows share their alpha as the tests do. Shown is the whole release's, or what condemned.
        let (mut distance, mut too_far) = (None, false);
        for sitting in &mut self.sittings {
            let Some(case) = &mut sitting.case else { continue };
            let ln_part = sitting.window.ln_part();
            let everyone = case.predictions_condemn(analysis, ln_part);
            let condemns = match &self.witnesses {
                Some(all) => sitting.absent.predictions_condemn(all, everyone, analysis, ln_part),
                None => everyone,
            };
            if sitting.window.is_whole() || (condemns && !too_far) {
                distance = case.distance(analysis, ln_part);
            }
            too_far |= condemns;
        }
        if self.last.too_far {
            (distance, too_far) = (self.last.distance, true);
        }
        self.condemned |= too_far;
        self.last = Scores {
            log_e,
            metrics,
            alone,
            log_srm,
            suspicious,
            shared_incident,
            slow_at_load,
            distance,
            too_far,
        };
    }

    fn verdict_for(&self, requirement: Requirement) -> Verdict {
        Verdict::decide(verdict::Signs {
            condemned: self.condemned,
            suspicious: self.last.suspicious,
            certified: self.certificates.hold(requirement, self.analysis.beta),
        })
    }

    fn line(&self) -> Line {
        let asked = Requirement { rho_max: self.analysis.rho_max, p_ceiling: self.analysis.p_ceiling };
        Line {
            t_ms: self.t_ms,
            verdict: self.verdict_for(asked),
            log_e: self.last.log_e,
            metrics: self.last.metrics,
            log_srm: self.last.log_srm,
            noisy: self.control.noisy,
            certified: self.certificates.certified(asked.threshold(self.analysis.beta)),
            rows: self.tally.counts(),
            counted: self.counted,
        }
    }
}

// === impl Sitting ===

impl Sitting {
    fn open(window: Window, analysis: &Analysis, weights: Option<&Weights>) -> Self {
        let mut case = Case::new(analysis, schedule(analysis, window.length_ms()));
        if let Some(weights) = weights {
            case.begin_latency(weights.prior());
        }
        Sitting { window, case: Some(case), sessions: Sessions::default(), absent: Absent::default() }
    }

    fn cases(&mut self) -> impl Iterator<Item = &mut Case> {
        self.case.iter_mut().chain(self.absent.cases())
    }
}

/// The restarts of the whole release, or those that fit into a window.
fn schedule(analysis: &Analysis, window_ms: Option<u64>) -> Schedule {
    let every_ms = analysis.restart_every_ms;
    let fit =
        |window_ms: u64| u32::try_from(window_ms.saturating_sub(1) / every_ms.max(1)).unwrap_or(u32::MAX);
    Schedule {
        count: window_ms.map_or(analysis.restarts, |window_ms| analysis.restarts.min(fit(window_ms))),
        every_ms,
        v0: analysis.restart_v0,
        scheme: Scheme::Uniform,
    }
}

// === impl Control ===

impl Control {
    fn new(schedule: Schedule) -> Self {
        Control {
            test: Ratio::worse_than(1.0),
            restarts: Restarts::equal(schedule, ratio::ALTERNATIVES),
            without: BTreeMap::new(),
            noisy: false,
        }
    }

    fn hear(&mut self, t_ms: u64, hearing: &Hearing, witnesses: Option<&Witnesses>) {
        let mut all = [0.0; ratio::ALTERNATIVES];
        let mut own: BTreeMap<&str, [f64; ratio::ALTERNATIVES]> = BTreeMap::new();
        for ((proxy, _), said) in &hearing.strata {
            let Some(closed) = &said.closed else { continue };
            let Block { blue, control, .. } = closed.block;
            let rest = blue.n.saturating_sub(control.n);
            let errors =
                Errors::realised(control.n, rest, control.errors, blue.errors.saturating_sub(control.errors));
            self.test.add(errors, &mut all);
            if witnesses.is_some_and(|all| all.seat_of(proxy).is_some()) {
                // Without a newcomer there is what all said so far; later ones than have a seat are always heard.
                if !self.without.contains_key(proxy) && self.without.len() < witness::SEATS {
                    self.without.insert(proxy.clone(), self.restarts.clone());
                }
                self.test.add(errors, own.entry(proxy).or_default());
            }
        }
        self.restarts.add(t_ms, &all);
        for (proxy, without) in &mut self.without {
            let own = own.get(proxy.as_str()).copied().unwrap_or_default();
            let mut others = all;
            others.iter_mut().zip(own).for_each(|(sum, own)| *sum -= own);
            without.add(t_ms, &others);
        }
    }

    /// With two proxies nobody can be left out without loss.
    fn log_e(&self) -> f64 {
        let all = self.restarts.log_e();
        if self.without.len() < 3 {
            return all;
        }
        self.without.values().map(Restarts::log_e).fold(all, f64::min)
    }
}

// === impl UnknownCheckpoint ===

impl core::fmt::Display for UnknownCheckpoint {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "checkpoint version {} is not {CHECKPOINT_VERSION}", self.0)
    }
}

impl core::error::Error for UnknownCheckpoint {}
