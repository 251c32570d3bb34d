//! The mesh home's side of [`Apply`]: state into the `BlueGreen`'s status; records and checkpoints into `Release` objects
//! (`records`), routes into the user's VirtualService (`routes`), and what a service's begin and end write
//! (`farewell`).
//!
//! One write at a time per service. An ordinary write names the version that it changes and gives up soon when
//! somebody else was faster, so that the engine plans again. Statuses are written only by the controller of the newest
//! term.

mod farewell;
mod records;
mod routes;

use super::calls::{self, CallError, call};
use super::cluster::Name;
use super::lease::Tenure;
use super::observe::key;
use super::plugins::Revive;
use super::principal::pod_of;
use super::shared::{Shared, Status, Table};
use super::sight::{NOT_PERMITTED, Sight, refusal};
use super::{names, tell};
use crate::home::{Apply, ApplyError};
use crate::view::{ReleaseRecord, ServiceView};
use hueshift_core::color::Color;
use hueshift_core::planner::Move;
use hueshift_core::release::{Route, State};
use kube::Client;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// Attempts of an ordinary write against others that write the same object; then the engine plans again.
const ATTEMPTS: usize = 3;

/// Where the engine's changes go.
pub struct Hand {
    client: Client,
    shared: Arc<Shared>,
    tenure: Arc<Tenure>,
    revive: mpsc::Sender<Revive>,
    /// Between the subsets and the first routes that name them. Sent in one push, routes come into force before the
    /// new clusters have their endpoints, and Envoy answers 503 in between.
    subsets_first: Duration,
    runtime: Handle,
}

// === impl Hand ===

impl Hand {
    /// Writes as the holder of `tenure`; routes name new subsets after `subsets_first`.
    pub fn new(
        client: Client,
        shared: Arc<Shared>,
        tenure: Arc<Tenure>,
        revive: mpsc::Sender<Revive>,
        subsets_first: Duration,
    ) -> Hand {
        Hand { client, shared, tenure, revive, subsets_first, runtime: Handle::current() }
    }

    /// Whether a write may begin now.
    ///
    /// # Errors
    /// Why not.
    pub fn may_write(&self) -> Result<(), String> {
        self.tenure.may_write()
    }

    /// One write of a service, for whoever may block.
    fn write<F>(
        &self,
        service: &str,
        lane: &Table<Arc<tokio::sync::Mutex<()>>>,
        write: impl FnOnce(Arc<Sight>) -> F,
    ) -> Result<(), ApplyError>
    where
        F: Future<Output = Result<(), String>>,
    {
        let lane = lane.of(service);
        let done = self.runtime.block_on(async {
            let _one = lane.lock().await;
            self.tenure.may_write()?;
            let sight = self.shared.sights.get(service).ok_or("the service is not known any more")?;
            write(sight).await
        });
        done.map_err(ApplyError)
    }

    async fn save_state(&self, service: &str, sight: &Sight, state: &State) -> Result<(), String> {
        let answer = self.take_answer(service);
        let mut fields = tell::of_state(state, answer);
        if self.shared.states.get(service).is_none_or(|before| before.epoch != state.epoch) {
            // What proxies did about the last epoch must not stand beside this one's share.
            fields.insert("proxies".to_owned(), Value::Null);
        }
        self.patch_status(service, &sight.name, fields)
            .await
            .map_err(|error| error.told(&format!("cannot save the state of {service}"), &sight.name.0))?;
        self.shared.states.put(service, state.clone());
        Ok(())
    }

    /// The answer to the order under way, if this state is its effect.
    fn take_answer(&self, service: &str) -> Option<Value> {
        let mut orders = self.shared.orders.lock();
        let (id, answer) = orders.get_mut(service)?;
        let told = match answer.try_recv() {
            Ok(Ok(accepted)) => json!({"id": id, "accepted": true, "text": accepted.text}),
            Ok(Err(refused)) => json!({"id": id, "accepted": false, "text": refused.to_string()}),
            Err(_) => return None,
        };
        orders.remove(service);
        Some(told)
    }

    /// Writes fields of a status, if no later controller has written there.
    pub async fn patch_status(
        &self,
        service: &str,
        name: &Name,
        fields: serde_json::Map<String, Value>,
    ) -> Result<(), CallError> {
        let api = calls::blue_greens(&self.client, Some(&name.0));
        let mut last = None;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 || !self.shared.statuses.has(service) {
                let object = call(api.get(&name.1)).await?;
                let status = object.data.get("status").cloned().unwrap_or(Value::Null);
                self.shared.set_status(service, &object.metadata, &status);
            }
            let known = self.shared.statuses.get(service).unwrap_or_default();
            let term = known.value.get("term").and_then(Value::as_u64);
            if term.is_some_and(|term| term > self.tenure.term()) {
                self.tenure.lost("a later controller writes the statuses");
                return Err(CallError::Broken("a later controller leads".to_owned()));
            }
            let patch = status_patch(&known, &fields, self.tenure.term());
            match call(api.patch_status(&name.1, &params(), &Patch::Json::<()>(patch))).await {
                Ok(object) => {
                    self.keep_status(service, &object);
                    return Ok(());
                }
                Err(error) if error.is_conflict() || is_invalid(&error) => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or(CallError::Silent))
    }

    fn keep_status(&self, service: &str, object: &DynamicObject) {
        let status = object.data.get("status").cloned().unwrap_or(Value::Null);
        self.shared.keep_status(service, &object.metadata, &status);
    }

