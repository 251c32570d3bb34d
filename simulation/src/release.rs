//! One release: requests arrive, are drawn, answered, counted and reported; the rule judges each tick.

use super::sessions::{Member, Population, SLOTS, buckets};
use super::{FaultKind, Liar, Outcome, Rule, Sessions, Setting};
use crate::chance::Chance;
use hueshift_core::contract::TOLD_MS;
use hueshift_core::judge::load::ColorLoad;
use hueshift_core::judge::{Conditions, History, Load, Metric, Mode, Row, Side, Verdict};
use std::collections::{BTreeMap, VecDeque};

/// One swing of the day, shortened so that a release sees it.
const DAY_MS: f64 = 600_000.0;
/// Lowest and highest histogram bucket.
const BUCKETS: (f64, f64) = (160.0, 415.0);
/// A hung request is counted as slow in this bucket once it is this old, ms.
const HANG_MS: u64 = 5_000;
/// A tick while nothing is to happen.
const LULL_TICK_MS: u64 = 1_000;
/// Predictions: bins, and how far one request's and one session's lie apart, in bins.
const BINS: usize = 20;
const SPREAD: f64 = 2.0;
/// Share of answers that are events, of a session in the middle: others have a few times more or less.
const EVENTS: f64 = 0.01;
/// Standard normal quantiles, so that a latency costs a look-up.
const QUANTILES: usize = 4_096;

/// Runs one release.
pub fn run(setting: &Setting, seed: u64, rule: &mut impl Rule) -> Outcome {
    Release::new(setting, seed).run(rule)
}

/// Stable's latencies at full load, a thousand sessions' worth.
pub(super) fn reference(setting: &Setting) -> BTreeMap<i32, u64> {
    let mut release = Release::new(setting, 0);
    let mut counts = BTreeMap::new();
    for _ in 0..10_000 {
        let pace = release.population.next(&mut release.chance).pace;
        let bucket = release.bucket(pace, 0, false);
        *counts.entry(i32::from(bucket)).or_default() += 1;
    }
    counts
}

struct Release<'a> {
    setting: &'a Setting,
    chance: Chance,
    /// Of answers' lengths: its own, so that the rest of a release does not depend on whether they are drawn.
    lengths: Chance,
    population: Population,
    books: Vec<Books>,
    /// Sum of proxy weights up to and including each.
    weights: Vec<f64>,
    /// Requests until the next arrival, at rate one.
    until_next: f64,
    /// Clients that fail until some time: (their session, until, when next).
    failing: Vec<(Member, f64)>,
    /// Candidate requests that hang, by the tick in which they count as slow: (time, proxy).
    hung: VecDeque<(u64, usize, u16)>,
    /// Slots with a first error, done, with a latency, per release.
    erred: Vec<bool>,
    done: Vec<bool>,
    timed: Vec<bool>,
    predicted: Vec<bool>,
    evented: Vec<bool>,
    /// The present rate over the mean one.
    wave: f64,
    /// Likewise of errors, since an incident began.
    incident: f64,
    /// Told to the rule with the next tick.
    cuts_over: bool,
    share: f64,
    /// When it was opened, ms.
    opened_ms: u64,
    epoch: u64,
    step: usize,
    /// How far the proxies' forgetting of what they told is from the judge's windows.
    phase_ms: u64,
    outcome: Outcome,
}

/// What a proxy counted in the present epoch.
#[derive(Default)]
struct Books {
    seq: u64,
    epoch: u64,
    blue: Counts,
    green: Counts,
    /// Started and completed requests of both when they were last said.
    said: ((i64, i64), (i64, i64)),
    /// Requests and errors of the negative control.
    control: (i64, i64),
    error_slots: Vec<u16>,
    done_slots: Vec<u16>,
    first_latency: Vec<(u16, i32)>,
    first_total: Vec<(u16, i32)>,
    first_predictions: Vec<(u16, i32)>,
    event_slots: Vec<u16>,
}

struct Counts {
    requests: i64,
    errors: i64,
    events: i64,
    started: i64,
    latency: Times,
    total: Times,
    predictions: [i64; BINS],
}

/// A histogram, and which of its buckets changed since it was said.
struct Times {
    counts: Vec<i64>,
    changed: Vec<u16>,
}

/// How many buckets more an answer takes in all than to its first byte: as long again in the middle.
fn lengths() -> &'static [f64] {
    use std::sync::OnceLock;
    static TABLE: OnceLock<Vec<f64>> = OnceLock::new();
    TABLE.get_or_init(|| normals().iter().map(|z| buckets((1.0 + (0.5 * z).exp()).ln())).collect())
}

