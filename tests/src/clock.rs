//! One clock for every event log: Unix nanoseconds, so that logs of several processes of one machine compare.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Now, in Unix nanoseconds.
pub fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The time from one reading to a later one; zero if they are the other way round.
pub fn between(from_ns: u64, to_ns: u64) -> Duration {
    Duration::from_nanos(to_ns.saturating_sub(from_ns))
}

/// Deadlines are written for two quiet cores; a slower or busier machine may take so many times as long. They only end
/// what would never end: how fast something is, is measured and not tested.
const SLOWER: u32 = 3;

/// A deadline on the slowest machine.
pub fn patience(deadline: Duration) -> Duration {
    deadline * SLOWER
}

/// Polls `check` every 20 ms until it gives a value; panics with `what` when a slow machine's deadline is over.
pub async fn wait_for<T>(what: &str, deadline: Duration, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = patience(deadline);
    let end = tokio::time::Instant::now() + deadline;
    loop {
        if let Some(value) = check().await {
            return value;
        }
        assert!(tokio::time::Instant::now() < end, "waited {deadline:?} in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
