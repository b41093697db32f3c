//! Silero VAD v6 at 8 kHz, written out: 32 ms windows in, a speech probability out, state carried between.
//!
//! 256 samples at a time flow in (floats in −1…1), one probability flows out. No clock, no allocation after
//! construction; the weights (0.8 MB, packed for 8-lane vectors) are shared by all legs. The network, from the
//! model file: 32 samples of context, right-reflected padding by 32, a 128-point DFT every 64 samples, four
//! convolutions, an LSTM cell and a logistic output. Kernels are plain loops over `[f32; 8]` blocks, compiled once
//! with AVX2 + FMA (or AVX-512, NEON) and once for any machine; the choice is made at run time.

use std::sync::Arc;

use pulp::{Arch, Simd, WithSimd};

pub use super::onnx::WeightsError;

/// Samples in one window.
pub const WINDOW: usize = 256;
const CONTEXT: usize = 32;
const BINS: usize = 65;
const STEPS: usize = 4;

/// Eight lanes that the compiler keeps in one register.
#[derive(Clone, Copy, Default)]
#[repr(C, align(32))]
struct F8([f32; 8]);

impl F8 {
    #[inline(always)]
    fn splat(v: f32) -> Self {
        Self([v; 8])
    }

    /// `self + a · b`; one instruction where the machine has it, else a product and a sum (never a library call).
    #[inline(always)]
    fn fma<const FUSED: bool>(mut self, a: Self, b: Self) -> Self {
        for i in 0..8 {
            self.0[i] = if FUSED { a.0[i].mul_add(b.0[i], self.0[i]) } else { a.0[i] * b.0[i] + self.0[i] };
        }
        self
    }

    #[inline(always)]
    fn map(mut self, f: impl Fn(f32) -> f32) -> Self {
        for v in &mut self.0 {
            *v = f(*v);
        }
        self
    }
}

/// The network's weights, packed output-channel-innermost. Built once, shared by every detector.
pub struct SileroWeights {
    /// Per block of 8 bins, per n in 1..=64: cosine and sine rows of the folded DFT.
    stft: Vec<[F8; 2]>,
    /// Per block of 16 outputs, per input channel, per tap.
    conv0: Vec<[[F8; 2]; 3]>,
    bias0: Vec<[F8; 2]>,
    /// Per block of 32 outputs, per input channel, per tap.
    conv1: Vec<[[F8; 4]; 3]>,
    bias1: Vec<[F8; 4]>,
    /// Per input channel: taps 1 and 2 of 64 outputs (tap 0 only ever meets padding).
    conv2: Vec<[[F8; 8]; 2]>,
    bias2: [F8; 8],
    /// Per block of 64 outputs, per input channel: tap 1 (the others only meet padding).
    conv3: Vec<[F8; 8]>,
    bias3: Vec<[F8; 8]>,
    /// Per block of 64 gates, per row of `[x, h]`.
    lstm: Vec<[F8; 8]>,
    bias_lstm: Vec<[F8; 8]>,
    out: [F8; 16],
    out_bias: f32,
}

impl std::fmt::Debug for SileroWeights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SileroWeights(8 kHz)")
    }
}

/// `N` blocks of 8 lanes, lane `l` of block `b` being `value(8 b + l)`.
fn pack<const N: usize>(value: impl Fn(usize) -> f32) -> [F8; N] {
    std::array::from_fn(|block| F8(std::array::from_fn(|lane| value(8 * block + lane))))
}

