//! Gradients by published name.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{
    Tensor, TensorData,
    backend::{AutodiffBackend, Backend},
};
use spvit_layers::state::{self, Named, StateDict};
use spvit_search::Gates;

use super::{host, values};

/// Gradients of a module's parameters by published name and layout; zero where there is none.
pub fn gradients<A: AutodiffBackend, M: Named<A>>(module: &M, grads: &A::Gradients) -> StateDict {
    struct Replace<'a, A: AutodiffBackend>(&'a A::Gradients);
    impl<A: AutodiffBackend> ModuleMapper<A> for Replace<'_, A> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<A, D>>) -> Param<Tensor<A, D>> {
            param.map(|value| match value.grad(self.0) {
                Some(grad) => Tensor::from_inner(grad),
                None => value.detach().zeros_like(),
            })
        }
    }
    let mut gradients = state::export(&module.clone().map(&mut Replace(grads)));
    gradients.retain(|name, _| !name.contains("running_"));
    gradients
}

/// The inverse of [`state::merge_qkv`], so that each published tensor is held to its own scale.
pub fn split_qkv(state: &mut StateDict) {
    let names: Vec<String> = state.keys().filter(|name| name.contains(".qkv.")).cloned().collect();
    for name in names {
        let data = state.remove(&name).unwrap();
        let mut shape = data.shape.to_vec();
        let all = values(&data);
        let dim = shape[0] / 3;
        let (qk, v) = all.split_at(all.len() / 3 * 2);
        for (part, rows, values) in [("qk", 2 * dim, qk), ("v", dim, v)] {
            shape[0] = rows;
            state
                .insert(name.replace("qkv", part), TensorData::new(values.to_vec(), shape.clone()));
        }
    }
}

/// Gradients of thresholds by published name; zero where there is none.
pub fn threshold_gradients<A: AutodiffBackend>(
    gates: &Gates<A>,
    grads: &A::Gradients,
) -> StateDict {
    let [operations, ffn] = [gates.operations.shape(), gates.ffn.shape()].map(|s| s.num_elements());
    let own = gates.operations.val().grad(grads).map_or(vec![0.0; operations], host);
    let hidden = gates.ffn.val().grad(grads).map_or(vec![0.0; ffn], host);
    by_block(&gates.draws(), own, hidden)
}

/// Thresholds by published name.
pub fn thresholds<B: Backend>(gates: &Gates<B>) -> StateDict {
    by_block(&gates.draws(), host(gates.operations.val()), host(gates.ffn.val()))
}

fn by_block(draws: &[[usize; 3]], operations: Vec<f32>, ffn: Vec<f32>) -> StateDict {
    let (mut operations, mut ffn) = (operations.into_iter(), ffn.into_iter());
    let mut take = |name: String, kind: usize, count: usize| {
        let values: Vec<f32> = match kind {
            0 => operations.by_ref().take(count).collect(),
            _ => ffn.by_ref().take(count).collect(),
        };
        (name, TensorData::new(values, [count]))
    };
    let blocks = draws.iter().enumerate().flat_map(|(i, &[operations, hidden, _])| {
        [
            take(format!("blocks.{i}.attn.kernel_thresholds"), 0, operations),
            take(format!("blocks.{i}.mlp.ffn_thresholds"), 1, hidden),
        ]
    });
    blocks.collect()
}
