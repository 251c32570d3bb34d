//! What stands in the way of a release is a condition with a reason and a remedy, and traffic is left as it is: the
//! real controller against a real API server, rights enforced.
//!
//! Which object leads to which reason is tested without a cluster in `controller/src/mesh`; here the words reach the
//! object, the VirtualService keeps its version, and the remedy that is told works.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]

use hueshift::api::{BlueGreen, BlueGreenStatus};
use hueshift_tests::clock::{patience, wait_for};
use hueshift_tests::cluster::api::ADMIN;
use hueshift_tests::cluster::install::{Where, install, log_tail};
use hueshift_tests::cluster::{Cluster, Parts, suite};
use hueshift_tests::{programs, tests};
use kube::Api;
use serde_json::{Value, json};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let parts = Parts { mesh: true, ..Parts::default() };
    suite::main(
        parts,
        tests![
            what_is_missing_or_cannot_be_expressed_is_told_with_its_remedy_and_traffic_is_untouched,
            callers_whose_own_rule_hides_the_subsets_are_told_before_a_route_names_one,
            a_right_that_is_taken_away_stops_a_release_before_its_first_route,
            what_a_policy_asks_is_in_force_and_a_violation_keeps_every_release_from_beginning,
            plugins_that_meet_in_a_proxy_are_told_where_a_person_can_act,
            a_definition_that_is_missing_is_told_and_nothing_is_decided_blindly,
        ],
    )
}

/// A namespace with a service in it, and nothing that is wrong yet.
struct Shop<'a> {
    cluster: &'a Cluster,
    namespace: &'a str,
}

