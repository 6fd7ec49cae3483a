//! Records cut short, changed in one byte, or of another model: refused by name or read in full, never half.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::data::dataloader::DataLoader;
use burn::module::{Module, ModuleMapper, Param};
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer, OptimizerRecord};
use burn::store::ModuleRecord;
use burn::tensor::{Bytes, Tensor, TensorData};
use burn::train::{RegressionOutput, TrainStep};
use burn_convexity::{ConvexitySwitching, EventKind, Phase, Refusal};
use serde_json::{Value, json};

use crate::resume::{batches, bytes};
use crate::support::{Batch, Net, all, config, count, device, loader, objective, refused, swap_at, values};

fn settings() -> Value {
    json!({
        "detector": swap_at(1),
        "window": 4,
        "direction": { "kind": "l_bfgs", "memory": 3 },
        "safe_resort": { "enabled": false },
    })
}

fn start() -> ConvexitySwitching {
    config(settings()).init().expect("valid")
}

fn pass(optim: &mut ModuleOptimizer, net: Net, pass: usize) -> Net {
    let grads = objective(&batches()[pass % 4])(&net).1;
    optim.step(1e-2, net, grads)
}

/// Passes before the record: in the convex phase, behind some iterations, within an evaluation.
const PASSES: usize = 52;

/// A record in the convex phase and the model it belongs to.
fn record() -> (Vec<u8>, Net) {
    let switching = start();
    let (mut optim, mut net) = (ModuleOptimizer::from(switching.clone()), Net::new(2, 1));
    for p in 0..PASSES {
        net = pass(&mut optim, net, p);
    }
    assert_eq!(switching.phase(), Phase::Convex);
    assert!(switching.counters().iterations >= 2, "{:?}", switching.events());
    (optim.into_bytes().expect("bytes").to_vec(), net)
}

/// The end of a run that goes on from a record.
fn go_on(record: &[u8], mut net: Net) -> Result<(Vec<u32>, ConvexitySwitching), String> {
    let record =
        OptimizerRecord::from_bytes(Bytes::from_bytes_vec(record.to_vec())).map_err(|error| error.to_string())?;
    let switching = start();
    let mut optim = ModuleOptimizer::from(switching.clone()).load_record(record);
    for p in PASSES..PASSES + 12 {
        net = pass(&mut optim, net, p);
    }
    Ok((values(&net).into_iter().map(f32::to_bits).collect(), switching))
}

#[test]
fn a_record_cut_short_anywhere_is_refused_before_any_state_is_read() {
    let (record, _) = record();
    for length in (0..record.len()).step_by(7).chain([record.len() - 1]) {
        let cut = Bytes::from_bytes_vec(record[..length].to_vec());
        assert!(OptimizerRecord::from_bytes(cut).is_err(), "{length} of {} bytes", record.len());
    }
}

/// What became of a record with one byte changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// Burn did not take it.
    BurnRefused,
    /// Refused by name; Adam went on.
    Refused,
    /// Nothing was lost: the same end.
    Same,
    /// Burn takes it for the record of other parameters, or of none, and a new optimizer begins.
    Unseen,
    /// Read without a word, and the end was another one.
    Silent,
    /// Burn panicked before any of this crate's code saw the record.
    BurnPanic,
    Panic,
}

/// What Burn's own reader of records panics with.
const BURN: [&str; 2] = ["should carry a parameter id", "should match the optimizer state type"];

fn fate(record: &[u8], net: &Net, whole: &[u32]) -> (Fate, String) {
    match catch_unwind(AssertUnwindSafe(|| go_on(record, net.clone()))) {
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default();
            let burn = BURN.iter().any(|known| text.contains(known));
            (if burn { Fate::BurnPanic } else { Fate::Panic }, text)
        }
        Ok(Err(error)) => (Fate::BurnRefused, error),
        Ok(Ok((end, switching))) => {
            let text = format!("{:?}", switching.events());
            if let Some(refusal) = refused(&switching) {
                assert_eq!(switching.phase(), Phase::NonConvex, "{text}");
                assert!(end.iter().all(|x| f32::from_bits(*x).is_finite()), "{text}");
                assert!(matches!(
                    refusal,
                    Refusal::RecordUnreadable { .. } | Refusal::RecordConfig { .. } | Refusal::RecordLayout { .. }
                ));
                return (Fate::Refused, text);
            }
            let resumed = count(&switching, |kind| matches!(kind, EventKind::Resumed { .. }));
            let fate = match (end == whole, resumed) {
                (true, 1) => Fate::Same,
                (false, 0) => Fate::Unseen,
                _ => Fate::Silent,
            };
            (fate, text)
        }
    }
}

