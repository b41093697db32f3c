//! Playout: utterances on their way to the wire, and the account of what was sent of them.
//!
//! In: [`Spoken`] frames from the synthesiser's side through a lock-free ring, and the commands cut, pause, resume.
//! Out: one 20 ms frame whenever the sender asks, and [`LegEvent`]s that are exact to the sample, because only what
//! was handed to the wire is counted. Time comes as positions on the leg's timeline [8 kHz samples]. Nothing here
//! allocates, locks or fails.
//!
//! A cut is a watermark: utterances up to it are discarded, also those that still arrive. A pause stops between two
//! frames; frames marked protected ignore it.

use crate::audio::Frame;
use crate::call::port::{LegEvent, Spoken};
use crate::ring::{Consumer, Producer};
use crate::time::MediaTime;

/// The leg's outgoing news: a ring that never waits, and whether someone should be told to read it.
pub(in crate::call) struct News {
    pub(in crate::call) events: Producer<LegEvent>,
    pub(in crate::call) rung: bool,
}

impl News {
    pub(in crate::call) fn tell(&mut self, event: LegEvent) {
        // A full ring counts the drop itself.
        let _ = self.events.push(event);
        self.rung = true;
    }
}

/// The utterance on the wire, from its first frame to its last.
struct Current {
    utterance: u32,
    protected: bool,
    samples: u64,
    /// Just after its last sample sent: the first silent sample, if nothing follows.
    end: MediaTime,
    told: u64,
}

/// What plays, what waits, and what was cut.
pub(in crate::call) struct Playout {
    ring: Consumer<Spoken>,
    current: Option<Current>,
    paused: bool,
    cut_through: Option<u32>,
    done_through: Option<u32>,
}

impl Playout {
    /// How often [`LegEvent::Played`] is told: every 200 ms of audio.
    const PLAYED_EVERY: u64 = 10 * Frame::SPAN;

    pub(in crate::call) fn new(ring: Consumer<Spoken>) -> Self {
        Self { ring, current: None, paused: false, cut_through: None, done_through: None }
    }

    /// Whether a frame may go out now. False while cut frames wait at the front: [`Playout::discard`] first.
    pub(in crate::call) fn is_ready(&self) -> bool {
        self.ring.peek().is_some_and(|spoken| {
            Some(spoken.utterance) > self.cut_through && (!self.paused || spoken.protected)
        })
    }

    /// Whether an utterance has begun, not ended and is not paused: silence would be a hole in it.
    pub(in crate::call) fn is_mid_utterance(&self) -> bool {
        self.current.is_some() && !self.paused
    }

    /// Takes the next frame, which goes out at `at`. `None` if none may go.
    pub(in crate::call) fn take(&mut self, at: MediaTime, news: &mut News) -> Option<Frame> {
        self.discard();
        if !self.is_ready() {
            return None;
        }
        let spoken = self.ring.pop()?;
        if self.current.as_ref().is_some_and(|c| c.utterance != spoken.utterance) {
            self.finish(news);
        }
        let current = self.current.get_or_insert_with(|| {
            news.tell(LegEvent::PlayoutStarted { utterance: spoken.utterance, at });
            Current { utterance: spoken.utterance, protected: spoken.protected, samples: 0, end: at, told: 0 }
        });
        current.protected = spoken.protected;
        current.samples += Frame::SPAN;
        current.end = at.plus(Frame::SPAN);
        if spoken.last {
            self.finish(news);
        } else if current.samples - current.told >= Self::PLAYED_EVERY {
            current.told = current.samples;
            news.tell(LegEvent::Played {
                utterance: current.utterance,
                samples: current.samples,
                at: current.end,
            });
        }
        let mut frame = spoken.frame;
        frame.at = at;
        Some(frame)
    }

    /// Pauses unprotected playout because the callee's voice began at `speech`.
    pub(in crate::call) fn pause(&mut self, speech: MediaTime, news: &mut News) {
        let Some(current) = self.current.as_ref().filter(|c| !c.protected && !self.paused) else { return };
        self.paused = true;
        news.tell(LegEvent::PlayoutPaused {
            utterance: current.utterance,
            samples: current.samples,
            at: current.end,
            speech,
        });
    }

    /// Goes on where a pause stopped.
    pub(in crate::call) fn resume(&mut self, now: MediaTime, news: &mut News) {
        if !std::mem::take(&mut self.paused) {
            return;
        }
        if let Some(current) = &self.current {
            news.tell(LegEvent::PlayoutResumed { utterance: current.utterance, at: now.max(current.end) });
        }
    }

    /// Discards utterances up to `through`, now and later.
    pub(in crate::call) fn cut(&mut self, through: u32, now: MediaTime, news: &mut News) {
        self.cut_through = self.cut_through.max(Some(through));
        let mut answered = self.done_through >= Some(through);
        if let Some(current) = self.current.take_if(|c| c.utterance <= through) {
            news.tell(LegEvent::PlayoutCut {
                utterance: current.utterance,
                samples: current.samples,
                at: current.end,
            });
            answered |= current.utterance == through;
            self.paused = false;
        }
        self.done_through = self.done_through.max(Some(through));
        if !answered {
            news.tell(LegEvent::PlayoutCut { utterance: through, samples: 0, at: now });
        }
        self.discard();
    }

    /// Drops what was cut; at most what the ring holds.
    pub(in crate::call) fn discard(&mut self) {
        while self.ring.peek().is_some_and(|spoken| Some(spoken.utterance) <= self.cut_through) {
            self.ring.pop();
        }
    }

