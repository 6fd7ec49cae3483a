//! Nonlinear conjugate gradients: `d = -g + beta d_old` with six choices of beta.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Coefficients, Direction, Products, Proposal, Step};
use crate::convex::RestartReason;
use crate::error::{ParameterError, StateError};

/// The formula of beta. With `g` the new gradient, `g_old` the old one, `y = g - g_old` and `d` the old direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Beta {
    /// `g'g / g_old'g_old` (Fletcher and Reeves 1964).
    FletcherReeves,
    /// `g'y / g_old'g_old` (Polak and Ribière 1969).
    PolakRibiere,
    /// `max(0, g'y / g_old'g_old)` (Powell 1984, Gilbert and Nocedal 1992).
    PolakRibierePlus,
    /// `g'y / d'y` (Hestenes and Stiefel 1952).
    HestenesStiefel,
    /// `g'g / d'y` (Dai and Yuan 1999).
    DaiYuan,
    /// `(y - 2 d y'y / d'y)'g / d'y`, at least `0.4 d'g_old / d'd` (Hager and Zhang 2005, eq. 1.3; the lower bound of
    /// Hager and Zhang 2013, which does not depend on the scale of the loss).
    #[default]
    HagerZhang,
}

/// Nonlinear conjugate gradients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ConjugateGradientConfig {
    /// The formula of beta; default `hager_zhang`.
    pub beta: Beta,
    /// Restart from steepest descent after this many iterations; at least 1, `null`, the default, for never. Source:
    /// Fletcher and Reeves 1964.
    #[schemars(range(min = 1))]
    pub restart_every: Option<u64>,
    /// Restart when successive gradients are far from orthogonal, `|g'g_old| >= powell * g'g`, but not twice in a row; no
    /// unit, above 0, `null`, the default, for never. Of use with a nearly exact search only, after which gradients are
    /// orthogonal on a quadratic. Source: Powell 1977, with 0.2.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub powell: Option<f64>,
}

impl Default for ConjugateGradientConfig {
    fn default() -> Self {
        Self { beta: Beta::HagerZhang, restart_every: None, powell: None }
    }
}

impl ConjugateGradientConfig {
    /// Check the ranges.
    ///
    /// # Errors
    ///
    /// [`ParameterError`] naming the parameter out of its range.
    pub fn validate(&self) -> Result<(), ParameterError> {
        let every = self.restart_every.unwrap_or(1);
        ParameterError::range(every >= 1, "restart_every", every, "at least 1")?;
        let powell = self.powell.unwrap_or(0.2);
        ParameterError::range(powell > 0.0 && powell.is_finite(), "powell", powell, "above 0")
    }
}

/// Truncation of the Hager-Zhang beta (Hager and Zhang 2013, section 2: eta = 0.4).
const ETA: f64 = 0.4;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct State {
    /// `g_old'g_old`; `None` before the first iteration.
    gg_old: Option<f64>,
    since_restart: u64,
}

/// See [`ConjugateGradientConfig`].
#[derive(Clone, Debug)]
pub struct ConjugateGradient {
    config: ConjugateGradientConfig,
    state: State,
}

impl ConjugateGradient {
    /// The method with nothing seen yet.
    pub fn new(config: ConjugateGradientConfig) -> Self {
        Self { config, state: State::default() }
    }

    fn beta(&self, p: &Products, gg_old: f64) -> f64 {
        match self.config.beta {
            Beta::FletcherReeves => p.gg / gg_old,
            Beta::PolakRibiere => p.gy / gg_old,
            Beta::PolakRibierePlus => (p.gy / gg_old).max(0.0),
            Beta::HestenesStiefel => p.gy / p.yd,
            Beta::DaiYuan => p.gg / p.yd,
            Beta::HagerZhang => {
                let beta = (p.gy - 2.0 * p.gd * p.yy / p.yd) / p.yd;
                // `max` would take the bound for what is no number.
                if beta.is_nan() { beta } else { beta.max(ETA * (p.gd - p.yd) / p.dd) }
            }
        }
    }

    fn restart_reason(&self, p: &Products) -> Option<RestartReason> {
        if self.config.restart_every.is_some_and(|every| self.state.since_restart >= every) {
            return Some(RestartReason::Periodic);
        }
        // Not straight after a restart: one after another would be steepest descent.
        let overlap = (p.gg - p.gy).abs();
        let powell = self.config.powell.filter(|nu| self.state.since_restart > 1 && overlap >= nu * p.gg)?;
        Some(RestartReason::Powell { overlap: overlap / p.gg, limit: powell })
    }
}

