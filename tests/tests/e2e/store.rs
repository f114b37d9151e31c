//! `portcullis store` beside the released `portcullis serve`: people stay signed in through a backup, a restore and a move to
//! another backend.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use portcullis_testkit::{Database, DatabaseKind, DatabaseOptions, TestCa, free_ports};
use rustix::process::Signal;
use serde_json::Value;

use crate::databases::{GOOD, config, refresh, replica, token};
use crate::world::{Running, USER, World, bin, eventually, finish};

const SIGN_IN: [(&str, &str); 4] =
    [("grant_type", "password"), ("username", USER), ("password", GOOD), ("scope", "openid offline_access")];

fn store(world: &World, arguments: &[&str]) -> Output {
    world.portcullis(&[&["store"], arguments].concat()).output().unwrap()
}

/// What it printed, when it has succeeded.
fn done(output: &Output) -> (String, String) {
    let (out, err) = texts(output);
    assert!(output.status.success(), "{out}{err}");
    (out, err)
}

fn refused(output: &Output, code: i32) -> String {
    let (out, err) = texts(output);
    assert_eq!(output.status.code(), Some(code), "{out}{err}");
    assert_eq!(out, "", "data of what has failed");
    err
}

fn texts(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn stop(serves: Running) {
    serves.signal(Signal::TERM);
    serves.output();
}

/// The same under a limit on the size of files, which stands for a full disk.
fn limited(world: &World, bytes: u64, arguments: &[&str]) -> Output {
    let mut command = world.command("prlimit");
    command.arg(format!("--fsize={bytes}:")).arg(bin().join("portcullis")).arg("store").args(arguments);
    command.output().unwrap()
}

fn sqlite(world: &World, name: &str) -> String {
    format!("{{type: sqlite3, config: {{file: '{}'}}}}", world.home().join(name).display())
}

#[tokio::test(flavor = "multi_thread")]
async fn people_stay_signed_in_through_a_backup_and_a_restore_and_a_move_to_postgresql() {
    let database = Database::start(DatabaseKind::Postgres, DatabaseOptions::default());
    database.create("dex");
    let world = World::new();
    let [port] = free_ports();
    let http = TestCa::default().http_client();
    let at = |name: &str, storage: &str| {
        let file = config(&world, name, port, port, storage);
        file.to_str().unwrap().to_owned()
    };
    let first = at("first.yaml", &sqlite(&world, "first.db"));
    let second = at("second.yaml", &sqlite(&world, "second.db"));
    let third = at(
        "third.yaml",
        &format!(
            "{{type: postgres, config: {{host: 127.0.0.1, port: {}, user: {}, password: {}, database: dex, ssl: {{mode: disable}}}}}}",
            database.port(),
            Database::USER,
            Database::PASSWORD
        ),
    );
    let backup = world.home().join("store.backup");
    let backup = backup.to_str().unwrap();

    let nothing = refused(&store(&world, &["info", &first]), 1);
    assert!(nothing.contains("there is no store in") && nothing.contains("hint:"), "{nothing}");
    assert!(!world.home().join("first.db").exists(), "looking makes no store");

    for command in [&["info", &third][..], &["check", &third], &["backup", &third, backup], &["copy", &third, &second]]
    {
        let nothing = refused(&store(&world, command), 1);
        assert!(nothing.contains("there is no store in the PostgreSQL database \"dex\""), "{command:?}: {nothing}");
        assert!(nothing.contains("hint:") && !nothing.contains(Database::PASSWORD), "{nothing}");
    }
    let tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'";
    assert_eq!(database.ask("dex", tables).trim(), "0", "looking makes no tables");

    // While it serves.
    let serves = replica(&world, port, port, &sqlite(&world, "first.db"));
    let signed_in = token(&http, port, &SIGN_IN).await.unwrap();
    let early = signed_in["refresh_token"].as_str().unwrap().to_owned();
    let (info, _) = done(&store(&world, &["info", &first]));
    assert!(info.contains("sqlite3") && info.contains("first.db") && info.contains("family"), "{info}");
    let (json, _) = done(&store(&world, &["info", &first, "-o", "json"]));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["backend"], &json["kinds"]["family"]["records"]), (&"sqlite3".into(), &1.into()));
    let (checked, _) = done(&store(&world, &["check", &first]));
    assert!(checked.contains(" records, 0 findings"), "{checked}");
    let (_, said) = done(&store(&world, &["backup", &first, backup]));
    assert!(said.contains("records in ") && said.contains("secrets are in clear"), "{said}");
    assert_eq!(std::fs::metadata(backup).unwrap().permissions().mode() & 0o777, 0o600);
    let again = refused(&store(&world, &["backup", &first, backup]), 1);
    assert!(again.contains("exists already"), "{again}");
    let left: Vec<_> = std::fs::read_dir(world.home()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("partial")), "{left:?}");
    let streamed = store(&world, &["backup", &first, "-"]);
    assert!(streamed.status.success() && streamed.stdout.starts_with(b"{\"backup\""));
    let late = token(&http, port, &SIGN_IN).await.unwrap()["refresh_token"].as_str().unwrap().to_owned();
    stop(serves);

    // As it was: who signed in afterwards has to do so again.
    let (_, said) = done(&store(&world, &["restore", &second, backup]));
    assert!(said.contains("all compared") && said.contains("what was signed out since then"), "{said}");
    let serves = replica(&world, port, port, &sqlite(&world, "second.db"));
    let current = refresh(&http, port, &early).await.unwrap();
    assert!(refresh(&http, port, &late).await.unwrap_err().starts_with("400 "));

    // A restore on what has moved on is refused, and nothing of it is changed.
    let other = refused(&store(&world, &["restore", &second, backup]), 1);
    assert!(other.contains("the target is not empty") && other.contains("--replace"), "{other}");
    let (_, said) = done(&store(&world, &["copy", &second, &third]));
    assert!(said.contains("0 deleted; all compared") && !said.contains(Database::PASSWORD), "{said}");
    stop(serves);
    let postgres = std::fs::read_to_string(&third).unwrap();
    let postgres = postgres.lines().find_map(|line| line.strip_prefix("storage: ")).unwrap().to_owned();
    let serves = replica(&world, port, port, &postgres);
    refresh(&http, port, &current).await.unwrap();
    let (info, _) = done(&store(&world, &["info", &third]));
    assert!(info.contains("postgres") && !info.contains(Database::PASSWORD), "{info}");
    stop(serves);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_served_is_not_filled_until_its_provider_has_ended() {
    let world = World::new();
    let [port] = free_ports();
    let http = TestCa::default().http_client();
    let storage = sqlite(&world, "first.db");
    let file = config(&world, "first.yaml", port, port, &storage);
    let file = file.to_str().unwrap();
    let backup = world.home().join("store.backup");
    let backup = backup.to_str().unwrap();

    let serves = replica(&world, port, port, &storage);
    let early = token(&http, port, &SIGN_IN).await.unwrap()["refresh_token"].as_str().unwrap().to_owned();
    done(&store(&world, &["backup", file, backup]));
    let text = refused(&store(&world, &["restore", file, backup, "--replace"]), 1);
    assert!(text.contains("the store may be in use: looking for 60 s"), "{text}");
    assert!(text.contains("error: the target is in use (") && text.contains("first.db"), "{text}");
    assert!(text.contains("has renewed its lease") && text.contains("hint: stop every replica"), "{text}");
    let late = refresh(&http, port, &early).await.unwrap();
    let late = refresh(&http, port, &late).await.unwrap();
    stop(serves);

    // It leaves behind the lease that other replicas would share.
    let (_, said) = done(&store(&world, &["restore", file, backup, "--replace"]));
    assert!(said.contains("the store may be in use: looking for 60 s") && said.contains("all compared"), "{said}");
    let serves = replica(&world, port, port, &storage);
    assert!(refresh(&http, port, &late).await.is_err(), "it is as it was");
    stop(serves);
}