/// Change single bytes: each is refused by name or changes nothing.
fn changed(step: usize, masks: &[u8]) {
    let (record, net) = record();
    let (whole, _) = go_on(&record, net.clone()).expect("a record");
    let mut fates: BTreeMap<Fate, (usize, String)> = BTreeMap::new();
    for at in (0..record.len()).step_by(step) {
        for mask in masks {
            let mut record = record.clone();
            record[at] ^= mask;
            let (fate, text) = fate(&record, &net, &whole);
            let entry = fates.entry(fate).or_insert_with(|| (0, format!("byte {at} ^ {mask:#x}: {text}")));
            entry.0 += 1;
            if matches!(fate, Fate::Panic | Fate::Silent | Fate::Unseen) {
                println!("{fate:?} byte {at} ^ {mask:#x}: {}", text.chars().take(400).collect::<String>());
            }
        }
    }
    println!("{} bytes", record.len());
    fates.iter().for_each(|(fate, (times, _))| println!("{fate:?}: {times}"));
    for never in [Fate::Silent, Fate::Unseen, Fate::Panic] {
        assert_eq!(fates.get(&never), None);
    }
    assert!(fates.contains_key(&Fate::Refused) && fates.contains_key(&Fate::Same));
}

#[test]
fn a_record_changed_in_one_byte_is_refused_or_read_in_full() {
    changed(19, &[0x01, 0x80]);
}

/// Every byte, three changes each: `cargo test --release --features cli --test it -- --ignored every_byte --nocapture`.
#[test]
#[ignore = "a minute or more"]
fn a_record_changed_in_every_byte_is_refused_or_read_in_full() {
    changed(1, &[0x01, 0x80, 0xff]);
}

// ---- parameters that come and go ----

/// Whether the first layer is trained.
fn thaw(mut net: Net, trained: bool) -> Net {
    net.first.weight = net.first.weight.set_require_grad(trained);
    net.first.bias = net.first.bias.map(|bias| bias.set_require_grad(trained));
    net
}

/// The same for any module of the network's shapes, in the course of a run.
struct Thaw(bool);

impl ModuleMapper for Thaw {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match param.shape().as_slice() {
            [2, 4] | [4] => param.set_require_grad(self.0),
            _ => param,
        }
    }
}

/// The epoch in which the first layer thaws, the first of the model and the last to the optimizer.
const THAWED: usize = 2;

/// Epochs by hand; what is saved after each.
fn epochs<M>(
    (mut model, optim): (M, &mut ModuleOptimizer),
    train: &dyn DataLoader<Batch>,
    epochs: Range<usize>,
) -> Vec<(Bytes, Bytes, Vec<f32>)>
where
    M: Module + TrainStep<Input = Batch, Output = RegressionOutput>,
{
    let mut saved = Vec::new();
    for epoch in epochs {
        model = model.map(&mut Thaw(epoch >= THAWED));
        for batch in train.iter() {
            let output = TrainStep::step(&model, batch.expect("a batch"));
            model = TrainStep::optimize(model, optim, 1e-2.into(), output.grads);
        }
        let (record, weights) = bytes(optim, model.clone());
        saved.push((record, weights, values(&model)));
    }
    saved
}

