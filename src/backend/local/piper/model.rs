//! One Piper voice: the ONNX graph, split in two so that speech can leave before the clause is finished.
//!
//! In: phoneme numbers. Out: first a [`Latent`] (what is to be said and for how long), then samples of any stretch of
//! it. Piper is VITS: the first half (text encoder, durations, flow) must see the whole clause and costs a third; the
//! second (the vocoder) sees a dozen frames to each side and costs the rest, so it runs in chunks. Synchronous; a call
//! takes tens of milliseconds and belongs on the inference pool. Source: the Piper project's VITS export.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rten::{Model, NodeId, RunOptions, ThreadPool, Value};
use serde::Deserialize;

use crate::backend::BackendError;

/// Samples the vocoder makes of a frame.
pub(super) const HOP: usize = 256;
/// Frames of context to each side that make a chunk equal to the same stretch of the whole.
const CONTEXT: usize = 12;
/// Longest clause [latent frames]; about 46 s at 22 050 Hz.
const MAX_FRAMES: usize = 4000;
/// Longest clause [phoneme numbers, padding included].
pub(super) const MAX_IDS: usize = 1600;
const MAX_MODEL_BYTES: u64 = 512 << 20;
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// The numbers a Piper voice has for its symbols, and how it likes to be run.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) sample_rate: u32,
    scales: [f32; 3],
    ids: HashMap<char, Vec<i32>>,
}

#[derive(Deserialize)]
struct RawConfig {
    audio: RawAudio,
    inference: RawInference,
    phoneme_id_map: HashMap<String, Vec<i32>>,
    num_symbols: i32,
    #[serde(default)]
    num_speakers: u32,
}

#[derive(Deserialize)]
struct RawAudio {
    sample_rate: u32,
}

#[derive(Deserialize)]
struct RawInference {
    noise_scale: f32,
    length_scale: f32,
    noise_w: f32,
}

pub(super) fn unusable(reason: impl Into<String>) -> BackendError {
    BackendError::Model { model: "piper", reason: reason.into() }
}

impl Config {
    pub(super) fn parse(text: &str) -> Result<Self, BackendError> {
        let raw: RawConfig =
            serde_json::from_str(text).map_err(|e| unusable(format!("configuration: {e}")))?;
        if !(16_000..=48_000).contains(&raw.audio.sample_rate) {
            return Err(unusable(format!("configuration: sample rate {}", raw.audio.sample_rate)));
        }
        if raw.num_speakers > 1 {
            return Err(unusable("configuration: voices with several speakers are not supported"));
        }
        let RawInference { noise_scale, length_scale, noise_w } = raw.inference;
        let within = |x: f32, low: f32| x.is_finite() && (low..=4.0).contains(&x);
        if !(within(noise_scale, 0.0) && within(noise_w, 0.0) && within(length_scale, 0.1)) {
            return Err(unusable("configuration: inference scales out of range"));
        }
        let mut ids = HashMap::with_capacity(raw.phoneme_id_map.len());
        for (symbol, numbers) in raw.phoneme_id_map {
            let mut chars = symbol.chars();
            let (Some(c), None) = (chars.next(), chars.next()) else {
                return Err(unusable(format!("configuration: symbol {symbol:?} is not one character")));
            };
            if numbers.len() > 8 || numbers.iter().any(|n| !(0..raw.num_symbols).contains(n)) {
                return Err(unusable(format!("configuration: numbers of symbol {symbol:?} out of range")));
            }
            ids.insert(c, numbers);
        }
        for needed in ['_', '^', '$', ' ', '.', ',', 'ˈ'] {
            if !ids.contains_key(&needed) {
                return Err(unusable(format!("configuration: symbol {needed:?} is missing")));
            }
        }
        Ok(Self { sample_rate: raw.audio.sample_rate, scales: [noise_scale, length_scale, noise_w], ids })
    }

    /// A symbol's numbers; empty for one the voice does not know.
    pub(super) fn ids(&self, symbol: char) -> &[i32] {
        self.ids.get(&symbol).map_or(&[], Vec::as_slice)
    }
}

/// A clause between the two halves of the graph.
pub(super) struct Latent {
    z: Vec<f32>,
    channels: usize,
    /// Length [frames].
    pub(super) frames: usize,
    /// Frames each phoneme number lasts; `None` where the graph does not tell.
    pub(super) durations: Option<Vec<usize>>,
}

