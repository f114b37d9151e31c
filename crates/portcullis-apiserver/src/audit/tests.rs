//! Policies and options on their own. What the real server makes of them is compared in `tests/apiserver/audit`.

use portcullis_kube::UserInfo;
use portcullis_rbac::RequestInfo;

use super::event::{Level, Stage};
use super::policy::AuditPolicy;
use super::{AuditMode, AuditOptions};

fn policy(rest: &str) -> AuditPolicy {
    AuditPolicy::parse(format!("apiVersion: audit.k8s.io/v1\nkind: Policy\n{rest}\n").as_bytes()).unwrap()
}

fn level(policy: &AuditPolicy, user: &UserInfo, method: &str, target: &str) -> Level {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let info = RequestInfo::parse(method, path, query).unwrap();
    policy.evaluate(Some(user), &info.attributes(user)).level
}

#[test]
fn rules_choose_by_resource_part_and_name() {
    let user = UserInfo::new("u", ["g"]);
    for (resources, matching, others) in [
        ("{group: ''}", vec!["/api/v1/pods", "/api/v1/nodes/x/status"], vec!["/apis/apps/v1/deployments", "/api"]),
        (
            "{group: '', resources: [pods]}",
            vec!["/api/v1/pods", "/api/v1/namespaces/a/pods/p"],
            vec!["/api/v1/namespaces/a/pods/p/log", "/api/v1/podss"],
        ),
        (
            "{group: '', resources: [pods/log]}",
            vec!["/api/v1/namespaces/a/pods/p/log"],
            vec!["/api/v1/namespaces/a/pods/p"],
        ),
        (
            "{group: '', resources: ['pods/*']}",
            vec!["/api/v1/namespaces/a/pods/p/log", "/api/v1/pods"],
            vec!["/api/v1/nodes"],
        ),
        (
            "{group: '*', resources: ['*/scale']}",
            vec!["/apis/apps/v1/namespaces/a/deployments/d/scale"],
            vec!["/apis/apps/v1/namespaces/a/deployments/d"],
        ),
        (
            "{group: '*', resources: ['*']}",
            vec!["/api/v1/pods", "/apis/apps/v1/namespaces/a/deployments/d/scale"],
            vec!["/version"],
        ),
        (
            "{group: '', resources: [pods], resourceNames: [p]}",
            vec!["/api/v1/namespaces/a/pods/p", "/api/v1/pods?fieldSelector=metadata.name%3Dp"],
            vec!["/api/v1/pods", "/api/v1/namespaces/a/pods/q"],
        ),
    ] {
        let policy = policy(&format!("rules: [{{level: Metadata, resources: [{resources}]}}]"));
        for target in matching {
            assert_eq!(level(&policy, &user, "GET", target), Level::Metadata, "{resources} {target}");
        }
        for target in others {
            assert_eq!(level(&policy, &user, "GET", target), Level::None, "{resources} {target}");
        }
    }
}

#[test]
fn rules_choose_by_user_verb_namespace_and_path_and_the_first_one_counts() {
    let policy = policy(concat!(
        "omitStages: [Panic]\nomitManagedFields: true\n",
        "rules:\n",
        "- {level: None, users: [quiet]}\n",
        "- {level: Request, userGroups: [loud], verbs: [get], omitStages: [ResponseStarted], omitManagedFields: false}\n",
        "- {level: Metadata, namespaces: ['']}\n",
        "- {level: RequestResponse, namespaces: [a]}\n",
        "- {level: Request, nonResourceURLs: ['/healthz*']}\n",
    ));
    let (quiet, loud, other) =
        (UserInfo::new("quiet", ["loud"]), UserInfo::new("l", ["x", "loud"]), UserInfo::new("o", ["x"]));
    for (user, target, want) in [
        (&quiet, "/api/v1/namespaces/a/pods/p", Level::None),
        (&loud, "/api/v1/namespaces/a/pods/p", Level::Request),
        (&loud, "/api/v1/namespaces/a/pods", Level::RequestResponse),
        (&other, "/api/v1/nodes", Level::Metadata),
        (&other, "/api/v1/pods", Level::Metadata),
        (&other, "/api/v1/namespaces/b/pods", Level::None),
        (&other, "/healthz/ping", Level::Request),
        (&other, "/version", Level::None),
    ] {
        assert_eq!(level(&policy, user, "GET", target), want, "{} {target}", user.username);
    }
    let info = RequestInfo::parse("GET", "/api/v1/namespaces/a/pods/p", "").unwrap();
    let evaluated = policy.evaluate(Some(&loud), &info.attributes(&loud));
    assert_eq!(evaluated.omit_stages, [Stage::Panic, Stage::ResponseStarted]);
    assert!(!evaluated.omit_managed_fields);
    let nobody = UserInfo::default();
    assert_eq!(policy.evaluate(None, &info.attributes(&nobody)).level, Level::RequestResponse);
}

