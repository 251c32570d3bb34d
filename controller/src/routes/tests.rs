//! The rules of the rewrite on small examples; `controller/tests/routes.rs` has the properties and the samples.

use super::*;
use serde_json::json;

fn managed(plan: Option<(u16, Pins)>) -> Managed {
    let id = ServiceId::parse("0123456789abcdef").unwrap();
    Managed {
        id,
        namespace: "shop".to_owned(),
        service: "pricing".to_owned(),
        domain: "cluster.local".to_owned(),
        routes: Vec::new(),
        subsets: PerColor { blue: "blue".to_owned(), green: "green".to_owned() },
        route: Route {
            stable: Color::Blue,
            plan: plan.map(|(limit, pins)| RoutePlan {
                id,
                release: 7,
                epoch: 42,
                stable: Color::Blue,
                limit: Bps::new(limit).unwrap(),
                pins,
                key_version: 1,
                keys: Vec::new(),
            }),
        },
    }
}

fn vs(http: Value) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "pricing", "namespace": "shop", "resourceVersion": "7"},
        "spec": {"hosts": ["pricing.example"], "gateways": ["gw"], "http": http},
    })
}

#[test]
fn an_open_route_is_pin_green_pin_blue_and_the_weighted_default() {
    let user = vs(json!([
        {"match": [{"uri": {"prefix": "/static"}}], "route": [{"destination": {"host": "files"}}]},
        {"name": "primary", "timeout": "5s", "route": [{"destination": {"host": "pricing", "port": {"number": 80}}}]},
    ]));
    let plan = "hs1.0123456789abcdef.r7.e42.sb.l500.pm.v1";
    let pin = |color: &str| {
        json!({
            "name": "primary", "timeout": "5s",
            "match": [{"name": plan, "headers": {"x-hueshift-color": {"exact": color}}}],
            "route": [{"destination": {"host": "pricing", "port": {"number": 80}, "subset": color}}],
        })
    };
    let default = json!({
        "name": "primary", "timeout": "5s",
        "match": [{"name": plan}],
        "route": [
            {"destination": {"host": "pricing", "port": {"number": 80}, "subset": "blue"}, "weight": 9500},
            {"destination": {"host": "pricing", "port": {"number": 80}, "subset": "green"}, "weight": 500},
        ],
    });
    let foreign = user["spec"]["http"][0].clone();
    let open = rewrite(&user, &managed(Some((500, Pins::Move)))).unwrap();
    assert_eq!(open, vs(json!([foreign, pin("green"), pin("blue"), default])));
    let short = rewrite(&open, &managed(None)).unwrap();
    let mut adopted = user;
    adopted["spec"]["http"][1]["route"][0]["destination"]["subset"] = json!("blue");
    assert_eq!(short, adopted);
}

fn primary(plan: Option<(u16, Pins)>) -> (Value, Value) {
    let user = vs(json!([
        {"name": "files", "match": [{"uri": {"prefix": "/f"}}], "route": [{"destination": {"host": "files"}}]},
        {"name": "primary", "route": [{"destination": {"host": "pricing"}}]},
        {"name": "second", "match": [{"name": "mine", "port": 80}], "route": [{"destination": {"host": "pricing"}}]},
    ]));
    let written = rewrite(&user, &managed(plan)).unwrap();
    (user, written)
}

fn patched(vs: &Value, patch: &json_patch::Patch) -> Result<Value, json_patch::PatchError> {
    let mut vs = vs.clone();
    json_patch::patch(&mut vs, patch).map(|()| vs)
}

const CONDEMNED: Option<(u16, Pins)> = Some((0, Pins::Condemned));
const RAMP: Option<(u16, Pins)> = Some((500, Pins::Move));

#[test]
fn the_service_is_its_short_and_its_full_name() {
    let managed = managed(None);
    for host in ["pricing", "pricing.shop.svc.cluster.local"] {
        assert!(managed.is_service(host) && managed.is_meant(host), "{host}");
    }
    for host in
        ["", "pricing-next", "pricing.", "pricing.other", "pricing.shop.svc.", "pricing.shop.svc.example.org"]
    {
        assert!(!managed.is_service(host) && !managed.is_meant(host), "{host}");
    }
    // istiod looks for a cluster of just that name, and there is none: seen with the real one.
    for host in ["pricing.shop", "pricing.shop.svc"] {
        let user = vs(json!([{"route": [{"destination": {"host": host}}]}]));
        let refused = rewrite(&user, &managed).unwrap_err();
        assert_eq!(refused.reason, Reason::HalfHost(host.to_owned(), managed.host()));
    }
}

