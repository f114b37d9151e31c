//! Whom the cluster trusts, from each platform's file, and what is said of files that cannot be used.

use super::*;

const LIST: &str = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\napiServer:\n  extraArgs:\n  - {name: oidc-issuer-url, value: https://issuer.example}\n  - {name: oidc-client-id, value: kubernetes}\n  - {name: oidc-username-claim, value: email}\n  - {name: oidc-signing-algs, value: ES256}\n";

fn kind() -> String {
    let patch: String = LIST.lines().map(|line| format!("  {line}\n")).collect();
    format!("kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nkubeadmConfigPatches:\n- |\n{patch}")
}

const K3S: &str = "kube-apiserver-arg:\n- oidc-issuer-url=https://issuer.example\n- oidc-client-id=kubernetes\n- oidc-username-claim=email\n- oidc-signing-algs=ES256\n";
const POD: &str = "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - command:\n    - kube-apiserver\n    - --oidc-issuer-url=https://issuer.example\n    - --oidc-client-id=kubernetes\n    - --oidc-username-claim=email\n    - --oidc-signing-algs=ES256\n";

async fn with(text: &str, format: Option<Format>) -> Result<Report, CheckError> {
    let world = World::new();
    let path = world.path("config.yaml", text);
    world.try_with(&Options { config: ConfigFrom::File(path, format), ..world.options() }).await
}

#[tokio::test]
async fn each_platforms_file_gives_the_same_verdict_named_or_found_out() {
    let init = format!("kind: InitConfiguration\n---\n{LIST}");
    for (text, format) in [
        (&*kind(), Format::Kind),
        (LIST, Format::Kubeadm),
        (&init, Format::Kubeadm),
        (POD, Format::Kubeadm),
        (K3S, Format::K3s),
    ] {
        for format in [Some(format), None] {
            let report = with(text, format).await.unwrap();
            assert_eq!(report.user.as_ref().unwrap().username, "jane@example.com", "{}", report.text());
            let wrong = text.replace("https://issuer.example", "https://issuer.example/");
            let hint = with(&wrong, format).await.unwrap().hint.unwrap();
            assert!(
                hint.contains("set oidc-issuer-url in ") && hint.ends_with("to \"https://issuer.example\""),
                "{hint}"
            );
        }
    }
}

/// What would keep the API server from starting as it is written is said of files, also where the token is accepted.
#[tokio::test]
async fn what_a_platforms_reader_would_refuse_is_a_warning() {
    let dashed = |text: &str| text.replace("{name: oidc-client-id", "{name: --oidc-client-id");
    for (text, format) in [(dashed(LIST), Format::Kubeadm), (dashed(&kind()), Format::Kind)] {
        let report = with(&text, Some(format)).await.unwrap();
        assert_eq!(report.verdict, Verdict::Accepted);
        let [warning] = report.warnings.as_slice() else { panic!("{:?}", report.warnings) };
        assert!(warning.contains("extraArgs[1]") && warning.contains("named without dashes"), "{warning}");
    }
}

#[tokio::test]
async fn drop_ins_of_k3s_count_in_the_order_of_their_names() {
    let report = async |base: Option<&str>, format: Option<Format>, drop_ins: &[(&str, &str)]| {
        let world = World::new();
        let path = world.folder.path().join("config.yaml");
        if let Some(base) = base {
            world.path("config.yaml", base);
        }
        fs::create_dir_all(world.folder.path().join("config.yaml.d/folder.yaml")).unwrap();
        for (name, text) in drop_ins {
            world.path(&format!("config.yaml.d/{name}"), text);
        }
        world.try_with(&Options { config: ConfigFrom::File(path, format), ..world.options() }).await
    };
    let accepted = |report: Result<Report, CheckError>| report.unwrap().verdict == Verdict::Accepted;
    let wrong = K3S.replace("https://issuer.example", "https://old.example");
    let right = "kube-apiserver-arg+:\n- oidc-issuer-url=https://issuer.example\n";
    for format in [None, Some(Format::K3s)] {
        assert!(accepted(report(Some(&wrong), format, &[("10.yaml", right)]).await), "the last of a flag counts");
        assert!(accepted(report(Some("write-kubeconfig-mode: '0644'\n"), format, &[("10.YML", K3S)]).await));
        assert!(accepted(report(None, format, &[("10.yaml", K3S)]).await), "no file beside them");
        assert!(accepted(report(Some(K3S), format, &[("10.yaml", "server: x\n"), ("x.txt", "a: [")]).await));
        assert!(!accepted(report(Some(K3S), format, &[("10.yaml", right), ("20.yaml", &wrong)]).await));
        let replaced = report(Some(K3S), format, &[("10.yaml", "kube-apiserver-arg: [a=b]\n")]).await;
        assert!(replaced.unwrap_err().to_string().contains("no oidc-* flags"));
    }
    let hint = report(Some("a: b\n"), None, &[("10.yaml", &wrong)]).await.unwrap().hint.unwrap();
    assert!(hint.contains("oidc-issuer-url in ") && hint.contains("config.yaml.d/10.yaml"), "{hint}");
    let both = report(Some(K3S), None, &[("10.yaml", &right.replace("issuer.example", "old.example"))]).await;
    let hint = both.unwrap().hint.unwrap();
    assert!(hint.contains("config.yaml and its drop-ins"), "{hint}");
    let broken = report(Some(K3S), None, &[("10.yaml", "a: [\n")]).await.unwrap_err();
    assert!(broken.to_string().contains("config.yaml.d/10.yaml:"), "{broken}");
}

#[tokio::test]
async fn files_that_cannot_be_used_are_refused_with_place_and_fix() {
    let named = K3S.lines().next().unwrap().to_owned() + "\n- authentication-config=/etc/authn.yaml\n";
    let mistyped = K3S.replace("oidc-client-id", "oidc-cliend-id");
    let pair = format!("{K3S}- oidc-required-claim=x\n");
    for (text, format, want, hint) in [
        (
            "kind: Config\n",
            None,
            "this is no configuration of an API server (kind \"Config\")",
            "AuthenticationConfiguration",
        ),
        ("a: [\n", None, "config.yaml:", "must be YAML"),
        (
            &named,
            None,
            "config.yaml:2: kube-apiserver-arg[0]: the API server reads /etc/authn.yaml",
            "give it with --authentication-config",
        ),
        (
            &mistyped,
            None,
            "config.yaml:3: kube-apiserver-arg[1]: unknown flag: --oidc-cliend-id",
            "did you mean oidc-client-id?",
        ),
        (&pair, None, "config.yaml:6: kube-apiserver-arg[4]: invalid argument \"x\"", "CLAIM=VALUE"),
        ("kube-apiserver-arg: [a=b]\n", None, "config.yaml: no oidc-* flags", "trusts no OIDC issuer"),
        ("a: b\n", Some(Format::K3s), "there is no kube-apiserver-arg", "k3s or RKE2"),
        ("a: b\n", Some(Format::Kind), "this is no kind cluster config", "kind: Cluster"),
        ("a: b\n", Some(Format::Kubeadm), "ClusterConfiguration", "kube-apiserver.yaml"),
    ] {
        let error = with(text, format).await.unwrap_err();
        assert!(error.to_string().contains(want), "{want}: {error}");
        assert!(error.hint().unwrap().contains(hint), "{hint}: {:?}", error.hint());
    }
    let both = format!("{K3S}- authentication-config=/etc/authn.yaml\n");
    let report = with(&both, None).await.unwrap();
    assert_eq!(report.verdict, Verdict::ConfigurationRefused);
    assert!(
        report.message.unwrap().contains("mutually exclusive")
            && report.hint.unwrap().contains("leave the oidc-* flags out")
    );
    let own = format!("{K3S}- service-account-issuer=https://issuer.example\n");
    let default = K3S.replace("https://issuer.example", "https://kubernetes.default.svc.cluster.local");
    for own in [own, default.clone()] {
        let report = with(&own, None).await.unwrap();
        assert!(
            report.message.unwrap().contains("must not overlap")
                && report.hint.unwrap().contains("own service accounts")
        );
    }
    // The file says that the service accounts have another issuer.
    let other = format!("{default}- service-account-issuer=https://own.example\n");
    let report = with(&other, None).await.unwrap();
    assert_eq!((report.verdict, report.warnings), (Verdict::NoOpinion, Vec::new()));
}

#[tokio::test]
async fn a_file_of_kubernetes_is_read_as_kubernetes_reads_yaml() {
    let text = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n- issuer: {url: 'https://issuer.example'# why\n    , audiences: [kubernetes]}\n  claimMappings: {username: {claim: sub, prefix: ''}}\n";
    for format in [None, Some(Format::AuthenticationConfiguration)] {
        assert_eq!(with(text, format).await.unwrap().verdict, Verdict::Accepted);
        for (broken, want) in [
            (text.replace("{username", "username"), "yaml: line 6: "),
            ("{\"kind\": \"AuthenticationConfiguration\", x".to_owned(), "invalid character 'x'"),
        ] {
            let report = with(&broken, format).await.unwrap();
            assert_eq!(report.verdict, Verdict::ConfigurationRefused, "{report:?}");
            let message = report.message.unwrap();
            assert!(message.contains(want), "{broken}: {message}");
            assert_eq!(
                report.hint.is_some_and(|hint| hint.contains("indentation")),
                want.starts_with("yaml"),
                "{broken}"
            );
        }
    }
}

/// The library has no egress selectors and refuses the file; a kube-apiserver may have them.
#[tokio::test]
async fn an_egress_selector_is_a_warning_and_what_is_none_is_refused() {
    let selectors = |first: &str, second: &str| {
        let mut world = World::with_file();
        let mut jwt = world.jwt().clone();
        world.jwt()["issuer"]["egressSelectorType"] = json!(first);
        jwt["issuer"]["url"] = json!("https://other.example");
        jwt["issuer"]["egressSelectorType"] = json!(second);
        world.file.as_mut().unwrap()["jwt"].as_array_mut().unwrap().push(jwt);
        world
    };
    let report = selectors("", "controlplane").report().await;
    assert_eq!((report.verdict, report.warnings.len()), (Verdict::Accepted, 1), "{report:?}");
    assert!(report.warnings[0].starts_with("jwt[1].issuer.egressSelectorType is \"controlplane\": "), "{report:?}");
    let mut world = selectors("cluster", "controlplane");
    world.claims["aud"] = json!("dashboard");
    let report = world.report().await;
    assert_eq!((report.verdict, report.step, report.warnings.len()), (Verdict::Refused, Some("audience"), 2));
    let report = selectors("cluster", "etcd").report().await;
    assert_eq!(report.verdict, Verdict::ConfigurationRefused);
    assert!(report.message.unwrap().contains("must be either controlplane or cluster"));
}

#[tokio::test]
async fn a_ca_file_of_the_clusters_machine_is_not_needed_where_keys_are_given() {
    let text = format!("{K3S}- oidc-ca-file=/nowhere/ca.pem\n");
    let report = with(&text, None).await.unwrap();
    assert_eq!(report.verdict, Verdict::Accepted);
    assert!(
        report.warnings[0].contains("/nowhere/ca.pem") && report.warnings[0].contains("not read here"),
        "{report:?}"
    );

    let mut world = World::new();
    world.flag("oidc-ca-file", Some("/nowhere/ca.pem"));
    let error = world.try_with(&world.options()).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot read /nowhere/ca.pem");
    assert!(error.hint().unwrap().contains("name it with --ca"), "{:?}", error.hint());
}

#[tokio::test]
async fn sizes_are_limited() {
    let world = World::new();
    let large = world.path("large", vec![b' '; 1024 * 1024 + 2]);
    let fits = world.path("fits", vec![b' '; 1024 * 1024 + 1]);
    let limit = "large is larger than 1048577 bytes";
    for options in [
        Options { jwks: Some(large.clone()), ..world.options() },
        Options { ca: Some(large.clone()), ..world.options() },
        Options { config: ConfigFrom::File(large.clone(), None), ..world.options() },
    ] {
        let error = world.try_with(&options).await.unwrap_err();
        assert!(error.to_string().ends_with(limit), "{error}");
    }
    // The formats' own limit, of a mebibyte, is the one that people meet.
    let report = world.try_with(&Options { jwks: Some(fits.clone()), ..world.options() }).await.unwrap();
    assert!(report.message.unwrap().contains("the key set is longer than 1048576 bytes"));
    let config = ConfigFrom::File(fits, Some(Format::AuthenticationConfiguration));
    let report = world.try_with(&Options { config, ..world.options() }).await.unwrap();
    assert_eq!(report.verdict, Verdict::ConfigurationRefused);
    assert!(report.message.as_ref().unwrap().contains("1048576"), "{:?}", report.message);
}

#[tokio::test]
async fn a_file_that_is_not_there_or_no_text_is_named_with_its_flag() {
    let world = World::new();
    let gone = PathBuf::from("/nowhere/x");
    let binary = world.path("binary", b"\xff");
    let error = world.try_with(&Options { jwks: Some(gone.clone()), ..world.options() }).await.unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), error.hint().unwrap().contains("--jwks")),
        ("cannot read /nowhere/x", true)
    );
    let error = world.try_with(&Options { ca: Some(binary), ..world.options() }).await.unwrap_err();
    assert!(error.to_string().ends_with("binary is not UTF-8 text"), "{error}");
    let error =
        world.try_with(&Options { config: ConfigFrom::Flags(vec!["--oidc-x=y".into()]), ..world.options() }).await;
    let error = error.unwrap_err();
    assert_eq!(error.to_string(), "the command line: unknown flag: --oidc-x");
    for (format, flag) in [(None, "--config"), (Some(Format::Kind), "--kind-config")] {
        let config = ConfigFrom::File(gone.clone(), format);
        let error = world.try_with(&Options { config, ..world.options() }).await.unwrap_err();
        assert!(error.hint().unwrap().starts_with(&format!("give {flag} the path of a file")), "{:?}", error.hint());
    }
}

