//! How loud a block of samples is.
//!
//! Samples in, level out; nobody passes time. dBov is dB relative to the overload point (ITU-T G.100.1): a full-scale
//! square wave is 0 dBov, a full-scale sine -3.01 dBov. Silence reads [`FLOOR_DBOV`], the lowest value RFC 6464 can say.

/// The level of digital silence (dBov).
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

/// Root mean square (dBov), at least [`FLOOR_DBOV`].
#[must_use]
pub fn rms_dbov(block: &[i16]) -> f32 {
    dbov(rms(block))
}

/// Largest magnitude (dBov), at least [`FLOOR_DBOV`].
#[must_use]
pub fn peak_dbov(block: &[i16]) -> f32 {
    dbov(f32::from(block.iter().map(|s| s.unsigned_abs()).max().unwrap_or(0)))
}

fn dbov(amplitude: f32) -> f32 {
    if amplitude > 0.0 { (20.0 * (amplitude / 32768.0).log10()).max(FLOOR_DBOV) } else { FLOOR_DBOV }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_scale_square_wave_is_the_overload_point() {
        assert!(rms_dbov(&[i16::MIN; 160]).abs() < 1e-4);
        assert!(peak_dbov(&[0, i16::MIN, 5]).abs() < 1e-4);
    }

    #[test]
    fn half_the_amplitude_is_six_decibels_less() {
        let block: [i16; 160] = std::array::from_fn(|i| if i % 2 == 0 { 16384 } else { -16384 });
        assert!((rms_dbov(&block) + 6.02).abs() < 0.01);
        assert_eq!(rms(&block), 16384.0);
    }

    #[test]
    fn silence_reads_the_floor() {
        assert_eq!(rms_dbov(&[0; 160]), FLOOR_DBOV);
        assert_eq!(rms_dbov(&[]), FLOOR_DBOV);
        assert_eq!(peak_dbov(&[]), FLOOR_DBOV);
    }
}
