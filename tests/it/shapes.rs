//! Parameters of every shape, tied, thawed on the way, summed over uneven batches; and what the learning rate means.

use burn::module::{Module, ModuleMapper, Param};
use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamConfig, GradientsAccumulator, GradientsParams, ModuleOptimizer, MultiGradientsParams};
use burn::store::ModuleRecord;
use burn::tensor::{Tensor, TensorData};
use burn::train::{Learner, RegressionOutput, TrainOutput, TrainStep};
use burn_convexity::{ConvexitySwitching, EventKind, Phase, Refusal, Report};
use serde_json::{Value, json};

use crate::resume::bytes;
use crate::support::{
    Batch, Draw, Net, all, config, count, device, gradient, loader, mean_loss, objective, refused, swap_at, training,
    values,
};

fn start(json: Value) -> ConvexitySwitching {
    config(json).init().expect("valid")
}

fn at_once() -> Value {
    json!({ "detector": swap_at(2), "window": 1, "safe_resort": { "enabled": false } })
}

fn tensor<const D: usize>(data: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
    Tensor::from_data(TensorData::new(data, shape), &device().autodiff())
}

fn param<const D: usize>(shape: [usize; D], seed: u64) -> Param<Tensor<D>> {
    let mut draw = Draw(seed);
    let data = (0..shape.iter().product()).map(|_| draw.next()).collect();
    Param::from_tensor(tensor(data, shape))
}

// ---- shapes ----

/// Parameters of rank 1 to 8, an empty one and a single number among them.
#[derive(Module, Debug)]
struct Ranks {
    empty: Param<Tensor<1>>,
    single: Param<Tensor<1>>,
    two: Param<Tensor<2>>,
    empty_matrix: Param<Tensor<2>>,
    six: Param<Tensor<6>>,
    eight: Param<Tensor<8>>,
}

impl Ranks {
    fn new() -> Self {
        Self {
            empty: param([0], 1),
            single: param([1], 2),
            two: param([2, 3], 3),
            empty_matrix: param([3, 0], 4),
            six: param([1, 2, 1, 2, 1, 2], 5),
            eight: param([2, 1, 1, 2, 1, 1, 1, 2], 6),
        }
    }

    fn joined(&self) -> Tensor<1> {
        Tensor::cat(
            vec![
                self.empty.val(),
                self.single.val(),
                self.two.val().reshape([6]),
                self.empty_matrix.val().flatten(0, 1),
                self.six.val().reshape([8]),
                self.eight.val().reshape([8]),
            ],
            0,
        )
    }
}

/// The same numbers as one vector.
#[derive(Module, Debug)]
struct Whole {
    x: Param<Tensor<1>>,
}

/// A convex function whose coordinates bend differently: `sum exp(x) - sqrt(i) x` (CG_DESCENT's driver problem).
fn driver(x: Tensor<1>) -> Tensor<1> {
    let roots = (1..=23).map(|i| (i as f32).sqrt()).collect();
    (x.clone().exp() - x * tensor(roots, [23])).sum()
}

impl TrainStep for Ranks {
    type Input = ();
    type Output = RegressionOutput;

    fn step(&self, (): ()) -> TrainOutput<RegressionOutput> {
        let loss = driver(self.joined());
        let nothing = tensor(vec![0.0], [1, 1]);
        let output = RegressionOutput::new(loss.clone(), nothing.clone(), nothing);
        TrainOutput::new(self, loss.backward(), output)
    }
}

