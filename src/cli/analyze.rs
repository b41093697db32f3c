//! `patchcord analyze`: the live pipeline's detectors over recordings.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use patchcord::audio::{Downsampler2, Frame};
use patchcord::backend::local::models::ModelCache;
use patchcord::call::analyze::{AnalysisEvent, Analyzer};
use patchcord::detect::{ChainConfig, SileroWeights, VadModel};
use patchcord::time::{MediaTime, Rate};

use super::{Failure, local};

#[derive(Args)]
pub(super) struct AnalyzeArgs {
    /// Recordings: WAV, 8 or 16 kHz, 16 bit, mono or stereo (left received, right sent).
    #[arg(required = true, value_name = "FILE.wav")]
    files: Vec<PathBuf>,
    /// Print one JSON object per line instead of a table.
    #[arg(long)]
    json: bool,
}

/// Every file is analysed even when another one cannot be; exit code 2 says that one could not.
pub(super) fn run(args: &AnalyzeArgs) -> ExitCode {
    let config = match vad_model() {
        Ok(vad) => ChainConfig { vad },
        Err(error) => {
            eprintln!("patchcord: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut code = ExitCode::SUCCESS;
    for file in &args.files {
        if let Err(error) = analyze(file, &config, |event| print(file, event, args.json)) {
            eprintln!("patchcord: {}: {error}", file.display());
            code = ExitCode::from(2);
        }
    }
    code
}

fn vad_model() -> Result<VadModel, Failure> {
    let Some(path) = local::vad_weights(&ModelCache::open(None)) else {
        eprintln!(
            "patchcord: no voice-activity weights in the cache (`patchcord models pull silero`); using the built-in detector"
        );
        return Ok(VadModel::Earshot);
    };
    Ok(VadModel::Silero(Arc::new(SileroWeights::from_onnx(&std::fs::read(path)?)?)))
}

/// Streams the file through the detectors; `tell` gets each event as soon as it is known.
fn analyze(path: &Path, config: &ChainConfig, mut tell: impl FnMut(&AnalysisEvent)) -> Result<(), Failure> {
    let mut reader =
        hound::WavReader::open(path).map_err(|e| format!("not a WAV file that can be read: {e}"))?;
    let spec = reader.spec();
    if spec.bits_per_sample != 16 || spec.sample_format != hound::SampleFormat::Int {
        return Err(format!("{} bits per sample: expected 16-bit PCM", spec.bits_per_sample).into());
    }
    if !(1..=2).contains(&spec.channels) {
        return Err(format!("{} channels: expected one or two", spec.channels).into());
    }
    let rate = match spec.sample_rate {
        8000 => Rate::Hz8000,
        16000 => Rate::Hz16000,
        other => return Err(format!("{other} Hz: expected 8000 or 16000").into()),
    };
    let mut framer = Framer { rate, down: Downsampler2::new(), samples: Vec::new(), at: MediaTime::ZERO };
    let mut analyzer = Analyzer::new(config);
    let mut received = reader.samples::<i16>().step_by(usize::from(spec.channels)).enumerate();
    loop {
        let next = received.next();
        let over = next.is_none();
        if let Some((i, sample)) = next {
            framer.samples.push(sample.map_err(|e| format!("sample {i}: {e}"))?);
        }
        if let Some(frame) = framer.frame(over) {
            analyzer.push(&frame);
        }
        if over {
            analyzer.finish();
        }
        while let Some(event) = analyzer.poll_event() {
            tell(&event);
        }
        if over {
            return Ok(());
        }
    }
}

/// Cuts samples into 20 ms frames of 8 kHz.
struct Framer {
    rate: Rate,
    down: Downsampler2,
    samples: Vec<i16>,
    at: MediaTime,
}

impl Framer {
    /// A frame, once there are samples for one; the last one is padded.
    fn frame(&mut self, last: bool) -> Option<Frame> {
        let whole = self.rate.frame_samples();
        if self.samples.len() < whole && (!last || self.samples.is_empty()) {
            return None;
        }
        self.samples.resize(whole, 0);
        let mut narrow = [0; Rate::Hz8000.frame_samples()];
        match self.rate {
            Rate::Hz8000 => narrow.copy_from_slice(&self.samples),
            Rate::Hz16000 => self.down.process(&self.samples, &mut narrow),
        }
        self.samples.clear();
        let frame = Frame::from_samples(self.at, Rate::Hz8000, &narrow);
        self.at = frame.end();
        Some(frame)
    }
}

fn print(file: &Path, event: &AnalysisEvent, as_json: bool) {
    let file = file.display().to_string();
    if as_json {
        let line = serde_json::to_string(&Line { file: &file, event }).expect("an event is plain data");
        println!("{line}");
        return;
    }
    let end = event.end_s.map_or_else(|| "       ".to_owned(), |e| format!("–{e:7.2}"));
    let detail = [
        event.freq_hz.map(|f| format!("{f:.0} Hz")),
        event.class.map(str::to_owned),
        event.confidence.map(|c| format!("confidence {c:.2}")),
        event.act.filter(|act| !act).map(|_| "leaning".to_owned()),
    ];
    let detail: Vec<String> = detail.into_iter().flatten().collect();
    println!("{file}  {:7.2} {end} s  {:<12} {}", event.start_s, event.event, detail.join(", "));
}

/// One line of `--json`.
#[derive(serde::Serialize)]
struct Line<'a> {
    file: &'a str,
    #[serde(flatten)]
    event: &'a AnalysisEvent,
}
