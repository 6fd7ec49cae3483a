//! The convex phase in f64: the metamorphic tests, the driver problem of CG_DESCENT, and what planted mistakes change.

use burn_convexity::convex::direction::{Beta, ConjugateGradient, ConjugateGradientConfig, LBfgs, LBfgsConfig, Memory};
use burn_convexity::convex::line_search::{HagerZhang, HagerZhangConfig};
use proptest::prelude::*;

use crate::host::{Limits, Run, dot, minimise};
use crate::support::Exact;

const BETAS: [Beta; 6] = [
    Beta::FletcherReeves,
    Beta::PolakRibiere,
    Beta::PolakRibierePlus,
    Beta::HestenesStiefel,
    Beta::DaiYuan,
    Beta::HagerZhang,
];

fn cg(beta: Beta) -> ConjugateGradient {
    ConjugateGradient::new(ConjugateGradientConfig { beta, ..Default::default() })
}

fn search(config: HagerZhangConfig) -> HagerZhang {
    config.init().expect("valid parameters")
}

const LIMITS: Limits = Limits { tolerance: 1e-9, evaluations: 10_000, values: false };

/// `1/2 sum a_i (x_i - 1)^2`, in coordinates turned by Householder reflections.
fn quadratic(spectrum: Vec<f64>, turn: Option<Vec<f64>>) -> impl Fn(&[f64]) -> (f64, Vec<f64>) {
    move |x| {
        let reflect = |x: &[f64]| match &turn {
            None => x.to_vec(),
            Some(v) => {
                let scale = 2.0 * dot(v, x) / dot(v, v);
                x.iter().zip(v).map(|(x, v)| x - scale * v).collect()
            }
        };
        let z: Vec<f64> = reflect(x).iter().map(|z| z - 1.0).collect();
        let value = 0.5 * z.iter().zip(&spectrum).map(|(z, a)| a * z * z).sum::<f64>();
        let g: Vec<f64> = z.iter().zip(&spectrum).map(|(z, a)| a * z).collect();
        (value, reflect(&g))
    }
}

fn spectrum(n: usize) -> Vec<f64> {
    (0..n).map(|i| 1.0 + 9.0 * i as f64 / (n - 1) as f64).collect()
}

/// The driver problem of CG_DESCENT (Hager and Zhang, ACM TOMS 851): sum of exp(x_i) - sqrt(i) x_i.
fn driver(x: &[f64]) -> (f64, Vec<f64>) {
    let term = |(i, x): (usize, &f64)| {
        let root = ((i + 1) as f64).sqrt();
        (x.exp() - root * x, x.exp() - root)
    };
    let terms: Vec<_> = x.iter().enumerate().map(term).collect();
    (terms.iter().map(|t| t.0).sum(), terms.into_iter().map(|t| t.1).collect())
}

fn close(a: &Run, b: &Run, tolerance: f64) {
    assert_eq!(a.iterations(), b.iterations());
    for (a, b) in a.points.iter().zip(&b.points) {
        for (a, b) in a.iter().zip(b) {
            assert!((a - b).abs() <= tolerance * (1.0 + a.abs()), "{a} {b}");
        }
    }
}

#[test]
fn all_betas_coincide_under_an_exact_search_on_a_quadratic() {
    let f = quadratic(spectrum(12), None);
    let limits = Limits { tolerance: 1e-6, ..LIMITS };
    let runs = BETAS.map(|beta| minimise(&f, &[0.0; 12], cg(beta), Exact::default(), limits));
    for run in &runs[1..] {
        close(&runs[0], run, 1e-6);
    }
}

#[test]
fn a_quadratic_of_n_dimensions_ends_in_at_most_n_iterations() {
    for beta in BETAS {
        let run = minimise(&quadratic(spectrum(12), None), &[0.0; 12], cg(beta), Exact::default(), LIMITS);
        assert!(run.gradient <= LIMITS.tolerance && run.iterations() <= 12, "{beta:?} {}", run.iterations());
    }
    let l_bfgs = LBfgs::new(&LBfgsConfig { memory: Memory::Pairs(12), ..Default::default() });
    let run = minimise(&quadratic(spectrum(12), None), &[0.0; 12], l_bfgs, Exact::default(), LIMITS);
    assert!(run.gradient <= LIMITS.tolerance && run.iterations() <= 13, "{}", run.iterations());
}

