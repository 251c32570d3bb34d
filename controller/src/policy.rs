//! What `ReleasePolicy` objects make of a document: its effective settings, or why it may not be released so. Pure.
//!
//! The most restrictive bound of all policies that bind a namespace holds. A field that has its built-in default takes
//! the bound: who wrote nothing gets what the platform asks. A field that somebody wrote is never rewritten: beyond a
//! bound it is a violation, told with the policy's name, and nothing is released until one of the two is changed.

use crate::api::{
    Advance, AnalysisSpec, PolicySpec, ReleasePolicy, ReleaseSpec, Spec, StepSpec, human_duration, percent,
};
use hueshift_core::share::Bps;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// Most steps of a ramp, as documents have it.
const MAX_STEPS: usize = 20;

/// One setting that a policy does not allow. Prints as one sentence with its remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The policy.
    pub policy: String,
    /// The field, as in `spec.release.soak.time`.
    pub field: String,
    /// What it says, and what is asked.
    pub what: String,
    /// What to write.
    pub remedy: String,
}

/// The settings that hold in a namespace with these labels.
///
/// # Errors
/// Everything that the document says beyond a bound.
pub fn apply(
    policies: &[ReleasePolicy],
    namespace: &BTreeMap<String, String>,
    spec: &Spec,
) -> Result<Spec, Vec<Violation>> {
    let binding: Vec<&ReleasePolicy> =
        policies.iter().filter(|policy| binds(&policy.spec, namespace)).collect();
    let mut effective = spec.clone();
    let mut violations = Vec::new();
    knobs(&binding, &mut effective, &mut violations);
    holdback(&binding, &mut effective, &mut violations);
    soak(&binding, &mut effective, &mut violations);
    advance(&binding, &effective, &mut violations);
    trust(&binding, &mut effective);
    // Last: the cutover's rise depends on the holdback that is in force.
    steps(&binding, &mut effective, &mut violations);
    if violations.is_empty() { Ok(effective) } else { Err(violations) }
}

/// Whether a policy binds a namespace with these labels.
pub fn binds(policy: &PolicySpec, namespace: &BTreeMap<String, String>) -> bool {
    let Some(LabelSelector { match_labels, match_expressions }) = &policy.namespace_selector else {
        return true;
    };
    let labels = match_labels.iter().flatten().all(|(key, value)| namespace.get(key) == Some(value));
    labels && match_expressions.iter().flatten().all(|expression| fits(expression, namespace))
}

/// An operator that we do not know binds: a policy is not got around by a newer schema.
fn fits(expression: &LabelSelectorRequirement, namespace: &BTreeMap<String, String>) -> bool {
    let value = namespace.get(&expression.key);
    let listed = || value.is_some_and(|value| expression.values.iter().flatten().any(|one| one == value));
    match expression.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => true,
    }
}

/// The most restrictive bound and the policy that asks it; of equal ones the first by name.
fn tightest<T: Copy>(
    policies: &[&ReleasePolicy],
    bound: impl Fn(&PolicySpec) -> Option<T>,
    tighter: impl Fn(T, T) -> bool,
) -> Option<(T, String)> {
    let mut found: Option<(T, String)> = None;
    for policy in policies {
        let name = policy.metadata.name.clone().unwrap_or_default();
        let Some(asked) = bound(&policy.spec) else { continue };
        let replaces = found
            .as_ref()
            .is_none_or(|(known, of)| tighter(asked, *known) || (!tighter(*known, asked) && name < *of));
        if replaces {
            found = Some((asked, name));
        }
    }
    found
}

/// The judge's knobs that a policy may bound: smaller is more careful.
fn knobs(policies: &[&ReleasePolicy], spec: &mut Spec, out: &mut Vec<Violation>) {
    let default = AnalysisSpec::default();
    let wished = &mut spec.analysis;
    let mut bound = |name: &str, bound: fn(&PolicySpec) -> Option<f64>, value: &mut f64, default: f64| {
        let Some((most, policy)) = tightest(policies, bound, |a, b| a < b) else { return };
        // A value that is no number is beyond every bound.
        if *value <= most {
            return;
        }
        if *value == default {
            *value = most;
        } else {
            out.push(violation(
                policy,
                &format!("spec.analysis.{name}"),
                format!("{value} is above {most}"),
                format!("write {most} or less"),
            ));
        }
    };
    bound("alpha", |policy| policy.max_alpha, &mut wished.alpha, default.alpha);
    bound("beta", |policy| policy.max_beta, &mut wished.beta, default.beta);
    bound("ratioMargin", |policy| policy.max_ratio_margin, &mut wished.ratio_margin, default.ratio_margin);
    bound("errorFloor", |policy| policy.max_error_floor, &mut wished.error_floor, default.error_floor);
    bound(
        "latency.tolerance",
        |policy| policy.max_latency_tolerance,
        &mut wished.latency.tolerance,
        default.latency.tolerance,
    );
}

