//! From text as a language model writes it to the phonemes a Piper voice was trained on.
//!
//! In: a clause. Out: words as they are said, each tied to the place in the clause it came from, and their IPA. Three
//! steps, none of which knows audio: [`normalize`] (numbers, money, abbreviations), [`Dictionary`] (CMUdict, with
//! letter-to-sound rules behind it) and [`phonemes`] (ARPAbet to the IPA that espeak-ng would have written).
//! Pure; nobody passes time. English only.

mod dict;
mod letters;
mod normalize;
mod notation;
mod numbers;
mod phonemes;

pub use dict::{Dictionary, DictionaryError};
pub use normalize::{Pause, Said, Token, normalize};
pub use phonemes::{Sound, phonemes};
