//! Descriptions of small lists of names.

mod parts;

use serde_json::{Value, json};

use super::*;

fn shapes(list: &[(&str, &[usize])]) -> Shapes {
    list.iter().map(|(name, shape)| (name.to_string(), shape.to_vec())).collect()
}

/// A ViT of two blocks of dim 128 with 4×4 patches of 8 pixels, under timm's names.
fn vit() -> Shapes {
    let mut out = shapes(&[
        ("cls_token", &[1, 1, 128]),
        ("pos_embed", &[1, 17, 128]),
        ("patch_embed.proj.weight", &[128, 3, 8, 8]),
        ("patch_embed.proj.bias", &[128]),
        ("norm.weight", &[128]),
        ("norm.bias", &[128]),
        ("head.weight", &[7, 128]),
        ("head.bias", &[7]),
    ]);
    for index in 0..2 {
        for (name, shape) in [
            ("norm1.weight", vec![128]),
            ("norm1.bias", vec![128]),
            ("attn.qkv.weight", vec![384, 128]),
            ("attn.qkv.bias", vec![384]),
            ("attn.proj.weight", vec![128, 128]),
            ("attn.proj.bias", vec![128]),
            ("norm2.weight", vec![128]),
            ("norm2.bias", vec![128]),
            ("mlp.fc1.weight", vec![512, 128]),
            ("mlp.fc1.bias", vec![512]),
            ("mlp.fc2.weight", vec![128, 512]),
            ("mlp.fc2.bias", vec![128]),
        ] {
            out.insert(format!("blocks.{index}.{name}"), shape);
        }
    }
    out
}

/// The shapes under timm's names, and what they describe.
fn describe(list: &Shapes, told: &Told) -> Result<Described, String> {
    let canonical = Canonical::of(list.keys().map(String::as_str))?;
    let ours = list.iter().filter_map(|(name, shape)| {
        let shape =
            if name.ends_with("class_embedding") { vec![1, 1, shape[0]] } else { shape.clone() };
        Some((canonical.names.get(name)?.clone(), shape))
    });
    detect(&ours.collect(), canonical.origin, told)
}

fn bare(list: &Shapes) -> Described {
    describe(list, &Told::default()).unwrap()
}

#[test]
fn every_assumption_about_a_bare_file_is_in_one_line() {
    let found = bare(&vit());
    assert_eq!(found.stages, [Stage { dim: 128, heads: 2, hidden: vec![512; 2], window: None }]);
    assert_eq!((found.image_size, found.patch_size, found.classes), ([32, 32], 8, Some(7)));
    assert!(found.class_token && found.norm && found.patch_bias && found.features.is_empty());
    let warning = found.warning().unwrap();
    for words in ["2 attention heads", "class token", "GELU", "ε 1e-6", "RoPE", "32×32", "--timm"]
    {
        assert!(warning.contains(words), "no {words} in: {warning}");
    }
    assert!(!warning.contains('\n'));
}

#[test]
fn a_configuration_leaves_nothing_to_assume() {
    let config = json!({
        "architecture": "vit_huge_patch14_clip_quickgelu_224.dfn5b",
        "global_pool": "avg",
        "model_args": {"embed_dim": 128, "num_heads": 4, "img_size": [32, 32], "depth": 2},
        "pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2], "input_size": [3, 224, 224]},
    });
    let told = configuration::parse(&config).unwrap().unwrap();
    let found = describe(&vit(), &told).unwrap();
    assert_eq!(found.stages[0].heads, 4);
    assert_eq!((found.pool, found.activation), (Pool::Average, Activation::QuickGelu));
    assert_eq!((found.epsilon, found.warning()), (1e-5, None));
    assert_eq!(found.input.std.unwrap(), [0.2; 3]);

    let own = Told { heads: Some(vec![8]), epsilon: Some(1e-3), ..Told::default() };
    let found = describe(&vit(), &own.over(told)).unwrap();
    assert_eq!((found.stages[0].heads, found.epsilon), (8, 1e-3));
}

#[test]
fn a_configuration_of_another_model_or_of_unknown_parts_is_refused() {
    let error = |config: Value| match configuration::parse(&config) {
        Err(error) => error,
        Ok(told) => describe(&vit(), &told.unwrap()).unwrap_err(),
    };
    let timm =
        |name: &str, arguments: Value| json!({"architecture": name, "model_args": arguments});
    let refused = error(timm("vit_base_patch16_224", json!({})));
    assert!(refused.contains("dim 768") && refused.contains("dim 128"), "{refused}");
    assert!(error(timm("resnet50", json!({}))).contains("resnet50"));
    let refused = error(timm("vit_base_patch16_224", json!({"block_fn": "x"})));
    assert!(refused.contains("block_fn"), "{refused}");
    assert!(error(json!({"model_type": "swinv2"})).contains("swinv2"));
    assert_eq!(configuration::parse(&json!({"lr": 0.1})).unwrap(), None);
}

