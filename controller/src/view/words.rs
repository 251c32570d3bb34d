//! The sentences about a release that follow from its facts, in words that a model's owner understands.
//!
//! They are part of the view and not of a verb, so that every surface says the same. Evidence is told as the odds
//! that chance alone looks this bad: e to the minus ln E bounds exactly that.

use super::{
    Cause, Chance, Claim, Counted, CustomView, Earlier, End, EvidenceView, HeldBy, Phase, ReleaseRecord,
    ServiceView, Unit,
};
use crate::text::visible;
use hueshift_core::color::{Color, PerColor};
use hueshift_core::judge::dispersion::{CLUMPED_ABOVE, Dispersion};
use hueshift_core::judge::evidence::Predictions;
use hueshift_core::judge::predictions::Distance;
use hueshift_core::judge::{Mode, Verdict};

/// What would make the release go on.
pub fn goes_on(service: &ServiceView) -> Option<String> {
    let candidate = service.candidate();
    if service.paused {
        return Some("a person resumes it (`hueshift resume`)".to_owned());
    }
    Some(match service.phase {
        Phase::Idle => return None,
        Phase::Preparing => {
            format!("{candidate}'s servers accept connections and every Envoy with traffic has the plan")
        }
        Phase::Validating => "every gate passes".to_owned(),
        Phase::Marking => "every active session has its pin".to_owned(),
        Phase::Waiting => "a person promotes it (`hueshift promote`) or its window opens".to_owned(),
        Phase::Progressing => {
            let Some(evidence) = &service.evidence else {
                return Some("the first requests are judged".to_owned());
            };
            let claims: Vec<String> = evidence
                .certificates
                .iter()
                .map(|certificate| claim(certificate.claim, service, evidence.unit))
                .collect();
            match (claims.is_empty(), evidence.verdict) {
                (_, Verdict::Hold) if evidence.is_noisy() => {
                    "a person says so (`hueshift promote`): the environment looks noisy, and that stays"
                        .to_owned()
                }
                (_, Verdict::Hold) => format!(
                    "the suspicion fades: with more traffic {candidate} proves as good as {}",
                    service.live
                ),
                (true, _) => "its minimum time and requests pass without suspicion".to_owned(),
                (false, _) => format!("it is proven that {candidate} {}", claims.join(", or ")),
            }
        }
        Phase::Soaking if service.evidence.as_ref().is_some_and(EvidenceView::is_noisy) => {
            "a person says so (`hueshift promote`): the environment looked noisy in this release".to_owned()
        }
        Phase::Soaking => format!(
            "the watch after cutover ends without suspicion; {} keeps {} as control",
            service.live,
            service.plan.limit.rest()
        ),
        Phase::Draining => format!("{} has no request left, or its deadline passes", service.live),
        Phase::RollingBack => format!("every Envoy with traffic sends everything to {}", service.live),
    })
}

/// What would roll the release back.
pub fn rolls_back(service: &ServiceView) -> Option<String> {
    match service.phase {
        Phase::Idle | Phase::RollingBack => None,
        _ => {
            let candidate = service.candidate();
            let odds =
                service.evidence.as_ref().map_or_else(|| "too little".to_owned(), |e| odds(e.rollback_at));
            let seen = service.evidence.as_ref().and_then(|evidence| evidence.predictions);
            let moved =
                seen.map(|seen| format!(" or its answers surely moved by more than {}", seen.allowed));
            Some(format!(
                "{candidate} has more errors or takes longer than {} and chance explains it at {odds} or less{}; at once when it \
                 answers nothing but errors for 3 s or the fuse in the Envoys trips; or by `hueshift abort`",
                service.live,
                moved.unwrap_or_default()
            ))
        }
    }
}

