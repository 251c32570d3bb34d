//! The verbs: what is asked, of which controller, and how the answer is told.
//!
//! Every verb but `up` is a short-lived client of a controller, by its control socket (`crate::control`) or through a
//! cluster's API server, and renders the one view-model (`crate::view`). Called as `kubectl-hueshift` it asks the
//! cluster, else with one of its flags. Exit codes are part of the interface: 0 done (with `--wait`: promoted), 1 error,
//! 2 usage or configuration, 3 rolled back, 4 held for a person, 5 time-out, 6 superseded.

mod ask;
mod cluster;
mod explain;
mod figures;
mod history;
mod lint;
mod plan_sample;
mod remembered;
mod report;
mod screen;
pub mod simulate;
mod status;
mod steer;
mod terminal;
#[cfg(test)]
mod tests;
mod wait;
mod watch;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use screen::Screen;
use std::fmt;
use std::future::Future;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Blue/green releases for model servers: a session changes its model at most once per release, a bad model is off in
/// under a second.
#[derive(Debug, Parser)]
#[command(name = "hueshift", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve a document on this machine: starts Envoy and the colors that have a `command`,
    /// and releases new revisions.
    Up(crate::standalone::UpArgs),
    /// Manage the BlueGreens of a cluster: runs inside it, installed from `istio/`.
    Controller(crate::mesh::ControllerArgs),
    /// End what a stopped `up` left serving: Envoy, and the colors that it started.
    Down(Folder),
    /// Show each service: live color, release, share, errors, and what it waits for.
    Status(status::StatusArgs),
    /// Show the same live, with evidence; ends with Ctrl-C.
    Watch(watch::WatchArgs),
    /// Say in one screen why a release stands where it stands, or why it was rolled back.
    Explain(Which),
    /// List past releases with verdict and cause.
    History(history::HistoryArgs),
    /// Start a release of the standby's revision.
    Release(steer::ReleaseArgs),
    /// Go on without waiting for the current step's evidence or time.
    Promote(Which),
    /// Stay at the current share; a rollback still happens.
    Pause(Which),
    /// Lift a pause.
    Resume(Which),
    /// Stop the release and go back to the live color.
    Abort(Which),
    /// Check a document and say how long its ramp will take.
    Lint(lint::LintArgs),
    /// Judge a recorded world offline: one JSON line per tick on standard output.
    Simulate(simulate::SimulateArgs),
    /// Say how many candidate requests it takes to find a fault, share by share.
    PlanSample(plan_sample::PlanSampleArgs),
    /// Show an ended release on a page and compute its verdict again from its record.
    Report(report::ReportArgs),
    /// Print the definitions of the objects for a cluster: `hueshift crds | kubectl apply --server-side -f -`.
    Crds,
    /// Print a completion script for a shell.
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
}

/// Which controller of this machine.
#[derive(Debug, Clone, Args)]
struct Folder {
    /// State directory of the running `hueshift up`.
    #[arg(long, value_name = "DIR", env = "HUESHIFT_STATE", default_value = ".hueshift")]
    state: PathBuf,
}

/// Which controller: of a state directory, or of a cluster.
#[derive(Debug, Clone, Args)]
struct At {
    /// State directory of the running `hueshift up` [env: HUESHIFT_STATE] [default: .hueshift]
    // A variable that is set for good must not forbid the flags below.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["namespace", "all_namespaces", "context", "kubeconfig"])]
    state: Option<PathBuf>,
    #[command(flatten)]
    cluster: cluster::Flags,
}

/// Which service of which controller.
#[derive(Debug, Clone, Args)]
struct Which {
    /// The service; may be left out when there is only one.
    service: Option<String>,
    #[command(flatten)]
    at: At,
}

/// For people or for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// The view as JSON.
    Json,
    /// The view as YAML.
    Yaml,
}

/// Why a verb failed, as it is told on standard error.
#[derive(Debug)]
struct Failure {
    code: u8,
    text: String,
    /// The text begins with `FILE:LINE:` itself, as editors and CI expect it.
    located: bool,
}