impl SileroWeights {
    /// Reads the 8 kHz weights from the bytes of `silero_vad.onnx` (silero-vad 6.2.3, sha256 1a153a22…88e3).
    /// The ifless file of the same package is accepted too; its weights differ.
    ///
    /// # Errors
    /// [`WeightsError`] when the bytes are not such a file. Never panics on foreign bytes.
    pub fn from_onnx(file: &[u8]) -> Result<Self, WeightsError> {
        let (t, out_bias) = super::onnx::read(file)?;
        let [basis, w0, b0, w1, b1, w2, b2, w3, b3, ih, hh, bih, bhh, out] = &t;
        // The DFT basis is even (cosine) or odd (sine) around sample 64, so samples n and 128 − n share a weight.
        let row = |bin: usize, im: bool, n: usize| {
            if bin < BINS { basis[(bin + if im { BINS } else { 0 }) * 128 + n] } else { 0.0 }
        };
        let mut packed = Self {
            stft: Vec::with_capacity(9 * 64),
            conv0: Vec::with_capacity(8 * BINS),
            bias0: (0..8).map(|b| pack(|o| b0[16 * b + o])).collect(),
            conv1: Vec::with_capacity(2 * 128),
            bias1: (0..2).map(|b| pack(|o| b1[32 * b + o])).collect(),
            conv2: (0..64).map(|c| [1, 2].map(|k| pack(|o| w2[(o * 64 + c) * 3 + k]))).collect(),
            bias2: pack(|o| b2[o]),
            conv3: Vec::with_capacity(2 * 64),
            bias3: (0..2).map(|b| pack(|o| b3[64 * b + o])).collect(),
            lstm: Vec::with_capacity(8 * 256),
            bias_lstm: (0..8).map(|b| pack(|g| bih[64 * b + g] + bhh[64 * b + g])).collect(),
            out: pack(|o| out[o]),
            out_bias,
        };
        for block in 0..9 {
            packed.stft.extend((1..=64).map(|n| {
                let [re] = pack(|k| row(8 * block + k, false, n));
                let [im] = pack(|k| row(8 * block + k, true, n));
                [re, im]
            }));
        }
        for block in 0..8 {
            packed.conv0.extend(
                (0..BINS)
                    .map(|c| [0, 1, 2].map(|k| pack(|o| w0[((16 * block + o) * BINS + c) * 3 + k]))),
            );
        }
        for block in 0..2 {
            packed.conv1.extend(
                (0..128).map(|c| [0, 1, 2].map(|k| pack(|o| w1[((32 * block + o) * 128 + c) * 3 + k]))),
            );
            packed.conv3.extend((0..64).map(|c| pack(|o| w3[((64 * block + o) * 64 + c) * 3 + 1])));
        }
        for block in 0..8 {
            packed.lstm.extend((0..256).map(|r| {
                pack(|g| if r < 128 { ih[(64 * block + g) * 128 + r] } else { hh[(64 * block + g) * 128 + r - 128] })
            }));
        }
        Ok(packed)
    }
}

/// One stream's detector: the network and its carried state (about 6 KB).
#[derive(Clone)]
pub struct Silero {
    weights: Arc<SileroWeights>,
    arch: Arch,
    state: State,
}

#[derive(Clone)]
struct State {
    context: [f32; CONTEXT],
    /// `[x, h]`, the LSTM's input row: the encoder's output and the previous hidden state.
    xh: [f32; 256],
    cell: [F8; 16],
}

impl std::fmt::Debug for Silero {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Silero")
    }
}

impl Silero {
    /// A detector at the start of a stream.
    #[must_use]
    pub fn new(weights: Arc<SileroWeights>) -> Self {
        Self { weights, arch: Arch::new(), state: State::new() }
    }

    /// The probability that the window holds speech (0 to 1), given the stream so far. Samples are in −1…1.
    pub fn process(&mut self, window: &[f32; WINDOW]) -> f32 {
        self.arch.dispatch(Step { weights: &self.weights, state: &mut self.state, window })
    }

    /// Forgets the stream: the next window is the first.
    pub fn reset(&mut self) {
        self.state = State::new();
    }
}

impl State {
    fn new() -> Self {
        Self { context: [0.0; CONTEXT], xh: [0.0; 256], cell: [F8::default(); 16] }
    }
}

struct Step<'a> {
    weights: &'a SileroWeights,
    state: &'a mut State,
    window: &'a [f32; WINDOW],
}

impl WithSimd for Step<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> f32 {
        if S::IS_SCALAR && !cfg!(target_arch = "aarch64") { self.run::<false>() } else { self.run::<true>() }
    }
}

impl Step<'_> {
    #[inline(always)]
    fn run<const FUSED: bool>(self) -> f32 {
        let Step { weights, state, window } = self;
        let mut padded = [0.0; CONTEXT + WINDOW + 32];
        padded[..CONTEXT].copy_from_slice(&state.context);
        padded[CONTEXT..CONTEXT + WINDOW].copy_from_slice(window);
        for i in 0..32 {
            padded[288 + i] = padded[286 - i];
        }
        state.context.copy_from_slice(&window[WINDOW - CONTEXT..]);

        let spectrum = stft::<FUSED>(weights, &padded);
        let a = conv0::<FUSED>(weights, &spectrum);
        let b = conv1::<FUSED>(weights, &a);
        let c = conv2::<FUSED>(weights, &b);
        conv3::<FUSED>(weights, &c, &mut state.xh);
        lstm::<FUSED>(weights, state)
    }
}

