//! A proxy made of maps, for tests. It counts the calls that return bytes, because those are the filter's cost.

use crate::host::{Host, Level, Refused, SharedError, property};
use crate::problem::Problem;
use crate::stream::Stream;
use crate::vm::Vm;
use hueshift_core::color::Color;
use hueshift_core::contract::Report;
use std::collections::BTreeMap;

/// The fake proxy. Fields are what the next calls find, and what the filter did.
#[derive(Debug, Default)]
pub struct FakeHost {
    pub now_us: u64,
    pub properties: BTreeMap<String, Vec<u8>>,
    pub request_headers: Vec<(Vec<u8>, Vec<u8>)>,
    pub headers_unreadable: bool,
    pub response_headers: BTreeMap<String, Vec<u8>>,
    pub response_trailers: BTreeMap<String, Vec<u8>>,
    pub shared: BTreeMap<String, (Vec<u8>, u32)>,
    pub call_status: Option<Vec<u8>>,
    pub call_body: Vec<u8>,
    pub plugin_config: Vec<u8>,
    /// Everything that can be refused is.
    pub refuse: bool,

    /// Calls so far that returned bytes.
    pub byte_calls: u32,
    pub posts: Vec<(String, Vec<u8>)>,
    pub tick_ms: u32,
    pub counters: Vec<(String, u64)>,
    pub lines: Vec<String>,
    next_cas: u32,
}

// === impl FakeHost ===

impl FakeHost {
    fn returned<T>(&mut self, value: Option<T>) -> Option<T> {
        self.byte_calls += u32::from(value.is_some());
        value
    }

    /// A new request: the proxy forgets what belonged to the last one.
    pub fn request(&mut self, route_name: &str, headers: &[(&str, &str)]) {
        self.properties.remove(property::MARK);
        self.properties.remove(property::RESPONSE_FLAGS);
        self.properties.insert(property::ROUTE_NAME.to_owned(), route_name.as_bytes().to_vec());
        self.request_headers = headers
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
            .collect();
        self.response_headers.clear();
        self.response_trailers.clear();
    }

    /// The color that the request was sent to, if the filter chose one.
    pub fn color(&self) -> Option<String> {
        let mut values = self.request_headers.iter().filter(|(name, _)| name == b"x-hueshift-color");
        let value = values.next().map(|(_, value)| String::from_utf8(value.clone()).unwrap());
        assert!(values.next().is_none(), "two color headers");
        value
    }

    /// The value of a statistic.
    pub fn counter(&self, name: &str) -> u64 {
        self.counters.iter().find(|(known, _)| known == name).map_or(0, |(_, value)| *value)
    }
}

impl Host for FakeHost {
    fn property(&mut self, path: &str) -> Option<Vec<u8>> {
        let value = self.properties.get(path).cloned();
        self.returned(value)
    }

    fn request_headers(&mut self) -> Option<Vec<u8>> {
        let all = &self.request_headers;
        let mut raw = (all.len() as u32).to_le_bytes().to_vec();
        for text in all.iter().flat_map(|(name, value)| [name, value]) {
            raw.extend((text.len() as u32).to_le_bytes());
        }
        for text in all.iter().flat_map(|(name, value)| [name, value]) {
            raw.extend(text);
            raw.push(0);
        }
        let readable = !self.headers_unreadable;
        self.returned(readable.then_some(raw))
    }

    fn response_header(&mut self, name: &str) -> Option<Vec<u8>> {
        let value = self.response_headers.get(name).cloned();
        self.returned(value)
    }

    fn response_trailer(&mut self, name: &str) -> Option<Vec<u8>> {
        let value = self.response_trailers.get(name).cloned();
        self.returned(value)
    }

    fn shared(&mut self, key: &str) -> Option<(Vec<u8>, u32)> {
        let value = self.shared.get(key).cloned();
        self.returned(value)
    }

    fn call_status(&mut self) -> Option<Vec<u8>> {
        self.call_status.clone()
    }

    fn call_body(&mut self, max: usize) -> Option<Vec<u8>> {
        Some(self.call_body.iter().take(max).copied().collect())
    }

    fn plugin_config(&mut self) -> Option<Vec<u8>> {
        Some(self.plugin_config.clone())
    }

    fn now_us(&mut self) -> u64 {
        self.now_us
    }

    fn set_property(&mut self, path: &str, value: &[u8]) -> Result<(), Refused> {
        self.properties.insert(path.to_owned(), value.to_vec());
        Ok(())
    }

