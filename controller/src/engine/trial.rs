//! One release before its judge: ticks, verdict, the plain rules beside the tests, and the checkpoint of it all.
//!
//! A trial's time starts at 0 and moves in ticks of 10 ms. Ticks that we were late for are caught up with in order,
//! so that live judging and a replay see the same rows at the same ticks. Once condemned it stays condemned.

use super::Begun;
use super::wish::{Events, LookedFor};
use crate::view::{Chance, Earlier};
use hueshift_core::color::{Color, PerColor};
use hueshift_core::contract::{PredictionParams, Rearm, ServiceId, Tally};
use hueshift_core::hang::Hang;
use hueshift_core::intake::{Facts, Intake, IntakeCheckpoint};
use hueshift_core::judge::dead::{DeadInput, DeadRule};
use hueshift_core::judge::dispersion::Dispersion;
use hueshift_core::judge::hours::Hours;
use hueshift_core::judge::load::{ColorLoad, Load};
use hueshift_core::judge::seconds::Seconds;
use hueshift_core::judge::trips::{self, Probing, ProxyTrip, Trips};
use hueshift_core::judge::{
    Analysis, Checkpoint, Conditions, Evidence, Judge, Mode, Requirement, Row, Verdict,
};
use hueshift_core::planner::Judged;
use hueshift_core::release::Cause;
use hueshift_core::share::Bps;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Length of a tick, ms.
pub const TICK_MS: u64 = 10;
/// Time between checkpoints without news, ms.
const CHECKPOINT_EVERY_MS: u64 = 10_000;

/// The judging of one release.
pub struct Trial {
    /// The release.
    pub release: u32,
    id: ServiceId,
    stable: Color,
    started_ms: u64,
    judge: Judge,
    log_e: f64,
    decided: Option<Evidence>,
    /// The judge at that moment. Not kept over a restart: the record then lacks it.
    decided_by: Option<Checkpoint>,
    rules: Rules,
    share: Bps,
    absolute: bool,
    /// What the unit of chance was chosen by.
    earlier: Option<Earlier>,
    /// What the filter looks for, as long as this release is open.
    looked_for: LookedFor,
    /// Proxies that the judge was told to trust; to be told again changes nothing.
    trusted: BTreeSet<String>,
    /// The next tick begins the watch over the holdback: what stable did in earlier releases.
    cuts_over: Option<Hours>,
    fuse: Trips,
    proxies: Vec<ProxyTrip>,
    probing: Probing,
    saved_ms: u64,
    saved_verdict: Option<Verdict>,
    /// Kept for the record.
    pub noted: Noted,
}

/// What a tick may know beside the reports.
#[derive(Clone, Copy)]
pub struct Sees<'a> {
    /// What the reports add up to; `None`: nothing new was looked at.
    pub facts: Option<&'a Facts>,
    /// Endpoints that answer.
    pub ready: PerColor<u32>,
    /// Whether a proxy's word is never left out.
    pub trusts: &'a dyn Fn(&str) -> bool,
}

/// What a release is judged by, from its begin to its end.
pub struct Terms {
    /// The judge's parameters.
    pub analysis: Analysis,
    /// What their unit of chance was chosen by.
    pub earlier: Option<Earlier>,
    /// What the filter looks for.
    pub looked_for: LookedFor,
}

/// Moments for the record, Unix ms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    /// First failure of the candidate's present run of failures.
    pub first_bad_ms: Option<u64>,
    /// When it was condemned.
    pub cap_ms: Option<u64>,
}

/// What stands beside the tests.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Rules {
    t_ms: u64,
    dead: DeadRule,
    is_dead: bool,
    fuse: bool,
    /// Completed and failed so far, (candidate, stable).
    counted: [(u64, u64); 2],
    /// Candidate requests started before the present share.
    step_base: u64,
    /// From when on a request counts as hung.
    #[serde(default)]
    hang: Hang,
    /// Proxies on whose word alone a condemnation would rest.
    #[serde(default)]
    closed: BTreeSet<String>,
    /// Errors by second, for the next release.
    #[serde(default)]
    seconds: Seconds,
    /// What each completed hour by hour, (candidate, stable).
    #[serde(default)]
    hours: [Hours; 2],
}