/// Whatever cannot be written says where, nothing that was acknowledged is lost, and all goes on when there is room.
#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_more_can_be_written_the_place_is_named_and_nothing_is_lost() {
    let mut world = World::new();
    world.make_room();
    let [port] = free_ports();
    let http = TestCa::default().http_client();
    let at = |name: &str| {
        let storage = sqlite(&world, &format!("{name}.db"));
        config(&world, &format!("{name}.yaml"), port, port, &storage).to_str().unwrap().to_owned()
    };
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let (source, log) = (at("source"), world.home().join("source.db-wal"));

    // The provider: its file is at its limit while it runs.
    let mut serves = replica(&world, port, port, &sqlite(&world, "source.db"));
    let limit = |bytes: &str| {
        let id = serves.id().to_string();
        finish(Command::new("prlimit").args(["--pid", &id, &format!("--fsize={bytes}:")])).ok();
    };
    let mut current = token(&http, port, &SIGN_IN).await.unwrap()["refresh_token"].as_str().unwrap().to_owned();
    limit(&(size(&log) + 100_000).to_string());
    let mut told = None;
    for _ in 0..1_000 {
        match refresh(&http, port, &current).await {
            Ok(next) => current = next,
            Err(error) => {
                told = Some(error);
                break;
            }
        }
    }
    let error = told.expect("the file is at its limit");
    // What is there can be saved elsewhere.
    done(&limited(&world, size(&log), &["backup", &source, &world.home().join("saved").display().to_string()]));
    assert!(error.starts_with("500 ") && !error.contains("source.db"), "{error}");
    limit("unlimited");
    let line = serves.wait_for("the store could not write");
    assert!(line.contains("source.db") && line.contains("may not grow any more (`ulimit -f`)"), "{line}");
    // What was acknowledged is good, and so is what comes now.
    current = refresh(&http, port, &current).await.unwrap();
    assert!(serves.wait_for("the store is written again").contains("source.db"));

    // A backup: nothing is left behind.
    let backup = world.home().join("store.backup");
    let backup = backup.to_str().unwrap();
    let text = refused(&limited(&world, 512, &["backup", &source, backup]), 1);
    assert!(text.contains(&format!("cannot write {backup}: ")) && text.contains("`ulimit -f`"), "{text}");
    let left: Vec<_> = std::fs::read_dir(world.home()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("store.backup")), "{left:?}");
    stop(serves);
    // The store cannot even be opened.
    let text = refused(&limited(&world, 512, &["backup", &source, backup]), 1);
    assert!(text.contains("source.db") && text.contains("`ulimit -f`") && text.contains("hint: "), "{text}");
    done(&store(&world, &["backup", &source, backup]));

    // What is filled: at whatever moment there is no more room, the file is named, and the same command goes on later.
    let cut_off = |name: &str, what: &dyn Fn(&str) -> Vec<String>| {
        // The index of a log takes 32 KiB, of the source too.
        for kilobytes in (40..4_096).step_by(8) {
            let target = at(&format!("{name}-{kilobytes}"));
            let arguments = what(&target);
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let text = refused(&limited(&world, kilobytes * 1024, &arguments), 1);
            assert!(text.contains(&format!("{name}-{kilobytes}.db")) && text.contains("`ulimit -f`"), "{text}");
            assert!(text.contains("hint: "), "{text}");
            if text.contains("it goes on where it was cut off") {
                return target;
            }
        }
        panic!("a small store takes less than 4 MB");
    };
    let restored = cut_off("restored", &|target| ["restore", target, backup].map(ToOwned::to_owned).to_vec());
    let copied = cut_off("copied", &|target| ["copy", &source, target].map(ToOwned::to_owned).to_vec());
    for (target, arguments) in [(&restored, ["restore", &restored, backup]), (&copied, ["copy", &source, &copied])] {
        let (_, said) = done(&store(&world, &arguments));
        assert!(said.contains("all compared"), "{said}");
        let storage = std::fs::read_to_string(target).unwrap();
        let storage = storage.lines().find_map(|line| line.strip_prefix("storage: ")).unwrap().to_owned();
        let serves = replica(&world, port, port, &storage);
        refresh(&http, port, &current).await.unwrap();
        stop(serves);
    }
}