#[cfg(test)]
impl Latent {
    pub(super) const fn for_tests(frames: usize, durations: Option<Vec<usize>>) -> Self {
        Self { z: Vec::new(), channels: 0, frames, durations }
    }
}

/// The graph and the numbers of its nodes.
pub(super) struct Network {
    model: Model,
    input: NodeId,
    lengths: NodeId,
    scales: NodeId,
    z: NodeId,
    durations: Option<NodeId>,
    output: NodeId,
    config: Config,
    /// One-threaded pools for `rten`, one for each call that runs at the same time: it would start a pool as wide as
    /// the machine. Made on the thread that first needs one, so that they inherit its priority.
    threads: Mutex<Vec<Arc<ThreadPool>>>,
}

impl Network {
    pub(super) fn load(onnx: &Path, config: &Path) -> Result<Self, BackendError> {
        let text = String::from_utf8(read(config, MAX_CONFIG_BYTES)?)
            .map_err(|_| unusable(format!("{}: not UTF-8", config.display())))?;
        let config = Config::parse(&text)?;
        let bytes = read(onnx, MAX_MODEL_BYTES)?;
        super::onnx::check(&bytes).map_err(|e| unusable(format!("{}: {e}", onnx.display())))?;
        let model = Model::load(bytes).map_err(|e| unusable(format!("{}: {e}", onnx.display())))?;
        let node = |name: &str| {
            model
                .find_node(name)
                .ok_or_else(|| unusable(format!("{}: no node {name:?}; not a Piper voice", onnx.display())))
        };
        Ok(Self {
            input: node("input")?,
            lengths: node("input_lengths")?,
            scales: node("scales")?,
            z: node("/Mul_7_output_0")?,
            durations: model.find_node("/Ceil_output_0"),
            output: node("output")?,
            config,
            threads: Mutex::default(),
            model,
        })
    }

    pub(super) const fn config(&self) -> &Config {
        &self.config
    }

    /// The first half: phoneme numbers to latent frames. `stretch` multiplies all lengths.
    pub(super) fn encode(&self, ids: &[i32], stretch: f32) -> Result<Latent, BackendError> {
        if ids.is_empty() || ids.len() > MAX_IDS {
            return Err(malformed(format!("a clause of {} phonemes", ids.len())));
        }
        let [noise, length, noise_w] = self.config.scales;
        let scales = vec![noise, length * stretch, noise_w];
        let inputs = vec![
            (self.input, tensor(Value::from_shape([1, ids.len()], ids.to_vec()))?),
            (self.lengths, tensor(Value::from_shape([1], vec![ids.len() as i32]))?),
            (self.scales, tensor(Value::from_shape([3], scales))?),
        ];
        let wanted: Vec<NodeId> = std::iter::once(self.z).chain(self.durations).collect();
        let mut outputs = self.run(inputs, &wanted)?.into_iter();
        let z = outputs.next().ok_or_else(|| malformed("no latent frames"))?;
        let ([_, channels, frames], z) =
            z.into_shape_vec::<f32, 3>().map_err(|e| malformed(format!("latent frames: {e}")))?;
        if frames == 0 || frames > MAX_FRAMES || z.len() != channels * frames {
            return Err(malformed(format!("{frames} latent frames")));
        }
        let durations = outputs.next().and_then(|d| d.into_shape_vec::<f32, 3>().ok());
        let durations = durations
            .map(|(_, d)| d.into_iter().map(|x| x.max(0.0) as usize).collect::<Vec<_>>())
            .filter(|d| d.len() == ids.len() && d.iter().sum::<usize>() == frames);
        Ok(Latent { z, channels, frames, durations })
    }

    /// The second half for frames `from..to`: samples at the voice's own rate, a fixed number for each frame.
    pub(super) fn decode(&self, latent: &Latent, from: usize, to: usize) -> Result<Vec<f32>, BackendError> {
        let to = to.min(latent.frames);
        let (low, high) = (from.saturating_sub(CONTEXT), (to + CONTEXT).min(latent.frames));
        let width = high.saturating_sub(low);
        if from >= to {
            return Ok(Vec::new());
        }
        let mut slice = Vec::with_capacity(latent.channels * width);
        for channel in latent.z.chunks_exact(latent.frames) {
            slice.extend_from_slice(&channel[low..high]);
        }
        let inputs = vec![(self.z, tensor(Value::from_shape([1, latent.channels, width], slice))?)];
        let samples =
            self.run(inputs, &[self.output])?.into_iter().next().and_then(Value::into_tensor::<f32>);
        let mut samples = samples.ok_or_else(|| malformed("no samples"))?.into_data();
        if samples.len() != HOP * width {
            return Err(malformed(format!("{} samples for {width} frames", samples.len())));
        }
        samples.truncate((to - low) * HOP);
        samples.drain(..(from - low) * HOP);
        Ok(samples)
    }

