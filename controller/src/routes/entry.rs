//! One http route: whose it is, and what of it is the user's.

use super::{Managed, Reason, RouteError};
use hueshift_core::color::Color;
use hueshift_core::contract::{COLOR_HEADER, PLAN_MARKER};
use hueshift_core::route_plan::{MAX_PLAN_CHARS, RoutePlan};
use serde_json::{Map, Value, json};

type Fields = Map<String, Value>;

/// Every http route of a VirtualService with what it is to us.
#[derive(Debug)]
pub(super) struct Survey<'a> {
    vs: &'a Value,
    /// `spec.http`.
    pub http: &'a [Value],
    /// One per route.
    pub kinds: Vec<Kind>,
}

/// What a route is judged by, beside itself.
#[derive(Debug, Clone, Copy)]
struct Ground<'a> {
    managed: &'a Managed,
    /// Leave alone what cannot be expressed.
    lenient: bool,
    /// The object has no hosts: another VirtualService delegates to it.
    delegate: bool,
}

/// What a route is to us.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// Not ours.
    Foreign,
    /// A pin copy; written anew from its default route.
    Pin(Color),
    /// A managed route.
    Default(Box<Template>),
}

/// The user's part of a managed route.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Template {
    /// The route but `match` and `route`.
    frame: Fields,
    /// The match without our plans; none: everything.
    matches: Vec<Fields>,
    /// The destination without subset and weight.
    destination: Fields,
    /// Only on the way back: destinations that we would not accept forward, and our weight beside them.
    beside: Option<(Value, Vec<Value>)>,
}

// === impl Survey ===

