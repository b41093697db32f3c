//! Handles to the engine and its calls.

use tokio::sync::mpsc;

use crate::call::{CallEvent, HangupSource};
use crate::engine::{CallRequest, EngineConfig, EngineError, PlaceError};

/// A running engine. Cheap to clone; every clone is the same engine.
#[derive(Clone)]
pub struct Engine {}

impl Engine {
    /// Binds sockets and starts the media workers. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When a socket cannot be bound, a thread not started, or a setting makes no sense.
    pub async fn start(config: EngineConfig) -> Result<Self, EngineError> {
        let _ = config;
        todo!()
    }

    /// Queues a call and returns at once, before dialling.
    ///
    /// # Errors
    /// When the call cannot even be queued; whatever happens later is the call's outcome.
    pub fn place(&self, request: CallRequest) -> Result<Call, PlaceError> {
        let _ = request;
        todo!()
    }

    /// Calls that are not finalized.
    #[must_use]
    pub fn active_calls(&self) -> usize {
        todo!()
    }

    /// Refuses new calls, ends the living ones with a BYE, and returns when all are finalized (at most 10 s).
    pub async fn shutdown(&self) {
        todo!()
    }
}

/// A call as its placer sees it: its events in order, ending with [`CallEvent::Finalized`].
/// Dropping it does not end the call.
pub struct Call {
    control: CallControl,
    events: mpsc::Receiver<CallEvent>,
}

impl Call {
    /// The next event; `None` after [`CallEvent::Finalized`].
    pub async fn next_event(&mut self) -> Option<CallEvent> {
        self.events.recv().await
    }

    /// A cloneable handle that can end the call.
    #[must_use]
    pub fn control(&self) -> CallControl {
        self.control.clone()
    }
}

/// Ends a call from anywhere. Cheap to clone.
#[derive(Clone)]
pub struct CallControl {}

impl CallControl {
    /// Ends the call: CANCEL before the answer, BYE after. Idempotent, also after the end.
    pub fn hang_up(&self, source: HangupSource) {
        let _ = source;
        todo!()
    }
}
