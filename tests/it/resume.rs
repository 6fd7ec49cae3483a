//! A run resumed from any checkpoint is the undisturbed run, bit for bit; a record that does not fit is refused by name.

use std::path::Path;

use burn::data::dataloader::DataLoader;
use burn::module::Module;
use burn::optim::{AdamConfig, ModuleOptimizer, OptimizerRecord};
use burn::store::ModuleRecord;
use burn::tensor::Bytes;
use burn::train::checkpoint::KeepLastNCheckpoints;
use burn::train::metric::LossMetric;
use burn::train::{InferenceStep, Learner, LearnerModel, RegressionOutput, TrainStep};
use burn_convexity::{ConvexitySwitching, Counters, EventKind, Phase, Refusal};
use serde_json::{Value, json};

use crate::support::{Batch, Net, all, config, count, loader, objective, refused, swap_at, training, values};

pub(crate) const EPOCHS: usize = 14;

fn start(json: &Value) -> ConvexitySwitching {
    config(json.clone()).init().expect("valid")
}

/// How much the optimizer is told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Touch {
    AttachAndTrack,
    Track,
    Neither,
}

/// What must agree: the parameters as bits, and everything counted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct End {
    pub parameters: Vec<u32>,
    pub counters: Counters,
    pub accepted_loss: Option<f64>,
    pub phase: Phase,
}

pub(crate) fn end(model: &impl Module, switching: &ConvexitySwitching) -> End {
    End {
        parameters: values(model).into_iter().map(f32::to_bits).collect(),
        counters: switching.counters(),
        accepted_loss: switching.accepted_loss(),
        phase: switching.phase(),
    }
}

/// Train to the last epoch, from a checkpoint if one is named; a fresh process would do the same.
fn train(dir: &Path, json: &Value, touch: Touch, from: Option<usize>) -> (End, ConvexitySwitching) {
    let switching = start(json);
    let plain = loader(60, 16);
    let loader: std::sync::Arc<dyn DataLoader<Batch>> = match touch {
        Touch::Neither => plain,
        // So that four batches are left for an evaluation, of whose gradients the metric is made.
        Touch::Track => switching.track(loader(60, 12)),
        Touch::AttachAndTrack => switching.track(plain),
    };
    let end = match touch {
        Touch::AttachAndTrack => launch(dir, switching.attach(Net::new(6, 1)), &switching, loader, from, EPOCHS),
        _ => launch(dir, Net::new(6, 1), &switching, loader, from, EPOCHS),
    };
    (end, switching)
}

/// Train to the epoch `to`, from a checkpoint if one is named, and keep a checkpoint of every epoch.
pub(crate) fn launch<M>(
    dir: &Path,
    model: M,
    switching: &ConvexitySwitching,
    train: std::sync::Arc<dyn DataLoader<Batch>>,
    from: Option<usize>,
    to: usize,
) -> End
where
    M: LearnerModel + TrainStep<Input = Batch, Output = RegressionOutput>,
    M: InferenceStep<Input = Batch, Output = RegressionOutput>,
{
    let learner = Learner::new(model, switching.clone().into(), 1e-2);
    let (mut training, _) = training(dir, train, loader(60, 60));
    training = training.metrics((LossMetric::new(),)).with_default_checkpointers().num_epochs(to);
    training = training.with_checkpointing_strategy(KeepLastNCheckpoints::new(EPOCHS));
    if let Some(epoch) = from {
        training = training.checkpoint(epoch);
    }
    let result = training.launch(learner);
    assert!(result.error.is_none(), "{:?}", result.error);
    end(&result.model, switching)
}

/// Resume from every checkpoint of a run, the last first, so that none is resumed from that a resumed run wrote.
fn resumes_from_every_checkpoint(json: &Value, touch: Touch) {
    let dir = tempfile::tempdir().expect("a folder");
    let (undisturbed, switching) = train(dir.path(), json, touch, None);
    assert_eq!(undisturbed.phase, Phase::Convex, "{:?}", switching.events());
    assert!(undisturbed.counters.iterations >= 1, "{:?}", switching.events());
    for epoch in (1..EPOCHS).rev() {
        let (resumed, switching) = train(dir.path(), json, touch, Some(epoch));
        assert_eq!(refused(&switching), None);
        assert_eq!(count(&switching, |kind| matches!(kind, EventKind::Resumed { .. })), 1);
        assert_eq!(resumed, undisturbed, "{touch:?} from epoch {epoch}: {json}");
    }
}

