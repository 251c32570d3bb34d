//! Faults that only a judge finds, on the whole product: a candidate that leaves some requests without an answer, one
//! that becomes slower, and one whose answers begin in time and end late. All with four stable endpoints, one of which
//! may be lost at the very moment of the fault.

use crate::client::{Load, Running};
use crate::clock::{between, now_ns, wait_for};
use crate::model::{Faults, Kind, Model};
use crate::stage::{SERVICE, Stage, by_hand, no_fuse};
use hueshift::control::Command as Order;
use hueshift::view::ReleaseRecord;
use hueshift_core::color::Color;
use std::time::Duration;

/// What a healthy answer takes, ms: much beside what a busy machine adds, or a ratio of times would be none.
const TAKES_MS: u64 = 200;
/// Requests per second; a tenth goes to the candidate.
const RATE: f64 = 200.0;
/// Requests before the fault: 12 s.
const BEFORE: u64 = 2_400;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// 30 % of the candidate's requests are never answered.
    Hang,
    /// The candidate takes half as long again.
    Slow,
    /// The candidate's answers begin in time and end 400 ms later.
    Long,
}

/// When it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Onset {
    /// With the candidate's first request: the revision is bad.
    Release,
    /// In a release that was healthy for 12 s at its share.
    Later,
}

/// What came of it.
#[derive(Debug)]
pub struct Found {
    /// The controller's record.
    pub record: ReleaseRecord,
    /// From the fault to the last request in the candidate's own log.
    pub time: Duration,
    /// Requests of the candidate after the fault.
    pub exposed: usize,
    /// Moves of sessions before the verdict that nothing explains.
    pub causeless: usize,
}

/// The service with four stable endpoints.
#[derive(Debug)]
pub struct Scene {
    /// Controller, Envoy, the candidate and the first stable endpoint.
    pub stage: Stage,
    more: Vec<Model>,
    sessions: u32,
    releases: u32,
}

// === impl Scene ===

impl Scene {
    /// Starts everything; without the fuse only the controller's judge acts.
    pub async fn start(name: &str, sessions: u32, fuse: bool) -> Self {
        let mut more = Vec::new();
        for seed in 11..14 {
            more.push(Model::anywhere(Kind::Pricing, Color::Blue, "b1", seed).await);
        }
        let stage = Stage::start(name, &[10], |document| {
            by_hand(document);
            if !fuse {
                no_fuse(document);
            }
            let endpoints = &mut document.spec.colors.blue.endpoints;
            endpoints.extend(more.iter().map(|model| model.address().to_string()));
        })
        .await;
        Scene { stage, more, sessions, releases: 0 }
    }

    /// A release that meets the fault. `lose`: a stable endpoint goes at that moment.
    pub async fn find(&mut self, fault: Fault, onset: Onset, lose: bool) -> Found {
        let faults = match fault {
            Fault::Hang => Faults::takes(TAKES_MS).hanging(0.3),
            Fault::Slow => Faults::takes(TAKES_MS * 3 / 2),
            Fault::Long => Faults::takes(TAKES_MS).ending_later(400),
        };
        let mut from = now_ns();
        let (number, load) = match onset {
            Onset::Release => self.open(&faults).await,
            Onset::Later => {
                let opened = self.open(&Faults::takes(TAKES_MS)).await;
                healthy_traffic(&opened.1).await;
                from = now_ns();
                self.stage.models.green.set(faults);
                opened
            }
        };
        let lost = self.lose(lose);
        let record = self.stage.home.wait_end(SERVICE, number, Duration::from_secs(300)).await;
        self.stage.was_rolled_back();
        let log = load.stop().await;
        self.restore(lost).await;
        let at = self.stage.models.green.log().into_iter().map(|event| event.at);
        let exposed: Vec<u64> = at.filter(|at| *at >= from).collect();
        let first = match onset {
            Onset::Release => exposed.iter().copied().min().unwrap_or(from),
            Onset::Later => from,
        };
        let time = between(first, exposed.iter().copied().max().unwrap_or(first));
        // What is never answered badly gives no reason to go back that the checker knows; up to the verdict none does.
        let verdict = record.cap_ms.unwrap_or(u64::MAX).saturating_mul(1_000_000);
        let before: Vec<_> = log.into_iter().filter(|event| event.done < verdict).collect();
        let causeless = self.stage.findings(&before).causeless.len();
        Found { record, time, exposed: exposed.len(), causeless }
    }

    /// A healthy release during which a stable endpoint goes; true if it is still open after as much traffic again.
    pub async fn stays_open(&mut self) -> bool {
        let (number, load) = self.open(&Faults::takes(TAKES_MS)).await;
        healthy_traffic(&load).await;
        let lost = self.lose(true);
        healthy_traffic(&load).await;
        let view = self.stage.home.service(SERVICE).await;
        let open = view.history.iter().all(|record| record.release != number);
        if open {
            self.stage.home.order(SERVICE, Order::Abort).await;
        }
        self.stage.home.wait_end(SERVICE, number, Duration::from_secs(30)).await;
        self.stage.was_rolled_back();
        load.stop().await;
        self.restore(lost).await;
        open
    }

    /// A release whose candidate behaves like this, at its share.
    async fn open(&mut self, candidate: &Faults) -> (u32, Running) {
        self.releases += 1;
        self.stage.stories.clear();
        for model in self.more.iter().chain([&self.stage.models.blue]) {
            model.set(Faults::takes(TAKES_MS));
        }
        let mut load: Load = self.stage.load(self.sessions, RATE);
        load.poisson = true;
        load.seed = u64::from(self.releases);
        // Whoever is left without an answer gives up after this.
        load.patience = Duration::from_secs(12);
        let load = load.start();
        self.stage.release(&format!("g{}", self.releases + 1));
        self.stage.models.green.set(candidate.clone());
        self.stage.wait_share(10).await;
        (self.releases, load)
    }

    fn lose(&mut self, lose: bool) -> Option<std::net::SocketAddr> {
        if !lose {
            return None;
        }
        let address = self.more.last().map(Model::address);
        drop(self.more.pop());
        address
    }

    async fn restore(&mut self, lost: Option<std::net::SocketAddr>) {
        if let Some(address) = lost {
            self.more.push(Model::start(Kind::Pricing, Color::Blue, "b1", address, 13).await);
        }
    }
}

async fn healthy_traffic(load: &Running) {
    let sent = load.glance().sent;
    wait_for("healthy traffic", Duration::from_secs(60), async || {
        (load.glance().sent > sent + BEFORE).then_some(())
    })
    .await;
}
