//! What must not change the convex phase, and what must hold of it: the metamorphic tests (ii) to (viii) of the design,
//! in f32 through Burn, by the own loop. (i) and the same tests in f64 are in `scalars.rs`.

use std::cell::Cell;

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};
use burn_convexity::{ConvexitySwitching, Counters, Phase};
use serde_json::{Value, json};

use crate::support::{Exact, config, device, directions, swap_at};

/// A point in space, in one tensor or several.
#[derive(Module, Debug)]
struct Coordinates {
    parts: Vec<Param<Tensor<1>>>,
    more: Vec<Param<Tensor<1>>>,
}

fn vector(values: &[f32]) -> Tensor<1> {
    Tensor::from_data(TensorData::from(values), &device().autodiff())
}

impl Coordinates {
    fn new(values: &[f32]) -> Self {
        Self::split(values, &[values.len()])
    }

    fn split(values: &[f32], sizes: &[usize]) -> Self {
        let mut left = values;
        let parts = sizes.iter().map(|&size| {
            let (part, rest) = left.split_at(size);
            left = rest;
            Param::from_tensor(vector(part))
        });
        Self { parts: parts.collect(), more: Vec::new() }
    }

    fn joined(&self) -> Tensor<1> {
        Tensor::cat(self.parts.iter().map(Param::val).collect(), 0)
    }
}

type Objective<'a> = dyn Fn(&Coordinates) -> Tensor<1> + 'a;

/// `c / 2 sum a_i (x_i - 1)^2`.
fn quadratic(c: f32, spectrum: &[f32]) -> impl Fn(&Coordinates) -> Tensor<1> + use<> {
    let a = vector(spectrum);
    move |model| ((model.joined() - 1.0).square() * a.clone()).sum().mul_scalar(0.5).mul_scalar(c)
}

/// The driver problem of CG_DESCENT (Hager and Zhang, ACM TOMS 851): `c sum exp(x_i) - sqrt(i) x_i`.
fn driver(c: f32, n: usize) -> impl Fn(&Coordinates) -> Tensor<1> + use<> {
    let roots: Vec<f32> = (1..=n).map(|i| (i as f32).sqrt()).collect();
    let roots = vector(&roots);
    move |model| {
        let x = model.joined();
        (x.clone().exp() - x * roots.clone()).sum().mul_scalar(c)
    }
}

/// Value and gradient of the driver problem in f64.
fn driver_in_f64(x: &[f32]) -> (f64, Vec<f64>) {
    let terms = x.iter().enumerate().map(|(i, &x)| {
        let (x, root) = (f64::from(x), ((i + 1) as f64).sqrt());
        (x.exp() - root * x, x.exp() - root)
    });
    let (value, gradient): (Vec<f64>, Vec<f64>) = terms.unzip();
    (value.iter().sum(), gradient)
}

fn spectrum(n: usize) -> Vec<f32> {
    (0..n).map(|i| 1.0 + 9.0 * i as f32 / (n - 1) as f32).collect()
}

/// Every direction in both metrics. One pass of Adam, then the convex phase; an epsilon this small leaves Adam and its
/// metric free of scale.
fn methods() -> Vec<Value> {
    let metrics = ["identity", "inner"];
    let pairs = directions().into_iter().flat_map(|direction| metrics.map(|metric| (direction.clone(), metric)));
    pairs
        .map(|(direction, metric)| {
            json!({
                "detector": swap_at(1),
                "window": 1,
                "inner": { "kind": "adam", "epsilon": 1e-30 },
                "direction": direction,
                "metric": metric,
                "safe_resort": { "enabled": false },
            })
        })
        .collect()
}

/// Points the own loop returned, and what it cost.
struct Run {
    points: Vec<Vec<f32>>,
    losses: Vec<Option<f64>>,
    accepted: Vec<bool>,
    counters: Counters,
}

fn run(switching: &ConvexitySwitching, mut model: Coordinates, objective: &Objective, calls: usize) -> Run {
    let (mut points, mut losses, mut accepted) = (Vec::new(), Vec::new(), Vec::new());
    let evaluations = Cell::new(0);
    let mut reported = 0;
    for _ in 0..calls {
        let outcome;
        (model, outcome) = switching.step_with(1e-2, model, |model| {
            evaluations.set(evaluations.get() + 1);
            let loss = objective(model);
            let grads = GradientsParams::from_grads(loss.backward(), model);
            (loss, grads)
        });
        reported += outcome.evaluations;
        points.push(
            model.parts.iter().flat_map(|part| part.val().into_data().iter::<f32>().collect::<Vec<_>>()).collect(),
        );
        losses.push(outcome.loss);
        accepted.push(outcome.accepted);
    }
    assert_eq!(reported, evaluations.get());
    Run { points, losses, accepted, counters: switching.counters() }
}