#[test]
fn parameters_of_any_rank_are_one_vector_to_the_convex_phase() {
    if std::env::var("BURN_CONVEXITY_DEVICE").is_ok_and(|name| name == "ndarray") {
        return; // NdArray has at most six dimensions.
    }
    for direction in [json!({ "kind": "l_bfgs" }), json!({ "kind": "conjugate_gradient" })] {
        let mut json = at_once();
        json["direction"] = direction;
        let gradients = |loss: Tensor<1>, model: &Ranks| GradientsParams::from_grads(loss.backward(), model);
        let own = start(json.clone());
        let mut ranks = Ranks::new();
        for _ in 0..25 {
            (ranks, _) = own.step_with(1e-2, ranks, |ranks| {
                let loss = driver(ranks.joined());
                (loss.clone(), gradients(loss, ranks))
            });
        }
        assert_eq!((own.phase(), refused(&own)), (Phase::Convex, None));
        let optimum: Vec<f32> = (1..=23).map(|i| (i as f32).ln() / 2.0).collect();
        let found: Vec<f32> = ranks.joined().into_data().iter().collect();
        let distance = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(distance(&found, &optimum) < 2e-3, "{found:?}");

        // The first iterations are those of one vector, but for rounding.
        let (few, flat) = (start(json.clone()), start(json.clone()));
        let (mut ranks, mut whole) = (Ranks::new(), Whole { x: Param::from_tensor(Ranks::new().joined().detach()) });
        for _ in 0..6 {
            (ranks, _) = few.step_with(1e-2, ranks, |ranks| {
                let loss = driver(ranks.joined());
                (loss.clone(), gradients(loss, ranks))
            });
            (whole, _) = flat.step_with(1e-2, whole, |whole| {
                let loss = driver(whole.x.val());
                (loss.clone(), GradientsParams::from_grads(loss.backward(), whole))
            });
        }
        assert!(few.counters().iterations >= 3);
        assert_eq!(few.counters(), flat.counters());
        let found: Vec<f32> = ranks.joined().into_data().iter().collect();
        assert!(distance(&found, &values(&whole)) < 1e-4);

        // By the drop-in and by the wrapper too.
        let (plain, attached) = (start(json.clone()), start(json));
        let mut optims = [&plain, &attached].map(|switching| ModuleOptimizer::from(switching.clone()));
        let (mut ranks, mut wrapped) = (Ranks::new(), attached.attach(Ranks::new()));
        for _ in 0..60 {
            let grads = gradients(driver(ranks.joined()), &ranks);
            ranks = optims[0].step(1e-2, ranks, grads);
            let output = TrainStep::step(&wrapped, ());
            wrapped = TrainStep::optimize(wrapped, &mut optims[1], 1e-2.into(), output.grads);
        }
        for (switching, model) in [(&plain, &ranks), (&attached, wrapped.inner())] {
            assert_eq!((switching.phase(), refused(switching)), (Phase::Convex, None));
            let found: Vec<f32> = model.joined().into_data().iter().collect();
            assert!(distance(&found, &optimum) < 1e-2, "{found:?}");
        }
    }
}

// ---- tied parameters ----

/// An autoencoder: one weight, used twice.
#[derive(Module, Debug)]
struct Tied {
    weight: Param<Tensor<2>>,
}

impl Tied {
    fn new() -> Self {
        Self { weight: param([2, 3], 3) }
    }

    fn loss(&self, batch: &Batch) -> Tensor<1> {
        let w = self.weight.val();
        let back = batch.x.clone().matmul(w.clone()).tanh().matmul(w.transpose());
        (back - batch.x.clone()).square().mean()
    }
}

/// The same with two layers, the second a clone of the first's parameter, under one name for Burn.
#[derive(Module, Debug)]
struct Clones {
    encoder: Linear,
    decoder: Linear,
}

impl Clones {
    fn new() -> Self {
        let layer = || LinearConfig::new(2, 2).with_bias(false).init(&device().autodiff());
        let (mut encoder, mut decoder) = (layer(), layer());
        encoder.weight = param([2, 2], 3);
        decoder.weight = encoder.weight.clone();
        Self { encoder, decoder }
    }

    fn loss(&self, batch: &Batch) -> Tensor<1> {
        let back = self.decoder.forward(self.encoder.forward(batch.x.clone()).tanh());
        (back - batch.x.clone()).square().mean()
    }
}