fn holdback(policies: &[&ReleasePolicy], spec: &mut Spec, out: &mut Vec<Violation>) {
    let Some((least, policy)) = tightest(policies, |policy| policy.min_holdback, |a, b| a > b) else {
        return;
    };
    // After a proved half hour less is held back than the document says; never less than a policy asks.
    spec.release.soak.least_holdback = least;
    let holdback = &mut spec.release.soak.holdback;
    if *holdback >= least {
        return;
    }
    if *holdback == ReleaseSpec::default().soak.holdback {
        *holdback = least;
    } else {
        let what = format!("{holdback} is below {least}");
        out.push(violation(
            policy,
            "spec.release.soak.holdback",
            what,
            format!("write {} or more", percent::format(least)),
        ));
    }
}

fn soak(policies: &[&ReleasePolicy], spec: &mut Spec, out: &mut Vec<Violation>) {
    let Some((least, policy)) = tightest(policies, |policy| policy.min_soak, |a: Duration, b| a > b) else {
        return;
    };
    let time = &mut spec.release.soak.time;
    if *time >= least {
        return;
    }
    if *time == ReleaseSpec::default().soak.time {
        *time = least;
    } else {
        let (is, asked) = (human_duration::format(*time), human_duration::format(least));
        let what = format!("{is} is shorter than {asked}");
        out.push(violation(policy, "spec.release.soak.time", what, format!("write {asked} or more")));
    }
}

fn advance(policies: &[&ReleasePolicy], spec: &Spec, out: &mut Vec<Violation>) {
    let certified = |policy: &PolicySpec| policy.advance.filter(|advance| *advance == Advance::Certified);
    let Some((_, policy)) = tightest(policies, certified, |_, _| false) else { return };
    if spec.release.advance != Advance::Certified {
        let what = "steps must be certified".to_owned();
        out.push(violation(
            policy,
            "spec.release.advance",
            what,
            "write certified, or leave it out".to_owned(),
        ));
    }
}

/// No bound, but a grant: whom any of the platform's policies trusts.
fn trust(policies: &[&ReleasePolicy], spec: &mut Spec) {
    let named = policies.iter().flat_map(|policy| &policy.spec.trusted_principals);
    let all: BTreeSet<String> = named.cloned().collect();
    spec.analysis.trusted_principals = all.into_iter().collect();
}

fn steps(policies: &[&ReleasePolicy], spec: &mut Spec, out: &mut Vec<Violation>) {
    let end = spec.release.soak.holdback.rest();
    let over = spec.release.steps.iter().position(|step| step.share > end);
    if let (Some(index), Some((_, policy))) =
        (over, tightest(policies, |policy| policy.min_holdback, |a: Bps, b| a > b))
    {
        let what = format!("it is more than the {end} that the asked holdback leaves");
        let field = format!("spec.release.steps[{index}].share");
        out.push(violation(
            policy,
            &field,
            what,
            format!("end the steps at {} or below", percent::format(end)),
        ));
        return;
    }
    let Some((largest, policy)) = tightest(policies, |policy| policy.largest_step, |a: Bps, b| a < b) else {
        return;
    };
    let shares: Vec<Bps> = spec.release.steps.iter().map(|step| step.share).collect();
    let Some((index, from, to)) = first_leap(&shares, end, largest) else { return };
    let remedy = format!("rise by {} or less at a time", percent::format(largest));
    if spec.release.steps == ReleaseSpec::default().steps {
        match refined(&shares, end, largest) {
            Some(steps) => spec.release.steps = steps,
            None => {
                let what = format!("it takes more than {MAX_STEPS} steps of {largest}");
                out.push(violation(
                    policy,
                    "spec.release.steps",
                    what,
                    "let the policy allow larger steps".to_owned(),
                ));
            }
        }
        return;
    }
    let (field, what) = match spec.release.steps.get(index) {
        Some(_) => (
            format!("spec.release.steps[{index}].share"),
            format!("{from} to {to} is a rise above {largest}"),
        ),
        None => (
            "spec.release.steps".to_owned(),
            format!("the cutover from {from} to {to} is a rise above {largest}"),
        ),
    };
    out.push(violation(policy, &field, what, remedy));
}

