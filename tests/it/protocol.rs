//! The pass protocol: a whole-model method through a per-tensor trait.

use burn::data::dataloader::DataLoader;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamConfig, AdamWConfig, GradientsParams, ModuleOptimizer, SgdConfig};
use burn::train::{TrainOutput, TrainStep};
use burn_convexity::{Attached, EventKind, Phase};
use serde_json::json;

use crate::support::{Batch, Net, all, config, count, loader, mean_loss, objective, swap_at, values};

#[test]
fn until_the_swap_parameters_are_those_of_the_inner_optimizer_bit_for_bit() {
    let momentum = MomentumConfig::new().with_momentum(0.8);
    let inner: [(_, ModuleOptimizer); 4] = [
        (json!({ "kind": "adam" }), AdamConfig::new().init()),
        (json!({ "kind": "adamw" }), AdamWConfig::new().init()),
        (json!({ "kind": "sgd" }), SgdConfig::new().init()),
        (
            json!({ "kind": "sgd", "momentum": { "momentum": 0.8 } }),
            SgdConfig::new().with_momentum(Some(momentum)).init(),
        ),
    ];
    for (inner, mut burns) in inner {
        let switching = config(json!({ "inner": inner, "detector": { "kind": "never" } })).init().expect("valid");
        let mut ours: ModuleOptimizer = switching.clone().into();
        let (mut a, mut b) = (Net::new(8, 1), Net::new(8, 1));
        for _ in 0..5 {
            for batch in loader(60, 16).iter().map(Result::unwrap) {
                let (_, grads) = objective(&batch)(&a);
                a = ours.step(1e-2, a, grads);
                let (_, grads) = objective(&batch)(&b);
                b = burns.step(1e-2, b, grads);
            }
        }
        assert_eq!(a.values(), b.values(), "{inner}");
        assert_ne!(a.values(), Net::new(8, 1).values(), "{inner}");
        assert_eq!(switching.counters().passes, 20);
    }
}

#[test]
fn the_detector_sees_the_norm_of_the_whole_gradient_not_of_one_tensor() {
    let switching = config(json!({ "detector": { "kind": "never" }, "window": 1 })).init().expect("valid");
    let reports = switching.reports();
    let mut optim: ModuleOptimizer = switching.clone().into();
    let net = Net::new(8, 1);
    let (_, grads) = objective(&all(60))(&net);
    let squares =
        |values: Option<Vec<f32>>| values.expect("a gradient").iter().map(|g| f64::from(*g).powi(2)).sum::<f64>();
    let data = |id| grads.get::<2>(id).map(|g| g.into_data().iter::<f32>().collect());
    let bias = |id| grads.get::<1>(id).map(|g| g.into_data().iter::<f32>().collect());
    let bias_of = |layer: &burn::nn::Linear| layer.bias.as_ref().expect("a bias").id;
    let whole = squares(data(net.first.weight.id))
        + squares(data(net.second.weight.id))
        + squares(bias(bias_of(&net.first)))
        + squares(bias(bias_of(&net.second)));
    let net = optim.step(1e-2, net, grads);
    let (_, grads) = objective(&all(60))(&net);
    drop(optim.step(1e-2, net, grads));
    let seen = reports.try_recv().expect("a window").observation;
    assert!((seen.batch_norm - whole.sqrt()).abs() < 1e-5 * whole.sqrt(), "{} {}", seen.batch_norm, whole.sqrt());
    assert!((seen.mean_norm - whole.sqrt()).abs() < 1e-5 * whole.sqrt(), "{} {}", seen.mean_norm, whole.sqrt());
}

