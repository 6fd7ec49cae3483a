//! What happened: phases, events, counters and reports.

use serde::{Deserialize, Serialize};

use crate::convex::RestartReason;
use crate::detector::Observation;
use crate::error::Refusal;

/// The two phases of training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The inner optimizer steps at every pass.
    #[default]
    NonConvex,
    /// Evaluations, directions and line searches.
    Convex,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NonConvex => "non-convex",
            Self::Convex => "convex",
        })
    }
}

/// Something that happened, and where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Passes completed.
    pub pass: u64,
    /// Windows of the non-convex phase completed.
    pub window: u64,
    /// Cost spent, in gradient passes over the training set.
    pub cost: f64,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// The kinds of [`Event`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventKind {
    /// No window was configured and the loader is not tracked, so a window is this many passes.
    DefaultWindow {
        /// Passes.
        passes: u64,
    },
    /// The detector is not shown what it reads and will not swap; told once.
    DetectorAbstains {
        /// What is missing.
        reason: String,
    },
    /// The convex phase begins.
    Swap {
        /// The detector's evidence.
        reason: String,
    },
    /// Dropout and batch normalisation are off while `attach` evaluates the convex phase's objective.
    TrainingFlagsOff {
        /// How many modules had their training flag on.
        modules: usize,
    },
    /// The search went back to steepest descent.
    Restart {
        /// Why.
        reason: RestartReason,
    },
    /// A loss or a gradient was infinite or not a number.
    NonFinite {
        /// The phase.
        phase: Phase,
        /// The step length of the trial; `None` in the non-convex phase.
        step: Option<f64>,
    },
    /// The convex phase starts at the better of the inner optimizer's last point and the running average of its iterates.
    Start {
        /// The loss at the last point.
        last: f64,
        /// The loss at the running average.
        average: f64,
    },
    /// Two evaluations at the point of the swap differed: dropout, augmentation, evaluations over changing batches. The
    /// search of Hager and Zhang allows for the difference.
    Noise {
        /// Difference of the losses.
        loss: f64,
        /// Relative difference of the squared gradient norms.
        gradient: f64,
    },
    /// The pairs of the direction fill the bytes allowed: from now on the oldest is dropped for every new one.
    MemoryFull {
        /// Pairs kept.
        pairs: usize,
    },
    /// The convex phase has converged and the parameters stand still.
    Converged {
        /// Why, with numbers.
        reason: String,
    },
    /// The inner optimizer takes over again.
    HandBack {
        /// Why, with numbers.
        reason: String,
        /// Windows before the detector may swap again.
        hold_off: u64,
    },
    /// The convex phase is refused for good.
    Refused {
        /// Why, and the way out.
        refusal: Refusal,
    },
    /// The state came from a record.
    Resumed {
        /// The phase it was in.
        phase: Phase,
    },
}

/// What was spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// Optimizer passes; where nobody tells what a pass is for (no `attach`, no own loop) those that only applied a move included.
    pub passes: u64,
    /// Evaluations of the convex phase that brought a loss.
    pub loss_evaluations: u64,
    /// Evaluations of the convex phase that brought a gradient.
    pub gradient_evaluations: u64,
    /// Accepted line searches.
    pub iterations: u64,
    /// Returns to steepest descent.
    pub restarts: u64,
    /// Gradient passes over the training set.
    pub cost: f64,
}

/// A window of the non-convex phase or an evaluation of the convex phase, as it ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The phase it belongs to.
    pub phase: Phase,
    /// What was seen; the loss is the objective's. In the convex phase `batch_norm` and `mean_norm` are both the Euclidean
    /// norm of the objective's gradient.
    pub observation: Observation,
    /// The step length at which the objective was evaluated; `None` in the non-convex phase, where the convex
    /// phase starts and where its metric is made anew.
    pub step_length: Option<f64>,
    /// Whether the point evaluated became the accepted point; always true in the non-convex phase.
    pub accepted: bool,
    /// Objective at the accepted point; `None` before the first is known.
    pub accepted_loss: Option<f64>,
    /// The part of the objective that is `l2 / 2` times the squared norm of the parameters; 0 without `l2`. The data's
    /// loss is the observation's less this.
    pub penalty: f64,
    /// The same at the accepted point.
    pub accepted_penalty: f64,
}

impl Report {
    /// The data's loss, without the penalty, at the accepted point; the mean over the window's batches where there is none.
    /// `None` where nobody shows a loss.
    pub fn data_loss(&self) -> Option<f64> {
        match self.accepted_loss {
            Some(loss) => Some(loss - self.accepted_penalty),
            None => self.observation.loss.map(|loss| loss - self.penalty),
        }
    }
}
