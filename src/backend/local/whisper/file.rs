//! Reader of CTranslate2 model files (`model.bin`, binary version 6, as `faster-whisper` uses them).
//!
//! In: bytes, read once from front to back. Out: each variable's header, then its rows one at a time as `f32`, so
//! that a caller can convert as it reads and never holds the file. Layout, little-endian: `u32` version; spec name;
//! `u32` revision; `u32` count; per variable name, `u8` rank, `u32` dimensions, `u8` type, `u32` bytes, data; then
//! `u32` aliases as pairs of names. A string is a `u16` length that counts its NUL, then the bytes. (CTranslate2
//! 4.x, `python/ctranslate2/specs/model_spec.py`, `_serialize`.)

use std::io::{self, Read};

use crate::backend::BackendError;

/// The model's name in errors.
pub(super) const MODEL: &str = "whisper-tiny.en";

const VERSION: u32 = 6;
const SPEC: &str = "WhisperSpec";
const REVISION: u32 = 3;
const MAX_VARIABLES: u32 = 4096;
const MAX_NAME: usize = 256;
const MAX_RANK: u8 = 4;
/// The largest tensor of a Whisper base model, with room: a header cannot make us reserve more than this.
const MAX_TENSOR_BYTES: u64 = 1 << 27;

/// An error about the model that says what is wrong and what to do.
pub(super) fn model_error(reason: impl Into<String>) -> BackendError {
    BackendError::Model { model: MODEL, reason: reason.into() }
}

/// How a variable's values are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    F32,
    I8,
    I16,
    I32,
    F16,
}

impl Kind {
    const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::F32,
            1 => Self::I8,
            2 => Self::I16,
            3 => Self::I32,
            4 => Self::F16,
            _ => return None,
        })
    }

    const fn bytes(self) -> u64 {
        match self {
            Self::I8 => 1,
            Self::I16 | Self::F16 => 2,
            Self::F32 | Self::I32 => 4,
        }
    }
}

/// A variable whose data comes next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Variable {
    /// Its name, e.g. `encoder/conv1/weight`.
    pub(super) name: String,
    /// Its shape, outermost first; empty for a scalar.
    pub(super) dims: Vec<usize>,
    kind: Kind,
}

impl Variable {
    /// Values in all.
    pub(super) fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Whether the values are real numbers; a model's settings are integers.
    pub(super) fn is_float(&self) -> bool {
        matches!(self.kind, Kind::F32 | Kind::F16)
    }
}

/// Reads a model file from front to back.
pub(super) struct ModelFile<R> {
    source: R,
    at: u64,
    left: u32,
    bytes: Vec<u8>,
}

impl<R: Read> ModelFile<R> {
    /// Reads the file's head.
    ///
    /// # Errors
    /// [`BackendError::Model`] when it is not a Whisper model in the known version.
    pub(super) fn open(source: R) -> Result<Self, BackendError> {
        let mut file = Self { source, at: 0, left: 0, bytes: Vec::new() };
        let version = file.u32("the version")?;
        if version != VERSION {
            return Err(
                file.wrong(&format!("version {version}, not {VERSION}: not a CTranslate2 model we know"))
            );
        }
        let spec = file.string("the specification's name")?;
        if spec != SPEC {
            return Err(file.wrong(&format!("a `{spec}`, not a `{SPEC}`")));
        }
        let revision = file.u32("the revision")?;
        if revision != REVISION {
            return Err(file.wrong(&format!("revision {revision} of {SPEC}, not {REVISION}")));
        }
        file.left = file.u32("the number of variables")?;
        if file.left > MAX_VARIABLES {
            return Err(file.wrong(&format!("{} variables, more than {MAX_VARIABLES}", file.left)));
        }
        Ok(file)
    }

