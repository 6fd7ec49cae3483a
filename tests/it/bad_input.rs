//! Every case of bad input ends in a typed error or in the documented behaviour, never in a panic of ours or a silently
//! wrong step.

use burn::module::{Module, Param, ParamGroup};
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::{DType, Tensor, TensorData};
use burn::train::{Learner, LearningResult, TrainStep, TrainingError};
use burn_convexity::{ConfigError, ConvexitySwitching, ConvexitySwitchingConfig, EventKind, InitError, Phase, Refusal};
use serde_json::{Value, json};

use crate::support::{
    Batch, Net, all, config, count, device, gradient, loader, mean_loss, objective, refused, swap_at, training, values,
};

fn start(json: Value) -> ConvexitySwitching {
    config(json).init().expect("valid")
}

fn adam_then(window: u64) -> Value {
    json!({ "detector": swap_at(window), "window": 1 })
}

fn invalid(json: &str) -> String {
    match ConvexitySwitchingConfig::from_json(json, "switching.json") {
        Err(error @ ConfigError::Invalid { .. }) => error.to_string(),
        other => panic!("{json} gave {other:?}"),
    }
}

/// One vector of parameters, of any element type.
#[derive(Module, Debug)]
struct Point {
    x: Param<Tensor<1>>,
    more: Option<Param<Tensor<1>>>,
}

impl Point {
    fn new(values: &[f32], dtype: DType) -> Self {
        Self { x: parameter(values, dtype), more: None }
    }

    /// `sum (x - 1)^2`, times `c`.
    fn loss(&self, c: f32) -> Tensor<1> {
        (self.x.val() - 1.0).square().sum().mul_scalar(c)
    }
}

fn parameter(values: &[f32], dtype: DType) -> Param<Tensor<1>> {
    let device = device().autodiff();
    let tensor = Tensor::<1>::from_data(TensorData::from(values).convert_dtype(dtype), (&device, dtype));
    Param::from_tensor(tensor)
}

fn step(switching: &ConvexitySwitching, point: Point, loss: impl Fn(&Point) -> Tensor<1>) -> Point {
    let (point, _) = switching.step_with(1e-2, point, |point| {
        let loss = loss(point);
        let grads = GradientsParams::from_grads(loss.backward(), point);
        (loss, grads)
    });
    point
}

fn refusal_of(result: &LearningResult<burn_convexity::Attached<Net>>) -> Refusal {
    let error = result.error.clone().expect("an error");
    let TrainingError::Dataset(error) = error.as_ref() else { panic!("{error}") };
    let source = std::error::Error::source(error).expect("a source");
    source.downcast_ref::<Refusal>().expect("a refusal").clone()
}

