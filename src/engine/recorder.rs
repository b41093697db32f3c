//! Stereo WAV recordings, written while calls run by one thread for all of them.
//!
//! Left is the far end, right is ours, 8 kHz, 16 bit. The header is brought up to date about once a second, so a file
//! is playable whatever happens to the process.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use crossbeam_channel::{Receiver, Sender, TrySendError};
use hound::{SampleFormat, WavSpec, WavWriter};
use tokio::sync::oneshot;

use crate::call::port::{Channel, TapBlock};
use crate::call::tap::StereoTimeline;
use crate::engine::EngineError;
use crate::time::MediaTime;

/// Batches that may wait for the disk: half a minute of one call, or a second of many.
const QUEUE: usize = 4096;
/// Samples per channel between two updates of a file's header.
const FLUSH_EVERY: u64 = MediaTime::HZ;
/// How far back blocks of the two channels may arrive out of order.
const REORDER_WINDOW: u64 = 2 * MediaTime::HZ;

enum Message {
    Open { id: u64, path: PathBuf, start: MediaTime },
    Blocks { id: u64, blocks: Vec<TapBlock> },
    Close { id: u64, end: MediaTime, done: oneshot::Sender<()> },
}

/// A cloneable way to the recording thread. The thread ends when the last clone is gone and all files are closed.
#[derive(Clone)]
pub(super) struct Recorder {
    messages: Sender<Message>,
}

impl Recorder {
    pub(super) fn start() -> Result<Self, EngineError> {
        let (messages, queue) = crossbeam_channel::bounded(QUEUE);
        std::thread::Builder::new()
            .name("recorder".into())
            .spawn(move || run(&queue))
            .map_err(|source| EngineError::Thread { what: "the recorder", source })?;
        Ok(Self { messages })
    }

    /// Starts a recording at `start` of the leg's timeline.
    pub(super) fn open(&self, id: u64, path: &Path, start: MediaTime) -> Recording {
        let message = Message::Open { id, path: path.to_owned(), start };
        let alive = self.messages.try_send(message).is_ok();
        Recording { id, messages: self.messages.clone(), alive, lost_batches: 0 }
    }
}

/// One call's recording.
pub(super) struct Recording {
    id: u64,
    messages: Sender<Message>,
    alive: bool,
    lost_batches: u64,
}

impl Recording {
    /// Hands blocks to the disk; a disk that cannot keep up loses batches, which are counted, and never holds a call up.
    pub(super) fn write(&mut self, blocks: Vec<TapBlock>) {
        if !self.alive || blocks.is_empty() {
            return;
        }
        match self.messages.try_send(Message::Blocks { id: self.id, blocks }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => self.lost_batches += 1,
            Err(TrySendError::Disconnected(_)) => self.alive = false,
        }
    }

    /// Completes the file up to `end` and returns when it is on disk.
    pub(super) async fn close(self, end: MediaTime) {
        if self.lost_batches > 0 {
            tracing::warn!(batches = self.lost_batches, "the disk could not keep up with a recording");
        }
        let (done, closed) = oneshot::channel();
        let message = Message::Close { id: self.id, end, done };
        let messages = self.messages;
        // The queue may be full, and a close must not be lost: wait for room off the async threads.
        let sent = tokio::task::spawn_blocking(move || messages.send(message).is_ok()).await;
        if matches!(sent, Ok(true)) {
            let _ = closed.await;
        }
    }
}

struct OpenFile {
    timeline: StereoTimeline,
    writer: WavWriter<BufWriter<File>>,
    newest: MediaTime,
    flushed: u64,
}

fn run(queue: &Receiver<Message>) {
    let mut files: HashMap<u64, OpenFile> = HashMap::new();
    let mut samples = Vec::with_capacity(4 * Message::BATCH);
    for message in queue {
        let (id, result) = match message {
            Message::Open { id, path, start } => match OpenFile::create(&path, start) {
                Ok(file) => {
                    files.insert(id, file);
                    (id, Ok(()))
                }
                Err(error) => (id, Err(error)),
            },
            Message::Blocks { id, blocks } => {
                let result = files.get_mut(&id).map_or(Ok(()), |file| file.write(&blocks, &mut samples));
                (id, result)
            }
            Message::Close { id, end, done } => {
                let result = files.remove(&id).map_or(Ok(()), |file| file.finish(end, &mut samples));
                let _ = done.send(());
                (id, result)
            }
        };
        if let Err(error) = result {
            tracing::error!(%error, "a recording failed; the call goes on without it");
            files.remove(&id);
        }
    }
    for (_, file) in files {
        let end = file.newest;
        if let Err(error) = file.finish(end, &mut samples) {
            tracing::error!(%error, "a recording failed to close");
        }
    }
}

