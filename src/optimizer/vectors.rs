//! The vectors of the convex phase.

use burn::tensor::{Tensor, TensorData};

use super::metric::Metric;
use super::products::{combination, products, squared_norm};
use super::rows::{Row, Seat, Vector};
use crate::convex::direction::Coefficients;
use crate::convex::{Move, Outcome};

/// The vectors of the convex phase over the tensors of one device and element type, a row each; all but the points are in
/// the metric's coordinates.
#[derive(Debug)]
pub(super) struct Vectors {
    pub seats: Vec<Seat>,
    /// The accepted point.
    pub base: Tensor<2>,
    /// The gradient there, `[1, n]`.
    pub gradient: Option<Tensor<2>>,
    rows: Option<Rows>,
    /// The metric. A diagonal is in no record, since it follows from the inner optimizer's state.
    pub metric: Option<Metric>,
    /// Where the parameters stand after a move by so much, which [`stand`](Self::stand) keeps for all who ask. In no record: it
    /// follows from the others.
    point: Option<(f64, Tensor<2>)>,
}

/// An evaluation's gradient, and its change since the base point where there is a gradient of that.
#[derive(Debug)]
pub(super) struct Trial {
    gradient: Tensor<2>,
    change: Option<Tensor<2>>,
}

/// What lies one below the other, so that the products of an evaluation are those of two matrices, and a sum of them is a third: the
/// direction, the gradient's change, the gradient, the batch gradients of the first matrix, then pairs, the step and then the
/// gradient change of a slot; those from `used` on are room for more. A direction without memory, as that of conjugate gradients,
/// is alone here.
#[derive(Debug)]
struct Rows {
    /// Whether there is a direction; it is zero else.
    directed: bool,
    batches: usize,
    used: usize,
    /// `[OWN + batches + 2 m, n]`, or `[1, n]` where the direction is alone.
    values: Tensor<2>,
}

// Where an evaluation's own rows lie, and how many they are. The gradient is next to the rows it is added to, and the other two
// are in no such sum: a change that is not finite would be, whatever its factor.
const DIRECTION: usize = 0;
const CHANGE: usize = 1;
const GRADIENT: usize = 2;
const OWN: usize = 3;

impl Rows {
    fn alone(direction: Tensor<2>) -> Self {
        Self { directed: true, batches: 0, used: 0, values: direction }
    }

    fn is_alone(&self) -> bool {
        self.values.dims()[0] == 1
    }

    /// How many of the rows are something, where the direction is not alone.
    fn height(&self) -> usize {
        OWN + self.batches + 2 * self.used
    }

    /// Those from one on.
    fn from(&self, first: usize) -> Tensor<2> {
        self.values.clone().narrow(0, first, self.height() - first)
    }

    /// With a row in its place: no other tensor may share the memory of these, or it is a copy of all of them.
    fn with(self, at: usize, row: Tensor<2>) -> Self {
        let [_, columns] = row.dims();
        Self { values: self.values.slice_assign([at..at + 1, 0..columns], row), ..self }
    }

    fn directed(self, direction: Tensor<2>) -> Self {
        match self.is_alone() {
            true => Self::alone(direction),
            false => Self { directed: true, ..self.with(DIRECTION, direction) },
        }
    }

    fn direction(&self) -> Option<Tensor<2>> {
        self.directed.then(|| self.values.clone().narrow(0, DIRECTION, 1))
    }

    /// The gradient, the batch gradients and the pairs, each times its coefficient; those of slots without a pair have no part in it.
    fn combination(&self, coefficients: &Coefficients) -> Tensor<2> {
        let none = std::iter::repeat(0.0);
        let batches = coefficients.batches.iter().copied().chain(none.clone()).take(self.batches);
        let pairs = coefficients.pairs.iter().flatten().copied().chain(none).take(2 * self.used);
        let factors: Vec<f64> = std::iter::once(coefficients.gradient).chain(batches).chain(pairs).collect();
        let rows = self.from(GRADIENT);
        let factors = TensorData::new(factors, [1, rows.dims()[0]]);
        combination(Tensor::from_data(factors, (&rows.device(), rows.dtype())), rows)
    }

