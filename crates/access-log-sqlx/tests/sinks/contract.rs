//! What every sink must do.

use std::net::IpAddr;
use std::time::Duration;

use onlyonce_core::Timestamp;
use onlyonce_pipeline::access_log::{
    AccessRow, Ending, MAX_PAGE, MemorySink, RowFilter, RowId, RowQuery, RowSink,
};

/// 2026-01-01
const NEW_YEAR: u64 = 1_767_225_600_000;

pub(crate) fn row(created: u64) -> AccessRow {
    let created = Timestamp::from_millis(created);
    AccessRow {
        id: RowId::new(created),
        trace_id: "b4f90e16264a5f17cd3fc27141aba448".to_owned(),
        module: "admin".to_owned(),
        method: "POST".to_owned(),
        scheme: "https".to_owned(),
        host: "shop.example".to_owned(),
        path: "/admin/users".to_owned(),
        query: "page=2".to_owned(),
        headers: vec![
            ("accept".to_owned(), "*/*".to_owned()),
            ("accept".to_owned(), "x".to_owned()),
        ],
        body: r#"{"a":1}"#.to_owned(),
        ip: Some("2001:db8::7".parse().unwrap()),
        user: Some("17".to_owned()),
        code: Some(-1),
        message: "用户创建失败".to_owned(),
        stack: vec!["1. outer".to_owned(), "   1).  f".to_owned()],
        status: 400,
        user_agent: "curl/8.5".to_owned(),
        duration: Duration::from_millis(12),
        ending: Ending::HungUp,
        responded: Timestamp::from_millis(created.as_millis() + 12),
        created,
        outcome: Some("executed".to_owned()),
        key_hash: Some("0a1b2c3d".to_owned()),
    }
}

/// As large and as strange as the layer lets a row be.
fn hostile(created: u64) -> AccessRow {
    let nasty = "'\"\\;--\r\n\u{1b}[2J\u{202e}\u{fffd}\u{10ffff}%_ $1 ?1 :a NULL\u{1}";
    let long: String = (0..8 * 1024)
        .map(|n| char::from(b'!' + (n * 7 % 90) as u8))
        .collect();
    AccessRow {
        trace_id: nasty.to_owned(),
        module: nasty.to_owned(),
        method: long[..256].to_owned(),
        host: nasty.to_owned(),
        path: format!("/{}…", &long[..2047]),
        query: long.clone(),
        headers: (0..200).map(|_| (nasty.to_owned(), long.clone())).collect(),
        body: nasty.repeat(1000),
        user: Some(long[..256].to_owned()),
        code: Some(i32::MIN),
        message: long.clone(),
        stack: vec![long.clone(); 400],
        user_agent: long,
        duration: Duration::from_millis(u64::from(u32::MAX) * 1000),
        outcome: None,
        key_hash: None,
        ip: None,
        ..row(created)
    }
}

/// All of it, one after the other, on an empty sink.
pub(crate) async fn holds(sink: &dyn RowSink) {
    rows_come_back_as_they_were(sink).await;
    a_batch_can_come_twice(sink).await;
    a_batch_is_written_whole_or_not_at_all(sink).await;
    listings_are_those_of_the_model(sink).await;
    what_users_type_is_no_sql(sink).await;
    old_rows_go_by_steps(sink).await;
}

async fn rows_come_back_as_they_were(sink: &dyn RowSink) {
    let bare = AccessRow {
        headers: Vec::new(),
        stack: Vec::new(),
        user: None,
        code: None,
        ip: Some("192.0.2.7".parse().unwrap()),
        ending: Ending::Failed,
        ..row(NEW_YEAR)
    };
    let rows = [row(NEW_YEAR), hostile(NEW_YEAR), bare];
    sink.write(&rows).await.unwrap();
    for row in &rows {
        let found = sink.find(row.id).await.unwrap().expect("the row");
        assert!(found == *row, "{found:#?}");
    }
    let unknown = RowId::from_bytes([7; 16]);
    assert!(sink.find(unknown).await.unwrap().is_none());
    empty(sink).await;
}

