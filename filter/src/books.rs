//! The books of one service in one release: counters per lottery, cumulative as long as this VM lives, and which of
//! them the controller's leader has not yet acknowledged.
//!
//! Each lottery is sent *whole* whenever it changed since the last acknowledged report, so a lost, repeated or
//! reordered report harms nothing. Slots are a set that only grows: they are sent until acknowledged, and all of
//! them again after another term, because a new leader may know nothing.
//!
//! Four memories of slots are cleared every [`TOLD_MS`]: which erred again, and whose latency, prediction and event
//! were told. A session is one draw of the lottery, but a long release would use all slots up and see no late fault; what
//! was acknowledged by then is dropped. So a report carries at most one entry of each kind per request, however short
//! that time.
//!
//! Bounds: [`MAX_LOTTERIES`] lotteries; when one more is opened the oldest epoch goes (first those that are idle and
//! acknowledged) and is never opened again, since its counters would begin at 0 and seem to shrink.

use crate::vec_map::VecMap;
use hueshift_core::color::{Color, PerColor};
use hueshift_core::contract::{Control, LotteryReport, PREDICTION_BINS, SLOTS, TIME_BUCKETS, TOLD_MS, Tally};
use hueshift_core::histogram;
use hueshift_core::outcome::{Counts, Outcome};
use hueshift_core::share::Bps;

/// Most lotteries of a release that a worker keeps.
pub const MAX_LOTTERIES: usize = 64;
/// Most slots of one kind that a row of a report carries; the rest follows in the next one.
pub const MAX_SLOTS_PER_ROW: usize = 2048;
/// Most entries of cleared memories that are kept although the leader did not acknowledge them.
const MAX_UNSAID: usize = 16_384;
/// How often the memories of what was told are cleared.
const TOLD_US: u64 = TOLD_MS * 1_000;

/// Counters per lottery.
#[derive(Debug, Default)]
pub struct Books {
    lotteries: VecMap<u32, Lottery>,
    next: u32,
    /// The lottery of the last request: nearly always also that of the next one.
    current: Option<u32>,
    /// Epochs below this were dropped.
    floor: u64,
    /// Slots with an error on either color.
    erred: SlotSet,
    /// Slots with a completed request on the candidate.
    done: SlotSet,
    /// Slots with an error since the memories were cleared.
    erred_lately: SlotSet,
    /// Slots whose latency was told since then.
    timed_lately: SlotSet,
    /// Slots whose prediction was told since then.
    predicted_lately: SlotSet,
    /// Slots whose event was told since then.
    evented_lately: SlotSet,
    cleared_us: u64,
}

/// One lottery's counters.
#[derive(Debug)]
pub struct Lottery {
    /// Epoch of the plan that drew.
    pub epoch: u64,
    /// Limit in force.
    pub limit: Bps,
    stable: Color,
    /// Slots of stable below this are the negative control; 0: sessions stick, there is none.
    control_end: u16,
    counts: PerColor<Counters>,
    in_flight: u32,
    error_slots: Log,
    error_slots_again: Log,
    done_slots: Log,
    first_times: Log,
    first_predictions: Log,
    event_slots: Log,
    /// Grows with each change.
    version: u64,
    acked: u64,
    sent: Option<(u64, u64)>,
}

/// A [`Tally`] in the making: cheap to count in, turned into the wire's form when it is sent.
#[derive(Debug, Default)]
struct Counters {
    started: u64,
    hung: u64,
    events: u64,
    /// Ends, in the order of [`Outcome::ALL`].
    outcomes: [u64; Outcome::ALL.len()],
    first_byte: VecMap<u16, u64>,
    total: VecMap<u16, u64>,
    predictions: VecMap<u16, u64>,
    control: Control,
}

/// How a request ended, as the books need it.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// What became of it.
    pub outcome: Outcome,
    /// Its lottery slot.
    pub slot: Option<u16>,
    /// Time to first byte and in all, unless it counted as hung before.
    pub times_us: Option<(u64, u64)>,
    /// The bin of what it predicts.
    pub prediction: Option<u16>,
    /// Whether it is an event.
    pub event: bool,
}

/// What opening a lottery did besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// It is there.
    Ready(u32),
    /// It is there; an unacknowledged one had to go.
    Dropped(u32),
    /// It was dropped earlier and does not come back.
    Gone,
}