/// Magnitudes by step and bin (bins 65–71 are zero padding).
#[inline(always)]
fn stft<const FUSED: bool>(w: &SileroWeights, padded: &[f32; 320]) -> [[f32; 72]; STEPS] {
    let mut folded = [[[0.0f32; 2]; STEPS]; 64];
    for (i, f) in folded.iter_mut().enumerate() {
        let n = i + 1;
        for (t, f) in f.iter_mut().enumerate() {
            let (a, b) = (padded[64 * t + n], padded[64 * t + 128 - n]);
            *f = if n == 64 { [a, 0.0] } else { [a + b, a - b] };
        }
    }
    let mut out = [[0.0; 72]; STEPS];
    for (block, rows) in w.stft.as_chunks::<64>().0.iter().enumerate().take(9) {
        let [mut re, mut im] = [[F8::default(); STEPS]; 2];
        for ([cos, sin], f) in rows.iter().zip(&folded) {
            for t in 0..STEPS {
                re[t] = re[t].fma::<FUSED>(*cos, F8::splat(f[t][0]));
                im[t] = im[t].fma::<FUSED>(*sin, F8::splat(f[t][1]));
            }
        }
        for t in 0..STEPS {
            let mut magnitude = F8::default();
            for lane in 0..8 {
                let (r, i) = (re[t].0[lane], im[t].0[lane]);
                magnitude.0[lane] = (r * r + i * i).sqrt();
            }
            store(&mut out[t], block, magnitude);
        }
    }
    out
}

#[inline(always)]
fn relu(v: F8) -> F8 {
    v.map(|x| x.max(0.0))
}

#[inline(always)]
fn conv0<const FUSED: bool>(w: &SileroWeights, x: &[[f32; 72]; STEPS]) -> [[f32; 128]; STEPS] {
    let mut inputs = [[0.0f32; STEPS]; BINS];
    for (c, v) in inputs.iter_mut().enumerate() {
        *v = [x[0][c], x[1][c], x[2][c], x[3][c]];
    }
    let mut out = [[0.0; 128]; STEPS];
    for (block, (rows, bias)) in w.conv0.as_chunks::<BINS>().0.iter().zip(&w.bias0).enumerate().take(8) {
        let [mut a0, mut a1, mut a2, mut a3] = [*bias; STEPS];
        for (taps, v) in rows.iter().zip(&inputs) {
            let [x0, x1, x2, x3] = v.map(F8::splat);
            for j in 0..2 {
                let [k0, k1, k2] = [taps[0][j], taps[1][j], taps[2][j]];
                a0[j] = a0[j].fma::<FUSED>(k1, x0).fma::<FUSED>(k2, x1);
                a1[j] = a1[j].fma::<FUSED>(k0, x0).fma::<FUSED>(k1, x1).fma::<FUSED>(k2, x2);
                a2[j] = a2[j].fma::<FUSED>(k0, x1).fma::<FUSED>(k1, x2).fma::<FUSED>(k2, x3);
                a3[j] = a3[j].fma::<FUSED>(k0, x2).fma::<FUSED>(k1, x3);
            }
        }
        for (t, a) in [a0, a1, a2, a3].iter().enumerate() {
            store(&mut out[t], 2 * block, relu(a[0]));
            store(&mut out[t], 2 * block + 1, relu(a[1]));
        }
    }
    out
}

#[inline(always)]
fn conv1<const FUSED: bool>(w: &SileroWeights, x: &[[f32; 128]; STEPS]) -> [[f32; 64]; 2] {
    let mut inputs = [[0.0f32; STEPS]; 128];
    for (c, v) in inputs.iter_mut().enumerate() {
        *v = [x[0][c], x[1][c], x[2][c], x[3][c]];
    }
    let mut out = [[0.0; 64]; 2];
    for (block, (rows, bias)) in w.conv1.as_chunks::<128>().0.iter().zip(&w.bias1).enumerate().take(2) {
        let [mut a0, mut a1] = [*bias; 2];
        for (taps, v) in rows.iter().zip(&inputs) {
            let [x0, x1, x2, x3] = v.map(F8::splat);
            for j in 0..4 {
                let [k0, k1, k2] = [taps[0][j], taps[1][j], taps[2][j]];
                a0[j] = a0[j].fma::<FUSED>(k1, x0).fma::<FUSED>(k2, x1);
                a1[j] = a1[j].fma::<FUSED>(k0, x1).fma::<FUSED>(k1, x2).fma::<FUSED>(k2, x3);
            }
        }
        for j in 0..4 {
            store(&mut out[0], 4 * block + j, relu(a0[j]));
            store(&mut out[1], 4 * block + j, relu(a1[j]));
        }
    }
    out
}

