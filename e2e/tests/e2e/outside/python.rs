//! Python's `requests` and `httpx` as clients, each with retries of its own.

use onlyonce_e2e::{Finished, Gateway, Reply, Settings, Upstream, outside, run};

/// Runs a script that has the gateway's URL as its only argument.
async fn python(script: &str, url: &str) -> Finished {
    let mut command = outside::python();
    command.args(["-c", script, url]).env("NO_PROXY", "*");
    run(command).await
}

/// `requests` with urllib3's retries, on errors of the connection and on statuses that ask for it.
const REQUESTS: &str = r#"
import sys, requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry
retry = Retry(total=30, backoff_factor=0.05, status_forcelist=[409, 429, 502, 503, 504],
              allowed_methods=None, respect_retry_after_header=False, raise_on_status=False)
with requests.Session() as session:
    session.mount("http://", HTTPAdapter(max_retries=retry))
    for turn in range(2):
        answer = session.post(sys.argv[1] + "/charges", json={"amount": 10}, timeout=(5, 1),
                              headers={"Idempotency-Key": '"requests-1"'})
        print(answer.status_code, answer.text, answer.headers.get("Idempotent-Replayed"))
"#;

/// `httpx` with a transport that sends a request again.
const HTTPX: &str = r#"
import sys, time, httpx
class Retrying(httpx.BaseTransport):
    def __init__(self):
        self.inner = httpx.HTTPTransport(http1=True)
    def handle_request(self, request):
        for turn in range(200):
            try:
                response = self.inner.handle_request(request)
                response.read()
                if response.status_code not in (409, 429, 502, 503, 504):
                    return response
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise SystemExit("no answer")
with httpx.Client(transport=Retrying(), timeout=httpx.Timeout(1.0), trust_env=False) as client:
    for turn in range(2):
        answer = client.post(sys.argv[1] + "/charges", json={"amount": 10},
                             headers={"Idempotency-Key": "httpx-1"})
        print(answer.status_code, answer.text, answer.headers.get("Idempotent-Replayed"))
"#;

/// Both answers are the `number`th execution's; the second one, at least, is a replay. (So is the
/// first where the client was slow, and gave up on the answer.)
fn assert_executed(client: Finished, number: usize) {
    let out = client.good().out;
    let lines: Vec<&str> = out.lines().collect();
    let [first, second] = lines[..] else {
        panic!("{out}");
    };
    assert!(first.starts_with(&format!("201 {number} ")), "{out}");
    assert_eq!(second, format!("201 {number} true"), "{out}");
}

/// Takes effect each time; the first answer comes too late for the client, who has hung up.
#[tokio::test]
async fn a_client_that_gives_up_and_retries_has_one_effect() {
    for script in [REQUESTS, HTTPX] {
        let (upstream, gate) = Upstream::gated().await;
        let gateway = Gateway::start(Settings::before(&upstream)).await;
        let url = gateway.url();
        let client = python(script, &url);
        let opening = async {
            gate.arrived(1).await;
            // A retry has been told to wait, so the first try was given up.
            onlyonce_e2e::eventually("a retry", || async {
                let series = "onlyonce_requests_total{outcome=\"in-progress\",route=\"-\"}";
                (crate::once::figure(&gateway, series).await >= 1.0).then_some(())
            })
            .await;
            gate.open();
        };
        let (client, ()) = tokio::join!(client, opening);
        assert_executed(client, 1);
        assert_eq!(upstream.total(), 1, "{script}");
    }
}

#[tokio::test]
async fn a_flaky_upstream_has_one_effect_in_the_end() {
    for script in [REQUESTS, HTTPX] {
        // Refuses twice without an effect, then executes.
        let upstream = Upstream::answering(|request| match request.number {
            1 => Reply::new(503).body("busy"),
            2 => Reply::new(429).body("slower"),
            number => Reply::new(201).body(number.to_string()),
        })
        .await;
        let gateway = Gateway::start(Settings::before(&upstream)).await;
        let client = python(script, &gateway.url()).await;
        assert_executed(client, 3);
        assert_eq!(upstream.total(), 3, "{script}");
    }
}

#[tokio::test]
async fn an_upstream_that_breaks_off_is_executed_again_only_where_that_is_wanted() {
    for script in [REQUESTS, HTTPX] {
        let upstream = Upstream::answering(|request| match request.number {
            1 => Reply::hang_up(),
            number => Reply::new(201).body(number.to_string()),
        })
        .await;
        let settings = Settings::before(&upstream)
            .idempotency("on_unknown = \"retry\"\nlease = \"1s\"\nstore_timeout = \"300ms\"");
        let gateway = Gateway::start(settings).await;
        let client = python(script, &gateway.url()).await;
        assert_executed(client, 2);
        assert_eq!(upstream.total(), 2, "{script}");
        assert_eq!(upstream.last().header("idempotency-attempt"), Some("2"));
    }
}

#[tokio::test]
async fn the_gateway_may_be_killed_while_they_retry() {
    for script in [REQUESTS, HTTPX] {
        let (upstream, gate) = Upstream::gated().await;
        // On one address, before and after.
        let addr = format!("127.0.0.1:{}", onlyonce_e2e::free_port());
        let settings = Settings::before(&upstream)
            .idempotency("on_unknown = \"retry\"\nlease = \"1s\"\nstore_timeout = \"300ms\"");
        let home = onlyonce_e2e::Home::new(&settings);
        let text = std::fs::read_to_string(home.config()).unwrap();
        std::fs::write(home.config(), text.replacen("127.0.0.1:0", &addr, 1)).unwrap();
        let gateway = home.start().await;
        let url = format!("http://{addr}");
        let client = python(script, &url);
        let killing = async {
            gate.arrived(1).await;
            let home = gateway.kill().await;
            gate.open();
            home.start().await
        };
        let (client, _gateway) = tokio::join!(client, killing);
        // Twice, as was asked for, and told so: a second attempt with a newer fence.
        assert_executed(client, 2);
        let seen = upstream.seen();
        assert_eq!(seen.len(), 2);
        let fence = |place: usize| -> u64 {
            seen[place]
                .header("idempotency-fence")
                .unwrap()
                .parse()
                .unwrap()
        };
        assert_eq!(seen[1].header("idempotency-attempt"), Some("2"));
        assert!(fence(1) > fence(0));
    }
}