/// Slots (or what is told of them) in order of first sight, of which the first `acked` are known to the leader.
#[derive(Debug, Default)]
struct Log {
    entries: Vec<u32>,
    acked: usize,
    sent: usize,
}

/// A set of slots.
#[derive(Debug, Default)]
struct SlotSet(Vec<u64>);

// === impl Books ===

impl Books {
    /// The lottery of (epoch, limit in force); opened if it is new. `alone`: each request draws for itself.
    pub fn open(&mut self, epoch: u64, limit: Bps, stable: Color, alone: bool) -> Opened {
        let is = |lottery: &Lottery| lottery.epoch == epoch && lottery.limit == limit;
        if let Some(current) = self.current
            && self.lotteries.get(&current).is_some_and(is)
        {
            return Opened::Ready(current);
        }
        if let Some((number, _)) = self.lotteries.iter().find(|(_, lottery)| is(lottery)) {
            self.current = Some(number);
            return Opened::Ready(number);
        }
        if epoch < self.floor {
            return Opened::Gone;
        }
        let lost = self.make_room();
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let mut lottery = Lottery::new(epoch, limit, stable);
        lottery.control_end = if alone { 2 * limit.get() } else { 0 };
        self.lotteries.insert(number, lottery);
        self.current = Some(number);
        if lost { Opened::Dropped(number) } else { Opened::Ready(number) }
    }

    /// Drops the oldest lottery if there are too many; true if the leader did not know all of it.
    fn make_room(&mut self) -> bool {
        if self.lotteries.len() < MAX_LOTTERIES {
            return false;
        }
        let newest = self.lotteries.values().map(|lottery| lottery.epoch).max();
        let order = |(number, lottery): (u32, &Lottery)| {
            (Some(lottery.epoch) == newest, !lottery.settled(), lottery.epoch, number)
        };
        let Some((_, unsettled, epoch, number)) = self.lotteries.iter().map(order).min() else {
            return false;
        };
        self.lotteries.remove(&number);
        self.floor = self.floor.max(epoch.saturating_add(1));
        unsettled
    }

    /// A request drew its color.
    pub fn started(&mut self, lottery: u32, color: Color, slot: Option<u16>) {
        if let Some(lottery) = self.lotteries.get_mut(&lottery) {
            let control = lottery.is_control(color, slot);
            let counts = lottery.counts.get_mut(color);
            counts.started += 1;
            counts.control.started += u64::from(control);
            lottery.in_flight += 1;
            lottery.version += 1;
        }
    }

    /// A request ended.
    pub fn ended(&mut self, number: u32, color: Color, entry: &Entry) {
        self.landed(number);
        self.count(number, color, entry);
    }

    /// A request that was counted as hung ended.
    pub fn landed(&mut self, number: u32) {
        if let Some(lottery) = self.lotteries.get_mut(&number) {
            lottery.in_flight = lottery.in_flight.saturating_sub(1);
            lottery.version += 1;
        }
    }

    /// A request is silent for too long: it counts as failed, once.
    pub fn hung(&mut self, number: u32, color: Color, slot: Option<u16>) {
        if let Some(lottery) = self.lotteries.get_mut(&number) {
            lottery.counts.get_mut(color).hung += 1;
        }
        self.count(
            number,
            color,
            &Entry { outcome: Outcome::Timeout, slot, times_us: None, prediction: None, event: false },
        );
    }

    fn count(&mut self, number: u32, color: Color, entry: &Entry) {
        let Some(lottery) = self.lotteries.get_mut(&number) else { return };
        lottery.version += 1;
        let control = lottery.is_control(color, entry.slot);
        lottery.counts.get_mut(color).take(entry, control);
        let Some(slot) = entry.slot else { return };
        if entry.event && self.evented_lately.insert(slot) {
            lottery.event_slots.entries.push(slot.into());
        }
        match entry.outcome.counts_as() {
            Counts::Neither => return,
            Counts::Success => {
                if let Some((first_byte_us, total_us)) = entry.times_us
                    && self.timed_lately.insert(slot)
                {
                    let with = |entry: u32, us| entry * TIME_BUCKETS + u32::from(histogram::bucket_of(us));
                    lottery.first_times.entries.push(with(with(slot.into(), first_byte_us), total_us));
                }
                if let Some(bin) = entry.prediction
                    && self.predicted_lately.insert(slot)
                {
                    let entry = u32::from(slot) * PREDICTION_BINS + u32::from(bin);
                    lottery.first_predictions.entries.push(entry);
                }
            }
            Counts::Error => {
                let fresh = self.erred_lately.insert(slot);
                if self.erred.insert(slot) {
                    lottery.error_slots.entries.push(slot.into());
                } else if fresh {
                    lottery.error_slots_again.entries.push(slot.into());
                }
            }
        }
        // A session that moves over at a step is a new unit of the candidate's, whatever it did on stable.
        if color != lottery.stable && self.done.insert(slot) {
            lottery.done_slots.entries.push(slot.into());
        }
    }

