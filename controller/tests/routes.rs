//! Laws of the rewrite over generated VirtualServices: what is the user's comes back as it was, whatever a release
//! did meanwhile; a rollback's patch says exactly what the rewrite says.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // helpers outside `#[test]` functions

use hueshift::routes::{Managed, read, release, rewrite, rollback_patch};
use hueshift_core::color::{Color, PerColor};
use hueshift_core::contract::ServiceId;
use hueshift_core::release::Route;
use hueshift_core::route_plan::{KeyRule, Pins, RoutePlan};
use hueshift_core::share::Bps;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};

const COLOR: &str = "x-hueshift-color";

fn managed(routes: Vec<String>, route: Route) -> Managed {
    Managed {
        id: ServiceId::parse("0123456789abcdef").unwrap(),
        namespace: "shop".to_owned(),
        service: "pricing".to_owned(),
        domain: "cluster.local".to_owned(),
        routes,
        subsets: PerColor { blue: "blue".to_owned(), green: "green".to_owned() },
        route,
    }
}

fn idle(stable: Color) -> Route {
    Route { stable, plan: None }
}

fn ours() -> Managed {
    managed(Vec::new(), idle(Color::Blue))
}

// === generated objects ===

fn a_string_match() -> impl Strategy<Value = Value> {
    (select(vec!["exact", "prefix", "regex"]), select(vec!["/a", "b", "/c/.*", "x"]))
        .prop_map(|(kind, text)| json!({kind: text}))
}

fn a_match() -> impl Strategy<Value = Value> {
    let name = option::of(select(vec![
        "theirs",
        "a.b",
        "",
        "hs1.",
        "x.hs1.y",
        "-",
        "0123456789abcdef",
        "UPPER case",
    ]));
    let fields = subsequence(
        vec![
            "uri",
            "scheme",
            "method",
            "authority",
            "headers",
            "withoutHeaders",
            "queryParams",
            "sourceLabels",
            "sourceNamespace",
            "gateways",
            "port",
            "ignoreUriCase",
            "statPrefix",
            "futureField",
        ],
        0..=4,
    );
    (name, fields, a_string_match(), any::<bool>()).prop_map(|(name, fields, text, empty)| {
        let mut entry = Map::new();
        for field in fields {
            let value = match field {
                "uri" | "scheme" | "method" | "authority" => text.clone(),
                "headers" if empty => json!({}),
                "headers" | "withoutHeaders" => {
                    json!({"x-user": text, "@request.auth.claims.group": {"exact": "g"}})
                }
                "queryParams" => json!({"debug": text}),
                "sourceLabels" => json!({"app": "web"}),
                "sourceNamespace" => json!("web"),
                "gateways" => json!(["gw", "mesh"]),
                "port" => json!(8080),
                "ignoreUriCase" => json!(true),
                "statPrefix" => json!("pricing"),
                _ => json!({"deep": [1, 2.5, null]}),
            };
            entry.insert(field.to_owned(), value);
        }
        if let Some(name) = name {
            entry.insert("name".to_owned(), json!(name));
        }
        Value::Object(entry)
    })
}

