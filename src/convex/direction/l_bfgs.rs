//! Limited-memory BFGS in the vector-free form: the two loops run on inner products, the result is a list of
//! coefficients (Nocedal 1980 for the method; Chen, Wang and Zhou 2014 for the form).

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Coefficients, Direction, MemoryLimit, Products, Proposal, Step};
use crate::error::{ParameterError, StateError};

/// Limited-memory BFGS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LBfgsConfig {
    /// Pairs `(s, y)` kept, each two vectors the size of the parameters; from 1 to 10,000, or `all`; default 100. Source:
    /// Nocedal 1980; the default is this crate's, by experiment.
    pub memory: Memory,
    /// Bytes the pairs and batch gradients may take, over all tensors, up to twice as many for a moment when they are taken in or
    /// room is made for more; at least 1, default 8 GiB. A number of pairs that would need more is refused at the swap; `all`
    /// keeps the newest that fit, with an event when the first is dropped. Source: this crate.
    #[schemars(range(min = 1))]
    pub memory_bytes: u64,
    /// Gradients of batches kept for the first matrix, `(I + sum_i b_i b_i' / 10)^-1` in the metric made of gradients, each a
    /// vector the size of the parameters; from 0, for the identity, to 10,000, and no more than `memory_bytes` has room for beside
    /// the pairs (a quarter of it with `memory` `all`); default 100. In any other metric there are none. Where there are more
    /// batches, neighbours are added together. Source: after the
    /// natural gradient of Le Roux, Manzagol and Bengio 2008; the weight is this crate's, by experiment.
    #[schemars(range(max = 10_000))]
    pub batch_gradients: u64,
    /// Divide the matrix by `min(1, 1/b)`, `b = -a s'g_old / s'y`, before each update but the oldest pair's, for small full-batch
    /// fits with a long memory; `y` is the one that `function_values` makes; default false. Source: Al-Baali 1998.
    pub self_scaling: bool,
    /// Multiply each gradient change `y` by `6 (f_old - f + s'g) / s'y - 2`, kept between 1/3 and 3, where the losses resolve
    /// it: the curvature at the end of the step, by the cubic through losses and slopes at both ends, over the mean one.
    /// Without losses it does nothing; default true. Source: Biggs 1973; the bounds are this crate's, by experiment.
    pub function_values: bool,
}

impl Default for LBfgsConfig {
    fn default() -> Self {
        Self {
            memory: Memory::Pairs(100),
            memory_bytes: 8 << 30,
            batch_gradients: 100,
            self_scaling: false,
            function_values: true,
        }
    }
}

/// How many pairs are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Memory {
    /// The newest so many.
    Pairs(u64),
    /// All of them.
    All(AllPairs),
}

/// The word for it in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AllPairs {
    /// `"all"`.
    All,
}

impl Memory {
    /// All pairs.
    pub const ALL: Self = Self::All(AllPairs::All);

    /// The number of pairs, without end for all.
    fn pairs(self) -> usize {
        match self {
            Self::Pairs(pairs) => pairs as usize,
            Self::All(_) => usize::MAX,
        }
    }
}

impl JsonSchema for Memory {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Memory".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "integer", "minimum": 1, "maximum": 10_000 },
                { "const": "all", "description": "Every pair, as long as they fit into `memory_bytes`." },
            ]
        })
    }
}

impl LBfgsConfig {
    /// Check the ranges.
    ///
    /// # Errors
    ///
    /// [`ParameterError`] naming the parameter out of its range.
    pub fn validate(&self) -> Result<(), ParameterError> {
        if let Memory::Pairs(pairs) = self.memory {
            ParameterError::range((1..=10_000).contains(&pairs), "memory", pairs, "from 1 to 10000, or `all`")?;
        }
        ParameterError::range(self.memory_bytes >= 1, "memory_bytes", self.memory_bytes, "at least 1")?;
        ParameterError::range(
            self.batch_gradients <= 10_000,
            "batch_gradients",
            self.batch_gradients,
            "from 0 to 10000",
        )
    }
}