fn start(json: &Value) -> ConvexitySwitching {
    config(json.clone()).init().expect("valid")
}

/// The largest distance of two runs' points, relative to the points.
fn distance(a: &Run, b: &Run) -> f32 {
    let pairs = a.points.iter().zip(&b.points).flat_map(|(a, b)| a.iter().zip(b));
    pairs.map(|(a, b)| (a - b).abs() / (1.0 + a.abs())).fold(0.0, f32::max)
}

fn short(values: &[f64]) -> String {
    values.iter().map(|value| format!("{value:.1e} ")).collect()
}

/// Away from the minimum by lengths that leave Adam's first metric, which is 1 / |gradient|, no exact Newton step.
const ORIGIN: [f32; 6] = [0.0, 1.7, -0.4, 2.5, 0.2, -1.1];

#[test]
fn a_quadratic_of_n_dimensions_ends_in_n_iterations_of_an_exact_search() {
    // Conjugate gradients end in n steps on a quadratic (Hestenes and Stiefel 1952), L-BFGS with n pairs too (Nocedal
    // 1980), and not before n - 1. Rounding in f32 leaves up to 1e-7 of the loss.
    let n = ORIGIN.len();
    let f = quadratic(1.0, &spectrum(n));
    for method in methods() {
        let switching = ConvexitySwitching::builder(config(method.clone())).line_search(Exact::default());
        let switching = switching.build().expect("valid");
        let run = run(&switching, Coordinates::new(&ORIGIN), &f, 1 + n);
        let losses: Vec<f64> = run.losses.iter().flatten().copied().collect();
        assert_eq!(losses.len(), n);
        assert!(losses[n - 1] < 1e-6, "{method}: {}", short(&losses));
        assert!(losses[n - 3] > 1e-4, "{method}: {}", short(&losses));
    }
}

#[test]
fn a_quadratic_of_n_dimensions_ends_in_about_n_iterations_of_a_tight_search() {
    let n = ORIGIN.len();
    let f = quadratic(1.0, &spectrum(n));
    for mut method in methods() {
        method["line_search"] = json!({ "kind": "strong_wolfe", "c2": 1e-3 });
        let run = run(&start(&method), Coordinates::new(&ORIGIN), &f, 1 + n + 2);
        let losses: Vec<f64> = run.losses.iter().flatten().copied().collect();
        assert!(losses[losses.len() - 1] < 1e-6, "{method}: {}", short(&losses));
        assert!(losses.len() <= n + 2);
    }
}

#[test]
fn multiplying_the_loss_leaves_the_trajectory_unchanged() {
    // Powers of four: square roots are exact too, so nothing rounds differently. 4^10 is 1.05e6.
    for method in methods() {
        let path = |c: f32| run(&start(&method), Coordinates::new(&[1.0; 20]), &driver(c, 20), 12);
        let one = path(1.0);
        assert!(one.counters.iterations >= 10, "{method}: {:?}", one.counters);
        for c in [4f32.powi(-10), 4f32.powi(-5), 4f32.powi(5), 4f32.powi(10)] {
            assert_eq!(one.points, path(c).points, "{method} times {c}");
        }
    }
}

#[test]
fn multiplying_the_loss_by_powers_of_ten_leaves_the_trajectory_unchanged_but_for_rounding() {
    for method in methods() {
        let path = |c: f32| run(&start(&method), Coordinates::new(&[1.0; 20]), &driver(c, 20), 7);
        let one = path(1.0);
        for c in [1e-6, 1e-3, 1e3, 1e6] {
            let distance = distance(&one, &path(c));
            assert!(distance < 1e-3, "{method} times {c}: {distance}");
        }
    }
}

#[test]
fn permuting_the_coordinates_leaves_the_trajectory_unchanged_but_for_rounding() {
    let spectrum = spectrum(12);
    let reversed: Vec<f32> = spectrum.iter().rev().copied().collect();
    let origin: Vec<f32> = (0..12).map(|i| 0.1 * i as f32).collect();
    let turned: Vec<f32> = origin.iter().rev().copied().collect();
    for method in methods() {
        let plain = run(&start(&method), Coordinates::new(&origin), &quadratic(1.0, &spectrum), 7);
        let mut other = run(&start(&method), Coordinates::new(&turned), &quadratic(1.0, &reversed), 7);
        other.points.iter_mut().for_each(|point| point.reverse());
        let distance = distance(&plain, &other);
        assert!(distance < 1e-4, "{method}: {distance}");
        assert!(plain.counters.iterations >= 6);
    }
}

