//! The compiled filter in a real Envoy, without the controller: who gets which color, what hostile input does, what
//! outlives a VM. Core's own tests prove the lottery and the codec, the filter's fake host its books; here it is
//! that Envoy really does what they assume.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]

use hueshift_core::color::{Color, PerColor};
use hueshift_core::contract::{Cap, CapPins, Reply, ServiceId};
use hueshift_core::share::Bps;
use hueshift_tests::checker;
use hueshift_tests::client::Load;
use hueshift_tests::clock::{now_ns, wait_for};
use hueshift_tests::envoy::{Envoy, Plan, Routes, Setup};
use hueshift_tests::lottery;
use hueshift_tests::model::{Faults, Kind, Model};
use hueshift_tests::raw::Wire;
use hueshift_tests::sink::{Answer, Sink};
use hueshift_tests::workplace::Workplace;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

struct Rig {
    envoy: Envoy,
    sink: Sink,
    blue: Model,
    green: Model,
    _workplace: Workplace,
}

impl Rig {
    async fn start(name: &str, routes: Routes) -> Rig {
        Rig::with(name, routes, |_| {}).await
    }

    async fn with(name: &str, routes: Routes, adjust: impl FnOnce(&mut Setup)) -> Rig {
        let workplace = Workplace::new(name);
        let blue = Model::anywhere(Kind::Pricing, Color::Blue, "b1", 1).await;
        let green = Model::anywhere(Kind::Pricing, Color::Green, "g1", 2).await;
        let sink = Sink::start().await;
        let endpoints = PerColor { blue: blue.address(), green: green.address() };
        let mut setup = Setup::new(endpoints, sink.address(), routes);
        adjust(&mut setup);
        let envoy = Envoy::start(workplace.path(), setup).await;
        let rig = Rig { envoy, sink, blue, green, _workplace: workplace };
        rig.ready().await;
        rig
    }

    async fn ready(&self) {
        wait_for("the first answer through Envoy", Duration::from_secs(20), async || {
            let (status, _) =
                hueshift_tests::http::ask_address(self.envoy.listeners[0], "GET", "/v1/quote", "")
                    .await
                    .ok()?;
            (status == 200).then_some(())
        })
        .await;
    }

    /// 1,000 keys on each of many connections; fails unless every worker served all of them with the right color.
    async fn every_worker_keeps_its_keys(&mut self, plan: &Plan, workers: usize) {
        let before = started(&self.sink);
        let wires = 12 * workers;
        for _ in 0..wires {
            let mut wire = Wire::open(self.envoy.listeners[0]).await;
            for session in 0..1_000 {
                let answer = wire.session(session).await;
                assert_eq!(
                    answer.color,
                    Some(lottery::color(plan, session)),
                    "session {session}: {answer:?}"
                );
            }
        }
        let wanted = wires as u64 * 1_000;
        let busy = wait_for("the reports of all these requests", Duration::from_secs(10), async || {
            let after = started(&self.sink);
            let grown: Vec<u64> = after
                .iter()
                .map(|(vm, n)| n - before.get(vm).copied().unwrap_or(0))
                .filter(|n| *n > 0)
                .collect();
            (grown.iter().sum::<u64>() >= wanted).then_some(grown)
        })
        .await;
        assert_eq!(busy.len(), workers, "workers that accounted for requests: {busy:?}");
        assert!(busy.iter().all(|n| *n >= 1_000), "each worker saw every key: {busy:?}");
        self.envoy.assert_filter_alive().await;
    }
}

/// Requests that each VM says it started, over all lotteries and colors.
fn started(sink: &Sink) -> std::collections::BTreeMap<u64, u64> {
    let mut most = std::collections::BTreeMap::new();
    // A report holds only what changed, so books are gathered over all reports.
    let mut books = std::collections::BTreeMap::new();
    for report in sink.reports() {
        for plan in &report.plans {
            for lottery in &plan.lotteries {
                let n = lottery.tallies.blue.started + lottery.tallies.green.started;
                let key = (report.vm, plan.id, plan.release, lottery.epoch, lottery.limit);
                let book: &mut u64 = books.entry(key).or_default();
                *book = n.max(*book);
            }
        }
    }
    for ((vm, ..), n) in books {
        *most.entry(vm).or_default() += n;
    }
    most
}

