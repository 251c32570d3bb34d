//! A real Envoy with the real filter and *without* the controller: routes and the filter's configuration are files
//! that the test rewrites.
//!
//! Its configuration is written here from scratch, not with the controller's code, so that the two check each
//! other. Tests of the whole product use [`crate::controller`] instead.

use crate::clock::wait_for;
use crate::http::ask_address;
use crate::process::Process;
use crate::{ports, programs};
use hueshift_core::color::{Color, PerColor};
use serde_json::{Value, json};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Mesh key of these tests, version 1.
pub const MESH_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
/// The plugin's name in the chain, and that of a second instance.
const PLUGINS: [&str; 2] = ["hueshift", "hueshift-again"];
/// The node id, which reports carry as `proxy`.
pub const NODE: &str = "bare-envoy";

/// What this Envoy serves.
#[derive(Debug, Clone)]
pub struct Setup {
    /// One listener each.
    pub services: Vec<Service>,
    /// Worker threads.
    pub workers: usize,
    /// The report service.
    pub controller: SocketAddr,
    /// The plugin's configuration.
    pub plugin: Value,
    /// The plugin stands in the chain a second time, under another name and in VMs of its own.
    pub twice: bool,
}

/// One service and its first route.
#[derive(Debug, Clone)]
pub struct Service {
    /// Name, also prefix of its clusters.
    pub name: String,
    /// The model servers.
    pub endpoints: PerColor<SocketAddr>,
    /// First routes.
    pub routes: Routes,
    /// Whether our filter is in the chain.
    pub filtered: bool,
}

/// Routes of one service.
#[derive(Debug, Clone)]
pub struct Routes {
    /// Route name, with or without a plan.
    pub name: String,
    /// Weight of green in basis points, as a proxy without the filter would split.
    pub green: u16,
    /// Whether the two pin routes exist.
    pub pins: bool,
}

/// The parts of a plan, formatted by hand: an independent second writer of the format.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// 16 hex digits.
    pub id: &'static str,
    /// Release number.
    pub release: u32,
    /// Epoch.
    pub epoch: u64,
    /// Stable color.
    pub stable: Color,
    /// The candidate's share in basis points.
    pub limit: u16,
    /// `k`, `m` or `x`.
    pub pins: char,
    /// Key rule, such as `h-x-session-id`.
    pub key: &'static str,
}

/// The running Envoy.
#[derive(Debug)]
pub struct Envoy {
    /// The process.
    pub process: Process,
    /// Listeners in the order of `services`.
    pub listeners: Vec<SocketAddr>,
    /// Admin interface.
    pub admin: SocketAddr,
    folder: PathBuf,
    setup: Setup,
    generation: u32,
}

// === impl Plan ===

impl Plan {
    /// Five percent for green, move mode, keyed by the session header.
    pub const FIVE: Plan = Plan {
        id: "00c0ffee00c0ffee",
        release: 1,
        epoch: 1,
        stable: Color::Blue,
        limit: 500,
        pins: 'm',
        key: "h-x-session-id",
    };

    /// As it stands in a route name.
    pub fn text(&self) -> String {
        let Plan { id, release, epoch, limit, pins, key, .. } = self;
        let stable = &self.stable.as_str()[..1];
        format!("hs1.{id}.r{release}.e{epoch}.s{stable}.l{limit}.p{pins}.v1.k{key}")
    }

    /// Routes of a release under this plan.
    pub fn routes(&self) -> Routes {
        let green = if self.stable == Color::Blue { self.limit } else { 10_000 - self.limit };
        Routes { name: self.text(), green, pins: true }
    }
}

// === impl Setup ===

impl Setup {
    /// One service under a plan, two workers.
    pub fn new(endpoints: PerColor<SocketAddr>, controller: SocketAddr, routes: Routes) -> Self {
        Setup {
            services: vec![Service { name: "pricing".to_owned(), endpoints, routes, filtered: true }],
            workers: 2,
            controller,
            plugin: json!({
                "cluster": "hueshift-controller",
                "keys": [{"version": 1, "hex": MESH_KEY}],
                "report_ms": 100,
            }),
            twice: false,
        }
    }
}

// === impl Envoy ===

