//! Any header map buffer is scanned without a panic, and what is found lies inside the buffer.
#![no_main]

use hueshift_core::keys;
use hueshift_core::route_plan::KeyRule;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static RULES: LazyLock<Vec<KeyRule>> = LazyLock::new(|| {
    vec![KeyRule::header("x-user"), KeyRule::Cookie("sid".into()), KeyRule::Query("u".into())]
});

fuzz_target!(|raw: &[u8]| {
    let found = keys::find(raw, &RULES);
    for bytes in [found.key, found.request_id].into_iter().flatten() {
        assert!(!bytes.is_empty());
        assert!(raw.as_ptr_range().contains(&bytes.as_ptr()));
    }
});