#[test]
fn splitting_a_tensor_leaves_the_trajectory_unchanged_but_for_rounding() {
    for method in methods() {
        let whole = run(&start(&method), Coordinates::new(&[1.0; 20]), &driver(1.0, 20), 7);
        for sizes in [vec![7, 13], vec![1; 20]] {
            let split = run(&start(&method), Coordinates::split(&[1.0; 20], &sizes), &driver(1.0, 20), 7);
            let distance = distance(&whole, &split);
            assert!(distance < 1e-4, "{method} {sizes:?}: {distance}");
            assert_eq!(whole.counters, split.counters);
        }
    }
}

#[test]
fn reordering_the_fields_leaves_the_trajectory_unchanged_but_for_rounding() {
    for mut method in methods() {
        if method["direction"]["kind"] == "l_bfgs" {
            // The rounding of losses would be magnified in the pairs.
            method["direction"]["function_values"] = json!(false);
        }
        let origin: Vec<f32> = (0..20).map(|i| 0.1 * i as f32).collect();
        let plain = run(&start(&method), Coordinates::split(&origin, &[5, 6, 9]), &driver(1.0, 20), 9);
        let mut model = Coordinates::split(&origin, &[5, 6, 9]);
        model.parts.reverse();
        let f = driver(1.0, 20);
        let objective = |model: &Coordinates| {
            let mut ordered = model.clone();
            ordered.parts.reverse();
            f(&ordered)
        };
        let mut other = run(&start(&method), model, &objective, 9);
        for point in &mut other.points {
            let (ninth, rest) = point.split_at(9);
            let (sixth, fifth) = rest.split_at(6);
            *point = [fifth, sixth, ninth].concat();
        }
        let distance = distance(&plain, &other);
        assert!(distance < 1e-4, "{method}: {distance}");
    }
}

#[test]
fn an_unused_or_a_frozen_parameter_changes_no_bit() {
    for method in methods() {
        let plain = run(&start(&method), Coordinates::new(&[1.0; 20]), &driver(1.0, 20), 9);
        for place in 0..2 {
            let unused = Param::from_tensor(vector(&[3.0; 5]));
            let frozen = Param::from_tensor(vector(&[0.0; 20])).set_require_grad(false);
            let mut model = Coordinates::new(&[1.0; 20]);
            model.more = vec![unused, frozen.clone()];
            if place == 1 {
                // In front of the others, where the first slot is.
                model.parts.insert(0, frozen);
                model.more.truncate(1);
            }
            let f = driver(1.0, 20);
            let objective = |model: &Coordinates| {
                let mut plain = model.clone();
                let frozen = if place == 1 { plain.parts.remove(0) } else { model.more[1].clone() };
                f(&plain) + frozen.val().sum()
            };
            let mut with = run(&start(&method), model, &objective, 9);
            if place == 1 {
                with.points.iter_mut().for_each(|point| drop(point.drain(..20)));
            }
            assert_eq!(plain.points, with.points, "{method}");
            assert_eq!(plain.counters, with.counters);
        }
    }
}

#[test]
fn every_accepted_step_satisfies_the_conditions_of_its_search_recomputed_in_f64() {
    // The search reads f32: a value is known to 2^-23 of its size, and a slope to that share of its largest terms.
    let searches = [
        json!({ "kind": "hager_zhang" }),
        json!({ "kind": "strong_wolfe", "c2": 0.1 }),
        json!({ "kind": "golden_section", "tolerance": 1e-2 }),
    ];
    for search in &searches {
        for mut method in methods() {
            method["line_search"] = search.clone();
            let run = run(&start(&method), Coordinates::new(&[1.0; 20]), &driver(1.0, 20), 13);
            let mut checked = 0;
            for (pair, accepted) in run.points.windows(2).zip(&run.accepted[1..]) {
                let [before, after] = pair else { unreachable!("windows of two") };
                let s: Vec<f64> = before.iter().zip(after).map(|(a, b)| f64::from(*b) - f64::from(*a)).collect();
                let ((f0, g0), (f, g)) = (driver_in_f64(before), driver_in_f64(after));
                let along = |g: &[f64]| g.iter().zip(&s).map(|(g, s)| g * s).sum::<f64>();
                let (slope0, slope) = (along(&g0), along(&g));
                let noise = 2.0 * f64::from(f32::EPSILON);
                let value_noise = noise * f0.abs();
                let slope_noise = noise * s.iter().zip(1..).map(|(s, i)| s.abs() * f64::from(i).sqrt()).sum::<f64>();
                if !accepted || -slope0 < 100.0 * (value_noise + slope_noise) {
                    continue; // Below what f32 resolves a search ends otherwise, and says so.
                }
                checked += 1;
                let low = |limit: f64| f <= limit + value_noise;
                let holds = match search["kind"].as_str() {
                    // Hager and Zhang 2005, (T1) or (T2), with delta 1e-3, sigma 0.9 on either side, epsilon 1e-6. The slope
                    // of (T2), (2 delta - 1) phi'(0), is then beyond sigma.
                    Some("hager_zhang") => {
                        slope.abs() <= -0.9 * slope0 + slope_noise
                            && (low(f0 + 1e-3 * slope0) || low(f0 + 1e-6 * f0.abs()))
                    }
                    // The strong Wolfe conditions with c1 1e-4, c2 0.1.
                    Some("strong_wolfe") => low(f0 + 1e-4 * slope0) && slope.abs() <= -0.1 * slope0 + slope_noise,
                    // Lower than the base, and no lower point on the line beyond the tolerance.
                    _ => {
                        let at = |t: f64| {
                            let x = before.iter().zip(&s).map(|(x, s)| (f64::from(*x) + t * s) as f32);
                            driver_in_f64(&x.collect::<Vec<_>>()).0
                        };
                        f < f0 && f <= at(1.02) + value_noise && f <= at(0.98) + value_noise
                    }
                };
                assert!(holds, "{method}: {f0} {f} {slope0:e} {slope:e} {noise:e}");
            }
            assert!(checked >= 3, "{method}: {checked} steps checked");
        }
    }
}

