//! A checked face for the `gemm` crate: the only unsafe code of the recogniser.

/// A matrix lying in a slice: element (r, c) is at `r * row + c * col`.
#[derive(Clone, Copy)]
pub(super) struct Mat<'a> {
    /// The elements.
    pub(super) data: &'a [f32],
    /// Distance between rows.
    pub(super) row: usize,
    /// Distance between columns.
    pub(super) col: usize,
}

impl<'a> Mat<'a> {
    /// A matrix whose rows lie `row` apart, each contiguous.
    pub(super) const fn rows(data: &'a [f32], row: usize) -> Self {
        Self { data, row, col: 1 }
    }

    /// The same elements with rows and columns exchanged.
    pub(super) const fn transposed(self) -> Self {
        Self { data: self.data, row: self.col, col: self.row }
    }

    fn covers(&self, rows: usize, cols: usize) -> bool {
        (rows - 1) * self.row + (cols - 1) * self.col < self.data.len()
    }
}

/// `out[m,n] = (keep ? out : 0) + scale * left[m,k] * right[k,n]`, on one thread. Rows of `out` are contiguous
/// and lie `row` apart.
///
/// # Panics
/// When a matrix does not cover its shape, or rows of `out` overlap.
#[allow(unsafe_code)]
pub(super) fn multiply(
    (m, n, k): (usize, usize, usize),
    (out, row): (&mut [f32], usize),
    keep: bool,
    scale: f32,
    left: Mat<'_>,
    right: Mat<'_>,
) {
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    assert!(row >= n && (m - 1) * row + n <= out.len(), "out covers {m} rows of {n}");
    assert!(left.covers(m, k), "left covers {m}x{k}");
    assert!(right.covers(k, n), "right covers {k}x{n}");
    // SAFETY: the assertions above hold every element that an (m, n, k) product touches inside its slice: the
    // largest offset of each matrix is that of its last element, strides being unsigned. `out` is borrowed
    // exclusively, so it overlaps neither input, and its rows do not overlap each other. `out` is initialised,
    // so reading it with `read_dst` is sound.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            row as isize,
            keep,
            left.data.as_ptr(),
            left.col as isize,
            left.row as isize,
            right.data.as_ptr(),
            right.col as isize,
            right.row as isize,
            1.0,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_with_strides_matches_three_loops() {
        let (m, n, k) = (5, 7, 9);
        let left: Vec<f32> = (0..200).map(|i| (i * 7 % 13) as f32 - 6.0).collect();
        let right: Vec<f32> = (0..200).map(|i| (i * 5 % 11) as f32 - 5.0).collect();
        let mut out = vec![1.0; 100];
        multiply(
            (m, n, k),
            (&mut out, 10),
            true,
            0.5,
            Mat::rows(&left, 12),
            Mat::rows(&right, 11).transposed(),
        );
        for r in 0..m {
            for c in 0..n {
                let dot: f32 = (0..k).map(|i| left[r * 12 + i] * right[c * 11 + i]).sum();
                assert!((out[r * 10 + c] - (1.0 + 0.5 * dot)).abs() < 1e-3);
            }
            assert!(
                out[r * 10 + n..(r + 1) * 10].iter().all(|v| *v == 1.0),
                "between rows nothing is written"
            );
        }
    }

    #[test]
    #[should_panic(expected = "right covers 9x7")]
    fn a_matrix_too_small_for_its_shape_is_caught() {
        multiply(
            (5, 7, 9),
            (&mut [0.0; 35], 7),
            false,
            1.0,
            Mat::rows(&[0.0; 45], 9),
            Mat::rows(&[0.0; 62], 7),
        );
    }
}