#[test]
fn hugging_faces_configuration_gives_heads_epsilon_activation_and_pool() {
    let parse = |config: Value| configuration::parse(&config).unwrap().unwrap();
    let told = parse(json!({
        "model_type": "clip", "architectures": ["CLIPForImageClassification"],
        "vision_config": {"hidden_size": 48, "num_attention_heads": 3, "image_size": 32},
    }));
    assert_eq!((told.heads, told.epsilon, told.dim), (Some(vec![3]), Some(1e-5), Some(48)));
    assert_eq!(told.activation, Some(Ok(Activation::QuickGelu)));
    assert_eq!((told.pool, told.final_norm), (Some(Pool::Average), Some(false)));
    let told = parse(json!({
        "model_type": "vit", "hidden_act": "selu", "image_size": [32, 48],
        "id2label": {"1": "dog", "0": "cat"},
    }));
    assert_eq!(told.activation, Some(Err("selu".into())));
    assert_eq!(
        (told.image_size, told.input.class_names),
        (Some([32, 48]), vec!["cat".into(), "dog".into()])
    );
}

#[test]
fn heads_are_known_assumed_or_asked_for() {
    let mut list = vit();
    list.insert("blocks.0.attn.q_norm.weight".into(), vec![16]);
    list.insert("blocks.0.attn.q_norm.bias".into(), vec![16]);
    let found = bare(&list);
    assert_eq!(found.stages[0].heads, 8);
    assert!(found.qk_norm && !found.warning().unwrap().contains("8 attention heads"));

    let odd: Shapes = vit()
        .into_iter()
        .map(|(name, shape)| (name, shape.iter().map(|&n| if n == 128 { 80 } else { n }).collect()))
        .collect();
    let error = describe(&odd, &Told::default()).unwrap_err();
    assert!(error.contains("dim is 80") && error.contains("give the number of heads"), "{error}");
}

#[test]
fn prefix_tokens_and_their_rows_are_told_apart() {
    let tokens = |registers: usize, rows: usize| {
        let mut list = vit();
        list.insert("reg_token".into(), vec![1, registers, 128]);
        list.insert("pos_embed".into(), vec![1, rows, 128]);
        list
    };
    for (registers, rows, own) in [(4, 21, 5), (4, 16, 0), (4, 17, 1)] {
        let found = bare(&tokens(registers, rows));
        assert_eq!((found.registers, found.prefix_rows), (registers, own), "{rows}");
        assert_eq!(found.image_size, [32, 32]);
    }
    let error = describe(&tokens(4, 19), &Told::default()).unwrap_err();
    assert!(error.contains("height and width"), "{error}");
    let told = Told { image_size: Some([16, 72]), ..Told::default() };
    assert_eq!(describe(&tokens(4, 19), &told).unwrap().image_size, [16, 72]);
    // 9 rows are 3×3 without prefix tokens, or 2×2 with five.
    let error = describe(&tokens(4, 9), &Told::default()).unwrap_err();
    assert!(error.contains("prefix tokens"), "{error}");
    let told = Told { prefix_tokens: Some(5), ..Told::default() };
    assert_eq!(describe(&tokens(4, 9), &told).unwrap().image_size, [16, 16]);
}

#[test]
fn wrappers_and_half_wrappers_are_seen_through() {
    for prefix in ["timm_model.", "model.", "backbone.", "visual.trunk.", "module.model."] {
        let mut list: Shapes =
            vit().into_iter().map(|(name, shape)| (format!("{prefix}{name}"), shape)).collect();
        list.insert("text.token_embedding.weight".into(), vec![99, 64]);
        list.insert("logit_scale".into(), vec![1]);
        let canonical = Canonical::of(list.keys().map(String::as_str)).unwrap();
        assert_eq!(canonical.prefix, prefix);
        assert!(canonical.others.contains("text") && canonical.others.contains("logit_scale"));
        assert_eq!(bare(&list), bare(&vit()));
    }
    let mut two: Shapes =
        vit().into_iter().map(|(name, shape)| (format!("teacher.{name}"), shape)).collect();
    two.extend(vit().into_iter().map(|(name, shape)| (format!("student.{name}"), shape)));
    let error = Canonical::of(two.keys().map(String::as_str)).unwrap_err();
    assert!(error.contains("teacher.") && error.contains("student."), "{error}");

    // ViTMSN's files have the prefix before some names only.
    let names = [
        "vit.embeddings.patch_embeddings.projection.weight",
        "vit.layernorm.weight",
        "encoder.layer.1.attention.attention.key.bias",
        "classifier.weight",
    ];
    let canonical = Canonical::of(names.into_iter()).unwrap();
    let ours: Vec<&str> = names.iter().map(|name| canonical.names[*name].as_str()).collect();
    assert_eq!(
        ours,
        ["patch_embed.proj.weight", "norm.weight", "blocks.1.attn.k.bias", "head.weight"]
    );
}

