//! Vision transformers of one resolution, under timm's names.

use std::collections::BTreeSet;

use super::{
    Biases, Described, Family, Feature, Origin, Pool, Shapes, Stage, Told, classes, parts, patches,
    shape, square,
};

/// Width of a head that most ViTs have.
const HEAD: usize = 64;

/// One model's tensors.
pub(super) struct Vit<'a> {
    pub shapes: &'a Shapes,
    pub told: &'a Told,
    pub dim: usize,
    depth: usize,
    pub features: BTreeSet<Feature>,
    pub assumptions: Vec<String>,
}

pub(super) fn detect(shapes: &Shapes, origin: Origin, told: &Told) -> Result<Described, String> {
    let [dim, channels, patch_size] = patches(shapes)?;
    let depth = parts::blocks(shapes);
    let (features, assumptions) = (BTreeSet::new(), Vec::new());
    let mut vit = Vit { shapes, told, dim, depth, features, assumptions };
    vit.look();
    if let Some(refusal) = vit.other_blocks() {
        return Err(refusal);
    }
    let hidden = vit.hidden()?;
    let heads = vit.heads()?;
    let rope = vit.rope(origin);
    let class_token = vit.has("cls_token");
    let distilled = vit.has("dist_token");
    let registers = shape(shapes, "reg_token").map_or(0, |[_, count, _]: [usize; 3]| count);
    let prefix = usize::from(class_token) + usize::from(distilled) + registers;
    let first = usize::from(class_token) + usize::from(distilled);
    let (image_size, prefix_rows) = vit.map([prefix, first], patch_size)?;
    let pool = vit.pool(class_token);
    let (norm, fc_norm) = (vit.has("norm.weight"), vit.has("fc_norm.weight"));
    // transformers' CLIP has one for another head.
    let norm = norm && told.final_norm != Some(false);
    if !(norm || fc_norm || told.final_norm == Some(false)) {
        vit.features.insert(Feature::NoFinalNorm);
    }
    let activation = vit.activation(origin);
    let epsilon = told.epsilon.unwrap_or_else(|| {
        let usual = origin.epsilon();
        vit.assumptions.push(format!("ε {usual:e}"));
        usual
    });
    if told.post_norm.is_none() {
        vit.assumptions.push("norms before attention and FFN, not after".into());
    }
    let norm_kind = vit.norm_kind();
    let attention_pool = vit.attention_pool(pool, heads);
    Ok(Described {
        family: Family::Vit,
        image_size,
        patch_size,
        channels,
        classes: classes(
            shapes,
            "head",
            if pool == Pool::TokenAndAverage { 2 * dim } else { dim },
        )?,
        class_token,
        distilled,
        registers,
        positions: vit.has("pos_embed"),
        prefix_rows,
        pool,
        attention_pool,
        norm,
        fc_norm,
        patch_norm: vit.has("patch_embed.norm.weight"),
        pre_norm: vit.has("norm_pre.weight"),
        epsilon,
        norm_kind,
        ffn: vit.ffn(),
        activation,
        layer_scale: vit.in_a_block("ls1.gamma"),
        qkv_bias: vit.qkv_bias(),
        qk_norm: vit.in_a_block("attn.q_norm.weight"),
        relative_bias: vit.in_a_block("attn.relative_position_bias_table"),
        attn_norm: vit.in_a_block("attn.norm.weight"),
        mlp_norm: vit.in_a_block("mlp.norm.weight"),
        patch_bias: vit.has("patch_embed.proj.bias"),
        rope,
        input: told.input.clone(),
        stages: vec![Stage { dim, heads, hidden, window: None }],
        features: vit.features,
        assumptions: vit.assumptions,
    })
}

