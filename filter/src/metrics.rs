//! Envoy statistics by color: `wasmcustom.component.<color>.tag.<service>;.hueshift_requests` and so on.
//!
//! The odd names are labels: Istio's bootstrap turns `component.<x>.` and `tag.<x>;.` into labels of the same name,
//! and the ABI has no other way to give any. Counting goes through pending numbers that a tick writes out, so a
//! request costs no host call for it. Counters are the process's: all workers add to one, and they outlive a VM.

use crate::host::Host;
use crate::problem::{Problem, Problems};
use crate::vec_map::VecMap;
use hueshift_core::color::Color;
use hueshift_core::contract::ServiceId;

/// Most services with statistics of their own.
const MAX_SERVICES: usize = 256;

/// Statistics of a worker.
#[derive(Debug, Default)]
pub struct Metrics {
    services: VecMap<(ServiceId, Color), Pair>,
    problems: VecMap<Problem, (u64, Counter)>,
}

/// Requests that ended, and those of them that count against the color.
#[derive(Debug, Default)]
struct Pair {
    requests: Counter,
    errors: Counter,
}

#[derive(Debug, Default)]
struct Counter {
    pending: u64,
    id: Id,
}

#[derive(Debug, Default)]
enum Id {
    #[default]
    Undefined,
    Defined(u32),
    /// The proxy would not have it, and is not asked again.
    Refused,
}

// === impl Metrics ===

impl Metrics {
    /// A request ended.
    pub fn ended(&mut self, service: ServiceId, color: Color, error: bool) {
        let key = (service, color);
        if self.services.len() >= 2 * MAX_SERVICES && !self.services.contains(&key) {
            return;
        }
        let Some(pair) = self.services.or_default(key) else { return };
        pair.requests.pending += 1;
        pair.errors.pending += u64::from(error);
    }

    /// Writes out what is pending.
    pub fn flush(&mut self, host: &mut impl Host, problems: &mut Problems) {
        let mut refused = 0;
        for ((service, color), pair) in self.services.iter_mut() {
            for (counter, what) in [(&mut pair.requests, "requests"), (&mut pair.errors, "errors")] {
                refused +=
                    counter.flush(host, || format!("component.{color}.tag.{service};.hueshift_{what}"));
            }
        }
        for (problem, total) in problems.iter() {
            let Some((flushed, counter)) = self.problems.or_default(problem) else { continue };
            counter.pending += total.saturating_sub(*flushed);
            *flushed = total;
            refused += counter.flush(host, || format!("component.{}.hueshift_problems", problem.name()));
        }
        problems.note_many(Problem::Metric, refused);
    }
}

// === impl Counter ===

impl Counter {
    /// 1 if the proxy refused the counter just now.
    fn flush(&mut self, host: &mut impl Host, name: impl Fn() -> String) -> u64 {
        if self.pending == 0 {
            return 0;
        }
        let pending = std::mem::take(&mut self.pending);
        let fresh = matches!(self.id, Id::Undefined);
        if fresh {
            self.id = host.define_counter(&name()).map_or(Id::Refused, Id::Defined);
        }
        match self.id {
            Id::Defined(id) => host.count(id, pending),
            Id::Undefined | Id::Refused => return u64::from(fresh),
        }
        0
    }
}