#[test]
fn there_are_no_pins_without_a_share_and_none_to_a_condemned_color() {
    for plan in [Some((0, Pins::Move)), Some((0, Pins::Keep)), CONDEMNED, Some((500, Pins::Condemned))] {
        let (_, written) = primary(plan);
        assert_eq!(written["spec"]["http"].as_array().unwrap().len(), 3, "{plan:?}");
        assert!(!written.to_string().contains("x-hueshift-color"), "{plan:?}");
    }
}

#[test]
fn only_the_named_routes_are_managed() {
    let (user, _) = primary(None);
    let named = Managed { routes: vec!["second".to_owned()], ..managed(RAMP) };
    let written = rewrite(&user, &named).unwrap();
    assert_eq!(written["spec"]["http"][1], user["spec"]["http"][1]);
    assert_eq!(written["spec"]["http"].as_array().unwrap().len(), 5);
}

#[test]
fn match_names_that_were_edited_away_are_recovered() {
    let (_, mut open) = primary(RAMP);
    for route in open["spec"]["http"].as_array_mut().unwrap() {
        for entry in route["match"].as_array_mut().unwrap() {
            entry.as_object_mut().unwrap().remove("name");
        }
    }
    // The user's own name is lost with the rest: that edit is theirs.
    let (user, _) = primary(None);
    let mut expected = user;
    expected["spec"]["http"][2]["match"][0].as_object_mut().unwrap().remove("name");
    for plan in [RAMP, CONDEMNED] {
        assert_eq!(rewrite(&open, &managed(plan)), rewrite(&expected, &managed(plan)), "{plan:?}");
    }
}

#[test]
fn one_pin_that_lost_its_name_is_known_by_its_header_and_its_likeness() {
    for at in [1, 2, 4, 5] {
        let (user, mut open) = primary(RAMP);
        open["spec"]["http"][at]["match"][0].as_object_mut().unwrap().remove("name");
        for plan in [None, RAMP, CONDEMNED] {
            assert_eq!(rewrite(&open, &managed(plan)), rewrite(&user, &managed(plan)), "pin {at}, {plan:?}");
        }
    }
}

#[test]
fn a_damaged_plan_is_cut_off_with_the_rest() {
    let (user, open) = primary(RAMP);
    let text = open.to_string().replace(".e42.sb", ".e4x2");
    let damaged: Value = serde_json::from_str(&text).unwrap();
    assert_ne!(damaged, open);
    for plan in [None, RAMP, CONDEMNED] {
        assert_eq!(rewrite(&damaged, &managed(plan)), rewrite(&user, &managed(plan)), "{plan:?}");
    }
}

#[test]
fn a_route_that_was_renamed_in_a_release_is_still_ours() {
    let (user, _) = primary(None);
    let named = |plan| Managed { routes: vec!["primary".to_owned()], ..managed(plan) };
    let mut open = rewrite(&user, &named(RAMP)).unwrap();
    for route in open["spec"]["http"].as_array_mut().unwrap() {
        if route["name"] == "primary" {
            route["name"] = json!("renamed");
        }
    }
    let back = rewrite(&open, &named(None)).unwrap();
    assert_eq!(back["spec"]["http"][1]["name"], "renamed");
    assert!(!back.to_string().contains("hs1."));
    // Once it is short again the list is wrong, and says so.
    assert_eq!(rewrite(&back, &named(None)).unwrap_err().reason, Reason::NoSuchRoute("primary".to_owned()));
}

