//! The guide's file, both forms of kubeadm patches, refusals with their places, limits.

use proptest::prelude::*;

use super::*;

const GUIDE: &str = include_str!("../../tests/fixtures/kind-config.yaml");

fn parse(text: &str) -> KindConfig {
    KindConfig::parse(text, "kind.yaml").unwrap_or_else(|e| panic!("{text}\n{e}"))
}

fn flags(config: &KindConfig) -> Vec<(&str, &str)> {
    config.extra_args.iter().map(|a| (a.name.as_str(), a.value.as_str())).collect()
}

/// A config whose only node has these patches.
fn patched(patches: &[&str]) -> String {
    let mut text =
        "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes:\n- role: control-plane\n  kubeadmConfigPatches:\n"
            .to_owned();
    for patch in patches {
        text.push_str("  - |\n");
        for line in patch.lines() {
            text.push_str(&format!("    {line}\n"));
        }
    }
    text
}

#[test]
fn the_guides_file_is_read_without_a_warning() {
    let config = parse(GUIDE);
    assert_eq!(config.warnings, []);
    let address = config.api_server_address.as_ref().unwrap();
    assert_eq!(address.value, "127.0.0.1".parse::<IpAddr>().unwrap());
    assert_eq!(address.place.to_string(), "kind.yaml:4: networking.apiServerAddress");
    let port = config.api_server_port.as_ref().unwrap();
    assert_eq!((port.value, port.place.to_string().as_str()), (6443, "kind.yaml:5: networking.apiServerPort"));
    assert_eq!(
        flags(&config),
        [
            ("oidc-issuer-url", "$NGROK_ENDPOINT"),
            ("oidc-client-id", "kubernetes"),
            ("oidc-username-claim", "email"),
            ("oidc-username-prefix", ""),
            ("oidc-groups-claim", "groups"),
        ]
    );
    let issuer = config.argument("oidc-issuer-url").unwrap();
    assert_eq!(
        issuer.place.to_string(),
        "kind.yaml:13: nodes[0].kubeadmConfigPatches[0].apiServer.extraArgs.oidc-issuer-url"
    );
    let line = usize::try_from(issuer.place.line).unwrap();
    assert!(GUIDE.lines().nth(line - 1).unwrap().contains("oidc-issuer-url"));
}

#[test]
fn the_list_form_gives_the_same_flags_and_keeps_repeats() {
    let map = parse(&patched(&["kind: ClusterConfiguration\napiServer:\n  extraArgs:\n    a: \"1\"\n    b: x"]));
    let list = parse(&patched(&[
        "kind: ClusterConfiguration\napiVersion: kubeadm.k8s.io/v1beta4\napiServer:\n  extraArgs:\n  - name: a\n    value: \"1\"\n  - {name: b, value: x}",
    ]));
    assert_eq!(flags(&map), flags(&list));
    assert!(list.warnings.is_empty());
    let repeats = parse(&patched(&[
        "kind: ClusterConfiguration\napiServer:\n  extraArgs:\n  - {name: oidc-required-claim, value: a=1}\n  - {name: oidc-required-claim, value: b=2}",
    ]));
    assert_eq!(flags(&repeats), [("oidc-required-claim", "a=1"), ("oidc-required-claim", "b=2")]);
}

#[test]
fn later_patches_win_node_patches_come_after_cluster_patches_and_only_the_first_control_plane_counts() {
    let text = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nkubeadmConfigPatches:\n- |\n  kind: ClusterConfiguration\n  apiServer: {extraArgs: {a: cluster, b: cluster, c: cluster}}\n- |\n  kind: ClusterConfiguration\n  apiServer: {extraArgs: [{name: b, value: second}]}\nnodes:\n- role: worker\n  kubeadmConfigPatches: [\"kind: ClusterConfiguration\\napiServer: {extraArgs: {a: worker}}\"]\n- role: control-plane\n  kubeadmConfigPatches: [\"kind: ClusterConfiguration\\napiServer: {extraArgs: {c: node}}\"]\n- role: control-plane\n  kubeadmConfigPatches: [\"kind: ClusterConfiguration\\napiServer: {extraArgs: {c: other}}\"]\n";
    let config = parse(text);
    assert_eq!(flags(&config), [("a", "cluster"), ("b", "second"), ("c", "node")]);
    let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "kind.yaml:11: nodes[0]: it has no effect here: only the API server runs, without nodes and their network",
            "kind.yaml:16: nodes[2].kubeadmConfigPatches: only the first control-plane node initialises the cluster; these patches are ignored",
        ]
    );
}

