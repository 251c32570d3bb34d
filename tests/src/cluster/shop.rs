//! One service in the mesh, as a user has it before Hueshift comes: a namespace, two Deployments of sample models, a
//! Service over both, a gateway and a VirtualService.
//!
//! Every shop has a namespace, a port and Envoys of its own, so that tests of one cluster do not meet.

use super::Cluster;
use super::gateway::{Gateway, Proxy};
use crate::checker::{self, Findings, Rescue, Story};
use crate::client::{Load, Sent};
use crate::clock::{between, now_ns, wait_for};
use crate::model::{self, Faults, Served};
use hueshift_core::color::{Color, PerColor};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::{EndpointConditions, EndpointSlice};
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// Name of the service, its VirtualService and its BlueGreen.
pub const SERVICE: &str = "pricing";

/// A VirtualService of twelve http routes with every kind of match, and everything that a route can do besides.
const EVERYTHING: &str = include_str!("../../../controller/tests/samples/everything.yaml");

/// The http routes of it that lead elsewhere.
pub const FOREIGN: [&str; 2] = ["moved", "elsewhere"];

/// Port of the pods and of the Service.
const PORT: u16 = 8080;

static NEXT_PORT: AtomicU16 = AtomicU16::new(18080);

/// The shop.
pub struct Shop {
    /// The cluster that it is in.
    pub cluster: Arc<Cluster>,
    /// Its namespace.
    pub namespace: String,
    /// Its gateway's Envoys.
    pub proxies: Vec<Proxy>,
    /// Where they listen.
    pub target: SocketAddr,
    /// Releases told so far, for the checker.
    pub stories: Vec<Story>,
}

/// What a shop has.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Pods of each color.
    pub replicas: PerColor<u32>,
    /// Envoys of the gateway.
    pub gateways: usize,
    /// Workers of each.
    pub workers: usize,
    /// Other http routes than one that matches everything.
    pub routes: Option<Value>,
}

impl Default for Setup {
    fn default() -> Self {
        Setup { replicas: PerColor { blue: 1, green: 1 }, gateways: 1, workers: 2, routes: None }
    }
}

// === impl Shop ===

impl Shop {
    /// Makes everything and waits until the gateway serves.
    pub async fn open(cluster: &Arc<Cluster>, namespace: &str, setup: Setup) -> Self {
        let port = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
        let mut gateway = Gateway::new(namespace);
        gateway.labels.insert("shop".to_owned(), namespace.to_owned());
        gateway.replicas = setup.gateways;
        gateway.workers = setup.workers;
        let items = json!({"apiVersion": "v1", "kind": "List", "items": objects(namespace, port, &setup)});
        cluster.apply(&items.to_string());
        let proxies = gateway.start(cluster.folder()).await;
        let shop = Shop {
            cluster: Arc::clone(cluster),
            namespace: namespace.to_owned(),
            proxies,
            target: SocketAddr::from(([10, 77, 0, 1], port)),
            stories: Vec::new(),
        };
        let mut in_a_row = 0;
        wait_for("the gateway to serve", Duration::from_secs(60), async || {
            let answers = shop.load(1, 100.0).requests(1).finish().await;
            in_a_row = if answers.iter().all(|answer| answer.status == 200) { in_a_row + 1 } else { 0 };
            (in_a_row >= 10).then_some(())
        })
        .await;
        for color in Color::BOTH {
            shop.wait_rolled_out(color).await;
        }
        shop.wait_endpoints(setup.replicas.blue + setup.replicas.green).await;
        shop
    }

