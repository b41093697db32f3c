//! The beep after which a mailbox records: a steady tone, or a steady pair, that stands alone.
//!
//! 8 kHz frames flow in, `BeepStart` and `BeepEnd` flow out; time is the frames' own position. A 32 ms Hann
//! spectrum is taken every 10 ms. A beep is a tone of 250–2000 Hz and −46…0 dBFS, 80 ms to 2 s long, that holds
//! nearly all of the band's energy, keeps its frequency to half a per cent and its level to 1.5 dB, and has quiet on
//! both sides. Vowels glide, music decays and runs on, so neither passes.
//!
//! Call-progress tones are as steady as beeps (ITU-T E.180 / Q.35 supplement: 350–490 and 600–640 Hz, fax calling
//! 1100 Hz, special information tones 950/1400/1800 Hz), so before anybody has spoken those frequencies are no beep;
//! a mailbox speaks first. Nor are DTMF pairs, harmonics, or 0.9 s and more of 400–460 Hz. What is left open: a
//! busy tone (425 Hz, 0.5 s) after a speaker hung up begins like a 425 Hz beep; telling them apart needs the cadence.

use super::spectrum::{HOP, Peaks, Spectrum};
use super::{Detector, narrow};
use crate::audio::Frame;
use crate::signal::{Signal, SignalKind, Signals};
use crate::time::MediaTime;

/// A single tone's least share of the band's energy, and a pair's.
const SINGLE_SHARE: f32 = 0.8;
const PAIR_SHARE: f32 = 0.88;
/// The weaker tone of a pair has at least this of the stronger's energy (−8 dB).
const PAIR_BALANCE: f32 = 0.16;
/// Weakest tone (dBFS).
const WEAKEST_DB: f32 = -46.0;
/// Hops that make a candidate, that make a `BeepStart`, and that a tone may be away (a lost packet) before it ended.
const CANDIDATE_HOPS: u32 = 6;
const START_HOPS: u32 = 15;
const AWAY_HOPS: u32 = 8;
/// Longest beep [hops of 10 ms], and shortest (samples).
const LONGEST_HOPS: u64 = 205;
const SHORTEST: u64 = 8 * 60;
/// Low tones (a voice's pitch and its first harmonics) must be at least this long (samples).
const SHORTEST_LOW: u64 = 8 * 200;
const LOW_HZ: f32 = 600.0;
/// Before anybody spoke a beep is at least this high: lower ones are progress tones or music.
const UNSPOKEN_HZ: f32 = 650.0;
/// A progress tone that sounds again within this long is one of a cadence (samples).
const CADENCE: u64 = 8 * 4300;
const LOWEST_HZ: f32 = 250.0;
const HIGHEST_HZ: f32 = 2000.0;
/// Quiet before and after: this far below the tone (dB).
const ALONE_DB: f32 = 7.0;

/// What one hop sounds like, if it is a tone.
#[derive(Clone, Copy)]
struct Tone {
    low_hz: f32,
    /// The upper tone of a pair, or zero.
    high_hz: f32,
    level_db: f32,
}

fn tolerance(hz: f32) -> f32 {
    (0.012 * hz).max(8.0)
}

fn mean(levels: &[f32]) -> f32 {
    levels.iter().sum::<f32>() / levels.len() as f32
}

fn near(a: f32, b: f32, share: f32) -> bool {
    (a - b).abs() < share * b
}

fn is_dtmf(low: f32, high: f32) -> bool {
    [697.0, 770.0, 852.0, 941.0].iter().any(|f| near(low, *f, 0.025))
        && [1209.0, 1336.0, 1477.0, 1633.0].iter().any(|f| near(high, *f, 0.025))
}

/// Two tones in a ratio of small integers are a voice's or an instrument's harmonics.
fn is_harmonic(low: f32, high: f32) -> bool {
    [2.0, 1.5, 3.0, 4.0 / 3.0, 5.0 / 3.0].iter().any(|r| near(high, low * r, 0.02))
}

fn is_progress(tone: &Tone) -> bool {
    let band = |f: f32| {
        (350.0..=490.0).contains(&f)
            || (600.0..=640.0).contains(&f)
            || [950.0, 1100.0, 1400.0, 1800.0].iter().any(|p| near(f, *p, 0.03))
    };
    band(tone.low_hz) || (tone.high_hz > 0.0 && band(tone.high_hz))
}

