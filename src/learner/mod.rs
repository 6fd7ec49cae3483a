//! burn-train: the model wrapper, the tracked loader and the metrics.

mod attach;
mod metrics;
mod stop;
mod track;

pub use attach::{Attached, TrainLoss};
pub use metrics::SwitchingMetrics;
pub use stop::WhenConverged;
pub use track::TrackedLoader;
