//! The real `hueshift up` over documents that the test edits, watched and steered through its control socket.
//!
//! What it starts (Envoy, colors with a `command`) outlives it on purpose; here all of it ends with [`Home`], found
//! by the state directory in its command line, which no other process can name.

use crate::clock::wait_for;
use crate::process::{self, Process};
use crate::workplace::Workplace;
use crate::{ports, programs};
use hueshift::api::{
    AnalysisSpec, BlueGreen, ColorSpec, KeySpec, ReleaseSpec, RoutingSpec, SessionSpec, SoakSpec, Spec,
    StepSpec,
};
use hueshift::control::{Client, Command as Order, Request};
use hueshift::view::{Phase, ReleaseRecord, ServiceView, View};
use hueshift_core::color::{Color, PerColor};
use hueshift_core::share::Bps;
use rustix::process::Signal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A standalone home: a document, a state directory and, while it runs, a controller.
#[derive(Debug)]
pub struct Home {
    /// The documents, as last written.
    pub documents: Vec<BlueGreen>,
    folder: PathBuf,
    workers: usize,
    record: Option<PathBuf>,
    /// The filter module of the next [`Home::spawn`].
    pub module: PathBuf,
    process: Option<Process>,
    client: Client,
}

/// A document for `name` with models at `endpoints`, on a free port, keyed by the session header, steps in percent
/// of a hundred, a short soak and everything else as by default.
pub fn document(name: &str, endpoints: PerColor<SocketAddr>, steps: &[u16]) -> BlueGreen {
    let color = |address: SocketAddr, revision: &str| ColorSpec {
        endpoints: vec![address.to_string()],
        revision: revision.to_owned(),
        ..ColorSpec::default()
    };
    let step = |percent: &u16| StepSpec { share: share(*percent), min_time: Duration::ZERO, min_requests: 0 };
    BlueGreen::new(
        name,
        Spec {
            listen: Some(ports::free::<1>()[0].to_string()),
            service: None,
            colors: PerColor { blue: color(endpoints.blue, "b1"), green: color(endpoints.green, "g1") },
            routing: RoutingSpec::default(),
            session: SessionSpec {
                keys: vec![KeySpec::Header("x-session-id".to_owned())],
                ..Default::default()
            },
            release: ReleaseSpec {
                steps: steps.iter().map(step).collect(),
                soak: SoakSpec { holdback: share(5), time: Duration::from_secs(2), ..SoakSpec::default() },
                drain_deadline: Duration::from_secs(2),
                ..ReleaseSpec::default()
            },
            analysis: AnalysisSpec::default(),
        },
    )
}

/// A share in whole percent.
pub fn share(percent: u16) -> Bps {
    Bps::new(percent * 100).expect("at most 100 %")
}

// === impl Home ===

impl Home {
    /// Writes the documents and starts the controller; returns once Envoy answers for every service.
    pub async fn start(workplace: &Workplace, documents: Vec<BlueGreen>) -> Self {
        Home::with(workplace, documents, 2, None).await
    }

    /// The same with so many workers, recording what the judge receives.
    pub async fn with(
        workplace: &Workplace,
        documents: Vec<BlueGreen>,
        workers: usize,
        record: Option<PathBuf>,
    ) -> Self {
        Home::on(workplace, documents, workers, record, programs::filter()).await
    }

    /// The same with another filter module.
    pub async fn on(
        workplace: &Workplace,
        documents: Vec<BlueGreen>,
        workers: usize,
        record: Option<PathBuf>,
        module: PathBuf,
    ) -> Self {
        let folder = workplace.path().to_path_buf();
        let client = Client::new(&folder.join("state"));
        let mut home = Home { documents, folder, workers, record, module, process: None, client };
        home.write();
        home.up().await;
        home
    }

    /// The document file.
    pub fn file(&self) -> PathBuf {
        self.folder.join("services.yaml")
    }

    /// The state directory.
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Starts the controller (again) and waits until it and Envoy answer.
    pub async fn up(&mut self) {
        self.spawn();
        let patience = Duration::from_secs(40);
        wait_for("hueshift up to answer", patience, async || {
            self.process.as_mut().expect("started").assert_running();
            self.client.status().await.ok()
        })
        .await;
        for document in self.documents.clone() {
            let listen: SocketAddr = document.listen().parse().expect("an address");
            wait_for("Envoy to serve", patience, async || {
                self.process.as_mut().expect("started").assert_running();
                let (status, _) = crate::http::ask_address(listen, "GET", "/v1/quote", "").await.ok()?;
                (status < 500).then_some(())
            })
            .await;
        }
    }

    /// Starts the controller without waiting for anything.
    pub fn spawn(&mut self) {
        let mut command = self.command("up");
        command.arg(self.file()).arg("--workers").arg(self.workers.to_string());
        if let Some(record) = &self.record {
            command.arg("--record").arg(record);
        }
        command.arg("--envoy").arg(programs::envoy()).arg("--filter").arg(&self.module);
        self.process = Some(Process::start("hueshift up", &mut command, &self.folder.join("hueshift.log")));
    }

