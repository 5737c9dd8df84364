use super::*;

fn body(text: &str, content_type: &str) -> String {
    Redaction::new().body(text.as_bytes(), text.len() as u64, content_type)
}

#[test]
fn secrets_in_a_query_are_found_by_any_spelling_of_their_name() {
    let redaction = Redaction::new().with_fields(["cardNumber"]);
    for query in [
        "password=hunter2",
        "PassWord=hunter2",
        "pass%77ord=hunter2",
        "user[password]=hunter2",
        "user.password=hunter2",
        "password[]=hunter2",
        "a=1;token=hunter2",
        "access-token=hunter2",
        "accessToken=hunter2",
        "card_number=hunter2&x=1",
        "+password=hunter2",
        "password=a=hunter2",
    ] {
        let shown = redaction.query(query);
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains(REDACTED), "{shown}");
    }
    let harmless = "page=1&passwordless=yes&&flag;=x&name=M%C3%BCller&empty=";
    assert_eq!(redaction.query(harmless), harmless);
}

#[test]
fn a_referrer_shows_neither_password_nor_token() {
    let url = Redaction::new().url("https://u:p@shop.example/a@b?token=x&page=2#access_token=y");
    assert_eq!(
        url,
        "https://[redacted]@shop.example/a@b?token=[redacted]&page=2#access_token=[redacted]"
    );
}

#[test]
fn headers_with_secrets_are_redacted_and_others_kept() {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("authorization", "s3cret"),
        ("cookie", "s3cret"),
        ("set-cookie", "s3cret"),
        ("proxy-authorization", "s3cret"),
        ("idempotency-key", "s3cret"),
        ("x-idempotency-key", "s3cret"),
        ("x-api-key", "s3cret"),
        ("referer", "http://a/?ticket=s3cret"),
        ("accept", "*/*"),
    ] {
        headers.append(name, value.parse().unwrap());
    }
    let mut marked = http::HeaderValue::from_static("s3cret");
    marked.set_sensitive(true);
    headers.append("x-own", marked);
    let shown = Redaction::new().headers(&headers);
    assert!(!format!("{shown:?}").contains("s3cret"), "{shown:?}");
    assert!(shown.contains(&("accept".to_owned(), "*/*".to_owned())));
    assert_eq!(shown.len(), 10);
}

#[test]
fn json_is_redacted_at_any_depth_whatever_the_type_says() {
    let text = r#" {"user":{"pass\u0077ord":{"x":"s3cret"}},"list":[{"token":"s3cret"},1],"n":1}"#;
    let expected = r#"{"user":{"password":"[redacted]"},"list":[{"token":"[redacted]"},1],"n":1}"#;
    let expected: Value = serde_json::from_str(expected).unwrap();
    for content_type in [
        "application/json; charset=utf-8",
        "text/plain",
        "",
        "application/hal+json",
    ] {
        let shown: Value = serde_json::from_str(&body(text, content_type)).unwrap();
        assert_eq!(shown, expected, "{content_type}");
    }
    let nested = r#"{"payload":"{\"password\":\"s3cret\"}"}"#;
    assert!(!body(nested, "application/json").contains("s3cret"));
}

