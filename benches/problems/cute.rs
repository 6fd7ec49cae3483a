//! Nineteen problems of CUTE (Bongartz, Conn, Gould and Toint, ACM Trans. Math. Softw. 21(1), 1995), with the formulas and
//! starts of their SIF files, and what CG_DESCENT needed (Hager and Zhang, ACM Trans. Math. Softw. 32(1), 2006). The SIF file
//! of SROSENBR starts at (1.2, 1): the minus of -1.2 stood in the wrong column until 2024, so the published run had it so.

use std::iter::repeat;

use crate::Objective;

/// A problem of CUTE in the size the paper ran it.
pub struct Problem {
    pub name: &'static str,
    pub start: Vec<f64>,
    pub objective: Objective,
    /// Iterations, function and gradient evaluations of CG_DESCENT.
    pub published: [u64; 3],
}

impl Problem {
    /// The stopping rule of the published column.
    pub fn tolerance(&self) -> f64 {
        let (_, g) = (self.objective)(&self.start);
        (1e-12 * crate::host::max_norm(&g)).max(1e-6)
    }

    /// The published gradient evaluations plus a third of the evaluations of the function alone.
    pub fn published_cost(&self) -> f64 {
        let [_, function, gradient] = self.published.map(|count| count as f64);
        gradient + (function - gradient) / 3.0
    }
}

/// All nineteen.
pub fn problems() -> Vec<Problem> {
    let every = |n: usize, value: f64| vec![value; n];
    let cycle = |n: usize, values: &[f64]| values.iter().copied().cycle().take(n).collect::<Vec<_>>();
    let by_index = |n: usize, value: fn(f64, f64) -> f64| (1..=n).map(|i| value(i as f64, n as f64)).collect();
    let begins = |n: usize, values: &[f64]| values.iter().copied().chain(repeat(0.0)).take(n).collect::<Vec<_>>();
    let problem = |name, start, objective: fn(&[f64]) -> (f64, Vec<f64>), published| Problem {
        name,
        start,
        objective: Box::new(objective),
        published,
    };
    vec![
        problem("WOODS", cycle(10_000, &[-3.0, -1.0]), woods, [152, 359, 235]),
        problem("SROSENBR", cycle(10_000, &[1.2, 1.0]), srosenbr, [12, 26, 17]),
        problem("POWELLSG", cycle(10_000, &[3.0, -1.0, 0.0, 1.0]), powellsg, [88, 183, 104]),
        problem("VARDIM", by_index(5_000, |i, n| 1.0 - i / n), vardim, [50, 111, 62]),
        problem("PENALTY1", by_index(10_000, |i, _| i), penalty1, [52, 124, 75]),
        problem("TRIDIA", every(10_000, 1.0), tridia, [1115, 2231, 1116]),
        problem("DIXON3DQ", every(1_000, -1.0), dixon3dq, [1000, 2001, 1002]),
        problem("LIARWHD", every(10_000, 4.0), liarwhd, [22, 50, 35]),
        problem("NONDIA", every(10_000, -1.0), nondia, [11, 25, 17]),
        problem("ARWHEAD", every(1_000, 1.0), arwhead, [11, 24, 15]),
        problem("DQDRTIC", every(1_000, 3.0), dqdrtic, [7, 15, 8]),
        problem("POWER", every(1_000, 1.0), power, [116, 233, 117]),
        problem("ENGVAL1", every(10_000, 2.0), engval1, [22, 40, 30]),
        problem("CHNROSNB", every(50, -1.0), chnrosnb, [274, 549, 275]),
        problem("COSINE", every(1_000, 1.0), cosine, [14, 49, 46]),
        problem("QUARTC", every(5_000, 2.0), quartc, [33, 67, 34]),
        problem("EG2", every(1_000, 0.0), eg2, [4, 9, 6]),
        problem("BDQRTIC", every(1_000, 1.0), bdqrtic, [569, 1178, 736]),
        problem("FREUROTH", begins(1_000, &[0.5, -2.0]), freuroth, [52, 93, 91]),
    ]
}

/// A sum of terms with its gradient.
struct Sum {
    value: f64,
    gradient: Vec<f64>,
}

impl Sum {
    fn over(x: &[f64]) -> Self {
        Self { value: 0.0, gradient: vec![0.0; x.len()] }
    }

    /// Add a term with its partial derivatives.
    fn term(&mut self, value: f64, partials: &[(usize, f64)]) {
        self.value += value;
        for (i, partial) in partials {
            self.gradient[*i] += partial;
        }
    }

    /// Add `weight r^power`, given the partial derivatives of `r`.
    fn power<const N: usize>(&mut self, weight: f64, r: f64, power: i32, partials: [(usize, f64); N]) {
        let outer = weight * f64::from(power) * r.powi(power - 1);
        self.term(weight * r.powi(power), &partials.map(|(i, partial)| (i, outer * partial)));
    }

    fn done(self) -> (f64, Vec<f64>) {
        (self.value, self.gradient)
    }
}

