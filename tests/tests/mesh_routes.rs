//! What a real API server keeps of our rewrite, what the real istiod makes of it, and what a real Envoy serves.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test asserts by panicking"
)]

use hueshift::routes::{Managed, Outcome, Subsets, destination_rule, read, rewrite, rollback_patch};
use hueshift_core::color::{Color, PerColor};
use hueshift_core::contract::{COLOR_HEADER, ServiceId};
use hueshift_core::release::Route;
use hueshift_core::route_plan::{KeyRule, Pins, RoutePlan};
use hueshift_core::share::Bps;
use hueshift_tests::clock::wait_for;
use hueshift_tests::cluster::shop::{FOREIGN, SERVICE, Setup, Shop};
use hueshift_tests::cluster::{Cluster, Parts, suite};
use hueshift_tests::http::ask_address;
use hueshift_tests::raw::Wire;
use hueshift_tests::tests;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Map, Value, json};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

const SPLIT: &str = include_str!("../../istio/gitops/flux-virtualservices.yaml");

fn main() -> ExitCode {
    suite::main(
        Parts { mesh: true, ..Parts::default() },
        tests![
            every_kind_of_match_is_served_under_its_plan_and_pins_win,
            a_release_leaves_nothing_behind_but_the_subset_of_a_promotion,
            a_rollback_lands_at_once_while_somebody_else_keeps_writing,
            a_patch_of_an_older_list_is_refused_whole,
            a_delegate_is_served_under_its_plan_unless_it_has_no_match,
        ],
    )
}

// === the tests ===

async fn every_kind_of_match_is_served_under_its_plan_and_pins_win(cluster: Arc<Cluster>) {
    let mut bench = Bench::open(&cluster, "matches").await;
    let idle = bench.write(Route { stable: Color::Blue, plan: None }).await;
    let plain = bench.served_as(&idle).await;

    let open = bench.write(plan(1, 5_000, Pins::Keep)).await;
    let served = bench.served_as(&open).await;
    let marked = served.iter().filter(|route| route.name.contains(".hs1."));
    assert_eq!(
        marked.count(),
        3 * 11,
        "eleven match entries of ten managed routes, each two pins and a default"
    );

    // A plan changes where a route leads and nothing else that it does.
    let originals = served.iter().filter(|route| route.color.is_none());
    for (with_plan, without) in originals.zip(&plain) {
        assert_eq!(with_plan.rest, without.rest, "{}", with_plan.name);
    }
    for (at, pin) in served.iter().enumerate().filter(|(_, route)| route.color.is_some()) {
        let default =
            served[at..].iter().find(|route| route.color.is_none() && route.conditions == pin.conditions);
        let default = default.unwrap_or_else(|| panic!("{} stands below its default", pin.name));
        assert_eq!((&pin.name, &pin.rest), (&default.name, &default.rest));
    }

    // The kinds of match of the sample, each with a request that it takes.
    let requests = [
        ("/exact", ""),
        ("/regex/12", ""),
        ("/two", "x-user: tester-1\r\nx-level: 5\r\n"),
        ("/query?beta=1&user=u9", ""),
        ("/authority", ""),
        ("/port", ""),
        ("/mirrors", ""),
        ("/tenants/a/b", ""),
        ("/anything", ""),
    ];
    let mut wire = Wire::open(bench.shop.target).await;
    for (path, headers) in requests {
        for color in Color::BOTH {
            let pinned = format!("{headers}{COLOR_HEADER}: {color}\r\n");
            for _ in 0..5 {
                let answer = wire.get(path, pinned.as_bytes()).await;
                assert_eq!((answer.status, answer.color), (200, Some(color)), "{path}");
            }
        }
        // At 50 % sixty requests miss a color once in 10^18.
        let mut seen = PerColor { blue: 0, green: 0 };
        for _ in 0..60 {
            let color = wire.get(path, headers.as_bytes()).await.color.unwrap_or_else(|| panic!("{path}"));
            *seen.get_mut(color) += 1;
        }
        assert!(seen.blue > 0 && seen.green > 0, "{path}: {seen:?}");
    }
    assert_eq!(wire.get("/source", b"").await.status, 418, "the fault is injected");
    assert_eq!(wire.get("/moved", b"").await.status, 302, "what is not ours answers as before");

    // Without pins a client's color header steers nothing, whatever the filter does.
    let condemned = bench.write(plan(2, 0, Pins::Condemned)).await;
    bench.served_as(&condemned).await;
    for (path, headers) in requests {
        let asked = format!("{headers}{COLOR_HEADER}: green\r\n");
        for _ in 0..5 {
            assert_eq!(wire.get(path, asked.as_bytes()).await.color, Some(Color::Blue), "{path}");
        }
    }
    bench.shop.proxies[0].assert_well().await;
}