#[test]
fn a_parameter_used_by_two_layers_has_the_gradient_of_both() {
    let batch = all(60);
    let switching = start(at_once());
    let reports = switching.reports();
    let mut tied = Tied::new();
    let mut at_swap = None;
    for call in 0..30 {
        if call == 2 {
            at_swap = Some(tied.clone());
        }
        (tied, _) = switching.step_with(1e-2, tied, |tied| {
            let loss = tied.loss(&batch);
            let grads = GradientsParams::from_grads(loss.backward(), tied);
            (loss, grads)
        });
    }
    assert_eq!((switching.phase(), refused(&switching)), (Phase::Convex, None));
    assert!(switching.counters().iterations >= 5, "{:?}", switching.events());
    // The slope of the loss by differences, in every coordinate, against the norm that was used.
    let at_swap = at_swap.expect("a model");
    let at = |coordinate: usize, shift: f32| {
        let mut data: Vec<f32> = at_swap.weight.val().into_data().iter().collect();
        data[coordinate] += shift;
        let moved = Tied { weight: Param::from_tensor(tensor(data, [2, 3])) };
        f64::from(moved.loss(&batch).into_data().iter::<f32>().next().expect("a loss"))
    };
    let slopes = (0..6).map(|i| (at(i, 1e-2) - at(i, -1e-2)) / 2e-2);
    let norm = slopes.map(|slope| slope * slope).sum::<f64>().sqrt();
    let used = reports.try_iter().find(|report| report.phase == Phase::Convex).expect("an evaluation");
    assert!((used.observation.batch_norm / norm - 1.0).abs() < 1e-2, "{} {norm}", used.observation.batch_norm);
}

#[test]
fn a_parameter_cloned_into_a_second_layer_is_treated_as_burn_treats_it() {
    // Burn's optimizers step the first of the two and leave the second: from then on they are two. Ours counts one
    // parameter, refuses nothing and keeps all numbers finite.
    let batch = all(60);
    let gradients = |model: &Clones| GradientsParams::from_grads(model.loss(&batch).backward(), model);
    for touch in ["plain", "own"] {
        let switching = start(json!({ "detector": swap_at(6), "window": 1 }));
        let (mut ours, mut adam): (ModuleOptimizer, _) = (switching.clone().into(), AdamConfig::new().init());
        let (mut a, mut b) = (Clones::new(), Clones::new());
        for pass in 0..40 {
            a = match touch {
                "plain" => ours.step(1e-2, a.clone(), gradients(&a)),
                _ => switching.step_with(1e-2, a, |model| (model.loss(&batch), gradients(model))).0,
            };
            if pass < 6 {
                b = adam.step(1e-2, b.clone(), gradients(&b));
                assert_eq!(values(&a), values(&b), "{touch}");
            }
            assert!(values(&a).iter().all(|x| x.is_finite()), "{touch}: {:?}", switching.events());
        }
        assert_eq!(refused(&switching), None);
        assert_eq!(count(&switching, |kind| matches!(kind, EventKind::Swap { .. })).min(1), 1);
    }
}

// ---- thawed parameters ----

/// Sets whether matrices of one column are trained: the weight of the second layer.
struct Thaw(bool);

impl ModuleMapper for Thaw {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match param.shape().as_slice() {
            [_, 1] => param.set_require_grad(self.0),
            _ => param,
        }
    }
}

fn frozen() -> Net {
    Net::new(6, 3).map(&mut Thaw(false))
}

fn hand_backs(switching: &ConvexitySwitching) -> Vec<String> {
    let events = switching.events().into_iter();
    let reasons = events.filter_map(|event| match event.kind {
        EventKind::HandBack { reason, .. } => Some(reason),
        _ => None,
    });
    reasons.collect()
}

#[test]
fn a_parameter_thawed_before_the_swap_is_trained_from_then_on() {
    let json = json!({ "detector": swap_at(6), "window": 1, "safe_resort": { "enabled": false } });
    let (switching, batch) = (start(json), all(32));
    let mut net = frozen();
    for call in 0..30 {
        if call == 3 {
            net = net.map(&mut Thaw(true));
        }
        (net, _) = switching.step_with(1e-2, net, objective(&batch));
    }
    assert_eq!((switching.phase(), refused(&switching)), (Phase::Convex, None), "{:?}", switching.events());
    assert_ne!(values(&net.second.weight), values(&frozen().second.weight));
    assert!(switching.counters().iterations >= 5);
}

