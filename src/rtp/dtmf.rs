//! Telephone events.
use crate::signal::Digit;

/// Digits in.
#[derive(Clone, Debug, Default)]
pub struct EventReceiver {}
impl EventReceiver {
    /// New.
    #[must_use]
    pub fn new() -> Self {
        todo!()
    }
    /// One digit per press.
    pub fn handle(&mut self, _timestamp: u32, _marker: bool, _payload: &[u8]) -> Option<Digit> {
        todo!()
    }
    /// Forgets the last press (new source).
    pub fn reset(&mut self) {
        todo!()
    }
}

/// One event packet to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EventPacket {
    /// Marker bit.
    pub marker: bool,
    /// RTP timestamp: the start of the press.
    pub timestamp: u32,
    /// Octets written, always 4.
    pub len: usize,
}

/// Digits out.
#[derive(Clone, Debug)]
pub struct EventSender {}
impl EventSender {
    /// New.
    #[must_use]
    pub fn new() -> Self {
        todo!()
    }
    /// Queues keys; returns how many did not fit (64 wait at most).
    pub fn queue(&mut self, _digits: impl IntoIterator<Item = Digit>) -> usize {
        todo!()
    }
    /// Every 20 ms.
    pub fn poll(&mut self, _timestamp: u32, _out: &mut [u8; 4]) -> Option<EventPacket> {
        todo!()
    }
    /// Whether keys wait, sound, or pause.
    #[must_use]
    pub fn is_active(&self) -> bool {
        todo!()
    }
}
