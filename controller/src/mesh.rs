//! The mesh home: the same engine on Kubernetes and Istio.

pub mod names;
