//! Hueshift installed as a user does it: `kubectl apply -k` of an overlay over `istio/`, a label on a namespace, a
//! BlueGreen.
//!
//! The overlay says what every user's must say (where the module is) and what only these tests need: reports
//! without mTLS, because plain Envoys have no identity.

use super::shop::{SERVICE, Shop};
use super::{Cluster, api};
use crate::checker::Story;
use crate::clock::{now_ns, patience, wait_for};
use crate::http::ask_address;
use crate::programs;
use hueshift::api::{BlueGreen, BlueGreenStatus, Release};
use hueshift::view::{ReleaseRecord, ServiceView, View};
use hueshift_core::color::Color;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

/// The controller's namespace.
pub const NAMESPACE: &str = "hueshift-system";

/// Which proxies get the filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Where {
    /// All of the mesh.
    MeshWide,
    /// Those with the label `istio: ingressgateway`, in the root namespace.
    Gateway,
    /// Those of namespaces that opted in; the controller makes the plugins.
    Namespaces,
}

/// Installs and waits until the controller is ready. Installing again changes the environment.
pub async fn install(cluster: &Cluster, place: Where, environment: &[(&str, &str)]) {
    install_module(cluster, place, environment, &programs::filter()).await;
}

/// The same with another filter module.
pub async fn install_module(cluster: &Cluster, place: Where, environment: &[(&str, &str)], module: &Path) {
    let folder = cluster.folder().join("install");
    std::fs::create_dir_all(&folder).expect("the overlay's folder");
    let text = kustomization(&folder, place, environment, module);
    std::fs::write(folder.join("kustomization.yaml"), text.to_string()).expect("the overlay");
    cluster.kubectl(&["apply", "-k", &folder.display().to_string()]);
    let words = ["-n", NAMESPACE, "rollout", "status", "deployment/hueshift", "--timeout=180s"];
    let output = cluster.try_kubectl(api::ADMIN, &words, "");
    assert!(
        output.status.success(),
        "the controller is not ready: {}\n{}",
        String::from_utf8_lossy(&output.stderr),
        log_tail(cluster)
    );
}

/// The end of the controllers' logs.
pub fn log_tail(cluster: &Cluster) -> String {
    let mut text = String::new();
    for log in logs(cluster) {
        let all = std::fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<&str> = all.lines().collect();
        text.push_str(&format!("{}:\n", log.display()));
        text.push_str(&lines[lines.len().saturating_sub(15)..].join("\n"));
    }
    text
}

/// The controllers' logs, also of those that are gone.
pub fn logs(cluster: &Cluster) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(cluster.folder().join("pods")).expect("the pods' folder");
    let ours = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with(NAMESPACE) && name.ends_with(".log")
    };
    entries.flatten().map(|entry| entry.path()).filter(ours).collect()
}

fn kustomization(folder: &Path, place: Where, environment: &[(&str, &str)], module: &Path) -> Value {
    let overlay = match place {
        Where::MeshWide => "overlays/mesh-wide",
        Where::Gateway => "overlays/gateway",
        Where::Namespaces => "base",
    };
    let istio = relative(folder, &programs::root().join("istio"));
    let module = format!("file://{}", module.display());
    // In a quiet mesh a push comes soon.
    let quiet = ("HUESHIFT_DEBOUNCE_MAX", "1");
    let told = environment.iter().any(|(name, _)| *name == quiet.0);
    let environment = environment.iter().chain((!told).then_some(&quiet));
    let mut all: Vec<Value> =
        environment.map(|(name, value)| json!({"name": name, "value": value})).collect();
    if place == Where::Namespaces {
        all.push(json!({"name": "HUESHIFT_PLUGIN_URL", "value": module}));
    }
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "hueshift", "namespace": NAMESPACE},
        "spec": {"template": {"spec": {"containers": [{"name": "hueshift", "env": all}]}}},
    });
    let mut patches = vec![json!({"patch": deployment.to_string()})];
    if place != Where::Namespaces {
        let patch = json!([{"op": "replace", "path": "/spec/url", "value": module}]);
        patches.push(json!({"target": {"kind": "WasmPlugin"}, "patch": patch.to_string()}));
    }
    json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [istio.join(overlay)],
        "components": [istio.join("components/no-identity")],
        "patches": patches,
    })
}

