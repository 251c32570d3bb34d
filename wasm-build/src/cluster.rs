//! `cargo wasm tools cluster`: builds the servers of a cluster (etcd, the Kubernetes API server, its controller
//! manager, istiod) and kubectl from pinned Go modules.
//!
//! No package registry has them as binaries for every machine, but the Go module proxy has their source, and Go
//! builds it the same everywhere. The pins are `tests/cluster/go.mod` and `go.sum`; the cache folder carries a hash
//! of both and of our flags, so that a changed pin is another folder. What this deliberately does not do: update.

use crate::problem::{Outcome, Problem};
use crate::{tools, workspace};
use std::fs;
use std::io::{IsTerminal, Write, stderr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Name of the program and the package that it is built from, in the order of building.
const PROGRAMS: [(&str, &str); 5] = [
    ("etcd", "go.etcd.io/etcd/server/v3"),
    ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
    ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
    ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    ("pilot-discovery", "istio.io/istio/pilot/cmd/pilot-discovery"),
];

/// Without the version stamps the API server calls itself `v0.0.0-master+$Format:%H$`, which clients cannot parse.
const LINKER_FLAGS: &str = "-s -w \
    -X k8s.io/component-base/version.gitVersion=v1.36.3 \
    -X k8s.io/component-base/version.gitMajor=1 \
    -X k8s.io/component-base/version.gitMinor=36";

/// Istio's definitions of its objects: inside its module, and under this name in the cache.
const ISTIO_CRDS: (&str, &str) = ("manifests/charts/base/files/crd-all.gen.yaml", "istio-crds.yaml");

/// The oldest Go that the pins accept.
const OLDEST_GO: (u32, u32) = (1, 26);

/// The folder with all programs, built if need be.
pub fn folder() -> Outcome<PathBuf> {
    let folder = cache()?;
    let wanted = PROGRAMS.map(|(name, _)| name).into_iter().chain([ISTIO_CRDS.1]);
    let missing: Vec<&str> = wanted.filter(|name| !folder.join(name).is_file()).collect();
    if missing.is_empty() {
        return Ok(folder);
    }
    check_go()?;
    fs::create_dir_all(&folder)
        .map_err(|error| Problem::doing(format_args!("cache folder {}", folder.display()), error))?;
    eprintln!(
        "building {} with Go into {} (about ten minutes the first time, then never)",
        missing.join(", "),
        folder.display()
    );
    for (name, package) in PROGRAMS.iter().filter(|(name, _)| missing.contains(name)) {
        build(&folder, name, package)?;
    }
    if missing.contains(&ISTIO_CRDS.1) {
        copy_crds(&folder)?;
    }
    Ok(folder)
}

/// The cache folder of these pins and flags.
fn cache() -> Outcome<PathBuf> {
    let mut hash = Fnv::default();
    for name in ["go.mod", "go.sum"] {
        let path = module().join(name);
        hash.eat(&fs::read(&path).map_err(|error| Problem::doing(path.display(), error))?);
    }
    hash.eat(LINKER_FLAGS.as_bytes());
    Ok(tools::root().join(format!("cluster-{:016x}", hash.0)))
}

fn module() -> PathBuf {
    workspace::root().join("tests/cluster")
}

fn check_go() -> Outcome {
    let (major, minor) = OLDEST_GO;
    let remedy = format!(
        "install Go {major}.{minor} or newer (https://go.dev/dl), \
         or leave the tests against a cluster out: `cargo verify --quick`"
    );
    let output = go().arg("version").stdin(Stdio::null()).output().map_err(|error| {
        Problem::new(format!(
            "Go does not start, and the cluster's servers are built with it: {error}\n  {remedy}"
        ))
    })?;
    let text = String::from_utf8_lossy(&output.stdout);
    match parse_version(&text) {
        Some(version) if version >= OLDEST_GO => Ok(()),
        _ => Err(Problem::new(format!("`go version` says {:?}, which is too old\n  {remedy}", text.trim()))),
    }
}

/// `(1, 26)` out of `go version go1.26.8 linux/amd64`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let numbers = text.split(' ').nth(2)?.strip_prefix("go")?;
    let mut numbers = numbers.split(['.', 'r', 'b', '-', '\n']).map(str::parse::<u32>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn go() -> Command {
    let mut go = Command::new("go");
    // Static programs, and no other Go than the one that is here.
    go.current_dir(module()).env("CGO_ENABLED", "0").env("GOTOOLCHAIN", "local").env("GOWORK", "off");
    go
}

/// Builds one program under another name and renames it last, so that an interrupted build leaves nothing that
/// looks complete.
fn build(folder: &Path, name: &str, package: &str) -> Outcome {
    let part = folder.join(format!("{name}.part"));
    let mut child = go()
        .args(["build", "-trimpath", "-mod=readonly", "-ldflags", LINKER_FLAGS, "-o"])
        .arg(&part)
        .arg(package)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| Problem::doing("cannot start go build", error))?;
    let began = Instant::now();
    let mut told = began;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) => std::thread::sleep(Duration::from_millis(100)),
            Err(error) => return Err(Problem::doing("waiting for go build", error)),
        }
        if stderr().is_terminal() {
            eprint!("\r  {name} … {:.0} s", began.elapsed().as_secs_f64());
            let _ = stderr().flush();
        } else if told.elapsed() > Duration::from_secs(30) {
            told = Instant::now();
            eprintln!("  {name} … {:.0} s", began.elapsed().as_secs_f64());
        }
    };
    if stderr().is_terminal() {
        eprint!("\r\x1b[2K");
    }
    if !status.success() {
        return Err(Problem::new(format!(
            "go build {package} failed ({status}), its message stands above\n  \
             the modules come from Go's module proxy: is it reachable (`go env GOPROXY`)?"
        )));
    }
    let bytes = fs::metadata(&part).map_or(0, |file| file.len());
    fs::rename(&part, folder.join(name)).map_err(|error| Problem::doing(part.display(), error))?;
    eprintln!("  {name}: {:.0} s, {} MB", began.elapsed().as_secs_f64(), bytes / 1_000_000);
    Ok(())
}

fn copy_crds(folder: &Path) -> Outcome {
    let output = go()
        .args(["list", "-m", "-f", "{{.Dir}}", "istio.io/istio"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Problem::doing("cannot start go list", error))?;
    let source = Path::new(String::from_utf8_lossy(&output.stdout).trim()).join(ISTIO_CRDS.0);
    let text = fs::read(&source)
        .map_err(|error| Problem::doing(format_args!("Istio's CRDs at {}", source.display()), error))?;
    let part = folder.join("istio-crds.part");
    fs::write(&part, text)
        .and_then(|()| fs::rename(&part, folder.join(ISTIO_CRDS.1)))
        .map_err(|error| Problem::doing(part.display(), error))
}

/// FNV-1a: names a folder, protects nothing.
#[derive(Debug)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn eat(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_go_is_read_from_what_it_says() {
        assert_eq!(parse_version("go version go1.26.8 linux/amd64\n"), Some((1, 26)));
        assert_eq!(parse_version("go version go1.27rc1 linux/arm64\n"), Some((1, 27)));
        assert_eq!(parse_version("go: cannot find GOROOT\n"), None);
        assert!(parse_version("go version go1.9 linux/amd64").is_some_and(|old| old < OLDEST_GO));
    }

    #[test]
    fn a_changed_pin_is_another_folder() {
        let mut one = Fnv::default();
        let mut other = Fnv::default();
        one.eat(b"etcd v3.6.8");
        other.eat(b"etcd v3.6.9");
        assert_ne!(one.0, other.0);
    }
}
