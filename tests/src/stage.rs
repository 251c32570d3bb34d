//! One service on the whole product: two pricing models, `hueshift up`, Envoy. What most end-to-end tests start.

use crate::checker::{self, Findings, Rescue, Story};
use crate::client::{Load, Sent};
use crate::clock::now_ns;
use crate::controller::{Home, document, share};
use crate::model::{Kind, Model, Served};
use crate::programs;
use crate::workplace::Workplace;
use hueshift::api::BlueGreen;
use hueshift_core::color::{Color, PerColor};
use std::path::PathBuf;
use std::time::Duration;

/// Name of the one service.
pub const SERVICE: &str = "pricing";

/// The service under test.
#[derive(Debug)]
pub struct Stage {
    /// The controller and its documents.
    pub home: Home,
    /// Both models; blue serves `b1` and green `g1` at first.
    pub models: PerColor<Model>,
    /// Releases told so far, for the checker.
    pub stories: Vec<Story>,
    /// Folder of everything.
    pub workplace: Workplace,
}

// === impl Stage ===

impl Stage {
    /// Steps in percent, two workers, everything else as [`document`] makes it and `adjust` changes it.
    pub async fn start(name: &str, steps: &[u16], adjust: impl FnOnce(&mut BlueGreen)) -> Self {
        Stage::with(name, steps, 2, None, adjust).await
    }

    /// The same, recording what the judge receives into this file of the workplace.
    pub async fn with(
        name: &str,
        steps: &[u16],
        workers: usize,
        record: Option<&str>,
        adjust: impl FnOnce(&mut BlueGreen),
    ) -> Self {
        Stage::on(name, steps, workers, record, programs::filter(), adjust).await
    }

    /// The same with another filter module.
    pub async fn on(
        name: &str,
        steps: &[u16],
        workers: usize,
        record: Option<&str>,
        module: PathBuf,
        adjust: impl FnOnce(&mut BlueGreen),
    ) -> Self {
        let workplace = Workplace::new(name);
        let models = PerColor {
            blue: Model::anywhere(Kind::Pricing, Color::Blue, "b1", 1).await,
            green: Model::anywhere(Kind::Pricing, Color::Green, "g1", 2).await,
        };
        let endpoints = PerColor { blue: models.blue.address(), green: models.green.address() };
        let mut document = document(SERVICE, endpoints, steps);
        adjust(&mut document);
        let record: Option<PathBuf> = record.map(|name| workplace.join(name));
        let home = Home::on(&workplace, vec![document], workers, record, module).await;
        Stage { home, models, stories: Vec::new(), workplace }
    }

    /// A load on the service.
    pub fn load(&self, sessions: u32, rate: f64) -> Load {
        Load::new(self.home.listen(SERVICE), sessions, rate)
    }

    /// Deploys a revision on green and names it in the document, which starts a release.
    pub fn release(&mut self, revision: &str) {
        self.models.green.deploy(revision);
        let story = Story {
            candidate: Color::Green,
            revision: revision.to_owned(),
            began: now_ns(),
            rolled_back: false,
        };
        self.stories.push(story);
        self.home.set_revision(SERVICE, Color::Green, revision);
    }

    /// The release told last ended as rolled back.
    pub fn was_rolled_back(&mut self) {
        self.stories.last_mut().expect("a release").rolled_back = true;
    }

    /// Waits until the candidate's share is in force everywhere.
    pub async fn wait_share(&self, percent: u16) {
        self.home.wait_share(SERVICE, percent, Duration::from_secs(30)).await;
    }

    /// Logs of both models.
    pub fn served(&self) -> Vec<Served> {
        [self.models.blue.log(), self.models.green.log()].concat()
    }

    /// What the checker finds.
    pub fn findings(&self, clients: &[Sent]) -> Findings {
        checker::check(clients, &self.served(), &self.stories)
    }

    /// First bad answer to last request of a revision of green.
    pub fn rescue(&self, revision: &str) -> Option<Rescue> {
        checker::rescue(&self.models.green.log(), Color::Green, revision)
    }

    /// Waits until green has got nothing for `quiet`.
    pub async fn wait_quiet(&self, quiet: Duration, deadline: Duration) {
        let what = format!("the candidate to get nothing for {quiet:?}");
        crate::clock::wait_for(&what, deadline, async || {
            let last = self.models.green.log().last().map_or(0, |event| event.at);
            (crate::clock::between(last, now_ns()) > quiet).then_some(())
        })
        .await;
    }
}

/// Sets every step's shortest time so high that only `promote` goes on.
pub fn by_hand(document: &mut BlueGreen) {
    for step in &mut document.spec.release.steps {
        step.min_time = Duration::from_secs(3_000);
    }
}

/// No holdback: the cutover is at 100 %.
pub fn no_holdback(document: &mut BlueGreen) {
    document.spec.release.soak.holdback = share(0);
}

/// The fuse inside Envoy is off: only the controller's judge acts.
pub fn no_fuse(document: &mut BlueGreen) {
    document.spec.analysis.fuse.enabled = false;
}
