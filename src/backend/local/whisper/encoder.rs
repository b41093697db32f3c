//! The encoder: a spectrogram in, keys and values for the decoder out, over a shortened window with a *silent tail*.
//!
//! Whisper was trained on 30 s windows and comes apart on shorter ones. So the encoder runs once, when the model is
//! loaded, over 30 s of silence, and each layer's keys and values are kept. An utterance of T positions is then
//! encoded alone, its queries also looking at positions T.. of the kept ones; the decoder does the same. A 4 s
//! utterance costs an eighth of the full window, at the same word error rate.

use super::gemm::{Mat, multiply};
use super::kernels::{KeysValues, add_rows, fill_rows, gelu, layer_norm, softmax};
use super::weights::{EncoderLayer, Linear, MELS, POSITIONS, Weights};

/// Query rows whose scores are held at a time: 96 × 1500 fit the second-level cache.
const BLOCK: usize = 96;

/// Keys and values of 30 s of silence: rows of `2 * width`, keys first.
pub(super) struct SilentTail {
    encoder: Vec<Vec<f32>>,
    decoder: Vec<Vec<f32>>,
}

impl SilentTail {
    /// Positions `from`.. as the decoder's layer `layer` sees them.
    pub(super) fn cross(&self, layer: usize, from: usize, width: usize) -> KeysValues<'_> {
        KeysValues(&self.decoder[layer][from * 2 * width..])
    }
}

/// Buffers of one encoder run. Zeroed pages cost no memory until they are used.
pub(super) struct EncoderBuffers {
    convolved: Vec<f32>,
    x: Vec<f32>,
    normed: Vec<f32>,
    qkv: Vec<f32>,
    hidden: Vec<f32>,
    scores: Vec<f32>,
    /// Keys and values for each decoder layer, [positions, 2 × width].
    cross: Vec<Vec<f32>>,
}

impl EncoderBuffers {
    pub(super) fn new(w: &Weights) -> Self {
        let d = w.width;
        Self {
            // A row of padding in front.
            convolved: vec![0.0; (2 * POSITIONS + 1) * d],
            x: vec![0.0; POSITIONS * d],
            normed: vec![0.0; POSITIONS * d],
            qkv: vec![0.0; POSITIONS * 3 * d],
            hidden: vec![0.0; POSITIONS * 4 * d],
            scores: vec![0.0; BLOCK * POSITIONS],
            cross: vec![vec![0.0; POSITIONS * 2 * d]; w.decoder.len()],
        }
    }

    /// Keys and values of `positions` positions for the decoder's layer `layer`.
    pub(super) fn cross(&self, layer: usize, positions: usize, width: usize) -> KeysValues<'_> {
        KeysValues(&self.cross[layer][..positions * 2 * width])
    }
}

/// `out[rows, bias] = input[rows, k] * weight^T + bias`, plus `out` itself when `keep`.
fn linear(layer: &Linear, rows: usize, input: Mat<'_>, out: &mut [f32], keep: bool) {
    let n = layer.bias.len();
    let k = layer.weight.len() / n;
    let out = &mut out[..rows * n];
    if keep {
        add_rows(out, &layer.bias);
    } else {
        fill_rows(out, &layer.bias);
    }
    multiply((rows, n, k), (out, n), true, 1.0, input, Mat::rows(&layer.weight, k).transposed());
}

/// Encodes `positions` positions of `mel` ([1 + frames + 1, MELS]) and leaves the decoder's keys and values in
/// `b.cross`. `false` when `cancel` said so between layers.
pub(super) fn encode(
    w: &Weights,
    tail: &SilentTail,
    mel: &[f32],
    positions: usize,
    b: &mut EncoderBuffers,
    cancel: &dyn Fn() -> bool,
) -> bool {
    embed(w, mel, positions, b);
    for (n, layer) in w.encoder.iter().enumerate() {
        if cancel() {
            return false;
        }
        layer_forward(w, layer, Some(&tail.encoder[n]), positions, b);
    }
    finish(w, positions, b);
    !cancel()
}

/// Encodes 30 s of silence and keeps every layer's keys and values.
pub(super) fn silent_tail(w: &Weights, mel: &[f32], b: &mut EncoderBuffers) -> SilentTail {
    let d = w.width;
    embed(w, mel, POSITIONS, b);
    let mut encoder = Vec::with_capacity(w.encoder.len());
    for layer in &w.encoder {
        layer_forward(w, layer, None, POSITIONS, b);
        encoder.push(b.qkv.chunks_exact(3 * d).flat_map(|row| &row[d..]).copied().collect());
    }
    finish(w, POSITIONS, b);
    SilentTail { encoder, decoder: b.cross.clone() }
}

/// Two convolutions and the positions. Three frames lie one after the other in memory, so that a convolution is a
/// product with overlapping rows.
fn embed(w: &Weights, mel: &[f32], positions: usize, b: &mut EncoderBuffers) {
    let d = w.width;
    let frames = 2 * positions;
    let convolved = &mut b.convolved[..(frames + 1) * d];
    convolved[..d].fill(0.0);
    linear(&w.conv1, frames, Mat::rows(mel, MELS), &mut convolved[d..], false);
    gelu(&mut convolved[d..]);
    let x = &mut b.x[..positions * d];
    linear(&w.conv2, positions, Mat::rows(convolved, 2 * d), x, false);
    gelu(x);
    for (x, p) in x.iter_mut().zip(&w.positions) {
        *x += p;
    }
}

