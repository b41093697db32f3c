//! Concealment.

/// Makes up for lost 8 kHz audio.
#[derive(Clone, Debug)]
pub struct Concealer {}

impl Concealer {
    /// A concealer that has heard nothing yet.
    #[must_use]
    pub fn new() -> Self {
        todo!()
    }
    /// Blends the start of received samples with what was made up, in place; call before [`Self::good`].
    pub fn rejoin(&mut self, _samples: &mut [i16]) {
        todo!()
    }
    /// Remembers received samples.
    pub fn good(&mut self, _samples: &[i16]) {
        todo!()
    }
    /// Fills `out` with made-up samples.
    pub fn conceal(&mut self, _out: &mut [i16]) {
        todo!()
    }
}
