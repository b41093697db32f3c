//! G.711, both laws: one byte per sample, 160 bytes <-> 160 samples (i16, mono) per 20 ms at 8 kHz.
//!
//! Total: every input has an output, nothing can fail. Nobody passes time. Linear samples are the left-aligned
//! 16-bit form of ITU-T G.191 (`g711.c`), so µ-law uses the upper 14 and A-law the upper 13 bits.
//! Source: ITU-T G.711 (11/88) tables 1 and 2; G.191 for the 16-bit alignment.

/// Which of the two laws.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Law {
    /// µ-law: North America, Japan; RTP payload type 0.
    Mu,
    /// A-law: everywhere else; RTP payload type 8.
    A,
}

impl Law {
    /// Encodes as many samples as fit both slices; returns how many.
    pub fn encode_into(self, samples: &[i16], bytes: &mut [u8]) -> usize {
        let n = samples.len().min(bytes.len());
        match self {
            Self::Mu => samples.iter().zip(bytes).for_each(|(&s, b)| *b = ulaw_encode(s)),
            Self::A => samples.iter().zip(bytes).for_each(|(&s, b)| *b = alaw_encode(s)),
        }
        n
    }

    /// Decodes as many bytes as fit both slices; returns how many.
    pub fn decode_into(self, bytes: &[u8], samples: &mut [i16]) -> usize {
        let table = match self {
            Self::Mu => &ULAW,
            Self::A => &ALAW,
        };
        let n = samples.len().min(bytes.len());
        bytes.iter().zip(samples).for_each(|(&b, s)| *s = table[b as usize]);
        n
    }

    /// The byte that decodes to the quietest positive sample: what a silent line carries.
    #[must_use]
    pub const fn silence(self) -> u8 {
        match self {
            Self::Mu => 0xff,
            Self::A => 0xd5,
        }
    }
}

/// Encodes one sample to µ-law.
#[must_use]
pub const fn ulaw_encode(sample: i16) -> u8 {
    let (magnitude, sign) = fold(sample);
    // G.191: 14-bit magnitude plus the bias of 33 that makes every segment start at a power of two.
    let biased = (magnitude >> 2) + 33;
    let biased = if biased > 0x1fff { 0x1fff } else { biased };
    let segment = 10 - biased.leading_zeros() as u16;
    let step = (biased >> (segment + 1)) & 0x0f;
    !(sign | (segment << 4 | step) as u8)
}

/// Decodes one µ-law byte.
#[must_use]
pub const fn ulaw_decode(byte: u8) -> i16 {
    ULAW[byte as usize]
}

/// Encodes one sample to A-law.
#[must_use]
pub const fn alaw_encode(sample: i16) -> u8 {
    let (magnitude, sign) = fold(sample);
    let linear = magnitude >> 4;
    let code = if linear < 16 {
        linear
    } else {
        let segment = 12 - linear.leading_zeros() as u16;
        segment << 4 | ((linear >> (segment - 1)) & 0x0f)
    };
    // Every other bit is inverted on the line (G.711 §3.2); a positive sample has the sign bit set.
    (code as u8 | (sign ^ 0x80)) ^ 0x55
}

/// Decodes one A-law byte.
#[must_use]
pub const fn alaw_decode(byte: u8) -> i16 {
    ALAW[byte as usize]
}

/// Magnitude by one's complement, as G.191 does it, and 0x80 for a negative sample.
const fn fold(sample: i16) -> (u16, u8) {
    if sample < 0 { (!sample as u16, 0x80) } else { (sample as u16, 0x00) }
}

const ULAW: [i16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let code = !(byte as u8);
        let magnitude = (((((code & 0x0f) as i32) << 3) + 132) << (code >> 4 & 7)) - 132;
        table[byte] = if code & 0x80 == 0 { magnitude as i16 } else { -magnitude as i16 };
        byte += 1;
    }
    table
};

