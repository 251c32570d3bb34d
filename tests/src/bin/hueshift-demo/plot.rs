//! What happens, in order: two services, release A on both, release B on both, the reckoning.

use crate::screen::{self, Row, Screen};
use hueshift::view::{End, Phase, ReleaseRecord, ServiceView, View};
use hueshift_core::color::{Color, PerColor};
use hueshift_tests::checker::{self, Story};
use hueshift_tests::client::{Load, Running};
use hueshift_tests::clock::now_ns;
use hueshift_tests::controller::{Home, document, share};
use hueshift_tests::model::{Faults, Kind, Model, Served};
use hueshift_tests::workplace::Workplace;
use std::time::{Duration, Instant};

/// How much traffic and how long the steps.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Requests per second and service.
    pub rate: f64,
    /// Sessions per service. 5 % are certified by about 100 of them, so there must be well over 2,000 to draw from.
    pub sessions: u32,
    /// Shortest time at 5 %, 25 % and 50 %, s.
    pub steps: [u64; 3],
    /// Watch after cutover, s.
    pub soak: u64,
}

/// Something that the demo says happened.
#[derive(Debug)]
pub struct Claim {
    /// The claim.
    pub text: String,
    /// Whether the logs bear it out.
    pub held: bool,
}

/// The demo under way.
#[derive(Debug)]
pub struct Demo {
    pace: Pace,
    services: Vec<Service>,
    home: Home,
    screen: Screen,
    workplace: Workplace,
}

#[derive(Debug)]
struct Service {
    name: &'static str,
    models: PerColor<Model>,
    load: Option<Running>,
    stories: Vec<Story>,
    records: Vec<ReleaseRecord>,
}

/// B is good for so long, then it fails.
const GOOD_FOR: Duration = Duration::from_secs(20);
/// Share of B's answers that fail then.
const BAD: f64 = 0.3;

// === impl Pace ===

impl Pace {
    /// For watching.
    pub const EASY: Pace = Pace { rate: 300.0, sessions: 3_600, steps: [10, 20, 10], soak: 10 };
    /// For the impatient.
    pub const FAST: Pace = Pace { rate: 500.0, sessions: 3_600, steps: [8, 14, 4], soak: 4 };
}

// === impl Demo ===

impl Demo {
    /// Starts models, controller, Envoy and traffic.
    pub async fn start(pace: Pace) -> Self {
        let workplace = Workplace::new("demo");
        let mut services = Vec::new();
        let mut documents = Vec::new();
        for (seed, name, kind) in [(1, "pricing", Kind::Pricing), (2, "chat", Kind::Chat)] {
            let models = PerColor {
                blue: Model::anywhere(kind, Color::Blue, "v1", seed).await,
                green: Model::anywhere(kind, Color::Green, "v1", seed + 10).await,
            };
            let endpoints = PerColor { blue: models.blue.address(), green: models.green.address() };
            let mut document = document(name, endpoints, &[5, 25, 50]);
            document.spec.colors.blue.revision = "v1".to_owned();
            document.spec.colors.green.revision = "v1".to_owned();
            for (step, seconds) in document.spec.release.steps.iter_mut().zip(pace.steps) {
                step.min_time = Duration::from_secs(seconds);
            }
            document.spec.release.soak.holdback = share(5);
            document.spec.release.soak.time = Duration::from_secs(pace.soak);
            document.spec.release.drain_deadline = Duration::from_secs(1);
            documents.push(document);
            services.push(Service { name, models, load: None, stories: Vec::new(), records: Vec::new() });
        }
        let screen = Screen::new();
        screen.note("starting hueshift up and Envoy");
        let home = Home::start(&workplace, documents).await;
        for service in &mut services {
            let mut load = Load::new(home.listen(service.name), pace.sessions, pace.rate);
            load.path = if service.name == "chat" { "/v1/chat/completions" } else { "/v1/quote" }.to_owned();
            service.load = Some(load.start());
        }
        Demo { pace, services, home, screen, workplace }
    }

    /// A healthy revision on the standby of both services; false if it was not decided.
    pub async fn release_a(&mut self) -> bool {
        screen::act("Release A: v2 is healthy. Is it promoted?");
        self.release("v2", Color::Green, |_| {}).await
    }

    /// Another revision, on what is the standby now.
    pub async fn release_b(&mut self, healthy: bool) {
        screen::act("Release B: v3 is good for 20 s, then 30 % of its answers fail. Is it taken back?");
        self.release("v3", Color::Blue, |model| {
            if !healthy {
                model.set(Faults::errors(BAD).after(GOOD_FOR));
            }
        })
        .await;
    }

