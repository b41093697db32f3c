//! The service: what is configured, what is kept, and which calls live.
//!
//! In: requests that were understood (`place`, `routes`) and the events of calls (`tracker`). Out: call records. Wall
//! time comes from the [`Clock`]; waits use tokio's time. One instance owns its data folder, held by a lock file.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::config::{Config, ConfigError};
use super::dialer::{Control, Dialer};
use super::recordings::Recordings;
use super::secrets;
use super::store::{CallRecord, Store, StoreError};
use super::tracker;
use crate::call::{HangupSource, Lifecycle};

/// Gives the wall time.
pub type Clock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// Why the service could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file or folder cannot be used.
    #[error("setting `server.data_dir`: {path}: {source}", path = path.display())]
    Data {
        /// The file or folder.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// Another process serves from the same folder.
    #[error("setting `server.data_dir`: {path} is in use by another process", path = path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The call service. Shared by every request.
pub struct Service {
    pub(super) config: Config,
    /// How clients reach us; links begin with it.
    pub(super) base_url: String,
    pub(super) store: Store,
    pub(super) recordings: Recordings,
    pub(super) secret: [u8; 32],
    pub(super) dialer: Arc<dyn Dialer>,
    pub(super) clock: Clock,
    /// Held while limits are checked and a call is queued, so that two requests cannot both take the last place.
    pub(super) placing: tokio::sync::Mutex<()>,
    live: Mutex<HashMap<String, Arc<LiveCall>>>,
    ended: Notify,
    draining: AtomicBool,
    _lock: File,
}

/// A call that is not finalized, or whose end is not yet written down.
pub(super) struct LiveCall {
    record: Mutex<CallRecord>,
    lifecycle: watch::Sender<Lifecycle>,
    pub(super) control: Arc<dyn Control>,
}

impl LiveCall {
    pub(super) fn new(record: CallRecord, control: Arc<dyn Control>) -> Self {
        let lifecycle = watch::Sender::new(record.lifecycle);
        Self { record: Mutex::new(record), lifecycle, control }
    }

    pub(super) fn record(&self) -> MutexGuard<'_, CallRecord> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells everyone who waits for a change of lifecycle.
    pub(super) fn publish(&self) {
        let now = self.record().lifecycle;
        self.lifecycle.send_if_modified(|last| std::mem::replace(last, now) != now);
    }

    /// Waits until the lifecycle is another one than now, at most `patience`; not at all once it is the last.
    pub(super) async fn wait_for_change(&self, patience: Duration) {
        let mut changes = self.lifecycle.subscribe();
        if *changes.borrow_and_update() != Lifecycle::Finalized {
            let _ = tokio::time::timeout(patience, changes.changed()).await;
        }
    }
}

impl Service {
    /// Opens the data folder, finalizes what a crash left open, and is ready to serve.
    ///
    /// # Errors
    /// When a setting is wrong, or the data folder or the database cannot be used.
    pub async fn start(config: Config, dialer: Arc<dyn Dialer>) -> Result<Arc<Self>, StartError> {
        Self::start_with_clock(config, dialer, Arc::new(Utc::now)).await
    }

    /// Like [`Service::start`], with wall time from `clock`.
    ///
    /// # Errors
    /// As [`Service::start`].
    pub async fn start_with_clock(
        config: Config,
        dialer: Arc<dyn Dialer>,
        clock: Clock,
    ) -> Result<Arc<Self>, StartError> {
        config.check()?;
        let folder = config.server.data_dir.as_path();
        let data = |path: &Path| {
            let path = path.to_owned();
            move |source| StartError::Data { path, source }
        };
        let recordings = folder.join("recordings");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&recordings).map_err(data(&recordings))?;
        let lock = lock(folder)?;
        let secret = folder.join("secret");
        let secret = secrets::load_or_create(&secret).map_err(data(&secret))?;
        let store = Store::open(&folder.join("patchcord.db")).await?;
        let lifetime = Duration::from_secs(config.server.recording_link_seconds);
        let service = Self {
            base_url: config
                .server
                .public_url
                .clone()
                .unwrap_or_else(|| format!("http://{}", config.server.bind)),
            recordings: Recordings::new(recordings, secret, lifetime),
            store,
            secret,
            dialer,
            clock,
            placing: tokio::sync::Mutex::new(()),
            live: Mutex::default(),
            ended: Notify::new(),
            draining: AtomicBool::new(false),
            _lock: lock,
            config,
        };
        tracker::recover(&service).await?;
        Ok(Arc::new(service))
    }

    /// A new API key, shown this once. Its calls count against the trial like any other's.
    ///
    /// # Errors
    /// When the database cannot keep it.
    pub async fn issue_key(&self) -> Result<String, StoreError> {
        let key = secrets::new_api_key();
        let hash = secrets::key_hash(&key).expect("a new key has a key's form");
        self.store.issue_key(&hash, self.now()).await?;
        Ok(key)
    }

    /// Calls that are not finalized.
    #[must_use]
    pub fn active_calls(&self) -> usize {
        self.living(|_| true)
    }

    /// Refuses new calls from now on, gives the living ones `patience` to end by themselves, then ends them.
    pub async fn drain(&self, patience: Duration) {
        self.draining.store(true, Ordering::SeqCst);
        let active = self.active_calls();
        tracing::info!(active, "draining");
        if !self.idle_within(patience).await {
            tracing::warn!(active = self.active_calls(), "ending calls that did not end by themselves");
        }
        self.dialer.shutdown().await;
        if !self.idle_within(LAST_PATIENCE).await {
            for call in self.lives() {
                call.control.hang_up(HangupSource::System);
            }
        }
        self.written_within(LAST_PATIENCE).await;
        self.store.close().await;
    }

    pub(super) fn now(&self) -> DateTime<Utc> {
        (self.clock)()
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// The seconds of talk that a key may use on trial.
    pub(super) fn allowance_seconds(&self) -> u64 {
        u64::from(self.config.limits.trial_minutes) * 60
    }

    /// Living calls that satisfy `which`.
    pub(super) fn living(&self, which: impl Fn(&CallRecord) -> bool) -> usize {
        let lives = self.lives();
        lives
            .iter()
            .filter(|call| {
                let record = call.record();
                record.lifecycle != Lifecycle::Finalized && which(&record)
            })
            .count()
    }

    pub(super) fn live(&self, id: &str) -> Option<Arc<LiveCall>> {
        self.map().get(id).cloned()
    }

    pub(super) fn add_live(&self, id: String, call: Arc<LiveCall>) {
        self.map().insert(id, call);
    }

    /// Drops a call whose end is written down.
    pub(super) fn remove_live(&self, id: &str) {
        self.map().remove(id);
        self.ended.notify_waiters();
    }

    /// Says that a call was finalized.
    pub(super) fn notify_ended(&self) {
        self.ended.notify_waiters();
    }

    /// What is known of the key's call: from memory while it lives, from the database after.
    pub(super) async fn find(&self, id: &str, key: i64) -> Result<Option<CallRecord>, StoreError> {
        let living = self.live(id).map(|call| call.record().clone());
        match living {
            Some(record) => Ok(Some(record).filter(|r| r.key == key)),
            None => self.store.call(id, key).await,
        }
    }

    fn map(&self) -> MutexGuard<'_, HashMap<String, Arc<LiveCall>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lives(&self) -> Vec<Arc<LiveCall>> {
        self.map().values().cloned().collect()
    }

    async fn idle_within(&self, patience: Duration) -> bool {
        self.until(patience, || self.active_calls() == 0).await
    }

    async fn written_within(&self, patience: Duration) -> bool {
        self.until(patience, || self.map().is_empty()).await
    }

    async fn until(&self, patience: Duration, done: impl Fn() -> bool) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if done() {
                return true;
            }
            if tokio::time::timeout_at(deadline, ended).await.is_err() {
                return done();
            }
        }
    }
}

