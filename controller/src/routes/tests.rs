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
