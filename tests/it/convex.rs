//! How the convex phase starts, what it keeps, and when it gives up.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;
use burn_convexity::convex::direction::MemoryLimit;
use burn_convexity::{ConvexitySwitching, EventKind, Phase, Refusal};
use serde_json::json;

use crate::support::{Net, all, config, count, loader, mean_loss, objective, refused, swap_at, values};

/// Puts values in the place of a module's parameters, in order.
struct Put<'a>(&'a mut dyn Iterator<Item = f32>);

impl ModuleMapper for Put<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|old| {
            let values: Vec<f32> = self.0.take(old.shape().num_elements()).collect();
            let data = burn::tensor::TensorData::new(values, old.shape());
            Tensor::from_data(data, &old.device()).require_grad()
        })
    }
}

/// A loop of minibatches until the swap and full evaluations behind it; every iterate of the inner optimizer, and the
/// model at the end.
fn run(switching: &ConvexitySwitching, lr: f64, calls: usize) -> (Vec<Vec<f64>>, Net) {
    let batches: Vec<_> = loader(60, 10).iter().map(|batch| batch.expect("no error")).collect();
    let whole = all(60);
    let (mut net, mut iterates) = (Net::new(8, 1), Vec::new());
    for call in 0..calls {
        let convex = switching.phase() == Phase::Convex;
        let batch = if convex { &whole } else { &batches[call % batches.len()] };
        (net, _) = switching.step_with(lr, net, |net| objective(batch)(net));
        if !convex {
            iterates.push(values(&net).into_iter().map(f64::from).collect());
        }
    }
    (iterates, net)
}

/// The losses told at the start of the convex phase.
fn start(switching: &ConvexitySwitching) -> Option<(f64, f64)> {
    switching.events().into_iter().find_map(|event| match event.kind {
        EventKind::Start { last, average } => Some((last, average)),
        _ => None,
    })
}

#[test]
fn the_convex_phase_starts_at_the_better_of_the_last_point_and_the_running_average() {
    // A large learning rate leaves the last point far from the average; a tiny one at an early swap leaves the average
    // behind.
    for (lr, average_wins) in [(0.3, true), (1e-3, false)] {
        let json =
            json!({ "window": 6, "detector": swap_at(20), "start": "average", "safe_resort": { "enabled": false } });
        let switching = config(json.clone()).init().expect("valid");
        let reports = switching.reports();
        let (iterates, _) = run(&switching, lr, 121);
        // By its definition: the first iterate, then one in eight, with weights that soon forget.
        let mut average = iterates[0].clone();
        for (n, iterate) in iterates.iter().enumerate().skip(8).step_by(8) {
            let taken = (n / 8) as f64;
            let decay = f64::min(0.96, (1.0 + taken) / (10.0 + taken));
            average.iter_mut().zip(iterate).for_each(|(a, x)| *a = decay * *a + (1.0 - decay) * x);
        }
        let at = |point: &[f64]| {
            let net = Net::new(8, 1).map(&mut Put(&mut point.iter().map(|x| *x as f32)));
            mean_loss(&net, 60)
        };
        let (last, told) = start(&switching).expect("the event");
        let (expected_last, expected) = (at(iterates.last().expect("iterates")), at(&average));
        assert!((last - expected_last).abs() < 1e-5 * expected_last, "{last} {expected_last}");
        assert!((told - expected).abs() < 1e-4 * expected, "{told} {expected}");
        assert_eq!(told < last, average_wins, "{told} {last}");
        // The last point is the accepted one until one of the two has been evaluated again.
        let convex = reports.try_iter().filter(|report| report.phase == Phase::Convex);
        let told_of: Vec<_> = convex.map(|report| (report.accepted, report.accepted_loss)).take(3).collect();
        let end = if average_wins { told } else { last };
        let [(true, Some(first)), (false, Some(second)), (true, Some(third))] = told_of[..] else {
            panic!("{told_of:?}")
        };
        assert!(first == last && second == last && (third - end).abs() < 1e-6 * end, "{told_of:?} {last} {told}");

        // The first search starts there.
        let again = config(json).init().expect("valid");
        let (_, net) = run(&again, lr, 122);
        let accepted = again.accepted_loss().expect("a loss");
        assert!(accepted < last.min(told), "{accepted} {last} {told}");
        assert!((mean_loss(&net, 60) - accepted).abs() < 1e-6 * accepted.max(1.0));
    }
}