fn cap(plan: &Plan, max: Bps) -> Reply {
    let cap = Cap { id: ServiceId::parse(plan.id).unwrap(), release: plan.release, max, pins: CapPins::Void };
    Reply { term: 1, report_ms: 100, caps: vec![cap], ..Reply::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_route_name_alone_splits_traffic_as_the_lottery_says() {
    let plan = Plan { limit: 2_500, ..Plan::FIVE };
    let mut rig = Rig::start("split", plan.routes()).await;
    let log = Load::new(rig.envoy.listeners[0], 1_000, 1_000.0).requests(2_000).finish().await;
    for event in &log {
        assert_eq!(event.color, Some(lottery::color(&plan, event.session)), "{event:?}");
    }
    let raised = Plan { limit: 5_000, epoch: 2, ..plan };
    rig.envoy.set_routes("pricing", &raised.routes()).await;
    let log = Load::new(rig.envoy.listeners[0], 1_000, 1_000.0).requests(1_000).finish().await;
    for event in &log {
        assert_eq!(event.color, Some(lottery::color(&raised, event.session)), "{event:?}");
    }
    rig.envoy.assert_filter_alive().await;
    assert_eq!(rig.sink.unreadable().first(), None, "every report is one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_cannot_choose_its_color() {
    let plan = Plan::FIVE;
    let mut rig = Rig::start("steer", plan.routes()).await;
    let forged: [&[u8]; 5] = [
        b"x-hueshift-color: green\r\n",
        b"X-HUESHIFT-Color: green\r\nx-hueshift-color: green\r\n",
        b"x-hueshift-color: blue\r\nx-hueshift-color: green\r\n",
        b"x-hueshift-color: \xff\xfe\r\n",
        b"x-hueshift-color: green,blue\r\n",
    ];
    let mut wire = Wire::open(rig.envoy.listeners[0]).await;
    for session in 0..400 {
        let mut headers = format!("x-session-id: {session}\r\n").into_bytes();
        headers.extend_from_slice(forged[session as usize % forged.len()]);
        let answer = wire.get("/v1/quote", &headers).await;
        assert_eq!(answer.color, Some(lottery::color(&plan, session)), "session {session}: {answer:?}");
    }
    rig.envoy.assert_filter_alive().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_requests_leave_every_worker_alive() {
    let plan = Plan { limit: 5_000, key: "c-sid.kq-session.kh-x-session-id", ..Plan::FIVE };
    let mut rig = Rig::start("hostile", plan.routes()).await;
    let mut many = Vec::new();
    for n in 0..200 {
        many.extend_from_slice(format!("x-h{n}: value-{n}\r\n").as_bytes());
    }
    let long = "k".repeat(8 * 1024);
    let mut cases: Vec<(String, Vec<u8>)> = vec![
        ("/v1/quote".into(), b"x-session-id: \xff\xfe\x80\r\n".to_vec()),
        ("/v1/quote".into(), b"cookie: sid=\xc3\x28; \xff=\xff\r\n".to_vec()),
        ("/v1/quote".into(), b"x-session-id:\r\n".to_vec()),
        ("/v1/quote".into(), b"x-session-id:    \r\n".to_vec()),
        ("/v1/quote".into(), format!("x-session-id: {long}\r\n").into_bytes()),
        ("/v1/quote".into(), format!("cookie: sid={long}\r\n").into_bytes()),
        ("/v1/quote".into(), many.clone()),
        ("/v1/quote".into(), [many.as_slice(), b"x-session-id: 7\r\n"].concat()),
        (format!("/v1/quote?session={long}"), vec![]),
        ("/v1/quote?session=".into(), vec![]),
        ("/v1/quote?session".into(), vec![]),
        ("/v1/quote?&&&===&session=%zz%&session=2".into(), vec![]),
        ("/v1/quote?session=1#session=2".into(), vec![]),
    ];
    let cookies: [&[u8]; 9] = [
        b"cookie: sid=\r\n",
        b"cookie: sid\r\n",
        b"cookie: ;;;;=;=;; ;\r\n",
        b"cookie: sid=\"quoted; sid=2\"\r\n",
        b"cookie: sid=1; sid=2\r\ncookie: sid=3\r\n",
        b"cookie: SID=1;sid =2; sid= 3\r\n",
        b"cookie: sid==;\r\n",
        b"cookie: hueshift-00c0ffee00c0ffee=1.1.1.500.g.28000000.00000000000000000000000000000000\r\n",
        b"x-hueshift-pin: 1.999999999999999999999.\xff\r\n",
    ];
    cases.extend(cookies.iter().map(|line| ("/v1/quote".to_owned(), line.to_vec())));
    for round in 0..3 {
        for (path, headers) in &cases {
            for _ in 0..8 {
                // A connection each, so that both workers meet every case.
                let answer = Wire::open(rig.envoy.listeners[0]).await.get(path, headers).await;
                let shown = String::from_utf8_lossy(&headers[..headers.len().min(60)]);
                // Envoy itself refuses a fragment in the path; everything else reaches a model.
                assert!(
                    answer.status == 200 || (answer.status == 400 && path.contains('#')),
                    "round {round}: {path:.40} {shown}: {answer:?}"
                );
            }
        }
    }
    rig.every_worker_keeps_its_keys(&plan, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_8_kib_counts_whole_and_an_empty_one_is_none() {
    let plan = Plan { limit: 5_000, ..Plan::FIVE };
    let rig = Rig::start("keys", plan.routes()).await;
    let mut wire = Wire::open(rig.envoy.listeners[0]).await;
    let mut colors = BTreeSet::new();
    for last in 0..20 {
        let key = format!("{}{last}", "k".repeat(8 * 1024));
        let answer = wire.get("/v1/quote", format!("x-session-id: {key}\r\n").as_bytes()).await;
        let drawn = hueshift_core::lottery::draw(
            lottery::slot(&plan, key.as_bytes()),
            Bps::new(plan.limit).unwrap(),
            plan.stable,
        );
        assert_eq!(answer.color, Some(drawn), "the key ending in {last}");
        colors.insert(drawn.as_str());
    }
    assert_eq!(colors.len(), 2, "only the end of the key differs, and it decides");
    // Without a key every request draws for itself.
    let mut seen = BTreeSet::new();
    for _ in 0..60 {
        seen.insert(wire.get("/v1/quote", b"x-session-id:\r\n").await.color.map(Color::as_str));
    }
    assert_eq!(seen.len(), 2, "an empty key is no key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_route_name_is_not_ours() {
    let plan = Plan { limit: 5_000, ..Plan::FIVE };
    let mut rig = Rig::start("names", plan.routes()).await;
    let good = plan.text();
    let names = [
        String::new(),
        ".".to_owned(),
        "hs1.".to_owned(),
        "hs1.00c0ffee00c0ffee".to_owned(),
        good.replace("hs1.", "hs2."),
        good.replace(".l5000", ".l10001"),
        good.replace(".l5000", ".l-1"),
        good.replace(".l5000", ".l05"),
        good.replace(".l5000", ".l99999999999999999999999999"),
        good.replace(".sb", ".sq"),
        good.replace("00c0ffee", "00C0FFEE"),
        good.replace(".e1", ".e18446744073709551616"),
        good.replace(".r1", ".r4294967296"),
        format!("{good}.kxh-zz"),
        format!("{good}.kh-"),
        format!("caf\u{e9}{good}"),
        "hs1.".repeat(500),
        "x".repeat(20_000),
    ];
    for name in &names {
        rig.envoy.set_routes("pricing", &Routes { name: name.clone(), green: 5_000, pins: false }).await;
        let mut seen = BTreeSet::new();
        for session in 0..40 {
            let answer = Wire::open(rig.envoy.listeners[0]).await.session(session).await;
            assert_eq!(answer.status, 200, "{name:.60}: {answer:?}");
            seen.insert(answer.color.map(Color::as_str));
        }
        assert_eq!(seen.len(), 2, "untouched requests are split by weight under {name:.60}");
    }
    rig.envoy.set_routes("pricing", &plan.routes()).await;
    rig.every_worker_keeps_its_keys(&plan, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_that_cannot_be_used_costs_no_request() {
    let plan = Plan { limit: 5_000, ..Plan::FIVE };
    let mut good = serde_json::Value::Null;
    let keyless = |setup: &mut Setup| {
        good = std::mem::replace(&mut setup.plugin, json!({"cluster": "hueshift-controller"}));
    };
    let mut rig = Rig::with("unusable", plan.routes(), keyless).await;
    // No keys at the first delivery, as a mesh does it: the weights split, nobody is lost.
    let log = Load::new(rig.envoy.listeners[0], 100, 500.0).requests(300).finish().await;
    assert!(log.iter().all(|event| event.status == 200), "inert is no error");
    let inert = "wasmcustom.component.inert.hueshift_problems";
    wait_for("the filter to say that it is inert", Duration::from_secs(5), async || {
        (rig.envoy.stat(inert).await >= 300).then_some(())
    })
    .await;
    rig.envoy.set_plugin(good).await;
    rig.every_worker_keeps_its_keys(&plan, 2).await;

    let load = Load::new(rig.envoy.listeners[0], 1_000, 300.0).start();
    let unusable = [json!({}), json!({"cluster": "", "keys": [{"version": 1, "hex": "no"}]}), json!("text")];
    for (generation, plugin) in (2..).zip(unusable) {
        for rebuilt in [false, true] {
            match rebuilt {
                false => rig.envoy.set_plugin(plugin.clone()).await,
                // New VMs, and still no configuration that could be used.
                true => rig.envoy.set_generation(generation).await,
            }
            let sent = load.glance().sent;
            wait_for("requests after the change", Duration::from_secs(10), async || {
                (load.glance().sent > sent + 300).then_some(())
            })
            .await;
        }
    }
    let told = rig.sink.latest().values().filter(|report| report.problems.contains_key("config")).count();
    assert!(told > 0, "the controller is told");
    let log = load.stop().await;
    let wrong = log.iter().find(|event| event.color != Some(lottery::color(&plan, event.session)));
    assert_eq!(wrong, None, "affinity never paused");
    rig.envoy.assert_filter_alive().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_trailing_parts_of_a_plan_are_skipped() {
    let plan = Plan { limit: 5_000, ..Plan::FIVE };
    let later = Routes { name: format!("shop-{}.z9.kz-later.w7", plan.text()), ..plan.routes() };
    let mut rig = Rig::start("later", later).await;
    let mut wire = Wire::open(rig.envoy.listeners[0]).await;
    for session in 0..100 {
        assert_eq!(wire.session(session).await.color, Some(lottery::color(&plan, session)));
    }
    rig.envoy.assert_filter_alive().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_reply_neither_kills_a_worker_nor_raises_a_share() {
    let plan = Plan { limit: 5_000, ..Plan::FIVE };
    let mut rig = Rig::start("reply", plan.routes()).await;
    let id = plan.id;
    let deep = format!("{}1{}", "[".repeat(20_000), "]".repeat(20_000));
    let caps: Vec<_> = (0..50_000)
        .map(|n| json!({"id": format!("{n:016x}"), "release": 1, "max": 0, "pins": "void"}))
        .collect();
    let replies: Vec<(u16, Vec<u8>)> = vec![
        (200, vec![]),
        (200, b"{".to_vec()),
        (200, b"null".to_vec()),
        (200, b"\xff\xfe\x00".to_vec()),
        (200, b"{}{}{}".to_vec()),
        (200, deep.into_bytes()),
        (200, vec![b' '; 8 * 1024 * 1024]),
        (200, json!({"term": 1, "ack": 1, "caps": caps}).to_string().into_bytes()),
        (200, json!({"term": u64::MAX, "ack": u64::MAX, "report_ms": 0}).to_string().into_bytes()),
        (200, json!({"term": -1, "ack": 1e300, "report_ms": 4_294_967_295u64}).to_string().into_bytes()),
        (
            200,
            json!({"caps": [{"id": id, "release": 1, "max": 10_001, "pins": "keep"}]})
                .to_string()
                .into_bytes(),
        ),
        (
            200,
            json!({"caps": [{"id": id, "release": 1, "max": 10_000, "pins": "keep"}]})
                .to_string()
                .into_bytes(),
        ),
        (200, json!({"caps": [{"id": id, "release": 2, "max": 0, "pins": "void"}]}).to_string().into_bytes()),
        (
            200,
            json!({"params": [{"id": id, "fuse": {"p0": -1, "h": 1e308}, "hang_ms": 0}]})
                .to_string()
                .into_bytes(),
        ),
        (
            200,
            json!({"params": [{"id": id, "fuse": {"p0": 0.9, "h": 0}, "hang_ms": 0}]})
                .to_string()
                .into_bytes(),
        ),
        (
            200,
            json!({"rearm": [{"id": id, "release": 1, "trip": 7, "probe": 4_294_967_295u32}]})
                .to_string()
                .into_bytes(),
        ),
        (500, b"oops".to_vec()),
        (204, vec![]),
        (301, b"elsewhere".to_vec()),
    ];
    for (status, bytes) in replies {
        let answered = rig.sink.reports().len();
        rig.sink.answer(Answer::Raw(status, bytes));
        let load = Load::new(rig.envoy.listeners[0], 100, 200.0).start();
        wait_for("a few reports answered", Duration::from_secs(20), async || {
            (rig.sink.reports().len() >= answered + 4).then_some(())
        })
        .await;
        assert_eq!(load.glance().lost, 0);
        drop(load);
        // A reply may have asked for a long pause between reports; it must not last into the next case.
        rig.sink.answer(Answer::Reply(Box::new(Reply { term: 2, report_ms: 100, ..Reply::default() })));
    }
    rig.every_worker_keeps_its_keys(&plan, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cap_reaches_every_worker_and_outlives_its_vm() {
    let plan = Plan { limit: 5_000, ..Plan::FIVE };
    let mut rig = Rig::start("cap", plan.routes()).await;
    let load = Load::new(rig.envoy.listeners[0], 500, 400.0).start();
    wait_for("both workers to report", Duration::from_secs(10), async || {
        (rig.sink.latest().len() >= 2 && rig.green.seen() > 20).then_some(())
    })
    .await;
    rig.sink.answer(Answer::Reply(Box::new(cap(&plan, Bps::ZERO))));
    wait_for("the candidate to get nothing for a second", Duration::from_secs(10), async || {
        let quiet = rig.green.log().last().is_none_or(|last| now_ns() - last.at > 1_000_000_000);
        quiet.then_some(())
    })
    .await;
    // From here no reply carries the cap, and no route write happens: only shared data knows.
    rig.sink.answer(Answer::Raw(503, vec![]));
    let (vms, seen) = (rig.sink.latest().len(), rig.green.seen());
    rig.envoy.set_generation(2).await;
    wait_for("the rebuilt VMs to report", Duration::from_secs(20), async || {
        (rig.sink.latest().len() >= vms + 2).then_some(())
    })
    .await;
    let before = load.glance().sent;
    wait_for("a thousand more requests", Duration::from_secs(20), async || {
        (load.glance().sent > before + 1_000).then_some(())
    })
    .await;
    assert_eq!(rig.green.seen(), seen, "no request reached the candidate after its cap");
    let log = load.stop().await;
    let lost = checker::check(&log, &rig.green.log(), &[]).lost;
    assert_eq!(lost, 0);
    let incarnations: BTreeSet<u64> = rig.sink.reports().iter().map(|report| report.incarnation).collect();
    assert_eq!(incarnations.len(), 1, "a rebuilt VM keeps its incarnation: {incarnations:?}");
    rig.envoy.assert_filter_alive().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_plugin_in_vms_of_its_own_is_inert_and_sends_no_reports() {
    let plan = Plan { limit: 5_000, ..Plan::FIVE };
    let mut rig = Rig::with("twice", plan.routes(), |setup| setup.twice = true).await;
    rig.every_worker_keeps_its_keys(&plan, 2).await;
    let second = "wasmcustom.component.second_instance.hueshift_problems";
    wait_for("the second plugin to say that it is one", Duration::from_secs(10), async || {
        (rig.envoy.stat(second).await >= 24_000).then_some(())
    })
    .await;
    let reports = rig.sink.reports();
    let vms: BTreeSet<u64> = reports.iter().map(|report| report.vm).collect();
    assert_eq!(vms.len(), 2, "one VM of each worker reports: {vms:?}");
    let told = reports.iter().find(|report| report.problems.contains_key("second_instance"));
    assert_eq!(told, None, "who reports is the first");
    // The first request of all and each of the keys', once.
    let counted: u64 = started(&rig.sink).values().sum();
    let answered = (rig.blue.seen() + rig.green.seen()) as u64;
    assert_eq!(counted, answered, "each request is in one book");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_workers_started_at_once_draw_distinct_numbers() {
    let rounds = if std::env::var_os("HUESHIFT_FULL").is_some() { 200 } else { 2 };
    for _ in 0..rounds {
        hueshift_tests::vms::sixteen_workers_draw_distinct_numbers().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fuse_alone_stops_a_dead_candidate() {
    let plan = Plan { limit: 1_000, ..Plan::FIVE };
    let mut rig = Rig::start("fuse", plan.routes()).await;
    rig.sink.answer(Answer::Raw(503, vec![]));
    let load = Load::new(rig.envoy.listeners[0], 200, 200.0).start();
    wait_for("good behavior", Duration::from_secs(20), async || (rig.green.seen() >= 40).then_some(())).await;
    rig.green.set(Faults::errors(1.0));
    wait_for("the candidate to get nothing for two seconds", Duration::from_secs(30), async || {
        let quiet = rig.green.log().last().is_none_or(|last| now_ns() - last.at > 2_000_000_000);
        quiet.then_some(())
    })
    .await;
    let log = load.stop().await;
    let rescue = checker::rescue(&rig.green.log(), Color::Green, "g1").expect("bad answers");
    println!("fuse alone: {:?} with {} requests", rescue.time, rescue.requests);
    assert_eq!(checker::check(&log, &rig.green.log(), &[]).lost, 0);
    let tripped = rig.sink.reports().iter().flat_map(|report| &report.plans).any(|plan| plan.tripped > 0);
    assert!(tripped, "the trip is reported");
    let blue = rig.blue.log().iter().filter(|event| event.status != 200).count();
    assert_eq!(blue, 0, "stable was well all the time");
    rig.envoy.assert_filter_alive().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_colors_failing_alike_trips_nothing() {
    let plan = Plan { limit: 1_000, ..Plan::FIVE };
    let mut rig = Rig::start("shared", plan.routes()).await;
    rig.blue.set(Faults::errors(0.3));
    rig.green.set(Faults::errors(0.3));
    let log = Load::new(rig.envoy.listeners[0], 500, 500.0).requests(3_000).finish().await;
    // At a share of 10 % 200 requests in a row without the candidate have a chance below 1e-9.
    let serves = log.iter().rev().take(200).any(|event| event.color == Some(Color::Green));
    assert!(serves, "the candidate still serves");
    let tripped = rig.sink.reports().iter().flat_map(|report| &report.plans).any(|plan| plan.tripped > 0);
    assert!(!tripped, "a shared incident is no candidate's fault");
    rig.envoy.assert_filter_alive().await;
}
