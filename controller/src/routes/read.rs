//! What a VirtualService says now, and in words how it differs from what it should say.

use super::entry::{Kind, Survey, marked_names, place_of, subset};
use super::{Managed, RouteError, rewrite};
use hueshift_core::color::Color;
use hueshift_core::release::Route;
use hueshift_core::route_plan::RoutePlan;
use serde_json::Value;
use std::fmt;

/// A VirtualService as observed.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The newest plan of ours anywhere in it with its stable color, or the one color that its idle managed routes
    /// name. None: no plan, and no such color (never adopted, or edited away).
    pub route: Option<Route>,
    /// Whether it is exactly what [`rewrite`] would write.
    pub exact: bool,
    /// How the managed routes differ from that.
    pub drift: Vec<Drift>,
    /// Why it cannot be rewritten.
    pub refused: Option<RouteError>,
}

/// One difference at one managed route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// Number (from 1) and name of the http route.
    pub route: String,
    /// What differs there.
    pub what: Difference,
}

/// What differs at a managed route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// It names no subset where the live color is wanted.
    NoSubset,
    /// Its destinations are others: as it is, as it should be.
    Destinations(String, String),
    /// It carries no plan.
    PlanMissing,
    /// It carries another plan than the wanted one.
    OtherPlan,
    /// It carries a plan although no release is open.
    PlanLeft,
    /// A pin route is missing.
    PinMissing(Color),
    /// There are pin routes that should not be.
    PinLeft(Color),
    /// A pin route was edited, moved or doubled.
    PinEdited(Color),
    /// Something else in its match or form.
    Form,
}

/// Reads a VirtualService; total, whatever is in it.
pub fn read(vs: &Value, managed: &Managed) -> Found {
    let plan = newest_plan(vs, managed);
    match (Survey::take(vs, managed), rewrite(vs, managed)) {
        (Ok(survey), Ok(wanted)) => {
            let route = match plan {
                Some(plan) => Some(Route { stable: plan.stable, plan: Some(plan) }),
                None => idle_color(&survey, managed).map(|stable| Route { stable, plan: None }),
            };
            let exact = *vs == wanted;
            let drift = if exact { Vec::new() } else { drift(&survey, &wanted, managed) };
            Found { route, exact, drift, refused: None }
        }
        (Err(refused), _) | (_, Err(refused)) => Found {
            route: plan.map(|plan| Route { stable: plan.stable, plan: Some(plan) }),
            exact: false,
            drift: Vec::new(),
            refused: Some(refused),
        },
    }
}

/// A partial edit can leave plans of several epochs; the newest is what was meant last.
fn newest_plan(vs: &Value, managed: &Managed) -> Option<RoutePlan> {
    let http = vs.pointer("/spec/http")?.as_array()?;
    let names = http.iter().flat_map(|route| marked_names(route, managed));
    let plans = names.filter_map(|(_, name)| Some(RoutePlan::decode(name.as_bytes()).ok()?.plan));
    plans.filter(|plan| plan.id == managed.id).max_by_key(|plan| (plan.release, plan.epoch))
}

/// The color of all idle managed routes, if they agree.
fn idle_color(survey: &Survey<'_>, managed: &Managed) -> Option<Color> {
    let defaults = survey.http.iter().zip(&survey.kinds).filter(|(_, kind)| matches!(kind, Kind::Default(_)));
    let mut colors = defaults.map(|(route, _)| match destinations(route) {
        [only] => managed.color_of_subset(subset(only)?),
        _ => None,
    });
    let first = colors.next()??;
    colors.all(|color| color == Some(first)).then_some(first)
}

