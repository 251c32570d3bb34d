//! What people and programs read in the cluster: the status of each `BlueGreen` and its Events.
//!
//! What it says is decided in `status`, purely; here it is written when it says something else than before, at most
//! once in a while each, and never before what the engine writes.

use super::apply::Hand;
use super::cluster::Name;
use super::plugins;
use super::shared::Shared;
use super::sight::Refusal;
use super::status::{self, Facts, Kind, Note, Urgency};
use crate::api::{BlueGreenStatus, StatusProblem};
use crate::routes::Hidden;
use hueshift_core::release::State;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Between two looks while something waits to be told.
const PACE: Duration = Duration::from_millis(500);
/// Shortest time between two statuses that differ only in counts.
const SELDOM: Duration = Duration::from_secs(10);
/// Before a status that could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(2);

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

/// Writes statuses, for ever.
pub async fn keep_told(
    client: Client,
    hand: Arc<Hand>,
    shared: Arc<Shared>,
    mut plugins: watch::Receiver<plugins::Told>,
) {
    let mut teller = Teller { client, hand, shared: shared.clone(), waiting: BTreeMap::new() };
    loop {
        let idle = teller.waiting.is_empty();
        tokio::select! {
            () = shared.to_tell.notified() => {}
            Ok(()) = plugins.changed() => shared.touch_all(),
            () = tokio::time::sleep(PACE), if !idle => {}
        }
        let now = Instant::now();
        for key in std::mem::take(&mut *shared.untold.lock()).into_keys() {
            teller.waiting.entry(key).or_insert(now);
        }
        let problems = plugins.borrow_and_update().problems.clone();
        let due: Vec<String> =
            teller.waiting.iter().filter(|(_, at)| **at <= now).map(|(key, _)| key.clone()).collect();
        for key in due {
            teller.tell(&key, &problems).await;
        }
        // What comes in quick succession is told together.
        tokio::time::sleep(PACE / 5).await;
    }
}

struct Teller {
    client: Client,
    hand: Arc<Hand>,
    shared: Arc<Shared>,
    /// What is not told yet, and when it may be.
    waiting: BTreeMap<String, Instant>,
}

impl Teller {
    async fn tell(&mut self, key: &str, plugins: &[plugins::Problem]) {
        self.waiting.remove(key);
        let Some((namespace, name)) = key.split_once('/') else { return };
        let name: Name = (namespace.to_owned(), name.to_owned());
        let Some(about) = self.shared.subjects.get(key) else { return };
        // Nothing is locked: these fields are written by nobody else, and a rollback must not wait for them.
        let view = self.shared.views.get(key);
        let refusal = self.shared.refusals.get(key).or_else(|| self.shared.denied.get(key)).map(problem);
        let known = self.shared.statuses.get(key).unwrap_or_default();
        let previous: BlueGreenStatus = serde_json::from_value((*known.value).clone()).unwrap_or_default();
        let view = view.filter(|_| self.shared.taken.has(key));
        if view.is_none() && refusal.is_none() {
            // It is being read; there is nothing to say yet.
            return;
        }
        let sight = self.shared.sights.get(key);
        // What was seen before something else went wrong may be over.
        let sight = sight.filter(|_| refusal.as_ref().is_none_or(|refusal| refusal.reason == Hidden::REASON));
        let hidden: Vec<_> = sight.iter().flat_map(|sight| &sight.hidden).map(of_hidden).collect();
        let plugins = of_plugins(plugins, namespace);
        let facts = Facts {
            generation: about.generation,
            view: view.as_ref(),
            refusal: refusal.as_ref(),
            plugins: &plugins,
            hidden: &hidden,
            now_ms: crate::standalone::lookout::wall_ms(),
        };
        let told = status::told(&facts, &previous);
        let seldom = told.urgency == Urgency::Sometime && about.told.is_some_and(|at| at.elapsed() < SELDOM);
        if told.urgency == Urgency::Never {
            return;
        }
        if seldom {
            self.waiting.insert(key.to_owned(), Instant::now() + PACE * 4);
            return;
        }
        let written = match self.hand.may_write() {
            Ok(()) => self.hand.patch_status(key, &name, status::fields(&told.status)).await,
            Err(_) => {
                self.waiting.insert(key.to_owned(), Instant::now() + AGAIN);
                return;
            }
        };
        match written {
            Ok(()) => {
                if let Some(about) = self.shared.subjects.lock().get_mut(key) {
                    about.told = Some(Instant::now());
                }
                for note in told.events {
                    self.write_event(&name, about.uid.as_deref(), &note);
                }
            }
            Err(error) if error.is_missing() => {}
            Err(error) => {
                tracing::warn!(blue_green = key, "its status cannot be written: {error}");
                self.waiting.insert(key.to_owned(), Instant::now() + AGAIN);
            }
        }
    }

    /// Losing one loses nothing else, so nobody waits for it.
    fn write_event(&self, name: &Name, uid: Option<&str>, note: &Note) {
        let event = json!({
            "metadata": {"generateName": format!("{}-", name.1), "namespace": name.0},
            "eventTime": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
            "type": match note.kind { Kind::Normal => "Normal", Kind::Warning => "Warning" },
            "reason": note.reason,
            "action": "Release",
            "note": note.note,
            "regarding": {
                "apiVersion": crate::api::API_VERSION,
                "kind": crate::api::KIND,
                "namespace": name.0,
                "name": name.1,
                "uid": uid,
            },
            "reportingController": "hueshift.dev/controller",
            "reportingInstance": super::instance(),
        });
        let api: Api<Event> = Api::namespaced(self.client.clone(), &name.0);
        tokio::spawn(async move {
            let Ok(event) = serde_json::from_value::<Event>(event) else { return };
            if let Err(error) = super::calls::call(api.create(&Default::default(), &event)).await {
                tracing::debug!("an Event is lost: {error}");
            }
        });
    }
}

fn problem(refusal: Refusal) -> StatusProblem {
    StatusProblem { reason: refusal.reason, text: refusal.text }
}

fn of_hidden(hidden: &Hidden) -> StatusProblem {
    StatusProblem { reason: Hidden::REASON.to_owned(), text: hidden.to_string() }
}

fn of_plugins(problems: &[plugins::Problem], namespace: &str) -> Vec<StatusProblem> {
    let here =
        problems.iter().filter(|problem| problem.namespace.as_deref().is_none_or(|of| of == namespace));
    here.map(|problem| StatusProblem {
        reason: problem.reason.as_str().to_owned(),
        text: problem.text.clone(),
    })
    .collect()
}