#[test]
fn what_cannot_be_searched_is_not_shown() {
    for (text, content_type) in [
        (r#"{"password":"s3cret""#, "application/json"),
        (r#"{"password":"s3cret""#, "text/plain"),
        ("<x><password>s3cret</password></x>", "text/xml"),
        ("<x><password>s3cret</password></x>", "text/plain"),
        (
            "--b\r\ncontent-disposition: form-data; name=password\r\n\r\ns3cret\r\n",
            "multipart/form-data",
        ),
        ("s3cret\0", "text/plain"),
        ("password=s3cret", "application/json"),
    ] {
        let shown = body(text, content_type);
        assert!(!shown.contains("s3cret"), "{shown}");
        assert!(shown.ends_with(" bytes]"), "{shown}");
    }
    assert_eq!(
        Redaction::new().body(b"\xff\xfe", 2, "text/plain"),
        "[binary, 2 bytes]"
    );
}

#[test]
fn a_cut_body_shows_what_is_safe() {
    let redaction = Redaction::new();
    let json = redaction.body(br#"{"a":1}"#, 100, "application/json");
    assert_eq!(json, "[json too long to be recorded, 100 bytes]");
    let form = redaction.body(
        b"a=1&password=s3c",
        100,
        "application/x-www-form-urlencoded",
    );
    assert_eq!(form, "a=1&password=[redacted]…");
    let text = redaction.body(
        "caf\u{e9}".as_bytes().split_last().unwrap().1,
        100,
        "text/plain",
    );
    assert_eq!(text, "caf…");
}

#[test]
fn forms_and_texts_stand_as_they_were_sent() {
    let form = "application/x-www-form-urlencoded";
    assert_eq!(body("a=1&pwd=x&b=%20", form), "a=1&pwd=[redacted]&b=%20");
    assert_eq!(body("hello, you", "text/plain"), "hello, you");
    assert_eq!(body("", "application/json"), "");
}

#[test]
fn names_that_end_in_a_secret_s_word_are_secrets() {
    for name in [
        "newPassword",
        "old_password",
        "passwordConfirm",
        "password_confirmation",
        "password2",
        "userpassword",
        "oldPwd",
        "authorization",
        "X-Vault-Token",
        "PRIVATE-TOKEN",
        "csrftoken",
        "aws_secret_access_key",
        "secretKey",
        "x-goog-api-key",
        "passphrase",
    ] {
        for text in [
            format!("a=1&{name}=s3cret"),
            format!(r#"{{"a":[{{"{name}":"s3cret"}}]}}"#),
        ] {
            let shown = body(&text, "");
            assert!(!shown.contains("s3cret"), "{shown}");
        }
        let mut headers = HeaderMap::new();
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            "s3cret".parse().unwrap(),
        );
        let shown = format!("{:?}", Redaction::new().headers(&headers));
        assert!(!shown.contains("s3cret"), "{shown}");
    }
    let harmless = "passwordless=yes&tokenizer=x&secretary=Li&author=Wu&monkey=1";
    assert_eq!(Redaction::new().query(harmless), harmless);
}

#[test]
fn secrets_in_values_that_hold_fields_themselves_are_found() {
    for text in [
        // A webhook's form with JSON in it, plain, encoded, broken.
        r#"payload={"password":"s3cret"}"#,
        "payload=%7B%22user%22%3A%5B%7B%22password%22%3A%22s3cret%22%7D%5D%7D",
        "payload=%7B%22password%22%3A%22s3cret",
        // A URL with a query of its own.
        "next=https://shop.example/back?token=s3cret",
        "next=%2Fback%3Fa%3D1%26access_token%3Ds3cret",
        "next=%252Fback%253Faccess_token%253Ds3cret",
        // Forms of `enctype="text/plain"`.
        "user=x\r\npassword=s3cret\r\n",
        "x\npassword=s3cret",
        // JSON in JSON, and again; broken; with space before it; a form; a URL.
        r#"{"a":" {\"password\":\"s3cret\"}"}"#,
        r#"{"a":"{\"b\":\"{\\\"password\\\":\\\"s3cret\\\"}\"}"}"#,
        r#"{"a":["{'password': 's3cret'}"]}"#,
        r#"{"a":"user=x&password=s3cret"}"#,
        r#"{"a":"https://shop.example/back?access_token=s3cret"}"#,
        r#""user=x&password=s3cret""#,
        // Names that are secrets only as a whole, or that the operator gives.
        r#"{"next":"https://x/cb?card_number=s3cret"}"#,
        r#"{"u":"https://a/?card_number=s3cret&token=1"}"#,
        r#"{"url":"wss://x/socket?ticket=s3cret"}"#,
        r#"{"text":"hello\ncard_number=s3cret"}"#,
        r#"{"a":"{\"ticket\":\"s3cret\",}"}"#,
        "https://x/cb?ticket=s3cret",
        "filter=%7B%22ticket%22%3A%22s3cret%22%2C%7D",
        "filter=%7B%22card_number%22%3A%22s3cret%22%2C%7D",
        "filter=%7B%22jwt%22%3A%22s3cret%22%2C%7D",
        // Encoded once more, and without a name of their own.
        r#"{"state":"password%3Ds3cret"}"#,
        r#"{"state":"%7B%22password%22%3A%22s3cret%22%7D"}"#,
        "%7B%22password%22%3A%22s3cret%22%7D",
    ] {
        let redaction = Redaction::new().with_fields(["card_number"]);
        let shown = redaction.body(text.as_bytes(), text.len() as u64, "");
        assert!(!shown.contains("s3cret"), "{shown}");
        assert!(shown.contains(REDACTED), "{shown}");
    }
    let url = Redaction::new().url("https://a/?next=%2Fb%3Ftoken%3Ds3cret");
    assert_eq!(url, "https://a/?next=[redacted]");
    for harmless in [
        "filter={\"a\":1}",
        "next=https://a/b?page=2",
        r#"{"a":"{\"b\": 1}","c":"x=1&y=2"}"#,
    ] {
        assert_eq!(body(harmless, ""), harmless);
    }
}

#[test]
fn secrets_in_the_values_of_headers_are_found() {
    for (name, value) in [
        ("x-forwarded-uri", "/cb?a=1&access_token=s3cret"),
        ("x-original-url", "/cb?access_token=s3cret"),
        ("x-state", r#"{"password":"s3cret"}"#),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        let shown = Redaction::new().headers(&headers);
        assert_eq!(shown, [(name.to_owned(), REDACTED.to_owned())]);
    }
    for (name, value) in [
        ("accept", "text/html;q=0.9, */*;q=0.8"),
        ("if-none-match", r#""33a64df5""#),
        ("content-disposition", r#"form-data; name="field""#),
        ("forwarded", "for=192.0.2.60;proto=http;by=203.0.113.43"),
        ("x-forwarded-uri", "/cb?page=2"),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        let shown = Redaction::new().headers(&headers);
        assert_eq!(shown, [(name.to_owned(), value.to_owned())]);
    }
}
