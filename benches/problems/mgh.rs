//! The 35 problems of Moré, Garbow and Hillstrom (ACM Trans. Math. Softw. 7(1), 1981): values, starts and minimisers from
//! the crate `mgh`, gradients by differentiating the residuals, whose numbers are those of the paper.

use std::f64::consts::PI;
use std::ops::{Add, Div, Mul, Neg, Sub};

use mgh::{MGH, MGHInit};

use crate::Objective;

/// The value of a function.
type Value = Box<dyn Fn(&[f64]) -> f64>;

/// A problem of the collection.
pub struct Problem {
    pub name: &'static str,
    pub start: Vec<f64>,
    pub objective: Objective,
    /// The value alone, as the crate `mgh` has it.
    pub reference: Value,
}

/// The largest number of variables.
const MOST: usize = 12;

/// A number with its derivatives by every variable.
#[derive(Clone, Copy)]
struct Dual {
    value: f64,
    partials: [f64; MOST],
}

impl Dual {
    fn variable(value: f64, index: usize) -> Self {
        let mut partials = [0.0; MOST];
        partials[index] = 1.0;
        Self { value, partials }
    }

    /// The chain rule.
    fn map(self, value: f64, derivative: f64) -> Self {
        Self { value, partials: self.partials.map(|partial| derivative * partial) }
    }

    /// The chain rule for two.
    fn with(mut self, other: Self, value: f64, derivatives: [f64; 2]) -> Self {
        let pairs = self.partials.iter_mut().zip(other.partials);
        pairs.for_each(|(ours, theirs)| *ours = derivatives[0] * *ours + derivatives[1] * theirs);
        Self { value, ..self }
    }

    fn powi(self, n: i32) -> Self {
        self.map(self.value.powi(n), f64::from(n) * self.value.powi(n - 1))
    }

    fn exp(self) -> Self {
        self.map(self.value.exp(), self.value.exp())
    }

    fn ln(self) -> Self {
        self.map(self.value.ln(), 1.0 / self.value)
    }

    fn sin(self) -> Self {
        self.map(self.value.sin(), self.value.cos())
    }

    fn cos(self) -> Self {
        self.map(self.value.cos(), -self.value.sin())
    }

    fn atan(self) -> Self {
        self.map(self.value.atan(), 1.0 / (1.0 + self.value.powi(2)))
    }

    fn sqrt(self) -> Self {
        self.map(self.value.sqrt(), 0.5 / self.value.sqrt())
    }

    fn abs(self) -> Self {
        self.map(self.value.abs(), self.value.signum())
    }
}

impl From<f64> for Dual {
    fn from(value: f64) -> Self {
        Self { value, partials: [0.0; MOST] }
    }
}

impl Neg for Dual {
    type Output = Self;

    fn neg(self) -> Self {
        self.map(-self.value, -1.0)
    }
}

/// An operator between two duals, or a dual and a constant, from its value and its derivatives by both sides.
macro_rules! operator {
    ($trait:ident, $method:ident, |$a:ident, $b:ident| $value:expr, $by_a:expr, $by_b:expr) => {
        impl<T: Into<Dual>> $trait<T> for Dual {
            type Output = Dual;

            fn $method(self, other: T) -> Dual {
                let other = other.into();
                let ($a, $b) = (self.value, other.value);
                self.with(other, $value, [$by_a, $by_b])
            }
        }

        impl $trait<Dual> for f64 {
            type Output = Dual;

            fn $method(self, other: Dual) -> Dual {
                Dual::from(self).$method(other)
            }
        }
    };
}

operator!(Add, add, |a, b| a + b, 1.0, 1.0);
operator!(Sub, sub, |a, b| a - b, 1.0, -1.0);
operator!(Mul, mul, |a, b| a * b, b, a);
operator!(Div, div, |a, b| a / b, 1.0 / b, -a / (b * b));

fn sum(terms: impl IntoIterator<Item = Dual>) -> Dual {
    terms.into_iter().fold(0.0.into(), |sum, term| sum + term)
}

