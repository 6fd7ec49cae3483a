//! The classical test problems with known answers: 19 problems of CUTE against the published counts of CG_DESCENT, and the
//! 35 of Moré, Garbow and Hillstrom (MGH) against other crates and in f32 through Burn.
//!
//! In f64 ours are the convex phase's scalars on plain vectors. One evaluation gives value and gradient together and costs 1.
//!
//! - `cg`: conjugate gradients with a nearly exact search and Powell's restart.
//! - `lbfgs`: L-BFGS with 11 pairs and the defaults of the crate.
//! - `nv`: without the losses in the gradient changes (`function_values`).
//! - `sw`: with the search of Moré and Thuente. It, `function_values`, and the interpolation and `delta` of the search
//!   of Hager and Zhang were chosen by the MGH table, the bounds of `function_values` by both, so the shares there flatter
//!   them; so was the first trial of all, `2 |f| / |g|^2`.
//!
//! **CUTE.** The published code evaluated `f` functions and `g <= f` gradients and is charged `g + (f - g) / 3`.
//!
//! **MGH in f64.** Solved is a largest entry of the gradient of 1e-6 at an accepted point within 20,000 evaluations, for ours
//! and the peers alike; `peers` says how those are set up. A cell counts calls for the gradient. `argmin` asks for value and
//! gradient apart: a value alone would cost 1/3, but all its values are at points whose gradient it asks for too. It also
//! asks for the gradient twice at accepted points; in brackets is the charge if every point is paid for once, as a user
//! would have it who remembers what was computed. The shares count problems on which ours needs less than a peer, no ties;
//! one that only one of the two solves counts for that one, one that neither solves for none. On Jennrich-Sampson argmin's
//! first step ends on a plateau far away, which counts as solved.
//!
//! **MGH in f32.** The whole optimizer by its own loop through Burn, see `through_burn`. Solved is a largest entry of the
//! gradient, in f64 at the accepted f32 point, of at most 1e-3 of that at the start. That is lax where the start is steep;
//! but the rule must be relative, as f32 cannot resolve 1e-6 where the gradient begins at 1e6.
//!
//! The last line counts what `lbfgs` solves of the 35.

use burn_convexity::convex::direction::{Beta, ConjugateGradient, ConjugateGradientConfig, LBfgs, LBfgsConfig, Memory};
use burn_convexity::convex::line_search::{HagerZhangConfig, StrongWolfeConfig};

#[path = "problems/cute.rs"]
mod cute;
#[allow(dead_code)]
#[path = "../tests/it/host.rs"]
mod host;
#[path = "problems/ledger.rs"]
mod ledger;
#[path = "problems/mgh.rs"]
mod mgh_problems;
#[path = "problems/peers.rs"]
mod peers;
#[path = "problems/through_burn.rs"]
mod through_burn;
#[path = "problems/vector.rs"]
mod vector;

use host::{Limits, Run, minimise};
use ledger::{Ledger, Spent};
use peers::{PEERS, Peer};

/// Value and gradient of a function.
type Objective = Box<dyn Fn(&[f64]) -> (f64, Vec<f64>)>;

/// Our methods.
#[derive(Clone, Copy)]
enum Method {
    /// Conjugate gradients with a nearly exact search.
    ConjugateGradient,
    /// L-BFGS, with the search of Hager and Zhang or that of Moré and Thuente.
    LBfgs { strong_wolfe: bool, function_values: bool },
}

const fn l_bfgs(strong_wolfe: bool, function_values: bool) -> Method {
    Method::LBfgs { strong_wolfe, function_values }
}

const METHODS: [Method; 5] =
    [Method::ConjugateGradient, l_bfgs(false, true), l_bfgs(false, false), l_bfgs(true, true), l_bfgs(true, false)];

/// Pairs kept by L-BFGS.
const MEMORY: u64 = 11;

