//! What people see, as whole pages written by hand: a change of wording or layout shows here as a diff.

use super::screen::{Screen, width};
use super::{Cli, explain, history, status, watch};
use crate::view::{Cause, Chance, Earlier, End, HeldBy, Phase, ReleaseRecord, View, Waiting};
use clap::CommandFactory;
use hueshift_core::judge::dispersion::Dispersion;
use hueshift_core::judge::{Mode, Verdict};
use hueshift_core::share::Bps;
use jiff::tz::TimeZone;
use proptest::prelude::*;

fn view() -> View {
    serde_json::from_str(include_str!("../../tests/views/two-services.json")).unwrap()
}

fn screen(width: usize, height: usize) -> Screen {
    Screen { width: Some(width), height, paint: false, zone: TimeZone::UTC }
}

fn explained(view: &View, index: usize) -> String {
    explain::render(view, &view.services[index], &screen(80, 24))
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn status_has_a_row_per_service_and_under_it_what_matters() {
    let expected = "\
SERVICE  PHASE            SHARE  LIVE     CANDIDATE                      ERRORS           VERDICT
price    Progressing 1/3  5 %    blue v1  green v2                       0.56 % vs 0.5 %  continue
  waits  evidence: about 40 more candidate sessions
chat     Idle             -      blue m7  green m8 (rolled back before)  -                rolled back 3 min ago
  !      green's server 127.0.0.1:9004 does not accept connections
hueshift 0.1.0 serves models.yaml for 12 min 5 s (pid 4711); 1 Envoy, 2 workers
";
    assert_eq!(status::render(&view(), &screen(120, 24)), expected);
}

#[test]
fn explain_tells_where_a_ramp_stands_and_what_would_move_it() {
    let expected = "\
price: release 7 tries v2 (green) against v1 (blue)

phase       Progressing (the ramp), step 1 of 3, for 1 min 12 s
share       5 % to green; it gets 4.8 %; 1 of 1 Envoy with traffic enforces
            epoch 345, 0 idle
why         errors 0.56 % vs 0.5 %: nothing speaks against green, and it is not
            proven yet
waits for   evidence: about 40 more candidate sessions
goes on     when it is proven that green fails less than 5 times as often as
            blue, or fails in less than 5 % of sessions
rolls back  when green has more errors or takes longer than blue and chance
            explains it at 1 : 100 or less; at once when it answers nothing but
            errors for 3 s or the fuse in the Envoys trips; or by
            `hueshift abort`

            REVISION  REQUESTS  REQ/S  ERRORS  P50    P99    IN FLIGHT  SESSIONS
blue        v1        13 680    190    0.5 %   12 ms  48 ms  3          1 890
green       v2        720       9.8    0.56 %  12 ms  51 ms  0          102

rollback    ████░░░░░░░░░░░░ odds 1 : 3 of chance, rollback at 1 : 100
promotion   ██████████░░░░░░ 62 % proven, about 40 candidate sessions to go
true errors surely (99 %) 0.09 % to 1.8 % on green, 0.34 % to 0.71 % on blue
answers     whole after 94 ms on green, 90 ms on blue (P99; the table has the
            first byte)
";
    assert_eq!(explained(&view(), 0), expected);
}

#[test]
fn explain_tells_why_a_release_was_rolled_back_and_what_may_come_next() {
    let expected = "\
chat: m7 (blue) serves everything; m8 (green) stands by

phase       Idle (no release is open), for 3 min
why         release 3 of m8 ended 3 min ago: rolled back because errors 4.9 % vs
            0.5 %, odds 1 : 12 000 of being chance
next        another revision than m8 on green starts a release;
            `hueshift release --force` tries m8 again
look at     green's server 127.0.0.1:9004 does not accept connections

            REVISION  ROLE     SERVERS
blue        m7        live     1 of 1 answer
green       m8        standby  0 of 1 answer
requests are counted while a release is open
";
    assert_eq!(explained(&view(), 1), expected);
}

#[test]
fn suspicion_is_told_with_its_odds_and_what_it_does() {
    let mut view = view();
    let service = &mut view.services[0];
    let evidence = service.evidence.as_mut().unwrap();
    evidence.verdict = Verdict::Hold;
    evidence.log_e = 3.4;
    evidence.counted.green.errors = 22;
    let page = explained(&view, 0);
    assert!(
        page.contains(
            "\
why         errors 3.1 % vs 0.5 %: green looks worse than blue; chance explains
            that at 1 : 30, so the share stays where it is
"
        ),
        "{page}"
    );
    assert!(page.contains("rollback    ████████████░░░░ odds 1 : 30 of chance"), "{page}");
}

#[test]
fn what_holds_a_release_beside_the_odds_is_told() {
    let mut view = view();
    for (reason, log_e, told) in [
        (HeldBy::SharedIncident, 9.0, "that both use is ill, so nothing is rolled back; look there"),
        (HeldBy::SlowAtLoad, 0.4, "slower than blue was when it carried as much"),
        (HeldBy::Split, 0.4, "gets another part of the traffic than was drawn"),
        (HeldBy::Split, 3.0, "green looks worse than blue; chance explains that"),
    ] {
        let evidence = view.services[0].evidence.as_mut().unwrap();
        (evidence.verdict, evidence.log_e, evidence.held_by) = (Verdict::Hold, log_e, Some(reason));
        let page = explained(&view, 0).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(page.contains(told), "{told}: {page}");
    }
}

#[test]
fn the_unit_of_chance_and_a_noisy_environment_are_told() {
    let mut view = view();
    let evidence = view.services[0].evidence.as_mut().unwrap();
    let dispersion = Dispersion { seconds: 294, phi: Some(9.42) };
    let earlier = Some(Earlier { release: 6, dispersion });
    evidence.chance = Some(Chance { mode: Mode::Robust, noisy: false, earlier });
    let page = explained(&view, 0);
    let told = "\
one draw    is a second: in release 6 failures came in clumps (dispersion 9.4
            over 294 s, more than 1.5); a fault takes about three times as long
            to find
";
    assert!(page.contains(told), "{page}");
    let evidence = view.services[0].evidence.as_mut().unwrap();
    (evidence.verdict, evidence.log_e) = (Verdict::Hold, 0.4);
    evidence.chance = Some(Chance { mode: Mode::PerError, noisy: true, earlier: None });
    evidence.held_by = Some(HeldBy::Noisy);
    let noise = crate::view::noisy(view.services[0].live);
    view.services[0].problems.push(noise);
    (view.services[0].goes_on, view.services[0].rolls_back) = (None, None);
    let page = explained(&view, 0);
    for told in [
        "why         errors 0.56 % vs 0.5 %: nothing speaks against green, but two",
        "goes on     when a person says so (`hueshift promote`): the environment looks",
        "look at     the environment itself looks noisy: two parts of blue that should be",
        "one draw    is a second: the requests' own draws do not explain how failures",
    ] {
        assert!(page.contains(told), "{told}: {page}");
    }
    let frame = watch::frame(&view, &screen(80, 60), None);
    assert!(frame.contains("look at     the environment itself looks noisy"), "{frame}");
    let sentence = |mode, dispersion: Option<Dispersion>| {
        let earlier = dispersion.map(|dispersion| Earlier { release: 6, dispersion });
        crate::view::chance(&Chance { mode, noisy: false, earlier })
    };
    assert_eq!(sentence(Mode::Sessions, None), "a session: it draws its color once");
    assert_eq!(
        sentence(Mode::PerError, None),
        "a request: each draws its own color; no release before lasted long enough to tell whether failures come one by one"
    );
    assert_eq!(
        sentence(Mode::PerError, Some(Dispersion { seconds: 120, phi: None })),
        "a request: each draws its own color; in release 6 nothing failed in 120 s"
    );
    assert_eq!(
        sentence(Mode::PerError, Some(Dispersion { seconds: 120, phi: Some(1.04) })),
        "a request: each draws its own color; in release 6 failures came one by one (dispersion 1.0 over 120 s, 1.5 at most)"
    );
}