impl<'a> Survey<'a> {
    pub(super) fn take(vs: &'a Value, managed: &Managed) -> Result<Survey<'a>, RouteError> {
        let http = match vs.pointer("/spec/http") {
            None | Some(Value::Null) => &[][..],
            Some(Value::Array(list)) => list.as_slice(),
            Some(_) => return Err(refuse(vs, None, Reason::Malformed("spec.http is not a list".to_owned()))),
        };
        let open = http.iter().any(|route| is_marked(route, managed));
        let lenient = open && managed.leads_back();
        let hosts = vs.pointer("/spec/hosts").and_then(Value::as_array);
        let ground = Ground { managed, lenient, delegate: hosts.is_none_or(Vec::is_empty) };
        let mut survey = Survey { vs, http, kinds: Vec::with_capacity(http.len()) };
        let mut lost = Vec::new();
        let mut pinned = None;
        for (number, route) in http.iter().enumerate() {
            let marked = is_marked(route, managed);
            let kind = if let Some(color) = pin_color(route, managed) {
                pinned = destinations(route).next().map(|(_, destination)| bare(destination));
                Kind::Pin(color)
            } else if !marked && !is_selected(route, managed) {
                Kind::Foreign
            } else if !marked && knows_color_header(route) {
                lost.push(number);
                Kind::Foreign
            } else {
                match template(route, &ground, pinned.take().as_ref(), marked) {
                    Ok(template) => Kind::Default(Box::new(template)),
                    Err(_) if lenient => Kind::Foreign,
                    Err(reason) => return Err(refuse(vs, Some((number, route)), reason)),
                }
            };
            survey.kinds.push(kind);
        }
        for number in lost {
            survey.settle_lost_pin(number, managed, open, lenient)?;
        }
        if !lenient {
            survey.check_selection(managed, open)?;
        }
        Ok(survey)
    }

    /// A route that matches on the color header without our mark: a pin whose name was edited away, if it is
    /// otherwise a managed route's copy; else something of the user's that cannot work.
    fn settle_lost_pin(
        &mut self,
        number: usize,
        managed: &Managed,
        open: bool,
        lenient: bool,
    ) -> Result<(), RouteError> {
        let Some(route) = self.http.get(number) else { return Ok(()) };
        let copied = match_entries(route).map(|entry| nameless(&without_color(entry))).collect::<Vec<_>>();
        let is_copy = |kind: &Kind| match kind {
            Kind::Default(template) => {
                let original = template.matches.iter().map(nameless).collect::<Vec<_>>();
                let original = if original.is_empty() { vec![Fields::new()] } else { original };
                original == copied && template.frame.get("name") == route.get("name")
            }
            _ => false,
        };
        let color = match_entries(route).find_map(color_header);
        match color {
            Some(color) if (open || managed.plan().is_some()) && self.kinds.iter().any(is_copy) => {
                if let Some(kind) = self.kinds.get_mut(number) {
                    *kind = Kind::Pin(color);
                }
                Ok(())
            }
            _ if lenient => Ok(()),
            _ => Err(self.refuse(number, Reason::ReservedHeader)),
        }
    }

    fn check_selection(&self, managed: &Managed, open: bool) -> Result<(), RouteError> {
        if managed.routes.is_empty() {
            for kind in ["tcp", "tls"] {
                let list = self.vs.pointer(&format!("/spec/{kind}")).and_then(Value::as_array);
                let mut routes = list.into_iter().flatten();
                if routes.any(|route| points_at(route, managed)) {
                    return Err(refuse(self.vs, None, Reason::NotHttp(kind)));
                }
            }
        } else if !open {
            // In the middle of a release a route that was renamed is still known by its mark.
            let known =
                |name: &&String| self.http.iter().any(|route| http_name(route) == Some(name.as_str()));
            if let Some(name) = managed.routes.iter().find(|name| !known(name)) {
                return Err(refuse(self.vs, None, Reason::NoSuchRoute(name.clone())));
            }
        }
        if self.kinds.iter().any(|kind| matches!(kind, Kind::Default(_))) {
            return Ok(());
        }
        match self.http.iter().position(|route| route.get("delegate").is_some_and(|to| !to.is_null())) {
            Some(number) => Err(self.refuse(number, Reason::Delegate)),
            None => Err(refuse(self.vs, None, Reason::NothingPoints(managed.host()))),
        }
    }

    pub(super) fn refuse(&self, number: usize, reason: Reason) -> RouteError {
        refuse(self.vs, self.http.get(number).map(|route| (number, route)), reason)
    }
}

fn refuse(vs: &Value, route: Option<(usize, &Value)>, reason: Reason) -> RouteError {
    let field = |path: &str| vs.pointer(path).and_then(Value::as_str).unwrap_or("?");
    let mut place = format!("VirtualService {}/{}", field("/metadata/namespace"), field("/metadata/name"));
    if let Some((number, route)) = route {
        place.push_str(&format!(", http route {}", place_of(number, route)));
    }
    RouteError { place, reason }
}

/// A route as people find it: its number from 1, and its name.
pub(super) fn place_of(number: usize, route: &Value) -> String {
    match http_name(route) {
        Some(name) => format!("{} (`{name}`)", number + 1),
        None => (number + 1).to_string(),
    }
}

// === impl Template ===

impl Template {
    /// The routes that stand for it: the short form, or pins and the weighted default.
    pub(super) fn write(&self, managed: &Managed) -> Result<Vec<Value>, Reason> {
        let Some(plan) = managed.plan() else {
            let route = self.destinations(managed, &[managed.route.stable]);
            return Ok(vec![self.with(self.matches.clone(), route)]);
        };
        let text = plan.encode();
        let original = if self.matches.is_empty() { vec![Fields::new()] } else { self.matches.clone() };
        let named =
            original.into_iter().map(|entry| with_plan(entry, &text)).collect::<Result<Vec<_>, _>>()?;
        let mut routes = Vec::with_capacity(3);
        for color in managed.pins() {
            let matches = named.iter().map(|entry| with_color(entry.clone(), *color)).collect();
            routes.push(self.with(matches, vec![self.destination(managed, *color)]));
        }
        let both = if self.beside.is_some() { &[managed.route.stable][..] } else { &Color::BOTH };
        let mut weighted = self.destinations(managed, both);
        if self.beside.is_none() {
            for (destination, color) in weighted.iter_mut().zip(Color::BOTH) {
                if let Some(fields) = destination.as_object_mut() {
                    fields.insert("weight".to_owned(), json!(managed.weight(color).get()));
                }
            }
        }
        routes.push(self.with(named, weighted));
        Ok(routes)
    }

