//! What a person says of a model's file.

use std::{path::PathBuf, str::FromStr};

use clap::Args;
use spvit_interchange::{
    ReadOptions,
    detect::{Pool, activation},
};
use spvit_layers::Activation;

/// What a file of another program may not say about its model.
#[derive(Debug, Args)]
#[command(next_help_heading = "What a file of another program does not say")]
pub struct ModelArguments {
    /// The entry of a training checkpoint that holds the weights, such as model_ema
    #[arg(long, value_name = "NAME")]
    pub entry: Option<String>,

    /// The name of timm's architecture, such as vit_base_patch16_clip_224
    #[arg(long, value_name = "NAME")]
    pub timm: Option<String>,

    /// Attention heads [default: what is known, or one for each 64 dimensions, which is said]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub heads: Option<usize>,

    /// What the classifier looks at: token, average or max
    #[arg(long, value_name = "POOL")]
    pub pool: Option<Pool>,

    /// Activation of the FFNs: gelu, gelu_tanh, quick_gelu, relu or silu
    #[arg(long, value_name = "NAME", value_parser = activation)]
    pub activation: Option<Activation>,

    /// ε of the layer norms
    #[arg(long, value_name = "NUMBER")]
    pub epsilon: Option<f64>,

    /// Rows of the position embedding that belong to class token, registers and the like
    #[arg(long, value_name = "N")]
    pub prefix_tokens: Option<usize>,

    /// Pixels of an image, as SIDE or HEIGHTxWIDTH; the position embedding is resized
    #[arg(long, value_name = "SIZE")]
    pub image_size: Option<ImageSize>,

    /// Number of classes; another one than the file's means a new head
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub classes: Option<usize>,

    /// An architecture that says which hidden dimensions a compact model kept
    #[arg(long, value_name = "FILE")]
    pub architecture: Option<PathBuf>,

    /// The operations (.json) of a search result of the published code
    #[arg(long, value_name = "FILE")]
    pub operations: Option<PathBuf>,

    /// Shortcuts add norm1(x), as in models that the published code fine-tuned
    #[arg(long)]
    pub shortcut_adds_norm: bool,

    /// α of the head distributions of a model that the published code fine-tuned: 0.01, or 100 of a Swin
    #[arg(long, value_name = "NUMBER")]
    pub alpha: Option<f64>,
}

impl ModelArguments {
    /// As the reader takes them.
    pub fn options(&self) -> ReadOptions {
        ReadOptions {
            entry: self.entry.clone(),
            timm: self.timm.clone(),
            heads: self.heads,
            pool: self.pool,
            activation: self.activation,
            epsilon: self.epsilon,
            prefix_tokens: self.prefix_tokens,
            image_size: self.image_size.map(|size| size.0),
            classes: self.classes,
            architecture: self.architecture.clone(),
            shortcut_adds_norm: self.shortcut_adds_norm,
            alpha: self.alpha,
        }
    }
}

/// A number of things.
pub fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&count| count > 0).ok_or("expected a whole number from 1 on".into())
}

impl ModelArguments {
    /// The first option that was given, as it is typed.
    pub fn given(&self) -> Option<&'static str> {
        let all = [
            ("--entry", self.entry.is_some()),
            ("--timm", self.timm.is_some()),
            ("--heads", self.heads.is_some()),
            ("--pool", self.pool.is_some()),
            ("--activation", self.activation.is_some()),
            ("--epsilon", self.epsilon.is_some()),
            ("--prefix-tokens", self.prefix_tokens.is_some()),
            ("--image-size", self.image_size.is_some()),
            ("--classes", self.classes.is_some()),
            ("--architecture", self.architecture.is_some()),
            ("--operations", self.operations.is_some()),
            ("--shortcut-adds-norm", self.shortcut_adds_norm),
            ("--alpha", self.alpha.is_some()),
        ];
        all.into_iter().find(|(_, given)| *given).map(|(name, _)| name)
    }
}

/// Height and width in pixels.
#[derive(Debug, Clone, Copy)]
pub struct ImageSize(pub [usize; 2]);

impl FromStr for ImageSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (height, width) = text.split_once('x').unwrap_or((text, text));
        match (height.parse(), width.parse()) {
            (Ok(height), Ok(width)) if height > 0 && width > 0 => Ok(Self([height, width])),
            _ => Err("expected SIDE or HEIGHTxWIDTH, such as 224 or 224x160".into()),
        }
    }
}