#[test]
fn a_parameter_thawed_in_the_convex_phase_ends_it_and_the_next_one_has_it() {
    let json = json!({
        "detector": swap_at(2),
        "window": 1,
        "safe_resort": { "enabled": false, "hold_off": 2 },
    });
    let batch = all(32);
    let own = |switching: &ConvexitySwitching| {
        let mut net = frozen();
        for call in 0..40 {
            net = if call == 8 { net.map(&mut Thaw(true)) } else { net };
            (net, _) = switching.step_with(1e-2, net, objective(&batch));
        }
        net
    };
    let plain = |switching: &ConvexitySwitching| {
        let (mut net, mut optim) = (frozen(), ModuleOptimizer::from(switching.clone()));
        for pass in 0..80 {
            net = if pass == 21 { net.map(&mut Thaw(true)) } else { net };
            net = optim.step(1e-2, net.clone(), objective(&batch)(&net).1);
        }
        net
    };
    let attached = |switching: &ConvexitySwitching| {
        let (mut net, mut optim) = (switching.attach(frozen()), ModuleOptimizer::from(switching.clone()));
        for pass in 0..80 {
            net = if pass == 21 { net.map(&mut Thaw(true)) } else { net };
            let output = TrainStep::step(&net, batch.clone());
            net = TrainStep::optimize(net, &mut optim, 1e-2.into(), output.grads);
        }
        net.into_inner()
    };
    type Run<'a> = &'a dyn Fn(&ConvexitySwitching) -> Net;
    for (name, run) in [("own", &own as Run<'_>), ("plain", &plain), ("attached", &attached)] {
        let switching = start(json.clone());
        let net = run(&switching);
        let reasons = hand_backs(&switching);
        let for_it = reasons.iter().filter(|reason| reason.contains("3 parameters had a gradient"));
        assert_eq!(for_it.count(), 1, "{name}: {reasons:?}");
        assert_eq!((switching.phase(), refused(&switching)), (Phase::Convex, None), "{name}: {:?}", switching.events());
        assert_ne!(values(&net.second.weight), values(&frozen().second.weight), "{name}");
        assert!(mean_loss(&net, 32) < mean_loss(&frozen(), 32), "{name}");
    }
}

#[test]
fn a_parameter_frozen_between_trial_points_stays_at_the_accepted_point() {
    let json = json!({
        "detector": swap_at(2),
        "window": 1,
        "line_search": { "kind": "strong_wolfe" },
        "safe_resort": { "enabled": false },
    });
    let batch = all(32);
    let mut at_trial_points = 0;
    for freeze in 8..20 {
        let switching = start(json.clone());
        let reports = switching.reports();
        let (mut net, mut optim) = (switching.attach(Net::new(6, 3)), ModuleOptimizer::from(switching.clone()));
        for _ in 0..freeze {
            let output = TrainStep::step(&net, batch.clone());
            net = TrainStep::optimize(net, &mut optim, 0.3.into(), output.grads);
        }
        assert_eq!(switching.phase(), Phase::Convex);
        at_trial_points += usize::from(reports.try_iter().last().is_some_and(|report| !report.accepted));
        let (shown, loss) = (values(net.inner()), switching.accepted_loss().expect("a loss"));
        net = net.map(&mut Thaw(false));
        let output = TrainStep::step(&net, batch.clone());
        net = TrainStep::optimize(net, &mut optim, 0.3.into(), output.grads);
        assert_eq!(hand_backs(&switching).len(), 1, "{:?}", switching.events());
        assert_eq!(values(net.inner()), shown, "frozen behind {freeze}");
        assert!((mean_loss(net.inner(), 32) - loss).abs() < 1e-6 * loss.max(1.0));
    }
    assert!(at_trial_points > 0);
}

#[test]
fn a_phase_left_on_the_way_back_from_a_worse_running_average_ends_at_the_last_point() {
    // A small learning rate leaves the running average behind the last point.
    let json = json!({ "detector": swap_at(6), "window": 1, "start": "average", "metric": "inner" });
    let batch = all(32);
    let nothing = Batch { x: batch.x.clone().mul_scalar(f32::NAN), ..batch.clone() };
    let mut on_the_way = [0; 3];
    for (at, (freezes, resumes)) in [(true, false), (false, false), (true, true)].into_iter().enumerate() {
        for passes in 6..10 {
            let mut switching = start(json.clone());
            let (mut net, mut optim) = (switching.attach(Net::new(6, 3)), ModuleOptimizer::from(switching.clone()));
            let step = |net, optim: &mut ModuleOptimizer, batch: &Batch| {
                let output = TrainStep::step(&net, batch.clone());
                TrainStep::optimize(net, optim, 1e-3.into(), output.grads)
            };
            for _ in 0..passes {
                net = step(net, &mut optim, &batch);
            }
            let started = switching.events().into_iter().any(|event| match event.kind {
                EventKind::Start { last, average } => last < average,
                _ => false,
            });
            if !started || switching.counters().iterations > 0 || switching.counters().gradient_evaluations > 2 {
                continue;
            }
            on_the_way[at] += 1;
            let (shown, loss) = (values(net.inner()), switching.accepted_loss().expect("a loss"));
            if resumes {
                let (record, weights) = bytes(&optim, net);
                switching = start(json.clone());
                optim = ModuleOptimizer::from(switching.clone()).from_bytes(record).expect("a record");
                let weights = ModuleRecord::from_bytes(weights).expect("a record");
                net = switching.attach(Net::new(6, 77)).load_record(weights);
            }
            net = if freezes { net.map(&mut Thaw(false)) } else { net };
            for _ in 0..1 + usize::from(resumes) {
                net = step(net, &mut optim, if freezes { &batch } else { &nothing });
            }
            assert_eq!(hand_backs(&switching).len(), 1, "{:?}", switching.events());
            assert_eq!(values(net.inner()), shown, "{freezes} {resumes} behind {passes}");
            assert_eq!(switching.accepted_loss(), Some(loss));
            assert!((mean_loss(net.inner(), 32) - loss).abs() < 1e-6 * loss.max(1.0));
        }
    }
    assert_eq!(on_the_way, [1, 1, 1]);
}

/// A network and one beside it, whose loss is part of the objective for a while.
#[derive(Module, Debug)]
struct Two {
    main: Net,
    beside: Net,
}

#[test]
fn a_layer_that_is_used_no_more_when_the_swap_comes_is_no_part_of_the_convex_phase() {
    let json = json!({ "detector": swap_at(6), "window": 1, "safe_resort": { "enabled": false } });
    let (switching, batch) = (start(json), all(32));
    let mut net = Two { main: Net::new(6, 3), beside: Net::new(4, 5) };
    let mut beside = Vec::new();
    for call in 0..30 {
        (net, _) = switching.step_with(1e-2, net, |net| {
            let loss = net.main.loss(&batch);
            let loss = if call < 3 { loss + net.beside.loss(&batch) } else { loss };
            let grads = GradientsParams::from_grads(loss.backward(), net);
            (loss, grads)
        });
        if call == 2 {
            beside = values(&net.beside);
        }
    }
    assert_eq!((switching.phase(), hand_backs(&switching)), (Phase::Convex, Vec::new()));
    assert!(switching.counters().iterations > 10, "{:?}", switching.events());
    assert_eq!(values(&net.beside), beside);
}

#[test]
fn an_own_loop_whose_parameters_are_all_frozen_refuses_and_goes_on() {
    struct All(bool);
    impl ModuleMapper for All {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.set_require_grad(self.0)
        }
    }

    let (switching, batch) = (start(json!({ "detector": swap_at(2), "window": 1 })), all(32));
    let mut net = Net::new(6, 3);
    for _ in 0..6 {
        (net, _) = switching.step_with(1e-2, net, objective(&batch));
    }
    assert_eq!(switching.phase(), Phase::Convex);
    net = net.map(&mut All(false));
    for _ in 0..3 {
        let outcome;
        (net, outcome) = switching.step_with(1e-2, net, |net| (net.loss(&batch), GradientsParams::new()));
        assert_eq!((outcome.evaluations, refused(&switching)), (1, Some(Refusal::NoParameters)));
    }
    // The inner optimizer goes on with them once they are there again.
    net = net.map(&mut All(true));
    let before = values(&net);
    let mut first = None;
    for _ in 0..3 {
        (net, _) = switching.step_with(1e-2, net, |net| {
            first.get_or_insert_with(|| values(net));
            objective(&batch)(net)
        });
    }
    assert_eq!(switching.phase(), Phase::NonConvex);
    // From the accepted point, where the frozen ones stood.
    assert_eq!(first.as_ref(), Some(&before));
    assert_ne!(values(&net), before);
}