    /// Gives the shop a VirtualService that uses everything, and the other service that it names.
    pub fn apply_everything(&self) {
        let namespace = &self.namespace;
        let shadow = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "shadow", "namespace": namespace},
            "spec": {"selector": {"app": "shadow"}, "ports": [{"name": "http", "port": PORT}]},
        });
        self.cluster.apply(&shadow.to_string());
        let text = EVERYTHING
            .replace("gateways: [gw", "gateways: [gateway")
            .replace("pricing.example", "models.example")
            .replace("{prefix: pricing.}", "{prefix: models.}")
            .replace("{istio: gw}", &format!("{{shop: {namespace}}}"))
            .replace("namespace: shop", &format!("namespace: {namespace}"))
            .replace("sourceNamespace: shop", &format!("sourceNamespace: {namespace}"))
            .replace("pricing.shop.svc", &format!("pricing.{namespace}.svc"))
            .replace("port: 18080", &format!("port: {}", self.target.port()));
        self.cluster.apply(&text);
    }

    /// A load on the service.
    pub fn load(&self, sessions: u32, rate: f64) -> Load {
        Load::new(self.target, sessions, rate)
    }

    /// Rolls a revision out on a color, healthy or not, and waits until all its pods are that one and ready.
    pub async fn roll_out(&mut self, color: Color, revision: &str, faults: Option<&Faults>) {
        let story =
            Story { candidate: color, revision: revision.to_owned(), began: now_ns(), rolled_back: false };
        self.stories.push(story);
        let faults = faults.map_or_else(String::new, |faults| serde_json::to_string(faults).expect("JSON"));
        let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "model", "env": [
            {"name": "HUESHIFT_REVISION", "value": revision},
            {"name": "HUESHIFT_FAULTS", "value": if faults.is_empty() { "{}" } else { &faults }},
        ]}]}}}});
        self.patch_deployment(color, &patch).await;
        self.wait_rolled_out(color).await;
    }

    /// Changes the number of a color's pods and waits until they are there.
    pub async fn scale(&self, color: Color, replicas: u32) {
        self.patch_deployment(color, &json!({"spec": {"replicas": replicas}})).await;
        self.wait_rolled_out(color).await;
    }

    async fn patch_deployment(&self, color: Color, patch: &Value) {
        let deployments: Api<Deployment> = self.api();
        let name = format!("{SERVICE}-{color}");
        deployments.patch(&name, &PatchParams::default(), &Patch::Strategic(patch)).await.expect("a patch");
    }

    /// Waits until a color's Deployment has nothing but ready pods of its newest template.
    pub async fn wait_rolled_out(&self, color: Color) {
        let deployments: Api<Deployment> = self.api();
        let name = format!("{SERVICE}-{color}");
        wait_for(&format!("{name} to be rolled out"), Duration::from_secs(60), async || {
            let deployment = deployments.get(&name).await.ok()?;
            let wanted = deployment.spec?.replicas;
            let status = deployment.status?;
            let some = |count: Option<i32>| Some(count.unwrap_or(0));
            let done = status.observed_generation == deployment.metadata.generation
                && some(status.replicas) == wanted
                && some(status.updated_replicas) == wanted
                && some(status.ready_replicas) == wanted;
            done.then_some(())
        })
        .await;
    }

    /// Waits until the Service's slices name so many ready pods. A Deployment is ready first, and the slices may follow
    /// ten seconds later; a service that is taken over meanwhile begins with the color that is in them.
    async fn wait_endpoints(&self, wanted: u32) {
        let slices: Api<EndpointSlice> = self.api();
        let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={SERVICE}"));
        wait_for("every pod to be an endpoint", Duration::from_secs(60), async || {
            let list = slices.list(&of_service).await.ok()?;
            let ready =
                |conditions: Option<EndpointConditions>| conditions.is_some_and(|c| c.ready == Some(true));
            let endpoints = list.items.into_iter().flat_map(|slice| slice.endpoints.unwrap_or_default());
            let count = endpoints.filter(|endpoint| ready(endpoint.conditions.clone())).count();
            (count == wanted as usize).then_some(())
        })
        .await;
    }

    /// Tells a color's pods to fail from now on (plus `after_ms`), or no longer.
    pub async fn set_faults(&self, color: Color, faults: &Faults) {
        let pods = self.pods(color).await;
        model::set_faults(pods.into_iter().map(|(_, address)| address), faults).await;
    }

    /// Names and addresses of a color's living pods.
    pub async fn pods(&self, color: Color) -> Vec<(String, SocketAddr)> {
        let pods: Api<Pod> = self.api();
        let labels = ListParams::default().labels(&format!("app={SERVICE},color={color}"));
        let list = pods.list(&labels).await.expect("pods");
        let living = list.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        living
            .filter_map(|pod| {
                let address = pod.status?.pod_ip?.parse().ok()?;
                Some((pod.metadata.name?, SocketAddr::new(address, PORT)))
            })
            .collect()
    }

    /// What all models that ever ran here were asked, in the order of arrival.
    pub fn served(&self) -> Vec<Served> {
        let mut served: Vec<Served> = self.logs().iter().flat_map(|log| model::read_log(log)).collect();
        served.sort_by_key(|event| event.at);
        served
    }

    /// The same of one color.
    pub fn served_by(&self, color: Color) -> Vec<Served> {
        let mut served = self.served();
        served.retain(|event| event.color == color);
        served
    }

    fn logs(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.cluster.folder().join("pods")).expect("the pods' folder");
        let ours = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.starts_with(&format!("{}_{SERVICE}-", self.namespace)) && name.ends_with(".events")
        };
        entries.flatten().map(|entry| entry.path()).filter(ours).collect()
    }

    /// The release told last ended as rolled back.
    pub fn was_rolled_back(&mut self) {
        self.stories.last_mut().expect("a release").rolled_back = true;
    }

    /// What the checker finds; beside a lost request stands what the proxies say of it.
    pub fn findings(&self, clients: &[Sent]) -> Findings {
        let mut findings = checker::check(clients, &self.served(), &self.stories);
        for lost in clients.iter().filter(|event| event.lost()).take(findings.lost_examples.len()) {
            let its = format!(" session={} ", lost.session);
            for proxy in &self.proxies {
                let lines = proxy.access(lost.sent, lost.done).into_iter().map(|access| access.line);
                let lines = lines.filter(|line| line.contains(&its));
                findings.lost_examples.extend(lines.map(|line| format!("{}: {line}", proxy.node)));
            }
        }
        findings
    }

    /// First bad answer to last request of a revision.
    pub fn rescue(&self, color: Color, revision: &str) -> Option<Rescue> {
        checker::rescue(&self.served(), color, revision)
    }

    /// Waits until a color has got nothing for `quiet`.
    pub async fn wait_quiet(&self, color: Color, quiet: Duration, deadline: Duration) {
        let what = format!("{color} to get nothing for {quiet:?}");
        wait_for(&what, deadline, async || {
            let last = self.served_by(color).last().map_or(0, |event| event.at);
            (between(last, now_ns()) > quiet).then_some(())
        })
        .await;
    }

    /// The VirtualService as it is.
    pub async fn virtual_service(&self) -> Value {
        let object = self.virtual_services().get(SERVICE).await.expect("the VirtualService");
        serde_json::to_value(object).expect("JSON")
    }

    /// The namespace's VirtualServices.
    pub fn virtual_services(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("networking.istio.io", "v1", "VirtualService");
        self.dynamic(&ApiResource::from_gvk(&kind))
    }

    /// The namespace's DestinationRules.
    pub fn destination_rules(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("networking.istio.io", "v1", "DestinationRule");
        self.dynamic(&ApiResource::from_gvk(&kind))
    }

    fn dynamic(&self, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.cluster.client.clone(), &self.namespace, resource)
    }

    /// The namespace's objects of a kind.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.cluster.client.clone(), &self.namespace)
    }
}

