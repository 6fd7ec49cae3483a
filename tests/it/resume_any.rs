//! Whatever the configuration, the touch and the moment: a run that stopped and goes on is the run that never stopped.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

use burn::data::dataloader::DataLoader;
use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig};
use burn::optim::{GradientsParams, ModuleOptimizer, OptimizerRecord};
use burn::store::ModuleRecord;
use burn::tensor::{Bytes, Tensor};
use burn::train::{InferenceStep, RegressionOutput, TrainOutput, TrainStep};
use burn_convexity::convex::RestartReason;
use burn_convexity::detector::{Observation, SwapDetector, Verdict};
use burn_convexity::{Attached, ConvexitySwitching, EventKind, Phase, StateError};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use crate::cases::for_each;
use crate::resume::{EPOCHS, Touch, batches, bytes, end, launch};
use crate::support::{Batch, Net, all, config, count, directions, loader, mean_loss, swap_at, values};

/// A detector of a user's own, whose memory must survive: it swaps at every third window since it was armed.
#[derive(Clone, Debug, Default)]
struct EveryThird(u64);

impl SwapDetector for EveryThird {
    fn observe(&mut self, _observation: &Observation) -> Verdict {
        self.0 += 1;
        match self.0 % 3 {
            0 => Verdict::Swap { reason: format!("window {} since it was armed", self.0) },
            _ => Verdict::Stay,
        }
    }

    fn rearm(&mut self) {
        self.0 = 0;
    }

    fn state(&self) -> Value {
        json!(self.0)
    }

    fn restore(&mut self, state: Value) -> Result<(), StateError> {
        self.0 = StateError::read("every_third", state)?;
        Ok(())
    }

    fn boxed(&self) -> Box<dyn SwapDetector> {
        Box::new(self.clone())
    }
}

/// The network beside a module with a training flag; dropout by 0 draws no random number.
#[derive(Module, Debug)]
struct Flagged {
    net: Net,
    dropout: Dropout,
}

impl Flagged {
    fn new(seed: u64) -> Self {
        Self { net: Net::new(6, seed), dropout: DropoutConfig::new(0.0).init() }
    }

    fn output(&self, batch: &Batch) -> RegressionOutput {
        let x = self.dropout.forward(batch.x.clone());
        self.net.output(&Batch { x, y: batch.y.clone() })
    }
}

impl TrainStep for Flagged {
    type Input = Batch;
    type Output = RegressionOutput;

    fn step(&self, batch: Batch) -> TrainOutput<RegressionOutput> {
        let output = self.output(&batch);
        TrainOutput::new(self, output.loss.backward(), output)
    }
}

impl InferenceStep for Flagged {
    type Input = Batch;
    type Output = RegressionOutput;

    fn step(&self, batch: Batch) -> RegressionOutput {
        self.output(&batch)
    }
}

#[derive(Clone, Debug)]
struct Drawn {
    json: Value,
    own_detector: bool,
    touch: Touch,
    /// The last epoch, pass or call before the stop.
    stop: usize,
    /// A pass whose batch has targets that are no numbers.
    poison: Option<usize>,
}

impl Drawn {
    fn optimizer(&self) -> ConvexitySwitching {
        let builder = ConvexitySwitching::builder(config(self.json.clone()));
        match self.own_detector {
            true => builder.detector(EveryThird::default()).build().expect("valid"),
            false => builder.build().expect("valid"),
        }
    }
}

/// `None` is the user's own.
fn detectors() -> Vec<Option<Value>> {
    // Thresholds that are soon met.
    let peak = json!({ "kind": "gradient_norm_peak", "threshold": 1.0, "smoothing": 0.5 });
    let slope = json!({ "kind": "loss_slope", "rate": 10.0, "windows": 3 });
    let [any, all] = ["any", "all"].map(|kind| json!({ "kind": kind, "of": [swap_at(4), peak, slope] }));
    let fixed = (1..6).map(swap_at);
    fixed.chain([peak, slope, any, all]).map(Some).chain([None, None]).collect()
}

fn inners() -> Vec<Value> {
    vec![
        json!({ "kind": "adam" }),
        json!({ "kind": "adam", "amsgrad": true, "weight_decay": 1e-3 }),
        json!({ "kind": "adamw", "weight_decay": 1e-2 }),
        json!({ "kind": "sgd", "momentum": { "momentum": 0.8 } }),
    ]
}

