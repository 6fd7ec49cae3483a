//! Whole blocks to start from, for the schema, the command line and the editors.

use schemars::Schema;
use serde_json::{Value, json};

use super::{
    CombinationConfig, ConvexitySwitchingConfig, DetectorConfig, DirectionConfig, LineSearchConfig, SafeResortConfig,
};
use crate::convex::direction::{ConjugateGradientConfig, LBfgsConfig, Memory};
use crate::convex::line_search::HagerZhangConfig;
use crate::detector::{GradientNormPeakConfig, LossLevelConfig, LossSlopeConfig};

/// A ready configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// The defaults.
    Default,
    /// [`ConvexitySwitchingConfig::paper`].
    Paper,
    /// Conjugate gradients instead of L-BFGS.
    ConjugateGradient,
    /// A late swap, an early hand-back and few pairs.
    Careful,
}

impl Preset {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Default, Self::Paper, Self::ConjugateGradient, Self::Careful];

    /// The name on the command line and in editors.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Paper => "paper",
            Self::ConjugateGradient => "conjugate_gradient",
            Self::Careful => "careful",
        }
    }

    /// What it is for, as one sentence.
    pub fn description(self) -> &'static str {
        match self {
            Self::Default => "The defaults: Adam, then L-BFGS in a metric made of the batches' gradients.",
            Self::Paper => "The method as published: Adam, then conjugate gradients with a golden-section search.",
            Self::ConjugateGradient => {
                "Adam, then the conjugate gradients and the search of Hager and Zhang: beside the metric four vectors the \
                 size of the parameters, without the up to 300 more of L-BFGS."
            }
            Self::Careful => {
                "Swaps late, on a smoothed norm that is low three windows in a row and a loss that falls by less than 5 % \
                 per unit of cost, keeps ten pairs, and hands back where the convex phase gains less than 5 % over a cost of 12."
            }
        }
    }

    /// The configuration itself.
    pub fn config(self) -> ConvexitySwitchingConfig {
        let default = ConvexitySwitchingConfig::default();
        match self {
            Self::Default => default,
            Self::Paper => ConvexitySwitchingConfig::paper(),
            Self::ConjugateGradient => ConvexitySwitchingConfig {
                direction: DirectionConfig::ConjugateGradient(ConjugateGradientConfig {
                    powell: Some(0.2),
                    ..ConjugateGradientConfig::default()
                }),
                line_search: LineSearchConfig::HagerZhang(HagerZhangConfig::nearly_exact()),
                ..default
            },
            Self::Careful => ConvexitySwitchingConfig {
                detector: DetectorConfig::All(CombinationConfig {
                    of: vec![
                        DetectorConfig::GradientNormPeak(GradientNormPeakConfig {
                            threshold: 0.8,
                            smoothing: 0.5,
                            patience: 3,
                            minimum_windows: 5,
                            ..Default::default()
                        }),
                        DetectorConfig::LossSlope(LossSlopeConfig { rate: 0.05, ..Default::default() }),
                        DetectorConfig::LossLevel(LossLevelConfig::default()),
                    ],
                }),
                direction: DirectionConfig::LBfgs(LBfgsConfig { memory: Memory::Pairs(10), ..Default::default() }),
                safe_resort: SafeResortConfig { stall_gain: 0.05, stall_cost: 12.0, ..Default::default() },
                ..default
            },
        }
    }

    /// The configuration as text, every default spelled out.
    pub fn text(self) -> String {
        serde_json::to_string_pretty(&self.config()).expect("a configuration has string keys and finite numbers")
    }

    /// The entry of the schema's `defaultSnippets`, which VS Code and its kin offer. A text, since the keys of a JSON
    /// value have no order.
    pub(super) fn snippet(&self) -> Value {
        json!({ "label": self.name(), "description": self.description(), "bodyText": self.text() })
    }
}

/// Let each `kind` be offered as a whole block with its defaults.
pub(super) fn blocks(schema: &mut Schema) {
    let Some(kind) = schema.pointer("/properties/kind/const").cloned() else {
        return;
    };
    let text = block(schema.as_value());
    let description = schema.get("description").cloned();
    schema.insert("defaultSnippets".into(), json!([{ "label": kind, "description": description, "bodyText": text }]));
}

/// An object of one kind, its defaults spelled out.
pub(crate) fn block(variant: &Value) -> String {
    let mut text = format!("{{\n  \"kind\": {}", variant["properties"]["kind"]["const"]);
    for (key, property) in variant["properties"].as_object().into_iter().flatten().filter(|(key, _)| *key != "kind") {
        let value = property.get("default").unwrap_or(&property["examples"][0]);
        text += &format!(",\n  \"{key}\": {value}");
    }
    text + "\n}"
}