/// Kustomize takes no absolute paths.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let from = from.canonicalize().expect("the folder");
    let to = to.canonicalize().expect("the manifests");
    let up = from.components().skip(1).map(|_| Path::new(".."));
    let down = to.components().skip(1).map(|part| Path::new(part.as_os_str()));
    up.chain(down).collect()
}

// === impl Shop ===

impl Shop {
    /// Lets the controller write here, and applies a BlueGreen with these steps in percent, a short soak and
    /// whatever else `spec` says; waits until it is managed and the gateway's Envoys know it.
    pub async fn adopt(&self, steps: &[u32], spec: Value) {
        let overlay = programs::root().join("istio/overlays/namespace").display().to_string();
        self.cluster.kubectl(&["apply", "--namespace", &self.namespace, "-k", &overlay]);
        self.apply_blue_green(steps, spec);
        let status = self.wait_ready(Duration::from_secs(60)).await;
        // Before, requests reach both colors.
        let subset = format!("|{}|{SERVICE}.", status.live_color.expect("a live color"));
        wait_for("the gateway to send everything to the live color", Duration::from_secs(30), async || {
            for proxy in &self.proxies {
                let path = "/config_dump?resource=dynamic_route_configs";
                let (_, routes) = ask_address(proxy.admin, "GET", path, "").await.ok()?;
                routes.contains(&subset).then_some(())?;
            }
            Some(())
        })
        .await;
    }

    /// The BlueGreen alone.
    pub fn apply_blue_green(&self, steps: &[u32], spec: Value) {
        let steps: Vec<Value> = steps.iter().map(|percent| json!({"share": format!("{percent}%")})).collect();
        let color = |color: Color| json!({"workload": {"name": format!("{SERVICE}-{color}")}});
        let mut document = json!({
            "apiVersion": "hueshift.dev/v1alpha1", "kind": "BlueGreen",
            "metadata": {"name": SERVICE, "namespace": self.namespace},
            "spec": {
                "service": SERVICE,
                "colors": {"blue": color(Color::Blue), "green": color(Color::Green)},
                "session": {"keys": [{"header": "x-session-id"}]},
                "release": {
                    "steps": steps,
                    "soak": {"holdback": "5%", "time": "2s"},
                    "drainDeadline": "2s",
                },
            },
        });
        merge(&mut document["spec"], spec);
        self.cluster.apply(&document.to_string());
    }

    /// Its status.
    pub async fn status(&self) -> BlueGreenStatus {
        let documents: Api<BlueGreen> = self.api();
        documents.get(SERVICE).await.expect("the BlueGreen").status.unwrap_or_default()
    }

    /// Waits until its condition `Ready` is true.
    pub async fn wait_ready(&self, deadline: Duration) -> BlueGreenStatus {
        self.wait_status("ready", deadline, |status| is(status, "Ready")).await
    }

