//! What Envoy reads, as pure functions of document and route: bootstrap, listeners, clusters, routes, filter.
//!
//! Each kind of resource is a file of its own, so that a change of the split rewrites one small file and leaves
//! listeners and connections alone. Envoy watches each file for a rename onto it: [`super::files::replace`]
//! is the only way in. The filter comes as its own discovered resource (ECDS), so that its VM can be rebuilt
//! (by bumping `HUESHIFT_GENERATION`) without a listener update that would drain connections.

use super::layout::Layout;
use crate::api::BlueGreen;
use hueshift_core::color::Color;
use hueshift_core::contract::{COLOR_HEADER, PluginConfig};
use hueshift_core::release::Route;
use hueshift_core::route_plan::RoutePlan;
use hueshift_core::share::Bps;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;

/// The cluster to which filters report.
pub const REPORT_CLUSTER: &str = "hueshift-controller";
/// Envoy's node id: the proxy's name in reports.
pub const NODE_ID: &str = "envoy-0";
/// The filter's name, and of the resource that configures it.
pub const FILTER: &str = "hueshift";
/// The file with the listeners.
pub const LISTENERS: &str = "listeners.json";
/// The file with the clusters.
pub const CLUSTERS: &str = "clusters.json";
/// The file with the filter.
pub const FILTER_FILE: &str = "filter.json";

/// An authorization filter without rules, which lets everything pass.
const RBAC_TYPE: &str = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC";
/// Changes headers before Envoy looks for a route.
const EARLY_TYPE: &str =
    "type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation";
/// The type of the filter's configuration.
const WASM_TYPE: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";

/// What Envoy is started with; it never changes while Envoy runs.
pub fn bootstrap(layout: &Layout) -> Value {
    json!({
        "node": {"id": NODE_ID, "cluster": "hueshift"},
        "admin": {"address": {"pipe": {"path": layout.admin_socket(), "mode": 0o600}}},
        "dynamic_resources": {
            "lds_config": file_source(&layout.xds(LISTENERS)),
            "cds_config": file_source(&layout.xds(CLUSTERS)),
        },
    })
}

/// One listener per service.
pub fn listeners(layout: &Layout, services: &[BlueGreen]) -> Value {
    resources(services.iter().filter_map(|service| listener(layout, service)).collect())
}

/// Both colors of each service, and the controller.
pub fn clusters(layout: &Layout, services: &[BlueGreen]) -> Value {
    let mut all = vec![controller_cluster(layout)];
    for service in services {
        all.extend(Color::BOTH.map(|color| color_cluster(service, color)));
    }
    resources(all)
}

/// The routes of one service: one while idle; pin green, pin blue and the weighted default while a plan is open.
pub fn routes(service: &str, route: &Route) -> Value {
    let entries = match &route.plan {
        None => vec![json!({
            "name": service,
            "match": {"prefix": "/"},
            "route": action(json!({"cluster": cluster_name(service, route.stable)})),
        })],
        Some(plan) => {
            let name = plan.encode();
            let pin = |color: Color| {
                json!({
                    "name": name,
                    "match": {
                        "prefix": "/",
                        "headers": [{"name": COLOR_HEADER, "string_match": {"exact": color.as_str()}}],
                    },
                    "route": action(json!({"cluster": cluster_name(service, color)})),
                })
            };
            // A candidate without a share has no pin route either: nothing leads to a condemned model.
            let candidate = (plan.limit > Bps::ZERO).then(|| plan.stable.other());
            let mut entries: Vec<Value> = [Color::Green, Color::Blue]
                .into_iter()
                .filter(|color| *color == plan.stable || Some(*color) == candidate)
                .map(pin)
                .collect();
            entries.push(json!({
                "name": name,
                "match": {"prefix": "/"},
                "route": action(json!({
                    "weighted_clusters": {"clusters": weights(service, plan.stable, plan.limit)},
                })),
            }));
            entries
        }
    };
    resources(vec![json!({
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "name": service,
        "virtual_hosts": [{"name": service, "domains": ["*"], "routes": entries}],
    })])
}

/// The filter: module, VM and plugin configuration. Another `generation` rebuilds the VMs.
pub fn filter(module: &Path, generation: u32, config: &PluginConfig) -> Result<Value, serde_json::Error> {
    let configuration = serde_json::to_string(config)?;
    Ok(resources(vec![json!({
        "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        "name": FILTER,
        "typed_config": {
            "@type": WASM_TYPE,
            "config": {
                "name": FILTER,
                "root_id": FILTER,
                // A filter that fails must cost the affinity, never the answer.
                "failure_policy": "FAIL_OPEN",
                "vm_config": {
                    "vm_id": FILTER,
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": {"local": {"filename": module}},
                    "environment_variables": {"key_values": {"HUESHIFT_GENERATION": generation.to_string()}},
                },
                "configuration": {
                    "@type": "type.googleapis.com/google.protobuf.StringValue",
                    "value": configuration,
                },
            },
        },
    })]))
}