fn extras() -> impl Strategy<Value = Map<String, Value>> {
    let all = vec![
        ("timeout", json!("5s")),
        ("retries", json!({"attempts": 3, "perTryTimeout": "2s", "retryOn": "5xx"})),
        ("fault", json!({"abort": {"httpStatus": 503, "percentage": {"value": 12.5}}})),
        ("corsPolicy", json!({"allowOrigins": [{"exact": "https://a"}], "maxAge": "24h"})),
        ("mirror", json!({"host": "pricing-next", "subset": "v3"})),
        ("mirrorPercentage", json!({"value": 0.1})),
        ("mirrors", json!([{"destination": {"host": "shadow"}, "percentage": {"value": 50}}])),
        ("headers", json!({"request": {"set": {"x-a": "1"}}, "response": {"remove": ["server"]}})),
        ("rewrite", json!({"uri": "/v2", "authority": "in.example"})),
        ("futureField", json!({"list": [{"a": null}], "big": 18446744073709551615u64})),
    ];
    let len = all.len();
    subsequence(all, 0..=len).prop_map(|fields| fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
}

fn a_destination(host: &'static str, subset: Option<&'static str>) -> impl Strategy<Value = Value> {
    (any::<bool>(), any::<bool>(), option::of(select(vec![1, 100]))).prop_map(
        move |(port, headers, weight)| {
            let mut to = json!({"destination": {"host": host}});
            if port {
                to["destination"]["port"] = json!({"number": 8080});
            }
            if let Some(subset) = subset {
                to["destination"]["subset"] = json!(subset);
            }
            if headers {
                to["headers"] = json!({"request": {"add": {"x-b": "2"}}});
            }
            if let Some(weight) = weight {
                to["weight"] = json!(weight);
            }
            to
        },
    )
}

/// A managed route, at index 0; a foreign one, at index 1.
fn a_route(is_ours: bool) -> impl Strategy<Value = Value> {
    let name = option::of(select(vec!["primary", "second", "with.dot", "hs1.x"]));
    let matches = option::of(vec(a_match(), 0..4));
    let hosts = vec!["pricing", "pricing.shop.svc.cluster.local"];
    let subset = option::of(select(vec!["blue", "green"]));
    let to = (select(hosts), subset).prop_flat_map(|(host, subset)| a_destination(host, subset));
    let foreign = prop_oneof![
        a_destination("files", Some("v1")).prop_map(|to| json!({"route": [to]})),
        a_destination("pricing.other.svc.cluster.local", None).prop_map(|to| json!({"route": [to]})),
        Just(json!({"route": [
            {"destination": {"host": "a"}, "weight": 30}, {"destination": {"host": "b"}, "weight": 70},
        ]})),
        Just(json!({"redirect": {"uri": "/elsewhere"}})),
        Just(json!({"directResponse": {"status": 403}})),
        Just(json!({"delegate": {"name": "other", "namespace": "shop"}})),
    ];
    (name, matches, extras(), to, foreign).prop_map(move |(name, matches, mut fields, to, foreign)| {
        if let Some(name) = name {
            fields.insert("name".to_owned(), json!(name));
        }
        if let Some(matches) = matches {
            fields.insert("match".to_owned(), Value::Array(matches));
        }
        if is_ours {
            fields.insert("route".to_owned(), json!([to]));
        } else {
            fields.extend(foreign.as_object().cloned().unwrap_or_default());
        }
        Value::Object(fields)
    })
}

fn a_virtual_service() -> impl Strategy<Value = Value> {
    let route = any::<bool>().prop_flat_map(a_route);
    (vec(route.clone(), 0..4), a_route(true), vec(route, 0..4)).prop_map(|(mut http, one, after)| {
        http.push(one);
        http.extend(after);
        object(http)
    })
}

fn object(http: Vec<Value>) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "pricing", "namespace": "shop", "resourceVersion": "9", "annotations": {"a/b": "c"}},
        "spec": {
            "hosts": ["pricing.example", "pricing"], "gateways": ["gw", "mesh"], "exportTo": ["*"], "http": http,
            "tcp": [{"match": [{"port": 9000}], "route": [{"destination": {"host": "other"}}]}],
            "futureField": {"kept": true},
        },
        "status": {"observedGeneration": 4},
    })
}

fn a_route_of_ours() -> impl Strategy<Value = Route> {
    let share = prop_oneof![Just(0), Just(1), Just(10_000), 0..=10_000u16];
    let pins = select(vec![Pins::Keep, Pins::Move, Pins::Condemned]);
    let key = option::of(Just(KeyRule::header("x-user")));
    let plan = (1..9u32, 1..99u64, share, pins, key);
    (any::<bool>(), option::weighted(0.8, plan)).prop_map(|(blue, plan)| {
        let stable = if blue { Color::Blue } else { Color::Green };
        let plan = plan.map(|(release, epoch, share, pins, key)| RoutePlan {
            id: ServiceId::parse("0123456789abcdef").unwrap(),
            release,
            epoch,
            stable,
            limit: Bps::new(if pins == Pins::Condemned { 0 } else { share }).unwrap(),
            pins,
            key_version: 1,
            keys: key.into_iter().collect(),
        });
        Route { stable, plan }
    })
}