fn method(direction: &str, search: &str) -> Value {
    let mut json = json!({
        "detector": swap_at(3),
        "direction": { "kind": direction },
        "line_search": { "kind": search },
    });
    if search == "golden_section" {
        json["metric"] = json!("identity");
        json["line_search"]["tolerance"] = json!(0.5);
    }
    json
}

#[test]
fn a_learner_with_attach_and_track_resumes_bit_for_bit_from_every_checkpoint() {
    for direction in ["conjugate_gradient", "l_bfgs"] {
        for search in ["hager_zhang", "strong_wolfe", "golden_section"] {
            resumes_from_every_checkpoint(&method(direction, search), Touch::AttachAndTrack);
        }
    }
}

#[test]
fn a_learner_with_attach_and_track_resumes_bit_for_bit_within_an_evaluation() {
    let mut json = method("l_bfgs", "hager_zhang");
    json["evaluation"] = json!({ "batches": 3 });
    resumes_from_every_checkpoint(&json, Touch::AttachAndTrack);
}

#[test]
fn a_learner_with_track_only_resumes_bit_for_bit_from_every_checkpoint() {
    for direction in ["conjugate_gradient", "l_bfgs"] {
        resumes_from_every_checkpoint(&method(direction, "hager_zhang"), Touch::Track);
    }
    let mut json = method("l_bfgs", "hager_zhang");
    json["evaluation"] = json!({ "batches": 3 });
    resumes_from_every_checkpoint(&json, Touch::Track);
}

#[test]
fn a_plain_drop_in_resumes_bit_for_bit_from_every_checkpoint() {
    for direction in ["conjugate_gradient", "l_bfgs"] {
        let mut json = method(direction, "hager_zhang");
        // Windows that end within an epoch.
        json["window"] = json!(3);
        resumes_from_every_checkpoint(&json, Touch::Neither);
    }
}

/// A method whose convex phase lasts a few evaluations and comes again: no progress satisfies its stall rule or, where no loss is
/// shown that tells of one, no step its line search.
fn comes_and_goes(touch: Touch) -> Value {
    let mut json = method("conjugate_gradient", "hager_zhang");
    json["safe_resort"] = json!({ "stall_gain": 0.99, "stall_cost": 0.5, "hold_off": 1 });
    if touch == Touch::Track {
        json["line_search"] = json!({ "kind": "hager_zhang", "max_evaluations": 1, "delta": 1e-7, "sigma": 1e-6 });
    }
    json
}

/// The same where a record knows the whole of a move: the diagonal is in none.
fn without_metric(mut json: Value) -> Value {
    json["metric"] = json!("identity");
    json
}

#[test]
fn a_run_that_hands_back_resumes_bit_for_bit_from_every_checkpoint() {
    for touch in [Touch::AttachAndTrack, Touch::Track] {
        let json = comes_and_goes(touch);
        let dir = tempfile::tempdir().expect("a folder");
        let (undisturbed, switching) = train(dir.path(), &json, touch, None);
        let back = count(&switching, |kind| matches!(kind, EventKind::HandBack { .. }));
        assert!(back >= 1, "{touch:?}: {:?}", switching.events());
        for epoch in (1..EPOCHS).rev() {
            let (resumed, _) = train(dir.path(), &json, touch, Some(epoch));
            assert_eq!(resumed, undisturbed, "{touch:?} from epoch {epoch}");
        }
    }
}

