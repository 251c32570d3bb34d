//! The recipes in `istio/gitops`, JSON in and JSON out: what Argo CD and Flux still compare is the same over a whole
//! release, and an edit that is not ours still shows.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // helpers outside `#[test]` functions

use hueshift::routes::{Managed, Outcome, Subsets, destination_rule, rewrite};
use hueshift_core::color::{Color, PerColor};
use hueshift_core::contract::ServiceId;
use hueshift_core::release::Route;
use hueshift_core::route_plan::{Pins, RoutePlan};
use hueshift_core::share::Bps;
use jaq_core::load::{Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Vars, data, unwrap_valr};
use jaq_json::{Val, read};
use serde_json::{Value, json};

fn documents(name: &str) -> Vec<Value> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../istio/gitops").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    text.split("\n---\n").map(|document| serde_saphyr::from_str(document).unwrap()).collect()
}

/// `del(PATH)`, as Argo CD runs it on both sides.
fn deleted(path: &str, from: &Value) -> Value {
    let code = format!("del({path})");
    let defs = jaq_core::defs();
    let funs = jaq_core::funs();
    let arena = Arena::default();
    let modules = Loader::new(defs).load(&arena, File { code: code.as_str(), path: () }).unwrap();
    let filter = Compiler::default().with_funs(funs).compile(modules).unwrap();
    let context = Ctx::<data::JustLut<Val>>::new(&filter.lut, Vars::new([]));
    let input = read::parse_single(from.to_string().as_bytes()).unwrap();
    let outputs = filter.id.run((context, input)).map(unwrap_valr).collect::<Vec<_>>();
    assert_eq!(outputs.len(), 1, "{path}");
    serde_json::from_str(&outputs[0].as_ref().unwrap().to_string()).unwrap()
}

/// What Argo CD compares of an object.
fn argo_compares(object: &Value) -> Value {
    let application = &documents("argocd.yaml")[0];
    let mut left = object.clone();
    for rule in application["spec"]["ignoreDifferences"].as_array().unwrap() {
        if rule["kind"] == object["kind"] && rule["name"] == object["metadata"]["name"] {
            for path in rule["jqPathExpressions"].as_array().unwrap() {
                left = deleted(path.as_str().unwrap(), &left);
            }
        }
    }
    left
}

/// What Flux compares of an object.
fn flux_compares(object: &Value) -> Value {
    let kustomization = &documents("flux.yaml")[0];
    let mut left = object.clone();
    for rule in kustomization["spec"]["ignore"].as_array().unwrap() {
        let target = &rule["target"];
        if target["kind"] == object["kind"] && target["name"] == object["metadata"]["name"] {
            for path in rule["paths"].as_array().unwrap() {
                let (parent, field) = path.as_str().unwrap().rsplit_once('/').unwrap();
                left.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(field);
            }
        }
    }
    left
}

fn managed(route: Route) -> Managed {
    Managed {
        id: ServiceId::parse("0123456789abcdef").unwrap(),
        namespace: "shop".to_owned(),
        service: "pricing".to_owned(),
        domain: "cluster.local".to_owned(),
        routes: vec!["primary".to_owned()],
        subsets: PerColor { blue: "blue".to_owned(), green: "green".to_owned() },
        route,
    }
}

/// Every kind of write of one promoted release and one that is taken back.
fn release() -> Vec<Route> {
    let plan = |limit: u16, pins| {
        let (id, limit) = (managed(idle(Color::Blue)).id, Bps::new(limit).unwrap());
        let plan = RoutePlan {
            id,
            release: 1,
            epoch: 1,
            stable: Color::Blue,
            limit,
            pins,
            key_version: 1,
            keys: vec![],
        };
        Route { stable: Color::Blue, plan: Some(plan) }
    };
    vec![
        idle(Color::Blue),
        plan(0, Pins::Keep),
        plan(500, Pins::Keep),
        plan(9_500, Pins::Move),
        plan(10_000, Pins::Keep),
        plan(0, Pins::Condemned),
        idle(Color::Green),
    ]
}

fn idle(stable: Color) -> Route {
    Route { stable, plan: None }
}

