//! Routes into the user's VirtualService, and before them the subsets that they name.
//!
//! **A rollback never waits behind a conflict**: it is a patch that tests only what is ours, tried again beside itself.

use super::super::calls::{self, CallError, call};
use super::super::cluster::{self, Name, version_of};
use super::super::shared::Written;
use super::super::sight::Sight;
use super::{ATTEMPTS, Hand, is_invalid, params, post};
use crate::routes::{self, Managed, Outcome};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hueshift_core::release::Route;
use hueshift_core::route_plan::Pins;
use kube::Api;
use kube::api::{DynamicObject, Patch};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Attempts of a rollback in one go, and the pause between two of them: 20 a second.
const ROLLBACK_ATTEMPTS: usize = 40;
const ROLLBACK_PAUSE: Duration = Duration::from_millis(50);
/// How long an attempt of a rollback may hang before another one begins beside it, and how many may.
const ROLLBACK_HEDGE: Duration = Duration::from_secs(1);
const MOST_HEDGES: usize = 4;

impl Hand {
    pub(super) async fn write_route(
        &self,
        service: &str,
        sight: &Sight,
        route: &Route,
    ) -> Result<(), String> {
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
    pub(super) async fn rewrite(&self, sight: &Sight, managed: &Managed) -> Result<u64, String> {
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

    fn cannot_write(&self, sight: &Sight, name: &Name, error: &CallError) -> String {
        self.told(sight, error, &format!("cannot write VirtualService {}", name.1))
    }

    async fn read_again(&self, api: &Api<DynamicObject>, name: &Name) -> Result<Arc<Value>, String> {
        let object = call(api.get(&name.1))
            .await
            .map_err(|error| error.told(&format!("cannot read VirtualService {}", name.1), &name.0))?;
        let object = cluster::whole(object);
        self.shared.virtual_services.keep(name, object.clone());
        Ok(object)
    }

    fn keep_virtual_service(&self, name: &Name, object: DynamicObject) -> u64 {
        let object = cluster::whole(object);
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
            Outcome::Add(changed) => {
                let name = rule_name(&changed);
                let Some(from) = sight.rules.iter().find(|rule| rule_name(rule) == name) else {
                    return Err(format!(
                        "DestinationRule {}/{} was not seen before it was changed",
                        name.0, name.1
                    ));
                };
                patch_rule(&api, from, &changed).await
            }
            Outcome::Create(rule) => match serde_json::from_value::<DynamicObject>(rule) {
                Ok(rule) => call(api.create(&post(), &rule)).await,
                Err(error) => return Err(error.to_string()),
            },
        };
        match written {
            Ok(object) => {
                let rule = cluster::whole(object);
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
}

pub(super) async fn patch_rule(
    api: &Api<DynamicObject>,
    from: &Value,
    to: &Value,
) -> Result<DynamicObject, CallError> {
    let patch = routes::rule_patch(from, to);
    call(api.patch(&rule_name(from).1, &params(), &Patch::Json::<()>(patch))).await
}

pub(super) fn rule_name(rule: &Value) -> Name {
    let text = |path: &str| rule.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    (text("/metadata/namespace"), text("/metadata/name"))
}