    fn run(&self, inputs: Vec<(NodeId, Value)>, outputs: &[NodeId]) -> Result<Vec<Value>, BackendError> {
        let taken = self.threads.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let pool = taken.unwrap_or_else(|| Arc::new(ThreadPool::with_num_threads(1)));
        let options = RunOptions::default().with_thread_pool(Some(Arc::clone(&pool)));
        let inputs = inputs.into_iter().map(|(id, v)| (id, v.into())).collect();
        let result = self.model.run(inputs, outputs, Some(options));
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(pool);
        result.map_err(|e| malformed(format!("the graph failed: {e}")))
    }
}

fn tensor<E: std::fmt::Display>(value: Result<Value, E>) -> Result<Value, BackendError> {
    value.map_err(|e| malformed(e.to_string()))
}

fn malformed(reason: impl Into<String>) -> BackendError {
    BackendError::Malformed { backend: "piper", reason: reason.into() }
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, BackendError> {
    let failed = |e: std::io::Error| unusable(format!("{}: {e}", path.display()));
    let size = fs::metadata(path).map_err(failed)?.len();
    if size > limit {
        return Err(unusable(format!("{}: {size} bytes are more than {limit}", path.display())));
    }
    fs::read(path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(change: impl Fn(&mut serde_json::Value)) -> String {
        let mut value = serde_json::json!({
            "audio": { "sample_rate": 22050 },
            "inference": { "noise_scale": 0.667, "length_scale": 1, "noise_w": 0.8 },
            "num_symbols": 256,
            "num_speakers": 1,
            "phoneme_id_map": { "_": [0], "^": [1], "$": [2], " ": [3], ",": [8], ".": [10], "ˈ": [120] },
        });
        change(&mut value);
        value.to_string()
    }

    #[test]
    fn a_configuration_is_read_and_gives_numbers() {
        let config = Config::parse(&config(|_| ())).expect("well-formed");
        assert_eq!(config.ids('ˈ'), [120]);
        assert_eq!(config.ids('x'), [0i32; 0]);
        assert_eq!(config.sample_rate, 22_050);
    }

    #[test]
    fn configurations_that_cannot_be_used_are_refused_with_the_place() {
        for (text, wanted) in [
            ("{".to_owned(), "configuration: EOF"),
            (config(|v| v["audio"]["sample_rate"] = 0.into()), "sample rate 0"),
            (config(|v| v["num_speakers"] = 9.into()), "several speakers"),
            (config(|v| v["inference"]["length_scale"] = 0.into()), "scales out of range"),
            (config(|v| v["phoneme_id_map"]["a"] = serde_json::json!([256])), "\"a\" out of range"),
            (config(|v| v["phoneme_id_map"]["ab"] = serde_json::json!([5])), "\"ab\" is not one character"),
            (config(|v| v["phoneme_id_map"] = serde_json::json!({})), "'_' is missing"),
        ] {
            let error = Config::parse(&text).expect_err("refused").to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn files_that_are_no_voice_are_refused_with_their_name() {
        let dir = tempfile::tempdir().expect("dir");
        let (onnx, json) = (dir.path().join("v.onnx"), dir.path().join("v.onnx.json"));
        fs::write(&json, config(|_| ())).expect("write");
        let error = || Network::load(&onnx, &json).err().expect("refused").to_string();
        assert!(error().contains("v.onnx"), "a missing file: {}", error());
        // The last is an ONNX file (ir_version 7) with an empty graph.
        for bytes in [&b""[..], b"not a model at all", &[0xff; 64], &[0x08, 0x07, 0x3a, 0x00]] {
            fs::write(&onnx, bytes).expect("write");
            assert!(error().starts_with("model piper: "), "{}", error());
            assert!(error().contains("v.onnx"), "{}", error());
        }
        fs::write(&json, [0xff, 0xfe]).expect("write");
        assert!(error().contains("not UTF-8"), "{}", error());
    }
}
