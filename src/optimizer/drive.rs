//! The thin driver behind `attach` and the own loop: collect, end of pass, apply. Not a second implementation.

use std::collections::HashSet;

use burn::module::{Flag, Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::Tensor;

use super::ConvexitySwitching;
use crate::error::Refusal;

/// A model where the optimizer stands, and the points that are shown instead.
#[derive(Clone, Debug)]
pub(crate) struct Driven<M> {
    /// The point of the next evaluation or inner step.
    pub trial: M,
    /// The accepted point of the convex phase; `None` where the trial point is it.
    pub accepted: Option<M>,
    /// The accepted point of an earlier convex phase, while nothing has reached its loss.
    pub left: Option<M>,
}

impl<M> Driven<M> {
    pub fn at(model: M) -> Self {
        Self { trial: model, accepted: None, left: None }
    }

    /// The point to be shown.
    pub fn shown(&self) -> &M {
        self.left.as_ref().or(self.accepted.as_ref()).unwrap_or(&self.trial)
    }

    pub fn into_shown(self) -> M {
        self.left.or(self.accepted).unwrap_or(self.trial)
    }
}

/// The parameters themselves in the place of gradients: enough for a pass that only applies a move.
struct StandIns(GradientsParams);

impl ModuleVisitor for StandIns {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if param.is_require_grad() {
            self.0.register(param.id, param.val().inner());
        }
    }
}

/// A pass without a batch, that only applies the move that is due. A parameter that never had a gradient passes by.
pub(super) fn stand_in<M: Module>(
    switching: &ConvexitySwitching,
    optim: &mut ModuleOptimizer,
    lr: &ModuleLearningRate,
    model: M,
) -> M {
    let mut visitor = StandIns(GradientsParams::new());
    model.visit(&mut visitor);
    switching.room().feed.stand_ins = true;
    let model = optim.step(lr.clone(), model, visitor.0);
    switching.room().feed.stand_ins = false;
    model
}

/// Apply the move that is due.
fn apply<M: Module>(
    switching: &ConvexitySwitching,
    optim: &mut ModuleOptimizer,
    lr: &ModuleLearningRate,
    model: M,
) -> M {
    let model = stand_in(switching, optim, lr, model);
    switching.finish_pass();
    model
}

/// One pass by `step`, its end, and the move that became due; whether that completed an iteration.
pub(crate) fn drive<M: Module>(
    switching: &ConvexitySwitching,
    optim: &mut ModuleOptimizer,
    lr: &ModuleLearningRate,
    mut driven: Driven<M>,
    step: impl FnOnce(&mut ModuleOptimizer, M) -> M,
) -> (Driven<M>, bool) {
    let room = || switching.room();
    // Held only where it may be needed: the inner optimizer then works in place.
    let before = room().feed.reveal.then(|| driven.trial.clone());
    driven.trial = step(optim, driven.trial);
    switching.finish_pass();
    if std::mem::take(&mut room().feed.revealed) {
        // A resumed model has just left the point it shows: the one left behind, or the accepted one.
        if room().shows_left() {
            driven.left = before;
            if room().trial_step() > 0.0 {
                driven.accepted = Some(driven.trial.clone());
                room().go_to_trial();
                driven.trial = apply(switching, optim, lr, driven.trial);
            }
        } else if room().trial_step() > 0.0 {
            driven.accepted = before;
        }
    }
    carry_out(switching, optim, lr, driven)
}

/// Carry out the move that is due, if one is; whether it completed an iteration.
pub(super) fn carry_out<M: Module>(
    switching: &ConvexitySwitching,
    optim: &mut ModuleOptimizer,
    lr: &ModuleLearningRate,
    mut driven: Driven<M>,
) -> (Driven<M>, bool) {
    if !switching.room().shows_left() {
        // Passed, maybe by the very point that the phase is left at.
        driven.left = None;
    }
    let pending = switching.room().pending();
    let iterated = std::mem::take(&mut switching.room().feed.iterated);
    if let Some(next) = pending {
        if (next.commit.is_some() && !switching.room().returns()) || driven.accepted.is_none() {
            driven.accepted = Some(driven.trial.clone());
        }
        // Back to the accepted point by its own copy: what the user froze meanwhile does not move any more.
        let back = driven.accepted.take_if(|_| next.step == 0.0);
        driven.trial = apply(switching, optim, lr, back.unwrap_or(driven.trial));
    }
    let shows_left = switching.room().shows_left();
    // Clones share running statistics, and the inner optimizer's passes go on changing them: this is a copy of its own.
    driven.left = shows_left.then(|| driven.left.unwrap_or_else(|| driven.trial.valid().train()));
    (driven, iterated)
}

/// Check before a pass what only somebody who sees the whole model can see.
pub(crate) fn inspect<M: Module>(
    switching: &ConvexitySwitching,
    model: &M,
    grads: &[&GradientsParams],
    optim: &ModuleOptimizer,
) {
    let mut survey = Survey { grads, given: HashSet::new(), distributed: false };
    model.visit(&mut survey);
    let mut room = switching.room();
    room.feed.given = Some(survey.given.len());
    if survey.given.is_empty() {
        room.refuse(Refusal::NoParameters);
    }
    if survey.distributed {
        room.refuse(Refusal::Distributed);
    }
    if optim.has_gradient_clipping() {
        room.obstruct(Refusal::GradientClipping);
    }
}

struct Survey<'a> {
    grads: &'a [&'a GradientsParams],
    /// A tied parameter is visited twice and counts once.
    given: HashSet<ParamId>,
    distributed: bool,
}

impl ModuleVisitor for Survey<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let filled = param.lazy_shape().num_elements() > 0;
        let given = self.grads.iter().any(|grads| grads.get::<D>(param.id).is_some());
        if filled && given {
            self.given.insert(param.id);
        }
        self.distributed |= param.val().is_distributed();
    }
}

struct Flags(usize, HashSet<ParamId>);

impl ModuleVisitor for Flags {
    fn visit_flag(&mut self, flag: &Param<Flag>) {
        if self.1.insert(flag.id) && flag.is_enabled() {
            self.0 += 1;
        }
    }
}

/// How many modules have their training flag on.
pub(crate) fn flags_on<M: Module>(model: &M) -> usize {
    let mut flags = Flags(0, HashSet::new());
    model.visit(&mut flags);
    flags.0
}

struct WithoutFlags;

impl ModuleMapper for WithoutFlags {
    fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        flag.with_value(false)
    }
}

/// The model with dropout and batch normalisation in evaluation mode, gradients still on.
pub(crate) fn without_flags<M: Module>(model: M) -> M {
    model.map(&mut WithoutFlags)
}

#[cfg(test)]
mod tests {
    use burn::nn::{Dropout, DropoutConfig};

    use super::*;

    #[test]
    fn flags_that_are_off_are_not_counted() {
        let dropouts = || -> [Dropout; 2] { std::array::from_fn(|_| DropoutConfig::new(0.5).init()) };
        assert_eq!(flags_on(&dropouts()), 2);
        let [on, off] = dropouts();
        assert_eq!(flags_on(&[on, without_flags(off)]), 1);
    }
}
