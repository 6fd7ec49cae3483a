//! The own loop, in the shape of Burn's `LBFGS::step`: one call is one whole iteration, line search included.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

use burn::module::Module;
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::optim::{GradientsParams, ModuleOptimizer, OptimizerRecord};
use burn::tensor::Tensor;

use super::drive::{Driven, carry_out, drive, inspect, stand_in};
use super::{ConvexitySwitching, Phase, Work};

/// What one call of [`ConvexitySwitching::step_with`] did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOutcome {
    /// The phase the step was made in.
    pub phase: Phase,
    /// How often the objective was evaluated, by either closure.
    pub evaluations: u64,
    /// The loss at the point returned, with the penalty of `l2`; `None` in the non-convex phase, where nothing is read back for it.
    pub loss: Option<f64>,
    /// Whether a line search accepted a new point; always true in the non-convex phase.
    pub accepted: bool,
}

/// Burn's whole-model optimizer for an own loop, made at its first use.
#[derive(Default)]
pub(super) struct OwnLoop {
    optim: Mutex<Option<ModuleOptimizer>>,
    /// The thread that is in the middle of an iteration and would wait for itself.
    stepping: Mutex<Option<ThreadId>>,
}

impl OwnLoop {
    fn lock(&self, asked: &str) -> MutexGuard<'_, Option<ModuleOptimizer>> {
        let stepping = *self.stepping.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(
            stepping != Some(std::thread::current().id()),
            "`{asked}` was called by the closure of an iteration that is under way: call it between two iterations"
        );
        self.optim.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self) -> Stepping<'_> {
        *self.stepping.lock().unwrap_or_else(PoisonError::into_inner) = Some(std::thread::current().id());
        Stepping(self)
    }
}

/// An iteration under way, over when dropped.
struct Stepping<'a>(&'a OwnLoop);

