//! Paths, read once and strictly.
//!
//! A path passes several readers: our layers, maybe a proxy, the application's router. Where two
//! of them could read it differently, the looser one decides what is served and the stricter one
//! who may see it. So nothing here is mended and passed on: a path that has a second reading
//! within a module is refused, and outside of the modules all readings must stay outside.

use std::borrow::Cow;

/// A path that every reader reads alike. Its escapes are written in capitals; nothing else is
/// changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NormalPath(Box<str>);

impl NormalPath {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it lies under `prefix`, letter by letter.
    pub(crate) fn is_under(&self, prefix: &str) -> bool {
        let rest = self.0.strip_prefix(prefix);
        prefix == "/" || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AmbiguousPath {
    /// It does not begin with a slash.
    #[error("it does not begin with /")]
    NoSlash,
    /// A part between slashes is `.` or `..`, plainly or escaped.
    #[error("it has a part . or ..")]
    Dots,
    /// It has a `\`, which some servers read as a slash.
    #[error("it has a backslash")]
    Backslash,
    /// It has an escaped control character.
    #[error("it has a control character")]
    Control,
    /// It has a `;`, behind which some servers cut.
    #[error("it has a semicolon")]
    Semicolon,
    /// It has two slashes in a row.
    #[error("it has an empty part")]
    Empty,
    /// It has an escape that is none, or that stands for a slash or a percent sign.
    #[error("it has an escape that hides its structure")]
    Escape,
    /// It escapes a character that needs no escape.
    #[error("it escapes a character that needs no escape")]
    Needless,
    /// It has a byte that must be escaped.
    #[error("it has a character that must be escaped")]
    Unescaped,
    /// It, or the method, is a module's only where letter case or a slash at its end don't count.
    #[error("it is nearly, but not quite, a path of a module: letter case and slashes count")]
    Nearly,
}

/// A path in its loosest reading: no reader gets to other leading parts than it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LoosePath<'p>(Cow<'p, str>);

/// Reads `path` as loosely as any server could.
///
/// All escapes are read, also escapes of escapes; parameters behind `;` are cut; slashes in a row
/// count as one. What more than one outcome is possible of is refused.
pub(crate) fn read_loosely(path: &str) -> Result<LoosePath<'_>, AmbiguousPath> {
    if !path.starts_with('/') {
        return Err(AmbiguousPath::NoSlash);
    }
    let decoded = decode_wholly(path);
    let bytes = decoded.as_bytes();
    if bytes.contains(&b'\\') {
        return Err(AmbiguousPath::Backslash);
    }
    if bytes.iter().any(u8::is_ascii_control) {
        return Err(AmbiguousPath::Control);
    }
    let count = |text: &str, wanted: u8| text.bytes().filter(|byte| *byte == wanted).count();
    if bytes.contains(&b';') {
        // Cut before the escapes are read or after them: only the same if none hides an end.
        if count(path, b';') != count(&decoded, b';') || count(path, b'/') != count(&decoded, b'/')
        {
            return Err(AmbiguousPath::Semicolon);
        }
    }
    let is_plain = !bytes.contains(&b';')
        && !decoded.contains("//")
        && !decoded.split('/').any(|part| part == "." || part == "..");
    if is_plain {
        return Ok(LoosePath(decoded));
    }
    let mut loose = String::with_capacity(decoded.len());
    for part in decoded.split('/') {
        let cut = part.split(';').next().unwrap_or_default();
        if matches!(cut, "." | "..") {
            return Err(AmbiguousPath::Dots);
        }
        if !cut.is_empty() {
            loose.push('/');
            loose.push_str(cut);
        }
    }
    if loose.is_empty() {
        loose.push('/');
    }
    Ok(LoosePath(Cow::Owned(loose)))
}

/// Nobody escapes a path more often than this, but in bad faith.
#[cfg(feature = "blocklist")]
const MOST_LAYERS: usize = 4;

/// Each reading of a path goes through all of it: a longer one that has several is not read.
#[cfg(feature = "blocklist")]
const LONGEST_ODD: usize = 8 * 1024;

/// All that a server may take `path` for, in small letters and without a slash at the end.
///
/// Servers differ in how often they read escapes, and whether before or after they part at slashes;
/// in whether they cut parameters behind `;`, and count slashes in a row as one. What leads
/// elsewhere in some reading, such as `..`, is an error.
#[cfg(feature = "blocklist")]
pub(crate) fn readings(path: &str) -> Result<Vec<String>, AmbiguousPath> {
    let loose = read_loosely(path)?;
    let is_plain = !path.contains(['%', ';']) && !path.contains("//");
    if is_plain {
        return Ok(vec![small(path)]);
    }
    if path.len() > LONGEST_ODD {
        return Err(AmbiguousPath::Escape);
    }
    let mut all = vec![small(&loose.0)];
    let mut path = Cow::Borrowed(path);
    let mut has_opened = false;
    for _ in 0..MOST_LAYERS {
        // A slash that an escape hides stays hidden to who reads part by part.
        let by_parts = path
            .split('/')
            .map(|part| decode_wholly(part).replace('/', "\u{1}"));
        let by_parts = by_parts.collect::<Vec<_>>().join("/");
        for reading in [&*path, &by_parts] {
            for cut in [false, true] {
                for merged in [false, true] {
                    let parts = reading.split('/').skip(1);
                    let parts = parts.map(|part| match part.split_once(';') {
                        Some((part, _)) if cut => part,
                        _ => part,
                    });
                    let parts = parts.filter(|part| !merged || !part.is_empty());
                    all.push(small(&format!("/{}", parts.collect::<Vec<_>>().join("/"))));
                }
            }
        }
        let decoded = decode_once(&path);
        if decoded == path {
            all.sort_unstable();
            all.dedup();
            return Ok(all);
        }
        // Slashes below escapes of different depth: one may open while another stays hidden.
        let slashes = |text: &str| text.matches('/').count();
        if slashes(&decoded) > slashes(&path) && std::mem::replace(&mut has_opened, true) {
            return Err(AmbiguousPath::Escape);
        }
        path = Cow::Owned(decoded);
    }
    Err(AmbiguousPath::Escape)
}

#[cfg(feature = "blocklist")]
fn small(path: &str) -> String {
    let small = small_letters(path);
    match small.trim_end_matches('/') {
        "" => "/".to_owned(),
        trimmed => trimmed.to_owned(),
    }
}

impl LoosePath<'_> {
    /// In small letters, without a slash at its end: what routes of [`folded`](folded) patterns
    /// are compared with.
    pub(crate) fn folded(&self) -> NormalPath {
        NormalPath(folded(&self.0))
    }

