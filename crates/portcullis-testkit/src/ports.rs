//! Free ports on loopback, for programs that cannot be told to take port 0.

use std::net::{Ipv4Addr, TcpListener};

/// A port that was free a moment ago. Servers of our own take port 0 instead; whoever uses this must be ready to try
/// again, because another process may be faster.
#[must_use]
pub fn free_port() -> u16 {
    let [port] = free_ports();
    port
}

/// `N` different ports that were free a moment ago.
#[must_use]
pub fn free_ports<const N: usize>() -> [u16; N] {
    // All listeners are open at once, so that no port comes twice.
    let listeners: [TcpListener; N] =
        std::array::from_fn(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port"));
    listeners.map(|listener| listener.local_addr().expect("its address").port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_different_and_can_be_taken() {
        let mut ports = free_ports::<8>();
        ports.sort_unstable();
        assert!(ports.windows(2).all(|pair| pair[0] != pair[1]), "{ports:?}");
        TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).unwrap();
    }
}
