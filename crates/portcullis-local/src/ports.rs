//! Loopback listeners for `up`: the wanted port where it is free, another one with a word where it is not.
//!
//! Every listener is bound to 127.0.0.1, and to ::1 on the same port where the machine has it, because `localhost` means
//! either. Nothing here ever binds another address.

use std::fmt;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::Path;

/// How many free ports are tried when the wanted one is taken and the next one's other address family is busy.
const ATTEMPTS: usize = 16;

/// Listeners on one loopback port.
#[derive(Debug)]
pub struct Loopback {
    /// The port.
    pub port: u16,
    /// One listener, or two where the machine has ::1.
    pub listeners: Vec<TcpListener>,
    /// The wanted port and what was in the way, when another was taken.
    pub moved_from: Option<(u16, Obstacle)>,
}

/// Why a port cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Somebody listens there.
    Held(Holder),
    /// This user may not listen there: low ports are the system's.
    NotAllowed,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held(holder) => write!(f, "is held by {holder}"),
            Self::NotAllowed => f.write_str("may not be listened on by this user"),
        }
    }
}

impl Obstacle {
    fn of(error: &io::Error, port: u16) -> Option<Self> {
        match error.kind() {
            io::ErrorKind::AddrInUse => Some(Self::Held(holder(port))),
            io::ErrorKind::PermissionDenied => Some(Self::NotAllowed),
            _ => None,
        }
    }
}

/// The process that listens on a port, as far as this user may know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A process that may be named.
    Process {
        /// Its id.
        pid: u32,
        /// Its short name.
        name: String,
    },
    /// Somebody else's, or the system does not tell.
    Unknown,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, name } => write!(f, "{name} (process {pid})"),
            Self::Unknown => f.write_str("another process"),
        }
    }
}

/// Binds `wanted` on loopback, or a free port when it is taken; 0 asks for a free one.
///
/// # Errors
/// No loopback port can be bound at all, or the wanted one is refused for another reason than being taken.
pub fn bind(wanted: u16) -> io::Result<Loopback> {
    match bind_both(wanted) {
        Ok((port, listeners)) => Ok(Loopback { port, listeners, moved_from: None }),
        Err(error) => {
            let Some(obstacle) = Obstacle::of(&error, wanted) else { return Err(error) };
            let (port, listeners) = (0..ATTEMPTS).find_map(|_| bind_both(0).ok()).ok_or(error)?;
            Ok(Loopback { port, listeners, moved_from: Some((wanted, obstacle)) })
        }
    }
}

/// Binds a port that was bound before, on loopback, and no other.
///
/// # Errors
/// Somebody else has it now.
pub fn bind_again(port: u16) -> io::Result<Vec<TcpListener>> {
    bind_both(port).map(|(_, listeners)| listeners)
}

/// What keeps a loopback port from being listened on; `None` when it is free.
#[must_use]
pub fn obstacle(port: u16) -> Option<Obstacle> {
    let error = bind_both(port).err()?;
    Some(Obstacle::of(&error, port).unwrap_or(Obstacle::Held(Holder::Unknown)))
}

fn bind_both(port: u16) -> io::Result<(u16, Vec<TcpListener>)> {
    let first = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    let port = first.local_addr()?.port();
    match listen(SocketAddr::from((Ipv6Addr::LOCALHOST, port))) {
        Ok(second) => Ok((port, vec![first, second])),
        // A machine without IPv6 is not a reason to move.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        Err(_) => Ok((port, vec![first])),
    }
}

/// The standard library sets SO_REUSEADDR on Unix, so that a port in TIME_WAIT is free.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Finds a listening socket's inode in /proc/net and its process in /proc. Elsewhere than on Linux nothing is known.
fn holder(port: u16) -> Holder {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|text| listening_inodes(&text, port))
        .collect();
    let Ok(processes) = fs::read_dir("/proc") else { return Holder::Unknown };
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if holds_one_of(&process.path(), &inodes) {
            return Holder::Process { pid, name: name_of(&process.path()) };
        }
    }
    Holder::Unknown
}

/// A process' name. The system keeps 15 bytes of it; the whole one begins the command line, unless the process has changed that.
fn name_of(process: &Path) -> String {
    let short = fs::read_to_string(process.join("comm")).unwrap_or_default();
    let line = fs::read(process.join("cmdline")).unwrap_or_default();
    let program = line.split(|byte| *byte == 0).next().unwrap_or_default();
    let program = String::from_utf8_lossy(program.rsplit(|byte| *byte == b'/').next().unwrap_or_default());
    let short = short.trim();
    if !short.is_empty() && program.starts_with(short) { program.into_owned() } else { short.to_owned() }
}

fn holds_one_of(process: &Path, inodes: &[String]) -> bool {
    let Ok(files) = fs::read_dir(process.join("fd")) else { return false };
    files.flatten().filter_map(|file| fs::read_link(file.path()).ok()).any(|link| {
        let link = link.to_string_lossy();
        inodes.iter().any(|inode| link.strip_prefix("socket:[").and_then(|l| l.strip_suffix(']')) == Some(inode))
    })
}

/// Inodes of sockets in state LISTEN (0A) on `port`, from the text of /proc/net/tcp or tcp6.
fn listening_inodes(table: &str, port: u16) -> Vec<String> {
    let suffix = format!(":{port:04X}");
    let row = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let listening = fields.get(1)?.ends_with(&suffix) && *fields.get(3)? == "0A";
        if listening { fields.get(9).map(|inode| (*inode).to_owned()) } else { None }
    };
    table.lines().skip(1).filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_moves_and_names_its_holder() {
        let held = bind(0).unwrap();
        let other = bind(held.port).unwrap();
        assert_ne!(other.port, held.port);
        let (wanted, obstacle) = other.moved_from.unwrap();
        assert_eq!(wanted, held.port);
        if cfg!(target_os = "linux") {
            let Obstacle::Held(Holder::Process { pid, name }) = &obstacle else { panic!("{obstacle}") };
            assert_eq!(
                (*pid, obstacle.to_string()),
                (std::process::id(), format!("is held by {name} (process {pid})"))
            );
        }
    }

    #[test]
    fn listeners_are_on_loopback_only() {
        for listener in bind(0).unwrap().listeners {
            assert!(listener.local_addr().unwrap().ip().is_loopback());
        }
    }

    #[test]
    fn a_free_port_is_not_taken() {
        let port = bind(0).unwrap().port;
        assert_eq!(obstacle(port), None);
    }

    #[test]
    fn a_port_that_this_user_may_not_have_is_not_said_to_be_held() {
        let refused = io::Error::from(io::ErrorKind::PermissionDenied);
        assert_eq!(Obstacle::of(&refused, 80), Some(Obstacle::NotAllowed));
        assert_eq!(Obstacle::of(&io::ErrorKind::AddrNotAvailable.into(), 80), None);
    }

    #[test]
    fn the_socket_table_is_read_by_port_and_state() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
                     0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 123 1 x\n\
                     1: 0100007F:1F40 0100007F:0001 01 00000000:00000000 00:00000000 00000000     0        0 456 1 x\nshort\n";
        assert_eq!(listening_inodes(table, 8000), ["123"]);
        assert!(listening_inodes(table, 8001).is_empty());
    }
}