impl Tone {
    fn of(p: &Peaks) -> Option<Self> {
        let (low, high) =
            if p.first_hz < p.second_hz { (p.first_hz, p.second_hz) } else { (p.second_hz, p.first_hz) };
        let dtmf = p.second > 0.03 * p.first && is_dtmf(low, high);
        if dtmf || 10.0 * (p.first + p.second).log10() < WEAKEST_DB {
            return None;
        }
        if p.first > SINGLE_SHARE * p.total {
            return Some(Self { low_hz: p.first_hz, high_hz: 0.0, level_db: 10.0 * p.first.log10() });
        }
        let pair = p.second > PAIR_BALANCE * p.first && p.first + p.second > PAIR_SHARE * p.total;
        (pair && !is_harmonic(low, high)).then(|| Self {
            low_hz: low,
            high_hz: high,
            level_db: 10.0 * (p.first + p.second).log10(),
        })
    }

    fn same(&self, other: &Self) -> bool {
        (self.low_hz - other.low_hz).abs() < tolerance(other.low_hz)
            && (self.high_hz - other.high_hz).abs() < tolerance(other.high_hz)
    }
}

/// A tone being followed.
#[derive(Clone, Copy)]
struct Candidate {
    /// Running means.
    tone: Tone,
    hops: u32,
    /// Hops since the first, whether the tone was there or not.
    age: u64,
    away: u32,
    /// Hops whose level is within 1.5 dB of the running mean.
    steady: u32,
    /// Sums over the inner hops for the frequency's spread.
    counted: u32,
    sum: f64,
    sum_squares: f64,
    first: MediaTime,
    last: MediaTime,
    /// The band's level shortly before it began (dBFS).
    before_db: f32,
    started: bool,
}

impl Candidate {
    fn new(tone: Tone, at: MediaTime, before_db: f32) -> Self {
        Self {
            tone,
            hops: 1,
            age: 1,
            away: 0,
            steady: 1,
            counted: 0,
            sum: 0.0,
            sum_squares: 0.0,
            first: at,
            last: at,
            before_db,
            started: false,
        }
    }

    fn add(&mut self, tone: Tone, at: MediaTime) {
        self.hops += 1;
        self.away = 0;
        self.last = at;
        let weight = 1.0 / self.hops.min(8) as f32;
        let mean = &mut self.tone;
        if (tone.level_db - mean.level_db).abs() < 1.5 {
            self.steady += 1;
        }
        mean.low_hz += weight * (tone.low_hz - mean.low_hz);
        mean.high_hz += weight * (tone.high_hz - mean.high_hz);
        // The first hops rise with the tone: take the level over from them at once.
        mean.level_db += if self.hops <= 4 {
            tone.level_db - mean.level_db
        } else {
            weight * (tone.level_db - mean.level_db)
        };
        if self.hops > 2 {
            self.counted += 1;
            self.sum += f64::from(tone.low_hz);
            self.sum_squares += f64::from(tone.low_hz) * f64::from(tone.low_hz);
        }
    }

    fn is_steady(&self) -> bool {
        let n = f64::from(self.counted.max(1));
        let mean = self.sum / n;
        let deviation = (self.sum_squares / n - mean * mean).max(0.0).sqrt();
        let present = f64::from(self.hops) >= 0.85 * (self.age - u64::from(self.away)) as f64;
        let level = f64::from(self.steady) >= 0.75 * f64::from(self.hops);
        present
            && level
            && deviation < (0.005 * mean).max(2.6)
            && self.before_db < self.tone.level_db - ALONE_DB
    }
}

/// The beep detector of one stream.
pub struct BeepDetector {
    spectrum: Spectrum,
    candidate: Option<Candidate>,
    /// The band's level in the latest hops, newest first (dBFS).
    levels: [f32; 12],
    heard_speech: bool,
    /// Where the last steady tone ended, and its frequency: tones that follow one another are a melody or an information tone.
    last_tone: Option<(MediaTime, f32)>,
}

impl std::fmt::Debug for BeepDetector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BeepDetector(in tone: {})", self.candidate.is_some())
    }
}

impl Default for BeepDetector {
    fn default() -> Self {
        Self::new()
    }
}