#[test]
fn a_config_without_nodes_or_patches_is_fine() {
    let config = parse("kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nname: dev\n");
    let name = config.name.unwrap();
    assert_eq!((name.value.as_str(), name.place.to_string().as_str()), ("dev", "kind.yaml:3: name"));
    assert_eq!((config.extra_args.len(), config.api_server_port), (0, None));
    let any = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes: null\nnetworking: {apiServerPort: -1}\n";
    assert_eq!(parse(any).api_server_port.unwrap().value, 0);
}

#[test]
fn refusals_name_file_line_path_and_fix() {
    let head = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n";
    let table = [
        ("a: [".to_owned(), "kind.yaml:", "the file must be YAML"),
        (
            String::new(),
            "kind.yaml:1: the document: this is no kind cluster config (kind \"\", apiVersion \"\")",
            "it must say",
        ),
        (
            "dex:\n  enabled: true\n".to_owned(),
            "kind.yaml:1: the document: this is no kind",
            "this looks like the chart's values; pass it with --values",
        ),
        ("apiVersion: v1\nkind: Config\n".to_owned(), "kind.yaml:2: kind: this is no kind", "this is a kubeconfig"),
        ("- a\n".to_owned(), "kind.yaml:1: the document: expected a map, found a list", ""),
        (format!("{head}networking: 1\n"), "kind.yaml:3: networking: expected a map, found a number", ""),
        (
            format!("{head}networking:\n  apiServerPort: 70000\n"),
            "kind.yaml:4: networking.apiServerPort: \"70000\" is no port",
            "use a number",
        ),
        (
            format!("{head}networking:\n  apiServerAddress: localhost\n"),
            "kind.yaml:4: networking.apiServerAddress: \"localhost\" is no IP address",
            "use 127.0.0.1",
        ),
        (format!("{head}nodes:\n- role: boss\n"), "kind.yaml:4: nodes[0].role: unknown role \"boss\"", "a node is"),
        (
            format!("{head}nodes:\n- kubeadmConfigPatchesJSON6902:\n  - {{}}\n"),
            "kind.yaml:4: nodes[0].kubeadmConfigPatchesJSON6902: JSON 6902 patches are not supported",
            "write it as",
        ),
        (
            patched(&["kind: ClusterConfig\napiServer: {}"]),
            "kind.yaml:7: nodes[0].kubeadmConfigPatches[0].kind: unknown kind \"ClusterConfig\"",
            "flags of the API server belong",
        ),
        (patched(&["apiServer: {}"]), "kind.yaml:7: nodes[0].kubeadmConfigPatches[0]: unknown kind \"\"", ""),
        (
            patched(&["kind: ClusterConfiguration\napiServer:\n  extraArgs: oops"]),
            "kind.yaml:9: nodes[0].kubeadmConfigPatches[0].apiServer.extraArgs: expected a map, found a string",
            "",
        ),
        (
            patched(&["kind: ClusterConfiguration\napiServer:\n  extraArgs:\n    a: [1]"]),
            "kind.yaml:10: nodes[0].kubeadmConfigPatches[0].apiServer.extraArgs.a: expected a string, found a list",
            "",
        ),
        (
            patched(&["kind: ClusterConfiguration\napiServer:\n  extraArgs:\n    \"a b\": x"]),
            "kind.yaml:10: nodes[0].kubeadmConfigPatches[0].apiServer.extraArgs.a b: \"a b\" is no name of a flag",
            "write the flag without dashes",
        ),
        (patched(&["kind: ClusterConfiguration\n  bad: ["]), "kind.yaml:8:", ""),
    ];
    for (text, start, hint) in table {
        let error = KindConfig::parse(&text, "kind.yaml").unwrap_err();
        let said = error.to_string();
        assert!(said.starts_with(start), "{text}\n{said}");
        assert!(!said.contains('\n') && std::error::Error::source(&error).is_none(), "one line, said once: {said}");
        assert!(!error.hint().is_empty() && error.hint().starts_with(hint), "{text}\n{}", error.hint());
    }
}

