//! A retried request takes effect once.

use onlyonce_e2e::{Gateway, Settings, Upstream};

#[tokio::test]
async fn a_retry_gets_the_first_answer_and_changes_nothing() {
    let upstream = Upstream::counting().await;
    let gateway = Gateway::start(Settings::before(&upstream)).await;
    for _ in 0..5 {
        let answer = gateway.post("/charges").key("a").body("10").send().await;
        assert_eq!((answer.status, answer.text()), (201, "1"));
    }
    assert_eq!(upstream.executions("a"), 1);
}
