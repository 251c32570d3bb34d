//! Who judges a simulated release: ours, another's, or a stand-in.

use hueshift::rivals::Rival;
use hueshift_core::judge::dispersion::Dispersion;
use hueshift_core::judge::line::MetricLogs;
use hueshift_core::judge::seconds::Seconds;
use hueshift_core::judge::{Analysis, Conditions, Judge, Requirement, Row, Verdict};
use hueshift_core::share::Bps;
use std::collections::BTreeMap;

/// Judges one release.
pub trait Rule {
    /// The candidate's share changed, before the next tick.
    fn at_share(&mut self, _share: f64) {}

    /// Takes the rows of a tick, and what is known beside them.
    fn tick(&mut self, t_ms: u64, rows: &[Row], conditions: &Conditions) -> Word;
}

/// What a rule says after a tick.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Word {
    /// Its verdict; `Certified` for the present share.
    pub verdict: Verdict,
    /// Evidence of each metric as if it were judged alone, where it has any.
    pub alone: MetricLogs,
}

/// Our judge, as the engine uses it: each share asks for its own certificate.
pub struct Ours {
    judge: Judge,
    absolute: bool,
}

/// Judges nothing: it counts stable's errors by the second, as a release does for the next one.
#[derive(Default)]
pub struct Foretells {
    seconds: Seconds,
    /// Stable's errors by proxy and lottery, as the newest row had them.
    rows: BTreeMap<(String, u64), i64>,
}

/// A stand-in that rolls everything back.
pub struct AlwaysFires;

/// A stand-in that lets everything pass.
pub struct NeverFires;

/// A stand-in that never comes to a verdict.
pub struct SaysNothing;

// === impl Word ===

impl Word {
    fn only(verdict: Verdict) -> Self {
        Word { verdict, alone: MetricLogs::default() }
    }
}

fn bps(share: f64) -> Bps {
    Bps::new((share * 10_000.0).round() as u16).unwrap_or(Bps::ALL)
}

// === impl Ours ===

impl Ours {
    /// With these parameters; an absolute certificate is in force as in the product.
    pub fn new(analysis: Analysis) -> Self {
        Ours { judge: Judge::new(analysis).expect("a setting's parameters are right"), absolute: true }
    }
}

impl Rule for Ours {
    fn at_share(&mut self, share: f64) {
        self.judge.require(Requirement::for_share(bps(share), self.absolute));
    }

    fn tick(&mut self, t_ms: u64, rows: &[Row], conditions: &Conditions) -> Word {
        self.judge.tick_under(t_ms, rows, conditions);
        Word { verdict: self.judge.verdict(), alone: self.judge.alone() }
    }
}

impl Foretells {
    /// How evenly stable's errors came.
    pub fn dispersion(&self) -> Option<Dispersion> {
        self.seconds.dispersion(false)
    }
}

impl Rule for Foretells {
    fn at_share(&mut self, share: f64) {
        self.seconds.at_share(0, bps(share));
    }

    fn tick(&mut self, t_ms: u64, rows: &[Row], _: &Conditions) -> Word {
        let mut errors = 0;
        for row in rows {
            let now = row.blue.as_ref().and_then(|side| side.errors).unwrap_or(0);
            let before = self.rows.insert((row.proxy.clone(), row.epoch), now).unwrap_or(0);
            errors += (now - before).max(0) as u64;
        }
        self.seconds.add(t_ms, 0, errors);
        Word::only(Verdict::Continue)
    }
}

impl Rule for Rival {
    fn tick(&mut self, t_ms: u64, rows: &[Row], _: &Conditions) -> Word {
        Word::only(Rival::tick(self, t_ms, rows).verdict)
    }
}

impl Rule for AlwaysFires {
    fn tick(&mut self, _: u64, _: &[Row], _: &Conditions) -> Word {
        Word::only(Verdict::Rollback)
    }
}

impl Rule for NeverFires {
    fn tick(&mut self, _: u64, _: &[Row], _: &Conditions) -> Word {
        Word::only(Verdict::Certified)
    }
}

impl Rule for SaysNothing {
    fn tick(&mut self, _: u64, _: &[Row], _: &Conditions) -> Word {
        Word::only(Verdict::Continue)
    }
}