/// How a release ended and why, as one sentence without its service.
pub fn ended(record: &ReleaseRecord) -> String {
    let (candidate, stable) = (record.candidate, record.candidate.other());
    let cause = match (record.end, record.cause) {
        (End::Promoted, _) if record.uncertified.is_empty() => {
            return "promoted: it proved as good as the model before it".to_owned();
        }
        (End::Promoted, _) => {
            let shares: Vec<String> = record.uncertified.iter().map(ToString::to_string).collect();
            return format!(
                "promoted without full proof: at {} a person, the deadline or the document let it go on",
                shares.join(", ")
            );
        }
        (
            _,
            Some(
                verdict @ (Cause::Errors
                | Cause::Hung
                | Cause::Latency
                | Cause::Custom
                | Cause::Slo
                | Cause::History),
            ),
        ) => {
            let what = complaint(verdict, candidate, &record.requests, record.evidence.as_ref());
            match &record.evidence {
                Some(evidence) => format!("{what}, odds {} of being chance", odds(evidence.log_e)),
                None => what,
            }
        }
        (_, Some(Cause::Predictions)) => {
            let evidence = record.evidence.as_ref();
            let what = complaint(Cause::Predictions, candidate, &record.requests, evidence);
            match evidence {
                // A distance that is too large has no odds of its own.
                Some(EvidenceView { predictions: None, log_e, .. }) => {
                    format!("{what}, odds {} of being chance", odds(*log_e))
                }
                _ => what,
            }
        }
        (_, Some(Cause::Dead)) => {
            format!("{candidate} answered nothing but errors for 3 s while {stable} was fine")
        }
        (_, Some(Cause::Fuse)) => {
            format!("the fuse in the Envoys tripped: {candidate} failed hard while {stable} was fine")
        }
        (_, Some(Cause::Aborted)) => "a person aborted it".to_owned(),
        (_, Some(Cause::Inconclusive)) => "its deadline passed without enough evidence".to_owned(),
        (_, Some(Cause::Stopped)) => "the controller was stopped while it was open".to_owned(),
        (_, Some(Cause::Interrupted)) => "the controller lost what it knew of it".to_owned(),
        (_, Some(Cause::Unwritten)) => {
            "the controller took it back and died before it could write why".to_owned()
        }
        (_, Some(Cause::Superseded) | None) => "the standby's revision changed while it was open".to_owned(),
    };
    let verb = if record.end == End::Superseded { "superseded" } else { "rolled back" };
    format!("{verb} because {cause}")
}

/// What speaks against the candidate, without its odds: `errors 4.9 % vs 0.5 %`, `green takes longer than blue`.
pub fn complaint(
    cause: Cause,
    candidate: Color,
    requests: &PerColor<Counted>,
    evidence: Option<&EvidenceView>,
) -> String {
    let stable = candidate.other();
    let bad = requests.get(candidate).rate();
    let rates = match (bad, requests.get(stable).rate()) {
        (Some(bad), Some(good)) => format!("errors {} vs {}", percent(bad), percent(good)),
        _ => "errors".to_owned(),
    };
    match cause {
        Cause::Latency => format!("{candidate} takes longer than {stable}"),
        Cause::Hung => format!("{candidate} leaves requests without an answer, {rates}"),
        Cause::Custom => match evidence.and_then(|evidence| evidence.custom.as_ref()) {
            Some(custom) => events(custom, candidate),
            None => format!("{candidate} has more of the named events than {stable}"),
        },
        Cause::Predictions => match evidence.and_then(|evidence| evidence.predictions.as_ref()) {
            Some(seen) => predictions_moved(seen),
            None => format!("{candidate} answers otherwise than {stable}"),
        },
        Cause::Slo => match (bad, evidence.and_then(|evidence| evidence.slo)) {
            (Some(bad), Some(most)) => {
                format!("errors {} on {candidate}, at most {} is allowed", percent(bad), percent(most))
            }
            _ => format!("{candidate} has more errors than the document allows"),
        },
        Cause::History => format!("{candidate} fails more than {stable} did before the cutover, {rates}"),
        _ => rates,
    }
}

/// `clientErrors 9.1 % vs 0.8 %`.
pub fn events(custom: &CustomView, candidate: Color) -> String {
    let rate = |color: Color| custom.counted.get(color).rate().map_or_else(|| "-".to_owned(), percent);
    format!("{} {} vs {}", visible(&custom.name), rate(candidate), rate(candidate.other()))
}

/// Why a release is held although the candidate's odds are fine, and what follows.
pub fn held(reason: HeldBy, candidate: Color) -> String {
    let live = candidate.other();
    match reason {
        HeldBy::SharedIncident => format!(
            "{candidate} fails more than {live} did before, but what {live} still serves fails as much now: something that \
             both use is ill, so nothing is rolled back; look there"
        ),
        HeldBy::SlowAtLoad => format!(
            "nothing speaks against {candidate} beside {live}, but it is slower than {live} was when it carried as much; \
             the share stays where it is"
        ),
        HeldBy::Split => format!(
            "{candidate} gets another part of the traffic than was drawn, so what is counted cannot be trusted; something \
             on the way drops, repeats or reroutes requests"
        ),
        HeldBy::Noisy => format!(
            "nothing speaks against {candidate}, but two parts of {live} alone differ as much, so the share stays where it \
             is"
        ),
    }
}

