//! A release from one status to the next: conditions as `kubectl wait` and kstatus read them, and the Events.

use super::*;
use crate::view::{Cause, End, Phase, View, Waiting};
use hueshift_core::judge::Verdict;
use hueshift_core::share::Bps;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use proptest::prelude::*;

const T0: u64 = 1_795_467_000_000;

/// The service in the middle of a release.
fn open() -> ServiceView {
    let mut view: View =
        serde_json::from_str(include_str!("../../../tests/views/two-services.json")).unwrap();
    view.services.remove(0)
}

/// The service after a rollback.
fn rolled_back() -> ServiceView {
    let mut view: View =
        serde_json::from_str(include_str!("../../../tests/views/two-services.json")).unwrap();
    let mut chat = view.services.remove(1);
    chat.problems.clear();
    chat
}

fn fresh() -> ServiceView {
    let mut view = rolled_back();
    view.history.clear();
    view.release = 0;
    view
}

fn facts(view: Option<&ServiceView>) -> Facts<'_> {
    Facts { generation: Some(3), view, refusal: None, plugins: &[], hidden: &[], now_ms: T0 }
}

fn condition<'a>(status: &'a BlueGreenStatus, kind: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|condition| condition.type_ == kind)
}

/// `type=status/reason` of each condition.
fn conditions(status: &BlueGreenStatus) -> Vec<String> {
    status.conditions.iter().map(|c| format!("{}={}/{}", c.type_, c.status, c.reason)).collect()
}

fn events(told: &Told) -> Vec<String> {
    told.events.iter().map(|event| format!("{:?} {}: {}", event.kind, event.reason, event.note)).collect()
}

/// What kstatus (Flux, Argo CD's fallback) makes of it.
fn kstatus(status: &BlueGreenStatus, generation: i64) -> &'static str {
    let is_true = |kind| condition(status, kind).is_some_and(|c| c.status == "True");
    match () {
        () if status.observed_generation != Some(generation) || is_true("Reconciling") => "InProgress",
        () if is_true("Stalled") => "Failed",
        () if is_true("Ready") => "Current",
        () => "InProgress",
    }
}

#[test]
fn what_is_not_taken_up_yet_is_in_progress_and_not_ready() {
    let told = told(&facts(None), &BlueGreenStatus::default());
    assert_eq!(conditions(&told.status), ["Ready=False/Pending", "Reconciling=True/Pending"]);
    assert_eq!(kstatus(&told.status, 3), "InProgress");
}

#[test]
fn a_settled_service_is_ready_and_has_no_verdict_before_its_first_release() {
    let told = told(&facts(Some(&fresh())), &BlueGreenStatus::default());
    assert_eq!(
        conditions(&told.status),
        [
            "Ready=True/Settled",
            "Progressing=False/NoRelease",
            "TrafficShifted=False/OnLive",
            "RolledBack=False/NoRelease",
            "Succeeded=Unknown/NoRelease",
        ]
    );
    assert_eq!(kstatus(&told.status, 3), "Current");
    assert_eq!(kstatus(&told.status, 4), "InProgress", "a newer document is not observed yet");
    assert_eq!(events(&told), [""; 0]);
}

#[test]
fn an_open_release_is_not_ready_and_its_verdict_is_unknown() {
    let settled = told(&facts(Some(&fresh())), &BlueGreenStatus::default()).status;
    let told = told(&facts(Some(&open())), &settled);
    assert_eq!(
        conditions(&told.status),
        [
            "Ready=False/Progressing",
            "Reconciling=True/Progressing",
            "Progressing=True/Progressing",
            "TrafficShifted=True/Progressing",
            "RolledBack=False/ReleaseOpen",
            "Succeeded=Unknown/ReleaseOpen",
        ]
    );
    assert_eq!(kstatus(&told.status, 3), "InProgress");
    assert_eq!(events(&told), ["Normal Progressing: release 7 (v2 on green): Progressing at 5 %"]);
    assert_eq!(told.status.sample.as_deref(), Some("720/4"));
    assert_eq!(
        told.status.evidence.as_deref(),
        Some(
            "green failed 4 of 720, blue 68 of 13680 (judged by sessions); odds of being chance 1 : 3, taken back at \
             1 : 100"
        )
    );
    assert_eq!(told.urgency, Urgency::Now);
}