    fn set_request_header(&mut self, name: &str, value: &str) -> Result<(), Refused> {
        if self.refuse {
            return Err(Refused);
        }
        self.request_headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name.as_bytes()));
        self.request_headers.push((name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        Ok(())
    }

    fn set_shared(&mut self, key: &str, value: &[u8], cas: u32) -> Result<(), SharedError> {
        if self.refuse {
            return Err(SharedError::Refused);
        }
        if self.shared.get(key).is_some_and(|(_, current)| cas != 0 && cas != *current) {
            return Err(SharedError::Changed);
        }
        self.next_cas += 1;
        self.shared.insert(key.to_owned(), (value.to_vec(), self.next_cas));
        Ok(())
    }

    fn post(&mut self, cluster: &str, path: &str, body: &[u8], _timeout_ms: u32) -> Result<(), Refused> {
        if self.refuse {
            return Err(Refused);
        }
        self.posts.push((format!("{cluster}{path}"), body.to_vec()));
        Ok(())
    }

    fn tick_every(&mut self, ms: u32) {
        self.tick_ms = ms;
    }

    fn define_counter(&mut self, name: &str) -> Option<u32> {
        if self.refuse {
            return None;
        }
        let known = self.counters.iter().position(|(known, _)| known == name);
        let id = known.unwrap_or_else(|| {
            self.counters.push((name.to_owned(), 0));
            self.counters.len() - 1
        });
        Some(id as u32)
    }

    fn count(&mut self, counter: u32, by: u64) {
        self.counters[counter as usize].1 += by;
    }

    fn log(&mut self, _level: Level, line: &str) {
        self.lines.push(line.to_owned());
    }
}

/// A worker with its proxy, driven as Envoy drives it.
pub struct Rig {
    pub vm: Vm,
    pub host: FakeHost,
}

/// A plan of service `0123456789abcdef`.
pub fn route(release: u32, epoch: u64, limit: u16) -> String {
    format!("route.hs1.0123456789abcdef.r{release}.e{epoch}.sb.l{limit}.pk.v1.kh-x-user")
}

impl Rig {
    /// One that is configured.
    pub fn new() -> Rig {
        Rig::with("")
    }

    /// One with more in its configuration (`,"name":value`).
    pub fn with(more: &str) -> Rig {
        let mut rig = Rig::bare();
        let hex = "ab".repeat(32);
        let json = format!(r#"{{"cluster":"ctl","keys":[{{"version":1,"hex":"{hex}"}}]{more}}}"#);
        rig.vm.configure(1, json.as_bytes(), &mut rig.host);
        assert!(rig.vm.config.is_some());
        rig
    }

    /// One that has no configuration yet.
    pub fn bare() -> Rig {
        let mut host = FakeHost { now_us: 1_700_000_000_000_000, ..FakeHost::default() };
        host.properties.insert(property::NODE_ID.to_owned(), b"gw-1".to_vec());
        Rig { vm: Vm::default(), host }
    }

    /// Request headers of a session.
    pub fn start(&mut self, route: &str, user: &str) -> Stream {
        self.start_with(route, &[("x-user", user), ("x-request-id", user)])
    }

    /// Request headers.
    pub fn start_with(&mut self, route: &str, headers: &[(&str, &str)]) -> Stream {
        self.host.request(route, headers);
        let mut stream = Stream::default();
        stream.on_request_headers(&mut self.vm, &mut self.host);
        stream
    }

    /// The rest of a request: an answer with a body.
    pub fn answer(&mut self, stream: &mut Stream, status: &str) {
        self.host.response_headers.insert(":status".to_owned(), status.as_bytes().to_vec());
        stream.on_response_headers(false, &mut self.vm, &mut self.host);
        stream.on_response_body(true, &mut self.vm, &mut self.host);
        stream.on_end(&mut self.vm, &mut self.host);
        stream.on_gone(&mut self.vm, &mut self.host);
    }

    /// A whole request; the color that it went to.
    pub fn request(&mut self, route: &str, user: &str, status: &str) -> Option<Color> {
        let mut stream = self.start(route, user);
        let color = self.host.color();
        self.answer(&mut stream, status);
        color.map(|name| if name == "green" { Color::Green } else { Color::Blue })
    }

    /// Lets time pass, with the ticks that the filter asked for.
    pub fn pass_ms(&mut self, ms: u64) {
        let end = self.host.now_us + ms * 1000;
        while self.host.now_us < end {
            let step = u64::from(self.host.tick_ms.max(1)) * 1000;
            if self.host.now_us + step > end {
                self.host.now_us = end;
                break;
            }
            self.host.now_us += step;
            self.vm.on_tick(1, &mut self.host);
        }
    }

    /// All reports since the last look.
    pub fn reports(&mut self) -> Vec<Report> {
        let posts = std::mem::take(&mut self.host.posts);
        posts
            .into_iter()
            .map(|(to, body)| {
                assert_eq!(to, "ctl/v1/report");
                serde_json::from_slice(&body).unwrap()
            })
            .collect()
    }

    /// The controller's answer.
    pub fn reply(&mut self, json: &str) {
        self.host.call_status = Some(b"200".to_vec());
        self.host.call_body = json.as_bytes().to_vec();
        self.vm.on_answer(true, json.len(), &mut self.host);
    }

    /// How often a problem was noted.
    pub fn problem(&self, problem: Problem) -> u64 {
        self.vm.problems.iter().find(|(kind, _)| *kind == problem).map_or(0, |(_, count)| count)
    }
}
