//! Through Burn's Learner.

use std::sync::Arc;

use burn::data::dataloader::{DataLoader, DataLoaderBuilder};
use burn::data::dataset::InMemDataset;
use burn::data::dataset::transform::{ComposedDataset, Mapper, MapperDataset, PartialDataset};
use burn::lr_scheduler::composed::ComposedLrSchedulerConfig;
use burn::lr_scheduler::cosine::CosineAnnealingLrSchedulerConfig;
use burn::lr_scheduler::linear::LinearLrSchedulerConfig;
use burn::module::Module;
use burn::nn::{BatchNorm, BatchNormConfig, Dropout, DropoutConfig, Linear, LinearConfig};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::store::ModuleRecord;
use burn::tensor::Tensor;
use burn::train::checkpoint::KeepLastNCheckpoints;
use burn::train::metric::store::{Aggregate, Direction, Split};
use burn::train::metric::{LearningRateMetric, LossMetric};
use burn::train::{
    EvaluatorBuilder, ExecutionStrategy, InferenceStep, Learner, LearnerModel, MetricEarlyStoppingStrategy,
    MultiDeviceOptim, RegressionOutput, StoppingCondition, TrainOutput, TrainStep,
};
use burn_convexity::{ConvexitySwitching, EventKind, Phase, Report};
use serde_json::{Value, json};

use crate::support::{
    Batch, Batches, Net, Seen, all, config, count, device, loader, mean_loss, points, swap_at, training, values,
};

fn start(json: Value) -> ConvexitySwitching {
    config(json).init().expect("valid")
}

#[test]
fn one_line_in_a_learner_works() {
    let dir = tempfile::tempdir().expect("a folder");
    // So early the norm has yet to reach its peak, and the safe resort would go back.
    let switching = start(json!({ "detector": swap_at(3), "safe_resort": { "enabled": false } }));
    let train = switching.track(loader(60, 16));
    let learner = Learner::new(switching.attach(Net::new(8, 1)), switching.clone().into(), 1e-2);
    let (training, _) = training(dir.path(), train, loader(60, 60));
    let training = training.metrics((LossMetric::new(),)).metrics(switching.metrics()).num_epochs(20);
    let result = training.launch(learner);
    assert!(result.error.is_none());
    assert_eq!(switching.phase(), Phase::Convex, "{:?}", switching.events());
    let counters = switching.counters();
    assert_eq!((counters.cost, counters.gradient_evaluations), (20.0, 17));
    let loss = mean_loss(&result.model.into_inner(), 60);
    let accepted = switching.accepted_loss().expect("a loss");
    assert!((loss - accepted).abs() < 1e-6 * accepted.max(1.0), "{loss} {accepted}");
}

#[test]
fn a_learner_may_end_where_the_convex_phase_has_converged_and_loses_nothing_by_it() {
    const EPOCHS: usize = 300;
    let run = |stops: bool| {
        let dir = tempfile::tempdir().expect("a folder");
        let switching = start(json!({ "detector": swap_at(3), "safe_resort": { "enabled": false } }));
        // Four points and 13 parameters: the loss comes down to what f32 can tell from 0.
        let learner = Learner::new(switching.attach(Net::new(3, 1)), switching.clone().into(), 1e-2);
        let (training, _) = training(dir.path(), switching.track(loader(4, 1)), loader(4, 4));
        let training = if stops { training.early_stopping(switching.when_converged()) } else { training };
        let result = training.num_epochs(EPOCHS).launch(learner);
        assert!(result.error.is_none() && result.interrupted.is_none());
        let events = switching.events();
        let converged = events.iter().find(|event| matches!(event.kind, EventKind::Converged { .. }));
        let converged = converged.unwrap_or_else(|| panic!("{events:?}")).cost;
        (converged, switching.counters().cost, values(&result.model.into_inner()))
    };
    let [(at, cost, model), (_, all, same)] = [true, false].map(run);
    assert_eq!((cost, all), (at, EPOCHS as f64));
    assert!(at < 200.0 && model == same, "{at}");
}

