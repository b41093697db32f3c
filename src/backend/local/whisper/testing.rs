//! What the tests of several files here share: a model a thousand times smaller than the real one, the real one if it
//! is in the cache, and recordings.

use std::fs;
use std::path::{Path, PathBuf};

use super::weights::VOCABULARY;

/// A whole model of one layer each and width 8, with `change` applied to each variable's shape.
pub(super) fn model(change: impl Fn(&str, &mut Vec<u32>)) -> Vec<u8> {
    let d = 8_u32;
    let mut list: Vec<(String, Vec<u32>)> = Vec::new();
    let mut add = |name: &str, dims: &[u32]| list.push((name.to_owned(), dims.to_vec()));
    let norm = |add: &mut dyn FnMut(&str, &[u32]), name: &str| {
        add(&format!("{name}/gamma"), &[d]);
        add(&format!("{name}/beta"), &[d]);
    };
    let linear = |add: &mut dyn FnMut(&str, &[u32]), name: &str, rows: u32, width: u32| {
        add(&format!("{name}/weight"), &[rows, width]);
        add(&format!("{name}/bias"), &[rows]);
    };
    for (conv, channels) in [("conv1", 80), ("conv2", d)] {
        add(&format!("encoder/{conv}/weight"), &[d, channels, 3]);
        add(&format!("encoder/{conv}/bias"), &[d]);
    }
    for side in ["encoder", "decoder"] {
        let layer = format!("{side}/layer_0");
        norm(&mut add, &format!("{layer}/self_attention/layer_norm"));
        linear(&mut add, &format!("{layer}/self_attention/linear_0"), 3 * d, d);
        linear(&mut add, &format!("{layer}/self_attention/linear_1"), d, d);
        norm(&mut add, &format!("{layer}/ffn/layer_norm"));
        linear(&mut add, &format!("{layer}/ffn/linear_0"), 4 * d, d);
        linear(&mut add, &format!("{layer}/ffn/linear_1"), d, 4 * d);
        norm(&mut add, &format!("{side}/layer_norm"));
    }
    norm(&mut add, "decoder/layer_0/attention/layer_norm");
    linear(&mut add, "decoder/layer_0/attention/linear_0", d, d);
    linear(&mut add, "decoder/layer_0/attention/linear_1", 2 * d, d);
    linear(&mut add, "decoder/layer_0/attention/linear_2", d, d);
    add("encoder/position_encodings/encodings", &[1500, d]);
    add("decoder/position_encodings/encodings", &[448, d]);
    add("decoder/embeddings/weight", &[51_864, d]);
    let mut out = Vec::new();
    out.extend(6_u32.to_le_bytes());
    let string = |out: &mut Vec<u8>, s: &str| {
        out.extend((s.len() as u16 + 1).to_le_bytes());
        out.extend(s.as_bytes());
        out.push(0);
    };
    string(&mut out, "WhisperSpec");
    out.extend(3_u32.to_le_bytes());
    out.extend((list.len() as u32 + 1).to_le_bytes());
    for (name, mut dims) in list {
        change(&name, &mut dims);
        string(&mut out, &name);
        out.push(dims.len() as u8);
        dims.iter().for_each(|d| out.extend(d.to_le_bytes()));
        out.push(4);
        let len = dims.iter().product::<u32>();
        out.extend((len * 2).to_le_bytes());
        // Halves around ±0.1, from a generator with a fixed seed.
        let mut x = 1_u32;
        for _ in 0..len {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            out.extend((0x2c00 | (x >> 31 << 15) as u16 | (x >> 22 & 0x1ff) as u16).to_le_bytes());
        }
    }
    string(&mut out, "encoder/num_heads");
    out.extend([0, 2, 2, 0, 0, 0, 2, 0]);
    out.extend(0_u32.to_le_bytes());
    out
}

/// A vocabulary of the right size: single letters first, then numbered words.
pub(super) fn vocabulary() -> String {
    let mut text = String::from("Hello\nĠworld\nĠcaf\nÃ©\nÃ\n");
    (5..VOCABULARY).for_each(|n| text.push_str(&format!("Ġ{n}\n")));
    text
}

/// Writes a model a thousand times smaller than the real one.
pub(super) fn synthetic_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).expect("room");
    write("model.bin", &model(|_, _| ()));
    write("vocabulary.txt", vocabulary().as_bytes());
    write("config.json", br#"{"suppress_ids":[1,50257],"suppress_ids_begin":[220,50256]}"#);
    dir
}

/// The real model's folder, if it is in the cache.
pub(super) fn real_dir() -> Option<PathBuf> {
    let cache = std::env::var_os("PATCHCORD_MODELS")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/patchcord")))?;
    let dir = cache.join("whisper-tiny.en");
    if dir.join("model.bin").is_file() {
        return Some(dir);
    }
    let required = std::env::var_os("PATCHCORD_REQUIRE_PEERS").is_some_and(|v| v == "1");
    assert!(!required, "PATCHCORD_REQUIRE_PEERS=1 but {} holds no model", dir.display());
    println!("skipped: no model in {}", dir.display());
    None
}

/// Samples of a 16-bit mono WAV file at 8 kHz.
pub(super) fn wav(path: &Path) -> Vec<i16> {
    let mut reader = hound::WavReader::open(path).expect("a WAV file");
    assert_eq!((reader.spec().sample_rate, reader.spec().channels), (8000, 1), "{}", path.display());
    reader.samples::<i16>().map(|s| s.expect("complete")).collect()
}

pub(super) fn words(text: &str) -> Vec<String> {
    let kept: String =
        text.to_lowercase().chars().map(|c| if c.is_alphanumeric() || c == '\'' { c } else { ' ' }).collect();
    kept.split_whitespace().map(str::to_owned).collect()
}
