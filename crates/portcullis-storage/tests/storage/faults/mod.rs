//! Faults between a kernel and its server, the same on every backend that has a server: each is one body, which runs on
//! PostgreSQL and MariaDB (over TLS, as they are by default), etcd and Kubernetes. docs/store-invariants.md has the table.
//!
//! Flow: a real server → the test kit's proxy, which spoils the bytes → the kernel under test. A second kernel goes straight to
//! the server and says what is really there.

mod behind;
mod clocks;
mod load;
mod lost;
mod many;
mod outage;
mod wire;

use behind::{Backend, Server};

/// A function that makes each of these faults, one after the other, each in an empty store behind a proxy of its own.
macro_rules! faults {
    ($name:ident: $($fault:path),+ $(,)?) => {
        async fn $name(server: &Server) {
            $(
                let begun = std::time::Instant::now();
                $fault(server).await;
                println!("{:>6} ms {}", begun.elapsed().as_millis(), stringify!($fault));
            )+
        }
    };
}

faults!(
    that_keep_a_server_busy:
    lost::a_connection_that_ends_before_the_server_knows_has_done_nothing,
    lost::a_connection_that_ends_after_the_commit_is_told_as_unknown,
    lost::a_write_is_recognised_by_its_nonce_whatever_was_lost,
    wire::a_reply_that_comes_twice_answers_nothing_else,
    many::a_page_of_an_index_is_right_whatever_was_lost,
    many::the_collector_tells_what_it_has_done,
    many::a_snapshot_is_whole_or_an_error,
    load::of_a_storm_of_conflicts_one_wins_each_round,
    load::no_update_is_lost_over_a_network_that_loses_things,
);
faults!(
    that_are_waited_for:
    wire::a_reply_that_comes_too_late_answers_nothing_else,
    wire::a_request_that_arrives_late_counts_once_at_most,
    lost::a_connection_that_ended_while_nobody_used_it_is_replaced,
    load::a_slow_store_is_waited_for,
    clocks::a_clock_that_is_set_ends_nothing_that_lives,
);

/// On one server of a backend.
async fn all(backend: Backend) {
    let server = Server::start(backend).await;
    tokio::join!(that_keep_a_server_busy(&server), that_are_waited_for(&server));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_gone_for_a_minute_comes_back() {
    outage::gone_for_a_minute().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_is_survived_on_postgresql() {
    Box::pin(all(Backend::Postgres)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_is_survived_on_mariadb() {
    Box::pin(all(Backend::MariaDb)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_is_survived_on_etcd() {
    Box::pin(all(Backend::Etcd)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_is_survived_on_kubernetes() {
    Box::pin(all(Backend::Kubernetes)).await;
}