/// Everything that a restarted controller needs to go on.
#[derive(Serialize, Deserialize)]
struct Saved {
    release: u32,
    started_ms: u64,
    rules: Rules,
    noted: Noted,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    earlier: Option<Earlier>,
    #[serde(default)]
    predictions: Option<PredictionParams>,
    #[serde(default)]
    events: Option<Events>,
    #[serde(default)]
    decided: Option<Evidence>,
    judge: Checkpoint,
    intake: IntakeCheckpoint,
}

// === impl Trial ===

impl Trial {
    /// A trial that begins now.
    pub fn begin(id: ServiceId, release: u32, stable: Color, terms: Terms, now_ms: u64) -> Option<Trial> {
        let Terms { analysis, earlier, looked_for } = terms;
        let absolute = analysis.p_ceiling.is_some();
        let judge = match Judge::new(analysis) {
            Ok(judge) => judge,
            Err(error) => {
                tracing::error!(release, %error, "the release cannot be judged");
                return None;
            }
        };
        Some(Trial {
            release,
            id,
            stable,
            started_ms: aligned(now_ms),
            judge,
            log_e: 0.0,
            decided: None,
            decided_by: None,
            rules: Rules::default(),
            share: Bps::ZERO,
            absolute,
            earlier,
            looked_for,
            trusted: BTreeSet::new(),
            cuts_over: None,
            fuse: Trips::Quiet,
            proxies: Vec::new(),
            probing: Probing::default(),
            saved_ms: 0,
            saved_verdict: None,
            noted: Noted::default(),
        })
    }

    /// Goes on from a checkpoint of this release, if it is one.
    pub fn restore(
        bytes: &[u8],
        id: ServiceId,
        release: u32,
        stable: Color,
        intake: &mut Intake,
        now_ms: u64,
    ) -> Option<Trial> {
        let saved: Saved = crate::home::Versioned::read(bytes)
            .inspect_err(|error| tracing::error!(release, %error, "the judge's checkpoint cannot be read"))
            .ok()?;
        if saved.release != release {
            return None;
        }
        let judge = Judge::restore(saved.judge).ok()?;
        intake.restore(id, release, saved.intake, now_ms);
        // After a reboot the clock began anew: the trial goes on from where it was. A tick in the future would put it
        // to sleep until the new clock is there.
        let started_ms = if saved.started_ms.saturating_add(saved.rules.t_ms) <= now_ms {
            saved.started_ms
        } else {
            aligned(now_ms.saturating_sub(saved.rules.t_ms))
        };
        let absolute = judge.analysis().p_ceiling.is_some();
        Some(Trial {
            release,
            id,
            stable,
            started_ms,
            absolute,
            earlier: saved.earlier,
            looked_for: LookedFor { predictions: saved.predictions, events: saved.events },
            trusted: BTreeSet::new(),
            cuts_over: None,
            judge,
            log_e: 0.0,
            decided: saved.decided,
            decided_by: None,
            share: Bps::ZERO,
            fuse: if saved.rules.fuse { Trips::Global } else { Trips::Quiet },
            rules: saved.rules,
            proxies: Vec::new(),
            probing: Probing::default(),
            saved_ms: 0,
            saved_verdict: None,
            noted: saved.noted,
        })
    }

    /// When the next tick is due.
    pub fn next_tick_ms(&self) -> u64 {
        self.started_ms + self.rules.t_ms + TICK_MS
    }

    /// The judge's parameters.
    pub fn analysis(&self) -> &Analysis {
        self.judge.analysis()
    }

    /// What the present share asks for.
    pub fn at_share(&mut self, share: Bps, facts: &Facts) {
        if share != self.share {
            self.share = share;
            self.rules.seconds.at_share(self.rules.t_ms, share);
            self.rules.step_base = facts.totals.get(self.stable.other()).started;
            // On the way back nothing is asked for: the record keeps what the last share asked.
            if share > Bps::ZERO {
                self.judge.require(Requirement::for_share(share, self.absolute));
            }
        }
    }

