//! Declared rules, and what they say in each language.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt::Display;

use garde::i18n::{
    I18n, InvalidCreditCard, InvalidEmail, InvalidPhoneNumber, InvalidUrl, IpKind, with_i18n,
};
use garde::{Report, Validate};

use super::input::Declared;
use super::rejection::mistake;
use crate::{Code, Error, Language, Text};

thread_local! {
    /// In which language the rules that run on this thread are to speak.
    static LANGUAGE: Cell<Language> = const { Cell::new(Language::En) };
}

/// What a rule of one's own says, in both languages. It stands alone: it is to name the field.
///
/// # Example
/// ```
/// use onlyonce_pipeline::filter::rule_error;
///
/// #[derive(garde::Validate)]
/// struct Signup {
///     #[garde(custom(grown_up))]
///     age: u8,
/// }
///
/// fn grown_up(age: &u8, _: &()) -> garde::Result {
///     if *age < 18 {
///         return Err(rule_error("You must be 18 or older", "您必须年满18岁"));
///     }
///     Ok(())
/// }
/// ```
pub fn rule_error(en: impl Display, zh_cn: impl Display) -> garde::Error {
    match LANGUAGE.get() {
        Language::ZhCn => garde::Error::new(zh_cn),
        Language::En => garde::Error::new(en),
    }
}

/// Checks the rules that `value`'s type declares. The error is of the first field that breaks one,
/// in the order in which they are declared.
pub(super) fn check<T: Validate<Context: Default>>(
    value: &T,
    declared: Declared,
) -> Result<(), Error> {
    let context = T::Context::default();
    let first_broken = |language| first_broken(value, &context, declared, language);
    let Some(en) = first_broken(Language::En) else {
        return Ok(());
    };
    // Only now, as most requests break none.
    let zh_cn = first_broken(Language::ZhCn).unwrap_or_else(|| en.clone());
    Err(mistake(Code::VALIDATION_FAILED, Text::both(en, zh_cn)))
}

fn first_broken<T: Validate>(
    value: &T,
    context: &T::Context,
    declared: Declared,
    language: Language,
) -> Option<String> {
    let _speaking = Speaking::start(language);
    let checked = match language {
        Language::ZhCn => with_i18n(Chinese, || value.validate_with(context)),
        Language::En => with_i18n(English, || value.validate_with(context)),
    };
    let report: Report = checked.err()?;
    // garde goes by the alphabet. Of errors at one place, the first stays the first.
    let in_order = report
        .iter()
        .map(|(path, error)| (Place::of(path, declared), error));
    let (place, error) = in_order.min_by_key(|(place, _)| place.position)?;
    let colon = match language {
        Language::ZhCn => "：",
        Language::En => ": ",
    };
    Some(match error.message().strip_prefix(OF_THE_RULE) {
        Some(message) if place.shown.is_empty() => message.to_owned(),
        Some(message) => format!("{}{colon}{message}", place.shown),
        None => error.message().to_owned(),
    })
}

/// Where a rule was broken.
struct Place {
    /// Of the outermost field among those declared.
    position: usize,
    /// With the outermost field as it is sent, not as it is called in the program.
    shown: String,
}

impl Place {
    fn of(path: &garde::Path, declared: Declared) -> Self {
        let shown = path.to_string();
        let end = shown.find(['.', '[']).unwrap_or(shown.len());
        let (field, rest) = shown.split_at(end);
        if field.is_empty() {
            // A rule of the whole type, or of a list's items.
            return Self { position: 0, shown };
        }
        let position = declared
            .iter()
            .position(|sent| *sent == field)
            .or_else(|| declared.iter().position(|sent| is_spelled(sent, field)));
        Self {
            position: position.unwrap_or(usize::MAX),
            shown: position.map_or_else(
                || shown.clone(),
                |position| format!("{}{rest}", declared[position]),
            ),
        }
    }
}

/// Whether `sent` is `field` in another convention, such as `userName` for `user_name`.
fn is_spelled(sent: &str, field: &str) -> bool {
    let letters = |name: &str| -> String {
        let name = name.strip_prefix("r#").unwrap_or(name);
        let letters = name.chars().filter(|letter| !"_-".contains(*letter));
        letters.flat_map(char::to_lowercase).collect()
    };
    letters(sent) == letters(field)
}

/// Sets the language until it is dropped, also by a rule that panics.
struct Speaking {
    before: Language,
}

impl Speaking {
    fn start(language: Language) -> Self {
        Self {
            before: LANGUAGE.replace(language),
        }
    }
}

impl Drop for Speaking {
    fn drop(&mut self) {
        LANGUAGE.set(self.before);
    }
}

/// Stands before what a declared rule says, which does not name its field; never seen outside.
const OF_THE_RULE: char = '\u{0}';

