//! Follows each call to its end: events into the record in memory at once, and from there into the database.
//!
//! The database may be slow or gone without a call noticing: writes while the call lives are queued and may be lost,
//! since its end is written as a whole, with retries. A call whose engine falls silent is ended by the clock.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::dialer::Events;
use super::service::{LiveCall, Service};
use super::store::{CallRecord, StampedTurn, StoreError, talk_seconds};
use crate::agent::Turn;
use crate::answer::Verdict;
use crate::call::outcome::{Latencies, Quality, TaskResult};
use crate::call::{CallEvent, CallReport, HangupSource, Lifecycle, Outcome};
use crate::time::MediaTime;

/// What the engine may take beyond ringing and talking before it is thought lost.
const GRACE: Duration = Duration::from_secs(60);

/// Waits between attempts to write the end of a call: the first few before anyone is told of the end.
const FIRST_RETRIES: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2)];
const LATER_RETRY: Duration = Duration::from_secs(30);
const LATER_RETRIES: usize = 20;

/// Something to write while the call lives.
enum Write {
    Lifecycle(Box<CallRecord>),
    Turn(usize, StampedTurn),
}

/// Follows `call` until it is finalized and that is written down.
pub(super) async fn follow(service: Arc<Service>, call: Arc<LiveCall>, mut events: Box<dyn Events>) {
    let id = call.record().id.clone();
    let (writes, queue) = mpsc::channel(64);
    let writer = tokio::spawn(write(service.clone(), id.clone(), queue));
    let report = watch(&service, &call, events.as_mut(), &writes).await;
    writer.abort();

    let report = report.unwrap_or_else(|| {
        tracing::error!(call = %id, "the engine lost the call");
        lost(&call.record())
    });
    let has_recording = service.recordings.exists(&id);
    let mut record = call.record().clone();
    close(&mut record, report, has_recording, service.now());
    let written = write_end(&service, &mut record, &FIRST_RETRIES).await;
    let outcome = record.report.as_ref().map(|r| r.outcome);
    tracing::info!(call = %id, ?outcome, "call finalized");
    *call.record() = record.clone();
    call.publish();
    service.notify_ended();
    if !written && !write_end(&service, &mut record, &[LATER_RETRY; LATER_RETRIES]).await {
        tracing::error!(call = %id, "the end of the call could not be written down");
    }
    service.remove_live(&id);
}

/// Takes in events until the last one, which gives the report; `None` if it never comes.
async fn watch(
    service: &Service,
    call: &LiveCall,
    events: &mut dyn Events,
    writes: &mpsc::Sender<Write>,
) -> Option<CallReport> {
    let longest = call.record().max_duration_seconds + service.config.sip.ring_seconds;
    let mut deadline = Instant::now() + Duration::from_secs(longest) + GRACE;
    let mut told = false;
    loop {
        let event = match tokio::time::timeout_at(deadline, events.next()).await {
            Ok(event) => event?,
            Err(_) if told => return None,
            Err(_) => {
                call.control.hang_up(HangupSource::System);
                told = true;
                deadline = Instant::now() + GRACE;
                continue;
            }
        };
        let now = service.now();
        let write = match event {
            CallEvent::Finalized(report) => return Some(*report),
            CallEvent::Lifecycle(lifecycle) => enter(&mut call.record(), lifecycle, now),
            CallEvent::Turn(turn) => Some(add_turn(&mut call.record(), turn, now)),
            _ => None,
        };
        call.publish();
        if let Some(write) = write
            && writes.try_send(write).is_err()
        {
            tracing::warn!("a write about a living call was dropped; its end will hold everything");
        }
    }
}

/// Notes a new phase. The last one is entered with the report, never here, and no phase is entered twice.
fn enter(record: &mut CallRecord, lifecycle: Lifecycle, now: DateTime<Utc>) -> Option<Write> {
    if lifecycle <= record.lifecycle || lifecycle == Lifecycle::Finalized {
        return None;
    }
    record.lifecycle = lifecycle;
    record.dialing_at.get_or_insert(now);
    if lifecycle == Lifecycle::Answered {
        record.answered_at = Some(now);
    }
    Some(Write::Lifecycle(Box::new(CallRecord { turns: Vec::new(), ..record.clone() })))
}

fn add_turn(record: &mut CallRecord, turn: Turn, now: DateTime<Utc>) -> Write {
    let origin = origin(record).unwrap_or_else(|| now - span(turn.end));
    let stamped = StampedTurn { at: origin + span(turn.start), turn };
    record.turns.push(stamped.clone());
    Write::Turn(record.turns.len() - 1, stamped)
}