    /// From the next tick on the holdback is the control, and stable's past, of earlier releases and of this one, the
    /// second opinion. Being told again changes nothing.
    pub fn cut_over(&mut self, earlier: impl FnOnce() -> Hours) {
        self.cuts_over = (!self.judge.is_cut_over()).then(earlier);
    }

    /// What both colors carry.
    fn load(&self, facts: &Facts, ready: PerColor<u32>) -> Load {
        let of = |color: Color| ColorLoad {
            ready: *ready.get(color),
            in_flight: facts.totals.get(color).in_flight,
        };
        Load { green: of(self.stable.other()), blue: of(self.stable) }
    }

    /// Judges up to now. The rows that arrived meanwhile belong to the newest tick. `seen` is told the newest tick.
    pub fn tick(
        &mut self,
        now_ms: u64,
        wall_ms: u64,
        intake: &mut Intake,
        sees: Sees<'_>,
        mut seen: impl FnMut(u64, &[Row], &Conditions),
    ) {
        let Sees { facts, ready, trusts } = sees;
        let until = now_ms.saturating_sub(self.started_ms) / TICK_MS * TICK_MS;
        while self.rules.t_ms + TICK_MS < until {
            self.rules.t_ms += TICK_MS;
            self.judge.tick(self.rules.t_ms, &[]);
        }
        if self.rules.t_ms >= until {
            return;
        }
        self.rules.t_ms = until;
        let rows = match (facts, self.judge.analysis().mode) {
            (None, _) => Vec::new(),
            (_, Mode::Sessions) => intake.rows(self.id, self.release, self.stable),
            (_, Mode::PerError) => intake.rows_by_request(self.id, self.release, self.stable),
            (_, Mode::Robust) => intake.rows_by_second(self.id, self.release, self.stable),
        };
        let load = facts.filter(|_| !rows.is_empty()).map(|facts| self.load(facts, ready));
        let [_, stable] = &self.rules.hours;
        let cutover = self.cuts_over.take().map(|earlier| earlier.and(stable).before(wall_ms));
        let trusted = self.newly_trusted(&rows, trusts);
        let conditions = Conditions { load, cutover, trusted };
        self.log_e = self.judge.tick_under(until, &rows, &conditions).log_e;
        seen(until, &rows, &conditions);
        self.apply_rules(until, wall_ms, facts);
        self.close_sole_witness(!rows.is_empty());
        if let (Some(cause), None) = (self.condemned(), self.noted.cap_ms) {
            self.noted.cap_ms = Some(wall_ms);
            self.decided = Some(self.judge.evidence());
            self.decided_by = Some(self.judge.record());
            let log_e = self.log_e;
            tracing::info!(
                release = self.release,
                cause = cause.as_str(),
                t_ms = until,
                log_e,
                "condemned: {cause}"
            );
        }
    }

    /// Proxies that are trusted and were not told so; those that speak for the first time among them.
    fn newly_trusted(&mut self, rows: &[Row], trusts: &dyn Fn(&str) -> bool) -> Vec<String> {
        let is_new = |row: &&Row| trusts(&row.proxy) && !self.trusted.contains(&row.proxy);
        let new: BTreeSet<String> = rows.iter().filter(is_new).map(|row| row.proxy.clone()).collect();
        self.trusted.extend(new.iter().cloned());
        new.into_iter().collect()
    }

    /// Why the candidate is condemned, if it is.
    pub fn condemned(&self) -> Option<Cause> {
        if self.rules.is_dead {
            Some(Cause::Dead)
        } else if self.rules.fuse {
            Some(Cause::Fuse)
        } else if self.judge.verdict() == Verdict::Rollback {
            Some(Cause::Verdict)
        } else {
            None
        }
    }

    /// For the planner.
    pub fn judged(&self) -> Judged {
        Judged {
            release: self.release,
            share: self.share,
            verdict: self.judge.verdict(),
            dead: self.rules.is_dead,
            fuse: self.rules.fuse,
        }
    }