    /// Clears the memories of what was told when their time is over.
    pub fn renew(&mut self, now_us: u64) {
        if now_us.abs_diff(self.cleared_us) < TOLD_US {
            return;
        }
        self.cleared_us = now_us;
        self.erred_lately = SlotSet::default();
        self.timed_lately = SlotSet::default();
        self.predicted_lately = SlotSet::default();
        self.evented_lately = SlotSet::default();
        for lottery in self.lotteries.values_mut() {
            lottery.error_slots_again.forget_said();
            lottery.first_times.forget_said();
            lottery.first_predictions.forget_said();
            lottery.event_slots.forget_said();
        }
    }

    /// Numbers of the lotteries that a report has to carry, oldest first.
    pub fn due(&self) -> Vec<u32> {
        let due = |lottery: &Lottery| lottery.in_flight > 0 || !lottery.settled();
        self.lotteries.iter().filter(|(_, lottery)| due(lottery)).map(|(number, _)| number).collect()
    }

    /// The row of a lottery for report `seq`; gauges are the caller's to fill in.
    pub fn row(&mut self, number: u32, seq: u64) -> Option<LotteryReport> {
        let lottery = self.lotteries.get_mut(&number)?;
        let mut error_slots = slots(lottery.error_slots.send());
        error_slots.extend(slots(lottery.error_slots_again.send()));
        let done_slots = slots(lottery.done_slots.send());
        let first_times = lottery.first_times.send().to_vec();
        let first_predictions = lottery.first_predictions.send().to_vec();
        let event_slots = slots(lottery.event_slots.send());
        let all = lottery.logs().iter().all(|log| log.all_sent());
        // With entries left over the row counts as changed still, so that the next report carries on.
        let version = if all { lottery.version } else { lottery.version.saturating_sub(1) };
        lottery.sent = Some((seq, version));
        let tallies = PerColor::from_fn(|color| lottery.counts.get(color).to_wire());
        let Lottery { epoch, limit, .. } = *lottery;
        Some(LotteryReport {
            epoch,
            limit,
            tallies,
            error_slots,
            done_slots,
            first_times,
            first_predictions,
            event_slots,
        })
    }

    /// The leader took all reports up to `seq`.
    pub fn acked(&mut self, seq: u64) {
        for lottery in self.lotteries.values_mut() {
            if let Some((sent_seq, version)) = lottery.sent
                && sent_seq <= seq
            {
                lottery.acked = lottery.acked.max(version);
                lottery.logs().into_iter().for_each(|log| log.acked = log.sent);
                lottery.sent = None;
            }
        }
    }

    /// Another leader: everything is news again.
    pub fn forget_acks(&mut self) {
        for lottery in self.lotteries.values_mut() {
            lottery.acked = 0;
            lottery.sent = None;
            lottery.logs().into_iter().for_each(|log| log.acked = 0);
        }
    }

    /// Nothing in flight, and the leader knows all.
    pub fn settled(&self) -> bool {
        self.lotteries.values().all(|lottery| lottery.in_flight == 0 && lottery.settled())
    }
}

// === impl Lottery ===

impl Lottery {
    fn new(epoch: u64, limit: Bps, stable: Color) -> Lottery {
        Lottery {
            epoch,
            limit,
            stable,
            control_end: 0,
            counts: PerColor::default(),
            in_flight: 0,
            error_slots: Log::default(),
            error_slots_again: Log::default(),
            done_slots: Log::default(),
            first_times: Log::default(),
            first_predictions: Log::default(),
            event_slots: Log::default(),
            // News by itself: that the worker enforces it.
            version: 1,
            acked: 0,
            sent: None,
        }
    }

    fn settled(&self) -> bool {
        self.in_flight == 0 && self.acked == self.version
    }

    /// Whether a request is of the negative control: the slots of stable that follow the candidate's, as many.
    fn is_control(&self, color: Color, slot: Option<u16>) -> bool {
        color == self.stable && slot.is_some_and(|slot| slot < self.control_end)
    }