    /// Whether some reader finds other parts between its slashes than `path`, as it came, has.
    pub(crate) fn has_other_parts_than(&self, path: &str) -> bool {
        let count = |text: &str| text.trim_end_matches('/').matches('/').count();
        path.contains(';') || path.contains("//") || count(&self.0) != count(path)
    }

    /// Whether the path lies under `prefix` when capitals count as small letters.
    pub(crate) fn is_under(&self, prefix: &str) -> bool {
        let (path, prefix) = (small_letters(&self.0), small_letters(prefix));
        let rest = path.strip_prefix(&*prefix);
        prefix == "/" || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// As whoever reads it to whom letter case is nothing, in whichever alphabet: to Java, `İ` is a
/// capital of `i`, and `ſ` one of the small letters of `S`.
pub(crate) fn small_letters(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(text.to_ascii_lowercase())
        } else {
            Cow::Borrowed(text)
        };
    }
    let small = |c: char| {
        let capital = c.to_uppercase().next().unwrap_or(c);
        capital.to_lowercase().next().unwrap_or(capital)
    };
    Cow::Owned(text.chars().map(small).collect())
}

/// In small letters, without a slash at its end.
pub(crate) fn folded(path: &str) -> Box<str> {
    let path = small_letters(path);
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() {
        "/".into()
    } else {
        trimmed.into()
    }
}

/// Reads `path` as a module must be able to: without a second meaning.
pub(crate) fn read_strictly(path: &str) -> Result<NormalPath, AmbiguousPath> {
    if !path.starts_with('/') {
        return Err(AmbiguousPath::NoSlash);
    }
    if path.contains("//") {
        return Err(AmbiguousPath::Empty);
    }
    if path.split('/').any(|part| matches!(part, "." | "..")) {
        return Err(AmbiguousPath::Dots);
    }
    let mut normal = String::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digits = [bytes.next(), bytes.next()];
                let [Some(high), Some(low)] = digits.map(|digit| digit.and_then(hex)) else {
                    return Err(AmbiguousPath::Escape);
                };
                match high * 16 + low {
                    b'/' | b'%' => return Err(AmbiguousPath::Escape),
                    b'\\' => return Err(AmbiguousPath::Backslash),
                    b';' => return Err(AmbiguousPath::Semicolon),
                    code if code.is_ascii_control() => return Err(AmbiguousPath::Control),
                    code if is_unreserved(code) => return Err(AmbiguousPath::Needless),
                    code => normal.push_str(&format!("%{code:02X}")),
                }
            }
            b';' => return Err(AmbiguousPath::Semicolon),
            b'\\' => return Err(AmbiguousPath::Backslash),
            byte if byte.is_ascii_graphic() => normal.push(char::from(byte)),
            _ => return Err(AmbiguousPath::Unescaped),
        }
    }
    Ok(NormalPath(normal.into()))
}

