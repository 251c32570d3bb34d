//! What is written when a service is taken, and when its `BlueGreen` goes: traffic stays on the live color, and only what
//! is ours is removed.

use super::super::calls::{self, CallError, call};
use super::super::cluster::{self, Document, Name};
use super::super::observe::{Beside, key};
use super::super::sight::{NOT_PERMITTED, Refusal, refusal};
use super::super::{FINALIZER, memory};
use super::routes::{patch_rule, rule_name};
use super::{ATTEMPTS, Hand, params};
use crate::routes::{self, Released};
use hueshift_core::release::Route;
use kube::api::Patch;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// A deletion is never held up longer than this by routes that cannot be written.
const FAREWELL: Duration = Duration::from_secs(60);
const FAREWELL_PAUSE: Duration = Duration::from_secs(1);

impl Beside for Hand {
    /// On an open one our term stands before anything else: a late write of an earlier controller then fails.
    async fn begin(&self, document: &Document) -> Result<(), Refusal> {
        let name = cluster::name_of(&document.metadata);
        let service = key(&name);
        self.tenure.may_write().map_err(|why| refusal("CannotWrite", why))?;
        let cannot = |error: &CallError, what: &str| {
            let reason = if error.is_forbidden() { NOT_PERMITTED } else { "CannotWrite" };
            refusal(reason, error.told(what, &name.0))
        };
        let api = calls::blue_greens(&self.client, Some(&name.0));
        let open = memory::state(&document.status).0.is_some_and(|state| state.phase.is_open());
        if open {
            self.patch_status(&service, &name, serde_json::Map::new())
                .await
                .map_err(|error| cannot(&error, "cannot write the status"))?;
        }
        let mut metadata = document.metadata.clone();
        for _ in 0..ATTEMPTS {
            let mut finalizers = metadata.finalizers.clone().unwrap_or_default();
            if finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
                return Ok(());
            }
            finalizers.push(FINALIZER.to_owned());
            let version = metadata.resource_version.clone();
            let change = json!({"metadata": {"finalizers": finalizers, "resourceVersion": version}});
            match call(api.patch(&name.1, &params(), &Patch::Merge(change))).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(cannot(&error, &format!("cannot write BlueGreen {}", name.1))),
            }
            metadata = match call(api.get(&name.1)).await {
                Ok(object) => object.metadata,
                Err(error) => return Err(cannot(&error, &format!("cannot read BlueGreen {}", name.1))),
            };
        }
        Err(refusal(
            "CannotWrite",
            format!("cannot write BlueGreen {}: others keep changing it; it is tried again", name.1),
        ))
    }

    fn farewell(&self, name: Name, document: Arc<Document>) {
        let hand = Hand {
            client: self.client.clone(),
            shared: self.shared.clone(),
            tenure: self.tenure.clone(),
            revive: self.revive.clone(),
            subsets_first: self.subsets_first,
            runtime: self.runtime.clone(),
        };
        self.runtime.spawn(async move { hand.say_farewell(name, &document).await });
    }
}

impl Hand {
    /// Traffic stays on the live color, what is ours goes; then the object may go.
    async fn say_farewell(&self, name: Name, document: &Document) {
        let service = key(&name);
        let (routes, states) = (self.shared.routers.of(&service), self.shared.savers.of(&service));
        let _both = (routes.lock().await, states.lock().await);
        let by = tokio::time::Instant::now() + FAREWELL;
        loop {
            let done = match self.tenure.may_write() {
                Ok(()) => self.give_back(&name, document).await,
                Err(why) => Err(why),
            };
            let late = tokio::time::Instant::now() >= by;
            match done {
                Ok(()) => {}
                Err(why) if late => {
                    tracing::error!(blue_green = %service, "its routes are left as they are: {why}");
                }
                Err(why) => {
                    tracing::warn!(blue_green = %service, "deletion waits: {why}");
                    tokio::time::sleep(FAREWELL_PAUSE).await;
                    continue;
                }
            }
            match self.let_go(&name).await {
                Ok(()) => {
                    tracing::info!(blue_green = %service, "deleted: its traffic stays on the live color");
                    return;
                }
                Err(why) => {
                    tracing::warn!(blue_green = %service, "the finalizer cannot be taken off: {why}");
                    tokio::time::sleep(FAREWELL_PAUSE).await;
                }
            }
        }
    }

    async fn give_back(&self, name: &Name, document: &Document) -> Result<(), String> {
        let service = key(name);
        let state = self.shared.states.get(&service).or_else(|| memory::state(&document.status).0);
        // Without a state nothing of it was ever routed.
        let Some(state) = state else { return Ok(()) };
        let Some(sight) = self.shared.sights.get(&service) else {
            if !state.phase.is_open() {
                return Ok(());
            }
            let why = self.shared.refusals.get(&service).map_or_else(String::new, |why| why.text);
            return Err(format!("release {} is open and its routes cannot be read: {why}", state.release));
        };
        let managed = sight.managed.with(Route { stable: state.live, plan: None });
        match self.rewrite(&sight, &managed).await {
            Ok(_) => {}
            Err(why) => {
                let api = calls::virtual_services(&self.client, Some(&name.0));
                match call(api.get(sight.virtual_service_name())).await {
                    Err(error) if error.is_missing() => {}
                    _ => return Err(why),
                }
            }
        }
        // Routes that named both colors reach Envoy before the subset goes: until then requests would find no cluster.
        if state.phase.is_open() {
            tokio::time::sleep(self.subsets_first).await;
        }
        let virtual_services = calls::virtual_services(&self.client, Some(&name.0));
        let list = call(virtual_services.list(&kube::api::ListParams::default()))
            .await
            .map_err(|error| error.told("cannot list VirtualServices", &name.0))?;
        let values: Vec<Value> =
            list.items.into_iter().map(|object| (*cluster::whole(object)).clone()).collect();
        let named = routes::named_subsets(&values, &managed);
        let api = calls::destination_rules(&self.client, Some(&name.0));
        for rule in &sight.rules {
            let rule_name = rule_name(rule);
            let newest = match call(api.get(&rule_name.1)).await {
                Ok(object) => cluster::whole(object),
                Err(error) if error.is_missing() => continue,
                Err(error) => return Err(error.told("cannot read the DestinationRule", &name.0)),
            };
            let done = match routes::released_destination_rule(&newest, &managed, &name.1, named) {
                Released::Unchanged => Ok(()),
                Released::Keep(rule) => patch_rule(&api, &newest, &rule).await.map(drop),
                Released::Delete => call(api.delete(&rule_name.1, &Default::default())).await.map(drop),
            };
            done.map_err(|error| error.told("cannot write the DestinationRule", &name.0))?;
        }
        Ok(())
    }

    async fn let_go(&self, name: &Name) -> Result<(), String> {
        let api = calls::blue_greens(&self.client, Some(&name.0));
        for _ in 0..ATTEMPTS {
            let object = match call(api.get(&name.1)).await {
                Ok(object) => object,
                Err(error) if error.is_missing() => return Ok(()),
                Err(error) => return Err(error.to_string()),
            };
            let rest: Vec<&String> = object
                .metadata
                .finalizers
                .iter()
                .flatten()
                .filter(|finalizer| *finalizer != FINALIZER)
                .collect();
            let change = json!({"metadata": {
                "finalizers": rest,
                "resourceVersion": object.metadata.resource_version,
            }});
            match call(api.patch(&name.1, &params(), &Patch::Merge(change))).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_missing() => return Ok(()),
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error.told("cannot write the BlueGreen", &name.0)),
            }
        }
        Err("others keep changing it".to_owned())
    }
}
