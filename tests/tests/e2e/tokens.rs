//! Bearer tokens of every kind, put to a real kube-apiserver and to `portcullis apiserver`, which trust the same issuer
//! through the same flags: status, headers and body must be the same.

use portcullis_jose::{Algorithm, KeyKind, SigningKey, base64url_encode, sign_compact};
use portcullis_runtime::http_client::{HttpClient, HttpClientConfig, HttpResponse, Roots};
use portcullis_testkit::{Clock, ControlPlane, FakeIssuer};
use serde_json::{Value, json};

use crate::world::{Running, World};

/// The issuer, and the two servers that trust it.
struct Pair {
    issuer: FakeIssuer,
    plane: ControlPlane,
    world: World,
    _ours: Running,
    theirs: (HttpClient, String),
    our: (HttpClient, String),
    now: i64,
}

impl Pair {
    async fn start() -> Self {
        let issuer = FakeIssuer::start().await;
        let world = World::new();
        let ca = world.write("issuer-ca.pem", issuer.ca().pem());
        let flags = [
            format!("--oidc-issuer-url={}", issuer.issuer()),
            "--oidc-client-id=kubernetes".to_owned(),
            "--oidc-username-claim=email".to_owned(),
            "--oidc-username-prefix=".to_owned(),
            "--oidc-groups-claim=groups".to_owned(),
            format!("--oidc-ca-file={}", ca.display()),
        ];
        let mut arguments = vec!["apiserver", "--secure-port", "0"];
        arguments.extend(flags.iter().map(String::as_str));
        let mut ours = Running::start(&mut world.portcullis(&arguments));
        let line = ours.wait_for("api server");
        let url = line.split_whitespace().find(|word| word.starts_with("https://")).unwrap().to_owned();
        ours.wait_for("Ctrl-C");
        let roots = Roots::only_pem(&std::fs::read(world.dev("ca/ca.pem")).unwrap()).unwrap();
        let client = HttpClient::new(HttpClientConfig { roots, ..HttpClientConfig::default() }).unwrap();
        let plane = ControlPlane::start(&flags).await;
        let theirs = (plane.http_client(), plane.url().to_owned());
        let now = Clock::system().now().unix_seconds();
        Self { issuer, plane, world, _ours: ours, theirs, our: (client, url), now }
    }

    fn claims(&self) -> Value {
        json!({"iss": self.issuer.issuer(), "sub": "s", "aud": "kubernetes", "exp": self.now + 600, "iat": self.now,
            "email": "jane@example.com", "email_verified": true, "groups": ["team-a", "team-b"]})
    }

    fn with(&self, name: &str, value: Value) -> String {
        let mut claims = self.claims();
        claims[name] = value;
        self.issuer.sign(&claims)
    }

    async fn both(&self, path: &str, authorization: &str) -> (HttpResponse, HttpResponse) {
        let ask = |(client, url): &(HttpClient, String)| {
            let (client, url) = (client.clone(), format!("{url}{path}"));
            async move { client.get(&url, &[("authorization", authorization)]).await.unwrap() }
        };
        (ask(&self.theirs).await, ask(&self.our).await)
    }

    /// kube-apiserver looks for its issuer every ten seconds.
    async fn until_trusted(&self, token: &str) {
        for _ in 0..60 {
            let (theirs, ours) = self.both("/api/v1/namespaces", &format!("Bearer {token}")).await;
            if theirs.status != 401 && ours.status != 401 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
        panic!("the issuer was not trusted within half a minute");
    }
}

fn what_clients_see(response: &HttpResponse) -> (u16, Vec<(String, Option<String>)>, String) {
    let headers = ["content-type", "www-authenticate", "x-content-type-options", "cache-control", "warning"];
    let headers = headers.map(|name| (name.to_owned(), response.header(name).map(str::to_owned)));
    (response.status, headers.to_vec(), String::from_utf8_lossy(&response.body).into_owned())
}

#[test]
fn bad_expired_and_foreign_tokens_get_the_401_of_a_real_server() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let pair = Pair::start().await;
        let good = pair.issuer.sign(&pair.claims());
        pair.until_trusted(&good).await;

