//! The peers: L-BFGS and conjugate gradients of the crate `argmin`, L-BFGS of Burn.
//!
//! Each runs in f64 until the largest entry of the gradient at an accepted point is within the tolerance, it gives up, or
//! the budget is spent. Each has a setting that no other tried solves more problems with:
//!
//! - argmin's L-BFGS with the search of Moré and Thuente at `c1` = 1e-4 and `c2` = 0.9, as in its example; with the search
//!   of Hager and Zhang it solves 24;
//! - argmin's conjugate gradients after Polak and Ribière, never negative, with the search of Moré and Thuente, restarted
//!   every 10 iterations and where successive gradients overlap by 0.1, as in its example, but with `c2` = 0.1, as usual
//!   for conjugate gradients: with 0.9 it solves 26;
//! - Burn's L-BFGS with the strong Wolfe search, a learning rate of 1 and one call of `step`; calls of 20 iterations, its
//!   default, give the same.
//!
//! Both L-BFGS keep as many pairs as ours. The tolerances on the change of the loss are off: they would end a run early.

use argmin::core::{CostFunction, Error, Gradient, IterState, Problem, Solver, State};
use argmin::solver::conjugategradient::NonlinearConjugateGradient;
use argmin::solver::conjugategradient::beta::PolakRibierePlus;
use argmin::solver::linesearch::MoreThuenteLineSearch;
use argmin::solver::quasinewton::LBFGS;
use burn::optim::{LBFGSConfig, LineSearchFn};
use burn::tensor::DType;

use crate::host::max_norm;
use crate::ledger::{Ledger, Spent};
use crate::vector::Vector;
use crate::{BUDGET, MEMORY, Objective};

/// The methods ours are compared with.
#[derive(Clone, Copy)]
pub enum Peer {
    ArgminLBfgs,
    ArgminConjugateGradient,
    BurnLBfgs,
}

pub const PEERS: [Peer; 3] = [Peer::ArgminLBfgs, Peer::ArgminConjugateGradient, Peer::BurnLBfgs];

impl Peer {
    pub fn name(self) -> &'static str {
        match self {
            Self::ArgminLBfgs => "argmin lbfgs",
            Self::ArgminConjugateGradient => "argmin cg",
            Self::BurnLBfgs => "burn lbfgs",
        }
    }

    /// What it spent to reach the tolerance, if it did.
    pub fn solve(self, objective: &Objective, start: &[f64], tolerance: f64) -> Option<Spent> {
        let ledger = Ledger::new(objective);
        let solved = match self {
            Self::ArgminLBfgs => argmin(LBFGS::new(search(0.9), MEMORY as usize), &ledger, start, tolerance),
            Self::ArgminConjugateGradient => {
                let method = NonlinearConjugateGradient::new(search(0.1), PolakRibierePlus::new());
                argmin(method.restart_iters(10).restart_orthogonality(0.1), &ledger, start, tolerance)
            }
            Self::BurnLBfgs => burn(&ledger, start, tolerance),
        };
        (solved && ledger.spent().gradients <= BUDGET).then(|| ledger.spent())
    }
}

/// The line search of argmin.
fn search(c2: f64) -> MoreThuenteLineSearch<Vec<f64>, Vec<f64>, f64> {
    MoreThuenteLineSearch::new().with_c(1e-4, c2).expect("valid parameters")
}

impl Ledger<'_> {
    /// An error once the budget is spent, which ends a run of argmin.
    fn within_budget(&self) -> Result<(), Error> {
        let spent = self.spent();
        if spent.gradients.max(spent.values) < BUDGET { Ok(()) } else { Err(Error::msg("the budget is spent")) }
    }
}

impl CostFunction for &Ledger<'_> {
    type Param = Vec<f64>;
    type Output = f64;

    fn cost(&self, x: &Vec<f64>) -> Result<f64, Error> {
        self.within_budget().map(|()| self.value(x))
    }
}

impl Gradient for &Ledger<'_> {
    type Param = Vec<f64>;
    type Gradient = Vec<f64>;

    fn gradient(&self, x: &Vec<f64>) -> Result<Vec<f64>, Error> {
        self.within_budget().map(|()| Ledger::gradient(self, x))
    }
}

/// The state of a solver of argmin.
type Iteration = IterState<Vec<f64>, Vec<f64>, (), (), (), f64>;

/// Whether a solver of argmin reached the tolerance: the loop of its executor with this one test.
fn argmin<'a, S>(mut solver: S, ledger: &'a Ledger<'a>, start: &[f64], tolerance: f64) -> bool
where
    S: Solver<&'a Ledger<'a>, Iteration>,
{
    let mut problem = Problem::new(ledger);
    let solved = |state: &Iteration| state.get_gradient().is_some_and(|gradient| max_norm(gradient) <= tolerance);
    let mut next = solver.init(&mut problem, Iteration::new().param(start.to_vec()));
    loop {
        let Ok((mut state, _)) = next else { return false };
        state.update();
        if state.terminated() || solved(&state) {
            return solved(&state);
        }
        state.increment_iter();
        next = solver.next_iter(&mut problem, state);
    }
}

/// Whether Burn's L-BFGS reached the tolerance.
fn burn(ledger: &Ledger, start: &[f64], tolerance: f64) -> bool {
    let mut method = LBFGSConfig::new()
        .with_max_iter(BUDGET as usize)
        .with_max_eval(Some(BUDGET as usize))
        .with_history_size(MEMORY as usize)
        .with_tolerance_grad(tolerance)
        .with_tolerance_change(0.0)
        .with_line_search_fn(LineSearchFn::StrongWolfe)
        .init();
    let (point, _) = method.step(1.0, Vector::new(start, DType::F64), |point: Vector| {
        let (value, gradient) = ledger.both(&point.values());
        (value, point.gradients(&gradient))
    });
    max_norm(&(ledger.objective)(&point.values()).1) <= tolerance
}
