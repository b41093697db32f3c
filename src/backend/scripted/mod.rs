//! `scripted`: the keyless default in place of a language model.
//!
//! **What it is:** a small table of rules over the last thing the callee said. It states the task, answers "who is
//! this?" and "why?", repeats itself when asked, picks the menu option whose words match the task, leaves a message
//! when the task allows one and says nothing when it does not, accepts an offer, thanks and ends. **What it is not:** it
//! understands nothing. It makes the demo, the tests and the first call run without a key, the same way every time; for
//! real conversations configure a language model.

mod menu;
mod policy;

use tokio::sync::mpsc;

use crate::agent::{Delta, Request};
use crate::backend::{BackendError, LanguageModel};

pub use policy::reply;

/// The rule-following dialogue policy as a [`LanguageModel`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Scripted;

impl LanguageModel for Scripted {
    fn complete(
        &self,
        request: Request,
    ) -> Result<mpsc::Receiver<Result<Delta, BackendError>>, BackendError> {
        let deltas = reply(&request);
        let (tx, rx) = mpsc::channel(deltas.len().max(1));
        for delta in deltas {
            tx.try_send(Ok(delta)).expect("the channel holds the whole reply");
        }
        Ok(rx)
    }
}