impl Message {
    /// Samples of a typical batch, for sizing the buffer.
    const BATCH: usize = 320;
}

impl OpenFile {
    fn create(path: &Path, start: MediaTime) -> Result<Self, hound::Error> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let spec =
            WavSpec { channels: 2, sample_rate: 8000, bits_per_sample: 16, sample_format: SampleFormat::Int };
        let mut writer = WavWriter::create(path, spec)?;
        writer.flush()?;
        Ok(Self { timeline: StereoTimeline::new(start), writer, newest: start, flushed: 0 })
    }

    fn write(&mut self, blocks: &[TapBlock], samples: &mut Vec<i16>) -> Result<(), hound::Error> {
        samples.clear();
        for block in blocks {
            self.timeline.push(block, samples);
            if block.channel == Channel::Near {
                self.newest = self.newest.max(block.frame.end());
            }
        }
        self.timeline.flush_until(self.newest.minus(REORDER_WINDOW), samples);
        self.put(samples)?;
        if self.timeline.written() >= self.flushed + FLUSH_EVERY {
            self.writer.flush()?;
            self.flushed = self.timeline.written();
        }
        Ok(())
    }

    fn put(&mut self, samples: &[i16]) -> Result<(), hound::Error> {
        samples.iter().try_for_each(|&sample| self.writer.write_sample(sample))
    }

    fn finish(mut self, end: MediaTime, samples: &mut Vec<i16>) -> Result<(), hound::Error> {
        samples.clear();
        self.timeline.finish(end, samples);
        self.put(samples)?;
        self.writer.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::Frame;
    use crate::time::Rate;

    fn block(channel: Channel, at_ms: u64, value: i16) -> TapBlock {
        TapBlock {
            channel,
            frame: Frame::from_samples(MediaTime::from_ms(at_ms), Rate::Hz8000, &[value; 160]),
        }
    }

    fn read(path: &Path) -> Vec<i16> {
        let mut reader = hound::WavReader::open(path).expect("a playable file");
        assert_eq!(reader.spec().channels, 2);
        reader.samples::<i16>().map(|s| s.expect("whole")).collect()
    }

    #[tokio::test]
    async fn both_channels_share_one_timeline_that_starts_at_the_answer() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("deep/call.wav");
        let recorder = Recorder::start().expect("a thread");
        let mut recording = recorder.open(1, &path, MediaTime::from_ms(1000));
        recording.write(vec![
            block(Channel::Near, 1000, 1),
            block(Channel::Far, 1040, 2),
            block(Channel::Near, 1020, 3),
        ]);
        recording.close(MediaTime::from_ms(1100)).await;
        let samples = read(&path);
        assert_eq!(samples.len(), 2 * 800, "100 ms in stereo");
        assert_eq!(samples[..2], [0, 1], "left is the far end, right is ours");
        assert_eq!(samples[2 * 160..][..2], [0, 3]);
        assert_eq!(samples[2 * 320..][..2], [2, 0]);
        assert_eq!(samples[2 * 480..][..2], [0, 0], "gaps are silence");
    }

    #[tokio::test]
    async fn a_file_is_playable_while_the_call_runs() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("call.wav");
        let recorder = Recorder::start().expect("a thread");
        let mut recording = recorder.open(1, &path, MediaTime::ZERO);
        for i in 0..500 {
            recording.write(vec![block(Channel::Near, i * 20, 5), block(Channel::Far, i * 20, 6)]);
        }
        // Another file's close passes through the same queue, so everything before it has been written.
        recorder.open(2, &dir.path().join("other.wav"), MediaTime::ZERO).close(MediaTime::ZERO).await;
        let samples = read(&path);
        assert!(samples.len() >= 2 * 8000 * 7, "seven of ten seconds are readable: {}", samples.len());
        assert_eq!(samples[samples.len() - 2..], [6, 5]);
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_written_costs_the_recording_and_nothing_else() {
        let recorder = Recorder::start().expect("a thread");
        let mut recording = recorder.open(1, Path::new("/proc/none/call.wav"), MediaTime::ZERO);
        recording.write(vec![block(Channel::Near, 0, 1)]);
        recording.close(MediaTime::from_ms(20)).await;
    }
}
