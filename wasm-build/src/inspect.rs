//! `cargo wasm inspect`: checks what the module asks of its host, what it offers, and its size.
//!
//! The format is read by hand: two of its sections are lists of names, and a parser for all of WebAssembly would be
//! the largest dependency of this crate.

use crate::problem::{Outcome, Problem};
use crate::workspace;
use std::fmt;
use std::fs;
use std::path::Path;

/// Largest module, in bytes: a quarter of a MiB. A fifth of it reads JSON
/// (serde_json, and the formatting of floats that its messages need); who needs room finds it there first.
const MAX_BYTES: u64 = 262_144;

/// All that the module may ask of its host. What is not here cannot happen: the filter answers no request itself,
/// touches no body, calls no other service than by HTTP.
const IMPORTS: &[&str] = &[
    "proxy_define_metric",
    "proxy_get_buffer_bytes",
    "proxy_get_current_time_nanoseconds",
    "proxy_get_header_map_pairs",
    "proxy_get_header_map_value",
    "proxy_get_property",
    "proxy_get_shared_data",
    "proxy_http_call",
    "proxy_increment_metric",
    "proxy_log",
    "proxy_replace_header_map_value",
    "proxy_set_effective_context",
    "proxy_set_property",
    "proxy_set_shared_data",
    "proxy_set_tick_period_milliseconds",
];

/// Kept by the method table of the SDK's fallback context, which is used only by a module without one of its own:
/// nothing in the filter can reach them.
const IMPORTS_OF_THE_SDK: &[&str] = &[
    "proxy_call_foreign_function",
    "proxy_dequeue_shared_queue",
    "proxy_done",
    "proxy_enqueue_shared_queue",
    "proxy_get_status",
    "proxy_grpc_call",
    "proxy_grpc_cancel",
    "proxy_grpc_close",
    "proxy_grpc_send",
    "proxy_grpc_stream",
    "proxy_register_shared_queue",
    "proxy_resolve_shared_queue",
];

/// What the host needs to run the filter.
const EXPORTS: &[&str] = &[
    "_initialize",
    "malloc",
    "memory",
    "proxy_abi_version_0_2_1",
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_delete",
    "proxy_on_done",
    "proxy_on_http_call_response",
    "proxy_on_log",
    "proxy_on_request_headers",
    "proxy_on_response_body",
    "proxy_on_response_headers",
    "proxy_on_response_trailers",
    "proxy_on_tick",
    "proxy_on_vm_start",
];

/// What a build for tests says when it starts (`filter/src/trap.rs`): a client's header kills it.
const TRAP: &[u8] = b"TRAP BUILD";

/// A size, and how much of the budget it takes.
#[derive(Debug, Clone, Copy)]
pub struct Budget(u64);

/// What a module says about itself.
#[derive(Debug, Default, PartialEq)]
struct Module {
    imports: Vec<(String, String)>,
    exports: Vec<String>,
}

/// The bytes are no module, or end too early.
#[derive(Debug, PartialEq)]
struct NoModule;

/// Checks imports, exports and size.
pub fn run() -> Outcome {
    let bytes = checked()?;
    let path = workspace::module();
    println!("{}: imports and exports as allowed, {}", path.display(), Budget::of(bytes.len() as u64));
    Ok(())
}

/// The module, if nothing is wrong with it.
pub fn checked() -> Outcome<Vec<u8>> {
    let path = workspace::module();
    let bytes = fs::read(&path).map_err(|error| {
        Problem::doing(format_args!("{} (run `cargo wasm build` first)", path.display()), error)
    })?;
    let complaints = check(&bytes);
    if !complaints.is_empty() {
        return Err(Problem::new(format!("{}:\n  {}", path.display(), complaints.join("\n  "))));
    }
    Ok(bytes)
}

/// All that is wrong with a module.
fn check(bytes: &[u8]) -> Vec<String> {
    let Ok(module) = Module::read(bytes) else { return vec!["this is no WebAssembly module".to_owned()] };
    let mut complaints = Vec::new();
    for (from, name) in &module.imports {
        let known = IMPORTS.iter().chain(IMPORTS_OF_THE_SDK).any(|allowed| allowed == name);
        if from != "env" || !known {
            complaints.push(format!("imports {from}.{name}, which is not on the list of allowed imports"));
        }
    }
    for wanted in EXPORTS {
        if !module.exports.iter().any(|name| name == wanted) {
            complaints.push(format!("does not export {wanted}, which Envoy calls"));
        }
    }
    if is_trap(bytes) {
        complaints
            .push("is a build for tests, which a client's header kills; run `cargo wasm build`".to_owned());
    }
    if bytes.len() as u64 > MAX_BYTES {
        complaints.push(format!("is too large: {}", Budget::of(bytes.len() as u64)));
    }
    for folder in [std::env::home_dir(), Some(workspace::root())].into_iter().flatten() {
        if mentions(bytes, &folder) {
            complaints.push(format!(
                "mentions {}, a folder of this machine; build it with `cargo wasm build`",
                folder.display()
            ));
        }
    }
    complaints
}

