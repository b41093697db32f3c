//! From telephone samples to the network's input: 8 kHz to 16 kHz, then the log-mel spectrogram.
//!
//! The spectrogram is Whisper's (`whisper/audio.py`): 400-point periodic Hann, hop 160, 80 Slaney bands, `log10`,
//! clamped to eight decades below its maximum, `(x + 4) / 4`; except that the whole is first shifted so that the
//! maximum is [`LEVEL`]. That makes the floor a constant, which the silent tail is built with, and takes the
//! speaker's loudness out.

use std::f64::consts::PI;

use super::gemm::{Mat, multiply};
use super::weights::{MELS, POSITIONS};

/// Sample rate of the network (Hz).
pub(super) const HZ: usize = 16_000;
/// Samples of an encoder position: 20 ms.
pub(super) const POSITION_SAMPLES: usize = HOP * 2;
/// The longest input [samples]: 30 s.
pub(super) const MAX_SAMPLES: usize = POSITIONS * POSITION_SAMPLES;

/// Silence kept after the samples before the tail takes over [samples]: 0.5 s.
const PAD: usize = HZ / 2;
const WINDOW: usize = 400;
const HOP: usize = 160;
const BINS: usize = WINDOW / 2 + 1;
/// The maximum of each spectrogram, in decades.
const LEVEL: f32 = 1.5;
/// What silence looks like.
pub(super) const FLOOR: f32 = (LEVEL - 8.0 + 4.0) / 4.0;
/// A maximum below this (decades) is a line without sound: one step of 16-bit noise gives about -9.
const SILENCE: f32 = -7.0;

/// The transforms and the buffers' shapes; constant after creation.
pub(super) struct Mel {
    /// Windowed Fourier basis [2 × BINS, WINDOW]: cosines, then sines.
    basis: Vec<f32>,
    /// [MELS, BINS]
    filters: Vec<f32>,
}

/// Buffers of one transform.
pub(super) struct MelBuffers {
    audio: Vec<f32>,
    spectrum: Vec<f32>,
    /// The result, [1 + frames + 1, MELS]: the convolution's padding lies around it.
    pub(super) mel: Vec<f32>,
}

impl MelBuffers {
    pub(super) fn new() -> Self {
        Self {
            audio: vec![0.0; MAX_SAMPLES + 2 * WINDOW],
            spectrum: vec![0.0; 2 * POSITIONS * 2 * BINS],
            mel: vec![0.0; (2 * POSITIONS + 2) * MELS],
        }
    }
}

impl Mel {
    pub(super) fn new() -> Self {
        let mut basis = vec![0.0; 2 * BINS * WINDOW];
        for bin in 0..BINS {
            for n in 0..WINDOW {
                let window = 0.5 - 0.5 * (2.0 * PI * n as f64 / WINDOW as f64).cos();
                let phase = 2.0 * PI * (bin * n % WINDOW) as f64 / WINDOW as f64;
                basis[bin * WINDOW + n] = (window * phase.cos()) as f32;
                basis[(BINS + bin) * WINDOW + n] = (window * phase.sin()) as f32;
            }
        }
        Self { basis, filters: slaney_filters() }
    }

    /// The spectrogram of `samples` and the pad, into `buffers.mel`. Returns the encoder positions it spans, 50 a
    /// second; `None` when there is no sound in it. Samples beyond 30 s are ignored.
    pub(super) fn transform(&self, samples: &[f32], buffers: &mut MelBuffers) -> Option<usize> {
        let samples = &samples[..samples.len().min(MAX_SAMPLES)];
        let positions = (samples.len() + PAD).div_ceil(POSITION_SAMPLES).min(POSITIONS);
        let frames = 2 * positions;
        let half = WINDOW / 2;
        let audio = &mut buffers.audio[..frames * HOP + WINDOW];
        audio.fill(0.0);
        audio[half..half + samples.len()].copy_from_slice(samples);
        for i in 1..=half.min(samples.len().saturating_sub(1)) {
            audio[half - i] = samples[i];
        }
        let spectrum = &mut buffers.spectrum[..frames * 2 * BINS];
        multiply(
            (frames, 2 * BINS, WINDOW),
            (spectrum, 2 * BINS),
            false,
            1.0,
            Mat::rows(audio, HOP),
            Mat::rows(&self.basis, WINDOW).transposed(),
        );
        for row in spectrum.chunks_exact_mut(2 * BINS) {
            let (re, im) = row.split_at_mut(BINS);
            for (re, im) in re.iter_mut().zip(im) {
                *re = *re * *re + *im * *im;
            }
        }
        let mel = &mut buffers.mel[..(frames + 2) * MELS];
        multiply(
            (frames, MELS, BINS),
            (&mut mel[MELS..(frames + 1) * MELS], MELS),
            false,
            1.0,
            Mat::rows(spectrum, 2 * BINS),
            Mat::rows(&self.filters, BINS).transposed(),
        );
        let top = level(&mut mel[MELS..(frames + 1) * MELS])?;
        debug_assert!(top.is_finite(), "samples are finite");
        pad(mel, frames);
        Some(positions)
    }

