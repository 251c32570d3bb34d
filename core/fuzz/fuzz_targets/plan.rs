//! Any route name is read without a panic, and a plan that was read is written and read back as the same plan.
#![no_main]

use hueshift_core::route_plan::{Decoded, MAX_PLAN_CHARS, PlanError, RoutePlan};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|route_name: &[u8]| {
    if let Ok(Decoded { plan, .. }) = RoutePlan::decode(route_name) {
        let text = plan.encode();
        match RoutePlan::decode(text.as_bytes()) {
            Ok(again) => assert_eq!(again, Decoded { plan, skipped: 0 }),
            // The hex form of a name that needed none can make the canonical text longer, never otherwise wrong.
            Err(error) => assert!(error == PlanError::TooLong && text.len() > MAX_PLAN_CHARS),
        }
    }
});
