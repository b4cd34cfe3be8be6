//! The trait by the kernels, for each backend.

/// [`FusedOps`](crate::fused::FusedOps) by the kernels of this folder, falling back to plain tensor
/// operations where a tensor does not hold `f32`.
macro_rules! impl_fused_ops {
    ($backend:ty) => {
        use burn::tensor::{
            TensorMetadata,
            ops::{FloatTensor, FloatTensorOps},
        };

        use crate::fused::{AdamWStep, Bottleneck, FusedOps, Grid, NormParameters, host, plain};

        impl FusedOps for $backend {
            fn affine(
                x: FloatTensor<Self>,
                w: FloatTensor<Self>,
                b: Option<FloatTensor<Self>>,
            ) -> FloatTensor<Self> {
                let bias = b.as_ref().map(Self::lend);
                match (Self::lend(&x), Self::lend(&w), bias) {
                    (Some(data), Some(weight), None | Some(Some(_))) => {
                        let n = w.shape()[1];
                        let bias = b.as_ref().and_then(Self::lend);
                        let y = host::linear::affine(&data, &weight, bias.as_deref(), n);
                        Self::own(y, host::with_last(&x.shape(), n))
                    }
                    _ => plain::affine::<Self>(x, w, b),
                }
            }

            fn affine_x_backward(
                w: FloatTensor<Self>,
                grad: FloatTensor<Self>,
            ) -> FloatTensor<Self> {
                match (Self::lend(&w), Self::lend(&grad)) {
                    (Some(weight), Some(g)) => {
                        let k = w.shape()[0];
                        let y = host::linear::times_transposed(&g, &weight, k);
                        Self::own(y, host::with_last(&grad.shape(), k))
                    }
                    _ => plain::affine_x_backward::<Self>(w, grad),
                }
            }

            fn affine_w_backward(
                x: FloatTensor<Self>,
                grad: FloatTensor<Self>,
            ) -> FloatTensor<Self> {
                match (Self::lend(&x), Self::lend(&grad)) {
                    (Some(data), Some(g)) => {
                        let (k, n) = (host::last(&x.shape()), host::last(&grad.shape()));
                        Self::own(host::linear::transposed_times(&data, &g, k, n), [k, n].into())
                    }
                    _ => plain::affine_w_backward::<Self>(x, grad),
                }
            }

            fn affine_b_backward(grad: FloatTensor<Self>) -> FloatTensor<Self> {
                match Self::lend(&grad) {
                    Some(g) => {
                        let n = host::last(&grad.shape());
                        Self::own(host::linear::column_sums(&g, n), [n].into())
                    }
                    None => plain::affine_b_backward::<Self>(grad),
                }
            }

            fn sum(x: FloatTensor<Self>, y: FloatTensor<Self>) -> FloatTensor<Self> {
                match [&x, &y].map(Self::lend) {
                    [Some(a), Some(b)] if a.len() == b.len() => {
                        Self::own(host::elementwise::sum(&a, &b), x.shape())
                    }
                    _ => Self::float_add(x, y),
                }
            }

            fn batch_norm(
                x: FloatTensor<Self>,
                parameters: NormParameters<Self>,
                epsilon: f64,
            ) -> [FloatTensor<Self>; 3] {
                let NormParameters { offset, weight, bias } = &parameters;
                match [&x, offset, weight, bias].map(Self::lend) {
                    [Some(data), Some(offset), Some(weight), Some(bias)] => {
                        let vectors = [&*offset, &*weight, &*bias];
                        let [y, mean, variance] =
                            host::batch_norm::forward(&data, vectors, epsilon);
                        let d = [mean.len()];
                        [
                            Self::own(y, x.shape()),
                            Self::own(mean, d.into()),
                            Self::own(variance, d.into()),
                        ]
                    }
                    _ => plain::batch_norm::<Self>(x, parameters, epsilon),
                }
            }

            fn batch_norm_backward(
                x: FloatTensor<Self>,
                parameters: NormParameters<Self>,
                statistics: [FloatTensor<Self>; 2],
                grad: FloatTensor<Self>,
                epsilon: f64,
            ) -> [FloatTensor<Self>; 4] {
                let NormParameters { offset, weight, .. } = &parameters;
                let [mean, variance] = &statistics;
                match [&x, offset, weight, mean, variance, &grad].map(Self::lend) {
                    [
                        Some(data),
                        Some(offset),
                        Some(weight),
                        Some(mean),
                        Some(variance),
                        Some(g),
                    ] => {
                        let vectors = [&*offset, &*weight, &*mean, &*variance];
                        let [dx, offset, weight, bias] =
                            host::batch_norm::backward(&data, vectors, &g, epsilon);
                        let d = weight.len();
                        let [offset, weight, bias] =
                            [offset, weight, bias].map(|sum| Self::own(sum, [d].into()));
                        [Self::own(dx, x.shape()), offset, weight, bias]
                    }
                    _ => {
                        plain::batch_norm_backward::<Self>(x, parameters, statistics, grad, epsilon)
                    }
                }
            }

            fn mix_shift(
                v: FloatTensor<Self>,
                p: FloatTensor<Self>,
                grid: Grid,
            ) -> FloatTensor<Self> {
                match (Self::lend(&v), Self::lend(&p)) {
                    (Some(data), Some(mix)) => {
                        let dims = host::dims3(&v.shape());
                        let y = host::convolution::mix_shift(&data, dims, &mix, grid);
                        Self::own(y, [dims[0], grid.tokens(), dims[2] / p.shape()[0]].into())
                    }
                    _ => plain::mix_shift::<Self>(v, p, grid),
                }
            }

            fn mix_shift_backward(
                v: FloatTensor<Self>,
                p: FloatTensor<Self>,
                grad: FloatTensor<Self>,
                grid: Grid,
            ) -> (FloatTensor<Self>, FloatTensor<Self>) {
                match (Self::lend(&v), Self::lend(&p), Self::lend(&grad)) {
                    (Some(data), Some(mix), Some(g)) => {
                        let dims = host::dims3(&v.shape());
                        let (dv, dp) =
                            host::convolution::mix_shift_backward(&data, dims, &mix, &g, grid);
                        (Self::own(dv, v.shape()), Self::own(dp, p.shape()))
                    }
                    _ => plain::mix_shift_backward::<Self>(v, p, grad, grid),
                }
            }

            fn shift_sum(u: FloatTensor<Self>, grid: Grid) -> FloatTensor<Self> {
                match Self::lend(&u) {
                    Some(data) => {
                        let dims = host::dims3(&u.shape());
                        let y = host::convolution::shift_sum(&data, dims, grid);
                        Self::own(y, [dims[0], grid.tokens(), dims[2] / grid.positions()].into())
                    }
                    None => plain::shift_sum::<Self>(u, grid),
                }
            }

            fn shift_sum_backward(
                grad: FloatTensor<Self>,
                skipped: usize,
                grid: Grid,
            ) -> FloatTensor<Self> {
                match Self::lend(&grad) {
                    Some(g) => {
                        let dims = host::dims3(&grad.shape());
                        let du = host::convolution::shift_sum_backward(&g, dims, skipped, grid);
                        let shape = [dims[0], skipped + grid.tokens(), dims[2] * grid.positions()];
                        Self::own(du, shape.into())
                    }
                    None => plain::shift_sum_backward::<Self>(grad, skipped, grid),
                }
            }

            fn bottleneck(
                x: FloatTensor<Self>,
                weights: Bottleneck<Self>,
                grid: Grid,
            ) -> FloatTensor<Self> {
                let Bottleneck { kernel, scale, shift, w, b } = &weights;
                let lent = [kernel, scale, shift, w, b].map(Self::lend);
                match (Self::lend(&x), lent) {
                    (Some(data), [Some(kernel), Some(scale), Some(shift), Some(w), Some(b)]) => {
                        let weights = [&*kernel, &*scale, &*shift, &*w, &*b];
                        let y = host::bottleneck::forward(&data, weights, x.shape()[0], grid);
                        Self::own(y, x.shape())
                    }
                    _ => plain::bottleneck::<Self>(x, weights, grid),
                }
            }

            fn adamw_update(
                inputs: [FloatTensor<Self>; 4],
                step: AdamWStep,
            ) -> [FloatTensor<Self>; 3] {
                let lent = inputs.each_ref().map(Self::lend);
                match &lent {
                    [Some(p), Some(m), Some(v), Some(g)] => {
                        let shape = inputs[0].shape();
                        host::elementwise::adamw([p, m, v, g], step)
                            .map(|data| Self::own(data, shape.clone()))
                    }
                    _ => plain::adamw_update::<Self>(inputs, step),
                }
            }

            fn inner_products(
                grad: FloatTensor<Self>,
                values: Vec<FloatTensor<Self>>,
            ) -> FloatTensor<Self> {
                let lent: Option<Vec<_>> = values.iter().map(Self::lend).collect();
                match (Self::lend(&grad), lent) {
                    (Some(g), Some(lent)) => {
                        let dots: Vec<f32> =
                            lent.iter().map(|value| host::elementwise::dot(&g, value)).collect();
                        let shape = [dots.len()].into();
                        Self::own(dots, shape)
                    }
                    _ => plain::inner_products::<Self>(grad, values),
                }
            }
        }
    };
}
pub(super) use impl_fused_ops;