#[test]
fn a_run_that_thaws_an_earlier_layer_resumes_bit_for_bit_from_every_epoch() {
    let last = 14;
    let json = json!({ "detector": swap_at(4), "start": "last", "safe_resort": { "enabled": false } });
    let start = || {
        let switching = config(json.clone()).init().expect("valid");
        let train = switching.track(loader(60, 12));
        (switching.clone(), train, ModuleOptimizer::from(switching))
    };
    for attached in [true, false] {
        let (whole, train, mut optim) = start();
        let saved = match attached {
            true => epochs((whole.attach(Net::new(4, 1)), &mut optim), train.as_ref(), 0..last),
            false => epochs((Net::new(4, 1), &mut optim), train.as_ref(), 0..last),
        };
        assert_eq!((whole.phase(), refused(&whole)), (Phase::Convex, None));
        assert!(whole.counters().iterations >= 2, "{:?}", whole.events());
        let path: Vec<_> = saved.iter().map(|(.., values)| values.clone()).collect();
        for (epoch, (record, weights, _)) in saved.into_iter().enumerate().take(last - 1) {
            let (after, train, optim) = start();
            let mut optim = optim.from_bytes(record).expect("a record");
            let net = Net::new(4, 77);
            let weights = ModuleRecord::from_bytes(weights).expect("a record");
            let rest = epoch + 1..last;
            let again = match attached {
                true => epochs((after.attach(net).load_record(weights), &mut optim), train.as_ref(), rest),
                false => epochs((net.load_record(weights), &mut optim), train.as_ref(), rest),
            };
            let again: Vec<_> = again.into_iter().map(|(.., values)| values).collect();
            assert_eq!(again, path[epoch + 1..], "attached {attached} after {epoch}: {:?}", after.events());
            assert_eq!((refused(&after), after.counters()), (None, whole.counters()));
        }
    }
}

#[test]
fn the_plain_drop_in_cannot_tell_the_pass_of_a_layer_thawed_at_its_edge_and_refuses_by_name() {
    let json = json!({ "detector": swap_at(5), "window": 4, "safe_resort": { "enabled": false } });
    let start = || config(json.clone()).init().expect("valid");
    type Trained = fn(usize) -> bool;
    let cases: [(&str, Trained); 2] = [("thawed", |p| p >= 6), ("frozen and thawed", |p| !(4..14).contains(&p))];
    for (name, trained) in cases {
        for reload in [1000, 3] {
            let (mut switching, mut adam) = (start(), AdamConfig::new().init());
            let mut optim = ModuleOptimizer::from(switching.clone());
            let (mut net, mut other) = (Net::new(4, 1), Net::new(4, 1));
            for p in 0..40 {
                net = pass(&mut optim, thaw(net, trained(p)), p);
                other = pass(&mut adam, thaw(other, trained(p)), p);
                if p % reload == reload - 1 {
                    let record = optim.into_bytes().expect("bytes");
                    switching = start();
                    optim = ModuleOptimizer::from(switching.clone()).from_bytes(record).expect("a record");
                }
            }
            // Adam goes on, and what it knows of the layer lives through every record.
            assert_eq!(values(&net), values(&other), "{name}, {reload}");
            let events = switching.events();
            assert_eq!(refused(&switching), Some(Refusal::LateParameter), "{name}, {reload}: {events:?}");
            // Until a swap is due it matters to nobody.
            let told = events.iter().find(|event| matches!(event.kind, EventKind::Refused { .. })).expect("it is told");
            assert_eq!(told.window, 5, "{name}, {reload}: {events:?}");
        }
    }
}

