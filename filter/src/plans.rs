//! Plans by route name: parsed once, then found by comparing bytes.
//!
//! A worker sees few distinct names (one per open release and epoch), and mostly the same one again; the last name
//! is compared first, then a bounded map is asked. When the map is full it is emptied: parsing again costs
//! microseconds. Names without a readable plan are not kept; finding out is one scan for the marker.

use crate::config::Config;
use crate::problem::{Problem, Problems};
use hueshift_core::lottery::ServiceKey;
use hueshift_core::route_plan::{PlanError, RoutePlan};
use std::rc::Rc;

/// Most plans kept.
const MAX_PLANS: usize = 256;

/// A plan with what follows from it.
#[derive(Debug)]
pub struct Planned {
    /// What the route name says.
    pub plan: RoutePlan,
    /// The lottery's key; `None` if the configuration lacks the mesh key that the plan names.
    pub key: Option<ServiceKey>,
}

/// The plans of a worker.
#[derive(Debug, Default)]
pub struct Plans {
    last: Option<(Vec<u8>, Rc<Planned>)>,
    /// Sorted by name.
    known: Vec<(Vec<u8>, Rc<Planned>)>,
}

// === impl Plans ===

impl Plans {
    /// The plan in a route name, if there is one that we may act on.
    pub fn find(&mut self, name: Vec<u8>, config: &Config, problems: &mut Problems) -> Option<Rc<Planned>> {
        if let Some((last, planned)) = &self.last
            && *last == name
        {
            return Some(Rc::clone(planned));
        }
        let place = self.known.binary_search_by(|(known, _)| known.cmp(&name));
        let known = place.ok().and_then(|at| self.known.get(at));
        let planned = match (known, place) {
            (Some((_, planned)), _) => Rc::clone(planned),
            (None, place) => {
                let planned = Rc::new(read(&name, config, problems)?);
                let mut at = place.unwrap_or_else(|at| at);
                if self.known.len() >= MAX_PLANS {
                    self.known.clear();
                    at = 0;
                }
                self.known.insert(at, (name.clone(), Rc::clone(&planned)));
                planned
            }
        };
        self.last = Some((name, Rc::clone(&planned)));
        Some(planned)
    }

    /// Forgets all, after a change of mesh keys.
    pub fn clear(&mut self) {
        *self = Plans::default();
    }
}

fn read(name: &[u8], config: &Config, problems: &mut Problems) -> Option<Planned> {
    match RoutePlan::decode(name) {
        Ok(decoded) => {
            problems.note_many(Problem::UnknownParts, u64::from(decoded.skipped));
            let plan = decoded.plan;
            let key = config.key(plan.key_version).map(|mesh| ServiceKey::derive(mesh, &plan.id));
            if key.is_none() {
                problems.note(Problem::UnknownKey);
            }
            Some(Planned { plan, key })
        }
        Err(PlanError::NoPlan) => None,
        Err(_) => {
            problems.note(Problem::BadPlan);
            None
        }
    }
}
