//! The metric of the convex phase, by its symmetric square root `S`: a gradient `g` is `S g` in its coordinates, and a way
//! `d` in them moves the parameters by `S d`.
//!
//! The Kronecker-factored metric takes every tensor as a matrix. With `G` the gradient of one batch, `L = E[G G']` and `R =
//! E[G' G]`, the second moment of the batches' gradients is modelled as `L (x) R / tr L`, and the metric is its inverse
//! (Gupta, Koren and Singer 2018 for the two sides; Martens and Grosse 2015, section 6.3, for damping the factors instead
//! of the product). Near a minimum of a likelihood that moment is the Hessian over the batch size.

use burn::tensor::Tensor;

use super::rows::{Seat, side_by_side};

/// A side longer than this, or than so many times the other, has no factor: the identity takes its place, and a diagonal that
/// of a tensor without any. Its moments and its root would cost more than the rest of the tensor.
const LONGEST_SIDE: usize = 2048;
const LONGER_THAN_OTHER: usize = 16;

/// What is added to a side whose eigenvalues are 1 in the mean; its square to the elements of a vector.
const DAMPING: f64 = 0.1;

/// What a tensor's mean squared gradient is raised by, relative to that of all on its device and of its element type: the bias
/// of an attention key has a gradient by rounding alone.
const FLOOR: f64 = 1e-6;

/// Steps of the coupled Newton-Schulz iteration; the first 14 take the smallest eigenvalue of the longest side, damped, to 1,
/// the others are quadratic.
const STEPS: usize = 20;

/// See the module.
#[derive(Clone, Debug)]
pub(super) enum Metric {
    /// The diagonal's square root as a row.
    Diagonal(Box<Tensor<2>>),
    Kronecker(Box<Kronecker>),
}

impl Metric {
    /// `S` times a row over these seats.
    pub fn root(&self, row: Tensor<2>, seats: &[Seat]) -> Tensor<2> {
        match self {
            Self::Diagonal(root) => row * (**root).clone(),
            Self::Kronecker(kronecker) => kronecker.roots.times(row, seats),
        }
    }

    /// The inverse of `S` times a row over these seats; `None` where it has been forgotten.
    pub fn inverse_root(&self, row: Tensor<2>, seats: &[Seat]) -> Option<Tensor<2>> {
        match self {
            Self::Diagonal(root) => Some(row / (**root).clone()),
            Self::Kronecker(kronecker) => kronecker.inverses.as_ref().map(|inverses| inverses.times(row, seats)),
        }
    }
}

/// The sides of a matrix that the metric has a factor for, by their length; none for a vector, which has a diagonal.
fn sides([rows, columns]: [usize; 2]) -> [Option<usize>; 2] {
    let fits = |side: usize, other: usize| side <= LONGEST_SIDE && side.div_ceil(LONGER_THAN_OTHER) <= other;
    [(rows, columns), (columns, rows)].map(|(side, other)| (rows > 1 && fits(side, other)).then_some(side))
}

/// What the metric takes of the gradient of a batch, as one row: `G G'` and `G' G`, or the squares where it has no sides.
pub(super) fn moments(gradient: &Tensor<2>) -> Tensor<2> {
    let [left, right] = sides(gradient.dims());
    let transposed = gradient.clone().transpose();
    let left = left.map(|_| gradient.clone().matmul(transposed.clone()));
    let right = right.map(|_| transposed.matmul(gradient.clone()));
    let squares = (left.is_none() && right.is_none()).then(|| gradient.clone() * gradient.clone());
    side_by_side(left.into_iter().chain(right).chain(squares))
}

/// Factors from the left and from the right.
type Sides = [Option<Tensor<2>>; 2];

/// The square root of one tensor's metric, or its inverse.
#[derive(Clone, Debug)]
enum Factors {
    /// Element by element, in the shape of the matrix.
    Diagonal(Box<Tensor<2>>),
    /// From the left and from the right.
    Sides(Box<Sides>),
}

