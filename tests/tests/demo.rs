//! The demo itself: it succeeds when what it claims happens, and fails when release B stays healthy.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::process::Command;

fn demo(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_hueshift-demo")).args(arguments).output().unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), text)
}

#[test]
fn a_good_release_is_promoted_and_a_bad_one_taken_back() {
    let (code, text) = demo(&["--fast"]);
    println!("{text}");
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn with_a_healthy_release_b_the_demo_fails() {
    let (code, text) = demo(&["--fast", "--healthy-b"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("✗ pricing: v3 failed, was rolled back"), "{text}");
}