impl BeepDetector {
    /// A detector at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self {
            spectrum: Spectrum::new(),
            candidate: None,
            levels: [-90.0; 12],
            heard_speech: false,
            last_tone: None,
        }
    }

    /// The stream broke off: a tone under way is forgotten.
    pub fn handle_gap(&mut self) {
        self.spectrum = Spectrum::new();
        self.candidate = None;
        self.levels = [-90.0; 12];
    }

    fn hop(&mut self, peaks: &Peaks, center: MediaTime, decided: MediaTime, out: &mut Signals) {
        self.levels.rotate_right(1);
        self.levels[0] = 10.0 * peaks.total.log10();
        let tone = Tone::of(peaks);
        let Some(candidate) = &mut self.candidate else {
            // 40–110 ms ago: later windows already held the tone's rise.
            let before = mean(&self.levels[4..]);
            self.candidate = tone.map(|t| Candidate::new(t, center, before));
            return;
        };
        candidate.age += 1;
        match tone {
            Some(tone) if tone.same(&candidate.tone) => {
                candidate.add(tone, center);
                if !candidate.started && candidate.hops >= START_HOPS {
                    self.start(decided, out);
                }
            }
            _ if candidate.hops < CANDIDATE_HOPS => {
                // Too young to be missed: the new tone, if any, is the better candidate.
                let before = candidate.before_db;
                self.candidate = tone.map(|t| Candidate::new(t, center, before));
            }
            _ => {
                candidate.away += 1;
                if candidate.away >= AWAY_HOPS {
                    self.end(decided, out);
                }
            }
        }
    }

    /// Whether the tone may be a beep, from what came before it.
    fn plausible(&self, c: &Candidate) -> bool {
        let hz = c.tone.low_hz;
        let progress = is_progress(&c.tone);
        let follows = self.last_tone.is_some_and(|(end, last_hz)| {
            let since = c.first.since(end);
            since < 8 * 200 || (progress && since < CADENCE && near(hz, last_hz, 0.02))
        });
        let expected = self.heard_speech || (!progress && hz >= UNSPOKEN_HZ);
        c.is_steady() && !follows && expected && (LOWEST_HZ..=HIGHEST_HZ).contains(&hz)
    }

    fn start(&mut self, decided: MediaTime, out: &mut Signals) {
        let Some(c) = self.candidate else { return };
        if self.plausible(&c) && c.age <= LONGEST_HOPS {
            out.push(Signal { at: c.first, decided, kind: SignalKind::BeepStart { freq_hz: c.tone.low_hz } });
            if let Some(c) = &mut self.candidate {
                c.started = true;
            }
        }
    }

    fn end(&mut self, decided: MediaTime, out: &mut Signals) {
        let Some(c) = self.candidate.take() else { return };
        let length = c.last.since(c.first);
        let low = c.tone.low_hz < LOW_HZ && c.tone.high_hz == 0.0;
        let long_enough = length >= if low { SHORTEST_LOW } else { SHORTEST };
        let ringing = (400.0..460.0).contains(&c.tone.low_hz) && c.tone.high_hz == 0.0 && length >= 8 * 880;
        let after = mean(&self.levels[..4]);
        let alone = after < c.tone.level_db - ALONE_DB;
        if long_enough && !ringing && alone && length <= LONGEST_HOPS * HOP as u64 && self.plausible(&c) {
            let freq_hz = c.tone.low_hz;
            if !c.started {
                out.push(Signal { at: c.first, decided, kind: SignalKind::BeepStart { freq_hz } });
            }
            out.push(Signal { at: c.last, decided, kind: SignalKind::BeepEnd { freq_hz, start: c.first } });
        }
        if long_enough && c.is_steady() {
            self.last_tone = Some((c.last, c.tone.low_hz));
        }
    }
}