// ---- a parameter of another shape ----

/// One name for Burn, another number of columns.
fn grown(mut net: Net) -> Net {
    let wide = |param: &Param<Tensor<2>>, shape: [usize; 2]| {
        let data = vec![0.1; shape[0] * shape[1]];
        Param::initialized(param.id, tensor(data, shape).require_grad())
    };
    net.first.weight = wide(&net.first.weight, [2, 9]);
    net.first.bias = None;
    net.second.weight = wide(&net.second.weight, [9, 1]);
    net
}

/// What Burn says where a parameter grows behind some passes; `None` where it says nothing.
fn complaint(mut optim: ModuleOptimizer, passes: usize) -> Option<String> {
    let (batch, mut net) = (all(32), Net::new(6, 1));
    for _ in 0..passes {
        net = optim.step(1e-2, net.clone(), objective(&batch)(&net).1);
    }
    let mut net = grown(net);
    let going_on = || {
        for _ in 0..6 {
            net = optim.step(1e-2, net.clone(), objective(&batch)(&net).1);
        }
    };
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(going_on)).err()?;
    Some(panic.downcast_ref::<String>().cloned().unwrap_or_default())
}

#[test]
fn a_parameter_that_changes_its_shape_stops_the_program_as_it_does_with_burn_s_adam() {
    // No typed refusal: Burn's tensors panic at the first sum of old and new, and the message names both sizes.
    let shapes = |complaint: Option<String>| complaint.is_some_and(|text| text.contains("incompatible shapes"));
    assert!(shapes(complaint(AdamConfig::new().init(), 5)));
    let adam = json!({ "detector": { "kind": "never" }, "window": 4 });
    let convex = json!({ "detector": swap_at(1), "window": 1 });
    for (json, passes) in [(&adam, 4), (&adam, 5), (&convex, 12), (&convex, 13)] {
        assert!(shapes(complaint(start(json.clone()).into(), passes)), "{json} {passes}");
    }
}

