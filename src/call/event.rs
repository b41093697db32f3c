//! What a call tells the outside while it lives.

use serde::{Deserialize, Serialize};

use crate::agent::Turn;
use crate::answer::Verdict;
use crate::call::outcome::CallReport;
use crate::time::MediaTime;

/// Where a call stands (API contract, `lifecycle`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lifecycle {
    /// Accepted, not yet dialled.
    Queued,
    /// The INVITE is out.
    Dialing,
    /// 2xx received, ACK sent.
    Answered,
    /// Over; the report is complete and the recording closed.
    Finalized,
}

/// One event of a call, in the order it happened. Positions count from the answer, as the recording does.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum CallEvent {
    /// The call entered a new phase.
    Lifecycle(Lifecycle),
    /// The far end rings (SIP 180 or 183).
    Ringing,
    /// A turn was completed and stands in the transcript.
    Turn(Turn),
    /// Words heard so far in a turn that is not over.
    Partial {
        /// Recognised so far.
        text: String,
        /// Where the turn began.
        start: MediaTime,
    },
    /// Who answered was decided, or revised.
    AnsweredBy(Verdict),
    /// The callee spoke over us and our voice stopped.
    BargeIn {
        /// First voiced sample of the callee.
        at: MediaTime,
        /// First silent sample of ours.
        silent: MediaTime,
        /// Whether we resumed afterwards (a cough, "uh-huh").
        resumed: bool,
    },
    /// The call is over. Always the last event; the report never changes after it.
    Finalized(Box<CallReport>),
}

impl CallEvent {
    /// The same event with its positions counted from `origin` instead of the leg's beginning.
    #[must_use]
    pub(super) fn counted_from(self, origin: MediaTime) -> Self {
        let shifted = |at: MediaTime| at.minus(origin.samples());
        match self {
            Self::Turn(turn) => Self::Turn(turn.counted_from(origin)),
            Self::Partial { text, start } => Self::Partial { text, start: shifted(start) },
            Self::AnsweredBy(verdict) => {
                Self::AnsweredBy(Verdict { decided: shifted(verdict.decided), ..verdict })
            }
            Self::BargeIn { at, silent, resumed } => {
                Self::BargeIn { at: shifted(at), silent: shifted(silent), resumed }
            }
            Self::Finalized(report) => Self::Finalized(Box::new(report.counted_from(origin))),
            event @ (Self::Lifecycle(_) | Self::Ringing) => event,
        }
    }
}