#[test]
fn wrong_json_a_missing_file_and_values_out_of_range_are_typed_errors_that_name_the_place() {
    assert!(invalid("{ \"detector\": ").starts_with("switching.json:1:"));
    assert!(invalid(r#"{ "detectr": {} }"#).contains(r#"did you mean "detector"?"#));
    for threshold in ["0", "-0.5", "1.01", "1e400", "\"high\""] {
        let json = format!(r#"{{ "detector": {{ "kind": "gradient_norm_peak", "threshold": {threshold} }} }}"#);
        let error = invalid(&json);
        assert!(error.starts_with("switching.json:1:"), "{error}");
        assert!(threshold == "1e400" || error.contains("threshold"), "{error}");
    }
    for json in [
        r#"{ "window": 0 }"#,
        r#"{ "evaluation": { "batches": 0 } }"#,
        r#"{ "detector": { "kind": "at_window", "window": 0 } }"#,
    ] {
        assert!(invalid(json).contains("at least 1"), "{}", invalid(json));
    }
    let missing = ConvexitySwitchingConfig::load("no/such/file.json").expect_err("there is none");
    assert!(matches!(&missing, ConfigError::Unreadable { path, .. } if path.ends_with("no/such/file.json")));
    // Built in Rust instead of loaded: refused when the optimizer is made.
    let built = ConvexitySwitchingConfig { window: Some(0), ..Default::default() };
    assert!(matches!(built.init(), Err(InitError::Config(ConfigError::Invalid { .. }))));
}

#[test]
fn a_model_without_trainable_parameters_is_refused_by_name() {
    let switching = start(adam_then(1));
    let mut point = Point::new(&[0.0; 3], DType::F32).no_grad();
    for _ in 0..3 {
        (point, _) = switching.step_with(1e-2, point, |point| (point.loss(1.0), GradientsParams::new()));
    }
    assert_eq!(refused(&switching), Some(Refusal::NoParameters));
    assert_eq!((switching.phase(), values(&point)), (Phase::NonConvex, vec![0.0; 3]));
}

#[test]
fn gradients_that_are_all_zero_converge_at_once_and_move_nothing() {
    for direction in [json!({ "kind": "l_bfgs" }), json!({ "kind": "conjugate_gradient" })] {
        let mut json = adam_then(1);
        json["direction"] = direction;
        let switching = start(json);
        let mut point = Point::new(&[1.0; 3], DType::F32);
        for call in 0..5 {
            // The first ends the window, the second is the evaluation that finds nothing to gain.
            assert_eq!(switching.has_converged(), call >= 2);
            point = step(&switching, point, |point| point.loss(1.0));
        }
        assert_eq!(values(&point), vec![1.0; 3]);
        assert_eq!(count(&switching, |kind| matches!(kind, EventKind::Converged { .. })), 1);
        assert_eq!(switching.counters().iterations, 0);
    }
    // The published rule never swaps on them.
    let switching = start(json!({ "window": 1 }));
    let mut point = Point::new(&[1.0; 3], DType::F32);
    for _ in 0..5 {
        point = step(&switching, point, |point| point.loss(1.0));
    }
    assert_eq!(switching.phase(), Phase::NonConvex);
}

#[test]
fn a_loss_that_is_not_finite_in_the_non_convex_phase_is_an_event_and_the_step_is_adam_s() {
    for c in [f32::NAN, f32::INFINITY, 1.0] {
        let switching = start(json!({ "detector": { "kind": "never" }, "window": 1 }));
        let mut adam: ModuleOptimizer = AdamConfig::new().init();
        let (mut a, mut b) = (Point::new(&[0.0; 3], DType::F32), Point::new(&[0.0; 3], DType::F32));
        for c in [1.0, c, 1.0] {
            a = step(&switching, a, |point| point.loss(c));
            let grads = GradientsParams::from_grads(b.loss(c).backward(), &b);
            b = adam.step(1e-2, b, grads);
        }
        let bits = |point: &Point| values(point).iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&a), bits(&b));
        let told = count(&switching, |kind| matches!(kind, EventKind::NonFinite { phase: Phase::NonConvex, .. }));
        assert_eq!(told > 0, !c.is_finite());
    }
}

/// What goes wrong with the objective behind a wall.
const WALLS: [f32; 2] = [f32::NAN, f32::INFINITY];

#[test]
fn trials_that_are_not_finite_shrink_the_step_and_leave_the_parameters_finite() {
    for search in ["hager_zhang", "strong_wolfe", "golden_section"] {
        for wall in WALLS {
            let mut json = adam_then(1);
            json["line_search"] = json!({ "kind": search });
            json["metric"] = json!("identity");
            let switching = start(json);
            // The wall stands before the minimum, where the objective still falls: a search that lengthens its step runs
            // into it.
            let mut point = Point::new(&[-5.0, -3.0, -7.0], DType::F32);
            let mut non_finite = 0;
            for _ in 0..6 {
                let outcome;
                let from = values(&point);
                let mut too_far = f32::INFINITY;
                (point, outcome) = switching.step_with(1e-2, point, |point| {
                    let away = values(point).iter().zip(&from).map(|(x, from)| (x - from).abs()).fold(0.0, f32::max);
                    assert!(away <= too_far, "{search} {wall}: from {too_far} to {away}");
                    let loss = point.loss(1.0);
                    let beyond = values(point).iter().sum::<f32>() > -2.0;
                    non_finite += usize::from(beyond);
                    too_far = if beyond { away } else { too_far };
                    let loss = if beyond { loss.mul_scalar(wall) } else { loss };
                    let grads = GradientsParams::from_grads(loss.backward(), point);
                    (loss, grads)
                });
                assert!(values(&point).iter().all(|x| x.is_finite()), "{search} {wall}");
                assert!(outcome.loss.is_none_or(f64::is_finite));
                if count(&switching, |kind| matches!(kind, EventKind::HandBack { .. })) > 0 {
                    break; // Adam steps where it likes.
                }
            }
            let told = count(&switching, |kind| matches!(kind, EventKind::NonFinite { phase: Phase::Convex, .. }));
            assert!(non_finite > 0 && told == non_finite, "{search} {wall}: {told} of {non_finite}");
            // At the wall's foot the loss is 28; the start has 116.
            let loss = point.loss(1.0).into_data().iter::<f32>().next();
            assert!(loss < Some(100.0), "{search} {wall}: {loss:?} {:?}", switching.events());
        }
    }
}

#[test]
fn an_objective_that_turns_infinite_for_good_hands_back_to_adam_from_the_accepted_point() {
    for wall in WALLS {
        for at in [1, 4] {
            // Three evaluations leave the last trial at a distance from the accepted point that f32 resolves.
            let mut json = adam_then(1);
            json["line_search"] = json!({ "kind": "hager_zhang", "max_evaluations": 3 });
            let switching = start(json);
            let mut point = Point::new(&[-5.0, 3.0, 7.0], DType::F32);
            let mut accepted = values(&point);
            for call in 0..6 {
                let c = if call >= at { wall } else { 1.0 };
                let outcome;
                (point, outcome) = switching.step_with(1e-2, point, |point| {
                    let loss = point.loss(c);
                    let grads = GradientsParams::from_grads(loss.backward(), point);
                    (loss, grads)
                });
                if switching.phase() == Phase::NonConvex && call > 0 {
                    assert!(call >= at && !outcome.accepted);
                    break;
                }
                accepted = values(&point);
            }
            assert_eq!(switching.phase(), Phase::NonConvex, "{wall} from {at}");
            assert_eq!(values(&point), accepted);
            assert_eq!(count(&switching, |kind| matches!(kind, EventKind::HandBack { .. })), 1);
        }
    }
}

#[test]
fn a_gradient_that_is_not_finite_under_a_finite_loss_is_no_point_to_stand_on() {
    let switching = start(adam_then(1));
    let mut point = Point::new(&[0.5, 2.0, 3.0], DType::F32);
    for _ in 0..8 {
        (point, _) = switching.step_with(1e-2, point, |point| {
            let loss = point.loss(1.0);
            let mut grads = GradientsParams::from_grads(loss.backward(), point);
            if values(point).iter().sum::<f32>() < 4.0 {
                let none = Tensor::<1>::from_data(TensorData::from([0.5, f32::NAN, -0.5]), &device());
                grads.register(point.x.id, none);
            }
            (loss, grads)
        });
        if count(&switching, |kind| matches!(kind, EventKind::HandBack { .. })) > 0 {
            break; // Adam steps where it likes, and its own steps are not ours to refuse.
        }
        assert!(values(&point).iter().all(|x| x.is_finite()), "{:?}", switching.events());
    }
    assert!(count(&switching, |kind| matches!(kind, EventKind::NonFinite { phase: Phase::Convex, .. })) > 0);
}

#[test]
fn parameters_of_f64_work_in_f64() {
    if !device().supports_dtype(DType::F64) {
        return; // as behind `wgpu`, whose shaders have none
    }
    let switching = start(adam_then(1));
    let mut point = Point::new(&[-5.0, 3.0, 7.0], DType::F64);
    for _ in 0..25 {
        point =
            step(&switching, point, |point| (point.x.val() - 1.0).square().sum() + (point.x.val() - 1.0).exp().sum());
    }
    assert_eq!((switching.phase(), refused(&switching)), (Phase::Convex, None));
    assert_eq!(point.x.val().dtype(), DType::F64);
    // 2 z + exp(z) = 0 at z = -W(1/2) = -0.351733711249196 (Lambert's W); f32 would stop at about 1e-4.
    for x in point.x.val().into_data().iter::<f64>() {
        assert!((x - (1.0 - 0.351_733_711_249_196)).abs() < 1e-7, "{x}");
    }
}

#[test]
fn parameters_of_two_element_types_go_along_one_line() {
    if !device().supports_dtype(DType::F64) {
        return;
    }
    let switching = start(adam_then(1));
    let mut point =
        Point { x: parameter(&[-5.0, 3.0], DType::F32), more: Some(parameter(&[4.0, 7.0, 9.0], DType::F64)) };
    for _ in 0..14 {
        point = step(&switching, point, |point| {
            let more = (point.more.as_ref().expect("it has").val() - 2.0).square().sum().mul_scalar(20.0);
            point.loss(1.0) + more.cast(DType::F32)
        });
    }
    assert_eq!((switching.phase(), refused(&switching)), (Phase::Convex, None), "{:?}", switching.events());
    let more = point.more.as_ref().expect("it has").val();
    assert_eq!((point.x.val().dtype(), more.dtype()), (DType::F32, DType::F64));
    assert!(point.x.val().into_data().iter::<f64>().all(|x| (x - 1.0).abs() < 1e-3), "{point:?}");
    assert!(more.into_data().iter::<f64>().all(|x| (x - 2.0).abs() < 1e-3), "{point:?}");
}

#[test]
fn parameters_in_half_precision_are_refused_by_name_and_go_on_with_adam() {
    // NdArray has neither, and many a GPU behind `wgpu` but one.
    for dtype in [DType::F16, DType::BF16].into_iter().filter(|dtype| device().supports_dtype(*dtype)) {
        let switching = start(adam_then(2));
        let mut adam: ModuleOptimizer = AdamConfig::new().init();
        let (mut a, mut b) = (Point::new(&[0.0; 3], dtype), Point::new(&[0.0; 3], dtype));
        for _ in 0..4 {
            a = step(&switching, a, |point| point.loss(1.0));
            let grads = GradientsParams::from_grads(b.loss(1.0).backward(), &b);
            b = adam.step(1e-2, b, grads);
        }
        assert_eq!(refused(&switching), Some(Refusal::Precision { dtype: format!("{dtype:?}") }));
        assert_eq!((switching.phase(), values(&a)), (Phase::NonConvex, values(&b)));
    }
}

#[test]
fn a_parameter_without_gradient_and_a_frozen_one_stand_still_and_change_no_other() {
    // That they change no bit is in `metamorphic.rs`, by the own loop; here through `attach`.
    let run = |more: Option<bool>| {
        let switching = start(json!({ "detector": swap_at(2), "window": 1 }));
        let mut optim: ModuleOptimizer = switching.clone().into();
        let mut wrapped = switching.attach(Wider {
            net: Net::new(6, 3),
            more: more.map(|frozen| parameter(&[4.0; 3], DType::F32).set_require_grad(!frozen)),
        });
        for _ in 0..12 {
            let output = TrainStep::step(&wrapped, all(32));
            wrapped = TrainStep::optimize(wrapped, &mut optim, 1e-2.into(), output.grads);
        }
        assert_eq!((switching.phase(), refused(&switching)), (Phase::Convex, None));
        let model = wrapped.into_inner();
        if let Some(more) = &model.more {
            assert_eq!(more.val().into_data().iter::<f32>().collect::<Vec<_>>(), [4.0; 3]);
        }
        (model.net.values(), switching.counters())
    };
    let plain = run(None);
    assert!(plain.1.iterations > 2);
    assert_eq!(plain, run(Some(false)));
    assert_eq!(plain, run(Some(true)));
}

/// A network beside a parameter that it does not use.
#[derive(Module, Debug)]
struct Wider {
    net: Net,
    more: Option<Param<Tensor<1>>>,
}

impl TrainStep for Wider {
    type Input = Batch;
    type Output = burn::train::RegressionOutput;

    fn step(&self, batch: Batch) -> burn::train::TrainOutput<Self::Output> {
        let output = self.net.output(&batch);
        burn::train::TrainOutput::new(self, output.loss.backward(), output)
    }
}

#[test]
fn a_parameter_frozen_in_the_convex_phase_ends_it_and_adam_goes_on() {
    let switching = start(json!({ "detector": swap_at(1), "window": 1 }));
    let mut net = Net::new(6, 3);
    let batch = all(32);
    for _ in 0..4 {
        (net, _) = switching.step_with(1e-2, net, objective(&batch));
    }
    assert_eq!(switching.phase(), Phase::Convex);
    net.first = net.first.no_grad();
    let frozen = values(&net.first);
    for _ in 0..4 {
        (net, _) = switching.step_with(1e-2, net, objective(&batch));
    }
    assert_eq!(values(&net.first), frozen);
    assert!(count(&switching, |kind| matches!(kind, EventKind::HandBack { .. })) >= 1, "{:?}", switching.events());
}

#[test]
fn an_epoch_with_a_short_last_batch_is_the_weighted_mean_of_its_batches() {
    // 60 = 3 * 16 + 12. The first evaluation's report against loss and gradient of its points at once: they differ by
    // rounding in f32, where an unweighted mean is off by some per cent.
    for attached in [true, false] {
        let switching = start(json!({ "detector": swap_at(1), "metric": "identity" }));
        let reports = switching.reports();
        let train = switching.track(loader(60, 16));
        let mut optim: ModuleOptimizer = switching.clone().into();
        let mut net = Net::new(6, 3);
        let mut at_swap = None;
        if attached {
            let mut wrapped = switching.attach(net);
            for _ in 0..2 {
                for batch in burn::data::dataloader::DataLoader::iter(train.as_ref()) {
                    let output = TrainStep::step(&wrapped, batch.expect("a batch"));
                    wrapped = TrainStep::optimize(wrapped, &mut optim, 1e-2.into(), output.grads);
                }
                at_swap.get_or_insert_with(|| wrapped.inner().clone());
            }
        } else {
            for _ in 0..2 {
                for batch in burn::data::dataloader::DataLoader::iter(train.as_ref()) {
                    let grads = objective(&batch.expect("a batch"))(&net).1;
                    net = optim.step(1e-2, net, grads);
                }
                at_swap.get_or_insert_with(|| net.clone());
            }
            drop(burn::data::dataloader::DataLoader::iter(train.as_ref()));
        }
        let at_swap = at_swap.expect("an epoch");
        let evaluation = reports.try_iter().find(|report| report.phase == Phase::Convex).expect("an evaluation");
        // Without `attach` the first batch of an epoch goes into a move, in the first evaluation as in all others.
        let Batch { x, y } = all(60);
        let [x, y] = [x, y].map(|points| if attached { points } else { points.slice(16..60) });
        let rest = Batch { x, y };
        let loss = objective(&rest)(&at_swap).0;
        let squares: f64 = gradient(&at_swap, &rest).iter().map(|g| g * g).sum();
        let norm = evaluation.observation.mean_norm;
        assert!((norm / squares.sqrt() - 1.0).abs() < 1e-5, "{norm} {}", squares.sqrt());
        let loss = f64::from(loss.into_data().iter::<f32>().next().expect("a loss"));
        match evaluation.observation.loss {
            Some(seen) => assert!((seen / loss - 1.0).abs() < 1e-6, "{seen} {loss}"),
            None => assert!(!attached),
        }
    }
}

#[test]
fn a_window_larger_than_the_run_never_closes_and_the_run_is_adam_s() {
    let switching = start(json!({ "detector": swap_at(1), "window": 1_000_000 }));
    let mut adam: ModuleOptimizer = AdamConfig::new().init();
    let mut ours: ModuleOptimizer = switching.clone().into();
    let (mut a, mut b) = (Net::new(4, 1), Net::new(4, 1));
    for _ in 0..20 {
        a = ours.step(1e-2, a.clone(), objective(&all(32))(&a).1);
        b = adam.step(1e-2, b.clone(), objective(&all(32))(&b).1);
    }
    assert_eq!((switching.phase(), values(&a)), (Phase::NonConvex, values(&b)));
}

#[test]
fn without_a_window_the_default_is_told_as_an_event() {
    let switching = start(json!({}));
    let mut ours: ModuleOptimizer = switching.clone().into();
    let net = Net::new(4, 1);
    ours.step(1e-2, net.clone(), objective(&all(32))(&net).1);
    assert_eq!(count(&switching, |kind| matches!(kind, EventKind::DefaultWindow { passes: 100 })), 1);
}

#[test]
fn two_threads_stepping_clones_are_refused_without_a_panic() {
    let switching = start(json!({ "detector": swap_at(2), "window": 1 }));
    let optim: ModuleOptimizer = switching.clone().into();
    std::thread::scope(|scope| {
        for seed in 0..2 {
            let mut optim = optim.clone();
            scope.spawn(move || {
                let mut net = Net::new(4, seed);
                for _ in 0..20 {
                    let grads = objective(&all(32))(&net).1;
                    net = optim.step(1e-2, net, grads);
                }
                assert!(values(&net).iter().all(|x| x.is_finite()));
            });
        }
    });
    assert_eq!(refused(&switching), Some(Refusal::SecondStepper));
    assert_eq!(switching.phase(), Phase::NonConvex);
}

#[test]
fn a_clone_of_stepped_states_is_refused_on_one_thread_too() {
    let switching = start(json!({ "detector": swap_at(2), "window": 1 }));
    let mut optim: ModuleOptimizer = switching.clone().into();
    let mut net = Net::new(4, 1);
    for _ in 0..5 {
        net = optim.step(1e-2, net.clone(), objective(&all(32))(&net).1);
    }
    assert_eq!(switching.phase(), Phase::Convex);
    let mut clone = optim.clone();
    let mut other = net.clone();
    for _ in 0..2 {
        net = optim.step(1e-2, net.clone(), objective(&all(32))(&net).1);
        other = clone.step(1e-2, other.clone(), objective(&all(32))(&other).1);
    }
    assert_eq!(refused(&switching), Some(Refusal::SecondStepper));
}

#[test]
fn states_given_to_another_optimizer_are_refused() {
    let (ours, theirs) = (start(adam_then(2)), start(adam_then(2)));
    let mut optim: ModuleOptimizer = ours.clone().into();
    let net = Net::new(4, 1);
    let net = optim.step(1e-2, net.clone(), objective(&all(32))(&net).1);
    let mut other = ModuleOptimizer::from(theirs.clone()).load_record(optim.to_record());
    other.step(1e-2, net.clone(), objective(&all(32))(&net).1);
    // Through a record they are at home there: that is a resume, and the first optimizer still owns its own.
    assert_eq!((refused(&ours), refused(&theirs)), (None, None));
    assert_eq!(theirs.counters().passes, 2);
}

fn learner_with(optim: impl FnOnce(ConvexitySwitching) -> ModuleOptimizer) -> (ConvexitySwitching, Refusal, Vec<f32>) {
    let dir = tempfile::tempdir().expect("a folder");
    let switching = start(json!({ "detector": swap_at(2) }));
    let train = switching.track(loader(32, 8));
    let learner = Learner::new(switching.attach(Net::new(4, 1)), optim(switching.clone()), 1e-2);
    let (training, _) = training(dir.path(), train, loader(32, 32));
    let result = training.num_epochs(5).launch(learner);
    let refusal = refusal_of(&result);
    (switching, refusal, values(&result.model))
}

#[test]
fn gradient_clipping_is_refused_at_the_swap_and_stops_a_tracked_learner() {
    let (switching, refusal, parameters) = learner_with(|switching| {
        let clipping = burn::grad_clipping::GradientClipping::Norm(1.0);
        ModuleOptimizer::from(switching).with_grad_clipping(clipping)
    });
    assert_eq!((&refusal, refused(&switching)), (&Refusal::GradientClipping, Some(refusal.clone())));
    assert!(refusal.to_string().contains("with_grad_clipping"));
    // Two epochs of four passes were Adam's, and nothing after them.
    assert_eq!((switching.phase(), switching.counters().passes), (Phase::NonConvex, 8));
    assert!(parameters.iter().all(|x| x.is_finite()));
}

#[test]
fn gradient_clipping_that_a_resume_brings_ends_the_convex_phase() {
    let (before, batch) = (start(json!({ "detector": swap_at(2), "window": 1 })), all(32));
    let step = |net, optim: &mut ModuleOptimizer| {
        let output = TrainStep::step(&net, batch.clone());
        TrainStep::optimize(net, optim, 1e-2.into(), output.grads)
    };
    let (mut net, mut optim) = (before.attach(Net::new(4, 1)), ModuleOptimizer::from(before.clone()));
    for _ in 0..12 {
        net = step(net, &mut optim);
    }
    assert_eq!(before.phase(), Phase::Convex);
    let (record, weights) = crate::resume::bytes(&optim, net);
    let after = start(json!({ "detector": swap_at(2), "window": 1 }));
    let clipping = burn::grad_clipping::GradientClipping::Norm(1.0);
    let optim = ModuleOptimizer::from(after.clone()).with_grad_clipping(clipping);
    let mut optim = optim.from_bytes(record).expect("a record");
    let weights = burn::store::ModuleRecord::from_bytes(weights).expect("a record");
    let mut net = after.attach(Net::new(4, 9)).load_record(weights);
    for _ in 0..3 {
        net = step(net, &mut optim);
    }
    assert_eq!((after.phase(), refused(&after)), (Phase::NonConvex, Some(Refusal::GradientClipping)));
}

#[test]
fn a_tracked_loader_gives_the_refusal_in_place_of_the_next_batch_once_and_then_batches_again() {
    let switching = start(json!({ "detector": swap_at(2) }));
    let train = switching.track(loader(32, 8));
    let clipping = burn::grad_clipping::GradientClipping::Norm(1.0);
    let mut optim = ModuleOptimizer::from(switching.clone()).with_grad_clipping(clipping);
    let mut net = switching.attach(Net::new(4, 1));
    let mut good = Vec::new();
    for _ in 0..4 {
        for batch in burn::data::dataloader::DataLoader::iter(train.as_ref()).take(8) {
            good.push(batch.is_ok());
            if let Ok(batch) = batch {
                let output = TrainStep::step(&net, batch);
                net = TrainStep::optimize(net, &mut optim, 1e-2.into(), output.grads);
            }
        }
    }
    // Two epochs of four batches are Adam's, and the swap is due at their end.
    let refusals: Vec<usize> = (0..good.len()).filter(|at| !good[*at]).collect();
    assert_eq!((refusals, good.len()), (vec![8], 17));
}

#[test]
fn parameters_of_another_group_s_optimizer_are_refused_at_the_swap() {
    let (switching, refusal, _) = learner_with(|switching| {
        let group = ParamGroup::from_predicate("first");
        ModuleOptimizer::from(switching).with_group(group, SgdConfig::new().build(), None)
    });
    assert_eq!(refusal, Refusal::OtherOptimizer { given: 4, seen: 2 });
    assert_eq!(switching.phase(), Phase::NonConvex);
}

#[test]
fn without_a_tracked_loader_a_refusal_is_told_once_and_adam_goes_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let switching = start(json!({ "detector": swap_at(1), "window": 4 }));
    let clipping = burn::grad_clipping::GradientClipping::Value(1e-3);
    let optim = ModuleOptimizer::from(switching.clone()).with_grad_clipping(clipping.clone());
    let learner = Learner::new(switching.attach(Net::new(4, 1)), optim, 1e-2);
    let result = training(dir.path(), loader(32, 8), loader(32, 32)).0.num_epochs(4).launch(learner);
    assert!(result.error.is_none());
    assert_eq!(count(&switching, |kind| matches!(kind, EventKind::Refused { .. })), 1);
    let dir = tempfile::tempdir().expect("a folder");
    let adam = ModuleOptimizer::from(AdamConfig::new().build()).with_grad_clipping(clipping);
    let plain = Learner::new(Net::new(4, 1), adam, 1e-2);
    let plain = training(dir.path(), loader(32, 8), loader(32, 32)).0.num_epochs(4).launch(plain);
    assert_eq!(values(&result.model), values(&plain.model));
}

