//! Which names stand for secrets.

/// Compared whole.
const FIELDS: [&str; 14] = [
    "password",
    "passwd",
    "pwd",
    "secret",
    "client_secret",
    "token",
    "access_token",
    "refresh_token",
    "id_token",
    "x_auth_token",
    "api_key",
    "x_api_key",
    "ticket",
    "private_key",
];

/// Secrets wherever they stand in a longer name: `passwordconfirm`.
const ANYWHERE: [&str; 3] = ["password", "passwd", "passphrase"];

/// Secrets as a word of a longer name: `secret_access_key`.
const WORDS: [&str; 5] = ["pwd", "secret", "token", "authorization", "jwt"];

/// Secrets where a name ends so, also without a border between words: `clientsecret`.
const ENDINGS: [&str; 8] = [
    "pwd",
    "secret",
    "token",
    "authorization",
    "apikey",
    "privatekey",
    "accesskey",
    "secretkey",
];

/// Of all of these.
const SHORTEST: usize = 3;

/// The usual names, each [folded].
pub(super) fn usual() -> impl Iterator<Item = String> {
    FIELDS.iter().map(|name| folded(name))
}

/// Whether a longer name, here also [folded], tells of a secret: `newPassword`, `X-Vault-Token`,
/// `password2`.
pub(super) fn tells_of_secret(name: &str, folded: &str) -> bool {
    if folded.len() < SHORTEST {
        return false;
    }
    // Who can do without one does not send one.
    let folded = folded.replace("passwordless", "");
    let end = without_number(&folded);
    ANYWHERE.iter().any(|part| folded.contains(part))
        || ENDINGS.iter().any(|ending| end.ends_with(ending))
        || words(name).any(|word| WORDS.contains(&without_number(&word)))
}

/// Whether a [folded] text has one of these anywhere.
pub(super) fn mentions_secret(folded: &str) -> bool {
    let mut all = ANYWHERE.iter().chain(&ENDINGS).chain(&WORDS);
    all.any(|word| folded.contains(word))
}

/// Without case, separators and what surrounds it.
pub(super) fn folded(name: &str) -> String {
    name.chars()
        .filter(|c| !matches!(c, '-' | '_' | '+' | ' ') && !c.is_control())
        .flat_map(char::to_lowercase)
        .collect()
}

fn without_number(word: &str) -> &str {
    word.trim_end_matches(|c: char| c.is_ascii_digit())
}

/// The words of a name in any convention, in lower case.
fn words(name: &str) -> impl Iterator<Item = String> {
    name.split(|c: char| !c.is_alphanumeric()).flat_map(|part| {
        let mut words = vec![String::new()];
        let mut was_lower = false;
        for c in part.chars() {
            if c.is_uppercase() && was_lower {
                words.push(String::new());
            }
            was_lower = !c.is_uppercase();
            if let Some(word) = words.last_mut() {
                word.extend(c.to_lowercase());
            }
        }
        words
    })
}