#[test]
fn evaluations_reported_are_those_the_closure_counted() {
    // `run` compares the sum over the outcomes with the calls of the closure.
    for method in methods() {
        let switching = start(&method);
        let run = run(&switching, Coordinates::new(&[1.0; 20]), &driver(1.0, 20), 12);
        let Counters { passes, loss_evaluations, gradient_evaluations, iterations, cost, .. } = run.counters;
        assert_eq!(switching.phase(), Phase::Convex);
        assert_eq!(iterations, run.accepted[1..].iter().filter(|accepted| **accepted).count() as u64);
        // One pass was Adam's; each pass of an own loop is a cost of one.
        assert_eq!((gradient_evaluations, loss_evaluations), (passes - 1, passes - 1));
        assert_eq!(cost, passes as f64);
        assert!(gradient_evaluations >= iterations);
    }
}

#[test]
fn the_own_loop_returns_points_that_only_descend() {
    for method in methods() {
        let run = run(&start(&method), Coordinates::new(&[1.0; 20]), &driver(1.0, 20), 12);
        let exact: Vec<f64> = run.points.iter().map(|point| driver_in_f64(point).0).collect();
        for (loss, exact) in run.losses.iter().zip(&exact).skip(1) {
            let loss = loss.expect("the convex phase reads its loss");
            assert!((loss - exact).abs() <= 4e-7 * exact.abs(), "{method}: the loss {loss} is not that of the point");
        }
        assert!(exact.windows(2).all(|pair| pair[1] <= pair[0] + 2e-6 * pair[0].abs()), "{method}: {exact:?}");
    }
}

#[test]
fn values_come_by_forward_passes_only_where_the_search_needs_no_more() {
    for (search, needs_slopes) in [("golden_section", false), ("hager_zhang", true), ("strong_wolfe", true)] {
        let json = json!({
            "window": 1, "detector": swap_at(1), "direction": { "kind": "conjugate_gradient" },
            "line_search": { "kind": search }, "start": "last", "evaluation": { "check": false },
            "safe_resort": { "enabled": false },
        });
        let switching = config(json).init().expect("valid");
        let objective = driver(1.0, 20);
        let (gradients, values) = (Cell::new(0), Cell::new(0));
        let mut model = Coordinates::new(&[1.0; 20]);
        for call in 0..6 {
            (model, _) = switching.step_with_forward(
                1e-2,
                model,
                |model| {
                    gradients.set(gradients.get() + 1);
                    let loss = objective(model);
                    (loss.clone(), GradientsParams::from_grads(loss.backward(), model))
                },
                |model| {
                    values.set(values.get() + 1);
                    objective(model)
                },
            );
            // The step of Adam, the gradient at the swap with the first search, and one a search behind it.
            if !needs_slopes {
                assert_eq!(gradients.get(), if call == 0 { 1 } else { call + 2 }, "{search}");
            }
        }
        let Counters { loss_evaluations, gradient_evaluations, cost, iterations, .. } = switching.counters();
        assert_eq!(values.get() > 0, !needs_slopes, "{search}");
        assert_eq!(iterations, 5, "{search}");
        assert_eq!(gradient_evaluations, gradients.get() - 1, "{search}");
        assert_eq!(loss_evaluations, gradient_evaluations + values.get(), "{search}");
        assert!((cost - (gradients.get() as f64 + values.get() as f64 / 3.0)).abs() < 1e-9, "{search}: {cost}");
    }
}
