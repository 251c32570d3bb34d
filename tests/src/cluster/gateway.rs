//! A gateway of the mesh: plain Envoys that istiod configures, one or several behind one port.
//!
//! All of them listen on the same port of the namespace, and the kernel spreads connections over them, as a load
//! balancer in front of replicas would.

use super::mesh::XDS;
use crate::clock::wait_for;
use crate::envoy;
use crate::http::ask_address;
use crate::process::Process;
use crate::programs;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// What to start.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// Its namespace.
    pub namespace: String,
    /// Its name, which replicas number.
    pub name: String,
    /// What selectors of Gateways and WasmPlugins see.
    pub labels: BTreeMap<String, String>,
    /// How many Envoys.
    pub replicas: usize,
    /// Workers of each.
    pub workers: usize,
}

/// One Envoy.
#[derive(Debug)]
pub struct Proxy {
    /// The process.
    pub process: Process,
    /// Its admin interface.
    pub admin: SocketAddr,
    /// The node id, which reports carry as `proxy`.
    pub node: String,
    /// Its folder.
    folder: PathBuf,
}

/// A request as an access log has it.
#[derive(Debug, Clone)]
pub struct Access {
    /// When it came, Unix ns, cut to milliseconds.
    pub came: u64,
    /// The whole line: response flags, session, cluster, route and more.
    pub line: String,
}

static NEXT: AtomicU8 = AtomicU8::new(2);

// === impl Gateway ===

impl Gateway {
    /// One Envoy with two workers and the label `istio: ingressgateway`.
    pub fn new(namespace: &str) -> Self {
        Gateway {
            namespace: namespace.to_owned(),
            name: "gateway".to_owned(),
            labels: BTreeMap::from([("istio".to_owned(), "ingressgateway".to_owned())]),
            replicas: 1,
            workers: 2,
        }
    }

    /// Starts all replicas and waits until they are live, which does not yet mean that they have a listener.
    pub async fn start(&self, folder: &Path) -> Vec<Proxy> {
        let mut proxies = Vec::new();
        for replica in 0..self.replicas {
            proxies.push(self.replica(folder, replica).await);
        }
        proxies
    }

    async fn replica(&self, folder: &Path, replica: usize) -> Proxy {
        let address = Ipv4Addr::new(10, 77, 0, NEXT.fetch_add(1, Ordering::Relaxed));
        let name = format!("{}-{replica}", self.name);
        let node = format!("router~{address}~{name}.{0}~{0}.svc.cluster.local", self.namespace);
        let admin = SocketAddr::from((address, 15000));
        let folder = folder.join("gateways").join(format!("{}_{name}", self.namespace));
        std::fs::create_dir_all(&folder).expect("the gateway's folder");
        let file = folder.join("envoy.json");
        std::fs::write(&file, self.bootstrap(&node, address).to_string()).expect("the bootstrap");
        let mut command = Command::new(programs::envoy());
        command
            .arg("--config-path")
            .arg(&file)
            .args(["--disable-hot-restart", "--log-level", "warning", "--component-log-level", "wasm:info"])
            .args(["--concurrency", &self.workers.to_string(), "--file-flush-interval-msec", "100"])
            .current_dir(&folder);
        let mut process = Process::start("Envoy", &mut command, &file.with_extension("log"));
        wait_for("Envoy to be live", Duration::from_secs(30), async || {
            process.assert_running();
            let (status, text) = ask_address(admin, "GET", "/ready", "").await.ok()?;
            (status == 200 && text.contains("LIVE")).then_some(())
        })
        .await;
        Proxy { process, admin, node, folder }
    }

    fn bootstrap(&self, node: &str, address: Ipv4Addr) -> Value {
        let socket = |address: &str| {
            let (host, port) = address.rsplit_once(':').expect("host and port");
            let port: u16 = port.parse().expect("a port");
            json!({"socket_address": {"address": host, "port_value": port}})
        };
        let ads = json!({"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"});
        // By default Envoy may wait half a minute before it asks a restarted istiod again.
        let retry = json!({"retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"}});
        json!({
            "node": {
                "id": node,
                "cluster": format!("{}.{}", self.name, self.namespace),
                "metadata": {
                    "NAMESPACE": self.namespace,
                    "LABELS": self.labels,
                    "INSTANCE_IPS": address,
                    "ISTIO_VERSION": "1.32.0",
                    "CLUSTER_ID": "Kubernetes",
                },
            },
            "admin": {"address": socket(&format!("{address}:15000"))},
            "dynamic_resources": {
                "ads_config": {
                    "api_type": "DELTA_GRPC",
                    "transport_api_version": "V3",
                    "set_node_on_first_message_only": true,
                    "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc", "retry_policy": retry}}],
                },
                "lds_config": ads,
                "cds_config": ads,
            },
            "static_resources": {"clusters": [{
                "name": "xds-grpc",
                "type": "STATIC",
                "connect_timeout": "1s",
                "typed_extension_protocol_options": {
                    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                        "explicit_http_config": {"http2_protocol_options": {}},
                    },
                },
                "load_assignment": {
                    "cluster_name": "xds-grpc",
                    "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket(XDS)}}]}],
                },
            }]},
        })
    }
}

// === impl Proxy ===

impl Proxy {
    /// One counter or gauge; 0 if there is none of that name.
    pub async fn stat(&self, name: &str) -> u64 {
        envoy::stat(&self.stats(name).await, name)
    }

    /// Waits until it knows these clusters with an endpoint that it may use: istiod also sends those that are not ready,
    /// marked so. A route to another one is answered with 503, and istiod
    /// sends a new cluster and the routes to it in one go, without waiting for its endpoints to be asked for.
    pub async fn wait_clusters(&self, wanted: &[String]) {
        wait_for(&format!("{} to know {wanted:?}", self.node), Duration::from_secs(30), async || {
            let (_, text) = ask_address(self.admin, "GET", "/clusters", "").await.ok()?;
            let usable = |name: &String| {
                let mut of_cluster = text.lines().filter(|line| line.starts_with(&format!("{name}::10.")));
                of_cluster.any(|line| line.ends_with("::health_flags::healthy"))
            };
            wanted.iter().all(usable).then_some(())
        })
        .await;
    }

    /// All stats whose name contains `part`.
    pub async fn stats(&self, part: &str) -> String {
        envoy::stats(self.admin, part).await.unwrap_or_else(|error| {
            panic!("Envoy's admin does not answer: {error}\n{}", self.process.log_tail(20))
        })
    }

    /// The lines of its access log about requests that came within this time, Unix ns.
    pub fn access(&self, from: u64, to: u64) -> Vec<Access> {
        let text = std::fs::read_to_string(self.folder.join("access.log")).unwrap_or_default();
        let read = |line: &str| {
            let ms: u64 = line.split(' ').next()?.parse().ok()?;
            Some(Access { came: ms * 1_000_000, line: line.to_owned() })
        };
        // The log knows whole milliseconds.
        let within = |access: &Access| access.came + 1_000_000 > from && access.came <= to;
        text.lines().filter_map(read).filter(within).collect()
    }

    /// Panics if Envoy refused anything that istiod sent, or if a VM of the filter died.
    pub async fn assert_well(&mut self) {
        envoy::assert_filter_alive(&mut self.process);
        let stats = self.stats("update_rejected").await;
        let refused: Vec<&str> = stats.lines().filter(|line| !line.ends_with(": 0")).collect();
        assert!(
            refused.is_empty(),
            "Envoy refused configuration: {refused:?}\n{}",
            self.process.log_tail(20)
        );
    }
}
