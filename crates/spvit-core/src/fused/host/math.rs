//! Functions of one number without branches, so that loops over them become vector code.

/// `e^x` with a relative error of about 1e-7 (range reduction to `|r| ≤ ln2/2` and a polynomial
/// of degree 6, with the coefficients of the Cephes library).
#[inline(always)]
pub(in crate::fused) fn exp(x: f32) -> f32 {
    // Adding and removing 1.5·2²³ rounds to an integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.3, 88.3);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let power = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    (p * r * r + r + 1.0) * f32::from_bits(power)
}

/// The error function with an absolute error below 5e-7: an odd rational function on `[-4, 4]`
/// with the coefficients that Eigen uses; beyond, it is ±1 in `f32`.
#[inline(always)]
pub(in crate::fused) fn erf(x: f32) -> f32 {
    let x = x.clamp(-4.0, 4.0);
    let s = x * x;
    let p = -2.726_142_4e-10;
    let p = p * s + 2.770_681_4e-8;
    let p = p * s - 2.101_024e-6;
    let p = p * s - 5.692_506_5e-5;
    let p = p * s - 7.349_906_6e-4;
    let p = p * s - 2.954_6e-3;
    let p = p * s - 1.609_603_4e-2;
    let q = -1.456_607_2e-5;
    let q = q * s - 2.133_740_6e-4;
    let q = q * s - 1.682_827e-3;
    let q = q * s - 7.373_329e-3;
    let q = q * s - 1.426_474e-2;
    x * p / q
}

#[cfg(test)]
mod tests {
    use super::{erf, exp};

    #[test]
    fn exp_is_close_to_the_exact_one() {
        for i in -8700..8800 {
            let x = i as f32 / 100.0;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 3e-7, "exp({x}): relative error {error:e}");
        }
    }

    #[test]
    fn erf_is_close_to_the_exact_one() {
        for i in -6000..6000 {
            let x = i as f32 / 1000.0;
            let error = (f64::from(erf(x)) - libm::erf(f64::from(x))).abs();
            assert!(error < 5e-7, "erf({x}): error {error:e}");
        }
    }
}
