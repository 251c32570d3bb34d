//! A mesh in which much goes on: edits of VirtualServices that have nothing to do with the shop, evenly spread.
//!
//! istiod pushes when 100 ms were quiet, or after 10 s: under these edits a push comes every 10 s.

use super::Cluster;
use crate::clock::{between, now_ns};
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

/// VirtualServices that the edits are spread over.
const OTHERS: u32 = 10;
const NAMESPACE: &str = "elsewhere";

/// The edits; they end with it.
#[derive(Debug)]
pub struct Churn {
    task: JoinHandle<()>,
    done: Arc<AtomicU64>,
    began: u64,
}

/// Makes what is edited. Again is no harm.
pub fn prepare(cluster: &Cluster) {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    let one = |number| {
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": format!("other-{number}"), "namespace": NAMESPACE},
            "spec": {"hosts": [format!("other-{number}.example")], "http": [{"route": route()}]},
        })
    };
    let items: Vec<Value> = [namespace].into_iter().chain((0..OTHERS).map(one)).collect();
    cluster.apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string());
}

// === impl Churn ===

impl Churn {
    /// Begins with so many edits a second.
    pub fn start(cluster: &Cluster, per_second: u32) -> Churn {
        let kind = GroupVersionKind::gvk("networking.istio.io", "v1", "VirtualService");
        let resource = ApiResource::from_gvk(&kind);
        let objects: Api<DynamicObject> = Api::namespaced_with(cluster.client.clone(), NAMESPACE, &resource);
        let done = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&done);
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second);
            for number in 0.. {
                ticks.tick().await;
                let (objects, count) = (objects.clone(), Arc::clone(&count));
                tokio::spawn(async move {
                    let name = format!("other-{}", number % OTHERS);
                    // istiod passes over what does not change the spec.
                    let http = json!([{"timeout": format!("{}s", number + 1), "route": route()}]);
                    let patch = Patch::Merge(json!({"spec": {"http": http}}));
                    let written = objects.patch(&name, &PatchParams::default(), &patch).await;
                    count.fetch_add(u64::from(written.is_ok()), Ordering::Relaxed);
                });
            }
        });
        Churn { task, done, began: now_ns() }
    }

    /// Edits per second that it came to.
    pub fn stop(self) -> f64 {
        self.done.load(Ordering::Relaxed) as f64 / between(self.began, now_ns()).as_secs_f64()
    }
}

impl Drop for Churn {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn route() -> Value {
    json!([{"destination": {"host": "nobody.elsewhere.svc.cluster.local"}}])
}