#[test]
fn what_has_no_effect_is_warned_about_with_the_nearest_key() {
    let text = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnetwroking: {}\nfuture: 1\nnodes:\n- role: control-plane\n  kubeadmConfigPatches:\n  - |\n    kind: ClusterConfiguration\n    apiVersion: kubeadm.k8s.io/v1beta4\n    apiServer:\n      extraArg: {}\n      extraArgs:\n        --v: 5\n  - |\n    kind: InitConfiguration\n    nodeRegistration: {}\n";
    let config = parse(text);
    let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "kind.yaml:3: netwroking: unknown key, ignored; did you mean \"networking\"?",
            "kind.yaml:4: future: unknown key, ignored",
            "kind.yaml:12: nodes[0].kubeadmConfigPatches[0].apiServer.extraArg: unknown key, ignored; did you mean \"extraArgs\"?",
            "kind.yaml:13: nodes[0].kubeadmConfigPatches[0].apiServer.extraArgs: kubeadm.k8s.io/v1beta4 wants a list of name and value here; kubeadm itself would refuse a map",
            "kind.yaml:14: nodes[0].kubeadmConfigPatches[0].apiServer.extraArgs.--v: \"--v\": flags are named without dashes here; read as \"v\"",
            "kind.yaml:14: nodes[0].kubeadmConfigPatches[0].apiServer.extraArgs.--v: v: kubeadm wants a string; put the value in quotes",
            "kind.yaml:16: nodes[0].kubeadmConfigPatches[1]: a patch of InitConfiguration has no effect here",
        ]
    );
    assert_eq!(flags(&config), [("v", "5")]);
}

#[test]
fn what_only_kind_needs_is_said_key_by_key() {
    let text = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nfeatureGates: {A: true}\nruntimeConfig: null\nnetworking:\n  podSubnet: 10.0.0.0/8\nnodes:\n- role: control-plane\n  image: x\n  extraMounts: []\n  kubeadmConfigPatches:\n  - |\n    kind: ClusterConfiguration\n    scheduler: {}\n    apiServer:\n      certSANs: [a]\n- role: worker\n- role: control-plane\n";
    let said: Vec<String> = parse(text)
        .warnings
        .iter()
        .map(|warning| {
            assert_eq!(warning.message, INERT);
            format!("{} {}", warning.place.line, warning.place.path)
        })
        .collect();
    assert_eq!(
        said,
        [
            "3 featureGates",
            "6 networking.podSubnet",
            "9 nodes[0].image",
            "10 nodes[0].extraMounts",
            "14 nodes[0].kubeadmConfigPatches[0].scheduler",
            "16 nodes[0].kubeadmConfigPatches[0].apiServer.certSANs",
            "17 nodes[1]",
            "18 nodes[2]",
        ]
    );
}

#[test]
fn limits_are_enforced() {
    let large = format!("{GUIDE}#{}", "x".repeat(BYTES_LIMIT));
    assert!(matches!(KindConfig::parse(&large, "f"), Err(KindConfigError::Yaml(YamlError::TooLarge { .. }))));
    let nodes = |count: usize| {
        format!("kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes:\n{}", "- {role: worker}\n".repeat(count))
    };
    assert!(KindConfig::parse(&nodes(ITEMS_LIMIT), "f").is_ok());
    assert!(matches!(
        KindConfig::parse(&nodes(ITEMS_LIMIT + 1), "f"),
        Err(KindConfigError::TooMany { count: 1_001, .. })
    ));
    let arguments = |count: usize| {
        let map = (0..count).fold(String::new(), |text, n| format!("{text}    a{n}: x\n"));
        patched(&[&format!("kind: ClusterConfiguration\napiServer:\n  extraArgs:\n{map}")])
    };
    assert!(KindConfig::parse(&arguments(ITEMS_LIMIT), "f").is_ok());
    assert!(matches!(KindConfig::parse(&arguments(ITEMS_LIMIT + 1), "f"), Err(KindConfigError::TooMany { .. })));
    let deep = format!("kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nx: {}{}\n", "[".repeat(60), "]".repeat(60));
    assert!(KindConfig::parse(&deep, "f").is_err());
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[a-zA-Z:\\-\\[\\]{}&*!|>'\"%#@, \n0-9~.$]{0,200}") {
        let _read = KindConfig::parse(&text, "f");
        let _read = KindConfig::parse(&patched(&[&text]), "f");
        let _read = KindConfig::parse(&format!("kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n{text}"), "f");
    }
}
