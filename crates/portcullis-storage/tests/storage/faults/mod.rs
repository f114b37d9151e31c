//! Faults between a kernel and its server, the same on every backend that has a server: each is one body, which runs on
//! PostgreSQL and MariaDB (over TLS, as they are by default), etcd and Kubernetes. docs/store-invariants.md has the table.
//!
//! Flow: a real server → the test kit's proxy, which spoils the bytes → the kernel under test. A second kernel goes straight to
//! the server and says what is really there.

mod behind;
mod clocks;
mod load;
mod lost;
mod outage;
mod wire;

use behind::{Backend, Server};

/// Runs each fault on one server of each backend, one after the other, each in an empty store behind a proxy of its own.
macro_rules! faults {
    ($($fault:path),+ $(,)?) => {
        async fn all(backend: Backend) {
            let server = Server::start(backend).await;
            $(
                let begun = std::time::Instant::now();
                $fault(&server).await;
                println!("{:>6} ms {}", begun.elapsed().as_millis(), stringify!($fault));
            )+
        }
    };
}

faults!(
    lost::a_connection_that_ends_before_the_server_knows_has_done_nothing,
    lost::a_connection_that_ends_after_the_commit_is_told_as_unknown,
    lost::a_connection_that_ended_while_nobody_used_it_is_replaced,
    lost::a_write_is_recognised_by_its_nonce_whatever_was_lost,
    wire::a_reply_that_comes_twice_answers_nothing_else,
    wire::a_reply_that_comes_too_late_answers_nothing_else,
    wire::a_request_that_arrives_late_counts_once_at_most,
    load::a_storm_of_conflicts_is_counted_to_the_last,
    load::no_update_is_lost_over_a_network_that_loses_things,
    load::a_slow_store_is_waited_for,
    clocks::a_clock_that_is_set_ends_nothing_that_lives,
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_gone_for_a_minute_comes_back() {
    outage::gone_for_a_minute().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_is_survived_on_postgresql() {
    all(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_is_survived_on_mariadb() {
    all(Backend::MariaDb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_is_survived_on_etcd() {
    all(Backend::Etcd).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_is_survived_on_kubernetes() {
    all(Backend::Kubernetes).await;
}