impl Direction for ConjugateGradient {
    fn next(&mut self, products: &Products, step: Step) -> Proposal {
        let gg_old = self.state.gg_old.replace(products.gg);
        self.state.since_restart += 1;
        let Some(gg_old) = gg_old.filter(|_| step.length > 0.0) else {
            self.state.since_restart = 0;
            return Proposal::steepest(products.gg, None);
        };
        let beta = self.beta(products, gg_old);
        // Gradients that are alike give y = 0 and a beta that is not a number: say so instead of comparing with it.
        let reason = self.restart_reason(products).or((!beta.is_finite()).then_some(RestartReason::NonDescent));
        if reason.is_some() {
            self.state.since_restart = 0;
            return Proposal::steepest(products.gg, reason);
        }
        Proposal {
            coefficients: Coefficients { gradient: -1.0, direction: beta, ..Coefficients::default() },
            slope: -products.gg + beta * products.gd,
            step: None,
            restart: None,
            dropped: None,
        }
    }

    fn restart(&mut self) {
        // g_old'g_old stays: it belongs to the base point, not to the direction.
        self.state.since_restart = 0;
    }

    fn state(&self) -> Value {
        json!(self.state)
    }

    fn restore(&mut self, state: Value) -> Result<(), StateError> {
        self.state = StateError::read("conjugate_gradient", state)?;
        Ok(())
    }

    fn boxed(&self) -> Box<dyn Direction> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powell_restarts_where_gradients_overlap_but_not_twice_in_a_row() {
        let config = ConjugateGradientConfig { powell: Some(0.2), ..Default::default() };
        let mut direction = ConjugateGradient::new(config);
        // g'g_old = g'g - g'y = 0.5 g'g.
        let products =
            Products { gg: 1.0, gy: 0.5, gd: -0.1, yy: 1.0, yd: 0.9, dd: 1.0, pairs: vec![], batches: vec![] };
        assert_eq!(direction.next(&products, 0.0.into()).restart, None);
        let overlaps: Vec<bool> = (0..4).map(|_| direction.next(&products, 1.0.into()).restart.is_some()).collect();
        assert_eq!(overlaps, [false, true, false, true]);
    }

    /// The restarts of a method that is shown the same products again and again.
    fn restarts(config: ConjugateGradientConfig, products: &Products, calls: usize) -> Vec<Option<RestartReason>> {
        let mut direction = ConjugateGradient::new(config);
        assert_eq!(direction.next(products, 0.0.into()), Proposal::steepest(products.gg, None));
        (0..calls).map(|_| direction.next(products, 1.0.into()).restart).collect()
    }

    #[test]
    fn powell_s_overlap_is_that_of_the_two_gradients() {
        let config = ConjugateGradientConfig { powell: Some(0.2), ..Default::default() };
        let products =
            |gy| Products { gg: 2.0, gy, gd: -0.1, yy: 1.0, yd: 0.9, dd: 1.0, pairs: vec![], batches: vec![] };
        for (gy, restarts_at) in [(1.7, None), (2.3, None), (1.5, Some(0.25)), (2.5, Some(0.25))] {
            let reason = restarts_at.map(|overlap| RestartReason::Powell { overlap, limit: 0.2 });
            assert_eq!(restarts(config.clone(), &products(gy), 2), [None, reason], "{gy}");
        }
        // The search that failed before was a restart, too.
        let mut direction = ConjugateGradient::new(config);
        direction.next(&products(1.5), 0.0.into());
        direction.restart();
        assert_eq!(direction.next(&products(1.5), 1.0.into()).restart, None);
    }

    #[test]
    fn periodic_restarts_come_after_so_many_directions() {
        let config = ConjugateGradientConfig { restart_every: Some(3), ..Default::default() };
        let products =
            Products { gg: 2.0, gy: 1.5, gd: -0.1, yy: 1.0, yd: 0.9, dd: 1.0, pairs: vec![], batches: vec![] };
        let told: Vec<bool> = restarts(config, &products, 6).iter().map(Option::is_some).collect();
        assert_eq!(told, [false, false, true, false, false, true]);
    }

    #[test]
    fn without_a_step_there_is_no_direction_to_be_conjugate_to() {
        let mut direction = ConjugateGradient::new(ConjugateGradientConfig::default());
        let products =
            Products { gg: 2.0, gy: 1.5, gd: -0.1, yy: 1.0, yd: 0.9, dd: 1.0, pairs: vec![], batches: vec![] };
        for _ in 0..2 {
            assert_eq!(direction.next(&products, 0.0.into()), Proposal::steepest(2.0, None));
        }
    }
}