    /// For people: what it was decided on, or as it is now.
    pub fn evidence(&self) -> Evidence {
        self.decided.clone().unwrap_or_else(|| self.judge.evidence())
    }

    /// The judge behind [`Trial::evidence`], for the record; `None` if a restart came between.
    pub fn books(&self) -> Option<Checkpoint> {
        match &self.decided {
            Some(_) => self.decided_by.clone(),
            None => Some(self.judge.record()),
        }
    }

    /// What one draw of chance is, and why.
    pub fn chance(&self) -> Chance {
        let mode = self.judge.analysis().mode;
        Chance { mode, noisy: self.is_noisy(), earlier: self.earlier }
    }

    /// Whether two parts of stable that should be alike differ.
    pub fn is_noisy(&self) -> bool {
        self.judge.is_noisy()
    }

    /// How evenly the errors came of the color that serves after this release.
    pub fn dispersion(&self, promoted: bool) -> Option<Dispersion> {
        self.rules.seconds.dispersion(promoted)
    }

    /// What the color that serves after this release completed hour by hour.
    pub fn hours(&self, promoted: bool) -> Hours {
        let [candidate, stable] = &self.rules.hours;
        if promoted { candidate.clone() } else { stable.clone() }
    }

    /// For the recorder.
    pub fn begun<'a>(&'a self, service: &'a str) -> Begun<'a> {
        Begun {
            service,
            release: self.release,
            analysis: self.judge.analysis(),
            tick_ms: TICK_MS,
            from_ms: self.rules.t_ms,
        }
    }

    /// Time without a byte from upstream from which on a request counts as hung.
    pub fn hang_ms(&self) -> u64 {
        self.rules.hang.ms()
    }

    /// What the filter looks for in answers.
    pub fn looked_for(&self) -> &LookedFor {
        &self.looked_for
    }

    /// The newest tick.
    pub fn t_ms(&self) -> u64 {
        self.rules.t_ms
    }

    /// Candidate requests started at the present share.
    pub fn step_requests(&self, facts: &Facts) -> u64 {
        facts.totals.get(self.stable.other()).started.saturating_sub(self.rules.step_base)
    }

    /// A proxy whose fuse tripped for a local reason: a few requests may probe it, but not at once again and again.
    pub fn rearm(&self, proxy: &str) -> Option<Rearm> {
        let Trips::Local(names) = &self.fuse else { return None };
        let tripped = self.proxies.iter().find(|tripped| tripped.proxy == proxy)?;
        let due = names.iter().any(|name| name == proxy) && self.probing.is_due(self.rules.t_ms, tripped);
        due.then_some(Rearm {
            id: self.id,
            release: self.release,
            trip: tripped.trip,
            probe: trips::PROBE_REQUESTS,
        })
    }

    /// Proxies that condemn the candidate all alone: a lie, or a fault of theirs. The candidate gets nothing there until
    /// the release ends; what the others say decides.
    pub fn closed(&self) -> &BTreeSet<String> {
        &self.rules.closed
    }

    fn close_sole_witness(&mut self, news: bool) {
        if !news || self.condemned().is_some() {
            return;
        }
        if let Some(proxy) = self.judge.sole_witness()
            && !self.rules.closed.contains(proxy)
        {
            tracing::warn!(
                release = self.release,
                proxy,
                "Envoy {proxy} alone condemns the candidate: it gets no more requests there, the others decide"
            );
            self.rules.closed.insert(proxy.to_owned());
        }
    }

    /// A checkpoint if one is due: at each change of the verdict, and every ten seconds.
    pub fn due_checkpoint(&mut self, now_ms: u64, intake: &Intake) -> Option<Vec<u8>> {
        let verdict = if self.condemned().is_some() { Verdict::Rollback } else { self.judge.verdict() };
        let late = now_ms.saturating_sub(self.saved_ms) >= CHECKPOINT_EVERY_MS;
        if !late && Some(verdict) == self.saved_verdict {
            return None;
        }
        self.saved_ms = now_ms;
        self.saved_verdict = Some(verdict);
        self.checkpoint(intake)
    }

