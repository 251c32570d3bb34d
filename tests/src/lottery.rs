//! Which color a session must get, computed outside of Envoy.

use crate::envoy::{MESH_KEY, Plan};
use hueshift_core::color::Color;
use hueshift_core::contract::ServiceId;
use hueshift_core::lottery::{ServiceKey, draw};
use hueshift_core::share::Bps;

/// Slot of a session key under the mesh key of these tests.
pub fn slot(plan: &Plan, session_key: &[u8]) -> u16 {
    let id = ServiceId::parse(plan.id).expect("a service id");
    ServiceKey::derive(&mesh_key(), &id).slot(plan.release, session_key)
}

/// Color of a session under a plan.
pub fn color(plan: &Plan, session: u32) -> Color {
    draw(slot(plan, session.to_string().as_bytes()), Bps::new(plan.limit).expect("a share"), plan.stable)
}

fn mesh_key() -> Vec<u8> {
    (0..MESH_KEY.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&MESH_KEY[at..at + 2], 16).expect("hex"))
        .collect()
}
