//! What to try next, once somebody is signed in and the servers keep running.

use std::path::Path;

use crate::steps::{Steps, shell_word};

/// What the lines name.
pub(super) struct WayOn<'a> {
    pub(super) bin: &'a Path,
    pub(super) kubeconfig: &'a Path,
    pub(super) issuer: &'a str,
    pub(super) state_root: &'a Path,
    pub(super) bundle: &'a Path,
    pub(super) log: &'a Path,
    /// The administrator's name in the kubeconfig.
    pub(super) admin: &'a str,
    /// The user of the kubeconfig's context, where the user's own choice stays.
    pub(super) chosen_user: Option<&'a str>,
    /// Who is to be bound by hand, where nobody is bound.
    pub(super) unbound: Option<&'a str>,
}

impl WayOn<'_> {
    pub(super) fn print(&self, steps: &Steps) {
        steps.line("");
        steps.line("In another terminal:");
        steps.line(&format!("  export PATH={}:$PATH", shell_path(self.bin)));
        steps.line(&format!("  export KUBECONFIG={}", shell_path(self.kubeconfig)));
        steps.line(&format!("  export NGROK_ENDPOINT={}", self.issuer));
        steps.line(&format!("  export PORTCULLIS_STATE={}", shell_path(self.state_root)));
        if let Some(user) = self.unbound {
            self.print_binding(user, steps);
        }
        steps.line("  kubectl get pods --all-namespaces");
        steps.line("  kubectl auth whoami");
        steps.line(&format!(
            "For other tools that check the provider's certificate: SSL_CERT_FILE={}",
            shell_path(self.bundle)
        ));
        steps.line(&format!("Logs of provider and API server: {}", self.log.display()));
        steps.line("");
    }

    /// The guide's step 13 and 14. The administrator binds; `--user` of `create clusterrolebinding` is who gets the role.
    fn print_binding(&self, user: &str, steps: &Steps) {
        if self.chosen_user.is_some_and(|chosen| chosen != self.admin) {
            steps.line(&format!("  kubectl config set-context --current --user={}", shell_word(self.admin)));
        }
        steps.line(&format!(
            "  kubectl create clusterrolebinding oidc-admin-binding --clusterrole=cluster-admin --user={}",
            shell_word(user)
        ));
        steps.line("  kubectl config set-context --current --user=oidc");
    }
}

fn shell_path(path: &Path) -> String {
    shell_word(&path.display().to_string())
}