#[test]
fn the_last_verdict_is_told_once_when_the_release_ends() {
    let mut chat = rolled_back();
    let mut before = chat.clone();
    before.phase = Phase::RollingBack;
    before.history.pop();
    let rolling = told(&facts(Some(&before)), &BlueGreenStatus::default());
    assert_eq!(condition(&rolling.status, "RolledBack").unwrap().reason, "RollingBack");
    assert_eq!(condition(&rolling.status, "TrafficShifted").unwrap().status, "False");
    assert_eq!(rolling.events.last().unwrap().kind, Kind::Warning);

    let ended = told(&facts(Some(&chat)), &rolling.status);
    assert_eq!(
        conditions(&ended.status),
        [
            "Ready=True/Settled",
            "Progressing=False/RolledBack",
            "TrafficShifted=False/OnLive",
            "RolledBack=True/Errors",
            "Succeeded=False/Errors",
        ]
    );
    assert_eq!(ended.status.verdict.as_deref(), Some("rolled-back"));
    assert_eq!(
        events(&ended),
        [
            "Warning RolledBack: release 3 (m8 on green) rolled back because errors 4.9 % vs 0.5 %, odds 1 : 12 000 of being chance"
        ]
    );
    let again = told(&facts(Some(&chat)), &ended.status);
    assert_eq!((again.urgency, again.events), (Urgency::Never, Vec::new()));

    // The next one ended well, and nothing was told in between.
    let mut next = chat.history.last().unwrap().clone();
    (next.release, next.end, next.cause) = (4, End::Promoted, None);
    chat.history.push(next);
    let promoted = told(&facts(Some(&chat)), &ended.status);
    assert_eq!(condition(&promoted.status, "Succeeded").unwrap().status, "True");
    assert_eq!(condition(&promoted.status, "RolledBack").unwrap().status, "False");
    assert_eq!(promoted.events.len(), 1);
    assert_eq!(promoted.events[0].reason, "Promoted");
}

#[test]
fn a_controller_that_starts_anew_repeats_no_event() {
    let told_before = told(&facts(Some(&rolled_back())), &BlueGreenStatus::default());
    assert_eq!(told_before.events, [], "the history of a first status is no news");
    let read_back: BlueGreenStatus =
        serde_json::from_str(&serde_json::to_string(&told_before.status).unwrap()).unwrap();
    let anew = told(&Facts { now_ms: T0 + 60_000, ..facts(Some(&rolled_back())) }, &read_back);
    assert_eq!((anew.urgency, anew.events), (Urgency::Never, Vec::new()));
}

#[test]
fn a_condition_keeps_its_time_until_its_status_changes() {
    let first = told(&facts(Some(&fresh())), &BlueGreenStatus::default()).status;
    let open = open();
    let later = Facts { now_ms: T0 + 90_500, ..facts(Some(&open)) };
    let second = told(&later, &first).status;
    let time = |status: &BlueGreenStatus, kind| condition(status, kind).unwrap().last_transition_time.0;
    assert_eq!(time(&second, "Ready").as_second() - time(&first, "Ready").as_second(), 90);
    assert_eq!(
        time(&second, "Succeeded"),
        time(&first, "Succeeded"),
        "Unknown as before, for another reason"
    );
    assert_ne!(
        condition(&second, "Succeeded").unwrap().reason,
        condition(&first, "Succeeded").unwrap().reason
    );
}

#[test]
fn a_refusal_is_stalled_with_its_reason_and_remedy_and_resolved_is_told() {
    let refusal = StatusProblem {
        reason: "VirtualServiceNotFound".to_owned(),
        text: "there is no VirtualService price in namespace models: create it".to_owned(),
    };
    let settled = told(&facts(Some(&fresh())), &BlueGreenStatus::default()).status;
    let view = fresh();
    let refused = told(&Facts { refusal: Some(&refusal), ..facts(Some(&view)) }, &settled);
    assert_eq!(
        conditions(&refused.status)[..2],
        ["Ready=False/VirtualServiceNotFound", "Stalled=True/VirtualServiceNotFound"]
    );
    assert_eq!(kstatus(&refused.status, 3), "Failed");
    assert_eq!(refused.status.problems, std::slice::from_ref(&refusal));
    assert_eq!(
        events(&refused),
        ["Warning VirtualServiceNotFound: there is no VirtualService price in namespace models: create it"]
    );
    let mended = told(&facts(Some(&view)), &refused.status);
    assert_eq!(kstatus(&mended.status, 3), "Current");
    assert_eq!(events(&mended), ["Normal Resolved: VirtualServiceNotFound is resolved; it is managed again"]);
}