    /// Waits until its status is as wanted; says how it is otherwise.
    pub async fn wait_status(
        &self,
        what: &str,
        deadline: Duration,
        wanted: impl Fn(&BlueGreenStatus) -> bool,
    ) -> BlueGreenStatus {
        let deadline = patience(deadline);
        let end = tokio::time::Instant::now() + deadline;
        loop {
            let status = self.status().await;
            if wanted(&status) {
                return status;
            }
            assert!(
                tokio::time::Instant::now() < end,
                "{} is not {what} after {deadline:?}: {}\n{}",
                self.namespace,
                serde_json::to_string_pretty(&json!({
                    "phase": status.phase, "share": status.share, "release": status.release,
                    "verdict": status.verdict, "evidence": status.evidence,
                    "waitingOn": status.waiting_on, "problems": status.problems,
                    "conditions": status.conditions, "proxies": status.proxies,
                }))
                .expect("JSON"),
                log_tail(&self.cluster)
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What the controller says live, through the API server's proxy.
    pub async fn view(&self) -> ServiceView {
        let output = self.hueshift(&["status", "--output", "json"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let view: View = serde_json::from_str(&text).unwrap_or_else(|error| {
            panic!("no view ({error}): {text}{}", String::from_utf8_lossy(&output.stderr))
        });
        let key = format!("{}/{SERVICE}", self.namespace);
        view.services.into_iter().find(|service| service.name == key).expect("a service of this namespace")
    }

    /// A verb of the CLI on this namespace.
    pub fn hueshift(&self, words: &[&str]) -> Output {
        Command::new(programs::hueshift())
            .args(words)
            .args(["--namespace", &self.namespace])
            .env("KUBECONFIG", self.cluster.kubeconfig(api::ADMIN))
            .env("NO_COLOR", "1")
            .output()
            .expect("hueshift starts")
    }

    /// An order; panics if it is refused.
    pub fn order(&self, verb: &str) {
        let output = self.hueshift(&[verb, SERVICE]);
        assert!(
            output.status.success(),
            "hueshift {verb}: {}\n{}",
            String::from_utf8_lossy(&output.stderr),
            log_tail(&self.cluster)
        );
    }

    /// Waits until the candidate's share is in force in every proxy with traffic.
    pub async fn wait_share(&self, percent: u32, deadline: Duration) -> BlueGreenStatus {
        let share = format!("{percent}%");
        let at_share =
            self.wait_status("at that share", deadline, |status| status.share.as_ref() == Some(&share));
        let epoch = at_share.await.epoch;
        // Of both at one moment only the view can tell.
        wait_for(&format!("{} to enforce {share}", self.namespace), deadline, async || {
            let plan = self.view().await.plan;
            let enforced = plan.with_traffic > 0 && plan.enforcing == plan.with_traffic;
            (Some(plan.epoch) == epoch && enforced).then_some(())
        })
        .await;
        self.status().await
    }

    /// Waits until release `number` has a record and the service has settled after it.
    pub async fn wait_end(&self, number: u32, deadline: Duration) -> ReleaseRecord {
        // The conditions follow the state; those of before the release do not count.
        let ended = format!("release {number} (");
        self.wait_status(&format!("done with release {number}"), deadline, |status| {
            let told = status.conditions.iter().any(|condition| {
                condition.type_ == "Progressing"
                    && condition.status == "False"
                    && condition.message.starts_with(&ended)
            });
            told && status.phase.as_deref() == Some("Idle")
                && status.release == Some(number)
                && is(status, "Ready")
        })
        .await;
        let releases: Api<Release> = self.api();
        wait_for("the release's record", Duration::from_secs(10), async || {
            let release = releases.get(&Release::name_of(SERVICE, number)).await.ok()?;
            serde_json::from_value(release.status?.record?).ok()
        })
        .await
    }

    /// How many releases are recorded.
    pub async fn releases(&self) -> usize {
        let releases: Api<Release> = self.api();
        releases.list(&ListParams::default()).await.expect("releases").items.len()
    }

    /// Says that a release of what runs on a color begins now, for the checker.
    pub fn tell(&mut self, candidate: Color, revision: &str) {
        let story = Story { candidate, revision: revision.to_owned(), began: now_ns(), rolled_back: false };
        self.stories.push(story);
    }

    /// Changes the VirtualService by a JSON patch.
    pub async fn edit_virtual_service(&self, patch: Value) {
        let patch = Patch::<()>::Json(serde_json::from_value(patch).expect("a JSON patch"));
        self.virtual_services().patch(SERVICE, &PatchParams::default(), &patch).await.expect("an edit");
    }
}

/// Whether a condition is true.
pub fn is(status: &BlueGreenStatus, condition: &str) -> bool {
    status.conditions.iter().any(|it| it.type_ == condition && it.status == "True")
}

/// Objects are merged, everything else is replaced.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (_, Value::Null) => {}
        (into, from) => *into = from,
    }
}
