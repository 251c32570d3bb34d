//! Which programs a document asks for: Envoy, and the colors that have a command.

use super::layout::Layout;
use crate::api::BlueGreen;
use crate::supervise::Program;
use hueshift_core::color::Color;
use std::path::Path;

/// Envoy's name among the programs.
pub const ENVOY: &str = "envoy";

/// Envoy. Hot restart is off: its shared memory would tie two state directories together.
pub fn envoy(layout: &Layout, binary: &Path, workers: Option<u32>) -> Program {
    let mut argv = vec![
        binary.to_string_lossy().into_owned(),
        "--config-path".to_owned(),
        layout.root().join("bootstrap.json").to_string_lossy().into_owned(),
        "--disable-hot-restart".to_owned(),
        "--log-level".to_owned(),
        "warning".to_owned(),
        "--component-log-level".to_owned(),
        "wasm:info,upstream:info,config:info".to_owned(),
    ];
    if let Some(workers) = workers {
        argv.extend(["--concurrency".to_owned(), workers.to_string()]);
    }
    Program {
        name: ENVOY.to_owned(),
        argv,
        env: Vec::new(),
        revision: String::new(),
        folder: layout.root().to_owned(),
        log: layout.log(ENVOY),
        pid_file: layout.pid(ENVOY),
    }
}

/// The program of one color, if the document has a command for it. It starts in the document's folder, so that
/// relative paths mean what a reader of the document expects.
pub fn color(layout: &Layout, file: &Path, service: &BlueGreen, color: Color) -> Option<Program> {
    let spec = service.spec.colors.get(color);
    if spec.command.is_empty() {
        return None;
    }
    let name = format!("{}-{color}", service.name());
    let folder = std::path::absolute(file).ok().and_then(|file| file.parent().map(Path::to_owned));
    Some(Program {
        argv: spec.command.clone(),
        env: vec![
            ("HUESHIFT_COLOR".to_owned(), color.to_string()),
            ("HUESHIFT_REVISION".to_owned(), spec.revision.clone()),
        ],
        revision: spec.revision.clone(),
        folder: folder.unwrap_or_else(|| layout.root().to_owned()),
        log: layout.log(&name),
        pid_file: layout.pid(&name),
        name,
    })
}

/// The same program as it was started by an earlier `up`: a live color must not change because it died.
pub fn as_recorded(mut program: Program, argv: Vec<String>, revision: String) -> Program {
    if !argv.is_empty() {
        program.argv = argv;
        for (key, value) in &mut program.env {
            if key == "HUESHIFT_REVISION" {
                value.clone_from(&revision);
            }
        }
        program.revision = revision;
    }
    program
}