#[test]
fn a_start_at_the_last_point_costs_no_comparison() {
    let json = json!({ "window": 6, "detector": swap_at(20), "start": "last" });
    let switching = config(json).init().expect("valid");
    run(&switching, 0.3, 130);
    assert_eq!(start(&switching), None);
    assert!(switching.counters().iterations > 0);
}

/// Bytes of a pair for the net of these tests: 8 x 2 + 8 + 8 + 1 parameters, two vectors, f32.
const PAIR: u64 = 33 * 2 * 4;

#[test]
fn all_pairs_are_kept_until_their_bytes_are_full_and_that_is_told_once() {
    let direction = json!({ "kind": "l_bfgs", "memory": "all", "memory_bytes": 5 * PAIR });
    let json =
        json!({ "window": 6, "detector": swap_at(4), "direction": direction, "safe_resort": { "enabled": false } });
    let switching = config(json).init().expect("valid");
    run(&switching, 1e-2, 60);
    assert!(switching.counters().iterations > 10);
    assert_eq!(count(&switching, |kind| matches!(kind, EventKind::MemoryFull { pairs: 5 })), 1);
    assert_eq!(count(&switching, |kind| matches!(kind, EventKind::MemoryFull { .. })), 1);
}

#[test]
fn all_pairs_are_those_of_a_memory_as_long_as_the_run() {
    let ends = [json!("all"), json!(1_000)].map(|memory| {
        let direction = json!({ "kind": "l_bfgs", "memory": memory, "self_scaling": true });
        let json =
            json!({ "window": 6, "detector": swap_at(4), "direction": direction, "safe_resort": { "enabled": false } });
        let switching = config(json).init().expect("valid");
        values(&run(&switching, 1e-2, 60).1)
    });
    assert_eq!(ends[0], ends[1]);
}

#[test]
fn a_memory_that_would_not_fit_is_refused_at_the_swap_and_adam_goes_on() {
    let direction = json!({ "kind": "l_bfgs", "memory": 6, "memory_bytes": 6 * PAIR - 1 });
    let switching =
        config(json!({ "window": 6, "detector": swap_at(4), "direction": direction })).init().expect("valid");
    let (iterates, _) = run(&switching, 1e-2, 60);
    assert_eq!(iterates.len(), 60);
    let limit = MemoryLimit { pairs: 6, bytes: 6 * PAIR, limit: 6 * PAIR - 1 };
    assert_eq!(refused(&switching), Some(Refusal::Memory(limit.clone())));
    let message = limit.to_string();
    assert!(message.contains("1584 bytes") && message.contains("lower `direction.memory`"), "{message}");
}

#[test]
fn a_gradient_that_climbs_above_its_old_peak_sends_training_back_to_the_inner_optimizer() {
    // After the swap the objective is scaled up: what counts as a climb is seen at the first accepted point.
    let run = |factor: f64, enabled: bool| {
        let json =
            json!({ "window": 6, "detector": swap_at(40), "safe_resort": { "enabled": enabled, "stall_gain": 0.0 } });
        let switching = config(json).init().expect("valid");
        let (whole, mut net) = (all(60), Net::new(8, 1));
        for _ in 0..280 {
            let factor = if switching.phase() == Phase::Convex { factor } else { 1.0 };
            (net, _) = switching.step_with(1e-2, net, |net| {
                let loss = net.loss(&whole).mul_scalar(factor);
                let grads = burn::optim::GradientsParams::from_grads(loss.backward(), net);
                (loss, grads)
            });
        }
        let climbs =
            |kind: &EventKind| matches!(kind, EventKind::HandBack { reason, .. } if reason.contains("old peak"));
        count(&switching, climbs)
    };
    assert!(run(1e4, true) >= 1);
    assert_eq!(run(1.0, true), 0);
    assert_eq!(run(1e4, false), 0);
}

#[test]
fn where_a_phase_ends_no_restart_is_told_that_never_comes() {
    let json = json!({
        "window": 6,
        "detector": swap_at(40),
        "direction": { "kind": "conjugate_gradient", "restart_every": 1 },
    });
    let switching = config(json).init().expect("valid");
    let (whole, mut net) = (all(60), Net::new(8, 1));
    for _ in 0..600 {
        (net, _) = switching.step_with(1e-2, net, objective(&whole));
    }
    let costs = |of: fn(&EventKind) -> bool| -> Vec<f64> {
        switching.events().iter().filter(|event| of(&event.kind)).map(|event| event.cost).collect()
    };
    let stalls =
        |kind: &EventKind| matches!(kind, EventKind::HandBack { reason, .. } if reason.starts_with("the loss fell"));
    let backs = costs(stalls);
    let restarts = costs(|kind| matches!(kind, EventKind::Restart { .. }));
    assert!(!backs.is_empty() && restarts.len() > 3, "{:?}", switching.events());
    assert!(backs.iter().all(|back| !restarts.contains(back)), "{:?}", switching.events());
}

