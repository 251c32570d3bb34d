//! A network of its own for everything that a test against a cluster starts, the test itself included.
//!
//! The program starts itself once more inside new user, network, process and mount namespaces. There the whole of
//! 10.77.0.0/16 is local, so that any pod address answers; ports are fixed and collide with nobody; and when the
//! inner program ends, the kernel ends all that it started, however it ended. Root is not needed.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};

/// Set inside.
const INSIDE: &str = "HUESHIFT_INSIDE_NAMESPACE";

/// On `lo` a prefix makes all its addresses local. The program is not `exec`ed: the shell stays as the namespace's
/// first process, which has no default signal handlers, and collects orphans.
const SCRIPT: &str = "ip link set lo up && ip addr add 10.77.0.1/16 dev lo && \"$@\"";

const NEW: [&str; 9] = [
    "--user",
    "--map-root-user",
    "--net",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount",
    "--mount-proc",
    "--",
];

/// Returns inside the namespaces. The first call in a process replaces it with one that is inside; call it first
/// thing in `main`.
pub fn enter() {
    if inside() {
        return;
    }
    if let Err(why) = possible() {
        panic!(
            "a test against a cluster needs a network namespace of its own, and this machine gives none: {why}\n  \
             needed: `unshare` (util-linux 2.36 or newer), `ip` (iproute2), and unprivileged user namespaces or root"
        );
    }
    let program = env::current_exe().expect("the path of this program");
    let error = command().arg(program).args(env::args_os().skip(1)).env(INSIDE, "1").exec();
    panic!("unshare does not start: {error}");
}

/// Whether this process is in a namespace of [`enter`].
pub fn inside() -> bool {
    env::var_os(INSIDE).is_some()
}

fn command() -> Command {
    let mut command = Command::new("unshare");
    command.args(NEW).args(["sh", "-c", SCRIPT, "namespace"]);
    command
}

fn possible() -> Result<(), String> {
    let output = command().arg("true").output().map_err(|error| format!("unshare: {error}"))?;
    let said = |status: ExitStatus| format!("{status}: {}", String::from_utf8_lossy(&output.stderr).trim());
    if output.status.success() { Ok(()) } else { Err(said(output.status)) }
}
