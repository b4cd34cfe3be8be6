//! ONNX out: a compact or dense vision transformer as one file that other runtimes run.
//!
//! A [`NetworkDescription`] says what the network is; [`write()`] writes its forward as a graph of
//! opset 17, the batch left open, the weights inside.

mod around;
mod attention;
mod block;
mod check;
mod ffn;
mod form;
mod graph;
mod network;
mod norm;
mod pool;
pub(crate) mod proto;
mod rope;
#[cfg(test)]
mod tests;
mod windows;

use std::io::Write;
use std::path::Path;

use half::f16;
use prost::Message;

use crate::checkpoint::StateDict;
use crate::error::{Fault, FormatError};
use crate::file::write_whole;
pub use form::{Form, Normal};
use graph::{GraphBuilder, Initializer, Values};
pub use network::{
    Activation, BlockDescription, Ffn, MergeDescription, NetworkDescription, NormKind, Operation,
    Places, Pool, Positions, RopeDescription, WindowDescription,
};

/// The name of the input, [B, C, height, width].
const INPUT: &str = "input";
/// The name of the output, [B, classes].
const OUTPUT: &str = "logits";

/// LayerNormalization came with opset 17.
const OPSET: i64 = 17;
/// The IR version of the ONNX release that brought opset 17 (1.12).
const IR_VERSION: i64 = 8;
/// What protobuf, and so every ONNX runtime, takes as one file.
const LARGEST_FILE: usize = i32::MAX as usize;

/// A field's key on the wire: its number, and 2 for "a length and that many bytes".
const fn key(field: u8) -> u8 {
    (field << 3) | 2
}
const GRAPH: u8 = key(7);
const INITIALIZER: u8 = key(5);
const RAW_DATA: u8 = key(9);

/// Writes a network as ONNX (opset 17): input `input` of shape [batch, channels, height, width],
/// output `logits` of shape [batch, classes], all weights inside, in the form that `form` says.
///
/// `tensors` holds the network in the compact layout: `patch_embed.proj`, what else the description
/// names around the blocks, and under every block's own name `norm1`, `norm2`, `mlp.fc1` (or what
/// [`Ffn`] names), `mlp.fc2` (or `mlp.bias` where no hidden dimension is left), and `attn.qkv` and
/// `attn.proj` (MSA) or `attn.bconv.0`, `.1`, `.3` (convolution, batch norm with its running
/// statistics, 1×1 convolution). PyTorch's layouts; `fc1` of shape [hidden, D]. What adds nothing is
/// left out of the graph, but its tensors must be there.
///
/// The file appears whole or not at all, and the same network always gives the same bytes. The
/// weights are written one by one: no second copy of the network is held.
///
/// # Errors
///
/// [`FormatError::Invalid`] where the description is impossible, a tensor is missing, has another
/// shape, values beyond float16 where that is asked for, or does not belong to the network, or the
/// file would exceed ONNX's 2 GiB;
/// [`FormatError::Io`] where the system refuses.
pub fn write(
    path: impl AsRef<Path>,
    network: &NetworkDescription,
    tensors: &StateDict,
    form: &Form,
) -> Result<(), FormatError> {
    let path = path.as_ref();
    let file = prepare(network, tensors, form).map_err(|fault| fault.at(path))?;
    write_whole(path, |out| file.write(out))
}

/// The bytes that [`write()`] would write, for a runtime in this process.
///
/// # Errors
///
/// As [`write()`], the network's place being "in memory".
pub fn encode(network: &NetworkDescription, tensors: &StateDict) -> Result<Vec<u8>, FormatError> {
    let memory = Path::new("an ONNX network in memory");
    let file = prepare(network, tensors, &Form::default()).map_err(|fault| fault.at(memory))?;
    let mut bytes = Vec::new();
    file.write(&mut bytes).map_err(|source| FormatError::Io {
        path: memory.into(),
        action: "write it",
        source,
    })?;
    Ok(bytes)
}

/// A file before its weights: all the bytes up to the first initialiser, and for each initialiser
/// the bytes before its values. (Protobuf writes a message's length before it, so all lengths are
/// known before the first weight is written.)
struct Prepared<'a> {
    head: Vec<u8>,
    messages: Vec<Vec<u8>>,
    initializers: Vec<Initializer<'a>>,
}

impl Prepared<'_> {
    fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        out.write_all(&self.head)?;
        for (constant, message) in self.initializers.iter().zip(&self.messages) {
            out.write_all(message)?;
            write_values(out, constant)?;
        }
        Ok(())
    }
}