#[inline(always)]
fn conv2<const FUSED: bool>(w: &SileroWeights, x: &[[f32; 64]; 2]) -> [f32; 64] {
    let mut acc = w.bias2;
    for ((taps, x0), x1) in w.conv2.iter().zip(&x[0]).zip(&x[1]) {
        for j in 0..8 {
            acc[j] = acc[j].fma::<FUSED>(taps[0][j], F8::splat(*x0)).fma::<FUSED>(taps[1][j], F8::splat(*x1));
        }
    }
    let mut out = [0.0; 64];
    for (block, v) in acc.into_iter().enumerate() {
        store(&mut out, block, relu(v));
    }
    out
}

#[inline(always)]
fn conv3<const FUSED: bool>(w: &SileroWeights, x: &[f32; 64], xh: &mut [f32; 256]) {
    for ((rows, bias), out) in w.conv3.as_chunks::<64>().0.iter().zip(&w.bias3).zip(xh.as_chunks_mut::<64>().0) {
        let acc = product::<FUSED>(*bias, rows, x);
        for (o, v) in out.as_chunks_mut::<8>().0.iter_mut().zip(acc) {
            *o = relu(v).0;
        }
    }
}

/// One LSTM cell (gates i, f, g, o) and the logistic output over the rectified hidden state.
#[inline(always)]
fn lstm<const FUSED: bool>(w: &SileroWeights, state: &mut State) -> f32 {
    let mut gates = [[F8::default(); 8]; 8];
    for ((rows, bias), out) in w.lstm.as_chunks::<256>().0.iter().zip(&w.bias_lstm).zip(&mut gates) {
        *out = product::<FUSED>(*bias, rows, &state.xh);
    }
    let mut sum = F8::default();
    for b in 0..16 {
        let gate = |g: usize| gates[2 * g + b / 8][b % 8];
        let (i, f, g, o) = (gate(0), gate(1), gate(2), gate(3));
        let mut h = F8::default();
        for lane in 0..8 {
            let cell = sigmoid::<FUSED>(f.0[lane]) * state.cell[b].0[lane]
                + sigmoid::<FUSED>(i.0[lane]) * tanh::<FUSED>(g.0[lane]);
            state.cell[b].0[lane] = cell;
            h.0[lane] = sigmoid::<FUSED>(o.0[lane]) * tanh::<FUSED>(cell);
        }
        state.xh[128 + 8 * b..136 + 8 * b].copy_from_slice(&h.0);
        sum = sum.fma::<FUSED>(relu(h), w.out[b]);
    }
    sigmoid::<FUSED>(sum.0.iter().sum::<f32>() + w.out_bias)
}

/// `bias + rowsᵀ · x` for 64 outputs in eight registers.
#[inline(always)]
fn product<const FUSED: bool>(bias: [F8; 8], rows: &[[F8; 8]], x: &[f32]) -> [F8; 8] {
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = bias;
    for (row, x) in rows.iter().zip(x) {
        let x = F8::splat(*x);
        a = a.fma::<FUSED>(row[0], x);
        b = b.fma::<FUSED>(row[1], x);
        c = c.fma::<FUSED>(row[2], x);
        d = d.fma::<FUSED>(row[3], x);
        e = e.fma::<FUSED>(row[4], x);
        f = f.fma::<FUSED>(row[5], x);
        g = g.fma::<FUSED>(row[6], x);
        h = h.fma::<FUSED>(row[7], x);
    }
    [a, b, c, d, e, f, g, h]
}

/// Writes a register to block `block` of a row of activations.
#[inline(always)]
fn store(row: &mut [f32], block: usize, v: F8) {
    row[8 * block..8 * block + 8].copy_from_slice(&v.0);
}

#[inline(always)]
fn exp<const FUSED: bool>(x: f32) -> f32 {
    // 2^n · e^r with |r| ≤ ln 2 / 2; the magic number rounds to the nearest integer and leaves it in the low bits.
    const MAGIC: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 87.0);
    let shifted = x * std::f32::consts::LOG2_E + MAGIC;
    let n = shifted - MAGIC;
    let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let mut p = 1.0 / 720.0;
    for c in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = if FUSED { f32::mul_add(p, r, c) } else { p * r + c };
    }
    let scale = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    p * scale
}

#[inline(always)]
fn sigmoid<const FUSED: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FUSED>(-x))
}

