//! An objective that keeps account of what is asked of it.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::Objective;

/// What a run has asked of an objective.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// Calls for the gradient, with the value or without.
    pub gradients: u64,
    /// Calls for the value alone.
    pub values: u64,
    /// Every point once: 1 where its gradient was asked for, a third where only its value was.
    pub charge: f64,
}

/// An objective that keeps account.
pub struct Ledger<'a> {
    pub objective: &'a Objective,
    spent: RefCell<Spent>,
    /// Every point asked for, and what has been charged for it.
    charged: RefCell<HashMap<Vec<u64>, f64>>,
}

impl<'a> Ledger<'a> {
    pub fn new(objective: &'a Objective) -> Self {
        Self { objective, spent: RefCell::default(), charged: RefCell::default() }
    }

    pub fn spent(&self) -> Spent {
        *self.spent.borrow()
    }

    /// Value and gradient in one call.
    pub fn both(&self, x: &[f64]) -> (f64, Vec<f64>) {
        self.spent.borrow_mut().gradients += 1;
        self.charge(x, 1.0);
        (self.objective)(x)
    }

    /// The gradient alone.
    pub fn gradient(&self, x: &[f64]) -> Vec<f64> {
        self.both(x).1
    }

    /// The value alone.
    pub fn value(&self, x: &[f64]) -> f64 {
        self.spent.borrow_mut().values += 1;
        self.charge(x, 1.0 / 3.0);
        (self.objective)(x).0
    }

    /// Charge what this point has not been charged yet.
    fn charge(&self, x: &[f64], price: f64) {
        let mut charged = self.charged.borrow_mut();
        let before = charged.entry(x.iter().map(|x| x.to_bits()).collect()).or_insert(0.0);
        self.spent.borrow_mut().charge += (price - *before).max(0.0);
        *before = before.max(price);
    }
}