#[test]
fn without_attach_a_learner_that_has_converged_ends_an_epoch_later_behind_the_way_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let switching = start(json!({ "detector": swap_at(3) }));
    // All gradients are 0.
    let train = DataLoaderBuilder::new(Batches).batch_size(1).set_device(device().autodiff());
    let train = switching.track(train.build(InMemDataset::new(vec![[0.0; 3]; 4])));
    let net = Net::new(3, 1);
    let (training, _) = training(dir.path(), train, loader(4, 4));
    let training = training.early_stopping(switching.when_converged()).num_epochs(20);
    let result = training.launch(Learner::new(net.clone(), switching.clone().into(), 1e-2));
    let converged = switching.events().into_iter().find(|event| matches!(event.kind, EventKind::Converged { .. }));
    let converged = converged.expect("at once").cost;
    assert_eq!(switching.counters().cost, converged + 1.0);
    assert!(converged < 10.0 && result.model.values() == net.values());
}

/// The points with their second coordinate mirrored: the function changes its sign there but for `0.3 a`.
struct Mirror(bool);

impl Mapper<[f32; 3], [f32; 3]> for Mirror {
    fn map(&self, item: &[f32; 3]) -> [f32; 3] {
        let [a, b, y] = *item;
        if self.0 { [a, -b, 0.6 * a - y] } else { *item }
    }
}

/// A program like Burn's own `mnist` example: composed data sets, loaders that shuffle on two workers, a learning-rate
/// schedule, checkpoints, early stopping, a progress logger, metrics, an evaluation afterwards.
fn program<M>(model: M, optim: ModuleOptimizer, switching: &ConvexitySwitching, [attached, track]: [bool; 2])
where
    M: LearnerModel + TrainStep<Input = Batch, Output = RegressionOutput>,
    M: InferenceStep<Input = Batch, Output = RegressionOutput>,
{
    let dir = tempfile::tempdir().expect("a folder");
    let data = Arc::new(InMemDataset::new(points(96)));
    let part = |from, to, mirror| MapperDataset::new(PartialDataset::new(data.clone(), from, to), Mirror(mirror));
    let loader = |parts| -> Arc<dyn DataLoader<Batch>> {
        DataLoaderBuilder::new(Batches).batch_size(16).shuffle(42).num_workers(2).build(ComposedDataset::new(parts))
    };
    let train = loader(vec![part(0, 60, false), part(0, 40, true)]);
    let train = if track { switching.track(train) } else { train };
    let schedule = ComposedLrSchedulerConfig::new()
        .cosine(CosineAnnealingLrSchedulerConfig::new(1.0, 2000))
        .linear(LinearLrSchedulerConfig::new(1e-2, 1e-1, 14))
        .init()
        .expect("valid");
    let epochs = 16;
    let (training, seen) = training(dir.path(), train, loader(vec![part(60, 78, false)]));
    let logger = Seen::default();
    let result = training
        .metrics((LossMetric::new(),))
        .metric_train_numeric(LearningRateMetric::new())
        .metrics(switching.metrics())
        .with_default_checkpointers()
        .with_progress_logger(logger.clone())
        .early_stopping(MetricEarlyStoppingStrategy::new(
            &LossMetric::new(),
            Aggregate::Mean,
            Direction::Lowest,
            Split::Valid,
            StoppingCondition::NoImprovementSince { n_epochs: epochs },
        ))
        .num_epochs(epochs)
        .summary()
        .launch(Learner::new(model, optim, schedule));
    assert!(result.error.is_none(), "{:?}", result.error);
    assert!(count(switching, |kind| matches!(kind, EventKind::Swap { .. })) >= 1);
    let counters = switching.counters();
    assert!(counters.gradient_evaluations >= 5, "{counters:?} {:?}", switching.events());
    if track {
        assert!((counters.cost - epochs as f64).abs() < 1e-9, "{counters:?}");
    }
    assert!(dir.path().join("checkpoint").join(format!("optim-{epochs}.bpk")).exists());

    let (kept, logged) = (seen.kept(), logger.kept());
    assert_eq!(kept.progress, logged.progress);
    assert_eq!(kept.progress.len(), 2 * epochs);
    for split in &kept.progress {
        assert!(split.windows(2).all(|pair| pair[0] <= pair[1]), "{split:?}");
    }
    let losses: Vec<f64> = kept.train.iter().filter_map(|shown| Seen::number(shown, "Loss")).collect();
    assert_eq!(losses.len(), 7 * epochs);
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    assert!(losses.iter().all(|loss| loss.is_finite()));
    if attached && track {
        // The others evaluate over batches that change, in an order that depends on the workers.
        assert!(counters.iterations >= 2, "{counters:?} {:?}", switching.events());
        let best = losses.chunks(7).map(mean).fold(f64::INFINITY, f64::min);
        assert!(best < 0.8 * mean(&losses[..7]), "{losses:?}");
    }
    drop(kept);

    // The evaluation's loss is that of the model returned.
    let test = || loader(vec![part(78, 96, false)]);
    let expected: f64 = test()
        .to_device(&device())
        .iter()
        .map(|batch| InferenceStep::step(&result.model, batch.expect("a batch")))
        .map(|output| f64::from(output.loss.into_data().iter::<f32>().next().expect("a loss")))
        .sum();
    let evaluator = EvaluatorBuilder::new(dir.path())
        .renderer(result.renderer)
        .with_application_logger(None)
        .metrics((LossMetric::new(),))
        .build(result.model);
    let evaluation = evaluator.eval("test", test());
    assert!(evaluation.error.is_none());
    let kept = seen.kept();
    let shown: f64 = kept.test.iter().filter_map(|shown| Seen::number(shown, "Loss")).sum();
    assert_eq!(kept.test.len(), 2);
    assert!((shown - expected).abs() < 1e-5 * expected, "{shown} {expected}");
}

