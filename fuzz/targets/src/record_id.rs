//! `RecordId`: its text form.

use onlyonce_core::RecordId;

/// Whatever an operator types as a record's identifier.
///
/// # Panics
/// When an identifier does not come back from its text.
pub fn record_id(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match text.parse::<RecordId>() {
        Ok(id) => {
            assert_eq!(id.to_string(), text.to_ascii_lowercase());
            assert!(id.to_string().starts_with(&id.tag()));
        }
        Err(error) => {
            let is_one = data.len() == 64 && data.iter().all(u8::is_ascii_hexdigit);
            assert!(!is_one, "{error}");
        }
    }
}
