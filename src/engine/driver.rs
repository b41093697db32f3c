//! Drives one call: carries what happens (signalling, leg, words, deltas, audio, time) to the pure
//! [`crate::call::Machine`] and carries out what it decides. Makes no decision of its own.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::agent::Delta;
use crate::backend::{BackendError, SttEvent, SttInput, SttStream};
use crate::call::io::{DialogEvent, Heard, Input, Output};
use crate::call::outcome::Quality;
use crate::call::port::{LegCommand, LegEvent};
use crate::call::{CallEvent, CallReport, HangupSource, Machine};
use crate::engine::Backends;
use crate::engine::recorder::{Recorder, Recording};
use crate::engine::signalling::Signalling;
use crate::engine::station::Media;
use crate::engine::voice::VoiceQueue;
use crate::media::Clock;
use crate::sdp;
use crate::sip::{self, SessionId};
use crate::time::MediaTime;

type Reply = mpsc::Receiver<Result<Delta, BackendError>>;

/// One call's wiring.
pub(super) struct Driver {
    pub(super) clock: Clock,
    pub(super) machine: Machine,
    pub(super) media: Media,
    pub(super) signalling: Signalling,
    pub(super) session: SessionId,
    pub(super) dialog: mpsc::Receiver<sip::Event>,
    pub(super) backends: Backends,
    pub(super) stt: Option<SttStream>,
    pub(super) voice: VoiceQueue,
    pub(super) recorder: Recorder,
    pub(super) recording_path: Option<std::path::PathBuf>,
    pub(super) recording_id: u64,
    pub(super) events: mpsc::Sender<CallEvent>,
}

/// What changes while the call runs, apart from the wiring.
#[derive(Default)]
struct Progress {
    recording: Option<Recording>,
    reply: Option<(u32, Reply)>,
    leg_over: bool,
    lost_audio_frames: u64,
    report: Option<Box<CallReport>>,
}

impl Driver {
    /// Runs the call to its end. `hangups` carries the user's wish to end it.
    pub(super) async fn run(mut self, mut hangups: mpsc::Receiver<HangupSource>) {
        let mut state = Progress::default();
        self.handle(Input::Dialog(DialogEvent::Dialing));
        loop {
            self.carry_out(&mut state).await;
            if state.report.is_some() {
                break;
            }
            let now = self.clock.now();
            let wait = self.machine.poll_timeout().map_or(Duration::from_secs(1), |at| at.since(now));
            tokio::select! {
                event = self.dialog.recv() => self.handle_dialog(event, &mut state),
                () = self.media.bell.notified() => self.drain_leg(&mut state),
                event = next_words(&mut self.stt) => self.handle_words(event),
                delta = next_delta(&mut state.reply) => self.handle_delta(delta, &mut state),
                chunk = self.voice.next_chunk(), if self.voice.wants_audio() => {
                    if let Some(voiced) = self.voice.handle_chunk(chunk) {
                        self.handle(Input::Voiced(voiced));
                    }
                }
                Some(source) = hangups.recv() => self.handle(Input::HangUp(source)),
                () = tokio::time::sleep(wait) => self.handle(Input::Timeout),
            }
            self.pump_voice();
        }
        self.finish(state).await;
    }

    fn handle(&mut self, input: Input) {
        let line = self.media.line();
        self.machine.handle(self.clock.now(), line, input);
    }

    fn pump_voice(&mut self) {
        if self.voice.pump(&mut self.media.port.playout) {
            self.media.handle.wake();
        }
    }