    /// With what to do; a missing right is also told as a condition, until a write of that kind succeeds.
    fn told(&self, sight: &Sight, error: &CallError, what: &str) -> String {
        let text = error.told(what, &sight.name.0);
        if error.is_forbidden() {
            let service = key(&sight.name);
            self.shared.denied.put(&service, refusal(NOT_PERMITTED, text.clone()));
            self.shared.touch(&service);
        }
        text
    }

    fn permitted(&self, service: &str) {
        if self.shared.denied.remove(service).is_some() {
            self.shared.touch(service);
        }
    }
}

impl Apply for Hand {
    fn record(&self, record: &ReleaseRecord) -> Result<(), ApplyError> {
        self.write(&record.service, &self.shared.savers, |sight| async move {
            self.write_record(&record.service, &sight, record).await
        })
    }

    fn save(&self, service: &str, state: &State) -> Result<(), ApplyError> {
        self.write(service, &self.shared.savers, |sight| async move {
            self.save_state(service, &sight, state).await
        })
    }

    fn route(&self, service: &str, route: &Route) -> Result<(), ApplyError> {
        self.write(service, &self.shared.routers, |sight| async move {
            self.write_route(service, &sight, route).await
        })
    }

    fn checkpoint(&self, service: &str, bytes: &[u8]) -> Result<(), ApplyError> {
        self.write(service, &self.shared.savers, |sight| async move {
            self.write_checkpoint(service, &sight, bytes).await
        })
    }

    fn may_restart(&self, _: &str, _: Option<Color>) {}

    /// A plugin is the smallest part whose VMs can be built anew.
    fn revive(&self, proxies: &[String]) -> Result<(), ApplyError> {
        let namespaces: BTreeSet<&str> = proxies.iter().filter_map(|proxy| Some(pod_of(proxy)?.1)).collect();
        for namespace in namespaces {
            let asked = Revive { namespace: namespace.to_owned() };
            self.revive.blocking_send(asked).map_err(|error| ApplyError(error.to_string()))?;
        }
        Ok(())
    }

    fn moved(&self, service: &str, moves: &[(Move, String)]) {
        for (step, line) in moves {
            tracing::info!(blue_green = service, release = step.release, phase = step.to.as_str(), "{line}");
        }
    }

    fn listens(&self) -> bool {
        true
    }

    fn tell(&self, view: ServiceView) {
        let key = view.name.clone();
        self.shared.views.put(&key, view);
        self.shared.touch(&key);
    }
}

/// The fields of a status as a patch that fails if another controller wrote in between.
fn status_patch(known: &Status, fields: &serde_json::Map<String, Value>, term: u64) -> json_patch::Patch {
    let mut operations = Vec::new();
    let status = &known.value;
    match status.as_object() {
        // A first status must not replace one that was made meanwhile.
        None => operations.extend([
            json!({"op": "test", "path": "/metadata/resourceVersion", "value": known.version.to_string()}),
            json!({"op": "add", "path": "/status", "value": {}}),
        ]),
        Some(known) => {
            if let Some(old) = known.get("term") {
                operations.push(json!({"op": "test", "path": "/status/term", "value": old}));
            }
        }
    }
    operations.push(json!({"op": "add", "path": "/status/term", "value": term}));
    for (name, value) in fields {
        let path = format!("/status/{name}");
        match (value, status.get(name)) {
            (Value::Null, None) => {}
            (Value::Null, Some(_)) => operations.push(json!({"op": "remove", "path": path})),
            (value, old) if old == Some(value) => {}
            (value, _) => operations.push(json!({"op": "add", "path": path, "value": value})),
        }
    }
    serde_json::from_value(Value::Array(operations)).unwrap_or_default()
}

fn is_invalid(error: &CallError) -> bool {
    matches!(error, CallError::Refused(status) if status.code == 422)
}

fn params() -> PatchParams {
    PatchParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

fn post() -> PostParams {
    PostParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(status: Value, fields: Value) -> Vec<Value> {
        let known = Status { version: 41, value: Arc::new(status) };
        let Value::Object(fields) = fields else { panic!("no object") };
        let patch = status_patch(&known, &fields, 9);
        serde_json::to_value(patch).unwrap().as_array().unwrap().clone()
    }

    #[test]
    fn a_status_is_written_only_over_the_term_that_was_read() {
        let patch = patch(json!({"term": 7, "phase": "Idle"}), json!({"phase": "Preparing"}));
        assert_eq!(patch[0], json!({"op": "test", "path": "/status/term", "value": 7}));
        assert_eq!(patch[1], json!({"op": "add", "path": "/status/term", "value": 9}));
        assert_eq!(patch[2], json!({"op": "add", "path": "/status/phase", "value": "Preparing"}));
    }

    #[test]
    fn a_first_status_does_not_replace_one_that_was_made_meanwhile() {
        let patch = patch(Value::Null, json!({"phase": "Idle"}));
        assert_eq!(patch[0], json!({"op": "test", "path": "/metadata/resourceVersion", "value": "41"}));
    }

    #[test]
    fn fields_that_say_the_same_are_left_alone_and_empty_ones_go() {
        let patch = patch(
            json!({"term": 9, "phase": "Idle", "share": "5%"}),
            json!({"phase": "Idle", "share": null}),
        );
        assert_eq!(patch.last().unwrap(), &json!({"op": "remove", "path": "/status/share"}));
        assert_eq!(patch.len(), 3);
    }
}