/// What a backup that is stopped leaves behind would be secrets that nobody looks for.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_stopped_leaves_nothing_behind() {
    let database = Database::start(DatabaseKind::Postgres, DatabaseOptions::default());
    database.create("dex");
    let world = World::new();
    let [port] = free_ports();
    let storage = format!(
        "{{type: postgres, config: {{host: 127.0.0.1, port: {}, user: {}, password: {}, database: dex, ssl: {{mode: disable}}}}}}",
        database.port(),
        Database::USER,
        Database::PASSWORD
    );
    stop(replica(&world, port, port, &storage));
    let file = config(&world, "store.yaml", port, port, &storage);
    let left = || -> Vec<String> {
        let names = std::fs::read_dir(world.home()).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.to_string_lossy().into_owned()).filter(|name| name.starts_with("store.backup")).collect()
    };
    std::thread::scope(|scope| {
        // Nobody reads a record meanwhile.
        scope.spawn(|| database.ask("dex", "LOCK TABLE portcullis_record; SELECT pg_sleep(4)"));
        let held = "SELECT count(*) FROM pg_locks WHERE relation = 'portcullis_record'::regclass AND granted \
                    AND mode = 'AccessExclusiveLock'";
        eventually("the table is locked", || database.ask("dex", held) == "1");
        let backup = world.home().join("store.backup");
        let arguments = ["store", "backup", file.to_str().unwrap(), backup.to_str().unwrap()];
        let running = Running::start(&mut world.portcullis(&arguments));
        eventually("the backup has begun", || !left().is_empty());
        running.signal(Signal::TERM);
        let text = refused(&running.output(), 1);
        assert!(text.contains("stopped by a signal") && text.contains("hint:"), "{text}");
        assert_eq!(left(), Vec::<String>::new());
    });
}

#[test]
fn what_is_no_store_or_no_backup_is_refused_with_a_hint() {
    let world = World::new();
    let file = |name: &str, storage: &str| config(&world, name, 1, 1, storage).to_str().unwrap().to_owned();
    let memory = file("memory.yaml", "{type: memory}");
    let kept = file("kept.yaml", &sqlite(&world, "kept.db"));
    for command in [&["info", &memory][..], &["check", &memory], &["backup", &memory, "x"], &["copy", &memory, &kept]] {
        let text = refused(&store(&world, command), 1);
        assert!(text.contains("storage is in memory") && text.contains("hint:"), "{command:?}: {text}");
    }
    let wrong = world.write("not.backup", "hello\n");
    let text = refused(&store(&world, &["restore", &kept, wrong.to_str().unwrap()]), 1);
    assert!(text.contains("is no backup of a store"), "{text}");
    let text = refused(&store(&world, &["restore", &kept, "/nowhere"]), 1);
    assert!(text.contains("\"/nowhere\" cannot be read"), "{text}");
    let text = refused(&store(&world, &["info", "/nowhere"]), 1);
    assert!(text.contains("failed to read config file /nowhere"), "{text}");
    for usage in [&["info"][..], &["restore", &kept], &["info", &kept, "-o", "yaml"], &["frobnicate"], &[]] {
        assert_eq!(store(&world, usage).status.code(), Some(2), "{usage:?}");
    }
}