fn any_direction() -> Vec<Value> {
    let l_bfgs = |memory| json!({ "kind": "l_bfgs", "memory": memory });
    let memories = [json!(1), json!(3), json!("all")].map(l_bfgs);
    let more = json!({ "kind": "l_bfgs", "function_values": false });
    // Fewer than there are batches: neighbours are added together.
    let few = [0, 2, 5].map(|most| json!({ "kind": "l_bfgs", "batch_gradients": most }));
    directions().into_iter().chain(memories).chain([more]).chain(few).collect()
}

/// Searches; those that need the loss where it is shown.
fn searches(touch: Touch) -> Vec<Value> {
    let all = vec![
        json!({ "kind": "hager_zhang" }),
        json!({ "kind": "strong_wolfe" }),
        json!({ "kind": "golden_section", "tolerance": 0.5 }),
    ];
    match touch {
        Touch::AttachAndTrack => all,
        _ => all[..1].to_vec(),
    }
}

fn resorts() -> Vec<Value> {
    vec![
        json!({}),
        json!({ "enabled": false }),
        json!({ "stall_gain": 0.99, "stall_cost": 0.5, "hold_off": 1 }),
        json!({ "stall_gain": 0.9, "stall_cost": 1.0, "hold_off": 1 }),
        json!({ "stall_gain": 0.9, "stall_cost": 3.0, "hold_off": 1, "max_hold_off": 2 }),
    ]
}

fn drawn(touch: Touch, stops: std::ops::Range<usize>) -> impl Strategy<Value = Drawn> {
    let batches = match touch {
        Touch::Neither => vec![Value::Null],
        _ => vec![Value::Null, json!(3)],
    };
    let method = (select(inners()), select(detectors()), select(any_direction()), select(searches(touch)));
    let settings = (
        select(vec!["last", "average"]),
        any::<bool>(),
        select(resorts()),
        select(vec![0.0, 1e-3]),
        select(vec!["auto", "kronecker", "identity"]),
        select(vec![json!(24.0), json!(3.0), json!(1e-3), Value::Null]),
        select(batches),
        select(vec![3, 4]),
    );
    let poison = proptest::option::weighted(0.3, 12..40_usize);
    (method, settings, stops, poison).prop_map(move |(method, settings, stop, poison)| {
        let (inner, detector, direction, search) = method;
        let (start, check, resort, l2, metric, renewal, batches, window) = settings;
        let own_detector = detector.is_none();
        let json = json!({
            "inner": inner,
            "detector": detector.unwrap_or_else(|| json!({ "kind": "never" })),
            "direction": direction,
            "line_search": search,
            "start": start,
            "evaluation": { "check": check, "batches": batches },
            "safe_resort": resort,
            "l2": l2,
            "metric": metric,
            "metric_renewal": renewal,
            "window": if touch == Touch::Neither { json!(window) } else { Value::Null },
        });
        Drawn { json, own_detector, touch, stop, poison }
    })
}

fn touches() -> impl Strategy<Value = Touch> {
    select(vec![Touch::AttachAndTrack, Touch::AttachAndTrack, Touch::Track, Touch::Neither])
}

/// Everything a run shows at its end, as text: numbers that are no numbers agree with themselves there.
fn shown(model: &impl Module, switching: &ConvexitySwitching) -> String {
    let events: Vec<_> =
        switching.events().into_iter().filter(|event| !matches!(event.kind, EventKind::Resumed { .. })).collect();
    format!("{:?} {events:#?}", end(model, switching))
}

/// How often something worth testing happened over all cases.
#[derive(Debug, Default)]
struct Seen {
    cases: usize,
    convex_stops: usize,
    iterations: u64,
    renewals: usize,
    hand_backs: usize,
}

impl Seen {
    fn take(&mut self, resumed: &ConvexitySwitching, whole: &ConvexitySwitching) {
        self.cases += 1;
        self.convex_stops += count(resumed, |kind| matches!(kind, EventKind::Resumed { phase: Phase::Convex }));
        self.iterations += whole.counters().iterations;
        let renewed = |kind: &EventKind| matches!(kind, EventKind::Restart { reason: RestartReason::Renewal { .. } });
        self.renewals += count(whole, renewed);
        self.hand_backs += count(whole, |kind| matches!(kind, EventKind::HandBack { .. }));
    }

