//! From a voice's own rate to the telephone's: 8 kHz, 200 to 3700 Hz, at a telephone's level, without clicks between
//! chunks.
//!
//! In: samples in −1..1 at any rate from 8 kHz up, in chunks of any size. Out: 16-bit samples at 8 kHz, aligned: the
//! n-th leaves for the input at n/8000 s. A windowed sinc (Kaiser, from a table), evaluated at the exact input
//! position of each output, so any ratio will do; that is how the pitch is shifted. Pure.

const OUT_HZ: f64 = 8000.0;
const CUTOFF_HZ: f64 = 3700.0;
/// Zero crossings of the sinc to each side.
const LOBES: f64 = 24.0;
/// Table entries for one zero crossing; read with linear interpolation, whose error is below −80 dB.
const STEPS: usize = 128;
const KAISER_BETA: f64 = 7.0;
const LOW_CUT_HZ: f64 = 200.0;

/// Converts to 8 kHz; one for each stretch of speech.
pub(super) struct Resampler {
    /// Input samples per output sample.
    ratio: f64,
    /// Input samples for one zero crossing.
    lobe: f64,
    /// Half the kernel [input samples].
    half: usize,
    table: Vec<f32>,
    /// Input not yet done with; begins `half` zeros before the first sample.
    held: Vec<f32>,
    /// Index in the whole input, padding included, of `held[0]`.
    held_at: u64,
    produced: u64,
    consumed: u64,
}

impl Resampler {
    /// A converter from `input_hz`.
    pub(super) fn new(input_hz: f64) -> Self {
        let ratio = input_hz / OUT_HZ;
        let lobe = input_hz / (2.0 * CUTOFF_HZ.min(0.46 * input_hz));
        let half = (LOBES * lobe).ceil() as usize;
        let entries = LOBES as usize * STEPS;
        let table = (0..=entries + 1).map(|i| kernel(i as f64 / STEPS as f64) as f32).collect();
        Self { ratio, lobe, half, table, held: vec![0.0; half], held_at: 0, produced: 0, consumed: 0 }
    }

    /// Takes the next samples and appends what can be made of them.
    pub(super) fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) {
        self.consumed += samples.len() as u64;
        self.held.extend_from_slice(samples);
        self.drain(u64::MAX, out);
    }

    /// Appends the rest, as if silence followed. The output is then as long as the input, to the sample.
    pub(super) fn flush(&mut self, out: &mut Vec<f32>) {
        let last = (self.consumed as f64 / self.ratio).round() as u64;
        self.held.resize(self.held.len() + self.half + self.ratio.ceil() as usize + 1, 0.0);
        self.drain(last, out);
    }

    fn drain(&mut self, last: u64, out: &mut Vec<f32>) {
        let gain = (1.0 / self.lobe) as f32;
        while self.produced < last {
            // In padded indices the kernel's middle lies `half` after its first tap.
            let middle = self.produced as f64 * self.ratio + self.half as f64;
            let base = middle.floor();
            let start = base as u64 + 1 - self.half as u64;
            let first = (start - self.held_at) as usize;
            let Some(taps) = self.held.get(first..first + 2 * self.half) else { break };
            let step = STEPS as f64 / self.lobe;
            let mut position = (start as f64 - middle) * step;
            let mut sum = 0.0;
            for sample in taps {
                let distance = position.abs();
                let index = distance as usize;
                if let [a, b, ..] = self.table[index.min(self.table.len() - 2)..] {
                    sum += sample * (a + (b - a) * (distance - index as f64).min(1.0) as f32);
                }
                position += step;
            }
            out.push(sum * gain);
            self.produced += 1;
        }
        let next = (self.produced as f64 * self.ratio) as u64;
        let done = (next.saturating_sub(self.held_at) as usize).min(self.held.len());
        self.held.drain(..done);
        self.held_at += done as u64;
    }
}

/// The windowed sinc at `x` zero crossings from its middle.
fn kernel(x: f64) -> f64 {
    if x >= LOBES {
        return 0.0;
    }
    let sinc = if x == 0.0 { 1.0 } else { (std::f64::consts::PI * x).sin() / (std::f64::consts::PI * x) };
    let edge = x / LOBES;
    sinc * bessel(KAISER_BETA * (1.0 - edge * edge).sqrt()) / bessel(KAISER_BETA)
}

/// Modified Bessel function of the first kind, order zero, by its series.
fn bessel(x: f64) -> f64 {
    let (mut sum, mut term) = (1.0, 1.0);
    for k in 1..40 {
        term *= (x / 2.0 / f64::from(k)).powi(2);
        sum += term;
    }
    sum
}

/// Takes away what a telephone does not carry below [`LOW_CUT_HZ`], sets the level, and rounds peaks off.
#[derive(Clone)]
pub(super) struct Finish {
    gain: f32,
    /// Butterworth high-pass of second order, transposed direct form II.
    b: [f32; 3],
    a: [f32; 2],
    state: [f32; 2],
}

impl Finish {
    /// Multiplies by `gain`.
    pub(super) fn new(gain: f32) -> Self {
        let w = 2.0 * std::f64::consts::PI * LOW_CUT_HZ / OUT_HZ;
        let alpha = w.sin() / std::f64::consts::SQRT_2;
        let norm = 1.0 + alpha;
        let b0 = f64::midpoint(1.0, w.cos()) / norm;
        let a = [(-2.0 * w.cos() / norm) as f32, ((1.0 - alpha) / norm) as f32];
        Self { gain, b: [b0 as f32, (-2.0 * b0) as f32, b0 as f32], a, state: [0.0; 2] }
    }

