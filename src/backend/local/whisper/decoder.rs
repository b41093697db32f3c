//! The decoder: greedy, one token at a time, with a cache of its own keys and values.

use super::encoder::{EncoderBuffers, SilentTail};
use super::kernels::{Int8Rows, KeysValues, attend, gelu, layer_norm, probability};
use super::vocab::{END, NO_SPEECH, NO_TIMESTAMPS, START, Suppressed};
use super::weights::{DecoderLayer, Int8Linear, Norm, POSITIONS, TEXT_POSITIONS, VOCABULARY, Weights};

/// Above this probability of "nobody speaks" the text is dropped: on speech it stays below 0.16, on noise, tones and
/// hum it is above 0.68 (measured on 140 telephone prompts and six noises).
pub(super) const NO_SPEECH_LIMIT: f32 = 0.5;

/// The most tokens of one window, as in the reference implementation (half of the text positions).
const MAX_TOKENS: usize = TEXT_POSITIONS / 2;

/// Buffers of one decoder run.
pub(super) struct DecoderBuffers {
    /// Own keys and values of each layer, [TEXT_POSITIONS, 2 × width].
    own: Vec<Vec<f32>>,
    x: Vec<f32>,
    normed: Vec<f32>,
    qkv: Vec<f32>,
    attended: Vec<f32>,
    hidden: Vec<f32>,
    ints: Vec<i16>,
    scores: Vec<f32>,
    logits: Vec<f32>,
}

impl DecoderBuffers {
    pub(super) fn new(w: &Weights) -> Self {
        let d = w.width;
        Self {
            own: vec![vec![0.0; TEXT_POSITIONS * 2 * d]; w.decoder.len()],
            x: vec![0.0; d],
            normed: vec![0.0; d],
            qkv: vec![0.0; 3 * d],
            attended: vec![0.0; d],
            hidden: vec![0.0; 4 * d],
            ints: vec![0; 4 * d],
            scores: vec![0.0; w.heads * POSITIONS],
            logits: vec![0.0; VOCABULARY],
        }
    }
}

/// What the decoder read.
pub(super) struct Decoded {
    /// The text's tokens; empty when nobody spoke.
    pub(super) tokens: Vec<usize>,
    /// Probability that nobody speaks.
    pub(super) no_speech: f32,
}

/// What the encoder left for the decoder.
#[derive(Clone, Copy)]
pub(super) struct Encoded<'a> {
    pub(super) tail: &'a SilentTail,
    pub(super) own: &'a EncoderBuffers,
    pub(super) positions: usize,
}

/// Reads the text, at most about as much as can be said in the time. `None` when `cancel` said so between tokens.
pub(super) fn decode(
    w: &Weights,
    suppressed: &Suppressed,
    encoded: Encoded<'_>,
    b: &mut DecoderBuffers,
    cancel: &dyn Fn() -> bool,
) -> Option<Decoded> {
    step(w, encoded, START, 0, b);
    let no_speech = probability(&b.logits, NO_SPEECH);
    let mut decoded = Decoded { tokens: Vec::new(), no_speech };
    if no_speech > NO_SPEECH_LIMIT {
        return Some(decoded);
    }
    // Fast speech has 5 words or 8 tokens a second.
    let limit = MAX_TOKENS.min(16 + encoded.positions / 5);
    let mut token = NO_TIMESTAMPS;
    for position in 1..=limit {
        if cancel() {
            return None;
        }
        step(w, encoded, token, position, b);
        token = choose(&mut b.logits, suppressed, position == 1);
        if token == END {
            break;
        }
        decoded.tokens.push(token);
        if let Some(keep) = repetition(&decoded.tokens) {
            decoded.tokens.truncate(keep);
            break;
        }
    }
    Some(decoded)
}

/// The likeliest text token, or [`END`].
fn choose(logits: &mut [f32], suppressed: &Suppressed, first: bool) -> usize {
    let logits = &mut logits[..START];
    let begin: &[usize] = if first { &suppressed.first } else { &[] };
    for id in suppressed.always.iter().chain(begin) {
        logits[*id] = f32::NEG_INFINITY;
    }
    let mut best = END;
    let mut top = f32::NEG_INFINITY;
    for (id, logit) in logits.iter().enumerate() {
        if *logit > top {
            (best, top) = (id, *logit);
        }
    }
    best
}

/// Whether the decoder turns in a circle: the end of `tokens` is one phrase over and over. Returns how many tokens to
/// keep, with the phrase once. Short phrases must repeat more often, since people do say "no no no" and "1 1 1 1".
fn repetition(tokens: &[usize]) -> Option<usize> {
    for period in 1..=24 {
        let times = match period {
            1 => 8,
            2 | 3 => 5,
            _ => 3,
        };
        let Some(start) = tokens.len().checked_sub(period * times) else { break };
        if tokens[start..].iter().zip(&tokens[start + period..]).all(|(a, b)| a == b) {
            return Some(start + period);
        }
    }
    None
}