/// A pair enters the memory when `s'y > CURVATURE |s| |y|` (Nocedal and Wright 2006, section 6.1: the curvature
/// condition, here free of scale).
const CURVATURE: f64 = 1e-10;

/// The factor of a gradient change by the losses is at most this, and at least its reciprocal.
const LARGEST_FACTOR: f64 = 3.0;

/// It is taken where the error of the decrease can change it by at most this.
const FACTOR_ERROR: f64 = 0.1;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct State {
    /// Slots from the oldest pair to the newest.
    order: Vec<usize>,
    /// What the gradient change of each slot is multiplied by: `y` below is that product.
    factor: Vec<f64>,
    /// `s_i'y_j` for a pair `i` that is no newer than `j`, and `y_i'P y_j` with the first matrix `P`, by slot.
    sy: Vec<Vec<f64>>,
    yy: Vec<Vec<f64>>,
    /// The first matrix.
    first: FirstMatrix,
    /// `u` of each slot's `y`, whose products are what it takes off `y_i'y_j`.
    off: Vec<Vec<f64>>,
    /// The self-scaling factor of each slot's pair.
    scale: Vec<f64>,
    /// Vectors that fit into the bytes allowed, and batch gradients among them beside the pairs asked for.
    fits: Option<[usize; 2]>,
    /// The first pair has been dropped for want of bytes.
    dropped: bool,
}

/// `P = (I + B B' / 10)^-1 = I - B (10 I + B'B)^-1 B'` of batch gradients `B` (the formula of Sherman, Morrison and Woodbury), by
/// the lower factor of Cholesky of `10 I + B'B`, row by row; without any it is the identity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct FirstMatrix(Vec<Vec<f64>>);

/// What the outer products of batch gradients are divided by. With 1 the steps in their span are too short, and the others too
/// long for it.
const UNIT: f64 = 10.0;

/// The unit is at least so much of the sum of all `b'b`, which no eigenvalue of `B'B` exceeds, and `y'P y` of `y'y`: the products'
/// rounding is far below.
const SMALLEST_SHARE: f64 = 1e-6;

impl FirstMatrix {
    /// From `B'B`; the identity where that is not finite.
    fn new(gram: &[Vec<f64>]) -> Self {
        let trace: f64 = gram.iter().enumerate().map(|(i, row)| row[i]).sum();
        let unit = (SMALLEST_SHARE * trace).max(UNIT);
        let mut factor: Vec<Vec<f64>> = Vec::with_capacity(gram.len());
        for (i, products) in gram.iter().enumerate() {
            let mut row = Vec::with_capacity(i + 1);
            for (above, product) in factor.iter().zip(products) {
                let known: f64 = above.iter().zip(&row).map(|(a, b)| a * b).sum();
                row.push((product - known) / above[row.len()]);
            }
            let pivot = unit + products[i] - row.iter().map(|value| value * value).sum::<f64>();
            if !(pivot > 0.0 && pivot.is_finite()) {
                return Self::default();
            }
            row.push(pivot.sqrt());
            factor.push(row);
        }
        Self(factor)
    }

    /// `u` of a vector `x` with the products `B'x`, such that `x'P z = x'z - u_x'u_z`.
    fn off(&self, products: impl Iterator<Item = f64>) -> Vec<f64> {
        let mut off: Vec<f64> = Vec::with_capacity(self.0.len());
        for (row, product) in self.0.iter().zip(products) {
            let known: f64 = row.iter().zip(&off).map(|(a, b)| a * b).sum();
            off.push((product - known) / row[off.len()]);
        }
        off
    }