    /// A checkpoint of this moment.
    pub fn checkpoint(&self, intake: &Intake) -> Option<Vec<u8>> {
        let saved = Saved {
            release: self.release,
            started_ms: self.started_ms,
            rules: self.rules.clone(),
            noted: self.noted,
            earlier: self.earlier,
            predictions: self.looked_for.predictions.clone(),
            events: self.looked_for.events.clone(),
            decided: self.decided.clone(),
            judge: self.judge.checkpoint(),
            intake: intake.checkpoint(self.id, self.release),
        };
        crate::home::Versioned::bytes(saved).ok()
    }

    fn apply_rules(&mut self, t_ms: u64, wall_ms: u64, facts: Option<&Facts>) {
        let Some(facts) = facts else {
            self.rules.is_dead |= self.rules.dead.tick(t_ms, DeadInput::default());
            return;
        };
        self.rules.hang.see(t_ms, facts.totals.get(self.stable));
        let now = [self.stable.other(), self.stable].map(|color| {
            let tally: &Tally = facts.totals.get(color);
            (tally.completed, tally.errors)
        });
        let [candidate, stable] = [0, 1].map(|role| {
            let now = now.get(role).copied().unwrap_or_default();
            let before = self.rules.counted.get(role).copied().unwrap_or_default();
            (now.0.saturating_sub(before.0), now.1.saturating_sub(before.1))
        });
        self.rules.counted = now;
        self.rules.seconds.add(t_ms, candidate.1, stable.1);
        for (hours, (n, errors)) in self.rules.hours.iter_mut().zip([candidate, stable]) {
            hours.add(wall_ms, n, errors);
        }
        if candidate.1 > 0 && self.noted.first_bad_ms.is_none() {
            self.noted.first_bad_ms = Some(wall_ms);
        } else if candidate.0 > candidate.1 && candidate.1 == 0 && self.condemned().is_none() {
            self.noted.first_bad_ms = None;
        }
        self.rules.is_dead |= self.rules.dead.tick(
            t_ms,
            DeadInput {
                candidate_completed: candidate.0,
                candidate_errors: candidate.1,
                stable_completed: stable.0,
                stable_errors: stable.1,
            },
        );
        self.proxies = facts
            .proxies
            .iter()
            .map(|proxy| ProxyTrip {
                proxy: proxy.proxy.clone(),
                trip: proxy.tripped,
                candidate_started: *proxy.started.get(self.stable.other()),
            })
            .collect();
        self.probing.see(t_ms, &self.proxies);
        self.fuse = trips::weigh(&self.proxies, self.log_e);
        self.rules.fuse |= self.fuse == Trips::Global;
    }
}

/// All trials tick at the same moments, so that one reply can wait for all of them.
fn aligned(now_ms: u64) -> u64 {
    now_ms / TICK_MS * TICK_MS
}

#[cfg(test)]
mod tests {
    use super::*;
    use hueshift_core::contract::{LotteryReport, PlanReport, Report};
    use hueshift_core::judge::history::Window;
    use std::collections::BTreeMap;

    const ID: ServiceId = ServiceId::from_bytes([7; 8]);
    const LIMIT: u16 = 1_000;

    /// What one Envoy counts in a second, (candidate, stable): requests and failures, each in a session of its own.
    type Second = ((u64, u64), (u64, u64));

    const FINE: Second = ((10, 0), (90, 0));
    const FORGES: Second = ((10, 6), (90, 0));

    fn terms(analysis: Analysis) -> Terms {
        Terms { analysis, earlier: None, looked_for: LookedFor::default() }
    }

    /// A release before its judge, on some Envoys.
    struct Bench {
        trial: Trial,
        intake: Intake,
        second: u64,
        totals: Vec<PerColor<Tally>>,
        tripped: Vec<u32>,
        workers: u64,
        /// How long a lottery lasts, s.
        lottery_s: u64,
        /// How long after a full second reports come.
        late_ms: u64,
        /// Whether all of stable's failures are the negative control's.
        noisy: bool,
        /// Unix ms at its begin.
        wall_ms: u64,
        /// What the judge received.
        seen: BTreeMap<u64, (Vec<Row>, Conditions)>,
    }

