//! Randomness of the system, for what must not be guessed: keys and identities.

use std::io;

/// Draws `N` bytes.
pub fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let drawn = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())?;
    if drawn == N { Ok(bytes) } else { Err(io::Error::other("the system has no randomness")) }
}
