//! Shares of traffic in basis points, so that weights stay integers from the document to the proxy.

use core::fmt;
use serde::{Deserialize, Serialize};

/// A share of traffic: 0..=10 000 basis points (1 bp = 0.01 %).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Bps(u16);

/// A number of basis points above 10 000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareTooLarge(pub u16);

// === impl Bps ===

impl Bps {
    /// Nothing.
    pub const ZERO: Bps = Bps(0);
    /// Everything.
    pub const ALL: Bps = Bps(10_000);

    /// Checks the range. `const`, so that fixed shares are checked by the compiler.
    pub const fn new(bps: u16) -> Result<Bps, ShareTooLarge> {
        if bps <= 10_000 { Ok(Bps(bps)) } else { Err(ShareTooLarge(bps)) }
    }

    /// The number of basis points, 0..=10 000.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// What is left for the other color: the two always sum to 10 000.
    pub const fn rest(self) -> Bps {
        Bps(10_000 - self.0)
    }

    /// As a fraction 0..=1, for judging only.
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }
}

impl TryFrom<u16> for Bps {
    type Error = ShareTooLarge;
    fn try_from(bps: u16) -> Result<Self, ShareTooLarge> {
        Bps::new(bps)
    }
}

impl From<Bps> for u16 {
    fn from(share: Bps) -> u16 {
        share.0
    }
}

impl fmt::Display for Bps {
    /// As people write it: `5 %`, `0.5 %`, `12.34 %`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 100, self.0 % 100);
        match part {
            0 => write!(f, "{whole} %"),
            p if p % 10 == 0 => write!(f, "{whole}.{} %", p / 10),
            p => write!(f, "{whole}.{p:02} %"),
        }
    }
}

impl fmt::Display for ShareTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} basis points are more than 100 % (10000)", self.0)
    }
}

impl core::error::Error for ShareTooLarge {}