/// Where [`filter`] has its generation.
const GENERATION: &str =
    "/resources/0/typed_config/config/vm_config/environment_variables/key_values/HUESHIFT_GENERATION";

/// The generation in what [`filter`] wrote.
pub fn generation(filter: &Value) -> Option<u32> {
    filter.pointer(GENERATION)?.as_str()?.parse().ok()
}

/// The same filter in its next generation: Envoy builds all VMs anew.
pub fn rebuilt(mut filter: Value) -> Option<Value> {
    let next = generation(&filter)?.checked_add(1)?;
    *filter.pointer_mut(GENERATION)? = json!(next.to_string());
    Some(filter)
}

/// Reads back what [`routes`] wrote: the plan, or the one color that an idle route names.
pub fn read_route(service: &str, bytes: &[u8]) -> Option<Route> {
    let file: Value = serde_json::from_slice(bytes).ok()?;
    let routes = file.pointer("/resources/0/virtual_hosts/0/routes")?.as_array()?;
    let last = routes.last()?;
    let name = last.get("name")?.as_str()?;
    if let Ok(decoded) = RoutePlan::decode(name.as_bytes()) {
        return Some(Route { stable: decoded.plan.stable, plan: Some(decoded.plan) });
    }
    let cluster = last.pointer("/route/cluster")?.as_str()?;
    let stable = Color::BOTH.into_iter().find(|color| cluster_name(service, *color) == cluster)?;
    Some(Route { stable, plan: None })
}

fn listener(layout: &Layout, service: &BlueGreen) -> Option<Value> {
    let name = service.name();
    let address: SocketAddr = service.listen().parse().ok()?;
    Some(json!({
        "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
        "name": name,
        "address": socket_address(address),
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": name,
                "codec_type": "AUTO",
                // Envoy is the edge here: it says who the client is.
                "use_remote_address": true,
                // The request id is the session key of clients that bring none.
                "generate_request_id": true,
                // A client's own color header is gone before the filter sets it: it must steer nobody where a worker's
                // filter is dead (it fails open) or inert.
                "early_header_mutation_extensions": [{
                    "name": "envoy.http.early_header_mutation.header_mutation",
                    "typed_config": {"@type": EARLY_TYPE, "mutations": [{"remove": COLOR_HEADER}]},
                }],
                "rds": {"route_config_name": name, "config_source": file_source(&layout.routes(name))},
                "http_filters": [
                    {
                        "name": FILTER,
                        "config_discovery": {
                            "config_source": file_source(&layout.xds(FILTER_FILE)),
                            // As long as Envoy could not load the module it lets requests pass untouched; without
                            // this it would answer each of them with 500.
                            "default_config": {"@type": RBAC_TYPE},
                            "type_urls": [WASM_TYPE, RBAC_TYPE],
                        },
                    },
                    {
                        "name": "envoy.filters.http.router",
                        "typed_config": {
                            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                        },
                    },
                ],
            },
        }]}],
    }))
}

fn color_cluster(service: &BlueGreen, color: Color) -> Value {
    let name = cluster_name(service.name(), color);
    let endpoints: Vec<Value> = service
        .spec
        .colors
        .get(color)
        .endpoints
        .iter()
        .filter_map(|endpoint| endpoint.parse().ok())
        .map(|address| json!({"endpoint": {"address": socket_address(address)}}))
        .collect();
    json!({
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST",
        // Envoy's defaults (1024) are below what streaming chats keep open; the model servers have their own limits.
        "circuit_breakers": {"thresholds": [{
            "max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000, "max_retries": 100,
        }]},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    })
}

fn controller_cluster(layout: &Layout) -> Value {
    json!({
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": REPORT_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": REPORT_CLUSTER, "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": {"pipe": {"path": layout.report_socket()}}}},
        ]}]},
    })
}

/// What all routes have in common. No timeout of the whole request: models stream for minutes. A retry stays in
/// the color that was drawn, but goes to another endpoint: with one of four lost, one stable request in sixty would
/// meet it three times and fail. So it need not wait, either: a lost endpoint has no requests, which makes it the first
/// choice of every second one, and Envoy's 25 ms would make stable look slow.
fn action(mut route: Value) -> Value {
    if let Some(fields) = route.as_object_mut() {
        fields.insert("timeout".to_owned(), json!("0s"));
        fields.insert(
            "retry_policy".to_owned(),
            json!({
                "retry_on": "connect-failure,refused-stream,reset-before-request",
                "num_retries": 2,
                "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.010s"},
                "retry_host_predicate": [{
                    "name": "envoy.retry_host_predicates.previous_hosts",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
                    },
                }],
                "host_selection_retry_max_attempts": 5,
            }),
        );
    }
    route
}

