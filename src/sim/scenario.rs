//! Scenarios: how a simulated callee behaves, as data that users write (TOML).
//!
//! A scenario says whether and when the phone is answered and then lists steps. The shipped files under `scenarios/`
//! are the documentation of the format; [`Scenario::check`] names the step and the key that are wrong.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::signal::Digit;

/// How a simulated callee behaves.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Name on the command line.
    pub name: String,
    /// What it shows, in a sentence.
    pub summary: String,
    /// The number it answers at, E.164.
    pub number: String,
    /// What a call to it should end with (API contract, `outcome`); `demo --scenario all` checks it.
    pub expect: String,
    /// The task the demo gives its agent.
    pub task: String,
    /// Pitch factor of its voice, so that it is told apart from the agent's.
    #[serde(default = "one")]
    pub pitch: f32,
    /// Whether and when it answers.
    pub answer: Answer,
    /// What it does once it has answered, in order.
    #[serde(default, rename = "step")]
    pub steps: Vec<Step>,
}

const fn one() -> f32 {
    1.0
}

/// Whether and when a call is answered. Exactly one of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Answer {
    /// Rings this long (ms), then answers.
    AfterMs(u64),
    /// Refuses with this SIP status, 400–699.
    Reject(u16),
    /// Rings and is never answered.
    #[serde(rename = "never")]
    Never(bool),
}

/// One step. Exactly one of `say`, `listen`, `menu`, `beep`, `record`, `pause_ms`, `goto`, `hang_up`.
#[derive(Clone, Debug, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// A name other steps can go to.
    pub label: Option<String>,
    /// Words to speak.
    pub say: Option<String>,
    /// Whether `say` stops when it is spoken over for half a second, or a key is pressed that a menu waits for.
    #[serde(default)]
    pub interruptible: bool,
    /// Wait until the other side has spoken and fallen silent.
    pub listen: Option<Listen>,
    /// Wait for a key.
    pub menu: Option<Menu>,
    /// Sound a tone.
    pub beep: Option<Beep>,
    /// Record what is said into the mailbox.
    pub record: Option<Record>,
    /// Do nothing for so long (ms).
    pub pause_ms: Option<u64>,
    /// Go on at a label.
    pub goto: Option<String>,
    /// End the call.
    pub hang_up: Option<bool>,
}

/// How to listen.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// Silence that ends the other side's turn (ms).
    #[serde(default = "turn_silence")]
    pub silence_ms: u64,
    /// The longest wait (ms).
    #[serde(default = "turn_timeout")]
    pub timeout_ms: u64,
    /// Go on in the middle of the other side's turn, once it has spoken this long (ms): an interruption.
    pub interrupt_after_ms: Option<u64>,
}

/// Which keys lead where.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Menu {
    /// Key → label.
    pub keys: BTreeMap<char, String>,
    /// How long to wait for a key (ms).
    #[serde(default = "menu_timeout")]
    pub timeout_ms: u64,
    /// Where to go when none of the keys was pressed in time.
    pub otherwise: String,
}

/// A tone.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Beep {
    /// Frequency (Hz).
    pub freq_hz: f32,
    /// Length (ms).
    pub ms: u64,
}

/// How to record.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Silence that ends the recording (ms).
    #[serde(default = "record_silence")]
    pub silence_ms: u64,
    /// The longest recording (ms).
    #[serde(default = "record_longest")]
    pub max_ms: u64,
}

const fn turn_silence() -> u64 {
    900
}
const fn turn_timeout() -> u64 {
    20_000
}
const fn menu_timeout() -> u64 {
    6_000
}
const fn record_silence() -> u64 {
    4_000
}
const fn record_longest() -> u64 {
    60_000
}

/// What is wrong with a scenario.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("scenario `{scenario}`, {place}: {problem}")]
pub struct ScenarioError {
    /// Its name.
    pub scenario: String,
    /// `answer`, or `step 3`.
    pub place: String,
    /// What is wrong and what was expected.
    pub problem: String,
}

impl Scenario {
    /// Checks what the format alone does not.
    ///
    /// # Errors
    /// The first thing that is wrong: a step with no or two actions, an unknown label, a value out of range.
    pub fn check(&self) -> Result<(), ScenarioError> {
        let error = |place: &str, problem: String| {
            Err(ScenarioError { scenario: self.name.clone(), place: place.to_owned(), problem })
        };
        match self.answer {
            Answer::Reject(status) if !(400..=699).contains(&status) => {
                return error("answer", format!("reject = {status}: expected a SIP status from 400 to 699"));
            }
            Answer::Never(false) => {
                return error("answer", "never = false: expected true, or after_ms".into());
            }
            Answer::AfterMs(ms) if ms > 120_000 => {
                return error("answer", format!("after_ms = {ms}: expected at most 120000"));
            }
            _ => {}
        }
        if !(0.5..=2.0).contains(&self.pitch) {
            return error("pitch", format!("{}: expected 0.5 to 2.0", self.pitch));
        }
        for (i, step) in self.steps.iter().enumerate() {
            if let Err(problem) = self.check_step(step) {
                return error(&format!("step {}", i + 1), problem);
            }
        }
        Ok(())
    }

    fn check_step(&self, step: &Step) -> Result<(), String> {
        let actions = [
            step.say.is_some(),
            step.listen.is_some(),
            step.menu.is_some(),
            step.beep.is_some(),
            step.record.is_some(),
            step.pause_ms.is_some(),
            step.goto.is_some(),
            step.hang_up.is_some(),
        ];
        match actions.iter().filter(|a| **a).count() {
            1 => {}
            0 => {
                return Err(
                    "no action: expected one of say, listen, menu, beep, record, pause_ms, goto, hang_up"
                        .into(),
                );
            }
            _ => return Err("more than one action: give each a step of its own".into()),
        }
        let mut targets: Vec<&String> = step.goto.iter().collect();
        if let Some(menu) = &step.menu {
            targets.push(&menu.otherwise);
            targets.extend(menu.keys.values());
            if let Some(key) = menu.keys.keys().find(|k| Digit::from_char(**k).is_none()) {
                return Err(format!("menu key `{key}`: expected 0-9, *, # or A-D"));
            }
        }
        for target in targets {
            if self.label(target).is_none() {
                return Err(format!("label `{target}` is not in this scenario"));
            }
        }
        if let Some(beep) = &step.beep
            && !((100.0..=3400.0).contains(&beep.freq_hz) && (20..=10_000).contains(&beep.ms))
        {
            return Err("beep: expected freq_hz from 100 to 3400 and ms from 20 to 10000".into());
        }
        Ok(())
    }

    /// The index of the step with this label.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<usize> {
        self.steps.iter().position(|s| s.label.as_deref() == Some(name))
    }
}
