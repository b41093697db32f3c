//! `patchcord analyze`: the live pipeline's detectors over recordings.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use patchcord::audio::Frame;
use patchcord::backend::local::models::ModelCache;
use patchcord::call::analyze::{AnalysisEvent, Analyzer};
use patchcord::detect::{SileroWeights, VadModel};
use patchcord::time::{MediaTime, Rate};
use serde_json::{Map, Value, json};

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
    let vad = match vad_model() {
        Ok(vad) => vad,
        Err(error) => {
            eprintln!("patchcord: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut code = ExitCode::SUCCESS;
    for file in &args.files {
        match analyze(file, &vad) {
            Ok(events) => events.iter().for_each(|event| print(file, event, args.json)),
            Err(error) => {
                eprintln!("patchcord: {}: {error}", file.display());
                code = ExitCode::from(2);
            }
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

fn analyze(path: &Path, vad: &VadModel) -> Result<Vec<AnalysisEvent>, Failure> {
    let mut reader =
        hound::WavReader::open(path).map_err(|e| format!("not a WAV file that can be read: {e}"))?;
    let spec = reader.spec();
    if spec.bits_per_sample != 16 || spec.sample_format != hound::SampleFormat::Int {
        return Err(format!("{} bits per sample: expected 16-bit PCM", spec.bits_per_sample).into());
    }
    if !(1..=2).contains(&spec.channels) {
        return Err(format!("{} channels: expected one or two", spec.channels).into());
    }
    let halve = match spec.sample_rate {
        8000 => false,
        16000 => true,
        other => return Err(format!("{other} Hz: expected 8000 or 16000").into()),
    };
    let mut down = patchcord::audio::resample::Downsampler2::new();
    let mut analyzer = Analyzer::new(vad.clone());
    let frame_in = if halve { 320 } else { 160 };
    let mut wide = Vec::with_capacity(frame_in);
    let mut at = MediaTime::ZERO;
    let mut push = |wide: &mut Vec<i16>, analyzer: &mut Analyzer| {
        wide.resize(frame_in, 0);
        let mut narrow = [0; 160];
        if halve {
            down.process(wide, &mut narrow);
        } else {
            narrow.copy_from_slice(wide);
        }
        analyzer.push(&Frame::from_samples(at, Rate::Hz8000, &narrow));
        at = at.plus(Frame::SPAN);
        wide.clear();
    };
    let channels = usize::from(spec.channels);
    for (i, sample) in reader.samples::<i16>().enumerate() {
        let sample = sample.map_err(|e| format!("sample {i}: {e}"))?;
        if i % channels == 0 {
            wide.push(sample);
            if wide.len() == frame_in {
                push(&mut wide, &mut analyzer);
            }
        }
    }
    if !wide.is_empty() {
        push(&mut wide, &mut analyzer);
    }
    Ok(analyzer.finish())
}

fn print(file: &Path, event: &AnalysisEvent, as_json: bool) {
    let file = file.display().to_string();
    if !as_json {
        let end = event.end_s.map_or_else(|| "      …".to_owned(), |e| format!("{e:7.2}"));
        let detail = [
            event.freq_hz.map(|f| format!("{f:.0} Hz")),
            event.digit.map(|d| d.to_string()),
            event.class.map(str::to_owned),
            event.confidence.map(|c| format!("confidence {c:.2}")),
        ];
        let detail: Vec<String> = detail.into_iter().flatten().collect();
        println!("{file}  {:7.2} – {end} s  {:<12} {}", event.start_s, event.event, detail.join(", "));
        return;
    }
    let mut line = Map::new();
    line.insert("file".into(), file.into());
    line.insert("event".into(), event.event.into());
    line.insert("start_s".into(), rounded(event.start_s));
    line.insert("end_s".into(), event.end_s.map_or(Value::Null, rounded));
    line.insert("decided_s".into(), rounded(event.decided_s));
    let optional = [
        ("digit", event.digit.map(|d| json!(d.to_string()))),
        ("freq_hz", event.freq_hz.map(|f| rounded(f64::from(f)))),
        ("class", event.class.map(|c| json!(c))),
        ("confidence", event.confidence.map(|c| rounded(f64::from(c)))),
        ("act", event.act.map(|a| json!(a))),
    ];
    line.extend(optional.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
    println!("{}", Value::Object(line));
}

fn rounded(value: f64) -> Value {
    json!((value * 1000.0).round() / 1000.0)
}
