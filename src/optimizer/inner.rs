//! The optimizer of the non-convex phase, any Burn optimizer behind one type.

use std::sync::Arc;

use burn::optim::{
    AdamConfig, AdamState, AdamWConfig, AdamWState, AdaptiveMomentumState, DynOptimizer, DynState, Optimizer,
    SgdConfig, StateSink, StateSource, decay::WeightDecayConfig, momentum::MomentumConfig,
};
use burn::tensor::{Device, Tensor, TensorData};
use burn_pack::Scalar;
use serde::{Deserialize, Serialize};

use crate::config::InnerConfig;

/// Which second moment the inner optimizer keeps, for the metric.
#[derive(Clone, Copy, Debug)]
enum Moment {
    Adam,
    AdamW,
}

/// The optimizer of the non-convex phase.
#[derive(Clone)]
pub(crate) struct Inner {
    optimizer: Arc<dyn DynOptimizer>,
    diagonal: Option<(Moment, f32, f32)>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("diagonal", &self.diagonal).finish_non_exhaustive()
    }
}

/// An inner state: live, or as it came from a record and not yet rebuilt.
#[derive(Clone)]
pub(crate) enum InnerState {
    Live(DynState),
    Saved(SavedInner),
}

/// The fields of an inner state by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct SavedInner {
    pub tensors: Vec<(String, TensorData)>,
    pub scalars: Vec<(String, Scalar)>,
}

/// The names under which an inner state lies in a record.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct InnerNames {
    pub tensors: Vec<String>,
    pub scalars: Vec<String>,
}

impl Inner {
    /// Any Burn optimizer; it leaves no diagonal for the metric.
    pub fn new(optimizer: impl Optimizer) -> Self {
        Self { optimizer: Arc::new(optimizer), diagonal: None }
    }

    pub fn from_config(config: &InnerConfig) -> Self {
        match config {
            InnerConfig::Adam(adam) => Self {
                optimizer: Arc::new(
                    AdamConfig::new()
                        .with_beta_1(adam.beta_1 as f32)
                        .with_beta_2(adam.beta_2 as f32)
                        .with_epsilon(adam.epsilon as f32)
                        .with_amsgrad(adam.amsgrad)
                        .with_weight_decay(
                            (adam.weight_decay > 0.0).then(|| WeightDecayConfig::new(adam.weight_decay as f32)),
                        )
                        .build(),
                ),
                diagonal: Some((Moment::Adam, adam.beta_2 as f32, adam.epsilon as f32)),
            },
            InnerConfig::AdamW(adamw) => Self {
                optimizer: Arc::new(
                    AdamWConfig::new()
                        .with_beta_1(adamw.beta_1 as f32)
                        .with_beta_2(adamw.beta_2 as f32)
                        .with_epsilon(adamw.epsilon as f32)
                        .with_amsgrad(adamw.amsgrad)
                        .with_weight_decay(adamw.weight_decay as f32)
                        .with_cautious_weight_decay(adamw.cautious_weight_decay)
                        .build(),
                ),
                diagonal: Some((Moment::AdamW, adamw.beta_2 as f32, adamw.epsilon as f32)),
            },
            InnerConfig::Sgd(sgd) => Self::new(
                SgdConfig::new()
                    .with_weight_decay(
                        (sgd.weight_decay > 0.0).then(|| WeightDecayConfig::new(sgd.weight_decay as f32)),
                    )
                    .with_momentum(sgd.momentum.as_ref().map(|momentum| {
                        MomentumConfig::new()
                            .with_momentum(momentum.momentum)
                            .with_dampening(momentum.dampening)
                            .with_nesterov(momentum.nesterov)
                    }))
                    .build(),
            ),
        }
    }

    /// Whether the optimizer leaves a diagonal the metric can use.
    pub fn has_diagonal(&self) -> bool {
        self.diagonal.is_some()
    }

    pub fn step<const D: usize>(
        &self,
        lr: f64,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<InnerState>,
    ) -> (Tensor<D>, Option<InnerState>) {
        let device = tensor.device();
        let state = state.and_then(|state| self.live::<D>(state, &device));
        let (tensor, state) = self.optimizer.step_dyn(D, lr, tensor.into_bridge(), grad.into_bridge(), state);
        (Tensor::from_bridge(tensor), state.map(InnerState::Live))
    }

    /// Rebuild a state from its record.
    fn live<const D: usize>(&self, state: InnerState, device: &Device) -> Option<DynState> {
        match state {
            InnerState::Live(state) => Some(state),
            InnerState::Saved(saved) => {
                let mut source = StateSource::new(
                    saved.scalars.into_iter().map(|(name, value)| (format!("inner.{name}"), value)).collect(),
                );
                for (name, data) in saved.tensors {
                    source.insert_tensor(format!("inner.{name}"), data);
                }
                self.optimizer.state_unflatten(D, "inner", &mut source, device)
            }
        }
    }