/// One token through all layers; leaves the next one's logits in `b.logits`.
fn step(w: &Weights, encoded: Encoded<'_>, token: usize, position: usize, b: &mut DecoderBuffers) {
    let d = w.width;
    w.embeddings.row(token, &mut b.x);
    for (x, p) in b.x.iter_mut().zip(&w.text_positions[position * d..]) {
        *x += p;
    }
    for (n, layer) in w.decoder.iter().enumerate() {
        self_attention(w, layer, n, position, b);
        let cross = [encoded.own.cross(n, encoded.positions, d), encoded.tail.cross(n, encoded.positions, d)];
        cross_attention(w, layer, &cross, b);
        norm(&layer.ffn_norm, &b.x, &mut b.normed);
        linear(&layer.up, &b.normed, false, &mut b.ints, &mut b.hidden);
        gelu(&mut b.hidden);
        linear(&layer.down, &b.hidden, true, &mut b.ints, &mut b.x);
    }
    norm(&w.decoder_norm, &b.x, &mut b.normed);
    project(&w.embeddings, b);
}

fn project(embeddings: &Int8Rows, b: &mut DecoderBuffers) {
    embeddings.multiply(&b.normed, None, false, &mut b.ints, &mut b.logits);
}

fn norm(norm: &Norm, input: &[f32], output: &mut [f32]) {
    layer_norm(input, output, &norm.gamma, &norm.beta);
}

fn linear(layer: &Int8Linear, input: &[f32], keep: bool, ints: &mut [i16], out: &mut [f32]) {
    layer.weight.multiply(input, Some(&layer.bias), keep, ints, out);
}

fn self_attention(w: &Weights, layer: &DecoderLayer, n: usize, position: usize, b: &mut DecoderBuffers) {
    let d = w.width;
    norm(&layer.attention_norm, &b.x, &mut b.normed);
    linear(&layer.qkv, &b.normed, false, &mut b.ints, &mut b.qkv);
    let own = &mut b.own[n];
    own[position * 2 * d..(position + 1) * 2 * d].copy_from_slice(&b.qkv[d..]);
    let own = [KeysValues(&own[..(position + 1) * 2 * d])];
    attend(&b.qkv[..d], &own, w.heads, &mut b.scores, &mut b.attended);
    linear(&layer.out, &b.attended, true, &mut b.ints, &mut b.x);
}

fn cross_attention(w: &Weights, layer: &DecoderLayer, cross: &[KeysValues<'_>; 2], b: &mut DecoderBuffers) {
    let d = w.width;
    norm(&layer.cross_norm, &b.x, &mut b.normed);
    linear(&layer.cross_query, &b.normed, false, &mut b.ints, &mut b.qkv[..d]);
    attend(&b.qkv[..d], cross, w.heads, &mut b.scores, &mut b.attended);
    linear(&layer.cross_out, &b.attended, true, &mut b.ints, &mut b.x);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circle_is_cut_to_one_turn_and_honest_repetition_stays() {
        let phrase = [11, 12, 13, 14, 15];
        let mut tokens = vec![1, 2];
        tokens.extend(phrase.iter().cycle().take(14));
        assert_eq!(repetition(&tokens), None, "not yet three times");
        tokens.push(15);
        assert_eq!(repetition(&tokens), Some(7), "the start and the phrase once");
        assert_eq!(repetition(&[9; 7]), None, "no no no no no no no");
        assert_eq!(repetition(&[9; 8]), Some(1));
        assert_eq!(repetition(&[5, 6, 5, 6, 5, 6, 5, 6]), None, "knock knock, four times");
        assert_eq!(repetition(&[5, 6, 5, 6, 5, 6, 5, 6, 5, 6]), Some(2));
        assert_eq!(repetition(&[]), None);
    }

    #[test]
    fn suppressed_tokens_are_never_chosen() {
        let s = Suppressed { always: vec![7], first: vec![8, END] };
        let mut logits = vec![0.0; VOCABULARY];
        (logits[7], logits[8], logits[9], logits[START + 5]) = (9.0, 8.0, 7.0, 99.0);
        assert_eq!(choose(&mut logits.clone(), &s, true), 9);
        assert_eq!(choose(&mut logits, &s, false), 8);
        assert_eq!(choose(&mut vec![f32::NAN; VOCABULARY], &s, false), END, "nonsense ends the text");
    }
}
