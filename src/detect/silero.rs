//! Silero VAD v6 at 8 kHz, written out: 32 ms windows in, a speech probability out, state carried between.
//!
//! 256 samples at a time flow in (floats in −1…1), one probability flows out. No clock, no allocation after
//! construction; the weights (0.8 MB, packed for 8-lane vectors) are shared by all legs. The network, from the
//! model file: 32 samples of context, right-reflected padding by 32, a 128-point DFT every 64 samples, four
//! convolutions, an LSTM cell and a logistic output. Kernels work on blocks of eight lanes, compiled once with
//! AVX2 + FMA and once for any machine; the choice is made at run time.

use std::sync::Arc;

#[cfg(target_arch = "x86_64")]
use pulp::x86::V3;
use pulp::{Simd, WithSimd};

pub use super::onnx::WeightsError;

/// Samples in one window.
pub const WINDOW: usize = 256;
const CONTEXT: usize = 32;
const BINS: usize = 65;
const STEPS: usize = 4;

/// Eight weights or gates, aligned as one vector.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
#[repr(C, align(32))]
struct F8([f32; 8]);

impl F8 {
    #[inline(always)]
    fn map(mut self, f: impl Fn(f32) -> f32) -> Self {
        for v in &mut self.0 {
            *v = f(*v);
        }
        self
    }
}

/// Eight-lane arithmetic of one machine.
trait Lanes: Copy {
    type V: Copy;
    fn load(self, v: &F8) -> Self::V;
    fn store(self, v: Self::V) -> F8;
    fn splat(self, v: f32) -> Self::V;
    /// `acc + a · b`.
    fn fma(self, acc: Self::V, a: Self::V, b: Self::V) -> Self::V;
}

/// Any machine: the compiler's own vectors, and never a library call for a fused product.
#[derive(Clone, Copy)]
struct Plain;

const FUSED: bool = cfg!(target_arch = "aarch64");

impl Lanes for Plain {
    type V = F8;
    #[inline(always)]
    fn load(self, v: &F8) -> F8 {
        *v
    }
    #[inline(always)]
    fn store(self, v: F8) -> F8 {
        v
    }
    #[inline(always)]
    fn splat(self, v: f32) -> F8 {
        F8([v; 8])
    }
    #[inline(always)]
    fn fma(self, mut acc: F8, a: F8, b: F8) -> F8 {
        for i in 0..8 {
            acc.0[i] = if FUSED { a.0[i].mul_add(b.0[i], acc.0[i]) } else { a.0[i] * b.0[i] + acc.0[i] };
        }
        acc
    }
}

#[cfg(target_arch = "x86_64")]
impl Lanes for V3 {
    type V = pulp::f32x8;
    #[inline(always)]
    fn load(self, v: &F8) -> Self::V {
        pulp::cast(v.0)
    }
    #[inline(always)]
    fn store(self, v: Self::V) -> F8 {
        F8(pulp::cast(v))
    }
    #[inline(always)]
    fn splat(self, v: f32) -> Self::V {
        self.splat_f32x8(v)
    }
    #[inline(always)]
    fn fma(self, acc: Self::V, a: Self::V, b: Self::V) -> Self::V {
        self.mul_add_f32x8(a, b, acc)
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
                (0..BINS).map(|c| [0, 1, 2].map(|k| pack(|o| w0[((16 * block + o) * BINS + c) * 3 + k]))),
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
                pack(|g| {
                    if r < 128 {
                        ih[(64 * block + g) * 128 + r]
                    } else {
                        hh[(64 * block + g) * 128 + r - 128]
                    }
                })
            }));
        }
        Ok(packed)
    }
}

/// One stream's detector: the network and its carried state (about 6 KB).
#[derive(Clone)]
pub struct Silero {
    weights: Arc<SileroWeights>,
    #[cfg(target_arch = "x86_64")]
    avx2: Option<V3>,
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
        Self {
            weights,
            #[cfg(target_arch = "x86_64")]
            avx2: V3::try_new(),
            state: State::new(),
        }
    }

    /// The probability that the window holds speech (0 to 1), given the stream so far. Samples are in −1…1.
    pub fn process(&mut self, window: &[f32; WINDOW]) -> f32 {
        let (weights, state) = (&*self.weights, &mut self.state);
        #[cfg(target_arch = "x86_64")]
        if let Some(lanes) = self.avx2 {
            return Simd::vectorize(lanes, Step { weights, state, window, lanes });
        }
        Step { weights, state, window, lanes: Plain }.run()
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

struct Step<'a, L> {
    weights: &'a SileroWeights,
    state: &'a mut State,
    window: &'a [f32; WINDOW],
    lanes: L,
}

