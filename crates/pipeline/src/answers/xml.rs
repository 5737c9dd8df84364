//! JSON values as XML.

use std::collections::BTreeMap;

use quick_xml::Writer;
use quick_xml::events::{BytesEnd, BytesStart, BytesText, Event};
use serde_json::Value;

/// `value` as an XML document with the root `doc`: children in alphabetical order, empty ones
/// left out, an array as a repeated element. The value comes from a parser of JSON, which bounds
/// its depth.
pub(super) fn document(value: &Value) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    // An answer without anything in it is still a document.
    open(&mut writer, "doc");
    content(&mut writer, value);
    close(&mut writer, "doc");
    writer.into_inner()
}

fn element(writer: &mut Writer<Vec<u8>>, name: &str, value: &Value) {
    if is_empty(value) {
        return;
    }
    if let Value::Array(items) = value {
        for item in items {
            element(writer, name, item);
        }
        return;
    }
    open(writer, name);
    content(writer, value);
    close(writer, name);
}

fn content(writer: &mut Writer<Vec<u8>>, value: &Value) {
    match value {
        Value::Object(fields) => {
            let sorted: BTreeMap<_, _> = fields.iter().collect();
            for (name, value) in sorted {
                element(writer, &sound_name(name), value);
            }
        }
        Value::Array(items) => {
            for item in items {
                element(writer, "item", item);
            }
        }
        Value::String(text) => write(writer, Event::Text(BytesText::new(&sound_text(text)))),
        other => write(writer, Event::Text(BytesText::new(&other.to_string()))),
    }
}

fn open(writer: &mut Writer<Vec<u8>>, name: &str) {
    write(writer, Event::Start(BytesStart::new(name)));
}

fn close(writer: &mut Writer<Vec<u8>>, name: &str) {
    write(writer, Event::End(BytesEnd::new(name)));
}

fn write(writer: &mut Writer<Vec<u8>>, event: Event<'_>) {
    writer
        .write_event(event)
        .expect("a vector takes everything");
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.iter().all(is_empty),
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// `name` with `_` for what an element's name can't hold (XML 1.0, section 2.3).
fn sound_name(name: &str) -> String {
    let starts = |c: char| c.is_alphabetic() || c == '_';
    let mut sound = String::with_capacity(name.len() + 1);
    if !name.chars().next().is_some_and(starts) {
        sound.push('_');
    }
    sound.extend(name.chars().map(|c| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' | '.' => c,
        '\u{4e00}'..='\u{9fa5}' | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' => c,
        _ => '_',
    }));
    sound
}

/// `text` with U+FFFD for characters that XML can't hold, escaped or not (section 2.2).
fn sound_text(text: &str) -> String {
    let sound = |c| match c {
        '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'.. => c,
        _ => '\u{fffd}',
    };
    text.chars().map(sound).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quick_xml::Reader;
    use serde_json::json;

    use super::*;

    fn text(value: &Value) -> String {
        String::from_utf8(document(value)).unwrap()
    }

    #[test]
    fn children_are_sorted_and_empty_ones_left_out() {
        let value =
            json!({"b": 2, "a": {"z": "", "y": null, "x": []}, "c": [1, "", 3], "d": false});
        assert_eq!(
            text(&value),
            "<doc><b>2</b><c>1</c><c>3</c><d>false</d></doc>"
        );
    }

    #[test]
    fn everything_is_escaped() {
        let value = json!({"a<b": "</doc><x a='1'>&amp;]]>\u{0}\u{1b}[31m", "1st": "é", "": 1});
        assert_eq!(
            text(&value),
            "<doc><_>1</_><_1st>é</_1st><a_b>&lt;/doc&gt;&lt;x a=&apos;1&apos;&gt;&amp;amp;]]&gt;\u{fffd}\u{fffd}[31m</a_b></doc>"
        );
    }

    /// What a parser of XML makes of the text of the element `a`.
    fn parsed(xml: &str) -> String {
        let mut reader = Reader::from_str(xml);
        reader.config_mut().check_end_names = true;
        let (mut text, mut names) = (String::new(), Vec::new());
        loop {
            match reader.read_event().expect("it is well-formed") {
                Event::Start(start) => {
                    names.push(start.name().as_ref().to_owned());
                }
                Event::Text(part) => text.push_str(&part),
                Event::GeneralRef(reference) => {
                    let escaped = format!("&{};", &*reference);
                    text.push_str(&quick_xml::escape::unescape(&escaped).unwrap());
                }
                Event::Eof => break,
                Event::End(_) => {}
                other => panic!("unexpected: {other:?}"),
            }
        }
        assert_eq!(names, ["doc", "a"]);
        text
    }

    proptest! {
        #[test]
        fn any_text_comes_back_from_a_parser(value in "[^\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\u{fffe}\u{ffff}]+") {
            let xml = text(&json!({"a": value}));
            prop_assert_eq!(parsed(&xml), value);
        }

        #[test]
        fn any_name_makes_one_element(name in ".+") {
            let xml = text(&json!({name: "x"}));
            let mut reader = Reader::from_str(&xml);
            let mut elements = 0;
            loop {
                match reader.read_event() {
                    Ok(Event::Start(_)) => elements += 1,
                    Ok(Event::Eof) => break,
                    Ok(_) => {}
                    Err(error) => panic!("{xml}: {error}"),
                }
            }
            prop_assert_eq!(elements, 2);
        }
    }
}
