//! etcd and kube-apiserver, with RBAC and users by token, as two processes that tests stop and start.

use crate::clock::wait_for;
use crate::process::Process;
use crate::programs;
use kube::config::{KubeConfigOptions, Kubeconfig};
use rcgen::KeyPair;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Where the API server listens.
pub const ADDRESS: &str = "https://127.0.0.1:6443";

/// Who may do everything.
pub const ADMIN: &str = "admin";

const ETCD: &str = "http://127.0.0.1:2379";
const ETCD_PEERS: &str = "http://127.0.0.1:2380";

/// Someone that the API server knows by token. What she may do is up to RBAC.
#[derive(Debug, Clone)]
pub struct User {
    /// Her name, also the name of her kubeconfig.
    pub name: String,
    /// Her groups.
    pub groups: Vec<String>,
}

/// The two servers' files and processes.
#[derive(Debug)]
pub struct Api {
    folder: PathBuf,
    etcd: Option<Process>,
    server: Option<Process>,
}

// === impl Api ===

impl Api {
    /// Writes keys, tokens and kubeconfigs and starts both; returns when the API server is ready.
    pub async fn start(folder: &Path, users: &[User]) -> Self {
        let mut api = Api { folder: folder.to_path_buf(), etcd: None, server: None };
        fs::create_dir_all(folder.join("api")).expect("the API server's folder");
        api.write_keys();
        api.write_users(users);
        fs::write(folder.join("audit.yaml"), AUDIT_POLICY).expect("the audit policy");
        api.start_etcd().await;
        api.start_server().await;
        api
    }

    /// The kubeconfig of a user.
    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        self.folder.join(format!("{user}.kubeconfig"))
    }

    /// The log of requests that `AUDIT_POLICY` selects, one JSON document a line.
    pub fn audit_log(&self) -> PathBuf {
        self.folder.join("audit.log")
    }

    /// Starts etcd (again).
    pub async fn start_etcd(&mut self) {
        let mut command = Command::new(programs::cluster("etcd"));
        command
            .arg("--data-dir")
            .arg(self.folder.join("etcd"))
            .args(["--log-level", "warn", "--unsafe-no-fsync"])
            .args(["--listen-client-urls", ETCD, "--advertise-client-urls", ETCD])
            .args(["--listen-peer-urls", ETCD_PEERS, "--initial-advertise-peer-urls", ETCD_PEERS])
            .args(["--initial-cluster", &format!("default={ETCD_PEERS}")]);
        let mut etcd = Process::start("etcd", &mut command, &self.folder.join("etcd.log"));
        wait_for("etcd to be ready", Duration::from_secs(30), async || {
            etcd.assert_running();
            let address = "127.0.0.1:2379".parse().expect("an address");
            let (status, _) = crate::http::ask_address(address, "GET", "/readyz", "").await.ok()?;
            (status == 200).then_some(())
        })
        .await;
        self.etcd = Some(etcd);
    }

    /// Starts the API server (again).
    pub async fn start_server(&mut self) {
        let file = |name: &str| self.folder.join(name).display().to_string();
        let mut command = Command::new(programs::cluster("kube-apiserver"));
        command
            .arg(format!("--etcd-servers={ETCD}"))
            .args(["--bind-address=127.0.0.1", "--advertise-address=10.77.0.1", "--secure-port=6443"])
            .arg(format!("--cert-dir={}", file("api")))
            .arg("--service-cluster-ip-range=10.96.0.0/16")
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg(format!("--service-account-key-file={}", file("accounts.pub")))
            .arg(format!("--service-account-signing-key-file={}", file("accounts.key")))
            .arg(format!("--token-auth-file={}", file("tokens.csv")))
            .arg("--authorization-mode=RBAC")
            // No token controller runs; the kubelet stand-in asks for tokens itself.
            .arg("--disable-admission-plugins=ServiceAccount")
            .arg(format!("--audit-policy-file={}", file("audit.yaml")))
            .arg(format!("--audit-log-path={}", self.audit_log().display()));
        let mut server = Process::start("kube-apiserver", &mut command, &self.folder.join("apiserver.log"));
        let kubeconfig = self.kubeconfig(ADMIN);
        wait_for("the API server to be ready", Duration::from_secs(90), async || {
            server.assert_running();
            // Each time anew: one that read the certificate while it was being written would never trust the server.
            let client = try_client(&kubeconfig).await?;
            let ready = hyper::Request::get("/readyz").body(Vec::new()).expect("a request");
            client.request_text(ready).await.ok()
        })
        .await;
        self.server = Some(server);
    }

    /// SIGKILL to the API server.
    pub fn kill_server(&mut self) {
        self.server = None;
    }

    /// SIGKILL to etcd.
    pub fn kill_etcd(&mut self) {
        self.etcd = None;
    }

    /// The API server's process, for signals.
    pub fn server_id(&self) -> u32 {
        self.server.as_ref().expect("the API server runs").id()
    }

    /// Service account tokens are signed with the first and checked with the second. Two files, because the API
    /// server takes a PKCS #8 key for signing only.
    fn write_keys(&self) {
        let pair = KeyPair::generate().expect("a key");
        fs::write(self.folder.join("accounts.key"), pair.serialize_pem()).expect("the signing key");
        fs::write(self.folder.join("accounts.pub"), pair.public_key_pem()).expect("the public key");
    }

    fn write_users(&self, users: &[User]) {
        let admin = User { name: ADMIN.to_owned(), groups: vec!["system:masters".to_owned()] };
        let mut tokens = String::new();
        for User { name, groups } in users.iter().chain([&admin]) {
            let token = format!("token-of-{name}");
            tokens.push_str(&format!("{token},{name},{name},\"{}\"\n", groups.join(",")));
            write_kubeconfig(&self.kubeconfig(name), &self.folder, &token, None);
        }
        fs::write(self.folder.join("tokens.csv"), tokens).expect("the tokens");
    }
}

/// What the controller's service account asks; the rest of the traffic is nobody's question.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  userGroups: [\"system:serviceaccounts:hueshift-system\"]
- level: None
";

/// Writes a kubeconfig for a token. The API server's certificate lies in its folder and is its own authority.
pub fn write_kubeconfig(path: &Path, folder: &Path, token: &str, namespace: Option<&str>) {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {
            "server": ADDRESS,
            "certificate-authority": folder.join("api/apiserver.crt"),
        }}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {
            "cluster": "test",
            "user": "test",
            "namespace": namespace.unwrap_or("default"),
        }}],
    });
    fs::write(path, config.to_string()).expect("a kubeconfig");
}

/// A client of a kubeconfig.
pub async fn client(kubeconfig: &Path) -> kube::Client {
    try_client(kubeconfig).await.unwrap_or_else(|| panic!("{} makes no client", kubeconfig.display()))
}

/// None while the API server has not yet written its certificate.
async fn try_client(kubeconfig: &Path) -> Option<kube::Client> {
    let file = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
    let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.ok()?;
    kube::Client::try_from(config).ok()
}
