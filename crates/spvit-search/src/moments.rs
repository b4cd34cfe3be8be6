//! Least squares from moments of what is seen once.

use burn::tensor::{Tensor, TensorData, backend::Backend};
use nalgebra::DMatrix;

/// Weight of a map as it is against what the images say, in units of the features' variance.
pub(crate) const RIDGE: f64 = 1e-2;

/// First and second moments of features z and of the targets t that a map `z·W + b` should give.
pub(crate) struct Moments {
    count: f64,
    features: DMatrix<f64>,
    targets: DMatrix<f64>,
    gram: DMatrix<f64>,
    cross: DMatrix<f64>,
}

impl Moments {
    /// Before the first row, of so many features and targets.
    pub fn new(features: usize, targets: usize) -> Self {
        Self {
            count: 0.0,
            features: DMatrix::zeros(1, features),
            targets: DMatrix::zeros(1, targets),
            gram: DMatrix::zeros(features, features),
            cross: DMatrix::zeros(features, targets),
        }
    }

    /// Takes in `z` `[batch, tokens, features]` and `t` `[batch, tokens, targets]`.
    pub fn add<B: Backend>(&mut self, z: Tensor<B, 3>, t: Tensor<B, 3>) {
        let rows = |x: Tensor<B, 3>| {
            let [batch, tokens, width] = x.dims();
            x.reshape([batch * tokens, width])
        };
        let (z, t) = (rows(z), rows(t));
        self.count += z.dims()[0] as f64;
        let transposed = z.clone().transpose();
        self.gram += host(transposed.clone().matmul(z.clone()));
        self.cross += host(transposed.matmul(t.clone()));
        self.features += host(z.sum_dim(0));
        self.targets += host(t.sum_dim(0));
    }

    /// Mean of the targets, `[1, targets]`.
    pub fn mean_target(&self) -> DMatrix<f64> {
        &self.targets / self.count
    }

    /// `W` `[kept, targets]` and `b` `[1, targets]` of the best map of these features alone:
    ///
    /// `min ‖z·W + b - t‖² + r·‖W - W0‖²` in the mean over rows, with r = `ridge` times the kept
    /// features' mean variance. `None` where the features do not determine one.
    pub fn solve(
        &self,
        kept: &[usize],
        prior: &DMatrix<f64>,
        ridge: f64,
    ) -> Option<(DMatrix<f64>, DMatrix<f64>)> {
        let n = self.count;
        let z = self.features.select_columns(kept) / n;
        let t = self.mean_target();
        let mut gram = self.gram.select_columns(kept).select_rows(kept) / n - z.transpose() * &z;
        let cross = self.cross.select_rows(kept) / n - z.transpose() * &t;
        let r = ridge * gram.trace() / kept.len() as f64;
        for i in 0..kept.len() {
            gram[(i, i)] += r;
        }
        let w = gram.cholesky()?.solve(&(cross + prior * r));
        let b = t - z * &w;
        w.iter().chain(b.iter()).all(|value| value.is_finite()).then_some((w, b))
    }
}

/// A tensor as a matrix on the host.
pub(crate) fn host<B: Backend>(x: Tensor<B, 2>) -> DMatrix<f64> {
    let [rows, columns] = x.dims();
    DMatrix::from_row_iterator(rows, columns, x.into_data().iter::<f64>())
}

/// A matrix as a tensor.
pub(crate) fn device<B: Backend>(x: &DMatrix<f64>, device: &B::Device) -> Tensor<B, 2> {
    let (rows, columns) = x.shape();
    let values: Vec<f32> = x.transpose().iter().map(|&value| value as f32).collect();
    Tensor::from_data(TensorData::new(values, [rows, columns]), device)
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;

    use super::*;

    fn values(shape: [usize; 3], seed: f32) -> Tensor<Flex, 3> {
        let count = shape.iter().product::<usize>();
        let values: Vec<f32> = (0..count).map(|i| ((i * i + i) as f32 * seed).sin()).collect();
        Tensor::from_data(TensorData::new(values, shape), &Default::default())
    }

    /// Targets that are a map of the features give that map back.
    #[test]
    fn a_map_of_all_features_is_found() {
        let (z, w) = (values([5, 7, 3], 0.7), values([1, 3, 2], 1.3).squeeze_dim::<2>(0));
        let t = z.clone().matmul(w.clone().unsqueeze()) + 0.25;
        let mut moments = Moments::new(3, 2);
        moments.add(z, t);
        let (found, bias) = moments.solve(&[0, 1, 2], &DMatrix::zeros(3, 2), 1e-9).unwrap();
        assert!((found - host(w)).abs().max() < 1e-5);
        assert!(bias.add_scalar(-0.25).abs().max() < 1e-5);
    }

    /// The residual of a solution is orthogonal to every kept feature: the definition of least squares.
    #[test]
    fn what_is_left_is_orthogonal_to_the_kept_features() {
        let (z, t) = (values([6, 4, 5], 0.9), values([6, 4, 2], 0.37));
        let mut moments = Moments::new(5, 2);
        moments.add(z.clone(), t.clone());
        let kept = [0, 2, 3];
        let (w, b) = moments.solve(&kept, &DMatrix::zeros(3, 2), 0.0).unwrap();
        let z = host(z.reshape([24, 5])).select_columns(&kept);
        let t = host(t.reshape([24, 2]));
        let left = t - &z * w - DMatrix::from_fn(24, 2, |_, j| b[j]);
        assert!((z.transpose() * &left).abs().max() < 1e-4);
        assert!(left.row_sum().abs().max() < 1e-4);
    }

    /// Features of which one repeats another determine nothing without a prior.
    #[test]
    fn what_is_not_determined_stays_at_the_prior() {
        let z = values([4, 4, 1], 0.5);
        let twice = Tensor::cat(vec![z.clone(), z.clone()], 2);
        let mut moments = Moments::new(2, 1);
        moments.add(twice, z);
        let prior = DMatrix::from_row_slice(2, 1, &[0.6, 0.4]);
        let (w, _) = moments.solve(&[0, 1], &prior, 1e-3).unwrap();
        assert!((w - prior).abs().max() < 1e-3);
    }
}
