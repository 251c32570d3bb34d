//! Conservation of counts: clients, model servers, filters and the controller tell of the same requests.
//!
//! A request that a client sent once was served once. What was served under a release's plan is booked by the filter
//! that drew its color, and the record of the release says what the reports said at one moment. Each contradiction is
//! one sentence; none means that the logs agree.
//!
//! Filters book only what they drew, so what ran around the beginning and the end of a release is bounded from both
//! sides; a candidate that was rolled back got nothing but what was drawn, and its counts must be equal.

use super::Story;
use crate::client::Sent;
use crate::model::Served;
use hueshift::view::{Counted, ReleaseRecord};
use hueshift_core::color::{Color, PerColor};
use hueshift_core::contract::{Report, ServiceId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A report, as the controller took it.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// When, Unix ns.
    pub at: u64,
    /// What it said.
    pub report: Report,
}

/// What the filters booked for a color.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Booked {
    /// Requests whose color was drawn.
    pub started: u64,
    /// Those with an outcome.
    pub completed: u64,
    /// Of those, failures.
    pub errors: u64,
}

/// The sum of all workers' books of one release, report by report.
#[derive(Debug, Default)]
struct Ledger {
    books: BTreeMap<Book, PerColor<Booked>>,
    sum: PerColor<Booked>,
}

/// Node id, incarnation and number of a worker; epoch and limit of a lottery.
type Book = (String, u64, u64, u64, u16);

/// A report's way to the controller takes no longer, on a busy machine either: what a client saw this long before a
/// worker's last report is in it.
const WAY: Duration = Duration::from_secs(3);

/// Every answer of a model stands in that model's log, once for each request: nobody sent a request again.
pub fn served_once(clients: &[Sent], servers: &[Served]) -> Vec<String> {
    type Key<'a> = (u32, Color, &'a str);
    let begin = clients.iter().map(|event| event.sent).min().unwrap_or(0);
    let mut answers: BTreeMap<Key<'_>, usize> = BTreeMap::new();
    let mut lost: BTreeMap<u32, usize> = BTreeMap::new();
    for event in clients {
        match event.color {
            Some(color) => {
                let key = (event.session, color, event.revision.as_deref().unwrap_or(""));
                *answers.entry(key).or_default() += 1;
            }
            None => *lost.entry(event.session).or_default() += 1,
        }
    }
    let sessions: BTreeSet<u32> = clients.iter().map(|event| event.session).collect();
    let mut served: BTreeMap<Key<'_>, usize> = BTreeMap::new();
    for event in servers.iter().filter(|event| event.at >= begin && sessions.contains(&event.session)) {
        *served.entry((event.session, event.color, &*event.revision)).or_default() += 1;
    }
    let keys: BTreeSet<Key<'_>> = answers.keys().chain(served.keys()).copied().collect();
    let mut found = Vec::new();
    for key in keys {
        let (session, color, revision) = key;
        let count = |of: &BTreeMap<Key<'_>, usize>| of.get(&key).copied().unwrap_or(0);
        let (got, gave, lost) = (count(&answers), count(&served), lost.get(&session).copied().unwrap_or(0));
        if gave < got || gave > got + lost {
            found.push(format!(
                "session {session} got {got} answers of {color} {revision} and {lost} none; its servers were asked \
                 {gave} times"
            ));
        }
    }
    found
}

/// Whether reports and record of a release agree with what clients saw. No worker's VM may have died in it: its last
/// counts died with it.
pub fn agree(
    clients: &[Sent],
    reports: &[Told],
    service: ServiceId,
    story: &Story,
    record: &ReleaseRecord,
) -> Vec<String> {
    let mut ledger = Ledger::default();
    let mut recorded = record.requests == PerColor::default();
    let mut workers: BTreeMap<(String, u64), (u64, u64)> = BTreeMap::new();
    let mut found = Vec::new();
    for told in reports {
        let Report { proxy, incarnation, vm, .. } = &told.report;
        let plans = told.report.plans.iter();
        for plan in plans.filter(|plan| plan.id == service && plan.release == record.release) {
            let worker = workers.entry((proxy.clone(), *vm)).or_insert((told.at, told.at));
            worker.1 = told.at;
            for lottery in &plan.lotteries {
                let book = (proxy.clone(), *incarnation, *vm, lottery.epoch, lottery.limit.get());
                let now = PerColor::from_fn(|color| {
                    let tally = lottery.tallies.get(color);
                    Booked { started: tally.started, completed: tally.completed, errors: tally.errors }
                });
                if let Err(why) = ledger.book(book, now) {
                    found.push(why);
                }
            }
        }
        recorded |= ledger.says(&record.requests);
    }
    if workers.is_empty() {
        found.push(format!("no filter reported release {}", record.release));
        return found;
    }
    if !recorded {
        found.push(format!(
            "the record says {:?}; the reports never said so, and at the end {:?}",
            record.requests, ledger.sum
        ));
    }
    // All workers knew the release from here on, and each of them reported again after this. What runs after the end of
    // the release is drawn by nobody.
    let from = workers.values().map(|(first, _)| *first).max().unwrap_or(u64::MAX);
    let way = u64::try_from(WAY.as_nanos()).unwrap_or(u64::MAX);
    let told = workers.values().map(|(_, last)| last.saturating_sub(way)).min().unwrap_or(0);
    let until = told.min(record.ended_ms.saturating_mul(1_000_000));
    let end = workers.values().map(|(_, last)| *last).max().unwrap_or(0);
    let open: Vec<&Sent> = clients.iter().filter(|e| e.done >= story.began && e.sent <= end).collect();
    let lost = open.iter().filter(|event| event.lost()).count();
    for color in Color::BOTH {
        let its = || open.iter().filter(|event| event.color == Some(color));
        let only_drawn = story.rolled_back && color == story.candidate;
        let sure = |event: &&&Sent| only_drawn || (event.sent > from && event.done < until);
        let Booked { started, errors, .. } = *ledger.sum.get(color);
        let mut compare = |what: &str, booked: u64, least: usize, most: usize| {
            if booked < least as u64 || booked > most as u64 {
                found.push(format!(
                    "{color}: the filters booked {booked} {what}; by the clients it was {least} to {most}"
                ));
            }
        };
        compare("requests", started, its().filter(sure).count(), its().count() + lost);
        let bad = its().filter(|event| event.bad());
        compare("failures", errors, bad.clone().filter(sure).count(), bad.count() + lost);
    }
    found
}

// === impl Ledger ===

impl Ledger {
    fn book(&mut self, book: Book, now: PerColor<Booked>) -> Result<(), String> {
        let before = self.books.insert(book.clone(), now).unwrap_or_default();
        for color in Color::BOTH {
            let (now, before, sum) = (now.get(color), before.get(color), self.sum.get_mut(color));
            let grows = now.started >= before.started
                && now.completed >= before.completed
                && now.errors >= before.errors;
            if !grows || now.completed > now.started || now.errors > now.completed {
                return Err(format!("{book:?} of {color} went from {before:?} to {now:?}"));
            }
            sum.started += now.started - before.started;
            sum.completed += now.completed - before.completed;
            sum.errors += now.errors - before.errors;
        }
        Ok(())
    }

    fn says(&self, requests: &PerColor<Counted>) -> bool {
        Color::BOTH.into_iter().all(|color| {
            let (sum, counted) = (self.sum.get(color), requests.get(color));
            (sum.completed, sum.errors) == (counted.n, counted.errors)
        })
    }
}

#[cfg(test)]
mod tests;