/// RFC 3986, section 2.3: an escape of these means the same as the character.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// Reads escapes until none is left, in one pass: `%252525…` must not cost a pass for each layer.
pub(crate) fn decode_wholly(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let mut out: Vec<u8> = Vec::with_capacity(path.len());
    for byte in path.bytes() {
        out.push(byte);
        while let [.., b'%', high, low] = out[..]
            && let (Some(high), Some(low)) = (hex(high), hex(low))
        {
            out.truncate(out.len() - 3);
            out.push(high * 16 + low);
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(feature = "blocklist")]
fn decode_once(path: &str) -> String {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = match (first, after) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
            _ => None,
        };
        out.push(escaped.map_or(*first, |(high, low)| high * 16 + low));
        rest = if escaped.is_some() {
            &after[2..]
        } else {
            after
        };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn loose(path: &str) -> Result<String, AmbiguousPath> {
        read_loosely(path).map(|path| path.0.into_owned())
    }

    fn strict(path: &str) -> Result<String, AmbiguousPath> {
        read_strictly(path).map(|path| path.as_str().to_owned())
    }

    #[test]
    fn the_loosest_reading_undoes_every_disguise() {
        for (path, expected) in [
            ("/admin/users", "/admin/users"),
            ("//admin///users/", "/admin/users"),
            ("/%61dmin/users", "/admin/users"),
            ("/%2561dmin/users", "/admin/users"),
            ("/%252561dmin", "/admin"),
            ("/x%2Fadmin", "/x/admin"),
            ("/%2fadmin", "/admin"),
            ("/admin;v=1/users;x", "/admin/users"),
            ("/;/admin", "/admin"),
            ("/100%", "/100%"),
            ("/100%25", "/100%"),
            ("//", "/"),
            ("/", "/"),
        ] {
            assert_eq!(loose(path).as_deref(), Ok(expected), "{path}");
        }
    }

    #[test]
    fn what_has_several_readings_is_refused_everywhere() {
        use AmbiguousPath::{Backslash, Control, Dots, NoSlash, Semicolon};
        for (path, expected) in [
            ("", NoSlash),
            ("*", NoSlash),
            ("/public/../admin", Dots),
            ("/public/..", Dots),
            ("/./admin", Dots),
            ("/public/%2e%2e/admin", Dots),
            ("/public/.%2E/admin", Dots),
            ("/public/%252e%252e/admin", Dots),
            ("/public/..%2fadmin", Dots),
            ("/public/..;/admin", Dots),
            ("/public/..;a=b/admin", Dots),
            ("/public\\..\\admin", Backslash),
            ("/public/%5cadmin", Backslash),
            ("/public/%255cadmin", Backslash),
            ("/admin%00", Control),
            ("/admin%0d%0a", Control),
            ("/x;y%2Fadmin/z", Semicolon),
            ("/x%3By/z", Semicolon),
        ] {
            assert_eq!(loose(path), Err(expected), "{path}");
        }
    }

    #[test]
    fn in_a_module_a_path_has_one_reading() {
        use AmbiguousPath::{Dots, Empty, Escape, Needless, Semicolon, Unescaped};
        for path in [
            "/admin",
            "/admin/",
            "/admin/a-b_c~d.e",
            "/admin/@me:go",
            "/admin/%C3%A4",
        ] {
            assert_eq!(strict(path).as_deref(), Ok(path));
        }
        assert_eq!(strict("/admin/%c3%a4").as_deref(), Ok("/admin/%C3%A4"));
        for (path, expected) in [
            ("/admin//users", Empty),
            ("//admin", Empty),
            ("/admin/./users", Dots),
            ("/admin/%2e/users", Needless),
            ("/admin/%6cogin", Needless),
            ("/admin/a%2fb", Escape),
            ("/admin/a%252fb", Escape),
            ("/admin/100%", Escape),
            ("/admin/%zz", Escape),
            ("/admin/%4", Escape),
            ("/admin/login;x", Semicolon),
            ("/admin/login%3bx", Semicolon),
            ("/admin/ä", Unescaped),
        ] {
            assert_eq!(strict(path), Err(expected), "{path}");
        }
    }

    #[cfg(feature = "blocklist")]
    #[test]
    fn slashes_hidden_at_two_depths_have_too_many_readings() {
        let deep = "/%252f%61/%2f";
        assert_eq!(readings(deep), Err(AmbiguousPath::Escape));
        for path in ["/%2f%61/%2f", "/%252f%61/%252f", "/a%2fb", "/a%252fb%20c"] {
            assert!(readings(path).is_ok(), "{path}");
        }
    }

    #[test]
    fn layers_of_escapes_cost_one_pass() {
        // In passes it would be ten thousand times the length of this.
        let path = format!("/%{}61dmin", "25".repeat(100_000));
        assert_eq!(loose(&path).as_deref(), Ok("/admin"));
    }

    #[test]
    fn a_prefix_ends_at_a_slash() {
        let is_under = |path: &str, prefix: &str| read_loosely(path).unwrap().is_under(prefix);
        assert!(is_under("/admin", "/admin"));
        assert!(is_under("/admin/x", "/admin"));
        assert!(is_under("/ADMIN/x", "/admin"));
        assert!(is_under("/adm%C4%B0n/x", "/admin"));
        assert!(is_under("/adm%C4%B1n", "/Admin"));
        assert!(is_under("/%C5%BFoc%E2%84%AAet", "/socket"));
        assert!(is_under("/anything", "/"));
        assert!(!is_under("/administrators", "/admin"));
        assert!(!is_under("/adm", "/admin"));
    }

    /// The readers that are out there: each step is taken or not, in any order.
    fn some_reader(path: &str, steps: &[u8]) -> String {
        let mut path = path.to_owned();
        for step in steps {
            path = match step % 5 {
                0 => decoded_once(&path),
                4 => {
                    let parts = path
                        .split('/')
                        .map(|part| decoded_once(part).replace('/', "\u{1}"));
                    parts.collect::<Vec<_>>().join("/")
                }
                1 => {
                    let parts = path.split('/').map(|part| part.split(';').next().unwrap());
                    parts.collect::<Vec<_>>().join("/")
                }
                2 => {
                    let mut merged = path.clone();
                    while merged.contains("//") {
                        merged = merged.replace("//", "/");
                    }
                    merged
                }
                _ => path.to_ascii_lowercase(),
            };
        }
        path
    }

    fn decoded_once(path: &str) -> String {
        let mut out = Vec::new();
        let bytes = path.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let digits = bytes
                .get(at + 1..at + 3)
                .and_then(|d| std::str::from_utf8(d).ok());
            match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                Some(byte) if bytes[at] == b'%' => {
                    out.push(byte);
                    at += 3;
                }
                _ => {
                    out.push(bytes[at]);
                    at += 1;
                }
            }
        }
        String::from_utf8_lossy(&out).into_owned()
    }

    fn tricky_path() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "/", "/", "/", "a", "d", "A", "ad", "x", ".", "..", ";", "\\", "%2f", "%2F", "%2e",
            "%61", "%41", "%3b", "%25", "%2561", "%252f", "%64", "%", "25", "2f", "%5c", "%c3%a4",
        ]);
        prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        /// No reader gets into a module by a path that is free here.
        #[test]
        fn no_reader_gets_further_than_the_loosest(
            path in tricky_path(), steps in prop::collection::vec(0u8..4, 0..8),
        ) {
            if let Ok(loose) = read_loosely(&path) {
                let read = some_reader(&path, &steps);
                for prefix in ["/ad", "/a/d", "/x/ad"] {
                    let rest = read.strip_prefix(prefix);
                    let inside = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
                    prop_assert!(!inside || loose.is_under(prefix), "{path} is read {read}");
                }
            }
        }

        /// What is normal is the same for every reader, but for escapes that stay within a part.
        #[test]
        fn every_reader_finds_the_same_parts_in_a_normal_path(
            path in tricky_path(), steps in prop::collection::vec(0u8..3, 0..8),
        ) {
            if let Ok(normal) = read_strictly(&path) {
                let read = some_reader(&path, &steps);
                prop_assert_eq!(read.split('/').count(), normal.as_str().split('/').count());
                for (part, its) in read.split('/').zip(normal.as_str().split('/')) {
                    let same = part.eq_ignore_ascii_case(its) || part == decoded_once(its);
                    prop_assert!(same, "{part} and {its}");
                }
            }
        }

        /// Whoever takes it for a protected path, one of its readings is one.
        #[cfg(feature = "blocklist")]
        #[test]
        fn no_reader_gets_to_a_path_that_is_not_among_the_readings(
            path in tricky_path(), steps in prop::collection::vec(0u8..5, 0..8),
        ) {
            if let Ok(readings) = readings(&path) {
                let mut protected = matchit::Router::new();
                for pattern in ["/ad", "/ad/{*rest}", "/x/{id}/d", "/a/{id}"] {
                    protected.insert(pattern, ()).unwrap();
                }
                let read = some_reader(&path, &steps).to_lowercase();
                let read = read.trim_end_matches('/');
                if protected.at(read).is_ok() {
                    let is_found = readings.iter().any(|one| protected.at(one).is_ok());
                    prop_assert!(is_found, "{path} is read {read}, and is none of {readings:?}");
                }
            }
        }

        #[test]
        fn reading_never_panics_and_normal_paths_stay_as_they_are(path in "\\PC{0,40}") {
            let _ = read_loosely(&path);
            if let Ok(normal) = read_strictly(&path) {
                prop_assert!(normal.as_str().is_ascii());
                prop_assert_eq!(read_strictly(normal.as_str()), Ok(normal.clone()));
            }
        }
    }
}
