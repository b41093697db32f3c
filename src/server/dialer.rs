//! The seam between the service and whatever places its calls: the engine, or a script in a test.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::call::{CallEvent, HangupSource};
use crate::engine::{Call, CallControl, CallRequest, Engine, PlaceError};

/// A future on the heap.
type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Places calls.
pub trait Dialer: Send + Sync + 'static {
    /// Queues a call and returns at once, before dialling.
    ///
    /// # Errors
    /// When the call cannot even be queued.
    fn place(&self, request: CallRequest) -> Result<Placed, PlaceError>;

    /// Refuses new calls, ends the living ones, and returns when all are finalized or a bound has passed.
    fn shutdown(&self) -> Boxed<'_, ()>;
}

/// A call that was queued.
pub struct Placed {
    /// What happens to it.
    pub events: Box<dyn Events>,
    /// Ends it.
    pub control: Arc<dyn Control>,
}

/// The events of one call in order; the last one is [`CallEvent::Finalized`].
pub trait Events: Send {
    /// The next event, `None` after the last. Dropping the future loses no event.
    fn next(&mut self) -> Boxed<'_, Option<CallEvent>>;
}

/// Ends a call.
pub trait Control: Send + Sync {
    /// Ends the call. Idempotent, also after its end.
    fn hang_up(&self, source: HangupSource);
}

impl Dialer for Engine {
    fn place(&self, request: CallRequest) -> Result<Placed, PlaceError> {
        let call = Self::place(self, request)?;
        let control = Arc::new(call.control());
        Ok(Placed { events: Box::new(call), control })
    }

    fn shutdown(&self) -> Boxed<'_, ()> {
        Box::pin(Self::shutdown(self))
    }
}

impl Events for Call {
    fn next(&mut self) -> Boxed<'_, Option<CallEvent>> {
        Box::pin(self.next_event())
    }
}

impl Control for CallControl {
    fn hang_up(&self, source: HangupSource) {
        Self::hang_up(self, source);
    }
}
