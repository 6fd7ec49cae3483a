//! The classical test problems, solved in f64 by the convex phase's scalars: 19 problems of CUTE against the published
//! counts of CG_DESCENT, and the 35 of Moré, Garbow and Hillstrom.
//!
//! Ours pays 1 for every evaluation, which gives value and gradient together. The published code evaluated `f` functions and
//! `g <= f` gradients and is charged `g + (f - g) / 3`. Conjugate gradients search nearly exactly and restart by Powell's
//! rule; L-BFGS has the defaults of the crate. The last line counts what L-BFGS solves of the 35.

use burn_convexity::convex::direction::{Beta, ConjugateGradient, ConjugateGradientConfig, LBfgs, LBfgsConfig};
use burn_convexity::convex::line_search::HagerZhangConfig;

#[path = "problems/cute.rs"]
mod cute;
#[allow(dead_code)]
#[path = "../tests/it/host.rs"]
mod host;
#[path = "problems/mgh.rs"]
mod mgh_problems;

use host::{Limits, Run, minimise};

/// Value and gradient of a function.
type Objective = Box<dyn Fn(&[f64]) -> (f64, Vec<f64>)>;

/// The two methods compared.
#[derive(Clone, Copy)]
enum Method {
    ConjugateGradient,
    LBfgs,
}

const METHODS: [Method; 2] = [Method::ConjugateGradient, Method::LBfgs];

/// Pairs kept by L-BFGS.
const MEMORY: u64 = 11;

/// Evaluations after which a problem counts as unsolved.
const BUDGET: u64 = 20_000;

impl Method {
    fn solve(self, objective: &Objective, start: &[f64], tolerance: f64) -> Run {
        let limits = Limits { tolerance, evaluations: BUDGET, values: true };
        let search = |config: HagerZhangConfig| config.init().expect("valid parameters");
        match self {
            Self::ConjugateGradient => {
                let config =
                    ConjugateGradientConfig { beta: Beta::HagerZhang, powell: Some(0.2), ..Default::default() };
                let direction = ConjugateGradient::new(config);
                minimise(objective, start, direction, search(HagerZhangConfig::nearly_exact()), limits)
            }
            Self::LBfgs => {
                let direction = LBfgs::new(&LBfgsConfig { memory: MEMORY, ..Default::default() });
                minimise(objective, start, direction, search(HagerZhangConfig::default()), limits)
            }
        }
    }
}

/// Iterations and evaluations, or what stopped the run.
fn counts(run: &Run, tolerance: f64) -> String {
    if run.gradient <= tolerance {
        format!("{} / {}", run.iterations(), run.evaluations)
    } else {
        format!("unsolved, |g| {:.0e} after {}", run.gradient, run.evaluations)
    }
}

fn geometric_mean(ratios: &[f64]) -> f64 {
    (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp()
}

/// The geometric means of our cost over the published one, and how many runs failed.
fn cute() -> ([f64; 2], usize) {
    println!("{:<10} {:>16} {:>26} {:>6} {:>26} {:>6}", "CUTE", "published cost", "cg", "ratio", "l-bfgs", "ratio");
    let (mut ratios, mut unsolved) = ([vec![], vec![]], 0);
    for problem in cute::problems() {
        let (tolerance, published) = (problem.tolerance(), problem.published_cost());
        print!("{:<10} {published:>16.1}", problem.name);
        for (method, ratios) in METHODS.into_iter().zip(&mut ratios) {
            let run = method.solve(&problem.objective, &problem.start, tolerance);
            unsolved += usize::from(run.gradient > tolerance);
            ratios.push(run.evaluations as f64 / published);
            print!(" {:>26} {:>6.2}", counts(&run, tolerance), ratios[ratios.len() - 1]);
        }
        println!();
    }
    (ratios.map(|ratios| geometric_mean(&ratios)), unsolved)
}

/// How many problems each method solved, to a largest entry of the gradient of 1e-6.
fn mgh() -> [usize; 2] {
    println!("{:<22} {:>3} {:>26} {:>26}", "More-Garbow-Hillstrom", "n", "cg", "l-bfgs");
    let mut solved = [0; 2];
    for problem in mgh_problems::problems() {
        let (value, expected) = ((problem.objective)(&problem.start).0, (problem.reference)(&problem.start));
        assert!((value - expected).abs() <= 1e-12 * expected, "{}: {value} is not {expected}", problem.name);
        print!("{:<22} {:>3}", problem.name, problem.start.len());
        for (method, solved) in METHODS.into_iter().zip(&mut solved) {
            let run = method.solve(&problem.objective, &problem.start, 1e-6);
            *solved += usize::from(run.gradient <= 1e-6);
            print!(" {:>26}", counts(&run, 1e-6));
        }
        println!();
    }
    println!("{:<26} {:>26} {:>26}", "solved", solved[0], solved[1]);
    solved
}

fn main() {
    let ([cg, l_bfgs], unsolved) = cute();
    println!();
    let [_, solved] = mgh();
    println!("\ncute: cg {cg:.3}, lbfgs {l_bfgs:.3}, unsolved {unsolved}; mgh: f64 {solved}/35");
}