// ---- sums over uneven batches ----

/// Loss and gradient norm of the first evaluation, with a learning rate of 0: at the weights of the beginning.
fn first_evaluation(samples: usize, batch_size: usize, accumulation: usize) -> (f64, f64) {
    let dir = tempfile::tempdir().expect("a folder");
    let switching = start(json!({ "detector": swap_at(1), "metric": "identity" }));
    let reports = switching.reports();
    let train = switching.track(loader(samples, batch_size));
    let learner = Learner::new(switching.attach(Net::new(8, 1)), switching.clone().into(), 0.0);
    let (training, _) = training(dir.path(), train, loader(samples, samples));
    let result = training.grads_accumulation(accumulation).num_epochs(3).launch(learner);
    assert!(result.error.is_none());
    let report: Report = reports.try_iter().find(|report| report.phase == Phase::Convex).expect("an evaluation");
    (report.observation.loss.expect("a loss"), report.observation.mean_norm)
}

/// Loss and gradient norm of a mean of losses.
fn by_hand(losses: impl Fn(&Net) -> Tensor<1>) -> (f64, f64) {
    let net = Net::new(8, 1);
    let loss = losses(&net);
    let grads = GradientsParams::from_grads(loss.backward(), &net);
    let squares = |data: TensorData| data.iter::<f64>().map(|g| g * g).sum::<f64>();
    let weight = |layer: &Linear| squares(grads.get::<2>(layer.weight.id).expect("a gradient").into_data());
    let bias = |layer: &Linear| {
        squares(grads.get::<1>(layer.bias.as_ref().expect("a bias").id).expect("a gradient").into_data())
    };
    let norm = weight(&net.first) + weight(&net.second) + bias(&net.first) + bias(&net.second);
    (f64::from(loss.into_data().iter::<f32>().next().expect("a loss")), norm.sqrt())
}

fn agree(found: (f64, f64), expected: (f64, f64)) {
    assert!((found.0 / expected.0 - 1.0).abs() < 1e-5, "{found:?} {expected:?}");
    assert!((found.1 / expected.1 - 1.0).abs() < 1e-4, "{found:?} {expected:?}");
}

#[test]
fn groups_of_equal_batches_before_a_short_one_are_weighted_by_their_samples() {
    // 16 + 16 + 16 in one pass, 12 in the other: the mean over all 60.
    agree(first_evaluation(60, 16, 3), by_hand(|net| net.loss(&all(60))));
}