    impl Bench {
        fn new(envoys: usize) -> Bench {
            Bench::of(Analysis::live(), envoys)
        }

        fn of(analysis: Analysis, envoys: usize) -> Bench {
            Bench {
                trial: Trial::begin(ID, 1, Color::Blue, terms(analysis), 0).unwrap(),
                intake: Intake::default(),
                second: 0,
                totals: vec![PerColor::default(); envoys],
                tripped: vec![0; envoys],
                workers: 1,
                lottery_s: 1_000_000,
                late_ms: 0,
                noisy: false,
                wall_ms: 0,
                seen: BTreeMap::new(),
            }
        }

        fn pass(&mut self, seconds: u64, of: &[Second]) {
            for _ in 0..seconds {
                self.second += 1;
                for (number, second) in of.iter().enumerate() {
                    self.report(number, second);
                }
                let now_ms = self.second * 1_000 + self.late_ms;
                let facts = self.intake.facts(ID, 1, now_ms);
                let ready = PerColor::default();
                let sees = Sees { facts: Some(&facts), ready, trusts: &|_| false };
                self.trial.at_share(Bps::new(LIMIT).unwrap(), &facts);
                let seen = |t_ms, rows: &[Row], conditions: &Conditions| {
                    self.seen.insert(t_ms, (rows.to_vec(), conditions.clone()));
                };
                self.trial.tick(now_ms, self.wall_ms + now_ms, &mut self.intake, sees, seen);
            }
        }

        fn report(&mut self, number: usize, ((candidate, bad), (stable, stable_bad)): &Second) {
            let totals = &mut self.totals[number];
            for (tally, (n, errors)) in
                [(&mut totals.green, (candidate, bad)), (&mut totals.blue, (stable, stable_bad))]
            {
                tally.started += n;
                tally.completed += n;
                tally.errors += errors;
                *tally.first_byte.entry(250).or_default() += n - errors;
            }
            // A ninth of stable's requests; of its failures as many as come whole, or all.
            let (n, errors) = (stable / 9, if self.noisy { *stable_bad } else { stable_bad / 9 });
            let control = &mut totals.blue.control;
            control.started += n;
            control.completed += n;
            control.errors += errors;
            // Sessions that no other Envoy and no other second has.
            let first = (self.second * 64 + u64::try_from(number).unwrap() * 8) % u64::from(LIMIT);
            let error_slots = (first..first + bad).map(|slot| u16::try_from(slot).unwrap()).collect();
            let epoch = self.second / self.lottery_s + 1;
            let lottery = LotteryReport {
                epoch,
                limit: Bps::new(LIMIT).unwrap(),
                tallies: totals.clone(),
                error_slots,
                ..LotteryReport::default()
            };
            let plan = PlanReport {
                id: ID,
                release: 1,
                epoch,
                tripped: self.tripped[number],
                lotteries: vec![lottery],
            };
            let (proxy, seq) = (format!("gw-{number}"), self.second);
            let vm = self.second % self.workers + 1;
            let report = Report { proxy, vm, incarnation: 1, seq, plans: vec![plan], ..Report::default() };
            self.intake.take(&report, self.second * 1_000);
        }
    }

    #[test]
    fn an_envoy_that_alone_condemns_is_closed_alone() {
        let mut bench = Bench::new(4);
        bench.pass(30, &[FINE, FORGES, FINE, FINE]);
        assert_eq!(bench.trial.condemned(), None);
        assert_eq!(bench.trial.closed().iter().collect::<Vec<_>>(), ["gw-1"]);
        let text = bench.trial.checkpoint(&bench.intake).unwrap();
        let read = Trial::restore(&text, ID, 1, Color::Blue, &mut Intake::default(), 30_000).unwrap();
        assert_eq!(read.closed().len(), 1, "a restart opens nothing");
    }

