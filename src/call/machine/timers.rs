//! The waits of a call: one deadline per kind.

use crate::time::Instant;

/// The kinds of waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Timer {
    /// Nobody answers.
    Ring,
    /// Nobody speaks after the answer.
    Gate,
    /// Somebody speaks on and on after the answer.
    OpeningLimit,
    /// The call has lasted as long as it may.
    MaxDuration,
    /// The language model owes a piece.
    Model,
    /// The synthesiser or the leg owes news of an utterance.
    Voice,
    /// The leg owes the account of a cut.
    Settle,
    /// The leg owes the end of keys.
    Press,
    /// The agent waits on hold.
    Wait,
    /// A mailbox owes its beep.
    Mailbox,
    /// The message's moment.
    Message,
    /// The last words take too long.
    Goodbye,
    /// Nobody says anything.
    DeadAir,
    /// The answer machine wants to know the time.
    Answer,
    /// Dialog or leg owe their end.
    Closing,
}

impl Timer {
    const ALL: [Self; 15] = [
        Self::Ring,
        Self::Gate,
        Self::OpeningLimit,
        Self::MaxDuration,
        Self::Model,
        Self::Voice,
        Self::Settle,
        Self::Press,
        Self::Wait,
        Self::Mailbox,
        Self::Message,
        Self::Goodbye,
        Self::DeadAir,
        Self::Answer,
        Self::Closing,
    ];
}

/// A deadline for each kind that is running.
#[derive(Clone, Debug, Default)]
pub(super) struct Timers([Option<Instant>; Timer::ALL.len()]);

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        self.0[timer as usize] = Some(at);
    }

    pub(super) fn clear(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    pub(super) fn clear_all(&mut self) {
        *self = Self::default();
    }

    pub(super) const fn is_set(&self, timer: Timer) -> bool {
        self.0[timer as usize].is_some()
    }

    /// Takes one wait that is over at `now`, the earliest first.
    pub(super) fn expired(&mut self, now: Instant) -> Option<Timer> {
        let due = |t: &Timer| self.0[*t as usize].filter(|at| *at <= now);
        let timer = Timer::ALL.into_iter().filter(|t| due(t).is_some()).min_by_key(due)?;
        self.clear(timer);
        Some(timer)
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.0.iter().flatten().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_wait_ends_first_and_each_once() {
        let mut timers = Timers::default();
        timers.set(Timer::Closing, Instant::from_millis(5));
        timers.set(Timer::Ring, Instant::from_millis(9));
        assert_eq!(timers.next(), Some(Instant::from_millis(5)));
        assert_eq!(timers.expired(Instant::from_millis(4)), None);
        let now = Instant::from_millis(10);
        assert_eq!([timers.expired(now), timers.expired(now)], [Some(Timer::Closing), Some(Timer::Ring)]);
        assert_eq!(timers.expired(now), None);
        for (i, timer) in Timer::ALL.into_iter().enumerate() {
            assert_eq!(timer as usize, i);
        }
    }
}
