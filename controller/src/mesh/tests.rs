//! From objects of a cluster to what the engine sees, without a cluster.

use super::calls;
use super::cluster::{self, Cluster, Document, Labels, Name, Told};
use super::memory;
use super::shared::Own;
use super::sight::{self, Refusal, Sight};
use crate::api::{BlueGreen, PolicySpec, Release, ReleaseFacts, ReleasePolicy, ReleaseStatus};
use hueshift_core::color::{Color, PerColor};
use hueshift_core::contract::ServiceId;
use hueshift_core::release::{Phase, Route, State};
use hueshift_core::route_plan::{Pins, RoutePlan};
use hueshift_core::share::Bps;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::DynamicObject;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const UID: &str = "61a1dce0-b2c6-4603-849f-221eb0f9723c";

fn name(name: &str) -> Name {
    ("shop".to_owned(), name.to_owned())
}

fn enabled() -> Labels {
    Labels::from([(super::names::ENABLED_LABEL.to_owned(), super::names::YES.to_owned())])
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn blue_green(name: &str, created: &str, spec: Value) -> Arc<Document> {
    let object = json!({
        "apiVersion": "hueshift.dev/v1alpha1", "kind": "BlueGreen",
        "metadata": {"name": name, "namespace": "shop", "uid": UID, "creationTimestamp": created},
        "spec": spec,
    });
    cluster::document(read::<DynamicObject>(object))
}

fn pricing() -> Value {
    json!({
        "service": "pricing",
        "colors": {
            "blue": {"workload": {"name": "pricing-blue"}},
            "green": {"workload": {"name": "pricing-green"}},
        },
    })
}

/// A namespace as a user leaves it before the first release: both colors run, one pod each.
struct Shop(Cluster);

impl Shop {
    fn new() -> Shop {
        let mut shop = Shop(Cluster::default());
        let cluster = &mut shop.0;
        cluster.namespaces.take(Told::Put((String::new(), "shop".to_owned()), enabled()));
        cluster.services.take(Told::Put(name("pricing"), ()));
        shop.routes(json!([{"name": "primary", "route": [{"destination": {"host": "pricing"}}]}]));
        for color in ["blue", "green"] {
            shop.deployment(color, 1, 1);
            shop.replica_set(color, 1, &format!("{color}-1"));
            shop.pod(&format!("{color}-a"), color, &format!("{color}-1"));
        }
        shop.ready(&["blue-a", "green-a"]);
        let document = blue_green("pricing", "2026-01-01T00:00:00Z", pricing());
        shop.0.blue_greens.take(Told::Put(name("pricing"), document));
        shop
    }

    fn routes(&mut self, http: Value) {
        let object = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": "pricing", "namespace": "shop", "resourceVersion": "7"},
            "spec": {"hosts": ["pricing.example"], "http": http},
        });
        self.0.virtual_services.take(Told::Put(name("pricing"), cluster::whole(read(object))));
    }

    fn deployment(&mut self, color: &str, generation: i64, observed: i64) {
        let object: Deployment = read(json!({
            "metadata": {"name": format!("pricing-{color}"), "namespace": "shop", "uid": color, "generation": generation},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": {"app": "pricing", "color": color}},
                "template": {},
            },
            "status": {"observedGeneration": observed},
        }));
        let facts = cluster::deployment(&object);
        self.0.deployments.take(Told::Put(name(&format!("pricing-{color}")), facts));
    }

    fn replica_set(&mut self, color: &str, revision: u32, hash: &str) {
        let object = read(json!({
            "metadata": {
                "name": format!("pricing-{hash}"), "namespace": "shop",
                "labels": {"pod-template-hash": hash},
                "annotations": {"deployment.kubernetes.io/revision": revision.to_string()},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "x", "uid": color, "controller": true}],
            },
        }));
        let facts = cluster::replica_set(&object).unwrap();
        self.0.replica_sets.take(Told::Put(name(&format!("pricing-{hash}")), facts));
    }

    fn pod(&mut self, pod: &str, color: &str, hash: &str) {
        let object: Pod = read(json!({"metadata": {
            "name": pod, "namespace": "shop",
            "labels": {"app": "pricing", "color": color, "pod-template-hash": hash},
        }}));
        self.0.pods.take(Told::Put(name(pod), cluster::pod(object)));
    }

    fn ready(&mut self, pods: &[&str]) {
        let endpoint = |pod: &&str| {
            json!({
                "addresses": ["10.0.0.1"], "conditions": {"ready": true},
                "targetRef": {"kind": "Pod", "name": pod, "namespace": "shop"},
            })
        };
        let object: EndpointSlice = read(json!({
            "metadata": {"name": "pricing-x", "namespace": "shop", "labels": {"kubernetes.io/service-name": "pricing"}},
            "addressType": "IPv4",
            "endpoints": pods.iter().map(endpoint).collect::<Vec<_>>(),
        }));
        self.0.slices.take(Told::Put(name("pricing-x"), cluster::slice(&object).unwrap()));
    }

    fn document(&self) -> Arc<Document> {
        self.0.blue_greens.get("shop", "pricing").unwrap().clone()
    }

    fn look(&self) -> Result<Sight, Refusal> {
        sight::look(&self.0, &name("pricing"), &self.document(), &PerColor::default())
    }

    fn revisions(&self) -> (String, String) {
        let colors = self.look().unwrap().document.spec.colors.clone();
        (colors.blue.revision, colors.green.revision)
    }
}