    async fn release(&mut self, revision: &str, candidate: Color, then: impl Fn(&Model)) -> bool {
        let number = self.services.first().map_or(0, |service| service.stories.len() as u32) + 1;
        for service in &mut self.services {
            let model = service.models.get(candidate);
            model.deploy(revision);
            then(model);
            let revision = revision.to_owned();
            service.stories.push(Story { candidate, revision, began: now_ns(), rolled_back: false });
        }
        let names: Vec<&str> = self.services.iter().map(|service| service.name).collect();
        self.home.edit(|documents| {
            for document in documents.iter_mut().filter(|d| names.contains(&d.name())) {
                document.spec.colors.get_mut(candidate).revision = revision.to_owned();
            }
        });
        let began = Instant::now();
        let patience = Duration::from_secs(self.pace.steps.iter().sum::<u64>() + self.pace.soak + 60);
        loop {
            let view = self.home.view().await;
            let rows: Vec<Row> =
                self.services.iter().map(|service| service.row(&view, revision, number)).collect();
            let glances = self.services.iter().filter_map(|service| Some(service.load.as_ref()?.glance()));
            let (sent, lost) = glances.fold((0, 0), |sum, it| (sum.0 + it.sent, sum.1 + it.lost));
            self.screen.draw(&rows, began.elapsed(), sent, lost);
            let ended = self.services.iter().all(|service| service.ended(&view, number).is_some());
            if ended || began.elapsed() > patience {
                self.screen.end();
                for service in &mut self.services {
                    match service.ended(&view, number) {
                        Some(record) => {
                            screen::ended(service.name, &record);
                            service.stories.last_mut().expect("a story").rolled_back =
                                record.end == End::RolledBack;
                            service.records.push(record);
                        }
                        None => screen::unfinished(service.name, patience),
                    }
                }
                return ended;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Stops the traffic, lets the checker decide, prints the table and gives the claims.
    pub async fn finish(&mut self, keep: bool) -> Vec<Claim> {
        // Whoever is still to be taken off shows now: two seconds of traffic after the last verdict.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let mut claims = Vec::new();
        let mut table = Vec::new();
        for service in &mut self.services {
            let load = service.load.take().expect("a load");
            let clients = load.stop().await;
            let servers: Vec<Served> =
                Color::BOTH.iter().flat_map(|color| service.models.get(*color).log()).collect();
            let findings = checker::check(&clients, &servers, &service.stories);
            let rescue = checker::rescue(&servers, Color::Blue, "v3");
            let by = |revision: &str| {
                clients
                    .iter()
                    .filter(|event| event.bad() && event.revision.as_deref() == Some(revision))
                    .count()
            };
            let name = service.name;
            let ended = |revision: &str, end: End| {
                service.records.iter().any(|record| record.revision == revision && record.end == end)
            };
            let last = |revision: &str| {
                let served = servers.iter().filter(|event| &*event.revision == revision);
                served.map(|event| event.at).max().unwrap_or(0)
            };
            let claim = |text: String, held: bool| Claim { text: format!("{name}: {text}"), held };
            claims.push(claim(
                "v2 was promoted without a single error and serves".to_owned(),
                ended("v2", End::Promoted) && by("v2") == 0 && last("v2") > last("v3"),
            ));
            claims.push(claim(
                "v3 failed, was rolled back, and got no request after that".to_owned(),
                ended("v3", End::RolledBack) && rescue.is_some() && last("v3") + 1_500_000_000 < last("v2"),
            ));
            claims.push(claim(
                format!("no request was lost ({} of {})", findings.lost, findings.sent),
                findings.lost == 0 && findings.sent > 0,
            ));
            claims.push(claim(
                format!("no session changed model without cause ({})", findings.causeless.len()),
                findings.causeless.is_empty(),
            ));
            for example in &findings.lost_examples {
                screen::detail(&format!("{name}: lost: {example}"));
            }
            for example in &findings.causeless_examples {
                screen::detail(&format!("{name}: without cause: {example}"));
            }
            table.push((name, findings, rescue));
            if keep {
                let mut load =
                    Load::new(self.home.listen(name), self.pace.sessions, self.pace.rate.min(100.0));
                load.seed = 2;
                service.load = Some(load.start());
            }
        }
        screen::table(&table);
        if claims.iter().any(|claim| !claim.held) {
            self.workplace.keep();
            screen::detail(&format!("files and logs are kept in {}", self.workplace.path().display()));
        }
        claims
    }

    /// Until Ctrl-C.
    pub async fn keep(&self) {
        screen::keep(&self.home.state(), self.services.iter().map(|s| (s.name, self.home.listen(s.name))));
        std::future::pending::<()>().await;
    }
}

// === impl Service ===

impl Service {
    fn view(&self, view: &View) -> ServiceView {
        view.services.iter().find(|service| service.name == self.name).expect("a service").clone()
    }

    fn ended(&self, view: &View, number: u32) -> Option<ReleaseRecord> {
        let service = self.view(view);
        let record = service.history.iter().find(|record| record.release == number)?;
        (service.phase == Phase::Idle).then(|| record.clone())
    }

    fn row(&self, view: &View, revision: &str, number: u32) -> Row {
        let end = self.ended(view, number).map(|record| record.end);
        Row { view: self.view(view), revision: revision.to_owned(), end }
    }
}
