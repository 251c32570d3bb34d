//! `plan-sample`: how many candidate requests it takes until a given fault is rolled back, at a given share.
//!
//! An expectation from the planning formula, which knows neither the margin nor the restarts of the live judge: that
//! takes up to a third more. No controller is asked.

use super::figures::{count, rate, span};
use super::screen::{Ink, Screen, columns};
use super::{Done, Output, show};
use crate::view::percent;
use clap::Args;
use hueshift_core::judge::planning::Effect;
use serde::Serialize;

/// Shares that are listed where none is named.
const SHARES: [f64; 5] = [0.01, 0.05, 0.1, 0.25, 0.5];

#[derive(Debug, Args)]
pub(super) struct PlanSampleArgs {
    /// Share of requests that fail on a healthy model.
    #[arg(long, value_name = "P", default_value = "0.5%", value_parser = share)]
    error_rate: f64,
    /// How many times as often a bad candidate fails.
    #[arg(long, value_name = "N", default_value_t = 3.0, value_parser = times)]
    times: f64,
    /// The candidate's share of requests [default: several]
    #[arg(long, value_name = "P", value_parser = share)]
    share: Option<f64>,
    /// Chance that a healthy candidate is rolled back.
    #[arg(long, value_name = "P", default_value = "1%", value_parser = share)]
    alpha: f64,
    /// Requests per second, both colors together: says how long it takes.
    #[arg(long, value_name = "N", value_parser = rate_of)]
    requests_per_second: Option<f64>,
    /// For people or for programs.
    #[arg(long, short, value_enum, default_value = "table")]
    output: Output,
}

/// The plan for one share.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Planned {
    share: f64,
    /// Candidate requests until the rollback, on average.
    candidate_requests: f64,
    /// In 95 of 100 releases.
    candidate_requests_p95: f64,
    /// Bad answers until then, on average.
    bad_answers: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
}

pub(super) fn run(args: PlanSampleArgs) -> Done {
    let planned = plan(&args);
    show(args.output, &planned, |screen| render(&args, &planned, screen))
}

fn plan(args: &PlanSampleArgs) -> Vec<Planned> {
    let shares = args.share.map_or_else(|| SHARES.to_vec(), |share| vec![share]);
    let planned = |share: f64| {
        let effect = Effect { stable_rate: args.error_rate, ratio: args.times, share, alpha: args.alpha };
        let sample = effect.sample()?;
        Some(Planned {
            share,
            candidate_requests: sample.mean,
            candidate_requests_p95: sample.p95,
            bad_answers: sample.mean * (args.error_rate * args.times).min(1.0),
            seconds: args.requests_per_second.map(|rate| sample.mean / (rate * share)),
        })
    };
    shares.into_iter().filter_map(planned).collect()
}

fn render(args: &PlanSampleArgs, planned: &[Planned], screen: &Screen) -> String {
    let effect = format!(
        "a candidate that fails in {} of requests where stable fails in {}; a healthy one is rolled back in {} of releases",
        percent((args.error_rate * args.times).min(1.0)),
        percent(args.error_rate),
        percent(args.alpha)
    );
    let mut out = screen.paragraph("finds  ", &effect);
    let whole = |n: f64| count(n.ceil() as u64);
    let heads = ["       SHARE", "CANDIDATE REQUESTS", "P95", "BAD ANSWERS", "TIME"];
    let mut rows = vec![heads.map(|head| screen.ink(Ink::Dim, head)).to_vec()];
    for plan in planned {
        rows.push(vec![
            format!("       {}", percent(plan.share)),
            whole(plan.candidate_requests),
            whole(plan.candidate_requests_p95),
            whole(plan.bad_answers),
            plan.seconds.map_or("-".to_owned(), |s| span((s * 1_000.0) as u64)),
        ]);
    }
    out += &columns(&rows);
    let note = match args.requests_per_second {
        Some(n) => format!(
            "expected at {} requests/s; the live judge takes up to a third more, for its margin and its restarts",
            rate(n)
        ),
        None => {
            "expected; the live judge takes up to a third more; add --requests-per-second N to see how long"
                .to_owned()
        }
    };
    out + &screen.paragraph("       ", &note)
}

fn share(text: &str) -> Result<f64, String> {
    let value = match text.strip_suffix('%') {
        Some(percent) => percent.trim_end().parse::<f64>().map(|value| value / 100.0),
        None => text.parse::<f64>(),
    };
    match value {
        Ok(value) if value > 0.0 && value < 1.0 => Ok(value),
        _ => Err("write a share between 0% and 100%, such as 5% or 0.05".to_owned()),
    }
}

fn times(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value > 1.0 => Ok(value),
        _ => Err("write a number above 1, such as 3".to_owned()),
    }
}

fn rate_of(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value > 0.0 => Ok(value),
        _ => Err("write a number above 0, such as 200".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(share: Option<f64>) -> PlanSampleArgs {
        PlanSampleArgs {
            error_rate: 0.005,
            times: 10.0,
            share,
            alpha: 0.01,
            requests_per_second: Some(200.0),
            output: Output::Table,
        }
    }

    /// .5 → 5 % at a tenth of 200 requests/s: simulated releases need 149 candidate requests, 7.5 s.
    #[test]
    fn the_plan_is_what_releases_take_but_for_a_third() {
        let planned = plan(&args(Some(0.1)));
        assert!((149.0 / 1.4..149.0).contains(&planned[0].candidate_requests), "{planned:?}");
        assert!((7.5 / 1.4..7.5).contains(&planned[0].seconds.unwrap()), "{planned:?}");
    }

    #[test]
    fn small_shares_need_fewer_candidate_requests() {
        let planned = plan(&args(None));
        assert_eq!(planned.len(), SHARES.len());
        assert!(planned.is_sorted_by(|a, b| a.candidate_requests < b.candidate_requests));
        let screen = Screen { width: Some(100), height: 24, paint: false, zone: jiff::tz::TimeZone::UTC };
        let text = render(&args(None), &planned, &screen);
        assert!(text.contains("fails in 5 % of requests where stable fails in 0.5 %"), "{text}");
    }
}