fn state(phase: Phase) -> State {
    let revisions = PerColor { blue: "blue-1".to_owned(), green: "green-1".to_owned() };
    let id = sight::service_id(&blue_green("pricing", "2026-01-01T00:00:00Z", pricing()));
    let mut state = State::new(id, Color::Blue, revisions, 0);
    state.release = 3;
    state.epoch = 9;
    state.phase = phase;
    state.steps = vec![Bps::new(500).unwrap()];
    state
}

fn with_status(status: Value) -> Document {
    Document { status, ..(*blue_green("pricing", "2026-01-01T00:00:00Z", pricing())).clone() }
}

#[test]
fn a_services_number_is_the_first_half_of_its_uid() {
    assert_eq!(Shop::new().look().unwrap().id.to_string(), "61a1dce0b2c64603");
}

#[test]
fn the_revision_is_the_hash_of_the_newest_replica_set() {
    let mut shop = Shop::new();
    assert_eq!(shop.revisions(), ("blue-1".to_owned(), "green-1".to_owned()));
    shop.replica_set("green", 2, "green-2");
    assert_eq!(shop.revisions().1, "green-2");
    // `kubectl rollout undo` gives an old set a new number.
    shop.replica_set("green", 3, "green-1");
    assert_eq!(shop.revisions().1, "green-1");
}

#[test]
fn a_word_of_the_owner_comes_before_the_hash() {
    let mut shop = Shop::new();
    let mut spec = pricing();
    spec["colors"]["green"]["revision"] = json!("v7");
    shop.0.blue_greens.take(Told::Put(name("pricing"), blue_green("pricing", "2026-01-01T00:00:00Z", spec)));
    assert_eq!(shop.revisions().1, "v7");
}

#[test]
fn a_workload_that_is_away_for_a_moment_is_no_new_revision() {
    let mut shop = Shop::new();
    let mut spec = pricing();
    spec["colors"]["green"]["labels"] = json!({"app": "pricing", "color": "green"});
    let document = blue_green("pricing", "2026-01-01T00:00:00Z", spec);
    shop.0.blue_greens.take(Told::Put(name("pricing"), document.clone()));
    shop.0.deployments.take(Told::Gone(name("pricing-green")));
    let known = PerColor { blue: String::new(), green: "green-1".to_owned() };
    let sight = sight::look(&shop.0, &name("pricing"), &document, &known).unwrap();
    assert_eq!(sight.document.spec.colors.green.revision, "green-1");
}

#[test]
fn a_color_accepts_when_all_wished_pods_of_its_newest_revision_are_ready() {
    let mut shop = Shop::new();
    let accepts = |shop: &Shop| shop.look().unwrap().endpoints.green.accepts();
    assert!(accepts(&shop));
    shop.ready(&["blue-a"]);
    assert!(!accepts(&shop), "no pod is ready");
    // A new revision begins: the old pod still answers.
    shop.replica_set("green", 2, "green-2");
    shop.pod("green-b", "green", "green-2");
    shop.ready(&["blue-a", "green-a"]);
    assert!(!accepts(&shop), "only the old revision is ready");
    shop.ready(&["blue-a", "green-a", "green-b"]);
    assert!(!accepts(&shop), "an old pod would answer too");
    shop.ready(&["blue-a", "green-b"]);
    assert!(accepts(&shop));
    // The Deployment was changed, and its controller has not seen it yet.
    shop.deployment("green", 3, 2);
    assert!(!accepts(&shop));
}