/// The first rise above the bound: its index (past the end for the cutover) and both shares.
fn first_leap(shares: &[Bps], end: Bps, largest: Bps) -> Option<(usize, Bps, Bps)> {
    let mut before = Bps::ZERO;
    for (index, share) in shares.iter().copied().chain([end]).enumerate() {
        if share.get().saturating_sub(before.get()) > largest.get() {
            return Some((index, before, share));
        }
        before = share;
    }
    None
}

/// The same ramp with steps in between; `None` if there would be too many.
fn refined(shares: &[Bps], end: Bps, largest: Bps) -> Option<Vec<StepSpec>> {
    let mut steps = Vec::new();
    let mut before = Bps::ZERO;
    let mut push = |share| steps.push(StepSpec { share, min_time: Duration::ZERO, min_requests: 0 });
    for (index, share) in shares.iter().copied().chain([end]).enumerate() {
        let rise = share.get().checked_sub(before.get())?;
        let parts = rise.div_ceil(largest.get().max(1));
        if usize::from(parts) > MAX_STEPS {
            return None;
        }
        for part in 1..parts {
            let risen = u32::from(rise) * u32::from(part) / u32::from(parts);
            push(Bps::new(before.get() + u16::try_from(risen).ok()?).ok()?);
        }
        if index < shares.len() {
            push(share);
        }
        before = share;
    }
    (steps.len() <= MAX_STEPS && first_leap(&shares_of(&steps), end, largest).is_none()).then_some(steps)
}

fn shares_of(steps: &[StepSpec]) -> Vec<Bps> {
    steps.iter().map(|step| step.share).collect()
}

fn violation(policy: String, field: &str, what: String, remedy: String) -> Violation {
    Violation { policy, field: field.to_owned(), what, remedy }
}

