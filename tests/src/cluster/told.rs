//! The filters' side of the story: the reports that the controller took, read from its log.

use super::Cluster;
use super::install::logs;
use super::shop::{SERVICE, Shop};
use crate::checker::counts::{self, Told};
use crate::client::Sent;
use crate::clock::patience;
use hueshift::api::BlueGreen;
use hueshift::view::ReleaseRecord;
use hueshift_core::contract::ServiceId;
use kube::Api;
use serde::Deserialize;
use std::time::Duration;

/// The controller's environment with which it tells each report.
pub const TOLD: (&str, &str) =
    ("HUESHIFT_LOG", "info,kube_client=off,kube_runtime=off,hueshift::reports=trace");

/// A worker that has something left to say says it by then.
const LAST_REPORTS: Duration = Duration::from_secs(5);

/// A line of the controller's log.
#[derive(Debug, Deserialize)]
struct Line {
    timestamp: String,
    report: Option<String>,
}

/// All reports that a controller of this cluster took, in that order. It must have been installed with [`TOLD`].
pub fn reports(cluster: &Cluster) -> Vec<Told> {
    let mut told = Vec::new();
    for log in logs(cluster) {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
        told.extend(lines.filter_map(|line| {
            let report = serde_json::from_str(&line.report?).expect("a report");
            let at: jiff::Timestamp = line.timestamp.parse().expect("a time");
            Some(Told { at: u64::try_from(at.as_nanosecond()).expect("a time after 1970"), report })
        }));
    }
    told.sort_by_key(|told| told.at);
    told
}

// === impl Shop ===

impl Shop {
    /// How plans and reports name this service: the beginning of its BlueGreen's UID.
    pub async fn service_id(&self) -> ServiceId {
        let documents: Api<BlueGreen> = self.api();
        let uid = documents.get(SERVICE).await.expect("the BlueGreen").metadata.uid.expect("a UID");
        let digits: String = uid.chars().filter(|c| *c != '-').take(16).collect();
        ServiceId::parse(&digits).expect("hex digits")
    }

    /// Where the logs of clients, servers and filters and the record of the release told last contradict each other.
    /// What a report that is still on its way explains is none, so the last ones are waited for.
    pub async fn contradictions(&self, clients: &[Sent], record: &ReleaseRecord) -> Vec<String> {
        let story = self.stories.last().expect("a release");
        let service = self.service_id().await;
        let end = tokio::time::Instant::now() + patience(LAST_REPORTS);
        loop {
            let mut found = counts::served_once(clients, &self.served());
            found.extend(counts::agree(clients, &reports(&self.cluster), service, story, record));
            if found.is_empty() || tokio::time::Instant::now() > end {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}
