//! The one-branch step is exact: its values, every gradient and the statistics that it moves are
//! those of a step that computes all branches with a graph.
//!
//! The all-branches layer below is written from the equations, with a convolution kernel that is
//! built (Eq. 17) and autodiff alone; it shares no code with the layer that it checks.

use burn::backend::{Autodiff, Flex};
use burn::module::Param;
use burn::tensor::{
    Tensor, TensorData, activation::relu, backend::Backend, module::conv2d, ops::ConvOptions,
};
use spvit_core::{FusedOps, gates as gate_functions};
use spvit_layers::state::StateDict;
use spvit_layers::{
    BatchNorm, Family, Init, Mode, ModelConfig, SearchSpace, SearchVit, TrainContext, Umsa,
    VitConfig,
};
use spvit_search::{BlockUniforms, Gates};

use crate::support::{
    Errors, Noise, Scale, device, gates_of, gradients, host, magnitude, split_qkv,
    threshold_gradients,
};

on_all_backends!(three_operations, four_operations, five_operations);

const HEIGHT: usize = 4;
const WIDTH: usize = 5;

fn three_operations<B: FusedOps>() {
    every_pattern::<B>(&[1, 3]);
}

fn four_operations<B: FusedOps>() {
    every_pattern::<B>(&[1, 3, 5]);
}

fn five_operations<B: FusedOps>() {
    every_pattern::<B>(&[1, 3, 5, 7]);
}

fn config(kernels: &[usize]) -> ModelConfig {
    // From 32 values on, backends take other paths: heads as wide as that once.
    let (dim, heads) = if kernels.len() == 2 { (64, 2) } else { (12, 3) };
    let deit = VitConfig::deit([HEIGHT * 2, 2, 1, 2, dim, 1, heads]);
    ModelConfig {
        family: Family::Vit(VitConfig {
            image_size: [HEIGHT * 2, WIDTH * 2],
            hidden: HIDDEN,
            ..deit
        }),
        space: SearchSpace { kernels: kernels.to_vec(), alpha: 0.01, separate: false },
    }
}

const HIDDEN: usize = 2;

/// Mean and unbiased variance of each branch's batch normalisation, smallest kernel first.
type Statistics = Vec<[Vec<f32>; 2]>;

/// Eqs. 8 and 9 with the batch's statistics or the running ones, on `[batch, d, height, width]`.
fn normalise<B: Backend>(
    bn: &BatchNorm<B>,
    x: Tensor<B, 4>,
    train: bool,
    statistics: &mut Statistics,
) -> Tensor<B, 4> {
    let [batch, d, height, width] = x.dims();
    let wide = |x: Tensor<B, 1>| x.reshape([1, d, 1, 1]);
    let rows = x.clone().swap_dims(0, 1).reshape([d, batch * height * width]);
    let mean = rows.clone().mean_dim(1);
    let variance = (rows - mean.clone()).powi_scalar(2).mean_dim(1);
    let count = (batch * height * width) as f64;
    statistics.push([host(mean.clone()), host(variance.clone() * (count / (count - 1.0)))]);
    let (mean, variance) = match train {
        true => (mean.squeeze_dim(1), variance.squeeze_dim(1)),
        false => (bn.running_mean.val(), bn.running_var.val()),
    };
    (x - wide(mean)) / wide((variance + 1e-5).sqrt()) * wide(bn.weight.val()) + wide(bn.bias.val())
}

