//! Takes the SDK's convenience methods out of the module.
//!
//! Its context traits come with some ninety of them, each a host call that may panic (on a status that it does not
//! expect, on bytes that are no text). We call none, but they are reachable through the traits' method tables, so
//! the linker keeps them, with all the imports that they need. Overridden with nothing they are gone: the module
//! asks its host only for what the filter really uses (`cargo wasm inspect` holds the list), and is 20 kB smaller.

/// Methods that do nothing: `name(types) -> type = value;`.
macro_rules! mute {
    ($( $name:ident ( $($argument:ty),* ) $(-> $result:ty = $value:expr)? ; )*) => {
        $( fn $name(&self, $(_: $argument),*) $(-> $result)? { $($value)? } )*
    };
}

/// The methods of `Context`.
macro_rules! mute_context {
    () => {
        $crate::mute::mute! {
            get_current_time() -> SystemTime = UNIX_EPOCH;
            get_property(Vec<&str>) -> Option<Bytes> = None;
            set_property(Vec<&str>, Option<&[u8]>);
            get_shared_data(&str) -> (Option<Bytes>, Option<u32>) = (None, None);
            set_shared_data(&str, Option<&[u8]>, Option<u32>) -> Result<(), Status> = Err(Status::InternalFailure);
            remove_shared_data(&str, Option<u32>) -> Result<(), Status> = Err(Status::InternalFailure);
            register_shared_queue(&str) -> u32 = 0;
            resolve_shared_queue(&str, &str) -> Option<u32> = None;
            dequeue_shared_queue(u32) -> Result<Option<Bytes>, Status> = Ok(None);
            enqueue_shared_queue(u32, Option<&[u8]>) -> Result<(), Status> = Err(Status::InternalFailure);
            dispatch_http_call(&str, Vec<(&str, &str)>, Option<&[u8]>, Vec<(&str, &str)>, Duration) -> Result<u32, Status> = Err(Status::InternalFailure);
            get_http_call_response_headers() -> Vec<(String, String)> = Vec::new();
            get_http_call_response_headers_bytes() -> Vec<(String, Bytes)> = Vec::new();
            get_http_call_response_header(&str) -> Option<String> = None;
            get_http_call_response_header_bytes(&str) -> Option<Bytes> = None;
            get_http_call_response_body(usize, usize) -> Option<Bytes> = None;
            get_http_call_response_trailers() -> Vec<(String, String)> = Vec::new();
            get_http_call_response_trailers_bytes() -> Vec<(String, Bytes)> = Vec::new();
            get_http_call_response_trailer(&str) -> Option<String> = None;
            get_http_call_response_trailer_bytes(&str) -> Option<Bytes> = None;
            dispatch_grpc_call(&str, &str, &str, Vec<(&str, &[u8])>, Option<&[u8]>, Duration) -> Result<u32, Status> = Err(Status::InternalFailure);
            get_grpc_call_response_body(usize, usize) -> Option<Bytes> = None;
            cancel_grpc_call(u32);
            open_grpc_stream(&str, &str, &str, Vec<(&str, &[u8])>) -> Result<u32, Status> = Err(Status::InternalFailure);
            get_grpc_stream_initial_metadata() -> Vec<(String, Bytes)> = Vec::new();
            get_grpc_stream_initial_metadata_value(&str) -> Option<Bytes> = None;
            send_grpc_stream_message(u32, Option<&[u8]>, bool);
            get_grpc_stream_trailing_metadata() -> Vec<(String, Bytes)> = Vec::new();
            get_grpc_stream_trailing_metadata_value(&str) -> Option<Bytes> = None;
            cancel_grpc_stream(u32);
            close_grpc_stream(u32);
            get_grpc_status() -> (u32, Option<String>) = (0, None);
            call_foreign_function(&str, Option<&[u8]>) -> Result<Option<Bytes>, Status> = Ok(None);
            done();
        }

        fn get_grpc_stream_message(&mut self, _: usize, _: usize) -> Option<Bytes> {
            None
        }
    };
}

