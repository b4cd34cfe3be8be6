//! Layers: attention against bottleneck convolutions over growing maps, and the searched layer in
//! each of its states.

use std::hint::black_box;

use burn::backend::Autodiff;
use burn::tensor::{Distribution, Tensor, backend::Backend};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use spvit_core::{FusedOps, gates};
use spvit_layers::{
    BlockShape, BottleneckConv, Init, Mode, Msa, OperationGates, SearchSpace, TrainContext, Umsa,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// DeiT-Ti's layer over a map with `side` patches a side.
fn block(side: usize) -> BlockShape {
    BlockShape::new(192, 3, [side; 2])
}

fn input<B: Backend>(block: &BlockShape, batch: usize, device: &B::Device) -> Tensor<B, 3> {
    let shape = [batch, block.tokens(), block.dim];
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}

/// Time of a forward pass of one image by the side of the map.
fn scaling<B: FusedOps>(c: &mut Criterion, backend: &str) {
    let device = B::Device::default();
    let mut group = c.benchmark_group(format!("{backend}/scaling"));
    group.sample_size(10);
    for side in [14, 28, 42, 56] {
        let block = block(side);
        let x = input::<B>(&block, 1, &device);
        let msa = Msa::<B>::new(&block, &mut Init::new(0, &device));
        group.bench_with_input(BenchmarkId::new("msa", side), &x, |bench, x| {
            bench.iter(|| black_box(msa.forward(x.clone()).into_data()));
        });
        for kernel in [1, 3] {
            let bconv = BottleneckConv::<B>::new(&block, kernel, &mut Init::new(0, &device));
            let name = BenchmarkId::new(format!("bconv{kernel}x{kernel}"), side);
            group.bench_with_input(name, &x, |bench, x| {
                bench.iter(|| black_box(bconv.forward(x.clone(), &Mode::Evaluate).into_data()));
            });
        }
    }
    group.finish();
}

/// A searched layer, forward and backward, for every state of its gates; and plain attention.
fn searched<B: FusedOps>(c: &mut Criterion, backend: &str) {
    let device = B::Device::default();
    let block = block(14);
    let space = SearchSpace::default();
    let umsa = Umsa::<Autodiff<B>>::new(&block, &space, &mut Init::new(0, &device));
    let msa = Msa::<Autodiff<B>>::new(&block, &mut Init::new(0, &device));
    let x = input::<Autodiff<B>>(&block, 8, &device).require_grad();
    let mut group = c.benchmark_group(format!("{backend}/umsa"));
    group.sample_size(10);
    group.bench_function("msa", |bench| {
        bench.iter(|| black_box(msa.forward(x.clone()).sum().backward()));
    });
    for open in [[1, 1, 1], [1, 1, 0], [1, 0, 0], [0, 0, 0]] {
        let name = format!("gates_{}{}{}", open[0], open[1], open[2]);
        group.bench_function(name, |bench| {
            bench.iter(|| {
                let own = open.map(|gate| gate as f32);
                let own = Tensor::<Autodiff<B>, 2>::from_floats([own], &device).require_grad();
                let open = open.map(|gate| gate == 1);
                let gates = OperationGates::Sampled {
                    coefficients: gates::coefficients(own, &open).squeeze_dim(0),
                    first: 0,
                    open: open.to_vec(),
                    operations: space.operations().into(),
                };
                let context = TrainContext::new();
                let y = umsa.forward(x.clone(), &gates, &Mode::Train(&context));
                black_box(y.sum().backward())
            });
        });
    }
    group.finish();
}

fn benches(c: &mut Criterion) {
    #[cfg(feature = "flex")]
    {
        scaling::<burn::backend::Flex>(c, "flex");
        searched::<burn::backend::Flex>(c, "flex");
    }
    #[cfg(feature = "ndarray")]
    {
        scaling::<burn::backend::NdArray>(c, "ndarray");
        searched::<burn::backend::NdArray>(c, "ndarray");
    }
    #[cfg(feature = "cuda")]
    {
        scaling::<burn::backend::Cuda>(c, "cuda");
        searched::<burn::backend::Cuda>(c, "cuda");
    }
    #[cfg(feature = "tch")]
    {
        scaling::<burn::backend::LibTorch>(c, "tch");
        searched::<burn::backend::LibTorch>(c, "tch");
    }
}

criterion_group!(layers, benches);
criterion_main!(layers);