/// Evaluations after which a problem counts as unsolved.
const BUDGET: u64 = 20_000;

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::ConjugateGradient => "cg",
            Self::LBfgs { strong_wolfe: false, function_values: true } => "lbfgs",
            Self::LBfgs { strong_wolfe: false, function_values: false } => "lbfgs nv",
            Self::LBfgs { strong_wolfe: true, function_values: true } => "lbfgs sw",
            Self::LBfgs { strong_wolfe: true, function_values: false } => "lbfgs sw nv",
        }
    }

    fn solve(self, objective: &host::Objective, start: &[f64], tolerance: f64) -> Run {
        let limits = Limits { tolerance, evaluations: BUDGET, values: true };
        let cg = ConjugateGradientConfig { beta: Beta::HagerZhang, powell: Some(0.2), ..Default::default() };
        let hager_zhang = |config: HagerZhangConfig| config.init().expect("valid parameters");
        match self {
            Self::ConjugateGradient => {
                let search = hager_zhang(HagerZhangConfig::nearly_exact());
                minimise(objective, start, ConjugateGradient::new(cg), search, limits)
            }
            Self::LBfgs { strong_wolfe, function_values } => {
                let config = LBfgsConfig { memory: Memory::Pairs(MEMORY), function_values, ..Default::default() };
                let direction = LBfgs::new(&config);
                match strong_wolfe {
                    true => {
                        let search = StrongWolfeConfig::default().init().expect("valid parameters");
                        minimise(objective, start, direction, search, limits)
                    }
                    false => minimise(objective, start, direction, hager_zhang(HagerZhangConfig::default()), limits),
                }
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
fn cute() -> ([f64; METHODS.len()], usize) {
    let names = METHODS.map(|method| format!(" {:>26} {:>6}", method.name(), "ratio")).concat();
    println!("{:<10} {:>16}{names}", "CUTE", "published cost");
    let (mut ratios, mut unsolved) = ([const { vec![] }; METHODS.len()], 0);
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
    let means = ratios.map(|ratios| geometric_mean(&ratios));
    println!("{:<27}{}", "geometric mean", means.map(|mean| format!(" {mean:>33.3}")).concat());
    (means, unsolved)
}

/// Where the problems of Moré, Garbow and Hillstrom count as solved in f64: the largest entry of the gradient.
const TOLERANCE: f64 = 1e-6;

/// As `TOLERANCE` in f32, relative to the largest entry at the start.
const TOLERANCE_F32: f64 = 1e-3;

/// What our method spent on a problem, if it solved it.
fn spend(method: Method, problem: &mgh_problems::Problem) -> Option<Spent> {
    let ledger = Ledger::new(&problem.objective);
    let run = method.solve(&|x| ledger.both(x), &problem.start, TOLERANCE);
    (run.gradient <= TOLERANCE).then(|| Spent { gradients: run.evaluations, ..ledger.spent() })
}

/// Gradient evaluations, and the charge where it is another.
fn bill(spent: Option<Spent>) -> String {
    match spent {
        None => "-".into(),
        Some(Spent { gradients, charge, .. }) if charge == gradients as f64 => gradients.to_string(),
        Some(Spent { gradients, charge, .. }) => format!("{gradients} ({charge:.0})"),
    }
}

/// What every method spent on every problem, in the order of the methods.
type Spending = Vec<Vec<Option<Spent>>>;

/// Per cent of the problems on which ours costs less than a peer; those that neither solved do not count.
fn share(ours: &[Option<Spent>], theirs: &[Option<Spent>], cost: fn(Spent) -> f64) -> f64 {
    let cost = |spent: &Option<Spent>| spent.map_or(f64::INFINITY, cost);
    let pairs: Vec<_> = ours.iter().map(cost).zip(theirs.iter().map(cost)).collect();
    let counted = pairs.iter().filter(|(ours, theirs)| ours.min(*theirs).is_finite()).count();
    100.0 * pairs.iter().filter(|(ours, theirs)| ours < theirs).count() as f64 / counted as f64
}

/// The shares of each of our methods against the peers, in their order.
fn shares(ours: &Spending, theirs: &Spending, cost: fn(Spent) -> f64) -> String {
    let row = |(method, ours): (Method, &Vec<_>)| {
        let shares: Vec<_> = theirs.iter().map(|theirs| format!("{:.0}", share(ours, theirs, cost))).collect();
        format!("{} {}", method.name(), shares.join("/"))
    };
    METHODS.into_iter().zip(ours).map(row).collect::<Vec<_>>().join(", ")
}

/// The problem in f32 through Burn: whether it is solved, and the evaluations or what is left of the gradient.
fn in_f32(problem: &mgh_problems::Problem) -> (bool, String) {
    let run = through_burn::solve(&problem.objective, &problem.start, TOLERANCE_F32);
    let solved = run.gradient <= TOLERANCE_F32;
    (solved, if solved { run.evaluations.to_string() } else { format!("- {:.0e}", run.gradient) })
}

/// A line of the table.
fn row(name: &str, n: &str, cells: impl IntoIterator<Item = String>) {
    let cells: String = cells.into_iter().map(|cell| format!("{cell:>14}")).collect();
    println!("{name:<22}{n:>3}{cells}");
}

/// Every problem of Moré, Garbow and Hillstrom by our methods, by the peers, and in f32 through Burn; how many our L-BFGS
/// solved in f64 and in f32, and the shares.
fn mgh() -> ([usize; 2], String) {
    let names = METHODS.map(Method::name).into_iter().chain(PEERS.map(Peer::name)).chain(["f32 lbfgs"]);
    row("More-Garbow-Hillstrom", "n", names.map(String::from));
    let (mut ours, mut theirs) = (vec![vec![]; METHODS.len()], vec![vec![]; PEERS.len()]);
    let mut solved_f32 = 0;
    for problem in mgh_problems::problems() {
        let (value, expected) = ((problem.objective)(&problem.start).0, (problem.reference)(&problem.start));
        assert!((value - expected).abs() <= 1e-12 * expected, "{}: {value} is not {expected}", problem.name);
        let spent = METHODS.map(|method| spend(method, &problem)).into_iter();
        let spent = spent.chain(PEERS.map(|peer| peer.solve(&problem.objective, &problem.start, TOLERANCE)));
        let spent: Vec<_> = spent.collect();
        ours.iter_mut().chain(&mut theirs).zip(&spent).for_each(|(all, spent)| all.push(*spent));
        let (solved, cell) = in_f32(&problem);
        solved_f32 += usize::from(solved);
        row(problem.name, &problem.start.len().to_string(), spent.into_iter().map(bill).chain([cell]));
    }
    let solved = |spent: &Vec<Option<Spent>>| spent.iter().flatten().count();
    row("solved", "", ours.iter().chain(&theirs).map(solved).chain([solved_f32]).map(|solved| solved.to_string()));
    let [called, charged] = [|spent: Spent| spent.gradients as f64, |spent: Spent| spent.charge];
    let shares = [called, charged].map(|cost| shares(&ours, &theirs, cost));
    let text = format!(
        "% with fewer gradient evaluations than {}: {}; repeats free: {}",
        PEERS.map(Peer::name).join("/"),
        shares[0],
        shares[1]
    );
    ([solved(&ours[1]), solved_f32], text)
}

fn main() {
    let ([cg, l_bfgs, ..], unsolved) = cute();
    println!();
    let ([f64, f32], shares) = mgh();
    println!("\n{shares}");
    println!("cute: cg {cg:.3}, lbfgs {l_bfgs:.3}, unsolved {unsolved}; mgh: f64 {f64}/35, f32 {f32}/35");
}
