//! The loops between the matrix products, compiled for AVX2 where the processor has it.
//!
//! Each public function dispatches once and runs a body of plain code that the compiler vectorises; sums go through
//! [`Lanes`], since it may not reorder them by itself. No fused multiply-add: without the instruction it is a call.

use pulp::Arch;

/// Eight partial sums that live in one register.
#[derive(Clone, Copy)]
#[repr(align(32))]
struct Lanes([f32; 8]);

impl Lanes {
    #[inline(always)]
    fn load(x: &[f32; 8]) -> Self {
        Self(*x)
    }

    #[inline(always)]
    fn zip(self, rhs: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let mut out = self;
        for (a, b) in out.0.iter_mut().zip(rhs.0) {
            *a = f(*a, b);
        }
        out
    }

    #[inline(always)]
    fn fold(self, f: impl Fn(f32, f32) -> f32) -> f32 {
        let x = self.0;
        f(f(f(x[0], x[4]), f(x[1], x[5])), f(f(x[2], x[6]), f(x[3], x[7])))
    }
}

#[inline(always)]
fn reduce(x: &[f32], start: f32, f: impl Fn(f32, f32) -> f32 + Copy) -> f32 {
    let (blocks, rest) = x.as_chunks::<32>();
    let mut acc = [Lanes([start; 8]); 4];
    for block in blocks {
        let (eights, _) = block.as_chunks::<8>();
        for i in 0..4 {
            acc[i] = acc[i].zip(Lanes::load(&eights[i]), f);
        }
    }
    let lanes = acc[0].zip(acc[1], f).zip(acc[2].zip(acc[3], f), f);
    rest.iter().fold(lanes.fold(f), |a, b| f(a, *b))
}

#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a_blocks, a_rest) = a.as_chunks::<32>();
    let (b_blocks, b_rest) = b.as_chunks::<32>();
    let mut acc = [Lanes([0.0; 8]); 4];
    for (x, y) in a_blocks.iter().zip(b_blocks) {
        let ((x, _), (y, _)) = (x.as_chunks::<8>(), y.as_chunks::<8>());
        for i in 0..4 {
            acc[i] = acc[i].zip(Lanes::load(&x[i]).zip(Lanes::load(&y[i]), |p, q| p * q), |p, q| p + q);
        }
    }
    let add = |p: f32, q: f32| p + q;
    let lanes = acc[0].zip(acc[1], add).zip(acc[2].zip(acc[3], add), add);
    a_rest.iter().zip(b_rest).fold(lanes.fold(add), |s, (p, q)| s + p * q)
}

/// Adding and subtracting this rounds to the nearest integer: 1.5 * 2^23 leaves no fraction bits.
const ROUND: f32 = 12_582_912.0;

/// e^x to about 1e-7 relative: 2^n by exponent bits times a polynomial over half an octave (Cephes `expf`).
#[inline(always)]
#[allow(clippy::excessive_precision)]
fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 87.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_375 + n * 2.121_944_4e-4;
    let mut p = 1.987_569_15e-4;
    p = p * r + 1.398_199_95e-3;
    p = p * r + 8.333_451_9e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_55e-1;
    p = p * r + 5.000_000_1e-1;
    p = p * r * r + r + 1.0;
    p * f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23))
}

/// GELU in its tanh form, in place: `x / (1 + e^(-2u))` with `u = sqrt(2/pi) (x + 0.044715 x^3)`.
pub(super) fn gelu(values: &mut [f32]) {
    #[inline(always)]
    fn body(values: &mut [f32]) {
        for v in values {
            let x = *v;
            *v = x / (1.0 + exp(-1.595_769 * (x + 0.044_715 * x * x * x)));
        }
    }
    Arch::new().dispatch(
        #[inline(always)]
        || body(values),
    );
}