    /// Make room for so many pairs where there is none for one in this slot.
    fn reserve(&mut self, slot: usize, pairs: usize) {
        let [height, columns] = self.values.dims();
        let slots = height.saturating_sub(OWN + self.batches) / 2;
        if slot >= slots {
            let all = OWN + self.batches + 2 * pairs.max(slot + 1);
            let zeros = Tensor::zeros([all, columns], (&self.values.device(), self.values.dtype()));
            self.values = zeros.slice_assign([0..height, 0..columns], self.values.clone());
        }
    }

    /// With a pair in a slot that there is room for.
    fn pair(self, slot: usize, pair: [Tensor<2>; 2]) -> Self {
        let rows = Self { used: self.used.max(slot + 1), ..self };
        let first = OWN + rows.batches + 2 * slot;
        pair.into_iter().zip(first..).fold(rows, |rows, (row, at)| rows.with(at, row))
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
        Self { seats, base, gradient: None, rows: None, metric: None, point: None }
    }

    /// Where the parameters stand after a move by `step`.
    pub fn stand(&mut self, step: f64) -> Tensor<2> {
        let known = self.point.take().filter(|(known, _)| *known == step).map(|(_, point)| point);
        let point = known.unwrap_or_else(|| along(&self.base, self.direction().as_ref(), step, |way| self.rooted(way)));
        self.point = Some((step, point.clone()));
        point
    }

    /// The search direction, `[1, n]`.
    pub fn direction(&self) -> Option<Tensor<2>> {
        self.rows.as_ref().and_then(Rows::direction)
    }

    pub fn set_direction(&mut self, direction: Tensor<2>) {
        self.rows = Some(match self.rows.take() {
            Some(rows) => rows.directed(direction),
            None => Rows::alone(direction),
        });
    }

    /// A gradient in the metric's coordinates, or a way in them in parameters.
    pub fn rooted(&self, row: Tensor<2>) -> Tensor<2> {
        rooted(self.metric.as_ref(), row)
    }

    /// The end of an evaluation with this gradient: its contribution, `[gg]` where there is nothing else, then the gradient's change
    /// and the gradient, each against direction, change, gradient, batch gradients and stored pairs, and the direction against
    /// itself.
    pub fn close(&mut self, gradient: Tensor<2>) -> (Vec<Tensor<1>>, Trial) {
        let change = self.gradient.as_ref().map(|base| gradient.clone() - base.clone());
        let Some(rows) = self.rows.take() else {
            return (vec![squared_norm(&gradient)], Trial { gradient, change });
        };
        let row = change.clone().unwrap_or_else(|| gradient.zeros_like());
        let rows = match rows.is_alone() {
            true => Tensor::cat(vec![self.rows.insert(rows).values.clone(), row, gradient.clone()], 0),
            false => self.rows.insert(rows.with(CHANGE, row).with(GRADIENT, gradient.clone())).from(0),
        };
        let [own, direction] = [(CHANGE, 2), (DIRECTION, 1)].map(|(at, height)| rows.clone().narrow(0, at, height));
        let contribution = vec![products(&own, &rows), squared_norm(&direction)];
        (contribution, Trial { gradient, change })
    }

    /// Take batch gradients, given in parameters, in the place of those there were; their products with each other. There is no
    /// pair yet. `None` where one of them is.
    pub fn set_batches(&mut self, batches: impl ExactSizeIterator<Item = Option<Tensor<2>>>) -> Option<Tensor<1>> {
        let (count, direction) = (batches.len(), self.direction());
        let [_, columns] = self.base.dims();
        let values = Tensor::zeros([OWN + count, columns], (&self.base.device(), self.base.dtype()));
        let mut rows = Rows { directed: false, batches: count, used: 0, values };
        for (batch, at) in batches.zip(OWN..) {
            rows = rows.with(at, self.rooted(batch?));
        }
        if let Some(direction) = direction {
            rows = rows.directed(direction);
        }
        let batches = rows.from(OWN);
        self.rows = Some(rows);
        Some(products(&batches, &batches))
    }

