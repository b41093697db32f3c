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
        let magnitude = ((((code & 0x0f) as i32) << 3) + 132 << (code >> 4 & 7)) - 132;
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
        let magnitude = if segment == 0 { step + 8 } else { step + 0x108 << (segment - 1) };
        table[byte] = if code & 0x80 != 0 { magnitude as i16 } else { -magnitude as i16 };
        byte += 1;
    }
    table
};