#[test]
fn a_plain_drop_in_descends_in_the_convex_phase() {
    let switching = config(json!({ "detector": swap_at(1), "window": 4 })).init().expect("valid");
    let mut optim: ModuleOptimizer = switching.clone().into();
    let mut net = Net::new(8, 1);
    let at_swap = {
        for batch in loader(64, 16).iter().map(Result::unwrap) {
            let (_, grads) = objective(&batch)(&net);
            net = optim.step(1e-2, net, grads);
        }
        mean_loss(&net, 64)
    };
    for _ in 0..60 {
        for batch in loader(64, 16).iter().map(Result::unwrap) {
            let (_, grads) = objective(&batch)(&net);
            net = optim.step(1e-2, net, grads);
        }
    }
    let counters = switching.counters();
    let loss = mean_loss(&net, 64);
    println!("{at_swap} -> {loss} {counters:?} {:?}", switching.events());
    assert_eq!(switching.phase(), Phase::Convex);
    assert!(counters.iterations > 10, "{counters:?}");
    assert!(loss < 0.5 * at_swap, "{at_swap} -> {loss}");
}

#[test]
fn an_own_loop_and_a_hand_driven_attach_agree_bit_for_bit_on_the_full_batch() {
    let json = json!({ "detector": swap_at(3), "window": 1, "safe_resort": {"enabled": false} });
    let batch = all(64);
    let own = config(json.clone()).init().expect("valid");
    let mut a = Net::new(8, 1);
    let mut evaluations = 0;
    for _ in 0..12 {
        let outcome;
        (a, outcome) = own.step_with(1e-2, a, objective(&batch));
        evaluations += outcome.evaluations;
    }
    println!("{:?} {:?} {}", own.counters(), own.events(), mean_loss(&a, 64));
    assert_eq!(own.counters().iterations, 9);

    let attached = config(json).init().expect("valid");
    let mut optim: ModuleOptimizer = attached.clone().into();
    let mut b = attached.attach(Net::new(8, 1));
    for _ in 0..evaluations {
        let output = burn::train::TrainStep::step(&b, batch.clone());
        b = burn::train::TrainStep::optimize(b, &mut optim, 1e-2.into(), output.grads);
    }
    assert_eq!(values(&a), values(&b));
    assert_eq!(own.counters(), attached.counters());
}

#[test]
fn a_spare_pass_of_the_drop_in_ignores_its_gradient() {
    // The same run with the spare batch replaced by nonsense ends at the same parameters.
    let run = |nonsense: f32| {
        let switching = config(json!({ "detector": swap_at(1), "window": 1, "evaluation": { "check": false } }))
            .init()
            .expect("valid");
        let mut optim: ModuleOptimizer = switching.clone().into();
        let batch = all(64);
        let mut net = Net::new(4, 1);
        for pass in 0..24 {
            // Pass 0 is Adam's, then evaluations and applications take turns.
            let scale = if pass > 0 && pass % 2 == 0 { nonsense } else { 1.0 };
            let loss = net.loss(&batch).mul_scalar(scale);
            let grads = GradientsParams::from_grads(loss.backward(), &net);
            net = optim.step(1e-2, net, grads);
        }
        assert!(switching.events().iter().any(|event| matches!(event.kind, EventKind::Swap { .. })));
        net.values()
    };
    assert_eq!(run(1.0), run(-1e6));
}

/// A pass of a wrapper, in which the second layer has no gradient where it is `blind`; the loss.
fn pass(net: &mut Option<Attached<Net>>, optim: &mut ModuleOptimizer, batch: &Batch, blind: bool) -> f64 {
    let model = net.take().expect("it was put back");
    let TrainOutput { mut grads, item } = TrainStep::step(&model, batch.clone());
    if blind {
        let second = &model.inner().second;
        grads.remove::<2>(second.weight.id);
        grads.remove::<1>(second.bias.as_ref().expect("a bias").id);
    }
    *net = Some(TrainStep::optimize(model, optim, 1e-2.into(), grads));
    item.loss.into_scalar::<f64>()
}