/// The methods of `RootContext`.
macro_rules! mute_root_context {
    () => {
        $crate::mute::mute! {
            get_vm_configuration() -> Option<Bytes> = None;
            get_plugin_configuration() -> Option<Bytes> = None;
            set_tick_period(Duration);
        }
    };
}

/// The methods of `HttpContext`.
macro_rules! mute_http_context {
    () => {
        $crate::mute::mute! {
            get_http_request_headers() -> Vec<(String, String)> = Vec::new();
            get_http_request_headers_bytes() -> Vec<(String, Bytes)> = Vec::new();
            set_http_request_headers(Vec<(&str, &str)>);
            set_http_request_headers_bytes(Vec<(&str, &[u8])>);
            get_http_request_header(&str) -> Option<String> = None;
            get_http_request_header_bytes(&str) -> Option<Bytes> = None;
            set_http_request_header(&str, Option<&str>);
            set_http_request_header_bytes(&str, Option<&[u8]>);
            add_http_request_header(&str, &str);
            add_http_request_header_bytes(&str, &[u8]);
            remove_http_request_header(&str);
            get_http_request_trailers() -> Vec<(String, String)> = Vec::new();
            get_http_request_trailers_bytes() -> Vec<(String, Bytes)> = Vec::new();
            set_http_request_trailers(Vec<(&str, &str)>);
            set_http_request_trailers_bytes(Vec<(&str, &[u8])>);
            get_http_request_trailer(&str) -> Option<String> = None;
            get_http_request_trailer_bytes(&str) -> Option<Bytes> = None;
            set_http_request_trailer(&str, Option<&str>);
            set_http_request_trailer_bytes(&str, Option<&[u8]>);
            add_http_request_trailer(&str, &str);
            add_http_request_trailer_bytes(&str, &[u8]);
            remove_http_request_trailer(&str);
            get_http_request_body(usize, usize) -> Option<Bytes> = None;
            set_http_request_body(usize, usize, &[u8]);
            resume_http_request();
            reset_http_request();
            get_http_response_headers() -> Vec<(String, String)> = Vec::new();
            get_http_response_headers_bytes() -> Vec<(String, Bytes)> = Vec::new();
            set_http_response_headers(Vec<(&str, &str)>);
            set_http_response_headers_bytes(Vec<(&str, &[u8])>);
            get_http_response_header(&str) -> Option<String> = None;
            get_http_response_header_bytes(&str) -> Option<Bytes> = None;
            set_http_response_header(&str, Option<&str>);
            set_http_response_header_bytes(&str, Option<&[u8]>);
            add_http_response_header(&str, &str);
            add_http_response_header_bytes(&str, &[u8]);
            remove_http_response_header(&str);
            get_http_response_trailers() -> Vec<(String, String)> = Vec::new();
            get_http_response_trailers_bytes() -> Vec<(String, Bytes)> = Vec::new();
            set_http_response_trailers(Vec<(&str, &str)>);
            set_http_response_trailers_bytes(Vec<(&str, &[u8])>);
            get_http_response_trailer(&str) -> Option<String> = None;
            get_http_response_trailer_bytes(&str) -> Option<Bytes> = None;
            set_http_response_trailer(&str, Option<&str>);
            set_http_response_trailer_bytes(&str, Option<&[u8]>);
            add_http_response_trailer(&str, &str);
            add_http_response_trailer_bytes(&str, &[u8]);
            remove_http_response_trailer(&str);
            get_http_response_body(usize, usize) -> Option<Bytes> = None;
            set_http_response_body(usize, usize, &[u8]);
            resume_http_response();
            reset_http_response();
            send_http_response(u32, Vec<(&str, &str)>, Option<&[u8]>);
            send_grpc_response(GrpcStatusCode, Option<&str>, Vec<(&str, &[u8])>);
        }
    };
}

pub(crate) use {mute, mute_context, mute_http_context, mute_root_context};
