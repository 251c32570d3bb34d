//! The mesh home's side of [`Apply`]: state into the `BlueGreen`'s status, records and checkpoints into `Release`
//! objects, routes into the user's VirtualService.
//!
//! One write at a time per service. An ordinary write names the version that it changes and gives up soon when
//! somebody else was faster, so that the engine plans again; **a rollback never waits behind a conflict**: it is a
//! patch that tests only what is ours. Statuses are written only by the controller of the newest term.

use super::calls::{self, CallError, call};
use super::cluster::{Document, Name, version_of};
use super::lease::Tenure;
use super::memory;
use super::observe::{Beside, key};
use super::plugins::Revive;
use super::shared::{Shared, Status, Table, Written};
use super::sight::{NOT_PERMITTED, Refusal, Sight, refusal};
use super::{FINALIZER, names, packed, tell};
use crate::api::{Release, ReleaseFacts};
use crate::home::{Apply, ApplyError};
use crate::routes::{self, Managed, Outcome, Released};
use crate::view::{ReleaseRecord, ServiceView};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hueshift_core::color::Color;
use hueshift_core::planner::Move;
use hueshift_core::release::{Route, State};
use hueshift_core::route_plan::Pins;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// Attempts of an ordinary write against others that write the same object; then the engine plans again.
const ATTEMPTS: usize = 3;
/// Attempts of a rollback in one go, and the pause between two of them: 20 a second.
const ROLLBACK_ATTEMPTS: usize = 40;
const ROLLBACK_PAUSE: Duration = Duration::from_millis(50);
/// How long an attempt of a rollback may hang before another one begins beside it, and how many may.
const ROLLBACK_HEDGE: Duration = Duration::from_secs(1);
const MOST_HEDGES: usize = 4;
/// A deletion is never held up longer than this by routes that cannot be written.
const FAREWELL: Duration = Duration::from_secs(60);
const FAREWELL_PAUSE: Duration = Duration::from_secs(1);

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

    async fn write_route(&self, service: &str, sight: &Sight, route: &Route) -> Result<(), String> {
        let managed = sight.managed.with(route.clone());
        let condemned = route.plan.as_ref().is_some_and(|plan| plan.pins == Pins::Condemned);
        let version = if condemned {
            self.roll_back(sight, &managed).await?
        } else {
            self.ensure_subsets(sight, route).await?;
            self.rewrite(sight, &managed).await?
        };
        self.shared.written.put(service, Written { route: route.clone(), version });
        self.permitted(service);
        Ok(())
    }

    /// The way back: nothing but our own fields is tested, and nothing is waited for. An attempt that hangs does not
    /// hold up the next one; whichever lands first makes the others fail their tests.
    async fn roll_back(&self, sight: &Sight, managed: &Managed) -> Result<u64, String> {
        let name = self.virtual_service_name(sight);
        let seen = self.shared.virtual_services.newest(&name, &sight.virtual_service);
        let mut attempts = FuturesUnordered::new();
        attempts.push(self.try_back(sight, &name, managed, Some(seen)));
        let mut begun = 1;
        loop {
            tokio::select! {
                done = attempts.next() => match done {
                    Some(Ok(Some(version))) => return Ok(version),
                    // Somebody was faster: read and try again.
                    Some(Ok(None)) if begun < ROLLBACK_ATTEMPTS => {
                        begun += 1;
                        tokio::time::sleep(ROLLBACK_PAUSE).await;
                        attempts.push(self.try_back(sight, &name, managed, None));
                    }
                    Some(Ok(None)) | None => {
                        return Err(format!("cannot write VirtualService {}: others keep changing it", name.1));
                    }
                    Some(Err(error)) => {
                        if attempts.is_empty() {
                            return Err(error);
                        }
                    }
                },
                () = tokio::time::sleep(ROLLBACK_HEDGE), if attempts.len() < MOST_HEDGES => {
                    attempts.push(self.try_back(sight, &name, managed, None));
                }
            }
        }
    }

    /// `None`: the object is not as it was seen.
    async fn try_back(
        &self,
        sight: &Sight,
        name: &Name,
        managed: &Managed,
        seen: Option<Arc<Value>>,
    ) -> Result<Option<u64>, String> {
        let api = calls::virtual_services(&self.client, Some(&name.0));
        let newest = match seen {
            Some(seen) => seen,
            None => self.read_again(&api, name).await?,
        };
        let patch = routes::rollback_patch(&newest, managed).map_err(|error| error.to_string())?;
        if patch.0.is_empty() {
            return Ok(version_of(&newest));
        }
        match call(api.patch(&name.1, &params(), &Patch::Json::<()>(patch))).await {
            Ok(object) => Ok(Some(self.keep_virtual_service(name, object))),
            Err(error) if error.is_conflict() || is_invalid(&error) => Ok(None),
            Err(error) => Err(self.cannot_write(sight, name, &error)),
        }
    }

    /// Any other change, against the version that it was made for.
    async fn rewrite(&self, sight: &Sight, managed: &Managed) -> Result<u64, String> {
        let api = calls::virtual_services(&self.client, Some(&sight.name.0));
        let name = self.virtual_service_name(sight);
        let mut newest = self.shared.virtual_services.newest(&name, &sight.virtual_service);
        let mut last = String::new();
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                newest = self.read_again(&api, &name).await?;
            }
            let wanted = routes::rewrite(&newest, managed).map_err(|error| error.to_string())?;
            if wanted == *newest {
                return Ok(version_of(&newest).unwrap_or(0));
            }
            let change = json!({
                "metadata": {"resourceVersion": newest.pointer("/metadata/resourceVersion")},
                "spec": {"http": wanted.pointer("/spec/http")},
            });
            match call(api.patch(&name.1, &params(), &Patch::Merge(change))).await {
                Ok(object) => return Ok(self.keep_virtual_service(&name, object)),
                Err(error) if error.is_conflict() => last = error.to_string(),
                Err(error) => return Err(self.cannot_write(sight, &name, &error)),
            }
        }
        Err(format!("cannot write VirtualService {}: {last}", name.1))
    }

    fn virtual_service_name(&self, sight: &Sight) -> Name {
        (sight.name.0.clone(), sight.virtual_service_name().to_owned())
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

    fn cannot_write(&self, sight: &Sight, name: &Name, error: &CallError) -> String {
        self.told(sight, error, &format!("cannot write VirtualService {}", name.1))
    }

    async fn read_again(&self, api: &Api<DynamicObject>, name: &Name) -> Result<Arc<Value>, String> {
        let object = call(api.get(&name.1))
            .await
            .map_err(|error| error.told(&format!("cannot read VirtualService {}", name.1), &name.0))?;
        let object = super::cluster::whole(object);
        self.shared.virtual_services.keep(name, object.clone());
        Ok(object)
    }

    fn keep_virtual_service(&self, name: &Name, object: DynamicObject) -> u64 {
        let object = super::cluster::whole(object);
        let version = version_of(&object).unwrap_or(0);
        self.shared.virtual_services.keep(name, object);
        version
    }

    /// The subsets before the routes that name them.
    async fn ensure_subsets(&self, sight: &Sight, route: &Route) -> Result<(), String> {
        let api = calls::destination_rules(&self.client, Some(&sight.name.0));
        let mut sight = sight.clone();
        for rule in &mut sight.rules {
            *rule = self.shared.destination_rules.newest(&rule_name(rule), rule);
        }
        let written = match sight.rule_outcome() {
            Outcome::Unchanged => return Ok(()),
            Outcome::Conflict(conflict) => return Err(conflict.to_string()),
            Outcome::Add(rule) => patch_rule(&api, &rule).await,
            Outcome::Create(rule) => match serde_json::from_value::<DynamicObject>(rule) {
                Ok(rule) => call(api.create(&post(), &rule)).await,
                Err(error) => return Err(error.to_string()),
            },
        };
        match written {
            Ok(object) => {
                let rule = super::cluster::whole(object);
                self.shared.destination_rules.keep(&rule_name(&rule), rule);
                // Routes that name both already are not helped by waiting, and a rollback may come meanwhile.
                let name = self.virtual_service_name(&sight);
                let newest = self.shared.virtual_services.newest(&name, &sight.virtual_service);
                let named = routes::named_subsets(&[(*newest).clone()], &sight.managed.with(route.clone()));
                if !(named.blue && named.green) {
                    tokio::time::sleep(self.subsets_first).await;
                }
                Ok(())
            }
            // Seen in time, or changed meanwhile: the next plan looks again.
            Err(error) => Err(self.told(&sight, &error, "cannot write the DestinationRule")),
        }
    }

    async fn write_record(&self, service: &str, sight: &Sight, record: &ReleaseRecord) -> Result<(), String> {
        let api: Api<Release> = Api::namespaced(self.client.clone(), &sight.name.0);
        let name = Release::name_of(&sight.name.1, record.release);
        let told = |error: CallError| self.told(sight, &error, &format!("cannot write Release {name}"));
        let known = self.ensure_release(&api, sight, &facts(sight, record)).await.map_err(told)?;
        if known.status.as_ref().is_some_and(|status| status.outcome.is_some()) {
            return Ok(());
        }
        let status = json!({"status": {
            "outcome": record.end,
            "reason": crate::view::ended(record),
            "startedAt": tell::time(record.started_ms),
            "endedAt": tell::time(record.ended_ms),
            "record": record,
            "checkpoint": null,
        }});
        call(api.patch_status(&name, &params(), &Patch::Merge(status))).await.map_err(told)?;
        tracing::info!(blue_green = service, release = record.release, "{}", crate::view::ended(record));
        self.permitted(service);
        self.prune(&api, sight).await;
        Ok(())
    }

    /// Old records go; a failure is tried again when the next release ends.
    async fn prune(&self, api: &Api<Release>, sight: &Sight) {
        let (namespace, blue_green) = &sight.name;
        let old = match memory::releases(&self.client, namespace, blue_green).await {
            Ok(releases) => memory::old(&releases),
            Err(error) => return tracing::warn!("old Releases of {namespace}/{blue_green} stay: {error}"),
        };
        for name in old {
            match call(api.delete(&name, &Default::default())).await {
                Ok(_) => {}
                Err(error) if error.is_missing() => {}
                Err(error) => tracing::warn!(
                    "{}",
                    error.told(&format!("cannot delete the old Release {name}"), namespace)
                ),
            }
        }
    }

    async fn write_checkpoint(&self, service: &str, sight: &Sight, bytes: &[u8]) -> Result<(), String> {
        let text = packed::pack(bytes);
        if text.len() > crate::api::ReleaseStatus::MAX_CHECKPOINT {
            return Err(format!("it has {} bytes, more than a Release keeps", text.len()));
        }
        let state = self.shared.states.get(service).ok_or("there is no state yet")?;
        let api: Api<Release> = Api::namespaced(self.client.clone(), &sight.name.0);
        let name = Release::name_of(&sight.name.1, state.release);
        let status = json!({"status": {"checkpoint": text}});
        let told = |error: CallError| self.told(sight, &error, &format!("cannot write Release {name}"));
        match call(api.patch_status(&name, &params(), &Patch::Merge(status.clone()))).await {
            Err(error) if error.is_missing() => {}
            other => return other.map(drop).map_err(told),
        }
        let facts = ReleaseFacts {
            blue_green: sight.name.1.clone(),
            number: state.release,
            candidate: state.candidate(),
            revision: state.revisions.get(state.candidate()).clone(),
            stable_revision: state.revisions.get(state.live).clone(),
        };
        self.ensure_release(&api, sight, &facts).await.map_err(told)?;
        call(api.patch_status(&name, &params(), &Patch::Merge(status))).await.map(drop).map_err(told)
    }

    /// The object of a release, made if it is not there.
    async fn ensure_release(
        &self,
        api: &Api<Release>,
        sight: &Sight,
        facts: &ReleaseFacts,
    ) -> Result<Release, CallError> {
        let name = Release::name_of(&facts.blue_green, facts.number);
        match call(api.get(&name)).await {
            Err(error) if error.is_missing() => {}
            other => return other,
        }
        let mut release = Release::new(&name, facts.clone());
        release.metadata.labels =
            Some([(memory::BLUE_GREEN_LABEL.to_owned(), facts.blue_green.clone())].into_iter().collect());
        release.metadata.owner_references = sight.owner().map(|owner| vec![owner]);
        match call(api.create(&post(), &release)).await {
            Err(error) if error.exists() => call(api.get(&name)).await,
            other => other,
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
        let namespaces: BTreeSet<&str> = proxies.iter().filter_map(|proxy| namespace_of(proxy)).collect();
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

impl Beside for Hand {
    /// On an open one our term stands before anything else: a late write of an earlier controller then fails.
    async fn begin(&self, document: &Document) -> Result<(), Refusal> {
        let name = super::cluster::name_of(&document.metadata);
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
        let Some(sight) = self.shared.sights.get(&service) else { return Ok(()) };
        let state = self.shared.states.get(&service).or_else(|| memory::state(&document.status).0);
        let Some(state) = state else { return Ok(()) };
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
        let virtual_services = calls::virtual_services(&self.client, Some(&name.0));
        let list = call(virtual_services.list(&kube::api::ListParams::default()))
            .await
            .map_err(|error| error.told("cannot list VirtualServices", &name.0))?;
        let values: Vec<Value> =
            list.items.into_iter().map(|object| (*super::cluster::whole(object)).clone()).collect();
        let named = routes::named_subsets(&values, &managed);
        let api = calls::destination_rules(&self.client, Some(&name.0));
        for rule in &sight.rules {
            let rule_name = rule_name(rule);
            let newest = match call(api.get(&rule_name.1)).await {
                Ok(object) => super::cluster::whole(object),
                Err(error) if error.is_missing() => continue,
                Err(error) => return Err(error.told("cannot read the DestinationRule", &name.0)),
            };
            let done = match routes::released_destination_rule(&newest, &managed, &name.1, named) {
                Released::Unchanged => Ok(()),
                Released::Keep(rule) => patch_rule(&api, &rule).await.map(drop),
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

async fn patch_rule(api: &Api<DynamicObject>, rule: &Value) -> Result<DynamicObject, CallError> {
    let annotations = rule.pointer("/metadata/annotations").cloned();
    let mut change = json!({
        "metadata": {"resourceVersion": rule.pointer("/metadata/resourceVersion")},
        "spec": {"subsets": rule.pointer("/spec/subsets")},
    });
    if let Some(metadata) = change.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        let ours = json!({"hueshift.dev/subsets": annotations.as_ref().and_then(|all| all.get("hueshift.dev/subsets"))});
        metadata.insert("annotations".to_owned(), ours);
    }
    call(api.patch(&rule_name(rule).1, &params(), &Patch::Merge(change))).await
}

/// The namespace in an Envoy's node id as Istio makes it: `type~address~pod.namespace~domain`.
fn namespace_of(proxy: &str) -> Option<&str> {
    proxy.split('~').nth(2)?.rsplit_once('.').map(|(_, namespace)| namespace)
}

fn rule_name(rule: &Value) -> Name {
    let text = |path: &str| rule.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    (text("/metadata/namespace"), text("/metadata/name"))
}

fn is_invalid(error: &CallError) -> bool {
    matches!(error, CallError::Refused(status) if status.code == 422)
}

fn facts(sight: &Sight, record: &ReleaseRecord) -> ReleaseFacts {
    ReleaseFacts {
        blue_green: sight.name.1.clone(),
        number: record.release,
        candidate: record.candidate,
        revision: record.revision.clone(),
        stable_revision: record.stable_revision.clone(),
    }
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

    #[test]
    fn an_envoys_namespace_stands_in_its_node_id() {
        assert_eq!(namespace_of("router~10.77.0.1~gw.shop~shop.svc.cluster.local"), Some("shop"));
        assert_eq!(namespace_of("sidecar~10.0.0.1~a-b.c-d.team.mesh~x"), Some("mesh"));
        assert_eq!(namespace_of("envoy"), None);
    }
}
