/// The map that a sequence of tokens lies on, and the square kernel that slides over it.
///
/// Tokens are row-major. Kernel positions are column-major, as in the published DeiT code:
/// position `k` reads the token at `(y + k mod kernel - kernel/2, x + k div kernel - kernel/2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Grid {
    /// Rows of the map.
    pub height: usize,
    /// Columns of the map.
    pub width: usize,
    /// Side of the kernel, odd.
    pub kernel: usize,
}

impl Grid {
    /// Number of tokens of the map.
    pub fn tokens(&self) -> usize {
        self.height * self.width
    }

    /// Number of kernel positions.
    pub fn positions(&self) -> usize {
        self.kernel * self.kernel
    }

    /// The token that kernel position `k` reads for output token `n`, if it lies on the map.
    pub fn neighbour(&self, n: usize, k: usize) -> Option<usize> {
        let half = self.kernel / 2;
        let y = (n / self.width + k % self.kernel).checked_sub(half)?;
        let x = (n % self.width + k / self.kernel).checked_sub(half)?;
        (y < self.height && x < self.width).then_some(y * self.width + x)
    }
}