#[test]
fn an_edit_that_cannot_be_expressed_stops_the_way_forward_but_never_the_way_back() {
    let (_, mut open) = primary(RAMP);
    let list = open["spec"]["http"].as_array_mut().unwrap();
    // A third destination in the default of `primary`, and a new route that splits with another service.
    list[3]["route"].as_array_mut().unwrap().push(json!({"destination": {"host": "other"}, "weight": 300}));
    let split = json!({"name": "new", "route": [
        {"destination": {"host": "pricing"}, "weight": 50}, {"destination": {"host": "other"}, "weight": 50},
    ]});
    list.insert(0, split.clone());
    let forward = rewrite(&open, &managed(Some((2500, Pins::Move)))).unwrap_err();
    assert_eq!(forward.reason, Reason::OtherService("other".to_owned()));
    for plan in [CONDEMNED, None] {
        let back = rewrite(&open, &managed(plan)).unwrap();
        assert_eq!(back["spec"]["http"][0], split, "{plan:?}");
        assert!(!back["spec"]["http"].to_string().contains("x-hueshift-color"), "{plan:?}");
        let text = back["spec"]["http"][2]["route"].to_string();
        let stable = r#"[{"destination":{"host":"pricing","subset":"blue"},"weight":10000},{"destination":{"host":"other"},"weight":300}]"#;
        assert_eq!(text, stable, "{plan:?}");
        match plan {
            Some(_) => assert_eq!(rewrite(&back, &managed(plan)).unwrap(), back),
            // Closed: now that nothing is in the way of refusing, it is refused.
            None => assert_eq!(rewrite(&back, &managed(None)).unwrap_err(), forward),
        }
        let patch = rollback_patch(&open, &managed(plan)).unwrap();
        assert_eq!(patched(&open, &patch).unwrap(), back, "{plan:?}");
    }
}

#[test]
fn what_cannot_be_expressed_is_refused_with_its_place() {
    let other = "hs1.fedcba9876543210.r1.e1.sb.l0.pm.v1";
    let to = json!([{"destination": {"host": "pricing"}}]);
    let cases = [
        (json!("text"), "MalformedRoute"),
        (json!([{"route": to, "match": {}}]), "MalformedRoute"),
        (json!([{"route": to, "match": ["x"]}]), "MalformedRoute"),
        (json!([]), "NoRouteToService"),
        (json!([{"route": to, "match": [{"name": other}]}]), "ClaimedByAnother"),
        (json!([{"route": to, "match": [{"name": format!("a.{other}")}]}]), "ClaimedByAnother"),
        (json!([{"route": to, "match": [{"withoutHeaders": {"x-hueshift-color": {}}}]}]), "ReservedHeader"),
        (json!([{"delegate": {"name": "x"}}]), "DelegateRoute"),
    ];
    for (http, reason) in cases {
        let refused = rewrite(&vs(http.clone()), &managed(RAMP)).unwrap_err();
        assert_eq!(refused.reason.as_str(), reason, "{http}: {refused}");
        assert!(refused.to_string().starts_with("VirtualService shop/pricing"), "{refused}");
    }
    let named = Managed { routes: vec!["a".to_owned()], ..managed(RAMP) };
    let cases = [
        (json!([{"name": "a", "redirect": {}}]), "RouteWithoutDestination"),
        (json!([{"name": "a", "directResponse": {}}]), "RouteWithoutDestination"),
        (json!([{"name": "a", "delegate": {}}]), "DelegateRoute"),
        (json!([{"name": "a", "route": [{"destination": {"host": "files"}}]}]), "RouteToOtherService"),
        (json!([{"name": "b", "route": to}]), "RouteNotFound"),
    ];
    for (http, reason) in cases {
        assert_eq!(rewrite(&vs(http.clone()), &named).unwrap_err().reason.as_str(), reason, "{http}");
    }
}

#[test]
fn a_tcp_route_of_the_service_is_no_hindrance_when_routes_are_named() {
    let mut user = vs(json!([{"name": "a", "route": [{"destination": {"host": "pricing"}}]}]));
    user["spec"]["tcp"] = json!([{"route": [{"destination": {"host": "pricing"}}]}]);
    assert_eq!(rewrite(&user, &managed(None)).unwrap_err().reason, Reason::NotHttp("tcp"));
    let named = Managed { routes: vec!["a".to_owned()], ..managed(RAMP) };
    assert_eq!(rewrite(&user, &named).unwrap()["spec"]["tcp"], user["spec"]["tcp"]);
}

#[test]
fn a_match_name_is_at_most_as_long_as_the_proxies_read() {
    let room = 1024 - ".hs1.0123456789abcdef.r7.e42.sb.l500.pm.v1".len();
    let named = |chars: usize| {
        vs(json!([{"match": [{"name": "n".repeat(chars)}], "route": [{"destination": {"host": "pricing"}}]}]))
    };
    assert!(rewrite(&named(room), &managed(RAMP)).is_ok());
    let refused = rewrite(&named(room + 1), &managed(RAMP)).unwrap_err();
    assert_eq!(refused.reason, Reason::NameTooLong { chars: 1025, most: 1024 });
}