/// How long the engine and the database may take for their last words each.
const LAST_PATIENCE: Duration = Duration::from_secs(10);

/// Takes the folder for this process: recovery would otherwise finalize another's living calls.
fn lock(folder: &Path) -> Result<File, StartError> {
    let path = folder.join("lock");
    let failed = |source| StartError::Data { path: path.clone(), source };
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(StartError::InUse { path: folder.to_owned() }),
        Err(fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct NoControl;

    impl Control for NoControl {
        fn hang_up(&self, _: HangupSource) {}
    }

    fn live() -> Arc<LiveCall> {
        Arc::new(LiveCall::new(CallRecord::sample("a"), Arc::new(NoControl)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_poll_ends_with_its_patience() {
        let call = live();
        let before = Instant::now();
        call.wait_for_change(Duration::from_secs(30)).await;
        assert_eq!(before.elapsed(), Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_poll_ends_with_a_change_of_lifecycle_and_with_nothing_less() {
        let call = live();
        let before = Instant::now();
        let waiting = tokio::spawn({
            let call = call.clone();
            async move { call.wait_for_change(Duration::from_secs(30)).await }
        });
        tokio::time::sleep(Duration::from_secs(3)).await;
        call.publish();
        tokio::time::sleep(Duration::from_secs(4)).await;
        call.record().lifecycle = Lifecycle::Dialing;
        call.publish();
        waiting.await.expect("no panic");
        assert_eq!(before.elapsed(), Duration::from_secs(7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_finalized_call_is_not_waited_for() {
        let call = live();
        call.record().lifecycle = Lifecycle::Finalized;
        call.publish();
        let before = Instant::now();
        call.wait_for_change(Duration::from_secs(30)).await;
        assert_eq!(before.elapsed(), Duration::ZERO);
    }
}
