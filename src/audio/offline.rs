//! Offline.

/// To 8 kHz.
#[derive(Debug)]
pub struct ToTelephone {}
impl ToTelephone {
    /// From `input_hz`.
    #[must_use]
    pub fn new(_input_hz: u32) -> Self {
        todo!()
    }
    /// Converts samples in [-1, 1], appending 8 kHz samples to `out`.
    pub fn push(&mut self, _samples: &[f32], _out: &mut Vec<i16>) {
        todo!()
    }
    /// Appends the rest; the converter is then as new.
    pub fn flush(&mut self, _out: &mut Vec<i16>) {
        todo!()
    }
}