#[test]
fn a_program_like_burn_s_mnist_runs_with_attach_and_track() {
    // In the metric of gradients the order of the batches, which depends on the workers, would decide how far so small a net gets.
    let switching = start(json!({ "detector": swap_at(3), "metric": "inner" }));
    program(switching.attach(Net::new(8, 1)), switching.clone().into(), &switching, [true, true]);
}

#[test]
fn a_program_like_burn_s_mnist_runs_with_track_only() {
    let switching = start(json!({ "detector": swap_at(3) }));
    program(Net::new(8, 1), switching.clone().into(), &switching, [false, true]);
}

#[test]
fn a_program_like_burn_s_mnist_runs_with_attach_only() {
    let switching = start(json!({ "detector": swap_at(3), "window": 7 }));
    program(switching.attach(Net::new(8, 1)), switching.clone().into(), &switching, [true, false]);
}

#[test]
fn a_program_like_burn_s_mnist_runs_with_the_plain_drop_in() {
    let switching = start(json!({ "detector": swap_at(3), "window": 7 }));
    program(Net::new(8, 1), switching.clone().into(), &switching, [false, false]);
}

#[test]
fn what_is_validated_saved_and_returned_is_the_accepted_point_never_a_trial_point() {
    let dir = tempfile::tempdir().expect("a folder");
    // A search that brackets, so that most trials are not the accepted point.
    let switching = start(json!({
        "detector": swap_at(2),
        "metric": "identity",
        "line_search": { "kind": "golden_section", "tolerance": 0.1 },
        "safe_resort": { "enabled": false },
    }));
    let reports = switching.reports();
    let train = switching.track(loader(60, 16));
    let learner = Learner::new(switching.attach(Net::new(8, 1)), switching.clone().into(), 1e-2);
    let epochs = 40;
    let (training, seen) = training(dir.path(), train, loader(60, 60));
    let training = training.metrics((LossMetric::new(),)).with_default_checkpointers();
    let training = training.with_checkpointing_strategy(KeepLastNCheckpoints::new(epochs)).num_epochs(epochs);
    let result = training.launch(learner);
    assert!(result.error.is_none());

    let reports: Vec<Report> = reports.try_iter().collect();
    assert_eq!(reports.len(), epochs);
    let kept = seen.kept();
    let mut others = 0;
    for (epoch, (report, shown)) in reports.iter().zip(&kept.valid).enumerate() {
        let Some(accepted) = report.accepted_loss else { continue };
        let seen = Seen::number(shown, "Loss").expect("a loss");
        assert!((seen / accepted - 1.0).abs() < 1e-5, "epoch {}: {seen} {accepted}", epoch + 1);
        let record = ModuleRecord::load(dir.path().join(format!("checkpoint/model-{}.bpk", epoch + 1)));
        let saved = Net::new(8, 99).load_record(record.expect("a checkpoint"));
        let saved = mean_loss(&saved, 60);
        assert!((saved / accepted - 1.0).abs() < 1e-5, "epoch {}: {saved} {accepted}", epoch + 1);
        others += usize::from(report.observation.loss.is_some_and(|trial| (trial / accepted - 1.0).abs() > 1e-3));
    }
    assert!(others >= 10, "only {others} trial points differed");
    let returned = mean_loss(result.model.inner(), 60);
    let accepted = switching.accepted_loss().expect("a loss");
    assert!((returned / accepted - 1.0).abs() < 1e-5);
}

