//! Parts that not every vision transformer has.

use super::*;

#[test]
fn norms_gates_and_norms_inside_show_in_the_tensors() {
    let plain = bare(&vit());
    assert_eq!((plain.norm_kind, plain.ffn), (NormKind::Layer, FfnKind::Plain));
    assert!(!plain.relative_bias && !plain.attn_norm && !plain.mlp_norm);

    let mut list = vit();
    list.retain(|name, _| !(name.contains("norm") && name.ends_with(".bias")));
    let found = bare(&list);
    assert_eq!(found.norm_kind, NormKind::Rms);
    assert!(found.warning().unwrap().contains("RMSNorm"));
    list.insert("norm.bias".into(), vec![128]);
    assert!(bare(&list).features.contains(&Feature::MixedNorms));

    let mut list = vit();
    for index in 0..2 {
        list.remove(&format!("blocks.{index}.mlp.fc1.weight"));
        list.insert(format!("blocks.{index}.mlp.w12.weight"), vec![1024, 128]);
    }
    let found = bare(&list);
    assert_eq!((found.ffn, found.activation), (FfnKind::GateFirst, Activation::Silu));
    assert!(found.warning().unwrap().contains("SiLU, the gate first"));
    list.retain(|name, _| !name.contains("mlp.w12."));
    for index in 0..2 {
        for rest in ["mlp.fc1_g", "mlp.fc1_x"] {
            list.insert(format!("blocks.{index}.{rest}.weight"), vec![512, 128]);
        }
        for rest in ["attn.norm", "mlp.norm"] {
            list.insert(format!("blocks.{index}.{rest}.weight"), vec![128]);
            list.insert(format!("blocks.{index}.{rest}.bias"), vec![128]);
        }
        list.insert(format!("blocks.{index}.attn.gate.weight"), vec![128, 128]);
    }
    let found = bare(&list);
    assert!(found.ffn == FfnKind::Split && found.attn_norm && found.mlp_norm);
    assert!(found.features.contains(&Feature::GatedAttention));
}

#[test]
fn attention_pools_of_one_form_are_told_apart_from_others() {
    let mut list = vit();
    for (name, shape) in [
        ("latent", &[1, 1, 128][..]),
        ("q.weight", &[128, 128]),
        ("q.bias", &[128]),
        ("kv.weight", &[256, 128]),
        ("kv.bias", &[256]),
        ("proj.weight", &[128, 128]),
        ("norm.weight", &[128]),
        ("norm.bias", &[128]),
        ("mlp.fc1.weight", &[256, 128]),
        ("mlp.fc2.weight", &[128, 256]),
    ] {
        list.insert(format!("attn_pool.{name}"), shape.to_vec());
    }
    let found = bare(&list);
    let pool = AttentionPool { heads: 2, hidden: 256, qk_norm: false };
    assert_eq!((found.pool, found.attention_pool), (Pool::Attention, Some(pool)));
    assert!(!found.features.contains(&Feature::OtherAttentionPool));
    let told = Told { pool: Some(Pool::Token), ..Told::default() };
    assert_eq!(describe(&list, &told).unwrap().attention_pool, None);
    for change in ["q.weight", "pos_embed", "latent"] {
        let mut other = list.clone();
        other.insert(format!("attn_pool.{change}"), vec![1, 4, 128]);
        assert!(bare(&other).features.contains(&Feature::OtherAttentionPool), "{change}");
    }
}

#[test]
fn rotary_positions_are_only_read_where_they_are_told() {
    let with = |tensor: Option<&str>, name: &str| {
        let mut list = vit();
        list.extend(tensor.map(|tensor| (tensor.to_string(), vec![2, 2, 16])));
        let told = Told { rope: named(name).and_then(|told| told.rope), ..Told::default() };
        describe(&list, &told).unwrap().features
    };
    let [eva, mixed] = ["eva02_base_patch14_224", "vit_base_patch16_rope_mixed_224"];
    assert_eq!(with(None, eva), [Feature::Rope].into());
    assert_eq!(with(Some("rope.periods"), eva), [Feature::Rope].into());
    assert_eq!(with(Some("rope.freqs"), eva), [Feature::OtherRope].into());
    assert_eq!(with(Some("rope.freqs"), mixed), [Feature::OtherRope].into());
    assert_eq!(with(Some("rope.periods"), "vit_base_patch16_224"), [Feature::UntoldRope].into());
    assert_eq!(with(Some("rope.periods"), "unknown"), [Feature::UntoldRope].into());
}