    /// The next samples, at the telephone's level.
    pub(super) fn apply(&mut self, samples: &[f32], out: &mut Vec<i16>) {
        out.extend(samples.iter().map(|x| {
            let y = self.b[0] * x + self.state[0];
            self.state[0] = self.b[1] * x - self.a[0] * y + self.state[1];
            self.state[1] = self.b[2] * x - self.a[1] * y;
            (round_off(y * self.gain) * 32767.0) as i16
        }));
    }
}

/// Leaves what is below 0.6 alone and bends the rest to stay below 0.98.
fn round_off(x: f32) -> f32 {
    const KNEE: f32 = 0.6;
    const ROOM: f32 = 0.38;
    let size = x.abs();
    if size <= KNEE { x } else { (KNEE + ROOM * ((size - KNEE) / ROOM).tanh()).copysign(x) }
}

/// RMS of the 20 ms frames within 25 dB of the loudest: the level of the speech, not of its pauses. 0 for silence.
pub(super) fn speech_level(samples: &[f32]) -> f32 {
    let power = |f: &[f32]| f.iter().map(|x| x * x).sum::<f32>() / f.len() as f32;
    let frames: Vec<f32> = samples.chunks_exact(160).map(power).collect();
    let loudest = frames.iter().copied().fold(0.0, f32::max);
    let active: Vec<f32> = frames.into_iter().filter(|p| *p > loudest / 316.0).collect();
    if active.is_empty() { 0.0 } else { (active.iter().sum::<f32>() / active.len() as f32).sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(hz: f64, rate: f64, seconds: f64) -> Vec<f32> {
        let n = (rate * seconds) as usize;
        (0..n).map(|i| (2.0 * std::f64::consts::PI * hz * i as f64 / rate).sin() as f32 * 0.5).collect()
    }

    fn convert(input: &[f32], rate: f64, chunk: usize) -> Vec<f32> {
        let mut resampler = Resampler::new(rate);
        let mut out = Vec::new();
        for part in input.chunks(chunk) {
            resampler.push(part, &mut out);
        }
        resampler.flush(&mut out);
        out
    }

    fn rms_db(samples: &[f32]) -> f32 {
        20.0 * (samples.iter().map(|x| x * x).sum::<f32>() / samples.len() as f32).sqrt().max(1e-9).log10()
    }

    #[test]
    fn the_pass_band_is_flat_and_what_would_alias_is_gone() {
        for rate in [22_050.0, 22_050.0 * 0.8, 22_050.0 * 1.3, 16_000.0] {
            for (hz, low, high) in [
                (300.0, -0.1, 0.1),
                (1000.0, -0.1, 0.1),
                (3300.0, -0.3, 0.1),
                (4700.0, -200.0, -60.0),
                (7000.0, -200.0, -60.0),
            ] {
                let out = convert(&tone(hz, rate, 0.5), rate, 4096);
                let gain = rms_db(&out[400..out.len() - 400]) - rms_db(&tone(hz, rate, 0.5));
                assert!((low..=high).contains(&gain), "{hz} Hz from {rate} Hz: {gain} dB");
            }
        }
    }

    #[test]
    fn the_output_lies_where_the_input_lies_and_is_as_long() {
        let out = convert(&tone(440.0, 22_050.0, 1.0), 22_050.0, 1000);
        assert_eq!(out.len(), 8000);
        let wanted = tone(440.0, 8000.0, 1.0);
        let worst =
            out[200..7800].iter().zip(&wanted[200..7800]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 2e-3, "{worst}");
    }

    #[test]
    fn chunks_of_any_size_give_the_same_samples() {
        let input = tone(1234.0, 22_050.0, 0.3);
        let whole = convert(&input, 22_050.0, input.len());
        for chunk in [1, 7, 256, 3000] {
            assert_eq!(convert(&input, 22_050.0, chunk), whole, "{chunk}");
        }
    }

    #[test]
    fn speech_band_passes_rumble_and_direct_current_do_not_and_peaks_bend() {
        let through = |hz: f64| {
            let mut out = Vec::new();
            Finish::new(1.0).apply(&tone(hz, 8000.0, 1.0), &mut out);
            let floats: Vec<f32> = out[2000..].iter().map(|s| f32::from(*s) / 32768.0).collect();
            rms_db(&floats) - rms_db(&tone(hz, 8000.0, 1.0))
        };
        assert!(through(1000.0).abs() < 0.1);
        assert!((through(200.0) + 3.0).abs() < 0.2);
        assert!(through(50.0) < -20.0);
        let mut out = Vec::new();
        Finish::new(100.0).apply(&tone(1000.0, 8000.0, 0.1), &mut out);
        assert!(out.iter().all(|s| s.unsigned_abs() <= 32_200));
        assert_eq!(round_off(0.5), 0.5);
        assert!(round_off(-2.0) > -0.981);
    }

    #[test]
    fn the_level_is_that_of_the_speech_not_of_its_pauses() {
        let mut samples = tone(500.0, 8000.0, 0.5);
        let level = speech_level(&samples);
        samples.resize(16_000, 0.0);
        assert!((speech_level(&samples) - level).abs() < 1e-4);
        assert!((level - 0.5 / 2f32.sqrt()).abs() < 1e-2);
        assert_eq!(speech_level(&[0.0; 400]), 0.0);
    }
}
