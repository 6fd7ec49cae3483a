//! The configuration: the types JSON is read into, their defaults, and how a file is loaded, checked and saved.

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

mod burn;
pub(crate) mod check;
pub(crate) mod document;
mod error;
mod inner;
mod kinds;
pub(crate) mod load;
mod preset;
mod rules;
#[cfg(test)]
mod tests;

pub use error::{ConfigError, Diagnostic, Location, Path, Problem, Step};
pub use inner::{InnerAdam, InnerAdamW, InnerConfig, InnerSgd, MomentumConfig};
pub use kinds::{CombinationConfig, DetectorConfig, DirectionConfig, LineSearchConfig};
pub use preset::Preset;
#[cfg(feature = "cli")]
pub(crate) use preset::block;

use crate::convex::direction::{Beta, ConjugateGradientConfig};
use crate::convex::line_search::GoldenSectionConfig;
use crate::detector::GradientNormPeakConfig;
use crate::error::ParameterError;

/// Configuration of burn-convexity: an optimizer that starts with a method for non-convex losses, sees when the loss has
/// become convex, and goes on with a second-order method.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ConvexitySwitchingConfig {
    /// Where an editor finds the schema of this file: a path or an address. Nothing else reads it.
    #[serde(rename = "$schema", skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// The optimizer of the non-convex phase; default Adam. Source: Hrycej et al. 2025, Algorithm 1.
    pub inner: InnerConfig,
    /// What decides when the convex phase begins; default after the peak of the gradient norm and, where the loss is
    /// shown, once its logarithm falls by less than 0.1 per unit of cost and it is at most a quarter of its largest. Source:
    /// Hrycej et al. 2025, Algorithm 1, for the first; the others are this crate's, by experiment.
    pub detector: DetectorConfig,
    /// Length of a window, the unit in which the detector observes, where the loader is not tracked; in passes, at least
    /// 1; `null`, the default, takes 100 passes and a warning, in an own loop one call. A tracked loader's window is an epoch. Source: this crate.
    #[schemars(range(min = 1))]
    pub window: Option<u64>,
    /// Weight decay as part of the objective of both phases: `l2 / 2` times the squared norm of the parameters is added to
    /// the loss; no unit, at least 0, default 0. Unlike the inner optimizer's own weight decay, which ends at the swap.
    /// Source: Krogh and Hertz 1991.
    #[schemars(range(min = 0.0))]
    pub l2: f64,
    /// How the convex phase evaluates loss and gradient at a point.
    pub evaluation: EvaluationConfig,
    /// Where the convex phase starts; default `average`.
    pub start: StartConfig,
    /// How the convex phase chooses its search directions; default limited-memory BFGS.
    pub direction: DirectionConfig,
    /// The metric in which directions are taken; default `auto`.
    pub metric: MetricConfig,
    /// Cost after which a metric made of the batches' gradients is made anew at the accepted point, where the direction begins
    /// anew in it; in gradient passes over the training set, above 0, default 24; `null` never. That takes one more evaluation.
    /// Source: this crate, by experiment.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub metric_renewal: Option<f64>,
    /// How the convex phase finds the step length along a direction; default Hager and Zhang's search.
    pub line_search: LineSearchConfig,
    /// When the convex phase gives way to the inner optimizer again.
    pub safe_resort: SafeResortConfig,
}

impl Default for ConvexitySwitchingConfig {
    fn default() -> Self {
        Self {
            schema: None,
            inner: InnerConfig::default(),
            detector: DetectorConfig::default(),
            window: None,
            l2: 0.0,
            evaluation: EvaluationConfig::default(),
            start: StartConfig::default(),
            direction: DirectionConfig::default(),
            metric: MetricConfig::default(),
            metric_renewal: Some(24.0),
            line_search: LineSearchConfig::default(),
            safe_resort: SafeResortConfig::default(),
        }
    }
}

/// How the convex phase evaluates loss and gradient at a point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluationConfig {
    /// Batches an evaluation is the mean of, in passes, at least 1; `null`, the default, takes a window: the whole
    /// training set where the loader is tracked. An own loop's evaluation is always one call. Each evaluation takes the batches that
    /// come next. Source: this crate.
    #[schemars(range(min = 1))]
    pub batches: Option<u64>,
    /// Evaluate twice at the point of the swap, tell the difference as an event and allow for it in the search `hager_zhang`;
    /// default true. It costs one evaluation and finds dropout, augmentation and evaluations over changing batches.
    /// Source: this crate.
    pub check: bool,
}

impl Default for EvaluationConfig {
    fn default() -> Self {
        Self { batches: None, check: true }
    }
}

/// Where the convex phase starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StartConfig {
    /// The inner optimizer's last point.
    Last,
    /// The better of the last point and the running average of the iterates (Polyak and Juditsky 1992), decided by loss at
    /// the cost of one evaluation; the last point where no loss is shown. One more vector the size of the parameters
    /// until then.
    #[default]
    Average,
}

