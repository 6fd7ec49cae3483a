//! Limited-memory BFGS in the vector-free form: the two loops run on inner products, the result is a list of
//! coefficients (Nocedal 1980 for the method; Chen, Wang and Zhou 2014 for the form).

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Coefficients, Direction, MemoryLimit, Products, Proposal};
use crate::convex::RestartReason;
use crate::error::{ParameterError, StateError};

/// Limited-memory BFGS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LBfgsConfig {
    /// Pairs `(s, y)` kept, each two vectors the size of the parameters; from 1 to 10,000, or `all`; default 100. Source:
    /// Nocedal 1980; the default is this crate's, by experiment.
    pub memory: Memory,
    /// Bytes the pairs may take, over all tensors; at least 1, default 8 GiB. A number of pairs that would need more is
    /// refused at the swap; `all` keeps the newest that fit, with an event when the first is dropped. Source: this crate.
    #[schemars(range(min = 1))]
    pub memory_bytes: u64,
    /// Divide the matrix by `min(1, 1/b)`, `b = -a s'g / s'y`, before each update, for small full-batch fits with a long
    /// memory; default false. Source: Al-Baali 1998.
    pub self_scaling: bool,
}

impl Default for LBfgsConfig {
    fn default() -> Self {
        Self { memory: Memory::Pairs(100), memory_bytes: 8 << 30, self_scaling: false }
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
        ParameterError::range(self.memory_bytes >= 1, "memory_bytes", self.memory_bytes, "at least 1")
    }
}

/// A pair enters the memory when `s'y > CURVATURE |s| |y|` (Nocedal and Wright 2006, section 6.1: the curvature
/// condition, here free of scale).
const CURVATURE: f64 = 1e-10;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct State {
    /// Slots from the oldest pair to the newest.
    order: Vec<usize>,
    /// `s_i'y_j`, `s_i's_j`, `y_i'y_j` by slot.
    sy: Vec<Vec<f64>>,
    ss: Vec<Vec<f64>>,
    yy: Vec<Vec<f64>>,
    /// The self-scaling factor of each slot's pair.
    scale: Vec<f64>,
    /// Pairs that fit into the bytes allowed.
    fits: Option<usize>,
    /// The first pair has been dropped for want of bytes.
    dropped: bool,
}

/// See [`LBfgsConfig`].
#[derive(Clone, Debug)]
pub struct LBfgs {
    config: LBfgsConfig,
    state: State,
}

impl LBfgs {
    /// The method with an empty memory.
    pub fn new(config: &LBfgsConfig) -> Self {
        Self { config: config.clone(), state: State::default() }
    }

    /// Pairs kept at most.
    fn capacity(&self) -> usize {
        self.config.memory.pairs().min(self.state.fits.unwrap_or(usize::MAX))
    }

    /// Take the pair of the accepted step into the Gram matrices; the slot it goes to, or `None` where the curvature
    /// condition refuses it.
    fn store(&mut self, p: &Products, step: f64) -> Option<usize> {
        let (ss, sy) = (step * step * p.dd, step * p.yd);
        if sy.is_nan() || sy <= CURVATURE * (ss * p.yy).sqrt() {
            return None;
        }
        let capacity = self.capacity();
        let state = &mut self.state;
        let slot = if state.order.len() < capacity {
            for matrix in [&mut state.sy, &mut state.ss, &mut state.yy] {
                matrix.iter_mut().for_each(|row| row.push(0.0));
                matrix.push(vec![0.0; state.order.len() + 1]);
            }
            state.scale.push(1.0);
            state.order.len()
        } else {
            state.order.remove(0)
        };
        for &other in &state.order {
            let [_, s_y, s_d] = p.rows[other];
            let [_, y_y, y_d] = p.rows[p.rows.len() / 2 + other];
            state.ss[slot][other] = step * s_d;
            state.ss[other][slot] = step * s_d;
            state.yy[slot][other] = y_y;
            state.yy[other][slot] = y_y;
            state.sy[other][slot] = s_y;
            state.sy[slot][other] = step * y_d;
        }
        (state.ss[slot][slot], state.sy[slot][slot], state.yy[slot][slot]) = (ss, sy, p.yy);
        // Al-Baali's b = -a s'g / s'y with s = a d: -a^2 d'g_base / s'y, and d'g_base = d'g - d'y.
        let b = -step * step * (p.gd - p.yd) / sy;
        state.scale[slot] = if b > 0.0 { (1.0 / b).min(1.0) } else { 1.0 };
        state.order.push(slot);
        Some(slot)
    }

