//! What people and programs read in the cluster: fields of the status, conditions, Events.

use super::apply::Hand;
use super::cluster::Name;
use super::observe::key;
use super::shared::Shared;
use crate::view::{self, ServiceView};
use hueshift_core::planner::Move;
use hueshift_core::release::{Phase, State};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Shortest time between two statuses of one service.
const PACE: Duration = Duration::from_secs(2);

/// The fields that go with a state, so that the two are never apart.
pub fn of_state(state: &State, answer: Option<Value>) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    put("state", serde_json::to_value(state).unwrap_or(Value::Null));
    put("phase", json!(state.phase.as_str()));
    put("liveColor", json!(state.live));
    put("release", json!(state.release));
    put("epoch", json!(state.epoch));
    let share = state.phase.is_open().then(|| crate::api::percent::format(state.limit()));
    put("share", json!(share));
    if let Some(answer) = answer {
        put("order", answer);
    }
    fields
}

/// RFC 3339.
pub fn time(ms: u64) -> String {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(ms).map(|time| time.to_string()).unwrap_or_default()
}

/// Writes statuses whenever they would say something else, for ever.
pub async fn keep_told(hand: Arc<Hand>, shared: Arc<Shared>) {
    let mut told: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    loop {
        shared.to_tell.notified().await;
        let keys: Vec<String> = {
            let (views, refusals) = (shared.views.lock(), shared.refusals.lock());
            views.keys().chain(refusals.keys()).cloned().collect()
        };
        for service in keys {
            let view = shared.views.get(&service);
            let refusal = shared.refusals.get(&service);
            let fields = fields(view.as_ref(), refusal.as_ref(), shared.statuses.get(&service).as_deref());
            if told.get(&service) == Some(&fields) {
                continue;
            }
            let Some((namespace, name)) = service.split_once('/') else { continue };
            let name: Name = (namespace.to_owned(), name.to_owned());
            let writer = shared.writer(&service);
            let written = {
                let _one = writer.lock().await;
                match hand.may_write() {
                    Ok(()) => {
                        hand.patch_status(&service, &name, fields.clone()).await.map_err(|e| e.to_string())
                    }
                    Err(why) => Err(why),
                }
            };
            match written {
                Ok(()) => {
                    told.insert(service, fields);
                }
                Err(error) => {
                    tracing::debug!(blue_green = %key(&name), "its status is not told: {error}");
                }
            }
        }
        tokio::time::sleep(PACE).await;
    }
}

fn fields(
    view: Option<&ServiceView>,
    refusal: Option<&super::sight::Refusal>,
    status: Option<&Value>,
) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut problems = Vec::new();
    if let Some(refusal) = refusal {
        problems.push(json!({"reason": refusal.reason, "text": refusal.text}));
    }
    if let Some(view) = view {
        problems.extend(view.problems.iter().map(|text| json!({"reason": "Attention", "text": text})));
        let waiting: Vec<Value> = view
            .waiting_on
            .iter()
            .map(|reason| json!({"reason": reason.reason, "text": reason.text}))
            .collect();
        fields.insert("waitingOn".to_owned(), if waiting.is_empty() { Value::Null } else { waiting.into() });
        let verdict = match (&view.evidence, view.last()) {
            (Some(evidence), _) if view.open() => serde_json::to_value(evidence.verdict).ok(),
            (_, Some(last)) if !view.open() => serde_json::to_value(last.end).ok(),
            _ => None,
        };
        fields.insert("verdict".to_owned(), verdict.unwrap_or(Value::Null));
    }
    let settled = refusal.is_none() && view.is_some_and(|view| view.phase == view::Phase::Idle);
    let reason = match (refusal, view) {
        (Some(refusal), _) => refusal.reason.clone(),
        (None, Some(view)) => view.phase.as_str().to_owned(),
        (None, None) => "Unknown".to_owned(),
    };
    let message = refusal.map_or(String::new(), |refusal| refusal.text.clone());
    fields.insert("problems".to_owned(), if problems.is_empty() { Value::Null } else { problems.into() });
    fields.insert("conditions".to_owned(), json!([condition(status, "Ready", settled, &reason, &message)]));
    fields
}

fn condition(status: Option<&Value>, kind: &str, holds: bool, reason: &str, message: &str) -> Value {
    let is =
        |object: &Value, field: &str, value: &str| object.get(field).and_then(Value::as_str) == Some(value);
    let wanted = if holds { "True" } else { "False" };
    let old = status.and_then(|status| {
        status.get("conditions")?.as_array()?.iter().find(|known| is(known, "type", kind))
    });
    let since =
        old.filter(|old| is(old, "status", wanted)).and_then(|old| old.get("lastTransitionTime")?.as_str());
    let now = || Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    json!({
        "type": kind,
        "status": wanted,
        "reason": reason,
        "message": message,
        "lastTransitionTime": since.map_or_else(now, str::to_owned),
    })
}

/// Events about transitions; losing one loses nothing else.
pub fn events(client: &Client, shared: &Arc<Shared>, service: &str, moves: &[(Move, String)]) {
    let Some(sight) = shared.sights.get(service) else { return };
    for (step, line) in moves {
        let bad = step.to == Phase::RollingBack;
        let event = json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"generateName": format!("{}-", sight.name.1), "namespace": sight.name.0},
            "eventTime": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
            "type": if bad { "Warning" } else { "Normal" },
            "reason": step.to.as_str(),
            "action": "Release",
            "note": line,
            "regarding": sight.reference(),
            "reportingController": "hueshift.dev/controller",
            "reportingInstance": super::instance(),
        });
        let client = client.clone();
        let namespace = sight.name.0.clone();
        tokio::spawn(async move {
            let Ok(event) = serde_json::from_value::<k8s_openapi::api::events::v1::Event>(event) else {
                return;
            };
            let api: kube::Api<k8s_openapi::api::events::v1::Event> =
                kube::Api::namespaced(client, &namespace);
            if let Err(error) = super::calls::call(api.create(&Default::default(), &event)).await {
                tracing::debug!("an Event is lost: {error}");
            }
        });
    }
}