    /// Drop the batch gradients, before there is a pair.
    pub fn forget_batches(&mut self) {
        if self.batches() == 0 {
            return;
        }
        // A part of all the rows would keep them all.
        let alone = |direction: Tensor<2>| Rows::alone(direction.zeros_like() + direction);
        self.rows = self.direction().map(alone);
    }

    /// How many batch gradients there are.
    pub fn batches(&self) -> usize {
        self.rows.as_ref().map_or(0, |rows| rows.batches)
    }

    /// The batch gradients, and behind so many the stored steps and gradient changes, for a record.
    pub fn memory(&self) -> Option<(usize, Tensor<2>)> {
        let rows = self.rows.as_ref().filter(|rows| !rows.is_alone())?;
        Some((rows.batches, rows.from(OWN)))
    }

    /// Put back what [`memory`](Self::memory) gave.
    pub fn set_memory(&mut self, batches: usize, memory: Tensor<2>) {
        let ([height, columns], direction) = (memory.dims(), self.direction());
        let own = Tensor::zeros([OWN, columns], (&memory.device(), memory.dtype()));
        let used = (height - batches) / 2;
        self.rows = Some(Rows { directed: false, batches, used, values: Tensor::cat(vec![own, memory], 0) });
        direction.into_iter().for_each(|direction| self.set_direction(direction));
    }

    /// Carry out a move from the point of an evaluation.
    pub fn apply(&mut self, trial: Option<Trial>, next: &Move, average: &Vector) {
        let here = next.commit.map(|step| self.stand(step));
        self.point = None;
        let trial = next.commit.and(trial);
        if next.to_average
            && let Some(here) = &here
        {
            // A parameter that no average was taken of stays where it is.
            let stay = Vector(vec![Row { seats: self.seats.clone(), values: here.clone() }]);
            let average = stay.merge(average.clone(), |_, average| average).seated(&self.seats, here);
            let way = average.map(|average| average - here.clone());
            let way = match &self.metric {
                Some(metric) => way.and_then(|way| metric.inverse_root(way)),
                None => way,
            };
            way.into_iter().for_each(|way| self.set_direction(way));
        }
        self.forget_inverses();
        if let Some(coefficients) = &next.direction {
            self.turn(coefficients, next.commit, trial.as_ref());
        }
        if let Some(here) = here {
            self.base = here;
            self.gradient = trial.map(|trial| trial.gradient);
        }
        if next.outcome == Outcome::Renew {
            // All of them are in the coordinates of the metric that goes.
            (self.gradient, self.rows) = (None, None);
        }
    }

    /// The metric leads into its coordinates and not back any more.
    fn forget_inverses(&mut self) {
        if let Some(Metric::Kronecker(kronecker)) = &mut self.metric {
            kronecker.forget_inverses();
        }
    }

    /// Take a new direction, from the gradient at the point just committed to or, where none is, at the base point.
    fn turn(&mut self, coefficients: &Coefficients, commit: Option<f64>, trial: Option<&Trial>) {
        let Some(gradient) = trial.map(|trial| &trial.gradient).or(self.gradient.as_ref()).cloned() else {
            return;
        };
        // Of the point just evaluated it is there already, but where the direction was alone.
        let stale = trial.is_none() || self.rows.as_ref().is_some_and(Rows::is_alone);
        if let (Some(slot), Some(step), Some(Trial { change: Some(change), .. })) = (coefficients.store, commit, trial)
        {
            self.store(slot, step, change.clone(), coefficients.pairs.len());
        }
        let combines = !(coefficients.pairs.is_empty() && coefficients.batches.is_empty());
        let mut direction = match self.rows.take_if(|rows| combines && !rows.is_alone()) {
            Some(rows) => {
                let rows = if stale { rows.with(GRADIENT, gradient) } else { rows };
                self.rows.insert(rows).combination(coefficients)
            }
            None => gradient.mul_scalar(coefficients.gradient),
        };
        if coefficients.direction != 0.0
            && let Some(old) = self.direction()
        {
            direction = direction + old.mul_scalar(coefficients.direction);
        }
        self.set_direction(direction);
    }

