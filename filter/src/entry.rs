//! Where Envoy enters: the SDK's contexts, each callback handed on to the worker's one state.
//!
//! The state is borrowed for the length of a callback. Callbacks do not nest (Envoy defers the answers of calls
//! that fail at once), and should they ever, the inner one does nothing instead of panicking.

use crate::abi::{self, ProxyHost};
use crate::host::Host;
use crate::mute::{mute_context, mute_http_context, mute_root_context};
use crate::stream::Stream;
use crate::vm::Vm;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, Bytes, ContextType, GrpcStatusCode, Status};
use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

thread_local! {
    static VM: RefCell<Vm> = RefCell::default();
}

/// Runs `work` on the worker's state, or gives `otherwise` if that is in use.
fn with_vm<T>(otherwise: T, work: impl FnOnce(&mut Vm, &mut ProxyHost) -> T) -> T {
    let mut work = Some(work);
    let done = VM.try_with(|vm| {
        let mut vm = vm.try_borrow_mut().ok()?;
        Some((work.take()?)(&mut vm, &mut ProxyHost))
    });
    done.ok().flatten().unwrap_or(otherwise)
}

/// Sets up the module: a panic, which must not happen, at least says where.
pub fn start() {
    std::panic::set_hook(Box::new(|info| abi::log(abi::CRITICAL, &format!("hueshift: {info}"))));
    proxy_wasm::set_root_context(|id| Box::new(Plugin { id }));
}

/// The plugin in one configuration.
struct Plugin {
    id: u32,
}

/// A request.
struct Request {
    stream: Stream,
}

// === impl Plugin ===

impl Context for Plugin {
    fn on_http_call_response(&mut self, _token: u32, headers: usize, body_size: usize, _trailers: usize) {
        with_vm((), |vm, host| vm.on_answer(headers > 0, body_size, host));
    }

    mute_context!();
}

impl RootContext for Plugin {
    fn on_configure(&mut self, _size: usize) -> bool {
        with_vm((), |vm, host| {
            #[cfg(feature = "trap")]
            crate::trap::warn(host);
            let json = host.plugin_config().unwrap_or_default();
            vm.configure(self.id, &json, host);
        });
        // Always: Envoy would answer every request with 500 if the first configuration were refused.
        true
    }

    fn on_tick(&mut self) {
        with_vm((), |vm, host| vm.on_tick(self.id, host));
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Request { stream: Stream::default() }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    mute_root_context!();
}

// === impl Request ===

impl Context for Request {
    fn on_done(&mut self) -> bool {
        with_vm((), |vm, host| self.stream.on_gone(vm, host));
        true
    }

    mute_context!();
}

impl HttpContext for Request {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        #[cfg(feature = "trap")]
        crate::trap::spring(&mut ProxyHost);
        with_vm((), |vm, host| self.stream.on_request_headers(vm, host));
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        with_vm((), |vm, host| self.stream.on_response_headers(end_of_stream, vm, host));
        Action::Continue
    }

    fn on_http_response_body(&mut self, _size: usize, end_of_stream: bool) -> Action {
        with_vm((), |vm, host| self.stream.on_response_body(end_of_stream, vm, host));
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _count: usize) -> Action {
        with_vm((), |_, host| self.stream.on_response_trailers(host));
        Action::Continue
    }

    fn on_log(&mut self) {
        with_vm((), |vm, host| self.stream.on_end(vm, host));
    }

    mute_http_context!();
}