fn woods(x: &[f64]) -> (f64, Vec<f64>) {
    let mut f = Sum::over(x);
    for i in (0..x.len()).step_by(4) {
        let [a, b, c, d] = [x[i], x[i + 1], x[i + 2], x[i + 3]];
        f.power(100.0, b - a * a, 2, [(i, -2.0 * a), (i + 1, 1.0)]);
        f.power(1.0, 1.0 - a, 2, [(i, -1.0)]);
        f.power(90.0, d - c * c, 2, [(i + 2, -2.0 * c), (i + 3, 1.0)]);
        f.power(1.0, 1.0 - c, 2, [(i + 2, -1.0)]);
        f.power(10.0, b + d - 2.0, 2, [(i + 1, 1.0), (i + 3, 1.0)]);
        f.power(0.1, b - d, 2, [(i + 1, 1.0), (i + 3, -1.0)]);
    }
    f.done()
}

fn srosenbr(x: &[f64]) -> (f64, Vec<f64>) {
    let mut f = Sum::over(x);
    for i in (0..x.len()).step_by(2) {
        f.power(100.0, x[i + 1] - x[i] * x[i], 2, [(i, -2.0 * x[i]), (i + 1, 1.0)]);
        f.power(1.0, x[i] - 1.0, 2, [(i, 1.0)]);
    }
    f.done()
}

fn powellsg(x: &[f64]) -> (f64, Vec<f64>) {
    let mut f = Sum::over(x);
    for i in (0..x.len()).step_by(4) {
        f.power(1.0, x[i] + 10.0 * x[i + 1], 2, [(i, 1.0), (i + 1, 10.0)]);
        f.power(5.0, x[i + 2] - x[i + 3], 2, [(i + 2, 1.0), (i + 3, -1.0)]);
        f.power(1.0, x[i + 1] - 2.0 * x[i + 2], 4, [(i + 1, 1.0), (i + 2, -2.0)]);
        f.power(10.0, x[i] - x[i + 3], 4, [(i, 1.0), (i + 3, -1.0)]);
    }
    f.done()
}

fn vardim(x: &[f64]) -> (f64, Vec<f64>) {
    let r: f64 = x.iter().zip(1..).map(|(x, i)| f64::from(i) * (x - 1.0)).sum();
    let outer = 2.0 * r + 4.0 * r.powi(3);
    let gradient = x.iter().zip(1..).map(|(x, i)| 2.0 * (x - 1.0) + f64::from(i) * outer).collect();
    (x.iter().map(|x| (x - 1.0).powi(2)).sum::<f64>() + r.powi(2) + r.powi(4), gradient)
}

fn penalty1(x: &[f64]) -> (f64, Vec<f64>) {
    let r = x.iter().map(|x| x * x).sum::<f64>() - 0.25;
    let gradient = x.iter().map(|x| 2e-5 * (x - 1.0) + 4.0 * r * x).collect();
    (1e-5 * x.iter().map(|x| (x - 1.0).powi(2)).sum::<f64>() + r * r, gradient)
}

fn tridia(x: &[f64]) -> (f64, Vec<f64>) {
    let mut f = Sum::over(x);
    f.power(1.0, x[0] - 1.0, 2, [(0, 1.0)]);
    for i in 1..x.len() {
        f.power((i + 1) as f64, 2.0 * x[i] - x[i - 1], 2, [(i - 1, -1.0), (i, 2.0)]);
    }
    f.done()
}

fn dixon3dq(x: &[f64]) -> (f64, Vec<f64>) {
    let mut f = Sum::over(x);
    let last = x.len() - 1;
    f.power(1.0, x[0] - 1.0, 2, [(0, 1.0)]);
    for i in 1..last {
        f.power(1.0, x[i] - x[i + 1], 2, [(i, 1.0), (i + 1, -1.0)]);
    }
    f.power(1.0, x[last] - 1.0, 2, [(last, 1.0)]);
    f.done()
}

fn liarwhd(x: &[f64]) -> (f64, Vec<f64>) {
    let mut f = Sum::over(x);
    for i in 0..x.len() {
        f.power(4.0, x[i] * x[i] - x[0], 2, [(i, 2.0 * x[i]), (0, -1.0)]);
        f.power(1.0, x[i] - 1.0, 2, [(i, 1.0)]);
    }
    f.done()
}

fn nondia(x: &[f64]) -> (f64, Vec<f64>) {
    let mut f = Sum::over(x);
    f.power(1.0, x[0] - 1.0, 2, [(0, 1.0)]);
    for i in 1..x.len() {
        f.power(100.0, x[0] - x[i - 1] * x[i - 1], 2, [(0, 1.0), (i - 1, -2.0 * x[i - 1])]);
    }
    f.done()
}

fn arwhead(x: &[f64]) -> (f64, Vec<f64>) {
    let mut f = Sum::over(x);
    let last = x.len() - 1;
    for i in 0..last {
        f.power(1.0, x[i] * x[i] + x[last] * x[last], 2, [(i, 2.0 * x[i]), (last, 2.0 * x[last])]);
        f.term(3.0 - 4.0 * x[i], &[(i, -4.0)]);
    }
    f.done()
}