    /// The next variable's head, `None` after the last. Its data must be read or skipped before the next call.
    pub(super) fn next_variable(&mut self) -> Result<Option<Variable>, BackendError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let name = self.string("a variable's name")?;
        let rank = self.u8(&name)?;
        if rank > MAX_RANK {
            return Err(self.wrong(&format!("`{name}` has rank {rank}, more than {MAX_RANK}")));
        }
        let mut dims = Vec::with_capacity(usize::from(rank));
        let mut len = 1_u64;
        for _ in 0..rank {
            let dim = self.u32(&name)?;
            len = len.saturating_mul(u64::from(dim));
            dims.push(dim as usize);
        }
        let byte = self.u8(&name)?;
        let kind = Kind::from_byte(byte)
            .ok_or_else(|| self.wrong(&format!("`{name}` is of the unknown type {byte}")))?;
        let said = u64::from(self.u32(&name)?);
        let expected = len.saturating_mul(kind.bytes());
        if said != expected {
            return Err(self.wrong(&format!("`{name}` {dims:?} takes {expected} bytes but announces {said}")));
        }
        if said > MAX_TENSOR_BYTES || len == 0 {
            return Err(
                self.wrong(&format!("`{name}` {dims:?} is empty or larger than {MAX_TENSOR_BYTES} bytes"))
            );
        }
        Ok(Some(Variable { name, dims, kind }))
    }

    /// Reads the next `out.len()` values of a real-valued variable.
    pub(super) fn read_floats(&mut self, variable: &Variable, out: &mut [f32]) -> Result<(), BackendError> {
        debug_assert!(variable.is_float(), "callers ask first");
        let mut bytes = std::mem::take(&mut self.bytes);
        let width = variable.kind.bytes() as usize;
        bytes.resize(out.len() * width, 0);
        self.fill(&mut bytes, &variable.name)?;
        if variable.kind == Kind::F16 {
            for (value, b) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                *value = f16_to_f32(u16::from_le_bytes([b[0], b[1]]));
            }
        } else {
            for (value, b) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                *value = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            }
        }
        self.bytes = bytes;
        if let Some(bad) = out.iter().find(|v| !v.is_finite()) {
            return Err(self.wrong(&format!("`{}` holds {bad}", variable.name)));
        }
        Ok(())
    }

    /// The value of an integer scalar, or `None` (data skipped) if the variable is anything else.
    pub(super) fn read_setting(&mut self, variable: &Variable) -> Result<Option<i64>, BackendError> {
        let mut bytes = vec![0; variable.len() * variable.kind.bytes() as usize];
        self.fill(&mut bytes, &variable.name)?;
        Ok(match (variable.kind, bytes.as_slice()) {
            (Kind::I8, [a]) => Some(i64::from(i8::from_le_bytes([*a]))),
            (Kind::I16, [a, b]) => Some(i64::from(i16::from_le_bytes([*a, *b]))),
            (Kind::I32, [a, b, c, d]) => Some(i64::from(i32::from_le_bytes([*a, *b, *c, *d]))),
            _ => None,
        })
    }

    /// Checks what follows the variables: the aliases, then nothing.
    pub(super) fn finish(mut self) -> Result<(), BackendError> {
        let aliases = self.u32("the number of aliases")?;
        if aliases > MAX_VARIABLES {
            return Err(self.wrong(&format!("{aliases} aliases, more than {MAX_VARIABLES}")));
        }
        for _ in 0..aliases {
            self.string("an alias")?;
            self.string("an alias's target")?;
        }
        let mut rest = [0; 1];
        match self.source.read(&mut rest) {
            Ok(0) => Ok(()),
            Ok(_) => Err(self.wrong("data after the end of the model")),
            Err(error) => Err(self.wrong(&format!("cannot be read: {error}"))),
        }
    }

    fn wrong(&self, what: &str) -> BackendError {
        model_error(format!("model.bin at byte {}: {what}", self.at))
    }

    fn fill(&mut self, out: &mut [u8], what: &str) -> Result<(), BackendError> {
        match self.source.read_exact(out) {
            Ok(()) => {
                self.at += out.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.wrong(&format!("the file ends inside {what}; it is cut short")))
            }
            Err(error) => Err(self.wrong(&format!("cannot be read: {error}"))),
        }
    }

    fn u8(&mut self, what: &str) -> Result<u8, BackendError> {
        let mut b = [0; 1];
        self.fill(&mut b, what)?;
        Ok(b[0])
    }

    fn u32(&mut self, what: &str) -> Result<u32, BackendError> {
        let mut b = [0; 4];
        self.fill(&mut b, what)?;
        Ok(u32::from_le_bytes(b))
    }

    fn string(&mut self, what: &str) -> Result<String, BackendError> {
        let mut b = [0; 2];
        self.fill(&mut b, what)?;
        let len = usize::from(u16::from_le_bytes(b));
        if len == 0 || len > MAX_NAME {
            return Err(self.wrong(&format!("{what} is {len} bytes long, not 1 to {MAX_NAME}")));
        }
        let mut text = vec![0; len];
        self.fill(&mut text, what)?;
        if text.pop() != Some(0) {
            return Err(self.wrong(&format!("{what} does not end with a NUL")));
        }
        String::from_utf8(text).map_err(|_| self.wrong(&format!("{what} is not UTF-8")))
    }
}