/// The sum of squares of the residuals, with its gradient.
fn squares(x: &[f64], residuals: impl Fn(&[Dual]) -> Vec<Dual>) -> (f64, Vec<f64>) {
    let duals: Vec<Dual> = x.iter().enumerate().map(|(i, x)| Dual::variable(*x, i)).collect();
    let f = sum(residuals(&duals).into_iter().map(|r| r.powi(2)));
    (f.value, f.partials[..x.len()].to_vec())
}

/// All 35, in the order of the paper and in its sizes.
pub fn problems() -> Vec<Problem> {
    /// A problem with its residuals and its value.
    fn problem(
        name: &'static str,
        start: Vec<f64>,
        reference: impl Fn(&[f64]) -> f64 + 'static,
        residuals: fn(&[Dual]) -> Vec<Dual>,
    ) -> Problem {
        let objective = Box::new(move |x: &[f64]| squares(x, residuals));
        Problem { name, start, objective, reference: Box::new(reference) }
    }
    /// The value of a problem with a chosen number of residuals.
    fn of(m: usize, value: fn(&MGH, &[f64]) -> f64) -> impl Fn(&[f64]) -> f64 {
        move |x| value(&MGH::aux(m), x)
    }
    vec![
        problem("Rosenbrock", MGHInit::rosenbrock(), MGH::rosenbrock, rosenbrock),
        problem("Freudenstein-Roth", MGHInit::freudenstein_and_roth(), MGH::freudenstein_and_roth, freudenstein_roth),
        problem("Powell badly scaled", MGHInit::powell_badly_scaled(), MGH::powell_badly_scaled, powell_badly_scaled),
        problem("Brown badly scaled", MGHInit::brown_badly_scaled(), MGH::brown_badly_scaled, brown_badly_scaled),
        problem("Beale", MGHInit::beale(), MGH::beale, beale),
        problem(
            "Jennrich-Sampson",
            MGHInit::jennrich_and_sampson(),
            of(10, MGH::jennrich_and_sampson),
            jennrich_sampson,
        ),
        problem("helical valley", MGHInit::hellical_valley(), MGH::hellical_valley, helical_valley),
        problem("Bard", MGHInit::bard(), MGH::bard, bard),
        problem("Gaussian", MGHInit::gaussian(), MGH::gaussian, gaussian),
        problem("Meyer", MGHInit::meyer(), MGH::meyer, meyer),
        problem("Gulf", MGHInit::gulf_research_and_development(), of(99, MGH::gulf_research_and_development), gulf),
        problem("Box", MGHInit::box_3d(), of(10, MGH::box_3d), box_3d),
        problem("Powell singular", MGHInit::powell_singular(), MGH::powell_singular, powell_singular),
        problem("Wood", MGHInit::wood(), MGH::wood, wood),
        problem("Kowalik-Osborne", MGHInit::kowalik_and_osborne(), MGH::kowalik_and_osborne, kowalik_osborne),
        problem("Brown-Dennis", MGHInit::brown_and_dennis(), of(20, MGH::brown_and_dennis), brown_dennis),
        problem("Osborne 1", MGHInit::osborne_1(), MGH::osborne_1, osborne_1),
        problem("Biggs EXP6", MGHInit::biggs_exp6(), of(13, MGH::biggs_exp6), biggs_exp6),
        problem("Osborne 2", MGHInit::osborne_2(), MGH::osborne_2, osborne_2),
        problem("Watson", MGHInit::watson(9), MGH::watson, watson),
        problem("extended Rosenbrock", MGHInit::extended_rosenbrock(10), MGH::extended_rosenbrock, rosenbrock),
        problem(
            "extended Powell",
            MGHInit::extended_powell_singular(12),
            MGH::extended_powell_singular,
            powell_singular,
        ),
        problem("penalty I", MGHInit::penalty1(10), MGH::penalty1, penalty_1),
        problem("penalty II", MGHInit::penalty2(10), MGH::penalty2, penalty_2),
        problem(
            "variably dimensioned",
            MGHInit::variably_dimensioned(10),
            MGH::variably_dimensioned,
            variably_dimensioned,
        ),
        problem("trigonometric", MGHInit::trigonometric(10), MGH::trigonometric, trigonometric),
        problem("Brown almost linear", MGHInit::brown_almost_linear(10), MGH::brown_almost_linear, brown_almost_linear),
        problem("boundary value", MGHInit::discrete_boundary_value(10), MGH::discrete_boundary_value, boundary_value),
        problem(
            "integral equation",
            MGHInit::discrete_integral_equation(10),
            MGH::discrete_integral_equation,
            integral_equation,
        ),
        problem("Broyden tridiagonal", MGHInit::broyden_tridiagonal(10), MGH::broyden_tridiagonal, broyden_tridiagonal),
        problem("Broyden banded", MGHInit::broyden_banded(10), MGH::broyden_banded, broyden_banded),
        problem("linear full rank", MGHInit::linear_full_rank(10), of(20, MGH::linear_full_rank), linear_full_rank),
        problem("linear rank 1", MGHInit::linear_rank_1(10), of(20, MGH::linear_rank_1), linear_rank_1),
        problem(
            "linear rank 1 zero",
            MGHInit::linear_rank_1_zero(10),
            of(20, MGH::linear_rank_1_zero),
            linear_rank_1_zero,
        ),
        problem("Chebyquad", MGHInit::chebyquad(8), of(8, MGH::chebyquad), chebyquad),
    ]
}