#[test]
fn the_plain_drop_in_is_left_at_the_accepted_point_by_a_gradient_that_climbs() {
    // An evaluation is one pass, and what follows from it is done in the next: of a hand-back at an accepted point, nothing.
    let json = json!({ "window": 1, "detector": swap_at(40), "safe_resort": { "stall_gain": 0.0 } });
    let switching = config(json).init().expect("valid");
    let mut optim = burn::optim::ModuleOptimizer::from(switching.clone());
    let (whole, mut net) = (all(60), Net::new(8, 1));
    let backs =
        || count(&switching, |kind| matches!(kind, EventKind::HandBack { reason, .. } if reason.contains("old peak")));
    let mut points = Vec::new();
    while backs() == 0 {
        points.push(values(&net));
        let factor = if switching.phase() == Phase::Convex { 1e4 } else { 1.0 };
        let grads = net.loss(&whole).mul_scalar(factor).backward();
        let grads = burn::optim::GradientsParams::from_grads(grads, &net);
        net = optim.step(1e-2, net, grads);
        assert!(points.len() < 1000, "{:?}", switching.events());
    }
    let [.., evaluated, left] = &points[..] else { panic!("{} passes", points.len()) };
    assert_eq!(evaluated, left);
    assert_ne!(*left, values(&net));
}

#[test]
fn every_hand_back_doubles_the_windows_for_which_the_detector_is_not_asked() {
    let json = json!({
        "window": 1, "detector": swap_at(2), "start": "last", "evaluation": { "check": false },
        "safe_resort": { "stall_gain": 0.99, "stall_cost": 0.5, "hold_off": 3, "max_hold_off": 10 },
    });
    let switching = config(json).init().expect("valid");
    let (whole, mut net) = (all(60), Net::new(8, 1));
    for _ in 0..80 {
        (net, _) = switching.step_with(1e-2, net, objective(&whole));
    }
    let (mut swaps, mut backs) = (Vec::new(), Vec::new());
    for event in switching.events() {
        match event.kind {
            EventKind::Swap { .. } => swaps.push(event.window),
            EventKind::HandBack { hold_off, .. } => backs.push((event.window, hold_off)),
            _ => {}
        }
    }
    assert_eq!(backs.iter().map(|(_, hold_off)| *hold_off).take(4).collect::<Vec<_>>(), [3, 6, 10, 10]);
    assert_eq!(swaps[0], 2);
    for ((window, hold_off), swap) in backs.iter().zip(&swaps[1..]) {
        assert_eq!(*swap, window + hold_off + 1);
    }
}

#[test]
fn a_detector_that_misses_the_loss_says_so_once() {
    let json = json!({ "window": 1, "detector": { "kind": "loss_slope" } });
    let abstains = |switching: &_| count(switching, |kind| matches!(kind, EventKind::DetectorAbstains { .. }));
    let (shown, plain) = (config(json.clone()).init().expect("valid"), config(json).init().expect("valid"));
    let mut optim: burn::optim::ModuleOptimizer = plain.clone().into();
    let (whole, mut a, mut b) = (all(60), Net::new(8, 1), Net::new(8, 1));
    for _ in 0..5 {
        (a, _) = shown.step_with(1e-2, a, objective(&whole));
        let (_, grads) = objective(&whole)(&b);
        b = optim.step(1e-2, b, grads);
    }
    assert_eq!((abstains(&shown), abstains(&plain)), (0, 1));
}

#[test]
fn restarts_are_counted_as_they_are_told() {
    let direction = json!({ "kind": "conjugate_gradient", "restart_every": 2 });
    let switching = config(json!({ "window": 6, "detector": swap_at(4), "direction": direction, "start": "last" }));
    let switching = switching.init().expect("valid");
    run(&switching, 1e-2, 24 + 12);
    let told = count(&switching, |kind| matches!(kind, EventKind::Restart { .. }));
    assert!(told >= 3, "{:?}", switching.events());
    assert_eq!(switching.counters().restarts, told as u64);
}
