//! Host calls, made by hand: the only module with `unsafe` code.
//!
//! Why not the SDK's own wrappers: they panic on any status that they do not expect (a header read in the wrong
//! phase, say) and on header bytes that are not UTF-8, and a panic costs every open request of the worker. Here a
//! status is a number, every other than 0 is a refusal, and bytes are bytes. Only the call that must be
//! registered with the SDK's dispatcher (an HTTP call) goes through it; it returns its refusals.
//!
//! Why `unsafe` is sound: each import gets pointers to live memory with its exact length, which the proxy only
//! reads during the call, and pointers to locals for results. A returned buffer was allocated by this module's
//! exported `malloc` (the SDK's: a boxed slice of exactly that size), is handed over to us, and is owned once.
#![allow(unsafe_code)]

use crate::host::{Host, Level, Refused, SharedError};
use std::ptr::null_mut;
use std::time::Duration;

/// The proxy that loaded this module.
pub struct ProxyHost;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, data: *const u8, len: usize) -> u32;
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_get_buffer_bytes(
        kind: u32,
        start: usize,
        max: usize,
        data: *mut *mut u8,
        len: *mut usize,
    ) -> u32;
    fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, len: *mut usize) -> u32;
    fn proxy_get_header_map_value(
        map: u32,
        key: *const u8,
        key_len: usize,
        data: *mut *mut u8,
        len: *mut usize,
    ) -> u32;
    fn proxy_replace_header_map_value(
        map: u32,
        key: *const u8,
        key_len: usize,
        value: *const u8,
        value_len: usize,
    ) -> u32;
    fn proxy_get_property(path: *const u8, path_len: usize, data: *mut *mut u8, len: *mut usize) -> u32;
    fn proxy_set_property(path: *const u8, path_len: usize, value: *const u8, value_len: usize) -> u32;
    fn proxy_get_shared_data(
        key: *const u8,
        key_len: usize,
        data: *mut *mut u8,
        len: *mut usize,
        cas: *mut u32,
    ) -> u32;
    fn proxy_set_shared_data(
        key: *const u8,
        key_len: usize,
        value: *const u8,
        value_len: usize,
        cas: u32,
    ) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, name_len: usize, id: *mut u32) -> u32;
    fn proxy_increment_metric(id: u32, offset: i64) -> u32;
}

const OK: u32 = 0;
const CAS_MISMATCH: u32 = 8;

const REQUEST_HEADERS: u32 = 0;
const RESPONSE_HEADERS: u32 = 2;
const RESPONSE_TRAILERS: u32 = 3;
const CALL_RESPONSE_HEADERS: u32 = 6;

const CALL_RESPONSE_BODY: u32 = 4;
const PLUGIN_CONFIGURATION: u32 = 7;

const COUNTER: u32 = 0;

