//! The metric of the convex phase: which one it is, how far its first trial goes, and what it is worth.

use std::cell::RefCell;

use burn::data::dataloader::DataLoader;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Int, Tensor, TensorData};
use burn_convexity::convex::RestartReason;
use burn_convexity::{Event, EventKind, Phase};
use serde_json::{Value, json};

use crate::support::{Batch, Draw, Net, config, device, gradient, loader, objective, swap_at, values};

/// The losses of the evaluations of twelve epochs over 64 points in so many batches, by `attach`, swapped behind the third.
fn losses(metric: &str, batches: usize) -> Vec<f64> {
    losses_with(json!({ "metric": metric, "detector": swap_at(3), "window": batches }), batches)
}

fn losses_with(json: Value, batches: usize) -> Vec<f64> {
    let switching = config(json).init().expect("valid");
    let reports = switching.reports();
    let mut optim: ModuleOptimizer = switching.clone().into();
    let mut net = switching.attach(Net::new(8, 1));
    let batches: Vec<Batch> = loader(64, 64 / batches).iter().map(Result::unwrap).collect();
    for pass in 0..12 * batches.len() {
        let output = burn::train::TrainStep::step(&net, batches[pass % batches.len()].clone());
        net = burn::train::TrainStep::optimize(net, &mut optim, 1e-2.into(), output.grads);
    }
    let convex = reports.try_iter().filter(|report| report.phase == Phase::Convex);
    let losses: Vec<f64> = convex.map(|report| report.observation.loss.expect("it is shown")).collect();
    assert!(losses.len() > 6, "{losses:?}");
    losses
}

#[test]
fn the_default_metric_is_made_of_four_gradients_and_is_the_inner_optimizer_s_below() {
    assert_eq!(losses("auto", 4), losses("kronecker", 4));
    assert_ne!(losses("auto", 4), losses("inner", 4));
    assert_eq!(losses("auto", 2), losses("inner", 2));
    assert_ne!(losses("auto", 2), losses("kronecker", 2));
}

#[test]
fn a_metric_made_anew_is_made_at_the_accepted_point_and_the_descent_goes_on_from_there() {
    let run = |renewal: Value| {
        let json = json!({
            "detector": swap_at(3),
            "window": 4,
            "start": "last",
            "evaluation": { "check": false },
            "metric_renewal": renewal,
        });
        losses_with(json, 4)
    };
    // Behind the metric of the first evaluation, one of the search ends at a cost of 4 or more, and the next is at its point.
    let [with, never] = [json!(4.0), Value::Null].map(run);
    let at = (1..with.len()).find(|at| (with[*at] - with[at - 1]).abs() < 1e-6).expect("a renewal");
    assert!((4..8).contains(&at), "{at}: {with:?}");
    assert_eq!(with[..at], never[..at]);
    assert!((with[at] - never[at]).abs() > 1e-6, "{with:?} {never:?}");
    assert!(with[at + 1..].iter().any(|loss| *loss < with[at]), "{with:?}");
}

#[test]
fn a_plain_drop_in_spends_no_batch_on_a_renewal_and_renews_no_more_often_for_it() {
    let json = json!({
        "window": 4,
        "detector": swap_at(3),
        "start": "last",
        "evaluation": { "check": false },
        "metric_renewal": 4.0,
    });
    let switching = config(json).init().expect("valid");
    let reports = switching.reports();
    let (mut optim, mut net): (ModuleOptimizer, _) = (switching.clone().into(), Net::new(8, 1));
    let batches: Vec<Batch> = loader(64, 16).iter().map(Result::unwrap).collect();
    for batch in batches.iter().cycle().take(160) {
        net = optim.step(1e-2, net.clone(), objective(batch)(&net).1);
    }
    let renewal = |event: &Event| match event.kind {
        EventKind::Restart { reason: RestartReason::Renewal { .. } } => Some(event.cost),
        _ => None,
    };
    let renewals: Vec<f64> = switching.events().iter().filter_map(renewal).collect();
    assert!(renewals.len() >= 3, "{:?}", switching.events());
    // One evaluation for the metric, then four units.
    assert!(renewals.windows(2).all(|pair| pair[1] - pair[0] > 4.9), "{renewals:?}");
    // Four batches, where one behind a move takes five.
    let costs: Vec<f64> = reports.try_iter().map(|report| report.observation.cost).collect();
    let behind = |renewal: &f64| costs.iter().find(|cost| *cost > renewal).map(|cost| cost - renewal);
    let behind: Vec<f64> = renewals.iter().filter_map(behind).collect();
    assert!(behind.len() >= 3 && behind.iter().all(|cost| (cost - 1.0).abs() < 1e-9), "{behind:?}");
}

#[test]
fn all_evaluations_of_a_tracked_loader_without_attach_go_over_the_same_batches() {
    let json = json!({ "detector": swap_at(3), "metric_renewal": 4.0 });
    let switching = config(json).init().expect("valid");
    let reports = switching.reports();
    let mut optim: ModuleOptimizer = switching.clone().into();
    let (train, mut net) = (switching.track(loader(80, 16)), Net::new(8, 1));
    let mut evaluations = 0;
    for _ in 0..40 {
        let mut batches: Vec<Batch> = Vec::new();
        for batch in train.iter().map(Result::unwrap) {
            net = optim.step(1e-2, net.clone(), objective(&batch)(&net).1);
            batches.push(batch);
        }
        for report in reports.try_iter().filter(|report| report.phase == Phase::Convex) {
            // Behind the first batch, which moved it, it stands still.
            let each: Vec<Vec<f64>> = batches[1..].iter().map(|batch| gradient(&net, batch)).collect();
            let mean = (0..each[0].len()).map(|i| each.iter().map(|g| g[i]).sum::<f64>() / each.len() as f64);
            let norm = mean.map(|g| g * g).sum::<f64>().sqrt();
            let seen = report.observation.mean_norm;
            assert!((seen / norm - 1.0).abs() < 1e-3, "{evaluations}: {seen} {norm}");
            evaluations += 1;
        }
    }
    let renewed = |event: &Event| matches!(event.kind, EventKind::Restart { reason: RestartReason::Renewal { .. } });
    assert!(evaluations > 30 && switching.events().iter().any(renewed), "{evaluations}: {:?}", switching.events());
}