fn dqdrtic(x: &[f64]) -> (f64, Vec<f64>) {
    let mut f = Sum::over(x);
    for i in 0..x.len() - 2 {
        for (j, weight) in [(i, 1.0), (i + 1, 100.0), (i + 2, 100.0)] {
            f.power(weight, x[j], 2, [(j, 1.0)]);
        }
    }
    f.done()
}

fn power(x: &[f64]) -> (f64, Vec<f64>) {
    let r: f64 = x.iter().zip(1..).map(|(x, i)| f64::from(i) * x * x).sum();
    (r * r, x.iter().zip(1..).map(|(x, i)| 4.0 * r * f64::from(i) * x).collect())
}

fn engval1(x: &[f64]) -> (f64, Vec<f64>) {
    let mut f = Sum::over(x);
    for i in 0..x.len() - 1 {
        f.power(1.0, x[i].powi(2) + x[i + 1].powi(2), 2, [(i, 2.0 * x[i]), (i + 1, 2.0 * x[i + 1])]);
        f.term(3.0 - 4.0 * x[i], &[(i, -4.0)]);
    }
    f.done()
}

/// The constants of Toint's chained Rosenbrock function.
const ALPHA: [f64; 50] = [
    1.25, 1.40, 2.40, 1.40, 1.75, 1.20, 2.25, 1.20, 1.00, 1.10, 1.50, 1.60, 1.25, 1.25, 1.20, 1.20, 1.40, 0.50, 0.50,
    1.25, 1.80, 0.75, 1.25, 1.40, 1.60, 2.00, 1.00, 1.60, 1.25, 2.75, 1.25, 1.25, 1.25, 3.00, 1.50, 2.00, 1.25, 1.40,
    1.80, 1.50, 2.20, 1.40, 1.50, 1.25, 2.00, 1.50, 1.25, 1.40, 0.60, 1.50,
];

fn chnrosnb(x: &[f64]) -> (f64, Vec<f64>) {
    let mut f = Sum::over(x);
    for i in 1..x.len() {
        f.power(16.0 * ALPHA[i].powi(2), x[i - 1] - x[i] * x[i], 2, [(i - 1, 1.0), (i, -2.0 * x[i])]);
        f.power(1.0, x[i] - 1.0, 2, [(i, 1.0)]);
    }
    f.done()
}

fn cosine(x: &[f64]) -> (f64, Vec<f64>) {
    let mut f = Sum::over(x);
    for i in 0..x.len() - 1 {
        let (sin, cos) = (x[i] * x[i] - 0.5 * x[i + 1]).sin_cos();
        f.term(cos, &[(i, -2.0 * x[i] * sin), (i + 1, 0.5 * sin)]);
    }
    f.done()
}

fn quartc(x: &[f64]) -> (f64, Vec<f64>) {
    let mut f = Sum::over(x);
    for (i, x) in x.iter().enumerate() {
        f.power(1.0, x - (i + 1) as f64, 4, [(i, 1.0)]);
    }
    f.done()
}

fn eg2(x: &[f64]) -> (f64, Vec<f64>) {
    let mut f = Sum::over(x);
    let last = x.len() - 1;
    for i in 0..last {
        let (sin, cos) = (x[0] + x[i] * x[i] - 1.0).sin_cos();
        f.term(sin, &[(0, cos), (i, 2.0 * x[i] * cos)]);
    }
    let (sin, cos) = (x[last] * x[last]).sin_cos();
    f.term(0.5 * sin, &[(last, x[last] * cos)]);
    f.done()
}

fn bdqrtic(x: &[f64]) -> (f64, Vec<f64>) {
    let mut f = Sum::over(x);
    let last = x.len() - 1;
    for i in 0..x.len() - 4 {
        f.power(1.0, 3.0 - 4.0 * x[i], 2, [(i, -4.0)]);
        let of = [(i, 1.0), (i + 1, 2.0), (i + 2, 3.0), (i + 3, 4.0), (last, 5.0)];
        let r = of.iter().map(|(j, weight)| weight * x[*j] * x[*j]).sum();
        f.power(1.0, r, 2, of.map(|(j, weight)| (j, 2.0 * weight * x[j])));
    }
    f.done()
}

fn freuroth(x: &[f64]) -> (f64, Vec<f64>) {
    let mut f = Sum::over(x);
    for i in 0..x.len() - 1 {
        let (a, b) = (x[i], x[i + 1]);
        f.power(1.0, a - 13.0 + ((5.0 - b) * b - 2.0) * b, 2, [(i, 1.0), (i + 1, (10.0 - 3.0 * b) * b - 2.0)]);
        f.power(1.0, a - 29.0 + ((b + 1.0) * b - 14.0) * b, 2, [(i, 1.0), (i + 1, (3.0 * b + 2.0) * b - 14.0)]);
    }
    f.done()
}