#[test]
fn a_group_with_a_short_batch_is_the_mean_of_its_batches_in_loss_and_gradient_alike() {
    // 16 + 16 + 8 in one pass: Burn hands over the sum of the three gradients, whose sizes no one can undo. Loss and
    // gradient are of one function, the mean over the three batches, which is not the mean over the 40 samples.
    let batches: Vec<Batch> = loader(40, 16).iter().map(|batch| batch.expect("a batch")).collect();
    let mean =
        |net: &Net| batches.iter().map(|batch| net.loss(batch)).reduce(|a, b| a + b).expect("three").div_scalar(3.0);
    agree(first_evaluation(40, 16, 3), by_hand(mean));
    let (loss, _) = by_hand(|net| net.loss(&all(40)));
    assert!((first_evaluation(40, 16, 3).0 / loss - 1.0).abs() > 1e-3);
}

#[test]
fn norms_of_accumulated_batches_are_those_of_their_mean_gradient() {
    let batches: Vec<Batch> = loader(64, 16).iter().map(|batch| batch.expect("a batch")).collect();
    let gradients: Vec<_> = batches.iter().map(|batch| gradient(&Net::new(8, 1), batch)).collect();
    let norm = |of: &[Vec<f64>]| {
        let mean = (0..of[0].len()).map(|at| of.iter().map(|g| g[at]).sum::<f64>() / of.len() as f64);
        mean.map(|mean| mean * mean).sum::<f64>().sqrt()
    };
    let batch_norm = (norm(&gradients[..2]) + norm(&gradients[2..])) / 2.0;
    let mean_norm = norm(&gradients);
    for attached in [true, false] {
        // No step moves anything: all gradients are of one point.
        let report = if attached { accumulated_by_attach(&batches) } else { accumulated_by_track() };
        let seen = report.observation;
        assert!((seen.batch_norm / batch_norm - 1.0).abs() < 1e-5, "{attached} {} {batch_norm}", seen.batch_norm);
        assert!((seen.mean_norm / mean_norm - 1.0).abs() < 1e-5, "{attached} {} {mean_norm}", seen.mean_norm);
    }
}

/// The first window of two passes with two batches each.
fn accumulated_by_attach(batches: &[Batch]) -> Report {
    let switching = start(json!({ "window": 2, "detector": { "kind": "never" } }));
    let reports = switching.reports();
    let mut optim: ModuleOptimizer = switching.clone().into();
    let mut model = switching.attach(Net::new(8, 1));
    for pair in batches.chunks(2).chain([&batches[..1]]) {
        let net = model.inner().clone();
        let mut sum = GradientsAccumulator::new();
        for batch in pair {
            sum.accumulate(&net, TrainStep::step(&model, batch.clone()).grads);
        }
        model = TrainStep::optimize(model, &mut optim, 0.0.into(), sum.grads());
    }
    reports.try_iter().next().expect("a window")
}

/// The same from a loader that is tracked, with no model attached.
fn accumulated_by_track() -> Report {
    let switching = start(json!({ "detector": { "kind": "never" } }));
    let reports = switching.reports();
    let train = switching.track(loader(64, 16));
    let mut optim: ModuleOptimizer = switching.clone().into();
    let mut net = Net::new(8, 1);
    for _ in 0..2 {
        let mut sum = GradientsAccumulator::new();
        for (at, batch) in burn::data::dataloader::DataLoader::iter(train.as_ref()).enumerate() {
            sum.accumulate(&net, objective(&batch.expect("a batch"))(&net).1);
            if at % 2 == 1 {
                net = optim.step(0.0, net, sum.grads());
            }
        }
    }
    reports.try_iter().next().expect("a window")
}

// ---- several devices by hand ----