#[test]
fn unknown_and_duplicate_fields_are_worth_a_warning() {
    let odd = policy("rules: [{level: None, nope: 1}]\nmore: 2");
    assert_eq!(odd.warnings().len(), 1);
    assert!(odd.warnings()[0].ends_with(r#"unknown field "rules[0].nope", unknown field "more""#), "{odd:?}");
    assert!(policy("rules: [{level: None}]").warnings().is_empty());
    let twice = br#"{"kind":"Policy","apiVersion":"audit.k8s.io/v1","rules":[{"level":"None","level":"None"}]}"#;
    assert!(AuditPolicy::parse(twice).unwrap().warnings()[0].contains(r#"duplicate field "rules[0].level""#));
    AuditPolicy::parse(b"apiVersion: audit.k8s.io/v1\nrules: [{level: None}]").expect("the kind may be missing");
}

#[test]
fn flags_are_refused_together_in_upstreams_words() {
    let options = AuditOptions {
        path: Some("x".into()),
        max_age: -1,
        max_size: -2,
        max_backups: -3,
        format: "legacy".to_owned(),
        ..AuditOptions::default()
    };
    assert_eq!(
        options.validate().unwrap_err().to_string(),
        "[invalid audit log format legacy, allowed formats are \"json\", --audit-log-maxage -1 can't be a negative number, \
         --audit-log-maxbackup -3 can't be a negative number, --audit-log-maxsize -2 can't be a negative number]"
    );
    AuditOptions { path: None, ..options }.validate().expect("flags of a log that is off do not matter");
    assert!("odd".parse::<AuditMode>().unwrap_err().contains("batch,blocking,blocking-strict"));
    assert_eq!("blocking-strict".parse(), Ok(AuditMode::BlockingStrict));
}

/// What a log in a folder holds after `tell` has told it of a request.
async fn stages(tell: impl AsyncFnOnce(&super::Record)) -> Vec<serde_json::Value> {
    stages_of("/api/v1/pods?x=%zz", tell).await
}

async fn stages_of(target: &str, tell: impl AsyncFnOnce(&super::Record)) -> Vec<serde_json::Value> {
    let folder = portcullis_testkit::temp_dir();
    let (file, path) = (folder.path().join("policy.yaml"), folder.path().join("audit.log"));
    std::fs::write(&file, "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n").unwrap();
    let options = AuditOptions { policy_file: Some(file), path: Some(path.clone()), ..AuditOptions::default() };
    let (clock, hand) = portcullis_runtime::Clock::mock(1_700_000_000);
    let log = super::AuditLog::open(&options, &clock).unwrap().unwrap();
    let uri: http::Uri = target.parse().unwrap();
    let headers = http::HeaderMap::new();
    let arrival = super::Arrival { id: "1", uri: &uri, headers: &headers, peer: None };
    let record = log.begin(&clock, &arrival);
    let info = RequestInfo::parse("GET", uri.path(), "").unwrap();
    record.admitted(&info, &UserInfo::new("u", ["g"])).await.unwrap();
    hand.advance(std::time::Duration::from_millis(1_500));
    tell(&record).await;
    drop(record);
    log.flushed().await;
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_panic_is_the_last_that_is_written_of_a_request() {
    let events = stages(async |record| record.panicked("boom")).await;
    assert_eq!((events.len(), &events[1]["stage"]), (2, &"Panic".into()), "{events:?}");
    assert_eq!(events[1]["responseStatus"]["message"], "APIServer panic'd: boom");
    assert_eq!(events[1]["responseStatus"]["code"], 500);
}

#[tokio::test]
async fn a_request_that_nobody_waits_for_any_more_is_complete_and_a_slow_one_says_how_slow() {
    let gone = stages(async |_record| {}).await;
    assert_eq!((gone.len(), &gone[1]["stage"]), (2, &"ResponseComplete".into()));
    assert_eq!(gone[1]["responseStatus"]["message"], "Connection closed early");
    let long = stages_of("/api/v1/namespaces/a/pods/p/log", async |_record| {}).await;
    let told: Vec<_> = long.iter().map(|event| &event["stage"]).collect();
    assert_eq!(told, ["RequestReceived", "ResponseStarted", "ResponseComplete"]);
    assert_eq!(long[1]["responseStatus"], gone[1]["responseStatus"]);
    let slow = stages(async |record| record.responds(404).await).await;
    assert_eq!((slow.len(), &slow[1]["responseStatus"]["code"]), (2, &404.into()));
    assert_eq!(slow[1]["annotations"]["apiserver.latency.k8s.io/total"], "1.5s");
    assert_eq!(slow[1]["requestURI"], "/api/v1/pods?x=%zz");
    assert_eq!(slow[1]["requestReceivedTimestamp"], "2023-11-14T22:13:20.000000Z");
    assert_eq!(slow[1]["stageTimestamp"], "2023-11-14T22:13:21.500000Z");
}