async fn a_release_leaves_nothing_behind_but_the_subset_of_a_promotion(cluster: Arc<Cluster>) {
    let bench = Bench::open(&cluster, "traces").await;
    let before = bench.write(Route { stable: Color::Blue, plan: None }).await;

    for (epoch, limit) in [(1, 0), (2, 500), (3, 2_500)] {
        bench.write(plan(epoch, limit, Pins::Keep)).await;
    }
    bench.take_back(&plan(4, 0, Pins::Condemned)).await.unwrap();
    let after = bench.write(Route { stable: Color::Blue, plan: None }).await;
    assert_eq!(stripped(&after), stripped(&before), "after a rollback");
    bench.served_as(&after).await;

    for (epoch, limit) in [(5, 500), (6, 9_500), (7, 10_000)] {
        bench.write(plan(epoch, limit, Pins::Move)).await;
    }
    let promoted = bench.write(Route { stable: Color::Green, plan: None }).await;
    let mut expected = stripped(&before);
    for route in expected["spec"]["http"].as_array_mut().unwrap() {
        if !FOREIGN.iter().any(|name| route["name"] == *name) {
            route["route"][0]["destination"]["subset"] = json!("green");
        }
    }
    assert_eq!(stripped(&promoted), expected, "after a promotion");
    bench.served_as(&promoted).await;
}

