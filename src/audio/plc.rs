//! Concealment of lost 8 kHz audio by repeating the last pitch period, fading to silence within 60 ms.
//!
//! Received samples in, made-up samples out, any number per call; nobody passes time, it counts samples. Nothing
//! allocates. Source: modelled on ITU-T G.711 Appendix I (pitch range, quarter-period overlap-add, attenuation of 20 % per 10 ms
//! after the first 10, silence from 60 ms). Unlike there the output is not delayed by 3.75 ms: the seam into the first
//! concealed sample is smoothed with the mirrored last quarter period. One period is repeated, not up to three.

/// Longest pitch period searched, 66 Hz (samples).
const PITCH_MAX: usize = 120;
/// Shortest pitch period searched, 200 Hz (samples). Higher voices are found at a multiple of their period.
const PITCH_MIN: usize = 40;
/// Samples compared when searching: 20 ms.
const WINDOW: usize = 160;
/// Samples remembered: the window at the longest lag.
const HISTORY: usize = WINDOW + PITCH_MAX;
/// Samples concealed at full level: 10 ms.
const HOLD: usize = 80;
/// Samples concealed at all: 60 ms.
const SILENT_FROM: usize = 480;

/// Makes up for lost 8 kHz audio of one stream.
#[derive(Clone, Debug)]
pub struct Concealer {
    /// The newest samples, oldest first, concealed ones included.
    history: [i16; HISTORY],
    /// One pitch period whose end joins its beginning.
    cycle: [i16; PITCH_MAX],
    /// Samples in `cycle`.
    pitch: usize,
    /// Next sample of `cycle`.
    at: usize,
    /// Samples made up since the last received one.
    concealed: usize,
}

impl Concealer {
    /// A concealer that has heard silence.
    #[must_use]
    pub const fn new() -> Self {
        Self { history: [0; HISTORY], cycle: [0; PITCH_MAX], pitch: PITCH_MAX, at: 0, concealed: 0 }
    }

    /// Blends the start of the first received samples after a loss with what would have been made up, in place; does
    /// nothing at other times. To be called with received samples before [`Concealer::good`].
    pub fn rejoin(&mut self, samples: &mut [i16]) {
        if self.concealed == 0 {
            return;
        }
        // Appendix I widens the overlap with the length of the loss: 4 ms for each 10 ms beyond the first, up to 10 ms.
        // After the fade to silence this fades the sound in.
        let overlap = self.pitch / 4 + 32 * ((self.concealed - 1) / HOLD);
        let overlap = overlap.min(HOLD).min(samples.len());
        for (i, sample) in samples[..overlap].iter_mut().enumerate() {
            let weight = (i + 1) as f32 / (overlap + 1) as f32;
            let made_up = f32::from(self.next());
            *sample = (f32::from(*sample) * weight + made_up * (1.0 - weight)).round() as i16;
        }
    }

    /// Remembers received samples, and ends a loss.
    pub fn good(&mut self, samples: &[i16]) {
        self.concealed = 0;
        self.remember(samples);
    }

    /// Fills `out` with what may have been said in place of lost samples.
    pub fn conceal(&mut self, out: &mut [i16]) {
        let mut from = 0;
        if self.concealed == 0 {
            self.begin();
            from = self.smooth_start(out);
        }
        for sample in &mut out[from..] {
            *sample = self.next();
        }
        self.remember(out);
    }

    /// Finds the pitch and cuts one period out of the past.
    fn begin(&mut self) {
        self.pitch = self.find_pitch();
        self.at = 0;
        let last = HISTORY - self.pitch;
        let quarter = self.pitch / 4;
        self.cycle[..self.pitch].copy_from_slice(&self.history[last..]);
        for i in 0..quarter {
            // The period's end fades into what came before its beginning, so that the repetition has no seam.
            let weight = (i + 1) as f32 / (quarter + 1) as f32;
            let place = self.pitch - quarter + i;
            let before = f32::from(self.history[last - quarter + i]);
            let own = f32::from(self.cycle[place]);
            self.cycle[place] = (own * (1.0 - weight) + before * weight).round() as i16;
        }
    }

    /// The first quarter period, faded in over the mirrored past; returns its length.
    fn smooth_start(&mut self, out: &mut [i16]) -> usize {
        let quarter = (self.pitch / 4).min(out.len());
        for (i, sample) in out[..quarter].iter_mut().enumerate() {
            let weight = (i + 1) as f32 / (quarter + 1) as f32;
            let mirrored = f32::from(self.history[HISTORY - 1 - i]);
            let repeated = f32::from(self.next());
            *sample = (repeated * weight + mirrored * (1.0 - weight)).round() as i16;
        }
        quarter
    }

    /// The lag at which the last 20 ms resemble their past most, by normalised cross-correlation.
    fn find_pitch(&self) -> usize {
        let newest = &self.history[HISTORY - WINDOW..];
        let score = |lag: usize| {
            let past = &self.history[HISTORY - WINDOW - lag..HISTORY - lag];
            let (mut cross, mut energy) = (0.0f32, 0.0f32);
            for (&a, &b) in newest.iter().zip(past) {
                cross += f32::from(a) * f32::from(b);
                energy += f32::from(b) * f32::from(b);
            }
            // The floor keeps near-silence, where any lag is as good, from looking periodic.
            cross / energy.max(WINDOW as f32 * 16.0).sqrt()
        };
        let best = (PITCH_MIN..=PITCH_MAX).map(|lag| (lag, score(lag)));
        best.fold((PITCH_MAX, f32::MIN), |best, next| if next.1 > best.1 { next } else { best }).0
    }