impl<L: Lanes> WithSimd for Step<'_, L> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f32 {
        self.run()
    }
}

impl<L: Lanes> Step<'_, L> {
    #[inline(always)]
    fn run(self) -> f32 {
        let Step { weights, state, window, lanes } = self;
        let mut padded = [0.0; CONTEXT + WINDOW + 32];
        padded[..CONTEXT].copy_from_slice(&state.context);
        padded[CONTEXT..CONTEXT + WINDOW].copy_from_slice(window);
        for i in 0..32 {
            padded[288 + i] = padded[286 - i];
        }
        state.context.copy_from_slice(&window[WINDOW - CONTEXT..]);

        let spectrum = stft(lanes, weights, &padded);
        let a = conv0(lanes, weights, &spectrum);
        let b = conv1(lanes, weights, &a);
        let c = conv2(lanes, weights, &b);
        conv3(lanes, weights, &c, &mut state.xh);
        lstm(lanes, weights, state)
    }
}

/// Magnitudes by step and bin (bins 65–71 are zero padding).
#[inline(always)]
fn stft<L: Lanes>(l: L, w: &SileroWeights, padded: &[f32; 320]) -> [[f32; 72]; STEPS] {
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
        let [mut re, mut im] = [[l.splat(0.0); STEPS]; 2];
        for ([cos, sin], f) in rows.iter().zip(&folded) {
            let (cos, sin) = (l.load(cos), l.load(sin));
            for t in 0..STEPS {
                re[t] = l.fma(re[t], cos, l.splat(f[t][0]));
                im[t] = l.fma(im[t], sin, l.splat(f[t][1]));
            }
        }
        for t in 0..STEPS {
            let (re, im) = (l.store(re[t]), l.store(im[t]));
            let mut magnitude = F8::default();
            for lane in 0..8 {
                let (r, i) = (re.0[lane], im.0[lane]);
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
fn conv0<L: Lanes>(l: L, w: &SileroWeights, x: &[[f32; 72]; STEPS]) -> [[f32; 128]; STEPS] {
    let mut inputs = [[0.0f32; STEPS]; BINS];
    for (c, v) in inputs.iter_mut().enumerate() {
        *v = [x[0][c], x[1][c], x[2][c], x[3][c]];
    }
    let mut out = [[0.0; 128]; STEPS];
    for (block, (rows, bias)) in w.conv0.as_chunks::<BINS>().0.iter().zip(&w.bias0).enumerate().take(8) {
        let [mut a0, mut a1, mut a2, mut a3] = [load_all(l, bias); STEPS];
        for (taps, v) in rows.iter().zip(&inputs) {
            let (x0, x1, x2, x3) = (l.splat(v[0]), l.splat(v[1]), l.splat(v[2]), l.splat(v[3]));
            for j in 0..2 {
                let [k0, k1, k2] = [l.load(&taps[0][j]), l.load(&taps[1][j]), l.load(&taps[2][j])];
                a0[j] = l.fma(l.fma(a0[j], k1, x0), k2, x1);
                a1[j] = l.fma(l.fma(l.fma(a1[j], k0, x0), k1, x1), k2, x2);
                a2[j] = l.fma(l.fma(l.fma(a2[j], k0, x1), k1, x2), k2, x3);
                a3[j] = l.fma(l.fma(a3[j], k0, x2), k1, x3);
            }
        }
        for (t, a) in [a0, a1, a2, a3].iter().enumerate() {
            store(&mut out[t], 2 * block, relu(l.store(a[0])));
            store(&mut out[t], 2 * block + 1, relu(l.store(a[1])));
        }
    }
    out
}

#[inline(always)]
fn conv1<L: Lanes>(l: L, w: &SileroWeights, x: &[[f32; 128]; STEPS]) -> [[f32; 64]; 2] {
    let mut inputs = [[0.0f32; STEPS]; 128];
    for (c, v) in inputs.iter_mut().enumerate() {
        *v = [x[0][c], x[1][c], x[2][c], x[3][c]];
    }
    let mut out = [[0.0; 64]; 2];
    for (block, (rows, bias)) in w.conv1.as_chunks::<128>().0.iter().zip(&w.bias1).enumerate().take(2) {
        let [mut a0, mut a1] = [load_all(l, bias); 2];
        for (taps, v) in rows.iter().zip(&inputs) {
            let (x0, x1, x2, x3) = (l.splat(v[0]), l.splat(v[1]), l.splat(v[2]), l.splat(v[3]));
            for j in 0..4 {
                let [k0, k1, k2] = [l.load(&taps[0][j]), l.load(&taps[1][j]), l.load(&taps[2][j])];
                a0[j] = l.fma(l.fma(a0[j], k1, x0), k2, x1);
                a1[j] = l.fma(l.fma(l.fma(a1[j], k0, x1), k1, x2), k2, x3);
            }
        }
        for j in 0..4 {
            store(&mut out[0], 4 * block + j, relu(l.store(a0[j])));
            store(&mut out[1], 4 * block + j, relu(l.store(a1[j])));
        }
    }
    out
}

#[inline(always)]
fn conv2<L: Lanes>(l: L, w: &SileroWeights, x: &[[f32; 64]; 2]) -> [f32; 64] {
    let mut acc = load_all(l, &w.bias2);
    for ((taps, x0), x1) in w.conv2.iter().zip(&x[0]).zip(&x[1]) {
        let (x0, x1) = (l.splat(*x0), l.splat(*x1));
        for j in 0..8 {
            acc[j] = l.fma(l.fma(acc[j], l.load(&taps[0][j]), x0), l.load(&taps[1][j]), x1);
        }
    }
    let mut out = [0.0; 64];
    for (block, v) in acc.into_iter().enumerate() {
        store(&mut out, block, relu(l.store(v)));
    }
    out
}

#[inline(always)]
fn conv3<L: Lanes>(l: L, w: &SileroWeights, x: &[f32; 64], xh: &mut [f32; 256]) {
    for ((rows, bias), out) in
        w.conv3.as_chunks::<64>().0.iter().zip(&w.bias3).zip(xh.as_chunks_mut::<64>().0)
    {
        let acc = product(l, *bias, rows, x);
        for (o, v) in out.as_chunks_mut::<8>().0.iter_mut().zip(acc) {
            *o = relu(v).0;
        }
    }
}

/// One LSTM cell (gates i, f, g, o) and the logistic output over the rectified hidden state.
#[inline(always)]
fn lstm<L: Lanes>(l: L, w: &SileroWeights, state: &mut State) -> f32 {
    let mut gates = [[F8::default(); 8]; 8];
    for ((rows, bias), out) in w.lstm.as_chunks::<256>().0.iter().zip(&w.bias_lstm).zip(&mut gates) {
        *out = product(l, *bias, rows, &state.xh);
    }
    let mut sum = l.splat(0.0);
    for b in 0..16 {
        let gate = |g: usize| gates[2 * g + b / 8][b % 8];
        let (i, f, g, o) = (gate(0), gate(1), gate(2), gate(3));
        let (i, f, o) = (sigmoid8(l, i), sigmoid8(l, f), sigmoid8(l, o));
        let g = tanh8(l, g);
        let mut cell = F8::default();
        for lane in 0..8 {
            cell.0[lane] = f.0[lane] * state.cell[b].0[lane] + i.0[lane] * g.0[lane];
        }
        state.cell[b] = cell;
        let mut h = tanh8(l, cell);
        for lane in 0..8 {
            h.0[lane] *= o.0[lane];
        }
        state.xh[128 + 8 * b..136 + 8 * b].copy_from_slice(&h.0);
        sum = l.fma(sum, l.load(&relu(h)), l.load(&w.out[b]));
    }
    sigmoid(l, l.store(sum).0.iter().sum::<f32>() + w.out_bias)
}

/// `bias + rowsᵀ · x` for 64 outputs in eight registers.
#[inline(always)]
fn product<L: Lanes>(l: L, bias: [F8; 8], rows: &[[F8; 8]], x: &[f32]) -> [F8; 8] {
    let mut acc = load_all(l, &bias);
    for (row, x) in rows.iter().zip(x) {
        let x = l.splat(*x);
        for j in 0..8 {
            acc[j] = l.fma(acc[j], l.load(&row[j]), x);
        }
    }
    let mut out = [F8::default(); 8];
    for j in 0..8 {
        out[j] = l.store(acc[j]);
    }
    out
}

/// Registers from packed blocks. A loop, because `array::map` is not always inlined into the vector build.
#[inline(always)]
fn load_all<L: Lanes, const N: usize>(l: L, blocks: &[F8; N]) -> [L::V; N] {
    let mut out = [l.splat(0.0); N];
    for j in 0..N {
        out[j] = l.load(&blocks[j]);
    }
    out
}

/// Writes a register to block `block` of a row of activations.
#[inline(always)]
fn store(row: &mut [f32], block: usize, v: F8) {
    row[8 * block..8 * block + 8].copy_from_slice(&v.0);
}

/// `e^x` in each lane: 2^n · e^r with |r| ≤ ln 2 / 2, to about 1e-7.
#[inline(always)]
fn exp8<L: Lanes>(l: L, x: F8) -> F8 {
    // Adding the magic number rounds to the nearest integer and leaves it in the low bits.
    const MAGIC: f32 = 12_582_912.0;
    let x = x.map(|x| x.clamp(-87.0, 87.0));
    let shifted = l.store(l.fma(l.splat(MAGIC), l.load(&x), l.splat(std::f32::consts::LOG2_E)));
    let n = l.load(&shifted.map(|s| s - MAGIC));
    let r = l.fma(l.fma(l.load(&x), n, l.splat(-0.693_359_4)), n, l.splat(2.121_944_4e-4));
    let mut p = l.splat(1.0 / 720.0);
    for c in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = l.fma(l.splat(c), p, r);
    }
    let mut p = l.store(p);
    for lane in 0..8 {
        p.0[lane] *= f32::from_bits((shifted.0[lane].to_bits() << 23).wrapping_add(0x3f80_0000));
    }
    p
}

#[inline(always)]
fn sigmoid8<L: Lanes>(l: L, x: F8) -> F8 {
    exp8(l, x.map(|x| -x)).map(|e| 1.0 / (1.0 + e))
}

#[inline(always)]
fn tanh8<L: Lanes>(l: L, x: F8) -> F8 {
    exp8(l, x.map(|x| -2.0 * x)).map(|e| 2.0 / (1.0 + e) - 1.0)
}

#[inline(always)]
fn sigmoid<L: Lanes>(l: L, x: f32) -> f32 {
    sigmoid8(l, F8([x; 8])).0[0]
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
        pcm.as_chunks::<WINDOW>()
            .0
            .iter()
            .map(|w| silero.process(&w.map(|s| f32::from(s) / 32768.0)))
            .collect()
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
        let weights =
            Arc::new(SileroWeights::from_onnx(&super::super::onnx::small_model()).expect("a model"));
        let mut fast = Silero::new(weights.clone());
        let mut state = State::new();
        for window in synthetic(12_800).as_chunks::<WINDOW>().0 {
            let window = window.map(|s| f32::from(s) / 32768.0);
            let plain = Step { weights: &weights, state: &mut state, window: &window, lanes: Plain }.run();
            assert!((fast.process(&window) - plain).abs() < 1e-5);
        }
    }

    #[test]
    fn activations_are_close_to_the_exact_ones() {
        for i in -2000..2000 {
            let x = i as f32 / 50.0;
            let exact = 1.0 / (1.0 + f64::from(-x).exp());
            assert!((f64::from(sigmoid(Plain, x)) - exact).abs() < 2e-7, "{x}");
            assert!((f64::from(tanh8(Plain, F8([x; 8])).0[0]) - f64::from(x).tanh()).abs() < 4e-7, "{x}");
        }
        assert_eq!((sigmoid(Plain, 1e9), sigmoid(Plain, -1e9) < 1e-30), (1.0, true));
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