    /// Without a loss there is no stall to hand back for.
    fn check(&self, loss: bool) {
        println!("{self:?}");
        assert!(3 * self.convex_stops >= self.cases, "{self:?}");
        assert!(self.iterations as usize >= self.cases && self.renewals >= 1, "{self:?}");
        assert!(self.hand_backs >= 1 || !loss, "{self:?}");
    }
}

/// A Learner's run of one case to the epoch `to`.
fn learn(drawn: &Drawn, dir: &Path, from: Option<usize>, to: usize) -> (String, ConvexitySwitching) {
    let switching = drawn.optimizer();
    let plain = loader(60, 16);
    let train: Arc<dyn DataLoader<Batch>> = match drawn.touch {
        Touch::Neither => plain,
        // So that four batches are left for an evaluation, of whose gradients the metric is made.
        Touch::Track => switching.track(loader(60, 12)),
        Touch::AttachAndTrack => switching.track(plain),
    };
    let end = match drawn.touch {
        Touch::AttachAndTrack => launch(dir, switching.attach(Flagged::new(1)), &switching, train, from, to),
        _ => launch(dir, Flagged::new(1), &switching, train, from, to),
    };
    let events: Vec<_> =
        switching.events().into_iter().filter(|event| !matches!(event.kind, EventKind::Resumed { .. })).collect();
    (format!("{end:?} {events:#?}"), switching)
}

#[test]
fn any_learner_that_stops_at_any_epoch_goes_on_as_if_it_had_not() {
    let seen = RefCell::new(Seen::default());
    for_each(24, touches().prop_flat_map(|touch| drawn(touch, 1..EPOCHS)), |drawn| {
        let [never, stopped] = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        let (undisturbed, whole) = learn(&drawn, never.path(), None, EPOCHS);
        learn(&drawn, stopped.path(), None, drawn.stop);
        let (resumed, after) = learn(&drawn, stopped.path(), Some(drawn.stop), EPOCHS);
        assert_eq!(count(&after, |kind| matches!(kind, EventKind::Resumed { .. })), 1);
        assert!(resumed == undisturbed, "{resumed}\n\nis not\n\n{undisturbed}");
        seen.borrow_mut().take(&after, &whole);
    });
    seen.borrow().check(true);
}

#[test]
fn a_run_that_hands_back_twice_below_its_best_point_resumes_bit_for_bit_from_every_epoch() {
    // The checkpoint of the second hand-back's epoch shows the first one's point, and Adam stands at neither's.
    let json = json!({
        "detector": swap_at(1),
        "evaluation": { "batches": 3 },
        "metric": "identity",
        "direction": { "kind": "conjugate_gradient", "beta": "fletcher_reeves" },
        "safe_resort": { "hold_off": 1, "stall_cost": 0.5, "stall_gain": 0.99 },
    });
    let drawn = Drawn { json, own_detector: false, touch: Touch::AttachAndTrack, stop: 0, poison: None };
    let dir = tempfile::tempdir().expect("a folder");
    let (undisturbed, whole) = learn(&drawn, dir.path(), None, EPOCHS);
    assert!(count(&whole, |kind| matches!(kind, EventKind::HandBack { .. })) >= 2, "{:?}", whole.events());
    for epoch in (1..EPOCHS).rev() {
        let (resumed, _) = learn(&drawn, dir.path(), Some(epoch), EPOCHS);
        assert!(resumed == undisturbed, "from {epoch}: {resumed}\n\nis not\n\n{undisturbed}");
    }
}

/// What is shown, told and saved after an epoch.
type Epoch = (Vec<f32>, Option<f64>, (Bytes, Bytes));

/// Epochs by hand.
fn by_hand(
    switching: &ConvexitySwitching,
    (mut model, optim): (Attached<Net>, &mut ModuleOptimizer),
    rate: f64,
    epochs: std::ops::Range<usize>,
) -> Vec<Epoch> {
    let train = switching.track(loader(60, 16));
    let mut seen = Vec::new();
    for epoch in epochs {
        for batch in train.iter() {
            let output = TrainStep::step(&model, batch.expect("a batch"));
            model = TrainStep::optimize(model, optim, rate.into(), output.grads);
        }
        let told = switching.accepted_loss();
        if let Some(told) = told {
            let shown = mean_loss(model.inner(), 60);
            assert!((shown / told - 1.0).abs() < 1e-5, "{rate}, {epoch}: {shown} {told}: {:?}", switching.events());
        }
        seen.push((values(model.inner()), told, bytes(optim, model.clone())));
    }
    seen
}