fn said(message: impl Display) -> Cow<'static, str> {
    format!("{OF_THE_RULE}{message}").into()
}

struct English;

impl I18n for English {
    fn length_lower_than(&self, min: usize) -> Cow<'static, str> {
        said(format_args!("must not be shorter than {min}"))
    }

    fn length_greater_than(&self, max: usize) -> Cow<'static, str> {
        said(format_args!("must not be longer than {max}"))
    }

    fn range_lower_than(&self, min: &dyn Display) -> Cow<'static, str> {
        said(format_args!("must be {min} or more"))
    }

    fn range_greater_than(&self, max: &dyn Display) -> Cow<'static, str> {
        said(format_args!("must be {max} or less"))
    }

    fn credit_card_invalid(&self, reason: InvalidCreditCard) -> Cow<'static, str> {
        said(format_args!("is not a credit card number ({reason})"))
    }

    fn pattern_no_match(&self, pattern: &dyn Display) -> Cow<'static, str> {
        said(format_args!("does not match {pattern}"))
    }

    fn contains_missing(&self, pattern: &dyn Display) -> Cow<'static, str> {
        said(format_args!("must contain \"{pattern}\""))
    }

    fn url_invalid(&self, reason: InvalidUrl) -> Cow<'static, str> {
        said(format_args!("is not a URL ({reason})"))
    }

    fn prefix_missing(&self, pattern: &dyn Display) -> Cow<'static, str> {
        said(format_args!("must begin with \"{pattern}\""))
    }

    fn suffix_missing(&self, pattern: &dyn Display) -> Cow<'static, str> {
        said(format_args!("must end with \"{pattern}\""))
    }

    fn phone_number_invalid(&self, reason: InvalidPhoneNumber) -> Cow<'static, str> {
        said(format_args!("is not a phone number ({reason})"))
    }

    fn ip_invalid(&self, _: IpKind) -> Cow<'static, str> {
        said("is not an IP address of the kind wanted")
    }

    fn matches_field_mismatch(&self, field: &dyn Display) -> Cow<'static, str> {
        said(format_args!("must be the same as {field}"))
    }

    fn email_invalid(&self, reason: InvalidEmail) -> Cow<'static, str> {
        said(format_args!("is not an e-mail address ({reason})"))
    }

    fn ascii_invalid(&self) -> Cow<'static, str> {
        said("must be ASCII")
    }

    fn alphanumeric_invalid(&self) -> Cow<'static, str> {
        said("must be letters and digits")
    }

    fn required_not_set(&self) -> Cow<'static, str> {
        said("is required")
    }
}

struct Chinese;