/// A namespace that opted in and what is in it.
fn objects(namespace: &str, port: u16, setup: &Setup) -> Vec<Value> {
    let host = format!("{SERVICE}.{namespace}.svc.cluster.local");
    let route = json!([{
        "name": "primary",
        "route": [{"destination": {"host": host, "port": {"number": PORT}}}],
        // What the client sees is what happened.
        "retries": {"attempts": 0},
    }]);
    let mut objects = vec![
        json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": namespace, "labels": {"hueshift.dev/enabled": "true"}},
        }),
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": SERVICE, "namespace": namespace},
            "spec": {
                "selector": {"app": SERVICE},
                "ports": [{"name": "http", "port": PORT, "targetPort": PORT}],
            },
        }),
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
            "metadata": {"name": "gateway", "namespace": namespace},
            "spec": {
                "selector": {"shop": namespace},
                "servers": [{"port": {"number": port, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}],
            },
        }),
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": SERVICE, "namespace": namespace},
            "spec": {
                "hosts": ["models.example"],
                "gateways": ["gateway"],
                "http": setup.routes.clone().unwrap_or(route),
            },
        }),
    ];
    objects.extend(Color::BOTH.map(|color| deployment(namespace, color, *setup.replicas.get(color))));
    objects
}

fn deployment(namespace: &str, color: Color, replicas: u32) -> Value {
    let labels = json!({"app": SERVICE, "color": color.as_str()});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": format!("{SERVICE}-{color}"), "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "terminationGracePeriodSeconds": 5,
                    "containers": [{
                        "name": "model",
                        "image": "registry.example/models/sample-model:1",
                        "ports": [{"name": "http", "containerPort": PORT}],
                        "env": [
                            {"name": "ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                            {"name": "HUESHIFT_LISTEN", "value": format!("$(ADDRESS):{PORT}")},
                            {"name": "HUESHIFT_COLOR", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['color']"}}},
                            {"name": "HUESHIFT_REVISION", "value": format!("{}1", &color.as_str()[..1])},
                            {"name": "HUESHIFT_FAULTS", "value": "{}"},
                        ],
                        "readinessProbe": {"httpGet": {"path": "/_model/health", "port": "http"}, "periodSeconds": 10},
                    }],
                },
            },
        },
    })
}
