//! What can be wrong with a model's shape.

/// A model's shape that cannot be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// A field that must be positive is zero.
    #[error("model.{0} is 0; expected at least 1")]
    Zero(&'static str),
    /// A field of the family is not there.
    #[error("model.{0} is missing")]
    Missing(&'static str),
    /// A field that the family does not have.
    #[error("model.{field} is not a value of the family {family}; remove it")]
    Foreign {
        /// The field.
        field: &'static str,
        /// The family.
        family: &'static str,
    },
    /// A field with one value where a list is expected, or the reverse.
    #[error("model.{field}: expected {expected}")]
    Shape {
        /// The field.
        field: &'static str,
        /// What was expected.
        expected: &'static str,
    },
    /// The image is not made of whole patches.
    #[error(
        "model.image_size {size:?} is not a multiple of model.patch_size {patch}; choose sides \
         that are, or another patch size"
    )]
    Patches {
        /// Height and width.
        size: [usize; 2],
        /// Side of a patch.
        patch: usize,
    },
    /// The heads do not divide the embedding.
    #[error("model.dim {dim} is not a multiple of model.heads {heads}")]
    Heads {
        /// Embedding dimension.
        dim: usize,
        /// Number of heads.
        heads: usize,
    },
    /// Not one number of heads for each stage.
    #[error("model.depths names {depths} stages and model.heads {heads}; expected as many")]
    Stages {
        /// Stages by their depths.
        depths: usize,
        /// Stages by their heads.
        heads: usize,
    },
    /// The map has shrunk to nothing before the last stage.
    #[error(
        "model.image_size {size:?} leaves no map for stage {stage}; choose a larger image or \
         fewer stages"
    )]
    TooSmall {
        /// Height and width.
        size: [usize; 2],
        /// The first stage without a map, from 0.
        stage: usize,
    },
    /// The head reads a token that the model does not have.
    #[error(
        "model.pool sees the class token, but model.class_token is false; set model.pool = \
         \"average\""
    )]
    Pool,
    /// A head over two vectors with what is defined for one.
    #[error(
        "model.pool is \"token+average\", which has neither model.distilled nor model.fc_norm; \
         remove them"
    )]
    TokenAverage,
    /// A rotary embedding turns pairs of values by two coordinates.
    #[error(
        "model.rope needs heads of a multiple of 4 dimensions, but model.dim/model.heads is {0}"
    )]
    Rope(usize),
    /// A bias for relative positions where not one token comes before the map.
    #[error(
        "model.relative_position_bias is for a class token alone before the patches, but the model \
         has {prefix} such tokens"
    )]
    RelativePositions {
        /// Tokens before the map.
        prefix: usize,
    },
    /// The kernel sizes are not odd, ascending and small enough.
    #[error("model.kernels {0:?}: expected odd sizes in ascending order, such as [1, 3]")]
    Kernels(Vec<usize>),
    /// More of something than can be.
    #[error("the model has some {found:.1e} {what}, and at most {most:.0e} are taken ({sizes})")]
    TooLarge {
        /// Of what there is too much.
        what: &'static str,
        /// How much there is.
        found: f64,
        /// How much is taken.
        most: f64,
        /// The model's sizes, in words.
        sizes: String,
    },
    /// A kernel most of which is always outside of the map.
    #[error(
        "model.kernels has {kernel}, larger than twice the map of {} x {} patches",
        map[0], map[1]
    )]
    KernelTooLarge {
        /// Side of the kernel.
        kernel: usize,
        /// Rows and columns.
        map: [usize; 2],
    },
    /// More stages than a map can be halved.
    #[error("model.depths names {found} stages; at most {most} are taken")]
    TooManyStages {
        /// How many there are.
        found: usize,
        /// How many are taken.
        most: usize,
    },
    /// No preset of this name.
    #[error("unknown model preset '{name}'; expected one of {known}")]
    Preset {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// A temperature or ε that is not a positive number.
    #[error("model.{0} must be a positive number")]
    Positive(&'static str),
}

pub(super) fn positive(name: &'static str, value: f64) -> Result<(), ConfigError> {
    match value > 0.0 && value.is_finite() {
        true => Ok(()),
        false => Err(ConfigError::Positive(name)),
    }
}

pub(super) fn not_zero<const N: usize>(
    values: [(&'static str, usize); N],
) -> Result<(), ConfigError> {
    match values.into_iter().find(|(_, value)| *value == 0) {
        Some((name, _)) => Err(ConfigError::Zero(name)),
        None => Ok(()),
    }
}

pub(super) fn whole_patches(size: [usize; 2], patch: usize) -> Result<(), ConfigError> {
    match size.iter().all(|side| side.is_multiple_of(patch)) {
        true => Ok(()),
        false => Err(ConfigError::Patches { size, patch }),
    }
}
