//! What the store promises, over its public API: the conformance suite on every backend, the invariants of
//! docs/store-invariants.md, and what happens to files that are not as they should be.

#[cfg(test)]
mod backups;
#[cfg(test)]
mod codes;
#[cfg(test)]
mod documents;
#[cfg(test)]
mod etcd;
#[cfg(test)]
mod facades;
#[cfg(test)]
mod families;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod filling;
#[cfg(test)]
mod gathering;
#[cfg(test)]
mod kernels;
#[cfg(test)]
mod kit;
#[cfg(test)]
mod leases;
#[cfg(test)]
mod logins;
#[cfg(test)]
mod migrations;
#[cfg(test)]
mod model;
#[cfg(test)]
mod objects;
#[cfg(test)]
mod sealing;
#[cfg(test)]
mod servers;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod sqlite;
#[cfg(test)]
mod vault;
