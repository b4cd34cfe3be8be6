//! Least squares instead of training steps: a compact model's last maps, made to follow the dense
//! model.

use burn::module::Param;
use burn::tensor::{Tensor, backend::Backend};
use spvit_core::FusedOps;
use spvit_layers::{LayerScale, Linear, Mixer, Mode, Vit};

use crate::moments::{Moments, RIDGE, device, host};

/// Scales below this pass on nothing to fit.
const LEAST_SCALE: f32 = 1e-4;

/// A stream `[batch, tokens, dim]` of every batch.
type Streams<B> = Vec<Tensor<B, 3>>;

/// Fits the last map of every branch of a compact model in turn, from the first block to the last, so
/// that the residual stream after it is as near as possible to the dense model's:
///
/// `min ‖x + γ⊙(z·W + b) - x*‖² + r·‖W - W0‖²`
///
/// with the compact model's stream x and features z, and the dense model's stream x*. A shortcut has
/// no map; its block's FFN makes up for it. Batch normalisations get the images' statistics.
///
/// Two streams of all images are kept in memory: `2·images·tokens·dim` numbers.
///
/// # Shapes
/// - images: batches of `[batch, channels, height, width]`.
pub fn refit<B: FusedOps>(
    mut compact: Vit<B>,
    dense: &Vit<B>,
    images: &[Tensor<B, 4>],
    mut progress: impl FnMut(usize, usize),
) -> Vit<B> {
    let embed = |model: &Vit<B>| -> Streams<B> {
        images.iter().map(|batch| model.embed(batch.clone())).collect()
    };
    let (mut own, mut goal) = (embed(&compact), embed(dense));
    let (mode, count) = (Mode::Evaluate, dense.blocks.len());
    for index in 0..count {
        progress(index, count);
        let all = |streams: Streams<B>, half: &dyn Fn(Tensor<B, 3>) -> Tensor<B, 3>| {
            streams.into_iter().map(half).collect::<Streams<B>>()
        };
        goal = all(goal, &|x| dense.blocks[index].mix(x, index, &mode));
        fit_mixer(&mut compact, index, &own, &goal);
        own = all(own, &|x| compact.blocks[index].mix(x, index, &mode));
        goal = all(goal, &|x| dense.blocks[index].feed(x, index, &mode));
        fit_ffn(&mut compact, index, &own, &goal);
        own = all(own, &|x| compact.merge(index, compact.blocks[index].feed(x, index, &mode)));
        goal = all(goal, &|x| dense.merge(index, x));
    }
    compact
}

fn fit_mixer<B: FusedOps>(
    model: &mut Vit<B>,
    index: usize,
    own: &[Tensor<B, 3>],
    goal: &[Tensor<B, 3>],
) {
    let block = &mut model.blocks[index];
    let norm = block.norm1.clone();
    match &mut block.attn {
        Mixer::Shortcut(_) => {}
        Mixer::Msa(msa) => {
            let features = |x: Tensor<B, 3>| msa.features(norm.forward(x));
            let fitted = fit(&msa.proj, &block.ls1, features, own, goal);
            msa.proj = fitted.unwrap_or_else(|| msa.proj.clone());
        }
        Mixer::Bconv(bconv) => {
            let sums = own.iter().map(|x| {
                let sums = bconv.sums(norm.forward(x.clone()));
                let [batch, patches, d] = sums.dims();
                sums.reshape([batch * patches, d])
            });
            let sums = Tensor::cat(sums.collect(), 0);
            let (variance, mean) = sums.var_mean(0);
            let mean = mean.squeeze_dim::<1>(0) + bconv.conv.bias.val();
            replace(&mut bconv.bn.running_mean, mean);
            replace(&mut bconv.bn.running_var, variance.squeeze_dim::<1>(0));
            let features = |x: Tensor<B, 3>| bconv.features(norm.forward(x));
            let fitted = fit(&bconv.proj, &block.ls1, features, own, goal);
            bconv.proj = fitted.unwrap_or_else(|| bconv.proj.clone());
        }
    }
}