#[test]
fn batch_gradients_count_from_the_first_direction_behind_a_pair_wherever_the_phase_starts() {
    let run = |start: &str, check: bool, batch_gradients: usize| {
        let json = json!({
            "detector": swap_at(3),
            "window": 4,
            "start": start,
            "evaluation": { "check": check },
            // The rounding of losses would be magnified in the pairs.
            "direction": { "kind": "l_bfgs", "batch_gradients": batch_gradients, "function_values": false },
        });
        losses_with(json, 4)
    };
    for (start, check) in [("last", false), ("last", true), ("average", false), ("average", true)] {
        let [with, without] = [100, 0].map(|most| run(start, check, most));
        assert_eq!(with[0], without[0], "{start} {check}");
        assert!(with != without, "{start} {check}: {with:?}");
        assert!(with.iter().all(|loss| loss.is_finite()), "{start} {check}: {with:?}");
        // Of a whole evaluation nothing is left less its mean.
        let one = run(start, check, 1);
        assert!(one.iter().zip(&without).all(|(a, b)| (a - b).abs() < 1e-6), "{start} {check}: {one:?} {without:?}");
    }
}

/// Softmax regression of random labels on inputs that are mixtures of few scales, in batches of 32 of 256.
fn mixtures() -> Vec<(Tensor<2>, Tensor<1, Int>)> {
    const INPUTS: usize = 12;
    let mut draw = Draw(3);
    let mixing: Vec<f32> = (0..INPUTS * INPUTS).map(|_| draw.next()).collect();
    let batch = |_| {
        let mut inputs = Vec::new();
        for _ in 0..32 {
            let scaled: Vec<f32> = (0..INPUTS).map(|i| draw.next() * 1.5f32.powi(-(i as i32))).collect();
            inputs.extend(
                mixing.chunks_exact(INPUTS).map(|row| row.iter().zip(&scaled).map(|(m, z)| m * z).sum::<f32>()),
            );
        }
        let labels: Vec<i32> = (0..32).map(|_| ((draw.next() + 0.5) * 4.0) as i32).collect();
        let device = device().autodiff();
        let inputs = Tensor::from_data(TensorData::new(inputs, [32, INPUTS]), &device);
        (inputs, Tensor::from_data(TensorData::new(labels, [32]), &device))
    };
    (0..8).map(batch).collect()
}

#[test]
fn with_a_likelihood_the_metric_of_the_gradients_needs_fewer_evaluations() {
    let batches = mixtures();
    let loss = |net: &Linear, (inputs, labels): &(Tensor<2>, Tensor<1, Int>)| {
        CrossEntropyLossConfig::new().init(&inputs.device()).forward(net.forward(inputs.clone()), labels.clone())
    };
    let run = |metric: &str, evaluations: usize| -> f64 {
        let json = json!({
            "metric": metric,
            "detector": swap_at(5),
            "window": 8,
            "safe_resort": { "enabled": false },
        });
        let mut optim: ModuleOptimizer = config(json).init().expect("valid").into();
        let device = device().autodiff();
        device.seed(1);
        let mut net = LinearConfig::new(12, 4).init(&device);
        for pass in 0..8 * (5 + evaluations) {
            let grads = GradientsParams::from_grads(loss(&net, &batches[pass % 8]).backward(), &net);
            net = optim.step(1e-2, net, grads);
        }
        batches.iter().map(|batch| loss(&net, batch).into_scalar::<f64>() / 8.0).sum()
    };
    let least = run("kronecker", 200);
    let [kronecker, inner, identity] = ["kronecker", "inner", "identity"].map(|metric| run(metric, 24) - least);
    println!("least {least:.4}, above it: kronecker {kronecker:.2e}, inner {inner:.2e}, identity {identity:.2e}");
    assert!(kronecker < 0.5 * inner && kronecker < 0.5 * identity, "{kronecker} {inner} {identity}");
}

#[test]
fn the_first_trial_goes_as_far_as_a_step_of_the_inner_optimizer() {
    let switching = config(json!({
        "metric": "kronecker",
        "detector": swap_at(3),
        "window": 1,
        "start": "last",
        "evaluation": { "check": false },
    }))
    .init()
    .expect("valid");
    let batch = loader(60, 60).iter().next().expect("a batch").expect("no error");
    let seen = RefCell::new(Vec::new());
    let mut net = Net::new(8, 1);
    for _ in 0..6 {
        (net, _) = switching.step_with(2e-3, net, |net| {
            seen.borrow_mut().push(values(net));
            objective(&batch)(net)
        });
    }
    // Three steps of Adam, the point of the swap, the first trial.
    let seen = seen.into_inner();
    let squares = seen[3].iter().zip(&seen[4]).map(|(a, b)| f64::from(b - a).powi(2));
    let expected = 2e-3 * (seen[0].len() as f64).sqrt();
    let length = squares.sum::<f64>().sqrt();
    assert!((length / expected - 1.0).abs() < 1e-3, "{length} {expected}");
}
