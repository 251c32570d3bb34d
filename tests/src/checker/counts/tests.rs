//! A world in which all logs agree, and every way to doctor one of them.

use super::*;
use hueshift::view::End;
use hueshift_core::contract::{LotteryReport, PlanReport, Tally};
use hueshift_core::judge::hours::Hours;
use hueshift_core::share::Bps;

const SECOND: u64 = 1_000_000_000;
const SERVICE: ServiceId = ServiceId::from_bytes([7; 8]);

/// All that is known of a release in which green was tried and taken off.
struct World {
    clients: Vec<Sent>,
    servers: Vec<Served>,
    reports: Vec<Told>,
    story: Story,
    record: ReleaseRecord,
}

impl World {
    /// Ten requests a second for 20 s, every fifth on green, where every tenth fails; two workers report each second.
    fn new() -> Self {
        let mut world = World {
            clients: Vec::new(),
            servers: Vec::new(),
            reports: Vec::new(),
            story: Story { candidate: Color::Green, revision: "g2".into(), began: 0, rolled_back: true },
            record: record(),
        };
        let mut books: [PerColor<Tally>; 2] = Default::default();
        for n in 0..200_u64 {
            let (color, revision) = if n % 5 == 0 { (Color::Green, "g2") } else { (Color::Blue, "b1") };
            let status = if color == Color::Green && n % 50 == 0 { 500 } else { 200 };
            let (session, at) = (u32::try_from(n % 40).unwrap(), n * SECOND / 10 + 1);
            let revision = std::sync::Arc::<str>::from(revision);
            world.servers.push(Served {
                at,
                answered: at + 1,
                session,
                color,
                revision: revision.clone(),
                status,
            });
            world.clients.push(Sent {
                session,
                intended: at,
                sent: at,
                done: at + 2,
                status,
                color: Some(color),
                revision: Some(revision),
                problem: None,
            });
            let tally = books[(n % 2) as usize].get_mut(color);
            tally.started += 1;
            tally.completed += 1;
            tally.errors += u64::from(status == 500);
            if n % 10 == 9 {
                for (vm, tallies) in books.iter().enumerate() {
                    world.reports.push(told(vm as u64, n / 10, tallies.clone()));
                }
            }
        }
        world.record.requests = PerColor::from_fn(|color| {
            let sum = |of: fn(&Tally) -> u64| books.iter().map(|book| of(book.get(color))).sum();
            Counted { n: sum(|tally| tally.completed), errors: sum(|tally| tally.errors) }
        });
        world
    }

    fn contradictions(&self) -> Vec<String> {
        let World { clients, servers, reports, story, record } = self;
        [served_once(clients, servers), agree(clients, reports, SERVICE, story, record)].concat()
    }
}

fn told(vm: u64, second: u64, tallies: PerColor<Tally>) -> Told {
    let lottery =
        LotteryReport { epoch: 1, limit: Bps::new(2_000).unwrap(), tallies, ..LotteryReport::default() };
    let plan = PlanReport { id: SERVICE, release: 1, epoch: 1, tripped: 0, lotteries: vec![lottery] };
    let report = Report {
        proxy: "gateway".into(),
        vm,
        incarnation: 1,
        seq: second + 1,
        plans: vec![plan],
        ..Report::default()
    };
    Told { at: (second + 1) * SECOND, report }
}

fn record() -> ReleaseRecord {
    ReleaseRecord {
        service: "shop/pricing".into(),
        release: 1,
        candidate: Color::Green,
        revision: "g2".into(),
        stable_revision: "b1".into(),
        started_ms: 0,
        ended_ms: 20_000,
        end: End::RolledBack,
        cause: None,
        phases: Vec::new(),
        steps: Vec::new(),
        uncertified: Vec::new(),
        evidence: None,
        judge: None,
        requests: PerColor::default(),
        dispersion: None,
        hours: Hours::default(),
        first_bad_ms: None,
        cap_ms: None,
    }
}

