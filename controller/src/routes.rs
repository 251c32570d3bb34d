//! The routes of one service in the user's VirtualService: `rewrite` says what the object must be, and nothing
//! here touches a cluster.
//!
//! The object is the user's. Of a managed http route we own three things and no more: the plan in
//! `match[].name`, the destinations' subsets and weights, and the pin routes. All else in it, all other http
//! routes and every field that we do not know is handed on as it came. While a plan is open a managed route is
//! written as pin green, pin blue and the weighted default, so that the split holds even where no filter runs;
//! an idle route is the user's own, with the live color's subset at its one destination.
//!
//! - **Both destinations are always listed while a plan is open**, also with weight 0. istiod drops a weight of 0
//!   from the weighted cluster, so it costs nothing and reaches nothing; and a release then changes only numbers and
//!   names at fixed places, which is what lets a rollback be a small JSON Patch.
//! - **Pin routes exist only while the candidate has a share and is not condemned.** Where a filter is dead (it
//!   fails open) a client's own color header would be the only thing that steers, and must not reach a condemned
//!   color.
//! - **A catch-all without a match gets one entry with a name only.** istiod translates it to prefix `/` without
//!   conditions and still knows it as a catch-all.
//! - **The default route is the original.** Pins are written anew from it each time, so whatever the user edits
//!   there reaches them; edits of a pin copy are undone, and named as drift.
//! - **The way back is open.** While a plan is taken back or closed, what cannot be expressed (a route that the user
//!   added or changed in the middle of a release) is left as it is instead of refusing the whole write.
//!
//! When a service is adopted its managed routes take one canonical form: the subset is named, a weight at a single
//! destination (it means nothing) is dropped, and so is a match that says nothing (`[]`, `[{}]`). From then on
//! closing a release gives back exactly what was there before it.

mod entry;
mod patch;
mod read;
mod refusal;
mod subsets;
mod visibility;

pub use patch::rollback_patch;
pub use read::{Difference, Drift, Found, read};
pub use refusal::{Reason, RouteError};
pub use subsets::{
    Outcome, Released, SubsetConflict, SubsetReason, Subsets, chosen_rule, destination_rule, named_subsets,
    released_destination_rule, rule_patch,
};
pub use visibility::{Hidden, concerns, hidden, mesh_policy};

use entry::{Kind, Survey};
use hueshift_core::color::{Color, PerColor};
use hueshift_core::contract::ServiceId;
use hueshift_core::release::Route;
use hueshift_core::route_plan::{Pins, RoutePlan};
use hueshift_core::share::Bps;
use serde_json::Value;

/// Which http routes of a VirtualService are ours, and what they are to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Managed {
    /// The service's id: our mark in a match name. Needed for idle routes too, to find what is left of a plan.
    pub id: ServiceId,
    /// Namespace of the BlueGreen, its Service and its VirtualService.
    pub namespace: String,
    /// Name of the Service.
    pub service: String,
    /// The cluster's domain, `cluster.local`.
    pub domain: String,
    /// Names of the managed http routes; none: all that point at the service.
    pub routes: Vec<String>,
    /// The subset of each color.
    pub subsets: PerColor<String>,
    /// What the routes are to say.
    pub route: Route,
}

/// The VirtualService as it must be. Idempotent; everything that is not ours comes back as it was.
///
/// # Errors
/// What the rewrite cannot express, with place, reason and remedy; the object is then left alone.
pub fn rewrite(vs: &Value, managed: &Managed) -> Result<Value, RouteError> {
    let survey = Survey::take(vs, managed)?;
    let mut http = Vec::new();
    for (number, kind) in survey.kinds.iter().enumerate() {
        match kind {
            Kind::Foreign => http.extend(survey.http.get(number).cloned()),
            Kind::Pin(_) => {}
            Kind::Default(template) => {
                http.extend(template.write(managed).map_err(|reason| survey.refuse(number, reason))?);
            }
        }
    }
    let mut written = vs.clone();
    if let Some(list) = written.pointer_mut("/spec/http") {
        *list = Value::Array(http);
    }
    Ok(written)
}

/// The VirtualService when its BlueGreen is deleted: the plan is cut off, and traffic stays on the live color. The
/// subset stays named: without it the Service's both colors would answer.
///
/// # Errors
/// As [`rewrite`].
pub fn release(vs: &Value, managed: &Managed) -> Result<Value, RouteError> {
    let route = Route { stable: managed.route.stable, plan: None };
    rewrite(vs, &Managed { route, ..managed.clone() })
}

// === impl Managed ===

impl Managed {
    /// The same routes, told something else.
    pub fn with(&self, route: Route) -> Managed {
        Managed { route, ..self.clone() }
    }

    /// Whether a host in an object of this namespace is the service to istiod: its short name or its full one.
    pub fn is_service(&self, host: &str) -> bool {
        host == self.service || host == self.host()
    }

    /// Whether somebody meant the service by this host. istiod completes only names without a dot; the forms in
    /// between lead nowhere.
    fn is_meant(&self, host: &str) -> bool {
        let Some(rest) = host.strip_prefix(self.service.as_str()) else { return false };
        let Some(rest) = rest.strip_prefix('.') else { return rest.is_empty() };
        let Some(rest) = rest.strip_prefix(self.namespace.as_str()) else { return false };
        rest.is_empty() || rest == ".svc" || rest.strip_prefix(".svc.") == Some(self.domain.as_str())
    }

    /// The service's full name.
    pub fn host(&self) -> String {
        format!("{}.{}.svc.{}", self.service, self.namespace, self.domain)
    }

    fn plan(&self) -> Option<&RoutePlan> {
        self.route.plan.as_ref()
    }

    /// The colors that get a pin route, in written order.
    fn pins(&self) -> &'static [Color] {
        match self.plan() {
            Some(plan) if plan.limit > Bps::ZERO && plan.pins != Pins::Condemned => {
                &[Color::Green, Color::Blue]
            }
            _ => &[],
        }
    }

    /// The weight of a color in the default route.
    fn weight(&self, color: Color) -> Bps {
        let limit = self.plan().map_or(Bps::ZERO, |plan| plan.limit);
        if color == self.route.stable { limit.rest() } else { limit }
    }

    /// Whether this write takes traffic away from the candidate or closes its release.
    fn leads_back(&self) -> bool {
        self.plan().is_none_or(|plan| plan.pins == Pins::Condemned)
    }

    fn color_of_subset(&self, subset: &str) -> Option<Color> {
        Color::BOTH.into_iter().find(|color| self.subsets.get(*color) == subset)
    }
}

#[cfg(test)]
mod tests;
