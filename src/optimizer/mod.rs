//! `ConvexitySwitching`, the optimizer: passes, tensors, records. The only room with tensors.
//!
//! # How a whole-model method fits a per-tensor trait
//!
//! Burn hands [`Optimizer::step`] one tensor at a time, and conjugate gradients need inner products over all of them
//! before any may move. So a pass over the tensors either *collects* (each gives its gradient) or *applies* (each goes to its
//! part of the point decided on). What the tensors give lies side by side in rows over the whole model, and all that is done
//! to vectors is done to these, once for all tensors. The plain drop-in learns that a pass has ended
//! when the next one begins, and spends that pass's batch on applying; `attach` ends the pass itself and applies at once.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use burn::optim::Optimizer;
use burn::tensor::{Device, Tensor};

use crate::config::{ConvexitySwitchingConfig, MetricConfig, StartConfig};
use crate::convex::direction::Direction;
use crate::convex::line_search::LineSearch;
use crate::convex::{Outcome, SafeResort};
use crate::detector::SwapDetector;
use crate::error::{InitError, ParameterError, Refusal};

mod drive;
mod event;
mod gather;
mod inner;
mod metric;
mod own_loop;
mod products;
mod room;
mod rows;
mod state;
mod vectors;
mod whole;

pub use event::{Counters, Event, EventKind, Phase, Report};
pub use own_loop::StepOutcome;
pub use state::SwitchingState;

pub(crate) use drive::{Driven, drive, flags_on, inspect, without_flags};
pub(crate) use room::{Room, Snapshot};
pub(crate) use state::Work;

use inner::Inner;
use own_loop::OwnLoop;
use room::{Orders, Parts, Plan, Resort};
use rows::as_matrix;
use state::{Origin, Shared, UnderWay};
use whole::Visit;

/// An optimizer that starts as Adam, sees when the loss has become convex, and goes on with a second-order method.
///
/// One cheap-to-clone handle: the [`Optimizer`] to give to a `Learner`, and the place to ask what happened. All clones
/// belong to one training run; make another with
/// [`ConvexitySwitchingConfig::init`](crate::ConvexitySwitchingConfig::init) for another run.
///
/// ```
/// use burn_convexity::{ConvexitySwitchingConfig, Phase};
///
/// let switching = ConvexitySwitchingConfig::default().init()?;
/// assert_eq!(switching.phase(), Phase::NonConvex);
/// # Ok::<(), burn_convexity::InitError>(())
/// ```
#[derive(Clone)]
pub struct ConvexitySwitching {
    shared: Arc<Shared>,
    own: Arc<OwnLoop>,
}

impl std::fmt::Debug for ConvexitySwitching {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let room = self.room();
        f.debug_struct("ConvexitySwitching")
            .field("phase", &room.phase())
            .field("counters", &room.counters())
            .finish_non_exhaustive()
    }
}

impl ConvexitySwitching {
    /// Start from a configuration and put in parts of your own in Rust.
    pub fn builder(config: ConvexitySwitchingConfig) -> Builder {
        Builder { config, inner: None, detector: None, direction: None, line_search: None }
    }

    /// The phase training is in.
    pub fn phase(&self) -> Phase {
        self.room().phase()
    }

    /// What happened so far, oldest first; the last 1,000 events are kept.
    pub fn events(&self) -> Vec<Event> {
        self.room().events().to_vec()
    }

    /// What was spent so far.
    pub fn counters(&self) -> Counters {
        self.room().counters()
    }

    /// Why the convex phase is refused, if it is.
    pub fn refusal(&self) -> Option<Refusal> {
        self.room().refusal().cloned()
    }

    /// The loss at the accepted point of the convex phase, with the penalty of `l2`, where it is known.
    pub fn accepted_loss(&self) -> Option<f64> {
        self.room().accepted_loss()
    }

    /// Whether the convex phase has converged: the parameters stand still.
    pub fn has_converged(&self) -> bool {
        self.room().rests()
    }

    /// A report of every window and evaluation that ends from now on.
    pub fn reports(&self) -> Receiver<Report> {
        let (sender, receiver) = std::sync::mpsc::channel();
        self.room().watch_reports(sender);
        receiver
    }