fn rosenbrock(x: &[Dual]) -> Vec<Dual> {
    x.chunks(2).flat_map(|x| [10.0 * (x[1] - x[0].powi(2)), 1.0 - x[0]]).collect()
}

fn freudenstein_roth(x: &[Dual]) -> Vec<Dual> {
    let (a, b) = (x[0], x[1]);
    vec![a - 13.0 + ((5.0 - b) * b - 2.0) * b, a - 29.0 + ((b + 1.0) * b - 14.0) * b]
}

fn powell_badly_scaled(x: &[Dual]) -> Vec<Dual> {
    vec![1e4 * x[0] * x[1] - 1.0, (-x[0]).exp() + (-x[1]).exp() - 1.0001]
}

fn brown_badly_scaled(x: &[Dual]) -> Vec<Dual> {
    vec![x[0] - 1e6, x[1] - 2e-6, x[0] * x[1] - 2.0]
}

fn beale(x: &[Dual]) -> Vec<Dual> {
    [1.5, 2.25, 2.625].into_iter().zip(1..).map(|(y, i)| y - x[0] * (1.0 - x[1].powi(i))).collect()
}

fn jennrich_sampson(x: &[Dual]) -> Vec<Dual> {
    (1..=10).map(f64::from).map(|i| 2.0 + 2.0 * i - ((i * x[0]).exp() + (i * x[1]).exp())).collect()
}

fn helical_valley(x: &[Dual]) -> Vec<Dual> {
    let behind = if x[0].value > 0.0 { 0.0 } else { 0.5 };
    let theta = (x[1] / x[0]).atan() / (2.0 * PI) + behind;
    vec![10.0 * (x[2] - 10.0 * theta), 10.0 * ((x[0].powi(2) + x[1].powi(2)).sqrt() - 1.0), x[2]]
}

fn bard(x: &[Dual]) -> Vec<Dual> {
    let y = [0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39];
    let residual = |(y, u): (f64, i32)| {
        let (u, v) = (f64::from(u), f64::from(16 - u));
        y - (x[0] + u / (v * x[1] + u.min(v) * x[2]))
    };
    y.into_iter().zip(1..).map(residual).collect()
}