    /// The next sample of the repeated period, attenuated by how long the loss has lasted.
    fn next(&mut self) -> i16 {
        let sample = f32::from(self.cycle[self.at]) * gain(self.concealed);
        self.at = (self.at + 1) % self.pitch;
        self.concealed += 1;
        sample.round() as i16
    }

    fn remember(&mut self, samples: &[i16]) {
        let samples = &samples[samples.len().saturating_sub(HISTORY)..];
        self.history.copy_within(samples.len().., 0);
        self.history[HISTORY - samples.len()..].copy_from_slice(samples);
    }
}

impl Default for Concealer {
    fn default() -> Self {
        Self::new()
    }
}

/// Full for 10 ms, then falling in a line to nothing at 60 ms.
fn gain(concealed: usize) -> f32 {
    let left = SILENT_FROM.saturating_sub(concealed.max(HOLD));
    left as f32 / (SILENT_FROM - HOLD) as f32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::audio::Tone;
    use crate::audio::level::rms;
    use crate::time::Rate;

    /// A voiced sound: harmonics of 100 Hz.
    fn voice(n: usize) -> Vec<i16> {
        let mut samples = vec![0; n];
        for (harmonic, level) in [(1.0, -14.0), (2.0, -16.0), (5.0, -20.0), (12.0, -26.0)] {
            Tone::new(100.0 * harmonic, level, Rate::Hz8000).mix(&mut samples);
        }
        samples
    }

    fn steepest(samples: &[i16]) -> u16 {
        samples.windows(2).map(|w| w[0].abs_diff(w[1])).max().unwrap_or(0)
    }

    #[test]
    fn a_voiced_sound_goes_on_as_it_would_have() {
        let samples = voice(1600 + 160);
        let mut concealer = Concealer::new();
        concealer.good(&samples[..1600]);
        let mut made_up = [0; 160];
        concealer.conceal(&mut made_up);
        let truth = &samples[1600..];
        // After the faded-in quarter period and before attenuation it is the sound itself.
        let error: Vec<i16> = made_up[20..80].iter().zip(&truth[20..80]).map(|(a, b)| a - b).collect();
        assert!(rms(&error) < rms(truth) * 0.05, "{} of {}", rms(&error), rms(truth));
        assert!(rms(&made_up[80..]) > rms(truth) * 0.8);
    }

    #[test]
    fn a_loss_fades_to_silence_by_sixty_milliseconds() {
        let mut concealer = Concealer::new();
        concealer.good(&voice(800));
        let mut levels = Vec::new();
        for _ in 0..5 {
            let mut out = [0; 160];
            concealer.conceal(&mut out);
            levels.push(rms(&out));
        }
        assert!(levels[0] > levels[1] && levels[1] > levels[2] && levels[2] > 0.0, "{levels:?}");
        assert_eq!(levels[3..], [0.0, 0.0]);
    }

    #[test]
    fn no_seam_clicks_at_either_end() {
        let samples = voice(4000);
        let natural = steepest(&samples);
        // Losses beginning at every phase of the period, one to three frames long.
        for start in 1600..1680 {
            for frames in 1..=3 {
                let mut concealer = Concealer::new();
                concealer.good(&samples[..start]);
                let mut heard = samples[start - 160..start].to_vec();
                let mut out = [0; 160];
                for _ in 0..frames {
                    concealer.conceal(&mut out);
                    heard.extend(out);
                }
                // 7 samples of slip: the far end's voice did not wait for our period.
                let back = start + frames * 160 + 7;
                let mut frame: [i16; 160] = samples[back..back + 160].try_into().expect("160 samples");
                concealer.rejoin(&mut frame);
                concealer.good(&frame);
                heard.extend(frame);
                assert!(
                    steepest(&heard) < natural * 3 / 2,
                    "{start} {frames}: {} of {natural}",
                    steepest(&heard)
                );
            }
        }
    }

    #[test]
    fn without_a_loss_nothing_is_touched() {
        let samples = voice(320);
        let mut concealer = Concealer::new();
        let mut frame = samples.clone();
        concealer.rejoin(&mut frame);
        concealer.good(&frame);
        concealer.rejoin(&mut frame);
        assert_eq!(frame, samples);
    }

    #[test]
    fn before_anything_was_heard_there_is_silence() {
        let mut out = [7; 160];
        Concealer::new().conceal(&mut out);
        assert_eq!(out, [0; 160]);
    }

    proptest! {
        #[test]
        fn no_sound_and_no_length_panics_or_outgrows_the_sound(
            samples in prop::collection::vec(any::<i16>(), 0..700), lengths in prop::collection::vec(0usize..300, 1..5),
        ) {
            let mut concealer = Concealer::new();
            concealer.good(&samples);
            let loudest = samples.iter().map(|s| s.unsigned_abs()).max().unwrap_or(0);
            for n in lengths {
                let mut out = vec![0; n];
                concealer.conceal(&mut out);
                prop_assert!(out.iter().all(|s| s.unsigned_abs() <= loudest));
                concealer.clone().rejoin(&mut out);
            }
        }
    }
}