    fn logs(&mut self) -> [&mut Log; 6] {
        [
            &mut self.error_slots,
            &mut self.error_slots_again,
            &mut self.done_slots,
            &mut self.first_times,
            &mut self.first_predictions,
            &mut self.event_slots,
        ]
    }
}

// === impl Counters ===

impl Counters {
    fn take(&mut self, entry: &Entry, control: bool) {
        if let Some(count) = self.outcomes.get_mut(entry.outcome as usize) {
            *count += 1;
        }
        self.events += u64::from(entry.event);
        let counts = entry.outcome.counts_as();
        self.control.completed += u64::from(control && counts != Counts::Neither);
        self.control.errors += u64::from(control && counts == Counts::Error);
        if let Some(count) = entry.prediction.and_then(|bin| self.predictions.or_default(bin)) {
            *count += 1;
        }
        let Some((first_byte_us, total_us)) = entry.times_us else { return };
        if counts == Counts::Success {
            for (counts, us) in [(&mut self.first_byte, first_byte_us), (&mut self.total, total_us)] {
                if let Some(count) = counts.or_default(histogram::bucket_of(us)) {
                    *count += 1;
                }
            }
        }
    }

    fn to_wire(&self) -> Tally {
        let (started, hung, events, control) = (self.started, self.hung, self.events, self.control);
        let mut tally = Tally { started, hung, events, control, ..Tally::default() };
        for (outcome, count) in Outcome::ALL.into_iter().zip(self.outcomes).filter(|(_, count)| *count > 0) {
            tally.outcomes.insert(outcome.name().to_owned(), count);
            let (completed, error) = match outcome.counts_as() {
                Counts::Success => (true, false),
                Counts::Error => (true, true),
                Counts::Neither => (false, false),
            };
            tally.completed += count * u64::from(completed);
            tally.errors += count * u64::from(error);
        }
        // One by one: collecting would sort, which is code that nothing else here needs.
        for (map, counts) in [
            (&mut tally.first_byte, &self.first_byte),
            (&mut tally.total, &self.total),
            (&mut tally.predictions, &self.predictions),
        ] {
            counts.iter().for_each(|(place, count)| _ = map.insert(place, *count));
        }
        tally
    }
}

// === impl Log ===

impl Log {
    fn send(&mut self) -> &[u32] {
        let news = self.entries.get(self.acked..).unwrap_or_default();
        let part = news.get(..MAX_SLOTS_PER_ROW).unwrap_or(news);
        self.sent = self.acked + part.len();
        part
    }

    fn all_sent(&self) -> bool {
        self.sent == self.entries.len()
    }

    /// Drops what the leader knows; of the rest the newest, if it is too much.
    fn forget_said(&mut self) {
        let known = self.acked.max(self.entries.len().saturating_sub(MAX_UNSAID)).min(self.entries.len());
        drop(self.entries.drain(..known));
        self.acked = self.acked.saturating_sub(known);
        self.sent = self.sent.saturating_sub(known);
    }
}

fn slots(entries: &[u32]) -> Vec<u16> {
    entries.iter().filter_map(|slot| u16::try_from(*slot).ok()).collect()
}

// === impl SlotSet ===

