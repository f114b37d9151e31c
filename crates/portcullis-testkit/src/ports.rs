//! Free ports on loopback, for programs that cannot be told to take port 0.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, TcpListener},
    sync::{Mutex, PoisonError},
};

/// A port that was free a moment ago. Servers of our own take port 0 instead; whoever uses this must be ready to try
/// again, because another process may be faster.
#[must_use]
pub fn free_port() -> u16 {
    let [port] = free_ports();
    port
}

/// `N` different ports that were free a moment ago, and that nobody else in this process was given: tests run beside each other,
/// and one that finds its port taken would take the other's server for its own.
#[must_use]
pub fn free_ports<const N: usize>() -> [u16; N] {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    // Those that were given before stay open until all are found, so that none comes again.
    let mut used = Vec::new();
    std::array::from_fn(|_| {
        loop {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
            let port = listener.local_addr().expect("its address").port();
            used.push(listener);
            if given.insert(port) {
                return port;
            }
        }
    })
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
