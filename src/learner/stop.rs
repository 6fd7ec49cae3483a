//! The end of a training in which nothing moves any more.

use burn::train::EarlyStoppingStrategy;
use burn::train::metric::store::EventStoreClient;

use crate::optimizer::ConvexitySwitching;

/// Ends a training once the convex phase has converged, under [`ConvexitySwitching::when_converged`].
#[derive(Clone, Debug)]
pub struct WhenConverged {
    switching: ConvexitySwitching,
}

impl ConvexitySwitching {
    /// A strategy for `SupervisedTraining::early_stopping`: training ends with the epoch in which the convex phase has converged, as
    /// every later one would evaluate the same point again. In a strategy of your own, ask [`has_converged`](Self::has_converged).
    ///
    /// ```no_run
    /// # use burn::train::{LearnerModel, SupervisedTraining};
    /// # use burn_convexity::ConvexitySwitching;
    /// # fn program<M: LearnerModel>(training: SupervisedTraining<M>, switching: &ConvexitySwitching) -> SupervisedTraining<M> {
    /// training.early_stopping(switching.when_converged())
    /// # }
    /// ```
    pub fn when_converged(&self) -> WhenConverged {
        WhenConverged { switching: self.clone() }
    }
}

impl EarlyStoppingStrategy for WhenConverged {
    fn should_stop(&mut self, epoch: usize, _: &EventStoreClient) -> bool {
        let stops = self.switching.has_converged();
        if stops {
            log::info!("training ends with epoch {epoch}: the convex phase has converged");
        }
        stops
    }
}