#[test]
fn argo_cd_sees_no_difference_over_a_whole_release() {
    for mut git in documents("virtualservice.yaml").into_iter().flat_map(|git| {
        let mut named = git.clone();
        named["spec"]["http"][1]["match"] = json!([{"name": "mine", "uri": {"prefix": "/v1"}}, {"port": 80}]);
        [git, named]
    }) {
        for route in release() {
            let live = rewrite(&git, &managed(route.clone())).unwrap();
            assert_ne!(live, git);
            assert_eq!(argo_compares(&live), argo_compares(&git), "{route:?}");
        }
        // The recipe by itself does not hide a route that is not managed.
        git["spec"]["http"][1]["name"] = json!("other");
        assert_eq!(argo_compares(&git), git);
    }
}

#[test]
fn argo_cd_sees_every_edit_that_is_not_ours() {
    let git = documents("virtualservice.yaml").remove(0);
    let edits: [(&str, Value); 8] = [
        ("/spec/hosts/0", json!("other.example")),
        ("/spec/http/0/match/0/uri/prefix", json!("/images")),
        ("/spec/http/0/route/0/destination/host", json!("images")),
        ("/spec/http/0/name", json!("renamed")),
        ("/spec/http/1/timeout", json!("5s")),
        ("/spec/http/1/retries/attempts", json!(9)),
        ("/spec/http/1/route/0/destination/host", json!("elsewhere")),
        ("/spec/http/1/route/0/destination/port/number", json!(9090)),
    ];
    for route in release() {
        let live = rewrite(&git, &managed(route.clone())).unwrap();
        for (path, value) in &edits {
            let mut edited = git.clone();
            *edited.pointer_mut(path).unwrap() = value.clone();
            assert_ne!(argo_compares(&live), argo_compares(&edited), "{path} {route:?}");
        }
        let mut longer = git.clone();
        longer["spec"]["http"]
            .as_array_mut()
            .unwrap()
            .insert(0, json!({"name": "new", "redirect": {"uri": "/"}}));
        assert_ne!(argo_compares(&live), argo_compares(&longer), "{route:?}");
        let mut matched = git.clone();
        matched["spec"]["http"][1]["match"] = json!([{"uri": {"prefix": "/v2"}}]);
        assert_ne!(argo_compares(&live), argo_compares(&matched), "{route:?}");
    }
}

#[test]
fn argo_cd_sees_the_users_destination_rule_but_not_the_colors() {
    let mut git = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
        "metadata": {"name": "pricing", "namespace": "shop"},
        "spec": {"host": "pricing", "trafficPolicy": {"connectionPool": {"http": {"maxRetries": 3}}}},
    });
    let labels = |color: &str| [("color".to_owned(), color.to_owned())].into();
    let labels = PerColor { blue: labels("blue"), green: labels("green") };
    let wanted = Subsets { blue_green: "pricing".to_owned(), rule: None, labels, mesh_policy: None };
    for subsets in [None, Some(json!([{"name": "v1", "labels": {"v": "1"}}]))] {
        if let Some(subsets) = subsets {
            git["spec"]["subsets"] = subsets;
        }
        let outcome = destination_rule(std::slice::from_ref(&git), &managed(idle(Color::Blue)), &wanted);
        let Outcome::Add(live) = outcome else { panic!("{outcome:?}") };
        assert_eq!(argo_compares(&live), argo_compares(&git));
        let mut edited = git.clone();
        edited["spec"]["trafficPolicy"]["connectionPool"]["http"]["maxRetries"] = json!(4);
        assert_ne!(argo_compares(&live), argo_compares(&edited));
    }
}

#[test]
fn flux_sees_the_root_whole_and_leaves_the_delegates_routes_alone() {
    let [root, delegate] = documents("flux-virtualservices.yaml").try_into().unwrap();
    for route in release() {
        let live = rewrite(&delegate, &managed(route)).unwrap();
        assert_ne!(live, delegate);
        assert_eq!(flux_compares(&live), flux_compares(&delegate));
    }
    assert_eq!(flux_compares(&root), root);
    let mut edited = delegate.clone();
    edited["spec"]["exportTo"] = json!(["."]);
    assert_ne!(flux_compares(&edited), flux_compares(&delegate));
}