/// Layer normalisation of each row of `input` into `output`, epsilon 1e-5.
pub(super) fn layer_norm(input: &[f32], output: &mut [f32], gamma: &[f32], beta: &[f32]) {
    #[inline(always)]
    fn body(input: &[f32], output: &mut [f32], gamma: &[f32], beta: &[f32]) {
        let width = gamma.len();
        for (x, y) in input.chunks_exact(width).zip(output.chunks_exact_mut(width)) {
            let mean = reduce(x, 0.0, |a, b| a + b) / width as f32;
            for (y, x) in y.iter_mut().zip(x) {
                *y = x - mean;
            }
            let variance = dot(y, y) / width as f32;
            let scale = 1.0 / (variance + 1e-5).sqrt();
            for ((y, g), b) in y.iter_mut().zip(gamma).zip(beta) {
                *y = *y * scale * g + b;
            }
        }
    }
    Arch::new().dispatch(
        #[inline(always)]
        || body(input, output, gamma, beta),
    );
}

/// Softmax of each row of `width` values, in place.
pub(super) fn softmax(rows: &mut [f32], width: usize) {
    #[inline(always)]
    fn body(rows: &mut [f32], width: usize) {
        for row in rows.chunks_exact_mut(width) {
            let top = reduce(row, f32::NEG_INFINITY, |a, b| if a > b { a } else { b });
            for v in row.iter_mut() {
                *v = exp(*v - top);
            }
            let scale = 1.0 / reduce(row, 0.0, |a, b| a + b);
            for v in row {
                *v *= scale;
            }
        }
    }
    Arch::new().dispatch(
        #[inline(always)]
        || body(rows, width),
    );
}

/// The probability of item `index` under the softmax of `logits`.
pub(super) fn probability(logits: &[f32], index: usize) -> f32 {
    #[inline(always)]
    fn body(logits: &[f32], index: usize) -> f32 {
        let top = reduce(logits, f32::NEG_INFINITY, |a, b| if a > b { a } else { b });
        let mut sum = 0.0;
        let mut scratch = [0.0_f32; 64];
        for block in logits.chunks(64) {
            for (s, l) in scratch.iter_mut().zip(block) {
                *s = exp(l - top);
            }
            sum += reduce(&scratch[..block.len()], 0.0, |a, b| a + b);
        }
        exp(logits[index] - top) / sum
    }
    Arch::new().dispatch(
        #[inline(always)]
        || body(logits, index),
    )
}

/// `out[r] = values` for each row: a product that keeps its output then adds to the bias.
pub(super) fn fill_rows(out: &mut [f32], values: &[f32]) {
    for row in out.chunks_exact_mut(values.len()) {
        row.copy_from_slice(values);
    }
}

/// `out[r] += values` for each row.
pub(super) fn add_rows(out: &mut [f32], values: &[f32]) {
    for row in out.chunks_exact_mut(values.len()) {
        for (o, v) in row.iter_mut().zip(values) {
            *o += v;
        }
    }
}

/// Keys and values of attention: rows of `2 * width`, the first half keys.
#[derive(Clone, Copy)]
pub(super) struct KeysValues<'a>(pub(super) &'a [f32]);

