//! The model wrapper: losses reach the line search, no batch is spare, and nobody is shown a trial point.

use std::fmt::{self, Debug, Display};

use burn::module::{Devices, Module, ModuleMapper, ModuleVisitor};
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::optim::{GradientsParams, ModuleOptimizer, MultiGradientsParams};
use burn::store::{ModuleRecord, RecordError};
use burn::tensor::{Device, Tensor};
use burn::train::{
    ClassificationOutput, InferenceStep, MultiLabelClassificationOutput, RegressionOutput, SequenceOutput, TrainOutput,
    TrainStep,
};

use crate::optimizer::{ConvexitySwitching, Driven, Phase, Work, drive, flags_on, inspect, without_flags};

/// A training output that shows its loss.
///
/// Implemented for Burn's own outputs. For an output of your own it is one line:
///
/// ```
/// use burn::tensor::Tensor;
/// use burn_convexity::TrainLoss;
///
/// struct MyOutput {
///     loss: Tensor<1>,
/// }
///
/// impl TrainLoss for MyOutput {
///     fn loss(&self) -> Tensor<1> {
///         self.loss.clone()
///     }
/// }
/// ```
pub trait TrainLoss {
    /// The mean loss of the batch, whose gradient was taken; shape `[1]`.
    fn loss(&self) -> Tensor<1>;
}

macro_rules! train_loss {
    ($($output:ty),*) => {$(
        impl TrainLoss for $output {
            fn loss(&self) -> Tensor<1> {
                self.loss.clone()
            }
        }
    )*};
}

train_loss!(ClassificationOutput, MultiLabelClassificationOutput, RegressionOutput, SequenceOutput);

/// A model under [`ConvexitySwitching::attach`].
///
/// It is a [`Module`] like the one inside: records have the inner model's paths, so files interchange. Validation,
/// checkpoints, early stopping and the model the `Learner` returns are the accepted point; only
/// [`TrainStep::step`] sees trial points. In the convex phase dropout and batch normalisation run in evaluation mode, so
/// that all evaluations see one function; an event says so.
#[derive(Clone, Debug)]
pub struct Attached<M> {
    driven: Driven<M>,
    switching: ConvexitySwitching,
}

impl ConvexitySwitching {
    /// Wrap a model so that a `Learner` makes exact use of this optimizer, as in the [example](crate) of the crate;
    /// [`Attached::into_inner`] gives it back.
    pub fn attach<M: Module>(&self, model: M) -> Attached<M> {
        self.room().feed.attached = true;
        Attached { driven: Driven::at(model), switching: self.clone() }
    }
}

impl<M> Attached<M> {
    /// The model at the accepted point.
    pub fn into_inner(self) -> M {
        self.driven.into_shown()
    }

    /// The model at the accepted point.
    pub fn inner(&self) -> &M {
        self.driven.shown()
    }

    fn map_all(self, mut f: impl FnMut(M) -> M) -> Self {
        let Driven { trial, accepted, left } = self.driven;
        let driven = Driven { trial: f(trial), accepted: accepted.map(&mut f), left: left.map(&mut f) };
        Self { driven, switching: self.switching }
    }

    /// A wrapper that shows one point only.
    fn alone(model: M, switching: ConvexitySwitching) -> Self {
        Self { driven: Driven::at(model), switching }
    }
}

impl<M: Module> Module for Attached<M> {
    fn collect_devices(&self, devices: Devices) -> Devices {
        self.inner().collect_devices(devices)
    }

    fn fork(self, device: &Device) -> Self {
        self.map_all(|model| model.fork(device))
    }

    fn to_device(self, device: &Device) -> Self {
        self.map_all(|model| model.to_device(device))
    }

    fn train(self) -> Self {
        self.map_all(M::train)
    }

    fn valid(&self) -> Self {
        Self::alone(self.inner().valid(), self.switching.clone())
    }

    fn materialize(self) -> Self {
        self.map_all(M::materialize)
    }

    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        self.inner().visit(visitor);
    }

    fn map<V: ModuleMapper>(self, mapper: &mut V) -> Self {
        self.map_all(|model| model.map(mapper))
    }

    fn try_load_record(self, record: ModuleRecord) -> Result<Self, RecordError> {
        let switching = self.switching.clone();
        let model = self.into_inner().try_load_record(record)?;
        // The record is the accepted point; the first pass goes to the trial point again.
        switching.room().feed.reveal = true;
        Ok(Self::alone(model, switching))
    }
}

impl<M: Display> Display for Attached<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self.inner(), f)
    }
}

impl<M> TrainStep for Attached<M>
where
    M: TrainStep + Module,
    M::Output: TrainLoss,
{
    type Input = M::Input;
    type Output = M::Output;

    fn step(&self, item: Self::Input) -> TrainOutput<Self::Output> {
        let _work = self.switching.under_way(Work::Evaluation);
        let model = &self.driven.trial;
        let convex = self.switching.phase() == Phase::Convex;
        let output = if convex {
            self.switching.room().tell_flags(|| {
                // Running statistics lag one update behind until a validation: not in the middle of the phase.
                drop(model.valid());
                flags_on(model)
            });
            TrainStep::step(&without_flags(model.clone()), item)
        } else {
            TrainStep::step(model, item)
        };
        let loss = output.item.loss().without_autodiff();
        self.switching.room().show_loss(loss);
        output
    }

    fn optimize(self, optim: &mut ModuleOptimizer, lr_module: ModuleLearningRate, grads: GradientsParams) -> Self
    where
        Self: Module + Sized,
    {
        inspect(&self.switching, &self.driven.trial, &[&grads], optim);
        let lr = lr_module.clone();
        self.drive(optim, &lr_module, |optim, model| optim.step(lr, model, grads))
    }

    fn optimize_multi(
        self,
        optim: &mut ModuleOptimizer,
        lr_module: ModuleLearningRate,
        grads: MultiGradientsParams,
    ) -> Self
    where
        Self: Module + Sized,
    {
        let devices: Vec<_> = grads.grads.iter().map(|(grads, _)| grads).collect();
        inspect(&self.switching, &self.driven.trial, &devices, optim);
        let lr = lr_module.clone();
        self.drive(optim, &lr_module, |optim, model| optim.step_multi(lr, model, grads))
    }
}

impl<M: Module> Attached<M> {
    fn drive(
        self,
        optim: &mut ModuleOptimizer,
        lr: &ModuleLearningRate,
        step: impl FnOnce(&mut ModuleOptimizer, M) -> M,
    ) -> Self {
        let (driven, _) = drive(&self.switching, optim, lr, self.driven, step);
        Self { driven, switching: self.switching }
    }
}

impl<M> InferenceStep for Attached<M>
where
    M: InferenceStep,
{
    type Input = M::Input;
    type Output = M::Output;

    fn step(&self, item: Self::Input) -> Self::Output {
        InferenceStep::step(self.inner(), item)
    }
}
