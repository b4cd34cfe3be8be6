//! From the names and layouts of the published code to this project's.

use burn::tensor::TensorData;

use super::StateDict;

/// Merges `….qk` and `….v`, as the published search code names its maps, into `….qkv`: the rows of
/// Q and K, then those of V. What has no partner, or one of another width, stays as it is.
pub fn merge_qkv(state: &mut StateDict) {
    let names: Vec<String> = state.keys().cloned().collect();
    for name in names {
        let Some((layer, kind)) =
            name.rsplit_once(".qk.").filter(|(_, kind)| ["weight", "bias"].contains(kind))
        else {
            continue;
        };
        let partner = format!("{layer}.v.{kind}");
        let Some([qk, v]) = state.get(&name).zip(state.get(&partner)).map(|(qk, v)| [qk, v]) else {
            continue;
        };
        let mut shape = qk.shape.to_vec();
        if shape.is_empty() || v.shape.to_vec().get(1..) != shape.get(1..) {
            continue;
        }
        shape[0] += v.shape[0];
        let values: Vec<f32> = qk.iter::<f32>().chain(v.iter::<f32>()).collect();
        let merged = format!("{layer}.qkv.{kind}");
        state.remove(&name);
        state.remove(&partner);
        state.insert(merged, TensorData::new(values, shape));
    }
}

/// Columns of the published Swin code's head distribution, in this project's order: its first is
/// the kernel's centre, the others follow column by column.
const SWIN_COLUMNS: [usize; 9] = [1, 2, 3, 4, 0, 5, 6, 7, 8];

/// Gives a Swin of Microsoft's or the published code's names those of timm, and its head
/// distributions this project's order of columns; drops what follows from the model's shape
/// (`attn_mask`, `relative_position_index`). Other models stay as they are.
pub fn name_as_timm(state: &mut StateDict) {
    let staged = state.keys().any(|name| name.starts_with("layers."));
    if !staged || state.keys().any(|name| name.starts_with("head.fc.")) {
        return;
    }
    for (name, data) in std::mem::take(state) {
        if name.ends_with("attn_mask") || name.ends_with("relative_position_index") {
            continue;
        }
        let data = match name.ends_with(".head_probs") && data.shape.to_vec().get(1) == Some(&9) {
            true => reordered(&data),
            false => data,
        };
        // Microsoft merges at the end of a stage, timm at the start of the next.
        let merging = name.strip_prefix("layers.").and_then(|rest| {
            let (stage, rest) = rest.split_once(".downsample.")?;
            Some(format!("layers.{}.downsample.{rest}", stage.parse::<usize>().ok()? + 1))
        });
        let head = name.strip_prefix("head.").map(|kind| format!("head.fc.{kind}"));
        state.insert(merging.or(head).unwrap_or(name), data);
    }
}

fn reordered(data: &TensorData) -> TensorData {
    let values: Vec<f32> = data.iter::<f32>().collect();
    let rows = values.chunks(9).flat_map(|row| SWIN_COLUMNS.map(|column| row[column]));
    TensorData::new(rows.collect::<Vec<f32>>(), data.shape.clone())
}
