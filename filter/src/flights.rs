//! Requests in flight: what must be known of one until its end, and how long the upstream has been silent.
//!
//! Age counts from the upstream's last byte, not from the request's start: a hung candidate completes nothing and
//! must show nevertheless, while a slow reader or a long stream must not. The clock is the proxy's wall clock,
//! which may jump, and a blocked worker sees time pass that no upstream caused: the tick forgives such gaps.

use hueshift_core::color::Color;
use hueshift_core::contract::ServiceId;

/// Most requests in flight that a worker watches; beyond that requests are steered and not booked.
pub const MAX_FLIGHTS: usize = 16_384;

/// A place in [`Flights`].
pub type FlightId = u32;

/// Which books a request is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Booking {
    /// The service.
    pub service: (ServiceId, u32),
    /// The lottery's number in the service's books.
    pub lottery: u32,
    /// The color that it drew.
    pub color: Color,
}

/// One request.
#[derive(Debug, Clone, Copy)]
pub struct Flight {
    /// Where it counts.
    pub booking: Booking,
    /// Its lottery slot; none where nothing was drawn (limit 0).
    pub slot: Option<u16>,
    /// When the request came.
    pub started_us: u64,
    /// When the response headers came.
    pub first_byte_us: Option<u64>,
    /// When the upstream last sent something (at first: when the request came).
    pub last_byte_us: u64,
    /// It was counted as hung.
    pub hung: bool,
}

/// All requests in flight of a worker.
#[derive(Debug, Default)]
pub struct Flights {
    places: Vec<Option<Flight>>,
    free: Vec<FlightId>,
}

// === impl Flights ===

impl Flights {
    /// Takes off; `None` when full.
    pub fn start(&mut self, flight: Flight) -> Option<FlightId> {
        if let Some(id) = self.free.pop() {
            *self.places.get_mut(id as usize)? = Some(flight);
            return Some(id);
        }
        if self.places.len() >= MAX_FLIGHTS {
            return None;
        }
        let id = FlightId::try_from(self.places.len()).ok()?;
        self.places.push(Some(flight));
        Some(id)
    }

    /// One that is still in the air.
    pub fn get_mut(&mut self, id: FlightId) -> Option<&mut Flight> {
        self.places.get_mut(id as usize)?.as_mut()
    }

    /// Lands.
    pub fn end(&mut self, id: FlightId) -> Option<Flight> {
        let flight = self.places.get_mut(id as usize)?.take()?;
        self.free.push(id);
        Some(flight)
    }

    /// All in the air.
    pub fn iter(&self) -> impl Iterator<Item = &Flight> {
        self.places.iter().flatten()
    }

    /// All in the air, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Flight> {
        self.places.iter_mut().flatten()
    }

    /// How many are in the air.
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Time passed that no upstream caused: nobody grows older by it.
    pub fn forgive(&mut self, gap_us: u64) {
        self.iter_mut().for_each(|flight| flight.last_byte_us = flight.last_byte_us.saturating_add(gap_us));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flight() -> Flight {
        let booking = Booking { service: (ServiceId::from_bytes([0; 8]), 1), lottery: 0, color: Color::Blue };
        Flight { booking, slot: None, started_us: 0, first_byte_us: None, last_byte_us: 0, hung: false }
    }

    #[test]
    fn places_are_used_again_and_bounded() {
        let mut flights = Flights::default();
        let ids: Vec<_> = (0..MAX_FLIGHTS).map(|_| flights.start(flight()).unwrap()).collect();
        assert_eq!(flights.start(flight()), None);
        assert!(flights.end(ids[7]).is_some() && flights.end(ids[7]).is_none());
        assert_eq!(flights.len(), MAX_FLIGHTS - 1);
        assert_eq!(flights.start(flight()), Some(ids[7]));
    }
}
