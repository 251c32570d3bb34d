//! Scheduler and kubelet in one: every pod gets an address on the namespace's `lo`, and its containers run as
//! processes of ours.
//!
//! What a container was is kept: its output in `pods/<namespace>_<pod>_<container>.log`, a sample model's requests in
//! `pods/<namespace>_<pod>.events`. The addresses tell the color: 10.77.1.n is blue, 10.77.2.n green, 10.77.3.n
//! neither. Probes run as the pod says, except that until a container is ready it is asked ten times a second.

use super::api::write_kubeconfig;
use super::container::{Program, Values, program, references};
use crate::process;
use futures_util::StreamExt;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Node, Pod, Probe, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::watcher::{self, Event};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Name of the one node.
pub const NODE: &str = "node";

/// While a container is not ready, and whenever a container's process might have ended.
const LOOK: Duration = Duration::from_millis(100);

/// Between two attempts to reach the API server.
const RETRY: Duration = Duration::from_millis(200);

/// The stand-in; pods' processes end with it.
#[derive(Debug)]
pub struct Kubelet {
    task: JoinHandle<()>,
    inner: Arc<Inner>,
}

struct Inner {
    client: kube::Client,
    folder: PathBuf,
    addresses: Mutex<BTreeMap<Ipv4Addr, String>>,
    processes: Mutex<BTreeMap<(String, String), Vec<u32>>>,
}

/// One container as its pod's task sees it.
struct Running {
    container: Container,
    program: Result<Program, String>,
    child: Option<Child>,
    started: Instant,
    up: bool,
    ready: bool,
    failures: u32,
    next_probe: Instant,
    next_liveness: Instant,
    /// Liveness probes in a row that failed.
    missed: u32,
    restarts: u32,
    next_start: Instant,
}

// === impl Kubelet ===

impl Kubelet {
    /// Makes the node and runs whatever pod comes.
    pub async fn start(client: kube::Client, folder: &Path) -> Self {
        let nodes: Api<Node> = Api::all(client.clone());
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE}},
        }))
        .expect("a node");
        nodes.create(&PostParams::default(), &node).await.expect("the node is made");
        let pods = folder.join("pods");
        std::fs::create_dir_all(&pods).expect("the pods' folder");
        let inner = Arc::new(Inner {
            client,
            folder: folder.to_path_buf(),
            addresses: Mutex::default(),
            processes: Mutex::default(),
        });
        Kubelet { task: tokio::spawn(watch_pods(Arc::clone(&inner))), inner }
    }

    /// Process ids of a pod's containers, for signals.
    pub fn processes(&self, namespace: &str, pod: &str) -> Vec<u32> {
        let key = (namespace.to_owned(), pod.to_owned());
        self.inner.processes.lock().unwrap().get(&key).cloned().unwrap_or_default()
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.task.abort();
        for id in self.inner.processes.lock().unwrap().values().flatten() {
            process::signal(*id, Signal::KILL);
        }
    }
}

