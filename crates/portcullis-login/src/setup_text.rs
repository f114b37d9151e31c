//! What `setup` prints after a sign-in: the claims, and the kubectl command that writes the kubeconfig user.
//!
//! Compat: layout and order of kubelogin v1.36 (reference section 1.7). Two of its defects are fixed: a map flag gives
//! one argument per entry instead of `[a=1,b=2]`, and values stand in single quotes, inside which a shell expands nothing.
//! `kubectl config set-credentials` reads `--exec-arg` through a CSV reader, so a value with a comma or a quote is
//! written for that.

use crate::encoding::indent_json;
use crate::flags::{GLOBAL, of_command};
use crate::pflag::{Parsed, Value, csv_field};

/// The whole text. `claims` is the token's payload; `interactive` says that the plugin will have to ask something.
pub(crate) fn render(claims: &str, flags: &Parsed, interactive: bool) -> String {
    let mut command = vec![
        "kubectl config set-credentials oidc".to_owned(),
        "--exec-api-version=client.authentication.k8s.io/v1".to_owned(),
        format!("--exec-interactive-mode={}", if interactive { "IfAvailable" } else { "Never" }),
        "--exec-command=kubectl".to_owned(),
        "--exec-arg=oidc-login".to_owned(),
        "--exec-arg=get-token".to_owned(),
    ];
    command.extend(
        plugin_arguments(flags).iter().map(|argument| format!("--exec-arg={}", shell_quote(&csv_field(argument)))),
    );
    format!(
        "## Authenticated with the OpenID Connect Provider\n\n\
         You got the token with the following claims:\n\n```\n{}\n```\n\n\
         ## Set up the kubeconfig\n\n\
         Run this command to put the plugin into the kubeconfig as the user oidc:\n\n```\n{}\n```\n",
        indent_json(claims),
        command.join(" \\\n  "),
    )
}

/// The flags that were given, as arguments of `get-token`, in declaration order, one value each.
fn plugin_arguments(flags: &Parsed) -> Vec<String> {
    let mut out = Vec::new();
    for flag in of_command("setup").iter().chain(GLOBAL) {
        let name = flag.name;
        let Some(value) = flags.get(name) else { continue };
        match value {
            Value::Text(text) => out.push(format!("--{name}={text}")),
            Value::Bool(value) => out.push(format!("--{name}={value}")),
            Value::Int(value) => out.push(format!("--{name}={value}")),
            Value::List(list) if flag.kind == crate::pflag::Kind::Slice => {
                out.extend(list.iter().map(|item| format!("--{name}={}", csv_field(item))));
            }
            Value::List(list) => out.extend(list.iter().map(|item| format!("--{name}={item}"))),
            Value::Map(map) => out.extend(map.iter().map(|(key, value)| {
                // With exactly one equals sign the value is taken as it is; with more it is read as CSV.
                let pair = format!("{key}={value}");
                let pair = if value.contains('=') { csv_field(&pair) } else { pair };
                format!("--{name}={pair}")
            })),
        }
    }
    out
}

/// Quotes for a POSIX shell when there is anything to quote.
fn shell_quote(text: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_=./:@%+,".contains(character);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pflag;

    fn parsed(arguments: &[&str]) -> Parsed {
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let flags: Vec<_> = of_command("setup").iter().chain(GLOBAL).copied().collect();
        pflag::parse(&flags, &arguments).expect("parses")
    }

    #[test]
    fn the_text_has_kubelogins_layout() {
        let flags = parsed(&[
            "-v1",
            "--oidc-client-id=kubernetes",
            "--oidc-issuer-url=https://issuer.example.com",
            "--oidc-extra-scope=email,groups",
        ]);
        let want = "## Authenticated with the OpenID Connect Provider

You got the token with the following claims:

```
{
  \"iss\": \"https://issuer.example.com\",
  \"sub\": \"u\"
}
```

## Set up the kubeconfig

Run this command to put the plugin into the kubeconfig as the user oidc:

```
kubectl config set-credentials oidc \\
  --exec-api-version=client.authentication.k8s.io/v1 \\
  --exec-interactive-mode=Never \\
  --exec-command=kubectl \\
  --exec-arg=oidc-login \\
  --exec-arg=get-token \\
  --exec-arg=--oidc-issuer-url=https://issuer.example.com \\
  --exec-arg=--oidc-client-id=kubernetes \\
  --exec-arg=--oidc-extra-scope=email \\
  --exec-arg=--oidc-extra-scope=groups \\
  --exec-arg=--v=1
```
";
        assert_eq!(render(r#"{"iss":"https://issuer.example.com","sub":"u"}"#, &flags, false), want);
    }

    #[test]
    fn a_secret_is_safe_from_the_shell_and_from_kubectls_csv() {
        let flags = parsed(&["--oidc-client-secret=a$X`id`'b,\"c"]);
        let text = render("{}", &flags, false);
        let line = text.lines().find(|line| line.contains("client-secret")).expect("a line").trim();
        assert_eq!(line, r#"--exec-arg='"--oidc-client-secret=a$X`id`'\''b,""c"'"#);
    }

    #[test]
    fn a_map_gives_one_argument_per_entry_that_parses_back() {
        let flags = parsed(&["--oidc-auth-request-extra-params=b=2,a=1", "--oidc-request-header=x=1=1,y=2"]);
        let arguments = plugin_arguments(&flags);
        assert_eq!(
            arguments,
            [
                "--oidc-request-header=x=1=1",
                "--oidc-request-header=y=2",
                "--oidc-auth-request-extra-params=a=1",
                "--oidc-auth-request-extra-params=b=2",
            ]
        );
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        assert_eq!(parsed(&arguments).map("oidc-request-header"), flags.map("oidc-request-header"));
    }

    #[test]
    fn every_value_survives_shell_kubectl_and_plugin() {
        for value in ["a", "a b", "a,b", "a\"b", "a'b", "$(id)", "a\\b", "é", "a,b=c\"d'e"] {
            let flags = parsed(&[&format!("--oidc-client-secret={value}")]);
            let argument = plugin_arguments(&flags).remove(0);
            let quoted = shell_quote(&csv_field(&argument));
            let unquoted = if let Some(inside) = quoted.strip_prefix('\'') {
                inside.strip_suffix('\'').expect("closed").replace("'\\''", "'")
            } else {
                quoted
            };
            let after_kubectl =
                pflag::parse(&[pflag::flag("x", pflag::Kind::Slice, "", "")], &[format!("--x={unquoted}")])
                    .expect("parses")
                    .list("x")
                    .expect("given");
            assert_eq!(after_kubectl, [argument], "{value}");
        }
    }
}