impl Envoy {
    /// Starts Envoy in `folder` and waits until it is live.
    pub async fn start(folder: &Path, setup: Setup) -> Self {
        let folder = folder.join("envoy");
        fs::create_dir_all(&folder).expect("Envoy's folder");
        let [admin] = ports::free();
        let listeners: Vec<SocketAddr> = setup.services.iter().map(|_| ports::free::<1>()[0]).collect();
        let place = folder.clone();
        write(&folder, "bootstrap.json", &bootstrap(&folder, &setup, admin, &listeners));
        let mut command = Command::new(programs::envoy());
        command
            .arg("--config-path")
            .arg(folder.join("bootstrap.json"))
            .args(["--disable-hot-restart", "--log-level", "warning", "--component-log-level", "wasm:info"])
            .args(["--concurrency", &setup.workers.to_string()]);
        for service in &setup.services {
            write(&folder, &route_file(&service.name), &routes(&service.name, &service.routes));
        }
        for name in PLUGINS {
            write(&folder, &plugin_file(name), &filter(name, &setup.plugin, 1));
        }
        let process = Process::start("Envoy", &mut command, &folder.join("envoy.log"));
        let mut envoy = Envoy { process, listeners, admin, folder: place, setup, generation: 1 };
        wait_for("Envoy to be live", Duration::from_secs(30), async || {
            envoy.process.assert_running();
            let (status, text) = ask_address(admin, "GET", "/ready", "").await.ok()?;
            (status == 200 && text.contains("LIVE")).then_some(())
        })
        .await;
        envoy
    }

    /// Replaces a service's routes, as file xDS does it, and waits until Envoy has taken them.
    pub async fn set_routes(&self, service: &str, new: &Routes) {
        let stat = format!("http.{service}.rds.{service}.update_success");
        let before = self.stat(&stat).await;
        write(&self.folder, &route_file(service), &routes(service, new));
        wait_for("Envoy to take the routes", Duration::from_secs(10), async || {
            (self.stat(&stat).await > before).then_some(())
        })
        .await;
    }

    /// Rebuilds every VM: another environment variable, nothing else.
    pub async fn set_generation(&mut self, generation: u32) {
        self.generation = generation;
        self.set_filter().await;
    }

    /// Replaces the plugin's configuration; the VMs stay.
    pub async fn set_plugin(&mut self, plugin: Value) {
        self.setup.plugin = plugin;
        self.set_filter().await;
    }

    async fn set_filter(&self) {
        let stat = "extension_config_discovery.http_filter.hueshift.config_reload";
        let before = self.stat(stat).await;
        let name = PLUGINS[0];
        write(&self.folder, &plugin_file(name), &filter(name, &self.setup.plugin, self.generation));
        wait_for("Envoy to take the filter's configuration", Duration::from_secs(10), async || {
            (self.stat(stat).await > before).then_some(())
        })
        .await;
    }

    /// One counter or gauge; 0 if there is none of that name.
    pub async fn stat(&self, name: &str) -> u64 {
        stat(&self.stats(name).await, name)
    }

    /// All stats whose name contains `part`.
    pub async fn stats(&self, part: &str) -> String {
        stats(self.admin, part).await.unwrap_or_else(|error| {
            panic!("Envoy's admin does not answer: {error}\n{}", self.process.log_tail(20))
        })
    }

    /// Panics if a VM died: Envoy then skips the filter on that worker and answers go on as if nothing had happened.
    pub async fn assert_filter_alive(&mut self) {
        assert_filter_alive(&mut self.process);
    }
}

/// All stats of an Envoy whose name contains `part`.
pub async fn stats(admin: SocketAddr, part: &str) -> std::io::Result<String> {
    let pattern: String = part.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '.' }).collect();
    Ok(ask_address(admin, "GET", &format!("/stats?filter={pattern}"), "").await?.1)
}

/// The stat of this name among those; 0 if there is none.
pub fn stat(stats: &str, name: &str) -> u64 {
    let line = stats.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.parse().ok());
    line.unwrap_or(0)
}

/// Panics if Envoy ended or if its log tells that a VM of the filter died.
pub fn assert_filter_alive(envoy: &mut Process) {
    envoy.assert_running();
    let log = envoy.log_text();
    for sign in ["panicked at", "Function: proxy_", "VmFatal", "wasm trap", "RuntimeError"] {
        assert!(!log.contains(sign), "the filter's VM died ({sign}):\n{}", envoy.log_tail(40));
    }
}