#[test]
fn records_interchange_with_and_without_attach() {
    let switching = start(json!({}));
    let (a, b) = (Net::new(4, 1), Net::new(4, 2));
    let bare = Net::new(4, 3).load_record(switching.attach(a.clone()).into_record());
    assert_eq!(values(&bare), values(&a));
    let wrapped = switching.attach(Net::new(4, 3)).load_record(b.clone().into_record());
    assert_eq!(values(&wrapped), values(&b));
    assert_eq!(values(wrapped.inner()), values(&b));
    // As bytes too, and with the same paths: a strict load refuses names it does not know.
    let bytes = switching.attach(a.clone()).into_record().into_bytes().expect("bytes");
    let bare = Net::new(4, 3).load_record(ModuleRecord::from_bytes(bytes).expect("a record"));
    assert_eq!(values(&bare), values(&a));
}

#[test]
fn another_loader_serves_the_convex_phase() {
    let dir = tempfile::tempdir().expect("a folder");
    let switching = start(json!({ "detector": swap_at(3) }));
    let train = switching.track(loader(60, 16)).convex(loader(60, 30));
    let learner = Learner::new(switching.attach(Net::new(8, 1)), switching.clone().into(), 1e-2);
    let (training, seen) = training(dir.path(), train, loader(60, 60));
    let result = training.metrics(switching.metrics()).num_epochs(8).launch(learner);
    assert!(result.error.is_none());
    let kept = seen.kept();
    let train: Vec<_> = kept.progress.iter().step_by(2).cloned().collect();
    assert_eq!(train[..3], vec![vec![16, 32, 48, 60]; 3]);
    assert_eq!(train[3..], vec![vec![30, 60]; 5]);
    assert_eq!(switching.counters().gradient_evaluations, 5);
    assert_eq!(switching.counters().cost, 8.0);
    let accepted = switching.accepted_loss().expect("a loss");
    assert!((mean_loss(result.model.inner(), 60) / accepted - 1.0).abs() < 1e-5);
}

#[test]
fn behind_a_hand_back_the_first_loader_serves_again() {
    // A stall rule that no progress satisfies, and without a loss to tell of it a line search that no step does.
    let resort = json!({ "stall_gain": 0.99, "stall_cost": 0.5, "hold_off": 30, "max_hold_off": 30 });
    let search = json!({ "kind": "hager_zhang", "max_evaluations": 1, "delta": 1e-7, "sigma": 1e-6 });
    for attached in [true, false] {
        let switching = start(json!({ "detector": swap_at(3), "safe_resort": resort, "line_search": search }));
        let (train, mut optim) = (switching.track(loader(60, 16)).convex(loader(60, 30)), switching.clone().into());
        let mut batches = Vec::new();
        let mut epochs = |step: &mut dyn FnMut(&mut burn::optim::ModuleOptimizer, Batch)| {
            for _ in 0..20 {
                let each = burn::data::dataloader::DataLoader::iter(train.as_ref()).map(|batch| {
                    step(&mut optim, batch.expect("a batch"));
                });
                batches.push(each.count());
            }
        };
        match attached {
            true => {
                let mut net = Some(switching.attach(Net::new(8, 1)));
                epochs(&mut |optim, batch| {
                    let wrapped = net.take().expect("a model");
                    let output = TrainStep::step(&wrapped, batch);
                    net = Some(TrainStep::optimize(wrapped, optim, 1e-2.into(), output.grads));
                });
            }
            false => {
                let mut net = Some(Net::new(8, 1));
                epochs(&mut |optim, batch| {
                    let bare = net.take().expect("a model");
                    let grads = crate::support::objective(&batch)(&bare).1;
                    net = Some(optim.step(1e-2, bare, grads));
                });
            }
        }
        let back = switching.events().into_iter().find(|event| matches!(event.kind, EventKind::HandBack { .. }));
        assert!(back.is_some(), "{attached} {:?}", switching.events());
        let convex: Vec<usize> = (0..20).filter(|epoch| batches[*epoch] == 2).collect();
        assert_eq!(convex, (3..3 + convex.len()).collect::<Vec<_>>(), "{attached} {batches:?}");
        // Every epoch of the convex loader was an evaluation.
        assert_eq!(switching.counters().gradient_evaluations, convex.len() as u64, "{attached} {batches:?}");
    }
}

