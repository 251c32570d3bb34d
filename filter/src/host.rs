//! What the filter asks of the proxy: a narrow seam, so that everything above it is tested without one.
//!
//! A call that returns bytes is the unit of cost (the proxy re-enters the module to allocate), so the trait keeps
//! them few and obvious. Every failure is a plain `None` or [`Refused`]: the callers all do the same with it.

/// Names of stream properties, their parts joined by NUL as the ABI wants them.
pub mod property {
    /// The chosen route's name: it carries the plan.
    pub const ROUTE_NAME: &str = "xds\0route_name";
    /// Envoy's response flags, an i64.
    pub const RESPONSE_FLAGS: &str = "response\0flags";
    /// The Envoy's node id.
    pub const NODE_ID: &str = "xds\0node\0id";
    /// Our own mark on a stream: an instance of the filter works on it.
    pub const MARK: &str = "hueshift.filter";
}

/// The proxy said no; why does not change what we do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused;

/// Why shared data was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SharedError {
    /// Somebody else wrote in between.
    Changed,
    /// The proxy said no.
    Refused,
}

/// How loud a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Good to know.
    Info,
    /// Worth a look.
    Warn,
    /// The filter does not work.
    Error,
}

/// The proxy, as the filter sees it.
pub trait Host {
    // --- calls that return bytes ---

    /// A property of the stream or the node; `None` if it is absent (then no bytes return either).
    fn property(&mut self, path: &str) -> Option<Vec<u8>>;
    /// All request headers as one raw buffer ([`hueshift_core::keys`]); only in the request phase.
    fn request_headers(&mut self) -> Option<Vec<u8>>;
    /// A response header; in the response phase and at the end.
    fn response_header(&mut self, name: &str) -> Option<Vec<u8>>;
    /// A response trailer; only in its phase.
    fn response_trailer(&mut self, name: &str) -> Option<Vec<u8>>;
    /// A value that all workers see, and the number to compare-and-swap with.
    fn shared(&mut self, key: &str) -> Option<(Vec<u8>, u32)>;
    /// Status of the answer to our call; only in its callback.
    fn call_status(&mut self) -> Option<Vec<u8>>;
    /// Body of the answer to our call, at most `max` bytes of it; only in its callback.
    fn call_body(&mut self, max: usize) -> Option<Vec<u8>>;
    /// The plugin's configuration; only while configuring.
    fn plugin_config(&mut self) -> Option<Vec<u8>>;

    // --- calls that do not ---

    /// Wall clock, microseconds since 1970. It may jump.
    fn now_us(&mut self) -> u64;
    /// Marks the stream, for other instances of the filter to see.
    fn set_property(&mut self, path: &str, value: &[u8]) -> Result<(), Refused>;
    /// Replaces all values of a request header by one; the route is picked anew.
    fn set_request_header(&mut self, name: &str, value: &str) -> Result<(), Refused>;
    /// Writes a value that all workers see. `cas` 0 overwrites; on a missing key any `cas` does.
    fn set_shared(&mut self, key: &str, value: &[u8], cas: u32) -> Result<(), SharedError>;
    /// Posts JSON to `path` of a cluster; the answer arrives in a callback of the root context.
    fn post(&mut self, cluster: &str, path: &str, body: &[u8], timeout_ms: u32) -> Result<(), Refused>;
    /// Sets the time between two ticks.
    fn tick_every(&mut self, ms: u32);
    /// Defines a counter; the same name gives the same statistic in all workers.
    fn define_counter(&mut self, name: &str) -> Option<u32>;
    /// Adds to a counter.
    fn count(&mut self, counter: u32, by: u64);
    /// Writes a line to the proxy's log.
    fn log(&mut self, level: Level, line: &str);
}
