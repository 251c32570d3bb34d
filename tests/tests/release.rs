//! Releases through the whole product: what sessions see while shares rise, how good and bad revisions end.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]

use hueshift::api::{CustomSpec, PredictionsSpec};
use hueshift::control::Command as Order;
use hueshift::view::{Cause, End, Phase};
use hueshift_core::color::Color;
use hueshift_tests::clock::wait_for;
use hueshift_tests::model::{Faults, PREDICTION};
use hueshift_tests::scene::{Fault, Onset, Scene};
use hueshift_tests::stage::{SERVICE, Stage, by_hand, no_fuse, no_holdback};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_a_ramp_each_session_changes_at_most_once_and_shares_are_binomial() {
    const SESSIONS: u32 = 1_000;
    let mut stage = Stage::start("ramp", &[5, 25, 50], |document| {
        by_hand(document);
        no_holdback(document);
        document.spec.release.soak.time = Duration::from_secs(3_000);
    })
    .await;
    let mut log = stage.load(SESSIONS, 500.0).requests(4 * u64::from(SESSIONS)).finish().await;
    assert!(log.iter().all(|event| event.color == Some(Color::Blue)), "before the release only blue answers");

    // A trickle, so that every Envoy is one with traffic while shares are awaited.
    let mut trickle = stage.load(50, 50.0);
    trickle.first_session = SESSIONS;
    let trickle = trickle.start();
    stage.release("g2");
    let mut before: BTreeSet<u32> = BTreeSet::new();
    for percent in [5, 25, 50, 100] {
        stage.wait_share(percent).await;
        let part = stage.load(SESSIONS, 500.0).requests(4 * u64::from(SESSIONS)).finish().await;
        let mut colors: BTreeMap<u32, BTreeSet<Option<&str>>> = BTreeMap::new();
        for event in &part {
            colors.entry(event.session).or_default().insert(event.color.map(Color::as_str));
        }
        assert!(colors.values().all(|seen| seen.len() == 1), "within a step no session changes");
        let there: BTreeSet<u32> =
            colors.iter().filter(|(_, seen)| seen.contains(&Some("green"))).map(|(id, _)| *id).collect();
        assert!(before.is_subset(&there), "nobody who went to the candidate goes back at {percent} %");
        let (n, p) = (f64::from(SESSIONS), f64::from(percent) / 100.0);
        let off = there.len() as f64 - n * p;
        assert!(off.abs() <= 4.5 * (n * p * (1.0 - p)).sqrt(), "{} of {n} at {percent} %", there.len());
        before = there;
        log.extend(part);
        if percent < 100 {
            stage.home.order(SERVICE, Order::Promote).await;
        }
    }
    log.extend(trickle.stop().await);
    let findings = stage.findings(&log);
    assert_eq!((findings.lost, findings.bad), (0, 0), "{:?}", findings.lost_examples);
    assert_eq!(findings.causeless, Vec::<u32>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_candidate_is_certified_without_a_single_error_and_serves() {
    let mut stage = Stage::start("healthy", &[5, 50], |_| {}).await;
    let load = stage.load(4_000, 800.0).start();
    stage.release("g2");
    let record = stage.home.wait_end(SERVICE, 1, Duration::from_secs(90)).await;
    assert_eq!((record.end, record.cause), (End::Promoted, None), "{record:?}");
    let view = stage.home.service(SERVICE).await;
    assert_eq!((view.live, view.phase), (Color::Green, Phase::Idle));
    let seen = load.glance().green;
    wait_for("green to serve everyone", Duration::from_secs(10), async || {
        (load.glance().green > seen + 500).then_some(())
    })
    .await;
    let log = load.stop().await;
    let findings = stage.findings(&log);
    assert_eq!((findings.lost, findings.bad), (0, 0), "{:?}", findings.lost_examples);
    assert_eq!(findings.causeless, Vec::<u32>::new());
    assert!(log.iter().rev().take(200).all(|event| event.color == Some(Color::Green)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_turns_bad_is_taken_off_and_not_tried_again() {
    for fuse in [false, true] {
        let mut stage = Stage::start("bad", &[10], |document| {
            by_hand(document);
            if !fuse {
                no_fuse(document);
            }
        })
        .await;
        let load = stage.load(300, 200.0).start();
        stage.release("g2");
        stage.wait_share(10).await;
        stage.models.green.set(Faults::errors(1.0));
        let record = stage.home.wait_end(SERVICE, 1, Duration::from_secs(30)).await;
        assert_eq!(record.end, End::RolledBack, "{record:?}");
        assert!(matches!(record.cause, Some(Cause::Errors | Cause::Fuse | Cause::Dead)), "{record:?}");
        stage.was_rolled_back();
        let rescue = stage.rescue("g2").expect("bad answers");
        println!("fuse {fuse}: {:?}, {} bad answers, cause {:?}", rescue.time, rescue.bad, record.cause);

        // It recovers, and still gets nothing: only a person may try this revision again.
        stage.models.green.set(Faults::default());
        let (seen, sent) = (stage.models.green.seen(), load.glance().sent);
        wait_for("five hundred requests", Duration::from_secs(10), async || {
            (load.glance().sent > sent + 500).then_some(())
        })
        .await;
        assert_eq!(stage.models.green.seen(), seen, "the condemned revision gets no request");
        let view = stage.home.service(SERVICE).await;
        assert!(view.colors.green.marked_bad, "{view:?}");
        assert_eq!((view.live, view.history.len()), (Color::Blue, 1));
        let findings = stage.findings(&load.stop().await);
        assert_eq!(findings.lost, 0, "{:?}", findings.lost_examples);
        assert_eq!(findings.causeless, Vec::<u32>::new());

        let explain = stage.home.command("explain").output().unwrap();
        let text = String::from_utf8_lossy(&explain.stdout).into_owned();
        assert!(explain.status.success(), "{text}");
        assert!(text.lines().count() <= 40, "explain answers in one screen:\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_on_both_colors_alike_roll_nothing_back() {
    let mut stage = Stage::start("both", &[10], by_hand).await;
    let load = stage.load(2_000, 200.0).start();
    stage.release("g2");
    stage.wait_share(10).await;
    stage.models.green.set(Faults::errors(0.3));
    stage.models.blue.set(Faults::errors(0.3));
    let began = load.glance().sent;
    wait_for("twenty seconds of traffic", Duration::from_secs(40), async || {
        (load.glance().sent > began + 4_000).then_some(())
    })
    .await;
    let view = stage.home.service(SERVICE).await;
    assert_eq!((view.phase, view.history.len()), (Phase::Progressing, 0), "{view:?}");
    let findings = stage.findings(&load.stop().await);
    assert_eq!((findings.lost, findings.causeless.len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abort_takes_everyone_back() {
    let mut stage = Stage::start("abort", &[50], by_hand).await;
    let load = stage.load(300, 300.0).start();
    stage.release("g2");
    stage.wait_share(50).await;
    stage.home.order(SERVICE, Order::Pause).await;
    stage.home.order(SERVICE, Order::Abort).await;
    let record = stage.home.wait_end(SERVICE, 1, Duration::from_secs(15)).await;
    assert_eq!((record.end, record.cause), (End::RolledBack, Some(Cause::Aborted)), "{record:?}");
    stage.wait_quiet(Duration::from_millis(500), Duration::from_secs(10)).await;
    assert_eq!(load.glance().lost, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_leaves_requests_without_an_answer_is_taken_off_also_while_stable_loses_an_endpoint()
{
    let mut scene = Scene::start("hang", 4_000, false).await;
    for lose in [false, true] {
        let found = scene.find(Fault::Hang, Onset::Later, lose).await;
        println!("lost {lose}: {:?}, {} requests exposed", found.time, found.exposed);
        assert_eq!((found.record.end, found.record.cause), (End::RolledBack, Some(Cause::Hung)), "{found:?}");
        assert_eq!(found.causeless, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_is_or_becomes_slower_is_taken_off_also_while_stable_loses_an_endpoint() {
    let mut scene = Scene::start("slow", 20_000, true).await;
    for (fault, onset, lose) in [
        (Fault::Slow, Onset::Release, false),
        (Fault::Slow, Onset::Later, true),
        (Fault::Long, Onset::Later, false),
    ] {
        let found = scene.find(fault, onset, lose).await;
        println!("{fault:?} {onset:?}: {:?}, {} requests exposed", found.time, found.exposed);
        assert_eq!(
            (found.record.end, found.record.cause),
            (End::RolledBack, Some(Cause::Latency)),
            "{found:?}"
        );
        assert_eq!(found.causeless, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_stable_endpoint_takes_no_healthy_candidate_off() {
    assert!(Scene::start("lost", 4_000, true).await.stays_open().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_whose_answers_shift_or_blame_the_client_is_taken_off_and_one_that_differs_a_little_is_not()
 {
    let mut stage = Stage::start("predictions", &[25], |document| {
        by_hand(document);
        no_fuse(document);
        document.spec.analysis.predictions = Some(PredictionsSpec::of(PREDICTION));
        document.spec.analysis.custom =
            Some(CustomSpec { name: "clientErrors".to_owned(), client_errors: true, header: None });
    })
    .await;
    let load = stage.load(4_000, 400.0).start();
    stage.release("g2");
    // A new model may differ.
    stage.models.green.set(Faults::predicts(0.05));
    stage.wait_share(25).await;
    wait_for("most sessions to be heard", Duration::from_secs(60), async || {
        let seen = stage.home.service(SERVICE).await.evidence?.predictions?;
        (seen.distance.upper < 0.3).then_some(())
    })
    .await;
    let view = stage.home.service(SERVICE).await;
    assert_eq!((view.phase, view.history.len()), (Phase::Progressing, 0), "{view:?}");
    let seen = view.evidence.unwrap().predictions.unwrap();
    assert!(!seen.too_far && seen.distance.observed < seen.allowed, "{seen:?}");

    // Every answer comes and none is an error; what it says is wrong.
    stage.models.green.set(Faults::predicts(0.5));
    let record = stage.home.wait_end(SERVICE, 1, Duration::from_secs(120)).await;
    assert_eq!((record.end, record.cause), (End::RolledBack, Some(Cause::Predictions)), "{record:?}");
    stage.was_rolled_back();
    let seen = record.evidence.as_ref().unwrap().predictions.unwrap();
    assert!(seen.too_far && seen.distance.lower > seen.allowed, "{seen:?}");
    println!("distance {:?}", seen.distance);
    let explain = stage.home.command("explain").output().unwrap();
    let text = String::from_utf8_lossy(&explain.stdout).into_owned();
    assert!(text.contains("answers moved: distance 0."), "{text}");
    let report = stage.home.command("report").arg("1").output().unwrap();
    let text = String::from_utf8_lossy(&report.stdout).into_owned();
    assert!(text.contains("answers moved: distance 0.") && text.contains("it agrees"), "{text}");

    // What is no prediction is an error of the answer, whatever its status says.
    stage.release("g3");
    stage.models.green.set(Faults { prediction_nan_rate: 0.5, ..Faults::default() });
    let record = stage.home.wait_end(SERVICE, 2, Duration::from_secs(120)).await;
    assert_eq!((record.end, record.cause), (End::RolledBack, Some(Cause::Errors)), "{record:?}");
    stage.was_rolled_back();

    // An answer that blames the client is no error, but somebody asked to judge it.
    stage.release("g4");
    stage.models.green.set(Faults { error_rate: 0.3, error_status: 404, ..Faults::default() });
    let record = stage.home.wait_end(SERVICE, 3, Duration::from_secs(120)).await;
    assert_eq!((record.end, record.cause), (End::RolledBack, Some(Cause::Custom)), "{record:?}");
    assert_eq!(record.requests.green.errors, 0, "{record:?}");
    stage.was_rolled_back();
    let explain = stage.home.command("explain").output().unwrap();
    let text = String::from_utf8_lossy(&explain.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("rolled back because clientErrors ") && text.contains(" vs 0 %"), "{text}");
    let report = stage.home.command("report").arg("3").output().unwrap();
    let text = String::from_utf8_lossy(&report.stdout).into_owned();
    assert!(text.contains("custom: less than 1 :") || text.contains("custom: 1 :"), "{text}");
    assert!(text.contains("it agrees"), "{text}");
    assert_eq!(load.glance().lost, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_each_request_draws_for_itself_predictions_are_counted_by_request() {
    let mut stage = Stage::start("by-request", &[25], |document| {
        by_hand(document);
        no_fuse(document);
        document.spec.session.keys.clear();
        document.spec.analysis.predictions = Some(PredictionsSpec::of(PREDICTION));
    })
    .await;
    let load = stage.load(4_000, 400.0).start();
    for (number, shift, cause) in [(1, 0.05, Cause::Aborted), (2, 0.5, Cause::Predictions)] {
        stage.release(&format!("g{}", number + 1));
        stage.models.green.set(Faults::predicts(shift));
        if cause == Cause::Aborted {
            stage.wait_share(25).await;
            wait_for("most sessions to be heard", Duration::from_secs(60), async || {
                let seen = stage.home.service(SERVICE).await.evidence?.predictions?;
                (seen.distance.upper < 0.25 && !seen.too_far).then_some(())
            })
            .await;
            stage.home.order(SERVICE, Order::Abort).await;
        }
        let record = stage.home.wait_end(SERVICE, number, Duration::from_secs(60)).await;
        assert_eq!((record.end, record.cause), (End::RolledBack, Some(cause)), "{record:?}");
        stage.was_rolled_back();
    }
    assert_eq!(load.glance().lost, 0);
}
