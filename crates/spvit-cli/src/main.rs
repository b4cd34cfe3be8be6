//! The `spvit` program.
fn main() {}