fn doctored(doctor: impl FnOnce(&mut World)) -> Vec<String> {
    let mut world = World::new();
    doctor(&mut world);
    world.contradictions()
}

/// The last request on green, and one of blue's in the middle.
const OF_GREEN: usize = 195;
const OF_BLUE: usize = 101;

#[test]
fn logs_that_nobody_touched_agree() {
    assert_eq!(World::new().contradictions(), Vec::<String>::new());
}

#[test]
fn an_answer_that_no_server_gave_is_found() {
    assert!(
        doctored(|world| drop(world.servers.remove(OF_BLUE)))[0].contains("its servers were asked 4 times")
    );
}

#[test]
fn a_request_that_was_sent_again_is_found() {
    let found = doctored(|world| world.servers.push(world.servers[OF_BLUE].clone()));
    assert!(found[0].contains("session 21"), "{found:?}");
}

#[test]
fn an_answer_missing_in_the_clients_log_is_found_even_if_the_servers_log_is_doctored_alike() {
    let found = doctored(|world| {
        world.clients.remove(OF_GREEN);
        world.servers.remove(OF_GREEN);
    });
    assert_eq!(found, ["green: the filters booked 40 requests; by the clients it was 39 to 39"]);
}

#[test]
fn a_failure_that_the_filters_did_not_book_is_found() {
    let found = doctored(|world| {
        world.clients[OF_GREEN].status = 500;
        world.servers[OF_GREEN].status = 500;
    });
    assert_eq!(found, ["green: the filters booked 4 failures; by the clients it was 5 to 5"]);
}

#[test]
fn a_record_that_says_what_no_report_said_is_found() {
    assert!(doctored(|world| world.record.requests.green.errors -= 1)[0].contains("never said so"));
    assert!(doctored(|world| world.record.requests.blue.n += 1)[0].contains("never said so"));
}

#[test]
fn a_record_may_be_of_any_moment() {
    let found = doctored(|world| {
        world.record.requests =
            PerColor { blue: Counted { n: 80, errors: 0 }, green: Counted { n: 20, errors: 2 } };
    });
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn a_report_that_shrinks_or_does_not_add_up_is_found() {
    let tally = |world: &mut World| {
        world.reports.last_mut().unwrap().report.plans[0].lotteries[0].tallies.blue.clone()
    };
    let found = doctored(|world| {
        let mut shrunk = tally(world);
        shrunk.started -= 70;
        world.reports.last_mut().unwrap().report.plans[0].lotteries[0].tallies.blue = shrunk;
    });
    assert!(found[0].contains("went from"), "{found:?}");
    let found = doctored(|world| {
        let mut wrong = tally(world);
        wrong.errors = wrong.completed + 1;
        world.reports.last_mut().unwrap().report.plans[0].lotteries[0].tallies.blue = wrong;
    });
    assert!(found[0].contains("went from"), "{found:?}");
}

#[test]
fn a_worker_whose_reports_are_missing_is_found() {
    let found = doctored(|world| world.reports.retain(|told| told.report.vm == 0));
    assert!(found.iter().any(|text| text.contains("green: the filters booked 20 requests")), "{found:?}");
    assert!(doctored(|world| world.reports.clear())[0].contains("no filter reported release 1"));
}

#[test]
fn traffic_around_a_promotion_is_bounded_from_both_sides() {
    let promoted = |first: u64| {
        doctored(|world| {
            world.story.rolled_back = false;
            // The filters knew of the release late, and were told to forget it before the load ended.
            world.reports.retain(|told| told.at > first * SECOND && told.at <= 15 * SECOND);
            world.record.requests =
                PerColor { blue: Counted { n: 120, errors: 0 }, green: Counted { n: 30, errors: 3 } };
        })
    };
    assert_eq!(promoted(3), Vec::<String>::new());
    let found = doctored(|world| {
        world.story.rolled_back = false;
        world.clients.retain(|event| event.color != Some(Color::Green) || event.sent < 10 * SECOND);
    });
    assert!(found.iter().any(|text| text.contains("green: the filters booked 40 requests")), "{found:?}");
}
