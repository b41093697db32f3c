//! What was heard, and where: the vocabulary between detectors, turn-taking and the call.

use crate::time::MediaTime;

/// One finding of a detector on the far end's audio.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Signal {
    /// The sample the finding is about: where speech began, where the tone started.
    pub at: MediaTime,
    /// The sample at which the streaming detector knew. `at <= decided`.
    pub decided: MediaTime,
    /// What was found.
    pub kind: SignalKind,
}

/// The kinds of findings.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum SignalKind {
    /// Speech began at `Signal::at`.
    SpeechStart,
    /// Speech ended at `Signal::at` (the last voiced sample).
    SpeechEnd,
    /// A key was pressed; one signal per press.
    Digit(Digit),
    /// A steady tone began (voicemail beep candidate) (Hz).
    BeepStart {
        /// Frequency (Hz).
        freq_hz: f32,
    },
    /// That tone ended at `Signal::at`.
    BeepEnd {
        /// Frequency (Hz).
        freq_hz: f32,
        /// Where the tone began.
        start: MediaTime,
    },
    /// No packets arrive any more: nothing is known of the line, which is not the same as silence.
    Starved,
    /// Packets arrive again.
    Flowing,
}

/// A telephone key: `0`–`9`, `*`, `#`, `A`–`D`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Digit(u8);

impl Digit {
    /// The digit for an RFC 4733 §3.2 event code 0–15.
    #[must_use]
    pub const fn from_event(code: u8) -> Option<Self> {
        if code < 16 { Some(Self(code)) } else { None }
    }

    /// The digit for a character `0`–`9`, `*`, `#`, `A`–`D` (either case).
    #[must_use]
    pub const fn from_char(c: char) -> Option<Self> {
        match c {
            '0'..='9' => Some(Self(c as u8 - b'0')),
            '*' => Some(Self(10)),
            '#' => Some(Self(11)),
            'A'..='D' => Some(Self(c as u8 - b'A' + 12)),
            'a'..='d' => Some(Self(c as u8 - b'a' + 12)),
            _ => None,
        }
    }

    /// The RFC 4733 §3.2 event code, 0–15.
    #[must_use]
    pub const fn event(self) -> u8 {
        self.0
    }

    /// The key as printed on a telephone.
    #[must_use]
    pub const fn as_char(self) -> char {
        b"0123456789*#ABCD"[self.0 as usize] as char
    }
}

/// A bounded list of signals that never allocates: what one frame may yield.
#[derive(Clone, Debug)]
pub struct Signals {
    items: [Option<Signal>; Self::CAPACITY],
    len: usize,
    dropped: u32,
}

impl Signals {
    /// Far more than all detectors together can say about one 20 ms frame.
    pub const CAPACITY: usize = 16;

    /// An empty list.
    #[must_use]
    pub const fn new() -> Self {
        Self { items: [None; Self::CAPACITY], len: 0, dropped: 0 }
    }

    /// Appends one signal; counts it as dropped when the list is full.
    pub fn push(&mut self, signal: Signal) {
        if self.len < Self::CAPACITY {
            self.items[self.len] = Some(signal);
            self.len += 1;
        } else {
            self.dropped += 1;
        }
    }

    /// Empties the list, keeping the dropped count.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// The signals in the order they were found.
    pub fn iter(&self) -> impl Iterator<Item = Signal> + '_ {
        self.items[..self.len].iter().flatten().copied()
    }

    /// Whether nothing was found.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Signals lost to a full list since creation.
    #[must_use]
    pub const fn dropped(&self) -> u32 {
        self.dropped
    }
}

impl Default for Signals {
    fn default() -> Self {
        Self::new()
    }
}