fn drift(survey: &Survey<'_>, wanted: &Value, managed: &Managed) -> Vec<Drift> {
    let wanted = wanted.pointer("/spec/http").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut rest = wanted.iter();
    let mut found = Vec::new();
    let mut pins = Vec::new();
    for (number, (route, kind)) in survey.http.iter().zip(&survey.kinds).enumerate() {
        let mut note = |what| found.push(Drift { route: place_of(number, route), what });
        match kind {
            Kind::Foreign => {
                pins.drain(..).for_each(|(color, _)| note(Difference::PinLeft(color)));
                rest.next();
            }
            Kind::Pin(color) => pins.push((*color, route)),
            Kind::Default(_) => {
                let should = managed.pins();
                let copies = rest.by_ref().take(should.len()).collect::<Vec<_>>();
                let order = pins.iter().map(|(color, _)| should.iter().position(|wanted| wanted == color));
                let moved = !order.is_sorted();
                for (color, copy) in should.iter().zip(copies) {
                    match pins.iter().filter(|(pin, _)| pin == color).collect::<Vec<_>>().as_slice() {
                        [] => note(Difference::PinMissing(*color)),
                        [(_, route)] if *route == copy && !moved => {}
                        _ => note(Difference::PinEdited(*color)),
                    }
                }
                let left = pins.drain(..).filter(|(color, _)| !should.contains(color));
                left.for_each(|(color, _)| note(Difference::PinLeft(color)));
                if let Some(then) = rest.next().filter(|then| *then != route) {
                    default_drift(route, then, managed).into_iter().for_each(note);
                }
            }
        }
    }
    for (color, route) in pins {
        let number = survey.http.iter().position(|other| std::ptr::eq(other, route)).unwrap_or_default();
        found.push(Drift { route: place_of(number, route), what: Difference::PinLeft(color) });
    }
    found.dedup();
    found
}

fn default_drift(now: &Value, then: &Value, managed: &Managed) -> Vec<Difference> {
    let mut found = Vec::new();
    let names = |route| marked_names(route, managed).map(|(_, name)| name.to_owned()).collect::<Vec<_>>();
    let (has, wants) = (names(now), names(then));
    match (has.is_empty(), wants.is_empty()) {
        _ if has == wants => {}
        (true, _) => found.push(Difference::PlanMissing),
        (false, true) => found.push(Difference::PlanLeft),
        (false, false) if has.len() < wants.len() => found.push(Difference::PlanMissing),
        (false, false) => found.push(Difference::OtherPlan),
    }
    let (is, should) = (destinations(now), destinations(then));
    if is != should {
        let plain = is.len() == 1 && is.iter().all(|only| subset(only).is_none());
        found.push(if plain && should.len() == 1 {
            Difference::NoSubset
        } else {
            Difference::Destinations(in_words(is), in_words(should))
        });
    }
    if found.is_empty() {
        found.push(Difference::Form);
    }
    found
}

fn destinations(route: &Value) -> &[Value] {
    route.get("route").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// `blue 9500, green 500`
fn in_words(destinations: &[Value]) -> String {
    let each = destinations.iter().map(|entry| {
        let host = || entry.pointer("/destination/host").and_then(Value::as_str).unwrap_or("nothing");
        let name = subset(entry).map_or_else(|| format!("{} without subset", host()), str::to_owned);
        match entry.get("weight").filter(|_| destinations.len() > 1) {
            Some(weight) => format!("{name} {weight}"),
            None => name,
        }
    });
    let words = each.collect::<Vec<_>>().join(", ");
    if words.is_empty() { "nothing".to_owned() } else { words }
}

// === impl Drift ===

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http route {} {}", self.route, self.what)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::NoSubset => f.write_str("names no subset, so both colors answer"),
            Difference::Destinations(is, should) => write!(f, "sends to {is} instead of {should}"),
            Difference::PlanMissing => f.write_str("lost its plan"),
            Difference::OtherPlan => f.write_str("carries another plan than the one in force"),
            Difference::PlanLeft => f.write_str("carries a plan although no release is open"),
            Difference::PinMissing(color) => write!(f, "lost its pin route for {color}"),
            Difference::PinLeft(color) => write!(f, "has a pin route for {color} that should not be there"),
            Difference::PinEdited(color) => {
                write!(f, "has a pin route for {color} that was edited, moved or doubled")
            }
            Difference::Form => f.write_str("is written in another form"),
        }
    }
}