impl Factors {
    fn parts(&self) -> impl Iterator<Item = Tensor<2>> {
        let parts = match self {
            Self::Diagonal(diagonal) => [Some(&**diagonal), None],
            Self::Sides(sides) => sides.each_ref().map(Option::as_ref),
        };
        parts.into_iter().flatten().cloned()
    }
}

/// The square roots of all tensors of a row, or their inverses.
#[derive(Clone, Debug)]
struct Roots {
    factors: Vec<Factors>,
    /// The diagonals as one row, so that all vectors are one launch; 1 for the elements of a tensor with sides.
    diagonal: Tensor<2>,
}

impl Roots {
    fn new(factors: Vec<Factors>, seats: &[Seat]) -> Self {
        let diagonals = factors.iter().zip(seats).map(|(factors, seat)| match factors {
            Factors::Diagonal(diagonal) => (**diagonal).clone(),
            Factors::Sides(sides) => {
                let like = sides.iter().flatten().next().expect("it has a side");
                Tensor::ones(seat.matrix, (&like.device(), like.dtype()))
            }
        });
        let diagonal = side_by_side(diagonals);
        Self { factors, diagonal }
    }

    fn times(&self, row: Tensor<2>, seats: &[Seat]) -> Tensor<2> {
        // Each matrix by itself, and the vectors between two of them together.
        let mut pieces: Vec<(usize, Option<(&Seat, &Sides)>)> = Vec::new();
        for (factors, seat) in self.factors.iter().zip(seats) {
            match (factors, pieces.last_mut()) {
                (Factors::Sides(sides), _) => pieces.push((seat.width(), Some((seat, &**sides)))),
                (Factors::Diagonal(_), Some((width, None))) => *width += seat.width(),
                (Factors::Diagonal(_), _) => pieces.push((seat.width(), None)),
            }
        }
        let row = row * self.diagonal.clone();
        let parts = row.split_with_sizes(pieces.iter().map(|(width, _)| *width).collect(), 1);
        side_by_side(parts.into_iter().zip(pieces).map(|(part, (_, matrix))| match matrix {
            Some((seat, sides)) => between(part.reshape(seat.matrix), sides),
            None => part,
        }))
    }
}

/// A matrix between its two sides.
fn between(matrix: Tensor<2>, [left, right]: &Sides) -> Tensor<2> {
    let matrix = match left {
        Some(left) => left.clone().matmul(matrix),
        None => matrix,
    };
    match right {
        Some(right) => matrix.matmul(right.clone()),
        None => matrix,
    }
}

/// The shape of a tensor's part of a row of moments or roots.
fn shape(seat: &Seat) -> [usize; 2] {
    match sides(seat.matrix) {
        [None, None] => seat.matrix,
        sides => [1, sides.into_iter().flatten().map(|side| side * side).sum()],
    }
}

/// Part a row of moments or roots, tensor by tensor.
fn part(row: Tensor<2>, seats: &[Seat]) -> Vec<Factors> {
    let widths = self::seats(seats).iter().map(Seat::width).collect();
    let pieces = row.split_with_sizes(widths, 1);
    let factors = pieces.into_iter().zip(seats).map(|(piece, seat)| {
        let [left, right] = sides(seat.matrix);
        if left.is_none() && right.is_none() {
            return Factors::Diagonal(Box::new(piece.reshape(seat.matrix)));
        }
        let start = left.map_or(0, |side| side * side);
        let square = |start, side| piece.clone().narrow(1, start, side * side).reshape([side, side]);
        let sides = [left.map(|side| square(0, side)), right.map(|side| square(start, side))];
        Factors::Sides(Box::new(sides))
    });
    factors.collect()
}

/// The seats of a row of moments or roots.
pub(super) fn seats(seats: &[Seat]) -> Vec<Seat> {
    seats.iter().map(|seat| Seat { slot: seat.slot, matrix: shape(seat) }).collect()
}