/// All candidates of a layer on x `[batch, 1 + patches, dim]`, cheapest first.
fn candidates<B: Backend>(
    attn: &Umsa<B>,
    kernels: &[usize],
    x: Tensor<B, 3>,
    train: bool,
    statistics: &mut Statistics,
) -> Vec<Tensor<B, 3>> {
    let [batch, tokens, dim] = x.dims();
    let msa = &attn.msa;
    let (heads, d) = (msa.heads(), dim / msa.heads());
    let largest = kernels[kernels.len() - 1];
    let bias = |linear: &spvit_layers::Linear<B>| linear.bias.as_ref().unwrap().val();
    let (w, b) = (msa.qkv.weight.val(), bias(&msa.qkv));
    let (wo, bo) = (msa.proj.weight.val(), bias(&msa.proj).reshape([1, 1, dim]));
    // Eq. 5.
    let z = (attn.head_probs.val() / attn.alpha).exp();
    let p = z.clone() / z.sum_dim(0);

    let class = x.clone().narrow(1, 0, 1);
    let map =
        x.clone().narrow(1, 1, tokens - 1).swap_dims(1, 2).reshape([batch, dim, HEIGHT, WIDTH]);
    let mut all = Vec::new();
    for (kernel, bn) in kernels.iter().copied().zip(&attn.bn) {
        let margin = (largest - kernel) / 2;
        let (mut weight, mut bias, mut out) = (Vec::new(), None, None);
        // Rows then columns, as a convolution's weight is laid out.
        for (r, c) in (0..kernel).flat_map(|r| (0..kernel).map(move |c| (r, c))) {
            // Positions are column-major in the largest kernel; a smaller one is its centre.
            let position = (c + margin) * largest + r + margin;
            let mut column: Option<Tensor<B, 2>> = None;
            for h in 0..heads {
                let share = p.clone().narrow(0, h, 1).narrow(1, position, 1);
                let add = |sum: Option<Tensor<B, 2>>, term: Tensor<B, 2>| {
                    Some(sum.map_or(term.clone(), |sum| sum + term))
                };
                let value = w.clone().narrow(1, 2 * dim + h * d, d);
                column = add(column, value * share.clone());
                let value_bias = b.clone().narrow(0, 2 * dim + h * d, d).reshape([1, d]);
                bias = add(bias, value_bias * share.clone());
                out = add(out, wo.clone().narrow(0, h * d, d) * share);
            }
            weight.push(column.unwrap().swap_dims(0, 1).reshape([d, dim, 1]));
        }
        let weight = Tensor::cat(weight, 2).reshape([d, dim, kernel, kernel]);
        let half = kernel / 2;
        let options = ConvOptions::new([1, 1], [half, half], [1, 1], 1);
        let y = conv2d(map.clone(), weight, Some(bias.unwrap().reshape([d])), options);
        let y = relu(normalise(bn, y, train, statistics));
        let y = y.reshape([batch, d, tokens - 1]).swap_dims(1, 2);
        let y = y.matmul(out.unwrap().unsqueeze()) + bo.clone();
        // Eq. 10.
        all.push(Tensor::cat(vec![class.clone(), y], 1));
    }

    let qkv = x.matmul(w.unsqueeze()) + b.reshape([1, 1, 3 * dim]);
    let mut mixed = Vec::new();
    for h in 0..heads {
        let [q, k, v] = [0, 1, 2].map(|part| qkv.clone().narrow(2, part * dim + h * d, d));
        let scores = (q.matmul(k.swap_dims(1, 2)) / (d as f64).sqrt()).exp();
        mixed.push((scores.clone() / scores.sum_dim(2)).matmul(v));
    }
    all.push(Tensor::cat(mixed, 2).matmul(wo.unsqueeze()) + bo);
    all
}

/// Eqs. 2 and 3, with every candidate in the graph.
fn all_branches<B: Backend>(own: Tensor<B, 1>, candidates: Vec<Tensor<B, 3>>) -> Tensor<B, 3> {
    let gate = |i: usize| own.clone().narrow(0, i, 1).reshape([1, 1, 1]);
    let cumulative = |i: usize| (0..=i).map(gate).reduce(|a, b| a * b).unwrap();
    let count = candidates.len();
    let terms = candidates.into_iter().enumerate().map(|(i, candidate)| {
        let closed = (i + 1..count).map(|j| -cumulative(j) + 1.0);
        candidate * closed.fold(cumulative(i), |product, closed| product * closed)
    });
    terms.reduce(|a, b| a + b).unwrap()
}

/// Everything that a step needs, the same on every backend.
struct Setup<B: FusedOps> {
    config: ModelConfig,
    model: SearchVit<Autodiff<B>>,
    gates: Gates<Autodiff<B>>,
    x: Tensor<Autodiff<B>, 3>,
    loss_weights: Tensor<Autodiff<B>, 3>,
}

impl<B: FusedOps> Setup<B> {
    fn new(kernels: &[usize]) -> Self {
        let config = config(kernels);
        let device = device::<B>();
        let mut noise = Noise::new(kernels.len() as u64);
        let operations = kernels.len() + 1;
        let mut gates = gates_of(&config, 0.0, &device);
        let theta: Vec<f32> = (0..operations).map(|_| noise.around_zero(0.5)).collect();
        gates.operations = Param::from_data(TensorData::new(theta, [operations]), &device);
        let shape = [2, HEIGHT * WIDTH + 1, config.embed_dim()];
        Self {
            model: noise.fill(SearchVit::new(&config, &mut Init::new(0, &device))),
            gates,
            x: noise.tensor::<Autodiff<B>, 3>(shape, 1.5).require_grad(),
            loss_weights: noise.tensor(shape, 1.0),
            config,
        }
    }