/// When the call's timeline began by the wall clock, as the first turn had it.
fn origin(record: &CallRecord) -> Option<DateTime<Utc>> {
    record.turns.first().map(|first| first.at - span(first.turn.start))
}

fn span(at: MediaTime) -> TimeDelta {
    TimeDelta::milliseconds(i64::try_from(at.as_ms()).unwrap_or(i64::MAX / 2))
}

/// Turns a living record into the final one.
fn close(record: &mut CallRecord, mut report: CallReport, has_recording: bool, now: DateTime<Utc>) {
    let talk = span(MediaTime::from_samples(report.talk_samples));
    if report.answered_at.is_some() {
        record.answered_at.get_or_insert(now - talk);
    }
    let answered = record.answered_at.zip(report.answered_at).map(|(wall, media)| wall - span(media));
    let origin = origin(record).or(answered).unwrap_or(record.queued_at);
    let turns = std::mem::take(&mut report.transcript).into_iter().map(|turn| {
        let known = record.turns.iter().find(|t| t.turn.start == turn.start && t.turn.role == turn.role);
        StampedTurn { at: known.map_or_else(|| origin + span(turn.start), |t| t.at), turn }
    });
    record.turns = turns.collect();
    record.lifecycle = Lifecycle::Finalized;
    record.finalized_at = Some(now);
    record.has_recording = has_recording;
    record.report = Some(report);
}

/// The report of a call whose engine is gone: our own fault, with the transcript so far.
fn lost(record: &CallRecord) -> CallReport {
    CallReport {
        outcome: Outcome::SystemError,
        hangup_cause: "normal_temporary_failure".into(),
        sip_status: 0,
        hangup_source: HangupSource::System,
        answered_by: Verdict::default(),
        task_result: TaskResult::default(),
        transcript: record.turns.iter().map(|t| t.turn.clone()).collect(),
        answered_at: None,
        talk_samples: 0,
        latency: Latencies::default(),
        quality: Quality::default(),
        events: Vec::new(),
    }
}

/// Finalizes what a crash left open.
pub(super) async fn recover(service: &Service) -> Result<(), StoreError> {
    for mut record in service.store.unfinished().await? {
        let mut report = lost(&record);
        if record.answered_at.is_some() {
            report.talk_samples = service.recordings.samples(&record.id);
        }
        let has_recording = service.recordings.exists(&record.id);
        close(&mut record, report, has_recording, service.now());
        service.store.finalize(&record, service.allowance_seconds()).await?;
        let seconds = record.report.as_ref().map(|r| talk_seconds(r.talk_samples));
        tracing::warn!(call = %record.id, seconds, "call was cut off by the end of the last process");
    }
    Ok(())
}

async fn write(service: Arc<Service>, id: String, mut queue: mpsc::Receiver<Write>) {
    while let Some(write) = queue.recv().await {
        let result = match &write {
            Write::Lifecycle(record) => service.store.set_lifecycle(record).await,
            Write::Turn(seq, turn) => service.store.insert_turn(&id, *seq, turn).await,
        };
        if let Err(error) = result {
            tracing::warn!(call = %id, %error, "a write about a living call failed; its end will hold everything");
        }
    }
}

