//! What makes the API server a mesh: the controllers behind Deployments and Services, and istiod.
//!
//! istiod runs without certificates, webhooks and injection, and without the filters of its own that a plain Envoy
//! lacks; everything that it makes of VirtualServices, DestinationRules, Gateways and WasmPlugins is as everywhere.

use super::api::ADMIN;
use crate::clock::wait_for;
use crate::http::ask_address;
use crate::process::Process;
use crate::programs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Where Envoys ask istiod.
pub const XDS: &str = "127.0.0.1:15010";

const HTTP: &str = "127.0.0.1:15080";

/// Deployments make Pods, Services find them; what is deleted goes with what it owned. The API server's proxy to
/// Services still reads the older Endpoints objects.
const CONTROLLERS: &str = "deployment-controller,replicaset-controller,endpoints-controller,\
    endpointslice-controller,garbage-collector-controller,namespace-controller";

/// Each Envoy writes its access log into the folder that it runs in: when, response flags, and what else says why an
/// answer was not a model's.
const MESH_CONFIG: &str = "\
enableAutoMtls: false
defaultConfig: {discoveryAddress: \"127.0.0.1:15010\"}
accessLogFile: access.log
accessLogFormat: \"%START_TIME(%s%3f)% %RESPONSE_FLAGS% %RESPONSE_CODE% %RESPONSE_CODE_DETAILS% \
session=%REQ(X-SESSION-ID)% cluster=%UPSTREAM_CLUSTER% host=%UPSTREAM_HOST% route=%ROUTE_NAME% \
ms=%DURATION% why=%UPSTREAM_TRANSPORT_FAILURE_REASON%\\n\"
";

/// istiod as tests stop and start it.
#[derive(Debug)]
pub struct Istiod {
    folder: PathBuf,
    environment: Vec<(String, String)>,
    process: Option<Process>,
}

// === impl Istiod ===

impl Istiod {
    /// Starts it and waits until it is ready. The namespace `istio-system` must exist.
    pub async fn start(folder: &Path, environment: &[(String, String)]) -> Self {
        std::fs::write(folder.join("mesh.yaml"), MESH_CONFIG).expect("the mesh's configuration");
        let mut istiod =
            Istiod { folder: folder.to_path_buf(), environment: environment.to_vec(), process: None };
        istiod.again().await;
        istiod
    }

    /// Starts it again.
    pub async fn again(&mut self) {
        let mut command = Command::new(programs::cluster("pilot-discovery"));
        command
            .arg("discovery")
            .arg(format!("--kubeconfig={}", self.folder.join(format!("{ADMIN}.kubeconfig")).display()))
            .arg(format!("--meshConfig={}", self.folder.join("mesh.yaml").display()))
            .arg(format!("--grpcAddr={XDS}"))
            .args(["--secureGRPCAddr=", "--httpsAddr=", "--monitoringAddr=127.0.0.1:15014"])
            .arg(format!("--httpAddr={HTTP}"))
            .args(["--ctrlz_address=127.0.0.1", "--ctrlz_port=0", "--keepaliveMaxServerConnectionAge=24h"])
            .envs([
                ("POD_NAME", "istiod"),
                ("POD_NAMESPACE", "istio-system"),
                ("CLUSTER_ID", "Kubernetes"),
                ("ENABLE_CA_SERVER", "false"),
                ("INJECT_ENABLED", "false"),
                ("VALIDATION_WEBHOOK_CONFIG_NAME", ""),
                ("INJECTION_WEBHOOK_CONFIG_NAME", ""),
                ("PILOT_ENABLE_ALPN_FILTER", "false"),
                ("PILOT_ENABLE_METADATA_EXCHANGE", "false"),
                ("PILOT_ENABLE_GATEWAY_API", "false"),
                ("PILOT_ENABLE_ANALYSIS", "false"),
            ])
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        let mut process = Process::start("istiod", &mut command, &self.folder.join("istiod.log"));
        let address: SocketAddr = HTTP.parse().expect("an address");
        wait_for("istiod to be ready", Duration::from_secs(60), async || {
            process.assert_running();
            let (status, _) = ask_address(address, "GET", "/ready", "").await.ok()?;
            (status == 200).then_some(())
        })
        .await;
        self.process = Some(process);
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// What each proxy was sent and has acknowledged.
    pub async fn sync(&self) -> String {
        let address: SocketAddr = HTTP.parse().expect("an address");
        ask_address(address, "GET", "/debug/syncz", "").await.map_or_else(|e| e.to_string(), |(_, text)| text)
    }
}

/// Starts kube-controller-manager with the few controllers that pods need. It retries by itself, so nobody waits.
pub fn start_controllers(folder: &Path) -> Process {
    let mut command = Command::new(programs::cluster("kube-controller-manager"));
    command
        .arg(format!("--kubeconfig={}", folder.join(format!("{ADMIN}.kubeconfig")).display()))
        .args(["--leader-elect=false", "--bind-address=127.0.0.1", "--secure-port=10257"])
        .arg(format!("--cert-dir={}", folder.join("controllers").display()))
        .arg(format!("--controllers={CONTROLLERS}"));
    Process::start("kube-controller-manager", &mut command, &folder.join("controllers.log"))
}
