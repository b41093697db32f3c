//! Recordings: where they lie, links to them that expire, and serving them with ranges.
//!
//! A link is `/recordings/{id}.wav?expires=SECONDS&signature=HEX`: HMAC-SHA256 over the name and the time, under the
//! service's own secret, so that nothing has to be stored and nobody can make one.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::secrets;

/// The size of a WAV header: a file that is no longer holds no audio.
const WAV_HEADER_BYTES: u64 = 44;

/// The folder of recordings, and the right to link into it.
#[derive(Debug, Clone)]
pub(super) struct Recordings {
    folder: PathBuf,
    secret: [u8; 32],
    lifetime: Duration,
}

impl Recordings {
    /// Recordings in `folder`, whose links hold for `lifetime`.
    pub(super) fn new(folder: PathBuf, secret: [u8; 32], lifetime: Duration) -> Self {
        Self { folder, secret, lifetime }
    }

    /// Where the recording of a call lies, or will lie.
    pub(super) fn path(&self, call: &str) -> PathBuf {
        self.folder.join(format!("{call}.wav"))
    }

    /// Whether there is a recording with audio in it.
    pub(super) fn exists(&self, call: &str) -> bool {
        std::fs::metadata(self.path(call)).is_ok_and(|file| file.is_file() && file.len() > WAV_HEADER_BYTES)
    }

    /// How much audio a recording holds [8 kHz samples]; zero if there is none that can be read.
    pub(super) fn samples(&self, call: &str) -> u64 {
        let Ok(reader) = hound::WavReader::open(self.path(call)) else { return 0 };
        let rate = u64::from(reader.spec().sample_rate).max(1);
        u64::from(reader.duration()) * 8000 / rate
    }

    /// A path on this server that gives the recording until it expires.
    pub(super) fn link(&self, call: &str, now: DateTime<Utc>) -> String {
        let expires = now.timestamp().saturating_add_unsigned(self.lifetime.as_secs());
        format!("/recordings/{call}.wav?expires={expires}&signature={}", self.signature(call, expires))
    }

    /// The file behind a link, if the link is ours and has not expired.
    pub(super) fn open(
        &self,
        file: &str,
        query: &HashMap<String, String>,
        now: DateTime<Utc>,
    ) -> Option<PathBuf> {
        let call = file.strip_suffix(".wav").filter(|id| is_identifier(id))?;
        let expires: i64 = query.get("expires")?.parse().ok()?;
        let genuine = secrets::equal(query.get("signature")?, &self.signature(call, expires));
        (genuine && now.timestamp() < expires).then(|| self.path(call))
    }

    fn signature(&self, call: &str, expires: i64) -> String {
        let expires = expires.to_string();
        let parts: [&[u8]; 4] = [b"recording\n", call.as_bytes(), b"\n", expires.as_bytes()];
        secrets::hex(&secrets::hmac(&self.secret, &parts))
    }
}

/// Identifiers are ours (UUIDs); anything else must not become a path.
pub(super) fn is_identifier(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).expect("a time")
    }

    fn parts(link: &str) -> (String, HashMap<String, String>) {
        let (path, query) = link.split_once('?').expect("a query");
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let query = pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        (path.strip_prefix("/recordings/").expect("a path").to_owned(), query)
    }

    #[test]
    fn a_link_holds_until_it_expires_and_cannot_be_altered() {
        let recordings = Recordings::new("/data".into(), [7; 32], Duration::from_secs(60));
        let (file, query) = parts(&recordings.link("abc-1", at(1000)));
        assert_eq!(recordings.open(&file, &query, at(1059)), Some("/data/abc-1.wav".into()));
        assert_eq!(recordings.open(&file, &query, at(1060)), None);
        assert_eq!(recordings.open("abc-2.wav", &query, at(1000)), None);
        let mut longer = query.clone();
        longer.insert("expires".into(), "9999".into());
        assert_eq!(recordings.open(&file, &longer, at(1000)), None);
        assert_eq!(recordings.open(&file, &HashMap::new(), at(1000)), None);
        let other = Recordings::new("/data".into(), [8; 32], Duration::from_secs(60));
        assert_eq!(other.open(&file, &query, at(1000)), None);
    }

    #[test]
    fn a_name_never_leaves_the_folder() {
        let recordings = Recordings::new("/data".into(), [7; 32], Duration::from_secs(60));
        for name in ["../x", "a/b", "", ".", "a.b", "ä"] {
            let (_, query) = parts(&recordings.link(name, at(0)));
            assert_eq!(recordings.open(&format!("{name}.wav"), &query, at(0)), None, "{name}");
        }
    }
}
