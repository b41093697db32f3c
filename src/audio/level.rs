//! How loud a block of samples is.
//!
//! Samples in, level out; nobody passes time. dBov is dB relative to the overload point (ITU-T G.100.1): a full-scale
//! square wave is 0 dBov, a full-scale sine -3.01 dBov. Silence reads [`FLOOR_DBOV`], the lowest value RFC 6464 can say.

/// The level of digital silence [dBov].
pub const FLOOR_DBOV: f32 = -127.0;

/// Mean of the squared samples, zero for no samples.
#[must_use]
pub fn mean_square(block: &[i16]) -> f32 {
    if block.is_empty() {
        return 0.0;
    }
    let sum: i64 = block.iter().map(|&s| i64::from(i32::from(s) * i32::from(s))).sum();
    (sum as f64 / block.len() as f64) as f32
}

/// Root mean square in sample units, zero for no samples.
#[must_use]
pub fn rms(block: &[i16]) -> f32 {
    mean_square(block).sqrt()
}

/// Root mean square [dBov], at least [`FLOOR_DBOV`].
#[must_use]
pub fn rms_dbov(block: &[i16]) -> f32 {
    dbov(rms(block))
}

/// Largest magnitude [dBov], at least [`FLOOR_DBOV`].
#[must_use]
pub fn peak_dbov(block: &[i16]) -> f32 {
    dbov(f32::from(block.iter().map(|s| s.unsigned_abs()).max().unwrap_or(0)))
}

fn dbov(amplitude: f32) -> f32 {
    if amplitude > 0.0 { (20.0 * (amplitude / 32768.0).log10()).max(FLOOR_DBOV) } else { FLOOR_DBOV }
}