fn normals() -> &'static [f64] {
    use std::sync::OnceLock;
    static TABLE: OnceLock<Vec<f64>> = OnceLock::new();
    TABLE.get_or_init(|| {
        // The quantiles at the middles of equal parts, by bisection on a sum of many uniform draws' limit: erf.
        (0..QUANTILES).map(|i| crate::chance::normal_quantile((i as f64 + 0.5) / QUANTILES as f64)).collect()
    })
}

// === impl Release ===

impl<'a> Release<'a> {
    fn new(setting: &'a Setting, seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let population = Population::new(setting.sessions, &mut chance);
        let mut sum = 0.0;
        let weights = setting.proxies.iter().map(|proxy| {
            sum += proxy.weight;
            sum
        });
        let slots = SLOTS as usize;
        let until_next = chance.exponential(1.0);
        Release {
            weights: weights.collect(),
            population,
            books: setting.proxies.iter().map(|_| Books::default()).collect(),
            until_next,
            failing: Vec::new(),
            hung: VecDeque::new(),
            erred: vec![false; slots],
            done: vec![false; slots],
            timed: vec![false; slots],
            predicted: vec![false; slots],
            evented: vec![false; slots],
            wave: 1.0,
            incident: 1.0,
            cuts_over: false,
            share: 0.0,
            opened_ms: 0,
            epoch: 0,
            step: 0,
            phase_ms: seed % (TOLD_MS / LULL_TICK_MS) * LULL_TICK_MS,
            outcome: Outcome::default(),
            lengths: Chance::new(!seed),
            chance,
            setting,
        }
    }