    fn with(&self, matches: Vec<Fields>, route: Vec<Value>) -> Value {
        let mut fields = self.frame.clone();
        if !matches.is_empty() {
            fields.insert("match".to_owned(), matches.into_iter().map(Value::Object).collect());
        }
        fields.insert("route".to_owned(), Value::Array(route));
        Value::Object(fields)
    }

    fn destinations(&self, managed: &Managed, colors: &[Color]) -> Vec<Value> {
        let ours = colors.iter().map(|color| self.destination(managed, *color));
        let Some((weight, others)) = &self.beside else { return ours.collect() };
        let weighted = ours.map(|mut destination| {
            if let Some(fields) = destination.as_object_mut() {
                fields.insert("weight".to_owned(), weight.clone());
            }
            destination
        });
        weighted.chain(others.iter().cloned()).collect()
    }

    fn destination(&self, managed: &Managed, color: Color) -> Value {
        let mut fields = self.destination.clone();
        if let Some(Value::Object(inner)) = fields.get_mut("destination") {
            inner.insert("subset".to_owned(), json!(managed.subsets.get(color)));
        }
        Value::Object(fields)
    }
}

/// The user's part of a managed route, or why it cannot be one. `pinned` is the destination as the pins above it
/// have it: what the user edited at one of the two weighted destinations differs from it.
fn template(
    route: &Value,
    ground: &Ground<'_>,
    pinned: Option<&Fields>,
    marked: bool,
) -> Result<Template, Reason> {
    let managed = ground.managed;
    let Value::Object(fields) = route else {
        return Err(Reason::Malformed("an http route is not an object".to_owned()));
    };
    let mut frame = fields.clone();
    let matches = match frame.remove("match") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(entries)) => unnamed(entries, managed)?,
        Some(_) => return Err(Reason::Malformed("its match is not a list".to_owned())),
    };
    if matches.is_empty() && ground.delegate && !marked {
        return Err(Reason::DelegateCatchAll);
    }
    let list = match frame.remove("route") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(Reason::Malformed("its route is not a list".to_owned())),
    };
    let (ours, others): (Vec<Value>, Vec<Value>) =
        list.into_iter().partition(|entry| host(entry).is_some_and(|host| managed.is_meant(host)));
    if ours.is_empty() {
        return Err(if frame.contains_key("delegate") {
            Reason::Delegate
        } else if let Some(field) =
            ["redirect", "directResponse"].into_iter().find(|f| frame.contains_key(*f))
        {
            Reason::NoDestination(field)
        } else {
            Reason::PointsElsewhere(managed.host())
        });
    }
    if !(ground.lenient && marked) {
        if let Some(other) = others.first() {
            return Err(Reason::OtherService(host(other).unwrap_or("a destination without host").to_owned()));
        }
        if let Some(half) = ours.iter().filter_map(host).find(|host| !managed.is_service(host)) {
            return Err(Reason::HalfHost(half.to_owned(), managed.host()));
        }
        if !marked {
            check_own_destinations(&ours, managed)?;
        }
    }
    let weight = ours.iter().filter_map(|entry| entry.get("weight")?.as_u64()).sum::<u64>();
    let beside = (!others.is_empty()).then(|| (json!(weight), others));
    let destination = original(&ours, managed, pinned);
    Ok(Template { frame, matches, destination, beside })
}

