//! The end of a training in which nothing moves any more.

use burn::train::EarlyStoppingStrategy;
use burn::train::metric::store::EventStoreClient;

use crate::optimizer::ConvexitySwitching;

/// Ends a training once the convex phase has converged, under [`ConvexitySwitching::when_converged`].
#[derive(Clone, Debug)]
pub struct WhenConverged {
    switching: ConvexitySwitching,
    /// Whether it had at the end of the epoch before.
    had: bool,
}

impl ConvexitySwitching {
    /// A strategy for `SupervisedTraining::early_stopping`: training ends with the epoch in which the convex phase has converged,
    /// without `attach` with the next, as every later one would evaluate the same point again. Resumed from a checkpoint of that
    /// epoch it takes one more. In a strategy of your own, ask [`has_converged`](Self::has_converged).
    ///
    /// ```no_run
    /// # use burn::train::{LearnerModel, SupervisedTraining};
    /// # use burn_convexity::ConvexitySwitching;
    /// # fn program<M: LearnerModel>(training: SupervisedTraining<M>, switching: &ConvexitySwitching) -> SupervisedTraining<M> {
    /// training.early_stopping(switching.when_converged())
    /// # }
    /// ```
    pub fn when_converged(&self) -> WhenConverged {
        WhenConverged { switching: self.clone(), had: false }
    }
}

impl EarlyStoppingStrategy for WhenConverged {
    fn should_stop(&mut self, epoch: usize, _: &EventStoreClient) -> bool {
        let converged = self.switching.has_converged();
        let had = std::mem::replace(&mut self.had, converged);
        // Without `attach` the way back from the last trial point may still be ahead.
        let stops = converged && (had || self.switching.room().feed.attached);
        if stops {
            log::info!("training ends with epoch {epoch}: the convex phase has converged");
        }
        stops
    }
}