    fn finish(&mut self, news: &mut News) {
        let Some(current) = self.current.take() else { return };
        self.done_through = self.done_through.max(Some(current.utterance));
        // A pause belongs to the utterance it stopped.
        self.paused = false;
        news.tell(LegEvent::PlayoutFinished {
            utterance: current.utterance,
            samples: current.samples,
            at: current.end,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::ring;
    use crate::time::Rate;

    struct Rig {
        playout: Playout,
        speak: Producer<Spoken>,
        news: News,
        events: Consumer<LegEvent>,
        at: u64,
    }

    impl Rig {
        fn new() -> Self {
            let (speak, waiting) = ring(64);
            let (tx, events) = ring(64);
            Self {
                playout: Playout::new(waiting),
                speak,
                news: News { events: tx, rung: false },
                events,
                at: 0,
            }
        }

        fn push(&mut self, utterance: u32, frames: usize, protected: bool) {
            for i in 0..frames {
                let frame = Frame::silence(MediaTime::from_samples(i as u64 * 160), Rate::Hz8000);
                let spoken = Spoken { utterance, protected, last: i + 1 == frames, frame };
                self.speak.push(spoken).expect("room for the test's frames");
            }
        }

        fn play(&mut self, ticks: usize) -> usize {
            let mut played = 0;
            for _ in 0..ticks {
                let at = MediaTime::from_samples(self.at);
                played += usize::from(self.playout.take(at, &mut self.news).is_some());
                self.at += 160;
            }
            played
        }

        fn told(&mut self) -> Vec<LegEvent> {
            std::iter::from_fn(|| self.events.pop()).collect()
        }
    }

    fn at(samples: u64) -> MediaTime {
        MediaTime::from_samples(samples)
    }

    #[test]
    fn an_utterance_is_accounted_for_to_the_sample() {
        let mut rig = Rig::new();
        rig.push(1, 12, false);
        assert_eq!(rig.play(20), 12);
        assert_eq!(
            rig.told(),
            [
                LegEvent::PlayoutStarted { utterance: 1, at: at(0) },
                LegEvent::Played { utterance: 1, samples: 1600, at: at(1600) },
                LegEvent::PlayoutFinished { utterance: 1, samples: 1920, at: at(1920) },
            ]
        );
    }

    #[test]
    fn a_pause_holds_the_rest_and_a_resume_plays_it() {
        let mut rig = Rig::new();
        rig.push(1, 8, false);
        rig.play(3);
        rig.playout.pause(at(333), &mut rig.news);
        rig.playout.pause(at(334), &mut rig.news);
        assert_eq!(rig.play(5), 0, "silence while paused");
        rig.playout.resume(at(rig.at), &mut rig.news);
        assert_eq!(rig.play(10), 5);
        assert_eq!(
            rig.told(),
            [
                LegEvent::PlayoutStarted { utterance: 1, at: at(0) },
                LegEvent::PlayoutPaused { utterance: 1, samples: 480, at: at(480), speech: at(333) },
                LegEvent::PlayoutResumed { utterance: 1, at: at(1280) },
                LegEvent::PlayoutFinished { utterance: 1, samples: 1280, at: at(2080) },
            ]
        );
    }

    #[test]
    fn a_cut_discards_what_waits_and_what_still_comes() {
        let mut rig = Rig::new();
        rig.push(4, 8, true);
        rig.play(2);
        rig.playout.cut(5, at(rig.at), &mut rig.news);
        rig.push(5, 4, true);
        assert_eq!(rig.play(3), 0);
        rig.push(6, 1, false);
        assert_eq!(rig.play(3), 1);
        assert_eq!(
            rig.told(),
            [
                LegEvent::PlayoutStarted { utterance: 4, at: at(0) },
                LegEvent::PlayoutCut { utterance: 4, samples: 320, at: at(320) },
                LegEvent::PlayoutCut { utterance: 5, samples: 0, at: at(320) },
                LegEvent::PlayoutStarted { utterance: 6, at: at(800) },
                LegEvent::PlayoutFinished { utterance: 6, samples: 160, at: at(960) },
            ]
        );
    }

    #[test]
    fn a_cut_of_what_is_over_is_not_told_again() {
        let mut rig = Rig::new();
        rig.push(1, 1, false);
        rig.play(1);
        rig.told();
        rig.playout.cut(1, at(500), &mut rig.news);
        assert_eq!(rig.told(), []);
    }

    #[test]
    fn a_cut_ends_the_pause_so_that_the_next_utterance_plays() {
        let mut rig = Rig::new();
        rig.push(1, 5, false);
        rig.play(1);
        rig.playout.pause(at(100), &mut rig.news);
        rig.playout.cut(1, at(200), &mut rig.news);
        rig.push(2, 2, false);
        assert_eq!(rig.play(4), 2);
    }

    #[test]
    fn protected_audio_ignores_speech() {
        let mut rig = Rig::new();
        rig.push(1, 4, true);
        rig.play(1);
        rig.playout.pause(at(50), &mut rig.news);
        assert_eq!(rig.play(5), 3);
        assert!(!rig.told().iter().any(|e| matches!(e, LegEvent::PlayoutPaused { .. })));
    }

    #[test]
    fn nothing_is_paused_while_nothing_plays() {
        let mut rig = Rig::new();
        rig.playout.pause(at(50), &mut rig.news);
        rig.push(1, 1, false);
        assert_eq!(rig.play(1), 1);
    }
}