#[test]
fn a_run_whose_convex_phase_has_its_own_loader_resumes_bit_for_bit() {
    let stays = method("l_bfgs", "hager_zhang");
    for (json, touch) in [
        (stays.clone(), Touch::Track),
        (stays, Touch::AttachAndTrack),
        (comes_and_goes(Touch::Track), Touch::Track),
        (comes_and_goes(Touch::AttachAndTrack), Touch::AttachAndTrack),
        (without_metric(comes_and_goes(Touch::Track)), Touch::Track),
    ] {
        let goes = json["safe_resort"].get("hold_off").is_some();
        let run = |dir: &Path, from| {
            let switching = start(&json);
            let train = switching.track(loader(60, 16)).convex(loader(30, 15));
            let end = match touch {
                Touch::AttachAndTrack => launch(dir, switching.attach(Net::new(6, 1)), &switching, train, from, EPOCHS),
                _ => launch(dir, Net::new(6, 1), &switching, train, from, EPOCHS),
            };
            assert!(count(&switching, |kind| matches!(kind, EventKind::Swap { .. })) > 0);
            let back = count(&switching, |kind| matches!(kind, EventKind::HandBack { .. }));
            assert!(back > 0 || !goes || from.is_some(), "{touch:?}: {:?}", switching.events());
            end
        };
        let dir = tempfile::tempdir().expect("a folder");
        let undisturbed = run(dir.path(), None);
        for epoch in (1..EPOCHS).rev() {
            assert_eq!(run(dir.path(), Some(epoch)), undisturbed, "{touch:?} from epoch {epoch}: {json}");
        }
    }
}

#[test]
fn every_slice_of_a_tracked_loader_begins_anew_when_the_trial_point_has_been_revealed() {
    let switching = start(&method("l_bfgs", "hager_zhang"));
    let (train, mut optim) = (switching.track(loader(60, 60)), ModuleOptimizer::from(switching.clone()));
    let mut net = switching.attach(Net::new(6, 1));
    for _ in 0..9 {
        for batch in train.iter() {
            let output = TrainStep::step(&net, batch.expect("a batch"));
            net = TrainStep::optimize(net, &mut optim, 1e-2.into(), output.grads);
        }
    }
    assert_eq!(switching.phase(), Phase::Convex);
    let (record, weights) = bytes(&optim, net);

    let switching = start(&method("l_bfgs", "hager_zhang"));
    let mut optim = ModuleOptimizer::from(switching.clone()).from_bytes(record).expect("a record");
    let weights = ModuleRecord::from_bytes(weights).expect("a record");
    let mut net = switching.attach(Net::new(6, 77)).load_record(weights);
    let train = switching.track(loader(60, 10));
    let slices = [train.slice(0, 30), train.slice(30, 60)];
    let mut iterators = slices.each_ref().map(|slice| slice.iter());
    let mut counts = [Vec::new(), Vec::new()];
    while let [Some(a), Some(b)] = iterators.each_mut().map(Iterator::next) {
        let [a, b] = [a, b].map(|batch| TrainStep::step(&net, batch.expect("a batch")).grads);
        let mut both = burn::optim::GradientsAccumulator::new();
        both.accumulate(&net, a);
        both.accumulate(&net, b);
        net = TrainStep::optimize(net, &mut optim, 1e-2.into(), both.grads());
        counts.iter_mut().zip(&iterators).for_each(|(counts, it)| counts.push(it.progress().items_processed));
    }
    // Three batches each, and before them the one that was only there to reveal the trial point.
    assert_eq!(counts, [[10, 10, 20, 30], [10, 10, 20, 30]]);
    assert_eq!((switching.phase(), refused(&switching)), (Phase::Convex, None));
}

/// The batches of an epoch, over and over.
pub(crate) fn batches() -> Vec<Batch> {
    loader(60, 16).iter().map(|batch| batch.expect("a batch")).collect()
}

pub(crate) fn bytes(optim: &ModuleOptimizer, model: impl Module) -> (Bytes, Bytes) {
    (optim.into_bytes().expect("bytes"), model.into_record().into_bytes().expect("bytes"))
}