    /// Gradients of a layer's output, weighted: of the input, of parameters, of thresholds.
    fn gradients(&self, out: Tensor<Autodiff<B>, 3>) -> (Vec<f32>, StateDict, StateDict) {
        let grads = (out * self.loss_weights.clone()).sum().backward();
        let count = self.x.shape().num_elements();
        let input = self.x.grad(&grads).map_or(vec![0.0; count], host);
        let mut parameters = gradients(&self.model, &grads);
        split_qkv(&mut parameters);
        (input, parameters, threshold_gradients(&self.gates, &grads))
    }

    /// The library's layer.
    fn one_branch(
        &self,
        uniforms: &BlockUniforms,
        mode: &Mode<Autodiff<B>>,
    ) -> Tensor<Autodiff<B>, 3> {
        let sampled = self.gates.sample(std::slice::from_ref(uniforms));
        self.model.blocks[0].attn.forward(self.x.clone(), &sampled[0].operation, mode)
    }

    /// The layer of this file.
    fn reference(
        &self,
        uniforms: &BlockUniforms,
        train: bool,
        statistics: &mut Statistics,
    ) -> Tensor<Autodiff<B>, 3> {
        let theta = self.gates.operations.val().reshape([uniforms.operations.len()]);
        let draws = Tensor::from_floats(uniforms.operations.as_slice(), &device::<B>());
        let own = gate_functions::sample(theta, draws);
        let attn = &self.model.blocks[0].attn;
        let candidates =
            candidates(attn, &self.config.space.kernels, self.x.clone(), train, statistics);
        all_branches(own, candidates)
    }
}

fn every_pattern<B: FusedOps>(kernels: &[usize]) {
    let mut errors = Errors::new::<B>(&format!("one branch, kernels {kernels:?}"));
    // The reference runs on flex: differentiated step by step, quotients are inexact on ndarray.
    let (setup, reference) = (Setup::<B>::new(kernels), Setup::<Flex>::new(kernels));
    let operations = kernels.len() + 1;
    for pattern in 0..1 << operations {
        let bits: Vec<bool> = (0..operations).map(|i| pattern >> i & 1 == 1).collect();
        // With thresholds within 0.5, these draws decide.
        let draws = bits.iter().map(|&open| if open { 0.8 } else { 0.2 }).collect();
        let uniforms = BlockUniforms { operations: draws, ffn: vec![0.9; HIDDEN], heads: vec![] };
        for train in [false, true] {
            let name = format!("{bits:?}, train {train}");
            let context = TrainContext::new();
            let mode = if train { Mode::Train(&context) } else { Mode::Evaluate };
            let out = setup.one_branch(&uniforms, &mode);
            let mut statistics = Statistics::new();
            let expected = reference.reference(&uniforms, train, &mut statistics);
            errors.check(
                "outputs",
                &name,
                &host(out.clone()),
                &host(expected.clone()),
                (1e-5, Scale::AtLeastOne),
            );

            let (input, parameters, thresholds) = setup.gradients(out);
            let expected = reference.gradients(expected);
            let scale = Scale::Given(magnitude(&expected.0));
            errors.check("input gradients", &name, &input, &expected.0, (1e-4, scale));
            errors.check_gradients("parameter gradients", &parameters, &expected.1);
            errors.check_gradients("threshold gradients", &thresholds, &expected.2);

            let found = context.into_statistics();
            let bns = &setup.model.blocks[0].attn.bn;
            for (bn, [mean, variance]) in bns.iter().zip(&statistics) {
                let of_this = found.iter().filter(|moved| moved.mean_id == bn.running_mean.id);
                for moved in of_this {
                    assert_eq!(moved.variance_id, bn.running_var.id);
                    for (found, expected) in [(&moved.mean, mean), (&moved.variance, variance)] {
                        errors.check(
                            "statistics",
                            &name,
                            &host(found.clone()),
                            expected,
                            (1e-5, Scale::AtLeastOne),
                        );
                    }
                }
            }
            let open = bits.iter().take_while(|&&open| open).count();
            if train && (1..operations).contains(&open) {
                let id = bns[open - 1].running_mean.id;
                let count = found.iter().filter(|moved| moved.mean_id == id).count();
                assert_eq!(count, 1, "{name}: the open convolution moves its statistics once");
            }
            assert!(train || found.is_empty(), "{name}: evaluation moves nothing");
        }
    }
}