async fn a_batch_can_come_twice(sink: &dyn RowSink) {
    let rows = [row(NEW_YEAR), row(NEW_YEAR)];
    sink.write(&rows[..1]).await.unwrap();
    let changed = AccessRow {
        status: 500,
        ..rows[0].clone()
    };
    sink.write(&[changed, rows[1].clone()]).await.unwrap();
    assert_eq!(ids(sink, RowFilter::default()).await.len(), 2);
    let kept = sink.find(rows[0].id).await.unwrap().unwrap();
    assert_eq!(kept.status, 400, "the first word holds");
    sink.write(&[]).await.unwrap();
    empty(sink).await;
}

/// More rows than fit into one statement.
async fn a_batch_is_written_whole_or_not_at_all(sink: &dyn RowSink) {
    let rows: Vec<_> = (0..2500).map(|n| row(NEW_YEAR + n)).collect();
    // Dropped half-way, wherever that is.
    for patience in [1, 5, 25] {
        let writing = sink.write(&rows);
        let _ = tokio::time::timeout(Duration::from_millis(patience), writing).await;
        let count = ids(sink, RowFilter::default()).await.len();
        assert!(count == 0 || count == 2500, "{count}");
    }
    sink.write(&rows).await.unwrap();
    assert_eq!(ids(sink, RowFilter::default()).await.len(), 2500);
    empty(sink).await;
}

async fn listings_are_those_of_the_model(sink: &dyn RowSink) {
    let model = MemorySink::new(usize::MAX);
    let rows: Vec<_> = (0..400_u32).map(varied).collect();
    for rows in rows.chunks(90) {
        sink.write(rows).await.unwrap();
        model.write(rows).await.unwrap();
    }
    let text = |text: &str| Some(text.to_owned());
    let time = |millis| Some(Timestamp::from_millis(NEW_YEAR + millis));
    let any = RowFilter::default;
    let filters = [
        any(),
        RowFilter {
            path: text("/admin"),
            ..any()
        },
        RowFilter {
            path: text("/admin/users/1"),
            ..any()
        },
        RowFilter {
            path: text("sers"),
            ..any()
        },
        RowFilter {
            path: text("/%"),
            ..any()
        },
        RowFilter {
            path: text("%"),
            ..any()
        },
        RowFilter {
            path: text("/ADMIN"),
            ..any()
        },
        RowFilter {
            module: text("api"),
            ..any()
        },
        RowFilter {
            method: text("GET"),
            ..any()
        },
        RowFilter {
            user: text("3"),
            ..any()
        },
        RowFilter {
            ip: Some(address(2)),
            ..any()
        },
        RowFilter {
            code: Some(0),
            ..any()
        },
        RowFilter {
            code: Some(61),
            ..any()
        },
        RowFilter {
            min_duration: Some(Duration::from_micros(49_001)),
            ..any()
        },
        RowFilter {
            from: time(1000),
            until: time(2000),
            ..any()
        },
        RowFilter {
            from: time(3000),
            ..any()
        },
        RowFilter {
            until: time(0),
            ..any()
        },
        RowFilter {
            trace_id: text(&varied(8).trace_id),
            ..any()
        },
        RowFilter {
            module: text("admin"),
            method: text("POST"),
            user: text("2"),
            ..any()
        },
        RowFilter {
            module: text("nothing"),
            ..any()
        },
    ];
    for filter in filters {
        let expected = ids(&model, filter.clone()).await;
        let found = ids(sink, filter.clone()).await;
        assert_eq!(found, expected, "{filter:?}");
        let query = RowQuery {
            filter,
            ..RowQuery::default()
        };
        assert_eq!(
            sink.list(&query).await.unwrap(),
            model.list(&query).await.unwrap()
        );
    }
    // The model itself found something in most of them.
    assert_eq!(
        ids(
            &model,
            RowFilter {
                code: Some(61),
                ..any()
            }
        )
        .await
        .len(),
        80
    );
    empty(sink).await;
}