/// Unmarked destinations of the service: one, or our own split (both colors, basis points) whose mark was lost.
fn check_own_destinations(ours: &[Value], managed: &Managed) -> Result<(), Reason> {
    let color = |entry: &Value| managed.color_of_subset(subset(entry)?);
    match ours {
        [one] => match subset(one) {
            Some(subset) if managed.color_of_subset(subset).is_none() => {
                Err(Reason::OwnSubset(subset.to_owned()))
            }
            _ => Ok(()),
        },
        [first, second] => {
            let weights = [first, second].into_iter().filter_map(|entry| entry.get("weight")?.as_u64());
            let both = color(first).is_some() && color(first).map(Color::other) == color(second);
            if both && weights.sum::<u64>() == 10_000 { Ok(()) } else { Err(Reason::OwnSplit) }
        }
        _ => Err(Reason::OwnSplit),
    }
}

/// The destination that both colors share. If the user edited one of the weighted pair, it is the edited one.
fn original(ours: &[Value], managed: &Managed, pinned: Option<&Fields>) -> Fields {
    let stable = managed.subsets.get(managed.route.stable);
    let mut candidates = ours.iter().filter(|entry| subset(entry) == Some(stable)).collect::<Vec<_>>();
    candidates.extend(ours.iter().filter(|entry| subset(entry) != Some(stable)));
    let mut bared = candidates.into_iter().map(bare).collect::<Vec<_>>();
    let edited = bared.iter().position(|fields| pinned.is_some_and(|pinned| pinned != fields)).unwrap_or(0);
    if bared.is_empty() { Fields::new() } else { bared.swap_remove(edited) }
}

/// Match entries without our plans; a single entry that then says nothing is no match.
fn unnamed(entries: Vec<Value>, managed: &Managed) -> Result<Vec<Fields>, Reason> {
    let mut matches = Vec::with_capacity(entries.len());
    for entry in entries {
        let Value::Object(mut fields) = entry else {
            return Err(Reason::Malformed("a match is not an object".to_owned()));
        };
        if let Some(Value::String(name)) = fields.get("name") {
            let own = own_name(name, managed).map(str::to_owned);
            if let Some(id) = own.as_deref().and_then(|own| RoutePlan::decode(own.as_bytes()).ok()) {
                return Err(Reason::Claimed(id.plan.id));
            }
            match own {
                Some(own) => fields.insert("name".to_owned(), Value::String(own)),
                None => fields.remove("name"),
            };
        }
        matches.push(fields);
    }
    if matches.len() == 1 {
        matches.retain(|only| !only.is_empty());
    }
    Ok(matches)
}

fn with_plan(mut entry: Fields, plan: &str) -> Result<Fields, Reason> {
    let name = match entry.get("name").and_then(Value::as_str) {
        Some(own) => format!("{own}.{plan}"),
        None => plan.to_owned(),
    };
    let chars = name.chars().count();
    if chars > MAX_PLAN_CHARS {
        return Err(Reason::NameTooLong { chars, most: MAX_PLAN_CHARS });
    }
    entry.insert("name".to_owned(), Value::String(name));
    Ok(entry)
}

fn with_color(mut entry: Fields, color: Color) -> Fields {
    let exact = json!({"exact": color.as_str()});
    match entry.get_mut("headers") {
        Some(Value::Object(headers)) => {
            headers.insert(COLOR_HEADER.to_owned(), exact);
        }
        _ => {
            entry.insert("headers".to_owned(), json!({COLOR_HEADER: exact}));
        }
    }
    entry
}

fn without_color(entry: &Fields) -> Fields {
    let mut entry = entry.clone();
    if let Some(Value::Object(headers)) = entry.get_mut("headers") {
        headers.retain(|name, _| !name.eq_ignore_ascii_case(COLOR_HEADER));
        if headers.is_empty() {
            entry.remove("headers");
        }
    }
    entry
}