/// Weights for requests that the filter did not see. A weight of 0 is dropped: Envoy wants a positive sum only,
/// but an unused cluster in the list would be one more way to reach it.
fn weights(service: &str, stable: Color, limit: Bps) -> Vec<Value> {
    [(stable.other(), limit), (stable, limit.rest())]
        .into_iter()
        .filter(|(_, share)| *share > Bps::ZERO)
        .map(|(color, share)| json!({"name": cluster_name(service, color), "weight": share.get()}))
        .collect()
}

/// The cluster of one color.
pub fn cluster_name(service: &str, color: Color) -> String {
    format!("{service}-{color}")
}

fn socket_address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

fn file_source(path: &Path) -> Value {
    json!({"resource_api_version": "V3", "path_config_source": {"path": path}})
}

fn resources(resources: Vec<Value>) -> Value {
    json!({"resources": resources})
}

#[cfg(test)]
mod tests {
    use super::*;
    use hueshift_core::contract::ServiceId;
    use hueshift_core::route_plan::{KeyRule, Pins};

    fn route(limit: u16) -> Route {
        let plan = RoutePlan {
            id: ServiceId::from_bytes([1; 8]),
            release: 3,
            epoch: 9,
            stable: Color::Green,
            limit: Bps::new(limit).unwrap(),
            pins: Pins::Move,
            key_version: 1,
            keys: vec![KeyRule::header("X-Session")],
        };
        Route { stable: Color::Green, plan: Some(plan) }
    }

    fn entries(route: &Route) -> Vec<Value> {
        let file = routes("pricing", route);
        file.pointer("/resources/0/virtual_hosts/0/routes").unwrap().as_array().unwrap().clone()
    }

    #[test]
    fn an_open_route_has_both_pins_before_the_default_and_all_carry_the_plan() {
        let entries = entries(&route(500));
        let name = route(500).plan.unwrap().encode();
        assert!(entries.iter().all(|entry| entry["name"] == name.as_str()));
        let pins = ["green", "blue"];
        for (entry, color) in entries.iter().zip(pins) {
            assert_eq!(entry["match"]["headers"][0]["string_match"]["exact"], color);
            assert_eq!(entry["route"]["cluster"], format!("pricing-{color}"));
        }
        assert_eq!(entries.len(), 3);
        assert!(entries[2]["match"]["headers"].is_null());
    }

    #[test]
    fn a_retry_goes_to_another_endpoint_at_once() {
        for entry in entries(&route(500)) {
            let policy = &entry["route"]["retry_policy"];
            assert_eq!(policy["retry_back_off"]["base_interval"], "0.001s");
            assert!(policy["retry_host_predicate"][0]["name"].is_string());
        }
    }

    #[test]
    fn weights_sum_to_everything_and_a_color_without_share_is_not_named() {
        for limit in [0, 1, 500, 9_999, 10_000] {
            let entries = entries(&route(limit));
            let clusters =
                entries.last().unwrap()["route"]["weighted_clusters"]["clusters"].as_array().unwrap().clone();
            let weight = |name: &str| {
                clusters.iter().find(|c| c["name"] == name).map_or(0, |c| c["weight"].as_u64().unwrap())
            };
            assert_eq!(weight("pricing-blue"), u64::from(limit));
            assert_eq!(weight("pricing-blue") + weight("pricing-green"), 10_000);
            assert!(clusters.iter().all(|cluster| cluster["weight"] != 0));
        }
    }

    #[test]
    fn a_rebuilt_filter_differs_in_its_generation_only() {
        let config = PluginConfig {
            cluster: REPORT_CLUSTER.to_owned(),
            keys: Vec::new(),
            report_ms: 250,
            fuse: None,
            hang_ms: 1,
        };
        let module = Path::new("/filter.wasm");
        let first = filter(module, 1, &config).unwrap();
        assert_eq!(generation(&first), Some(1));
        assert_eq!(rebuilt(first), Some(filter(module, 2, &config).unwrap()));
        assert_eq!(rebuilt(json!({})), None);
    }

    #[test]
    fn a_candidate_without_a_share_cannot_be_asked_for_by_header() {
        let text = Value::Array(entries(&route(0))).to_string();
        assert!(text.contains("pricing-green") && !text.contains("pricing-blue"), "{text}");
    }

    #[test]
    fn what_was_written_is_read_back_and_what_was_not_is_none() {
        for route in [route(0), route(2_500), Route { stable: Color::Blue, plan: None }] {
            let text = routes("pricing", &route).to_string();
            assert_eq!(read_route("pricing", text.as_bytes()), Some(route));
        }
        for foreign in ["", "{}", r#"{"resources":[]}"#, &routes("chat", &route(0)).to_string()[..40]] {
            assert_eq!(read_route("pricing", foreign.as_bytes()), None);
        }
    }
}
