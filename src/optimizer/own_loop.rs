//! The own loop, in the shape of Burn's `LBFGS::step`: one call is one whole iteration, line search included.

use burn::module::Module;
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::optim::{GradientsParams, ModuleOptimizer, OptimizerRecord};
use burn::tensor::Tensor;

use super::drive::{Driven, drive, inspect};
use super::{ConvexitySwitching, Phase};

/// What one call of [`ConvexitySwitching::step_with`] did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOutcome {
    /// The phase the step was made in.
    pub phase: Phase,
    /// How often the closure was called.
    pub evaluations: u64,
    /// The loss at the point returned; `None` in the non-convex phase, where nothing is read back for it.
    pub loss: Option<f64>,
    /// Whether a line search accepted a new point; always true in the non-convex phase.
    pub accepted: bool,
}

impl ConvexitySwitching {
    /// One iteration of an own loop: a step of the inner optimizer, or a whole line search.
    ///
    /// `objective` returns loss and gradients at the model it is given, over the whole training set in the convex phase.
    /// The model returned stands at the accepted point, never at a trial point. A window of the detector is one call,
    /// or `window` calls where that is configured.
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
    pub fn step_with<M, F>(&self, lr: impl Into<ModuleLearningRate>, model: M, mut objective: F) -> (M, StepOutcome)
    where
        M: Module,
        F: FnMut(&M) -> (Tensor<1>, GradientsParams),
    {
        let lr = lr.into();
        let mut own = self.own.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let optim = own.get_or_insert_with(|| self.module_optimizer());
        self.room().feed.own = true;
        let mut driven = Driven::at(model);
        let mut outcome = StepOutcome { phase: self.phase(), evaluations: 0, loss: None, accepted: false };
        // The model comes in at the accepted point, its trial point is found again by the record of the search.
        self.room().feed.reveal = self.room_has_trial();
        loop {
            let reveals = self.room().feed.reveal;
            let mut pass = |model: M, optim: &mut ModuleOptimizer| {
                let (loss, grads) = objective(&model);
                outcome.evaluations += 1;
                inspect(self, &model, &[&grads], optim);
                self.room().feed.losses.push(loss.inner());
                optim.step(lr.clone(), model, grads)
            };
            let (next, committed) = drive(self, optim, &lr, driven, |optim, model| match reveals {
                true => {
                    let grads = super::drive::stand_ins(&model);
                    optim.step(lr.clone(), model, grads)
                }
                false => pass(model, optim),
            });
            driven = next;
            let phase = self.phase();
            let resting = self.room().rests();
            outcome.accepted |= committed || outcome.phase == Phase::NonConvex;
            if outcome.phase == Phase::NonConvex || phase == Phase::NonConvex || committed || resting {
                break;
            }
        }
        outcome.loss = self.accepted_loss().filter(|_| outcome.phase == Phase::Convex);
        (driven.into_shown(), outcome)
    }

    fn room_has_trial(&self) -> bool {
        self.room().trial_step() > 0.0
    }

    /// Burn's whole-model optimizer around a handle of its own: no cycle of handles keeps the states alive.
    fn module_optimizer(&self) -> ModuleOptimizer {
        ModuleOptimizer::from(Self { shared: self.shared.clone(), own: Default::default() })
    }

    /// The record of an own loop, to be saved beside the model's.
    pub fn to_record(&self) -> OptimizerRecord {
        let mut own = self.own.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        own.get_or_insert_with(|| self.module_optimizer()).to_record()
    }

    /// Go on with an own loop from its record.
    pub fn load_record(&self, record: OptimizerRecord) {
        let mut own = self.own.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *own = Some(self.module_optimizer().load_record(record));
    }
}