#[test]
fn the_plain_drop_in_resumes_bit_for_bit_after_any_pass() {
    let passes = 72;
    let batches = batches();
    let step = |net: Net, optim: &mut ModuleOptimizer, pass: usize| {
        let grads = objective(&batches[pass % 4])(&net).1;
        optim.step(1e-2, net, grads)
    };
    for direction in ["conjugate_gradient", "l_bfgs"] {
        let mut json = method(direction, "hager_zhang");
        json["window"] = json!(4);
        let switching = start(&json);
        let mut optim: ModuleOptimizer = switching.clone().into();
        let mut net = Net::new(6, 1);
        let mut saved = Vec::new();
        for pass in 0..passes {
            net = step(net, &mut optim, pass);
            saved.push(bytes(&optim, net.clone()));
        }
        let undisturbed = end(&net, &switching);
        assert!(undisturbed.counters.iterations >= 1, "{:?}", switching.events());
        for (pass, (optimizer, model)) in saved.into_iter().enumerate() {
            let switching = start(&json);
            let optim: ModuleOptimizer = switching.clone().into();
            let mut optim = optim.from_bytes(optimizer).expect("a record");
            let mut net = Net::new(6, 77).load_record(ModuleRecord::from_bytes(model).expect("a record"));
            for pass in pass + 1..passes {
                net = step(net, &mut optim, pass);
            }
            if pass + 1 < passes {
                assert_eq!(end(&net, &switching), undisturbed, "{direction} after pass {pass}");
            }
        }
    }
}

#[test]
fn a_wrapper_resumes_bit_for_bit_after_any_pass_where_the_revealing_batch_is_given_again() {
    let passes = 40;
    let batches = batches();
    for search in ["hager_zhang", "golden_section"] {
        let mut json = method("l_bfgs", search);
        json["window"] = json!(4);
        let switching = start(&json);
        let mut optim: ModuleOptimizer = switching.clone().into();
        let mut model = switching.attach(Net::new(6, 1));
        let mut saved = Vec::new();
        for pass in 0..passes {
            let output = TrainStep::step(&model, batches[pass % 4].clone());
            model = TrainStep::optimize(model, &mut optim, 1e-2.into(), output.grads);
            saved.push(bytes(&optim, model.clone()));
        }
        let undisturbed = end(&model, &switching);
        assert!(undisturbed.counters.gradient_evaluations >= 5, "{:?}", switching.events());
        for (pass, (optimizer, record)) in saved.into_iter().enumerate().take(passes - 1) {
            let switching = start(&json);
            let optim: ModuleOptimizer = switching.clone().into();
            let mut optim = optim.from_bytes(optimizer).expect("a record");
            let record = ModuleRecord::from_bytes(record).expect("a record");
            let mut model = switching.attach(Net::new(6, 77)).load_record(record);
            let mut next = pass + 1;
            while next < passes {
                let output = TrainStep::step(&model, batches[next % 4].clone());
                model = TrainStep::optimize(model, &mut optim, 1e-2.into(), output.grads);
                // A pass that only revealed the trial point is not counted, and its batch comes again.
                next = switching.counters().passes as usize;
            }
            assert_eq!(end(&model, &switching), undisturbed, "{search} after pass {pass}");
        }
    }
}

#[test]
fn an_own_loop_resumes_bit_for_bit_after_any_call() {
    let calls = 12;
    let batch = all(60);
    for direction in ["conjugate_gradient", "l_bfgs"] {
        for search in ["hager_zhang", "strong_wolfe", "golden_section"] {
            let json = method(direction, search);
            let switching = start(&json);
            let mut net = Net::new(6, 1);
            let mut saved = Vec::new();
            for _ in 0..calls {
                (net, _) = switching.step_with(1e-2, net, objective(&batch));
                saved.push((
                    switching.to_record().into_bytes().expect("bytes"),
                    net.clone().into_record().into_bytes().expect("bytes"),
                ));
            }
            let undisturbed = end(&net, &switching);
            assert!(undisturbed.counters.iterations >= 2, "{json} {:?}", switching.events());
            for (call, (optimizer, model)) in saved.into_iter().enumerate().take(calls - 1) {
                let switching = start(&json);
                switching.load_record(OptimizerRecord::from_bytes(optimizer).expect("a record"));
                let mut net = Net::new(6, 77).load_record(ModuleRecord::from_bytes(model).expect("a record"));
                for _ in call + 1..calls {
                    (net, _) = switching.step_with(1e-2, net, objective(&batch));
                }
                assert_eq!(end(&net, &switching), undisturbed, "{direction} {search} after call {call}");
            }
        }
    }
}

