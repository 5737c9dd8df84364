//! Stands for a payment provider: it charges once for each of its own keys.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Clone, Default)]
pub(crate) struct Provider(Arc<Mutex<HashMap<String, u64>>>);

impl Provider {
    /// Charges `amount`, or does nothing where `key` has been charged; gives the charge's number.
    #[expect(clippy::unused_async, reason = "a real one is called over the network")]
    pub(crate) async fn charge(&self, key: &str, amount: u64) -> String {
        let mut charges = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        charges.entry(key.to_owned()).or_insert(amount);
        format!("ch_{key}")
    }

    pub(crate) fn charges(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