impl SlotSet {
    /// True if it was not in the set.
    fn insert(&mut self, slot: u16) -> bool {
        if self.0.is_empty() {
            self.0 = vec![0; usize::from(SLOTS).div_ceil(64)];
        }
        let bit = 1u64 << (slot % 64);
        match self.0.get_mut(usize::from(slot / 64)) {
            Some(word) if *word & bit == 0 => {
                *word |= bit;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bps(limit: u16) -> Bps {
        Bps::new(limit).unwrap()
    }

    fn open(books: &mut Books, epoch: u64, limit: u16) -> u32 {
        match books.open(epoch, bps(limit), Color::Blue, false) {
            Opened::Ready(number) | Opened::Dropped(number) => number,
            Opened::Gone => panic!("gone"),
        }
    }

    fn end(books: &mut Books, lottery: u32, color: Color, outcome: Outcome, slot: u16) {
        books.started(lottery, color, Some(slot));
        books.ended(
            lottery,
            color,
            &Entry {
                outcome,
                slot: Some(slot),
                times_us: Some((1500, 3000)),
                prediction: Some(7),
                event: false,
            },
        );
    }

    #[test]
    fn as_many_slots_of_stable_as_the_candidate_has_are_the_control_where_requests_draw_for_themselves() {
        let mut books = Books::default();
        for (epoch, alone) in [(1, true), (2, false)] {
            let Opened::Ready(number) = books.open(epoch, bps(500), Color::Blue, alone) else { panic!() };
            for slot in [0, 499, 500, 999, 1000, 9999] {
                let color = if slot < 500 { Color::Green } else { Color::Blue };
                end(&mut books, number, color, Outcome::ServerError, slot);
            }
            end(&mut books, number, Color::Blue, Outcome::Success, 700);
            end(&mut books, number, Color::Blue, Outcome::ClientGone, 701);
            books.started(number, Color::Blue, Some(702));
            books.hung(number, Color::Blue, Some(702));
            let row = books.row(number, 1).unwrap();
            let counted = Control { started: 5, completed: 4, errors: 3 };
            let control = if alone { counted } else { Control::default() };
            assert_eq!(row.tallies.blue.control, control);
            assert!(row.tallies.green.control.is_empty());
        }
    }

    #[test]
    fn a_request_is_booked_in_the_lottery_that_drew_it() {
        let mut books = Books::default();
        let one = open(&mut books, 1, 500);
        let two = open(&mut books, 2, 1000);
        end(&mut books, one, Color::Green, Outcome::ServerError, 3);
        end(&mut books, two, Color::Blue, Outcome::Success, 4);
        end(&mut books, two, Color::Blue, Outcome::ClientGone, 5);
        let row = books.row(one, 1).unwrap();
        assert_eq!(
            (row.tallies.green.started, row.tallies.green.errors, row.tallies.blue.started),
            (1, 1, 0)
        );
        assert_eq!((row.error_slots, row.done_slots), (vec![3], vec![3]));
        let row = books.row(two, 1).unwrap();
        assert_eq!((row.tallies.blue.started, row.tallies.blue.completed), (2, 1));
        assert_eq!(row.tallies.blue.outcomes["client_gone"], 1);
        assert_eq!(row.tallies.blue.first_byte.values().sum::<u64>(), 1);
        assert_eq!((row.error_slots, row.done_slots), (vec![], vec![]), "done on stable is no unit");
    }

    #[test]
    fn a_slot_is_reported_once_per_release_until_it_is_acked() {
        let mut books = Books::default();
        let one = open(&mut books, 1, 500);
        end(&mut books, one, Color::Green, Outcome::ServerError, 3);
        assert_eq!(books.row(one, 1).unwrap().error_slots, [3]);
        assert_eq!(books.row(one, 2).unwrap().error_slots, [3]);
        books.acked(2);
        assert!(books.due().is_empty());
        end(&mut books, one, Color::Green, Outcome::ServerError, 3);
        assert_eq!(books.due(), [one]);
        assert!(books.row(one, 3).unwrap().error_slots.is_empty());
        let two = open(&mut books, 2, 600);
        end(&mut books, two, Color::Green, Outcome::ServerError, 3);
        assert!(books.row(two, 3).unwrap().error_slots.is_empty());
        books.acked(3);
        books.forget_acks();
        assert_eq!(books.due(), [one, two]);
        assert_eq!(books.row(one, 4).unwrap().error_slots, [3]);
    }

    #[test]
    fn a_session_is_told_once_in_a_while_with_its_first_times_and_prediction_and_an_error() {
        let mut books = Books::default();
        let one = open(&mut books, 1, 500);
        books.renew(TOLD_US);
        let mut seq = 0;
        let mut told = |books: &mut Books, now_us| {
            for _ in 0..3 {
                end(books, one, Color::Green, Outcome::Success, 3);
                end(books, one, Color::Green, Outcome::ServerError, 3);
            }
            books.renew(now_us);
            seq += 1;
            let row = books.row(one, seq).unwrap();
            books.acked(seq);
            (row.error_slots, row.first_times, row.first_predictions)
        };
        let bucket = |us| u32::from(histogram::bucket_of(us));
        let latency = (3 * TIME_BUCKETS + bucket(1_500)) * TIME_BUCKETS + bucket(3_000);
        let all = (vec![3], vec![latency], vec![3 * PREDICTION_BINS + 7]);
        assert_eq!(told(&mut books, TOLD_US + 1), all);
        assert_eq!(
            told(&mut books, 2 * TOLD_US),
            (vec![], vec![], vec![]),
            "the memory is cleared after these"
        );
        assert_eq!(told(&mut books, 2 * TOLD_US + 1), all);
        books.forget_acks();
        assert_eq!(
            told(&mut books, 2 * TOLD_US + 2).0,
            [3, 3],
            "after a new term the release's first ones, too"
        );
    }

    #[test]
    fn a_sessions_event_is_counted_each_time_and_told_once_in_a_while() {
        let mut books = Books::default();
        let one = open(&mut books, 1, 500);
        books.renew(TOLD_US);
        let event = Entry {
            outcome: Outcome::ClientError,
            slot: Some(3),
            times_us: None,
            prediction: None,
            event: true,
        };
        let told = |books: &mut Books, seq| {
            (0..3).for_each(|_| books.ended(one, Color::Green, &event));
            let row = books.row(one, seq).unwrap();
            books.acked(seq);
            (row.tallies.green.events, row.event_slots)
        };
        assert_eq!(told(&mut books, 1), (3, vec![3]));
        assert_eq!(told(&mut books, 2), (6, vec![]));
        books.renew(2 * TOLD_US);
        assert_eq!(told(&mut books, 3), (9, vec![3]));
    }

    #[test]
    fn what_nobody_acknowledges_is_kept_within_bounds() {
        let mut books = Books::default();
        let one = open(&mut books, 1, 500);
        for round in 1..10 {
            (0..SLOTS).for_each(|slot| end(&mut books, one, Color::Green, Outcome::Success, slot));
            books.renew(round * TOLD_US);
        }
        let lottery = books.lotteries.get(&one).unwrap();
        assert!(lottery.first_times.entries.len() <= MAX_UNSAID);
    }

    #[test]
    fn what_changed_after_sending_is_still_due_after_the_ack() {
        let mut books = Books::default();
        let one = open(&mut books, 1, 500);
        let _ = books.row(one, 1);
        end(&mut books, one, Color::Green, Outcome::Success, 3);
        books.acked(1);
        assert_eq!(books.due(), [one]);
        assert_eq!(books.row(one, 2).unwrap().done_slots, [3]);
        books.acked(1);
        assert_eq!(books.due(), [one], "an old ack does not cover a newer report");
        books.acked(2);
        assert!(books.settled());
    }

    #[test]
    fn slots_that_do_not_fit_follow_in_the_next_report() {
        let mut books = Books::default();
        let one = open(&mut books, 1, 10_000);
        (0..SLOTS).for_each(|slot| end(&mut books, one, Color::Green, Outcome::Success, slot));
        let mut seen = Vec::new();
        for seq in 1.. {
            if books.due().is_empty() {
                break;
            }
            let row = books.row(one, seq).unwrap();
            assert!(row.done_slots.len() <= MAX_SLOTS_PER_ROW);
            seen.extend(row.done_slots);
            books.acked(seq);
        }
        assert!(seen.iter().copied().eq(0..SLOTS));
    }

    #[test]
    fn the_oldest_lottery_makes_room_and_does_not_come_back() {
        let mut books = Books::default();
        let first = open(&mut books, 1, 500);
        end(&mut books, first, Color::Green, Outcome::Success, 3);
        (2..=MAX_LOTTERIES as u64).for_each(|epoch| _ = open(&mut books, epoch, 500));
        assert!(matches!(books.open(1000, bps(500), Color::Blue, false), Opened::Dropped(_)));
        assert_eq!(books.open(1, bps(500), Color::Blue, false), Opened::Gone);
        books.ended(
            first,
            Color::Green,
            &Entry { outcome: Outcome::Success, slot: None, times_us: None, prediction: None, event: false },
        );
        assert!(books.row(first, 1).is_none());
    }

    #[test]
    fn acked_and_idle_lotteries_make_room_first() {
        let mut books = Books::default();
        let numbers: Vec<u32> =
            (1..=MAX_LOTTERIES as u64).map(|epoch| open(&mut books, epoch, 500)).collect();
        books.started(numbers[0], Color::Green, None);
        numbers.iter().for_each(|number| _ = books.row(*number, 1));
        books.acked(1);
        assert!(matches!(books.open(1000, bps(500), Color::Blue, false), Opened::Ready(_)));
        assert!(books.row(numbers[0], 2).is_some(), "one in flight stays");
        assert!(books.row(numbers[1], 2).is_none());
    }
}