/// Whether this is a build that a request header kills.
pub fn is_trap(bytes: &[u8]) -> bool {
    bytes.windows(TRAP.len()).any(|window| window == TRAP)
}

fn mentions(bytes: &[u8], folder: &Path) -> bool {
    let Some(text) = folder.to_str().filter(|text| text.len() > 1) else { return false };
    let needle = format!("{}/", text.trim_end_matches('/'));
    bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
}

// === impl Module ===

impl Module {
    fn read(bytes: &[u8]) -> Result<Module, NoModule> {
        let mut rest = bytes.strip_prefix(b"\0asm\x01\0\0\0").ok_or(NoModule)?;
        let mut module = Module::default();
        while !rest.is_empty() {
            let kind = byte(&mut rest)?;
            let size = number(&mut rest)?;
            let mut section = take(&mut rest, size)?;
            match kind {
                2 => module.imports = imports(&mut section)?,
                7 => module.exports = exports(&mut section)?,
                _ => {}
            }
        }
        Ok(module)
    }
}

fn imports(section: &mut &[u8]) -> Result<Vec<(String, String)>, NoModule> {
    let count = number(section)?;
    let mut imports = Vec::new();
    for _ in 0..count {
        let import = (name(section)?, name(section)?);
        // Only functions: a table, memory or global of the host would be a way around the list.
        match byte(section)? {
            0 => number(section)?,
            _ => return Err(NoModule),
        };
        imports.push(import);
    }
    Ok(imports)
}

fn exports(section: &mut &[u8]) -> Result<Vec<String>, NoModule> {
    let count = number(section)?;
    let mut exports = Vec::new();
    for _ in 0..count {
        exports.push(name(section)?);
        byte(section)?;
        number(section)?;
    }
    Ok(exports)
}

fn byte(rest: &mut &[u8]) -> Result<u8, NoModule> {
    let (first, after) = rest.split_first().ok_or(NoModule)?;
    *rest = after;
    Ok(*first)
}

fn take<'a>(rest: &mut &'a [u8], size: usize) -> Result<&'a [u8], NoModule> {
    let (taken, after) = rest.split_at_checked(size).ok_or(NoModule)?;
    *rest = after;
    Ok(taken)
}

/// An unsigned LEB128 number of at most 32 bits.
fn number(rest: &mut &[u8]) -> Result<usize, NoModule> {
    let mut number = 0u64;
    for shift in [0, 7, 14, 21, 28] {
        let byte = byte(rest)?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return usize::try_from(number).map_err(|_| NoModule);
        }
    }
    Err(NoModule)
}

fn name(rest: &mut &[u8]) -> Result<String, NoModule> {
    let size = number(rest)?;
    String::from_utf8(take(rest, size)?.to_vec()).map_err(|_| NoModule)
}

// === impl Budget ===

impl Budget {
    /// The budget that a module of this size takes.
    pub fn of(bytes: u64) -> Budget {
        Budget(bytes)
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of {MAX_BYTES} ({} %)", self.0, self.0 * 100 / MAX_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(kind: u8, body: &[u8]) -> Vec<u8> {
        [&[kind, body.len() as u8], body].concat()
    }

    fn module(imports: &[(&str, &str)], exports: &[&str]) -> Vec<u8> {
        let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
        let mut body = vec![imports.len() as u8];
        imports.iter().for_each(|(from, name)| body.extend([text(from), text(name), vec![0, 0]].concat()));
        let imports = section(2, &body);
        let mut body = vec![exports.len() as u8];
        exports.iter().for_each(|name| body.extend([text(name), vec![0, 0]].concat()));
        let size = body.len();
        let exports = [&[7, (size & 0x7f) as u8 | 0x80, (size >> 7) as u8][..], &body].concat();
        [b"\0asm\x01\0\0\0".to_vec(), imports, exports].concat()
    }

    #[test]
    fn a_module_with_the_allowed_imports_and_all_exports_passes() {
        assert_eq!(check(&module(&[("env", "proxy_log")], EXPORTS)), [""; 0]);
    }

    #[test]
    fn each_fault_is_named() {
        let found = |bytes: &[u8], what: &str| check(bytes).iter().any(|line| line.contains(what));
        assert!(found(
            &module(&[("env", "proxy_send_local_response")], EXPORTS),
            "proxy_send_local_response"
        ));
        assert!(found(
            &module(&[("wasi_snapshot_preview1", "proxy_log")], EXPORTS),
            "wasi_snapshot_preview1"
        ));
        assert!(found(&module(&[], &EXPORTS[1..]), "_initialize"));
        assert!(found(&module(&[("env", "x TRAP BUILD")], EXPORTS), "build for tests"));
        let mut large = module(&[], EXPORTS);
        large.extend([0, 0xc0, 0xc4, 0x7]);
        large.extend(vec![0; 123_456]);
        assert!(!found(&large, "too large"));
        large.extend([0, 0xa0, 0x8d, 0x9]);
        large.extend(vec![0; 149_152]);
        assert!(found(&large, "too large"));
        assert!(found(b"\0asm", "no WebAssembly"));
        let cut = module(&[("env", "proxy_log")], EXPORTS);
        assert!(found(&cut[..cut.len() - 1], "no WebAssembly"));
    }
}