    fn run(mut self, rule: &mut impl Rule) -> Outcome {
        let setting = self.setting;
        self.open(0, setting.shares[0], rule);
        let threshold = (1.0 / setting.analysis.alpha).ln();
        let mut t_ms = 0;
        while t_ms < setting.duration_ms {
            let tick_ms = if t_ms < setting.lull_ms { LULL_TICK_MS } else { setting.tick_ms };
            t_ms += tick_ms;
            if (t_ms + self.phase_ms).is_multiple_of(TOLD_MS) {
                self.erred.fill(false);
                self.timed.fill(false);
                self.predicted.fill(false);
                self.evented.fill(false);
            }
            self.traffic(t_ms, tick_ms as f64 / 1_000.0);
            let rows = self.reports();
            let conditions = self.conditions();
            let word = rule.tick(t_ms, &rows, &conditions);
            for metric in Metric::ALL {
                if word.alone.get(metric).is_some_and(|log_e| log_e >= threshold)
                    && !self.outcome.fired.contains(&metric)
                {
                    self.outcome.fired.push(metric);
                }
            }
            match word.verdict {
                Verdict::Rollback => {
                    self.outcome.rollback_ms = Some(t_ms);
                    break;
                }
                Verdict::Certified if self.outcome.promoted_ms.is_none() => {
                    self.step += 1;
                    match (setting.shares.get(self.step), setting.holdback) {
                        (Some(share), _) => self.open(t_ms, *share, rule),
                        (None, holdback) => {
                            self.outcome.promoted_ms = Some(t_ms);
                            if let Some(share) = holdback {
                                self.cuts_over = true;
                                self.incident = setting.incident;
                                self.open(t_ms, share, rule);
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        self.outcome
    }

    fn open(&mut self, t_ms: u64, share: f64, rule: &mut impl Rule) {
        self.share = share;
        self.opened_ms = t_ms;
        self.epoch += 1;
        for books in &mut self.books {
            *books = Books { seq: books.seq, epoch: self.epoch, ..Books::default() };
        }
        rule.at_share(share);
    }

    fn traffic(&mut self, t_ms: u64, seconds: f64) {
        let setting = self.setting;
        let wave = 1.0 + setting.swing * (t_ms as f64 / DAY_MS * std::f64::consts::TAU).sin();
        self.wave = wave;
        self.until_next -= setting.rps * wave * seconds;
        while self.until_next <= 0.0 {
            self.until_next += self.chance.exponential(1.0);
            let member = self.population.next(&mut self.chance);
            self.request(t_ms, member, setting.errors * wave * self.incident);
        }
        self.burst(t_ms, seconds);
        while self.hung.front().is_some_and(|(due, ..)| *due <= t_ms) {
            if let Some((_, proxy, slot)) = self.hung.pop_front() {
                self.slow(proxy, slot);
            }
        }
        match setting.liar {
            Some(Liar::CandidateErrors(n)) => self.forge(n, true),
            Some(Liar::StableErrors(n)) => self.forge(n, false),
            None => {}
        }
    }

    fn proxy(&mut self) -> usize {
        if self.weights.len() == 1 {
            return 0;
        }
        let at = self.chance.unit() * self.weights[self.weights.len() - 1];
        self.weights.iter().position(|sum| at < *sum).unwrap_or(0)
    }

    fn request(&mut self, t_ms: u64, member: Member, errors: f64) {
        let setting = self.setting;
        let proxy = self.proxy();
        let is_candidate = f64::from(member.slot) < self.limit(proxy);
        let fault =
            setting.fault.filter(|fault| is_candidate && t_ms > fault.from_ms).map(|fault| fault.kind);
        let mut rate = errors * setting.proxies[proxy].errors;
        let (mut over, mut longer) = (0.0, 0.0);
        let mut harmed = false;
        match fault {
            Some(FaultKind::Errors(faulty)) => rate = faulty,
            Some(FaultKind::Slower(times)) => (over, harmed) = (buckets(times.ln()), true),
            Some(FaultKind::Longer(times)) => (longer, harmed) = (buckets(times.ln()), true),
            Some(FaultKind::Both(faulty, times)) => {
                (rate, over, harmed) = (faulty, buckets(times.ln()), true);
            }
            Some(FaultKind::Shift(_)) => harmed = true,
            Some(FaultKind::SlowTail(part, times)) if self.chance.unit() < part => {
                (over, harmed) = (buckets(times.ln()), true);
            }
            Some(FaultKind::Hang(part)) if self.chance.unit() < part => {
                self.outcome.candidate_requests += 1;
                self.outcome.bad += 1;
                self.books[proxy].green.started += 1;
                self.hung.push_back((t_ms + HANG_MS, proxy, member.slot));
                return;
            }
            _ => {}
        }
        if let Some((times, ms)) = setting.cold
            && is_candidate
            && t_ms <= self.opened_ms + ms
        {
            over += buckets(times.ln());
        }
        let error = self.chance.unit() < rate;
        let watched = setting.fault.is_none_or(|fault| t_ms > fault.from_ms);
        if is_candidate && watched {
            self.outcome.candidate_requests += 1;
            self.outcome.bad += u64::from(error || harmed);
        }
        self.complete(proxy, member.slot, is_candidate, error);
        if error {
            return;
        }
        if setting.draws(Metric::Custom) {
            let times = if let Some(FaultKind::Events(times)) = fault { times } else { 1.0 };
            let rate = (EVENTS * member.taste.exp() * times).min(0.5);
            if self.chance.unit() < rate {
                self.event(proxy, member.slot, is_candidate);
            }
        }
        if setting.draws(Metric::Latency) {
            let bucket = self.bucket(member.pace + over, proxy, is_candidate);
            self.time(proxy, member.slot, is_candidate, bucket, longer);
        }
        if setting.draws(Metric::Predictions) {
            let moved = if let Some(FaultKind::Shift(bins)) = fault { bins } else { 0.0 };
            self.predict(proxy, member, is_candidate, moved);
        }
    }

    fn event(&mut self, proxy: usize, slot: u16, is_candidate: bool) {
        let books = &mut self.books[proxy];
        let counts = if is_candidate { &mut books.green } else { &mut books.blue };
        counts.events += 1;
        if !std::mem::replace(&mut self.evented[usize::from(slot)], true) {
            books.event_slots.push(slot);
        }
    }

    fn limit(&self, proxy: usize) -> f64 {
        (self.share * self.setting.proxies[proxy].share * SLOTS as f64).round()
    }

    fn complete(&mut self, proxy: usize, slot: u16, is_candidate: bool, error: bool) {
        let at = usize::from(slot);
        // As the filter has it: where sessions stick there is none. The product asks for it where requests are the unit.
        let alone = self.setting.sessions == Sessions::PerRequest;
        let is_control = alone && !is_candidate && f64::from(slot) < 2.0 * self.limit(proxy);
        let books = &mut self.books[proxy];
        let counts = if is_candidate { &mut books.green } else { &mut books.blue };
        counts.requests += 1;
        counts.started += 1;
        counts.errors += i64::from(error);
        if is_control {
            books.control.0 += 1;
            books.control.1 += i64::from(error);
        }
        if error && !self.erred[at] {
            self.erred[at] = true;
            books.error_slots.push(slot);
        }
        if is_candidate && !self.done[at] {
            self.done[at] = true;
            books.done_slots.push(slot);
        }
    }

    /// What load alone makes of latency: a factor.
    fn stretch(&self, is_candidate: bool) -> f64 {
        let share = if is_candidate { self.share } else { 1.0 - self.share };
        1.0 / (1.0 - self.setting.latency.utilization * self.wave * share)
    }

    fn bucket(&mut self, over: f64, proxy: usize, is_candidate: bool) -> u16 {
        let latency = self.setting.latency;
        let times = self.stretch(is_candidate) * self.setting.proxies[proxy].slower;
        let z = normals()[(self.chance.bits() >> 52) as usize];
        let middle = buckets((latency.median_ms * 1_000.0 * times).ln() + latency.sigma * z);
        (middle + over).floor().clamp(BUCKETS.0, BUCKETS.1) as u16
    }

    /// Under sticky routing a slot's first answer is told apart, as the filter has it.
    fn time(&mut self, proxy: usize, slot: u16, is_candidate: bool, bucket: u16, longer: f64) {
        let total = self.setting.latency.has_total.then(|| {
            let more = lengths()[(self.lengths.bits() >> 52) as usize] + longer;
            (f64::from(bucket) + more).floor().clamp(BUCKETS.0, BUCKETS.1) as u16
        });
        if self.setting.analysis.mode == Mode::Sessions {
            let told = std::mem::replace(&mut self.timed[usize::from(slot)], true);
            if !told {
                self.books[proxy].first_latency.push((slot, i32::from(bucket)));
                self.books[proxy].first_total.extend(total.map(|bucket| (slot, i32::from(bucket))));
            }
        }
        let books = &mut self.books[proxy];
        let counts = if is_candidate { &mut books.green } else { &mut books.blue };
        counts.latency.add(bucket);
        // As the intake has it: where sessions are the unit, no histogram of requests. (The rivals look at this one.)
        if self.setting.analysis.mode != Mode::Sessions {
            total.into_iter().for_each(|bucket| counts.total.add(bucket));
        }
    }

    fn predict(&mut self, proxy: usize, member: Member, is_candidate: bool, moved: f64) {
        let z = normals()[(self.chance.bits() >> 52) as usize];
        let at = BINS as f64 / 2.0 + SPREAD * (member.taste + z) + moved;
        let bin = at.clamp(0.0, (BINS - 1) as f64) as usize;
        let books = &mut self.books[proxy];
        if self.setting.analysis.mode == Mode::Sessions
            && !std::mem::replace(&mut self.predicted[usize::from(member.slot)], true)
        {
            books.first_predictions.push((member.slot, bin as i32));
        }
        let counts = if is_candidate { &mut books.green } else { &mut books.blue };
        counts.predictions[bin] += 1;
    }

    /// What is known beside the rows: both colors have one endpoint.
    fn conditions(&mut self) -> Conditions {
        let load = self.setting.draws(Metric::Latency).then(|| {
            let mut of = |is_candidate: bool| {
                let share = if is_candidate { self.share } else { 1.0 - self.share };
                let seconds = self.setting.latency.median_ms / 1_000.0 * self.stretch(is_candidate);
                let mean = self.setting.rps * self.wave * share * seconds;
                ColorLoad { ready: 1, in_flight: (mean + self.chance.unit()) as u32 }
            };
            Load { green: of(true), blue: of(false) }
        });
        let cutover = std::mem::take(&mut self.cuts_over).then(History::default);
        Conditions { load, cutover, ..Conditions::default() }
    }

    fn slow(&mut self, proxy: usize, slot: u16) {
        if self.setting.draws(Metric::Latency) {
            let bucket = buckets((HANG_MS as f64 * 1_000.0).ln()) as u16;
            self.time(proxy, slot, true, bucket, 0.0);
        }
    }

    /// Clients that fail together or for a while, whatever their color.
    fn burst(&mut self, t_ms: u64, seconds: f64) {
        let Some(bursts) = self.setting.bursts else { return };
        if self.chance.unit() < bursts.per_second * seconds {
            let member = self.population.any(&mut self.chance);
            if bursts.mean_ms == 0.0 {
                (0..bursts.requests as u64).for_each(|_| self.request(t_ms, member, 1.0));
            } else {
                let until = t_ms as f64 + self.chance.exponential(bursts.mean_ms);
                self.failing.push((member, until));
            }
        }
        self.failing.retain(|(_, until)| *until > t_ms as f64);
        for at in 0..self.failing.len() {
            let (member, _) = self.failing[at];
            let mut due = bursts.requests * seconds;
            while due > 0.0 {
                if self.chance.unit() < due {
                    self.request(t_ms, member, 1.0);
                }
                due -= 1.0;
            }
        }
    }

    fn forge(&mut self, n: u64, candidate: bool) {
        let limit = self.limit(0) as u64;
        for _ in 0..n {
            // The worst it can do: a new slot of the right color each time, which uses up the others' slots too.
            let slot = if candidate {
                self.chance.below(limit.max(1))
            } else {
                limit + self.chance.below(SLOTS - limit)
            };
            let books = &mut self.books[0];
            let counts = if candidate { &mut books.green } else { &mut books.blue };
            counts.requests += 1;
            counts.started += 1;
            counts.errors += 1;
            books.error_slots.push(slot as u16);
        }
    }

    fn reports(&mut self) -> Vec<Row> {
        let mut rows = Vec::with_capacity(self.books.len());
        for proxy in 0..self.books.len() {
            if self.chance.unit() < self.setting.loss {
                continue; // what was new is said in the next one
            }
            if !self.books[proxy].has_news() {
                continue; // as the intake has it
            }
            let row = self.report(proxy);
            if self.chance.unit() < self.setting.loss {
                rows.push(row.clone());
            }
            rows.push(row);
        }
        rows
    }

    fn report(&mut self, proxy: usize) -> Row {
        let split = self.limit(proxy) / SLOTS as f64;
        let sessions = self.setting.analysis.mode == Mode::Sessions;
        let books = &mut self.books[proxy];
        books.seq += 1;
        books.said = ((books.blue.started, books.blue.requests), (books.green.started, books.green.requests));
        let (requests, errors) = (Some(books.control.0), Some(books.control.1));
        let control = Side { requests, started: requests, errors, ..Side::default() };
        let control = (books.control.0 > 0).then_some(control);
        let take = |slots: &mut Vec<u16>| if sessions { std::mem::take(slots) } else { Vec::new() };
        Row {
            proxy: format!("gw-{proxy:02}"),
            incarnation: 1,
            seq: books.seq,
            epoch: books.epoch,
            split,
            blue: Some(books.blue.said()),
            green: Some(books.green.said()),
            control: control.filter(|_| self.setting.analysis.mode == Mode::PerError),
            error_slots: take(&mut books.error_slots),
            done_slots: sessions.then(|| std::mem::take(&mut books.done_slots)),
            first_latency: std::mem::take(&mut books.first_latency),
            first_total: std::mem::take(&mut books.first_total),
            first_predictions: std::mem::take(&mut books.first_predictions),
            event_slots: take(&mut books.event_slots),
        }
    }
}

// === impl Books ===

impl Books {
    /// Whether anything happened since it was last said. (What shows more than a request follows from one.)
    fn has_news(&self) -> bool {
        let counts = |counts: &Counts| (counts.started, counts.requests);
        let timed = self.blue.latency.changed.is_empty() && self.green.latency.changed.is_empty();
        (counts(&self.blue), counts(&self.green)) != self.said || !timed
    }
}

// === impl Counts ===

impl Counts {
    /// What is written of them in a row.
    fn said(&mut self) -> Side {
        let (latency, total) = (self.latency.said(), self.total.said());
        let predictions = (0..).zip(self.predictions).filter(|(_, n)| *n > 0).collect();
        Side {
            requests: Some(self.requests),
            errors: Some(self.errors),
            events: Some(self.events).filter(|events| *events > 0),
            started: Some(self.started),
            latency,
            total,
            predictions,
        }
    }
}

// === impl Times ===

impl Times {
    fn add(&mut self, bucket: u16) {
        self.counts[usize::from(bucket) - BUCKETS.0 as usize] += 1;
        self.changed.push(bucket);
    }

    fn said(&mut self) -> BTreeMap<i32, i64> {
        let count = |bucket: u16| self.counts[usize::from(bucket) - BUCKETS.0 as usize];
        self.changed.drain(..).map(|bucket| (i32::from(bucket), count(bucket))).collect()
    }
}

impl Default for Times {
    fn default() -> Self {
        Times { counts: vec![0; (BUCKETS.1 - BUCKETS.0) as usize + 1], changed: Vec::new() }
    }
}

impl Default for Counts {
    fn default() -> Self {
        Counts {
            requests: 0,
            errors: 0,
            events: 0,
            started: 0,
            latency: Times::default(),
            total: Times::default(),
            predictions: [0; BINS],
        }
    }
}