#[test]
fn a_part_of_the_data_may_serve_the_convex_phase_and_costs_its_part() {
    let dir = tempfile::tempdir().expect("a folder");
    let switching = start(json!({ "detector": swap_at(3) }));
    let train = switching.track(loader(60, 16)).convex(loader(15, 15));
    let learner = Learner::new(switching.attach(Net::new(8, 1)), switching.clone().into(), 1e-2);
    let result = training(dir.path(), train, loader(60, 60)).0.num_epochs(11).launch(learner);
    assert!(result.error.is_none());
    assert_eq!(switching.counters().cost, 3.0 + 8.0 / 4.0);
    let accepted = switching.accepted_loss().expect("a loss");
    assert!((mean_loss(result.model.inner(), 15) / accepted - 1.0).abs() < 1e-5);
}

/// The losses of the convex phase's evaluations; a learning rate of zero keeps the start of that phase the same whatever
/// Burn does to the gradients before it.
fn evaluations(
    batch_size: usize,
    accumulation: Option<usize>,
    strategy: Option<MultiDeviceOptim>,
) -> (Vec<f64>, Vec<f64>) {
    let dir = tempfile::tempdir().expect("a folder");
    // Without losses in the pairs, whose rounding would be magnified there.
    let direction = json!({ "kind": "l_bfgs", "function_values": false });
    let switching = start(json!({ "detector": swap_at(1), "metric": "identity", "direction": direction }));
    let reports = switching.reports();
    let train = switching.track(loader(64, batch_size));
    let learner = Learner::new(switching.attach(Net::new(8, 1)), switching.clone().into(), 0.0);
    let (mut training, _) = training(dir.path(), train, loader(64, 64));
    if let Some(accumulation) = accumulation {
        training = training.grads_accumulation(accumulation);
    }
    if let Some(strategy) = strategy {
        let devices = vec![device(), device()];
        training = training.with_training_strategy(ExecutionStrategy::MultiDevice(devices, strategy).into());
    }
    let result = training.num_epochs(10).launch(learner);
    assert!(result.error.is_none(), "{:?}", result.error);
    assert_eq!(switching.phase(), Phase::Convex, "{:?}", switching.events());
    assert_eq!(switching.counters().cost, 10.0);
    let convex = reports.try_iter().filter(|report| report.phase == Phase::Convex);
    convex.map(|report| (report.observation.loss.expect("a loss"), report.observation.mean_norm)).unzip()
}

fn close(a: &(Vec<f64>, Vec<f64>), b: &(Vec<f64>, Vec<f64>)) {
    assert_eq!((a.0.len(), b.0.len()), (9, 9));
    for (a, b) in a.0.iter().chain(&a.1).zip(b.0.iter().chain(&b.1)) {
        assert!((a / b - 1.0).abs() < 1e-3, "{a} {b}");
    }
    // The first evaluation differs by the order of a sum alone.
    assert!((a.0[0] / b.0[0] - 1.0).abs() < 1e-6 && (a.1[0] / b.1[0] - 1.0).abs() < 1e-5);
}

#[test]
fn accumulated_gradients_are_averaged_again_in_the_convex_phase() {
    close(&evaluations(32, None, None), &evaluations(16, Some(2), None));
}

#[test]
fn two_devices_in_one_thread_give_the_result_of_one() {
    let one = evaluations(16, None, None);
    for strategy in [MultiDeviceOptim::OptimMainDevice, MultiDeviceOptim::OptimSharded] {
        close(&one, &evaluations(16, None, Some(strategy)));
    }
}

