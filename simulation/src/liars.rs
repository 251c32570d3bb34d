//! One lying proxy of twelve: what its word can do to a healthy candidate and for a bad one, with restarts, by requests and
//! by sessions.

use super::healthy::passing;
use super::settings::{live, live_per_request};
use super::{Count, FaultKind, Liar, Ours, Proxy, Sessions, Setting, run_many};
use hueshift_core::judge::analysis::Witness;
use hueshift_core::judge::{Analysis, Metric, Mode};

/// Proxies, all alike.
const PROXIES: usize = 12;

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// A healthy candidate, honest proxies.
    Healthy,
    /// Errors of .5 % become 5 %, honest proxies.
    Honest,
    /// All answers become errors, honest proxies.
    HonestAll,
    /// The same 5 %, and one proxy forges two stable errors per tick.
    Hidden,
    /// A healthy candidate, and one proxy forges a candidate error per tick.
    Forged,
    /// The same 5 %, honest proxies of which one has 90 % of the traffic.
    Dominated,
}

/// The analyses: the product's, of errors alone, by requests and by sessions; with the rule or with a plain sum.
pub fn analyses(rule: bool) -> [(&'static str, Analysis); 2] {
    let of = |analysis| Analysis {
        metrics: vec![Metric::Errors],
        witness: rule.then_some(Witness::LeaveOneOut),
        ..analysis
    };
    [("by requests", of(live_per_request())), ("by sessions", of(live()))]
}

/// The world of a case.
pub fn setting(case: Case, analysis: Analysis) -> Setting {
    let sessions = if analysis.mode == Mode::Sessions { passing() } else { Sessions::PerRequest };
    let plain =
        Setting { proxies: vec![Proxy::EQUAL; PROXIES], sessions, ..Setting::plain(case.name(), analysis) };
    let bad = |setting: Setting| setting.with(FaultKind::Errors(0.05));
    match case {
        Case::Healthy => plain,
        Case::Honest => bad(plain),
        Case::HonestAll => plain.with(FaultKind::Errors(1.0)),
        Case::Hidden => bad(Setting { liar: Some(Liar::StableErrors(2)), ..plain }),
        Case::Forged => Setting { liar: Some(Liar::CandidateErrors(1)), ..plain },
        Case::Dominated => {
            let proxies = plain.proxies.iter().enumerate();
            let weight = |at| if at == 0 { 9.0 * (PROXIES - 1) as f64 } else { 1.0 };
            let proxies = proxies.map(|(at, proxy)| Proxy { weight: weight(at), ..*proxy }).collect();
            bad(Setting { proxies, ..plain })
        }
    }
}

/// Judges a case so often.
pub fn judged(case: Case, analysis: &Analysis, seed: u64, runs: u64) -> Count {
    let setting = setting(case, analysis.clone());
    run_many(&setting, seed, runs, || Ours::new(setting.analysis.clone()))
}

/// What came of it, in a line.
pub fn told(unit: &str, analysis: &Analysis, count: &Count) -> String {
    let rule = if analysis.witness.is_some() { "leave one out" } else { "plain sum" };
    let found = if count.delays().is_empty() {
        String::new()
    } else {
        let delays = count.delays();
        format!(
            ", mean {:.1} s, p95 {:.1} s, {:.0} candidate requests",
            delays.mean_s(),
            delays.quantile_s(0.95),
            count.mean_requests()
        )
    };
    format!(
        "{:44} {unit}, {rule:13} {:>4} of {} rolled back{found}",
        count.name,
        count.rollbacks(),
        count.runs()
    )
}

// === impl Case ===

impl Case {
    /// All of them.
    pub const ALL: [Case; 6] =
        [Case::Honest, Case::HonestAll, Case::Hidden, Case::Dominated, Case::Healthy, Case::Forged];

    fn name(self) -> &'static str {
        match self {
            Case::Healthy => "twelve honest proxies, healthy",
            Case::Honest => "twelve honest proxies, .5 → 5 %",
            Case::HonestAll => "twelve honest proxies, .5 → 100 %",
            Case::Hidden => "one forges stable errors, .5 → 5 %",
            Case::Forged => "one forges candidate errors, healthy",
            Case::Dominated => "one has 90 % of the traffic, .5 → 5 %",
        }
    }
}
