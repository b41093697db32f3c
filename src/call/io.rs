//! Inputs and outputs of the pure call machine ([`crate::call::Machine`]).
//!
//! The machine decides everything between "dial" and the final report; whoever drives it (the engine with sockets and
//! models, the simulation with a virtual clock and fakes) feeds [`Input`]s and carries out [`Output`]s.

use crate::agent::{Delta, Request};
use crate::call::event::CallEvent;
use crate::call::outcome::{HangupSource, Quality};
use crate::call::port::{LegCommand, LegEvent};
use crate::time::MediaTime;
use crate::turn::{SpokenWord, Word};

/// What happens to a call.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Input {
    /// News from signalling.
    Dialog(DialogEvent),
    /// News from the media leg.
    Leg(LegEvent),
    /// News from the recogniser.
    Heard(Heard),
    /// A piece of the reply to request `request`.
    Reply {
        /// The request it answers.
        request: u32,
        /// The piece.
        delta: Delta,
    },
    /// The reply to `request` failed or stalled; nothing more comes of it.
    ReplyFailed {
        /// The request.
        request: u32,
        /// Why, for the log and the report; holds nothing private.
        reason: String,
    },
    /// News from the synthesiser.
    Voiced(Voiced),
    /// What the leg received so far; the last one told stands in the report.
    Quality(Quality),
    /// The API's user (or the engine: limits, shutdown) ends the call.
    HangUp(HangupSource),
    /// The time given by `poll_timeout` has come.
    Timeout,
}

/// What signalling reports of the one dialog of this call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialogEvent {
    /// The INVITE was sent.
    Dialing,
    /// 180, or 183 without media.
    Ringing,
    /// 183 with SDP: media may come before the answer.
    EarlyMedia,
    /// 2xx came and was acknowledged.
    Answered {
        /// Where on the leg's timeline.
        at: MediaTime,
    },
    /// The dialog is over or never came to be.
    Ended {
        /// SIP status: of the refusal, or 200 for a BYE.
        status: u16,
        /// Whether the far end did it.
        by_remote: bool,
        /// Why, in the words of the status line or ours ("timed out").
        reason: String,
    },
}

/// What the recogniser reports.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// Words so far.
    Partial {
        /// The utterance.
        utterance: u32,
        /// Recognised so far.
        text: String,
    },
    /// The final words; empty if nothing was said.
    Final {
        /// The utterance.
        utterance: u32,
        /// What was said.
        text: String,
        /// With times, where known.
        words: Vec<Word>,
    },
    /// Recognition failed or stalled for good.
    Failed {
        /// Why; holds nothing private.
        reason: String,
    },
}

/// What the synthesiser reports of one utterance.
#[derive(Clone, Debug, PartialEq)]
pub enum Voiced {
    /// Audio exists now up to `samples`, with the words that end within it, if known.
    Progress {
        /// The utterance.
        utterance: u32,
        /// 8 kHz samples synthesised so far.
        samples: u64,
        /// Newly known words.
        words: Vec<SpokenWord>,
    },
    /// All audio exists.
    Finished {
        /// The utterance.
        utterance: u32,
        /// 8 kHz samples of the whole utterance.
        samples: u64,
    },
    /// The utterance could not be voiced further.
    Failed {
        /// The utterance.
        utterance: u32,
        /// Why; holds nothing private.
        reason: String,
    },
}

/// What the machine wants done, in order.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Output {
    /// Mark the beginning of an utterance for the recogniser.
    ListenFrom {
        /// The utterance.
        utterance: u32,
        /// First voiced sample.
        at: MediaTime,
    },
    /// Ask the recogniser for final words up to `at`.
    ListenUntil {
        /// The utterance.
        utterance: u32,
        /// Last voiced sample.
        at: MediaTime,
    },
    /// The utterance is not wanted, or goes on: drop a running final recognition.
    ListenCancel {
        /// The utterance.
        utterance: u32,
    },
    /// Ask the language model.
    Ask {
        /// Number of the request, rising.
        request: u32,
        /// The request.
        body: Request,
    },
    /// The reply is not wanted any more.
    CancelAsk {
        /// The request.
        request: u32,
    },
    /// Add `text` to utterance `utterance` (a new one, or the one being spoken) and play it.
    Speak {
        /// The utterance; numbers rise.
        utterance: u32,
        /// A clause to voice. The utterance's text is the plain concatenation of these: a clause that continues
        /// one begins with the space between them. Empty only together with `last`, when nothing is left to add.
        text: String,
        /// Whether it plays to the end even when someone speaks.
        protected: bool,
        /// Whether the utterance's text is complete with this.
        last: bool,
    },
    /// Stop voicing the utterance; what was played stays played.
    CancelSpeak {
        /// The utterance.
        utterance: u32,
    },
    /// Tell the leg.
    Leg(LegCommand),
    /// End the dialog: CANCEL before the answer, BYE after. The leg is told to stop by a command of its own.
    HangUp,
    /// Tell the outside. [`CallEvent::Finalized`] is the machine's last output.
    Event(CallEvent),
}
