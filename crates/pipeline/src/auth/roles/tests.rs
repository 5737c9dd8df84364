use casbin::{CoreApi as _, DefaultModel, Enforcer, MemoryAdapter, MgmtApi as _};
use proptest::prelude::*;

use super::*;

/// casbin itself, by the same model and policy.
async fn casbin_of(text: &str) -> Enforcer {
    let model = DefaultModel::from_str(Roles::MODEL).await.unwrap();
    let mut enforcer = Enforcer::new(model, MemoryAdapter::default())
        .await
        .unwrap();
    for line in text.lines() {
        let fields: Vec<String> = line
            .split(',')
            .map(|field| field.trim().to_owned())
            .collect();
        match fields[0].as_str() {
            "p" => enforcer.add_policy(fields[1..].to_vec()).await.unwrap(),
            _ => enforcer
                .add_grouping_policy(fields[1..].to_vec())
                .await
                .unwrap(),
        };
    }
    // Without the feature for it, links are not built as lines come.
    enforcer.build_role_links().unwrap();
    enforcer
}

fn roles(text: &str) -> Roles {
    Roles::new(text.parse().unwrap())
}

#[test]
fn the_policy_decides() {
    let roles = roles(
        "# who may what
         p, editor, /admin/posts/*, (GET)|(POST)
         p, editor, /admin/me, GET

         p, auditor, *, ^GET$
         g, chief, editor
         g, head, chief",
    );
    for (role, path, method, expected) in [
        ("editor", "/admin/posts/7", "POST", true),
        ("editor", "/admin/posts/", "GET", true),
        ("editor", "/admin/posts", "GET", false),
        ("editor", "/admin/posts/7", "DELETE", false),
        ("editor", "/admin/me", "GET", true),
        ("editor", "/admin/me/", "GET", false),
        ("editor", "/admin/ME", "GET", false),
        ("head", "/admin/me", "GET", true),
        ("chief", "/admin/users", "GET", false),
        ("auditor", "/admin/users", "GET", true),
        ("auditor", "/admin/users", "FORGET", false),
        ("editor", "/admin/me", "FORGET", true),
        ("stranger", "/admin/me", "GET", false),
        ("", "/admin/me", "GET", false),
    ] {
        assert_eq!(
            roles.allows(role, path, method),
            expected,
            "{role} {method} {path}"
        );
    }
}

#[test]
fn the_super_role_passes_and_is_not_inherited() {
    let roles = roles("g, deputy, super").with_super_role("super");
    assert!(roles.allows("super", "/anything", "DELETE"));
    assert!(!roles.allows("deputy", "/anything", "DELETE"));
    assert!(!roles.allows("SUPER", "/anything", "DELETE"));
}

#[test]
fn a_policy_is_swapped_whole_in_all_clones() {
    let roles = roles("p, a, /x, GET");
    let clone = roles.clone();
    roles.replace("p, a, /y, GET".parse().unwrap());
    assert!(clone.allows("a", "/y", "GET") && !clone.allows("a", "/x", "GET"));
}

#[test]
fn no_decision_sees_half_a_policy() {
    // Both policies allow this; a policy that is cleared first would refuse it for a moment.
    let texts = [
        "p, a, /x, GET\np, a, /y, GET",
        "p, a, /z, GET\np, a, /x, GET",
    ];
    let roles = roles(texts[0]);
    let done = std::sync::atomic::AtomicBool::new(false);
    let asked = std::thread::scope(|scope| {
        let (roles, done) = (&roles, &done);
        let asker = scope.spawn(move || {
            let mut asked = 0u32;
            while !done.load(std::sync::atomic::Ordering::Relaxed) || asked == 0 {
                assert!(roles.allows("a", "/x", "GET"));
                asked += 1;
            }
            asked
        });
        for round in 0..200 {
            roles.replace(texts[round % 2].parse().unwrap());
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        asker.join().unwrap()
    });
    assert!(asked > 0);
}

#[test]
fn bad_policies_name_the_line_and_the_remedy() {
    for (text, message) in [
        (
            "p, a, /x, GET\np, a, /x, *",
            "line 2: \"*\" is no regular expression for methods: write GET, (GET)|(POST), or .* \
             for all",
        ),
        (
            "p, a, /x",
            "line 1: write `p, role, path, methods` or `g, role, inherited role`; effects and \
             domains are not known here",
        ),
        (
            "\np, a, /x, GET, deny",
            "line 2: write `p, role, path, methods` or `g, role, inherited role`; effects and \
             domains are not known here",
        ),
        (
            "p, , /x, GET",
            "line 1: a policy needs a role, a path and methods",
        ),
        ("g, a,", "line 1: a role has no name"),
        (
            "g, a, b\ng, b, c\ng, c, a",
            "the role \"a\" inherits itself by way of others",
        ),
    ] {
        let error = text.parse::<RolePolicy>().unwrap_err();
        assert_eq!(error.to_string(), message);
    }
    let chain = |steps: usize| -> String {
        (0..steps)
            .map(|step| format!("g, r{step}, r{}\n", step + 1))
            .collect()
    };
    assert!(chain(9).parse::<RolePolicy>().is_ok());
    let error = chain(10).parse::<RolePolicy>().unwrap_err();
    assert_eq!(error, RolePolicyError::Deep("r0".to_owned()));
}

#[tokio::test]
async fn nine_steps_are_followed_by_casbin_too() {
    let mut text: String = (0..9)
        .map(|step| format!("g, r{step}, r{}\n", step + 1))
        .collect();
    text.push_str("p, r9, /x, GET");
    let casbin = casbin_of(&text).await;
    assert!(casbin.enforce(("r0", "/x", "GET")).unwrap());
    assert!(roles(&text).allows("r0", "/x", "GET"));
}

#[tokio::test]
async fn an_enforcer_s_error_or_panic_denies() {
    // A pattern that is no regular expression: casbin panics on it.
    let roles = Roles::from_enforcer(casbin_of("p, a, /x, GET\np, a, /bad, (").await);
    assert!(roles.allows("a", "/x", "GET"));
    assert!(!roles.allows("a", "/bad", "GET"));
    assert!(roles.allows("a", "/x", "GET"), "it still decides");
    // A model that asks for more than three values is an error with each decision.
    let model = Roles::MODEL.replace("r = sub, obj, act", "r = sub, obj, act, more");
    let model = DefaultModel::from_str(&model).await.unwrap();
    let mut enforcer = Enforcer::new(model, MemoryAdapter::default())
        .await
        .unwrap();
    let policy = ["a", "/x", "GET"].map(str::to_owned).to_vec();
    enforcer.add_policy(policy).await.unwrap();
    let roles = Roles::from_enforcer(enforcer).with_super_role("super");
    assert!(!roles.allows("a", "/x", "GET"));
    assert!(roles.allows("super", "/x", "GET"));
}

#[tokio::test]
async fn an_enforcer_s_answers_go_with_it() {
    let roles = Roles::from_enforcer(casbin_of("p, a, /x, GET").await);
    assert!(roles.allows("a", "/x", "GET"));
    roles.replace_enforcer(casbin_of("p, a, /y, GET").await);
    assert!(!roles.allows("a", "/x", "GET"));
}

fn some_policy() -> impl Strategy<Value = String> {
    let role = || prop::sample::select(vec!["a", "b", "c", "d", "e"]);
    let object = prop::sample::select(vec![
        "*", "/*", "/x", "/x/*", "/x*", "/x/y", "/x/y*", "/x/y/", "/*/y", "/x/*/z", "/z", "x", "/X",
    ]);
    let action = prop::sample::select(vec![
        "GET",
        "^GET$",
        "(GET)|(POST)",
        ".*",
        "P",
        "POST|PUT",
        "[A-Z]+",
        "$^",
        "get",
        "(?i)get",
    ]);
    let allow = (role(), object, action).prop_map(|(r, o, a)| format!("p, {r}, {o}, {a}"));
    let inherit = (role(), role()).prop_map(|(one, other)| format!("g, {one}, {other}"));
    let line = prop_oneof![3 => allow, 1 => inherit];
    prop::collection::vec(line, 1..14).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// The index is casbin, only faster.
    #[test]
    fn the_index_decides_as_casbin_does(text in some_policy()) {
        let policy = text.parse::<RolePolicy>();
        prop_assume!(policy.is_ok());
        let ours = Roles::new(policy.unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let casbin = runtime.block_on(casbin_of(&text));
        for role in ["a", "b", "c", "d", "e", "stranger"] {
            for path in ["/", "/x", "/x/", "/x/y", "/x/y/", "/x/y/z", "/xy", "/z", "/X", "/*/y"] {
                for method in ["GET", "POST", "PUT", "FORGET", "get"] {
                    let theirs = casbin.enforce((role, path, method)).unwrap();
                    let decided = ours.allows(role, path, method);
                    prop_assert_eq!(decided, theirs, "{} {} {}\n{}", role, method, path, text);
                }
            }
        }
    }

    #[test]
    fn no_text_makes_the_parser_or_the_index_panic(text in "\\PC{0,60}", path in "\\PC{0,20}") {
        if let Ok(policy) = text.parse::<RolePolicy>() {
            let _ = Roles::new(policy).allows("a", &path, "GET");
        }
        let policy = RolePolicy::new().allow("a", &format!("{path}*"), "GET").unwrap();
        let longer = format!("{path}x");
        prop_assert!(Roles::new(policy).allows("a", &longer, "GET"), "{}", path);
    }
}