#[test]
fn what_stands_in_the_way_has_a_reason_and_a_remedy() {
    let told = |shop: Shop, reason: &str| {
        let refusal = shop.look().unwrap_err();
        assert_eq!(refusal.reason, reason);
        assert!(refusal.text.contains(':') || refusal.text.contains(';'), "no remedy: {}", refusal.text);
    };
    let mut shop = Shop::new();
    shop.0.namespaces.take(Told::Put((String::new(), "shop".to_owned()), Labels::new()));
    told(shop, sight::NOT_ENABLED);
    let mut shop = Shop::new();
    shop.0.services.take(Told::Gone(name("pricing")));
    told(shop, "ServiceNotFound");
    let mut shop = Shop::new();
    shop.0.virtual_services.take(Told::Gone(name("pricing")));
    told(shop, "VirtualServiceNotFound");
    let mut shop = Shop::new();
    shop.0.deployments.take(Told::Gone(name("pricing-green")));
    told(shop, "WorkloadNotFound");
    let mut shop = Shop::new();
    let mut spec = pricing();
    spec["colors"]["green"]["workload"] =
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "x"});
    shop.0.blue_greens.take(Told::Put(name("pricing"), blue_green("pricing", "2026-01-01T00:00:00Z", spec)));
    told(shop, "UnknownWorkload");
}

#[test]
fn of_two_that_want_the_same_service_the_older_one_has_it() {
    let mut shop = Shop::new();
    let older = blue_green("zebra", "2025-01-01T00:00:00Z", pricing());
    shop.0.blue_greens.take(Told::Put(name("zebra"), older));
    let refusal = shop.look().unwrap_err();
    assert_eq!(refusal.reason, "ClaimedByAnother");
    assert!(refusal.text.contains("zebra"), "{}", refusal.text);
    let younger = blue_green("zebra", "2027-01-01T00:00:00Z", pricing());
    shop.0.blue_greens.take(Told::Put(name("zebra"), younger));
    shop.look().unwrap();
}

#[test]
fn an_object_that_cannot_be_read_is_refused_and_the_others_are_seen() {
    let mut shop = Shop::new();
    let broken = blue_green("broken", "2025-01-01T00:00:00Z", json!({"service": 7}));
    shop.0.blue_greens.take(Told::Put(name("broken"), broken.clone()));
    shop.look().unwrap();
    assert_eq!(sight::readable(&broken).map(BlueGreen::name).unwrap_err().reason, "Unreadable");
}

#[test]
fn what_a_new_list_does_not_name_is_gone() {
    let mut store = cluster::Store::default();
    store.take(Told::Put(name("one"), 1));
    store.take(Told::Put(name("two"), 2));
    store.take(Told::Begin);
    store.take(Told::Fill(name("two"), 3));
    assert_eq!(store.get("shop", "one"), Some(&1), "a list that is not complete changes nothing");
    let touched = store.take(Told::End);
    assert_eq!((store.get("shop", "one"), store.get("shop", "two")), (None, Some(&3)));
    assert_eq!(touched.len(), 2);
}

#[test]
fn a_new_service_starts_with_what_its_routes_name_or_with_a_color_that_answers() {
    let mut shop = Shop::new();
    let first = |shop: &Shop| memory::remembered(&shop.look().unwrap(), &shop.document(), &[]);
    assert_eq!(first(&shop).unwrap().route, Some((Route { stable: Color::Blue, plan: None }, false)));
    shop.ready(&["green-a"]);
    assert_eq!(first(&shop).unwrap().route, Some((Route { stable: Color::Green, plan: None }, false)));
    shop.ready(&[]);
    assert_eq!(first(&shop).unwrap_err().reason, "NoReadyEndpoints");
    // The user has steered it already.
    shop.routes(
        json!([{"name": "primary", "route": [{"destination": {"host": "pricing", "subset": "green"}}]}]),
    );
    assert_eq!(first(&shop).unwrap().route, Some((Route { stable: Color::Green, plan: None }, false)));
}