/// Writes the end of the call, again after each of `waits`; sets the balance, and says whether it was written.
async fn write_end(service: &Service, record: &mut CallRecord, waits: &[Duration]) -> bool {
    let mut waits = waits.iter();
    loop {
        match service.store.finalize(record, service.allowance_seconds()).await {
            Ok(balance) => {
                record.balance_seconds.get_or_insert(balance);
                return true;
            }
            Err(error) => tracing::warn!(call = %record.id, %error, "the end of the call was not written"),
        }
        let Some(&wait) = waits.next() else { return false };
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::Mutex;

    use super::*;
    use crate::agent::Role;
    use crate::engine::{CallRequest, PlaceError};
    use crate::server::config::Config;
    use crate::server::dialer::{Control, Dialer, Placed};

    struct Nobody;

    impl Dialer for Nobody {
        fn place(&self, _: CallRequest) -> Result<Placed, PlaceError> {
            Err(PlaceError::NoTrunk)
        }

        fn shutdown(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
            Box::pin(async {})
        }
    }

    #[derive(Default)]
    struct Asked(Mutex<Vec<HangupSource>>);

    impl Control for Asked {
        fn hang_up(&self, source: HangupSource) {
            self.0.lock().expect("no panic").push(source);
        }
    }

    struct Channel(mpsc::Receiver<CallEvent>);

    impl Events for Channel {
        fn next(&mut self) -> Pin<Box<dyn Future<Output = Option<CallEvent>> + Send + '_>> {
            Box::pin(self.0.recv())
        }
    }

    /// A service whose database is gone. Time stands still from here on and moves only while everybody waits.
    async fn broken_service() -> (tempfile::TempDir, Arc<Service>) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = Config::default();
        config.server.data_dir = folder.path().to_owned();
        let service = Service::start(config, Arc::new(Nobody)).await.expect("it starts");
        service.store.close().await;
        tokio::time::pause();
        (folder, service)
    }

    #[tokio::test]
    async fn a_call_ends_for_its_client_although_the_database_is_gone() {
        let (_folder, service) = broken_service().await;
        let call = Arc::new(LiveCall::new(CallRecord::sample("a"), Arc::new(Asked::default())));
        service.add_live("a".into(), call.clone());
        let (events, receiver) = mpsc::channel(4);
        let following = tokio::spawn(follow(service.clone(), call.clone(), Box::new(Channel(receiver))));
        events.send(CallEvent::Turn(turn("hello", 0, 10))).await.expect("followed");
        let report = lost(&call.record());
        let report = CallReport { outcome: Outcome::Busy, transcript: vec![turn("hello", 0, 10)], ..report };
        events.send(CallEvent::Finalized(Box::new(report))).await.expect("followed");
        call.wait_for_change(Duration::from_secs(10)).await;
        let seen = service.find("a", 1).await.expect("from memory").expect("there");
        assert_eq!(seen.report.map(|r| r.outcome), Some(Outcome::Busy));
        assert_eq!(seen.turns.len(), 1);
        assert_eq!(service.active_calls(), 0);
        following.await.expect("it gives up in the end, without a panic");
        assert!(service.live("a").is_none());
    }

    #[tokio::test]
    async fn a_call_whose_engine_falls_silent_is_ended_by_the_clock() {
        let (_folder, service) = broken_service().await;
        let control = Arc::new(Asked::default());
        let call = Arc::new(LiveCall::new(CallRecord::sample("a"), control.clone()));
        let (_events, receiver) = mpsc::channel(4);
        let before = Instant::now();
        tokio::spawn(follow(service, call.clone(), Box::new(Channel(receiver))));
        call.wait_for_change(Duration::from_secs(3600)).await;
        assert_eq!(*control.0.lock().expect("no panic"), [HangupSource::System]);
        assert_eq!(call.record().report.as_ref().map(|r| r.outcome), Some(Outcome::SystemError));
        // 60 s of talk and 45 s of ringing at most, and a minute of grace twice.
        assert!((225..230).contains(&before.elapsed().as_secs()), "{:?}", before.elapsed());
    }

    fn at(ms: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(ms).expect("a time")
    }

    fn turn(text: &str, start_ms: u64, end_ms: u64) -> Turn {
        let (start, end) = (MediaTime::from_ms(start_ms), MediaTime::from_ms(end_ms));
        Turn { role: Role::User, text: text.into(), start, end, interrupted: false, tool: None }
    }

    #[test]
    fn phases_go_forward_only() {
        let mut call = CallRecord::sample("a");
        assert!(enter(&mut call, Lifecycle::Answered, at(3000)).is_some());
        assert!(enter(&mut call, Lifecycle::Dialing, at(4000)).is_none());
        assert!(enter(&mut call, Lifecycle::Answered, at(5000)).is_none());
        assert!(enter(&mut call, Lifecycle::Finalized, at(6000)).is_none());
        assert_eq!(call.lifecycle, Lifecycle::Answered);
        assert_eq!((call.dialing_at, call.answered_at), (Some(at(3000)), Some(at(3000))));
    }

    #[test]
    fn turns_keep_the_times_they_were_first_shown_with() {
        let mut call = CallRecord::sample("a");
        add_turn(&mut call, turn("hello", 500, 1000), at(11_000));
        assert_eq!(call.turns[0].at, at(10_500));
        add_turn(&mut call, turn("again", 2000, 2500), at(13_000));
        assert_eq!(call.turns[1].at, at(12_000), "by the timeline, not by when we heard of it");
        let mut report = lost(&call);
        report.transcript.push(turn("late", 3000, 3500));
        report.answered_at = Some(MediaTime::ZERO);
        close(&mut call, report, false, at(20_000));
        let times: Vec<_> = call.turns.iter().map(|t| t.at).collect();
        assert_eq!(times, [at(10_500), at(12_000), at(13_000)]);
        assert_eq!(call.report.as_ref().map(|r| r.transcript.len()), Some(0), "kept once");
    }
}
