//! A training on the device under test beside the same on `flex`.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use burn_convexity::{EventKind, Phase, Report};
use serde_json::json;

use crate::support::{Batch, Net, all, config, device, objective, points, swap_at};

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
        convex = switching.phase() == Phase::Convex;
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

/// The squared norm of a module's gradients, summed by the host in f64.
struct SquaredNorm<'a>(&'a GradientsParams, f64);

impl ModuleVisitor for SquaredNorm<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let grad = self.0.get::<D>(param.id).expect("every parameter has one");
        self.1 += grad.into_data().iter::<f64>().map(|value| value * value).sum::<f64>();
    }
}

/// A GPU's matrix units may round what they multiply to TF32, which keeps three decimals.
#[test]
fn norms_have_the_accuracy_of_f32_in_both_phases() {
    let (mut net, batch) = (Net::new(48, 3), all(60));
    let switching = config(json!({ "window": 1, "detector": swap_at(4) })).init().expect("valid");
    let reports = switching.reports();
    let mut norms = Vec::new();
    for _ in 0..12 {
        (net, _) = switching.step_with(1e-2, net, |net| {
            let (loss, grads) = objective(&batch)(net);
            let mut squared = SquaredNorm(&grads, 0.0);
            net.visit(&mut squared);
            norms.push(squared.1.sqrt());
            (loss, grads)
        });
    }
    let reports: Vec<Report> = reports.try_iter().collect();
    assert_eq!(reports.len(), norms.len());
    assert!(reports.iter().filter(|report| report.phase == Phase::Convex).count() > 8);
    for (report, norm) in reports.iter().zip(norms) {
        assert!((report.observation.mean_norm / norm - 1.0).abs() < 2e-6, "{norm} {:?}", report.observation);
    }
}

/// Two vectors of parameters, each on a device of its own.
#[cfg(feature = "tch")]
#[derive(burn::module::Module, Debug)]
struct Two {
    here: Param<Tensor<1>>,
    there: Param<Tensor<1>>,
}

#[cfg(feature = "tch")]
#[test]
fn parameters_on_two_devices_go_along_one_line_and_resume() {
    use crate::device_name::DeviceName;
    let parameter = |name: DeviceName, value: f32| {
        let device = name.open().expect("it is there").autodiff();
        Param::from_tensor(Tensor::<1>::from_data(TensorData::from([value; 3]), &device))
    };
    let mut two = Two { here: parameter(DeviceName::Flex, 4.0), there: parameter(DeviceName::LibTorch, -3.0) };
    let start = || config(json!({ "window": 1, "detector": swap_at(2) })).init().expect("valid");
    let mut switching = start();
    let part = |x: &Param<Tensor<1>>, weight: f64| ((x.val() - 1.0).square().mul_scalar(weight)).sum();
    for call in 0..16 {
        if call == 9 {
            // All vectors come back on the device of the tensor that carries them.
            let record = switching.to_record();
            switching = start();
            switching.load_record(record);
        }
        (two, _) = switching.step_with(1e-2, two, |two| {
            let (here, there) = (part(&two.here, 1.0), part(&two.there, 30.0));
            let loss = here.clone().inner() + Tensor::from_data(there.clone().inner().into_data(), &Device::flex());
            let mut grads = GradientsParams::new();
            grads.register(two.here.id, two.here.val().grad(&here.backward()).expect("a gradient"));
            grads.register(two.there.id, two.there.val().grad(&there.backward()).expect("a gradient"));
            (loss, grads)
        });
    }
    assert_eq!((switching.phase(), switching.refusal()), (Phase::Convex, None), "{:?}", switching.events());
    for x in [two.here.val(), two.there.val()] {
        assert!(x.into_data().iter::<f64>().all(|x| (x - 1.0).abs() < 1e-3), "{:?}", switching.events());
    }
}