#[test]
fn a_rollback_patch_tests_names_and_fails_once_the_list_has_moved() {
    let (_, open) = primary(RAMP);
    let patch = rollback_patch(&open, &managed(CONDEMNED)).unwrap();
    let text = serde_json::to_value(&patch).unwrap();
    let ops = text.as_array().unwrap();
    let first_edit = ops.iter().position(|op| op["op"] != "test").unwrap();
    assert!(ops[first_edit..].iter().all(|op| op["op"] != "test"), "{text}");
    let names =
        ops.iter().filter(|op| op["op"] == "test" && op["path"].as_str().unwrap().ends_with("/match/0/name"));
    assert_eq!(names.count(), 6, "one per pin and default: {text}");
    let removed = ops.iter().filter(|op| op["op"] == "remove").map(|op| op["path"].as_str().unwrap());
    let removed = removed.collect::<Vec<_>>();
    assert_eq!(removed, ["/spec/http/5", "/spec/http/4", "/spec/http/2", "/spec/http/1"]);
    assert_eq!(patched(&open, &patch).unwrap(), rewrite(&open, &managed(CONDEMNED)).unwrap());

    // Others may have written elsewhere in the object meanwhile.
    let mut busy = open.clone();
    busy["metadata"]["resourceVersion"] = json!("8");
    busy["metadata"]["labels"] = json!({"a": "b"});
    busy["spec"]["http"][0]["timeout"] = json!("1s");
    assert_eq!(patched(&busy, &patch).unwrap(), rewrite(&busy, &managed(CONDEMNED)).unwrap());

    let len = open["spec"]["http"].as_array().unwrap().len();
    for (a, b) in (0..len).flat_map(|a| (0..a).map(move |b| (a, b))) {
        let mut moved = open.clone();
        moved["spec"]["http"].as_array_mut().unwrap().swap(a, b);
        assert!(patched(&moved, &patch).is_err(), "routes {a} and {b} changed places");
    }
    let mut longer = open.clone();
    longer["spec"]["http"].as_array_mut().unwrap().insert(0, json!({"redirect": {}}));
    assert!(patched(&longer, &patch).is_err());
    let mut shorter = open.clone();
    shorter["spec"]["http"].as_array_mut().unwrap().remove(0);
    assert!(patched(&shorter, &patch).is_err());
    let closed = rewrite(&open, &managed(None)).unwrap();
    assert!(patched(&closed, &patch).is_err());
}

#[test]
fn drift_is_named_in_words() {
    let (user, open) = primary(RAMP);
    let say =
        |vs: &Value, plan| read(vs, &managed(plan)).drift.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(say(&open, RAMP), Vec::<String>::new());
    assert_eq!(
        say(&user, None),
        [
            "http route 2 (`primary`) names no subset, so both colors answer",
            "http route 3 (`second`) names no subset, so both colors answer",
        ]
    );
    let mut edited = open.clone();
    edited["spec"]["http"][3]["route"][1]["weight"] = json!(5000);
    edited["spec"]["http"][1]["timeout"] = json!("1s");
    edited["spec"]["http"].as_array_mut().unwrap().remove(4);
    assert_eq!(
        say(&edited, RAMP),
        [
            "http route 4 (`primary`) has a pin route for green that was edited, moved or doubled",
            "http route 4 (`primary`) sends to blue 9500, green 5000 instead of blue 9500, green 500",
            "http route 6 (`second`) lost its pin route for green",
        ]
    );
    assert_eq!(
        say(&open, CONDEMNED)[..4],
        [
            "http route 4 (`primary`) has a pin route for green that should not be there",
            "http route 4 (`primary`) has a pin route for blue that should not be there",
            "http route 4 (`primary`) carries another plan than the one in force",
            "http route 4 (`primary`) sends to blue 9500, green 500 instead of blue 10000, green 0",
        ]
    );
}

#[test]
fn reading_finds_the_newest_plan_or_the_idle_color() {
    let (user, open) = primary(RAMP);
    let found = read(&open, &managed(None));
    assert_eq!(found.route, Some(managed(RAMP).route));
    assert!(!found.exact);
    assert_eq!(read(&user, &managed(None)).route, None);
    let green = managed(None).with(Route { stable: Color::Green, plan: None });
    let swapped = rewrite(&user, &green).unwrap();
    assert_eq!(read(&swapped, &managed(None)).route, Some(green.route));
}

