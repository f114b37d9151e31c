//! The Kubernetes kernel on a real kube-apiserver with etcd: the conformance suite, with the smallest rights, across restarts,
//! throttling and conflicts.

#[cfg(test)]
mod configured;
#[cfg(test)]
mod definition;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod kit;
#[cfg(test)]
mod leases;
#[cfg(test)]
mod suite;
