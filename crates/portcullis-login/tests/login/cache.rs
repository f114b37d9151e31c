//! The cache between runs.

use std::time::Duration;

use crate::authcode::wait_for;
use crate::issuer::Issuer;
use crate::world::{Behaviour, World};

const TWO_HOURS: Duration = Duration::from_secs(7200);

#[test]
fn the_life_of_a_cached_login() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    let first = world.get_token(&issuer, &[]).ok();
    assert_eq!(world.cached()["refresh_token"], "REFRESH_TOKEN_1");

    issuer.forget();
    let again = world.get_token(&issuer, &[]).ok();
    assert_eq!((again.stdout, again.stderr.as_str()), (first.stdout, ""));
    assert_eq!(issuer.count(), 0, "a warm cache makes no request");

    world.hand.advance(TWO_HOURS);
    let refreshed = world.get_token(&issuer, &[]).ok();
    assert_eq!(refreshed.token(), issuer.last_id_token());
    let form = &issuer.requests("/token")[0].form;
    assert_eq!((form["grant_type"].as_str(), form["refresh_token"].as_str()), ("refresh_token", "REFRESH_TOKEN_1"));
    assert!(!form.contains_key("scope"));

    issuer.forget();
    world.hand.advance(TWO_HOURS);
    issuer.behave(|behaviour| behaviour.refresh_tokens.clear());
    world.get_token(&issuer, &[]).ok();
    assert_eq!(issuer.requests("/token")[0].form["refresh_token"], "REFRESH_TOKEN_2");
    assert_eq!(world.cached()["refresh_token"], "REFRESH_TOKEN_2", "no new one: the old one stays");
    assert_eq!(world.opened().len(), 1, "one sign-in in all this time");
}

#[test]
fn a_token_in_its_last_seconds_is_refreshed() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    let first = world.get_token(&issuer, &[]).ok().token();
    world.hand.advance(Duration::from_secs(3600 - 11));
    assert_eq!(world.get_token(&issuer, &[]).ok().token(), first);
    world.hand.advance(Duration::from_secs(1));
    assert_ne!(world.get_token(&issuer, &[]).ok().token(), first);
}

#[test]
fn a_forced_refresh_makes_three_requests_and_opens_no_browser() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    world.get_token(&issuer, &[]).ok();
    issuer.forget();
    world.get_token(&issuer, &["--force-refresh"]).ok();
    assert_eq!(issuer.count(), 3);
    assert_eq!(world.opened().len(), 1);
}

#[test]
fn a_refresh_carries_the_scopes_when_asked_to() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    let flags = ["--oidc-extra-scope=groups", "--oidc-refresh-with-scope", "--force-refresh"];
    world.get_token(&issuer, &flags).ok();
    issuer.forget();
    issuer.behave(|behaviour| behaviour.refresh_tokens.clear());
    world.get_token(&issuer, &flags).ok();
    let form = &issuer.requests("/token")[0].form;
    assert_eq!((form["refresh_token"].as_str(), form["scope"].as_str()), ("REFRESH_TOKEN_1", "groups openid"));
    assert_eq!(world.cached()["refresh_token"], "REFRESH_TOKEN_1");
}

#[test]
fn a_refused_refresh_is_told_in_one_line_and_leads_to_a_sign_in() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    world.get_token(&issuer, &[]).ok();
    issuer.behave(|behaviour| behaviour.refuse_refresh = true);
    let finished = world.get_token(&issuer, &["--force-refresh"]).ok();
    assert_eq!(
        finished.stderr,
        "could not refresh the token: oauth2: \"invalid_grant\" \"session expired\"; signing in again\n"
    );
    assert_eq!(world.opened().len(), 2);
}

#[test]
fn a_damaged_cache_costs_a_sign_in_and_a_line() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    world.get_token(&issuer, &[]).ok();
    let name = world.cache_files().remove(0);
    let path = world.cache_dir().join(&name);
    for content in [r#"{"id_token":"no.jwt"}"#, r#"{"id_token":""}"#, "{\"id_tok", "", "\u{0}"] {
        std::fs::write(&path, content).unwrap();
        let before = world.opened().len();
        let finished = world.get_token(&issuer, &[]).ok();
        assert_eq!(finished.stderr.lines().count(), 1, "{content:?}: {}", finished.stderr);
        assert!(finished.stderr.contains(&name) && finished.stderr.contains("signing in again"), "{}", finished.stderr);
        assert_eq!(world.opened().len(), before + 1);
        assert_eq!(world.cached()["id_token"], finished.token(), "the cache is whole again");
    }
    std::fs::write(&path, r#"{"id_token":"no.jwt","refresh_token":"REFRESH_TOKEN_1"}"#).unwrap();
    let finished = world.get_token(&issuer, &[]).ok();
    assert!(finished.stderr.contains("; refreshing\n"), "{}", finished.stderr);
}