/// Each way to end has its own words, and none leaves the reader without a cause.
#[test]
fn every_end_has_its_sentence() {
    let mut record = view().services[1].history[1].clone();
    let mut told = |end, cause| {
        record.end = end;
        record.cause = cause;
        crate::view::ended(&record)
    };
    assert_eq!(
        told(End::RolledBack, Some(Cause::Errors)),
        "rolled back because errors 4.9 % vs 0.5 %, odds 1 : 12 000 of being chance"
    );
    assert_eq!(
        told(End::RolledBack, Some(Cause::Hung)),
        "rolled back because green leaves requests without an answer, errors 4.9 % vs 0.5 %, odds 1 : 12 000 of \
         being chance"
    );
    assert_eq!(
        told(End::RolledBack, Some(Cause::Latency)),
        "rolled back because green takes longer than blue, odds 1 : 12 000 of being chance"
    );
    assert_eq!(
        told(End::RolledBack, Some(Cause::History)),
        "rolled back because green fails more than blue did before the cutover, errors 4.9 % vs 0.5 %, odds 1 : 12 000 \
         of being chance"
    );
    assert_eq!(
        told(End::RolledBack, Some(Cause::Dead)),
        "rolled back because green answered nothing but errors for 3 s while blue was fine"
    );
    assert_eq!(
        told(End::RolledBack, Some(Cause::Fuse)),
        "rolled back because the fuse in the Envoys tripped: green failed hard while blue was fine"
    );
    assert_eq!(told(End::RolledBack, Some(Cause::Aborted)), "rolled back because a person aborted it");
    assert_eq!(
        told(End::RolledBack, Some(Cause::Inconclusive)),
        "rolled back because its deadline passed without enough evidence"
    );
    assert_eq!(
        told(End::Superseded, Some(Cause::Superseded)),
        "superseded because the standby's revision changed while it was open"
    );
    assert_eq!(told(End::Promoted, None), "promoted: it proved as good as the model before it");
}