impl Detector for BeepDetector {
    fn observe(&mut self, frame: &Frame, out: &mut Signals) {
        self.heard_speech |= out.iter().any(|s| s.kind == SignalKind::SpeechStart);
        let hops = self.spectrum.observe(&narrow(frame));
        for (peaks, back) in hops.iter().zip([HOP, 0]) {
            let center = frame.end().minus((back + Spectrum::HALF) as u64);
            self.hop(peaks, center, frame.end(), out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Rate;

    /// Sines and noise, in pieces of (ms, frequencies, amplitude).
    fn sound(pieces: &[(usize, &[f32], f32)], noise: f32) -> Vec<i16> {
        let mut state = 1u32;
        let mut out = Vec::new();
        for (ms, tones, amplitude) in pieces {
            for n in 0..8 * ms {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let t = n as f32 * std::f32::consts::TAU / 8000.0;
                let tone: f32 = tones.iter().map(|f| amplitude * (t * f).sin()).sum();
                out.push((32767.0 * (tone + noise * ((state >> 16) as f32 / 32768.0 - 1.0))) as i16);
            }
        }
        out
    }

    /// (start, end, frequency) of each beep, when `spoken` after someone has spoken.
    fn beeps(pcm: &[i16], spoken: bool) -> Vec<(u64, u64, u32)> {
        let mut detector = BeepDetector::new();
        let mut found = Vec::new();
        let mut started = 0;
        for (i, samples) in pcm.chunks(160).enumerate() {
            let at = MediaTime::from_samples(160 * i as u64);
            let mut out = Signals::new();
            if spoken && i == 0 {
                out.push(Signal { at, decided: at, kind: SignalKind::SpeechStart });
            }
            detector.observe(&Frame::from_samples(at, Rate::Hz8000, samples), &mut out);
            for signal in out.iter() {
                match signal.kind {
                    SignalKind::BeepStart { .. } => started += 1,
                    SignalKind::BeepEnd { freq_hz, start } => {
                        assert!(signal.decided.ms_since(signal.at) <= 120 && started > found.len());
                        found.push((start.as_ms(), signal.at.as_ms(), freq_hz.round() as u32));
                    }
                    _ => {}
                }
            }
        }
        found
    }

    #[test]
    fn tones_of_80_ms_to_2_s_in_noise_are_beeps() {
        for (hz, ms, amplitude) in [
            (1000.0, 80, 0.1),
            (1000.0, 400, 0.5),
            (703.0, 405, 0.02),
            (425.0, 400, 0.1),
            (1633.0, 300, 0.05),
            (1400.0, 1900, 0.2),
        ] {
            let pcm = sound(&[(600, &[], 0.0), (ms, &[hz], amplitude), (600, &[], 0.0)], 0.003);
            let found = beeps(&pcm, true);
            let [(start, end, freq)] = found[..] else { panic!("{hz} Hz {ms} ms: {found:?}") };
            assert!(
                start.abs_diff(600) <= 15 && end.abs_diff(600 + ms as u64) <= 15,
                "{hz} {ms}: {start} {end}"
            );
            assert!((freq as f32 - hz).abs() < 3.0);
        }
    }

    #[test]
    fn a_pair_of_tones_is_a_beep_and_a_lost_packet_does_not_split_it() {
        let pcm = sound(&[(600, &[], 0.0), (500, &[440.0, 620.0], 0.1), (600, &[], 0.0)], 0.001);
        assert_eq!(beeps(&pcm, true).len(), 1);
        let mut pcm = sound(&[(600, &[], 0.0), (500, &[1000.0], 0.1), (600, &[], 0.0)], 0.001);
        pcm[8 * 800..8 * 820].fill(0);
        assert_eq!(beeps(&pcm, true).len(), 1);
    }

    #[test]
    fn progress_tones_before_anybody_spoke_are_no_beeps() {
        let cadences: [(&[f32], usize, usize); 7] = [
            (&[440.0, 480.0], 2000, 4000),
            (&[425.0], 1000, 4000),
            (&[425.0], 500, 500),
            (&[480.0, 620.0], 500, 500),
            (&[480.0, 620.0], 250, 250),
            (&[400.0, 450.0], 400, 200),
            (&[1100.0], 500, 3000),
        ];
        for (tones, on, off) in cadences {
            let cycle = [(on, tones, 0.1), (off, &[][..], 0.0)];
            let pcm = sound(&[&[(300, &[][..], 0.0)][..], &cycle, &cycle, &cycle].concat(), 0.001);
            assert_eq!(beeps(&pcm, false), [], "{tones:?}");
        }
        let sit = sound(
            &[
                (300, &[], 0.0),
                (330, &[950.0], 0.1),
                (330, &[1400.0], 0.1),
                (330, &[1800.0], 0.1),
                (900, &[], 0.0),
            ],
            0.001,
        );
        assert_eq!(beeps(&sit, false), []);
    }

    #[test]
    fn digits_glides_long_tones_and_chords_are_no_beeps() {
        let digit = sound(&[(500, &[], 0.0), (200, &[770.0, 1336.0], 0.1), (500, &[], 0.0)], 0.001);
        assert_eq!(beeps(&digit, true), []);
        let long = sound(&[(500, &[], 0.0), (2600, &[1000.0], 0.1), (500, &[], 0.0)], 0.001);
        assert_eq!(beeps(&long, true), []);
        let chord = sound(&[(500, &[], 0.0), (400, &[440.0, 880.0], 0.1), (500, &[], 0.0)], 0.001);
        assert_eq!(beeps(&chord, true), []);
        let mut glide = sound(&[(500, &[], 0.0)], 0.001);
        let mut phase = 0.0f32;
        for n in 0..3200 {
            phase += std::f32::consts::TAU * (600.0 + n as f32 / 20.0) / 8000.0;
            glide.push((3000.0 * phase.sin()) as i16);
        }
        glide.extend([0; 4000]);
        assert_eq!(beeps(&glide, true), []);
    }

    #[test]
    fn a_melody_is_no_beep() {
        let notes: Vec<(usize, &[f32], f32)> = vec![
            (300, &[523.0], 0.1),
            (300, &[587.0], 0.1),
            (300, &[659.0], 0.1),
            (300, &[784.0], 0.1),
            (800, &[], 0.0),
        ];
        let pcm = sound(&[&[(300, &[][..], 0.0)][..], &notes].concat(), 0.001);
        assert_eq!(beeps(&pcm, true).iter().filter(|b| b.0 > 400).count(), 0);
    }
}