/// The Kronecker-factored metric over the tensors of a row.
#[derive(Clone, Debug)]
pub(super) struct Kronecker {
    roots: Roots,
    /// For the way to a point given in parameters, right behind the first evaluation.
    inverses: Option<Roots>,
}

impl Kronecker {
    /// From the sum of the [`moments`] of several batches. Its scale means nothing: the first trial and the curvature of the
    /// steps give one.
    pub fn from_moments(row: Tensor<2>, seats: &[Seat]) -> Self {
        let moments = part(row, seats);
        let traces: Vec<Tensor<2>> = moments.iter().map(trace).collect();
        let elements: usize = seats.iter().map(Seat::width).sum();
        let mean = Tensor::cat(traces.clone(), 1).sum_dim(1).div_scalar(elements as f64);
        let tensors = moments.into_iter().zip(traces).zip(seats);
        let (roots, inverses): (Vec<_>, Vec<_>) = tensors
            .map(|((moments, trace), seat)| {
                let elements = seat.width() as f64;
                let trace = trace + mean.clone().mul_scalar(FLOOR * elements);
                let mean = trace.div_scalar(elements).clamp_min(f64::from(f32::MIN_POSITIVE));
                invert(moments, mean, seat.matrix)
            })
            .unzip();
        Self { roots: Roots::new(roots, seats), inverses: Some(Roots::new(inverses, seats)) }
    }

    /// The roots as one row, for a record.
    pub fn row(&self) -> Tensor<2> {
        side_by_side(self.roots.factors.iter().flat_map(Factors::parts))
    }

    /// From [`row`](Self::row).
    pub fn from_row(row: Tensor<2>, seats: &[Seat]) -> Self {
        Self { roots: Roots::new(part(row, seats), seats), inverses: None }
    }

    /// No point given in parameters will be asked for.
    pub fn forget_inverses(&mut self) {
        self.inverses = None;
    }
}

/// The sum of the squared gradients, `[1, 1]`.
fn trace(moments: &Factors) -> Tensor<2> {
    match moments {
        Factors::Diagonal(squares) => (**squares).clone().sum(),
        Factors::Sides(sides) => {
            let side = sides.iter().flatten().next().expect("it has a side").clone();
            (side.clone() * unit(&side)).sum()
        }
    }
    .reshape([1, 1])
}

/// The square root of the metric, and the inverse of it, from the moments of an `[m, n]` tensor and the mean of its squared
/// gradient, `[1, 1]`.
fn invert(moments: Factors, mean: Tensor<2>, [rows, columns]: [usize; 2]) -> (Factors, Factors) {
    let sides = match moments {
        Factors::Diagonal(squares) => {
            let damped = *squares + mean.mul_scalar(DAMPING * DAMPING);
            let inverse = damped.clamp_min(f64::from(f32::MIN_POSITIVE)).sqrt();
            return (Factors::Diagonal(Box::new(inverse.clone().recip())), Factors::Diagonal(Box::new(inverse)));
        }
        Factors::Sides(sides) => sides,
    };
    // The trace over a side's length is the mean of its eigenvalues.
    let roots_of =
        |side: Option<Tensor<2>>, other: usize| side.map(|side| roots(side / mean.clone().mul_scalar(other as f64)));
    let [left, right] = *sides;
    let mut both = [roots_of(left, columns), roots_of(right, rows)];
    // The scale goes with one of them.
    let scale = mean.clone().sqrt();
    if let Some([root, inverse]) = both.iter_mut().flatten().next() {
        *root = root.clone() * scale.clone();
        *inverse = inverse.clone() / scale;
    }
    let [inverses, roots] = [0, 1].map(|which| {
        let sides = both.each_ref().map(|both| both.as_ref().map(|both| both[which].clone()));
        Factors::Sides(Box::new(sides))
    });
    (roots, inverses)
}

