//! How long models take: whole ones, and tables of what their parts take.
//!
//! Models have random weights, as no weight changes how long a product takes. They are timed in turn
//! ([`in_turn`]), on a backend of Burn or by onnxruntime ([`Runtime`]).

mod aim;
mod file;
mod fit;
mod machine;
mod measure;
mod models;
mod of_run;
#[cfg(feature = "onnxruntime")]
mod onnx;
mod rounds;
mod runner;
mod share;

pub(crate) use file::parse_table;
pub use file::{check_shape, read_table};
pub use measure::{Request, measure};
pub use rounds::{Effort, fastest, in_turn, medians};
pub use runner::{Runtime, Stopwatch, images, pass};
pub use share::Scale;