    #[test]
    fn what_several_envoys_say_condemns_and_closes_nobody() {
        let mut bench = Bench::new(4);
        bench.pass(30, &[FINE, FORGES, FORGES, FORGES]);
        assert_eq!((bench.trial.condemned(), bench.trial.closed().len()), (Some(Cause::Verdict), 0));
    }

    #[test]
    fn a_local_trip_is_probed_after_a_pause_and_by_its_own_envoy_alone() {
        let mut bench = Bench::new(12);
        bench.pass(1, &[FINE; 12]);
        bench.tripped[3] = 1;
        bench.pass(1, &[FINE; 12]);
        assert_eq!(bench.trial.rearm("gw-3"), None, "not at once");
        bench.pass(5, &[FINE; 12]);
        assert_eq!(bench.trial.rearm("gw-3").map(|rearm| rearm.trip), Some(1));
        assert_eq!(bench.trial.rearm("gw-4"), None);
        bench.tripped[3] = 2;
        bench.pass(6, &[FINE; 12]);
        assert_eq!(bench.trial.rearm("gw-3"), None, "the second pause is twice as long");
        bench.pass(5, &[FINE; 12]);
        assert_eq!(bench.trial.rearm("gw-3").map(|rearm| rearm.trip), Some(2));
        assert_eq!(bench.trial.condemned(), None);
    }

    #[test]
    fn many_trips_are_the_candidates_own_fault() {
        let mut bench = Bench::new(12);
        bench.pass(1, &[FINE; 12]);
        bench.tripped[..3].fill(1);
        bench.pass(1, &[FINE; 12]);
        assert_eq!((bench.trial.condemned(), bench.trial.rearm("gw-0")), (Some(Cause::Fuse), None));
    }

    #[test]
    fn the_filter_is_told_when_a_request_hangs_once_stable_was_watched() {
        let mut bench = Bench::new(2);
        bench.pass(3, &[FINE; 2]);
        assert_eq!(bench.trial.hang_ms(), 30_000);
        bench.pass(5, &[FINE; 2]);
        assert_eq!(bench.trial.hang_ms(), 5_000);
    }

    /// What is judged live, what is judged again from what it received, and what is computed again from the record.
    fn agree(bench: &Bench) {
        let analysis = bench.trial.analysis().clone();
        let mut again = Judge::new(analysis).unwrap();
        again.require(Requirement::for_share(Bps::new(LIMIT).unwrap(), false));
        for t_ms in (TICK_MS..=bench.trial.t_ms()).step_by(10) {
            let (rows, conditions) = bench.seen.get(&t_ms).cloned().unwrap_or_default();
            again.tick_under(t_ms, &rows, &conditions);
        }
        // Not the latch of the moment that it was decided at.
        let live = bench.trial.judge.evidence();
        assert_eq!(again.evidence(), live);
        let text = serde_json::to_string(&bench.trial.judge.record()).unwrap();
        assert_eq!(Judge::recompute(serde_json::from_str(&text).unwrap()).unwrap(), live);
    }

    #[test]
    fn by_the_second_a_burst_is_one_draw_and_a_fault_is_found_live_and_again() {
        let robust = Analysis { mode: Mode::Robust, ..Analysis::live_per_request() };
        for (analysis, condemned) in [(robust.clone(), false), (Analysis::live_per_request(), true)] {
            let mut bench = Bench::of(analysis, 1);
            bench.late_ms = 370;
            bench.pass(2, &[FINE]);
            // Ten failures at once, which by chance are all the candidate's.
            bench.pass(1, &[((10, 10), (90, 0))]);
            bench.pass(2, &[FINE]);
            let by_judge = bench.trial.judge.verdict() == Verdict::Rollback;
            assert_eq!(by_judge, condemned, "{:?}", bench.trial.evidence().metrics);
            agree(&bench);
        }
        let mut bench = Bench::of(robust, 1);
        bench.late_ms = 370;
        bench.pass(40, &[((10, 3), (90, 1))]);
        assert_eq!(bench.trial.condemned(), Some(Cause::Verdict));
        agree(&bench);
    }