fn nameless(entry: &Fields) -> Fields {
    let mut entry = entry.clone();
    entry.remove("name");
    entry
}

/// A weighted destination without what is ours.
fn bare(entry: &Value) -> Fields {
    let mut fields = entry.as_object().cloned().unwrap_or_default();
    fields.remove("weight");
    if let Some(Value::Object(destination)) = fields.get_mut("destination") {
        destination.remove("subset");
    }
    fields
}

// === reading ===

/// The pin's color, if a route is one of ours: a match entry with both our mark and the color header.
fn pin_color(route: &Value, managed: &Managed) -> Option<Color> {
    match_entries(route).filter(|entry| entry_is_marked(entry, managed)).find_map(color_header)
}

fn color_header(entry: &Fields) -> Option<Color> {
    let exact = entry.get("headers")?.get(COLOR_HEADER)?.get("exact")?.as_str()?;
    Color::BOTH.into_iter().find(|color| color.as_str() == exact)
}

fn knows_color_header(route: &Value) -> bool {
    match_entries(route).any(|entry| {
        let headers =
            ["headers", "withoutHeaders"].into_iter().filter_map(|field| entry.get(field)?.as_object());
        headers.flat_map(|headers| headers.keys()).any(|name| name.eq_ignore_ascii_case(COLOR_HEADER))
    })
}

fn is_marked(route: &Value, managed: &Managed) -> bool {
    match_entries(route).any(|entry| entry_is_marked(entry, managed))
}

fn entry_is_marked(entry: &Fields, managed: &Managed) -> bool {
    entry.get("name").and_then(Value::as_str).is_some_and(|name| mark(name, managed).is_some())
}

/// Where our plan begins in a match name: also one that somebody damaged behind the service's id.
fn mark(name: &str, managed: &Managed) -> Option<usize> {
    let marker = format!("{PLAN_MARKER}{}", managed.id);
    name.match_indices(&marker).map(|(at, _)| at).find(|at| {
        let before = name.get(..*at).and_then(|before| before.chars().next_back());
        matches!(before, None | Some('.' | '-'))
    })
}

/// The user's own part of a match name.
fn own_name<'a>(name: &'a str, managed: &Managed) -> Option<&'a str> {
    match mark(name, managed) {
        None => Some(name),
        Some(at) => name.get(..at.checked_sub(1)?),
    }
}

fn is_selected(route: &Value, managed: &Managed) -> bool {
    match http_name(route) {
        _ if managed.routes.is_empty() => points_at(route, managed),
        Some(name) => managed.routes.iter().any(|listed| listed == name),
        None => false,
    }
}

fn points_at(route: &Value, managed: &Managed) -> bool {
    destinations(route).any(|(host, _)| managed.is_meant(host))
}

/// The destinations of a route with their hosts.
pub(super) fn destinations(route: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let list = route.get("route").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(|entry| Some((host(entry)?, entry)))
}

fn host(entry: &Value) -> Option<&str> {
    entry.pointer("/destination/host")?.as_str()
}

/// The subset of a weighted destination.
pub(super) fn subset(entry: &Value) -> Option<&str> {
    entry.pointer("/destination/subset")?.as_str().filter(|subset| !subset.is_empty())
}

pub(super) fn http_name(route: &Value) -> Option<&str> {
    route.get("name")?.as_str()
}

fn match_entries(route: &Value) -> impl Iterator<Item = &Fields> {
    let list = route.get("match").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_object)
}

/// The names of a route's match entries that carry our mark, with their positions.
pub(super) fn marked_names<'a>(
    route: &'a Value,
    managed: &'a Managed,
) -> impl Iterator<Item = (usize, &'a str)> {
    let list = route.get("match").and_then(Value::as_array);
    let names = list.into_iter().flatten().enumerate();
    let names = names.filter_map(|(at, entry)| Some((at, entry.get("name")?.as_str()?)));
    names.filter(|(_, name)| mark(name, managed).is_some())
}