    /// Keep the pair of the accepted step in a slot, where room for so many pairs is to be.
    fn store(&mut self, slot: usize, step: f64, change: Tensor<2>, room: usize) {
        let (Some(direction), Some(rows)) = (self.direction(), &mut self.rows) else {
            return;
        };
        let pair = [direction.mul_scalar(step), change];
        rows.reserve(slot, room);
        self.rows = self.rows.take().map(|rows| rows.pair(slot, pair));
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

    /// All products as they are to come, of a direction, a gradient's change, a gradient, and rows given in order.
    fn expected(own: [&[f64]; 3], rows: &[&[f64]]) -> Vec<f64> {
        let against_all = own[CHANGE..].iter().flat_map(|a| own.iter().chain(rows).map(|b| dot(a, b)));
        against_all.chain([dot(own[DIRECTION], own[DIRECTION])]).collect()
    }

    fn near(ours: &[f64], theirs: &[f64]) -> bool {
        ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() < 1e-5 * (1.0 + b.abs()))
    }

    #[test]
    fn batch_gradients_come_before_the_pairs_in_products_directions_and_records() {
        Device::flex().seed(5);
        let mut vectors = Vectors::at(vec![Seat { slot: 0, matrix: [1, N] }], random(1));
        let batches = random(3);
        let gram = vectors.set_batches(batches.clone().split(1, 0).into_iter().map(Some)).expect("all").reshape([1, 9]);
        let [a, b, c] = [0, 1, 2].map(|at| values(&batches.clone().narrow(0, at, 1)));
        let rows = [&a[..], &b, &c];
        let products: Vec<f64> = rows.iter().flat_map(|left| rows.map(|right| dot(left, right))).collect();
        assert!(near(&values(&gram), &products));

        let zero = [0.0; N];
        let first = random(1);
        let closed = |vectors: &mut Vectors, g: &Tensor<2>| {
            let (products, trial) = vectors.close(g.clone());
            (values(&Tensor::cat(products, 0).unsqueeze()), Some(trial))
        };
        let g = values(&first);
        let (told, trial) = closed(&mut vectors, &first);
        assert!(near(&told, &expected([&zero, &zero, &g], &rows)));

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
        vectors.apply(trial, &go(&coefficients, 0.0), &average);
        let d: Vec<f64> = (0..N).map(|i| -g[i] + 0.1 * a[i] + 0.2 * b[i] + 0.3 * c[i]).collect();
        assert!(near(&values(&vectors.direction().expect("a direction")), &d));
        vectors.stand(1.0);
        let second = random(1);
        let new = values(&second);
        let y: Vec<f64> = new.iter().zip(&g).map(|(new, g)| new - g).collect();
        let (told, trial) = closed(&mut vectors, &second);
        assert!(near(&told, &expected([&d, &y, &new], &rows)));
        coefficients.pairs = vec![[2.0, 3.0]];
        coefficients.store = Some(0);
        vectors.apply(trial, &go(&coefficients, 0.5), &average);
        let s: Vec<f64> = d.iter().map(|d| 0.5 * d).collect();
        let d: Vec<f64> =
            (0..N).map(|i| -new[i] + 0.1 * a[i] + 0.2 * b[i] + 0.3 * c[i] + 2.0 * s[i] + 3.0 * y[i]).collect();
        assert!(near(&values(&vectors.direction().expect("a direction")), &d));

        let third = random(1);
        let g = values(&third);
        let y_2: Vec<f64> = g.iter().zip(&new).map(|(g, new)| g - new).collect();
        let all = expected([&d, &y_2, &g], &[&a, &b, &c, &s, &y]);
        assert!(near(&closed(&mut vectors, &third).0, &all));
        let (kept, rows) = vectors.memory().expect("a memory");
        assert_eq!((kept, rows.dims()), (3, [5, N]));
        let direction = vectors.direction().expect("a direction");
        let mut again = Vectors { rows: None, ..vectors };
        again.set_direction(direction);
        again.set_memory(kept, rows);
        assert!(near(&closed(&mut again, &third).0, &all));

        // What is not finite in an evaluation that was not accepted is in no direction after it, from the base point.
        let (_, trial) = closed(&mut again, &(third * f64::NAN));
        coefficients.store = None;
        let again_from_base = Move { commit: None, ..go(&coefficients, 0.0) };
        again.apply(trial, &again_from_base, &average);
        let d: Vec<f64> =
            (0..N).map(|i| -new[i] + 0.1 * a[i] + 0.2 * b[i] + 0.3 * c[i] + 2.0 * s[i] + 3.0 * y[i]).collect();
        assert!(near(&values(&again.direction().expect("a direction")), &d));
    }

