//! From the document's words to the planner's and the filter's, one to one.

use crate::api;
use crate::api::BlueGreen;
use hueshift_core::color::PerColor;
use hueshift_core::contract::{FuseParams, Params, PredictionParams, ServiceId};
use hueshift_core::judge::analysis::PredictionMode;
use hueshift_core::judge::dispersion::{self, Dispersion};
use hueshift_core::judge::{Analysis, Metric};
use hueshift_core::planner::{Advance, Inconclusive, Wish, WishedStep};
use hueshift_core::release::SavedKey;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What the planner should know of the document, and of the mesh key that every filter has.
pub fn wish(service: &BlueGreen, key_version: Option<u8>) -> Wish {
    let spec = &service.spec;
    Wish {
        revisions: PerColor::from_fn(|color| spec.colors.get(color).revision.clone()),
        steps: spec
            .release
            .steps
            .iter()
            .map(|step| WishedStep {
                share: step.share,
                min_ms: ms(step.min_time),
                min_requests: step.min_requests,
            })
            .collect(),
        advance: match spec.release.advance {
            api::Advance::Certified => Advance::Certified,
            api::Advance::Unsuspicious => Advance::Unsuspicious,
        },
        holdback: spec.release.soak.holdback,
        least_holdback: spec.release.soak.least_holdback,
        soak_ms: ms(spec.release.soak.time),
        drain_ms: ms(spec.release.drain_deadline),
        deadline_ms: ms(spec.release.deadline),
        inconclusive: match spec.release.on_inconclusive {
            api::OnInconclusive::Hold => Inconclusive::Hold,
            api::OnInconclusive::Promote => Inconclusive::Promote,
            api::OnInconclusive::Rollback => Inconclusive::Rollback,
        },
        keys: spec
            .session
            .keys
            .iter()
            .map(|key| match key {
                api::KeySpec::Header(name) => SavedKey::Header(name.to_ascii_lowercase()),
                api::KeySpec::Cookie(name) => SavedKey::Cookie(name.clone()),
                api::KeySpec::Query(name) => SavedKey::Query(name.clone()),
            })
            .collect(),
        key_version,
        // Pins do not exist yet; the document refuses `keep` until they do.
        marking_ms: None,
    }
}

/// The judge's parameters for a release of this service. `earlier` is what an earlier release showed of its errors.
pub fn analysis(service: &BlueGreen, earlier: Option<&Dispersion>) -> Analysis {
    let wished = &service.spec.analysis;
    // Without a session key each request draws for itself; that makes a failure a draw only if they come one by one.
    let mut live = if service.spec.session.keys.is_empty() {
        Analysis { mode: dispersion::choose(earlier), ..Analysis::live_per_request() }
    } else {
        Analysis::live()
    };
    if let Some(predictions) = &wished.predictions {
        live.metrics.push(Metric::Predictions);
        live.prediction_bins = predictions.bins.into();
        live.prediction_mode = match predictions.mode {
            api::PredictionsMode::Effect => PredictionMode::Effect,
            api::PredictionsMode::Equality => PredictionMode::Equality,
        };
    }
    if wished.custom.is_some() {
        live.metrics.push(Metric::Custom);
    }
    if wished.slo.is_some() {
        live.metrics.push(Metric::Slo);
    }
    Analysis {
        slo_error_rate: wished.slo.map(|slo| slo.error_rate),
        latency_shift: buckets_within(wished.latency.tolerance),
        raise_warmup_ms: ms(wished.latency.warmup),
        alpha: wished.alpha,
        beta: wished.beta,
        rho0: wished.ratio_margin,
        error_floor: wished.error_floor,
        // The smallest of the steps' ceilings stands for "in force"; each step asks for its own.
        p_ceiling: wished.absolute_certificate.then_some(0.01),
        ..live
    }
}

/// How many whole buckets of latency a tolerance allows.
fn buckets_within(tolerance: f64) -> u32 {
    // A bucket's own bound is inside, whatever the logarithm's last digit.
    (16.0 * tolerance.log2() + 1e-9).max(0.0) as u32
}

/// The fuse that the filter runs for this service.
pub fn fuse(service: &BlueGreen) -> Option<FuseParams> {
    let fuse = &service.spec.analysis.fuse;
    fuse.enabled.then_some(FuseParams { p0: fuse.healthy_error_rate, h: fuse.height })
}

/// What each reply tells the filter about this service.
pub fn params(id: ServiceId, service: &BlueGreen, hang_ms: u64, looked_for: LookedFor) -> Params {
    let LookedFor { predictions, events } = looked_for;
    let events = events.unwrap_or_default();
    Params {
        id,
        fuse: fuse(service),
        hang_ms,
        predictions,
        client_errors: events.client_errors,
        event_header: events.header,
    }
}

/// What the filter finds in answers beside their outcome.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LookedFor {
    /// Where it finds predictions.
    pub predictions: Option<PredictionParams>,
    /// What are events.
    pub events: Option<Events>,
}

/// Which answers are events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// What people call them.
    pub name: String,
    /// Those that blame the client.
    pub client_errors: bool,
    /// Those with this header; empty: none.
    pub header: String,
}

/// What the filter should look for in answers of this service.
pub fn looked_for(service: &BlueGreen) -> LookedFor {
    let analysis = &service.spec.analysis;
    LookedFor {
        predictions: analysis.predictions.as_ref().map(|spec| PredictionParams {
            header: spec.header.to_ascii_lowercase(),
            min: spec.min,
            max: spec.max,
            bins: spec.bins,
        }),
        events: analysis.custom.as_ref().map(|spec| Events {
            name: spec.name.clone(),
            client_errors: spec.client_errors,
            header: spec.header.as_deref().unwrap_or_default().to_ascii_lowercase(),
        }),
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{LatencySpec, SloSpec};

    fn service(change: impl FnOnce(&mut api::AnalysisSpec)) -> BlueGreen {
        let mut spec: api::Spec = serde_json::from_value(serde_json::json!({
            "colors": {"blue": {}, "green": {}},
        }))
        .expect("a document");
        change(&mut spec.analysis);
        BlueGreen::new("price", spec)
    }

    #[test]
    fn what_nobody_wrote_is_what_simulations_judge_by() {
        let live = Analysis { p_ceiling: Some(0.01), ..Analysis::live_per_request() };
        assert_eq!(analysis(&service(|_| ()), None), live);
    }

    #[test]
    fn knobs_reach_the_judge() {
        let judged = analysis(
            &service(|wished| {
                wished.latency = LatencySpec { tolerance: 1.5, warmup: Duration::from_secs(30) };
                wished.slo = Some(SloSpec { error_rate: 0.05 });
            }),
            None,
        );
        // Nine buckets are a factor of 1.477, ten 1.542.
        assert_eq!((judged.latency_shift, judged.raise_warmup_ms), (9, 30_000));
        assert_eq!(judged.slo_error_rate, Some(0.05));
        assert!(judged.metrics.contains(&Metric::Slo) && judged.check().is_ok());
    }

    #[test]
    fn a_tolerance_is_never_more_than_was_written() {
        for (tolerance, buckets) in [(1.0, 0), (1.04, 0), (1.19, 4), (2.0, 16), (4.0, 32)] {
            assert_eq!(buckets_within(tolerance), buckets, "{tolerance}");
        }
    }
}
