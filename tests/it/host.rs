//! The convex phase in f64 on the host: what the optimizer's tensors do, on plain vectors.

use burn_convexity::convex::direction::{Direction, Products};
use burn_convexity::convex::line_search::LineSearch;
use burn_convexity::convex::{Descent, Evaluation, Move, Note, Outcome};

/// Value and gradient of a function.
pub type Objective<'a> = dyn Fn(&[f64]) -> (f64, Vec<f64>) + 'a;

/// One accepted search, with what is needed to check its conditions outside.
#[derive(Clone, Copy, Debug)]
pub struct Accepted {
    pub step: f64,
    pub before: (f64, f64),
    pub after: (f64, f64),
}

/// How a run went.
#[derive(Clone, Debug, Default)]
pub struct Run {
    pub x: Vec<f64>,
    pub value: f64,
    /// Largest absolute entry of the gradient at `x`.
    pub gradient: f64,
    pub evaluations: u64,
    pub accepted: Vec<Accepted>,
    pub points: Vec<Vec<f64>>,
    pub notes: Vec<Note>,
    pub outcome: Outcome,
}

impl Run {
    pub fn iterations(&self) -> usize {
        self.accepted.len()
    }
}

/// Inner product.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Largest absolute entry.
pub fn max_norm(g: &[f64]) -> f64 {
    g.iter().fold(0.0, |max, g| f64::max(max, g.abs()))
}

/// Where a run stops and how much of it is shown to the search.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub tolerance: f64,
    pub evaluations: u64,
    /// Whether the search sees the value.
    pub values: bool,
}

/// Minimise until the gradient's largest entry is within tolerance at an accepted point.
pub fn minimise(f: &Objective, x0: &[f64], direction: impl Direction, search: impl LineSearch, limits: Limits) -> Run {
    let mut descent = Descent::new(Box::new(direction), Box::new(search), None);
    let (mut x, mut base) = (x0.to_vec(), x0.to_vec());
    let (mut g_base, mut d) = (Vec::<f64>::new(), Vec::<f64>::new());
    let mut pairs: Vec<[Vec<f64>; 2]> = Vec::new();
    let mut run = Run { x: x.clone(), ..Run::default() };
    let mut before = (f64::NAN, f64::NAN);
    while run.evaluations < limits.evaluations {
        let (value, g) = f(&x);
        run.evaluations += 1;
        let products = if d.is_empty() {
            Products { gg: dot(&g, &g), ..Products::default() }
        } else {
            let y: Vec<f64> = g.iter().zip(&g_base).map(|(g, b)| g - b).collect();
            let row = |r: &Vec<f64>| [dot(r, &g), dot(r, &y)];
            Products {
                gg: dot(&g, &g),
                gy: dot(&g, &y),
                gd: dot(&g, &d),
                yy: dot(&y, &y),
                yd: dot(&y, &d),
                dd: dot(&d, &d),
                pairs: pairs.iter().map(|pair| pair.each_ref().map(row)).collect(),
                batches: Vec::new(),
            }
        };
        let slope = products.gd;
        let evaluation = Evaluation { loss: limits.values.then_some(value), products, cost: run.evaluations as f64 };
        let next: Move = descent.observe(&evaluation, &mut run.notes);
        if let Some(step) = next.commit {
            run.x = x.clone();
            (run.value, run.gradient) = (value, max_norm(&g));
            if step > 0.0 {
                run.accepted.push(Accepted { step, before, after: (value, slope) });
                run.points.push(x.clone());
            }
        }
        if let Some(c) = &next.direction {
            let new = if next.commit.is_some() { &g } else { &g_base };
            if let (Some(slot), Some(step)) = (c.store, next.commit) {
                let (s, y) = (d.iter().map(|d| step * d), g.iter().zip(&g_base).map(|(g, b)| g - b));
                pairs.resize(c.pairs.len(), [(); 2].map(|()| vec![0.0; x.len()]));
                pairs[slot] = [s.collect(), y.collect()];
            }
            let mut combined: Vec<f64> = new.iter().map(|g| c.gradient * g).collect();
            if c.direction != 0.0 {
                combined.iter_mut().zip(&d).for_each(|(sum, d)| *sum += c.direction * d);
            }
            for (c, row) in c.pairs.iter().flatten().zip(pairs.iter().flatten()) {
                combined.iter_mut().zip(row).for_each(|(sum, r)| *sum += c * r);
            }
            d = combined;
        }
        if next.commit.is_some() {
            base = x.clone();
            g_base = g;
            before = (value, dot(&g_base, &d));
        } else if next.direction.is_some() {
            before.1 = dot(&g_base, &d);
        }
        x = base.iter().zip(&d).map(|(b, d)| b + next.step * d).collect();
        run.outcome = next.outcome;
        if run.outcome != Outcome::Continue || run.gradient <= limits.tolerance {
            break;
        }
    }
    run
}
