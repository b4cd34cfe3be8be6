//! Which part of the head distribution ([`crate::fused::head_distribution`]) a kernel uses.

use burn::tensor::{Int, Tensor, backend::Backend};

/// Columns of `P`, laid out for the largest kernel, that a kernel of size `kernel` uses: the
/// centre ones, in the same column-major order (column `k` is row `k mod size`, column
/// `k div size` of the kernel).
pub fn centre_columns(largest: usize, kernel: usize) -> Vec<usize> {
    let margin = (largest - kernel) / 2;
    let inside = margin..margin + kernel;
    inside
        .clone()
        .flat_map(|column| inside.clone().map(move |row| column * largest + row))
        .collect()
}

/// The part of `P` that a kernel of size `kernel` uses.
///
/// # Shapes
/// - p: `[heads, largest²]`, output: `[heads, kernel²]`.
pub fn kernel_distribution<B: Backend>(
    p: Tensor<B, 2>,
    largest: usize,
    kernel: usize,
) -> Tensor<B, 2> {
    if largest == kernel {
        return p;
    }
    let columns: Vec<i32> = centre_columns(largest, kernel).iter().map(|&c| c as i32).collect();
    let device = p.device();
    p.select(1, Tensor::<B, 1, Int>::from_ints(columns.as_slice(), &device))
}

#[cfg(test)]
mod tests {
    use super::centre_columns;

    #[test]
    fn smaller_kernels_use_the_centre_columns() {
        assert_eq!(centre_columns(3, 1), [4]);
        assert_eq!(centre_columns(3, 3), (0..9).collect::<Vec<_>>());
        assert_eq!(centre_columns(5, 3), [6, 7, 8, 11, 12, 13, 16, 17, 18]);
    }
}