impl Drop for Stepping<'_> {
    fn drop(&mut self) {
        *self.0.stepping.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl ConvexitySwitching {
    /// One iteration of an own loop: a step of the inner optimizer, or a whole line search.
    ///
    /// `objective` returns loss and gradients at the model it is given, over the whole training set in the convex phase.
    /// The model returned stands at the accepted point, never at a trial point. A window of the detector is one call,
    /// or `window` calls where that is configured: so the closure may serve minibatches until
    /// the swap, `window` of them an epoch. An evaluation is one call, hence one batch: the metric `auto` is that of the inner
    /// optimizer. Where the convex phase is refused the inner optimizer goes on, and [`refusal`](Self::refusal) says why.
    ///
    /// ```no_run
    /// # use burn::{nn::LinearConfig, optim::GradientsParams, tensor::{Device, Tensor}};
    /// # use burn_convexity::ConvexitySwitchingConfig;
    /// # let device = Device::default().autodiff();
    /// # let mut model = LinearConfig::new(2, 1).init(&device);
    /// # let (x, y) = (Tensor::<2>::ones([8, 2], &device), Tensor::<2>::zeros([8, 1], &device));
    /// let switching = ConvexitySwitchingConfig::default().init()?;
    /// for _ in 0..100 {
    ///     let outcome;
    ///     (model, outcome) = switching.step_with(1e-3, model, |model| {
    ///         let loss = (model.forward(x.clone()) - y.clone()).square().mean();
    ///         let grads = GradientsParams::from_grads(loss.backward(), model);
    ///         (loss, grads)
    ///     });
    ///     println!("{:?} {:?}", outcome.phase, outcome.loss);
    /// }
    /// # Ok::<(), burn_convexity::InitError>(())
    /// ```
    ///
    /// # Panics
    ///
    /// When the closure itself steps this optimizer, or saves or loads its record: it would wait for itself.
    pub fn step_with<M, F>(&self, lr: impl Into<ModuleLearningRate>, model: M, objective: F) -> (M, StepOutcome)
    where
        M: Module,
        F: FnMut(&M) -> (Tensor<1>, GradientsParams),
    {
        self.iterate(lr.into(), model, objective, None::<fn(&M) -> Tensor<1>>)
    }

    /// As [`step_with`](Self::step_with), with the loss alone by a forward pass where the line search needs no more: a
    /// golden-section search then costs forward passes, a third of a cost each, and one gradient an iteration. With `l2`
    /// every evaluation takes the gradient.
    ///
    /// # Panics
    ///
    /// As [`step_with`](Self::step_with).
    pub fn step_with_forward<M, F, L>(
        &self,
        lr: impl Into<ModuleLearningRate>,
        model: M,
        objective: F,
        loss: L,
    ) -> (M, StepOutcome)
    where
        M: Module,
        F: FnMut(&M) -> (Tensor<1>, GradientsParams),
        L: FnMut(&M) -> Tensor<1>,
    {
        self.iterate(lr.into(), model, objective, Some(loss))
    }

    fn iterate<M, F, L>(
        &self,
        lr: ModuleLearningRate,
        model: M,
        mut objective: F,
        mut forward: Option<L>,
    ) -> (M, StepOutcome)
    where
        M: Module,
        F: FnMut(&M) -> (Tensor<1>, GradientsParams),
        L: FnMut(&M) -> Tensor<1>,
    {
        let mut own = self.own.lock("step_with");
        let _stepping = self.own.step();
        let optim = own.get_or_insert_with(|| self.module_optimizer());
        self.room().feed.own = true;
        let mut driven = Driven::at(model);
        let mut outcome = StepOutcome { phase: self.phase(), evaluations: 0, loss: None, accepted: false };
        // The model comes in at the accepted point; its trial point is found again by the record of the search. The same
        // pass reads a record just loaded.
        let resumed = std::mem::take(&mut self.room().feed.resumed);
        let reveals = resumed || self.room().trial_step() > 0.0;
        self.room().feed.reveal = reveals;
        if reveals {
            (driven, _) = drive(self, optim, &lr, driven, |optim, model| stand_in(self, optim, &lr, model));
            outcome.phase = self.phase();
        }
        loop {
            let values_only = outcome.phase == Phase::Convex && !self.room().wants_gradient();
            let iterated;
            outcome.evaluations += 1;
            (driven, iterated) = match &mut forward {
                Some(forward) if values_only => {
                    let work = self.under_way(Work::Evaluation);
                    let value = forward(&driven.trial).into_data().iter::<f64>().next().unwrap_or(f64::NAN);
                    drop(work);
                    self.room().observe_value(value);
                    carry_out(self, optim, &lr, driven)
                }
                _ => drive(self, optim, &lr, driven, |optim, model| {
                    let work = self.under_way(Work::Evaluation);
                    let (loss, grads) = objective(&model);
                    drop(work);
                    inspect(self, &model, &[&grads], optim);
                    self.room().feed.losses.push(loss.without_autodiff());
                    optim.step(lr.clone(), model, grads)
                }),
            };
            outcome.accepted |= iterated || outcome.phase == Phase::NonConvex;
            let stays_convex = outcome.phase == Phase::Convex && self.phase() == Phase::Convex;
            // A refusal that no parameter came by to carry out leaves the phase as it is.
            if !stays_convex || iterated || self.room().rests() || self.room().refusal().is_some() {
                break;
            }
        }
        outcome.loss = self.accepted_loss().filter(|_| outcome.phase == Phase::Convex);
        (driven.into_shown(), outcome)
    }

    /// Burn's whole-model optimizer around a handle of its own: no cycle of handles keeps the states alive.
    fn module_optimizer(&self) -> ModuleOptimizer {
        ModuleOptimizer::from(Self { shared: self.shared.clone(), own: Default::default() })
    }

    /// The record of an own loop, to be saved beside the model's. Another thread waits for the iteration under way.
    ///
    /// # Panics
    ///
    /// When called by the closure of an iteration.
    pub fn to_record(&self) -> OptimizerRecord {
        let mut own = self.own.lock("to_record");
        own.get_or_insert_with(|| self.module_optimizer()).to_record()
    }

    /// Go on with an own loop from its record. Burn hands the record out tensor by tensor, so it is read by the first
    /// step: until then [`phase`](Self::phase) and [`counters`](Self::counters) are those of a new optimizer. A closure
    /// that asks for the phase is right from its first call on.
    ///
    /// # Panics
    ///
    /// When called by the closure of an iteration.
    pub fn load_record(&self, record: OptimizerRecord) {
        let mut own = self.own.lock("load_record");
        *own = Some(self.module_optimizer().load_record(record));
        let mut room = self.room();
        (room.feed.resumed, room.feed.lost) = (true, false);
    }
}