    /// The two loops for `d = -H g` (Nocedal and Wright 2006, algorithm 7.4) on coefficients over `(g, s, y)`, where
    /// `sg` and `yg` are the products of the pairs with the gradient.
    fn two_loops(&self, sg: &[f64], yg: &[f64]) -> (f64, Vec<f64>, Vec<f64>) {
        let State { order, sy, ss, yy, scale, .. } = &self.state;
        let (mut g, mut s, mut y) = (-1.0, vec![0.0; sg.len()], vec![0.0; yg.len()]);
        let mut alpha = vec![0.0; sg.len()];
        for &i in order.iter().rev() {
            let s_q = g * sg[i] + order.iter().map(|&j| s[j] * ss[i][j] + y[j] * sy[i][j]).sum::<f64>();
            alpha[i] = s_q / sy[i][i];
            y[i] -= alpha[i];
        }
        // The first matrix: s'y / y'y of the newest pair (Shanno and Phua 1978), of the oldest where each update scales.
        let &first = if self.config.self_scaling { order.first() } else { order.last() }
            .expect("the memory holds the pair just stored");
        let gamma = sy[first][first] / yy[first][first];
        let rescale = |factor: f64, g: &mut f64, s: &mut [f64], y: &mut [f64]| {
            *g *= factor;
            s.iter_mut().chain(y).for_each(|c| *c *= factor);
        };
        rescale(gamma, &mut g, &mut s, &mut y);
        for &i in order {
            if self.config.self_scaling {
                rescale(1.0 / scale[i], &mut g, &mut s, &mut y);
            }
            let y_r = g * yg[i] + order.iter().map(|&j| s[j] * sy[j][i] + y[j] * yy[i][j]).sum::<f64>();
            s[i] += alpha[i] - y_r / sy[i][i];
        }
        (g, s, y)
    }
}

impl Direction for LBfgs {
    fn fit(&mut self, pair_bytes: u64) -> Result<(), MemoryLimit> {
        let limit = self.config.memory_bytes;
        let fits = limit / pair_bytes.max(1);
        let pairs = match self.config.memory {
            Memory::Pairs(pairs) => pairs,
            Memory::All(_) => 1,
        };
        if pairs > fits {
            return Err(MemoryLimit { pairs, bytes: pairs.saturating_mul(pair_bytes), limit });
        }
        self.state.fits = Some(usize::try_from(fits).unwrap_or(usize::MAX));
        Ok(())
    }

    fn next(&mut self, products: &Products, step: f64) -> Proposal {
        let full = self.state.order.len() == self.capacity();
        let store = if step > 0.0 { self.store(products, step) } else { None };
        if self.state.order.is_empty() {
            return Proposal::steepest(products.gg, (step > 0.0).then_some(RestartReason::NonDescent));
        }
        // The new pair's own products with the gradient: s = step d, y.
        let kept = products.rows.len() / 2;
        let product = |first: usize, slot: usize, new: f64| {
            if store == Some(slot) { new } else { products.rows[first + slot][0] }
        };
        let slots = self.state.scale.len();
        let sg: Vec<f64> = (0..slots).map(|i| product(0, i, step * products.gd)).collect();
        let yg: Vec<f64> = (0..slots).map(|i| product(kept, i, products.gy)).collect();
        let (gradient, s, y) = self.two_loops(&sg, &yg);
        let slope =
            gradient * products.gg + s.iter().zip(&sg).chain(y.iter().zip(&yg)).map(|(c, p)| c * p).sum::<f64>();
        // The room for pairs grows by doubling, so that a young memory costs little.
        let room = if slots > kept { (2 * kept).max(8).min(self.capacity()) } else { kept };
        let mut rows = vec![0.0; 2 * room];
        rows[..slots].copy_from_slice(&s);
        rows[room..room + slots].copy_from_slice(&y);
        Proposal {
            coefficients: Coefficients { gradient, direction: 0.0, rows, store },
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
        let State { fits, dropped, .. } = self.state;
        self.state = State { fits, dropped, ..State::default() };
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
