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
    /// Batch gradients, and steps and gradient changes by slot.
    memory: Option<Memory>,
    /// The metric. A diagonal is in no record, since it follows from the inner optimizer's state.
    pub metric: Option<Metric>,
    /// Where the parameters stand, once that is known. In no record: it follows from the others.
    pub point: Option<Tensor<2>>,
}

/// The batch gradients of the first matrix one below the other, then pairs, the step and then the gradient change of a slot;
/// those from `used` on are room for more.
#[derive(Clone, Debug)]
struct Memory {
    batches: usize,
    used: usize,
    /// `[batches + 2 m, n]`.
    rows: Tensor<2>,
}

impl Memory {
    /// How many of the rows are something.
    fn height(&self) -> usize {
        self.batches + 2 * self.used
    }

    fn used(&self) -> Tensor<2> {
        self.rows.clone().narrow(0, 0, self.height())
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
        Self { seats, base, gradient: None, direction: None, memory: None, metric: None, point: None }
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

    /// The contribution at the end of an evaluation whose gradient is `g`: `[gg]` where there is nothing else, then `g, y, d`
    /// against themselves and the batch gradients and stored pairs against `g, y`.
    pub fn products(&self, g: &Tensor<2>) -> Tensor<1> {
        let (y, d) = match (&self.gradient, &self.direction, &self.memory) {
            (Some(gradient), Some(direction), _) => (g.clone() - gradient.clone(), direction.clone()),
            (_, _, None) => return squared_norm(g),
            _ => (g.zeros_like(), g.zeros_like()),
        };
        let vectors = Tensor::cat(vec![g.clone(), y, d], 0);
        let own = products(&vectors, &vectors);
        match &self.memory {
            Some(memory) => Tensor::cat(vec![own, products(&memory.used(), &vectors.narrow(0, 0, 2))], 0),
            None => own,
        }
    }

    /// Take batch gradients, given in the metric's coordinates one below the other, in the place of those there were; their
    /// products with each other. There is no pair yet.
    pub fn set_batches(&mut self, rows: Tensor<2>) -> Tensor<1> {
        let gram = products(&rows, &rows);
        self.memory = Some(Memory { batches: rows.dims()[0], used: 0, rows });
        gram
    }

    /// Drop the batch gradients, before there is a pair.
    pub fn forget_batches(&mut self) {
        self.memory = None;
    }

    /// How many batch gradients there are.
    pub fn batches(&self) -> usize {
        self.memory.as_ref().map_or(0, |memory| memory.batches)
    }

    /// The batch gradients, and behind so many the stored steps and gradient changes, for a record.
    pub fn memory(&self) -> Option<(usize, Tensor<2>)> {
        self.memory.as_ref().map(|memory| (memory.batches, memory.used()))
    }

    /// Put back what [`memory`](Self::memory) gave.
    pub fn set_memory(&mut self, batches: usize, rows: Tensor<2>) {
        self.memory = Some(Memory { batches, used: (rows.dims()[0] - batches) / 2, rows });
    }

    /// Carry out a move from the point where `g` is the objective's gradient.
    pub fn apply(&mut self, g: Option<Tensor<2>>, next: &Move, average: &Vector) {
        let here = next.commit.map(|step| self.stand(step));
        self.point = None;
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
        self.forget_inverses();
        if let Some(coefficients) = &next.direction {
            self.turn(coefficients, next.commit, new.as_ref());
        }
        if let Some(here) = here {
            self.base = here;
            self.gradient = new;
        }
    }

    /// The metric leads into its coordinates and not back any more.
    pub fn forget_inverses(&mut self) {
        if let Some(Metric::Kronecker(kronecker)) = &mut self.metric {
            kronecker.forget_inverses();
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
        if let Some(memory) = &self.memory
            && !(coefficients.pairs.is_empty() && coefficients.batches.is_empty())
        {
            let rows = memory.used();
            // Slots without a pair have no part in it.
            let none = std::iter::repeat(0.0);
            let batches = coefficients.batches.iter().copied().chain(none.clone()).take(memory.batches);
            let pairs = coefficients.pairs.iter().flatten().copied().chain(none).take(2 * memory.used);
            let factors = TensorData::new(batches.chain(pairs).collect::<Vec<f64>>(), [1, memory.height()]);
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
        let (batches, used, held) = match self.memory.take() {
            Some(Memory { batches, used, rows }) => (batches, used.max(slot + 1), Some(rows)),
            None => (0, slot + 1, None),
        };
        let height = held.as_ref().map_or(0, |rows| (rows.dims()[0] - batches) / 2);
        // Where there is room already the pair is written in place: a copy would be one of all pairs.
        let rows = match held {
            Some(rows) if slot < height => rows,
            rows => {
                let more = Tensor::zeros([2 * (room.max(slot + 1) - height), n], (&pair.device(), pair.dtype()));
                Tensor::cat(rows.into_iter().chain([more]).collect(), 0)
            }
        };
        let at = batches + 2 * slot;
        let rows = rows.slice_assign([at..at + 2, 0..n], pair);
        self.memory = Some(Memory { batches, used, rows });
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;

    const N: usize = 5;

    fn random(rows: usize) -> Tensor<2> {
        Tensor::random([rows, N], Distribution::Normal(0.0, 1.0), &Device::flex())
    }

    fn values(tensor: &Tensor<2>) -> Vec<f64> {
        tensor.to_data().iter().collect()
    }

    fn dot(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    /// All products as they are to come, of rows given in order.
    fn expected(own: [&[f64]; 3], rows: &[&[f64]]) -> Vec<f64> {
        let against_own = own.iter().flat_map(|a| own.map(|b| dot(a, b)));
        against_own.chain(rows.iter().flat_map(|row| [dot(row, own[0]), dot(row, own[1])])).collect()
    }

    fn near(ours: &[f64], theirs: &[f64]) -> bool {
        ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() < 1e-5 * (1.0 + b.abs()))
    }

    #[test]
    fn batch_gradients_come_before_the_pairs_in_products_directions_and_records() {
        Device::flex().seed(5);
        let mut vectors = Vectors::at(vec![Seat { slot: 0, matrix: [1, N] }], random(1));
        let batches = random(3);
        let gram = vectors.set_batches(batches.clone()).reshape([1, 9]);
        let [a, b, c] = [0, 1, 2].map(|at| values(&batches.clone().narrow(0, at, 1)));
        let rows = [&a[..], &b, &c];
        let products: Vec<f64> = rows.iter().flat_map(|left| rows.map(|right| dot(left, right))).collect();
        assert!(near(&values(&gram), &products));

        let zero = [0.0; N];
        let first = random(1);
        let told = |vectors: &Vectors, g: &Tensor<2>| values(&vectors.products(g).unsqueeze());
        let g = values(&first);
        assert!(near(&told(&vectors, &first), &expected([&g, &zero, &zero], &rows)));

        // A first direction of the gradient and the batch gradients, then one with a pair.
        let average = Vector::default();
        let mut coefficients = Coefficients { gradient: -1.0, batches: vec![0.1, 0.2, 0.3], ..Coefficients::default() };
        let go = |coefficients: &Coefficients, step| Move {
            commit: Some(step),
            direction: Some(coefficients.clone()),
            step: 1.0,
            ..Move::default()
        };
        vectors.stand(0.0);
        vectors.apply(Some(first.clone()), &go(&coefficients, 0.0), &average);
        let d: Vec<f64> = (0..N).map(|i| -g[i] + 0.1 * a[i] + 0.2 * b[i] + 0.3 * c[i]).collect();
        assert!(near(&values(vectors.direction.as_ref().expect("a direction")), &d));
        vectors.stand(1.0);
        let second = random(1);
        let new = values(&second);
        let y: Vec<f64> = new.iter().zip(&g).map(|(new, g)| new - g).collect();
        assert!(near(&told(&vectors, &second), &expected([&new, &y, &d], &rows)));
        coefficients.pairs = vec![[2.0, 3.0]];
        coefficients.store = Some(0);
        vectors.apply(Some(second), &go(&coefficients, 0.5), &average);
        let s: Vec<f64> = d.iter().map(|d| 0.5 * d).collect();
        let d: Vec<f64> =
            (0..N).map(|i| -new[i] + 0.1 * a[i] + 0.2 * b[i] + 0.3 * c[i] + 2.0 * s[i] + 3.0 * y[i]).collect();
        assert!(near(&values(vectors.direction.as_ref().expect("a direction")), &d));

        let third = random(1);
        let g = values(&third);
        let y_2: Vec<f64> = g.iter().zip(&new).map(|(g, new)| g - new).collect();
        let all = expected([&g, &y_2, &d], &[&a, &b, &c, &s, &y]);
        assert!(near(&told(&vectors, &third), &all));
        let (kept, rows) = vectors.memory().expect("a memory");
        assert_eq!((kept, rows.dims()), (3, [5, N]));
        let mut again = Vectors { memory: None, ..vectors };
        again.set_memory(kept, rows);
        assert!(near(&told(&again, &third), &all));
    }
}
