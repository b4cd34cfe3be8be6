//! safetensors in and out.
//!
//! The header is checked by the `safetensors` crate; the data is read tensor by tensor, so that
//! loading a file of `f32` peaks at about the file's size.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use crate::checkpoint::{Checkpoint, Container, HostTensor, Origin, StateDict, element_count};
use crate::element::{Element, read_numbers};
use crate::error::{Fault, FormatError};
use crate::file::{CheckedFile, write_whole};

/// A parsed header takes several times its length, so a header may not be most of a large file.
/// (A quarter of a megabyte describes two thousand tensors.)
const HEADER_ALWAYS_ALLOWED: u64 = 1 << 18;

/// The header's JSON as it stands: a map whose one special key is `__metadata__`.
struct Header {
    metadata: BTreeMap<String, String>,
    tensors: Vec<(String, TensorInfo)>,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeaderVisitor;
        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = Header;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a map of tensor names to dtype, shape and data_offsets")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut metadata = BTreeMap::new();
                let mut tensors = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        metadata = map.next_value()?;
                    } else if tensors.insert(name.clone(), map.next_value()?).is_some() {
                        return Err(A::Error::custom(format!("the tensor {name} occurs twice")));
                    }
                }
                Ok(Header { metadata, tensors: tensors.into_iter().collect() })
            }
        }
        deserializer.deserialize_map(HeaderVisitor)
    }
}

fn element(dtype: Dtype) -> Option<Element> {
    Some(match dtype {
        Dtype::F64 => Element::F64,
        Dtype::F32 => Element::F32,
        Dtype::F16 => Element::F16,
        Dtype::BF16 => Element::Bf16,
        Dtype::BOOL => Element::Other("bool", 1),
        Dtype::U8 => Element::Other("uint8", 1),
        Dtype::I8 => Element::Other("int8", 1),
        Dtype::I16 => Element::Other("int16", 2),
        Dtype::U16 => Element::Other("uint16", 2),
        Dtype::I32 => Element::Other("int32", 4),
        Dtype::U32 => Element::Other("uint32", 4),
        Dtype::I64 => Element::Other("int64", 8),
        Dtype::U64 => Element::Other("uint64", 8),
        // Low-precision and complex numbers: no checkpoint this crate is for has them.
        _ => return None,
    })
}

/// Reads the header: its length in bytes, its text metadata, and its tensors, offsets checked.
fn header(file: &mut CheckedFile) -> Result<(u64, BTreeMap<String, String>, Metadata), Fault> {
    let mut length = [0u8; 8];
    file.read_at(0, &mut length)?;
    let length = u64::from_le_bytes(length);
    let room = file.len() - 8;
    let allowed = room.min(HEADER_ALWAYS_ALLOWED.max(room / 8));
    if length > allowed {
        return Err(Fault::damaged(
            format!("a safetensors header of at most {allowed} bytes"),
            format!("a header length of {length} in a file of {} bytes", file.len()),
        ));
    }
    let bytes = file.bytes(8, length, "the safetensors header")?;
    let header: Header = serde_json::from_slice(&bytes).map_err(|e| {
        Fault::damaged("a safetensors header in JSON", format!("{e} in the header"))
    })?;
    let Header { metadata, mut tensors } = header;
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    let tensors = Metadata::new(None, tensors)
        .map_err(|e| Fault::damaged("tensors that fill the file without gaps", e.to_string()))?;
    if tensors.data_len() as u64 != room - length {
        return Err(Fault::damaged(
            format!("{} bytes of tensor data", tensors.data_len()),
            format!("{} bytes after the header", room - length),
        ));
    }
    Ok((length, metadata, tensors))
}

pub(crate) fn read(mut file: CheckedFile) -> Result<Checkpoint, Fault> {
    let (length, metadata, header) = header(&mut file)?;
    let mut tensors = StateDict::new();
    let mut skipped = BTreeMap::new();
    let infos: BTreeMap<_, _> = header.tensors().into_iter().collect();
    for (name, info) in infos {
        let element = element(info.dtype).ok_or_else(|| {
            Fault::unsupported(
                format!("the number format {:?} of the tensor {name}", info.dtype),
                "Convert the tensor to float32 (or float16, bfloat16, float64) and save it again.",
            )
        })?;
        if !element.is_float() {
            skipped.insert(name, format!("{} tensor", element.name()));
            continue;
        }
        let count = element_count(&info.shape)
            .ok_or_else(|| Fault::damaged("a shape", format!("{:?}", info.shape)))?;
        let offset = 8 + length + info.data_offsets.0 as u64;
        let data = read_numbers(&mut file, offset, count, element, &name)?;
        tensors.insert(name, HostTensor { shape: info.shape.clone(), data });
    }
    let origin = Origin {
        container: Container::Safetensors,
        nested_under: Vec::new(),
        stripped_prefixes: Vec::new(),
        skipped,
        ignored: Vec::new(),
    };
    Ok(Checkpoint { tensors, metadata, origin })
}

/// Writes a safetensors file of `f32` tensors with a metadata block.
///
/// The file appears whole or not at all: a temporary file in the same folder is filled, synced
/// and renamed to `path`. The same tensors and metadata always give the same bytes.
///
/// # Errors
///
/// [`FormatError::Invalid`] where a tensor's shape and values disagree, or a tensor is named
/// `__metadata__`; [`FormatError::Io`] where the system refuses.
pub fn write_safetensors(
    path: impl AsRef<Path>,
    tensors: &StateDict,
    metadata: &BTreeMap<String, String>,
) -> Result<(), FormatError> {
    let path = path.as_ref();
    let header = encode_header(tensors, metadata).map_err(|fault| fault.at(path))?;
    write_whole(path, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        for tensor in tensors.values() {
            for value in &tensor.data {
                out.write_all(&value.to_le_bytes())?;
            }
        }
        Ok(())
    })
}

fn encode_header(
    tensors: &StateDict,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>, Fault> {
    let mut map = serde_json::Map::new();
    if !metadata.is_empty() {
        let block = metadata.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
        map.insert("__metadata__".into(), serde_json::Value::Object(block));
    }
    let mut start = 0;
    for (name, tensor) in tensors {
        if name == "__metadata__" {
            return Err(Fault::invalid(
                "tensor names",
                "a tensor named __metadata__, which the format reserves",
                "Rename the tensor.",
            ));
        }
        if element_count(&tensor.shape) != Some(tensor.data.len()) {
            return Err(Fault::invalid(
                format!("the tensor {name} to hold as many values as its shape {:?}", tensor.shape),
                format!("{} values", tensor.data.len()),
                "This is an error in the program that built the tensor.",
            ));
        }
        let end = start + 4 * tensor.data.len();
        map.insert(
            name.clone(),
            serde_json::json!({"dtype": "F32", "shape": tensor.shape, "data_offsets": [start, end]}),
        );
        start = end;
    }
    let mut header = serde_json::to_vec(&map)
        .map_err(|e| Fault::invalid("a header", e.to_string(), "Shorten the metadata."))?;
    // Readers map the data in place: it starts on a multiple of eight, spaces in between.
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}