fn prepare<'a>(
    network: &NetworkDescription,
    tensors: &'a StateDict,
    form: &Form,
) -> Result<Prepared<'a>, Fault> {
    check::check(network)?;
    form.check(network)?;
    let mut builder = GraphBuilder::new(tensors, form.half);
    build(&mut builder, network, form)?;
    let GraphBuilder { nodes, initializers, .. } = builder;

    let (images, logits) = (form.images(network), [network.classes]);
    let value = proto::ValueInfo::batch_of;
    let graph = proto::Graph {
        node: nodes,
        name: "spvit".into(),
        initializer: Vec::new(),
        input: vec![value(form.input(), images.0, form.batch, &images.1)],
        output: vec![value(OUTPUT, proto::FLOAT, form.batch, &logits)],
    };
    let description = serde_json::to_string(network)
        .map_err(|e| Fault::invalid("a description", e.to_string(), "Correct the description."))?;
    let model = proto::Model {
        ir_version: IR_VERSION,
        producer_name: "spvit".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: None,
        opset_import: vec![proto::OperatorSet { domain: String::new(), version: OPSET }],
        metadata_props: [("spvit.network".into(), description)]
            .into_iter()
            .chain(form.metadata.iter().cloned())
            .map(|(key, value)| proto::Property { key, value })
            .collect(),
    };

    let messages: Vec<Vec<u8>> = initializers.iter().map(before_values).collect();
    let weights: usize =
        messages.iter().zip(&initializers).map(|(m, i)| m.len() + value_bytes(i)).sum();
    let graph_len = graph.encoded_len() + weights;
    let mut head = model.encode_to_vec();
    field(GRAPH, graph_len, &mut head);
    head.extend(graph.encode_to_vec());
    if head.len() + weights > LARGEST_FILE {
        return Err(Fault::invalid(
            format!("a network of at most {LARGEST_FILE} bytes, the limit of an ONNX file"),
            format!("{} bytes", head.len() + weights),
            "Export a smaller network, or use safetensors.",
        ));
    }
    Ok(Prepared { head, messages, initializers })
}

/// The whole forward.
fn build(graph: &mut GraphBuilder<'_>, net: &NetworkDescription, form: &Form) -> Result<(), Fault> {
    let images = around::images(graph, form);
    let mut x = around::embed(graph, net, &images)?;
    let mut patches = net.map().iter().product();
    for (index, block) in net.blocks.iter().enumerate() {
        x = block::block(graph, net, block, x)?;
        if let Some(merge) = net.merge_after(index) {
            x = around::merge(graph, &merge.name, block, &x)?;
            patches = block.map.map(|side| side.div_ceil(2)).iter().product();
        }
    }
    around::classify(graph, net, x, patches)?;
    graph.check_all_used()
}

fn value_bytes(constant: &Initializer) -> usize {
    let count = match &constant.values {
        Values::Weight(tensor) | Values::Transposed(tensor) => tensor.data.len(),
        Values::Floats(values) => values.len(),
        Values::Ints(values) => values.len(),
    };
    count
        * match constant.data_type {
            proto::INT64 => 8,
            proto::FLOAT16 => 2,
            _ => 4,
        }
}

/// The bytes of an initialiser up to its values: the field in the graph, its length, the tensor's
/// name, type and shape, and the length of the values.
fn before_values(constant: &Initializer) -> Vec<u8> {
    let tensor = proto::Tensor {
        dims: constant.dims.iter().map(|&n| n as i64).collect(),
        data_type: constant.data_type,
        name: constant.name.clone(),
        raw_data: Vec::new(),
    };
    let bytes = value_bytes(constant);
    let mut raw_data = Vec::new();
    field(RAW_DATA, bytes, &mut raw_data);
    let mut out = Vec::new();
    field(INITIALIZER, tensor.encoded_len() + raw_data.len() + bytes, &mut out);
    out.extend(tensor.encode_to_vec());
    out.extend(raw_data);
    out
}

/// Starts a field of `len` bytes: its key, and the length, seven bits to a byte, lowest first.
fn field(key: u8, len: usize, out: &mut Vec<u8>) {
    out.push(key);
    let mut rest = len;
    while rest > 0x7f {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn write_values(out: &mut impl Write, constant: &Initializer) -> std::io::Result<()> {
    let mut write = |x: &f32| match constant.data_type {
        proto::FLOAT16 => out.write_all(&f16::from_f32(*x).to_le_bytes()),
        _ => out.write_all(&x.to_le_bytes()),
    };
    match &constant.values {
        Values::Weight(tensor) => tensor.data.iter().try_for_each(write),
        Values::Transposed(tensor) => {
            let rows = constant.dims.first().copied().unwrap_or(0);
            (0..rows).try_for_each(|row| {
                tensor.data.iter().skip(row).step_by(rows).try_for_each(&mut write)
            })
        }
        Values::Floats(values) => values.iter().try_for_each(write),
        Values::Ints(values) => values.iter().try_for_each(|x| out.write_all(&x.to_le_bytes())),
    }
}