/// The metric in which search directions are taken: the preconditioner of either method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MetricConfig {
    /// `kronecker` where an evaluation has at least four batches, else `inner` where the inner optimizer leaves a diagonal,
    /// else `identity`.
    #[default]
    Auto,
    /// For each tensor as an `m` by `n` matrix the inverse of `L (x) R`, of the sums of `G G'` and `G' G` over the batches'
    /// gradients `G` at the swap and at each `metric_renewal`, damped, more with `l2`; for a vector the inverse of its mean
    /// squared gradient, damped too (Gupta, Koren and Singer 2018; Martens and Grosse 2015, section 6.3). Two matrices of
    /// `m * m` and `n * n` a tensor, none for a side above 2,048 or above 16 times the other.
    Kronecker,
    /// The Euclidean one: no preconditioner.
    Identity,
    /// The diagonal `1 / (sqrt(v_hat) + eps)` that the inner Adam leaves at the swap, where `v_hat` is its mean squared
    /// gradient.
    Inner,
}

/// When the convex phase gives way to the inner optimizer again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SafeResortConfig {
    /// Whether to hand back when the loss gains too little per cost or the gradient norm exceeds its old peak; default true. If false
    /// there is no hold-off either. A search that fails along steepest descent too hands back in any case. Source: the "safe resort" of
    /// Hrycej et al. 2025.
    pub enabled: bool,
    /// Windows after a hand-back in which the detector's verdict does not count; at least 1, default 5, doubled at every hand-back. Source:
    /// this crate.
    #[schemars(range(min = 1))]
    pub hold_off: u64,
    /// Most windows in which it does not count, however many hand-backs there were; at least `hold_off`, default 80. Source: this
    /// crate.
    #[schemars(range(min = 1))]
    pub max_hold_off: u64,
    /// Share of the loss that the convex phase must gain over `stall_cost` to go on; no unit, at least 0 and under 1,
    /// default 0.01. Source: this crate, by experiment.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub stall_gain: f64,
    /// Cost over which the gain is measured, in gradient passes over the training set; above 0, default 24, the age at
    /// which the metric is made anew (`metric_renewal`). Source: this crate, by experiment.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub stall_cost: f64,
}

impl Default for SafeResortConfig {
    fn default() -> Self {
        Self { enabled: true, hold_off: 5, max_hold_off: 80, stall_gain: 0.01, stall_cost: 24.0 }
    }
}

impl SafeResortConfig {
    /// Check `hold_off` against `max_hold_off`.
    ///
    /// # Errors
    ///
    /// [`ParameterError`] naming both where they contradict each other.
    pub fn validate(&self) -> Result<(), ParameterError> {
        let (names, values) = (["hold_off", "max_hold_off"], [self.hold_off, self.max_hold_off]);
        let rule = "the first hold-off cannot be longer than the longest";
        ParameterError::together(self.hold_off <= self.max_hold_off, names, values, rule)
    }
}

impl ConvexitySwitchingConfig {
    /// The method as published: Adam, the swap at 0.9 of the peak of the gradient norm,
    /// then conjugate gradients with a golden-section search (Hrycej et al. 2025, Algorithm 1 and section 3). The beta of
    /// Polak and Ribière is the likelier of the two the paper cites. What
    /// is left open has its default, the safe resort among it; in the published experiments the swap was for good.
    pub fn paper() -> Self {
        Self {
            inner: InnerConfig::Adam(InnerAdam::default()),
            detector: DetectorConfig::GradientNormPeak(GradientNormPeakConfig::paper()),
            direction: DirectionConfig::ConjugateGradient(ConjugateGradientConfig {
                beta: Beta::PolakRibierePlus,
                restart_every: None,
                powell: None,
            }),
            start: StartConfig::Last,
            metric: MetricConfig::Identity,
            line_search: LineSearchConfig::GoldenSection(GoldenSectionConfig::default()),
            ..Self::default()
        }
    }
}

/// The JSON schema (draft 7) of [`ConvexitySwitchingConfig`], as committed in
/// `schema/convexity-switching.schema.json`.
pub fn schema() -> Schema {
    let settings = SchemaSettings::draft07()
        .with_transform(RecursiveTransform(integers))
        .with_transform(RecursiveTransform(descriptions))
        .with_transform(RecursiveTransform(preset::blocks));
    let mut schema = settings.into_generator().into_root_schema_for::<ConvexitySwitchingConfig>();
    let id = concat!(
        "https://docs.rs/crate/burn-convexity/",
        env!("CARGO_PKG_VERSION"),
        "/source/schema/convexity-switching.schema.json"
    );
    schema.insert("$id".into(), id.into());
    schema.insert("title".into(), "Configuration of burn-convexity".into());
    schema.insert("defaultSnippets".into(), Preset::ALL.iter().map(Preset::snippet).collect());
    schema
}

/// Say the limits of the Rust integers, instead of schemars' names for them, which no validator knows. For 64 bits it is
/// the largest integer that every JSON reader keeps exact (RFC 8259, section 6).
fn integers(schema: &mut Schema) {
    let limit = match schema.remove("format").as_ref().and_then(Value::as_str) {
        Some("uint32") => json!(u32::MAX),
        Some("uint64") => json!(9_007_199_254_740_991_u64),
        _ => return,
    };
    if schema.get("maximum").is_none() {
        schema.insert("maximum".into(), limit);
    }
}

/// Undo the line breaks of the source, and let a `kind` be described by the variant it names.
fn descriptions(schema: &mut Schema) {
    let Some(Value::String(description)) = schema.get_mut("description") else {
        return;
    };
    *description = description.replace('\n', " ").replace("  ", "\n\n");
    let description = json!(description);
    if let Some(Value::Object(kind)) = schema.pointer_mut("/properties/kind") {
        kind.insert("description".into(), description);
    }
}