    pub(crate) fn room(&self) -> std::sync::MutexGuard<'_, Room> {
        self.shared.room()
    }

    /// All tensors of a pass have come by.
    pub(crate) fn finish_pass(&self) {
        let _work = self.under_way(Work::Step);
        self.room().finish_pass();
    }

    /// To be held while some work is done.
    pub(crate) fn under_way(&self, work: Work) -> UnderWay<'_> {
        UnderWay(&self.shared, work)
    }

    /// Make a restored state this optimizer's own; the tensor that came first brings the room along.
    fn adopt<const D: usize>(&self, state: &mut SwitchingState<D>, device: &Device) {
        let record = match &mut state.origin {
            Origin::Live(shared) => {
                if !Arc::ptr_eq(shared, &self.shared) {
                    self.room().refuse(Refusal::SecondStepper);
                }
                return;
            }
            Origin::Record(record) => std::mem::replace(record, Ok(None)),
        };
        let mut room = self.shared.room();
        let carries = matches!(record, Ok(Some(_)));
        let loaded = match record {
            Ok(Some(carried)) if !room.feed.lost => room.load(*carried, device).inspect(|()| {
                let phase = room.phase();
                room.event(EventKind::Resumed { phase });
            }),
            Ok(_) => {
                // Whether the one that carries the room comes yet is known when the pass ends.
                room.feed.orphans |= !room.has_read();
                Ok(())
            }
            Err(refusal) => Err(refusal),
        };
        let failed = loaded.is_err();
        if let Err(refusal) = loaded {
            room.feed.lost |= carries;
            room.refuse(refusal);
        }
        room.honour(&mut state.ticket);
        if failed || room.feed.lost || !room.has_read() {
            // Never half-loaded: a record that cannot be read or is not read yet leaves the inner optimizer's state and no more.
            state.ticket = room.blank_ticket();
            state.kept = None;
        }
        drop(room);
        state.origin = Origin::Live(self.shared.clone());
        state.inner = self.shared.inner.revive::<D>(state.inner.take(), device);
    }
}

impl Optimizer for ConvexitySwitching {
    type State<const D: usize> = SwitchingState<D>;

    fn step<const D: usize>(
        &self,
        lr: f64,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<D>, Option<Self::State<D>>) {
        let columns = tensor.shape().num_elements();
        if columns == 0 || (state.is_none() && self.room().feed.stand_ins) {
            return (tensor, state);
        }
        let mut state = state.unwrap_or_else(|| SwitchingState::new(self.shared.clone()));
        let _work = self.under_way(Work::Step);
        self.adopt(&mut state, &tensor.device());
        let orders = self.room().enter(&mut state.ticket, lr, tensor.dtype(), columns);
        let Orders { slot, l2, .. } = orders;
        let inner = &self.shared.inner;
        let shape = as_matrix(&tensor.dims());
        let matrix = |tensor: &Tensor<D>| tensor.clone().reshape(shape);
        let root = orders.root.then(|| match &state.inner {
            Some(state) => {
                inner.root_metric::<D>(state).map_or_else(|| matrix(&tensor).ones_like(), |root| matrix(&root))
            }
            None => matrix(&tensor).ones_like(),
        });
        let awaited = orders.awaited.map(|base| base.to_device(&tensor.device()).reshape(tensor.shape()));
        let parameters = orders.parameters.then(|| matrix(awaited.as_ref().unwrap_or(&tensor)));
        let tensor = match orders.plan {
            Plan::Inner { average, .. } => {
                let base = state.kept.take().or(awaited);
                let grad = match l2 > 0.0 {
                    true => grad + tensor.clone().mul_scalar(l2),
                    false => grad,
                };
                let gradient = matrix(&grad);
                let (tensor, after) = inner.step(lr, base.unwrap_or(tensor), grad, state.inner.take());
                state.inner = after;
                if orders.keep {
                    state.kept = Some(tensor.clone());
                }
                let iterate = average.map(|_| matrix(&tensor));
                self.room().bring(Visit { slot, gradient, parameters, iterate, moments: false });
                tensor
            }
            Plan::Collect { .. } => {
                if parameters.is_some() {
                    // From here on it is among the vectors.
                    state.kept = None;
                }
                let mut room = self.room();
                room.bring_root(slot, root);
                let moments = orders.moments;
                room.bring(Visit { slot, gradient: matrix(&grad), parameters, iterate: None, moments });
                awaited.unwrap_or(tensor)
            }
            Plan::Apply(next) => {
                let mut room = self.room();
                let point = room.point(slot, next.step, root.as_ref());
                room.bring_root(slot, root);
                let tensor = match point {
                    Some(point) => point.to_device(&tensor.device()).reshape(tensor.shape()),
                    None => state.kept.clone().or(awaited).unwrap_or(tensor),
                };
                if matches!(next.outcome, Outcome::HandBack { .. }) {
                    // Where an earlier point is shown, this one is in no model's record.
                    state.kept = orders.keep.then(|| tensor.clone());
                }
                tensor
            }
        };
        (tensor, Some(state))
    }

