//! Free TCP ports for servers that cannot tell which port they took (Envoy's listeners come from files).
//!
//! Each port is asked of the kernel and released; the kernel hands out ephemeral ports in a random order, so that
//! a second taker within the same second is unlikely, and a test that meets one fails with "address in use".

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// `N` loopback addresses with distinct free ports.
pub fn free<const N: usize>() -> [SocketAddr; N] {
    let held: [TcpListener; N] =
        std::array::from_fn(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"));
    held.map(|listener| listener.local_addr().expect("its address"))
}
