//! Synthesised speech of any rate to the telephone's 8 kHz, in a stream, off the media path.
//!
//! Samples in `[-1, 1]` of one utterance in, 16-bit samples at 8 kHz appended to a `Vec`; nobody passes time. As soon as
//! some 20 ms are in, the first come out. The filter's delay is cut from the head and its tail is flushed, so an
//! utterance keeps its beginning, its end and its length. May allocate. Built on `rubato`'s FFT resampler, which
//! suppresses what would alias; used here and not on the media path because it works in blocks.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler};

/// The telephone's rate (Hz).
const OUTPUT_HZ: u32 = 8000;

/// A streaming converter from one input rate to 8 kHz.
pub struct ToTelephone {
    input_hz: u32,
    /// None when the input has the telephone's rate already.
    resampler: Option<Fft<f32>>,
    /// Input of a block that is not full yet.
    waiting: Vec<f32>,
    /// Room for one block of output.
    block: Vec<f32>,
    /// Output samples still to be cut from the head.
    delay: usize,
    /// Input samples of this utterance so far.
    taken: u64,
    /// Output samples of this utterance so far.
    given: u64,
}

impl ToTelephone {
    /// A converter from `input_hz` samples a second.
    ///
    /// # Panics
    /// If `input_hz` is zero, which is the caller's bug.
    #[must_use]
    pub fn new(input_hz: u32) -> Self {
        assert!(input_hz > 0, "a rate is positive");
        let resampler = (input_hz != OUTPUT_HZ).then(|| {
            let block = input_hz as usize / 50;
            Fft::new(input_hz as usize, OUTPUT_HZ as usize, block.max(1), 1, FixedSync::Both)
                .expect("both rates are positive")
        });
        let room = resampler.as_ref().map_or(0, |r| r.output_frames_max());
        let delay = resampler.as_ref().map_or(0, |r| r.output_delay());
        Self { input_hz, resampler, waiting: Vec::new(), block: vec![0.0; room], delay, taken: 0, given: 0 }
    }

    /// Takes samples in `[-1, 1]` (what is beyond clips) and appends what is ready at 8 kHz to `out`.
    pub fn push(&mut self, samples: &[f32], out: &mut Vec<i16>) {
        self.taken += samples.len() as u64;
        if self.resampler.is_none() {
            self.given += samples.len() as u64;
            out.extend(samples.iter().map(|&s| to_i16(s)));
            return;
        }
        self.waiting.extend_from_slice(samples);
        self.convert_full_blocks(u64::MAX, out);
    }

    /// Ends the utterance: appends its rest to `out`, so that all of it has `taken · 8000 / input_hz` samples, rounded.
    /// The converter is then ready for another utterance.
    pub fn flush(&mut self, out: &mut Vec<i16>) {
        let total =
            (self.taken * u64::from(OUTPUT_HZ) + u64::from(self.input_hz) / 2) / u64::from(self.input_hz);
        while self.given < total {
            let Some(resampler) = &self.resampler else { break };
            // Silence behind the end pushes the tail out of the filter.
            self.waiting.resize(resampler.input_frames_next(), 0.0);
            self.convert_full_blocks(total, out);
        }
        *self = Self::new(self.input_hz);
    }

    /// Converts while a block is full, giving no sample beyond the `limit`-th of the utterance.
    fn convert_full_blocks(&mut self, limit: u64, out: &mut Vec<i16>) {
        let Some(resampler) = &mut self.resampler else { return };
        let mut used = 0;
        while self.waiting.len() - used >= resampler.input_frames_next() {
            let n = resampler.input_frames_next();
            let room = self.block.len();
            let input = InterleavedSlice::new(&self.waiting[used..used + n], 1, n).expect("n samples");
            let mut output = InterleavedSlice::new_mut(&mut self.block, 1, room).expect("room for a block");
            let (_, made) =
                resampler.process_into_buffer(&input, &mut output, None).expect("buffers of the asked size");
            used += n;
            let cut = self.delay.min(made);
            self.delay -= cut;
            let left = usize::try_from(limit - self.given).unwrap_or(usize::MAX);
            let take = (made - cut).min(left);
            out.extend(self.block[cut..cut + take].iter().map(|&s| to_i16(s)));
            self.given += take as u64;
        }
        self.waiting.drain(..used);
    }
}

impl std::fmt::Debug for ToTelephone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ToTelephone({} Hz, {} in, {} out)", self.input_hz, self.taken, self.given)
    }
}

fn to_i16(sample: f32) -> i16 {
    // `as` saturates, so what is beyond full scale clips.
    (sample * 32767.0).round() as i16
}

