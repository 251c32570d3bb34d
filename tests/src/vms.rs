//! Many workers started at once: does each draw a number of its own?

use crate::clock::wait_for;
use crate::envoy::{Envoy, Plan, Setup};
use crate::model::{Kind, Model};
use crate::raw::Wire;
use crate::sink::Sink;
use crate::workplace::Workplace;
use hueshift_core::color::{Color, PerColor};
use std::collections::BTreeSet;
use std::time::Duration;

/// Starts an Envoy with sixteen workers, gives all of them traffic, and panics if two have one number.
pub async fn sixteen_workers_draw_distinct_numbers() {
    const WORKERS: usize = 16;
    let workplace = Workplace::new("vms");
    let model = Model::anywhere(Kind::Pricing, Color::Blue, "b1", 1).await;
    let sink = Sink::start().await;
    let endpoints = PerColor { blue: model.address(), green: model.address() };
    let mut setup = Setup::new(endpoints, sink.address(), Plan::FIVE.routes());
    setup.workers = WORKERS;
    let mut envoy = Envoy::start(workplace.path(), setup).await;
    // The kernel spreads connections over the workers by a hash: with 400 the chance that one gets none is 1e-10.
    let mut wires = Vec::new();
    for session in 0..400 {
        let mut wire = Wire::open(envoy.listeners[0]).await;
        assert_eq!(wire.session(session).await.status, 200);
        wires.push(wire);
    }
    // Two workers with one number would show as one, so fewer than sixteen would appear.
    wait_for("sixteen distinct numbers", Duration::from_secs(15), async || {
        (sink.latest().len() == WORKERS).then_some(())
    })
    .await;
    let mut seen = BTreeSet::new();
    for report in sink.reports() {
        assert!(seen.insert((report.vm, report.seq)), "number {} was drawn twice", report.vm);
    }
    envoy.assert_filter_alive().await;
}