// === what is looked at ===

fn http(vs: &Value) -> &Vec<Value> {
    vs["spec"]["http"].as_array().unwrap()
}

fn is_ours(route: &Value) -> bool {
    let hosts = ["pricing", "pricing.shop.svc.cluster.local"];
    let host = route["route"][0]["destination"]["host"].as_str();
    host.is_some_and(|host| hosts.contains(&host))
}

fn is_pin(route: &Value) -> bool {
    route["match"][0]["headers"].get(COLOR).is_some()
}

/// A managed route as it is once adopted, said independently of the rewrite.
fn adopted(route: &Value, stable: Color) -> Value {
    let mut route = route.clone();
    let empty = match route["match"].as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([only]) => *only == json!({}),
        _ => false,
    };
    if empty {
        route.as_object_mut().unwrap().remove("match");
    }
    let to = route["route"][0].as_object_mut().unwrap();
    to.remove("weight");
    to["destination"]["subset"] = json!(stable.as_str());
    route
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn what_is_not_ours_comes_back_as_it_was_and_in_order(user in a_virtual_service(), route in a_route_of_ours()) {
        let written = rewrite(&user, &ours().with(route)).unwrap();
        let theirs = |vs: &Value| http(vs).iter().filter(|route| !is_ours(route)).cloned().collect::<Vec<_>>();
        prop_assert_eq!(theirs(&written), theirs(&user));
        let mut rest = written;
        rest["spec"]["http"] = user["spec"]["http"].clone();
        prop_assert_eq!(rest, user);
    }

    #[test]
    fn adoption_names_the_live_subset_and_drops_only_what_says_nothing(user in a_virtual_service(), blue in any::<bool>()) {
        let stable = if blue { Color::Blue } else { Color::Green };
        let mut expected = user.clone();
        for route in expected["spec"]["http"].as_array_mut().unwrap().iter_mut().filter(|route| is_ours(route)) {
            *route = adopted(route, stable);
        }
        prop_assert_eq!(rewrite(&user, &ours().with(idle(stable))).unwrap(), expected);
    }

    #[test]
    fn writing_twice_changes_nothing(user in a_virtual_service(), route in a_route_of_ours()) {
        let managed = ours().with(route);
        let once = rewrite(&user, &managed).unwrap();
        prop_assert_eq!(&rewrite(&once, &managed).unwrap(), &once);
        let found = read(&once, &managed);
        prop_assert!(found.exact && found.drift.is_empty() && found.refused.is_none());
        prop_assert_eq!(found.route, Some(managed.route));
    }

    #[test]
    fn a_release_leaves_no_trace(user in a_virtual_service(), way in vec(a_route_of_ours(), 1..6), blue in any::<bool>()) {
        let end = ours().with(idle(if blue { Color::Blue } else { Color::Green }));
        let mut vs = user.clone();
        for route in way {
            let managed = ours().with(route);
            vs = rewrite(&vs, &managed).unwrap();
            prop_assert_eq!(&vs, &rewrite(&user, &managed).unwrap(), "what is written depends on the way there");
        }
        prop_assert_eq!(rewrite(&vs, &end).unwrap(), rewrite(&user, &end).unwrap());
        prop_assert_eq!(release(&vs, &end).unwrap(), rewrite(&user, &end).unwrap());
    }

    #[test]
    fn pins_stand_right_above_their_default_and_weights_sum_to_10000(user in a_virtual_service(), route in a_route_of_ours()) {
        let Some(plan) = route.plan.clone() else { return Ok(()) };
        let written = rewrite(&user, &ours().with(route)).unwrap();
        let pinned = plan.limit > Bps::ZERO && plan.pins != Pins::Condemned;
        let text = plan.encode();
        let mut rest = http(&written).iter();
        for original in http(&user) {
            if !is_ours(original) {
                prop_assert_eq!(rest.next(), Some(original));
                continue;
            }
            let short = adopted(original, Color::Blue);
            let colors = if pinned { vec!["green", "blue"] } else { vec![] };
            for color in colors {
                let pin = rest.next().unwrap();
                let wanted = json!({"exact": color});
                for entry in pin["match"].as_array().unwrap() {
                    prop_assert_eq!(&entry["headers"][COLOR], &wanted);
                }
                prop_assert_eq!(pin["route"].as_array().unwrap().len(), 1);
                prop_assert_eq!(&pin["route"][0]["destination"]["subset"], color);
                prop_assert_eq!(&pin["route"][0]["headers"], &short["route"][0]["headers"]);
                prop_assert_eq!(&pin["timeout"], &short["timeout"]);
            }
            let default = rest.next().unwrap();
            prop_assert!(!is_pin(default));
            let weights = default["route"].as_array().unwrap();
            prop_assert_eq!(weights.len(), 2);
            prop_assert_eq!(weights.iter().map(|to| to["weight"].as_u64().unwrap()).sum::<u64>(), 10_000);
            let candidate = weights.iter().find(|to| to["destination"]["subset"] == plan.stable.other().as_str());
            prop_assert_eq!(candidate.unwrap()["weight"].as_u64(), Some(u64::from(plan.limit.get())));
            for entry in default["match"].as_array().unwrap() {
                let name = entry["name"].as_str().unwrap();
                let suffix = format!(".{text}");
                prop_assert!(name == text || name.ends_with(&suffix));
                let route_name = format!("{}.{name}", default["name"].as_str().unwrap_or_default());
                prop_assert_eq!(RoutePlan::decode(route_name.as_bytes()).map(|read| read.plan), Ok(plan.clone()));
            }
        }
        prop_assert_eq!(rest.next(), None);
    }

    #[test]
    fn the_patch_says_what_the_rewrite_says(user in a_virtual_service(), from in a_route_of_ours(), to in a_route_of_ours()) {
        let seen = rewrite(&user, &ours().with(from)).unwrap();
        let to = ours().with(to);
        let patch = rollback_patch(&seen, &to).unwrap();
        let text = serde_json::to_string(&patch).unwrap();
        prop_assert!(!text.contains("resourceVersion") && !text.contains("\"/spec/http\""), "{}", text);
        let mut patched = seen.clone();
        json_patch::patch(&mut patched, &patch).unwrap();
        prop_assert_eq!(patched, rewrite(&seen, &to).unwrap());
    }

    /// Another writer moved, added or removed routes since we looked.
    #[test]
    fn a_patch_on_another_list_fails_or_does_the_right_thing(
        user in a_virtual_service(),
        from in a_route_of_ours(),
        moves in vec((any::<proptest::sample::Index>(), any::<proptest::sample::Index>(), 0..3u8), 1..4),
    ) {
        let Some(plan) = &from.plan else { return Ok(()) };
        let back = RoutePlan { limit: Bps::ZERO, pins: Pins::Condemned, epoch: plan.epoch + 1, ..plan.clone() };
        let back = ours().with(Route { stable: from.stable, plan: Some(back) });
        let seen = rewrite(&user, &ours().with(from)).unwrap();
        let patch = rollback_patch(&seen, &back).unwrap();
        let mut now = seen;
        let list = now["spec"]["http"].as_array_mut().unwrap();
        for (a, b, how) in moves {
            let (a, b) = (a.index(list.len().max(1)), b.index(list.len().max(1)));
            match how {
                0 if !list.is_empty() => list.swap(a, b),
                1 if list.len() > 1 => drop(list.remove(a)),
                _ => list.insert(a, json!({"redirect": {"uri": "/new"}})),
            }
        }
        let mut patched = now.clone();
        if json_patch::patch(&mut patched, &patch).is_ok() {
            prop_assert_eq!(patched.pointer("/metadata"), now.pointer("/metadata"));
            let theirs = |vs: &Value| http(vs).iter().filter(|route| !is_ours(route)).cloned().collect::<Vec<_>>();
            prop_assert_eq!(theirs(&patched), theirs(&now), "a foreign route was touched");
            let defaults = |vs: &Value| http(vs).iter().filter(|route| is_ours(route) && !is_pin(route)).count();
            prop_assert_eq!(defaults(&patched), defaults(&now), "a default route was lost");
            for to in http(&patched).iter().filter(|route| is_ours(route) && !is_pin(route)) {
                prop_assert!(!to.to_string().contains(r#""subset":"green","weight":1"#) || back.route.stable == Color::Green);
            }
        }
    }

    /// The user's edits in the middle of a release are the same edits as on the short form.
    #[test]
    fn edits_in_the_middle_of_a_release_are_kept(
        user in a_virtual_service(),
        from in a_route_of_ours(),
        to in a_route_of_ours(),
        which in any::<proptest::sample::Index>(),
        edit in 0..6u8,
        spot in any::<proptest::sample::Index>(),
    ) {
        let mut open = rewrite(&user, &ours().with(from.clone())).unwrap();
        let mut plain = user.clone();
        let mine = http(&user).iter().filter(|route| is_ours(route)).count();
        let which = which.index(mine);
        let nth = |list: &[Value]| {
            let found = list.iter().enumerate().filter(|(_, route)| is_ours(route) && !is_pin(route));
            found.map(|(at, _)| at).nth(which).unwrap()
        };
        let (at_open, at_plain) = (nth(http(&open)), nth(http(&plain)));
        let list = open["spec"]["http"].as_array_mut().unwrap();
        let simple = plain["spec"]["http"].as_array_mut().unwrap();
        match edit {
            // A new foreign route on top.
            0 => {
                list.insert(0, json!({"name": "new", "redirect": {"uri": "/x"}}));
                simple.insert(0, json!({"name": "new", "redirect": {"uri": "/x"}}));
            }
            // The default gets another timeout, another match and other headers at both destinations.
            1 => {
                for route in [&mut list[at_open], &mut simple[at_plain]] {
                    route["timeout"] = json!("99s");
                    for to in route["route"].as_array_mut().unwrap() {
                        to["headers"] = json!({"request": {"set": {"x-new": "1"}}});
                    }
                }
            }
            // A pin copy is edited: undone.
            2 => {
                let pins = list.iter().enumerate().filter(|(_, route)| is_pin(route)).map(|(at, _)| at).collect::<Vec<_>>();
                if !pins.is_empty() {
                    list[pins[spot.index(pins.len())]]["timeout"] = json!("1s");
                }
            }
            // A pin copy is removed: made anew.
            3 => {
                let pins = list.iter().enumerate().filter(|(_, route)| is_pin(route)).map(|(at, _)| at).collect::<Vec<_>>();
                if !pins.is_empty() {
                    list.remove(pins[spot.index(pins.len())]);
                }
            }
            // One weighted destination is given another port.
            4 => {
                let pinned = at_open > 0 && is_pin(&list[at_open - 1]);
                let route = &mut list[at_open]["route"];
                let both = route.as_array().unwrap().len();
                // Without pins there is nothing that tells which of two is the edited one.
                let spots = if both == 2 && !pinned { 0..both } else { 0..0 };
                let chosen = if both == 2 && pinned { Some(spot.index(2)) } else { None };
                for at in spots.chain(chosen).chain((both == 1).then_some(0)) {
                    route[at]["destination"]["port"] = json!({"number": 9999});
                }
                simple[at_plain]["route"][0]["destination"]["port"] = json!({"number": 9999});
            }
            // A foreign route moves to the end, if there is one.
            _ => {
                if let (Some(a), Some(b)) = (list.iter().position(|r| !is_ours(r)), simple.iter().position(|r| !is_ours(r))) {
                    let moved = list.remove(a);
                    list.push(moved);
                    let moved = simple.remove(b);
                    simple.push(moved);
                }
            }
        }
        let to = ours().with(to);
        prop_assert_eq!(rewrite(&open, &to).unwrap(), rewrite(&plain, &to).unwrap());
    }

    #[test]
    fn reading_never_fails_and_names_what_differs(user in a_virtual_service(), from in a_route_of_ours(), to in a_route_of_ours()) {
        let written = rewrite(&user, &ours().with(from.clone())).unwrap();
        let to = ours().with(to);
        let found = read(&written, &to);
        prop_assert_eq!(found.exact, rewrite(&written, &to).unwrap() == written);
        prop_assert_eq!(found.exact, found.drift.is_empty());
        prop_assert_eq!(found.route, Some(from));
    }

    #[test]
    fn nonsense_is_refused_and_never_a_panic(vs in nonsense(), route in a_route_of_ours()) {
        let managed = ours().with(route);
        let found = read(&vs, &managed);
        prop_assert_eq!(found.refused.is_some(), rewrite(&vs, &managed).is_err());
        let _ = rollback_patch(&vs, &managed);
    }
}

/// Anything with the words of a VirtualService in the wrong places.
fn nonsense() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        select(vec!["pricing", "blue", "hs1.0123456789abcdef.r1", "hs1.0123456789abcdef", ""])
            .prop_map(Value::from),
    ];
    let words = vec![
        "spec",
        "http",
        "match",
        "route",
        "destination",
        "host",
        "subset",
        "weight",
        "name",
        "headers",
        COLOR,
        "exact",
        "metadata",
        "hosts",
    ];
    let any_value = leaf.prop_recursive(6, 64, 4, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::Array),
            vec((select(words.clone()), inner), 0..4)
                .prop_map(|fields| fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    });
    (any_value.clone(), vec(any_value, 0..3)).prop_map(|(anything, http)| {
        if http.is_empty() { anything } else { json!({"spec": {"hosts": ["a"], "http": http}}) }
    })
}

