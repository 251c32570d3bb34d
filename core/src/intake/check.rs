//! Which reports are refused: those that no filter of ours would send.

use super::Malformed;
use super::books::Books;
use crate::color::Color;
use crate::contract::{PREDICTION_BINS, Report, SLOTS, ServiceId, TIME_BUCKETS, Tally};
use crate::histogram::{FIRST_BUCKET, LAST_BUCKET};
use alloc::collections::BTreeSet;

/// Longest node id.
const MAX_NAME: usize = 256;
/// Largest counter: exact in the judge's arithmetic and in JSON, and sums of all workers cannot overflow.
const MAX_COUNT: u64 = 1 << 53;

/// Rules that need no memory.
pub(super) fn shape(report: &Report) -> Result<(), Malformed> {
    let rule = |ok: bool, broken| if ok { Ok(()) } else { Err(broken) };
    rule(!report.proxy.is_empty() && report.proxy.len() <= MAX_NAME, Malformed::Proxy)?;
    let mut services = BTreeSet::new();
    for plan in &report.plans {
        // A service may stand in two releases: the old one's last books are still due when the next one opens.
        rule(services.insert((plan.id, plan.release)), Malformed::Repeated)?;
        let mut lotteries = BTreeSet::new();
        for lottery in &plan.lotteries {
            rule(lotteries.insert((lottery.epoch, lottery.limit)), Malformed::Repeated)?;
            for tally in Color::BOTH.map(|color| lottery.tallies.get(color)) {
                rule(tally.errors.max(tally.events) <= tally.completed, Malformed::Errors)?;
                rule(small(tally), Malformed::TooLarge)?;
                let mut bins = tally.predictions.keys();
                rule(bins.all(|bin| u32::from(*bin) < PREDICTION_BINS), Malformed::Slot)?;
            }
            let slots = lottery.error_slots.iter().chain(&lottery.done_slots).chain(&lottery.event_slots);
            rule(slots.into_iter().all(|slot| *slot < SLOTS), Malformed::Slot)?;
            let mut times = lottery.first_times.iter();
            rule(times.all(|entry| first_times(*entry).is_some()), Malformed::Slot)?;
            let mut predictions = lottery.first_predictions.iter();
            rule(predictions.all(|entry| first_prediction(*entry).is_some()), Malformed::Slot)?;
        }
    }
    Ok(())
}

/// Against the last counters of the same worker: nothing shrinks, and what failed also completed.
pub(super) fn growth<'a>(
    report: &Report,
    books: impl Fn(ServiceId, u32) -> Option<&'a Books>,
) -> Result<(), Malformed> {
    for plan in &report.plans {
        let Some(books) = books(plan.id, plan.release) else { continue };
        for lottery in &plan.lotteries {
            let Some(last) = books.last(&report.proxy, report.incarnation, report.vm, lottery) else {
                continue;
            };
            for color in Color::BOTH {
                let (now, last) = (lottery.tallies.get(color), last.get(color));
                let counters = [
                    (now.started, last.started),
                    (now.completed, last.completed),
                    (now.errors, last.errors),
                    (now.events, last.events),
                ];
                if counters.iter().any(|(now, last)| now < last) {
                    return Err(Malformed::Shrunk);
                }
                let more = (now.errors - last.errors).max(now.events - last.events);
                if more > now.completed - last.completed {
                    return Err(Malformed::Errors);
                }
            }
        }
    }
    Ok(())
}

/// Slot of an entry of `first_times` and its two buckets, to the first byte and in all; `None` if one of them is none.
pub(super) fn first_times(entry: u32) -> Option<(u16, (u16, u16))> {
    let total = u16::try_from(entry.checked_rem(TIME_BUCKETS)?).ok()?;
    let (slot, first_byte) = first(entry.checked_div(TIME_BUCKETS)?, TIME_BUCKETS)?;
    let are_buckets = [first_byte, total].iter().all(|bucket| (FIRST_BUCKET..=LAST_BUCKET).contains(bucket));
    are_buckets.then_some((slot, (first_byte, total)))
}

/// Slot and bin of an entry of `first_predictions`, likewise.
pub(super) fn first_prediction(entry: u32) -> Option<(u16, u16)> {
    first(entry, PREDICTION_BINS)
}

fn first(entry: u32, places: u32) -> Option<(u16, u16)> {
    let slot = u16::try_from(entry.checked_div(places)?).ok()?;
    let place = u16::try_from(entry.checked_rem(places)?).ok()?;
    (slot < SLOTS).then_some((slot, place))
}

fn small(tally: &Tally) -> bool {
    let counters = [tally.started, tally.completed, tally.errors, tally.hung, tally.events];
    let classes = tally.outcomes.values().chain(tally.first_byte.values()).chain(tally.total.values());
    let classes = classes.chain(tally.predictions.values());
    counters.iter().chain(classes).all(|count| *count <= MAX_COUNT)
}