// === subsets ===

fn wanted() -> Subsets {
    let labels = |color: &str| {
        [("app".to_owned(), "pricing".to_owned()), ("color".to_owned(), color.to_owned())].into()
    };
    Subsets {
        blue_green: "price".to_owned(),
        rule: None,
        labels: PerColor { blue: labels("b"), green: labels("g") },
        mesh_policy: None,
    }
}

fn rule(name: &str, host: &str, more: Value) -> Value {
    let mut spec = json!({"host": host});
    spec.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
    json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec})
}

fn add(outcome: Outcome) -> Value {
    match outcome {
        Outcome::Add(rule) | Outcome::Create(rule) => rule,
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_a_rule_ours_is_created_and_then_left_alone() {
    let made = add(destination_rule(&[], &managed(None), &wanted()));
    assert_eq!(made["metadata"]["name"], "hueshift-price");
    assert_eq!(made["spec"]["host"], "pricing.shop.svc.cluster.local");
    assert_eq!(
        made["spec"]["subsets"][1],
        json!({"name": "green", "labels": {"app": "pricing", "color": "g"}})
    );
    assert_eq!(made["metadata"].get("ownerReferences"), None);
    assert_eq!(destination_rule(&[made], &managed(None), &wanted()), Outcome::Unchanged);
}

#[test]
fn the_users_rule_gets_two_subsets_and_keeps_everything_else() {
    let user = rule(
        "pricing",
        "pricing",
        json!({
            "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}},
            "subsets": [{"name": "v1", "labels": {"v": "1"}, "trafficPolicy": {}}],
        }),
    );
    let added = add(destination_rule(std::slice::from_ref(&user), &managed(None), &wanted()));
    let mut stripped = added.clone();
    stripped["spec"]["subsets"].as_array_mut().unwrap().truncate(1);
    stripped["metadata"].as_object_mut().unwrap().remove("annotations");
    assert_eq!(stripped, user);
    assert_eq!(added["spec"]["subsets"].as_array().unwrap().len(), 3);
    assert_eq!(destination_rule(std::slice::from_ref(&added), &managed(None), &wanted()), Outcome::Unchanged);
    // The workload's labels changed: only what is ours follows.
    let mut other = wanted();
    other.labels.green.insert("rev".to_owned(), "2".to_owned());
    let followed = add(destination_rule(&[added], &managed(None), &other));
    assert_eq!(followed["spec"]["subsets"][2]["labels"]["rev"], "2");
    assert_eq!(followed["spec"]["subsets"][0], user["spec"]["subsets"][0]);
}

#[test]
fn a_subset_of_the_users_own_with_the_same_pods_stays_theirs() {
    let user = rule(
        "pricing",
        "pricing.shop.svc.cluster.local",
        json!({"subsets": [
            {"name": "blue", "labels": {"app": "pricing", "color": "b"}, "trafficPolicy": {"connectionPool": {}}},
            {"name": "green", "labels": {"app": "pricing", "color": "g"}},
        ]}),
    );
    let managed = managed(None);
    assert_eq!(destination_rule(std::slice::from_ref(&user), &managed, &wanted()), Outcome::Unchanged);
    let none = PerColor { blue: false, green: false };
    assert_eq!(released_destination_rule(&user, &managed, "price", none), Released::Unchanged);
}

#[test]
fn subsets_that_contradict_are_conflicts_with_a_remedy() {
    let green = |labels: Value| json!({"subsets": [{"name": "green", "labels": labels}]});
    let mut named = wanted();
    named.rule = Some("pricing".to_owned());
    let mut same = wanted();
    same.labels.green = same.labels.blue.clone();
    // A second Deployment that only adds a label: blue's subset would choose its pods, too.
    let mut within = same.clone();
    within.labels.green.insert("track".to_owned(), "green".to_owned());
    let mut none = wanted();
    none.labels.green.clear();
    let selector = json!({"workloadSelector": {"matchLabels": {"a": "b"}}});
    let cases = [
        (vec![rule("pricing", "pricing", green(json!({"color": "other"})))], wanted(), "SubsetConflict"),
        (vec![rule("pricing", "pricing", green(json!(null)))], wanted(), "SubsetConflict"),
        (vec![], named.clone(), "DestinationRuleNotFound"),
        (vec![rule("pricing", "files", json!({}))], named.clone(), "DestinationRuleOfOtherHost"),
        (vec![rule("hueshift-price", "files", json!({}))], wanted(), "DestinationRuleOfOtherHost"),
        (vec![rule("pricing", "pricing", selector)], named, "DestinationRuleForSomeWorkloads"),
        (vec![], same, "ColorsNotApart"),
        (vec![], within, "ColorsNotApart"),
        (vec![], none, "ColorsNotApart"),
    ];
    for (rules, wanted, reason) in cases {
        match destination_rule(&rules, &managed(None), &wanted) {
            Outcome::Conflict(conflict) => assert_eq!(conflict.reason.as_str(), reason, "{conflict}"),
            other => panic!("{reason}: {other:?}"),
        }
    }
}

#[test]
fn of_several_rules_the_users_oldest_gets_the_subsets() {
    let dated = |name: &str, at: &str| {
        let mut rule = rule(name, "pricing", json!({}));
        rule["metadata"]["creationTimestamp"] = json!(at);
        rule
    };
    let rules = [
        dated("hueshift-price", "2020-01-01T00:00:00Z"),
        dated("a", "2026-01-02T00:00:00Z"),
        dated("b", "2026-01-01T00:00:00Z"),
    ];
    assert_eq!(add(destination_rule(&rules, &managed(None), &wanted()))["metadata"]["name"], "b");
}

#[test]
fn a_wildcard_rule_that_ours_would_hide_lends_its_policy() {
    let wild =
        rule("mesh", "*.shop.svc.cluster.local", json!({"trafficPolicy": {"tls": {"mode": "DISABLE"}}}));
    let wider = rule("wider", "*.local", json!({"trafficPolicy": {"tls": {"mode": "SIMPLE"}}}));
    let made = add(destination_rule(&[wider, wild.clone()], &managed(None), &wanted()));
    assert_eq!(made["spec"]["trafficPolicy"], wild["spec"]["trafficPolicy"]);
    // When the wildcard goes, so does the copy.
    let after = add(destination_rule(std::slice::from_ref(&made), &managed(None), &wanted()));
    assert_eq!(after["spec"].get("trafficPolicy"), None);
}

#[test]
fn the_root_namespaces_policy_is_copied_where_the_namespace_has_none() {
    let policy = |mode: &str| json!({"trafficPolicy": {"tls": {"mode": mode}}});
    let all = rule("all", "*.local", policy("ISTIO_MUTUAL"));
    let exact = rule("one", "pricing.shop.svc.cluster.local", policy("SIMPLE"));
    let of_root = |rules: &[&Value]| {
        let mesh_policy = mesh_policy(rules.iter().copied(), &managed(None), "istio-system");
        Subsets { mesh_policy, ..wanted() }
    };
    let made = |own: &[Value], root: &[&Value]| add(destination_rule(own, &managed(None), &of_root(root)));
    assert_eq!(made(&[], &[&all])["spec"]["trafficPolicy"]["tls"]["mode"], "ISTIO_MUTUAL");
    assert_eq!(made(&[], &[&all, &exact])["spec"]["trafficPolicy"]["tls"]["mode"], "SIMPLE");
    let short = rule("short", "pricing", policy("SIMPLE"));
    assert_eq!(made(&[], &[&short])["spec"].get("trafficPolicy"), None, "a service of the root namespace");
    let private = rule("gateways", "*.local", json!({"exportTo": ["."], "trafficPolicy": {}}));
    assert_eq!(made(&[], &[&private])["spec"].get("trafficPolicy"), None, "nobody else sees it");
    let mut some = policy("DISABLE");
    some["workloadSelector"] = json!({"matchLabels": {"app": "gateway"}});
    let some = rule("some", "*.local", some);
    assert_eq!(made(&[], &[&some])["spec"].get("trafficPolicy"), None, "nor this one");
    let (mut first, mut second) = (rule("a", "*.local", json!({})), all.clone());
    first["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    second["metadata"]["creationTimestamp"] = json!("2026-02-01T00:00:00Z");
    assert_eq!(
        made(&[], &[&second, &first])["spec"]["trafficPolicy"]["tls"]["mode"],
        "ISTIO_MUTUAL",
        "merged"
    );
    let own = rule("ours", "*.shop.svc.cluster.local", policy("DISABLE"));
    assert_eq!(made(&[own], &[&all])["spec"]["trafficPolicy"]["tls"]["mode"], "DISABLE");
    // It goes and comes with what it was copied from.
    let copied = made(&[], &[&all]);
    assert_eq!(
        destination_rule(std::slice::from_ref(&copied), &managed(None), &of_root(&[&all])),
        Outcome::Unchanged
    );
    assert_eq!(made(&[copied], &[])["spec"].get("trafficPolicy"), None);
}

/// What hides the subsets, by these rules elsewhere and this one of the service's namespace.
fn hidden_by(elsewhere: &[(&str, Value)], own: Option<&Value>, vs: &Value) -> Vec<String> {
    let rules = elsewhere.iter().map(|(namespace, rule)| (*namespace, rule));
    let rules = rules.chain(own.map(|rule| ("shop", rule)));
    hidden(rules, own, vs, &managed(None), &wanted(), "istio-system")
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn a_rule_of_the_callers_namespace_hides_the_subsets_unless_it_has_them() {
    const FULL: &str = "pricing.shop.svc.cluster.local";
    let vs = json!({"spec": {}});
    let by = |namespace: &str, rules: &[Value]| {
        let rules: Vec<_> = rules.iter().map(|rule| (namespace, rule.clone())).collect();
        hidden_by(&rules, None, &vs)
    };
    let wild = rule("mesh", "*.local", json!({}));
    let told = by("front", std::slice::from_ref(&wild));
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("DestinationRule front/mesh (host *.local) hides"), "{}", told[0]);
    assert_eq!(by("front", &[rule("one", FULL, json!({}))]).len(), 1);
    // Not about this service.
    for host in ["pricing", "pricing.shop", "files.shop.svc.cluster.local", "*.front.svc.cluster.local"] {
        assert!(by("front", &[rule("other", host, json!({}))]).is_empty(), "{host}");
    }
    // The most specific one counts, and all of one host together.
    let subset = |color: &str| json!({"name": if color == "b" { "blue" } else { "green" }, "labels": {"app": "pricing", "color": color}});
    let half = |name: &str, color: &str| rule(name, FULL, json!({"subsets": [subset(color)]}));
    assert!(by("front", &[half("one", "b"), half("two", "g"), wild.clone()]).is_empty());
    assert_eq!(by("front", &[half("one", "b"), wild.clone()]).len(), 1);
    let other =
        rule("one", FULL, json!({"subsets": [{"name": "blue", "labels": {"color": "x"}}, subset("g")]}));
    assert_eq!(by("front", &[other]).len(), 1, "it would lead blue's requests elsewhere");
    // Rules for different workloads are not merged; one for all is merged with each.
    let selects = json!({"workloadSelector": {"matchLabels": {"app": "a"}}});
    let some = rule("some", FULL, selects.clone());
    let both = rule("both", FULL, json!({"subsets": [subset("b"), subset("g")]}));
    assert!(by("front", &[some.clone(), both.clone()]).is_empty());
    let mut for_others = both.clone();
    for_others["spec"]["workloadSelector"] = json!({"matchLabels": {"app": "b"}});
    assert_eq!(by("front", &[some.clone(), for_others]).len(), 1, "callers of app a miss them");
    // A rule that is shown to others only is none of its own namespace's.
    assert!(by("front", &[rule("mesh", "*.local", json!({"exportTo": ["back"]}))]).is_empty());
    // The root namespace comes last, but for what only its own gateways see.
    assert_eq!(by("istio-system", &[rule("some", "*.local", selects)]).len(), 1);
    assert!(by("istio-system", std::slice::from_ref(&wild)).is_empty());
    assert_eq!(by("istio-system", &[rule("gateways", "*.local", json!({"exportTo": ["."]}))]).len(), 1);
}

#[test]
fn a_rule_is_changed_only_where_it_differs_and_only_in_the_version_that_was_read() {
    let mut user = rule("pricing", "pricing", json!({"trafficPolicy": {"tls": {"mode": "SIMPLE"}}}));
    user["metadata"]["resourceVersion"] = json!("7");
    let added = add(destination_rule(std::slice::from_ref(&user), &managed(None), &wanted()));
    let patch = rule_patch(&user, &added);
    let told = serde_json::to_value(&patch).unwrap();
    assert!(
        told.as_array()
            .unwrap()
            .contains(&json!({"op": "replace", "path": "/metadata/resourceVersion", "value": "7"}))
    );
    assert!(!told.to_string().contains("trafficPolicy"), "{told}");
    let mut patched = user.clone();
    json_patch::patch(&mut patched, &patch).unwrap();
    assert_eq!(patched, added);
}

#[test]
fn only_who_has_the_routes_can_miss_the_subsets() {
    let wild = ("front", rule("mesh", "*.local", json!({})));
    let calls =
        |spec: Value| !hidden_by(std::slice::from_ref(&wild), None, &json!({"spec": spec})).is_empty();
    assert!(calls(json!({})));
    assert!(!calls(json!({"exportTo": ["."]})), "front never sees the routes");
    assert!(calls(json!({"exportTo": [".", "front"]})));
    assert!(!calls(json!({"gateways": ["ingress/gw", "own"]})));
    assert!(calls(json!({"gateways": ["ingress/gw", "mesh"]})));
    assert!(calls(json!({"gateways": ["front/gw"]})));
    // Routes of a gateway need subsets that are shown where the gateway is.
    let own = rule("pricing", "pricing", json!({"exportTo": [".", "ingress"]}));
    let told = |gateway: &str| hidden_by(&[], Some(&own), &json!({"spec": {"gateways": [gateway]}})).len();
    assert_eq!((told("ingress/gw"), told("edge/gw")), (0, 1));
}

#[test]
fn a_users_rule_with_our_name_keeps_its_policy() {
    let theirs = rule("hueshift-price", "pricing", json!({"trafficPolicy": {"tls": {"mode": "SIMPLE"}}}));
    let added = add(destination_rule(std::slice::from_ref(&theirs), &managed(None), &wanted()));
    assert_eq!(added["spec"]["trafficPolicy"], theirs["spec"]["trafficPolicy"]);
}

#[test]
fn subsets_must_be_seen_wherever_the_routes_are() {
    let exported = |to: Value| json!({"spec": {"exportTo": to}});
    let own = |to: Value| rule("pricing", "pricing", json!({"exportTo": to}));
    let told = hidden_by(&[], Some(&own(json!(["."]))), &json!({"spec": {}}));
    assert!(told[0].starts_with("DestinationRule shop/pricing is exported to fewer"), "{told:?}");
    for (rule, vs, hides) in [
        (json!(["."]), json!(["."]), false),
        (json!(["shop"]), json!(["."]), false),
        (json!(["."]), json!(["*"]), true),
        (json!([".", "front"]), json!(["front", "back"]), true),
        (json!([".", "front"]), json!(["front"]), false),
        (json!(["*"]), json!([]), false),
        (json!(null), json!(null), false),
    ] {
        let told = hidden_by(&[], Some(&own(rule.clone())), &exported(vs.clone()));
        assert_eq!(told.len(), usize::from(hides), "{rule} {vs}: {told:?}");
    }
}

#[test]
fn deletion_takes_the_plan_and_the_standbys_subset_and_leaves_the_live_color_served() {
    let (user, open) = primary(RAMP);
    let managed = managed(RAMP);
    let left = release(&open, &managed).unwrap();
    assert_eq!(left, rewrite(&user, &self::managed(None)).unwrap());
    let named = named_subsets(std::slice::from_ref(&left), &managed);
    assert_eq!(named, PerColor { blue: true, green: false });

    let ours = add(destination_rule(&[], &managed, &wanted()));
    let Released::Keep(kept) = released_destination_rule(&ours, &managed, "price", named) else { panic!() };
    assert_eq!(
        kept["spec"]["subsets"],
        json!([{"name": "blue", "labels": {"app": "pricing", "color": "b"}}])
    );
    let none = PerColor { blue: false, green: false };
    assert_eq!(released_destination_rule(&ours, &managed, "price", none), Released::Delete);

    let theirs = rule("pricing", "pricing", json!({}));
    let added = add(destination_rule(std::slice::from_ref(&theirs), &managed, &wanted()));
    assert_eq!(released_destination_rule(&added, &managed, "other", none), Released::Unchanged);
    assert_eq!(released_destination_rule(&added, &managed, "price", none), Released::Keep(theirs));
    let open_names = named_subsets(&[open], &managed);
    assert_eq!(open_names, PerColor { blue: true, green: true });
}