impl I18n for Chinese {
    fn length_lower_than(&self, min: usize) -> Cow<'static, str> {
        said(format_args!("长度不能小于{min}"))
    }

    fn length_greater_than(&self, max: usize) -> Cow<'static, str> {
        said(format_args!("长度不能大于{max}"))
    }

    fn range_lower_than(&self, min: &dyn Display) -> Cow<'static, str> {
        said(format_args!("不能小于{min}"))
    }

    fn range_greater_than(&self, max: &dyn Display) -> Cow<'static, str> {
        said(format_args!("不能大于{max}"))
    }

    fn credit_card_invalid(&self, _: InvalidCreditCard) -> Cow<'static, str> {
        said("不是有效的信用卡号")
    }

    fn pattern_no_match(&self, pattern: &dyn Display) -> Cow<'static, str> {
        said(format_args!("格式不符合{pattern}"))
    }

    fn contains_missing(&self, pattern: &dyn Display) -> Cow<'static, str> {
        said(format_args!("必须包含“{pattern}”"))
    }

    fn url_invalid(&self, _: InvalidUrl) -> Cow<'static, str> {
        said("不是有效的URL")
    }

    fn prefix_missing(&self, pattern: &dyn Display) -> Cow<'static, str> {
        said(format_args!("必须以“{pattern}”开头"))
    }

    fn suffix_missing(&self, pattern: &dyn Display) -> Cow<'static, str> {
        said(format_args!("必须以“{pattern}”结尾"))
    }

    fn phone_number_invalid(&self, _: InvalidPhoneNumber) -> Cow<'static, str> {
        said("不是有效的电话号码")
    }

    fn ip_invalid(&self, _: IpKind) -> Cow<'static, str> {
        said("不是有效的IP地址")
    }

    fn matches_field_mismatch(&self, field: &dyn Display) -> Cow<'static, str> {
        said(format_args!("必须与{field}相同"))
    }

    fn email_invalid(&self, _: InvalidEmail) -> Cow<'static, str> {
        said("不是有效的邮箱地址")
    }

    fn ascii_invalid(&self) -> Cow<'static, str> {
        said("只能包含ASCII字符")
    }

    fn alphanumeric_invalid(&self) -> Cow<'static, str> {
        said("只能包含字母和数字")
    }

    fn required_not_set(&self) -> Cow<'static, str> {
        said("不能为空")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Validate)]
    struct Order {
        #[garde(length(chars, min = 2, max = 4))]
        name: &'static str,
        #[garde(range(min = 1, max = 9), custom(even))]
        amount: u32,
        #[garde(dive)]
        items: Vec<Item>,
        #[garde(required)]
        note: Option<u8>,
    }

    #[derive(Validate)]
    struct Item {
        #[garde(alphanumeric)]
        sku: &'static str,
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "garde asks for it")]
    fn even(amount: &u32, (): &()) -> garde::Result {
        if amount % 2 == 1 {
            return Err(rule_error("Only pairs are sold", "只能成对购买"));
        }
        Ok(())
    }

    fn sound() -> Order {
        Order {
            name: "ab",
            amount: 2,
            items: vec![Item { sku: "x1" }],
            note: Some(1),
        }
    }

    fn messages(order: &Order) -> Option<(String, String)> {
        let error = check(order, &["name", "amount", "items", "note"]).err()?;
        assert_eq!(error.code(), Code::VALIDATION_FAILED);
        let message = |language| error.message(language).to_owned();
        Some((message(Language::En), message(Language::ZhCn)))
    }

    fn told(order: &Order, en: &str, zh: &str) {
        assert_eq!(messages(order), Some((en.to_owned(), zh.to_owned())));
    }

    #[test]
    fn what_keeps_the_rules_passes() {
        assert!(messages(&sound()).is_none());
    }

    #[test]
    fn the_field_and_its_rule_in_both_languages() {
        let order = Order {
            name: "é",
            ..sound()
        };
        told(
            &order,
            "name: must not be shorter than 2",
            "name：长度不能小于2",
        );
        let order = Order {
            name: "abcde",
            ..sound()
        };
        told(
            &order,
            "name: must not be longer than 4",
            "name：长度不能大于4",
        );
        let order = Order {
            amount: 0,
            ..sound()
        };
        told(&order, "amount: must be 1 or more", "amount：不能小于1");
        let order = Order {
            amount: 10,
            ..sound()
        };
        told(&order, "amount: must be 9 or less", "amount：不能大于9");
        let order = Order {
            note: None,
            ..sound()
        };
        told(&order, "note: is required", "note：不能为空");
        let items = vec![Item { sku: "a" }, Item { sku: "-" }];
        let order = Order { items, ..sound() };
        told(
            &order,
            "items[1].sku: must be letters and digits",
            "items[1].sku：只能包含字母和数字",
        );
    }

    #[test]
    fn a_rule_of_one_s_own_speaks_for_itself() {
        told(
            &Order {
                amount: 3,
                ..sound()
            },
            "Only pairs are sold",
            "只能成对购买",
        );
    }

    #[test]
    fn the_first_field_in_the_order_of_declaration() {
        let order = Order {
            name: "",
            amount: 0,
            note: None,
            ..sound()
        };
        told(
            &order,
            "name: must not be shorter than 2",
            "name：长度不能小于2",
        );
        let order = Order {
            amount: 0,
            note: None,
            ..sound()
        };
        told(&order, "amount: must be 1 or more", "amount：不能小于1");
    }

    #[test]
    fn the_field_is_called_as_it_is_sent() {
        #[derive(Validate)]
        struct Names {
            #[garde(length(min = 1))]
            user_name: &'static str,
            #[garde(length(min = 1))]
            r#type: &'static str,
            #[garde(length(min = 1))]
            another: &'static str,
        }
        let declared = &["type", "userName", "other"];
        let message = |names: &Names| check(names, declared).unwrap_err().to_string();
        let mut names = Names {
            user_name: "",
            r#type: "",
            another: "",
        };
        assert_eq!(message(&names), "type: must not be shorter than 1");
        names.r#type = "x";
        assert_eq!(message(&names), "userName: must not be shorter than 1");
        names.user_name = "x";
        assert_eq!(message(&names), "another: must not be shorter than 1");
    }

    #[test]
    fn a_panicking_rule_leaves_no_language_behind() {
        #[derive(Validate)]
        struct Bad {
            #[garde(custom(bad))]
            field: u8,
        }
        #[expect(clippy::trivially_copy_pass_by_ref, reason = "garde asks for it")]
        fn bad(_: &u8, (): &()) -> garde::Result {
            assert!(LANGUAGE.get() == Language::En, "on purpose");
            Err(garde::Error::new("x"))
        }
        let caught = std::panic::catch_unwind(|| check(&Bad { field: 0 }, &[]));
        assert!(caught.is_err());
        assert_eq!(LANGUAGE.get(), Language::En);
    }
}
