//! A cluster without containers: etcd, kube-apiserver and what else a test asks for, as plain processes in a
//! network namespace of the test's own.
//!
//! Everything that Hueshift talks to is real; only the kubelet is ours, and it really starts the pods' programs.

pub mod api;
pub mod audit;
pub mod churn;
pub mod container;
pub mod gateway;
pub mod install;
pub mod kubelet;
pub mod mesh;
pub mod netns;
pub mod shop;
pub mod suite;
pub mod told;

use crate::process::Process;
use crate::programs;
use crate::workplace::Workplace;
use api::{ADMIN, Api, User};
use kubelet::Kubelet;
use mesh::Istiod;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;

/// What to start.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    /// Users besides the administrator.
    pub users: Vec<User>,
    /// Istio's definitions, so that its objects can be written.
    pub istio_crds: bool,
    /// Deployments that make pods, pods that run, and istiod; the definitions come with it.
    pub mesh: bool,
    /// Further environment of istiod.
    pub istiod: Vec<(String, String)>,
}

/// The running cluster; everything ends with it.
pub struct Cluster {
    /// The administrator's client.
    pub client: kube::Client,
    /// The two servers below everything.
    pub api: tokio::sync::Mutex<Api>,
    /// istiod, if there is a mesh.
    pub istiod: tokio::sync::Mutex<Option<Istiod>>,
    /// The pods, if there is a mesh.
    pub kubelet: Option<Kubelet>,
    controllers: Option<Process>,
    workplace: Mutex<Workplace>,
    folder: PathBuf,
}

// === impl Cluster ===

impl Cluster {
    /// Starts all parts and waits until they serve.
    pub async fn start(parts: Parts) -> Self {
        assert!(netns::inside(), "a cluster starts inside a namespace of its own: call netns::enter() first");
        let workplace = Workplace::new("cluster");
        let folder = workplace.path().to_path_buf();
        let api = Api::start(&folder, &parts.users).await;
        let client = api::client(&api.kubeconfig(ADMIN)).await;
        let mut cluster = Cluster {
            client: client.clone(),
            api: tokio::sync::Mutex::new(api),
            istiod: tokio::sync::Mutex::default(),
            kubelet: None,
            controllers: None,
            workplace: Mutex::new(workplace),
            folder,
        };
        if parts.istio_crds || parts.mesh {
            let file = programs::cluster("istio-crds.yaml").display().to_string();
            cluster.kubectl(&["apply", "--server-side", "-f", &file]);
            cluster.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=180s"]);
        }
        if parts.mesh {
            cluster.kubectl(&["create", "namespace", "istio-system"]);
            cluster.controllers = Some(mesh::start_controllers(&cluster.folder));
            let (istiod, kubelet) = tokio::join!(
                Istiod::start(&cluster.folder, &parts.istiod),
                Kubelet::start(client, &cluster.folder)
            );
            cluster.istiod = tokio::sync::Mutex::new(Some(istiod));
            cluster.kubelet = Some(kubelet);
        }
        cluster
    }

    /// The folder of all logs and files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Keeps that folder after the end.
    pub fn keep(&self) {
        self.workplace.lock().unwrap().keep();
        eprintln!("files and logs of the cluster are kept in {}", self.folder.display());
    }

    /// The kubeconfig of a user; "admin" for the administrator.
    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        self.folder.join(format!("{user}.kubeconfig"))
    }

    /// A client of a user.
    pub async fn client_of(&self, user: &str) -> kube::Client {
        api::client(&self.kubeconfig(user)).await
    }

    /// `kubectl` with these words, as a user, with this on its standard input; whatever comes out of it.
    pub fn try_kubectl(&self, user: &str, words: &[&str], input: &str) -> Output {
        let mut child = Command::new(programs::cluster("kubectl"))
            .args(words)
            .env("KUBECONFIG", self.kubeconfig(user))
            // Discovery is cached per server; a home of our own keeps it from the person's.
            .env("HOME", &self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl starts");
        child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("kubectl reads");
        child.wait_with_output().expect("kubectl ends")
    }

    /// `kubectl` as administrator; gives what it prints and panics if it fails.
    pub fn kubectl(&self, words: &[&str]) -> String {
        expect_success(words, &self.try_kubectl(ADMIN, words, ""))
    }

    /// `kubectl apply --server-side` of these documents as administrator.
    pub fn apply(&self, yaml: &str) {
        let words = ["apply", "--server-side", "--field-manager=tests", "--force-conflicts", "-f", "-"];
        expect_success(&words, &self.try_kubectl(ADMIN, &words, yaml));
    }

    /// SIGKILL to istiod: traffic goes on, routes do not change.
    pub async fn stop_istiod(&self) {
        self.istiod.lock().await.as_mut().expect("a mesh").kill();
    }

    /// Starts istiod again and waits until it is ready.
    pub async fn start_istiod(&self) {
        self.istiod.lock().await.as_mut().expect("a mesh").again().await;
    }

    /// SIGKILL to the API server.
    pub async fn stop_api(&self) {
        self.api.lock().await.kill_server();
    }

    /// Starts the API server again and waits until it is ready.
    pub async fn start_api(&self) {
        self.api.lock().await.start_server().await;
    }
}

fn expect_success(words: &[&str], output: &Output) -> String {
    assert!(
        output.status.success(),
        "kubectl {} failed ({}): {}",
        words.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
