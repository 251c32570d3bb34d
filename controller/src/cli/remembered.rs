//! The view-model as far as the objects of a cluster tell it, for when no controller does: pure.
//!
//! What only a running controller knows (traffic, evidence) is absent; [`View::live`] says so to whoever renders it.

use crate::api::{BlueGreen, BlueGreenStatus, Release};
use crate::view::{ColorView, MAX_HISTORY, Phase, PlanView, ReleaseRecord, ServiceView, View, Waiting};
use hueshift_core::color::{Color, PerColor};
use hueshift_core::release::State;
use hueshift_core::share::Bps;
use kube::ResourceExt;

/// Everything that the objects say.
pub(super) fn view(blue_greens: &[BlueGreen], releases: &[Release], place: String, now_ms: u64) -> View {
    let records = records(releases);
    View {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: 0,
        started_ms: now_ms,
        now_ms,
        file: place,
        proxies: Vec::new(),
        services: blue_greens.iter().map(|object| service(object, &records, now_ms)).collect(),
        problems: Vec::new(),
    }
}

/// The records of ended releases, oldest first.
pub(super) fn records(releases: &[Release]) -> Vec<ReleaseRecord> {
    let mut records: Vec<ReleaseRecord> = releases
        .iter()
        .filter_map(|release| {
            let record = release.status.as_ref()?.record.clone()?;
            let mut record: ReleaseRecord = serde_json::from_value(record).ok()?;
            record.service = key(release.namespace().as_deref(), &release.spec.blue_green);
            Some(record)
        })
        .collect();
    records.sort_by_key(|record| (record.ended_ms, record.release));
    records
}

fn key(namespace: Option<&str>, name: &str) -> String {
    namespace.map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}"))
}

fn service(object: &BlueGreen, records: &[ReleaseRecord], now_ms: u64) -> ServiceView {
    let name = key(object.namespace(), &object.name_any());
    let nothing = BlueGreenStatus::default();
    let status = object.status.as_ref().unwrap_or(&nothing);
    let state: Option<State> = status.state.clone().and_then(|state| serde_json::from_value(state).ok());
    let live = status.live_color.unwrap_or(Color::Blue);
    let limit = status.share.as_deref().and_then(share).unwrap_or(Bps::ZERO);
    let mut history: Vec<ReleaseRecord> =
        records.iter().filter(|record| record.service == name).cloned().collect();
    history.drain(..history.len().saturating_sub(MAX_HISTORY));
    ServiceView {
        listen: object.spec.service.clone().unwrap_or_default(),
        live,
        phase: status.phase.as_deref().and_then(phase).unwrap_or(Phase::Idle),
        phase_since_ms: state.as_ref().map_or(now_ms, |state| state.entered_ms),
        release: status.release.unwrap_or(0),
        paused: state.as_ref().is_some_and(|state| state.paused),
        step: None,
        plan: plan(status, limit),
        colors: PerColor {
            blue: color(Color::Blue, live, limit, state.as_ref()),
            green: color(Color::Green, live, limit, state.as_ref()),
        },
        evidence: None,
        waiting_on: status
            .waiting_on
            .iter()
            .map(|waiting| Waiting { reason: waiting.reason.clone(), text: waiting.text.clone() })
            .collect(),
        goes_on: None,
        rolls_back: None,
        history,
        problems: status.problems.iter().map(|problem| problem.text.clone()).chain(said(status)).collect(),
        name,
    }
}

fn plan(status: &BlueGreenStatus, limit: Bps) -> PlanView {
    let proxies = status.proxies.unwrap_or_default();
    PlanView {
        epoch: status.epoch.unwrap_or(0),
        limit,
        cap: None,
        with_traffic: proxies.with_traffic,
        enforcing: proxies.enforcing,
        idle: proxies.idle,
        fuses_tripped: 0,
        unwritten: false,
    }
}

