//! How a call ended: the network's result, who answered, and what became of the task. Never merged.

use serde::{Deserialize, Serialize};

use crate::agent::Turn;
use crate::answer::Verdict;
use crate::time::MediaTime;

/// The network's result (API contract, `outcome`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A person was reached, or a menu was heard out.
    Completed,
    /// A mailbox answered.
    VoicemailDetected,
    /// It rang and nobody came.
    NoAnswer,
    /// Busy (486, 600).
    Busy,
    /// The callee declined (603, 403 …).
    DeclinedByCallee,
    /// No such number (404, 410, 484, 604).
    InvalidNumber,
    /// The callee cannot be reached now (480, 502, 503 …).
    Unreachable,
    /// Signalling or media broke.
    NetworkError,
    /// Our side gave up before the answer.
    Cancelled,
    /// Our own fault.
    SystemError,
    /// Anything else that ended without success.
    Failed,
}

/// Who ended the call.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HangupSource {
    /// The agent.
    Agent,
    /// The far end.
    Callee,
    /// The API's user.
    User,
    /// Patchcord itself: a limit, a failure, a shutdown.
    System,
}

/// What became of the task, by the agent's own account.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskStatus {
    /// Done.
    Achieved,
    /// Done in part.
    Partly,
    /// Not done.
    NotAchieved,
    /// Nobody said.
    #[default]
    Unknown,
}

/// The agent's account of the task.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TaskResult {
    /// What became of it.
    pub status: TaskStatus,
    /// In a sentence.
    pub summary: String,
}

/// Everything that is known of a call once it has ended. Stable from then on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallReport {
    /// The network's result.
    pub outcome: Outcome,
    /// Q.850 cause name, e.g. `normal_clearing`, `user_busy`, `no_answer`.
    pub hangup_cause: String,
    /// SIP status that ended the call; 200 for a BYE.
    pub sip_status: u16,
    /// Who ended it.
    pub hangup_source: HangupSource,
    /// Who answered.
    pub answered_by: Verdict,
    /// What became of the task.
    pub task_result: TaskResult,
    /// Who said what.
    pub transcript: Vec<Turn>,
    /// Where on the leg's timeline the call was answered, if it was. Every other position in the report counts from
    /// there, as the recording does; what came before the answer stands at zero.
    pub answered_at: Option<MediaTime>,
    /// From the answer to the end [8 kHz samples]; zero if never answered.
    pub talk_samples: u64,
    /// Per-turn latencies.
    pub latency: Latencies,
    /// Media quality.
    pub quality: Quality,
    /// Notable moments: speech, digits, beep, barge-in.
    pub events: Vec<TimelineEvent>,
}

impl CallReport {
    /// The same report with every position but `answered_at` counted from `origin` instead of the leg's beginning.
    #[must_use]
    pub(super) fn counted_from(mut self, origin: MediaTime) -> Self {
        let shift = |at: &mut MediaTime| *at = at.minus(origin.samples());
        self.transcript = self.transcript.into_iter().map(|turn| turn.counted_from(origin)).collect();
        for event in &mut self.events {
            shift(&mut event.at);
            event.end.iter_mut().for_each(shift);
        }
        shift(&mut self.answered_by.decided);
        self
    }
}

/// Latencies measured on the media timeline (ms).
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Latencies {
    /// The callee's last voiced sample → first sample of our reply on the wire, per turn.
    pub response_ms: Vec<u32>,
    /// First voiced sample of the callee → last sample of ours before silence, per barge-in.
    pub barge_in_ms: Vec<u32>,
    /// The part of each response that is neither a model nor the endpointing wait.
    pub engine_ms: Vec<u32>,
    /// Per response: where its time went.
    pub turns: Vec<ResponseLatency>,
}

/// Where the time of one response went (ms).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ResponseLatency {
    /// Last voiced sample → the turn machine's decision that the turn is over.
    pub endpointing_ms: u32,
    /// That decision → final words.
    pub recognition_ms: u32,
    /// Final words → first speakable clause.
    pub language_ms: u32,
    /// First clause → first audio.
    pub synthesis_ms: u32,
    /// The rest: queues, rings, the wait for a tick.
    pub engine_ms: u32,
    /// Last voiced sample → first sample of our reply on the wire.
    pub total_ms: u32,
}

/// Media quality as received.
#[derive(Clone, Copy, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct Quality {
    /// Packets received in order or recovered by reordering.
    pub packets_received: u64,
    /// Packets that never came.
    pub packets_lost: u64,
    /// Interarrival jitter (ms) (RFC 3550 §6.4.1).
    pub jitter_ms: f32,
}

/// A notable moment on the call's timeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimelineEvent {
    /// Where it began.
    pub at: MediaTime,
    /// Where it ended, for what has a length.
    pub end: Option<MediaTime>,
    /// What it was: `speech`, `agent_speech`, `digit`, `digit_sent`, `beep`, `barge_in`, `answered`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// A detail in words, free of anything private.
    pub detail: Option<String>,
}