#[test]
fn beta_values_are_those_of_the_formulas() {
    // One iteration by hand on f = x^2 + 2 y^2 from (1, 1): g = (2, 4), d = -g, step t = 0.2, then x = (0.6, 0.2),
    // g1 = (1.2, 0.8), y = (-0.8, -3.2); g1'g1 = 2.08, g'g = 20, g1'y = -3.52, d'y = 14.4, y'y = 10.88, g1'd = -5.6.
    use burn_convexity::convex::direction::{Direction, Products};
    let first = Products { gg: 20.0, ..Default::default() };
    let second =
        Products { gg: 2.08, gy: -3.52, gd: -5.6, yy: 10.88, yd: 14.4, dd: 20.0, pairs: vec![], batches: vec![] };
    let expected = [
        2.08 / 20.0,
        -3.52 / 20.0,
        0.0,
        -3.52 / 14.4,
        2.08 / 14.4,
        // (g'y - 2 g'd y'y / d'y) / d'y, above its lower bound 0.4 d'g_old / d'd = -0.4.
        (-3.52 + 2.0 * 5.6 * 10.88 / 14.4) / 14.4,
    ];
    for (beta, expected) in BETAS.into_iter().zip(expected) {
        let mut direction = cg(beta);
        direction.next(&first, 0.0.into());
        let proposal = direction.next(&second, 0.2.into());
        assert!((proposal.coefficients.direction - expected).abs() < 1e-12, "{beta:?}");
        assert!((proposal.slope - (-2.08 + expected * -5.6)).abs() < 1e-12, "{beta:?}");
    }
}

#[test]
fn a_gradient_that_does_not_change_gives_a_direction_of_finite_numbers() {
    // A zero step, or a linear function: y = 0, so that d'y = 0 divides in three of the betas.
    use burn_convexity::convex::direction::{Direction, Products};
    let first = Products { gg: 4.0, ..Default::default() };
    let same = Products { gg: 4.0, gy: 0.0, gd: -4.0, yy: 0.0, yd: 0.0, dd: 4.0, pairs: vec![], batches: vec![] };
    for beta in BETAS {
        let mut direction = cg(beta);
        direction.next(&first, 0.0.into());
        let proposal = direction.next(&same, 1e-3.into());
        assert!(proposal.coefficients.direction.is_finite() && proposal.slope.is_finite(), "{beta:?} {proposal:?}");
    }
}

#[test]
fn multiplying_the_loss_leaves_the_trajectory_unchanged() {
    for values in [true, false] {
        for beta in BETAS {
            // Behind these the gradient is down to rounding, which scales with nothing.
            let limits = Limits { tolerance: 0.0, evaluations: 25, values };
            let run = |c: f64| {
                let f = move |x: &[f64]| {
                    let (value, g) = driver(x);
                    (c * value, g.into_iter().map(|g| c * g).collect())
                };
                minimise(&f, &[1.0; 20], cg(beta), search(Default::default()), limits)
            };
            let one = run(1.0);
            assert!(one.iterations() >= 10 && one.gradient > 1e-12, "{} {}", one.iterations(), one.gradient);
            for c in [1e-6, 1e-3, 1e3, 1e6] {
                close(&one, &run(c), 1e-6);
            }
        }
    }
}

#[test]
fn permuting_or_turning_the_coordinates_leaves_the_trajectory_unchanged() {
    let limits = Limits { tolerance: 1e-6, ..LIMITS };
    for beta in BETAS {
        let run = |spectrum, turn| {
            minimise(&quadratic(spectrum, turn), &[0.0; 8], cg(beta), search(Default::default()), limits)
        };
        let plain = run(spectrum(8), None);
        let mut reversed = spectrum(8);
        reversed.reverse();
        let permuted = run(reversed, None);
        let v: Vec<f64> = (0..8).map(|i| (i as f64 * 1.7).sin()).collect();
        let turned = run(spectrum(8), Some(v));
        for other in [&permuted, &turned] {
            // Rounding differs between the coordinates and grows with every iteration: compare the first ten.
            assert!(plain.iterations() > 10 && other.iterations() > 10);
            for (a, b) in plain.accepted.iter().zip(&other.accepted).take(10) {
                assert!((a.after.0 - b.after.0).abs() <= 1e-9 * a.before.0, "{beta:?}");
            }
        }
    }
}

#[test]
fn every_accepted_step_satisfies_the_wolfe_or_approximate_wolfe_conditions() {
    let HagerZhangConfig { delta, sigma, epsilon, .. } = HagerZhangConfig::default();
    for values in [true, false] {
        for beta in BETAS {
            let limits = Limits { tolerance: 1e-8, evaluations: 300, values };
            let run = minimise(&driver, &[1.0; 50], cg(beta), search(Default::default()), limits);
            assert!(run.iterations() > 5);
            for accepted in &run.accepted {
                let ((f0, slope0), (f, slope), t) = (accepted.before, accepted.after, accepted.step);
                let wolfe = f - f0 <= delta * t * slope0 && slope >= sigma * slope0;
                let flat = (2.0 * delta - 1.0) * slope0 >= slope && slope >= sigma * slope0;
                let approximate = flat && (!values || f <= f0 + epsilon * f0.abs());
                assert!(wolfe || approximate, "{beta:?} {accepted:?}");
            }
        }
    }
}

