//! `l2`: half the squared norm of the parameters, weighted, in the objective of both phases.

use std::cell::Cell;

use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::prelude::*;
use burn::train::TrainStep;
use burn_convexity::{ConvexitySwitching, Phase, Report};
use serde_json::json;

use crate::support::{Batch, Net, all, config, mean_loss, swap_at, values};

const L2: f64 = 0.3;

/// Half the squared norm of all parameters, weighted.
fn penalty(net: &Net) -> f64 {
    0.5 * L2 * values(net).into_iter().map(|value| f64::from(value).powi(2)).sum::<f64>()
}

/// The data's loss with the penalty as a part of the graph.
fn penalised(net: &Net, batch: &Batch) -> Tensor<1> {
    let layers = [&net.first, &net.second].into_iter();
    let squares = layers.map(|layer| {
        let bias = layer.bias.as_ref().expect("a bias").val();
        layer.weight.val().square().sum() + bias.square().sum()
    });
    let squares = squares.reduce(|a, b| a + b).expect("two layers");
    net.loss(batch) + squares.mul_scalar(0.5 * L2)
}

/// Eight windows of Adam and the convex phase behind them, with `l2` by the configuration or by hand: the parameters after every
/// call, and the reports with the penalty at the point of each.
fn run(by_hand: bool) -> (ConvexitySwitching, Vec<Vec<f32>>, Vec<(Report, f64)>) {
    let l2 = if by_hand { 0.0 } else { L2 };
    let json = json!({ "window": 1, "detector": swap_at(8), "l2": l2 });
    let switching = config(json).init().expect("valid");
    let (told, batch, mut net) = (switching.reports(), all(60), Net::new(8, 1));
    let (mut points, mut reports) = (Vec::new(), Vec::new());
    for _ in 0..14 {
        let at = Cell::new(0.0);
        (net, _) = switching.step_with(1e-2, net, |net: &Net| {
            at.set(penalty(net));
            let loss = if by_hand { penalised(net, &batch) } else { net.loss(&batch) };
            let grads = GradientsParams::from_grads(loss.backward(), net);
            (loss, grads)
        });
        points.push(values(&net));
        // One window or iteration a call, of which the last evaluation is that of the closure's last call.
        reports.extend(told.try_iter().last().map(|report| (report, at.get())));
    }
    (switching, points, reports)
}

#[test]
fn l2_is_half_the_squared_norm_of_the_parameters_in_the_objective_of_both_phases() {
    let ((switching, ours, _), (by_hand, theirs, _)) = (run(false), run(true));
    assert_eq!((switching.phase(), by_hand.phase()), (Phase::Convex, Phase::Convex));
    for (call, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        for (a, b) in ours.iter().zip(theirs) {
            assert!((a - b).abs() < 1e-3, "call {call}: {a} by the configuration, {b} by hand");
        }
    }
    // What is accepted is told as one objective.
    let (a, b) = (switching.accepted_loss().expect("known"), by_hand.accepted_loss().expect("known"));
    assert!((a - b).abs() < 1e-4 * b, "{a} {b}");
}

#[test]
fn a_report_tells_the_penalty_apart_from_the_objective() {
    let ((_, _, ours), (_, _, theirs)) = (run(false), run(true));
    assert_eq!(ours.len(), 14);
    for ((report, penalty), (by_hand, _)) in ours.iter().zip(&theirs) {
        assert!((report.penalty - penalty).abs() < 1e-4 * penalty, "{report:?}: {penalty}");
        let (objective, same) = (report.observation.loss.expect("shown"), by_hand.observation.loss.expect("shown"));
        assert!((objective - same).abs() < 1e-3 * same, "{objective} {same}");
        let (norm, same) = (report.observation.mean_norm, by_hand.observation.mean_norm);
        assert!((norm - same).abs() < 1e-2 * same, "{norm} {same}");
        assert_eq!(by_hand.penalty.to_bits(), 0, "no negative zero");
    }
}

#[test]
fn the_data_s_loss_of_a_report_is_that_of_the_accepted_point_at_trial_points_too() {
    let json = json!({ "window": 1, "detector": swap_at(8), "l2": L2, "start": "last", "line_search": { "kind": "strong_wolfe" } });
    let switching = config(json).init().expect("valid");
    let (told, batch) = (switching.reports(), all(60));
    let (mut net, mut optim) = (switching.attach(Net::new(8, 1)), ModuleOptimizer::from(switching.clone()));
    let mut trials = 0;
    for _ in 0..60 {
        let output = TrainStep::step(&net, batch.clone());
        net = TrainStep::optimize(net, &mut optim, 0.3.into(), output.grads);
        let report = told.try_iter().last().expect("a window or an evaluation each");
        if report.phase == Phase::Convex {
            let (data, here) = (report.data_loss().expect("shown"), mean_loss(net.inner(), 60));
            assert!((data - here).abs() < 1e-5, "{data} {here}: {report:?}");
            trials += usize::from(!report.accepted && (report.penalty - report.accepted_penalty).abs() > 1e-3);
        }
    }
    assert!(trials > 0);
}

#[test]
fn with_l2_no_evaluation_is_a_forward_pass_alone() {
    for (l2, forward_only) in [(0.0, true), (L2, false)] {
        let json =
            json!({ "window": 1, "detector": swap_at(2), "l2": l2, "line_search": { "kind": "golden_section" } });
        let switching = config(json).init().expect("valid");
        let (batch, mut net, forward) = (all(60), Net::new(8, 1), Cell::new(0));
        for _ in 0..6 {
            let objective = |net: &Net| {
                let loss = net.loss(&batch);
                let grads = GradientsParams::from_grads(loss.backward(), net);
                (loss, grads)
            };
            let value = |net: &Net| {
                forward.set(forward.get() + 1);
                net.loss(&batch)
            };
            (net, _) = switching.step_with_forward(1e-2, net, objective, value);
        }
        assert!(switching.counters().gradient_evaluations > 0, "{:?}", switching.events());
        assert_eq!(forward.get() > 0, forward_only, "{l2}");
    }
}
