//! Metrics in the OpenMetrics text format, made anew from the view at each scrape.

use crate::view::View;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::atomic::AtomicU64;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Service {
    // Not `namespace`: scrapers put their own there.
    target_namespace: String,
    bluegreen: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfColor {
    target_namespace: String,
    bluegreen: String,
    color: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPhase {
    target_namespace: String,
    bluegreen: String,
    phase: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfEnd {
    target_namespace: String,
    bluegreen: String,
    end: String,
}

type PerService = Family<Service, Gauge<f64, AtomicU64>>;
type PerColor = Family<OfColor, Gauge<f64, AtomicU64>>;

/// The text of one scrape.
///
/// # Errors
/// Never in practice: writing to a string.
pub fn text(view: Option<&View>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("hueshift");
    let leads = Gauge::<i64>::default();
    leads.set(i64::from(view.is_some()));
    registry.register("leader", "Whether this process leads", leads);
    if let Some(view) = view {
        fill(&mut registry, view);
    }
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

fn fill(registry: &mut Registry, view: &View) {
    let phase = Family::<OfPhase, Gauge>::default();
    let ends = Family::<OfEnd, Gauge>::default();
    let (share, epoch, release, log_e) =
        (PerService::default(), PerService::default(), PerService::default(), PerService::default());
    let (enforcing, busy, problems) = (PerService::default(), PerService::default(), PerService::default());
    let (requests, errors, up, listed, in_flight) = (
        PerColor::default(),
        PerColor::default(),
        PerColor::default(),
        PerColor::default(),
        PerColor::default(),
    );
    for service in &view.services {
        let (namespace, name) = service.name.split_once('/').unwrap_or(("", &service.name));
        let of = Service { target_namespace: namespace.to_owned(), bluegreen: name.to_owned() };
        let labels = OfPhase {
            target_namespace: of.target_namespace.clone(),
            bluegreen: of.bluegreen.clone(),
            phase: service.phase.as_str().to_owned(),
        };
        phase.get_or_create(&labels).set(1);
        share.get_or_create(&of).set(f64::from(service.plan.limit.get()) / 10_000.0);
        epoch.get_or_create(&of).set(service.plan.epoch as f64);
        release.get_or_create(&of).set(f64::from(service.release));
        enforcing.get_or_create(&of).set(f64::from(service.plan.enforcing));
        busy.get_or_create(&of).set(f64::from(service.plan.with_traffic));
        problems.get_or_create(&of).set(service.problems.len() as f64);
        if let Some(evidence) = &service.evidence {
            log_e.get_or_create(&of).set(evidence.log_e);
        }
        for color in hueshift_core::color::Color::BOTH {
            let of = OfColor {
                target_namespace: of.target_namespace.clone(),
                bluegreen: of.bluegreen.clone(),
                color: color.as_str().to_owned(),
            };
            let seen = service.colors.get(color);
            requests.get_or_create(&of).set(seen.requests as f64);
            errors.get_or_create(&of).set(seen.errors as f64);
            up.get_or_create(&of).set(f64::from(seen.endpoints_up));
            listed.get_or_create(&of).set(f64::from(seen.endpoints));
            in_flight.get_or_create(&of).set(f64::from(seen.in_flight));
        }
        for record in &service.history {
            let end = match record.end {
                crate::view::End::Promoted => "promoted",
                crate::view::End::RolledBack => "rolled-back",
                crate::view::End::Superseded => "superseded",
            };
            let of = OfEnd {
                target_namespace: of.target_namespace.clone(),
                bluegreen: of.bluegreen.clone(),
                end: end.to_owned(),
            };
            ends.get_or_create(&of).inc();
        }
    }
    registry.register("phase", "Where the release stands: 1 at its phase", phase);
    registry.register("candidate_share", "Share of the candidate in the routes, 0 to 1", share);
    registry.register("epoch", "Number of the newest plan", epoch);
    registry.register("release", "Number of the open release, or of the last one", release);
    registry.register("log_e", "Evidence that the candidate is worse, ln E", log_e);
    registry.register("proxies_enforcing", "Envoys with traffic that enforce the plan", enforcing);
    registry.register("proxies_busy", "Envoys with traffic since the plan was written", busy);
    registry.register("problems", "What a person should look at", problems);
    registry.register("release_requests", "Requests of the open or last release", requests);
    registry.register("release_errors", "Failures among them", errors);
    registry.register("endpoints_ready", "Ready pods of the color's newest revision", up);
    registry.register("endpoints_wished", "Pods that the color's workload wishes", listed);
    registry.register("in_flight", "Requests in flight", in_flight);
    registry.register("recent_releases", "Ended releases that are still kept, by end", ends);
    registry.register(
        "services",
        "Services that are managed",
        ConstCounter::new(u64::try_from(view.services.len()).unwrap_or(u64::MAX)),
    );
}