    /// Reads everything the leg has to say. Audio goes first: events may refer to it.
    fn drain_leg(&mut self, state: &mut Progress) {
        while let Some(frame) = self.media.port.heard.pop() {
            if let Some(stt) = &self.stt
                && stt.input.try_send(SttInput::Audio(frame)).is_err()
            {
                state.lost_audio_frames += 1;
            }
        }
        if let Some(tap) = &mut self.media.port.tap {
            let blocks: Vec<_> = std::iter::from_fn(|| tap.pop()).collect();
            if let Some(recording) = &mut state.recording {
                recording.write(blocks);
            }
        }
        while let Some(event) = self.media.port.events.pop() {
            if let LegEvent::Stats(stats) = &event {
                self.handle(Input::Quality(Quality {
                    packets_received: stats.packets_received,
                    packets_lost: stats.packets_lost,
                    jitter_ms: stats.jitter_ms,
                }));
            }
            state.leg_over |= matches!(event, LegEvent::Closed { .. });
            self.handle(Input::Leg(event));
        }
        // A leg that died of a bug says nothing; its call must end all the same.
        if self.media.handle.is_over() && !std::mem::replace(&mut state.leg_over, true) {
            tracing::error!("a media leg died; its call ends");
            let at = self.media.line();
            self.handle(Input::Leg(LegEvent::Closed { at }));
        }
    }

    fn handle_dialog(&mut self, event: Option<sip::Event>, state: &mut Progress) {
        let news = match event {
            Some(sip::Event::Progress { sdp: Some(sdp), .. }) if self.set_remote(&sdp) => {
                DialogEvent::EarlyMedia
            }
            Some(sip::Event::Progress { status, .. }) if status > 100 => DialogEvent::Ringing,
            Some(sip::Event::Answered { sdp, .. }) => {
                // An answer without SDP is fine when an earlier 183 carried it.
                let agreed = sdp.is_none_or(|sdp| self.set_remote(&sdp));
                if !agreed {
                    tracing::warn!("the callee's SDP answer cannot be used");
                    self.handle(Input::HangUp(HangupSource::System));
                    return;
                }
                let at = self.media.line();
                if let Some(path) = &self.recording_path {
                    state.recording = Some(self.recorder.open(self.recording_id, path, at));
                }
                DialogEvent::Answered { at }
            }
            Some(sip::Event::Rejected { status, reason, .. }) => {
                DialogEvent::Ended { status, by_remote: true, reason }
            }
            Some(sip::Event::Ended { by_remote, reason, .. }) => {
                let (status, reason) = ending(reason);
                DialogEvent::Ended { status, by_remote, reason: reason.to_owned() }
            }
            Some(_) => return,
            None => DialogEvent::Ended { status: 500, by_remote: false, reason: "signalling stopped".into() },
        };
        if matches!(news, DialogEvent::Ended { .. }) {
            // The channel stays closed from here on; replace it so that the select does not spin on it.
            self.dialog = never();
        }
        self.handle(Input::Dialog(news));
    }

    fn set_remote(&mut self, answer: &[u8]) -> bool {
        match sdp::accept_answer(&self.media.local, answer) {
            Ok(agreed) => {
                self.media.set_remote(&agreed);
                true
            }
            Err(error) => {
                tracing::debug!(%error, "sdp answer");
                false
            }
        }
    }

    fn handle_words(&mut self, event: Option<Result<SttEvent, BackendError>>) {
        let heard = match event {
            Some(Ok(SttEvent::Partial { utterance, text })) => Heard::Partial { utterance, text },
            Some(Ok(SttEvent::Final { utterance, text, words })) => Heard::Final { utterance, text, words },
            Some(Err(error)) => self.recognition_failed(error.to_string()),
            None => self.recognition_failed("the recogniser ended its stream".into()),
        };
        self.handle(Input::Heard(heard));
    }

    fn recognition_failed(&mut self, reason: String) -> Heard {
        tracing::warn!(%reason, "recognition failed");
        self.stt = None;
        Heard::Failed { reason }
    }

    fn handle_delta(&mut self, delta: Option<Result<Delta, BackendError>>, state: &mut Progress) {
        let Some((request, _)) = &state.reply else { return };
        let request = *request;
        let input = match delta {
            Some(Ok(delta)) => {
                if delta == Delta::Done {
                    state.reply = None;
                }
                Input::Reply { request, delta }
            }
            Some(Err(error)) => {
                state.reply = None;
                tracing::warn!(%error, "language model");
                Input::ReplyFailed { request, reason: error.to_string() }
            }
            None => {
                state.reply = None;
                Input::ReplyFailed { request, reason: "the reply broke off".into() }
            }
        };
        self.handle(input);
    }

