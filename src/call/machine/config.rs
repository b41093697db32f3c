//! What a call is told before it is dialled, and its waits and limits.

use std::time::Duration;

use crate::pii::Pii;
use crate::turn::TurnConfig;

/// Settings of one call.
#[derive(Clone, Debug)]
pub struct CallConfig {
    /// What the agent should do, in plain words. It also decides whether a message may be left on voicemail
    /// ([`crate::agent::may_leave_message`]).
    pub task: Pii<String>,
    /// A style wish for the agent.
    pub personality: Option<String>,
    /// Spoken after the mandatory first words.
    pub greeting: Option<String>,
    /// How long an unanswered call rings.
    pub ring_timeout: Duration,
    /// The longest the call may last from its answer.
    pub max_duration: Duration,
    /// When the agent starts to speak if no voice was heard since the answer.
    pub opening_silence: Duration,
    /// The longest a voice in progress is waited for before the agent's first words.
    pub opening_limit: Duration,
    /// Silence of both sides before the agent asks whether someone is there, and again before it ends the call.
    pub dead_air: Duration,
    /// Silence before the call is ended when the far end has not sent any audio at all.
    pub dead_air_without_media: Duration,
    /// The longest wait for the first and for each further piece of a reply.
    pub model_limit: Duration,
    /// The longest wait for news of an utterance that is to be spoken.
    pub voice_limit: Duration,
    /// From the end of a mailbox's beep to the message.
    pub message_delay: Duration,
    /// The longest wait for a mailbox to record.
    pub mailbox_limit: Duration,
    /// The longest wait for dialog and leg to end after hanging up.
    pub closing_limit: Duration,
    /// Turn-taking.
    pub turn: TurnConfig,
}

impl CallConfig {
    /// The usual waits and limits for `task`.
    #[must_use]
    pub fn new(task: Pii<String>) -> Self {
        Self {
            task,
            personality: None,
            greeting: None,
            ring_timeout: Duration::from_secs(45),
            max_duration: Duration::from_secs(600),
            opening_silence: Duration::from_millis(1750),
            opening_limit: Duration::from_secs(30),
            dead_air: Duration::from_secs(8),
            dead_air_without_media: Duration::from_secs(4),
            model_limit: Duration::from_secs(8),
            voice_limit: Duration::from_secs(10),
            message_delay: Duration::from_millis(350),
            mailbox_limit: Duration::from_secs(60),
            closing_limit: Duration::from_secs(4),
            turn: TurnConfig::default(),
        }
    }
}
