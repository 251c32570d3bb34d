//! Free TCP ports for servers that cannot tell which port they took (Envoy's listeners come from files).
//!
//! They lie below the range from which the kernel takes the ports of outgoing connections (and of `bind` to port 0):
//! a port of that range that is free now may be some client's a moment later, Envoy then refuses the listener, once,
//! and serves nobody. Among tests each port is claimed by a name that the kernel drops when the process ends.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener};
use std::sync::Mutex;

/// Where Linux does not take ports of its own accord (`net.ipv4.ip_local_port_range` begins at 32768).
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// What this process claimed.
static CLAIMS: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());

/// `N` loopback addresses with distinct free ports.
pub fn free<const N: usize>() -> [SocketAddr; N] {
    std::array::from_fn(|_| {
        let mut ports = PORTS;
        ports.find_map(claim).expect("a free port")
    })
}

/// The port, if no test has it and nobody listens there.
fn claim(port: u16) -> Option<SocketAddr> {
    let name = UnixAddress::from_abstract_name(format!("hueshift-tests/port/{port}")).expect("a short name");
    let claim = UnixListener::bind_addr(&name).ok()?;
    CLAIMS.lock().expect("nobody panics with it").push(claim);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpListener::bind(address).is_ok().then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_distinct_and_not_the_kernels() {
        let [a, b, c] = free();
        assert!(a != b && b != c && a != c);
        for address in [a, b, c] {
            assert!(PORTS.contains(&address.port()));
            assert_eq!(claim(address.port()), None, "it is taken");
        }
    }
}