fn route_file(service: &str) -> String {
    format!("routes-{service}.json")
}

/// As file xDS wants it: complete under another name, then renamed.
fn write(folder: &Path, name: &str, content: &Value) {
    let new = folder.join(format!("{name}.new"));
    fs::write(&new, serde_json::to_vec_pretty(content).expect("JSON")).expect("a file for Envoy");
    fs::rename(new, folder.join(name)).expect("a file for Envoy");
}

fn bootstrap(folder: &Path, setup: &Setup, admin: SocketAddr, listeners: &[SocketAddr]) -> Value {
    let mut clusters = vec![cluster("hueshift-controller", setup.controller)];
    for service in &setup.services {
        for color in Color::BOTH {
            clusters.push(cluster(&format!("{}-{color}", service.name), *service.endpoints.get(color)));
        }
    }
    let listeners: Vec<Value> = setup
        .services
        .iter()
        .zip(listeners)
        .map(|(service, at)| listener(folder, service, plugins(setup, service), *at))
        .collect();
    json!({
        "node": {"id": NODE, "cluster": "hueshift"},
        "admin": {"address": socket(admin)},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    })
}

/// The plugins in a service's chain.
fn plugins(setup: &Setup, service: &Service) -> &'static [&'static str] {
    match (service.filtered, setup.twice) {
        (false, _) => &[],
        (true, false) => &PLUGINS[..1],
        (true, true) => &PLUGINS,
    }
}

fn listener(folder: &Path, service: &Service, plugins: &[&str], at: SocketAddr) -> Value {
    let service = service.name.as_str();
    let file =
        |name: &str| json!({"path_config_source": {"path": folder.join(name)}, "resource_api_version": "V3"});
    let plugin = |name: &&str| {
        json!({
            "name": name,
            "config_discovery": {
                "config_source": file(&plugin_file(name)),
                "type_urls": ["type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"],
            },
        })
    };
    let mut filters: Vec<Value> = plugins.iter().map(plugin).collect();
    filters.push(json!({
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    }));
    json!({
        "name": service,
        "address": socket(at),
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": service,
                "common_http_protocol_options": {"max_headers_count": 400},
                "rds": {"route_config_name": service, "config_source": file(&route_file(service))},
                "http_filters": filters,
            },
        }]}],
    })
}

fn cluster(name: &str, address: SocketAddr) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "10s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket(address)}}]}],
        },
    })
}

fn socket(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip(), "port_value": address.port()}})
}

fn routes(service: &str, routes: &Routes) -> Value {
    let mut list = Vec::new();
    if routes.pins {
        for color in [Color::Green, Color::Blue] {
            list.push(json!({
                "name": routes.name,
                "match": {
                    "prefix": "/",
                    "headers": [{"name": "x-hueshift-color", "string_match": {"exact": color.as_str()}}],
                },
                "route": {"cluster": format!("{service}-{color}")},
            }));
        }
    }
    list.push(json!({
        "name": routes.name,
        "match": {"prefix": "/"},
        "route": {"weighted_clusters": {"clusters": [
            {"name": format!("{service}-blue"), "weight": 10_000 - routes.green},
            {"name": format!("{service}-green"), "weight": routes.green},
        ]}},
    }));
    json!({"resources": [{
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "name": service,
        "virtual_hosts": [{"name": service, "domains": ["*"], "routes": list}],
    }]})
}

fn plugin_file(name: &str) -> String {
    format!("{name}.json")
}

fn filter(name: &str, plugin: &Value, generation: u32) -> Value {
    json!({"resources": [{
        "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        "name": name,
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": name,
                "root_id": name,
                "failure_policy": "FAIL_OPEN",
                "vm_config": {
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": {"local": {"filename": programs::filter()}},
                    // Its own VMs, as in a mesh two plugins with different variables have.
                    "environment_variables": {
                        "key_values": {"HUESHIFT_GENERATION": generation.to_string(), "HUESHIFT_NAME": name},
                    },
                },
                "configuration": {
                    "@type": "type.googleapis.com/google.protobuf.StringValue",
                    "value": plugin.to_string(),
                },
            },
        },
    }]})
}