type Done = Result<ExitCode, Failure>;

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    // Children are launched through ourselves; that is no verb for people.
    let args: Vec<_> = std::env::args_os().collect();
    if let [_, verb, rest @ ..] = args.as_slice()
        && verb == crate::supervise::LAUNCH_VERB
    {
        return crate::supervise::launch(rest);
    }
    let mut command = Cli::command();
    if cluster::called_by_kubectl() {
        command = command.bin_name("kubectl hueshift");
    }
    let cli = Cli::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
    let done = match cli.verb {
        Verb::Up(args) => up(args),
        Verb::Controller(args) => controller(args),
        Verb::Down(folder) => Ok(crate::standalone::down(&folder.state)),
        Verb::Status(args) => block_on(status::run(args)),
        Verb::Watch(args) => block_on(watch::run(args)),
        Verb::Explain(which) => block_on(explain::run(which)),
        Verb::History(args) => block_on(history::run(args)),
        Verb::Release(args) => block_on(steer::release(args)),
        Verb::Promote(which) => block_on(steer::steer(which, crate::control::Command::Promote)),
        Verb::Pause(which) => block_on(steer::steer(which, crate::control::Command::Pause)),
        Verb::Resume(which) => block_on(steer::steer(which, crate::control::Command::Resume)),
        Verb::Abort(which) => block_on(steer::steer(which, crate::control::Command::Abort)),
        Verb::Lint(args) => block_on(lint::run(args)),
        Verb::Simulate(args) => simulate::verb(args),
        Verb::PlanSample(args) => plan_sample::run(args),
        Verb::Report(args) => block_on(report::run(args)),
        Verb::Crds => crds(),
        Verb::Completions { shell } => completions(shell),
    };
    done.unwrap_or_else(|failure| {
        // Nowhere to tell it if standard error is gone too.
        let _ = writeln!(io::stderr(), "{failure}");
        ExitCode::from(failure.code)
    })
}

fn completions(shell: clap_complete::Shell) -> Done {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "hueshift", &mut script);
    say(String::from_utf8_lossy(&script))
}

fn crds() -> Done {
    say(crate::api::crds()
        .map_err(|error| Failure::error(format!("cannot print the definitions: {error}")))?)
}

/// The controller serves reports while it writes files: threads of its own.
fn up(args: crate::standalone::UpArgs) -> Done {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::error(format!("cannot start: {error}")))
        .map(|runtime| runtime.block_on(crate::standalone::up(args)))
}

/// Likewise, while it waits for the API server.
fn controller(args: crate::mesh::ControllerArgs) -> Done {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::error(format!("cannot start: {error}")))
        .map(|runtime| runtime.block_on(crate::mesh::controller(args)))
}

/// One thread is enough for a client, and starts faster.
fn block_on(verb: impl Future<Output = Done>) -> Done {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::error(format!("cannot start: {error}")))?
        .block_on(verb)
}

/// Prints; a reader that went away (`| head`) is no failure.
fn say(text: impl AsRef<str>) -> Done {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_ref().as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(Failure::error(format!("cannot write the output: {error}"))),
    }
}

/// A value in the form that was asked for; `table` renders it for people.
fn show<T: serde::Serialize>(output: Output, value: &T, table: impl FnOnce(&Screen) -> String) -> Done {
    let failed = |error: &dyn fmt::Display| Failure::error(format!("cannot write the output: {error}"));
    match output {
        Output::Table => {
            let screen = Screen::of_stdout();
            say(screen.cut(&table(&screen)))
        }
        Output::Json => say(serde_json::to_string_pretty(value).map_err(|error| failed(&error))? + "\n"),
        Output::Yaml => say(serde_saphyr::to_string(value).map_err(|error| failed(&error))?),
    }
}

// === impl Failure ===

impl Failure {
    /// Something did not work.
    fn error(text: impl Into<String>) -> Self {
        Failure { code: 1, text: text.into(), located: false }
    }

    /// Something was asked or configured wrongly.
    fn usage(text: impl Into<String>) -> Self {
        Failure { code: 2, text: text.into(), located: false }
    }

    /// A document is wrong.
    fn document(error: &crate::document::DocumentError) -> Self {
        let located = matches!(error, crate::document::DocumentError::Wrong { .. });
        let cause = std::error::Error::source(error).map_or(String::new(), |cause| format!(": {cause}"));
        Failure { code: 2, text: format!("{error}{cause}"), located }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.located { f.write_str(&self.text) } else { write!(f, "error: {}", self.text) }
    }
}