#[test]
fn two_devices_with_accumulated_gradients_give_the_result_of_one() {
    let one = evaluations(16, None, None);
    for strategy in [MultiDeviceOptim::OptimMainDevice, MultiDeviceOptim::OptimSharded] {
        close(&one, &evaluations(16, Some(2), Some(strategy)));
    }
}

#[test]
fn each_value_of_a_metric_belongs_to_the_iteration_it_is_shown_at() {
    for attached in [true, false] {
        let dir = tempfile::tempdir().expect("a folder");
        let switching = start(json!({ "detector": swap_at(3) }));
        let reports = switching.reports();
        let train = switching.track(loader(60, 16));
        let epochs = 12;
        let seen = if attached {
            let learner = Learner::new(switching.attach(Net::new(8, 1)), switching.clone().into(), 1e-2);
            let (training, seen) = training(dir.path(), train.clone(), loader(60, 60));
            training.metrics(switching.metrics()).num_epochs(epochs).launch(learner);
            seen
        } else {
            let learner = Learner::new(Net::new(8, 1), switching.clone().into(), 1e-2);
            let (training, seen) = training(dir.path(), train.clone(), loader(60, 60));
            training.metrics(switching.metrics()).num_epochs(epochs).launch(learner);
            seen
        };
        let reports: Vec<Report> = reports.try_iter().collect();
        let kept = seen.kept();
        assert_eq!(kept.train.len(), 4 * epochs);
        // Windows and evaluations end with the epochs where the wrapper applies at once.
        let mut step = None;
        for (i, shown) in kept.train.iter().enumerate() {
            let (epoch, batch) = (i / 4, i % 4);
            let cost = epoch as f64 + [16.0, 32.0, 48.0, 60.0][batch] / 60.0;
            let seen = Seen::number(shown, "Cost").expect("a cost");
            assert!((seen - cost).abs() < 1e-9, "iteration {i}: {seen} {cost}");
            let phase = if epoch < 3 { "non-convex" } else { "convex" };
            assert_eq!(shown["Phase"], phase, "iteration {i}");
            if attached && epoch > 0 {
                let report = &reports[epoch - 1];
                if batch == 0 && report.accepted {
                    step = report.step_length.filter(|step| *step > 0.0).or(step);
                }
                let norm = Seen::number(shown, "Gradient Norm").expect("a norm");
                assert_eq!(norm, report.observation.batch_norm, "iteration {i}");
                assert_eq!(Seen::number(shown, "Step Length"), step, "iteration {i}");
            }
        }
        assert!(!attached || step.is_some());
    }
}

#[test]
fn a_learner_and_a_loop_by_hand_give_the_same_parameters_bit_for_bit() {
    for direction in [json!({ "kind": "l_bfgs" }), json!({ "kind": "conjugate_gradient" })] {
        let dir = tempfile::tempdir().expect("a folder");
        let json = json!({ "detector": swap_at(3), "direction": direction });
        let epochs = 14;
        let learned = start(json.clone());
        let train = learned.track(loader(60, 16));
        let learner = Learner::new(learned.attach(Net::new(8, 1)), learned.clone().into(), 1e-2);
        let result = training(dir.path(), train, loader(60, 60)).0.num_epochs(epochs).launch(learner);

        let by_hand = start(json);
        let train = by_hand.track(loader(60, 16));
        let mut optim: ModuleOptimizer = by_hand.clone().into();
        let mut model = by_hand.attach(Net::new(8, 1));
        for _ in 0..epochs {
            for batch in train.iter() {
                let output = TrainStep::step(&model, batch.expect("a batch"));
                model = TrainStep::optimize(model, &mut optim, 1e-2.into(), output.grads);
            }
        }
        assert_eq!(values(&result.model), values(&model));
        assert_eq!(learned.counters(), by_hand.counters());
        assert_eq!(learned.events(), by_hand.events());
    }
}

/// A network with everything that makes evaluations differ.
#[derive(Module, Debug)]
struct Noisy {
    first: Linear,
    norm: BatchNorm,
    dropout: Dropout,
    second: Linear,
}

