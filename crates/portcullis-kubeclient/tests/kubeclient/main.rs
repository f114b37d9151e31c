//! The client against a server that answers as it is told, and against a real kube-apiserver.

#[cfg(test)]
mod real;
#[cfg(test)]
mod scripted;
#[cfg(test)]
mod server;
#[cfg(test)]
mod watches;