/// How far answers are apart: `answers moved: distance 0.32 (surely above 0.19), at most 0.15 is allowed`.
pub fn predictions_moved(seen: &Predictions) -> String {
    let Predictions { distance: Distance { observed, lower, upper }, allowed, too_far } = *seen;
    let (what, sure) = if too_far {
        ("answers moved", format!("surely above {lower:.2}"))
    } else {
        ("answers", format!("surely below {upper:.2}"))
    };
    format!("{what}: distance {observed:.2} ({sure}), at most {allowed} is allowed")
}

/// What one draw of chance is where failures are judged, and why: `a request: …`.
pub fn chance(chance: &Chance) -> String {
    let of = |Earlier { release, dispersion }: Earlier| {
        format!("in release {release} {}", errors_came(&dispersion))
    };
    match (chance.mode, chance.noisy, chance.earlier) {
        (Mode::Sessions, ..) => "a session: it draws its color once".to_owned(),
        (Mode::PerError, false, earlier) => format!(
            "a request: each draws its own color; {}",
            earlier.map_or_else(
                || "no release before lasted long enough to tell whether failures come one by one".to_owned(),
                of
            )
        ),
        (Mode::PerError, true, _) => {
            "a second: the requests' own draws do not explain how failures come here; a fault takes about three times \
             as long to find"
                .to_owned()
        }
        (Mode::Robust, _, earlier) => format!(
            "a second: {}; a fault takes about three times as long to find",
            earlier.map_or_else(|| "failures are taken to come in clumps".to_owned(), of)
        ),
    }
}

/// Whether errors came one by one: `failures came in clumps (dispersion 9.4 over 300 s, more than 1.5)`.
pub fn errors_came(dispersion: &Dispersion) -> String {
    let seconds = dispersion.seconds;
    match dispersion.phi {
        None => format!("nothing failed in {seconds} s"),
        Some(phi) if dispersion.is_clumped() => {
            format!(
                "failures came in clumps (dispersion {phi:.1} over {seconds} s, more than {CLUMPED_ABOVE})"
            )
        }
        Some(phi) => {
            format!(
                "failures came one by one (dispersion {phi:.1} over {seconds} s, {CLUMPED_ABOVE} at most)"
            )
        }
    }
}

/// What a noisy environment is, and what follows.
pub fn noisy(live: Color) -> String {
    format!(
        "the environment itself looks noisy: two parts of {live} that should be alike fail so differently that chance \
         explains it in 1 of 10 releases at most, so failures are no single draws here. They are judged by the second \
         from now on, and the ramp holds: `hueshift promote` lets it go on, a rollback still happens"
    )
}

/// The odds that chance alone explains evidence of this ln E: `1 : 12 000`.
pub fn odds(log_e: f64) -> String {
    if log_e <= 0.0 {
        return "1 : 1".to_owned();
    }
    // Beyond this nobody reads the figure.
    if log_e > 20.0 {
        return "less than 1 : 100 000 000".to_owned();
    }
    let exact = log_e.exp();
    let unit = 10f64.powf((exact.log10().floor() - 1.0).max(0.0));
    format!("1 : {}", count((exact / unit).round() * unit))
}

/// A share of one: `0.04 %`, `0.5 %`, `4.9 %`, `31 %`.
pub fn percent(fraction: f64) -> String {
    let value = fraction * 100.0;
    let text = match value {
        v if v < 0.995 => format!("{v:.2}"),
        v if v < 9.95 => format!("{v:.1}"),
        v => return format!("{v:.0} %"),
    };
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Thousands apart: `12 000`.
fn count(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

fn claim(claim: Claim, service: &ServiceView, unit: Unit) -> String {
    match claim {
        Claim::Ratio(times) => format!("fails less than {times} times as often as {}", service.live),
        Claim::Absolute(rate) => {
            let unit = match unit {
                Unit::Sessions => "sessions",
                Unit::Requests => "requests",
            };
            format!("fails in less than {} of {unit}", percent(rate))
        }
    }
}
