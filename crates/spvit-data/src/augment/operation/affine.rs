//! Rotating, shearing and shifting.

use crate::augment::operation::Sampling;
use crate::pixels::Pixels;

/// Where a target's pixel comes from: `x' = a·x + b·y + c` and `y' = d·x + e·y + f`, both at pixel centres.
pub(super) type Matrix = [f64; 6];

/// The matrix that turns an image of `[height, width]` about its centre, counter-clockwise.
pub(super) fn rotation(degrees: f64, [height, width]: [usize; 2]) -> Matrix {
    // Pillow rounds to 15 digits, too, so that right angles are exact.
    let round = |value: f64| (value * 1e15).round_ties_even() / 1e15;
    let angle = -degrees.rem_euclid(360.0).to_radians();
    let (cos, sin) = (round(angle.cos()), round(angle.sin()));
    let (x, y) = (width as f64 / 2.0, height as f64 / 2.0);
    let [a, b, d, e] = [cos, sin, -sin, cos];
    [a, b, a * -x + b * -y + 0.0 + x, d, e, d * -x + e * -y + 0.0 + y]
}

/// Moves an image by `matrix`; what comes from outside it is `fill`.
pub(super) fn transform(
    source: &Pixels,
    matrix: Matrix,
    sampling: Sampling,
    fill: &[u8],
) -> Vec<u8> {
    let ([height, width], bytes) = (source.size(), source.bytes());
    match (source.channels(), fill) {
        (1, &[grey, ..]) => {
            let pixels: Vec<[f64; 1]> = bytes.iter().map(|&grey| [grey.into()]).collect();
            let plane = Plane { pixels: &pixels, height, width };
            plane.moved::<1>(matrix, sampling, [grey])
        }
        (3, &[red, green, blue, ..]) => {
            // Every value is read up to sixteen times, so that it pays to make floats of them first; and four lanes are
            // what vector instructions take at once.
            let pixels = bytes.as_chunks::<3>().0.iter();
            let pixels: Vec<[f64; 4]> =
                pixels.map(|&[r, g, b]| [r.into(), g.into(), b.into(), 0.0]).collect();
            let plane = Plane { pixels: &pixels, height, width };
            plane.moved::<3>(matrix, sampling, [red, green, blue])
        }
        // No image of another kind comes here: options are checked against the images.
        _ => bytes.to_vec(),
    }
}

/// Pixels of `L` values each.
struct Plane<'a, const L: usize> {
    pixels: &'a [[f64; L]],
    height: usize,
    width: usize,
}

impl<const L: usize> Plane<'_, L> {
    /// The first `C` values of each pixel, moved.
    fn moved<const C: usize>(&self, matrix: Matrix, sampling: Sampling, fill: [u8; C]) -> Vec<u8> {
        let [a, b, c, d, e, f] = matrix;
        // Where nothing moves up or down, rows are read alone, and columns likewise: a fraction of 0 gives every bit of
        // the value itself.
        match (sampling, [d, e, f] == [0.0, 1.0, 0.0], [a, b, c] == [1.0, 0.0, 0.0]) {
            (Sampling::Bilinear, ..) => self.each(matrix, fill, |at| self.bilinear(at)),
            (_, true, _) => self.each(matrix, fill, |([y, x], [_, right])| self.line(y, x, right)),
            (_, _, true) => self.each(matrix, fill, |([y, x], [down, _])| {
                let x = self.column(x);
                cubic([-1, 0, 1, 2].map(|offset| self.row(y + offset)[x]), down)
            }),
            _ => self.each(matrix, fill, |([y, x], [down, right])| {
                cubic([-1, 0, 1, 2].map(|offset| self.line(y + offset, x, right)), down)
            }),
        }
    }

    /// Gives `sample` the place of every pixel's origin, `[y, x]`, in whole pixels and the fractions beyond them.
    #[inline(always)]
    fn each<const C: usize>(
        &self,
        [a, b, c, d, e, f]: Matrix,
        fill: [u8; C],
        sample: impl Fn(([isize; 2], [f64; 2])) -> [f64; L],
    ) -> Vec<u8> {
        let mut target = vec![fill; self.pixels.len()];
        let (height, width) = (self.height as f64, self.width as f64);
        for (row, target) in target.chunks_exact_mut(self.width).enumerate() {
            let centre = row as f64 + 0.5;
            for (column, target) in target.iter_mut().enumerate() {
                let across = column as f64 + 0.5;
                let (x, y) = (a * across + b * centre + c, d * across + e * centre + f);
                if x < 0.0 || x >= width || y < 0.0 || y >= height {
                    continue;
                }
                let (y, x) = (y - 0.5, x - 0.5);
                let whole = [floor(y), floor(x)];
                let sampled = sample((whole, [y - whole[0] as f64, x - whole[1] as f64]));
                // A cast cuts towards zero and keeps to 0..255.
                *target = std::array::from_fn(|lane| sampled[lane] as u8);
            }
        }
        target.into_flattened()
    }

    #[inline(always)]
    fn row(&self, y: isize) -> &[[f64; L]] {
        let y = y.clamp(0, self.height as isize - 1) as usize;
        &self.pixels[y * self.width..(y + 1) * self.width]
    }

    #[inline(always)]
    fn column(&self, x: isize) -> usize {
        x.clamp(0, self.width as isize - 1) as usize
    }

    /// A row's value so far right of a pixel.
    #[inline(always)]
    fn line(&self, y: isize, x: isize, right: f64) -> [f64; L] {
        let row = self.row(y);
        let inside =
            if x > 0 { row.get(x as usize - 1..).and_then(<[_]>::first_chunk) } else { None };
        let around = inside
            .copied()
            .unwrap_or_else(|| [-1, 0, 1, 2].map(|offset| row[self.column(x + offset)]));
        cubic(around, right)
    }

    #[inline(always)]
    fn bilinear(&self, ([y, x], [down, right]): ([isize; 2], [f64; 2])) -> [f64; L] {
        let columns = [self.column(x), self.column(x + 1)];
        let [upper, lower] =
            [y, y + 1].map(|y| between(columns.map(|column| self.row(y)[column]), right));
        between([upper, lower], down)
    }
}

/// The largest whole number that is not above `value`.
#[inline(always)]
fn floor(value: f64) -> isize {
    let whole = value as i32;
    (if value < f64::from(whole) { whole - 1 } else { whole }) as isize
}

#[inline(always)]
fn between<const L: usize>([a, b]: [[f64; L]; 2], share: f64) -> [f64; L] {
    std::array::from_fn(|lane| a[lane] + (b[lane] - a[lane]) * share)
}

/// A cubic through the middle two of four values (a = −1: Pillow's filter here is sharper than the one it resizes by).
#[inline(always)]
fn cubic<const L: usize>([a, b, c, d]: [[f64; L]; 4], share: f64) -> [f64; L] {
    let mut found = [0.0; L];
    // Written as a loop, which becomes vector instructions more readily.
    for lane in 0..L {
        let [a, b, c, d] = [a[lane], b[lane], c[lane], d[lane]];
        let (linear, square, cube) = (-a + c, 2.0 * (a - b) + c - d, -a + b - c + d);
        found[lane] = b + share * (linear + share * (square + share * cube));
    }
    found
}
