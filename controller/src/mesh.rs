//! The mesh home: the same engine on Kubernetes and Istio.

pub mod backoff;
pub mod names;
pub mod plugins;
pub mod status;
