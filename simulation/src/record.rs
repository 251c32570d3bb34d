//! A simulated release as a world: the file that `hueshift simulate` reads.

use super::{Rule, Setting, Word, run};
use hueshift_core::judge::line::MetricLogs;
use hueshift_core::judge::{Conditions, Row, Verdict};
use serde_json::{Value, json};

/// Writes down what a judge would receive, and never decides.
#[derive(Default)]
struct Recorder {
    ticks: Vec<Value>,
}

/// The world of one seed, with what should come of it.
pub fn world(setting: &Setting, seed: u64, expect: &Value) -> Value {
    let mut recorder = Recorder::default();
    run(setting, seed, &mut recorder);
    json!({
        "format": "hueshift-world/1",
        "name": format!("{}, seed {seed}", setting.name),
        "tick_ms": setting.tick_ms,
        "duration_ms": setting.duration_ms,
        "colors": { "stable": "blue", "candidate": "green" },
        "analysis": setting.analysis,
        "expect": expect,
        "ticks": recorder.ticks,
    })
}

// === impl Recorder ===

impl Rule for Recorder {
    fn tick(&mut self, t_ms: u64, rows: &[Row], _: &Conditions) -> Word {
        if !rows.is_empty() {
            self.ticks.push(json!({ "t_ms": t_ms, "reports": rows }));
        }
        Word { verdict: Verdict::Continue, alone: MetricLogs::default() }
    }
}