/// Attention of one query over `parts` one after the other, `heads` side by side. `scores` holds at least
/// (positions × heads); `query` and `out` are `width` long.
pub(super) fn attend(
    query: &[f32],
    parts: &[KeysValues<'_>],
    heads: usize,
    scores: &mut [f32],
    out: &mut [f32],
) {
    #[inline(always)]
    fn body(q: &[f32], parts: &[KeysValues<'_>], heads: usize, scores: &mut [f32], out: &mut [f32]) {
        let width = q.len();
        let head = width / heads;
        let positions: usize = parts.iter().map(|p| p.0.len() / (2 * width)).sum();
        let scale = 1.0 / (head as f32).sqrt();
        let mut at = 0;
        for part in parts {
            for row in part.0.chunks_exact(2 * width) {
                for (h, (q, k)) in q.chunks_exact(head).zip(row.chunks_exact(head)).enumerate() {
                    scores[h * positions + at] = dot(q, k) * scale;
                }
                at += 1;
            }
        }
        for row in scores[..heads * positions].chunks_exact_mut(positions) {
            let top = reduce(row, f32::NEG_INFINITY, |a, b| if a > b { a } else { b });
            for v in row.iter_mut() {
                *v = exp(*v - top);
            }
            let scale = 1.0 / reduce(row, 0.0, |a, b| a + b);
            for v in row {
                *v *= scale;
            }
        }
        out.fill(0.0);
        let mut at = 0;
        for part in parts {
            for row in part.0.chunks_exact(2 * width) {
                for (h, (o, v)) in out.chunks_exact_mut(head).zip(row[width..].chunks_exact(head)).enumerate()
                {
                    let p = scores[h * positions + at];
                    for (o, v) in o.iter_mut().zip(v) {
                        *o += p * v;
                    }
                }
                at += 1;
            }
        }
    }
    Arch::new().dispatch(
        #[inline(always)]
        || body(query, parts, heads, scores, out),
    );
}

/// A weight matrix as 8-bit integers with a scale per row; [out, in].
#[derive(Clone, Debug)]
pub(super) struct Int8Rows {
    values: Vec<i8>,
    scales: Vec<f32>,
    width: usize,
}

impl Int8Rows {
    /// An empty matrix for `rows` rows of `width`.
    pub(super) fn with_capacity(rows: usize, width: usize) -> Self {
        Self { values: Vec::with_capacity(rows * width), scales: Vec::with_capacity(rows), width }
    }

    /// Appends a row, rounded to 8 bits.
    pub(super) fn push(&mut self, row: &[f32]) {
        let top = row.iter().fold(0.0_f32, |a, v| a.max(v.abs()));
        let scale = if top > 0.0 { top / 127.0 } else { 1.0 };
        self.values.extend(row.iter().map(|v| (v / scale + ROUND - ROUND) as i8));
        self.scales.push(scale);
    }

    /// Number of rows.
    pub(super) fn rows(&self) -> usize {
        self.scales.len()
    }

    /// Length of a row.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Row `row` as real numbers into `out`.
    pub(super) fn row(&self, row: usize, out: &mut [f32]) {
        let values = &self.values[row * self.width..(row + 1) * self.width];
        for (o, v) in out.iter_mut().zip(values) {
            *o = f32::from(*v) * self.scales[row];
        }
    }

    /// `out[o] = rows[o] · x` (+ `bias[o]`), or added to `out` when `keep`. `x` is rounded to 12 bits with one
    /// scale: sums of 1536 products with 8-bit weights still fit 32 bits, and the error is that of the weights alone.
    pub(super) fn multiply(
        &self,
        x: &[f32],
        bias: Option<&[f32]>,
        keep: bool,
        ints: &mut [i16],
        out: &mut [f32],
    ) {
        const TOP: f32 = 2047.0;
        #[inline(always)]
        fn body(m: &Int8Rows, x: &[i16], scale: f32, keep: bool, out: &mut [f32]) {
            for ((row, row_scale), out) in m.values.chunks_exact(m.width).zip(&m.scales).zip(out) {
                let mut sum = 0_i32;
                for (w, x) in row.iter().zip(x) {
                    // Wrapping, so that builds with overflow checks vectorise too; it cannot overflow.
                    sum = sum.wrapping_add(i32::from(*w).wrapping_mul(i32::from(*x)));
                }
                let value = sum as f32 * row_scale * scale;
                *out = if keep { *out + value } else { value };
            }
        }
        let top = x.iter().fold(0.0_f32, |a, v| a.max(v.abs()));
        let scale = if top > 0.0 { top / TOP } else { 1.0 };
        let inverse = 1.0 / scale;
        let ints = &mut ints[..x.len()];
        for (i, v) in ints.iter_mut().zip(x) {
            // A NaN becomes 0: `as` saturates.
            *i = (v * inverse + ROUND - ROUND) as i16;
        }
        Arch::new().dispatch(
            #[inline(always)]
            || body(self, ints, scale, keep, out),
        );
        if let Some(bias) = bias {
            for (o, b) in out.iter_mut().zip(bias) {
                *o += b;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(n: usize, seed: u32) -> Vec<f32> {
        let mut x = seed;
        (0..n)
            .map(|_| {
                x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (x >> 8) as f32 / 8_388_608.0 - 1.0
            })
            .collect()
    }

    #[test]
    fn exp_is_within_two_parts_in_ten_million() {
        for i in -8700..8700 {
            let x = i as f32 / 100.0;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) / exact - 1.0).abs() < 2e-7, "{x}");
        }
    }

    #[test]
    fn gelu_has_its_known_values() {
        // tanh form: 0.5 x (1 + tanh(0.7978845608 (x + 0.044715 x^3))).
        let mut v = [-3.0, -1.0, 0.0, 0.5, 1.0, 30.0, -30.0];
        gelu(&mut v);
        for (got, expected) in v.iter().zip([-0.003_637, -0.158_808, 0.0, 0.345_714, 0.841_192, 30.0, 0.0]) {
            assert!((got - expected).abs() < 1e-5, "{got} {expected}");
        }
    }

    #[test]
    fn a_normalised_row_has_mean_beta_and_deviation_gamma() {
        let x: Vec<f32> = noise(768, 1).iter().map(|v| v * 5.0 + 3.0).collect();
        let mut y = vec![0.0; 768];
        layer_norm(&x, &mut y, &[2.0; 384], &[0.5; 384]);
        for row in y.chunks(384) {
            let mean: f32 = row.iter().sum::<f32>() / 384.0;
            let deviation = (row.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / 384.0).sqrt();
            assert!((mean - 0.5).abs() < 1e-4 && (deviation - 2.0).abs() < 1e-3, "{mean} {deviation}");
        }
    }

    #[test]
    fn attention_over_two_parts_is_attention_over_their_concatenation() {
        let q = noise(128, 3);
        let kv = noise(256 * 11, 4);
        let (mut scores, mut split, mut whole) = (vec![0.0; 64], vec![0.0; 128], vec![0.0; 128]);
        attend(&q, &[KeysValues(&kv)], 2, &mut scores, &mut whole);
        let (a, b) = kv.split_at(256 * 4);
        attend(&q, &[KeysValues(a), KeysValues(b)], 2, &mut scores, &mut split);
        assert_eq!(whole, split);
        // The first head by hand.
        let s: Vec<f64> = kv
            .chunks(256)
            .map(|r| (0..64).map(|i| f64::from(r[i] * q[i])).sum::<f64>() / 8.0)
            .map(f64::exp)
            .collect();
        let total: f64 = s.iter().sum();
        let first: f64 = s.iter().zip(kv.chunks(256)).map(|(s, r)| s / total * f64::from(r[128])).sum();
        assert!((f64::from(whole[0]) - first).abs() < 1e-5);
    }

    #[test]
    fn an_8_bit_product_is_close_to_the_real_one() {
        let weights = noise(10 * 1536, 5);
        let x: Vec<f32> = noise(1536, 6).iter().map(|v| v * 9.0).collect();
        let mut m = Int8Rows::with_capacity(10, 1536);
        weights.chunks(1536).for_each(|r| m.push(r));
        let mut out = vec![1.0; 10];
        m.multiply(&x, Some(&[2.0; 10]), true, &mut [0; 1536], &mut out);
        for (o, row) in out.iter().zip(weights.chunks(1536)) {
            let exact: f32 = row.iter().zip(&x).map(|(a, b)| a * b).sum();
            assert!((o - exact - 3.0).abs() < 2.0, "{o} {exact}");
        }
        assert_eq!((m.rows(), m.width()), (10, 1536));
    }

    #[test]
    fn the_largest_8_bit_sum_does_not_overflow() {
        let mut m = Int8Rows::with_capacity(1, 1536);
        m.push(&[1.0; 1536]);
        let mut out = [0.0];
        m.multiply(&[1.0; 1536], None, false, &mut [0; 1536], &mut out);
        assert!((out[0] - 1536.0).abs() < 0.1, "{}", out[0]);
    }

    #[test]
    fn probabilities_are_those_of_a_softmax() {
        let logits = noise(1000, 9);
        let sum: f32 = (0..1000).map(|i| probability(&logits, i)).sum();
        assert!((sum - 1.0).abs() < 1e-4);
        let mut row = logits.clone();
        softmax(&mut row, 1000);
        assert!((row[77] - probability(&logits, 77)).abs() < 1e-7);
    }
}
