//! The optimizer of the non-convex phase, as data. The names and defaults are those of Burn's own configs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The optimizer of the non-convex phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum InnerConfig {
    /// Adam (Kingma and Ba 2015, <https://arxiv.org/abs/1412.6980>), the method of the paper.
    Adam(InnerAdam),
    /// Adam with decoupled weight decay (Loshchilov and Hutter 2019, <https://arxiv.org/abs/1711.05101>).
    #[serde(rename = "adamw")]
    AdamW(InnerAdamW),
    /// Stochastic gradient descent, with momentum if wanted.
    Sgd(InnerSgd),
}

impl Default for InnerConfig {
    fn default() -> Self {
        Self::Adam(InnerAdam::default())
    }
}

impl InnerConfig {
    /// The JSON `kind`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Adam(_) => "adam",
            Self::AdamW(_) => "adamw",
            Self::Sgd(_) => "sgd",
        }
    }

    /// Whether the optimizer estimates the second moment of the gradient, which the metric `inner` is made of.
    pub fn has_second_moment(&self) -> bool {
        matches!(self, Self::Adam(_) | Self::AdamW(_))
    }
}

/// Adam.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct InnerAdam {
    /// Decay of the running mean of the gradient, per pass; no unit, at least 0 and under 1, default 0.9. Source: Kingma
    /// and Ba 2015.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub beta_1: f64,
    /// Decay of the running mean of the squared gradient, per pass; no unit, at least 0 and under 1, default 0.999.
    /// Source: Kingma and Ba 2015.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub beta_2: f64,
    /// Added to the root of the mean squared gradient, in units of the gradient; above 0, default 1e-5. Source: Burn
    /// (Kingma and Ba take 1e-8).
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub epsilon: f64,
    /// Divide by the largest mean squared gradient so far instead of the current one; default false. Source: AMSGrad,
    /// Reddi et al. 2018.
    pub amsgrad: bool,
    /// Weight decay, added to the gradient as this number times the parameter; no unit, at least 0, default 0 (none).
    /// Source: Burn.
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
}

impl Default for InnerAdam {
    fn default() -> Self {
        Self { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-5, amsgrad: false, weight_decay: 0.0 }
    }
}

/// AdamW.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct InnerAdamW {
    /// Decay of the running mean of the gradient, per pass; no unit, at least 0 and under 1, default 0.9. Source: Kingma
    /// and Ba 2015.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub beta_1: f64,
    /// Decay of the running mean of the squared gradient, per pass; no unit, at least 0 and under 1, default 0.999.
    /// Source: Kingma and Ba 2015.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub beta_2: f64,
    /// Added to the root of the mean squared gradient, in units of the gradient; above 0, default 1e-5. Source: Burn
    /// (Loshchilov and Hutter take 1e-8).
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub epsilon: f64,
    /// Weight decay: every pass shrinks each parameter by this number times the learning rate; no unit, at least 0,
    /// default 1e-4. Source: Burn.
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// Decay a parameter only where that goes the same way as its step; default false. Source: cautious weight decay,
    /// <https://arxiv.org/abs/2510.12402>.
    pub cautious_weight_decay: bool,
    /// Divide by the largest mean squared gradient so far instead of the current one; default false. Source: AMSGrad,
    /// Reddi et al. 2018.
    pub amsgrad: bool,
}

impl Default for InnerAdamW {
    fn default() -> Self {
        Self {
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-5,
            weight_decay: 1e-4,
            cautious_weight_decay: false,
            amsgrad: false,
        }
    }
}

/// Stochastic gradient descent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct InnerSgd {
    /// Momentum; `null`, the default, for none. Source: Burn.
    pub momentum: Option<MomentumConfig>,
    /// Weight decay, added to the gradient as this number times the parameter; no unit, at least 0, default 0 (none).
    /// Source: Burn.
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
}

/// Momentum: `v = momentum * v + (1 - dampening) * g`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MomentumConfig {
    /// Share of the velocity kept in a pass; no unit, at least 0 and under 1, default 0.9. Source: Burn.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub momentum: f64,
    /// Share of the gradient left out of the velocity; no unit, at least 0 and under 1, default 0.1. Source: Burn.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub dampening: f64,
    /// Step by the velocity looked ahead; default false. Source: Nesterov's momentum as of Sutskever et al. 2013.
    pub nesterov: bool,
}

impl Default for MomentumConfig {
    fn default() -> Self {
        Self { momentum: 0.9, dampening: 0.1, nesterov: false }
    }
}
