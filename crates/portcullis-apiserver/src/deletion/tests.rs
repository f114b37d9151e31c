//! The amount of work that owners can cause. What becomes of objects is compared with upstream's controllers in `tests/`.

use std::time::Duration;

use portcullis_runtime::Shutdown;
use serde_json::{Map, Value, json};

use super::start;
use crate::resources::{self, config_maps, strategy};
use crate::store::StoreError;
use crate::store::graph::Task;
use crate::world::{World, world};

/// Most objects of one test.
const MANY: usize = 3_000;

fn uid(number: usize) -> String {
    format!("uid-{number}")
}

/// An object with a number, owned by others.
fn map(number: usize, owners: &[usize], finalizers: &[&str]) -> Map<String, Value> {
    let reference = |owner: &usize| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": format!("m{owner}"), "uid": uid(*owner), "blockOwnerDeletion": true});
    let owners: Vec<Value> = owners.iter().map(reference).collect();
    let metadata = json!({"name": format!("m{number}"), "namespace": "default", "uid": uid(number), "ownerReferences": owners,
        "finalizers": finalizers});
    strategy::shape(config_maps(), json!({"metadata": metadata}).as_object().unwrap().clone())
}

/// Stores objects from the last to the first, so that no owner is missed, and does nothing about them yet.
fn fill(world: &World, objects: impl Iterator<Item = Map<String, Value>>) {
    while world.engine.work_off() {}
    for object in objects {
        world.engine.store.create(config_maps(), object).unwrap();
    }
}

async fn delete_first(world: &World, policy: &str) -> usize {
    let line = format!("DELETE /api/v1/namespaces/default/configmaps/m0?propagationPolicy={policy}");
    let reply = world.send(crate::http::Call::test(&line, "").with("authorization", "Bearer admin")).await;
    assert_eq!(reply.status, 200);
    let mut steps = 0;
    while world.engine.work_off() {
        steps += 1;
        assert!(steps < 20 * MANY, "the work does not end");
    }
    steps
}

fn left(world: &World) -> usize {
    // The map with the authorities is not one of them.
    world.engine.store.all(config_maps(), "default").len() - 1
}

#[tokio::test]
async fn a_long_chain_of_owners_costs_a_few_steps_for_each() {
    for policy in ["Background", "Foreground"] {
        let world = world();
        fill(&world, (0..MANY).map(|number| map(number, &number.checked_sub(1).into_iter().collect::<Vec<_>>(), &[])));
        let steps = delete_first(&world, policy).await;
        assert_eq!(left(&world), 0, "{policy}");
        assert!(steps <= 6 * MANY, "{policy}: {steps}");
    }
}

#[tokio::test]
async fn an_owner_of_many_is_looked_at_a_few_times() {
    for policy in ["Background", "Foreground", "Orphan"] {
        let world = world();
        fill(&world, (0..MANY).map(|number| map(number, if number == 0 { &[] } else { &[0] }, &[])));
        let steps = delete_first(&world, policy).await;
        assert_eq!(left(&world), if policy == "Orphan" { MANY - 1 } else { 0 }, "{policy}");
        assert!(steps <= 4 * MANY, "{policy}: {steps}");
    }
}

#[tokio::test]
async fn a_cycle_ends() {
    for policy in ["Background", "Foreground"] {
        let world = world();
        fill(&world, (0..MANY).map(|number| map(number, &[(number + MANY - 1) % MANY], &[])));
        // Those whose owner is made later would count as lost: here all are there.
        let steps = delete_first(&world, policy).await;
        assert_eq!(left(&world), 0, "{policy}");
        assert!(steps <= 8 * MANY, "{policy}: {steps}");
    }
}

#[tokio::test]
async fn what_is_held_is_asked_once_and_not_for_ever() {
    let world = world();
    fill(
        &world,
        (0..100)
            .map(|number| map(number, if number == 0 { &[] } else { &[0] }, if number == 0 { &[] } else { &["a/b"] })),
    );
    let steps = delete_first(&world, "Foreground").await;
    assert_eq!(left(&world), 100);
    assert!(steps < 1_000, "{steps}");
    assert!(!world.engine.work_off());
}

#[tokio::test]
async fn a_namespace_with_more_than_is_deleted_at_a_time_is_emptied() {
    let world = world();
    world.admin("POST /api/v1/namespaces", r#"{"metadata":{"name":"full"}}"#).await;
    for number in 0..1_200 {
        let members =
            json!({"metadata": {"name": format!("m{number}"), "namespace": "full", "uid": format!("f{number}")}});
        world.engine.store.create(config_maps(), members.as_object().unwrap().clone()).unwrap();
    }
    let reply = world
        .send(crate::http::Call::test("DELETE /api/v1/namespaces/full", "").with("authorization", "Bearer admin"))
        .await;
    assert_eq!(reply.status, 200);
    assert!(world.engine.work_off());
    assert!(world.engine.store.get(resources::namespaces(), "", "full").is_some(), "it takes several turns");
    while world.engine.work_off() {}
    assert!(world.engine.store.get(resources::namespaces(), "", "full").is_none());
    let late = json!({"metadata": {"name": "late", "namespace": "full"}}).as_object().unwrap().clone();
    assert_eq!(world.engine.store.create(config_maps(), late).unwrap_err(), StoreError::NoNamespace);
}

#[tokio::test]
async fn a_panic_ends_the_work_that_can_be_started_again() {
    const PATIENCE: Duration = Duration::from_secs(30);
    let world = world();
    let stop = Shutdown::new();
    let mut jobs = start(&world.engine, &stop);
    world.engine.store.ask([Task::Bug]);
    let ended = tokio::time::timeout(PATIENCE, jobs.join_next()).await.unwrap().unwrap();
    assert!(ended.unwrap_err().is_panic());
    jobs.shutdown().await;

    let mut jobs = start(&world.engine, &stop);
    let mut changes = world.engine.store.subscribe(config_maps()).unwrap();
    world.engine.store.create(config_maps(), map(0, &[], &[])).unwrap();
    world.engine.store.create(config_maps(), map(1, &[0], &[])).unwrap();
    let reply = crate::http::Call::test("DELETE /api/v1/namespaces/default/configmaps/m0", "");
    assert_eq!(world.send(reply.with("authorization", "Bearer admin")).await.status, 200);
    let gone = async {
        while left(&world) > 0 {
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
    stop.trigger();
    while let Some(ended) = tokio::time::timeout(PATIENCE, jobs.join_next()).await.unwrap() {
        ended.unwrap();
    }
}