/// The recorded verdicts of kube-apiserver's own package that `check` can be asked for: one key set, every algorithm.
#[tokio::test]
async fn recorded_verdicts_are_those_of_check_and_of_its_steps() {
    let world = World::new();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/authn");
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        for (at, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            let recorded: Value = serde_json::from_str(line).unwrap();
            let text = |member: &str| recorded[member].as_str().unwrap().to_owned();
            let none = |member: &str| recorded[member].as_array().unwrap().is_empty();
            let want = &recorded["want"];
            if !recorded["initial"].is_null()
                || !none("disallowed")
                || !none("issuerJwks")
                || recorded["algs"].as_array().unwrap().len() != 9
                || want["jwksErr"].is_string()
            {
                continue;
            }
            let config = world.path("recorded.yaml", text("file"));
            let options = Options {
                config: ConfigFrom::File(config, Some(Format::AuthenticationConfiguration)),
                jwks: Some(world.path("recorded.json", text("jwks"))),
                clock: Clock::system(),
                ..world.options()
            };
            let report = match run(&options, text("token").as_bytes()).await {
                Ok(report) => report,
                // Nothing that a person would give as a token.
                Err(CheckError::NoToken(_) | CheckError::NoTokenInJson(_)) => {
                    assert!(want["ok"] == false && want["err"].is_null(), "{}: {want}", path.display());
                    continue;
                }
                Err(error) => panic!("{}:{}: {error}", path.display(), at + 1),
            };
            let told = format!("{}:{}: {}\nwanted {want}", path.display(), at + 1, report.text());
            let (verdict, name) = match want {
                want if want["decodeErr"].is_string() || want["initErr"].is_string() => {
                    (Verdict::ConfigurationRefused, "configuration refused")
                }
                want if want["err"].is_string() => (Verdict::Refused, "refused"),
                want if want["ok"] == true => (Verdict::Accepted, "accepted"),
                _ => (Verdict::NoOpinion, "no opinion"),
            };
            assert_eq!(report.verdict, verdict, "{told}");
            match &report.user {
                Some(user) => {
                    assert_eq!(
                        (&json!(user.username), &json!(user.groups)),
                        (&want["user"]["name"], &want["user"]["groups"])
                    );
                    assert!(report.steps.iter().all(|line| line.outcome == Outcome::Ok), "{told}");
                }
                None => {
                    assert!(report.hint.is_some() || verdict == Verdict::ConfigurationRefused, "no hint: {told}");
                    assert!(verdict == Verdict::ConfigurationRefused || faults::agrees(&report), "{told}");
                }
            }
            *counts.entry(name).or_default() += 1;
        }
    }
    println!("{counts:?}");
    assert!(counts.len() == 4 && counts.values().all(|count| *count >= 20), "{counts:?}");
    assert!(counts.values().sum::<usize>() >= 500, "{counts:?}");
}
