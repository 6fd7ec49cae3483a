//! The pluggable parts as data, each an object with a `kind`, and how each is built.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::convex::direction::{ConjugateGradient, ConjugateGradientConfig, Direction, LBfgs, LBfgsConfig};
use crate::convex::line_search::{GoldenSectionConfig, HagerZhangConfig, LineSearch, StrongWolfeConfig};
use crate::detector::{
    All, Any, AtWindow, AtWindowConfig, GradientNormPeak, GradientNormPeakConfig, LossLevel, LossLevelConfig,
    LossPlateau, LossPlateauConfig, LossSlope, LossSlopeConfig, Never, NeverConfig, NormVersusLoss,
    NormVersusLossConfig, SwapDetector,
};
use crate::error::ParameterError;

/// What decides when the convex phase begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DetectorConfig {
    /// Behind the peak of the gradient norm: the published rule.
    GradientNormPeak(GradientNormPeakConfig),
    /// At a fixed window.
    AtWindow(AtWindowConfig),
    /// Never: the inner optimizer alone.
    Never(NeverConfig),
    /// Once most of the loss is gone.
    LossLevel(LossLevelConfig),
    /// Where the loss has stopped improving.
    LossPlateau(LossPlateauConfig),
    /// Where the gradient norm falls together with the loss.
    NormVersusLoss(NormVersusLossConfig),
    /// Where the logarithm of the loss falls too slowly for its cost.
    LossSlope(LossSlopeConfig),
    /// When any of these detectors swaps.
    Any(CombinationConfig),
    /// When all of these detectors swap in the same window; those that are not shown what they read do not count.
    All(CombinationConfig),
}

/// Detectors that decide together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CombinationConfig {
    /// The detectors; at least one, no default.
    #[schemars(length(min = 1), extend("examples" = [[{ "kind": "gradient_norm_peak" }]]))]
    pub of: Vec<DetectorConfig>,
}

impl Default for DetectorConfig {
    fn default() -> Self {
        let of = vec![
            Self::GradientNormPeak(GradientNormPeakConfig::default()),
            Self::LossSlope(LossSlopeConfig::default()),
            Self::LossLevel(LossLevelConfig::default()),
        ];
        Self::All(CombinationConfig { of })
    }
}

impl DetectorConfig {
    /// The detector itself, which has seen nothing yet.
    pub fn build(&self) -> Box<dyn SwapDetector> {
        let each = |of: &[Self]| of.iter().map(Self::build).collect();
        match self {
            Self::GradientNormPeak(config) => Box::new(GradientNormPeak::new(config.clone())),
            Self::AtWindow(config) => Box::new(AtWindow::new(config.clone())),
            Self::Never(_) => Box::new(Never),
            Self::LossLevel(config) => Box::new(LossLevel::new(config.clone())),
            Self::LossPlateau(config) => Box::new(LossPlateau::new(config.clone())),
            Self::NormVersusLoss(config) => Box::new(NormVersusLoss::new(config.clone())),
            Self::LossSlope(config) => Box::new(LossSlope::new(config.clone())),
            Self::Any(combination) => Box::new(Any::new(each(&combination.of))),
            Self::All(combination) => Box::new(All::new(each(&combination.of))),
        }
    }
}

/// How the convex phase chooses its search directions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DirectionConfig {
    /// Nonlinear conjugate gradients.
    ConjugateGradient(ConjugateGradientConfig),
    /// Limited-memory BFGS.
    LBfgs(LBfgsConfig),
}

impl Default for DirectionConfig {
    fn default() -> Self {
        Self::LBfgs(LBfgsConfig::default())
    }
}

impl DirectionConfig {
    /// The method itself, which has seen nothing yet, of a configuration that is valid.
    pub fn build(&self) -> Box<dyn Direction> {
        match self {
            Self::ConjugateGradient(config) => Box::new(ConjugateGradient::new(config.clone())),
            Self::LBfgs(config) => Box::new(LBfgs::new(config)),
        }
    }
}

/// How the convex phase finds the step length along a direction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LineSearchConfig {
    /// Hager and Zhang's search, which works from derivatives alone and in limited precision.
    HagerZhang(HagerZhangConfig),
    /// Moré and Thuente's search for the strong Wolfe conditions; it needs the loss (`attach`, or an own loop).
    StrongWolfe(StrongWolfeConfig),
    /// Golden section, the search of the paper; it needs the loss (`attach`, or an own loop) but no derivative.
    GoldenSection(GoldenSectionConfig),
}

impl Default for LineSearchConfig {
    fn default() -> Self {
        Self::HagerZhang(HagerZhangConfig::default())
    }
}

impl LineSearchConfig {
    /// The search itself, with none in flight.
    ///
    /// # Errors
    ///
    /// [`ParameterError`] where a parameter is outside its range or contradicts another.
    pub fn build(&self) -> Result<Box<dyn LineSearch>, ParameterError> {
        Ok(match self {
            Self::HagerZhang(config) => Box::new(config.init()?),
            Self::StrongWolfe(config) => Box::new(config.init()?),
            Self::GoldenSection(config) => Box::new(config.init()?),
        })
    }
}