    /// Make sure a state is live before tensors are taken from it.
    pub fn revive<const D: usize>(&self, state: Option<InnerState>, device: &Device) -> Option<InnerState> {
        state.and_then(|state| self.live::<D>(state, device)).map(InnerState::Live)
    }

    pub fn to_device(&self, state: InnerState, device: &Device) -> InnerState {
        match state {
            InnerState::Live(state) => InnerState::Live(self.optimizer.to_device_dyn(state, device)),
            saved => saved,
        }
    }

    /// The fields of a state by name.
    pub fn saved(&self, state: &InnerState) -> SavedInner {
        match state {
            InnerState::Saved(saved) => saved.clone(),
            InnerState::Live(state) => {
                let mut sink = StateSink::default();
                self.optimizer.state_flatten("", state, &mut sink);
                SavedInner { tensors: sink.tensors, scalars: sink.scalars }
            }
        }
    }

    /// The square root of the metric, `(sqrt(v_hat) + eps)^(-1/2)` with Adam's bias-corrected second moment `v_hat`
    /// (Kingma and Ba 2015, algorithm 1).
    pub fn root_metric<const D: usize>(&self, state: &InnerState) -> Option<Tensor<D>> {
        let (moment, beta_2, epsilon) = self.diagonal?;
        let InnerState::Live(state) = state else {
            return None;
        };
        let momentum: &AdaptiveMomentumState<D> = match moment {
            Moment::Adam => &state.downcast_ref::<AdamState<D>>().momentum,
            Moment::AdamW => &state.downcast_ref::<AdamWState<D>>().momentum,
        };
        let second = momentum.max_moment_2.as_ref().unwrap_or(&momentum.moment_2).clone();
        let correction = 1.0 - f64::from(beta_2).powi(i32::try_from(momentum.time).unwrap_or(i32::MAX));
        let root = second.div_scalar(correction).sqrt().add_scalar(epsilon);
        Some(root.sqrt().recip())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{InnerAdam, InnerAdamW, InnerSgd};

    /// A parameter of one after a step of 0.5 with this gradient.
    fn stepped(config: &InnerConfig, gradient: f32) -> f32 {
        let tensor = |value: f32| Tensor::<1>::from_data([value], &Device::flex());
        let (tensor, _) = Inner::from_config(config).step(0.5, tensor(1.0), tensor(gradient), None);
        tensor.into_data().iter::<f32>().next().expect("one value")
    }

    #[test]
    fn weight_decay_of_the_configuration_moves_a_parameter_without_gradient() {
        let adam = |weight_decay| InnerConfig::Adam(InnerAdam { weight_decay, ..Default::default() });
        let adamw = |weight_decay| InnerConfig::AdamW(InnerAdamW { weight_decay, ..Default::default() });
        let sgd = |weight_decay| InnerConfig::Sgd(InnerSgd { weight_decay, ..Default::default() });
        for config in [adam(0.0), adamw(0.0), sgd(0.0)] {
            assert_eq!(stepped(&config, 0.0), 1.0, "{config:?}");
        }
        // Adam's step is the learning rate whatever the size of the gradient.
        assert!((stepped(&adam(0.1), 0.0) - 0.5).abs() < 1e-3);
        assert!((stepped(&adamw(0.1), 0.0) - 0.95).abs() < 1e-6);
        assert!((stepped(&sgd(0.1), 0.0) - 0.95).abs() < 1e-6);
        assert!((stepped(&sgd(0.0), 0.2) - 0.9).abs() < 1e-6);
    }

    #[test]
    fn adam_and_adamw_leave_a_diagonal_and_others_do_not() {
        let diagonal = |config: &InnerConfig| Inner::from_config(config).has_diagonal();
        assert!(diagonal(&InnerConfig::Adam(InnerAdam::default())));
        assert!(diagonal(&InnerConfig::AdamW(InnerAdamW::default())));
        assert!(!diagonal(&InnerConfig::Sgd(InnerSgd::default())));
        assert!(!Inner::new(AdamConfig::new().build()).has_diagonal());
    }

    #[test]
    fn the_root_of_the_metric_is_made_of_the_corrected_second_moment() {
        // Of one gradient again and again that is its square, after one step as after many.
        for config in [InnerConfig::Adam(InnerAdam::default()), InnerConfig::AdamW(InnerAdamW::default())] {
            let inner = Inner::from_config(&config);
            let (mut tensor, mut state) = (Tensor::<1>::zeros([2], &Device::flex()), None);
            for _ in 0..3 {
                (tensor, state) = inner.step(0.1, tensor, Tensor::from_data([0.25, -0.01], &Device::flex()), state);
                let root = inner.root_metric::<1>(state.as_ref().expect("a state")).expect("a diagonal");
                let root: Vec<f64> = root.into_data().iter().collect();
                assert!((root[0] - 2.0).abs() < 1e-3 && (root[1] - 10.0).abs() < 1e-2, "{config:?} {root:?}");
            }
        }
    }
}