/// The square root of a symmetric matrix, damped, and its inverse: coupled Newton-Schulz iteration (Higham 2008, equation 6.35).
fn roots(side: Tensor<2>) -> [Tensor<2>; 2] {
    let unit = unit(&side);
    let side = side + unit.clone().mul_scalar(DAMPING);
    let size = (side.clone() * side.clone()).sum().sqrt().reshape([1, 1]);
    let half_more = unit.clone().mul_scalar(1.5);
    let (mut root, mut inverse) = (side / size.clone(), unit);
    for _ in 0..STEPS {
        let factor = half_more.clone() - inverse.clone().matmul(root.clone()).mul_scalar(0.5);
        root = root.matmul(factor.clone());
        inverse = factor.matmul(inverse);
    }
    let size = size.sqrt();
    // Symmetric to the last bit, since it is taken for its own transpose.
    let inverse = (inverse.clone() + inverse.transpose()).mul_scalar(0.5);
    [root * size.clone(), inverse / size]
}

/// The identity of the size, device and element type of a square matrix.
fn unit(square: &Tensor<2>) -> Tensor<2> {
    let unit: Tensor<2> = Tensor::eye(square.dims()[0], &square.device());
    unit.cast(square.dtype())
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device, Distribution, TensorData};

    use super::*;

    fn random(shape: [usize; 2]) -> Tensor<2> {
        let device = Device::flex();
        device.seed(7);
        Tensor::random(shape, Distribution::Normal(0.0, 1.0), &device)
    }

    fn values(tensor: &Tensor<2>) -> Vec<f64> {
        tensor.to_data().iter().collect()
    }

    fn differ(a: &Tensor<2>, b: &Tensor<2>) -> f64 {
        let largest = |tensor: Tensor<2>| values(&tensor.abs()).into_iter().fold(0.0, f64::max);
        largest(a.clone() - b.clone()) / largest(b.clone())
    }

    fn seats_of(matrices: &[[usize; 2]]) -> Vec<Seat> {
        matrices.iter().enumerate().map(|(slot, matrix)| Seat { slot, matrix: *matrix }).collect()
    }

    /// The metric of batches whose gradients are the rows' pieces.
    fn kronecker(batches: &Tensor<2>, seats: &[Seat]) -> Kronecker {
        let row_of = |batch: usize| {
            let pieces =
                batches.clone().narrow(0, batch, 1).split_with_sizes(seats.iter().map(Seat::width).collect(), 1);
            side_by_side(pieces.into_iter().zip(seats).map(|(piece, seat)| moments(&piece.reshape(seat.matrix))))
        };
        let sum = (1..batches.dims()[0]).fold(row_of(0), |sum, batch| sum + row_of(batch));
        Kronecker::from_moments(sum, seats)
    }

    #[test]
    fn the_roots_of_a_side_are_those_of_the_damped_matrix() {
        // From full rank to a matrix of rank one, the worst conditioned there is.
        for rank in [40, 5, 1] {
            let factor = random([40, rank]);
            let side = factor.clone().matmul(factor.transpose());
            let mean: f64 = (side.clone() * unit(&side)).sum().into_scalar::<f64>() / 40.0;
            let side = side.div_scalar(mean);
            let damped = side.clone() + unit(&side).mul_scalar(DAMPING);
            let [root, inverse] = roots(side);
            assert!(differ(&root.clone().matmul(root.clone()), &damped) < 1e-4, "{rank}");
            assert!(differ(&root.matmul(inverse.clone()), &unit(&damped)) < 1e-3, "{rank}");
            assert_eq!(values(&inverse), values(&inverse.clone().transpose()), "{rank}");
        }
    }

    #[test]
    fn the_metric_is_the_inverse_of_the_damped_model() {
        let seats = seats_of(&[[4, 6], [1, 5], [6, 3]]);
        let batches = random([9, 24 + 5 + 18]);
        let metric = Metric::Kronecker(Box::new(kronecker(&batches, &seats)));
        let x = random([1, 47]).mul_scalar(3.0);
        let there = metric.root(metric.root(x.clone(), &seats), &seats);
        let pieces = |row: &Tensor<2>| row.clone().split_with_sizes(vec![24, 5, 18], 1);
        let mut gradients = pieces(&batches).into_iter();
        for ((seat, there), x) in seats.iter().zip(pieces(&there)).zip(pieces(&x)) {
            let gradients = gradients.next().expect("one a seat");
            let [m, n] = seat.matrix;
            let mean: f64 = (gradients.clone() * gradients.clone()).sum().into_scalar::<f64>() / (m * n) as f64;
            let back = if m == 1 {
                let squares = (gradients.clone() * gradients).sum_dim(0);
                there * squares.add_scalar(DAMPING * DAMPING * mean)
            } else {
                // Batch by batch: `G G'` and `G' G` of the mean eigenvalue 1, damped.
                let batches = gradients.split_with_sizes(vec![1; 9], 0).into_iter().map(|batch| batch.reshape([m, n]));
                let [mut left, mut right] = [m, n].map(|side| Tensor::<2>::zeros([side, side], &Device::flex()));
                for batch in batches {
                    left = left + batch.clone().matmul(batch.clone().transpose()).div_scalar(mean * n as f64);
                    right = right + batch.clone().transpose().matmul(batch).div_scalar(mean * m as f64);
                }
                let [left, right] = [left, right].map(|side| side.clone() + unit(&side).mul_scalar(DAMPING));
                left.matmul(there.reshape([m, n])).matmul(right).mul_scalar(mean)
            };
            assert!(differ(&back.reshape([1, m * n]), &x) < 1e-3, "{m} {n}");
        }
        let back = metric.inverse_root(metric.root(x.clone(), &seats), &seats).expect("it is new");
        assert!(differ(&back, &x) < 1e-3);
    }

    #[test]
    fn a_side_too_long_is_left_out_and_a_row_of_roots_makes_the_same_metric() {
        let long = LONGEST_SIDE + 1;
        let seats = seats_of(&[[2, long], [long, 2], [long, long], [3, 4], [2, 32], [2, 33], [33, 2]]);
        let widths: Vec<usize> = self::seats(&seats).iter().map(Seat::width).collect();
        assert_eq!(widths, [4, 4, long * long, 9 + 16, 4 + 32 * 32, 4, 4]);

        let seats = seats_of(&[[2, long], [3, 4], [1, 2]]);
        let kronecker = kronecker(&random([5, 2 * long + 14]), &seats);
        let again = Kronecker::from_row(kronecker.row(), &seats);
        let x = random([1, 2 * long + 14]);
        let [first, second] =
            [kronecker, again].map(|kronecker| Metric::Kronecker(Box::new(kronecker)).root(x.clone(), &seats));
        assert_eq!(values(&first), values(&second));
    }

    #[test]
    fn a_tensor_without_gradient_is_not_blown_up() {
        let seats = seats_of(&[[4, 4], [4, 4], [1, 4], [1, 4]]);
        // By rounding alone, and none at all.
        let scale = [vec![1.0; 16], vec![1e-9; 16], vec![1e-9; 4], vec![0.0; 4]].concat();
        let scale: Tensor<2> = Tensor::from_data(TensorData::new(scale, [1, 40]), (&Device::flex(), DType::F32));
        let batches = random([8, 40]) * scale;
        let metric = Metric::Kronecker(Box::new(kronecker(&batches, &seats)));
        let step = metric.root(metric.root(batches.narrow(0, 0, 1), &seats), &seats);
        let lengths: Vec<f64> = step
            .split_with_sizes(vec![16, 16, 8], 1)
            .iter()
            .map(|piece| values(&(piece.clone() * piece.clone()).sum().reshape([1, 1]))[0].sqrt())
            .collect();
        assert!(lengths[1] < lengths[0] && lengths[2] < lengths[0] && lengths[0] > 0.0, "{lengths:?}");
        let nothing = Metric::Kronecker(Box::new(kronecker(&Tensor::zeros([4, 40], &Device::flex()), &seats)));
        assert!(values(&nothing.root(random([1, 40]), &seats)).into_iter().all(f64::is_finite));
    }
}