#[test]
fn a_phase_left_within_an_evaluation_leaves_nothing_to_the_window_behind_it() {
    let json = json!({ "detector": swap_at(2), "window": 4, "safe_resort": { "hold_off": 9 } });
    let switching = config(json).init().expect("valid");
    let reports = switching.reports();
    let mut optim: ModuleOptimizer = switching.clone().into();
    let mut net = Some(switching.attach(Net::new(8, 1)));
    let batches: Vec<Batch> = loader(60, 15).iter().map(Result::unwrap).collect();
    for pass_number in 0..8 + 4 + 1 {
        pass(&mut net, &mut optim, &batches[pass_number % 4], false);
    }
    assert_eq!(switching.phase(), Phase::Convex);
    pass(&mut net, &mut optim, &batches[1], true);
    assert_eq!(switching.phase(), Phase::NonConvex, "{:?}", switching.events());
    let _ = reports.try_iter().count();
    let losses: Vec<f64> = batches.iter().map(|batch| pass(&mut net, &mut optim, batch, false)).collect();
    let report = reports.try_iter().next().expect("a window");
    let (shown, mean) = (report.observation.loss.expect("shown"), losses.iter().sum::<f64>() / 4.0);
    assert!((shown / mean - 1.0).abs() < 1e-6, "{shown} {mean}");
}

#[test]
fn a_pass_costs_its_share_of_the_training_set() {
    let defaults = |switching: &_| count(switching, |kind| matches!(kind, EventKind::DefaultWindow { .. }));
    // Calls, and the costs of the plain drop-in and of the own loop; the default window is one of 100 passes.
    for (window, calls, drop_in, own) in [(json!(6), 12, 2.0, 2.0), (json!(null), 50, 0.5, 50.0)] {
        let json = json!({ "window": window, "detector": { "kind": "never" } });
        let (plain, looped) = (config(json.clone()).init().expect("valid"), config(json).init().expect("valid"));
        let mut optim: ModuleOptimizer = plain.clone().into();
        let (batch, mut a, mut b) = (all(16), Net::new(4, 1), Net::new(4, 1));
        for _ in 0..calls {
            let (_, grads) = objective(&batch)(&a);
            a = optim.step(1e-2, a, grads);
            (b, _) = looped.step_with(1e-2, b, objective(&batch));
        }
        let costs = [plain.counters().cost, looped.counters().cost];
        assert!((costs[0] - drop_in).abs() < 1e-9 && (costs[1] - own).abs() < 1e-9, "{costs:?}");
        assert_eq!((defaults(&plain), defaults(&looped)), (usize::from(window.is_null()), 0));
    }
    let tracked = config(json!({ "detector": { "kind": "never" } })).init().expect("valid");
    let train = tracked.track(loader(60, 16));
    let mut optim: ModuleOptimizer = tracked.clone().into();
    let mut net = Net::new(4, 1);
    for (pass, batch) in train.iter().map(Result::unwrap).enumerate() {
        let (_, grads) = objective(&batch)(&net);
        net = optim.step(1e-2, net, grads);
        let cost = [16.0, 32.0, 48.0, 60.0][pass] / 60.0;
        assert!((tracked.counters().cost - cost).abs() < 1e-9, "{:?}", tracked.counters());
    }
    assert_eq!(defaults(&tracked), 0);
}

#[test]
fn an_evaluation_has_the_batches_configured_and_is_the_whole_call_of_an_own_loop() {
    let json = json!({
        "window": 2, "detector": swap_at(2), "evaluation": { "batches": 3, "check": false },
        "safe_resort": { "enabled": false },
    });
    let (attached, looped) = (config(json.clone()).init().expect("valid"), config(json).init().expect("valid"));
    let mut optim: ModuleOptimizer = attached.clone().into();
    let (batch, mut a, mut b) = (all(16), Some(attached.attach(Net::new(4, 1))), Net::new(4, 1));
    let mut calls = 0;
    for _ in 0..4 + 30 {
        pass(&mut a, &mut optim, &batch, false);
        (b, _) = looped.step_with(1e-2, b, |net: &Net| {
            calls += 1;
            objective(&batch)(net)
        });
    }
    assert_eq!((attached.counters().gradient_evaluations, attached.counters().passes), (10, 34));
    assert_eq!(looped.counters().gradient_evaluations, calls - 4);
    assert!(looped.counters().iterations >= 29, "{:?}", looped.counters());
}
