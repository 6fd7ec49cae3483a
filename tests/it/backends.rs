//! A training on the device under test beside the same on `flex`.

use burn::tensor::{Device, Tensor, TensorData};
use burn_convexity::{EventKind, Report};
use serde_json::json;

use crate::support::{Batch, Net, config, device, objective, points};

/// The windows and evaluations of a training in minibatches, then over everything; swaps and hand-backs by window; the
/// loss at the end.
fn train(device: &Device) -> (Vec<Report>, Vec<(u64, String)>, f64) {
    let device = device.clone().autodiff();
    let batch = |points: &[[f32; 3]]| {
        let tensor = |columns: usize, value: &dyn Fn(&[f32; 3]) -> Vec<f32>| {
            let values: Vec<f32> = points.iter().flat_map(value).collect();
            Tensor::<2>::from_data(TensorData::new(values, [points.len(), columns]), &device)
        };
        Batch { x: tensor(2, &|p| p[..2].to_vec()), y: tensor(1, &|p| vec![p[2]]) }
    };
    let points = points(96);
    let (batches, whole) = (points.chunks(16).map(batch).collect::<Vec<_>>(), batch(&points));
    let json = json!({
        "window": batches.len(),
        "detector": { "kind": "all", "of": [{ "kind": "gradient_norm_peak" }, { "kind": "loss_slope", "rate": 0.02 }] },
    });
    let switching = config(json).init().expect("valid");
    let reports = switching.reports();
    let mut net = Net::on(&device, 12, 5);
    let mut convex = false;
    for call in 0..700 {
        let batch = if convex { &whole } else { &batches[call % batches.len()] };
        let outcome;
        (net, outcome) = switching.step_with(1e-2, net, objective(batch));
        convex = switching.phase() == burn_convexity::Phase::Convex;
        if convex && outcome.loss.is_some() && switching.counters().iterations >= 15 {
            break;
        }
    }
    let turns = switching.events().into_iter().filter_map(|event| match event.kind {
        EventKind::Swap { .. } => Some((event.window, "swap".to_owned())),
        EventKind::HandBack { .. } => Some((event.window, "hand back".to_owned())),
        _ => None,
    });
    let loss = net.loss(&whole).into_data().iter::<f32>().next().map_or(f64::NAN, f64::from);
    (reports.try_iter().collect(), turns.collect(), loss)
}

#[test]
fn the_device_under_test_swaps_in_the_same_window_as_flex_and_descends_as_far() {
    let (theirs, their_turns, their_loss) = train(&Device::flex());
    let (ours, our_turns, our_loss) = train(&device());
    assert!(!their_turns.is_empty(), "no swap: {theirs:?}");
    assert_eq!(our_turns, their_turns);
    // Until the swap the losses differ by roundings that a thousand steps of Adam have spread.
    for (ours, theirs) in ours.iter().zip(&theirs).filter(|(ours, _)| ours.step_length.is_none()) {
        let (ours, theirs) = (ours.observation.loss.unwrap_or(f64::NAN), theirs.observation.loss.unwrap_or(f64::NAN));
        assert!((ours - theirs).abs() <= 1e-3 * theirs, "{ours} {theirs}");
    }
    // Fifteen iterations of L-BFGS amplify them.
    assert!((our_loss / their_loss).ln().abs() < 0.5, "{our_loss} {their_loss}");
}