#[test]
fn a_login_that_kubelogin_stored_under_another_order_of_parameters_is_found() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    let flags = ["--oidc-auth-request-extra-params=a=1", "--oidc-auth-request-extra-params=b=2"];
    let first = world.get_token(&issuer, &flags).ok();
    let ours = world.cache_files().into_iter().find(|name| name.len() == 64).unwrap();
    // What kubelogin may have called it: the same key with the parameters the other way round.
    let theirs = swapped_name(&issuer.url);
    assert_ne!(ours, theirs);
    std::fs::rename(world.cache_dir().join(&ours), world.cache_dir().join(&theirs)).unwrap();
    issuer.forget();
    assert_eq!(world.get_token(&issuer, &flags).ok().stdout, first.stdout);
    assert_eq!(issuer.count(), 0);
}

/// The key with the parameters `b=2,a=1`, computed here once more from the documented format.
fn swapped_name(issuer: &str) -> String {
    let text = |out: &mut Vec<u8>, text: &str| {
        out.push(u8::try_from(text.len()).unwrap());
        out.extend_from_slice(text.as_bytes());
    };
    let mut body = vec![0xff, 0x80, 1, 1];
    text(&mut body, issuer);
    body.push(1);
    text(&mut body, "kubernetes");
    body.extend([0, 1, 0, 2, 2]);
    for part in ["b", "2", "a", "1"] {
        text(&mut body, part);
    }
    body.push(0);
    let mut stream =
        (0..PREFIX.len()).step_by(2).map(|at| u8::from_str_radix(&PREFIX[at..at + 2], 16).unwrap()).collect::<Vec<_>>();
    stream.push(u8::try_from(body.len()).unwrap());
    stream.extend(body);
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &stream)
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The published prefix of the stream.
const PREFIX: &str = "5c7f030101034b657901ff80000104010850726f766964657201ff8200010f544c53436c69656e74436f6e66696701ff88000108557365726e616d65010c00011641757468526571756573744578747261506172616d7301ff86000000ff99ff810301010850726f766964657201ff8200010801094973737565725552\
4c010c000108436c69656e744944010c00010c436c69656e74536563726574010c00010b457874726153636f70657301ff8400010b526564697265637455524c010c00010a504b43454d6574686f64010400010e557365416363657373546f6b656e010200010e526571756573744865616465727301ff8600000016ff83020101085b5d737472696e6701ff8400010c000021ff85040101116d61705b737472696e675d737472696e6701ff8600010c010c00005cff8703010106436f6e66696701ff88000104010e43414365727446696c656e616d6501ff8400010a4341436572744461746101ff8400010d536b6970544c53566572696679010200010d52656e65676f74696174696f6e0104000000";

#[test]
fn five_parallel_starts_make_one_authorization_request() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    issuer.behave(|behaviour| behaviour.token_delay = Duration::from_millis(200));
    let env = world.env();
    let arguments = world.arguments(&issuer, &[]);
    let outputs: Vec<String> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..5)
            .map(|_| {
                scope.spawn(|| {
                    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                    crate::world::run_in(&env, &arguments, Box::new(std::io::empty())).ok().stdout
                })
            })
            .collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).collect()
    });
    assert_eq!(issuer.requests("/auth").len(), 1);
    assert!(outputs.iter().all(|output| *output == outputs[0]));
}

#[test]
fn waiting_for_a_lock_ends_with_ctrl_c_and_a_fresh_token_needs_no_lock() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    let first = world.get_token(&issuer, &[]).ok();
    let lock = world.cache_files().into_iter().find(|name| name.ends_with(".lock")).unwrap();
    let holder = std::fs::File::open(world.cache_dir().join(lock)).unwrap();
    holder.lock().unwrap();
    assert_eq!(world.get_token(&issuer, &[]).ok().stdout, first.stdout, "a good token is handed out while others wait");

    world.hand.advance(TWO_HOURS);
    let finished = std::thread::scope(|scope| {
        let (env, arguments) = (world.env(), world.arguments(&issuer, &["-v1"]));
        let waiter = scope.spawn(move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            crate::world::run_in(&env, &arguments, Box::new(std::io::empty()))
        });
        world.shutdown.trigger();
        waiter.join().unwrap().fails()
    });
    assert!(finished.stderr.contains("waiting for another process"), "{}", finished.stderr);
    assert_eq!(finished.error(), "error: get-token: could not lock the token cache: context canceled");
}

#[test]
fn a_waiter_takes_the_token_of_the_one_who_signed_in() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    let first = world.get_token(&issuer, &[]).ok().token();
    let files = world.cache_files();
    let login = world.cache_dir().join(files.iter().find(|name| name.len() == 64).unwrap());
    let lock = world.cache_dir().join(files.iter().find(|name| name.ends_with(".lock")).unwrap());
    let content = std::fs::read(&login).unwrap();
    std::fs::remove_file(&login).unwrap();
    let holder = std::fs::File::open(lock).unwrap();
    holder.lock().unwrap();
    issuer.forget();
    std::thread::scope(|scope| {
        let (env, arguments) = (world.env(), world.arguments(&issuer, &[]));
        let waiter = scope.spawn(move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            crate::world::run_in(&env, &arguments, Box::new(std::io::empty())).ok().token()
        });
        std::fs::write(&login, content).unwrap();
        drop(holder);
        assert_eq!(waiter.join().unwrap(), first);
    });
    assert_eq!(issuer.count(), 0);
}