/// IEEE 754 binary16 to binary32, exact.
pub(super) fn f16_to_f32(half: u16) -> f32 {
    let sign = u32::from(half >> 15) << 31;
    let exponent = u32::from(half >> 10 & 0x1f);
    let fraction = u32::from(half & 0x3ff);
    match exponent {
        // A subnormal is its fraction times 2^-24.
        0 => {
            let value = fraction as f32 * f32::from_bits((127 - 24) << 23);
            f32::from_bits(value.to_bits() | sign)
        }
        31 => f32::from_bits(sign | 0x7f80_0000 | fraction << 13),
        _ => f32::from_bits(sign | (exponent + 112) << 23 | fraction << 13),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with the given variables, each (name, dims, type, data).
    pub(super) fn synthetic(variables: &[(&str, &[u32], u8, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        let string = |out: &mut Vec<u8>, s: &str| {
            out.extend((s.len() as u16 + 1).to_le_bytes());
            out.extend(s.as_bytes());
            out.push(0);
        };
        out.extend(6_u32.to_le_bytes());
        string(&mut out, "WhisperSpec");
        out.extend(3_u32.to_le_bytes());
        out.extend((variables.len() as u32).to_le_bytes());
        for (name, dims, kind, data) in variables {
            string(&mut out, name);
            out.push(dims.len() as u8);
            dims.iter().for_each(|d| out.extend(d.to_le_bytes()));
            out.push(*kind);
            out.extend((data.len() as u32).to_le_bytes());
            out.extend(*data);
        }
        out.extend(1_u32.to_le_bytes());
        string(&mut out, "decoder/projection/weight");
        string(&mut out, "decoder/embeddings/weight");
        out
    }

    /// Reads everything as the loader does.
    fn read_all(bytes: &[u8]) -> Result<Vec<(String, Vec<f32>)>, BackendError> {
        let mut file = ModelFile::open(bytes)?;
        let mut out = Vec::new();
        while let Some(variable) = file.next_variable()? {
            let mut values = vec![0.0; variable.len()];
            if variable.is_float() {
                file.read_floats(&variable, &mut values)?;
            } else {
                let value = file.read_setting(&variable)?;
                values = value.map(|v| v as f32).into_iter().collect();
            }
            out.push((variable.name, values));
        }
        file.finish()?;
        Ok(out)
    }

    fn reason(bytes: &[u8]) -> String {
        read_all(bytes).expect_err("malformed").to_string()
    }

    #[test]
    fn variables_come_out_with_their_values() {
        let file = synthetic(&[
            ("a", &[2], 4, &[0x00, 0x3c, 0x00, 0xc0]),
            ("b", &[1, 1], 0, &1.5_f32.to_le_bytes()),
            ("heads", &[], 2, &[6, 0]),
        ]);
        let all = read_all(&file).expect("well-formed");
        assert_eq!(all[0], ("a".into(), vec![1.0, -2.0]));
        assert_eq!(all[1], ("b".into(), vec![1.5]));
        assert_eq!(all[2], ("heads".into(), vec![6.0]));
    }

    #[test]
    fn halves_convert_exactly() {
        // IEEE 754-2019 §3.4: one, largest, smallest normal, smallest subnormal, minus zero, minus two.
        for (half, single) in [
            (0x3c00, 1.0),
            (0x7bff, 65504.0),
            (0x0400, 2.0_f32.powi(-14)),
            (0x0001, 2.0_f32.powi(-24)),
            (0x8000, -0.0),
            (0xc000, -2.0),
            (0x3555, 0.333_251_95),
        ] {
            assert_eq!(f16_to_f32(half).to_bits(), f32::to_bits(single), "{half:#06x}");
        }
        assert!(f16_to_f32(0x7c00).is_infinite() && f16_to_f32(0x7e00).is_nan());
    }

    #[test]
    fn each_malformed_file_is_named_with_its_place() {
        let good = synthetic(&[("encoder/conv1/bias", &[2], 4, &[0; 4])]);
        assert!(reason(b"RIFF....").contains("at byte 4: version"), "{}", reason(b"RIFF...."));
        assert!(reason(&[]).contains("at byte 0: the file ends inside the version"));
        let mut long = good;
        long.push(0);
        assert!(reason(&long).contains("data after the end"));
        let length_lie = synthetic(&[("encoder/conv1/bias", &[3], 4, &[0; 4])]);
        assert!(reason(&length_lie).contains("`encoder/conv1/bias` [3] takes 6 bytes but announces 4"));
        let huge = synthetic(&[("x", &[u32::MAX, u32::MAX, u32::MAX], 4, &[0; 4])]);
        assert!(reason(&huge).contains("announces 4"));
        assert!(reason(&synthetic(&[("x", &[1], 77, &[0; 4])])).contains("unknown type 77"));
        assert!(reason(&synthetic(&[("x", &[1, 1, 1, 1, 1], 4, &[0; 2])])).contains("rank 5"));
        assert!(reason(&synthetic(&[("x", &[1], 4, &[0x00, 0x7e])])).contains("`x` holds NaN"));
        assert!(reason(&synthetic(&[("x", &[0], 4, &[])])).contains("is empty"));
    }

    #[test]
    fn no_cut_and_no_flipped_byte_panics() {
        let good = synthetic(&[("a", &[2, 3], 4, &[1; 12]), ("heads", &[], 2, &[6, 0])]);
        for cut in 0..good.len() {
            assert!(read_all(&good[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                let _ = read_all(&bad);
            }
        }
    }
}
