//! The callee's side: what the detectors and the recogniser say, turns, interruptions, silence.

use super::timers::Timer;
use super::{Machine, Next, Phase};
use crate::agent::{ResponseMarks, Role, Turn};
use crate::call::event::CallEvent;
use crate::call::io::{Heard, Output};
use crate::call::outcome::{HangupSource, Outcome, TaskStatus};
use crate::call::port::LegCommand;
use crate::signal::{Signal, SignalKind};
use crate::turn::{Output as Floor, Utterance};

/// Turns in a row without the recogniser's words before the call is ended.
const MAX_STALLS: u32 = 2;

const STILL_THERE: &str = "Are you still there?";
const NOBODY_THERE: &str = "I cannot hear anyone, so I will hang up now. Goodbye.";
const NOT_CAUGHT: &str = "Sorry, I did not catch that. Could you say it again?";
const CANNOT_HEAR: &str = "I am sorry, I cannot hear you properly and must end this call. Goodbye.";

/// The longest text of one turn that is believed (bytes): minutes of fast talk.
const MAX_TURN_TEXT: usize = 8000;

impl Machine {
    /// A detector found something.
    pub(super) fn on_signal(&mut self, signal: &Signal) {
        self.note_signal(signal);
        if !matches!(self.phase, Phase::Opening | Phase::Talking | Phase::Mailbox | Phase::Ending) {
            // Whether packets come is known of the line at any time.
            if matches!(signal.kind, SignalKind::Starved | SignalKind::Flowing) {
                self.turn.handle_signal(self.now, self.line, signal);
            }
            return;
        }
        self.answer.handle_signal(signal);
        self.turn.handle_signal(self.now, self.line, signal);
        match signal.kind {
            SignalKind::SpeechStart => {
                self.voice_heard = true;
                self.recall_reply();
            }
            SignalKind::Starved if self.gate_passed => self.open(),
            _ => {}
        }
    }

    /// Keeps what the report tells of a signal.
    fn note_signal(&mut self, signal: &Signal) {
        let answered = self.answered_at.is_some();
        match signal.kind {
            SignalKind::SpeechStart => self.voice_from = Some(signal.at),
            SignalKind::SpeechEnd => {
                if let (Some(from), true) = (self.voice_from.take(), answered) {
                    self.moment("speech", from, Some(signal.at), None);
                }
            }
            SignalKind::Digit(_) if answered => self.moment("digit", signal.at, None, None),
            SignalKind::BeepEnd { freq_hz, start } if answered => {
                self.moment("beep", start, Some(signal.at), Some(format!("{freq_hz:.0} Hz")));
            }
            SignalKind::Starved => self.starved_from = Some(signal.at),
            SignalKind::Flowing => {
                if let Some(from) = self.starved_from.take() {
                    self.moment("starved", from, Some(signal.at), None);
                }
            }
            _ => {}
        }
    }

    /// News from the recogniser.
    pub(super) fn on_heard(&mut self, heard: Heard) {
        match heard {
            Heard::Partial { utterance, text } => {
                let text = bounded(text);
                self.answer.handle_words(&text, false, self.heard_from, self.line);
                self.turn.handle_partial(self.now, utterance, &text);
            }
            Heard::Final { utterance, text, words } => {
                let text = bounded(text);
                self.answer.handle_words(&text, true, self.heard_from, self.line);
                // A verdict decides what becomes of the turn.
                self.drain_answer();
                self.turn.handle_final(self.now, self.line, utterance, &text, words);
            }
            Heard::Failed { reason } => {
                self.moment("recognition_failed", self.line, None, Some(reason));
                self.recogniser_failed();
            }
        }
    }

    fn recogniser_failed(&mut self) {
        match self.phase {
            // A message needs no ear.
            Phase::Mailbox => {}
            Phase::Opening | Phase::Talking => {
                self.cut_voice();
                let words = (!self.is_menu()).then_some(CANNOT_HEAR);
                self.end_after_speech(HangupSource::System, Some(Outcome::SystemError), words);
            }
            _ => {}
        }
    }

    pub(super) fn on_turn_output(&mut self, output: Floor) {
        match output {
            Floor::ListenFrom { utterance, at } => {
                self.heard_from = at;
                self.out.push_back(Output::ListenFrom { utterance, at });
            }
            Floor::ListenUntil { utterance, at } => self.out.push_back(Output::ListenUntil { utterance, at }),
            Floor::ListenCancel { utterance } => self.out.push_back(Output::ListenCancel { utterance }),
            Floor::Partial { text, start } => self.tell(CallEvent::Partial { text, start }),
            Floor::Cut { .. } => {
                self.next = None;
                self.floor_lost = true;
                self.yield_floor();
            }
            Floor::Resume { .. } => self.leg(LegCommand::Resume),
            Floor::BargeIn { at, silent, resumed } => {
                if !resumed {
                    self.latency.barge_in_ms.push(u32::try_from(silent.ms_since(at)).unwrap_or(u32::MAX));
                }
                let detail = if resumed { "resumed" } else { "cut" };
                self.moment("barge_in", at, Some(silent), Some(detail.to_owned()));
                self.tell(CallEvent::BargeIn { at, silent, resumed });
            }
            Floor::Turn(utterance) => self.on_turn(&utterance),
        }
    }

