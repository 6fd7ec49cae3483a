//! The vectors of the convex phase.

use burn::tensor::{Tensor, TensorData};

use super::metric::Metric;
use super::products::{combination, products, squared_norm};
use super::rows::{Row, Seat, Vector};
use crate::convex::Move;
use crate::convex::direction::Coefficients;

/// The vectors of the convex phase over the tensors of one device and element type, a row each; all but the points are in
/// the metric's coordinates.
#[derive(Clone, Debug)]
pub(super) struct Vectors {
    pub seats: Vec<Seat>,
    /// The accepted point.
    pub base: Tensor<2>,
    /// The gradient there, `[1, n]`.
    pub gradient: Option<Tensor<2>>,
    /// The search direction, `[1, n]`.
    pub direction: Option<Tensor<2>>,
    /// Steps and gradient changes by slot.
    pairs: Option<Pairs>,
    /// The metric. A diagonal is in no record, since it follows from the inner optimizer's state.
    pub metric: Option<Metric>,
    /// Where the parameters stand, once that is known. In no record: it follows from the others.
    pub point: Option<Tensor<2>>,
}

/// Pairs one below the other, the step and then the gradient change of a slot; those from `used` on are room for more.
#[derive(Clone, Debug)]
struct Pairs {
    used: usize,
    /// `[2 m, n]`.
    rows: Tensor<2>,
}

impl Pairs {
    fn used(&self) -> Tensor<2> {
        self.rows.clone().narrow(0, 0, 2 * self.used)
    }
}

/// The root of the metric times a row.
fn rooted(metric: Option<&Metric>, row: Tensor<2>) -> Tensor<2> {
    match metric {
        Some(metric) => metric.root(row),
        None => row,
    }
}

/// `base + step * direction`, the direction given in the metric's coordinates.
pub(super) fn along(
    base: &Tensor<2>,
    direction: Option<&Tensor<2>>,
    step: f64,
    root: impl FnOnce(Tensor<2>) -> Tensor<2>,
) -> Tensor<2> {
    let Some(direction) = direction.filter(|_| step != 0.0) else {
        return base.clone();
    };
    base.clone() + root(direction.clone().mul_scalar(step))
}

impl Vectors {
    pub fn at(seats: Vec<Seat>, base: Tensor<2>) -> Self {
        Self { seats, base, gradient: None, direction: None, pairs: None, metric: None, point: None }
    }

    /// Where the parameters stand after a move by `step`.
    pub fn stand(&mut self, step: f64) -> Tensor<2> {
        let Self { base, direction, metric, point, .. } = self;
        let root = |way| rooted(metric.as_ref(), way);
        point.get_or_insert_with(|| along(base, direction.as_ref(), step, root)).clone()
    }

    /// A gradient in the metric's coordinates, or a way in them in parameters.
    pub fn rooted(&self, row: Tensor<2>) -> Tensor<2> {
        rooted(self.metric.as_ref(), row)
    }

    /// The contribution at the end of an evaluation whose gradient is `g`: `[gg]` before the first direction, then `g, y,
    /// d` against themselves and the stored pairs against `g, y`.
    pub fn products(&self, g: &Tensor<2>) -> Tensor<1> {
        let (Some(gradient), Some(direction)) = (&self.gradient, &self.direction) else {
            return squared_norm(g);
        };
        let y = g.clone() - gradient.clone();
        let vectors = Tensor::cat(vec![g.clone(), y, direction.clone()], 0);
        let own = products(&vectors, &vectors);
        match &self.pairs {
            Some(pairs) => Tensor::cat(vec![own, products(&pairs.used(), &vectors.narrow(0, 0, 2))], 0),
            None => own,
        }
    }

    /// The stored steps and gradient changes, for a record.
    pub fn pairs(&self) -> Option<Tensor<2>> {
        self.pairs.as_ref().map(Pairs::used)
    }

