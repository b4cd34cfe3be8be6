//! What becomes of an image before a model sees it, and what its classes are called.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use spvit_formats::onnx::Normal;

/// Key of [`Input`] in a file's metadata.
pub const INPUT: &str = "spvit.input";

/// How images come to a model, as its file or the configuration beside it says; what it does not say
/// is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Input {
    /// Mean of every channel, of values from 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean: Option<Vec<f32>>,
    /// Standard deviation of every channel, of values from 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub std: Option<Vec<f32>>,
    /// Side of what is cut out, as a share of what the image is resized to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop_pct: Option<f64>,
    /// How it is resized: `bilinear`, `bicubic`, `lanczos`, ...
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interpolation: Option<String>,
    /// What is done about another aspect: `center`, `squash` or `border`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop_mode: Option<String>,
    /// Names of the classes, or none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub class_names: Vec<String>,
}

impl Input {
    /// This, and what it leaves open from `base`.
    pub fn over(self, base: Self) -> Self {
        Self {
            mean: self.mean.or(base.mean),
            std: self.std.or(base.std),
            crop_pct: self.crop_pct.or(base.crop_pct),
            interpolation: self.interpolation.or(base.interpolation),
            crop_mode: self.crop_mode.or(base.crop_mode),
            class_names: match self.class_names.is_empty() {
                true => base.class_names,
                false => self.class_names,
            },
        }
    }

    /// What normalises images, where it is known.
    pub fn normal(&self) -> Option<Normal> {
        Some(Normal { mean: self.mean.clone()?, std: self.std.clone()? })
    }

    /// What is known, by key, as JSON: `mean`, `std`, `crop_pct`, `interpolation`, `crop_mode`, `labels`.
    pub fn metadata(&self) -> Vec<(String, String)> {
        let known: Map<String, Value> = serde_json::from_str(&self.to_json()).unwrap_or_default();
        let key = |key: String| if key == "class_names" { "labels".into() } else { key };
        known.into_iter().map(|(name, value)| (key(name), value.to_string())).collect()
    }

    pub(crate) fn to_json(&self) -> String {
        // Numbers, texts and lists of them always can be written.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// That of spvit's own file, from its metadata.
    pub(crate) fn stored(json: Option<&String>) -> Result<Self, String> {
        let Some(json) = json else { return Ok(Self::default()) };
        serde_json::from_str(json).map_err(|error| format!("its {INPUT} is not valid ({error})"))
    }

    /// Of timm's `pretrained_cfg`.
    pub(crate) fn of_timm(pretrained: &Value, class_names: Vec<String>) -> Self {
        let word = |key: &str| pretrained[key].as_str().map(str::to_string);
        Self {
            mean: numbers(&pretrained["mean"]),
            std: numbers(&pretrained["std"]),
            crop_pct: pretrained["crop_pct"].as_f64(),
            interpolation: word("interpolation"),
            crop_mode: word("crop_mode"),
            class_names,
        }
    }

    /// Of Hugging Face's `preprocessor_config.json`.
    pub(crate) fn of_hugging_face(json: &Value) -> Self {
        // Pillow's numbers.
        let filters = ["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"];
        let filter = json["resample"].as_u64().and_then(|number| filters.get(number as usize));
        let size = &json["size"];
        let shortest = size["shortest_edge"].as_f64().or_else(|| size.as_f64());
        let crop = &json["crop_size"];
        let cut = crop["height"].as_f64().or_else(|| crop.as_f64());
        let crops = json["do_center_crop"].as_bool().unwrap_or(false);
        // Height and width are both resized, unless one side is named.
        let (crop_pct, mode) = match (shortest, cut) {
            (Some(shortest), Some(cut)) if crops => (cut / shortest, "center"),
            (Some(_), _) => (1.0, "center"),
            (None, Some(cut)) if crops => (cut / size["height"].as_f64().unwrap_or(cut), "squash"),
            (None, _) => (1.0, "squash"),
        };
        Self {
            mean: numbers(&json["image_mean"]),
            std: numbers(&json["image_std"]),
            crop_pct: Some(crop_pct),
            interpolation: filter.map(|filter| filter.to_string()),
            crop_mode: Some(mode.into()),
            class_names: Vec::new(),
        }
    }
}

fn numbers(value: &Value) -> Option<Vec<f32>> {
    value.as_array()?.iter().map(|value| value.as_f64().map(|value| value as f32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn transformers_says_size_and_cut() {
        let json = json!({"image_mean": [0.5], "image_std": [0.25], "resample": 3,
            "size": {"shortest_edge": 256}, "do_center_crop": true,
            "crop_size": {"height": 224, "width": 224}});
        let input = Input::of_hugging_face(&json);
        assert_eq!((input.mean, input.std), (Some(vec![0.5]), Some(vec![0.25])));
        assert_eq!(input.interpolation.as_deref(), Some("bicubic"));
        assert_eq!((input.crop_pct, input.crop_mode.as_deref()), (Some(0.875), Some("center")));
        let whole = Input::of_hugging_face(&json!({"size": {"height": 224, "width": 224}}));
        assert_eq!((whole.crop_pct, whole.crop_mode.as_deref()), (Some(1.0), Some("squash")));
        // Both sides as one number, as old files have it.
        let old = json!({"size": 256, "do_center_crop": true, "crop_size": 224, "resample": 2});
        let old = Input::of_hugging_face(&old);
        assert_eq!((old.crop_pct, old.interpolation.as_deref()), (Some(0.875), Some("bilinear")));
    }

    #[test]
    fn what_one_leaves_open_another_may_say() {
        let own = Input { crop_pct: Some(0.9), ..Input::default() };
        let base =
            Input { crop_pct: Some(1.0), class_names: vec!["cat".into()], ..Input::default() };
        let both = own.over(base);
        assert_eq!((both.crop_pct, both.class_names.len()), (Some(0.9), 1));
    }
}