#[test]
fn the_driver_problem_of_cg_descent_is_solved_within_its_budget() {
    // f* = -653.07867273306 (ACM TOMS 851); ours may take 40 iterations and 60 gradients, theirs took 32 and 45.
    let limits = Limits { tolerance: 1e-8, evaluations: 60, values: true };
    let run = minimise(&driver, &[1.0; 100], cg(Beta::HagerZhang), search(Default::default()), limits);
    println!("{} iterations, {} evaluations, f {:.11}", run.iterations(), run.evaluations, run.value);
    assert!(run.gradient <= 1e-8, "{}", run.gradient);
    assert!((run.value - -653.078_672_733_06).abs() < 1e-9, "{}", run.value);
    assert!(run.iterations() <= 40 && run.evaluations <= 60);
}

#[test]
fn l_bfgs_in_coefficients_is_l_bfgs_by_two_loops_on_vectors() {
    // The textbook recursion (Nocedal and Wright 2006, algorithm 7.4) along the points our run accepted: the next step
    // must lie on its direction. The gradient changes are the plain ones, and those with the values in them (Biggs 1973).
    for function_values in [false, true] {
        two_loops_lead_to_the_next_point(function_values);
    }
}

fn two_loops_lead_to_the_next_point(function_values: bool) {
    let memory = 4;
    let config = LBfgsConfig { memory: Memory::Pairs(memory as u64), function_values, ..Default::default() };
    let limits = Limits { tolerance: 1e-6, evaluations: 60, values: true };
    let run = minimise(&driver, &[1.0; 30], LBfgs::new(&config), search(Default::default()), limits);
    let mut points = vec![vec![1.0; 30]];
    points.extend(run.points.clone());
    let (f, g): (Vec<f64>, Vec<Vec<f64>>) = points.iter().map(|x| driver(x)).unzip();
    let difference = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<f64>>();
    let pair = |i: usize| {
        let (s, y) = (difference(&points[i + 1], &points[i]), difference(&g[i + 1], &g[i]));
        let (decrease, sy) = (f[i] - f[i + 1], dot(&s, &y));
        // Eight units in the last place of f32 may change it by a tenth at most.
        let resolved = 6.0 * 8.0 * f64::from(f32::EPSILON) * f[i].abs() <= 0.1 * sy;
        let factor = match function_values && resolved {
            true => (6.0 * (decrease + dot(&s, &g[i + 1])) / sy - 2.0).clamp(1.0 / 3.0, 3.0),
            false => 1.0,
        };
        (s, y.into_iter().map(|y| factor * y).collect::<Vec<f64>>())
    };
    assert!(points.len() > memory + 3);
    for k in 1..points.len() - 1 {
        let pairs: Vec<(Vec<f64>, Vec<f64>)> = (k.saturating_sub(memory)..k).map(pair).collect();
        let mut q = g[k].clone();
        let mut alphas = Vec::new();
        for (s, y) in pairs.iter().rev() {
            let alpha = dot(s, &q) / dot(s, y);
            q.iter_mut().zip(y).for_each(|(q, y)| *q -= alpha * y);
            alphas.push(alpha);
        }
        let (s, y) = &pairs[pairs.len() - 1];
        let gamma = dot(s, y) / dot(y, y);
        q.iter_mut().for_each(|q| *q *= gamma);
        for ((s, y), alpha) in pairs.iter().zip(alphas.iter().rev()) {
            let beta = dot(y, &q) / dot(s, y);
            q.iter_mut().zip(s).for_each(|(q, s)| *q += (alpha - beta) * s);
        }
        let step = difference(&points[k + 1], &points[k]);
        let cosine = -dot(&step, &q) / (dot(&step, &step) * dot(&q, &q)).sqrt();
        assert!(cosine > 1.0 - 1e-9, "function_values {function_values}, iteration {k}: {cosine}");
    }
}

proptest! {
    #[test]
    fn convex_quadratics_are_solved_whatever_their_spectrum(
        spectrum in proptest::collection::vec(1e-3..1e3f64, 2..10),
        beta in proptest::sample::select(BETAS.to_vec()),
        values: bool,
    ) {
        let n = spectrum.len();
        let limits = Limits { tolerance: 1e-6, evaluations: 20_000, values };
        let run = minimise(&quadratic(spectrum, None), &vec![0.0; n], cg(beta), search(Default::default()), limits);
        prop_assert!(run.gradient <= 1e-6, "{beta:?} {} after {}: {:?}", run.gradient, run.evaluations, run.outcome);
    }
}
