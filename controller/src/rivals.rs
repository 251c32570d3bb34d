//! The rules of other release controllers, judging the same rows: so that anyone can compare.
//!
//! Written from their published behavior (Flagger's and Argo Rollouts' thresholds on a scraped success rate, Kayenta's
//! Mann-Whitney test on one point per minute), not from their code, and kinder than the products: no scrape delay, no
//! readiness check in the way, the verdict at the very check that fails. Each analysis lasts ten minutes; what
//! happens after it has passed is seen by none of them.
//!
//! What is deliberately absent: evidence. A rule answers yes or no, so the lines carry `log_e` 0 and no metrics.

mod argo;
mod flagger;
mod kayenta;
mod window;

pub use kayenta::{Shift, is_high};

use argo::Argo;
use flagger::Flagger;
use hueshift_core::judge::line::{Counted, MetricLogs};
use hueshift_core::judge::tally::{Outcome, Tally};
use hueshift_core::judge::{Analysis, Line, Metric, Row, Verdict};
use kayenta::Kayenta;
use std::fmt;
use window::{Limits, Tick};

/// Whose rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Rules {
    /// Every 30 s: success rate of the trailing minute below 99 % is a failed check; the fifth rolls back
    Flagger,
    /// Every 60 s, ten times: a success rate below 99 % is a failed measurement; one rolls back
    Argo,
    /// Every minute: Mann-Whitney over one point per minute and arm, 98 % confidence, tolerance 25 %
    Kayenta,
}

/// One of them, judging.
#[derive(Debug, Clone)]
pub struct Rival {
    rule: Rule,
    tally: Tally,
    counted: Counted,
    verdict: Verdict,
}

#[derive(Debug, Clone)]
enum Rule {
    Flagger(Flagger),
    Argo(Argo),
    Kayenta(Kayenta),
}

// === impl Rival ===

impl Rival {
    /// With its usual tolerance, or with `failures`: failed checks that roll back (Flagger's `threshold`, Argo's
    /// `failureLimit` + 1). Latency is looked at where `analysis` judges it and brings a reference to set a limit by.
    pub fn new(rules: Rules, failures: Option<u32>, analysis: &Analysis) -> Self {
        let limits = Limits::of(analysis);
        let rule = match rules {
            Rules::Flagger => Rule::Flagger(Flagger::new(failures.unwrap_or(flagger::THRESHOLD), limits)),
            Rules::Argo => Rule::Argo(Argo::new(failures.unwrap_or(argo::FAILURES), limits)),
            Rules::Kayenta => Rule::Kayenta(Kayenta::new(analysis.metrics.contains(&Metric::Latency))),
        };
        Rival { rule, tally: Tally::default(), counted: Counted::default(), verdict: Verdict::Continue }
    }

    /// Takes the rows of a tick; a rule without a tick at its check time checks at the next.
    pub fn tick(&mut self, t_ms: u64, rows: &[Row]) -> Line {
        let mut tick = Tick::default();
        for row in rows {
            if let Outcome::Accepted(delta) = self.tally.take(row) {
                tick.add(&delta);
            }
        }
        for (sum, more) in [
            (&mut self.counted.blue_requests, tick.stable.requests),
            (&mut self.counted.blue_errors, tick.stable.errors),
            (&mut self.counted.green_requests, tick.candidate.requests),
            (&mut self.counted.green_errors, tick.candidate.errors),
        ] {
            *sum = sum.saturating_add(more);
        }
        // Passed or failed: the analysis is over, nobody looks any more.
        if self.verdict == Verdict::Continue {
            self.verdict = match &mut self.rule {
                Rule::Flagger(rule) => rule.tick(t_ms, tick),
                Rule::Argo(rule) => rule.tick(t_ms, tick),
                Rule::Kayenta(rule) => rule.tick(t_ms, tick),
            };
        }
        Line {
            t_ms,
            verdict: self.verdict,
            log_e: 0.0,
            metrics: MetricLogs::default(),
            log_srm: 0.0,
            noisy: false,
            certified: Vec::new(),
            rows: self.tally.counts(),
            counted: self.counted,
        }
    }
}

// === impl Rules ===

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rules::Flagger => "Flagger's rule",
            Rules::Argo => "Argo Rollouts' rule",
            Rules::Kayenta => "Kayenta's rule",
        })
    }
}

#[cfg(test)]
mod tests;