    fn to_device<const D: usize>(state: Self::State<D>, device: &Device) -> Self::State<D> {
        state.on_device(device)
    }
}

/// Puts parts written in Rust into a [`ConvexitySwitching`].
///
/// ```
/// use burn::optim::SgdConfig;
/// use burn_convexity::{ConvexitySwitching, ConvexitySwitchingConfig};
///
/// let switching = ConvexitySwitching::builder(ConvexitySwitchingConfig::default())
///     .inner(SgdConfig::new().build())
///     .build()?;
/// # Ok::<(), burn_convexity::InitError>(())
/// ```
#[derive(Debug)]
pub struct Builder {
    config: ConvexitySwitchingConfig,
    inner: Option<Inner>,
    detector: Option<Box<dyn SwapDetector>>,
    direction: Option<Box<dyn Direction>>,
    line_search: Option<Box<dyn LineSearch>>,
}

/// Batches an evaluation must have for the default metric to be made of their gradients.
const FEWEST_BATCHES: u64 = 4;

impl Builder {
    /// Any Burn optimizer for the non-convex phase. It leaves no diagonal, so the metric cannot be made of one.
    pub fn inner(mut self, optimizer: impl Optimizer) -> Self {
        self.inner = Some(Inner::new(optimizer));
        self
    }

    /// A detector of your own.
    pub fn detector(mut self, detector: impl SwapDetector) -> Self {
        self.detector = Some(Box::new(detector));
        self
    }

    /// A direction of your own.
    pub fn direction(mut self, direction: impl Direction) -> Self {
        self.direction = Some(Box::new(direction));
        self
    }

    /// A line search of your own.
    pub fn line_search(mut self, line_search: impl LineSearch) -> Self {
        self.line_search = Some(Box::new(line_search));
        self
    }

    /// Check the configuration and make the optimizer.
    ///
    /// # Errors
    ///
    /// [`InitError`] with what [`ConvexitySwitchingConfig::validate`] finds, or a contradiction with what was given.
    pub fn build(self) -> Result<ConvexitySwitching, InitError> {
        let config = self.config;
        config.validate()?;
        let inner = self.inner.unwrap_or_else(|| Inner::from_config(&config.inner));
        let (names, given) = (["metric", "inner"], ["inner", "an optimizer given in Rust"]);
        let rule = "this metric is made of the second moment of an adam or adamw given in the configuration";
        ParameterError::together(config.metric != MetricConfig::Inner || inner.has_diagonal(), names, given, rule)?;
        let diagonal = matches!(config.metric, MetricConfig::Auto | MetricConfig::Inner) && inner.has_diagonal();
        let kronecker = match config.metric {
            MetricConfig::Auto => Some(FEWEST_BATCHES),
            MetricConfig::Kronecker => Some(1),
            MetricConfig::Inner | MetricConfig::Identity => None,
        };
        let resort = &config.safe_resort;
        let parts = Parts {
            direction: self.direction.unwrap_or_else(|| config.direction.build()),
            search: match self.line_search {
                Some(search) => search,
                None => config.line_search.build()?,
            },
            window: config.window,
            evaluation_batches: config.evaluation.batches,
            resort: resort.enabled.then_some(Resort {
                stall: SafeResort { stall_gain: resort.stall_gain, stall_cost: resort.stall_cost },
                hold_off: resort.hold_off,
                max_hold_off: resort.max_hold_off,
            }),
            diagonal,
            kronecker,
            check: config.evaluation.check,
            average: config.start == StartConfig::Average,
            metric_renewal: config.metric_renewal,
            l2: config.l2,
            // Where an editor finds the schema changes nothing.
            config: serde_json::to_value(ConvexitySwitchingConfig { schema: None, ..config.clone() })
                .unwrap_or_default(),
        };
        let detector = self.detector.unwrap_or_else(|| config.detector.build());
        Ok(ConvexitySwitching { shared: Arc::new(Shared::new(inner, Room::new(parts, detector))), own: Arc::default() })
    }
}

impl ConvexitySwitchingConfig {
    /// Check the configuration and make the optimizer.
    ///
    /// # Errors
    ///
    /// [`InitError`] with what [`validate`](Self::validate) finds.
    pub fn init(&self) -> Result<ConvexitySwitching, InitError> {
        ConvexitySwitching::builder(self.clone()).build()
    }
}
