//! `[blocklist]` and `[allow_list]`, and what routes say of them.

use super::*;
use crate::config::Route;

#[test]
fn faults_of_the_blocklist() {
    snapshot!(gallery(&[
        "[blocklist]\nenabled = \"yes\"\n",
        "[blocklist]\nenabled = true\nstore = \"blocklist.json\"\n",
        "[blocklist]\nenabled = true\nstore = \"file:\"\n",
        "[blocklist]\nenabled = true\nstore = \"file:/\"\n",
        "[blocklist]\nenabled = true\nstore = \"file:~/blocklist.json\"\n",
        "[blocklist]\nenabled = true\nstore = \"memory\"\n",
        "[blocklist]\nenabled = true\nstore = \"sqlite:blocklist.db\"\n",
        "[blocklist]\nenabled = true\nstore = \"redis://:hunter2@127.0.0.1:port\"\n",
        "[blocklist]\nenabled = true\nstore = 3\n",
        "[blocklist]\nenabled = true\nstore = \"file:no-such-folder/blocklist.json\"\n",
        "[blocklist]\nenabled = true\npoll = \"1ms\"\n",
        "[blocklist]\nenabled = true\npoll = 3\n",
        "[blocklist]\nenabled = true\ncapacity = 0\n",
        "[blocklist]\nenabled = true\ncapacity = \"many\"\n",
        "[blocklist]\nenable = true\n",
        "[blocklist]\nstore = \"memory:\"\n",
        "blocklist = true\n",
        "[[route]]\npath = \"/a\"\nblocklist = \"off\"\n",
        "[[route]]\npath = \"/a\"\nblocklist = true\n",
    ]));
}

#[test]
fn faults_of_the_allow_list() {
    snapshot!(gallery(&[
        "[allow_list]\npaths = [\"/gen\"]\naddresses = [\"10.0.0.0/33\"]\n",
        "[allow_list]\npaths = [\"/gen\"]\naddresses = [\"10.0.0.1\", \"10.0.0.5, 10.0.0.300\"]\n",
        "[allow_list]\npaths = [\"/gen\"]\naddresses = [\"localhost\"]\n",
        "[allow_list]\npaths = [\"/gen\"]\naddresses = [10]\n",
        "[allow_list]\npaths = [\"/gen\"]\naddresses = \"10.0.0.1\"\n",
        "[allow_list]\npaths = [\"gen\"]\naddresses = [\"10.0.0.1\"]\n",
        "[allow_list]\npaths = [\"/gen/{\"]\naddresses = [\"10.0.0.1\"]\n",
        "[allow_list]\npaths = [\"/gen\"]\n",
        "[allow_list]\naddresses = [\"10.0.0.1\"]\n",
        "[allow_list]\npath = [\"/gen\"]\n",
        "[allow_list]\npaths = [\"/gen/*\"]\naddresses = [\"10.0.0.1\"]\n",
        "[allow_list]\npaths = [\"/gen/:id\"]\naddresses = [\"10.0.0.1\"]\n",
    ]));
}

#[test]
fn the_blocklist_lies_where_records_do_unless_it_is_said() {
    let url = |content: &str| {
        let settings = Given::file(format!("{UPSTREAM}{QUIET}{content}")).settings();
        settings.blocklist.url(&settings.store.url).to_string()
    };
    let beside = "file:./onlyonce-blocklist.json";
    assert_eq!(url("[blocklist]\nenabled = true\n"), beside);
    assert_eq!(url("[store]\nurl = \"memory:\"\n"), "memory:");
    let redis = "[store]\nurl = \"redis://127.0.0.1\"\n";
    assert!(url(redis).starts_with("redis://127.0.0.1"));
    let other = "[blocklist]\nenabled = true\nstore = \"file:./blocked.json\"\n";
    assert_eq!(url(&format!("{redis}{other}")), "file:./blocked.json");
}

#[test]
fn both_are_off_by_default_and_read_back_as_they_were() {
    let settings = Given::nothing().upstream().settings();
    assert!(!settings.blocklist.enabled);
    assert!(!settings.allow_list.is_there());
    assert!(settings.allow_list.layer(Default::default()).is_none());
    let file = format!(
        "{UPSTREAM}{QUIET}[blocklist]\nenabled = true\nstore = \"file:./b.json\"\npoll = \"5s\"\n\
         [allow_list]\npaths = [\"/gen/{{*rest}}\"]\naddresses = [\"10.0.0.5-90\", \"*\"]\n\
         [[route]]\npath = \"/open\"\nblocklist = false\n"
    );
    let settings = Given::file(file).settings();
    assert!(settings.allow_list.layer(Default::default()).is_some());
    let printed = toml::to_string(&settings.blocklist).unwrap();
    assert!(printed.contains("store = \"file:./b.json\""), "{printed}");
    let printed = toml::to_string(&settings.allow_list).unwrap();
    assert!(printed.contains("10.0.0.5-90"), "{printed}");
    let layers = settings.routes.iter().map(Route::layers);
    let told: Vec<_> = layers.map(|layers| layers.blocklist).collect();
    assert_eq!(told, [Some(false)]);
}