/// A record in the convex phase, and the model it belongs to.
fn convex_record(json: &Value) -> (Bytes, Net) {
    let switching = start(json);
    let mut optim: ModuleOptimizer = switching.clone().into();
    let mut net = Net::new(6, 1);
    for pass in 0..9 {
        net = optim.step(1e-2, net.clone(), objective(&batches()[pass % 4])(&net).1);
    }
    assert_eq!(switching.phase(), Phase::Convex);
    (optim.into_bytes().expect("bytes"), net)
}

fn record_config() -> Value {
    json!({ "detector": swap_at(1), "window": 4, "direction": { "kind": "conjugate_gradient" } })
}

/// The optimizer after one step with a record.
fn after_loading(json: &Value, record: Bytes, net: Net) -> (ConvexitySwitching, Net) {
    let switching = start(json);
    let optim: ModuleOptimizer = switching.clone().into();
    let mut optim = optim.from_bytes(record).expect("a record of Burn's");
    let grads = objective(&all(60))(&net).1;
    let net = optim.step(1e-2, net, grads);
    (switching, net)
}

/// Where the text "layout" stands in a record and how long it is; its number follows. CBOR (RFC 8949) within the integers
/// of a CBOR array: those above 23 have a byte 0x18 before them.
fn layout_in(record: &[u8]) -> (usize, usize) {
    let text: Vec<u8> = b"\x66layout".iter().flat_map(|byte| [0x18, *byte]).collect();
    let at = record.windows(text.len()).position(|bytes| bytes == text).expect("the layout");
    (at, text.len())
}

#[test]
fn a_record_of_another_layout_is_refused_by_name() {
    let (record, net) = convex_record(&record_config());
    let mut record = record.to_vec();
    let (at, length) = layout_in(&record);
    record[at + length] += 6;
    let (switching, after) = after_loading(&record_config(), Bytes::from_bytes_vec(record), net);
    let Some(Refusal::RecordLayout { found, expected }) = refused(&switching) else {
        panic!("{:?}", switching.events())
    };
    assert_eq!(found, expected + 6);
    assert_eq!(switching.phase(), Phase::NonConvex);
    assert!(values(&after).iter().all(|x| x.is_finite()));
}

#[test]
fn a_record_whose_rows_are_of_another_layout_is_refused_as_such() {
    let (record, net) = convex_record(&record_config());
    let mut record = record.to_vec();
    let (at, length) = layout_in(&record);
    record[at + length] -= 1;
    // A field of the rows had another name.
    for at in 0..record.len() - 6 {
        if &record[at..at + 6] == b"matrix" {
            record[at..at + 6].copy_from_slice(b"column");
        }
    }
    let (switching, _) = after_loading(&record_config(), Bytes::from_bytes_vec(record), net);
    let refusal = refused(&switching);
    assert!(matches!(refusal, Some(Refusal::RecordLayout { found, expected }) if found + 1 == expected), "{refusal:?}");
}

#[test]
fn a_convex_phase_that_begins_without_a_gradient_has_a_record_that_can_be_read() {
    let json = json!({ "detector": swap_at(1), "window": 4 });
    let nothing = |net: &Net, pass: usize| {
        let loss = net.loss(&batches()[pass % 4]).mul_scalar(0.0);
        burn::optim::GradientsParams::from_grads(loss.backward(), net)
    };
    let switching = start(&json);
    let mut optim: ModuleOptimizer = switching.clone().into();
    let mut net = Net::new(6, 1);
    for pass in 0..10 {
        let grads = nothing(&net, pass);
        net = optim.step(1e-2, net, grads);
    }
    assert_eq!(switching.phase(), Phase::Convex);
    let (again, _) = after_loading(&json, optim.into_bytes().expect("bytes"), net);
    assert_eq!((refused(&again), again.phase()), (None, Phase::Convex));
}