async fn watch_pods(inner: Arc<Inner>) {
    let pods: Api<Pod> = Api::all(inner.client.clone());
    let mut known: HashMap<String, watch::Sender<Pod>> = HashMap::new();
    let mut tasks = tokio::task::JoinSet::new();
    let mut events = Box::pin(kube::runtime::watcher(pods, watcher::Config::default()));
    while let Some(event) = events.next().await {
        while tasks.try_join_next().is_some() {}
        match event {
            Ok(Event::Apply(pod) | Event::InitApply(pod)) => {
                let Some(uid) = pod.metadata.uid.clone() else { continue };
                if let Some(sender) = known.get(&uid) {
                    sender.send_replace(pod);
                } else {
                    let (sender, receiver) = watch::channel(pod);
                    known.insert(uid, sender);
                    tasks.spawn(run_pod(Arc::clone(&inner), receiver));
                }
            }
            // Without its sender a pod's task ends.
            Ok(Event::Delete(pod)) => drop(pod.metadata.uid.and_then(|uid| known.remove(&uid))),
            Ok(Event::Init | Event::InitDone) => {}
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}

/// From binding to deletion.
async fn run_pod(inner: Arc<Inner>, mut updates: watch::Receiver<Pod>) {
    let pod = updates.borrow_and_update().clone();
    let place = Place::of(&inner, &pod);
    let address = inner.take_address(&pod);
    if pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_none()) {
        place.bind().await;
    }
    let mut containers = Vec::new();
    let specs: Vec<Container> = pod.spec.as_ref().map(|spec| spec.containers.clone()).unwrap_or_default();
    for container in specs {
        let values = place.values(&container).await;
        let mut program = program(&pod, &container, address, &values);
        if let Ok(program) = &mut program {
            program.environment.extend(place.environment().await);
        }
        containers.push(Running::new(container, program));
    }
    let mut told = None;
    loop {
        for running in &mut containers {
            running.look(&place, address).await;
        }
        inner.note(&place, &containers);
        let now: Vec<Value> = containers.iter().map(|running| running.status()).collect();
        if told.as_ref() != Some(&now) && place.tell(address, &now).await {
            told = Some(now);
        }
        let wait = tokio::time::timeout(LOOK, updates.changed()).await;
        let gone = matches!(wait, Ok(Err(_)));
        if gone || updates.borrow().metadata.deletion_timestamp.is_some() {
            let grace = if gone { None } else { updates.borrow().metadata.deletion_grace_period_seconds };
            end(&mut containers, Duration::from_secs(grace.unwrap_or(0).unsigned_abs())).await;
            inner.forget(&place, address);
            if !gone {
                place.delete().await;
            }
            return;
        }
    }
}

/// The pause that the pod asks for, SIGTERM, the time it is granted, SIGKILL.
async fn end(containers: &mut [Running], grace: Duration) {
    let deadline = Instant::now() + grace;
    let pause = |running: &Running| {
        let hook = running.container.lifecycle.as_ref()?.pre_stop.as_ref()?;
        Some(Duration::from_secs(hook.sleep.as_ref()?.seconds.unsigned_abs()))
    };
    let longest = containers.iter().filter_map(pause).max().unwrap_or_default();
    tokio::time::sleep(longest.min(grace)).await;
    for child in containers.iter().filter_map(|running| running.child.as_ref()) {
        process::signal(child.id().unwrap_or(0), Signal::TERM);
    }
    for child in containers.iter_mut().filter_map(|running| running.child.as_mut()) {
        let _ = tokio::time::timeout_at(deadline, child.wait()).await;
        let _ = child.kill().await;
    }
}

// === impl Inner ===

impl Inner {
    fn take_address(&self, pod: &Pod) -> Ipv4Addr {
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        let color = labels.get("hueshift.dev/color").or_else(|| labels.get("color")).map(String::as_str);
        let net = match color {
            Some("blue") => 1,
            Some("green") => 2,
            _ => 3,
        };
        let mut taken = self.addresses.lock().unwrap();
        let mut all = (1..=254).map(|n| Ipv4Addr::new(10, 77, net, n));
        let free = all.find(|address| !taken.contains_key(address)).expect("a free address");
        taken.insert(free, pod.metadata.uid.clone().unwrap_or_default());
        free
    }

    fn note(&self, place: &Place, containers: &[Running]) {
        let ids = containers.iter().filter_map(|running| running.child.as_ref()?.id()).collect();
        self.processes.lock().unwrap().insert((place.namespace.clone(), place.pod.clone()), ids);
    }

    fn forget(&self, place: &Place, address: Ipv4Addr) {
        self.processes.lock().unwrap().remove(&(place.namespace.clone(), place.pod.clone()));
        self.addresses.lock().unwrap().remove(&address);
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// A pod's objects in the API and its files.
struct Place {
    inner: Arc<Inner>,
    namespace: String,
    pod: String,
    uid: String,
    account: Option<String>,
    pods: Api<Pod>,
}

// === impl Place ===

impl Place {
    fn of(inner: &Arc<Inner>, pod: &Pod) -> Self {
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        Place {
            pods: Api::namespaced(inner.client.clone(), &namespace),
            inner: Arc::clone(inner),
            namespace,
            pod: pod.metadata.name.clone().unwrap_or_default(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            account: pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone()),
        }
    }

    fn file(&self, ending: &str) -> PathBuf {
        self.inner.folder.join("pods").join(format!("{}_{}{ending}", self.namespace, self.pod))
    }

    /// Not while the node is cordoned: `kubectl cordon node`.
    async fn bind(&self) {
        let nodes: Api<Node> = Api::all(self.inner.client.clone());
        let cordoned = async || {
            let node = nodes.get(NODE).await.ok()?;
            node.spec?.unschedulable
        };
        while cordoned().await == Some(true) {
            tokio::time::sleep(RETRY).await;
        }
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": self.pod},
            "target": {"kind": "Node", "name": NODE},
        });
        let how = PostParams::default();
        while !settled(self.pods.create_subresource::<_, Value>("binding", &self.pod, &how, &binding).await) {
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Tells the API how the pod is; false: not now.
    async fn tell(&self, address: Ipv4Addr, containers: &[Value]) -> bool {
        let ready = containers.iter().all(|container| container["ready"] == true);
        let word = |yes: bool| if yes { "True" } else { "False" };
        let now = format!("{:.0}", jiff::Timestamp::now());
        let conditions: Vec<Value> =
            [("PodScheduled", true), ("Initialized", true), ("ContainersReady", ready), ("Ready", ready)]
                .iter()
                .map(|(name, yes)| json!({"type": name, "status": word(*yes), "lastTransitionTime": now}))
                .collect();
        let status = json!({"status": {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "hostIP": "10.77.0.1",
            "startTime": now,
            "conditions": conditions,
            "containerStatuses": containers,
        }});
        match self.pods.patch_status(&self.pod, &PatchParams::default(), &Patch::Strategic(&status)).await {
            Ok(_) => true,
            Err(kube::Error::Api(status)) if status.code == 404 => true,
            Err(_) => false,
        }
    }

    async fn delete(&self) {
        let mut delete = DeleteParams::default().grace_period(0);
        delete.preconditions = Some(Preconditions { uid: Some(self.uid.clone()), resource_version: None });
        while !settled(self.pods.delete(&self.pod, &delete).await) {
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Secrets and config maps that a container's environment names.
    async fn values(&self, container: &Container) -> Values {
        let mut values = Values::new();
        for (kind, name, key) in references(container) {
            let client = self.inner.client.clone();
            let found = if kind == "secret" {
                let secrets: Api<Secret> = Api::namespaced(client, &self.namespace);
                let data = secrets.get(&name).await.ok().and_then(|secret| secret.data);
                data.and_then(|data| String::from_utf8(data.get(&key)?.0.clone()).ok())
            } else {
                let maps: Api<ConfigMap> = Api::namespaced(client, &self.namespace);
                maps.get(&name).await.ok().and_then(|map| map.data?.get(&key).cloned())
            };
            if let Some(value) = found {
                values.insert((kind, name, key), value);
            }
        }
        values
    }

    /// What stands for the files that a kubelet mounts: the service account's token, if there is such an account.
    async fn environment(&self) -> Vec<(String, String)> {
        let path = std::env::var("PATH").unwrap_or_default();
        let log = self.file(".events").display().to_string();
        let mut environment = vec![("PATH".to_owned(), path), ("HUESHIFT_EVENT_LOG".to_owned(), log)];
        if let Some(token) = self.token().await {
            let file = self.file(".kubeconfig");
            write_kubeconfig(&file, &self.inner.folder, &token, Some(&self.namespace));
            environment.push(("KUBECONFIG".to_owned(), file.display().to_string()));
        }
        environment
    }

    async fn token(&self) -> Option<String> {
        let account = self.account.as_deref()?;
        let accounts: Api<ServiceAccount> = Api::namespaced(self.inner.client.clone(), &self.namespace);
        let request: TokenRequest =
            serde_json::from_value(json!({"spec": {"audiences": [], "expirationSeconds": 86_400}})).ok()?;
        let answer = accounts.create_token_request(account, &PostParams::default(), &request).await.ok()?;
        answer.status?.token
    }
}

/// Whether the API took it or says that there is nothing to do.
fn settled<T>(answer: kube::Result<T>) -> bool {
    match answer {
        Ok(_) => true,
        Err(kube::Error::Api(status)) => matches!(status.code, 404 | 409),
        Err(_) => false,
    }
}

// === impl Running ===

impl Running {
    fn new(container: Container, program: Result<Program, String>) -> Self {
        let now = Instant::now();
        Running {
            container,
            program,
            child: None,
            started: now,
            up: false,
            ready: false,
            failures: 0,
            next_probe: now,
            next_liveness: now,
            missed: 0,
            restarts: 0,
            next_start: now,
        }
    }

    /// Starts what is not running, asks its probes.
    async fn look(&mut self, place: &Place, address: Ipv4Addr) {
        if let Some(child) = &mut self.child
            && let Ok(Some(_)) = child.try_wait()
        {
            self.fell();
        }
        let now = Instant::now();
        if self.child.is_none() && now >= self.next_start {
            self.start(place);
        }
        if self.child.is_none() {
            return;
        }
        let container = &self.container;
        if !self.up {
            self.up = match &container.startup_probe {
                Some(probe) => ask(probe, container, address).await,
                None => true,
            };
            return;
        }
        if now >= self.next_probe {
            let (passed, period, threshold) = match &container.readiness_probe {
                None => (true, Duration::from_secs(1), 1),
                Some(probe) => (ask(probe, container, address).await, period(probe), threshold(probe)),
            };
            self.failures = if passed { 0 } else { self.failures + 1 };
            self.ready = passed || (self.ready && self.failures < threshold);
            self.next_probe = now + if self.ready { period } else { LOOK };
        }
        if let Some(probe) = &container.liveness_probe
            && now >= self.next_liveness
        {
            self.next_liveness = now + period(probe);
            self.missed = if ask(probe, container, address).await { 0 } else { self.missed + 1 };
            if self.missed >= threshold(probe)
                && let Some(child) = &mut self.child
            {
                let _ = child.kill().await;
                self.fell();
            }
        }
    }

    /// It is started again, later each time.
    fn fell(&mut self) {
        self.child = None;
        self.up = false;
        self.ready = false;
        self.missed = 0;
        self.restarts += 1;
        let pause = Duration::from_millis(100 << self.restarts.min(6));
        self.next_start = Instant::now() + pause;
    }

    fn start(&mut self, place: &Place) {
        let Ok(program) = &self.program else { return };
        let log = place.file(&format!("_{}.log", self.container.name));
        let file = std::fs::File::options().create(true).append(true).open(log).expect("a container's log");
        let child = Command::new(&program.path)
            .args(&program.arguments)
            .env_clear()
            .envs(program.environment.iter().cloned())
            .current_dir(place.inner.folder.join("pods"))
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("the log twice"))
            .stderr(file)
            .kill_on_drop(true)
            .spawn();
        let now = Instant::now();
        self.started = now;
        self.next_probe = now;
        let delay = |probe: &Probe| probe.initial_delay_seconds.unwrap_or(0).max(1).unsigned_abs();
        let delay = self.container.liveness_probe.as_ref().map_or(1, delay);
        self.next_liveness = now + Duration::from_secs(u64::from(delay));
        match child {
            Ok(child) => self.child = Some(child),
            Err(error) => self.program = Err(error.to_string()),
        }
    }

    fn status(&self) -> Value {
        let state = match (&self.program, &self.child) {
            (Err(why), _) => json!({"waiting": {"reason": "CreateContainerError", "message": why}}),
            (Ok(_), Some(_)) => json!({"running": {}}),
            (Ok(_), None) => json!({"waiting": {"reason": "CrashLoopBackOff"}}),
        };
        json!({
            "name": self.container.name,
            "image": self.container.image,
            "imageID": "",
            "restartCount": self.restarts,
            "ready": self.ready,
            "started": self.child.is_some(),
            "state": state,
        })
    }
}

fn period(probe: &Probe) -> Duration {
    Duration::from_secs(u64::from(probe.period_seconds.unwrap_or(10).max(1).unsigned_abs()))
}

fn threshold(probe: &Probe) -> u32 {
    probe.failure_threshold.unwrap_or(3).max(1).unsigned_abs()
}

/// HTTP and TCP are asked; any other kind of probe passes.
async fn ask(probe: &Probe, container: &Container, address: Ipv4Addr) -> bool {
    let patience = Duration::from_secs(u64::from(probe.timeout_seconds.unwrap_or(1).max(1).unsigned_abs()));
    let port = |port: &IntOrString| match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(name) => {
            let its = |it: &&k8s_openapi::api::core::v1::ContainerPort| it.name.as_deref() == Some(name);
            let found = container.ports.iter().flatten().find(its)?;
            u16::try_from(found.container_port).ok()
        }
    };
    let question = async {
        if let Some(http) = &probe.http_get {
            let Some(port) = port(&http.port) else { return false };
            let path = http.path.as_deref().unwrap_or("/");
            let answer = crate::http::ask_address(SocketAddr::from((address, port)), "GET", path, "").await;
            answer.is_ok_and(|(status, _)| (200..400).contains(&status))
        } else if let Some(tcp) = &probe.tcp_socket {
            let Some(port) = port(&tcp.port) else { return false };
            tokio::net::TcpStream::connect((address, port)).await.is_ok()
        } else {
            true
        }
    };
    tokio::time::timeout(patience, question).await.unwrap_or(false)
}
