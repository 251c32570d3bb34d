//! What is remembered of a service in the cluster: its state in the `BlueGreen`'s status, the routes as they stand,
//! and the `Release` objects with records and the judge's checkpoint.

use super::calls::{CallError, call};
use super::cluster::Document;
use super::packed;
use super::sight::{Refusal, Sight, refusal};
use crate::api::Release;
use crate::home::Remembered;
use crate::routes::{Hidden, Outcome};
use crate::view::ReleaseRecord;
use hueshift_core::release::{Route, State};
use kube::api::ListParams;
use kube::{Api, Client};
use serde_json::Value;

/// Label of `Release` objects: the name of their `BlueGreen`.
pub const BLUE_GREEN_LABEL: &str = "hueshift.dev/bluegreen";

/// The `Release` objects of one service, oldest first.
///
/// # Errors
/// Why they cannot be read.
pub async fn releases(client: &Client, namespace: &str, name: &str) -> Result<Vec<Release>, CallError> {
    let api: Api<Release> = Api::namespaced(client.clone(), namespace);
    // Without a resource version the list is a quorum read.
    let list = call(api.list(&ListParams::default().labels(&format!("{BLUE_GREEN_LABEL}={name}")))).await?;
    let mut releases = list.items;
    releases.sort_by_key(|release| release.spec.number);
    Ok(releases)
}

/// Ended releases that are kept per service; views show as many.
pub const KEPT: usize = crate::view::MAX_HISTORY;

/// Names of the objects beyond those that are kept, oldest first. An open release is never one.
pub fn old(releases: &[Release]) -> Vec<String> {
    let ended = |release: &&Release| release.status.as_ref().is_some_and(|status| status.outcome.is_some());
    let mut ended: Vec<&Release> = releases.iter().filter(ended).collect();
    ended.sort_by_key(|release| release.spec.number);
    let many = ended.len().saturating_sub(KEPT);
    ended.into_iter().take(many).filter_map(|release| release.metadata.name.clone()).collect()
}

/// The state in a status; a problem for people if it does not read back.
pub fn state(status: &Value) -> (Option<State>, Option<String>) {
    match status.get("state").filter(|state| !state.is_null()) {
        None => (None, None),
        Some(state) => match serde_json::from_value(state.clone()) {
            Ok(state) => (Some(state), None),
            Err(error) => (
                None,
                Some(format!(
                    "status.state cannot be read ({error}); it counts as lost: the stable color serves, and nothing \
                     goes on by itself"
                )),
            ),
        },
    }
}

/// Everything that is remembered of a service that appears.
///
/// # Errors
/// Why it cannot be managed yet.
pub fn remembered(sight: &Sight, document: &Document, releases: &[Release]) -> Result<Remembered, Refusal> {
    let (state, problem) = state(&document.status);
    // A state of another object (a copied manifest with its status) is none of ours.
    let state = state.filter(|state| state.id == sight.id);
    let wanted = state.as_ref().map_or(sight.managed.route.clone(), State::route);
    let found = sight.check(&wanted)?;
    let route = match (&state, found.route) {
        (Some(_), None) => None,
        // Subsets that changed while nobody looked are written with the route.
        (Some(_), Some(route)) => Some((route, found.exact && sight.rule_outcome() == Outcome::Unchanged)),
        (None, Some(route)) if route.plan.is_some() => Some((route, false)),
        (None, found) => {
            // A subset is named from now on. Later it is only told: callers elsewhere must not stop a release.
            if let Some(hidden) = sight.hidden.first().filter(|_| found.is_none()) {
                return Err(refusal(Hidden::REASON, hidden.to_string()));
            }
            let stable = sight.first_live(found.map(|route| route.stable))?;
            Some((Route { stable, plan: None }, false))
        }
    };
    let open = state.as_ref().filter(|state| state.phase.is_open()).map(|state| state.release);
    let checkpoint = releases.iter().find(|release| Some(release.spec.number) == open);
    Ok(Remembered {
        checkpoint: checkpoint
            .and_then(|release| packed::unpack(release.status.as_ref()?.checkpoint.as_deref()?)),
        records: releases.iter().filter_map(record).collect(),
        state,
        route,
        problems: problem.into_iter().collect(),
    })
}

fn record(release: &Release) -> Option<ReleaseRecord> {
    let record = release.status.as_ref()?.record.clone()?;
    serde_json::from_value(record).ok()
}