#[test]
fn a_record_of_another_configuration_is_refused_by_the_part_that_differs() {
    for (part, value) in [
        ("direction", json!({ "kind": "l_bfgs" })),
        ("window", json!(5)),
        ("detector", swap_at(2)),
        ("line_search", json!({ "kind": "strong_wolfe" })),
        ("metric", json!("identity")),
        ("inner", json!({ "kind": "adamw" })),
    ] {
        let (record, net) = convex_record(&record_config());
        let mut other = record_config();
        other[part] = value;
        let (switching, _) = after_loading(&other, record, net);
        assert_eq!(refused(&switching), Some(Refusal::RecordConfig { part: part.into() }));
        assert_eq!(switching.phase(), Phase::NonConvex);
    }
}

#[test]
fn where_an_editor_finds_the_schema_is_no_other_configuration() {
    let (record, net) = convex_record(&record_config());
    let mut other = record_config();
    other["$schema"] = json!("elsewhere.json");
    let (switching, _) = after_loading(&other, record, net);
    assert_eq!((refused(&switching), switching.phase()), (None, Phase::Convex));
}

#[test]
fn a_record_of_plain_adam_is_refused_by_name_and_training_goes_on() {
    let mut adam: ModuleOptimizer = AdamConfig::new().init();
    let mut net = Net::new(6, 1);
    for _ in 0..3 {
        net = adam.step(1e-2, net.clone(), objective(&all(60))(&net).1);
    }
    let (switching, after) = after_loading(&record_config(), adam.into_bytes().expect("bytes"), net.clone());
    let Some(Refusal::RecordUnreadable { reason }) = refused(&switching) else { panic!("{:?}", switching.events()) };
    assert!(reason.contains("no state of this optimizer"), "{reason}");
    assert!(values(&after) != values(&net) && values(&after).iter().all(|x| x.is_finite()));
}

#[test]
fn a_damaged_record_is_refused_by_name() {
    let (record, net) = convex_record(&record_config());
    let mut record = record.to_vec();
    let (at, _) = layout_in(&record);
    // 0x1c begins no valid CBOR (RFC 8949, section 3).
    record[at + 1] = 0x1c;
    let (switching, after) = after_loading(&record_config(), Bytes::from_bytes_vec(record), net);
    assert!(matches!(refused(&switching), Some(Refusal::RecordUnreadable { .. })), "{:?}", switching.events());
    assert!(values(&after).iter().all(|x| x.is_finite()));
}

/// How many elements a record holds: the inner optimizer's, and ours.
fn elements_of(optim: &ModuleOptimizer) -> [usize; 2] {
    let reader = burn_pack::Reader::from_bytes(optim.into_bytes().expect("bytes")).expect("a record");
    let mut elements = [0; 2];
    for tensor in reader.into_tensors().expect("tensors") {
        let (name, _, shape, _, _) = tensor.into_parts().expect("parts");
        let (_, field) = name.split_once('.').expect("a parameter's field");
        if field != "switching" {
            elements[usize::from(!field.starts_with("inner."))] += shape.num_elements();
        }
    }
    elements
}

/// The same in vectors the size of the parameters, where there is nothing else.
fn vectors_beside_adam_s(optim: &ModuleOptimizer, net: &Net) -> [usize; 2] {
    let (elements, size) = (elements_of(optim), values(net).len());
    assert!(elements.iter().all(|elements| elements.is_multiple_of(size)), "{elements:?} {size}");
    elements.map(|elements| elements / size)
}