#[test]
fn unread_parts_have_their_names() {
    let refusal = |change: &dyn Fn(&mut Shapes)| {
        let mut list = vit();
        change(&mut list);
        match describe(&list, &Told::default()) {
            Ok(found) => found.refusal(&[]).unwrap(),
            Err(error) => error,
        }
    };
    let with = |name: &str, shape: &[usize]| {
        let name = name.to_string();
        refusal(&|list| {
            list.insert(name.clone(), shape.to_vec());
        })
    };
    for (name, shape, feature) in [
        ("blocks.0.attn.relative_position_bias_table", &[52, 2][..], "relative position bias"),
        ("rel_pos_bias.relative_position_bias_table", &[52, 2], "shared by all blocks"),
        ("blocks.0.attn.rel_pos.mlp.fc1.weight", &[512, 2], "by an MLP"),
        ("blocks.0.mlp.fc1_g.weight", &[512, 128], "SwiGLU"),
        ("blocks.0.mlp.norm.weight", &[512], "norms inside attention or FFN"),
        ("rope.freqs", &[2, 2, 16], "RoPE"),
        ("attn_pool.latent", &[1, 1, 128], "attention pooling"),
        ("patch_embed.backbone.conv1.weight", &[64, 3, 7, 7], "a convolutional stem"),
        ("blocks.0.ls1.gamma", &[128], "LayerScale on one branch alone"),
        ("blocks.0.attn.lambda_q1", &[32], "differential attention"),
        ("blocks.0.in_proj.weight", &[512, 128], "parallel blocks"),
    ] {
        let text = with(name, shape);
        assert!(text.contains(feature), "{name}: {text}");
    }
    let text = refusal(&|list| list.retain(|name, _| name != "norm.weight" && name != "norm.bias"));
    assert!(text.contains("no norm after the last block"), "{text}");
    let text = refusal(&|list| list.retain(|name, _| name != "pos_embed"));
    assert!(text.contains("no position embedding"), "{text}");
    let told = Told { post_norm: Some(true), ..Told::default() };
    let text = describe(&vit(), &told).unwrap().refusal(&[]).unwrap();
    assert!(text.contains("post-norm blocks"), "{text}");
    assert_eq!(bare(&vit()).refusal(&[]), None);
}

/// A Swin of two stages, windows of 7, heads of 32 dimensions.
fn swin(start: &str, names: [&str; 3], outside: &[(&str, &[usize])]) -> Shapes {
    let mut out = shapes(outside);
    for (stage, index) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let dim = 64 << stage;
        let all = [vec![dim], vec![169, 2 << stage], vec![4 * dim, dim]];
        for (name, shape) in names.iter().zip(all) {
            out.insert(format!("{start}layers.{stage}.blocks.{index}.{name}"), shape);
        }
    }
    out
}

#[test]
fn swins_of_three_namings_are_one() {
    let timm = ["norm1.weight", "attn.relative_position_bias_table", "mlp.fc1.weight"];
    let face = [
        "layernorm_before.weight",
        "attention.self.relative_position_bias_table",
        "intermediate.dense.weight",
    ];
    let make =
        |start: &str, names: [&str; 3], outside: &[(&str, &[usize])]| swin(start, names, outside);
    let of_timm = make(
        "",
        timm,
        &[
            ("patch_embed.proj.weight", &[64, 3, 4, 4]),
            ("patch_embed.norm.weight", &[64]),
            ("layers.1.downsample.norm.weight", &[256]),
            ("norm.weight", &[128]),
            ("head.fc.weight", &[7, 128]),
        ],
    );
    let of_microsoft = make(
        "",
        timm,
        &[
            ("patch_embed.proj.weight", &[64, 3, 4, 4]),
            ("patch_embed.norm.weight", &[64]),
            ("layers.0.downsample.norm.weight", &[256]),
            ("layers.0.blocks.1.attn_mask", &[4, 49, 49]),
            ("layers.0.blocks.0.attn.relative_position_index", &[49, 49]),
            ("norm.weight", &[128]),
            ("head.weight", &[7, 128]),
        ],
    );
    let of_hugging_face = make(
        "swin.encoder.",
        face,
        &[
            ("swin.embeddings.patch_embeddings.projection.weight", &[64, 3, 4, 4]),
            ("swin.embeddings.norm.weight", &[64]),
            ("swin.encoder.layers.0.downsample.norm.weight", &[256]),
            ("swin.layernorm.weight", &[128]),
            ("classifier.weight", &[7, 128]),
        ],
    );
    let first = bare(&of_timm);
    assert_eq!((first.family, first.image_size, first.classes), (Family::Swin, [56, 56], Some(7)));
    let stages: Vec<_> = first.stages.iter().map(|s| (s.dim, s.heads, s.window)).collect();
    assert_eq!(stages, [(64, 2, Some(7)), (128, 4, Some(7))]);
    assert!(first.warning().unwrap().contains("56×56"));
    for list in [&of_microsoft, &of_hugging_face] {
        assert_eq!(bare(list), first);
        let canonical = Canonical::of(list.keys().map(String::as_str)).unwrap();
        assert!(canonical.names.values().any(|name| name == "layers.1.downsample.norm.weight"));
        assert!(canonical.names.values().any(|name| name == "head.fc.weight"));
    }
    let mut v2 = of_timm.clone();
    v2.insert("layers.0.blocks.0.attn.logit_scale".into(), vec![2, 1, 1]);
    assert!(describe(&v2, &Told::default()).unwrap_err().contains("Swin v2"));
}