impl Vit<'_> {
    pub fn has(&self, name: &str) -> bool {
        self.shapes.contains_key(name)
    }

    /// Whether any block has a tensor of this name.
    pub fn in_a_block(&self, rest: &str) -> bool {
        (0..self.depth).any(|index| self.has(&format!("blocks.{index}.{rest}")))
    }

    /// The shape of the first block's tensor that has this name.
    pub fn first<const D: usize>(&self, rest: &str) -> Option<[usize; D]> {
        (0..self.depth).find_map(|index| shape(self.shapes, &format!("blocks.{index}.{rest}")))
    }

    /// Hidden dimensions of every block's FFN.
    fn hidden(&self) -> Result<Vec<usize>, String> {
        let width = |index: usize| {
            let columns = |name: &str| {
                let shape: [usize; 2] = shape(self.shapes, &format!("blocks.{index}.mlp.{name}"))?;
                (shape[0] == self.dim).then_some(shape[1])
            };
            columns("fc2.weight").unwrap_or(0)
        };
        let hidden: Vec<usize> = (0..self.depth).map(width).collect();
        match hidden.iter().any(|&hidden| hidden > 0) {
            true => Ok(hidden),
            false => Err(format!(
                "expected a tensor blocks.0.mlp.fc2.weight [{}, hidden], and so on",
                self.dim
            )),
        }
    }

    /// Attention heads: told, or known from a tensor, or assumed, which is said.
    fn heads(&mut self) -> Result<usize, String> {
        let dim = self.dim;
        let columns = |[_, heads]: [usize; 2]| heads;
        let known = self
            .first::<2>("attn.head_probs")
            .map(|[heads, _]| heads)
            .or_else(|| self.first::<4>("attn.bconv.0.weight").and_then(|s| dim.checked_div(s[0])))
            .or_else(|| self.first("attn.relative_position_bias_table").map(columns))
            .or_else(|| {
                shape(self.shapes, "rel_pos_bias.relative_position_bias_table").map(columns)
            });
        let told = self.told.heads.as_ref().and_then(|heads| heads.first().copied());
        let normed = self.first::<1>("attn.q_norm.weight").map(|[width]| width);
        if normed.is_some_and(|width| width == dim && told.or(known) != Some(1)) {
            self.features.insert(Feature::WideQkNorm);
        }
        let normed = normed.filter(|&width| width != dim && dim.is_multiple_of(width));
        let heads = told.or(known).or(normed.map(|width| dim / width));
        let heads = match heads {
            Some(heads) => heads,
            None if dim.is_multiple_of(HEAD) => {
                let heads = dim / HEAD;
                let plural = if heads == 1 { "head" } else { "heads" };
                self.assumptions.push(format!("{heads} attention {plural} of {HEAD} dimensions"));
                heads
            }
            None => {
                return Err(format!(
                    "cannot tell the number of attention heads: dim is {dim}, no multiple of the \
                     usual {HEAD} dimensions; give the number of heads"
                ));
            }
        };
        if heads == 0 || !dim.is_multiple_of(heads) {
            return Err(format!("dim is {dim}, which is no multiple of {heads} heads"));
        }
        let keys = (0..self.depth)
            .filter_map(|index| shape::<2>(self.shapes, &format!("blocks.{index}.attn.k.weight")));
        if keys.into_iter().any(|[rows, _]| rows < dim) {
            self.features.insert(Feature::GroupedQuery);
        }
        Ok(heads)
    }

    /// Height and width of an image, and the position embedding's rows for prefix tokens: for all of
    /// them, for the first, or none.
    fn map(
        &mut self,
        [prefix, first]: [usize; 2],
        patch: usize,
    ) -> Result<([usize; 2], usize), String> {
        let told = self.told.image_size;
        let told_map = told.map(|size| size.map(|side| side / patch));
        let pixels = |map: [usize; 2]| map.map(|side| side * patch);
        let Some(positions) = self.shapes.get("pos_embed") else {
            // A table of biases tells the map: (2h - 1)(2w - 1) distances, and three of the token.
            let table = self.first("attn.relative_position_bias_table");
            let shared = shape(self.shapes, "rel_pos_bias.relative_position_bias_table");
            let rows = table.or(shared).map(|[rows, _]: [usize; 2]| rows);
            let own = rows.and_then(|rows| square(rows.checked_sub(3)?));
            let own = own.map(|map| pixels(map.map(|side| side.div_ceil(2))));
            let positioned = [
                Feature::RelativeBias,
                Feature::SharedRelativeBias,
                Feature::RelativeNetwork,
                Feature::Rope,
                Feature::OtherRope,
                Feature::UntoldRope,
            ];
            if self.told.rope.is_none() && !self.features.iter().any(|f| positioned.contains(f)) {
                self.features.insert(Feature::Positionless);
            }
            let size = told.or(own).or_else(|| {
                self.assumptions.push(format!("images of {}×{}", 14 * patch, 14 * patch));
                Some([14 * patch; 2])
            });
            return Ok((size.unwrap_or([patch; 2]), 0));
        };
        let &[1, rows, width] = positions.as_slice() else {
            return Err(format!(
                "expected pos_embed [1, tokens, {}], found {positions:?}",
                self.dim
            ));
        };
        if width != self.dim {
            return Err(format!(
                "expected pos_embed [1, tokens, {}], found {positions:?}",
                self.dim
            ));
        }
        let candidates = match self.told.prefix_tokens {
            Some(own) => vec![own],
            None => {
                let mut candidates = vec![prefix, first, 0];
                candidates.dedup();
                candidates
            }
        };
        // A map that is told fits exactly; a square is the next best, of all prefix tokens first.
        let fits = |own: &&usize| {
            let patches = told_map.and_then(|[height, width]| height.checked_mul(width));
            patches.and_then(|patches| patches.checked_add(**own)) == Some(rows)
        };
        if let (Some(own), Some(map)) = (candidates.iter().find(fits), told_map) {
            return Ok((pixels(map), *own));
        }
        let squares: Vec<_> = candidates
            .iter()
            .filter_map(|&own| Some((own, square(rows.checked_sub(own)?)?)))
            .collect();
        match squares.as_slice() {
            [(own, map)] => {
                if told.is_none() {
                    self.assumptions.push(format!("images of {0}×{0}", map[0] * patch));
                }
                Ok((pixels(*map), *own))
            }
            [] => Err(format!(
                "pos_embed has {rows} rows, which are no square of patches with or without {prefix} \
                 prefix tokens; give the image's height and width"
            )),
            _ => Err(format!(
                "pos_embed has {rows} rows, which may or may not be of {prefix} prefix tokens, too; \
                 give the number of prefix tokens in it"
            )),
        }
    }

    fn qkv_bias(&self) -> Biases {
        let has = |rest: &str| self.in_a_block(rest);
        match (has("attn.qkv.bias"), has("attn.q.bias"), has("attn.k.bias")) {
            (true, ..) | (_, true, true) => Biases::All,
            (_, true, false) => Biases::QueryAndValue,
            _ if has("attn.qk.bias") => Biases::All,
            _ => Biases::None,
        }
    }
}