#[test]
fn a_ceiling_is_told_with_what_it_allows() {
    let mut record = view().services[1].history[1].clone();
    record.cause = Some(Cause::Slo);
    record.evidence.as_mut().unwrap().slo = Some(0.02);
    assert_eq!(
        crate::view::ended(&record),
        "rolled back because errors 4.9 % on green, at most 2 % is allowed, odds 1 : 12 000 of being chance"
    );
}

/// Errors are alike where a candidate is only slow; to name them would send the reader the wrong way.
#[test]
fn explain_names_what_speaks_against_the_candidate() {
    let mut view = view();
    let evidence = view.services[0].evidence.as_mut().unwrap();
    (evidence.verdict, evidence.log_e, evidence.leading) = (Verdict::Hold, 3.0, Some(Cause::Latency));
    let page = explained(&view, 0);
    assert!(
        page.contains("why         green takes longer than blue: green looks worse than blue;"),
        "{page}"
    );
}

#[test]
fn a_frame_shows_each_service_whole_where_it_fits() {
    let expected = "\
hueshift · models.yaml · 1 Envoy, 2 workers · 12 min 5 s                21:04:05

price  release 7 · Progressing 1/3 · 1 min 12 s
  blue        ███████████████████░ 95 % of 95 %  live v1
              errors 0.5 %  p50 12 ms  p99 48 ms  190/s  1 890 sessions
  green       █░░░░░░░░░░░░░░░░░░░ 4.8 % of 5 %  candidate v2
              errors 0.56 %  p50 12 ms  p99 51 ms  9.8/s  102 sessions
  rollback    ████░░░░░░░░░░░░ odds 1 : 3 of chance, rollback at 1 : 100
  promotion   ██████████░░░░░░ 62 % proven, about 40 candidate sessions to go
  plan        1 of 1 Envoy with traffic enforces epoch 345, 0 idle
  waits for   evidence: about 40 more candidate sessions

chat  Idle · 3 min
  blue        ████████████████████ 100 %  live m7
  green       ░░░░░░░░░░░░░░░░░░░░ 0 %  standby m8  0 of 1 server answer
  look at     green's server 127.0.0.1:9004 does not accept connections
  last        release 3 of m8 3 min ago: rolled back because errors 4.9 % vs
              0.5 %, odds 1 : 12 000 of being chance
";
    assert_eq!(watch::frame(&view(), &screen(80, 24), None), expected);
}

