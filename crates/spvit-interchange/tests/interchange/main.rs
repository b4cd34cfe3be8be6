//! Models that other programs wrote, and models for other programs.

#![allow(missing_docs)]

mod dense;
mod errors;
mod exports;
mod interop;
mod onnx;
mod published;
mod styles;
mod support;