#[cfg(test)]
mod tests {
    use std::f32::consts::TAU;

    use super::*;
    use crate::audio::Goertzel;
    use crate::audio::level::rms;

    fn tone(freq_hz: f32, input_hz: u32, n: usize) -> Vec<f32> {
        (0..n).map(|i| 0.5 * (TAU * freq_hz * i as f32 / input_hz as f32).sin()).collect()
    }

    fn convert(input_hz: u32, samples: &[f32], piece: usize) -> Vec<i16> {
        let (mut converter, mut out) = (ToTelephone::new(input_hz), Vec::new());
        for piece in samples.chunks(piece) {
            converter.push(piece, &mut out);
        }
        converter.flush(&mut out);
        out
    }

    fn db(value: f32) -> f32 {
        20.0 * value.log10()
    }

    #[test]
    fn speech_passes_flat() {
        for freq_hz in [100.0, 300.0, 1000.0, 2500.0, 3000.0, 3400.0] {
            let out = convert(22_050, &tone(freq_hz, 22_050, 22_050), 1000);
            let power = Goertzel::new(freq_hz, 8000.0).power(&out[800..7200]);
            let gain = db((power * 2.0).sqrt() / (0.5 * 32767.0));
            assert!(gain.abs() < 0.1, "{freq_hz}: {gain} dB");
        }
    }

    #[test]
    fn what_would_alias_is_forty_five_decibels_down() {
        for freq_hz in [4500.0, 5000.0, 6000.0, 9000.0] {
            let out = convert(22_050, &tone(freq_hz, 22_050, 22_050), 1000);
            let level = db(rms(&out[800..7200]).max(0.1) / (0.5 * 32767.0 / 2f32.sqrt()));
            assert!(level < -45.0, "{freq_hz}: {level} dB");
        }
    }

    #[test]
    fn the_length_is_kept_to_the_sample() {
        for (input_hz, n) in
            [(22_050, 1), (22_050, 441), (22_050, 12_345), (24_000, 7), (44_100, 99_999), (8000, 321)]
        {
            let want = (n as f64 * 8000.0 / f64::from(input_hz)).round() as usize;
            assert_eq!(convert(input_hz, &tone(440.0, input_hz, n), 333).len(), want, "{n} at {input_hz} Hz");
        }
        assert_eq!(convert(22_050, &[], 1), [0_i16; 0]);
    }

    #[test]
    fn head_and_tail_are_where_they_were() {
        // A tone that fills the utterance to both ends; compared with the ideal sample by sample. The filter's delay is
        // whole only in output samples, so a shift by up to half an input sample (23 µs) stays.
        let out = convert(22_050, &tone(100.0, 22_050, 11_025), 700);
        let ideal: Vec<i16> =
            (0..out.len()).map(|i| to_i16(0.5 * (TAU * 100.0 * i as f32 / 8000.0).sin())).collect();
        let error = |range: std::ops::Range<usize>| {
            let differences: Vec<i16> =
                out[range.clone()].iter().zip(&ideal[range]).map(|(a, b)| a - b).collect();
            rms(&differences) / rms(&ideal)
        };
        assert!(error(100..out.len() - 100) < 0.02, "{}", error(100..out.len() - 100));
        assert!(error(0..100) < 0.1, "{}", error(0..100));
        assert!(error(out.len() - 100..out.len()) < 0.1, "{}", error(out.len() - 100..out.len()));
    }

    #[test]
    fn the_size_of_the_pieces_does_not_matter_and_the_converter_is_reusable() {
        let samples = tone(700.0, 22_050, 9000);
        let whole = convert(22_050, &samples, 9000);
        assert_eq!(whole, convert(22_050, &samples, 17));
        let (mut converter, mut out) = (ToTelephone::new(22_050), Vec::new());
        converter.push(&tone(1234.0, 22_050, 800), &mut out);
        converter.flush(&mut out);
        out.clear();
        converter.push(&samples, &mut out);
        converter.flush(&mut out);
        assert_eq!(out, whole);
    }

    #[test]
    fn sound_comes_out_before_the_utterance_is_complete() {
        let (mut converter, mut out) = (ToTelephone::new(22_050), Vec::new());
        converter.push(&tone(440.0, 22_050, 22_050 / 10), &mut out);
        assert!(out.len() >= 8000 / 10 - 400, "{} of 800", out.len());
    }

    #[test]
    fn what_is_too_loud_clips() {
        let out = convert(22_050, &vec![1.5; 4410], 4410);
        assert_eq!(out[800], i16::MAX);
        assert_eq!(convert(8000, &[2.0, -2.0], 2), [i16::MAX, i16::MIN]);
    }
}