    #[test]
    fn a_noisy_environment_holds_and_requests_are_no_draws_any_more() {
        let mut bench = Bench::of(Analysis::live_per_request(), 1);
        bench.late_ms = 370;
        bench.noisy = true;
        for second in 0..60 {
            bench.pass(1, &[if second % 5 == 0 { ((10, 1), (90, 9)) } else { FINE }]);
        }
        assert!(bench.trial.is_noisy());
        assert_eq!((bench.trial.judge.verdict(), bench.trial.condemned()), (Verdict::Hold, None));
        assert!(bench.trial.chance().noisy);
        agree(&bench);
    }

    #[test]
    fn a_release_tells_the_next_one_how_stables_errors_came() {
        for (clumped, of) in [(false, ((10, 10), (90, 1))), (true, ((10, 10), (90, 0)))] {
            let mut bench = Bench::new(1);
            for second in 0..200 {
                bench.pass(1, &[if clumped && second % 10 == 0 { (FINE.0, (90, 10)) } else { of }]);
            }
            let told = bench.trial.dispersion(false).unwrap();
            assert_eq!(told.is_clumped(), clumped, "{told:?}");
            assert_eq!(bench.trial.dispersion(true), None, "it never served");
            let text = bench.trial.checkpoint(&bench.intake).unwrap();
            let read = Trial::restore(&text, ID, 1, Color::Blue, &mut Intake::default(), 200_000).unwrap();
            assert_eq!(read.dispersion(false), Some(told));
        }
    }

    #[test]
    fn a_cutover_is_held_against_the_same_hour_of_earlier_releases() {
        let day_ms = 24 * 3_600_000;
        let mut yesterday = Bench::new(1);
        yesterday.wall_ms = 400 * day_ms;
        yesterday.pass(60, &[((10, 0), (90, 3))]);
        let saved = yesterday.trial.checkpoint(&yesterday.intake).unwrap();
        let read = Trial::restore(&saved, ID, 1, Color::Blue, &mut Intake::default(), 60_000).unwrap();
        let (stable, candidate) = (read.hours(false), read.hours(true));
        assert_eq!(stable, yesterday.trial.hours(false), "a restart forgets nothing");
        let cut_over = |earlier: &Hours| {
            let mut today = Bench::new(1);
            today.wall_ms = 401 * day_ms;
            today.pass(10, &[FINE]);
            today.trial.cut_over(|| earlier.clone());
            today.pass(20, &[((90, 3), (10, 0))]);
            today.trial.cut_over(|| panic!("it was told"));
            let told: Vec<_> = today.seen.values().filter_map(|(_, told)| told.cutover.clone()).collect();
            let log_e = today.trial.judge.evidence().metrics.history.unwrap();
            agree(&today);
            (told.into_iter().map(|history| history.errors).collect::<Vec<_>>(), log_e)
        };
        let (told, log_e) = cut_over(&stable);
        assert_eq!(told, [vec![Window { n: 5_400, errors: 180 }]]);
        assert!(log_e <= 0.0, "it fails as often as yesterday at this hour: {log_e}");
        let (told, log_e) = cut_over(&candidate);
        assert_eq!(told, [vec![]], "600 requests are too few");
        assert!(log_e > 10.0, "beside the ten seconds before it is worse: {log_e}");
    }

    #[test]
    fn what_a_large_fleet_leaves_behind_fits_an_object() {
        let mut bench = Bench::new(50);
        bench.workers = 4;
        bench.lottery_s = 10;
        bench.pass(60, &[((10, 1), (90, 1)); 50]);
        let checkpoint = bench.trial.checkpoint(&bench.intake).unwrap();
        let packed = crate::mesh::packed::pack(&checkpoint);
        assert!(packed.len() <= crate::api::ReleaseStatus::MAX_CHECKPOINT, "{}", packed.len());
        let record = serde_json::to_vec(&bench.trial.books().unwrap()).unwrap();
        assert!(record.len() <= 512 * 1024, "{}", record.len());
    }
}