#[test]
fn gradients_of_two_devices_are_those_accumulated_on_one_bit_for_bit() {
    // `flex` has one device, so both handles are it: what differs is Burn's path, `step_multi` for `step`.
    let batches: Vec<Batch> = loader(60, 30).iter().map(|batch| batch.expect("a batch")).collect();
    for attached in [true, false] {
        let run = |multi: bool| {
            let switching = start(json!({ "detector": swap_at(5), "window": 1, "metric": "identity" }));
            let reports = switching.reports();
            let mut optim: ModuleOptimizer = switching.clone().into();
            let (mut wrapped, mut bare) = (switching.attach(Net::new(8, 1)), Net::new(8, 1));
            let switching = if attached { switching } else { start(at_once()) };
            if !attached {
                optim = switching.clone().into();
            }
            let mut at_swap = None;
            for pass in 0..40 {
                if pass == 5 {
                    at_swap = Some(wrapped.inner().clone());
                }
                let net = if attached { wrapped.inner().clone() } else { bare.clone() };
                let grads: Vec<_> = batches
                    .iter()
                    .map(|batch| match attached {
                        true => TrainStep::step(&wrapped, batch.clone()).grads,
                        false => objective(batch)(&net).1,
                    })
                    .collect();
                if multi {
                    let grads = grads.into_iter().map(|grads| (grads, device())).collect();
                    let grads = MultiGradientsParams { grads };
                    match attached {
                        true => wrapped = TrainStep::optimize_multi(wrapped, &mut optim, 1e-2.into(), grads),
                        false => bare = optim.step_multi(1e-2, bare, grads),
                    }
                } else {
                    let mut accumulator = GradientsAccumulator::new();
                    grads.into_iter().for_each(|grads| accumulator.accumulate(&net, grads));
                    let grads = accumulator.grads();
                    match attached {
                        true => wrapped = TrainStep::optimize(wrapped, &mut optim, 1e-2.into(), grads),
                        false => bare = optim.step(1e-2, bare, grads),
                    }
                }
            }
            assert_eq!(refused(&switching), None);
            assert!(switching.counters().iterations >= 3, "{:?}", switching.events());
            if attached {
                // The first evaluation is that of all 60 samples.
                let report = reports.try_iter().find(|report| report.phase == Phase::Convex).expect("an evaluation");
                let loss = mean_loss(&at_swap.expect("a model"), 60);
                assert!((report.observation.loss.expect("a loss") / loss - 1.0).abs() < 1e-6);
            }
            (if attached { values(wrapped.inner()) } else { values(&bare) }, switching.counters())
        };
        assert_eq!(run(true), run(false), "attached {attached}");
    }
}

// ---- the learning rate ----

#[test]
fn the_learning_rate_of_the_swap_is_the_length_of_the_first_trial_and_later_ones_mean_nothing() {
    let batch = all(60);
    let run = |metric: &str, later: f64| {
        let switching = start(json!({
            "detector": swap_at(3),
            "window": 1,
            "metric": metric,
            "metric_renewal": 3.0,
            "start": "last",
            "evaluation": { "check": false },
            "safe_resort": { "enabled": false },
        }));
        let reports = switching.reports();
        let mut net = Net::new(8, 1);
        for rate in [1e-2, 5e-3, 2e-3].into_iter().chain([later; 12]) {
            (net, _) = switching.step_with(rate, net, objective(&batch));
        }
        assert!(switching.counters().iterations >= 10, "{:?}", switching.events());
        let reports: Vec<Report> = reports.try_iter().filter(|report| report.phase == Phase::Convex).collect();
        (
            values(&net),
            switching.counters(),
            reports[0].observation.batch_norm,
            reports[1].step_length.expect("a trial"),
        )
    };
    // In Adam's metric the step length itself; else the Euclidean length, as if every parameter moved by the rate.
    let (.., step) = run("inner", 2e-3);
    assert_eq!(step, 2e-3);
    let (_, _, norm, step) = run("identity", 2e-3);
    let length = 2e-3 * f64::from(8 * 2 + 8 + 8 + 1).sqrt();
    assert!((step * norm / length - 1.0).abs() < 1e-5, "{step} {norm} {length}");
    for metric in ["inner", "identity", "kronecker"] {
        for later in [0.0, 10.0, 1e30] {
            assert_eq!(run(metric, later), run(metric, 2e-3), "{metric} {later}");
        }
    }
}

#[test]
fn behind_a_hand_back_the_learning_rate_is_the_inner_optimizer_s_again() {
    let batch = all(60);
    let json = json!({
        "detector": swap_at(3),
        "window": 1,
        "safe_resort": { "stall_gain": 0.99, "stall_cost": 0.5, "hold_off": 50 },
    });
    let moved = |rate: f64| {
        let (switching, mut net) = (start(json.clone()), Net::new(8, 1));
        while hand_backs(&switching).is_empty() {
            (net, _) = switching.step_with(1e-2, net, objective(&batch));
        }
        let before = values(&net);
        (net, _) = switching.step_with(rate, net, objective(&batch));
        before.iter().zip(values(&net)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    assert_eq!(moved(0.0), 0.0);
    let (one, ten) = (moved(1e-3), moved(1e-2));
    assert!(one > 0.0 && (ten / one - 10.0).abs() < 1e-2, "{one} {ten}");
}