#[test]
fn through_all_hand_backs_the_point_shown_is_the_one_whose_loss_is_told_and_every_epoch_resumes() {
    // Phases that end below the point left before, at the very evaluation that finds it, and phases that end above.
    let epochs = 30;
    let mut hand_backs = 0;
    for rate in [1e-2, 0.1, 0.3] {
        let json = json!({
            "detector": swap_at(1),
            "start": "last",
            "evaluation": { "check": false },
            "safe_resort": { "hold_off": 1, "max_hold_off": 1, "stall_cost": 0.5, "stall_gain": 0.99 },
        });
        let start = || config(json.clone()).init().expect("valid");
        let whole = start();
        let mut optim = ModuleOptimizer::from(whole.clone());
        let seen = by_hand(&whole, (whole.attach(Net::new(6, 1)), &mut optim), rate, 0..epochs);
        hand_backs += count(&whole, |kind| matches!(kind, EventKind::HandBack { .. }));
        for epoch in 0..epochs - 1 {
            let (record, weights) = &seen[epoch].2;
            let after = start();
            let mut optim = ModuleOptimizer::from(after.clone()).from_bytes(record.clone()).expect("a record");
            let weights = ModuleRecord::from_bytes(weights.clone()).expect("a record");
            let model = after.attach(Net::new(6, 77)).load_record(weights);
            let again = by_hand(&after, (model, &mut optim), rate, epoch + 1..epochs);
            for (q, (a, b)) in again.iter().zip(&seen[epoch + 1..]).enumerate() {
                let told = (&a.0, a.1) == (&b.0, b.1);
                assert!(told, "{rate}: from {epoch} at {}: {:?}", epoch + 1 + q, whole.events());
            }
            assert_eq!(after.counters(), whole.counters());
        }
    }
    assert!(hand_backs >= 12, "{hand_backs}");
}

const PASSES: usize = 60;

/// The batch of a pass; every third case has a poisoned one.
fn batch(drawn: &Drawn, batches: &[Batch], pass: usize) -> Batch {
    let mut batch = batches[pass % 4].clone();
    if drawn.poison == Some(pass) {
        batch.y = batch.y.mul_scalar(f32::NAN);
    }
    batch
}

fn gradients(model: &Flagged, batch: &Batch) -> (Tensor<1>, GradientsParams) {
    let loss = model.output(batch).loss;
    let grads = GradientsParams::from_grads(loss.backward(), model);
    (loss, grads)
}

/// Drop-in passes from `first`; what is saved after the pass `stop`.
fn pass_by_pass(
    drawn: &Drawn,
    (optim, mut model): (&mut ModuleOptimizer, Flagged),
    first: usize,
) -> (Flagged, Option<(Bytes, Bytes)>) {
    let (batches, mut saved) = (batches(), None);
    for pass in first..PASSES {
        let grads = gradients(&model, &batch(drawn, &batches, pass)).1;
        model = optim.step(1e-2, model, grads);
        if pass == drawn.stop {
            saved = Some(bytes(optim, model.clone()));
        }
    }
    (model, saved)
}

#[test]
fn any_drop_in_that_stops_after_any_pass_goes_on_as_if_it_had_not() {
    let seen = RefCell::new(Seen::default());
    for_each(24, drawn(Touch::Neither, 0..PASSES - 1), |drawn| {
        let whole = drawn.optimizer();
        let mut optim: ModuleOptimizer = whole.clone().into();
        let (model, saved) = pass_by_pass(&drawn, (&mut optim, Flagged::new(1)), 0);
        let undisturbed = shown(&model, &whole);

        let (record, weights) = saved.expect("a pass");
        let after = drawn.optimizer();
        let mut optim = ModuleOptimizer::from(after.clone()).from_bytes(record).expect("a record");
        let model = Flagged::new(77).load_record(ModuleRecord::from_bytes(weights).expect("a record"));
        let (model, _) = pass_by_pass(&drawn, (&mut optim, model), drawn.stop + 1);
        let resumed = shown(&model, &after);
        assert!(resumed == undisturbed, "{resumed}\n\nis not\n\n{undisturbed}");
        seen.borrow_mut().take(&after, &whole);
    });
    seen.borrow().check(false);
}