    #[test]
    fn batch_gradients_are_kept_in_the_metric_s_coordinates() {
        Device::flex().seed(7);
        let seats = || vec![Seat { slot: 0, matrix: [1, N] }];
        let (root, batches) = (random(1).abs(), random(2));
        let mut vectors = Vectors::at(seats(), random(1));
        vectors.metric = Some(Metric::Diagonal(Box::new(root.clone())));
        let gram = vectors.set_batches(batches.clone().split(1, 0).into_iter().map(Some)).expect("all");
        let [a, b] = [0, 1].map(|at| values(&(batches.clone().narrow(0, at, 1) * root.clone())));
        assert!(near(&values(&gram.unsqueeze()), &[dot(&a, &a), dot(&a, &b), dot(&b, &a), dot(&b, &b)]));
    }

    #[test]
    fn a_point_is_that_of_the_step_asked_for() {
        Device::flex().seed(8);
        let (base, direction) = (random(1), random(1));
        let mut vectors = Vectors::at(vec![Seat { slot: 0, matrix: [1, N] }], base.clone());
        vectors.set_direction(direction.clone());
        for step in [0.5, 0.5, 0.0, 1.0] {
            let point = values(&(base.clone() + direction.clone().mul_scalar(step)));
            assert!(near(&values(&vectors.stand(step)), &point), "{step}");
        }
    }

    #[test]
    fn a_direction_without_memory_is_alone_until_a_pair_comes() {
        Device::flex().seed(6);
        let mut vectors = Vectors::at(vec![Seat { slot: 0, matrix: [1, N] }], random(1));
        let gradients: Vec<Tensor<2>> = (0..3).map(|_| random(1)).collect();
        let [g, new, last] = [0, 1, 2].map(|at| values(&gradients[at]));
        let mut moves = |at: usize, coefficients: Coefficients, step: f64| {
            let (products, trial) = vectors.close(gradients[at].clone());
            vectors.stand(step);
            let next = Move { commit: Some(step), direction: Some(coefficients), step: 1.0, ..Move::default() };
            vectors.apply(Some(trial), &next, &Vector::default());
            let direction = values(&vectors.direction().expect("a direction"));
            (values(&Tensor::cat(products, 0).unsqueeze()), direction, vectors.memory().map(|(_, rows)| values(&rows)))
        };
        let (products, d, memory) = moves(0, Coefficients::steepest(), 0.0);
        assert!(near(&products, &[dot(&g, &g)]) && near(&d, &g.iter().map(|g| -g).collect::<Vec<_>>()));
        assert_eq!(memory, None);
        let conjugate = Coefficients { gradient: -1.0, direction: 0.5, ..Coefficients::default() };
        let (products, turned, memory) = moves(1, conjugate, 0.25);
        let y: Vec<f64> = new.iter().zip(&g).map(|(new, g)| new - g).collect();
        assert!(near(&products, &expected([&d, &y, &new], &[])));
        assert!(near(&turned, &(0..N).map(|i| -new[i] + 0.5 * d[i]).collect::<Vec<_>>()));
        assert_eq!(memory, None);
        let pair =
            Coefficients { gradient: -1.0, pairs: vec![[2.0, 3.0]; 4], store: Some(0), ..Coefficients::default() };
        let (products, d, memory) = moves(2, pair, 0.5);
        let y: Vec<f64> = last.iter().zip(&new).map(|(last, new)| last - new).collect();
        assert!(near(&products, &expected([&turned, &y, &last], &[])));
        let s: Vec<f64> = turned.iter().map(|d| 0.5 * d).collect();
        assert!(near(&d, &(0..N).map(|i| -last[i] + 2.0 * s[i] + 3.0 * y[i]).collect::<Vec<_>>()));
        assert!(near(&memory.expect("a pair"), &[s, y].concat()));
    }
}
