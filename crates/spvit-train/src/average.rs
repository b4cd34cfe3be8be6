//! An exponential moving average of a model's weights, as timm's `ModelEmaV2` keeps it.

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Tensor, TensorPrimitive, backend::Backend, ops::FloatTensor};
use spvit_core::{FusedOps, fused};

/// A model whose parameters and buffers are averages over the steps so far: `decay·average +
/// (1 - decay)·now` after every step, in float32, from the model as it was before the first.
#[derive(Debug)]
pub(crate) struct Average<M> {
    /// The average.
    pub model: M,
    decay: f64,
}

impl<M> Average<M> {
    /// The average before the first step.
    pub fn new(model: M, decay: f64) -> Self {
        Self { model, decay }
    }

    /// Takes a step's parameters and buffers in; `now` is the same model.
    pub fn update<B: FusedOps>(&mut self, now: &M)
    where
        M: Module<B>,
    {
        let [mut averages, mut values] = [const { Values(Vec::new()) }; 2];
        self.model.visit(&mut averages);
        now.visit(&mut values);
        let mut values: HashMap<_, _> = values.0.into_iter().collect();
        let pairs = averages.0.into_iter();
        let (ids, pairs): (Vec<_>, Vec<_>) =
            pairs.filter_map(|(id, average)| Some((id, [average, values.remove(&id)?]))).unzip();
        let moved = fused::averages::<B>(pairs, self.decay);
        let mut mover = Mover::<B>(ids.into_iter().zip(moved).collect());
        self.model = self.model.clone().map(&mut mover);
    }
}

/// Every parameter and buffer.
struct Values<B: Backend>(Vec<(ParamId, FloatTensor<B>)>);

impl<B: Backend> ModuleVisitor<B> for Values<B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        self.0.push((param.id, param.val().into_primitive().tensor()));
    }
}

/// Puts averages in their places.
struct Mover<B: Backend>(HashMap<ParamId, FloatTensor<B>>);

impl<B: Backend> ModuleMapper<B> for Mover<B> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let Some(average) = self.0.remove(&param.id) else { return param };
        param.map(|_| Tensor::from_primitive(TensorPrimitive::Float(average)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::Flex;
    use spvit_layers::{BatchNorm, Init, state::Path};

    /// A batch norm whose every value is this one, its buffers included.
    fn norm(value: f64, like: &BatchNorm<Flex>) -> BatchNorm<Flex> {
        struct Fill(f64);
        impl ModuleMapper<Flex> for Fill {
            fn map_float<const D: usize>(
                &mut self,
                param: Param<Tensor<Flex, D>>,
            ) -> Param<Tensor<Flex, D>> {
                param.map(|old| old.zeros_like() + self.0)
            }
        }
        like.clone().map(&mut Fill(value))
    }

    /// All values by their names.
    fn values(norm: &BatchNorm<Flex>) -> Vec<(String, Vec<f32>)> {
        #[derive(Default)]
        struct Reader(Path, Vec<(String, Vec<f32>)>);
        impl ModuleVisitor<Flex> for Reader {
            fn enter_module(&mut self, name: &str, container: &str) {
                self.0.enter(name, container);
            }
            fn exit_module(&mut self, _name: &str, _container: &str) {
                self.0.exit();
            }
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<Flex, D>>) {
                self.1.push((self.0.here().0, param.val().into_data().to_vec().unwrap()));
            }
        }
        let mut reader = Reader::default();
        norm.visit(&mut reader);
        reader.1
    }

    #[test]
    fn parameters_and_buffers_are_averaged() {
        let fresh = BatchNorm::new(3, &mut Init::new(0, &Default::default()));
        let mut average = Average::new(norm(1.0, &fresh), 0.75);
        // 0.75·1 + 0.25·2 = 1.25, 0.75·1.25 - 0.25·1 = 0.6875, each exact in float32.
        for (now, expected) in [(2.0, 1.25), (-1.0, 0.6875)] {
            average.update(&norm(now, &fresh));
            let values = values(&average.model);
            assert_eq!(values.len(), 4, "{values:?}");
            assert!(values.iter().all(|(_, own)| *own == [expected; 3]), "{values:?}");
        }
        // DeiT's decay: what 20,000 steps leave of the start, and take of what came after.
        let mut average = Average::new(norm(1.0, &fresh), 0.99996);
        let now = norm(0.0, &fresh);
        (0..20_000).for_each(|_| average.update(&now));
        let left = 0.99996f64.powi(20_000);
        for (name, own) in values(&average.model) {
            let found = f64::from(own[0]);
            assert!((found / left - 1.0).abs() < 2e-3, "{name}: {found}, not {left}");
        }
    }
}
