//! Everything that a run against a real Envoy needs: Envoy, the module, the controller, the harness's programs.

use crate::problem::{self, Outcome, Problem};
use crate::{compile, tools, workspace};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// All of it, built and found.
#[derive(Debug)]
pub struct Ready {
    envoy: PathBuf,
    cluster: Option<PathBuf>,
}

/// Gets and builds what is missing; cargo decides what is out of date.
pub fn all() -> Outcome<Ready> {
    let envoy = tools::envoy()?;
    compile::run()?;
    compile::trap()?;
    programs()?;
    Ok(Ready { envoy, cluster: None })
}

/// Builds the controller and the harness's programs.
pub fn programs() -> Outcome {
    workspace::run(
        "building the controller and the harness",
        &mut workspace::cargo(["build", "--package", "hueshift", "--package", "hueshift-tests", "--bins"]),
    )
}

// === impl Ready ===

impl Ready {
    /// With the servers of a cluster, which take long to build the first time.
    pub fn with_cluster(mut self, folder: PathBuf) -> Self {
        self.cluster = Some(folder);
        self
    }

    /// Names everything to a program by environment variables, which the harness reads.
    pub fn name_in(&self, command: &mut Command) {
        command
            .env("HUESHIFT_ENVOY", &self.envoy)
            .env("HUESHIFT_FILTER", workspace::module())
            .env("HUESHIFT_TRAP_FILTER", workspace::trap_module())
            .env("HUESHIFT_BIN", workspace::program("hueshift"))
            .env("HUESHIFT_SAMPLE_MODEL", workspace::program("sample-model"))
            .env_remove("HUESHIFT_STATE")
            .current_dir(workspace::root());
        if let Some(folder) = &self.cluster {
            command.env("HUESHIFT_CLUSTER", folder);
        }
    }
}

/// Runs one of the harness's programs with these arguments and gives its exit code.
pub fn hand_over(name: &str, ready: Option<&Ready>, arguments: &[String]) -> ExitCode {
    let mut command = Command::new(workspace::program(name));
    command.args(arguments);
    if let Some(ready) = ready {
        ready.name_in(&mut command);
    }
    match command.status() {
        Ok(status) => {
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            code.map_or(ExitCode::FAILURE, ExitCode::from)
        }
        Err(error) => problem::exit(Err(Problem::doing(format_args!("starting {name}"), error))),
    }
}