fn gaussian(x: &[Dual]) -> Vec<Dual> {
    let half = [0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521, 0.3989];
    let y = half.into_iter().chain(half.into_iter().rev().skip(1));
    y.zip(1..).map(|(y, i)| x[0] * (-x[1] * (f64::from(8 - i) / 2.0 - x[2]).powi(2) / 2.0).exp() - y).collect()
}

fn meyer(x: &[Dual]) -> Vec<Dual> {
    let y = [
        34780.0, 28610.0, 23650.0, 19630.0, 16370.0, 13720.0, 11540.0, 9744.0, 8261.0, 7030.0, 6005.0, 5147.0, 4427.0,
        3820.0, 3307.0, 2872.0,
    ];
    y.into_iter().zip(1..).map(|(y, i)| x[0] * (x[1] / (x[2] + f64::from(45 + 5 * i))).exp() - y).collect()
}

/// With the minus sign that makes the residuals zero at the minimiser; the paper prints another one.
fn gulf(x: &[Dual]) -> Vec<Dual> {
    let residual = |i: i32| {
        let t = f64::from(i) / 100.0;
        let y = 25.0 + (-50.0 * t.ln()).powf(2.0 / 3.0);
        (-((x[2] * (y - x[1]).abs().ln()).exp() / x[0])).exp() - t
    };
    (1..=99).map(residual).collect()
}

fn box_3d(x: &[Dual]) -> Vec<Dual> {
    let residual = |t: f64| (-t * x[0]).exp() - (-t * x[1]).exp() - x[2] * ((-t).exp() - (-10.0 * t).exp());
    (1..=10).map(|i| residual(0.1 * f64::from(i))).collect()
}

fn powell_singular(x: &[Dual]) -> Vec<Dual> {
    let residuals = |x: &[Dual]| {
        let (root_5, root_10) = (5_f64.sqrt(), 10_f64.sqrt());
        let quartic = [(x[1] - 2.0 * x[2]).powi(2), root_10 * (x[0] - x[3]).powi(2)];
        [x[0] + 10.0 * x[1], root_5 * (x[2] - x[3]), quartic[0], quartic[1]]
    };
    x.chunks(4).flat_map(residuals).collect()
}

fn wood(x: &[Dual]) -> Vec<Dual> {
    let (root_90, root_10) = (90_f64.sqrt(), 10_f64.sqrt());
    vec![
        10.0 * (x[1] - x[0].powi(2)),
        1.0 - x[0],
        root_90 * (x[3] - x[2].powi(2)),
        1.0 - x[2],
        root_10 * (x[1] + x[3] - 2.0),
        (x[1] - x[3]) / root_10,
    ]
}

fn kowalik_osborne(x: &[Dual]) -> Vec<Dual> {
    let y = [0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246];
    let u = [4.0, 2.0, 1.0, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625_f64];
    y.into_iter().zip(u).map(|(y, u)| y - x[0] * (u * u + u * x[1]) / (u * u + u * x[2] + x[3])).collect()
}

fn brown_dennis(x: &[Dual]) -> Vec<Dual> {
    let residual = |t: f64| (x[0] + t * x[1] - t.exp()).powi(2) + (x[2] + t.sin() * x[3] - t.cos()).powi(2);
    (1..=20).map(|i| residual(f64::from(i) / 5.0)).collect()
}

fn osborne_1(x: &[Dual]) -> Vec<Dual> {
    let y = [
        0.844, 0.908, 0.932, 0.936, 0.925, 0.908, 0.881, 0.850, 0.818, 0.784, 0.751, 0.718, 0.685, 0.658, 0.628, 0.603,
        0.580, 0.558, 0.538, 0.522, 0.506, 0.490, 0.478, 0.467, 0.457, 0.448, 0.438, 0.431, 0.424, 0.420, 0.414, 0.411,
        0.406,
    ];
    let model = |t: f64| x[0] + x[1] * (-t * x[3]).exp() + x[2] * (-t * x[4]).exp();
    y.into_iter().zip(0..).map(|(y, i)| y - model(10.0 * f64::from(i))).collect()
}