    /// Put back what [`pairs`](Self::pairs) gave.
    pub fn set_pairs(&mut self, rows: Tensor<2>) {
        self.pairs = Some(Pairs { used: rows.dims()[0] / 2, rows });
    }

    /// Carry out a move from the point where `g` is the objective's gradient.
    pub fn apply(&mut self, g: Option<Tensor<2>>, next: &Move, average: &Vector) {
        let here = self.point.take();
        let new = next.commit.and(g);
        if next.to_average
            && let Some(here) = &here
        {
            // A parameter that no average was taken of stays where it is.
            let stay = Vector(vec![Row { seats: self.seats.clone(), values: here.clone() }]);
            let average = stay.merge(average.clone(), |_, average| average).seated(&self.seats, here);
            let way = average.map(|average| average - here.clone());
            self.direction = match &self.metric {
                Some(metric) => way.and_then(|way| metric.inverse_root(way)),
                None => way,
            };
        }
        if let Some(Metric::Kronecker(kronecker)) = &mut self.metric {
            kronecker.forget_inverses();
        }
        if let Some(coefficients) = &next.direction {
            self.turn(coefficients, next.commit, new.as_ref());
        }
        if next.commit.is_some() {
            self.base = here.unwrap_or_else(|| self.base.clone());
            self.gradient = new;
        }
    }

    /// Take a new direction, from the gradient at the point just committed to or, where none is, at the base point.
    fn turn(&mut self, coefficients: &Coefficients, commit: Option<f64>, new: Option<&Tensor<2>>) {
        if let (Some(slot), Some(step), Some(new)) = (coefficients.store, commit, new) {
            self.store(slot, step, new, coefficients.pairs.len());
        }
        let gradient = new.or(self.gradient.as_ref()).cloned();
        let mut direction = gradient.map(|g| g.mul_scalar(coefficients.gradient));
        if coefficients.direction != 0.0
            && let (Some(d), Some(old)) = (direction.take(), self.direction.take())
        {
            direction = Some(d + old.mul_scalar(coefficients.direction));
        }
        if let Some(pairs) = &self.pairs
            && !coefficients.pairs.is_empty()
        {
            let rows = pairs.used();
            // Slots without a pair have no part in it.
            let padded =
                coefficients.pairs.iter().flatten().copied().chain(std::iter::repeat(0.0)).take(2 * pairs.used);
            let factors = TensorData::new(padded.collect::<Vec<f64>>(), [1, 2 * pairs.used]);
            let factors: Tensor<2> = Tensor::from_data(factors, (&rows.device(), rows.dtype()));
            direction = direction.map(|d| d + combination(factors, rows));
        }
        self.direction = direction;
    }

    /// Keep the pair of the accepted step in a slot; where there is none yet, make room for `room` pairs.
    fn store(&mut self, slot: usize, step: f64, new: &Tensor<2>, room: usize) {
        let (Some(direction), Some(gradient)) = (&self.direction, &self.gradient) else {
            return;
        };
        let [_, n] = new.dims();
        let pair = Tensor::cat(vec![direction.clone().mul_scalar(step), new.clone() - gradient.clone()], 0);
        let (used, held) = match self.pairs.take() {
            Some(Pairs { used, rows }) => (used.max(slot + 1), Some(rows)),
            None => (slot + 1, None),
        };
        let height = held.as_ref().map_or(0, |rows| rows.dims()[0] / 2);
        // Where there is room already the pair is written in place: a copy would be one of all pairs.
        let rows = match held {
            Some(rows) if slot < height => rows,
            rows => {
                let more = Tensor::zeros([2 * (room.max(slot + 1) - height), n], (&pair.device(), pair.dtype()));
                Tensor::cat(rows.into_iter().chain([more]).collect(), 0)
            }
        };
        let rows = rows.slice_assign([2 * slot..2 * slot + 2, 0..n], pair);
        self.pairs = Some(Pairs { used, rows });
    }
}