impl Shop<'_> {
    /// Colors are told by labels and revisions, so no workload is needed: what is tested here ends before traffic.
    fn open<'a>(cluster: &'a Cluster, namespace: &'a str) -> Shop<'a> {
        let shop = Shop { cluster, namespace };
        shop.enable();
        shop.let_in();
        shop.service();
        shop.routes(json!({"http": [route()]}));
        shop
    }

    /// One that never opted in, where nobody let the controller write.
    fn bare<'a>(cluster: &'a Cluster, namespace: &'a str) -> Shop<'a> {
        cluster.kubectl(&["create", "namespace", namespace]);
        let shop = Shop { cluster, namespace };
        shop.service();
        shop.routes(json!({"http": [route()]}));
        shop
    }

    fn enable(&self) {
        let labels = json!({"hueshift.dev/enabled": "true", "tier": self.namespace});
        self.apply(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": labels}}));
    }

    fn let_in(&self) {
        let overlay = programs::root().join("istio/overlays/namespace").display().to_string();
        self.cluster.kubectl(&["apply", "--namespace", self.namespace, "-k", &overlay]);
    }

    fn service(&self) {
        self.apply(self.object("v1", "Service", "pricing", json!({"ports": [{"name": "http", "port": 80}]})));
    }

    fn routes(&self, spec: Value) {
        let mut all = json!({"hosts": ["pricing.example"]});
        all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        self.apply(self.object("networking.istio.io/v1", "VirtualService", "pricing", all));
    }

    fn rule(&self, spec: Value) {
        self.apply(self.object("networking.istio.io/v1", "DestinationRule", "pricing", spec));
    }

    fn blue_green(&self, name: &str, green: &str, more: Value) {
        let color = |color: &str, revision: &str| json!({"labels": {"color": color}, "revision": revision});
        let mut spec = json!({
            "service": "pricing",
            "colors": {"blue": color("blue", "v1"), "green": color("green", green)},
        });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.apply(self.object("hueshift.dev/v1alpha1", "BlueGreen", name, spec));
    }

    fn object(&self, api: &str, kind: &str, name: &str, spec: Value) -> Value {
        json!({"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": self.namespace}, "spec": spec})
    }

    fn apply(&self, object: Value) {
        self.cluster.apply(&object.to_string());
    }

    fn delete(&self, kind: &str, name: &str) {
        self.cluster.kubectl(&["-n", self.namespace, "delete", kind, name]);
    }

    /// Spec and version of the VirtualService; null: there is none.
    fn traffic(&self) -> Value {
        let words =
            ["-n", self.namespace, "get", "virtualservice", "pricing", "--ignore-not-found", "-o", "json"];
        let object: Value = serde_json::from_str(&self.cluster.kubectl(&words)).unwrap_or_default();
        json!([object["metadata"]["resourceVersion"], object["spec"]])
    }

    /// Specs of the DestinationRules; empty: there is none.
    fn rules(&self) -> String {
        let words = ["-n", self.namespace, "get", "destinationrules", "-o"];
        let all = self.cluster.kubectl(&[&words[..], &["jsonpath={.items[*].spec}"]].concat());
        all.trim().to_owned()
    }

    async fn status(&self, name: &str) -> BlueGreenStatus {
        let api: Api<BlueGreen> = Api::namespaced(self.cluster.client.clone(), self.namespace);
        api.get(name).await.unwrap().status.unwrap_or_default()
    }

    /// Waits until a condition has this status and reason; gives its message.
    async fn wait(&self, name: &str, kind: &str, status: &str, reason: &str) -> String {
        let end = tokio::time::Instant::now() + patience(SOON);
        loop {
            let now = self.status(name).await;
            let found = now.conditions.iter().find(|condition| condition.type_ == kind);
            if let Some(found) = found.filter(|found| found.status == status && found.reason == reason) {
                return found.message.clone();
            }
            assert!(
                tokio::time::Instant::now() < end,
                "{}/{name}: no {kind}={status} {reason}: {:#?}\n{}",
                self.namespace,
                now.conditions,
                log_tail(self.cluster)
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// It is not managed for this reason, kstatus reads it as failed, and the message names the remedy.
    async fn refused(&self, name: &str, reason: &str, remedy: &str) {
        let message = self.wait(name, "Ready", "False", reason).await;
        assert!(message.contains(remedy), "{reason} without `{remedy}`: {message}");
        self.wait(name, "Stalled", "True", reason).await;
    }

    async fn ready(&self, name: &str) {
        self.wait(name, "Ready", "True", "Settled").await;
    }
}

/// It names a color already, so that nobody has to be ready to say which one is live.
fn route() -> Value {
    json!({"name": "primary", "route": [{"destination": {"host": "pricing", "subset": "blue"}}]})
}

async fn what_is_missing_or_cannot_be_expressed_is_told_with_its_remedy_and_traffic_is_untouched(
    cluster: Arc<Cluster>,
) {
    install(&cluster, Where::Namespaces, &[]).await;
    let open = |namespace: &'static str| Shop::open(&cluster, namespace);
    let [no_routes, no_service, no_rule, other_subset, tcp, tls, no_workload, two] =
        ["no-routes", "no-service", "no-rule", "other-subset", "tcp", "tls", "no-workload", "two"].map(open);
    no_routes.delete("virtualservice", "pricing");
    no_service.delete("service", "pricing");
    let of_others = json!({"host": "pricing", "subsets": [{"name": "blue", "labels": {"version": "9"}}]});
    other_subset.rule(of_others);
    let stream = json!([{"route": [{"destination": {"host": "pricing"}}]}]);
    tcp.routes(json!({"http": [], "tcp": stream}));
    let sni = json!([{
        "match": [{"sniHosts": ["pricing.example"], "port": 443}],
        "route": [{"destination": {"host": "pricing"}}],
    }]);
    tls.routes(json!({"http": [], "tls": sni}));
    let not_enabled = Shop::bare(&cluster, "not-enabled");
    not_enabled.let_in();
    let no_rights = Shop::bare(&cluster, "no-rights");
    no_rights.enable();

    let shops = [
        &no_routes,
        &no_service,
        &no_rule,
        &other_subset,
        &tcp,
        &tls,
        &no_workload,
        &not_enabled,
        &no_rights,
    ];
    let before = shops.map(Shop::traffic);
    for shop in shops {
        let more = match shop.namespace {
            "no-rule" => json!({"routing": {"destinationRule": "pricing"}}),
            "no-workload" => json!({"colors": {
                "blue": {"workload": {"name": "pricing-blue"}},
                "green": {"workload": {"name": "pricing-green"}},
            }}),
            _ => json!({}),
        };
        shop.blue_green("pricing", "v1", more);
    }
    no_routes.refused("pricing", "VirtualServiceNotFound", "create it, or name another one in").await;
    no_service.refused("pricing", "ServiceNotFound", "create it, or correct spec.service").await;
    no_rule.refused("pricing", "DestinationRuleNotFound", "create it, or").await;
    other_subset.refused("pricing", "SubsetConflict", "rename").await;
    tcp.refused("pricing", "NotHTTP", "move that port to an http route").await;
    tls.refused("pricing", "NotHTTP", "move that port to an http route").await;
    no_workload.refused("pricing", "WorkloadNotFound", "create it (without replicas").await;
    not_enabled.refused("pricing", "NamespaceNotEnabled", "kubectl label namespace not-enabled").await;
    no_rights.refused("pricing", "NotPermitted", "kubectl apply --namespace no-rights -k").await;
    assert_eq!(shops.map(Shop::traffic), before, "traffic is as it was");

    // Of two that claim one VirtualService the older one has it.
    two.blue_green("older", "v1", json!({}));
    two.ready("older").await;
    let managed = two.traffic();
    two.blue_green("younger", "v2", json!({}));
    two.refused("younger", "ClaimedByAnother", "delete one of the two").await;
    assert_eq!(two.traffic(), managed, "the younger one changes nothing");

    // Each remedy works.
    no_routes.routes(json!({"http": [route()]}));
    no_service.service();
    no_rule.rule(json!({"host": "pricing"}));
    other_subset.rule(json!({"host": "pricing", "subsets": [{"name": "nine", "labels": {"version": "9"}}]}));
    tcp.routes(json!({"http": [route()], "tcp": []}));
    not_enabled.enable();
    no_rights.let_in();
    two.delete("bluegreen", "older");
    for shop in [&no_routes, &no_service, &no_rule, &other_subset, &tcp, &not_enabled, &no_rights] {
        shop.ready("pricing").await;
    }
    two.ready("younger").await;
}

async fn callers_whose_own_rule_hides_the_subsets_are_told_before_a_route_names_one(cluster: Arc<Cluster>) {
    install(&cluster, Where::Namespaces, &[]).await;
    let shop = Shop::open(&cluster, "seen-from-afar");
    let callers = Shop::bare(&cluster, "callers");
    shop.routes(json!({"http": [{"name": "primary", "route": [{"destination": {"host": "pricing"}}]}]}));
    let before = shop.traffic();
    callers.rule(json!({"host": "*.seen-from-afar.svc.cluster.local"}));
    shop.blue_green("pricing", "v1", json!({}));
    shop.refused("pricing", "SubsetsHidden", "DestinationRule callers/pricing").await;
    assert_eq!(shop.traffic(), before);
    assert_eq!(shop.rules(), "", "nor was a rule made");
    // The remedy: the caller's rule has them, too.
    let subset = |color: &str| json!({"name": color, "labels": {"color": color}});
    let host = "pricing.seen-from-afar.svc.cluster.local";
    callers.rule(json!({"host": host, "subsets": [subset("blue"), subset("green")]}));
    shop.refused("pricing", "NoReadyEndpoints", "start one of the").await;
    shop.routes(json!({"http": [route()]}));
    shop.ready("pricing").await;
    // Somebody else's rule must not end what is under way: it is told, and no more.
    callers.rule(json!({"host": host}));
    let hidden = async |is: bool| {
        wait_for("the word on hidden subsets", SOON, async || {
            let told = shop.status("pricing").await.problems;
            (told.iter().any(|problem| problem.reason == "SubsetsHidden") == is).then_some(())
        })
        .await;
    };
    hidden(true).await;
    shop.ready("pricing").await;
    callers.delete("destinationrule", "pricing");
    hidden(false).await;
    // What the mesh says of all hosts stays in force beside our rule.
    let mesh = |spec: Value| {
        let meta = json!({"name": "all", "namespace": "istio-system"});
        let kind = ("networking.istio.io/v1", "DestinationRule");
        shop.apply(json!({"apiVersion": kind.0, "kind": kind.1, "metadata": meta, "spec": spec}));
    };
    let policy = json!({"connectionPool": {"tcp": {"maxConnections": 77}}});
    mesh(json!({"host": "*.seen-from-afar.svc.cluster.local", "trafficPolicy": policy}));
    wait_for("the mesh's policy in our rule", SOON, async || shop.rules().contains("77").then_some(())).await;
    cluster.kubectl(&["-n", "istio-system", "delete", "destinationrule", "all"]);
    wait_for("it is gone again", SOON, async || (!shop.rules().contains("77")).then_some(())).await;
}

async fn a_right_that_is_taken_away_stops_a_release_before_its_first_route(cluster: Arc<Cluster>) {
    install(&cluster, Where::Namespaces, &[]).await;
    let shop = Shop::open(&cluster, "revoked");
    shop.blue_green("pricing", "v1", json!({}));
    shop.ready("pricing").await;
    let before = shop.traffic();
    shop.delete("rolebinding", "hueshift");
    shop.blue_green("pricing", "v2", json!({}));
    shop.refused("pricing", "NotPermitted", "kubectl apply --namespace revoked -k istio/overlays/namespace")
        .await;
    assert_eq!(shop.traffic(), before);

    shop.let_in();
    // Nobody is ready to take requests; the plan stands in the route all the same.
    shop.wait("pricing", "Ready", "False", "Preparing").await;
    wait_for("the plan in the route", SOON, async || {
        shop.traffic()[1].to_string().contains("hs1.").then_some(())
    })
    .await;

    // Deleted while no controller is there to see it: the next one gives the routes back before the object may go.
    let scale = |replicas: &str| {
        cluster.kubectl(&["-n", "hueshift-system", "scale", "deployment", "hueshift", replicas]);
    };
    scale("--replicas=0");
    wait_for("the controller to be gone", SOON, async || {
        let pods = cluster.kubectl(&["-n", "hueshift-system", "get", "pods", "-o", "name"]);
        pods.trim().is_empty().then_some(())
    })
    .await;
    cluster.kubectl(&["-n", "revoked", "delete", "bluegreen", "pricing", "--wait=false"]);
    scale("--replicas=1");
    wait_for("the object to go", SOON, async || {
        let left = cluster.kubectl(&["-n", "revoked", "get", "bluegreens", "-o", "name"]);
        left.trim().is_empty().then_some(())
    })
    .await;
    assert!(!shop.traffic()[1].to_string().contains("hs1."), "nothing is split without a judge");
}

async fn what_a_policy_asks_is_in_force_and_a_violation_keeps_every_release_from_beginning(
    cluster: Arc<Cluster>,
) {
    install(&cluster, Where::Namespaces, &[]).await;
    let policy = |spec: Value| {
        let object = json!({
            "apiVersion": "hueshift.dev/v1alpha1", "kind": "ReleasePolicy", "metadata": {"name": "careful"}, "spec": spec,
        });
        cluster.apply(&object.to_string());
    };
    let binds =
        json!({"matchExpressions": [{"key": "tier", "operator": "In", "values": ["plain", "written"]}]});
    policy(json!({"namespaceSelector": binds, "largestStep": "20%", "minSoak": "30m"}));
    let [plain, written, free] = ["plain", "written", "free"].map(|name| Shop::open(&cluster, name));
    let hasty = json!({"release": {"soak": {"time": "1m"}}});

    // Who wrote nothing gets what the platform asks.
    plain.blue_green("pricing", "v1", json!({}));
    plain.ready("pricing").await;
    plain.blue_green("pricing", "v2", json!({}));
    plain.wait("pricing", "Ready", "False", "Preparing").await;
    let state = serde_json::to_value(plain.status("pricing").await.state).unwrap();
    assert_eq!(state["steps"], json!([500, 2500, 3750, 5000, 6500, 8000]), "{state}");

    // What somebody wrote is never rewritten, and nothing begins.
    let before = written.traffic();
    written.blue_green("pricing", "v1", hasty.clone());
    written.refused("pricing", "PolicyViolation", "(ReleasePolicy careful); write 30m or more").await;
    assert_eq!(written.traffic(), before);
    // Another namespace is free to be hasty.
    free.blue_green("pricing", "v1", hasty.clone());
    free.ready("pricing").await;

    // A policy that comes later: what is managed stays managed, a new revision waits.
    let before = free.traffic();
    policy(json!({"minSoak": "30m"}));
    free.refused("pricing", "PolicyViolation", "write 30m or more").await;
    free.blue_green("pricing", "v2", hasty);
    written.blue_green("pricing", "v1", json!({"release": {"soak": {"time": "40m"}}}));
    written.ready("pricing").await;
    let waiting = free.status("pricing").await;
    assert_eq!((waiting.phase.as_deref(), waiting.release), (Some("Idle"), Some(0)));
    assert_eq!(free.traffic(), before);
    cluster.kubectl(&["delete", "releasepolicy", "careful"]);
    free.wait("pricing", "Ready", "False", "Preparing").await;
}

async fn plugins_that_meet_in_a_proxy_are_told_where_a_person_can_act(cluster: Arc<Cluster>) {
    install(&cluster, Where::Namespaces, &[]).await;
    let shop = Shop::open(&cluster, "plugins");
    shop.blue_green("pricing", "v1", json!({}));
    shop.ready("pricing").await;
    let plugin = |namespace: &str, name: &str| {
        let object = json!({
            "apiVersion": "extensions.istio.io/v1alpha1", "kind": "WasmPlugin",
            "metadata": {"name": name, "namespace": namespace, "labels": {"hueshift.dev/plugin": "true"}},
            "spec": {"url": "file:///nowhere", "pluginName": "hueshift", "match": [{"mode": "CLIENT"}]},
        });
        cluster.apply(&object.to_string());
    };
    plugin("plugins", "one");
    plugin("plugins", "two");
    let message = shop.wait("pricing", "FilterAttached", "False", "DoubleAttachment").await;
    assert!(message.contains("plugins/one") && message.contains("remove one"), "{message}");
    shop.ready("pricing").await;
    shop.delete("wasmplugin", "two");
    let told =
        || async { shop.status("pricing").await.conditions.iter().any(|one| one.type_ == "FilterAttached") };
    wait_for("the condition goes", SOON, async || (!told().await).then_some(())).await;

    // Without a selector one in the root namespace runs in the whole mesh.
    plugin("istio-system", "wide");
    let message = shop.wait("pricing", "FilterAttached", "False", "DoubleAttachment").await;
    assert!(message.contains("istio-system/wide has no selector and so is mesh-wide"), "{message}");
    cluster.kubectl(&["-n", "istio-system", "delete", "wasmplugin", "wide"]);
    wait_for("the condition goes", SOON, async || (!told().await).then_some(())).await;
}

/// The last one: it takes a definition out of the cluster.
async fn a_definition_that_is_missing_is_told_and_nothing_is_decided_blindly(cluster: Arc<Cluster>) {
    install(&cluster, Where::Namespaces, &[]).await;
    let shop = Shop::open(&cluster, "undefined");
    shop.rule(json!({"host": "pricing"}));
    shop.blue_green("pricing", "v1", json!({}));
    shop.ready("pricing").await;
    let before = shop.traffic();
    cluster.kubectl(&["delete", "crd", "destinationrules.networking.istio.io", "--timeout=180s"]);
    cluster.kubectl(&["-n", "hueshift-system", "delete", "pod", "--all", "--wait=false"]);
    let message = shop.wait("pricing", "Ready", "False", "CannotWatch").await;
    assert!(
        message.contains("destinationrules") && message.contains("install what defines them: Istio"),
        "{message}"
    );
    assert_eq!(shop.traffic(), before);
    let file = programs::cluster("istio-crds.yaml").display().to_string();
    let words = ["apply", "--server-side", "--force-conflicts", "-f", &file];
    assert!(cluster.try_kubectl(ADMIN, &words, "").status.success());
    shop.ready("pricing").await;
}