#[test]
fn a_convex_phase_goes_on_only_where_the_checkpoint_s_point_is_the_same() {
    let start = || config(json!({ "detector": swap_at(2), "window": 1 })).init().expect("valid");
    for (passes, phase) in [(14, Phase::Convex), (1, Phase::NonConvex)] {
        for attached in [true, false] {
            let before = start();
            let (mut optim, train) = (ModuleOptimizer::from(before.clone()), loader(60, 60));
            let (record, weights) = match attached {
                true => steps(before.attach(Net::new(4, 1)), &mut optim, train.as_ref(), passes),
                false => steps(Net::new(4, 1), &mut optim, train.as_ref(), passes),
            };
            assert_eq!(before.phase(), phase);
            for attach in [true, false] {
                let after = start();
                let mut optim = ModuleOptimizer::from(after.clone()).from_bytes(record.clone()).expect("a record");
                let weights = ModuleRecord::from_bytes(weights.clone()).expect("a record");
                match attach {
                    true => steps(after.attach(Net::new(4, 9)).load_record(weights), &mut optim, train.as_ref(), 2),
                    false => steps(Net::new(4, 9).load_record(weights), &mut optim, train.as_ref(), 2),
                };
                let other = attach != attached && phase == Phase::Convex;
                let expected = other.then_some(Refusal::RecordPoint { attached });
                assert_eq!(refused(&after), expected, "{passes} {attached} {attach}");
                assert_eq!(after.phase() == Phase::NonConvex, other);
            }
        }
    }
}

#[test]
fn a_layer_thawed_with_the_resume_ends_the_convex_phase_it_was_not_in() {
    let json = json!({
        "detector": swap_at(2),
        "window": 1,
        "metric": "identity",
        "safe_resort": { "enabled": false, "hold_off": 1 },
    });
    let start = || config(json.clone()).init().expect("valid");
    for passes in 8..16 {
        for attached in [true, false] {
            let (before, after) = (start(), start());
            let [mut optim, resumed] = [&before, &after].map(|switching| ModuleOptimizer::from(switching.clone()));
            let [train, again] = [&before, &after].map(|switching| switching.track(loader(60, 60)));
            let frozen = |seed| thaw(Net::new(4, seed), false);
            let (record, weights) = match attached {
                true => steps(before.attach(frozen(1)), &mut optim, train.as_ref(), passes),
                false => steps(frozen(1), &mut optim, train.as_ref(), passes),
            };
            assert_eq!(before.phase(), Phase::Convex);
            let mut optim = resumed.from_bytes(record).expect("a record");
            let weights = ModuleRecord::from_bytes(weights).expect("a record");
            let net = thaw(Net::new(4, 9), true);
            let (_, weights) = match attached {
                true => steps(after.attach(net).load_record(weights), &mut optim, again.as_ref(), 40),
                false => steps(net.load_record(weights), &mut optim, again.as_ref(), 40),
            };
            let told = |kind: &EventKind| matches!(kind, EventKind::HandBack { reason, .. } if reason.contains("2 parameters had a gradient"));
            let events = after.events();
            assert_eq!((refused(&after), count(&after, told)), (None, 1), "{attached} {passes}: {events:?}");
            assert_eq!(after.phase(), Phase::Convex, "{attached} {passes}: {events:?}");
            let net = Net::new(4, 5).load_record(ModuleRecord::from_bytes(weights).expect("a record"));
            assert!(values(&net).iter().all(|x| x.is_finite()));
        }
    }
}

/// Epochs by hand, and what is saved at the end.
fn steps<M>(mut model: M, optim: &mut ModuleOptimizer, train: &dyn DataLoader<Batch>, epochs: usize) -> (Bytes, Bytes)
where
    M: Module + TrainStep<Input = Batch, Output = RegressionOutput>,
{
    for _ in 0..epochs {
        for batch in train.iter() {
            let output = TrainStep::step(&model, batch.expect("a batch"));
            model = TrainStep::optimize(model, optim, 1e-2.into(), output.grads);
        }
    }
    bytes(optim, model)
}

// ---- another model ----

/// A network beside a parameter of its own, so that records of both have names in common.
#[derive(Module, Debug)]
struct Wider {
    first: Option<Param<Tensor<1>>>,
    net: Net,
    last: Option<Param<Tensor<1>>>,
}

fn more() -> Option<Param<Tensor<1>>> {
    Some(Param::from_tensor(Tensor::from_data(TensorData::from([0.5_f32, -0.5]), &device().autodiff())))
}

fn gradients(model: &Wider) -> GradientsParams {
    let penalty = |more: &Option<Param<Tensor<1>>>| more.as_ref().map(|x| x.val().square().sum());
    let losses = [Some(model.net.loss(&all(60))), penalty(&model.first), penalty(&model.last)];
    let loss = losses.into_iter().flatten().reduce(|a, b| a + b).expect("a loss");
    GradientsParams::from_grads(loss.backward(), model)
}