#[test]
fn a_line_search_that_needs_the_loss_says_so_in_the_first_window_where_nobody_shows_it() {
    for kind in ["golden_section", "strong_wolfe"] {
        let switching = start(json!({ "detector": swap_at(50), "window": 4, "line_search": { "kind": kind } }));
        let mut optim: ModuleOptimizer = switching.clone().into();
        let mut net = Net::new(4, 1);
        for _ in 0..2 {
            assert_eq!(refused(&switching), None);
            for batch in loader(32, 8).iter() {
                let grads = objective(&batch.expect("a batch"))(&net).1;
                net = optim.step(1e-2, net, grads);
            }
        }
        assert!(mean_loss(&net, 32).is_finite());
        assert_eq!(switching.phase(), Phase::NonConvex);
        assert_eq!(refused(&switching), Some(Refusal::NoLoss), "{kind}");
    }
}

#[test]
fn an_empty_tensor_among_the_parameters_is_passed_by() {
    let switching = start(adam_then(1));
    let mut point = Point::new(&[-5.0, 3.0, 7.0], DType::F32);
    point.more = Some(parameter(&[], DType::F32));
    for _ in 0..8 {
        point = step(&switching, point, |point| {
            point.loss(1.0) + point.more.as_ref().map_or_else(|| point.loss(0.0), |more| more.val().sum())
        });
    }
    assert_eq!((switching.phase(), refused(&switching)), (Phase::Convex, None));
    assert!(values(&point).iter().all(|x| (x - 1.0).abs() < 1e-2), "{:?}", values(&point));
}