impl Noisy {
    fn new() -> Self {
        let device = device().autodiff();
        device.seed(5);
        Self {
            first: LinearConfig::new(2, 8).init(&device),
            norm: BatchNormConfig::new(8).init(&device),
            dropout: DropoutConfig::new(0.2).init(),
            second: LinearConfig::new(8, 1).init(&device),
        }
    }

    fn output(&self, batch: &Batch) -> RegressionOutput {
        let hidden = self.norm.forward(self.first.forward(batch.x.clone())).tanh();
        let y = self.second.forward(self.dropout.forward(hidden));
        RegressionOutput::new((y.clone() - batch.y.clone()).square().mean(), y, batch.y.clone())
    }

    fn running_mean(&self) -> Vec<f32> {
        self.norm.running_mean.value_sync().into_data().iter::<f32>().collect()
    }
}

impl TrainStep for Noisy {
    type Input = Batch;
    type Output = RegressionOutput;

    fn step(&self, batch: Batch) -> TrainOutput<RegressionOutput> {
        let output = self.output(&batch);
        TrainOutput::new(self, output.loss.backward(), output)
    }
}

impl InferenceStep for Noisy {
    type Input = Batch;
    type Output = RegressionOutput;

    fn step(&self, batch: Batch) -> RegressionOutput {
        self.output(&batch)
    }
}

fn number(loss: Tensor<1>) -> f64 {
    f64::from(loss.into_data().iter::<f32>().next().expect("a loss"))
}

#[test]
fn with_attach_all_evaluations_see_one_function_without_dropout_and_with_kept_running_statistics() {
    // With and without a hand-back, after which the point left behind keeps its own statistics.
    for stalls in [false, true] {
        let switching = start(json!({
            "detector": swap_at(4),
            "window": 1,
            "safe_resort": { "enabled": stalls, "stall_gain": 0.9, "stall_cost": 6.0 },
        }));
        let mut optim: ModuleOptimizer = switching.clone().into();
        let mut model = switching.attach(Noisy::new());
        let mut statistics = Vec::new();
        for pass in 0..40 {
            let output = TrainStep::step(&model, all(64));
            model = TrainStep::optimize(model, &mut optim, 1e-2.into(), output.grads);
            if let Some(accepted) = switching.accepted_loss() {
                // What a validation sees is what the search saw.
                let seen = number(InferenceStep::step(&model.valid(), all(64)).loss);
                assert!((seen / accepted - 1.0).abs() < 1e-5, "pass {pass}: {seen} {accepted}");
            }
            statistics.push(model.inner().running_mean());
        }
        // The flags are told of in the step behind a swap, which may have been in the last pass.
        TrainStep::step(&model, all(64));
        let swaps = count(&switching, |kind| matches!(kind, EventKind::Swap { .. }));
        assert_eq!(count(&switching, |kind| matches!(kind, EventKind::TrainingFlagsOff { modules: 2 })), swaps);
        assert_eq!(count(&switching, |kind| matches!(kind, EventKind::Noise { .. })), 0);
        assert!(statistics[0] != statistics[1] && statistics[2] != statistics[3]);
        let back = count(&switching, |kind| matches!(kind, EventKind::HandBack { .. }));
        assert_eq!(back > 0, stalls, "{:?}", switching.events());
        if !stalls {
            assert!(statistics[4..].iter().all(|mean| *mean == statistics[3]));
            assert!(switching.counters().iterations >= 1, "{:?}", switching.events());
        }
        // The stored module keeps its flags: only the evaluations are without.
        assert!(model.into_inner().dropout.training.is_enabled());
    }
}

#[test]
fn without_attach_an_objective_that_differs_when_evaluated_again_is_told_as_noise() {
    let switching = start(json!({ "detector": swap_at(2), "window": 1 }));
    let mut model = Noisy::new();
    for _ in 0..6 {
        (model, _) = switching.step_with(1e-2, model, |model| {
            let loss = model.output(&all(64)).loss;
            let grads = GradientsParams::from_grads(loss.backward(), model);
            (loss, grads)
        });
    }
    assert_eq!(count(&switching, |kind| matches!(kind, EventKind::Noise { .. })), 1, "{:?}", switching.events());
}