fn color(color: Color, live: Color, limit: Bps, state: Option<&State>) -> ColorView {
    let revision = state.map(|state| state.revisions.get(color).clone());
    ColorView {
        marked_bad: state
            .zip(revision.as_ref())
            .is_some_and(|(state, revision)| color != live && state.condemned.contains(revision)),
        revision: revision.unwrap_or_else(|| "?".to_owned()),
        intended: if color == live { limit.rest() } else { limit },
        enforced: None,
        endpoints: 0,
        endpoints_up: 0,
        requests: 0,
        errors: 0,
        rate: 0.0,
        error_rate: None,
        p50_ms: None,
        p99_ms: None,
        p99_total_ms: None,
        in_flight: 0,
        sessions: 0,
    }
}

/// What the judge last said, of an open release.
fn said(status: &BlueGreenStatus) -> Option<String> {
    let open = status.phase.as_deref().and_then(phase).is_some_and(|phase| phase != Phase::Idle);
    let verdict = status.verdict.as_ref().filter(|_| open)?;
    let evidence = status.evidence.as_ref().map_or(String::new(), |evidence| format!(" ({evidence})"));
    Some(format!("the judge last said: {verdict}{evidence}"))
}

fn phase(word: &str) -> Option<Phase> {
    serde_json::from_value(word.to_lowercase().into()).ok()
}

/// `5%` or `0.25 %`.
fn share(text: &str) -> Option<Bps> {
    let percent: f64 = text.trim_end_matches('%').trim().parse().ok()?;
    let bps = (percent * 100.0).round();
    // Checked to be in range; a float becomes an integer by saturation.
    (0.0..=10_000.0).contains(&bps).then(|| Bps::new(bps as u16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn shares_and_phases_read_back_as_they_are_told() {
        for bps in [0, 25, 500, 1_234, 10_000] {
            let told = Bps::new(bps).unwrap();
            assert_eq!(share(&told.to_string()), Some(told));
            assert_eq!(share(&told.to_string().replace(' ', "")), Some(told));
        }
        assert_eq!((share("101%"), share("-1%"), share("x")), (None, None, None));
        for told in [Phase::Idle, Phase::RollingBack, Phase::Progressing] {
            assert_eq!(phase(told.as_str()), Some(told));
        }
        assert_eq!(phase("Dancing"), None);
    }

    #[test]
    fn a_service_is_told_as_its_object_last_said_and_its_history_by_its_releases() {
        let two: View = serde_json::from_str(include_str!("../../tests/views/two-services.json")).unwrap();
        let record = two.services[1].history[1].clone();
        let object: BlueGreen = serde_json::from_value(json!({
            "apiVersion": "hueshift.dev/v1alpha1", "kind": "BlueGreen",
            "metadata": {"name": "pricing", "namespace": "shop"},
            "spec": {"service": "pricing", "colors": {"blue": {}, "green": {}}},
            "status": {
                "phase": "Progressing", "liveColor": "blue", "share": "5%", "release": 4, "epoch": 9,
                "verdict": "continue", "evidence": "errors 1 % vs 1 %",
                "waitingOn": [{"reason": "person", "text": "a person"}],
                "problems": [{"reason": "X", "text": "look"}],
                "state": {"broken": true},
            },
        }))
        .unwrap();
        let release = |name: &str, of: &str, record: Option<&ReleaseRecord>| -> Release {
            serde_json::from_value(json!({
                "apiVersion": "hueshift.dev/v1alpha1", "kind": "Release",
                "metadata": {"name": name, "namespace": "shop"},
                "spec": {"blueGreen": of, "number": 3, "candidate": "green", "revision": "a", "stableRevision": "b"},
                "status": {"record": record},
            }))
            .unwrap()
        };
        let releases = [
            release("pricing-3", "pricing", Some(&record)),
            release("pricing-4", "pricing", None),
            release("other-3", "other", Some(&record)),
        ];
        let view = view(&[object], &releases, "namespace shop".into(), 5);
        let service = &view.services[0];
        assert!(!view.live());
        assert_eq!(service.name, "shop/pricing");
        assert_eq!((service.phase, service.release, service.plan.epoch), (Phase::Progressing, 4, 9));
        assert_eq!(service.colors.green.intended, Bps::new(500).unwrap());
        assert!(service.needs_person());
        assert_eq!(service.problems, ["look", "the judge last said: continue (errors 1 % vs 1 %)"]);
        assert_eq!(service.history.len(), 1);
        assert_eq!(service.history[0].service, "shop/pricing");
    }
}