#[test]
fn suspicion_and_waiting_for_a_person_are_told_and_are_no_failure() {
    let going = told(&facts(Some(&open())), &BlueGreenStatus::default()).status;
    let mut view = open();
    view.evidence.as_mut().unwrap().verdict = Verdict::Hold;
    let held = told(&facts(Some(&view)), &going);
    assert_eq!(held.status.verdict.as_deref(), Some("hold"));
    assert_eq!(held.events[0].reason, "Suspicious");
    view.waiting_on = vec![Waiting { reason: "person".to_owned(), text: "a person".to_owned() }];
    let waits = told(&facts(Some(&view)), &held.status);
    assert_eq!(condition(&waits.status, "Ready").unwrap().reason, "WaitingForPerson");
    assert_eq!(kstatus(&waits.status, 3), "InProgress");
    assert!(waits.events[0].note.contains("`hueshift promote`"), "{:?}", waits.events);
}

#[test]
fn counts_that_grow_are_not_urgent_and_no_event() {
    let before = told(&facts(Some(&open())), &BlueGreenStatus::default()).status;
    let mut view = open();
    view.colors.green.requests += 100;
    view.waiting_on[0].text = "evidence: about 30 more candidate sessions".to_owned();
    view.plan.enforcing = 0;
    let grown = told(&facts(Some(&view)), &before);
    assert_eq!((grown.urgency, grown.events), (Urgency::Sometime, Vec::new()));
    view.plan.limit = Bps::new(2_500).unwrap();
    assert_eq!(told(&facts(Some(&view)), &before).urgency, Urgency::Now);
}

#[test]
fn a_service_is_ready_only_when_its_routes_are_written() {
    let mut view = fresh();
    view.plan.unwritten = true;
    let status = told(&facts(Some(&view)), &BlueGreenStatus::default()).status;
    assert_eq!(conditions(&status)[..2], ["Ready=False/Routing", "Reconciling=True/Routing"]);
    assert_eq!(kstatus(&status, 3), "InProgress");
}

#[test]
fn proxies_are_told_beside_the_epoch_that_they_are_about() {
    let of = |epoch| {
        let previous = BlueGreenStatus { epoch, ..BlueGreenStatus::default() };
        told(&facts(Some(&open())), &previous).status.proxies.is_some()
    };
    let epoch = open().plan.epoch;
    assert!(of(Some(epoch)) && of(None));
    assert!(!of(Some(epoch + 1)), "the next one is written already");
}

