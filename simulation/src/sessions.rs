//! Who asks next: sessions with their lottery slot, their activity and their own pace.

use super::Sessions;
use crate::chance::Chance;

/// Slots of the lottery.
pub(super) const SLOTS: u64 = 10_000;

/// The population.
pub(super) struct Population {
    kind: Sessions,
    /// Alias table over activity: (chance to stay, where else).
    alias: Vec<(f64, usize)>,
    members: Vec<Member>,
}

/// One session.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Member {
    pub slot: u16,
    /// What its requests take longer or shorter, in histogram buckets.
    pub pace: f64,
    /// How its predictions differ from others', in standard deviations.
    pub taste: f64,
    left: Option<u32>,
}

// === impl Population ===

impl Population {
    pub fn new(kind: Sessions, chance: &mut Chance) -> Self {
        let (count, zipf) = match kind {
            Sessions::PerRequest => (0, 0.0),
            Sessions::Sticky { count, zipf, .. } => (count, zipf),
        };
        let mut population = Population { kind, alias: alias(count, zipf), members: Vec::new() };
        population.members = (0..count).map(|_| population.member(chance)).collect();
        population
    }

    /// The session of the next request.
    pub fn next(&mut self, chance: &mut Chance) -> Member {
        if self.alias.is_empty() {
            return self.member(chance);
        }
        let place = chance.below(self.alias.len() as u64) as usize;
        let (stays, other) = self.alias[place];
        let at = if chance.unit() < stays { place } else { other };
        let member = self.members[at];
        if let Some(left) = self.members[at].left {
            if left <= 1 {
                self.members[at] = self.member(chance);
            } else {
                self.members[at].left = Some(left - 1);
            }
        }
        member
    }

    /// A session, however active: for failures that hit clients and not requests.
    pub fn any(&self, chance: &mut Chance) -> Member {
        match self.members.len() {
            0 => Member { slot: chance.below(SLOTS) as u16, ..Member::default() },
            n => self.members[chance.below(n as u64) as usize],
        }
    }

    fn member(&self, chance: &mut Chance) -> Member {
        let slot = chance.below(SLOTS) as u16;
        match self.kind {
            Sessions::PerRequest => Member { slot, ..Member::default() },
            Sessions::Sticky { sigma, requests, .. } => {
                // Ages are spread, else all sessions end at the same time.
                let left = requests.map(|n| 1 + chance.below(2 * u64::from(n)) as u32);
                Member { slot, pace: buckets(sigma * chance.normal()), taste: chance.normal(), left }
            }
        }
    }
}

/// A difference of ln(latency) in histogram buckets.
pub(super) fn buckets(ln: f64) -> f64 {
    ln * 16.0 / std::f64::consts::LN_2
}

/// Vose's alias table for weights 1/rank^exponent.
fn alias(count: usize, exponent: f64) -> Vec<(f64, usize)> {
    let weights: Vec<f64> = (1..=count).map(|rank| (rank as f64).powf(-exponent)).collect();
    let total: f64 = weights.iter().sum();
    let mut scaled: Vec<f64> = weights.iter().map(|w| w / total * count as f64).collect();
    let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..count).partition(|i| scaled[*i] < 1.0);
    let mut table = vec![(1.0, 0); count];
    while let (Some(less), Some(more)) = (small.pop(), large.pop()) {
        table[less] = (scaled[less], more);
        scaled[more] -= 1.0 - scaled[less];
        if scaled[more] < 1.0 { small.push(more) } else { large.push(more) }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activity_follows_its_law_and_sessions_end() {
        let mut chance = Chance::new(1);
        let kind = Sessions::Sticky { count: 4, zipf: 1.0, sigma: 0.0, requests: None };
        let mut population = Population::new(kind, &mut chance);
        let first = population.members[0].slot;
        let hits = (0..100_000).filter(|_| population.next(&mut chance).slot == first).count();
        // 1 / (1 + 1/2 + 1/3 + 1/4) = 0.48
        assert!((47_000..49_000).contains(&hits), "{hits}");
        let kind = Sessions::Sticky { count: 4, zipf: 0.0, sigma: 1.0, requests: Some(10) };
        let mut population = Population::new(kind, &mut chance);
        let slots: std::collections::BTreeSet<u16> =
            (0..1_000).map(|_| population.next(&mut chance).slot).collect();
        assert!((70..150).contains(&slots.len()), "{}", slots.len());
    }
}