    /// The spectrogram of 30 s of silence at the level of every other.
    pub(super) fn silence(buffers: &mut MelBuffers) {
        buffers.mel.fill(FLOOR);
        pad(&mut buffers.mel, 2 * POSITIONS);
    }
}

/// The rows around the spectrogram: zeros before it; after it what the tail begins with, or zeros at 30 s.
fn pad(mel: &mut [f32], frames: usize) {
    mel[..MELS].fill(0.0);
    mel[(frames + 1) * MELS..].fill(if frames < 2 * POSITIONS { FLOOR } else { 0.0 });
}

/// Powers to shifted and clamped decades; returns the maximum before the shift.
fn level(mel: &mut [f32]) -> Option<f32> {
    let mut top = f32::NEG_INFINITY;
    for v in mel.iter_mut() {
        // Whisper's floor is 1e-10, which faint speech after the shift would not reach.
        *v = v.max(1e-20).log10();
        top = top.max(*v);
    }
    if top < SILENCE {
        return None;
    }
    let shift = LEVEL - top;
    for v in mel.iter_mut() {
        *v = ((*v + shift).max(LEVEL - 8.0) + 4.0) / 4.0;
    }
    Some(top)
}

/// Slaney's mel filters as librosa makes them (`librosa.filters.mel`, norm "slaney"): linear below 1 kHz,
/// logarithmic above, each of area one.
fn slaney_filters() -> Vec<f32> {
    let step = 6.4_f64.ln() / 27.0;
    let to_hz = |mel: f64| if mel < 15.0 { mel * 200.0 / 3.0 } else { 1000.0 * ((mel - 15.0) * step).exp() };
    let top = 15.0 + 8.0_f64.ln() / step;
    let edges: Vec<f64> = (0..MELS + 2).map(|i| to_hz(top * i as f64 / (MELS + 1) as f64)).collect();
    let mut filters = vec![0.0; MELS * BINS];
    for band in 0..MELS {
        let (low, mid, high) = (edges[band], edges[band + 1], edges[band + 2]);
        for bin in 0..BINS {
            let hz = bin as f64 * HZ as f64 / WINDOW as f64;
            let weight = ((hz - low) / (mid - low)).min((high - hz) / (high - mid)).max(0.0);
            filters[band * BINS + bin] = (weight * 2.0 / (high - low)) as f32;
        }
    }
    filters
}

const TAPS: usize = 16;