// === samples ===

/// Written in the styles of Istio's documentation: what each becomes when adopted and at 5 %, or why it is refused.
/// After a change of form, `HUESHIFT_BLESS=1` writes the outputs anew; read the difference before it is committed.
#[test]
fn the_samples_become_what_is_written_beside_them() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples");
    let mut inputs = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect::<Vec<_>>();
    inputs.retain(|path| {
        path.extension().is_some_and(|ext| ext == "yaml") && !path.to_string_lossy().contains(".out.")
    });
    inputs.sort();
    assert!(inputs.len() >= 12, "{} samples in {}", inputs.len(), folder.display());
    let bless = std::env::var_os("HUESHIFT_BLESS").is_some();
    let mut wrong = Vec::new();
    for path in inputs {
        let user: Value = serde_saphyr::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let open = plan(500, Pins::Move);
        let is = match (rewrite(&user, &ours()), rewrite(&user, &ours().with(open))) {
            (Ok(idle), Ok(open)) => json!({"adopted": idle["spec"], "at-5-percent": open["spec"]}),
            (Err(refused), Err(again)) if refused == again => {
                json!({"refused": {"reason": refused.reason.as_str(), "text": refused.to_string()}})
            }
            (idle, open) => panic!("{}: {idle:?} but {open:?}", path.display()),
        };
        let beside = path.with_extension("out.yaml");
        let text = serde_saphyr::to_string(&is).unwrap();
        if bless {
            std::fs::write(&beside, &text).unwrap();
        }
        if std::fs::read_to_string(&beside).ok().as_deref() != Some(text.as_str()) {
            wrong.push(format!("{}:\n{text}", beside.display()));
        }
    }
    assert!(wrong.is_empty(), "other outputs than beside the samples:\n{}", wrong.join("\n"));
}

fn plan(limit: u16, pins: Pins) -> Route {
    let id = ours().id;
    let limit = Bps::new(limit).unwrap();
    let stable = Color::Blue;
    let plan = RoutePlan { id, release: 7, epoch: 42, stable, limit, pins, key_version: 1, keys: Vec::new() };
    Route { stable, plan: Some(plan) }
}