#[test]
fn a_cache_folder_that_cannot_be_used_costs_a_line_and_not_the_token() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    std::fs::write(world.cache_dir(), "a file is in the way").unwrap();
    let finished = world.get_token(&issuer, &[]).ok();
    assert_eq!(finished.token(), issuer.last_id_token());
    assert!(finished.stderr.starts_with("could not write the token cache: ") && finished.stderr.lines().count() == 1);
}

#[test]
fn a_login_that_can_be_neither_read_nor_written_costs_two_lines_and_not_the_token() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    world.get_token(&issuer, &[]).ok();
    let path = world.cache_dir().join(world.cache_files().remove(0));
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let finished = world.get_token(&issuer, &[]).ok();
    assert_eq!(finished.token(), issuer.last_id_token());
    let lines: Vec<_> = finished.stderr.lines().collect();
    assert!(
        lines[0].starts_with("could not read the token cache ") && lines[1].starts_with("could not write"),
        "{lines:?}"
    );
    assert!(!world.cache_files().iter().any(|name| name.ends_with(".tmp")));
}

#[test]
fn storage_none_leaves_nothing_behind() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    world.get_token(&issuer, &["--token-cache-storage=none"]).ok();
    assert!(world.cache_files().is_empty());
}

#[test]
fn a_sign_in_that_nobody_finished_opens_no_second_tab_at_once() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    world.browser_does(Behaviour::DoesNothing);
    let timed_out = world.get_token(&issuer, &["--authentication-timeout-sec=0"]).fails();
    assert_eq!(
        timed_out.error(),
        "error: get-token: authentication error: authcode-browser error: authentication error: authorization code flow error: oauth2 error: authorization error: authorization error: context deadline exceeded"
    );
    let held_back = world.get_token(&issuer, &[]).fails();
    assert!(held_back.error().contains("no browser is opened for another 30s\nhint: "), "{}", held_back.stderr);
    assert_eq!(world.opened().len(), 1);
    world.hand.advance(Duration::from_secs(30));
    world.browser_does(Behaviour::FollowsRedirects);
    world.get_token(&issuer, &[]).ok();
    assert_eq!(world.opened().len(), 2);
    assert!(!world.cache_files().iter().any(|name| name.ends_with(".backoff")), "a success forgets");

    world.hand.advance(TWO_HOURS);
    world.browser_does(Behaviour::DoesNothing);
    issuer.behave(|behaviour| behaviour.refuse_refresh = true);
    world.get_token(&issuer, &["--authentication-timeout-sec=0"]).fails();
    let mut env = world.env();
    env.stdin_is_terminal = true;
    world.browser_does(Behaviour::FollowsRedirects);
    let arguments = world.arguments(&issuer, &[]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    crate::world::run_in(&env, &arguments, Box::new(std::io::empty())).ok();
}

#[test]
fn clean_makes_the_next_run_sign_in() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    world.get_token(&issuer, &[]).ok();
    let dir = world.cache_dir();
    let cleaned = world.run(&["clean", &format!("--token-cache-dir={}", dir.display())]).ok();
    assert_eq!(cleaned.stdout, "");
    assert!(cleaned.stderr.starts_with(&format!("Deleted the token cache from {}\n", dir.display())));
    assert!(!dir.exists());
    world.get_token(&issuer, &[]).ok();
    assert_eq!(world.opened().len(), 2);
}

#[test]
fn ctrl_c_during_the_sign_in_ends_it_and_frees_the_lock() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    world.browser_does(Behaviour::DoesNothing);
    let finished = std::thread::scope(|scope| {
        let (env, arguments) = (world.env(), world.arguments(&issuer, &[]));
        let run = scope.spawn(move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            crate::world::run_in(&env, &arguments, Box::new(std::io::empty()))
        });
        wait_for(|| world.opened().first().cloned());
        world.shutdown.trigger();
        run.join().unwrap().fails()
    });
    assert_eq!(
        finished.error(),
        "error: get-token: authentication error: authcode-browser error: authentication error: authorization code flow error: oauth2 error: authorization error: authorization error: context canceled"
    );
    let lock = world.cache_files().into_iter().find(|name| name.ends_with(".lock")).unwrap();
    std::fs::File::open(world.cache_dir().join(lock)).unwrap().try_lock().expect("the lock is free");
    assert!(
        !world.cache_files().iter().any(|name| name.ends_with(".backoff")),
        "giving up by hand is not held against anyone"
    );
}