#[test]
fn any_wrapper_that_stops_after_any_pass_goes_on_where_the_revealing_batch_is_given_again() {
    let seen = RefCell::new(Seen::default());
    let strategy = drawn(Touch::AttachAndTrack, 0..PASSES - 1).prop_map(|mut drawn| {
        // By hand there is no loader to track.
        drawn.json["window"] = json!(4);
        drawn
    });
    for_each(24, strategy, |drawn| {
        let batches = batches();
        let step = |model, optim: &mut ModuleOptimizer, pass: usize| {
            let output = TrainStep::step(&model, batch(&drawn, &batches, pass));
            TrainStep::optimize(model, optim, 1e-2.into(), output.grads)
        };
        let whole = drawn.optimizer();
        let mut optim: ModuleOptimizer = whole.clone().into();
        let mut model = whole.attach(Flagged::new(1));
        let mut saved = None;
        for pass in 0..PASSES {
            model = step(model, &mut optim, pass);
            if pass == drawn.stop {
                saved = Some(bytes(&optim, model.clone()));
            }
        }
        let undisturbed = shown(&model, &whole);

        let (record, weights) = saved.expect("a pass");
        let after = drawn.optimizer();
        let mut optim = ModuleOptimizer::from(after.clone()).from_bytes(record).expect("a record");
        let weights = ModuleRecord::from_bytes(weights).expect("a record");
        let mut model = after.attach(Flagged::new(77)).load_record(weights);
        let mut next = drawn.stop + 1;
        while next < PASSES {
            model = step(model, &mut optim, next);
            // A pass that only revealed the trial point is not counted, and its batch comes again.
            next = after.counters().passes as usize;
        }
        let resumed = shown(&model, &after);
        assert!(resumed == undisturbed, "{resumed}\n\nis not\n\n{undisturbed}");
        seen.borrow_mut().take(&after, &whole);
    });
    seen.borrow().check(true);
}

/// Calls of an own loop from `first`; what is saved after the call `stop`.
fn call_by_call(
    drawn: &Drawn,
    switching: &ConvexitySwitching,
    mut model: Flagged,
    first: usize,
) -> (Flagged, Option<(Bytes, Bytes)>) {
    let (batch, mut saved) = (all(60), None);
    for call in first..CALLS {
        let objective = |model: &Flagged| gradients(model, &batch);
        (model, _) = match drawn.poison {
            // By the way: half of the loops offer a forward pass.
            Some(_) => switching.step_with_forward(1e-2, model, objective, |model| model.output(&batch).loss),
            None => switching.step_with(1e-2, model, objective),
        };
        if call == drawn.stop {
            let record = switching.to_record().into_bytes().expect("bytes");
            saved = Some((record, model.clone().into_record().into_bytes().expect("bytes")));
        }
    }
    (model, saved)
}

const CALLS: usize = 20;

#[test]
fn any_own_loop_that_stops_after_any_call_goes_on_as_if_it_had_not() {
    let seen = RefCell::new(Seen::default());
    for_each(24, drawn(Touch::AttachAndTrack, 0..CALLS - 1), |drawn| {
        let whole = drawn.optimizer();
        let (model, saved) = call_by_call(&drawn, &whole, Flagged::new(1), 0);
        let undisturbed = shown(&model, &whole);

        let (record, weights) = saved.expect("a call");
        let after = drawn.optimizer();
        after.load_record(OptimizerRecord::from_bytes(record).expect("a record"));
        let model = Flagged::new(77).load_record(ModuleRecord::from_bytes(weights).expect("a record"));
        let (model, _) = call_by_call(&drawn, &after, model, drawn.stop + 1);
        let resumed = shown(&model, &after);
        assert!(resumed == undisturbed, "{resumed}\n\nis not\n\n{undisturbed}");
        seen.borrow_mut().take(&after, &whole);
    });
    seen.borrow().check(true);
}
