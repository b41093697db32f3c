//! What tests of detectors share: model weights and recorded audio, both optional on a developer's machine.

use std::path::PathBuf;
use std::sync::Arc;

use super::SileroWeights;

fn missing(what: &str) {
    let required = std::env::var("PATCHCORD_REQUIRE_PEERS").is_ok_and(|v| v == "1");
    assert!(!required, "{what} is required here");
    println!("skipped: {what} is not on this machine");
}

/// The Silero weights: from `$PATCHCORD_SILERO`, else the model cache.
pub(crate) fn weights() -> Option<Arc<SileroWeights>> {
    let home = || std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".cache/patchcord"));
    let cache = std::env::var_os("PATCHCORD_MODELS").map(PathBuf::from).or_else(home);
    let path = std::env::var_os("PATCHCORD_SILERO").map(PathBuf::from);
    let path = path.or_else(|| cache.map(|c| c.join("silero/silero_vad.onnx")))?;
    let Ok(file) = std::fs::read(&path) else {
        missing("silero_vad.onnx");
        return None;
    };
    Some(Arc::new(SileroWeights::from_onnx(&file).expect("the pinned model file")))
}

/// The folder of development recordings.
pub(crate) fn dev_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/audio/dev")
}

/// The (left) samples of an 8 kHz 16-bit WAV file under the development recordings.
pub(crate) fn dev_audio(name: &str) -> Option<Vec<i16>> {
    // Shared recordings are not part of the repository: tests use them where they are and never require them.
    let Ok(file) = std::fs::read(dev_dir().join(name)) else {
        println!("skipped: the shared recordings are not on this machine");
        return None;
    };
    Some(wav(&file))
}

/// The first channel of a 16-bit PCM WAV file.
pub(crate) fn wav(file: &[u8]) -> Vec<i16> {
    let channels = usize::from(u16::from_le_bytes([file[22], file[23]]));
    let data = file.windows(4).position(|w| w == b"data").expect("a data chunk") + 8;
    let samples = file[data..].as_chunks::<2>().0;
    samples.iter().step_by(channels).map(|b| i16::from_le_bytes(*b)).collect()
}