        let stranger = SigningKey::generate(KeyKind::Rsa2048, "stranger".to_owned()).unwrap();
        let foreign = sign_compact(&stranger, Algorithm::Rs256, None, pair.claims().to_string().as_bytes()).unwrap();
        let (head, signature) = good.rsplit_once('.').unwrap();
        let broken = format!("{head}.{}", signature.chars().rev().collect::<String>());
        let unsigned = format!(
            "{}.{}.",
            base64url_encode(br#"{"alg":"none"}"#),
            base64url_encode(pair.claims().to_string().as_bytes())
        );
        let refused = [
            ("garbage", "garbage".to_owned()),
            ("three dots", "a.b.c".to_owned()),
            ("a broken signature", broken),
            ("a stranger's key", foreign),
            ("no signature", unsigned),
            ("expired", pair.with("exp", json!(pair.now - 1))),
            ("expired long ago", pair.with("exp", json!(1))),
            ("no end", pair.with("exp", Value::Null)),
            ("not yet valid", pair.with("nbf", json!(pair.now + 3_600))),
            ("another issuer", pair.with("iss", json!("https://other.example"))),
            ("another audience", pair.with("aud", json!("other"))),
            ("no audience", pair.with("aud", json!([]))),
            ("no user", pair.with("email", json!(1))),
            ("an address that was not verified", pair.with("email_verified", json!(false))),
            ("groups of numbers", pair.with("groups", json!([1]))),
        ];
        for (what, token) in &refused {
            for path in
                ["/api/v1/namespaces", "/apis/rbac.authorization.k8s.io/v1/clusterroles/x", "/version", "/nowhere"]
            {
                let (theirs, ours) = pair.both(path, &format!("Bearer {token}")).await;
                assert_eq!(theirs.status, 401, "{what} at {path}");
                assert_eq!(what_clients_see(&ours), what_clients_see(&theirs), "{what} at {path}");
            }
        }
        // What is no token at all, and what is one in another dress.
        for authorization in [
            "Bearer",
            "Bearer ",
            "Bearer  x",
            "bearer garbage",
            "Basic YTpi",
            "Token x",
            &format!("bearer {good}"),
            &format!("Bearer {good} more"),
        ] {
            let (theirs, ours) = pair.both("/api/v1/namespaces", authorization).await;
            assert_eq!(
                what_clients_see(&ours),
                what_clients_see(&theirs),
                "{}",
                authorization.get(..12).unwrap_or(authorization)
            );
        }
        let (theirs, ours) = pair.both("/api/v1/namespaces", &format!("Bearer {good}")).await;
        assert_eq!(theirs.status, 403, "{:?}", theirs.body);
        assert_eq!(what_clients_see(&ours), what_clients_see(&theirs), "a good token of somebody without a role");

        // kubectl's words, and what each server says who asks.
        let expired = pair.with("exp", json!(pair.now - 1));
        for kubeconfig in [pair.plane.admin_kubeconfig(), pair.world.dev("kubeconfig")] {
            let kubectl = |token: &str| {
                // Without the administrator's certificate, which would win over the token.
                let user = [
                    "--user=",
                    "--token",
                    token,
                    "auth",
                    "whoami",
                    "-o",
                    "jsonpath={.status.userInfo.username} {.status.userInfo.groups}",
                ];
                let mut command = pair.world.command(crate::world::peers().join("kubectl"));
                crate::world::finish(command.args(user).env("KUBECONFIG", without_users(&pair.world, &kubeconfig)))
            };
            assert_eq!(
                kubectl(&expired).fails(1).stderr.trim(),
                "error: You must be logged in to the server (Unauthorized)"
            );
            assert_eq!(kubectl(&good).ok().stdout, r#"jane@example.com ["team-a","team-b","system:authenticated"]"#);
        }
    });
}

/// The kubeconfig with its users taken out.
fn without_users(world: &World, kubeconfig: &std::path::Path) -> std::path::PathBuf {
    let text = std::fs::read_to_string(kubeconfig).unwrap();
    let mut config = portcullis_kube::Kubeconfig::parse(&text, "kubeconfig").unwrap();
    let users: Vec<String> = config.user_names().into_iter().map(str::to_owned).collect();
    for user in users {
        config.remove_user(&user);
    }
    let context = config.current_context().unwrap().to_owned();
    let mut without = config.context(&context).unwrap().unwrap();
    without.user = String::new();
    config.set_context(&context, &without);
    world.write("without-users.kubeconfig", &config.to_yaml().unwrap())
}
