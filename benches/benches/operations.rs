//! Core operations, forward and with backward, on the shapes of DeiT-Ti and of a small ViT.

use std::hint::black_box;

use burn::backend::Autodiff;
use burn::tensor::{Distribution, Tensor};
use criterion::{Criterion, criterion_group, criterion_main};
use spvit_core::{FusedOps, Grid, fused};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A name, batch, tokens (patches), dim and heads.
const SHAPES: [(&str, [usize; 4]); 2] =
    [("deit_tiny", [8, 196, 192, 3]), ("vit_mini", [64, 64, 128, 4])];

fn measure<B: FusedOps>(c: &mut Criterion, backend: &str) {
    let device = B::Device::default();
    for (shape, [batch, tokens, dim, heads]) in SHAPES {
        let side = (tokens as f64).sqrt() as usize;
        let grid = Grid { height: side, width: side, kernel: 3 };
        let random = |width: usize| {
            let shape = [batch, tokens, width];
            Tensor::<Autodiff<B>, 3>::random(shape, Distribution::Normal(0.0, 1.0), &device)
                .require_grad()
        };
        let vector = |size: usize| {
            Tensor::<Autodiff<B>, 1>::random([size], Distribution::Normal(0.0, 1.0), &device)
                .require_grad()
        };
        let matrix = |rows: usize, columns: usize| {
            let shape = [rows, columns];
            Tensor::<Autodiff<B>, 2>::random(shape, Distribution::Normal(0.0, 0.1), &device)
                .require_grad()
        };
        let mut group = c.benchmark_group(format!("{backend}/{shape}"));
        let mut both = |name: &str, run: &dyn Fn() -> Tensor<Autodiff<B>, 3>| {
            group.bench_function(format!("{name}/forward"), |bench| {
                bench.iter(|| {
                    let y = run();
                    let _ = B::sync(&device);
                    black_box(y)
                });
            });
            group.bench_function(format!("{name}/with_backward"), |bench| {
                bench.iter(|| {
                    let grads = run().sum().backward();
                    let _ = B::sync(&device);
                    black_box(grads)
                });
            });
        };

        let hidden = random(4 * dim);
        both("gelu", &|| fused::gelu(hidden.clone()));
        let x = random(dim);
        let (weight, bias) = (vector(dim), vector(dim));
        both("layer_norm", &|| fused::layer_norm(x.clone(), weight.clone(), bias.clone(), 1e-6));
        let (w, b) = (matrix(dim, 4 * dim), vector(4 * dim));
        both("affine", &|| fused::affine(x.clone(), w.clone(), Some(b.clone())));
        let qkv = random(3 * dim);
        both("self_attention", &|| fused::self_attention(qkv.clone(), heads, None));
        let p = matrix(heads, 9);
        both("mix_shift", &|| fused::mix_shift(x.clone(), p.clone(), grid));
        let products = random(9 * dim / heads);
        both("shift_sum", &|| fused::shift_sum(products.clone(), grid));
        group.finish();
    }
}

fn benches(c: &mut Criterion) {
    #[cfg(feature = "flex")]
    measure::<burn::backend::Flex>(c, "flex");
    #[cfg(feature = "ndarray")]
    measure::<burn::backend::NdArray>(c, "ndarray");
    #[cfg(feature = "cuda")]
    measure::<burn::backend::Cuda>(c, "cuda");
    #[cfg(feature = "tch")]
    measure::<burn::backend::LibTorch>(c, "tch");
}

criterion_group!(operations, benches);
criterion_main!(operations);