/// Doubles the rate of `input` (8 kHz, 16-bit) into `output` (16 kHz, ±1), aligned in time: even samples are the
/// input, odd ones lie half-way, by a windowed sinc over sixteen neighbours on each side.
pub(super) fn upsample(input: &[i16], output: &mut Vec<f32>) {
    let mut taps = [0.0_f32; TAPS];
    for (i, tap) in taps.iter_mut().enumerate() {
        let x = i as f64 + 0.5;
        let window = 0.54 + 0.46 * (PI * x / (TAPS as f64 + 0.5)).cos();
        *tap = ((PI * x).sin() / (PI * x) * window) as f32;
    }
    let sum: f32 = 2.0 * taps.iter().sum::<f32>();
    let taps = taps.map(|t| t / sum / 32768.0);
    output.clear();
    output.reserve(2 * input.len());
    let sample = |i: usize, k: isize| {
        let at = i as isize + k;
        usize::try_from(at).ok().and_then(|at| input.get(at)).map_or(0.0, |s| f32::from(*s))
    };
    for (i, here) in input.iter().enumerate() {
        output.push(f32::from(*here) / 32768.0);
        let between: f32 = if let Some(window) =
            i.checked_sub(TAPS - 1).and_then(|first| input.get(first..first + 2 * TAPS))
        {
            (0..TAPS).map(|k| taps[k] * (f32::from(window[TAPS - 1 - k]) + f32::from(window[TAPS + k]))).sum()
        } else {
            (0..TAPS).map(|k| taps[k] * (sample(i, -(k as isize)) + sample(i, k as isize + 1))).sum()
        };
        output.push(between);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(hz: f64, rate: f64, n: usize) -> Vec<f32> {
        (0..n).map(|i| (0.5 * (2.0 * PI * hz * i as f64 / rate).sin()) as f32).collect()
    }

    #[test]
    fn filters_are_librosas() {
        // librosa.filters.mel(sr=16000, n_fft=400, n_mels=80): first row [0, 0.02486259, 0, …].
        let f = slaney_filters();
        assert!((f[1] - 0.024_862_59).abs() < 1e-7 && f[0] == 0.0 && f[2].abs() < 0.003, "{:?}", &f[..4]);
        let total: f32 = f[..].iter().sum::<f32>() * 40.0 / MELS as f32;
        assert!((total - 1.0).abs() < 0.05, "areas are one: {total}");
    }

    #[test]
    fn a_tone_lights_its_band_at_any_loudness() {
        let (mel, mut buffers) = (Mel::new(), MelBuffers::new());
        let band = |buffers: &MelBuffers| {
            let row = &buffers.mel[51 * MELS..52 * MELS];
            (0..MELS).max_by(|a, b| row[*a].total_cmp(&row[*b])).expect("bands")
        };
        let loud = tone(1000.0, 16000.0, 16000);
        assert_eq!(mel.transform(&loud, &mut buffers), Some(75));
        // 1000 Hz is mel 15 of 45.245: edge 27 of 81, the centre of band 26.
        assert_eq!(band(&buffers), 26);
        let first = buffers.mel.clone();
        let quiet: Vec<f32> = loud.iter().map(|v| v * 0.01).collect();
        assert_eq!(mel.transform(&quiet, &mut buffers), Some(75));
        let difference = first.iter().zip(&buffers.mel).fold(0.0_f32, |a, (x, y)| a.max((x - y).abs()));
        assert!(difference < 1e-3, "the level is taken out: {difference}");
        let top = buffers.mel[MELS..151 * MELS].iter().fold(f32::MIN, |a, b| a.max(*b));
        assert!((top - (LEVEL + 4.0) / 4.0).abs() < 1e-5);
        assert!(buffers.mel[150 * MELS..152 * MELS].iter().all(|v| *v == FLOOR), "it ends in the floor");
        assert!(buffers.mel[..MELS].iter().all(|v| *v == 0.0), "it begins with the convolution's padding");
    }

    #[test]
    fn a_dead_line_is_no_sound_and_too_much_is_cut() {
        let (mel, mut buffers) = (Mel::new(), MelBuffers::new());
        assert_eq!(mel.transform(&[], &mut buffers), None);
        assert_eq!(mel.transform(&[0.0; 16000], &mut buffers), None);
        let long = tone(440.0, 16000.0, 600_000);
        assert_eq!(mel.transform(&long, &mut buffers), Some(1500));
    }

    #[test]
    fn upsampling_keeps_a_tone_and_its_time() {
        let input: Vec<i16> =
            (0..800).map(|i| (16384.0 * (2.0 * PI * 1000.0 * f64::from(i) / 8000.0).sin()) as i16).collect();
        let mut output = Vec::new();
        upsample(&input, &mut output);
        let expected = tone(1000.0, 16000.0, 1600);
        let worst = (64..1536).fold(0.0_f32, |worst, i| worst.max((output[i] - expected[i]).abs()));
        assert!(worst < 2e-3, "{worst}");
        upsample(&[5], &mut output);
        assert_eq!(output.len(), 2, "shorter than the filter");
    }
}
