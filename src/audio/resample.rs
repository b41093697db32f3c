//! Resampling.

/// 8 kHz to 16 kHz.
#[derive(Clone, Debug)]
pub struct Upsampler2 {}
impl Upsampler2 {
    /// New.
    #[must_use]
    pub fn new() -> Self {
        todo!()
    }
    /// `out.len() == 2 * input.len()`.
    pub fn process(&mut self, _input: &[i16], _out: &mut [i16]) {
        todo!()
    }
}
/// 16 kHz to 8 kHz.
#[derive(Clone, Debug)]
pub struct Downsampler2 {}
impl Downsampler2 {
    /// New.
    #[must_use]
    pub fn new() -> Self {
        todo!()
    }
    /// `input.len() == 2 * out.len()`.
    pub fn process(&mut self, _input: &[i16], _out: &mut [i16]) {
        todo!()
    }
}