#[test]
fn a_service_is_not_taken_over_while_callers_would_miss_its_subsets_and_not_let_go_for_it() {
    let mut shop = Shop::new();
    let rule = |namespace: &str, spec: Value| {
        let object = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": {"name": "all", "namespace": namespace, "resourceVersion": "9"}, "spec": spec,
        });
        Told::Put((namespace.to_owned(), "all".to_owned()), cluster::whole(read(object)))
    };
    let unmarked = shop.look().unwrap().mark();
    shop.0.root = "istio-system".to_owned();
    let policy = json!({"host": "*.local", "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}});
    shop.0.destination_rules.take(rule("istio-system", policy.clone()));
    let sight = shop.look().unwrap();
    assert_eq!(sight.subsets.mesh_policy.as_ref(), policy.get("trafficPolicy"));
    assert_ne!(sight.mark(), unmarked, "our rule must follow");
    let first = |shop: &Shop| memory::remembered(&shop.look().unwrap(), &shop.document(), &[]);
    assert!(first(&shop).is_ok());
    shop.0.destination_rules.take(rule("front", json!({"host": "*.local"})));
    let refusal = first(&shop).unwrap_err();
    assert_eq!(refusal.reason, "SubsetsHidden");
    assert!(refusal.text.contains("front/all"), "{}", refusal.text);
    shop.routes(
        json!([{"name": "primary", "route": [{"destination": {"host": "pricing", "subset": "blue"}}]}]),
    );
    assert!(first(&shop).is_ok(), "the routes name a subset already: nobody is spared");
    let managed = with_status(json!({"state": state(Phase::Idle)}));
    let exact = |shop: &Shop| {
        let remembered = memory::remembered(&shop.look().unwrap(), &managed, &[]);
        remembered.expect("it is only told").route.unwrap().1
    };
    assert!(!exact(&shop), "subsets that are missing are written at a start");
    let crate::routes::Outcome::Create(ours) = shop.look().unwrap().rule_outcome() else { panic!("ours") };
    shop.0.destination_rules.take(Told::Put(name("hueshift-pricing"), cluster::whole(read(ours))));
    assert!(exact(&shop));
    shop.0.destination_rules.take(Told::Gone(("front".to_owned(), "all".to_owned())));
    assert!(first(&shop).is_ok());
}

#[test]
fn a_state_that_does_not_read_back_counts_as_lost_and_is_told() {
    let shop = Shop::new();
    let sight = shop.look().unwrap();
    let remembered =
        memory::remembered(&sight, &with_status(json!({"state": {"phase": "dancing"}})), &[]).unwrap();
    assert!(remembered.state.is_none());
    assert!(remembered.problems[0].contains("counts as lost"), "{:?}", remembered.problems);
}

#[test]
fn a_state_of_another_object_is_not_ours() {
    let sight = Shop::new().look().unwrap();
    let mut other = state(Phase::Soaking);
    other.id = ServiceId::from_bytes([1; 8]);
    let remembered = memory::remembered(&sight, &with_status(json!({"state": other})), &[]).unwrap();
    assert!(remembered.state.is_none());
}

#[test]
fn a_plan_without_its_state_is_remembered_as_it_stands() {
    let mut shop = Shop::new();
    let id = shop.look().unwrap().id;
    let plan = RoutePlan {
        id,
        release: 4,
        epoch: 12,
        stable: Color::Green,
        limit: Bps::new(2_500).unwrap(),
        pins: Pins::Move,
        key_version: 1,
        keys: Vec::new(),
    };
    shop.routes(json!([{
        "name": "primary",
        "match": [{"name": plan.encode()}],
        "route": [{"destination": {"host": "pricing", "subset": "green"}}],
    }]));
    let remembered = memory::remembered(&shop.look().unwrap(), &shop.document(), &[]).unwrap();
    let (route, exact) = remembered.route.unwrap();
    assert!(!exact);
    assert_eq!(route, Route { stable: Color::Green, plan: Some(plan) });
}

fn release(number: u32) -> Release {
    let facts = ReleaseFacts {
        blue_green: "pricing".to_owned(),
        number,
        candidate: Color::Green,
        revision: "green-1".to_owned(),
        stable_revision: "blue-1".to_owned(),
    };
    let mut release = Release::new(&Release::name_of("pricing", number), facts);
    release.status = Some(ReleaseStatus { checkpoint: Some(number.to_string()), ..ReleaseStatus::default() });
    release
}

#[test]
fn the_checkpoint_is_that_of_the_open_release() {
    let sight = Shop::new().look().unwrap();
    let releases = [release(2), release(3)];
    let of = |phase| {
        let document = with_status(json!({"state": state(phase)}));
        memory::remembered(&sight, &document, &releases).unwrap().checkpoint
    };
    assert_eq!(of(Phase::Progressing { step: 0 }), Some(b"3".to_vec()));
    assert_eq!(of(Phase::Idle), None);
}

#[test]
fn a_route_that_cannot_be_expressed_is_refused() {
    let mut shop = Shop::new();
    shop.routes(json!([{"name": "primary", "route": [{"destination": {"host": "elsewhere"}}]}]));
    let sight = shop.look().unwrap();
    assert!(memory::remembered(&sight, &shop.document(), &[]).is_err());
}

#[test]
fn the_oldest_ended_releases_go_and_never_an_open_one() {
    let ended = |number| {
        let mut release = release(number);
        release.status.as_mut().unwrap().outcome = Some("promoted".to_owned());
        release
    };
    let most = u32::try_from(memory::KEPT).unwrap();
    let mut releases: Vec<Release> = (1..=most + 2).rev().map(ended).collect();
    assert_eq!(memory::old(&releases), ["pricing-1", "pricing-2"], "of any order");
    releases.retain(|release| release.spec.number > 2);
    releases.push(release(1));
    assert_eq!(memory::old(&releases), [""; 0], "it is still open");
}

fn policy(asks: Value) -> Arc<cluster::Policy> {
    let spec: PolicySpec = read(asks);
    Arc::new(Ok(ReleasePolicy::new("careful", spec)))
}

#[test]
fn what_a_policy_asks_holds_in_the_namespaces_that_it_binds() {
    let mut shop = Shop::new();
    let everywhere = (String::new(), "careful".to_owned());
    let elsewhere = json!({"minSoak": "1h", "namespaceSelector": {"matchLabels": {"tier": "prod"}}});
    shop.0.policies.take(Told::Put(everywhere.clone(), policy(elsewhere)));
    let soak = |shop: &Shop| shop.look().unwrap().document.spec.release.soak.time.as_secs();
    assert_eq!(soak(&shop), 300);
    let mut labels = enabled();
    labels.insert("tier".to_owned(), "prod".to_owned());
    shop.0.namespaces.take(Told::Put((String::new(), "shop".to_owned()), labels));
    assert_eq!(soak(&shop), 3_600);

    let mut spec = pricing();
    spec["release"] = json!({"soak": {"time": "1m"}});
    shop.0.blue_greens.take(Told::Put(name("pricing"), blue_green("pricing", "2026-01-01T00:00:00Z", spec)));
    let forbidden = shop.look().unwrap().forbidden.unwrap();
    assert_eq!(forbidden.reason, "PolicyViolation");
    assert!(forbidden.text.contains("(ReleasePolicy careful); write 1h or more"), "{}", forbidden.text);

    // What nobody can read may ask anything, of anybody.
    shop.0.policies.take(Told::Put(everywhere.clone(), Arc::new(Err("minSoak: not a duration".to_owned()))));
    assert_eq!(shop.look().unwrap().forbidden.unwrap().reason, "UnreadablePolicy");
    shop.0.policies.take(Told::Gone(everywhere));
    assert_eq!(shop.look().unwrap().forbidden, None);
}

#[test]
fn what_we_wrote_is_newer_than_a_late_watch_but_not_than_a_list_of_a_cluster_that_was_set_back() {
    let object = |version: &str| Arc::new(json!({"metadata": {"resourceVersion": version}}));
    let (own, at) = (Own::default(), name("pricing"));
    own.keep(&at, object("90"));
    assert_eq!(own.newest(&at, &object("7")), object("90"));
    // A list that began before the write may lack it.
    own.listed::<()>(&Told::Begin);
    own.keep(&at, object("91"));
    own.listed::<()>(&Told::End);
    assert_eq!(own.newest(&at, &object("7")), object("91"));
    // One that began after it has the truth.
    own.listed::<()>(&Told::Begin);
    own.listed::<()>(&Told::End);
    assert_eq!(own.newest(&at, &object("7")), object("7"));
}

/// What is repeated, and when, is ours to say: the client's own pauses double with every 503 of an outage.
#[tokio::test]
async fn a_call_that_the_api_server_cannot_take_now_is_made_once() {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: super::ControllerArgs,
    }
    let asked = Arc::new(AtomicU32::new(0));
    let count = asked.clone();
    let refuse = move || {
        count.fetch_add(1, Ordering::Relaxed);
        async { (axum::http::StatusCode::SERVICE_UNAVAILABLE, "not now") }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(refuse)).await });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kubeconfig");
    let config = json!({
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": server}}],
        "users": [{"name": "test", "user": {}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    });
    std::fs::write(&file, config.to_string()).unwrap();
    let words = ["controller", "--kubeconfig", file.to_str().unwrap()];
    let Line { args } = clap::Parser::try_parse_from(words).unwrap();
    let client = super::client(&args).await.unwrap();
    let answer = calls::call(calls::virtual_services(&client, Some("shop")).get("pricing")).await;
    assert!(answer.is_err());
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}
