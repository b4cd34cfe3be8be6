//! Whole steps: dense, search, fine-tune (each with its optimisers) and forward passes.

use std::hint::black_box;

use burn::backend::Autodiff;
use criterion::{Criterion, criterion_group, criterion_main};
use spvit_benches::Workload;
use spvit_core::{FusedOps, Precision};
use spvit_layers::ModelConfig;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn measure<B: FusedOps>(c: &mut Criterion, backend: &str) {
    for (shape, batch) in [("vit_micro", 64), ("vit_mini", 64), ("deit_tiny", 8)] {
        let config = ModelConfig::preset(shape).unwrap_or_else(|error| panic!("{error}"));
        let device = B::Device::default();
        let mut workload = Workload::<Autodiff<B>>::new(config, batch, Precision::F32, &device);
        let mut group = c.benchmark_group(format!("{backend}/{shape}"));
        group.sample_size(10);
        group.bench_function("dense_step", |bench| bench.iter(|| workload.dense_step()));
        group.bench_function("search_step", |bench| bench.iter(|| workload.search_step()));
        group.bench_function("finetune_step", |bench| bench.iter(|| workload.finetune_step()));
        group.bench_function("dense_forward", |bench| {
            bench.iter(|| black_box(workload.dense_forward()));
        });
        group.bench_function("compact_forward", |bench| {
            bench.iter(|| black_box(workload.compact_forward()));
        });
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

criterion_group!(steps, benches);
criterion_main!(steps);
