//! What the names of timm's architectures say.

use super::told::{Rope, Told, activation};

/// Written by tests/interop/architectures.py, which has the form.
const TABLE: &str = include_str!("timm.txt");

/// What timm's architecture of this name has that tensors do not tell, a tag after a dot aside;
/// `None` if there is none of this name.
pub fn named(name: &str) -> Option<Told> {
    let name = name.split('.').next()?;
    let line = TABLE.lines().find_map(|line| {
        let (facts, names) = line.split_once(": ")?;
        names.split(' ').any(|known| known == name).then_some(facts)
    })?;
    let mut words = line.split(' ');
    let (dim, heads) = words.next()?.split_once('/')?;
    let mut told = Told {
        dim: dim.parse().ok(),
        heads: numbers(heads),
        pool: Some(super::Pool::Token),
        activation: Some(Ok(spvit_layers::Activation::Gelu)),
        epsilon: Some(1e-6),
        post_norm: Some(false),
        final_norm: Some(true),
        rope: Some(None),
        ..Told::default()
    };
    let mut rope = None;
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let rotary = || rope.clone().unwrap_or_else(|| plain(""));
        match key {
            "pool" => told.pool = value.parse().ok(),
            "pool-heads" => told.pool_heads = value.parse().ok(),
            "act" => told.activation = Some(activation(value).map_err(|_| value.into())),
            "eps" => told.epsilon = value.parse().ok(),
            "window" => told.windows = numbers(value),
            "image" => told.image_size = size(value),
            "no-norm" => told.final_norm = Some(false),
            "post-norm" => told.post_norm = Some(true),
            "rope" => rope = Some(plain(value)),
            "theta" => rope = Some(Rope { theta: value.parse().unwrap_or(1e4), ..rotary() }),
            "reference" => rope = Some(Rope { reference: size(value), ..rotary() }),
            "xy" => rope = Some(Rope { x_first: true, ..rotary() }),
            "offset" => rope = Some(Rope { offset: value.parse().unwrap_or(0.0), ..rotary() }),
            "halves" => rope = Some(Rope { halves: true, ..rotary() }),
            _ => {}
        }
    }
    told.rope = Some(rope);
    Some(told)
}

fn plain(kind: &str) -> Rope {
    Rope {
        kind: kind.into(),
        theta: 1e4,
        reference: None,
        x_first: false,
        offset: 0.0,
        halves: false,
    }
}

fn numbers(text: &str) -> Option<Vec<usize>> {
    text.split(',').map(|number| number.parse().ok()).collect()
}

fn size(text: &str) -> Option<[usize; 2]> {
    let (height, width) = text.split_once('x')?;
    Some([height.parse().ok()?, width.parse().ok()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_understood() {
        for line in TABLE.lines() {
            let (facts, names) = line.split_once(": ").unwrap();
            for name in names.split(' ') {
                let told = named(name).unwrap_or_else(|| panic!("{name}"));
                assert!(told.dim.is_some() && told.heads.is_some(), "{name}");
                assert!(told.pool.is_some() && told.epsilon.is_some(), "{name}");
                assert!(matches!(told.activation, Some(Ok(_))), "{name}");
                assert_eq!(facts.contains("rope="), told.rope.unwrap().is_some(), "{name}");
            }
        }
        assert!(named("vit_unknown").is_none());
        assert_eq!(named("vit_huge_patch14_224.orig_in21k").unwrap().heads, Some(vec![16]));
        let told = named("vit_base_patch16_sapiens2").unwrap();
        assert_eq!(told.image_size, Some([1024, 768]));
        assert!(told.rope.unwrap().unwrap().halves);
    }
}
