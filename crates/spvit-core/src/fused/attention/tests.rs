use burn::backend::{Autodiff, Flex, NdArray};
use burn::tensor::Tensor;

use super::{AttentionOps, AttentionState, plain};
use crate::fused::{
    FusedOps, Precision, raw, self_attention,
    testing::{check, close, wave},
};

fn fused_equals_plain<B: FusedOps>() {
    for shape in [[3, 7, 3 * 3 * 4], [1, 150, 3 * 3 * 2]] {
        check::<B>(
            &format!("attention, {shape:?}"),
            &[&shape],
            |x| Autodiff::<B>::self_attention(x[0].clone(), 3, None, Precision::F32).0,
            |x| plain::self_attention::<Autodiff<B>>(x[0].clone(), 3, None, Precision::F32).0,
        );
    }
    // One group for all items; one for each; and as many as images have windows.
    for (items, groups) in [(5, 1), (3, 3), (8, 4), (20, 2)] {
        check::<B>(
            &format!("attention of {items} items with a bias of {groups} groups"),
            &[&[items, 7, 3 * 3 * 4], &[groups, 3, 7, 7]],
            |x| {
                let bias = Some(x[1].clone());
                Autodiff::<B>::self_attention(x[0].clone(), 3, bias, Precision::F32).0
            },
            |x| {
                plain::self_attention::<Autodiff<B>>(
                    x[0].clone(),
                    3,
                    Some(x[1].clone()),
                    Precision::F32,
                )
                .0
            },
        );
    }
    let (qkv, grad) = (wave::<B, 3>([20, 9, 18], 0.4), wave::<B, 3>([20, 9, 6], 0.3));
    for groups in [None, Some(1), Some(4)] {
        let bias = groups.map(|groups| raw(wave::<B, 4>([groups, 2, 9, 9], 0.7)));
        let (_, own) = B::self_attention(raw(qkv.clone()), 2, bias.clone(), Precision::F32);
        let backward = |state| {
            let (qkv, grad) = (raw(qkv.clone()), raw(grad.clone()));
            B::self_attention_backward(qkv, state, grad, (2, groups), Precision::F32)
        };
        let (c, d) = backward(own.clone());
        // Both take what either has kept.
        for state in [own, AttentionState::Bias(bias)] {
            let plain = plain::self_attention_backward::<B>(
                raw(qkv.clone()),
                state.clone(),
                raw(grad.clone()),
                (2, groups),
                Precision::F32,
            );
            for (x, bias) in [plain, backward(state)] {
                close::<B>("backward", x, c.clone());
                assert_eq!((bias.is_some(), d.is_some()), (groups.is_some(), groups.is_some()));
                let both = bias.zip(d.clone());
                both.into_iter().for_each(|(x, y)| close::<B>("backward, bias", x, y));
            }
        }
    }
    for (bias, skipped) in [(true, 1), (true, 0), (false, 2)] {
        let bias = bias.then(|| raw(wave::<B, 1>([6], 0.9)));
        close::<B>(
            "value part",
            plain::value_part::<B>(raw(qkv.clone()), bias.clone(), skipped),
            B::value_part(raw(qkv.clone()), bias, skipped),
        );
    }
}

/// In float16, where the device has it; values and gradients but for its rounding.
#[cfg(feature = "wgpu")]
fn fused_equals_plain_in_float16<B: FusedOps>() {
    use crate::fused::{
        plain::flat,
        testing::{device, error},
    };
    use burn::tensor::{DType, TensorMetadata};

    if !B::supports_dtype(&device::<B>(), DType::F16) {
        eprintln!("passed over: no float16");
        return;
    }
    let low = Precision::F16;
    let qkv = B::lowered(raw(wave::<B, 3>([8, 9, 18], 0.4)), low);
    let grad = raw(wave::<B, 3>([8, 9, 6], 0.3));
    for groups in [None, Some(4)] {
        let bias = groups.map(|groups| raw(wave::<B, 4>([groups, 2, 9, 9], 0.7)));
        let (y, state) = B::self_attention(qkv.clone(), 2, bias.clone(), low);
        let (z, _) = plain::self_attention::<B>(qkv.clone(), 2, bias.clone(), low);
        let of = (2, groups);
        let (dx, db) = B::self_attention_backward(qkv.clone(), state, grad.clone(), of, low);
        let state = AttentionState::Bias(bias);
        let (dz, dc) =
            plain::self_attention_backward::<B>(qkv.clone(), state, grad.clone(), of, low);
        let pairs = [(y, z), (dx, dz)].into_iter().chain(db.zip(dc));
        for (i, (a, b)) in pairs.enumerate() {
            assert_eq!(a.dtype(), DType::F32, "{i}");
            let e = error::<B, 1>(flat::<B>(a), flat::<B>(b));
            assert!(e < 3e-3, "{groups:?}, {i}: off by {e:e}");
        }
    }
}

#[test]
fn fused_equals_plain_on_flex() {
    fused_equals_plain::<Flex>();
}

#[test]
fn fused_equals_plain_on_ndarray() {
    fused_equals_plain::<NdArray>();
}

#[cfg(feature = "wgpu")]
#[test]
fn fused_equals_plain_on_wgpu() {
    crate::fused::testing::by_every_compiler(|| {
        fused_equals_plain::<burn::backend::Wgpu>();
        fused_equals_plain_in_float16::<burn::backend::Wgpu>();
    });
}

type Graph = Autodiff<Flex>;

/// A mask of −100 takes the masked tokens' part, and a bias outside the graph gets no gradient.
#[test]
fn a_masked_token_is_not_seen() {
    let qkv = wave::<Graph, 3>([4, 6, 12], 0.4).require_grad();
    let mut mask = Tensor::<Graph, 4>::zeros([2, 1, 6, 6], &Default::default());
    // Of the second group, the last two tokens are seen by nobody.
    mask = mask.slice_fill([1..2, 0..1, 0..6, 4..6], -100.0);
    let y = self_attention(qkv.clone(), 1, Some(mask.clone()));
    let seen = qkv.clone().narrow(0, 1, 1).narrow(1, 0, 4);
    let alone = self_attention(seen, 1, None);
    close::<Flex>(
        "masked",
        raw(y.clone().narrow(0, 1, 1).narrow(1, 0, 4).inner()),
        raw(alone.inner()),
    );
    let grads = y.sum().backward();
    assert!(qkv.grad(&grads).is_some() && mask.grad(&grads).is_none());
}

/// The gradient of the bias has the same bits with any number of threads.
#[test]
fn threads_do_not_change_the_bias_gradient() {
    let gradient = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let bias = wave::<Graph, 4>([2, 3, 7, 7], 0.7).require_grad();
            let y = self_attention(wave([64, 7, 36], 0.4), 3, Some(bias.clone()));
            bias.grad(&(y.clone() * y).sum().backward()).unwrap().into_data()
        })
    };
    assert_eq!(gradient(1), gradient(3));
}
