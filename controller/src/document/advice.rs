//! What a document may say, but perhaps does not mean: shown by `lint`, read by nothing else.

use super::{Note, Notes};
use crate::api::{Advance, BlueGreen, KeySpec, OnInconclusive};
use hueshift_core::share::Bps;

/// What is allowed, but perhaps not meant.
pub fn advice(document: &BlueGreen) -> Vec<Note> {
    let mut out = Notes::default();
    let spec = &document.spec;
    if spec.session.keys.is_empty() {
        out.add(
            "spec.session.keys",
            "are not set: each request draws its color for itself",
            "name what holds a conversation together, e.g. `keys: [{header: x-session-id}]`",
        );
    }
    for key in &spec.session.keys {
        if matches!(key, KeySpec::Header(name) if name.eq_ignore_ascii_case("x-request-id")) {
            out.add(
                "spec.session.keys",
                "name x-request-id, which differs for each request",
                "name a header that stays the same during a conversation",
            );
        }
    }
    // Without a revision of its own a color has that of its workload, which is not known here.
    if spec.colors.blue.revision == spec.colors.green.revision && !spec.colors.blue.revision.is_empty() {
        out.add(
            "spec.colors",
            format!("both run `{}`: there is nothing to release", spec.colors.blue.revision),
            "change the standby's revision to start a release",
        );
    }
    let release = &spec.release;
    if let Some(first) = release.steps.first()
        && first.share.get() > 2_500
    {
        out.add(
            "spec.release.steps[0].share",
            format!("exposes {} of the traffic at once", first.share),
            "start with 5% or less: small shares need fewer candidate requests to tell",
        );
    }
    for (index, step) in release.steps.iter().enumerate() {
        let waits = step.min_requests > 0 || !step.min_time.is_zero();
        match release.advance {
            Advance::Certified if step.min_requests > 0 => out.add(
                format!("spec.release.steps[{index}].minRequests"),
                "has no effect under `advance: certified`",
                "leave it out: the certificate asks for as many requests as it needs",
            ),
            Advance::Unsuspicious if !waits => out.add(
                format!("spec.release.steps[{index}]"),
                "advances at once: `advance: unsuspicious` with neither minTime nor minRequests",
                "set both, e.g. `minTime: 5m` and `minRequests: 1000`",
            ),
            _ => {}
        }
    }
    if release.on_inconclusive == OnInconclusive::Promote {
        out.add(
            "spec.release.onInconclusive",
            "promotes a candidate that nothing was learned about",
            "`hold` waits for a person",
        );
    }
    if release.soak.time.is_zero() || release.soak.holdback == Bps::ZERO {
        out.add(
            "spec.release.soak",
            "keeps no control after cutover: a fault that shows only at full load is not found",
            "e.g. `soak: {holdback: 5%, time: 5m}`",
        );
    }
    if spec.analysis.alpha > 0.05 {
        out.add(
            "spec.analysis.alpha",
            format!("lets {} of healthy releases roll back by chance", percent(spec.analysis.alpha)),
            "0.01 finds the same faults a little later",
        );
    }
    if !spec.analysis.fuse.enabled {
        out.add(
            "spec.analysis.fuse.enabled",
            "off leaves nobody to stop a failing candidate while the controller is away",
            "leave it on",
        );
    }
    out.0
}

fn percent(fraction: f64) -> String {
    format!("{} %", (fraction * 1_000.0).round() / 10.0)
}