const ALAW: [i16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let code = byte as u8 ^ 0x55;
        let segment = code >> 4 & 7;
        let step = ((code & 0x0f) as i32) << 4;
        let magnitude = if segment == 0 { step + 8 } else { (step + 0x108) << (segment - 1) };
        table[byte] = if code & 0x80 != 0 { magnitude as i16 } else { -magnitude as i16 };
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::level::rms_dbov;

    /// One period of the 1 kHz digital reference sequence, 0 dBm0 (ITU-T G.711 tables 5 and 6).
    const MILLIWATT_MU: [u8; 8] = [0x1e, 0x0b, 0x0b, 0x1e, 0x9e, 0x8b, 0x8b, 0x9e];
    const MILLIWATT_A: [u8; 8] = [0x34, 0x21, 0x21, 0x34, 0xb4, 0xa1, 0xa1, 0xb4];

    /// `ulaw_compress` of ITU-T G.191, written as there: a loop finds the segment.
    fn g191_ulaw(sample: i16) -> u8 {
        let folded = if sample < 0 { !i32::from(sample) } else { i32::from(sample) };
        let absolute = ((folded >> 2) + 33).min(0x1fff);
        let (mut i, mut segment) = (absolute >> 6, 1);
        while i != 0 {
            segment += 1;
            i >>= 1;
        }
        let high = 0x0008 - segment;
        let low = 0x000f - ((absolute >> segment) & 0x000f);
        let code = high << 4 | low;
        if sample >= 0 { code as u8 | 0x80 } else { code as u8 }
    }

    /// `alaw_compress` of ITU-T G.191, written as there.
    fn g191_alaw(sample: i16) -> u8 {
        let mut ix = if sample < 0 { !i32::from(sample) >> 4 } else { i32::from(sample) >> 4 };
        if ix > 15 {
            let mut exponent = 1;
            while ix > 16 + 15 {
                ix >>= 1;
                exponent += 1;
            }
            ix = ix - 16 + (exponent << 4);
        }
        if sample >= 0 {
            ix |= 0x80;
        }
        ix as u8 ^ 0x55
    }

    #[test]
    fn every_sample_encodes_as_g191_does() {
        for sample in i16::MIN..=i16::MAX {
            assert_eq!(ulaw_encode(sample), g191_ulaw(sample), "mu {sample}");
            assert_eq!(alaw_encode(sample), g191_alaw(sample), "A {sample}");
        }
    }

    #[test]
    fn no_sample_is_further_off_than_half_a_step_of_its_segment() {
        for sample in i16::MIN..=i16::MAX {
            let (mu, a) = (ulaw_encode(sample), alaw_encode(sample));
            // Beyond the last decision value everything is clipped to the outermost step.
            let clipped = i32::from(sample).clamp(-32_635, 32_635);
            let error = clipped.abs_diff(i32::from(ulaw_decode(mu)));
            assert!(error <= 4 << (!mu >> 4 & 7), "mu {sample} off by {error}");
            let error = i32::from(sample).abs_diff(i32::from(alaw_decode(a)));
            assert!(error <= 8 << ((a ^ 0x55) >> 4 & 7).saturating_sub(1), "A {sample} off by {error}");
        }
    }

    #[test]
    fn every_byte_survives_decoding_and_encoding() {
        for byte in 0..=255 {
            // µ-law has two zeros; the negative one comes back as the positive one.
            let mu = if byte == 0x7f { 0xff } else { byte };
            assert_eq!(ulaw_encode(ulaw_decode(byte)), mu);
            assert_eq!(alaw_encode(alaw_decode(byte)), byte);
        }
    }

    #[test]
    fn the_ends_and_the_middle_are_where_the_tables_put_them() {
        assert_eq!([0x00, 0x80, 0xff, 0x7f].map(ulaw_decode), [-32124, 32124, 0, 0]);
        assert_eq!([0x2a, 0xaa, 0xd5, 0x55].map(alaw_decode), [-32256, 32256, 8, -8]);
        assert_eq!((ulaw_encode(0), alaw_encode(0)), (Law::Mu.silence(), Law::A.silence()));
    }

    #[test]
    fn the_digital_milliwatt_has_its_level_in_both_laws() {
        // A sine to the last decision value (32636 and 32768) is +3.17 dBm0 in µ-law and +3.14 in A-law, and 3.01 dB
        // below the overload point. The sequence itself is exact to a tenth of a decibel.
        for (law, bytes, dbov) in [(Law::Mu, MILLIWATT_MU, -6.22), (Law::A, MILLIWATT_A, -6.15)] {
            let mut samples = [0; 8];
            assert_eq!(law.decode_into(&bytes, &mut samples), 8);
            let level = rms_dbov(&samples);
            assert!((level - dbov).abs() < 0.1, "{law:?} {level}");
            let mut back = [0; 8];
            assert_eq!(law.encode_into(&samples, &mut back), 8);
            assert_eq!(back, bytes);
        }
    }

    #[test]
    fn the_shorter_slice_decides() {
        let mut bytes = [7; 4];
        assert_eq!(Law::Mu.encode_into(&[0, 0], &mut bytes), 2);
        assert_eq!(bytes, [0xff, 0xff, 7, 7]);
        assert_eq!(Law::A.decode_into(&bytes, &mut [0; 3]), 3);
    }
}