async fn a_rollback_lands_at_once_while_somebody_else_keeps_writing(cluster: Arc<Cluster>) {
    let bench = Arc::new(Bench::open(&cluster, "storm").await);
    bench.write(Route { stable: Color::Blue, plan: None }).await;
    let (stop, writes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let writer = tokio::spawn({
        let (bench, stop, writes) = (Arc::clone(&bench), Arc::clone(&stop), Arc::clone(&writes));
        async move {
            while !stop.load(Ordering::Relaxed) {
                let number = writes.fetch_add(1, Ordering::Relaxed);
                let patch = json!([
                    {"op": "add", "path": "/metadata/annotations/storm", "value": number.to_string()},
                    {"op": "add", "path": "/spec/exportTo", "value": [if number % 2 == 0 { "*" } else { "." }]},
                ]);
                let patch = Patch::<()>::Json(serde_json::from_value(patch).unwrap());
                bench.objects().patch(SERVICE, &PatchParams::default(), &patch).await.unwrap();
            }
        }
    });
    for round in 0..20 {
        // The writer goes on while we ramp, so an ordinary write takes as many attempts as it takes.
        bench.write(plan(2 * round + 1, 500, Pins::Keep)).await;
        let seen = bench.now().await;
        let from = writes.load(Ordering::Relaxed);
        wait_for("five foreign writes", Duration::from_secs(30), async || {
            (writes.load(Ordering::Relaxed) >= from + 5).then_some(())
        })
        .await;
        let back = bench.managed(plan(2 * round + 2, 0, Pins::Condemned));
        let patch = rollback_patch(&seen, &back).unwrap();
        let landed = bench.objects().patch(SERVICE, &PatchParams::default(), &Patch::<()>::Json(patch)).await;
        let landed = serde_json::to_value(landed.expect("the first attempt lands")).unwrap();
        assert!(read(&landed, &back).exact);
    }
    stop.store(true, Ordering::Relaxed);
    writer.await.unwrap();
    println!("20 rollbacks against {} foreign writes, none repeated", writes.load(Ordering::Relaxed));
}

async fn a_patch_of_an_older_list_is_refused_whole(cluster: Arc<Cluster>) {
    let bench = Bench::open(&cluster, "older").await;
    bench.write(Route { stable: Color::Blue, plan: None }).await;
    let seen = bench.write(plan(1, 500, Pins::Keep)).await;
    let insert =
        json!([{"op": "add", "path": "/spec/http/0", "value": {"name": "new", "redirect": {"uri": "/"}}}]);
    let insert = Patch::<()>::Json(serde_json::from_value(insert).unwrap());
    bench.objects().patch(SERVICE, &PatchParams::default(), &insert).await.unwrap();
    let now = bench.now().await;
    let back = bench.managed(plan(2, 0, Pins::Condemned));
    let stale = rollback_patch(&seen, &back).unwrap();
    let refused = bench.objects().patch(SERVICE, &PatchParams::default(), &Patch::<()>::Json(stale)).await;
    match refused {
        Err(kube::Error::Api(status)) => assert_eq!(status.code, 422, "{status:?}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.now().await, now);
    let written = bench.take_back(&plan(2, 0, Pins::Condemned)).await.unwrap();
    assert_eq!(written["spec"]["http"][0]["name"], "new");
    assert!(read(&written, &back).exact);
}

async fn a_delegate_is_served_under_its_plan_unless_it_has_no_match(cluster: Arc<Cluster>) {
    let bench = Bench::open(&cluster, "delegates").await;
    cluster.kubectl(&["-n", "delegates", "delete", "virtualservice", SERVICE]);
    let text = SPLIT.replace("namespace: shop", "namespace: delegates");
    cluster.apply(&text.replace("pricing.example", "models.example").replace("[gw]", "[gateway]"));
    let open = bench.write(plan(1, 10_000, Pins::Keep)).await;
    let names = bench.wait_for_names(|names| names.iter().any(|name| name.contains("hs1."))).await;
    let text = plan(1, 10_000, Pins::Keep).plan.unwrap().encode();
    let ours = format!("primary-primary.{text}");
    assert_eq!(names, ["assets", &ours, &ours, &ours]);
    let mut wire = Wire::open(bench.shop.target).await;
    assert_eq!(wire.get("/any", b"").await.color, Some(Color::Green));
    assert_eq!(wire.get("/any", b"x-hueshift-color: blue\r\n").await.color, Some(Color::Blue));

    // Why a delegate without a match is refused: under a root whose match says more, istiod drops what carries a plan.
    let root = json!([{"op": "add", "path": "/spec/http/1/match/0/sourceNamespace", "value": "delegates"}]);
    let mut bare = open;
    for route in bare["spec"]["http"].as_array_mut().unwrap() {
        for entry in route["match"].as_array_mut().unwrap() {
            entry.as_object_mut().unwrap().remove("uri");
        }
    }
    let objects = bench.objects();
    objects.replace(SERVICE, &PostParams::default(), &serde_json::from_value(bare).unwrap()).await.unwrap();
    let root = Patch::<()>::Json(serde_json::from_value(root).unwrap());
    objects.patch("shop", &PatchParams::default(), &root).await.unwrap();
    bench.wait_for_names(|names| names == ["assets"]).await;
    let unmatched = json!({
        "metadata": {"name": SERVICE, "namespace": "delegates"},
        "spec": {"http": [{"route": [{"destination": {"host": SERVICE}}]}]},
    });
    let refused = rewrite(&unmatched, &bench.managed(plan(1, 500, Pins::Keep))).unwrap_err();
    assert_eq!(refused.reason.as_str(), "DelegateWithoutMatch");
}

// === the bench ===

/// A shop with the sample as its VirtualService, and both subsets.
struct Bench {
    shop: Shop,
}

/// An http route as Envoy has it.
#[derive(Debug)]
struct Served {
    name: String,
    /// The color that it pins, if it is a pin.
    color: Option<Color>,
    /// What it matches beside the color.
    conditions: Value,
    /// Clusters and weights.
    to: Vec<(String, u64)>,
    /// All else: what it does to a request.
    rest: Value,
}

impl Bench {
    async fn open(cluster: &Arc<Cluster>, namespace: &str) -> Bench {
        let shop = Shop::open(cluster, namespace, Setup::default()).await;
        let bench = Bench { shop };
        let labels = |color: &str| [("color".to_owned(), color.to_owned())].into();
        let labels = PerColor { blue: labels("blue"), green: labels("green") };
        let wanted = Subsets { blue_green: SERVICE.to_owned(), rule: None, labels, mesh_policy: None };
        let managed = bench.managed(Route { stable: Color::Blue, plan: None });
        let Outcome::Create(rule) = destination_rule(&[], &managed, &wanted) else { panic!("ours is made") };
        let rules = bench.shop.destination_rules();
        let made =
            rules.create(&PostParams::default(), &serde_json::from_value(rule).unwrap()).await.unwrap();
        let made = serde_json::to_value(made).unwrap();
        assert_eq!(
            destination_rule(&[made], &managed, &wanted),
            Outcome::Unchanged,
            "as the API server keeps it"
        );
        bench.shop.apply_everything();
        bench
    }

    fn objects(&self) -> Api<DynamicObject> {
        self.shop.virtual_services()
    }

    fn managed(&self, route: Route) -> Managed {
        Managed {
            id: ServiceId::parse("0123456789abcdef").unwrap(),
            namespace: self.shop.namespace.clone(),
            service: SERVICE.to_owned(),
            domain: "cluster.local".to_owned(),
            routes: Vec::new(),
            subsets: PerColor { blue: "blue".to_owned(), green: "green".to_owned() },
            route,
        }
    }

    async fn now(&self) -> Value {
        self.shop.virtual_service().await
    }

    /// Reads, rewrites and replaces until no other writer came between.
    async fn write(&self, route: Route) -> Value {
        let managed = self.managed(route);
        wait_for("an ordinary write", Duration::from_secs(30), async || {
            let wanted = rewrite(&self.now().await, &managed).unwrap();
            let object = serde_json::from_value(wanted).unwrap();
            match self.objects().replace(SERVICE, &PostParams::default(), &object).await {
                Ok(_) => Some(()),
                Err(kube::Error::Api(status)) if status.code == 409 => None,
                Err(error) => panic!("{error}"),
            }
        })
        .await;
        let written = self.now().await;
        assert!(read(&written, &managed).exact, "the API server keeps what we write");
        written
    }

    /// The rollback's patch on what is there now.
    async fn take_back(&self, route: &Route) -> Result<Value, kube::Error> {
        let patch = rollback_patch(&self.now().await, &self.managed(route.clone())).unwrap();
        self.objects().patch(SERVICE, &PatchParams::default(), &Patch::<()>::Json(patch)).await?;
        Ok(self.now().await)
    }

    /// Waits until Envoy has exactly this VirtualService: names, order, colors and weights.
    async fn served_as(&self, vs: &Value) -> Vec<Served> {
        let wanted = expected(vs, &self.shop.namespace);
        let mut last = Vec::new();
        wait_for("Envoy's routes to be the VirtualService's", Duration::from_secs(30), async || {
            let served = self.dump().await;
            last = served.iter().map(|route| (route.name.clone(), route.color, route.to.clone())).collect();
            (last == wanted).then_some(served)
        })
        .await
    }

    async fn wait_for_names(&self, right: impl Fn(&[String]) -> bool) -> Vec<String> {
        wait_for("Envoy's route names", Duration::from_secs(30), async || {
            let names = self.dump().await.into_iter().map(|route| route.name).collect::<Vec<_>>();
            right(&names).then_some(names)
        })
        .await
    }

    async fn dump(&self) -> Vec<Served> {
        let path = "/config_dump?resource=dynamic_route_configs";
        let (_, text) = ask_address(self.shop.proxies[0].admin, "GET", path, "").await.unwrap();
        let dump: Value = serde_json::from_str(&text).unwrap();
        let configs = dump["configs"].as_array().cloned().unwrap_or_default();
        let hosts =
            configs.iter().flat_map(|config| config["route_config"]["virtual_hosts"].as_array()).flatten();
        let hosts = hosts.filter(|host| host["domains"].to_string().contains("models.example"));
        hosts.flat_map(|host| host["routes"].as_array().cloned().unwrap_or_default()).map(served).collect()
    }
}

/// A route as Envoy must have it: its name, the color of a pin, the clusters with their weights.
type Wanted = (String, Option<Color>, Vec<(String, u64)>);

/// What Envoy must have, read off the VirtualService as Istio's documentation says.
fn expected(vs: &Value, namespace: &str) -> Vec<Wanted> {
    let mut routes = Vec::new();
    for route in vs["spec"]["http"].as_array().unwrap() {
        let to = route["route"].as_array().cloned().unwrap_or_default();
        let cluster = |to: &Value| {
            let host = to["destination"]["host"].as_str().unwrap();
            let full = if host.contains('.') {
                host.to_owned()
            } else {
                format!("{host}.{namespace}.svc.cluster.local")
            };
            let subset = to["destination"]["subset"].as_str().unwrap_or_default();
            format!("outbound|8080|{subset}|{full}")
        };
        let to = match to.as_slice() {
            [only] => vec![(cluster(only), 0)],
            // istiod drops what has no weight.
            both => both
                .iter()
                .map(|to| (cluster(to), to["weight"].as_u64().unwrap()))
                .filter(|to| to.1 > 0)
                .collect(),
        };
        let entries = route["match"].as_array().cloned().unwrap_or_else(|| vec![json!({})]);
        for entry in entries {
            let name = route["name"].as_str().unwrap_or_default();
            let name = match entry["name"].as_str() {
                Some(own) => format!("{name}.{own}"),
                None => name.to_owned(),
            };
            let pinned = entry["headers"][COLOR_HEADER]["exact"].as_str();
            let color = Color::BOTH.into_iter().find(|color| Some(color.as_str()) == pinned);
            routes.push((name, color, to.clone()));
        }
    }
    routes
}

fn served(route: Value) -> Served {
    let name = route["name"].as_str().unwrap_or_default().to_owned();
    let mut rest: Map<String, Value> = route.as_object().unwrap().clone();
    rest.remove("name");
    rest.remove("decorator");
    let mut conditions = rest.remove("match").unwrap();
    let mut color = None;
    if let Some(headers) = conditions.get_mut("headers").and_then(Value::as_array_mut) {
        headers.retain(|header| {
            let ours = header["name"] == COLOR_HEADER;
            if ours {
                let exact = header["string_match"]["exact"].as_str();
                color = Color::BOTH.into_iter().find(|color| Some(color.as_str()) == exact);
            }
            !ours
        });
        if headers.is_empty() {
            conditions.as_object_mut().unwrap().remove("headers");
        }
    }
    // All must hold, and istiod gives them in any order.
    for list in ["headers", "query_parameters"] {
        if let Some(list) = conditions.get_mut(list).and_then(Value::as_array_mut) {
            list.sort_by_key(Value::to_string);
        }
    }
    // Absent means true; istiod says it wherever there is a match.
    conditions
        .as_object_mut()
        .unwrap()
        .retain(|field, value| field != "case_sensitive" || *value != json!(true));
    let mut to = Vec::new();
    let mut headers = Map::new();
    if let Some(action) = rest.get_mut("route").and_then(Value::as_object_mut) {
        if let Some(cluster) = action.remove("cluster") {
            to.push((cluster.as_str().unwrap().to_owned(), 0));
        }
        let weighted = action.remove("weighted_clusters").unwrap_or_default();
        for cluster in weighted["clusters"].as_array().into_iter().flatten() {
            to.push((cluster["name"].as_str().unwrap().to_owned(), cluster["weight"].as_u64().unwrap()));
            let own = cluster.as_object().unwrap().iter().filter(|(field, _)| field.contains("_headers_to_"));
            headers = own.map(|(field, value)| (field.clone(), value.clone())).collect();
        }
    }
    // With one destination istiod puts its headers at the route's.
    for (field, more) in headers {
        let list = rest.entry(field).or_insert_with(|| json!([])).as_array_mut().unwrap();
        list.extend(more.as_array().unwrap().iter().cloned());
    }
    Served { name, color, conditions, to, rest: Value::Object(rest) }
}

fn plan(epoch: u64, limit: u16, pins: Pins) -> Route {
    let (id, limit) = (ServiceId::parse("0123456789abcdef").unwrap(), Bps::new(limit).unwrap());
    let keys = vec![KeyRule::header("x-session-id")];
    let plan = RoutePlan { id, release: 1, epoch, stable: Color::Blue, limit, pins, key_version: 1, keys };
    Route { stable: Color::Blue, plan: Some(plan) }
}

/// An object without what every write changes.
fn stripped(object: &Value) -> Value {
    let mut object = object.clone();
    let metadata = object["metadata"].as_object_mut().unwrap();
    for field in ["resourceVersion", "managedFields", "generation"] {
        assert!(metadata.remove(field).is_some(), "{field}");
    }
    object
}