    /// The callee's turn is over.
    fn on_turn(&mut self, heard: &Utterance) {
        if !heard.text.is_empty() {
            self.record(Turn {
                role: Role::User,
                text: heard.text.clone(),
                start: heard.start,
                end: heard.end,
                interrupted: false,
                tool: None,
            });
        }
        if matches!(self.phase, Phase::Ending | Phase::Closing | Phase::Done) {
            return;
        }
        if heard.stalled && heard.text.is_empty() {
            self.on_recogniser_stall();
            return;
        }
        if heard.text.is_empty() {
            // A noise: nobody took the floor.
            if self.phase == Phase::Opening {
                self.on_first_turn();
            } else if std::mem::take(&mut self.floor_lost) && self.phase == Phase::Talking {
                self.talk.note("You were cut off by a noise; nobody said anything. Go on.");
                self.next = Some(Next::Ask);
            }
            return;
        }
        self.recogniser_stalls = 0;
        self.reprompted = false;
        self.floor_lost = false;
        let ours = self.phase == Phase::Talking
            && (self.ledger.is_heard() || self.is_replying())
            && heard.is_backchannel();
        self.heard.push(heard.text.clone());
        if ours {
            return;
        }
        self.end_wait();
        match self.phase {
            Phase::Opening => {
                self.mark_response(heard);
                self.on_first_turn();
            }
            Phase::Talking => {
                self.yield_floor();
                self.mark_response(heard);
                self.next = Some(Next::Ask);
            }
            _ => {}
        }
    }

    /// From here on the time to our answer counts.
    fn mark_response(&mut self, heard: &Utterance) {
        self.marked = None;
        self.marks = Some(ResponseMarks {
            heard: heard.end,
            decided: heard.decided,
            recognised: heard.recognised,
            clause: None,
            audio: None,
        });
    }

    /// Somebody spoke and the recogniser never said what.
    fn on_recogniser_stall(&mut self) {
        self.recogniser_stalls += 1;
        self.moment("recognition_failed", self.line, None, Some("no final words in time".into()));
        if self.recogniser_stalls >= MAX_STALLS {
            self.recogniser_failed();
        } else if self.phase == Phase::Opening {
            self.on_first_turn();
        } else if self.phase == Phase::Talking && !self.is_menu() {
            self.yield_floor();
            self.say_line(NOT_CAUGHT);
        }
    }

    /// Runs the clock of dead air while nobody does anything.
    pub(super) fn watch_dead_air(&mut self) {
        let quiet = self.phase == Phase::Talking
            && !self.turn.callee_speaks()
            && self.ledger.is_empty()
            && !self.is_replying()
            && self.next.is_none()
            && self.pressing.is_none()
            && self.waiting.is_none();
        if !quiet {
            self.timers.clear(Timer::DeadAir);
        } else if !self.timers.is_set(Timer::DeadAir) {
            let wait = if self.is_dead_line() {
                self.config.dead_air_without_media
            } else if self.is_menu() {
                self.config.dead_air * 2
            } else {
                self.config.dead_air
            };
            self.timers.set(Timer::DeadAir, self.now + wait);
        }
    }

    /// Whether no audio comes and no voice ever came.
    fn is_dead_line(&self) -> bool {
        self.turn.is_starved() && !self.voice_heard
    }

    pub(super) fn on_dead_air(&mut self) {
        if self.is_dead_line() {
            self.give_up("No audio came from the far end.");
            self.hang_up(HangupSource::System, None);
        } else if std::mem::replace(&mut self.reprompted, true) {
            self.give_up("The far end fell silent.");
            let words = (!self.is_menu()).then_some(NOBODY_THERE);
            self.end_after_speech(HangupSource::System, None, words);
        } else if self.is_menu() {
            self.talk.note("The menu is silent; nothing has been said for a while.");
            self.next = Some(Next::Ask);
            self.proceed();
        } else {
            self.say_line(STILL_THERE);
        }
    }

    fn give_up(&mut self, summary: &str) {
        if self.task_result.status == TaskStatus::Unknown {
            self.task_result.status = TaskStatus::NotAchieved;
            summary.clone_into(&mut self.task_result.summary);
        }
    }
}
/// More words than anybody says in one turn are a recogniser's nonsense, and are not carried on.
fn bounded(mut text: String) -> String {
    if text.len() > MAX_TURN_TEXT {
        let end = (0..=MAX_TURN_TEXT).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
        text.truncate(end);
    }
    text
}