#[test]
fn what_others_keep_in_the_status_is_left_alone() {
    let previous = BlueGreenStatus {
        state: Some(json!({"release": 7})),
        term: Some(12),
        phase: Some("Soaking".to_owned()),
        conditions: vec![Condition {
            type_: "example.com/Checked".to_owned(),
            status: "True".to_owned(),
            reason: "Yes".to_owned(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        }],
        ..BlueGreenStatus::default()
    };
    let status = told(&facts(Some(&open())), &previous).status;
    assert_eq!((&status.state, status.term, &status.phase), (&previous.state, Some(12), &previous.phase));
    assert_eq!(condition(&status, "example.com/Checked"), Some(&previous.conditions[0]));
    let fields = fields(&status);
    assert!(!fields.contains_key("state") && !fields.contains_key("phase") && !fields.contains_key("order"));
    assert_eq!(
        super::fields(&told(&facts(None), &status).status)["proxies"],
        Value::Null,
        "a patch takes it out"
    );
}

#[test]
fn plugins_that_are_not_as_they_should_be_are_a_condition_of_their_own_while_they_are() {
    let double = StatusProblem { reason: "DoubleAttachment".to_owned(), text: "two; remove one".to_owned() };
    let problems = [double];
    let view = fresh();
    let wrong = Facts { plugins: &problems, ..facts(Some(&view)) };
    let first = told(&wrong, &BlueGreenStatus::default()).status;
    let of = condition(&first, "FilterAttached").unwrap();
    assert_eq!(
        (of.status.as_str(), of.reason.as_str(), of.message.as_str()),
        ("False", "DoubleAttachment", "two; remove one")
    );
    assert_eq!(condition(&first, "Ready").unwrap().status, "True", "traffic is split all the same");
    assert_eq!(condition(&told(&facts(Some(&view)), &first).status, "FilterAttached"), None);
}

#[test]
fn long_texts_fit_the_schema() {
    let long = StatusProblem { reason: "R".repeat(100), text: "ü".repeat(20_000) };
    let problems = vec![long.clone(); 3];
    let refused = Facts { refusal: Some(&long), plugins: &problems, ..facts(None) };
    let told = told(&refused, &BlueGreenStatus::default());
    assert_eq!(told.status.problems.len(), 1);
    assert_eq!(told.status.problems[0].text.chars().count(), 8_192);
    assert!(told.events[0].note.len() <= 1_024);
}

prop_compose! {
    fn any_view()(
        phase in prop::sample::select(vec![
            Phase::Idle, Phase::Preparing, Phase::Validating, Phase::Waiting, Phase::Progressing, Phase::Soaking,
            Phase::Draining, Phase::RollingBack,
        ]),
        limit in 0u16..=10_000,
        paused in any::<bool>(),
        ended in prop::option::of((1u32..9, prop::sample::select(vec![
            (End::Promoted, None), (End::RolledBack, Some(Cause::Fuse)), (End::Superseded, Some(Cause::Superseded)),
        ]))),
        hold in any::<bool>(),
    ) -> ServiceView {
        let mut view = open();
        view.phase = phase;
        view.plan.limit = Bps::new(limit).unwrap();
        view.paused = paused;
        if hold { view.evidence.as_mut().unwrap().verdict = Verdict::Hold; }
        let record = rolled_back().history.pop().unwrap();
        view.history = ended.into_iter().map(|(release, (end, cause))| {
            let mut record = record.clone();
            (record.release, record.end, record.cause) = (release, end, cause);
            record
        }).collect();
        view
    }
}

proptest! {
    /// Whatever went before: the same facts once more are no write and no Event, also after the status was read back.
    #[test]
    fn the_same_facts_give_the_same_status(views in prop::collection::vec(any_view(), 1..6)) {
        let mut status = BlueGreenStatus::default();
        for (index, view) in views.iter().enumerate() {
            let now = Facts { now_ms: T0 + index as u64 * 1_000, ..facts(Some(view)) };
            status = told(&now, &status).status;
            status = serde_json::from_str(&serde_json::to_string(&status).unwrap()).unwrap();
            let again = told(&Facts { now_ms: now.now_ms + 5_000, ..now }, &status);
            prop_assert_eq!(again.urgency, Urgency::Never);
            prop_assert_eq!(&again.events, &Vec::new());
            prop_assert_eq!(&again.status, &status);
        }
    }

    /// Ready means settled; a verdict is told only of what is decided; busy and stalled exclude each other.
    #[test]
    fn conditions_never_contradict_each_other(view in any_view(), refused in any::<bool>()) {
        let refusal = StatusProblem { reason: "ServiceNotFound".to_owned(), text: "x".to_owned() };
        let now = Facts { refusal: refused.then_some(&refusal), ..facts(Some(&view)) };
        let status = told(&now, &BlueGreenStatus::default()).status;
        let is = |kind: &str, wanted: &str| condition(&status, kind).is_some_and(|c| c.status == wanted);
        prop_assert_eq!(is("Ready", "True"), !view.open() && !refused);
        prop_assert!(!(is("Stalled", "True") && is("Reconciling", "True")));
        prop_assert!(!(is("Ready", "True") && (is("Stalled", "True") || is("Reconciling", "True"))));
        prop_assert_eq!(is("Succeeded", "Unknown"), view.open() || view.history.is_empty());
        prop_assert!(!(is("Succeeded", "True") && is("RolledBack", "True")));
        prop_assert!(!is("TrafficShifted", "True") || view.open());
    }
}
