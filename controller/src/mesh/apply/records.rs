//! Records and checkpoints into `Release` objects.

use super::super::calls::{CallError, call};
use super::super::sight::Sight;
use super::super::{memory, packed, tell};
use super::{Hand, params, post};
use crate::api::{Release, ReleaseFacts};
use crate::view::ReleaseRecord;
use kube::Api;
use kube::api::Patch;
use serde_json::json;

impl Hand {
    pub(super) async fn write_record(
        &self,
        service: &str,
        sight: &Sight,
        record: &ReleaseRecord,
    ) -> Result<(), String> {
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

    pub(super) async fn write_checkpoint(
        &self,
        service: &str,
        sight: &Sight,
        bytes: &[u8],
    ) -> Result<(), String> {
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

fn facts(sight: &Sight, record: &ReleaseRecord) -> ReleaseFacts {
    ReleaseFacts {
        blue_green: sight.name.1.clone(),
        number: record.release,
        candidate: record.candidate,
        revision: record.revision.clone(),
        stable_revision: record.stable_revision.clone(),
    }
}