fn biggs_exp6(x: &[Dual]) -> Vec<Dual> {
    let residual = |t: f64| {
        let y = (-t).exp() - 5.0 * (-10.0 * t).exp() + 3.0 * (-4.0 * t).exp();
        x[2] * (-t * x[0]).exp() - x[3] * (-t * x[1]).exp() + x[5] * (-t * x[4]).exp() - y
    };
    (1..=13).map(|i| residual(0.1 * f64::from(i))).collect()
}

fn osborne_2(x: &[Dual]) -> Vec<Dual> {
    let y = [
        1.366, 1.191, 1.112, 1.013, 0.991, 0.885, 0.831, 0.847, 0.786, 0.725, 0.746, 0.679, 0.608, 0.655, 0.616, 0.606,
        0.602, 0.626, 0.651, 0.724, 0.649, 0.649, 0.694, 0.644, 0.624, 0.661, 0.612, 0.558, 0.533, 0.495, 0.500, 0.423,
        0.395, 0.375, 0.372, 0.391, 0.396, 0.405, 0.428, 0.429, 0.523, 0.562, 0.607, 0.653, 0.672, 0.708, 0.633, 0.668,
        0.645, 0.632, 0.591, 0.559, 0.597, 0.625, 0.739, 0.710, 0.729, 0.720, 0.636, 0.581, 0.428, 0.292, 0.162, 0.098,
        0.054,
    ];
    let model = |t: f64| {
        let peaks = (1..4).map(|i| x[i] * (-(t - x[7 + i]).powi(2) * x[4 + i]).exp());
        x[0] * (-t * x[4]).exp() + sum(peaks)
    };
    y.into_iter().zip(0..).map(|(y, i)| y - model(f64::from(i) / 10.0)).collect()
}

fn watson(x: &[Dual]) -> Vec<Dual> {
    let residual = |t: f64| {
        let slope = sum((1..x.len()).map(|j| j as f64 * t.powi(j as i32 - 1) * x[j]));
        slope - sum((0..x.len()).map(|j| t.powi(j as i32) * x[j])).powi(2) - 1.0
    };
    (1..=29).map(|i| residual(f64::from(i) / 29.0)).chain([x[0], x[1] - x[0].powi(2) - 1.0]).collect()
}

fn penalty_1(x: &[Dual]) -> Vec<Dual> {
    let linear = x.iter().map(|x| 1e-5_f64.sqrt() * (*x - 1.0));
    linear.chain([sum(x.iter().map(|x| x.powi(2))) - 0.25]).collect()
}

fn penalty_2(x: &[Dual]) -> Vec<Dual> {
    let (n, root) = (x.len(), 1e-5_f64.sqrt());
    let e = |i: usize| (i as f64 / 10.0).exp();
    let exp = |i: usize| (x[i] / 10.0).exp();
    let pairs = (1..n).map(|i| root * (exp(i) + exp(i - 1) - (e(i + 1) + e(i))));
    let singles = (1..n).map(|i| root * (exp(i) - (-0.1_f64).exp()));
    let norm = sum((0..n).map(|i| (n - i) as f64 * x[i].powi(2))) - 1.0;
    [x[0] - 0.2].into_iter().chain(pairs).chain(singles).chain([norm]).collect()
}

fn variably_dimensioned(x: &[Dual]) -> Vec<Dual> {
    let weighted = sum(x.iter().zip(1..).map(|(x, i)| f64::from(i) * (*x - 1.0)));
    x.iter().map(|x| *x - 1.0).chain([weighted, weighted.powi(2)]).collect()
}

fn trigonometric(x: &[Dual]) -> Vec<Dual> {
    let cosines = x.len() as f64 - sum(x.iter().map(|x| x.cos()));
    x.iter().zip(1..).map(|(x, i)| cosines + f64::from(i) * (1.0 - x.cos()) - x.sin()).collect()
}

