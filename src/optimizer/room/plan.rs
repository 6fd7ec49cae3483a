//! What a pass is planned to be, and what is known of it beforehand.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::convex::Move;
use crate::error::Refusal;

/// What the tensors do in a pass.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Plan {
    /// Step the inner optimizer, add `share` times the gradient to the sum of the window, which may `close` with this pass, and
    /// take the iterate into the running average with the decay given.
    Inner { share: f64, close: bool, average: Option<f64> },
    /// Stand still and add `share` times the gradient to the sum of the evaluation, which may `close` with this pass.
    Collect { share: f64, close: bool },
    /// Go where a move leads that the vectors have carried out.
    Apply(Move),
}

/// A pass's plan with the settings of the run.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    pub plan: Plan,
    pub slot: usize,
    pub l2: f64,
    /// Bring the parameters as they are.
    pub parameters: bool,
    /// Bring the root of the inner optimizer's diagonal.
    pub root: bool,
    /// The metric is being made of the gradients.
    pub moments: bool,
    /// Where to go first, by a tensor that sat out the end of the convex phase.
    pub awaited: Option<Tensor<2>>,
    /// An accepted point left behind is shown in the place of the inner optimizer's: keep the latter in the states.
    pub keep: bool,
}

/// A tensor's place in the room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ticket {
    pub slot: Option<usize>,
    /// The last pass in which this tensor was seen.
    pub pass: u64,
    /// How many records the room had read by then: a ticket from before the last one is void.
    #[serde(skip)]
    pub records: u64,
}

/// What is known of the batches of the coming pass.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    /// A tracked loader tells batch sizes and ends of epochs.
    pub tracked: bool,
    /// `attach` drives the passes and shows the losses.
    pub attached: bool,
    /// An own loop: one pass is one evaluation of the whole objective.
    pub own: bool,
    /// Batches handed out since the last pass, their samples, and whether the last of the epoch was among them.
    pub batches: u64,
    pub items: usize,
    pub last: bool,
    /// Samples in the training set.
    pub epoch_items: usize,
    /// Losses of the coming pass.
    pub losses: Vec<Tensor<1>>,
    /// The wrapper was loaded from a checkpoint: it stands at the point it shows, and the next pass only goes back to
    /// where the optimizer was.
    pub reveal: bool,
    /// The pass just finished did so.
    pub revealed: bool,
    /// The open pass took `reveal`, and whether it did so for nothing is known once a record is read.
    pub asked: bool,
    /// Parameters that came by in this pass before the one that carries the record.
    pub strangers: usize,
    /// Some of them have a saved state, so that a record must come.
    pub orphans: bool,
    /// It did not come in the first pass, and is not read any more.
    pub lost: bool,
    /// The tracked loader serves another one in the convex phase.
    pub two_loaders: bool,
    /// How often the tracked loader had to start an epoch anew, as its first batch only revealed the trial point. Every one of its
    /// iterators sees that for itself.
    pub restarts: u64,
    /// The gradients of the coming pass are no gradients: it only applies a move.
    pub stand_ins: bool,
    /// An own loop has loaded a record that no pass has read yet.
    pub resumed: bool,
    /// Parameters with a gradient in the coming pass, where somebody sees the whole model.
    pub given: Option<usize>,
    /// A line search has accepted a point since this was last asked.
    pub iterated: bool,
    /// The refusal has stopped the Learner.
    pub refusal_told: bool,
    /// Found on the way: why the convex phase cannot begin.
    pub obstacle: Option<Refusal>,
}

impl Feed {
    /// Whether the model that is shown, and saved, is at the accepted point.
    pub fn shows_accepted(&self) -> bool {
        self.attached || self.own
    }
}
