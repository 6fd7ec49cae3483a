//! burn-train: the model wrapper, the tracked loader and the metrics.

mod attach;
mod metrics;
mod track;

pub use attach::{Attached, TrainLoss};
pub use metrics::SwitchingMetrics;
pub use track::TrackedLoader;