fn varied(n: u32) -> AccessRow {
    let (module, path) = match n % 4 {
        0 => ("admin", format!("/admin/users/{n}")),
        1 => ("api", "/api/USERS".to_owned()),
        2 => ("admin", "/adm".to_owned()),
        _ => ("home", "/home/%41_b".to_owned()),
    };
    // Some at the same moment.
    let created = NEW_YEAR + u64::from(n / 3) * 30;
    AccessRow {
        trace_id: format!("{n:032x}"),
        module: module.to_owned(),
        path,
        method: if n.is_multiple_of(2) { "GET" } else { "POST" }.to_owned(),
        user: (!n.is_multiple_of(5)).then(|| (n % 5).to_string()),
        ip: (!n.is_multiple_of(7)).then(|| address(n % 3)),
        code: match n % 5 {
            0 => Some(0),
            1 => Some(61),
            _ => None,
        },
        duration: Duration::from_millis(u64::from(n % 100)),
        ..row(created)
    }
}

fn address(n: u32) -> IpAddr {
    match n {
        0 => "192.0.2.7".parse().unwrap(),
        1 => "2001:db8::1".parse().unwrap(),
        _ => "127.0.0.1".parse().unwrap(),
    }
}

async fn what_users_type_is_no_sql(sink: &dyn RowSink) {
    sink.write(&[row(NEW_YEAR)]).await.unwrap();
    for evil in [
        "' OR '1'='1",
        "'; DROP TABLE onlyonce_access_log; --",
        "\0",
        "\\",
        "$1",
        "?1",
    ] {
        let text = Some(evil.to_owned());
        for filter in [
            RowFilter {
                module: text.clone(),
                ..RowFilter::default()
            },
            RowFilter {
                user: text.clone(),
                ..RowFilter::default()
            },
            RowFilter {
                path: text.clone(),
                ..RowFilter::default()
            },
            RowFilter {
                path: Some(format!("/{evil}")),
                ..RowFilter::default()
            },
            RowFilter {
                trace_id: text,
                ..RowFilter::default()
            },
        ] {
            assert_eq!(ids(sink, filter).await, [], "{evil}");
        }
    }
    assert_eq!(ids(sink, RowFilter::default()).await.len(), 1);
    empty(sink).await;
}

async fn old_rows_go_by_steps(sink: &dyn RowSink) {
    let rows: Vec<_> = (0..10).map(|n| row(NEW_YEAR + n)).collect();
    sink.write(&rows).await.unwrap();
    let before = Timestamp::from_millis(NEW_YEAR + 7);
    assert_eq!(sink.purge(before, 5).await.unwrap(), 5);
    let left = ids(sink, RowFilter::default()).await;
    let newest: Vec<_> = rows[5..].iter().rev().map(|row| row.id).collect();
    assert_eq!(left, newest, "the oldest go first");
    assert_eq!(sink.purge(before, 5).await.unwrap(), 2);
    assert_eq!(sink.purge(before, 5).await.unwrap(), 0);
    assert_eq!(ids(sink, RowFilter::default()).await.len(), 3);
    empty(sink).await;
}

/// Everything that fits, page by page.
pub(crate) async fn ids(sink: &dyn RowSink, filter: RowFilter) -> Vec<RowId> {
    let mut query = RowQuery {
        filter,
        before: None,
        limit: 7,
    };
    let mut all = Vec::new();
    loop {
        let page = sink.list(&query).await.unwrap();
        let limit = query.limit;
        query.before = page.last().map(|last| last.id);
        all.extend(page.iter().map(|row| row.id));
        // Small pages to try the seams, then larger ones to get on; a bound holds for all.
        query.limit = if all.len() < 50 { 7 } else { usize::MAX };
        assert!(page.len() <= limit.min(MAX_PAGE));
        if page.is_empty() {
            return all;
        }
    }
}

async fn empty(sink: &dyn RowSink) {
    let end = Timestamp::from_millis(u64::MAX);
    while sink.purge(end, 10_000).await.unwrap() > 0 {}
    assert_eq!(ids(sink, RowFilter::default()).await, []);
}