    async fn carry_out(&mut self, state: &mut Progress) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::ListenFrom { utterance, at } => self.mark(SttInput::Start { utterance, at }),
                Output::ListenUntil { utterance, at } => self.mark(SttInput::Finish { utterance, at }),
                Output::ListenCancel { utterance } => self.mark(SttInput::Cancel { utterance }),
                Output::Ask { request, body } => match self.backends.llm.complete(body) {
                    Ok(reply) => state.reply = Some((request, reply)),
                    Err(error) => self.handle(Input::ReplyFailed { request, reason: error.to_string() }),
                },
                Output::CancelAsk { request } => {
                    state.reply.take_if(|(running, _)| *running == request);
                }
                Output::Speak { utterance, text, protected, last } => {
                    if let Err(error) = self.voice.speak(utterance, text, protected, last) {
                        tracing::warn!(%error, "synthesis");
                        let reason = error.to_string();
                        self.handle(Input::Voiced(crate::call::io::Voiced::Failed { utterance, reason }));
                    }
                }
                Output::CancelSpeak { utterance } => self.voice.cancel(utterance),
                Output::Leg(command) => self.media.tell(command),
                Output::HangUp => self.signalling.hang_up(self.session).await,
                Output::Event(CallEvent::Finalized(report)) => state.report = Some(report),
                Output::Event(event) => tell(&self.events, event).await,
            }
        }
    }

    /// A mark must not be lost, or the recogniser would wait for ever: a full queue counts as its failure.
    fn mark(&mut self, mark: SttInput) {
        let Some(stt) = &self.stt else { return };
        if stt.input.try_send(mark).is_err() {
            let heard = self.recognition_failed("the recogniser does not keep up".into());
            self.handle(Input::Heard(heard));
        }
    }

    async fn finish(mut self, mut state: Progress) {
        let Some(report) = state.report.take() else { return };
        self.drain_leg(&mut state);
        self.media.tell(LegCommand::Stop);
        if let (Some(recording), Some(answered)) = (state.recording, report.answered_at) {
            recording.close(MediaTime::from_samples(answered.samples() + report.talk_samples)).await;
        }
        if state.lost_audio_frames > 0 {
            tracing::warn!(frames = state.lost_audio_frames, "the recogniser did not keep up with a call");
        }
        // The final event is never dropped while anybody can still read it.
        let _ = self.events.send(CallEvent::Finalized(report)).await;
    }
}

/// Events wait for a slow reader at most this long; a reader that is gone costs nothing.
async fn tell(events: &mpsc::Sender<CallEvent>, event: CallEvent) {
    let patience = Duration::from_millis(200);
    if let Err(mpsc::error::SendTimeoutError::Timeout(_)) = events.send_timeout(event, patience).await {
        tracing::warn!("a reader of call events is too slow; an event was dropped");
    }
}

/// The SIP status and the words for how a dialog ended.
const fn ending(reason: sip::EndReason) -> (u16, &'static str) {
    match reason {
        sip::EndReason::Bye => (200, "bye"),
        sip::EndReason::AckTimeout => (408, "our answer was never acknowledged"),
        sip::EndReason::Cancelled => (487, "cancelled"),
        sip::EndReason::Rejected => (487, "refused by us"),
        sip::EndReason::RingTimeout => (408, "it rang too long"),
    }
}

async fn next_words(stt: &mut Option<SttStream>) -> Option<Result<SttEvent, BackendError>> {
    match stt {
        Some(stt) => stt.events.recv().await,
        None => std::future::pending().await,
    }
}

async fn next_delta(reply: &mut Option<(u32, Reply)>) -> Option<Result<Delta, BackendError>> {
    match reply {
        Some((_, reply)) => reply.recv().await,
        None => std::future::pending().await,
    }
}

/// A channel that stays open and empty.
fn never() -> mpsc::Receiver<sip::Event> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        sender.closed().await;
    });
    receiver
}