fn layer_forward(
    w: &Weights,
    layer: &EncoderLayer,
    tail: Option<&[f32]>,
    positions: usize,
    b: &mut EncoderBuffers,
) {
    let d = w.width;
    let x = &mut b.x[..positions * d];
    let normed = &mut b.normed[..positions * d];
    layer_norm(x, normed, &layer.attention_norm.gamma, &layer.attention_norm.beta);
    linear(&layer.qkv, positions, Mat::rows(normed, d), &mut b.qkv, false);
    // `normed` is free again and takes the heads' outputs.
    attention(&b.qkv, tail, positions, w, &mut b.scores, normed);
    linear(&layer.out, positions, Mat::rows(normed, d), x, true);
    layer_norm(x, normed, &layer.ffn_norm.gamma, &layer.ffn_norm.beta);
    let hidden = &mut b.hidden[..positions * 4 * d];
    linear(&layer.up, positions, Mat::rows(normed, d), hidden, false);
    gelu(hidden);
    linear(&layer.down, positions, Mat::rows(hidden, 4 * d), x, true);
}

/// Self-attention in blocks of rows, read in place from the fused buffer. With a tail, positions T.. of it follow
/// the utterance's own T.
fn attention(
    qkv: &[f32],
    tail: Option<&[f32]>,
    positions: usize,
    w: &Weights,
    scores: &mut [f32],
    out: &mut [f32],
) {
    let (d, head) = (w.width, w.width / w.heads);
    let scale = 1.0 / (head as f32).sqrt();
    let tail = tail.map(|t| &t[positions * 2 * d..]).filter(|t| !t.is_empty());
    let after = tail.map_or(0, |t| t.len() / (2 * d));
    let keys = positions + after;
    for first in (0..positions).step_by(BLOCK) {
        let rows = BLOCK.min(positions - first);
        for h in 0..w.heads {
            let at = h * head;
            let query = Mat::rows(&qkv[first * 3 * d + at..], 3 * d);
            let own_keys = Mat::rows(&qkv[d + at..], 3 * d).transposed();
            let own_values = Mat::rows(&qkv[2 * d + at..], 3 * d);
            let scores = &mut scores[..rows * keys];
            multiply((rows, positions, head), (scores, keys), false, scale, query, own_keys);
            if let Some(tail) = tail {
                let tail_keys = Mat::rows(&tail[at..], 2 * d).transposed();
                let scores = &mut scores[positions..];
                multiply((rows, after, head), (scores, keys), false, scale, query, tail_keys);
            }
            softmax(scores, keys);
            let out = &mut out[first * d + at..];
            multiply((rows, head, positions), (out, d), false, 1.0, Mat::rows(scores, keys), own_values);
            if let Some(tail) = tail {
                let weights = Mat::rows(&scores[positions..], keys);
                let tail_values = Mat::rows(&tail[d + at..], 2 * d);
                multiply((rows, head, after), (out, d), true, 1.0, weights, tail_values);
            }
        }
    }
}

/// The final normalisation and the decoder's keys and values.
fn finish(w: &Weights, positions: usize, b: &mut EncoderBuffers) {
    let d = w.width;
    let normed = &mut b.normed[..positions * d];
    layer_norm(&b.x[..positions * d], normed, &w.encoder_norm.gamma, &w.encoder_norm.beta);
    for (layer, cross) in w.decoder.iter().zip(&mut b.cross) {
        linear(&layer.cross_kv, positions, Mat::rows(normed, d), cross, false);
    }
}

#[cfg(test)]
mod tests {
    use super::super::mel::{FLOOR, Mel, MelBuffers};
    use super::super::testing::model;
    use super::*;

    #[test]
    fn silence_with_its_tail_encodes_to_the_tail() {
        let w = Weights::read(model(|_, _| ()).as_slice()).expect("well-formed");
        let (mut b, mut mel) = (EncoderBuffers::new(&w), MelBuffers::new());
        Mel::silence(&mut mel);
        let tail = silent_tail(&w, &mel.mel, &mut b);
        // 100 positions of silence, the rest cached: every position sees exactly what it saw at load.
        mel.mel[MELS..].fill(FLOOR);
        assert!(encode(&w, &tail, &mel.mel, 100, &mut b, &|| false));
        let own = b.cross(0, 100, w.width).0;
        let worst = own.iter().zip(&tail.decoder[0]).fold(0.0_f32, |a, (x, y)| a.max((x - y).abs()));
        assert!(worst < 1e-4, "{worst}");
        assert_eq!(tail.cross(0, 100, w.width).0.len(), 1400 * 2 * w.width);
    }

    #[test]
    fn cancelling_stops_between_layers() {
        let w = Weights::read(model(|_, _| ()).as_slice()).expect("well-formed");
        let (mut b, mut mel) = (EncoderBuffers::new(&w), MelBuffers::new());
        Mel::silence(&mut mel);
        let tail = silent_tail(&w, &mel.mel, &mut b);
        assert!(!encode(&w, &tail, &mel.mel, 10, &mut b, &|| true));
    }
}
