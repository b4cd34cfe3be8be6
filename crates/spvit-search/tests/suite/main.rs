//! The claims of this crate and of the layers below it, as one program: their code is generic, and
//! every further program would compile it again for each backend.

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

mod architecture_file;
mod deriving;
mod families;
mod forms;
mod importance;
mod one_branch;
mod parity_eval;
mod parity_finetune;
mod parity_swin;
mod parity_train;
mod released;
mod timm;