#[inline(always)]
fn tanh<const FUSED: bool>(x: f32) -> f32 {
    2.0 / (1.0 + exp::<FUSED>(-2.0 * x)) - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::testing;

    const GOLDEN: &str = include_str!("../../fixtures/silero_golden.txt");

    /// The signal of `fixtures/silero_golden.py`, sample by sample.
    fn synthetic(n: i64) -> Vec<i16> {
        let (mut state, mut phase) = (12345u32, 0);
        let [mut a1, mut a2, mut b1, mut b2] = [0i64; 4];
        (0..n)
            .map(|i| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let noise = i64::from(state >> 16) - 32768;
                let voiced = (i / 1600) % 4 != 3 && i < n * 3 / 4;
                let period = 60 + (i / 400) % 17;
                phase += 1;
                let mut pulse = 0;
                if phase >= period {
                    phase = 0;
                    pulse = if voiced { 12000 } else { 0 };
                }
                let a = pulse + ((15655 * a1) >> 13) - ((7700 * a2) >> 13) - (a1 >> 4);
                (a2, a1) = (a1, a);
                let b = pulse + ((4500 * b1) >> 13) - ((7500 * b2) >> 13);
                (b2, b1) = (b1, b);
                ((a >> 3) + (b >> 2) + (noise >> 8)).clamp(-32768, 32767) as i16
            })
            .collect()
    }

    fn golden(name: &str) -> Vec<f32> {
        let line = GOLDEN.lines().find_map(|l| l.strip_prefix(name)).expect("the signal is in the list");
        line.split_whitespace().map(|p| p.parse().expect("a probability")).collect()
    }

    fn probabilities(silero: &mut Silero, pcm: &[i16]) -> Vec<f32> {
        pcm.as_chunks::<WINDOW>().0.iter().map(|w| silero.process(&w.map(|s| f32::from(s) / 32768.0))).collect()
    }

    fn worst(got: &[f32], want: &[f32]) -> f32 {
        assert!(got.len() >= want.len() && want.len() > 100, "{} {}", got.len(), want.len());
        got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn probabilities_equal_onnxruntimes_on_a_synthetic_voice() {
        let Some(weights) = testing::weights() else { return };
        let mut silero = Silero::new(weights);
        let error = worst(&probabilities(&mut silero, &synthetic(32000)), &golden("synthetic"));
        println!("worst difference {error:e}");
        assert!(error < 1e-3, "{error}");
        silero.reset();
        assert!(worst(&probabilities(&mut silero, &synthetic(32000)), &golden("synthetic")) < 1e-3);
    }

    #[test]
    fn probabilities_equal_onnxruntimes_on_a_recorded_greeting() {
        let Some(weights) = testing::weights() else { return };
        let Some(pcm) = testing::dev_audio("calls/vm_003.wav") else { return };
        let error = worst(&probabilities(&mut Silero::new(weights), &pcm), &golden("calls/vm_003.wav"));
        println!("worst difference {error:e}");
        assert!(error < 1e-3, "{error}");
    }

    #[test]
    fn the_plain_build_and_the_vector_build_agree() {
        let weights = Arc::new(SileroWeights::from_onnx(&super::super::onnx::tests::small_model()).expect("a model"));
        let mut fast = Silero::new(weights.clone());
        let mut state = State::new();
        for window in synthetic(12_800).as_chunks::<WINDOW>().0 {
            let window = window.map(|s| f32::from(s) / 32768.0);
            let plain = Step { weights: &weights, state: &mut state, window: &window }.run::<false>();
            assert!((fast.process(&window) - plain).abs() < 1e-5);
        }
    }

    #[test]
    fn activations_are_close_to_the_exact_ones() {
        for i in -2000..2000 {
            let x = i as f32 / 50.0;
            let exact = 1.0 / (1.0 + f64::from(-x).exp());
            assert!((f64::from(sigmoid::<true>(x)) - exact).abs() < 2e-7, "{x}");
            assert!((f64::from(tanh::<false>(x)) - f64::from(x).tanh()).abs() < 4e-7, "{x}");
        }
        assert_eq!((sigmoid::<true>(1e9), sigmoid::<true>(-1e9) < 1e-30), (1.0, true));
    }

    #[test]
    #[ignore = "prints a time; run alone"]
    #[expect(clippy::disallowed_methods, reason = "measures wall time")]
    fn time_of_a_window() {
        let Some(weights) = testing::weights() else { return };
        let mut silero = Silero::new(weights);
        let pcm = synthetic(256 * 500);
        let mut best = f64::MAX;
        for _ in 0..7 {
            let start = std::time::Instant::now();
            std::hint::black_box(probabilities(&mut silero, &pcm));
            best = best.min(start.elapsed().as_secs_f64() / 500.0);
        }
        println!("silero: {:.1} us a window of 32 ms (best of 7 runs of 500)", best * 1e6);
    }
}