#[test]
fn the_metric_of_the_gradients_is_two_matrices_for_each_matrix_and_one_vector_for_each_vector() {
    let elements = |metric: &str, batch_gradients: usize| {
        let direction = json!({ "kind": "l_bfgs", "batch_gradients": batch_gradients });
        let switching =
            start(&json!({ "detector": swap_at(1), "window": 4, "metric": metric, "direction": direction }));
        let mut optim: ModuleOptimizer = switching.clone().into();
        let mut net = Net::new(20, 1);
        for pass in 0..16 {
            net = optim.step(1e-2, net.clone(), objective(&batches()[pass % 4])(&net).1);
        }
        assert_eq!(switching.phase(), Phase::Convex);
        elements_of(&optim)[1]
    };
    let [inner, kronecker] = ["inner", "kronecker"].map(|metric| elements(metric, 0));
    // Weights of [2, 20] and [20, 1], the latter as a vector, and biases of 20 and 1.
    assert_eq!(kronecker - inner, 2 * 2 + 20 * 20 + 20 + 20 + 1);
    let parameters = values(&Net::new(20, 1)).len();
    // Two evaluations of four batches have ended, and where there are more than six gradients neighbours are added together.
    let [all, six] = [100, 6].map(|most| elements("kronecker", most));
    assert_eq!([all - kronecker, six - kronecker], [8 * parameters, 4 * parameters]);
    assert_eq!(elements("inner", 100), inner);
}

#[test]
fn all_evaluations_before_the_first_search_give_batch_gradients_also_where_the_average_is_worse() {
    let elements = |check: bool, batch_gradients: usize| {
        let switching = start(&json!({
            "detector": swap_at(1),
            "window": 4,
            "start": "average",
            "evaluation": { "check": check },
            "direction": { "kind": "l_bfgs", "batch_gradients": batch_gradients },
        }));
        let mut optim: ModuleOptimizer = switching.clone().into();
        let mut net = switching.attach(Net::new(20, 1));
        // A window, the last point, the average, the last point again, and a pass of the search.
        for pass in 0..17 {
            let output = TrainStep::step(&net, batches()[pass % 4].clone());
            net = TrainStep::optimize(net, &mut optim, 1e-3.into(), output.grads);
        }
        let worse = |kind: &EventKind| matches!(kind, EventKind::Start { last, average } if average > last);
        assert_eq!(count(&switching, worse), 1, "{:?}", switching.events());
        elements_of(&optim)[1]
    };
    let parameters = values(&Net::new(20, 1)).len();
    for check in [true, false] {
        assert_eq!(elements(check, 100) - elements(check, 0), 12 * parameters, "{check}");
    }
}

#[test]
fn conjugate_gradients_keep_at_most_four_vectors_beside_adam_s_two() {
    for attached in [true, false] {
        let mut json = record_config();
        json["metric"] = json!("inner");
        let switching = start(&json);
        let mut optim: ModuleOptimizer = switching.clone().into();
        let (mut wrapped, mut net) = (switching.attach(Net::new(40, 1)), Net::new(40, 1));
        if !attached {
            optim = start(&json).into();
        }
        let mut most = 0;
        for pass in 0..60 {
            let batch = batches()[pass % 4].clone();
            if attached {
                let output = TrainStep::step(&wrapped, batch);
                wrapped = TrainStep::optimize(wrapped, &mut optim, 1e-2.into(), output.grads);
                net = wrapped.inner().clone();
            } else {
                let grads = objective(&batch)(&net).1;
                net = optim.step(1e-2, net, grads);
            }
            let [inner, ours] = vectors_beside_adam_s(&optim, &net);
            assert_eq!(inner, 2);
            assert!(ours <= 4, "pass {pass}: {ours}");
            most = most.max(ours);
        }
        assert_eq!(most, 4);
    }
}

#[test]
fn l_bfgs_keeps_two_vectors_for_each_pair_and_no_more_pairs_than_its_memory() {
    let mut json = record_config();
    json["direction"] = json!({ "kind": "l_bfgs", "memory": 3 });
    json["metric"] = json!("inner");
    json["safe_resort"] = json!({ "enabled": false });
    let switching = start(&json);
    let mut optim: ModuleOptimizer = switching.clone().into();
    let mut net = Net::new(40, 1);
    for pass in 0..80 {
        net = optim.step(1e-2, net.clone(), objective(&batches()[pass % 4])(&net).1);
    }
    assert!(switching.counters().iterations > 4, "{:?}", switching.events());
    let [_, ours] = vectors_beside_adam_s(&optim, &net);
    assert!((6..=6 + 4).contains(&ours), "{ours}");
}