// === impl Violation ===

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (ReleasePolicy {}); {}", self.field, self.what, self.policy, self.remedy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Homes, Writers, parse};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn spec(release: &str) -> Spec {
        let text = format!(
            "apiVersion: hueshift.dev/v1alpha1\nkind: BlueGreen\nmetadata: {{name: a}}\nspec:\n  service: a\n  \
             colors: {{blue: {{workload: {{name: b}}}}, green: {{workload: {{name: g}}}}}}\n{release}"
        );
        parse("f", text.as_bytes(), Writers::Owner, Homes::Any).unwrap().remove(0).spec
    }

    fn policy(name: &str, asks: Value) -> ReleasePolicy {
        ReleasePolicy::new(name, serde_json::from_value(asks).unwrap())
    }

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn told(policies: &[ReleasePolicy], spec: &Spec) -> Vec<String> {
        apply(policies, &BTreeMap::new(), spec).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn without_a_policy_a_document_stays_as_it_is() {
        let wished = spec("");
        assert_eq!(apply(&[], &BTreeMap::new(), &wished), Ok(wished));
    }

    #[test]
    fn what_nobody_wrote_takes_the_bound() {
        let asks = json!({
            "maxAlpha": 0.001, "minHoldback": "10%", "minSoak": "30m", "largestStep": "25%", "advance": "certified"
        });
        let effective = apply(&[policy("careful", asks)], &BTreeMap::new(), &spec("")).unwrap();
        assert_eq!(effective.analysis.alpha, 0.001);
        let soak = &effective.release.soak;
        assert_eq!(
            (soak.holdback, soak.least_holdback),
            (Bps::new(1_000).unwrap(), Bps::new(1_000).unwrap())
        );
        assert_eq!(effective.release.soak.time, Duration::from_secs(1_800));
        let shares: Vec<u16> = effective.release.steps.iter().map(|step| step.share.get()).collect();
        assert_eq!(shares, [500, 2_500, 5_000, 7_000], "the cutover to 90 % gets a step before it");
    }

    #[test]
    fn the_judges_knobs_are_bounded_each() {
        let asks = json!({"maxBeta": 0.01, "maxRatioMargin": 1.1, "maxErrorFloor": 0.0005, "maxLatencyTolerance": 1.1});
        let effective =
            apply(&[policy("careful", asks.clone())], &BTreeMap::new(), &spec("")).unwrap().analysis;
        assert_eq!((effective.beta, effective.ratio_margin, effective.error_floor), (0.01, 1.1, 0.0005));
        assert_eq!(effective.latency.tolerance, 1.1);
        let written =
            spec("  analysis: {beta: 0.1, ratioMargin: 3, errorFloor: 0.05, latency: {tolerance: 2}}\n");
        assert_eq!(
            told(&[policy("careful", asks)], &written),
            [
                "spec.analysis.beta: 0.1 is above 0.01 (ReleasePolicy careful); write 0.01 or less",
                "spec.analysis.ratioMargin: 3 is above 1.1 (ReleasePolicy careful); write 1.1 or less",
                "spec.analysis.errorFloor: 0.05 is above 0.0005 (ReleasePolicy careful); write 0.0005 or less",
                "spec.analysis.latency.tolerance: 2 is above 1.1 (ReleasePolicy careful); write 1.1 or less",
            ]
        );
    }

    #[test]
    fn whom_any_policy_trusts_is_trusted_and_nobody_else() {
        let trusts = |name: &str, principals: &[&str]| policy(name, json!({"trustedPrincipals": principals}));
        let (a, b) = ("cluster.local/ns/a/sa/gw", "cluster.local/ns/b/sa/gw");
        let both = [trusts("one", &[b]), trusts("two", &[b, a])];
        let effective = apply(&both, &BTreeMap::new(), &spec("")).unwrap();
        assert_eq!(effective.analysis.trusted_principals, [a, b]);
        // A policy that went away takes its trust along.
        let after = apply(&[], &BTreeMap::new(), &effective).unwrap();
        assert!(after.analysis.trusted_principals.is_empty());
    }

    #[test]
    fn what_somebody_wrote_is_a_violation_and_every_one_is_told() {
        let asks = json!({
            "maxAlpha": 0.01, "minHoldback": "5%", "minSoak": "30m", "largestStep": "25%", "advance": "certified"
        });
        let written = spec(
            "  release: {advance: unsuspicious, soak: {holdback: 1%, time: 1m}, steps: [{share: 10%}, {share: 60%}]}\n  \
             analysis: {alpha: 0.05}\n",
        );
        assert_eq!(
            told(&[policy("careful", asks)], &written),
            [
                "spec.analysis.alpha: 0.05 is above 0.01 (ReleasePolicy careful); write 0.01 or less",
                "spec.release.soak.holdback: 1 % is below 5 % (ReleasePolicy careful); write 5% or more",
                "spec.release.soak.time: 1m is shorter than 30m (ReleasePolicy careful); write 30m or more",
                "spec.release.advance: steps must be certified (ReleasePolicy careful); write certified, or leave it out",
                "spec.release.steps[1].share: 10 % to 60 % is a rise above 25 % (ReleasePolicy careful); rise by 25% or less at a time",
            ]
        );
    }

    #[test]
    fn the_cutover_is_a_step_too() {
        let written = spec("  release: {steps: [{share: 20%}, {share: 40%}]}\n");
        assert_eq!(
            told(&[policy("p", json!({"largestStep": "25%"}))], &written),
            [
                "spec.release.steps: the cutover from 40 % to 95 % is a rise above 25 % (ReleasePolicy p); rise by 25% or less at a time"
            ]
        );
    }

    #[test]
    fn the_most_restrictive_policy_wins_whatever_the_order() {
        let loose = policy("a", json!({"minSoak": "10m", "maxAlpha": 0.05}));
        let strict = policy("b", json!({"minSoak": "1h"}));
        for policies in [[loose.clone(), strict.clone()], [strict, loose]] {
            let effective = apply(&policies, &BTreeMap::new(), &spec("")).unwrap();
            assert_eq!(effective.release.soak.time, Duration::from_secs(3_600));
            let told = told(&policies, &spec("  release: {soak: {time: 20m}}\n"));
            assert!(told.len() == 1 && told[0].contains("ReleasePolicy b"), "{told:?}");
        }
    }

    #[test]
    fn a_policy_binds_the_namespaces_that_its_selector_names() {
        let binds_to = |selector: Value, namespace: &[(&str, &str)]| {
            let policy = policy("p", json!({"namespaceSelector": selector, "minSoak": "1h"}));
            binds(&policy.spec, &labels(namespace))
        };
        assert!(binds_to(json!({}), &[]));
        assert!(binds_to(json!({"matchLabels": {"tier": "prod"}}), &[("tier", "prod"), ("x", "y")]));
        assert!(!binds_to(json!({"matchLabels": {"tier": "prod"}}), &[("tier", "test")]));
        let expression = |operator: &str, values: Value| json!({"matchExpressions": [{"key": "tier", "operator": operator, "values": values}]});
        assert!(binds_to(expression("In", json!(["prod", "stage"])), &[("tier", "stage")]));
        assert!(!binds_to(expression("In", json!(["prod"])), &[]));
        assert!(binds_to(expression("NotIn", json!(["prod"])), &[]));
        assert!(!binds_to(expression("NotIn", json!(["prod"])), &[("tier", "prod")]));
        assert!(binds_to(expression("Exists", json!([])), &[("tier", "")]));
        assert!(!binds_to(expression("DoesNotExist", json!([])), &[("tier", "")]));
        assert!(binds_to(expression("Resembles", json!([])), &[]), "an unknown operator is no way out");
    }

    #[test]
    fn a_raised_holdback_does_not_leave_steps_beyond_it() {
        let written = spec("  release: {steps: [{share: 90%}]}\n");
        let told = told(&[policy("p", json!({"minHoldback": "20%"}))], &written);
        assert!(
            told.len() == 1 && told[0].starts_with("spec.release.steps[0].share: it is more than the 80 %"),
            "{told:?}"
        );
    }

    proptest! {
        /// Whatever policies ask: what is in force breaks none of them, and applying them again changes nothing.
        #[test]
        fn what_is_in_force_keeps_every_bound(
            asked in prop::collection::vec((1u16..=10_000, 0u16..=5_000, 0u64..100_000, 0.000_1f64..0.1), 0..4),
            shares in prop::collection::btree_set(1u16..=9_500, 1..6),
            (holdback, soak, alpha) in (0u16..=5_000, 0u64..100_000, 0.000_1f64..0.1),
            plain in any::<bool>(),
        ) {
            let bps = |value| Bps::new(value).unwrap();
            let policies: Vec<ReleasePolicy> = asked.iter().enumerate().map(|(index, (step, least, time, most))| {
                ReleasePolicy::new(&format!("p{index}"), PolicySpec {
                    largest_step: Some(bps(*step)),
                    min_holdback: Some(bps(*least)),
                    min_soak: Some(Duration::from_secs(*time)),
                    max_alpha: Some(*most),
                    ..PolicySpec::default()
                })
            }).collect();
            let mut wished = spec("");
            if !plain {
                wished.release.steps = shares
                    .into_iter()
                    .filter(|share| *share <= 10_000 - holdback)
                    .map(|share| StepSpec { share: bps(share), min_time: Duration::ZERO, min_requests: 0 })
                    .collect();
                wished.release.soak.holdback = bps(holdback);
                wished.release.soak.time = Duration::from_secs(soak);
                wished.analysis.alpha = alpha;
            }
            let Ok(effective) = apply(&policies, &BTreeMap::new(), &wished) else { return Ok(()) };
            for policy in &policies {
                let asks = &policy.spec;
                prop_assert!(asks.max_alpha.is_none_or(|most| effective.analysis.alpha <= most));
                prop_assert!(asks.min_holdback.is_none_or(|least| effective.release.soak.holdback >= least));
                prop_assert!(asks.min_soak.is_none_or(|least| effective.release.soak.time >= least));
                let end = effective.release.soak.holdback.rest();
                let shares = shares_of(&effective.release.steps);
                prop_assert!(shares.windows(2).all(|pair| pair[0] < pair[1]));
                prop_assert!(shares.iter().all(|share| *share <= end && *share > Bps::ZERO));
                prop_assert!(asks.largest_step.is_none_or(|most| first_leap(&shares, end, most).is_none()));
            }
            prop_assert_eq!(apply(&policies, &BTreeMap::new(), &effective), Ok(effective.clone()));
        }
    }
}
