//! The typed errors of the crate: each names the thing, the place and the way out.

use serde::{Deserialize, Serialize};

use crate::convex::direction::MemoryLimit;

/// A saved state that does not belong to the part it was offered to.
#[derive(Debug, thiserror::Error)]
#[error("the saved state of {part} cannot be read: {source}")]
pub struct StateError {
    /// The part that refused, by its JSON `kind`.
    pub part: &'static str,
    /// What is wrong with the value.
    pub source: serde_json::Error,
}

impl StateError {
    /// Read a part's state from its saved JSON value, naming the part on failure.
    pub fn read<T: serde::de::DeserializeOwned>(part: &'static str, value: serde_json::Value) -> Result<T, Self> {
        serde_json::from_value(value).map_err(|source| Self { part, source })
    }
}

/// A parameter outside its range, or two parameters that contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    /// A value outside the range of its parameter.
    #[error("{parameter} must be {rule}, but is {value}")]
    OutOfRange {
        /// The parameter, by its JSON name.
        parameter: &'static str,
        /// The value it was given.
        value: String,
        /// The range, in words that follow "must be".
        rule: &'static str,
    },
    /// Two values, each in its range, that do not go together.
    #[error("{} ({}) and {} ({}) contradict each other: {rule}", parameters[0], values[0], parameters[1], values[1])]
    Contradiction {
        /// Both parameters, by their JSON names.
        parameters: [&'static str; 2],
        /// The values they were given.
        values: [String; 2],
        /// The rule they break, as a sentence without full stop.
        rule: &'static str,
    },
}

impl ParameterError {
    /// Refuse a value outside its range, the range being said in words that follow "must be".
    pub fn range(holds: bool, parameter: &'static str, value: impl ToString, rule: &'static str) -> Result<(), Self> {
        if holds {
            return Ok(());
        }
        Err(Self::OutOfRange { parameter, value: value.to_string(), rule })
    }

    /// Refuse two values that do not go together.
    pub fn together(
        holds: bool,
        parameters: [&'static str; 2],
        values: [impl ToString; 2],
        rule: &'static str,
    ) -> Result<(), Self> {
        if holds {
            return Ok(());
        }
        Err(Self::Contradiction { parameters, values: values.map(|value| value.to_string()), rule })
    }
}

/// Why the convex phase is refused: the optimizer goes on as the inner one alone, and a tracked loader stops the
/// Learner with this error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Refusal {
    /// Burn's optimizer clips the gradient, and a clipped vector is no gradient of the objective. Noticed with `attach` alone.
    #[error(
        "gradient clipping is set and a clipped vector is no gradient: build the optimizer without \
         gradient clipping (`with_grad_clipping`), or use the `never` detector"
    )]
    GradientClipping,
    /// Parameters in half precision round a trial point off the search line.
    #[error("parameters of type {dtype} round a trial point off the search line: train in f32")]
    Precision {
        /// The element type met.
        dtype: String,
    },
    /// Some parameters are moved by another optimizer while the convex phase needs them to stand still.
    #[error(
        "{given} parameters have a gradient but this optimizer sees {seen}: give the others' group to it too, or \
         freeze them before the swap"
    )]
    OtherOptimizer {
        /// Parameters with a gradient.
        given: usize,
        /// Parameters this optimizer was shown.
        seen: usize,
    },
    /// The line search works from the loss, and nobody shows it.
    #[error(
        "the line search works from the loss and nobody shows it: wrap the model by `attach`, or take the line search \
         hager_zhang"
    )]
    NoLoss,
    /// The direction's memory would not fit.
    #[error("{0}")]
    Memory(MemoryLimit),
    /// No parameter has a gradient.
    #[error("no parameter of the model has a gradient: unfreeze at least one")]
    NoParameters,
    /// A copy of the optimizer's states was stepped somewhere else.
    #[error(
        "the states of one optimizer are stepped from two places (a clone, another thread, or distributed data \
         parallel): make one optimizer for each with `ConvexitySwitchingConfig::init`"
    )]
    SecondStepper,
    /// A parameter came by after the last of a pass, and the plain drop-in cannot tell whether it belongs to that pass or
    /// begins the next one.
    #[error(
        "a parameter got a gradient later than the others and nobody tells where a pass ends: give the training loader to \
         `track` or the model to `attach`"
    )]
    LateParameter,
    /// Distributed data parallel: the losses stay local to each device.
    #[error(
        "distributed data parallel is not supported: train on one device or with \
         `ExecutionStrategy::MultiDevice`"
    )]
    Distributed,
    /// The optimizer's record has another layout.
    #[error(
        "the optimizer's record has layout {found}, this version of burn-convexity reads {expected}: resume with the \
         version that wrote it, or start the optimizer anew"
    )]
    RecordLayout {
        /// Layout of the record.
        found: u32,
        /// Layout this version reads.
        expected: u32,
    },
    /// The optimizer's record was written with another configuration.
    #[error(
        "the optimizer's record was written with another `{part}`: resume with the configuration of the run, or start \
         the optimizer anew"
    )]
    RecordConfig {
        /// The part of the configuration that differs.
        part: String,
    },
    /// The model of the record's checkpoint stands at another point: the accepted one with `attach` and in an own loop, the trial
    /// point without.
    #[error(
        "the optimizer's record was written {} `attach`, whose checkpoints hold another point of the model in the convex phase: \
         resume {0} it, or from a checkpoint before the swap",
        if *.attached { "with" } else { "without" }
    )]
    RecordPoint {
        /// Whether the model was wrapped by `attach`, or stepped by an own loop.
        attached: bool,
    },
    /// The optimizer's record cannot be read.
    #[error("the optimizer's record cannot be read: {reason}; resume from an older checkpoint")]
    RecordUnreadable {
        /// What is wrong with it.
        reason: String,
    },
    /// The device failed while results were read back.
    #[error("reading results back from the device failed in the {phase} phase: {reason}; lower the batch size")]
    Device {
        /// The phase at that time.
        phase: String,
        /// The device's own words.
        reason: String,
    },
}

/// An optimizer that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// A part given in Rust does not go with the configuration.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
}