fn brown_almost_linear(x: &[Dual]) -> Vec<Dual> {
    let (n, total) = (x.len(), sum(x.iter().copied()));
    let product = x.iter().fold(Dual::from(1.0), |product, x| product * *x);
    x[..n - 1].iter().map(|x| *x + total - (n as f64 + 1.0)).chain([product - 1.0]).collect()
}

/// The neighbour of a variable, zero beyond the ends.
fn at(x: &[Dual], i: Option<usize>) -> Dual {
    i.and_then(|i| x.get(i)).copied().unwrap_or(0.0.into())
}

fn boundary_value(x: &[Dual]) -> Vec<Dual> {
    let h = 1.0 / (x.len() as f64 + 1.0);
    let residual = |i: usize| {
        let cube = (x[i] + (i + 1) as f64 * h + 1.0).powi(3);
        2.0 * x[i] - at(x, i.checked_sub(1)) - at(x, Some(i + 1)) + h * h / 2.0 * cube
    };
    (0..x.len()).map(residual).collect()
}

fn integral_equation(x: &[Dual]) -> Vec<Dual> {
    let h = 1.0 / (x.len() as f64 + 1.0);
    let t = |i: usize| (i + 1) as f64 * h;
    let cube = |j: usize| (x[j] + t(j) + 1.0).powi(3);
    let residual = |i: usize| {
        let before = sum((0..=i).map(|j| t(j) * cube(j)));
        let after = sum((i + 1..x.len()).map(|j| (1.0 - t(j)) * cube(j)));
        x[i] + h / 2.0 * ((1.0 - t(i)) * before + t(i) * after)
    };
    (0..x.len()).map(residual).collect()
}

fn broyden_tridiagonal(x: &[Dual]) -> Vec<Dual> {
    let residual = |i: usize| (3.0 - 2.0 * x[i]) * x[i] - at(x, i.checked_sub(1)) - 2.0 * at(x, Some(i + 1)) + 1.0;
    (0..x.len()).map(residual).collect()
}

fn broyden_banded(x: &[Dual]) -> Vec<Dual> {
    let residual = |i: usize| {
        let band = (i.saturating_sub(5)..x.len().min(i + 2)).filter(|j| *j != i);
        x[i] * (2.0 + 5.0 * x[i].powi(2)) + 1.0 - sum(band.map(|j| x[j] * (1.0 + x[j])))
    };
    (0..x.len()).map(residual).collect()
}

fn linear_full_rank(x: &[Dual]) -> Vec<Dual> {
    let mean = 2.0 / 20.0 * sum(x.iter().copied());
    (0..20).map(|i| at(x, Some(i)) - mean - 1.0).collect()
}

fn linear_rank_1(x: &[Dual]) -> Vec<Dual> {
    let weighted = sum(x.iter().zip(1..).map(|(x, j)| f64::from(j) * *x));
    (1..=20).map(|i| f64::from(i) * weighted - 1.0).collect()
}

fn linear_rank_1_zero(x: &[Dual]) -> Vec<Dual> {
    let weighted = sum(x[1..x.len() - 1].iter().zip(2..).map(|(x, j)| f64::from(j) * *x));
    let inner = (1..19).map(|i| f64::from(i) * weighted - 1.0);
    [Dual::from(-1.0)].into_iter().chain(inner).chain([Dual::from(-1.0)]).collect()
}

fn chebyquad(x: &[Dual]) -> Vec<Dual> {
    let n = x.len();
    let mut means = vec![Dual::from(0.0); n + 1];
    for x in x {
        let z = 2.0 * *x - 1.0;
        let mut pair = [Dual::from(1.0), z];
        for mean in &mut means[1..] {
            *mean = *mean + pair[1] / n as f64;
            pair = [pair[1], 2.0 * z * pair[1] - pair[0]];
        }
    }
    let integral = |i: usize| if i.is_multiple_of(2) { -1.0 / ((i * i) as f64 - 1.0) } else { 0.0 };
    (1..=n).map(|i| means[i] - integral(i)).collect()
}
