//! Metrics for burn-train: phase, gradient norm, step length and cost, each at the iteration it belongs to.

use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::TensorReadError;
use burn::train::metric::{
    Metric, MetricAttributes, MetricMetadata, MetricName, Numeric, NumericAttributes, NumericEntry, SerializedEntry,
    format_float,
};
use burn::train::{LearnerModel, MetricRegistration, SupervisedTraining};

use crate::optimizer::{ConvexitySwitching, Snapshot};

/// The metrics of one optimizer, to be registered with `SupervisedTraining::metrics`, as in the [example](crate) of the crate; they
/// show in training only.
#[derive(Debug)]
pub struct SwitchingMetrics {
    metrics: [SwitchingMetric; 4],
}

impl ConvexitySwitching {
    /// Phase, Gradient Norm, Step Length and Cost as burn-train metrics. Gradient Norm is the mean of the batch gradients'
    /// norms of the last window, in the convex phase the norm of the objective's gradient at the last evaluation.
    pub fn metrics(&self) -> SwitchingMetrics {
        let metric = |shows| {
            let (sender, receiver) = std::sync::mpsc::channel();
            self.room().watch_snapshots(sender);
            SwitchingMetric { shows, receiver: Arc::new(Mutex::new(receiver)), last: None }
        };
        SwitchingMetrics { metrics: [Shows::Phase, Shows::GradientNorm, Shows::StepLength, Shows::Cost].map(metric) }
    }
}

impl<M: LearnerModel> MetricRegistration<M> for SwitchingMetrics {
    fn register(self, builder: SupervisedTraining<M>) -> SupervisedTraining<M> {
        let [phase, norm, step, cost] = self.metrics;
        builder.metric_train(phase).metric_train_numeric(norm).metric_train_numeric(step).metric_train_numeric(cost)
    }
}

#[derive(Clone, Copy, Debug)]
enum Shows {
    Phase,
    GradientNorm,
    StepLength,
    Cost,
}

/// One of the four. Burn updates metrics on another thread, later than the pass they belong to, so each has a queue of
/// its own with one snapshot for every iteration.
#[derive(Clone, Debug)]
struct SwitchingMetric {
    shows: Shows,
    receiver: Arc<Mutex<Receiver<Snapshot>>>,
    last: Option<Snapshot>,
}

impl SwitchingMetric {
    fn number(&self) -> Option<f64> {
        let last = self.last?;
        match self.shows {
            Shows::Phase => None,
            Shows::GradientNorm => last.gradient_norm,
            Shows::StepLength => last.step_length,
            Shows::Cost => Some(last.cost),
        }
    }

    fn entry(&self) -> SerializedEntry {
        match (self.shows, self.number(), self.last) {
            (Shows::Phase, _, Some(last)) => {
                let phase = last.phase.to_string();
                SerializedEntry::new(phase.clone(), phase)
            }
            (_, Some(number), _) => {
                SerializedEntry::new(format_float(number, 3), NumericEntry::Value(number).serialize())
            }
            _ => SerializedEntry::not_available(None),
        }
    }
}

impl Metric for SwitchingMetric {
    type Input = ();

    fn name(&self) -> MetricName {
        let name = match self.shows {
            Shows::Phase => "Phase",
            Shows::GradientNorm => "Gradient Norm",
            Shows::StepLength => "Step Length",
            Shows::Cost => "Cost",
        };
        Arc::new(name.into())
    }

    fn description(&self) -> Option<String> {
        let description = match self.shows {
            Shows::Phase => "Phase of the training: non-convex or convex",
            Shows::GradientNorm => "Norm of the gradient in the last window or evaluation",
            Shows::StepLength => "Step length of the last accepted line search",
            Shows::Cost => "Gradient passes over the training set since training began",
        };
        Some(description.into())
    }

    fn attributes(&self) -> MetricAttributes {
        match self.shows {
            Shows::Phase => MetricAttributes::None,
            _ => NumericAttributes { unit: None, higher_is_better: false }.into(),
        }
    }

    fn update(&mut self, _item: &(), _metadata: &MetricMetadata) -> Result<SerializedEntry, TensorReadError> {
        let receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner);
        self.last = receiver.try_recv().ok().or(self.last);
        drop(receiver);
        Ok(self.entry())
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        Ok(self.entry())
    }

    fn clear(&mut self) {}
}

impl Numeric for SwitchingMetric {
    fn value(&self) -> Option<NumericEntry> {
        self.number().map(NumericEntry::Value)
    }

    fn running_value(&self) -> Option<NumericEntry> {
        self.value()
    }

    fn final_value(&self) -> NumericEntry {
        NumericEntry::Final(self.number().unwrap_or(f64::NAN))
    }
}