fn fit_ffn<B: FusedOps>(
    model: &mut Vit<B>,
    index: usize,
    own: &[Tensor<B, 3>],
    goal: &[Tensor<B, 3>],
) {
    let block = &mut model.blocks[index];
    let norm = block.norm2.clone();
    let ffn = block.mlp.clone();
    match &ffn.fc2 {
        Some(fc2) => {
            let features = |x: Tensor<B, 3>| ffn.features(norm.forward(x));
            if let Some(fitted) = fit(fc2, &block.ls2, features, own, goal) {
                block.mlp.fc2 = Some(fitted);
            }
        }
        None => {
            let Some(bias) = &mut block.mlp.bias else { return };
            let (sum, rows) = own.iter().zip(goal).fold((None, 0), |(sum, rows), (x, to)| {
                let [batch, tokens, dim] = x.dims();
                let missing = (to.clone() - x.clone()).reshape([batch * tokens, dim]).sum_dim(0);
                let missing = missing.squeeze_dim::<1>(0);
                (
                    Some(sum.map_or_else(|| missing.clone(), |sum| sum + missing.clone())),
                    rows + batch * tokens,
                )
            });
            let Some(sum) = sum else { return };
            let mean = sum / rows as f64;
            match &block.ls2 {
                Some(scale) => {
                    let gamma = scale.gamma.val();
                    let few = gamma.clone().abs().lower_elem(LEAST_SCALE);
                    let fitted = mean / gamma.mask_fill(few.clone(), 1.0);
                    replace(bias, fitted.mask_where(few, bias.val()));
                }
                None => replace(bias, mean),
            }
        }
    }
}

/// The map with the weights of least squares, for the tokens that its features have: the last ones of
/// the stream where a convolution leaves prefix tokens alone.
fn fit<B: FusedOps>(
    map: &Linear<B>,
    scale: &Option<LayerScale<B>>,
    features: impl Fn(Tensor<B, 3>) -> Tensor<B, 3>,
    own: &[Tensor<B, 3>],
    goal: &[Tensor<B, 3>],
) -> Option<Linear<B>> {
    let bias = map.bias.as_ref()?;
    let gamma = scale.as_ref().map(|scale| scale.gamma.val());
    let silent: Vec<bool> = match &gamma {
        Some(gamma) => {
            gamma.to_data().iter::<f32>().map(|value| value.abs() < LEAST_SCALE).collect()
        }
        None => vec![false; map.weight.dims()[1]],
    };
    let gamma = gamma.map(|gamma| {
        let few = gamma.clone().abs().lower_elem(LEAST_SCALE);
        gamma.mask_fill(few, 1.0)
    });
    let [width, dim] = map.weight.dims();
    let mut moments = Moments::new(width, dim);
    for (x, to) in own.iter().zip(goal) {
        let z = features(x.clone());
        let (all, own) = (x.dims()[1], z.dims()[1]);
        let missing = (to.clone() - x.clone()).narrow(1, all - own, own);
        let target = match &gamma {
            Some(gamma) => missing / gamma.clone().unsqueeze(),
            None => missing,
        };
        moments.add(z, target);
    }
    let kept: Vec<usize> = (0..width).collect();
    let before = host(map.weight.val());
    let (mut w, mut b) = moments.solve(&kept, &before, RIDGE)?;
    let constant: Vec<f64> = bias.val().into_data().iter::<f64>().collect();
    for column in (0..dim).filter(|&column| silent[column]) {
        w.set_column(column, &before.column(column));
        b[column] = constant[column];
    }
    let place = map.weight.device();
    let mut fitted = map.clone();
    replace(&mut fitted.weight, device(&w, &place));
    let mut own = bias.clone();
    replace(&mut own, device::<B>(&b, &place).squeeze_dim::<1>(0));
    fitted.bias = Some(own);
    Some(fitted)
}

/// Other values for a parameter, laid out as its shape says.
fn replace<B: Backend, const D: usize>(param: &mut Param<Tensor<B, D>>, values: Tensor<B, D>) {
    let (data, place) = (values.into_data(), param.val().device());
    *param = Param::from_data(data, &place).set_require_grad(param.is_require_grad());
}