    /// The coefficients `c` of `P x = x + B c`, from `u` of `x`.
    fn coefficients(&self, mut off: Vec<f64>) -> Vec<f64> {
        for i in (0..off.len()).rev() {
            let below: f64 = self.0.iter().zip(&off).skip(i + 1).map(|(row, value)| row[i] * value).sum();
            off[i] = (off[i] - below) / self.0[i][i];
        }
        off.into_iter().map(|value| -value).collect()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// See [`LBfgsConfig`].
#[derive(Clone, Debug)]
pub struct LBfgs {
    config: LBfgsConfig,
    state: State,
}

impl LBfgs {
    /// The method with an empty memory. The configuration must be [valid](LBfgsConfig::validate): without room for a pair the first
    /// one panics.
    pub fn new(config: &LBfgsConfig) -> Self {
        Self { config: config.clone(), state: State::default() }
    }

    /// Pairs kept at most.
    fn capacity(&self) -> usize {
        let taken = self.state.first.0.len();
        self.config
            .memory
            .pairs()
            .min(self.state.fits.map_or(usize::MAX, |[vectors, _]| (vectors.saturating_sub(taken) / 2).max(1)))
    }

    /// Take the pair of the accepted step into the Gram matrices; the slot it goes to, or `None` where the curvature
    /// condition refuses it.
    fn store(&mut self, p: &Products, step: Step) -> Option<usize> {
        let length = step.length;
        let sy = length * p.yd;
        if sy.is_nan() || sy <= CURVATURE * length * (p.dd * p.yy).sqrt() {
            return None;
        }
        let factor = if self.config.function_values { by_values(step, length * p.gd, sy) } else { 1.0 };
        let sy = factor * sy;
        let capacity = self.capacity();
        let state = &mut self.state;
        let slot = if state.order.len() < capacity {
            for matrix in [&mut state.sy, &mut state.yy] {
                matrix.iter_mut().for_each(|row| row.push(0.0));
                matrix.push(vec![0.0; state.order.len() + 1]);
            }
            state.factor.push(1.0);
            state.scale.push(1.0);
            state.off.push(Vec::new());
            state.order.len()
        } else {
            state.order.remove(0)
        };
        state.off[slot] = state.first.off(p.batches.iter().map(|[_, b_y]| factor * b_y));
        for &other in &state.order {
            let [[_, s_y], [_, y_y]] = p.pairs[other];
            let y_y = state.factor[other] * factor * y_y - dot(&state.off[other], &state.off[slot]);
            state.yy[slot][other] = y_y;
            state.yy[other][slot] = y_y;
            state.sy[other][slot] = factor * s_y;
        }
        state.factor[slot] = factor;
        let (yy, off) = (factor * factor * p.yy, dot(&state.off[slot], &state.off[slot]));
        (state.sy[slot][slot], state.yy[slot][slot]) = (sy, (yy - off).max(SMALLEST_SHARE * yy));
        // Al-Baali's b = -a s'g / s'y with s = a d: -a^2 d'g_base / s'y, and d'g_base = d'g - d'y.
        let b = -length * length * (p.gd - p.yd) / sy;
        state.scale[slot] = if b > 0.0 { (1.0 / b).min(1.0) } else { 1.0 };
        state.order.push(slot);
        Some(slot)
    }

    /// The two loops for `d = -H g` (Nocedal and Wright 2006, algorithm 7.4) on coefficients over `(g, s, y)`, of which those of
    /// `g` and `y` are to be multiplied by the first matrix `P`; `sg` and `yg` are `s'g` and `y'P g`.
    fn two_loops(&self, sg: &[f64], yg: &[f64]) -> (f64, Vec<f64>, Vec<f64>) {
        let State { order, sy, yy, off, scale, .. } = &self.state;
        let (mut g, mut s, mut y) = (-1.0, vec![0.0; sg.len()], vec![0.0; yg.len()]);
        let mut alpha = vec![0.0; sg.len()];
        for &i in order.iter().rev() {
            // Of the pairs only the newer ones have a part in it yet, with their y.
            let s_q = g * sg[i] + order.iter().map(|&j| y[j] * sy[i][j]).sum::<f64>();
            alpha[i] = s_q / sy[i][i];
            y[i] -= alpha[i];
        }
        // Times the first matrix: s'y / y'y of the newest pair (Shanno and Phua 1978), of the oldest where each update scales. Of
        // y'y with the first matrix and without it the geometric mean: where y is in the span of the batch gradients alone,
        // y'P y is small, and the steps in all other ways would be too long.
        let &first = if self.config.self_scaling { order.first() } else { order.last() }
            .expect("the memory holds the pair just stored");
        let plain = yy[first][first] + dot(&off[first], &off[first]);
        let gamma = sy[first][first] / yy[first][first] * (yy[first][first] / plain).sqrt();
        let rescale = |factor: f64, g: &mut f64, s: &mut [f64], y: &mut [f64]| {
            *g *= factor;
            s.iter_mut().chain(y).for_each(|c| *c *= factor);
        };
        rescale(gamma, &mut g, &mut s, &mut y);
        for (at, &i) in order.iter().enumerate() {
            // Of the oldest pair the scale above is already its own.
            if self.config.self_scaling && at > 0 {
                rescale(1.0 / scale[i], &mut g, &mut s, &mut y);
            }
            let y_r = g * yg[i] + order.iter().map(|&j| s[j] * sy[j][i] + y[j] * yy[i][j]).sum::<f64>();
            s[i] += alpha[i] - y_r / sy[i][i];
        }
        (g, s, y)
    }
}

/// The curvature at the end of a step over its mean, by the cubic through losses and slopes at both ends (Biggs 1973), within
/// its bounds; 1 where the losses do not tell.
fn by_values(step: Step, sg: f64, sy: f64) -> f64 {
    match step.decrease {
        Some(decrease) if decrease.is_finite() && 6.0 * step.error <= FACTOR_ERROR * sy => {
            (6.0 * (decrease + sg) / sy - 2.0).clamp(1.0 / LARGEST_FACTOR, LARGEST_FACTOR)
        }
        _ => 1.0,
    }
}

impl Direction for LBfgs {
    fn fit(&mut self, pair_bytes: u64) -> Result<(), MemoryLimit> {
        let limit = self.config.memory_bytes;
        // Of all pairs three quarters of the room are theirs alone.
        let (pairs, share) = match self.config.memory {
            Memory::Pairs(pairs) => (pairs, 1),
            Memory::All(_) => (1, 4),
        };
        let bytes = pairs.saturating_mul(pair_bytes);
        if bytes > limit {
            return Err(MemoryLimit { pairs, bytes, limit });
        }
        let vector = (pair_bytes / 2).max(1);
        let gradients = self.config.batch_gradients.min((limit - bytes) / vector / share);
        self.state.fits = Some([limit / vector, gradients].map(|fits| usize::try_from(fits).unwrap_or(usize::MAX)));
        Ok(())
    }

    fn batch_gradients(&self) -> usize {
        self.state.fits.map_or(self.config.batch_gradients as usize, |[_, gradients]| gradients)
    }

    fn set_batch_gradients(&mut self, gram: &[Vec<f64>]) {
        self.state.first = FirstMatrix::new(gram);
    }

    fn next(&mut self, products: &Products, step: Step) -> Proposal {
        let full = self.state.order.len() == self.capacity();
        let store = if step.length > 0.0 { self.store(products, step) } else { None };
        if self.state.order.is_empty() {
            return Proposal::steepest(products.gg, None);
        }
        let g_off = self.state.first.off(products.batches.iter().map(|[b_g, _]| *b_g));
        // The new pair's own products with the gradient: s = length * d, y.
        let kept = products.pairs.len();
        let slots = self.state.scale.len();
        let with_gradient = |slot: usize| {
            let (sg, yg) = match store == Some(slot) {
                true => (step.length * products.gd, products.gy),
                false => (products.pairs[slot][0][0], products.pairs[slot][1][0]),
            };
            (sg, self.state.factor[slot] * yg)
        };
        let (sg, yg): (Vec<f64>, Vec<f64>) = (0..slots).map(with_gradient).unzip();
        let off = &self.state.off;
        let y_p_g: Vec<f64> = yg.iter().zip(off).map(|(y_g, off)| y_g - dot(off, &g_off)).collect();
        let (gradient, s, y) = self.two_loops(&sg, &y_p_g);
        let mut combined: Vec<f64> = g_off.iter().map(|value| gradient * value).collect();
        for (y, off) in y.iter().zip(off) {
            combined.iter_mut().zip(off).for_each(|(sum, value)| *sum += y * value);
        }
        let slope = gradient * products.gg + dot(&s, &sg) + dot(&y, &yg) - dot(&combined, &g_off);
        // The room for pairs grows by doubling, so that a young memory costs little.
        let room = if slots > kept { (2 * kept).max(8).min(self.capacity()) } else { kept };
        let y = y.into_iter().zip(&self.state.factor).map(|(y, factor)| factor * y);
        let mut pairs: Vec<[f64; 2]> = s.into_iter().zip(y).map(|(s, y)| [s, y]).collect();
        pairs.resize(room, [0.0; 2]);
        Proposal {
            coefficients: Coefficients {
                gradient,
                direction: 0.0,
                pairs,
                batches: self.state.first.coefficients(combined),
                store,
            },
            slope,
            step: Some(1.0),
            restart: None,
            // A number of pairs is what was asked for; with `all`, the first one dropped is news.
            dropped: (full && store.is_some() && !std::mem::replace(&mut self.state.dropped, true))
                .then_some(slots)
                .filter(|_| self.config.memory == Memory::ALL),
        }
    }

    fn restart(&mut self) {
        let State { fits, dropped, first, .. } = std::mem::take(&mut self.state);
        self.state = State { fits, dropped, first, ..State::default() };
    }

    fn state(&self) -> Value {
        json!(self.state)
    }

    fn restore(&mut self, state: Value) -> Result<(), StateError> {
        self.state = StateError::read("l_bfgs", state)?;
        Ok(())
    }

    fn boxed(&self) -> Box<dyn Direction> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const N: usize = 6;
    type Vector = [f64; N];

    fn dot(a: &Vector, b: &Vector) -> f64 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    fn combine(terms: &[(f64, &Vector)]) -> Vector {
        std::array::from_fn(|i| terms.iter().map(|(factor, vector)| factor * vector[i]).sum())
    }

    /// A positive definite matrix times a vector.
    fn hessian(x: &Vector) -> Vector {
        std::array::from_fn(|i| {
            let row = (0..N).map(|j| x[j] / (1.0 + (i as f64 - j as f64).abs()));
            row.sum::<f64>() + (i + 1) as f64 * x[i]
        })
    }

    /// An accepted step with what the method needs to know of it.
    #[derive(Clone)]
    struct Update {
        s: Vector,
        /// Times its factor by the losses.
        y: Vector,
        /// Al-Baali's factor.
        scale: f64,
    }

    /// Multiplied by `(I + B B' / 10)^-1`, by conjugate gradients.
    fn first_matrix_times(batches: &[Vector], x: &Vector) -> Vector {
        let inverse = |d: &Vector| batches.iter().fold(*d, |sum, b| combine(&[(1.0, &sum), (dot(b, d) / UNIT, b)]));
        let (mut solution, mut residual, mut d) = ([0.0; N], *x, *x);
        for _ in 0..3 * N {
            let (product, before) = (inverse(&d), dot(&residual, &residual));
            let step = if before > 0.0 { before / dot(&d, &product) } else { 0.0 };
            solution = combine(&[(1.0, &solution), (step, &d)]);
            residual = combine(&[(1.0, &residual), (-step, &product)]);
            let beta = if before > 0.0 { dot(&residual, &residual) / before } else { 0.0 };
            d = combine(&[(1.0, &residual), (beta, &d)]);
        }
        solution
    }

    /// `H g` by the updates of the inverse Hessian (Nocedal and Wright 2006, equation 6.17), each after a division by its
    /// factor, on a multiple of the first matrix.
    fn matrix_times(pairs: &[Update], batches: &[Vector], self_scaling: bool, g: &Vector) -> Vector {
        let first = if self_scaling { &pairs[0] } else { &pairs[pairs.len() - 1] };
        let yy = dot(&first.y, &first.y) * dot(&first.y, &first_matrix_times(batches, &first.y));
        let gamma = dot(&first.s, &first.y) / yy.sqrt();
        let unit = |i: usize| std::array::from_fn(|j| if i == j { gamma } else { 0.0 });
        let mut h: Vec<Vector> = (0..N).map(|i| first_matrix_times(batches, &unit(i))).collect();
        for (at, Update { s, y, scale }) in pairs.iter().enumerate() {
            let factor = if self_scaling && at > 0 { 1.0 / scale } else { 1.0 };
            let hy: Vector = std::array::from_fn(|i| factor * dot(&h[i], y));
            let sy = dot(s, y);
            let yhy = dot(y, &hy);
            for i in 0..N {
                for j in 0..N {
                    let outer = (1.0 + yhy / sy) * s[i] * s[j] - hy[i] * s[j] - s[i] * hy[j];
                    h[i][j] = factor * h[i][j] + outer / sy;
                }
            }
        }
        std::array::from_fn(|i| dot(&h[i], g))
    }

    #[test]
    fn directions_are_those_of_the_matrix_whatever_the_steps() {
        let cases = [
            (3, false, false, 0),
            (3, true, false, 0),
            (20, false, false, 0),
            (20, true, false, 0),
            (3, false, true, 0),
            (20, true, true, 0),
            (3, false, false, 3),
            (20, false, false, 9),
            (3, false, true, 3),
            (20, false, true, 9),
            (20, true, true, 1),
        ];
        for (memory, self_scaling, function_values, kept) in cases {
            let batches: Vec<Vector> = (0..kept)
                .map(|b| std::array::from_fn(|i| 5.0 * (1.3 * b as f64 + 0.7 * (i * i) as f64).sin()))
                .collect();
            let mut scaled = Vec::new();
            let pairs = Memory::Pairs(memory);
            let config = LBfgsConfig { memory: pairs, self_scaling, function_values, ..Default::default() };
            let mut method = LBfgs::new(&config);
            let gram: Vec<Vec<f64>> = batches.iter().map(|a| batches.iter().map(|b| dot(a, b)).collect()).collect();
            method.set_batch_gradients(&gram);
            let mut x: Vector = std::array::from_fn(|i| 1.0 - 0.3 * i as f64);
            let mut g = hessian(&x);
            let mut d = combine(&[(-1.0, &g)]);
            let proposal = method.next(&Products { gg: dot(&g, &g), ..Products::default() }, 0.0.into());
            assert_eq!(proposal, Proposal::steepest(dot(&g, &g), None));
            let (mut pairs, mut slots): (Vec<Update>, Vec<(Vector, Vector)>) = (Vec::new(), Vec::new());
            for (k, step) in [0.02, 0.9, 0.3, 1.4, 0.7, 1.2, 0.5, 0.8].into_iter().enumerate() {
                x = combine(&[(1.0, &x), (step, &d)]);
                let new = hessian(&x);
                let y = combine(&[(1.0, &new), (-1.0, &g)]);
                let s = combine(&[(step, &d)]);
                // As if the losses said that the curvature changes along the step, first and last beyond the bounds.
                let grown = 3.7 - 0.5 * k as f64;
                let decrease = Some((grown + 2.0) / 6.0 * dot(&s, &y) - dot(&s, &new));
                let factor = if function_values { grown.clamp(1.0 / LARGEST_FACTOR, LARGEST_FACTOR) } else { 1.0 };
                let b = -step * dot(&s, &g) / (factor * dot(&s, &y));
                pairs.push(Update { s, y: combine(&[(factor, &y)]), scale: (1.0 / b).min(1.0) });
                scaled.push(b > 1.0);
                if pairs.len() as u64 > memory {
                    pairs.remove(0);
                }
                let row = |r: &Vector| [dot(r, &new), dot(r, &y)];
                let products = Products {
                    gg: dot(&new, &new),
                    gy: dot(&new, &y),
                    gd: dot(&new, &d),
                    yy: dot(&y, &y),
                    yd: dot(&y, &d),
                    dd: dot(&d, &d),
                    pairs: slots.iter().map(|(s, y)| [row(s), row(y)]).collect(),
                    batches: batches.iter().map(row).collect(),
                };
                let Proposal { coefficients, slope, step: own, .. } =
                    method.next(&products, Step { length: step, decrease, error: 0.0 });
                let slot = coefficients.store.expect("positive curvature");
                if slot == slots.len() {
                    slots.push((s, y));
                } else {
                    slots[slot] = (s, y);
                }
                let mut terms = vec![(coefficients.gradient, &new)];
                terms.extend(coefficients.pairs.iter().zip(&slots).flat_map(|([a, b], (s, y))| [(*a, s), (*b, y)]));
                terms.extend(coefficients.batches.iter().copied().zip(&batches));
                let direction = combine(&terms);
                let expected = combine(&[(-1.0, &matrix_times(&pairs, &batches, self_scaling, &new))]);
                let error = combine(&[(1.0, &direction), (-1.0, &expected)]);
                let size = dot(&expected, &expected).sqrt();
                assert!(dot(&error, &error).sqrt() < 1e-9 * size, "{memory} {self_scaling} {k}: {error:?} of {size}");
                assert!((slope - dot(&new, &direction)).abs() < 1e-9 * slope.abs(), "{slope}");
                assert_eq!((own, coefficients.direction), (Some(1.0), 0.0));
                (g, d) = (new, direction);
            }
            let both = scaled.contains(&true) && scaled.contains(&false);
            assert!(both || !self_scaling, "{scaled:?}");
        }
    }

    #[test]
    fn a_pair_without_curvature_is_not_kept() {
        // Along d of length 3, a step of 2: s's = 36, y'y = 4; the limit is 1e-10 * 12.
        let products = |yd: f64| Products { gg: 1.0, gy: 0.5, gd: -0.1, yy: 4.0, yd, dd: 9.0, ..Products::default() };
        for (sy, kept) in [(1.3e-9, true), (1.1e-9, false), (0.0, false), (-1.0, false), (f64::NAN, false)] {
            let mut method = LBfgs::new(&LBfgsConfig::default());
            let proposal = method.next(&products(sy / 2.0), 2.0.into());
            assert_eq!(proposal.coefficients.store, kept.then_some(0), "{sy}");
            if !kept {
                assert_eq!(proposal, Proposal::steepest(1.0, None));
            }
        }
    }

    #[test]
    fn the_losses_tell_the_curvature_at_the_end_where_they_resolve_it() {
        // f = x^3 from 1 to 2: s'y = 12 - 3, the curvature is 12 at the end and 9 in the mean.
        let step = |decrease, error| Step { length: 1.0, decrease, error };
        let factor = |decrease, error| by_values(step(decrease, error), 12.0, 9.0);
        assert!((factor(Some(-7.0), 0.0) - 12.0 / 9.0).abs() < 1e-15);
        assert_eq!((factor(Some(100.0), 0.0), factor(Some(-100.0), 0.0)), (LARGEST_FACTOR, 1.0 / LARGEST_FACTOR));
        // An error of 0.15 in the decrease is one of 0.1 in the factor.
        assert!(factor(Some(-7.0), 0.149) > 1.3 && factor(Some(-7.0), 0.151) == 1.0);
        assert_eq!([factor(None, 0.0), factor(Some(-7.0), f64::NAN), factor(Some(f64::NAN), 0.0)], [1.0; 3]);
    }

    #[test]
    fn each_parameter_has_its_range() {
        for (batch_gradients, fine) in [(0, true), (10_000, true), (10_001, false)] {
            assert_eq!(
                LBfgsConfig { batch_gradients, ..Default::default() }.validate().is_ok(),
                fine,
                "{batch_gradients}"
            );
        }
        let valid =
            |memory, memory_bytes| LBfgsConfig { memory, memory_bytes, ..Default::default() }.validate().is_ok();
        for (pairs, fine) in [(0, false), (1, true), (10_000, true), (10_001, false)] {
            assert_eq!(valid(Memory::Pairs(pairs), 1), fine, "{pairs}");
        }
        assert!(valid(Memory::ALL, 1) && !valid(Memory::ALL, 0));
    }

    #[test]
    fn batch_gradients_take_the_room_that_the_pairs_leave() {
        let fit = |memory, memory_bytes, batch_gradients| {
            let mut method = LBfgs::new(&LBfgsConfig { memory, memory_bytes, batch_gradients, ..Default::default() });
            method.fit(100).map(|()| {
                let batches = method.batch_gradients();
                method.set_batch_gradients(&vec![vec![0.0; batches]; batches]);
                (method.capacity(), batches)
            })
        };
        assert_eq!(fit(Memory::Pairs(3), 1_000, 7), Ok((3, 7)));
        assert_eq!(fit(Memory::Pairs(3), 649, 7), Ok((3, 6)));
        assert_eq!(fit(Memory::Pairs(3), 350, 7), Ok((3, 1)));
        assert_eq!(fit(Memory::Pairs(3), 300, 7), Ok((3, 0)));
        // Of `all` there is one pair at least, and three quarters of the rest are for more.
        assert_eq!(fit(Memory::ALL, 10_000, 7), Ok((96, 7)));
        assert_eq!(fit(Memory::ALL, 1_000, 7), Ok((8, 4)));
        assert_eq!(fit(Memory::ALL, 299, 7), Ok((2, 0)));
        assert_eq!(fit(Memory::ALL, 99, 7), Err(MemoryLimit { pairs: 1, bytes: 100, limit: 99 }));
    }

    #[test]
    fn batch_gradients_far_from_finite_or_independent_leave_a_usable_matrix() {
        let matrix = |gram: &[&[f64]]| FirstMatrix::new(&gram.iter().map(|row| row.to_vec()).collect::<Vec<_>>());
        for broken in [f64::NAN, f64::INFINITY, -100.0] {
            assert_eq!(matrix(&[&[1.0, 0.0], &[0.0, broken]]), FirstMatrix::default(), "{broken}");
        }
        // Twice the same and huge, with a rounding that makes the matrix indefinite.
        let large = 1e20;
        let twice = matrix(&[&[large, large * 1.000_000_1], &[large * 1.000_000_1, large]]);
        let off = twice.off([large, large].into_iter());
        assert!(off.len() == 2 && off.iter().chain(&twice.coefficients(off.clone())).all(|value| value.is_finite()));
    }

    #[test]
    fn a_restart_forgets_the_pairs_and_not_how_many_fit() {
        let config =
            |memory, memory_bytes| LBfgsConfig { memory, memory_bytes, batch_gradients: 0, ..Default::default() };
        assert_eq!(LBfgs::new(&config(Memory::Pairs(2), 200)).fit(100), Ok(()));
        let limit = MemoryLimit { pairs: 2, bytes: 200, limit: 199 };
        assert_eq!(LBfgs::new(&config(Memory::Pairs(2), 199)).fit(100), Err(limit));

        let mut method = LBfgs::new(&config(Memory::ALL, 299));
        assert_eq!(method.fit(100), Ok(()));
        let mut kept = 0;
        let mut stored = |method: &mut LBfgs| {
            let pairs = vec![[[0.0; 2]; 2]; kept];
            let products = Products { gg: 1.0, gy: 0.5, gd: -0.1, yy: 4.0, yd: 1.0, dd: 9.0, pairs, batches: vec![] };
            let Proposal { coefficients, dropped, .. } = method.next(&products, 1.0.into());
            kept = kept.max(coefficients.store.expect("positive curvature") + 1);
            (coefficients.store, dropped)
        };
        let first: Vec<_> = (0..4).map(|_| stored(&mut method)).collect();
        assert_eq!(first, [(Some(0), None), (Some(1), None), (Some(0), Some(2)), (Some(1), None)]);
        method.restart();
        assert!(method.state.order.is_empty());
        let again: Vec<_> = (0..3).map(|_| stored(&mut method)).collect();
        assert_eq!(again, [(Some(0), None), (Some(1), None), (Some(0), None)]);

        // Nor the first matrix.
        method.set_batch_gradients(&[vec![2.0]]);
        let first = method.state.first.clone();
        method.restart();
        assert!(method.state.first == first && first != FirstMatrix::default());
    }
}
