//! `storage` of type `kubernetes`, with Dex's keys.
//!
//! Compat: dex.md 4.5 and Dex's `storage/kubernetes`: exactly one of `inCluster` and `kubeConfigFile`; `crdHandling` is
//! `ensure` unless the file says otherwise. The environment says what a pod knows of its cluster, and the proxies.

use std::path::PathBuf;

use portcullis_runtime::http_client::ProxyFromEnv;
use portcullis_storage::{CrdHandling, InCluster, KubernetesAccess, KubernetesOptions};

use super::problem::Place;
use super::raw::RawKubernetes;
use super::reader::{Keys, Reader};
use super::settings::Storage;
use super::validate::{Findings, text};

/// Reads `storage.config`.
pub(super) fn read<'a>(r: &mut Reader<'a>, storage: &Keys<'a>) -> RawKubernetes {
    let Some(k) = r.sub(storage, "config", &["inCluster", "kubeConfigFile", "crdHandling"]) else {
        return RawKubernetes::default();
    };
    RawKubernetes {
        in_cluster: r.bool(&k, "inCluster"),
        kube_config_file: r.string(&k, "kubeConfigFile"),
        crd_handling: r.string(&k, "crdHandling"),
    }
}

/// Checks it. `place` is that of the type.
pub(super) fn storage(place: &Place, raw: &RawKubernetes, f: &mut Findings<'_>) -> Option<Storage> {
    let file = f.expand(text(raw.kube_config_file.as_ref()));
    let in_cluster = raw.in_cluster.as_ref().is_some_and(|field| field.value);
    let access = match (in_cluster, file.as_str()) {
        (true, "") => Some(KubernetesAccess::InCluster(InCluster::read(f.env))),
        (false, "") => {
            let hint = "set storage.config.inCluster: true in a pod, or name a kubeConfigFile";
            f.value(place, "must specify either 'inCluster' or 'kubeConfigFile'", hint);
            None
        }
        (true, _) => {
            f.value(place, "cannot specify both 'inCluster' and 'kubeConfigFile'", "remove one of the two");
            None
        }
        (false, file) => {
            let proxy = ProxyFromEnv::read(f.env);
            Some(KubernetesAccess::Kubeconfig { file: PathBuf::from(file), proxy })
        }
    };
    let handling = f.expand(text(raw.crd_handling.as_ref()));
    let crds = match handling.as_str() {
        "" | "ensure" => Some(CrdHandling::Ensure),
        "check" => Some(CrdHandling::Check),
        "skip" => Some(CrdHandling::Skip),
        other => {
            let place = raw.crd_handling.as_ref().map_or(place, |field| &field.place);
            f.value(place, format!("invalid crdHandling value {other:?}"), "use ensure, check or skip");
            None
        }
    };
    Some(Storage::Kubernetes(Box::new(KubernetesOptions::new(access?, crds?))))
}

#[cfg(test)]
mod tests {
    use super::super::{Config, ConfigErrors, Document, RawConfig};
    use super::*;

    fn validate(config: &str, env: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
        let text = format!(
            "issuer: http://127.0.0.1:5556/dex\nstorage: {{type: kubernetes, config: {config}}}\n\
             web: {{http: 127.0.0.1:5556}}\nenablePasswordDB: true\n"
        );
        let document = Document::parse(&text, "c.yaml").unwrap();
        let env = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        RawConfig::read(&document.root()).0.validate(&env)
    }

    fn options(config: &str, env: &[(&str, &str)]) -> KubernetesOptions {
        match validate(config, env).unwrap().storage {
            Storage::Kubernetes(options) => *options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn dexs_keys_are_read_with_what_the_environment_says() {
        let env = [
            ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
            ("KUBERNETES_SERVICE_PORT", "443"),
            ("KUBERNETES_POD_NAMESPACE", "idp"),
            ("HTTPS_PROXY", "http://proxy:3128"),
            ("DIR", "/etc/dex"),
        ];
        let inside = options("{inCluster: true}", &env);
        let KubernetesAccess::InCluster(pod) = inside.access else { panic!("{:?}", inside.access) };
        assert_eq!((pod.host.as_str(), pod.port.as_str(), pod.namespace.as_deref()), ("10.96.0.1", "443", Some("idp")));
        assert_eq!(inside.crds, CrdHandling::Ensure);

        let outside = options("{kubeConfigFile: $DIR/kubeconfig, inCluster: false, crdHandling: check}", &env);
        let proxy = ProxyFromEnv { https: Some("http://proxy:3128".to_owned()), ..ProxyFromEnv::default() };
        let file = PathBuf::from("/etc/dex/kubeconfig");
        assert_eq!(outside.access, KubernetesAccess::Kubeconfig { file, proxy });
        assert_eq!(outside.crds, CrdHandling::Check);
        assert_eq!(options("{inCluster: true, crdHandling: skip}", &[]).crds, CrdHandling::Skip);
    }

    #[test]
    fn what_dex_refuses_is_refused_in_its_words() {
        for (config, want) in [
            ("{}", "must specify either 'inCluster' or 'kubeConfigFile'"),
            ("~", "must specify either 'inCluster' or 'kubeConfigFile'"),
            ("{inCluster: true, kubeConfigFile: x}", "cannot specify both 'inCluster' and 'kubeConfigFile'"),
            ("{inCluster: true, crdHandling: always}", "invalid crdHandling value \"always\""),
            ("{inCluster: 'true'}", "storage.config.inCluster"),
        ] {
            let error = validate(config, &[]).unwrap_err().to_string();
            assert!(error.contains(want), "{config}: {error}");
        }
    }
}
