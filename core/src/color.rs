//! The two fixed slots, blue and green, and values kept once per slot.
//! A color never means good or bad, old or new; its *role* (stable, candidate) swaps on promotion.

use core::fmt;
use serde::{Deserialize, Serialize};

/// One of the two environments that are always deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Color {
    /// The slot named blue.
    Blue,
    /// The slot named green.
    Green,
}

/// One value per color.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PerColor<T> {
    /// The value of blue.
    pub blue: T,
    /// The value of green.
    pub green: T,
}

// === impl Color ===

impl Color {
    /// Both colors, in the order in which they are always listed.
    pub const BOTH: [Color; 2] = [Color::Blue, Color::Green];

    /// The color that this one is not.
    pub fn other(self) -> Color {
        match self {
            Color::Blue => Color::Green,
            Color::Green => Color::Blue,
        }
    }

    /// The name used on the wire, in documents and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Color::Blue => "blue",
            Color::Green => "green",
        }
    }
}

impl fmt::Display for Color {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl PerColor ===

impl<T> PerColor<T> {
    /// Makes both values with one function.
    pub fn from_fn(mut make: impl FnMut(Color) -> T) -> Self {
        PerColor { blue: make(Color::Blue), green: make(Color::Green) }
    }

    /// The value of `color`.
    pub fn get(&self, color: Color) -> &T {
        match color {
            Color::Blue => &self.blue,
            Color::Green => &self.green,
        }
    }

    /// The value of `color`, to change.
    pub fn get_mut(&mut self, color: Color) -> &mut T {
        match color {
            Color::Blue => &mut self.blue,
            Color::Green => &mut self.green,
        }
    }
}
