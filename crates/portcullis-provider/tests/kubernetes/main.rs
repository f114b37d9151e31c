//! Two replicas of the provider on one real cluster: what one has given out the other knows.

#[cfg(test)]
mod replicas;
