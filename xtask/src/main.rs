//! What a person types in the checkout.
fn main() {}