    /// A verb of the CLI on this home, to be run by the test.
    pub fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(programs::hueshift());
        command.arg(verb).env("HUESHIFT_STATE", self.state()).env("NO_COLOR", "1").current_dir(&self.folder);
        command
    }

    /// SIGKILL to the controller; Envoy and the colors live on.
    pub fn kill_controller(&mut self) {
        self.process.take().expect("a running controller").kill();
    }

    /// Ctrl-C to the controller; panics if it does not end.
    pub fn interrupt(&mut self) {
        let mut process = self.process.take().expect("a running controller");
        process
            .interrupt(Duration::from_secs(10))
            .unwrap_or_else(|| panic!("Ctrl-C does not end hueshift up:\n{}", process.log_tail(20)));
    }

    /// The controller's process.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("a running controller")
    }

    /// Everything, now.
    pub async fn view(&self) -> View {
        match self.client.status().await {
            Ok(view) => view,
            Err(error) => panic!("no status: {error:?}\n{}", self.log_tail()),
        }
    }

    /// One service, now.
    pub async fn service(&self, name: &str) -> ServiceView {
        let view = self.view().await;
        view.services.into_iter().find(|service| service.name == name).expect("a service of the document")
    }

    /// Sends an order and panics if it is refused.
    pub async fn order(&self, service: &str, command: Order) -> String {
        let request = Request { service: Some(service.to_owned()), command };
        match self.client.command(&request).await {
            Ok(accepted) => accepted.text,
            Err(error) => panic!("{request:?}: {error}\n{}", self.log_tail()),
        }
    }

    /// Changes the documents and writes the file.
    pub fn edit(&mut self, change: impl FnOnce(&mut Vec<BlueGreen>)) {
        change(&mut self.documents);
        self.write();
    }

    /// Names another revision for a color: on the standby this starts a release.
    pub fn set_revision(&mut self, service: &str, color: Color, revision: &str) {
        self.edit(|documents| {
            let document = documents.iter_mut().find(|document| document.name() == service);
            document.expect("a service of the document").spec.colors.get_mut(color).revision =
                revision.to_owned();
        });
    }

    /// Waits until the service stands in `phase`.
    pub async fn wait_phase(&self, service: &str, phase: Phase, deadline: Duration) -> ServiceView {
        let what = format!("{service} to be {}", phase.as_str());
        wait_for(&what, deadline, async || {
            let view = self.service(service).await;
            (view.phase == phase).then_some(view)
        })
        .await
    }

    /// Waits until the candidate's share in force is `percent`, enforced by every Envoy with traffic.
    pub async fn wait_share(&self, service: &str, percent: u16, deadline: Duration) -> ServiceView {
        let what = format!("{service} to enforce {percent} %");
        wait_for(&what, deadline, async || {
            let view = self.service(service).await;
            let plan = view.plan;
            (plan.limit == share(percent) && plan.with_traffic > 0 && plan.enforcing == plan.with_traffic)
                .then_some(view)
        })
        .await
    }

    /// Waits until release `number` has ended and the service is idle again.
    pub async fn wait_end(&self, service: &str, number: u32, deadline: Duration) -> ReleaseRecord {
        let what = format!("release {number} of {service} to end");
        wait_for(&what, deadline, async || {
            let view = self.service(service).await;
            let record = view.history.iter().find(|record| record.release == number).cloned();
            record.filter(|_| view.phase == Phase::Idle)
        })
        .await
    }

    /// Envoy's process id, as the controller knows it.
    pub async fn envoy_id(&self) -> Option<u32> {
        self.view().await.proxies.first().and_then(|proxy| proxy.pid)
    }

    /// The end of the controller's output.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(self.folder.join("hueshift.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Where a service is served.
    pub fn listen(&self, service: &str) -> SocketAddr {
        let document = self.documents.iter().find(|document| document.name() == service);
        document.expect("a service of the document").listen().parse().expect("an address")
    }

    /// Leaves everything running and forgets it; says what to stop.
    pub fn leave(mut self) -> Vec<(u32, String)> {
        let mut left = process::mentioning(&self.folder);
        if let Some(process) = self.process.take() {
            left.retain(|(id, _)| *id != process.id());
            left.insert(0, (process.id(), "hueshift up".to_owned()));
            std::mem::forget(process);
        }
        std::mem::forget(self);
        left
    }

    fn write(&self) {
        let text = hueshift::document::write(&self.documents).expect("YAML");
        replace(&self.file(), text.as_bytes());
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        drop(self.process.take());
        // Everything that names this folder is ours: the folder's name is random. Twice, because a keeper might
        // have been starting one while we looked.
        for _ in 0..2 {
            for (id, _) in process::mentioning(&self.folder) {
                process::signal(id, Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Complete under another name, then renamed: a reader never sees half a file.
pub fn replace(path: &Path, content: &[u8]) {
    let new = path.with_extension("new");
    std::fs::write(&new, content).expect("a file");
    std::fs::rename(new, path).expect("a file in its place");
}