/// Steps with the model, then goes on from the record with another model that shares its network.
fn other_model(before: &Wider, passes: usize, after: impl Fn(Wider) -> Wider) -> (ConvexitySwitching, Wider) {
    let mut json = settings();
    json["window"] = json!(1);
    json["safe_resort"]["hold_off"] = json!(1);
    let start = || config(json.clone()).init().expect("valid");
    let (mut optim, mut model) = (ModuleOptimizer::from(start()), before.clone());
    for _ in 0..passes {
        let grads = gradients(&model);
        model = optim.step(1e-2, model, grads);
    }
    let switching = start();
    let mut resumed =
        ModuleOptimizer::from(switching.clone()).from_bytes(optim.into_bytes().expect("bytes")).expect("it");
    let mut model = after(model);
    for _ in 0..30 {
        let grads = gradients(&model);
        model = resumed.step(1e-2, model, grads);
    }
    assert!(values(&model).iter().all(|x| x.is_finite()), "{:?}", switching.events());
    (switching, model)
}

#[test]
fn a_record_of_a_model_that_lacks_a_parameter_leaves_the_phase_and_the_plain_drop_in_refuses_the_next() {
    // A parameter before or behind all others: which pass it belongs to is not to be seen.
    let small = Wider { first: None, net: Net::new(4, 1), last: None };
    for passes in [12, 13] {
        for (first, last) in [(more(), None), (None, more())] {
            let grown = |model: Wider| Wider { first: first.clone(), last: last.clone(), ..model };
            let (switching, model) = other_model(&small, passes, grown);
            assert_eq!(refused(&switching), Some(Refusal::LateParameter), "{:?}", switching.events());
            assert_eq!(switching.phase(), Phase::NonConvex);
            assert_eq!(count(&switching, |kind| matches!(kind, EventKind::HandBack { .. })), 1);
            // Adam takes both down.
            let size = |more: &Option<Param<Tensor<1>>>| more.as_ref().map_or(0.0, |x| values_of(x)[0].abs());
            assert!(size(&model.first) + size(&model.last) < 0.4, "{:?}", values(&model));
        }
    }
}

fn values_of(param: &Param<Tensor<1>>) -> Vec<f32> {
    param.val().into_data().iter().collect()
}

#[test]
fn a_record_of_a_model_with_one_parameter_more_leaves_the_phase_or_is_refused_where_it_carried_the_decisions() {
    for passes in [12, 13] {
        let wide = Wider { first: None, net: Net::new(4, 1), last: more() };
        let (switching, _) = other_model(&wide, passes, |model| Wider { last: None, ..model });
        assert_eq!(refused(&switching), None);
        let told =
            |kind: &EventKind| matches!(kind, EventKind::HandBack { reason, .. } if reason.contains("and 4 have"));
        assert_eq!(count(&switching, told), 1, "{:?}", switching.events());

        let wide = Wider { first: more(), net: Net::new(4, 1), last: None };
        let (switching, _) = other_model(&wide, passes, |model| Wider { first: None, ..model });
        let Some(Refusal::RecordUnreadable { reason }) = refused(&switching) else {
            panic!("{:?}", switching.events())
        };
        assert!(reason.contains("carries the optimizer's decisions"), "{reason}");
        assert_eq!(switching.phase(), Phase::NonConvex);
    }
}