#[test]
fn a_low_terminal_gets_a_line_per_service_and_a_lower_one_says_what_is_missing() {
    let low = watch::frame(&view(), &screen(60, 8), None);
    let expected = "\
hueshift · models.yaml · 1 Envoy, 2 workers · 12 min 5 s  2…
price · release 7 · Progressing 1/3 · 5 % to green · errors…
chat · Idle · blue live · last release 3: rolled back becau…
";
    assert_eq!(low, expected);
    let lowest = watch::frame(&view(), &screen(60, 2), None);
    assert!(lowest.ends_with("… 2 more services not shown; name one: hueshift watch SERVI…\n"), "{lowest}");
}

#[test]
fn a_controller_that_went_away_is_told_above_the_last_figures() {
    let frame = watch::frame(&view(), &screen(80, 24), Some("no controller is running for .hueshift"));
    assert!(
        frame.contains("\n! no controller is running for .hueshift; the figures are old, traffic goes on\n"),
        "{frame}"
    );
}

#[test]
fn history_is_a_table_with_causes() {
    let records = view().services.remove(1).history;
    let expected = "\
SERVICE  RELEASE  REVISION  STARTED              TOOK         REACHED  RESULT
chat     2        m7        2026-11-23 18:34:05  16 min 40 s  95 %     promoted: it proved as good as the model before it
chat     3        m8        2026-11-23 20:57:25  3 min 40 s   25 %     rolled back because errors 4.9 % vs 0.5 %, odds 1 : 12 000 of being chance; off 7.4 s after it turned bad, 21 bad answers in all
";
    assert_eq!(history::render(&records, &screen(80, 24)), expected);
    assert_eq!(history::render(&[], &screen(80, 24)), "no release has ended yet\n");
}

/// Revisions, sentences and files come from documents and models.
#[test]
fn no_foreign_byte_steers_the_terminal() {
    let evil = "v\x1b]0;x\x07\r\n\u{202e}\u{9b}2J";
    let mut view = view();
    view.file = evil.into();
    view.problems = vec![evil.into()];
    for service in &mut view.services {
        service.name = evil.into();
        service.problems = vec![evil.into()];
        service.waiting_on = vec![Waiting { reason: evil.into(), text: evil.into() }];
        service.colors.blue.revision = evil.into();
        service.colors.green.revision = evil.into();
        for record in &mut service.history {
            (record.revision, record.service) = (evil.into(), evil.into());
        }
    }
    let records: Vec<ReleaseRecord> = view.services[1].history.clone();
    let screen = screen(300, 60);
    let pages = [
        status::render(&view, &screen),
        explained(&view, 0),
        explained(&view, 1),
        watch::frame(&view, &screen, Some(evil)),
        watch::frame(&view, &Screen { height: 5, ..screen.clone() }, None),
        history::render(&records, &screen),
    ];
    for page in pages {
        assert!(!page.contains(['\x1b', '\x07', '\r', '\u{202e}', '\u{9b}']), "{page:?}");
    }
}

proptest! {
    #[test]
    fn a_frame_never_leaves_its_terminal(columns in 40usize..200, rows in 2usize..60, paint: bool, phase in 0usize..9, waits in 0usize..4) {
        let mut view = view();
        let phases = [Phase::Idle, Phase::Preparing, Phase::Validating, Phase::Marking, Phase::Waiting, Phase::Progressing, Phase::Soaking, Phase::Draining, Phase::RollingBack];
        for service in &mut view.services {
            service.phase = phases[phase];
            service.plan.limit = Bps::ALL;
            service.waiting_on = vec![Waiting { reason: "x".into(), text: "a very long sentence ".repeat(waits * 5) }; waits];
        }
        let screen = Screen { paint, ..screen(columns, rows) };
        let frame = watch::frame(&view, &screen, None);
        prop_assert!(frame.lines().count() <= rows, "{}", frame);
        for line in frame.lines() {
            prop_assert!(width(line) <= columns, "{}", line);
        }
    }
}