/// Runs a call that returns a buffer. An empty one is as good as none.
fn bytes(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Option<Vec<u8>> {
    let mut data: *mut u8 = null_mut();
    let mut len = 0usize;
    let status = call(&mut data, &mut len);
    if data.is_null() {
        return None;
    }
    // SAFETY: a non-null result is a boxed slice of `len` bytes from our own `malloc`, handed over to us.
    let bytes = unsafe { Vec::from_raw_parts(data, len, len) };
    (status == OK && len > 0).then_some(bytes)
}

fn done(status: u32) -> Result<(), Refused> {
    if status == OK { Ok(()) } else { Err(Refused) }
}

fn header(map: u32, name: &str) -> Option<Vec<u8>> {
    // SAFETY: see the module.
    bytes(|data, len| unsafe { proxy_get_header_map_value(map, name.as_ptr(), name.len(), data, len) })
}

/// Writes a line to the proxy's log; also used by the panic hook.
pub fn log(level: u32, line: &str) {
    // SAFETY: see the module. That a line was not written is of no use to anyone.
    let _ = unsafe { proxy_log(level, line.as_ptr(), line.len()) };
}

/// The loudest level: something that must never happen.
pub const CRITICAL: u32 = 5;

// === impl ProxyHost ===

impl Host for ProxyHost {
    fn property(&mut self, path: &str) -> Option<Vec<u8>> {
        // SAFETY: see the module; likewise below.
        bytes(|data, len| unsafe { proxy_get_property(path.as_ptr(), path.len(), data, len) })
    }

    fn request_headers(&mut self) -> Option<Vec<u8>> {
        bytes(|data, len| unsafe { proxy_get_header_map_pairs(REQUEST_HEADERS, data, len) })
    }

    fn response_header(&mut self, name: &str) -> Option<Vec<u8>> {
        header(RESPONSE_HEADERS, name)
    }

    fn response_trailer(&mut self, name: &str) -> Option<Vec<u8>> {
        header(RESPONSE_TRAILERS, name)
    }

    fn shared(&mut self, key: &str) -> Option<(Vec<u8>, u32)> {
        let mut cas = 0;
        let value =
            bytes(|data, len| unsafe { proxy_get_shared_data(key.as_ptr(), key.len(), data, len, &mut cas) });
        value.map(|value| (value, cas))
    }

    fn call_status(&mut self) -> Option<Vec<u8>> {
        header(CALL_RESPONSE_HEADERS, ":status")
    }

    fn call_body(&mut self, max: usize) -> Option<Vec<u8>> {
        bytes(|data, len| unsafe { proxy_get_buffer_bytes(CALL_RESPONSE_BODY, 0, max, data, len) })
    }

    fn plugin_config(&mut self) -> Option<Vec<u8>> {
        bytes(|data, len| unsafe { proxy_get_buffer_bytes(PLUGIN_CONFIGURATION, 0, 1 << 20, data, len) })
    }

    fn now_us(&mut self) -> u64 {
        let mut nanoseconds = 0;
        let _ = unsafe { proxy_get_current_time_nanoseconds(&mut nanoseconds) };
        nanoseconds / 1000
    }

    fn set_property(&mut self, path: &str, value: &[u8]) -> Result<(), Refused> {
        done(unsafe { proxy_set_property(path.as_ptr(), path.len(), value.as_ptr(), value.len()) })
    }

    fn set_request_header(&mut self, name: &str, value: &str) -> Result<(), Refused> {
        done(unsafe {
            proxy_replace_header_map_value(
                REQUEST_HEADERS,
                name.as_ptr(),
                name.len(),
                value.as_ptr(),
                value.len(),
            )
        })
    }

    fn set_shared(&mut self, key: &str, value: &[u8], cas: u32) -> Result<(), SharedError> {
        match unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas) } {
            OK => Ok(()),
            CAS_MISMATCH => Err(SharedError::Changed),
            _ => Err(SharedError::Refused),
        }
    }

    fn post(&mut self, cluster: &str, path: &str, body: &[u8], timeout_ms: u32) -> Result<(), Refused> {
        let headers = vec![
            (":method", "POST"),
            (":path", path),
            (":authority", cluster),
            ("content-type", "application/json"),
        ];
        let timeout = Duration::from_millis(u64::from(timeout_ms));
        proxy_wasm::hostcalls::dispatch_http_call(cluster, headers, Some(body), vec![], timeout)
            .map(|_token| ())
            .map_err(|_| Refused)
    }

    fn tick_every(&mut self, ms: u32) {
        let _ = unsafe { proxy_set_tick_period_milliseconds(ms) };
    }

    fn define_counter(&mut self, name: &str) -> Option<u32> {
        let mut id = 0;
        let status = unsafe { proxy_define_metric(COUNTER, name.as_ptr(), name.len(), &mut id) };
        (status == OK).then_some(id)
    }

    fn count(&mut self, counter: u32, by: u64) {
        let by = i64::try_from(by).unwrap_or(i64::MAX);
        // The proxy refuses an increment of 0.
        if by > 0 {
            let _ = unsafe { proxy_increment_metric(counter, by) };
        }
    }

    fn log(&mut self, level: Level, line: &str) {
        let level = match level {
            Level::Info => 2,
            Level::Warn => 3,
            Level::Error => 4,
        };
        log(level, line);
    }
}

// The module's entry point: exporting a symbol counts as unsafe, hence here.
proxy_wasm::main! {{
    crate::entry::start();
}}