#[test]
fn a_record_whose_carrier_gets_its_gradient_too_late_is_not_read_any_more() {
    let mut json = settings();
    json["window"] = json!(1);
    let start = || config(json.clone()).init().expect("valid");
    let (mut optim, mut model) =
        (ModuleOptimizer::from(start()), Wider { first: more(), net: Net::new(4, 1), last: None });
    for _ in 0..12 {
        let grads = gradients(&model);
        model = optim.step(1e-2, model, grads);
    }
    let switching = start();
    let mut resumed =
        ModuleOptimizer::from(switching.clone()).from_bytes(optim.into_bytes().expect("bytes")).expect("it");
    for pass in 0..8 {
        let first = if pass < 4 { None } else { model.first.clone() };
        let grads = gradients(&Wider { first, ..model.clone() });
        model = resumed.step(1e-2, model, grads);
    }
    assert!(matches!(refused(&switching), Some(Refusal::RecordUnreadable { .. })), "{:?}", switching.events());
    assert_eq!(count(&switching, |kind| matches!(kind, EventKind::Resumed { .. })), 0, "{:?}", switching.events());
    assert_eq!((switching.phase(), switching.counters().passes), (Phase::NonConvex, 8));
}

/// Takes the gradient of a matrix in the middle away on the way to a trial point, for so many passes, and gives the phase in
/// which it comes again: it goes to the accepted point before anything else moves it.
fn frozen(hold_off: usize, passes: usize) -> Phase {
    let json = json!({ "detector": swap_at(1), "window": 1, "safe_resort": { "hold_off": hold_off } });
    let switching = config(json).init().expect("valid");
    let reports = switching.reports();
    let mut optim = ModuleOptimizer::from(switching.clone());
    let mut net = Net::new(4, 1);
    let point = |net: &Net| -> Vec<f32> { net.second.weight.val().into_data().iter().collect() };
    let away = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let mut accepted: Option<Vec<f32>> = None;
    let trial = loop {
        let (grads, before) = (objective(&all(60))(&net).1, point(&net));
        net = optim.step(1e-2, net, grads);
        if reports.try_iter().any(|report| report.phase == Phase::Convex && report.accepted) {
            accepted = Some(before);
        }
        let after = point(&net);
        if accepted.as_ref().is_some_and(|accepted| away(&after, accepted) > 1e-3) {
            break after;
        }
        assert!(switching.counters().passes < 20, "{:?}", switching.events());
    };
    let accepted = accepted.expect("an accepted point");
    for _ in 0..passes {
        let mut grads = objective(&all(60))(&net).1;
        grads.remove::<2>(net.second.weight.id);
        net = optim.step(0.0, net, grads);
    }
    assert_eq!(point(&net), trial);
    let phase = switching.phase();
    // A convex phase is left again: it began without that parameter, or has its gradient at another point.
    for _ in 0..if phase == Phase::Convex { 3 } else { 1 } {
        net = optim.step(0.0, net.clone(), objective(&all(60))(&net).1);
        let now = point(&net);
        assert!(away(&now, &accepted) < 1e-6, "{accepted:?} {trial:?} {now:?} {:?}", switching.events());
    }
    assert_eq!(refused(&switching), None);
    phase
}

#[test]
fn a_parameter_frozen_in_the_middle_of_a_search_goes_to_the_accepted_point_before_anything_else_moves_it() {
    assert_eq!(frozen(20, 3), Phase::NonConvex);
    // Where the next swap comes soon it comes by in the first evaluation, in a later one, or between them.
    let phases: Vec<Phase> = (3..9).map(|passes| frozen(1, passes)).collect();
    assert!(phases.contains(&Phase::Convex), "{phases:?}");
}

#[test]
fn a_record_of_a_model_with_no_parameter_in_common_is_not_handed_over_by_burn_and_changes_nothing() {
    // Burn looks states up by the parameters' names; of another model's it asks for none.
    let (record, _) = record();
    let (strange, mut fresh) = (start(), ModuleOptimizer::from(start()));
    let mut loaded =
        ModuleOptimizer::from(strange.clone()).from_bytes(Bytes::from_bytes_vec(record)).expect("a record");
    let (mut a, mut b) = (Net::new(2, 5), Net::new(2, 5));
    for p in 0..20 {
        a = pass(&mut loaded, a, p);
        b = pass(&mut fresh, b, p);
    }
    assert_eq!(values(&a), values(&b));
    assert_eq!(count(&strange, |kind| matches!(kind, EventKind::Resumed { .. })), 0);
    assert_eq!(strange.counters().passes, 20);
}
