//! Which proxies run the filter, and with what: exactly one plugin per proxy.
//!
//! A plugin comes from an overlay (mesh-wide, or for a gateway), or is made here: one per namespace that opted in,
//! unless something shipped covers it already. Ours are those with the label [`PLUGIN_LABEL`]; no other is touched.
//! Of a shipped one we own the address for reports, the mesh keys and the generation, all else stays its owner's.
//! `decide` is pure; `task` watches, writes what it decided, and tells what a person should look at.

mod decide;
mod keys;
mod task;
#[cfg(test)]
mod tests;

pub use self::decide::{Decision, Namespace, Plugin, Scope, Seen, Write, decide};
pub use self::keys::{KeysError, MAX_KEYS, parse as parse_keys};
pub use self::task::{Keys, Revive, Told, mesh_keys, run};

#[cfg(doc)]
use super::names::PLUGIN_LABEL;
use hueshift_core::contract::MeshKey;
use std::fmt;

/// What the decision needs besides what it sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The controller's namespace.
    pub namespace: String,
    /// The mesh's root namespace: a plugin there without a selector runs in every proxy.
    pub root: String,
    /// Where the module of the plugins made here comes from; without it none is made.
    pub url: Option<String>,
    /// The module's digest.
    pub sha256: Option<String>,
    /// The mesh keys, current first; at most two.
    pub keys: Vec<MeshKey>,
}

/// Something that a person should look at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where; absent: the whole mesh.
    pub namespace: Option<String>,
    /// For programs: the reason of a condition.
    pub reason: Reason,
    /// For people: what, and what to do about it.
    pub text: String,
}

/// Why a plugin is not as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Two of ours may run in one proxy.
    DoubleAttachment,
    /// The root namespace opted in, where a plugin must have a selector.
    RootNeedsSelector,
    /// A namespace opted in, but only some of its proxies run the filter.
    PartlyAttached,
    /// The name of the plugin that would be made is taken by somebody else's.
    NameTaken,
    /// It runs our module without our label, so it gets no keys.
    Unlabelled,
    /// It is not known where the module comes from.
    NoModule,
    /// A write was refused for want of rights.
    NotPermitted,
    /// A write failed.
    WriteFailed,
    /// WasmPlugins cannot be seen.
    NotSeen,
}

// === impl Reason ===

impl Reason {
    /// As in a condition.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::DoubleAttachment => "DoubleAttachment",
            Reason::RootNeedsSelector => "RootNeedsSelector",
            Reason::PartlyAttached => "PartlyAttached",
            Reason::NameTaken => "NameTaken",
            Reason::Unlabelled => "Unlabelled",
            Reason::NoModule => "NoModule",
            Reason::NotPermitted => "NotPermitted",
            Reason::WriteFailed => "WriteFailed",
            Reason::NotSeen => "NotSeen",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
