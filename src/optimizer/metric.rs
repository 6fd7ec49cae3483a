//! The metric of the convex phase, by its symmetric square root `S`: a gradient `g` is `S g` in its coordinates, and a way
//! `d` in them moves the parameters by `S d`.
//!
//! The Kronecker-factored metric takes every tensor as a matrix. With `G` the gradient of one batch, `L = E[G G']` and `R =
//! E[G' G]`, the second moment of the batches' gradients is modelled as `L (x) R / tr L`, and the metric is its inverse
//! (Gupta, Koren and Singer 2018 for the two sides; Martens and Grosse 2015, section 6.3, for damping the factors instead
//! of the product). Near a minimum of a likelihood that moment is the Hessian over the batch size.

use burn::tensor::{DType, Device, Tensor};

use super::rows::{Seat, side_by_side};

/// A side longer than this, or than so many times the other, has no factor: the identity takes its place, and a diagonal that
/// of a tensor without any. Its moments and its root would cost more than the rest of the tensor.
const LONGEST_SIDE: usize = 2048;
const LONGER_THAN_OTHER: usize = 16;

/// What is added to a side whose eigenvalues are 1 in the mean; its square to the elements of a vector. The curvature of a penalty
/// is the same in all directions and in no gradient's moments, so with one it is more.
const DAMPING: f64 = 0.1;
const DAMPING_WITH_PENALTY: f64 = 0.3;

/// What a tensor's mean squared gradient is raised by, relative to that of all: curvature that its gradients do not show. The bias
/// of an attention key has a gradient by rounding alone.
const FLOOR: f64 = 0.1;

/// Steps of the coupled Newton-Schulz iteration; the first 14 take the smallest eigenvalue of the longest side, damped, to 1,
/// the others are quadratic.
const STEPS: usize = 20;

/// Elements of the sides whose roots are taken at once, of which it holds a few copies.
const AT_ONCE: usize = 1 << 24;

/// The damping of the metric of an objective with such a penalty.
pub(super) fn damping(l2: f64) -> f64 {
    if l2 > 0.0 { DAMPING_WITH_PENALTY } else { DAMPING }
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) enum Metric {
    /// The diagonal's square root as a row.
    Diagonal(Box<Tensor<2>>),
    Kronecker(Box<Kronecker>),
}

impl Metric {
    /// `S` times a row over its tensors.
    pub fn root(&self, row: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Diagonal(root) => row * (**root).clone(),
            Self::Kronecker(kronecker) => kronecker.roots.times(row),
        }
    }

    /// The inverse of `S` times a row over its tensors; `None` where it has been forgotten.
    pub fn inverse_root(&self, row: Tensor<2>) -> Option<Tensor<2>> {
        match self {
            Self::Diagonal(root) => Some(row / (**root).clone()),
            Self::Kronecker(kronecker) => kronecker.inverses.as_ref().map(|inverses| inverses.times(row)),
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

/// Factors from the left and from the right, a stack each.
type Sides = [Option<Tensor<3>>; 2];

/// Tensors of the same shape, so that what is done to their sides is one launch for all of them.
#[derive(Clone, Debug)]
struct Group {
    matrix: [usize; 2],
    /// Where they stand among the seats.
    at: Vec<usize>,
    sides: Sides,
}

/// What a row of moments or roots has of each tensor.
#[derive(Clone, Debug)]
struct Parts {
    groups: Vec<Group>,
    /// Where a tensor without sides stands among the seats, and what there is of it, in the shape of its matrix.
    diagonals: Vec<(usize, Tensor<2>)>,
}

impl Parts {
    /// Of a row over these seats.
    fn new(row: Tensor<2>, seats: &[Seat]) -> Self {
        let widths = self::seats(seats).iter().map(Seat::width).collect();
        let mut diagonals = Vec::new();
        let mut alike: Vec<([usize; 2], Vec<usize>, Vec<Tensor<2>>)> = Vec::new();
        for (at, (piece, seat)) in row.split_with_sizes(widths, 1).into_iter().zip(seats).enumerate() {
            if let [None, None] = sides(seat.matrix) {
                diagonals.push((at, piece.reshape(seat.matrix)));
                continue;
            }
            match alike.iter_mut().find(|(matrix, ..)| *matrix == seat.matrix) {
                Some((_, places, pieces)) => {
                    places.push(at);
                    pieces.push(piece);
                }
                None => alike.push((seat.matrix, vec![at], vec![piece])),
            }
        }
        let groups = alike.into_iter().map(|(matrix, at, pieces)| {
            let pieces = Tensor::cat(pieces, 0);
            let mut start = 0;
            let sides = sides(matrix).map(|side| {
                let side = side?;
                let squares = pieces.clone().narrow(1, start, side * side);
                start += side * side;
                Some(squares.reshape([at.len(), side, side]))
            });
            Group { matrix, at, sides }
        });
        Self { groups: groups.collect(), diagonals }
    }

    /// As one row.
    fn row(&self) -> Tensor<2> {
        let of_groups = self.groups.iter().flat_map(|group| {
            group.at.iter().enumerate().map(|(which, at)| {
                let flat = |side: &Tensor<3>| {
                    let [_, length, _] = side.dims();
                    side.clone().narrow(0, which, 1).reshape([1, length * length])
                };
                (*at, side_by_side(group.sides.iter().flatten().map(flat)))
            })
        });
        in_order(of_groups.chain(self.diagonals.iter().cloned()))
    }
}

/// Pieces by their places, as one row.
fn in_order(pieces: impl Iterator<Item = (usize, Tensor<2>)>) -> Tensor<2> {
    let mut pieces: Vec<_> = pieces.collect();
    pieces.sort_by_key(|(at, _)| *at);
    side_by_side(pieces.into_iter().map(|(_, piece)| piece))
}

/// The square roots of all tensors of a row, or their inverses.
#[derive(Clone, Debug)]
struct Roots {
    parts: Parts,
    /// The diagonals as one row, so that all vectors are one launch; 1 for the elements of a tensor with sides.
    diagonal: Tensor<2>,
    /// The pieces a row is cut into: each matrix by itself, and the vectors between two of them together.
    widths: Vec<usize>,
    /// Which of them the tensors of each group are.
    pieces: Vec<Vec<usize>>,
}

impl Roots {
    fn new(parts: Parts, seats: &[Seat], (device, dtype): &(Device, DType)) -> Self {
        let ones = |seat: &Seat| Tensor::ones([1, seat.width()], (device, *dtype));
        let of_groups = parts.groups.iter().flat_map(|group| group.at.iter().map(|at| (*at, ones(&seats[*at]))));
        let diagonal = in_order(of_groups.chain(parts.diagonals.iter().cloned()));
        let (mut widths, mut pieces) = (Vec::new(), vec![Vec::new(); parts.groups.len()]);
        let mut among_vectors = false;
        for (at, seat) in seats.iter().enumerate() {
            let group = parts.groups.iter().position(|group| group.at.contains(&at));
            match (group, widths.last_mut()) {
                (None, Some(width)) if among_vectors => *width += seat.width(),
                _ => widths.push(seat.width()),
            }
            if let Some(group) = group {
                pieces[group].push(widths.len() - 1);
            }
            among_vectors = group.is_none();
        }
        Self { parts, diagonal, widths, pieces }
    }

    fn times(&self, row: Tensor<2>) -> Tensor<2> {
        let row = row * self.diagonal.clone();
        let mut pieces = row.split_with_sizes(self.widths.clone(), 1);
        for (Group { matrix: [rows, columns], sides, .. }, places) in self.parts.groups.iter().zip(&self.pieces) {
            let stack = Tensor::cat(places.iter().map(|place| pieces[*place].clone()).collect(), 0);
            let stack = between(stack.reshape([places.len(), *rows, *columns]), sides);
            for (piece, place) in stack.reshape([places.len(), rows * columns]).split(1, 0).into_iter().zip(places) {
                pieces[*place] = piece;
            }
        }
        side_by_side(pieces.into_iter())
    }
}

/// Matrices between their two sides.
fn between(matrices: Tensor<3>, [left, right]: &Sides) -> Tensor<3> {
    let matrices = match left {
        Some(left) => left.clone().matmul(matrices),
        None => matrices,
    };
    match right {
        Some(right) => matrices.matmul(right.clone()),
        None => matrices,
    }
}

/// The shape of a tensor's part of a row of moments or roots.
fn shape(seat: &Seat) -> [usize; 2] {
    match sides(seat.matrix) {
        [None, None] => seat.matrix,
        sides => [1, sides.into_iter().flatten().map(|side| side * side).sum()],
    }
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

/// The sums of the [`moments`] of several batches over the tensors of a row.
pub(super) struct Moments {
    parts: Parts,
    /// The sums of the squared gradients, tensor by tensor.
    traces: Vec<Tensor<1>>,
    like: (Device, DType),
}

impl Moments {
    pub fn new(row: Tensor<2>, seats: &[Seat]) -> Self {
        let like = (row.device(), row.dtype());
        let parts = Parts::new(row, seats);
        let of_groups = parts.groups.iter().map(Group::traces);
        let traces = of_groups.chain(parts.diagonals.iter().map(|(_, squares)| squares.clone().sum())).collect();
        Self { parts, traces, like }
    }

    /// What the mean squared gradient of a tensor is raised by, from all rows, which have so many elements; `None` of no row.
    pub fn floor(all: &[Self], elements: usize) -> Option<Tensor<1>> {
        // In a type that every device has.
        let each = all.iter().map(|moments| Tensor::cat(moments.traces.clone(), 0).sum().cast(DType::F32));
        let sum = each.reduce(|sum, more| more.to_device(&sum.device()) + sum)?;
        Some(sum.mul_scalar(FLOOR / elements as f64))
    }
}

impl Kronecker {
    /// From the moments of a row, the [floor](Moments::floor) and the [damping]. Its scale means nothing: the first trial and the
    /// curvature of the steps give one.
    pub fn new(moments: Moments, seats: &[Seat], floor: Tensor<1>, damping: f64) -> Self {
        let Moments { parts: Parts { groups, diagonals }, traces, like } = moments;
        let floor = floor.to_device(&like.0).cast(like.1);
        let mean = |trace: Tensor<1>, elements: usize| {
            (trace.div_scalar(elements as f64) + floor.clone()).clamp_min(f64::from(f32::MIN_POSITIVE))
        };
        let mut traces = traces.into_iter();
        let (groups, inverse_groups) = groups
            .into_iter()
            .zip(&mut traces)
            .map(|(group, trace)| {
                let elements = group.matrix[0] * group.matrix[1];
                group.roots(mean(trace, elements), damping)
            })
            .unzip();
        let (diagonals, inverse_diagonals) = diagonals
            .into_iter()
            .zip(traces)
            .map(|((at, squares), trace)| {
                let mean = mean(trace, seats[at].width()).reshape([1, 1]);
                let damped = squares + mean.mul_scalar(damping * damping);
                let inverse = damped.clamp_min(f64::from(f32::MIN_POSITIVE)).sqrt();
                ((at, inverse.clone().recip()), (at, inverse))
            })
            .unzip();
        let roots = Parts { groups, diagonals };
        let inverses = Parts { groups: inverse_groups, diagonals: inverse_diagonals };
        Self { roots: Roots::new(roots, seats, &like), inverses: Some(Roots::new(inverses, seats, &like)) }
    }

    /// The roots as one row, for a record.
    pub fn row(&self) -> Tensor<2> {
        self.roots.parts.row()
    }

    /// From [`row`](Self::row).
    pub fn from_row(row: Tensor<2>, seats: &[Seat]) -> Self {
        let like = (row.device(), row.dtype());
        Self { roots: Roots::new(Parts::new(row, seats), seats, &like), inverses: None }
    }

    /// No point given in parameters will be asked for.
    pub fn forget_inverses(&mut self) {
        self.inverses = None;
    }
}

impl Group {
    /// The sums of the squared gradients, from their moments.
    fn traces(&self) -> Tensor<1> {
        let side = self.sides.iter().flatten().next().expect("a group has a side").clone();
        let unit = unit(&side);
        (side * unit).sum_dim(2).sum_dim(1).reshape([self.at.len()])
    }

    /// The square roots of the metric and the inverses of them, from the moments and the means of the squared gradients.
    fn roots(self, mean: Tensor<1>, damping: f64) -> (Self, Self) {
        let Self { matrix, at, sides: [left, right] } = self;
        let [rows, columns] = matrix;
        let mean = mean.reshape([at.len(), 1, 1]);
        // The trace over a side's length is the mean of its eigenvalues.
        let roots_of = |side: Option<Tensor<3>>, other: usize| {
            side.map(|side| roots(side / mean.clone().mul_scalar(other as f64), damping, AT_ONCE))
        };
        let mut both = [roots_of(left, columns), roots_of(right, rows)];
        // The scale goes with one of them.
        let scale = mean.clone().sqrt();
        if let Some([root, inverse]) = both.iter_mut().flatten().next() {
            *root = root.clone() * scale.clone();
            *inverse = inverse.clone() / scale;
        }
        let [inverses, roots] = [0, 1].map(|which| {
            let sides = both.each_ref().map(|both| both.as_ref().map(|both| both[which].clone()));
            Self { matrix, at: at.clone(), sides }
        });
        (roots, inverses)
    }
}

/// The square roots of symmetric matrices, damped, and their inverses, so many elements at once.
fn roots(sides: Tensor<3>, damping: f64, at_once: usize) -> [Tensor<3>; 2] {
    let [_, length, _] = sides.dims();
    let parts = sides.split((at_once / (length * length)).max(1), 0);
    let (roots, inverses) = parts.into_iter().map(|sides| newton_schulz(sides, damping).into()).unzip();
    [roots, inverses].map(|parts| Tensor::cat(parts, 0))
}

/// The same by the coupled iteration of Newton and Schulz (Higham 2008, equation 6.35).
fn newton_schulz(sides: Tensor<3>, damping: f64) -> [Tensor<3>; 2] {
    let [count, length, _] = sides.dims();
    let unit = unit(&sides);
    let sides = sides + unit.clone().mul_scalar(damping);
    let size = (sides.clone() * sides.clone()).sum_dim(2).sum_dim(1).sqrt();
    let half_more = unit.clone().mul_scalar(1.5);
    let (mut root, mut inverse) = (sides / size.clone(), unit.expand([count, length, length]));
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

/// The identity of the size, device and element type of square matrices, `[1, n, n]`.
fn unit(square: &Tensor<3>) -> Tensor<3> {
    let unit: Tensor<2> = Tensor::eye(square.dims()[1], &square.device());
    unit.cast(square.dtype()).unsqueeze()
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Distribution, TensorData};

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

    /// Of batches whose gradients are the rows' pieces.
    fn moments_of(batches: &Tensor<2>, seats: &[Seat]) -> Moments {
        let row_of = |batch: usize| {
            let pieces =
                batches.clone().narrow(0, batch, 1).split_with_sizes(seats.iter().map(Seat::width).collect(), 1);
            side_by_side(pieces.into_iter().zip(seats).map(|(piece, seat)| moments(&piece.reshape(seat.matrix))))
        };
        let sum = (1..batches.dims()[0]).fold(row_of(0), |sum, batch| sum + row_of(batch));
        Moments::new(sum, seats)
    }

    /// The metric of such batches.
    fn kronecker(batches: &Tensor<2>, seats: &[Seat]) -> Kronecker {
        let moments = moments_of(batches, seats);
        let elements: usize = seats.iter().map(Seat::width).sum();
        let floor = Moments::floor(std::slice::from_ref(&moments), elements).expect("one row");
        Kronecker::new(moments, seats, floor, DAMPING)
    }

    #[test]
    fn the_roots_of_a_side_are_those_of_the_damped_matrix() {
        // From full rank to a matrix of rank one, the worst conditioned there is.
        for (rank, damping) in
            [40, 5, 1].into_iter().flat_map(|rank| [DAMPING, DAMPING_WITH_PENALTY].map(|damping| (rank, damping)))
        {
            let factor = random([40, rank]);
            let side = factor.clone().matmul(factor.transpose());
            let unit = Tensor::<2>::eye(40, &side.device());
            let mean: f64 = (side.clone() * unit.clone()).sum().into_scalar::<f64>() / 40.0;
            let side = side.div_scalar(mean);
            let damped = side.clone() + unit.clone().mul_scalar(damping);
            // Beside others, two at once.
            let all = Tensor::cat(vec![Tensor::ones([2, 40, 40], &side.device()), side.unsqueeze()], 0);
            let [root, inverse] = roots(all, damping, 2 * 40 * 40).map(|all| all.narrow(0, 2, 1).reshape([40, 40]));
            assert!(differ(&root.clone().matmul(root.clone()), &damped) < 1e-4, "{rank}");
            assert!(differ(&root.matmul(inverse.clone()), &unit) < 1e-3, "{rank}");
            assert_eq!(values(&inverse), values(&inverse.clone().transpose()), "{rank}");
        }
    }

    #[test]
    fn the_metric_is_the_inverse_of_the_damped_model() {
        let seats = seats_of(&[[4, 6], [1, 5], [1, 3], [6, 3], [4, 6]]);
        let batches = random([9, 24 + 5 + 3 + 18 + 24]);
        let metric = Metric::Kronecker(Box::new(kronecker(&batches, &seats)));
        let x = random([1, 74]).mul_scalar(3.0);
        let there = metric.root(metric.root(x.clone()));
        let pieces = |row: &Tensor<2>| row.clone().split_with_sizes(vec![24, 5, 3, 18, 24], 1);
        let mut gradients = pieces(&batches).into_iter();
        let sum_of_squares =
            |gradients: &Tensor<2>| values(gradients).into_iter().map(|value| value * value).sum::<f64>();
        let floor = FLOOR * sum_of_squares(&batches) / 74.0;
        for ((seat, there), x) in seats.iter().zip(pieces(&there)).zip(pieces(&x)) {
            let gradients = gradients.next().expect("one a seat");
            let [m, n] = seat.matrix;
            let mean = sum_of_squares(&gradients) / (m * n) as f64 + floor;
            let back = if m == 1 {
                let squares = (gradients.clone() * gradients).sum_dim(0);
                there * squares.add_scalar(DAMPING * DAMPING * mean)
            } else {
                // Batch by batch: `G G'` and `G' G` of the mean eigenvalue 1, less where the floor shows, damped.
                let batches = gradients.split_with_sizes(vec![1; 9], 0).into_iter().map(|batch| batch.reshape([m, n]));
                let [mut left, mut right] = [m, n].map(|side| Tensor::<2>::zeros([side, side], &Device::flex()));
                for batch in batches {
                    left = left + batch.clone().matmul(batch.clone().transpose()).div_scalar(mean * n as f64);
                    right = right + batch.clone().transpose().matmul(batch).div_scalar(mean * m as f64);
                }
                let [left, right] = [left, right]
                    .map(|side| side.clone() + Tensor::eye(side.dims()[0], &side.device()).mul_scalar(DAMPING));
                left.matmul(there.reshape([m, n])).matmul(right).mul_scalar(mean)
            };
            assert!(differ(&back.reshape([1, m * n]), &x) < 1e-3, "{m} {n}");
        }
        let back = metric.inverse_root(metric.root(x.clone())).expect("it is new");
        assert!(differ(&back, &x) < 1e-3);
    }

    #[test]
    fn an_objective_with_a_penalty_has_a_metric_that_is_damped_more() {
        assert_eq!([0.0, 1e-6].map(damping), [DAMPING, DAMPING_WITH_PENALTY]);
    }

    #[test]
    fn tensors_on_rows_of_their_own_are_damped_as_on_one() {
        // As of two devices or element types, and of very different gradients.
        let seats = seats_of(&[[4, 6], [1, 5]]);
        let (large, small) = (random([9, 24]), random([9, 5]).mul_scalar(1e-2));
        let one = kronecker(&Tensor::cat(vec![large.clone(), small.clone()], 1), &seats);
        let rows = [moments_of(&large, &seats[..1]), moments_of(&small.cast(DType::F64), &seats[1..])];
        let floor = Moments::floor(&rows, 29).expect("two rows");
        let mut starts = [0, 24].into_iter();
        for ((row, seat), width) in rows.into_iter().zip(&seats).zip([24, 5]) {
            let dtype = row.like.1;
            let of_its_own = Kronecker::new(row, std::slice::from_ref(seat), floor.clone(), DAMPING);
            let [x, start] = [random([1, width]), Tensor::zeros([1, starts.next().expect("two")], &Device::flex())];
            let rest = Tensor::zeros([1, 29 - width - start.dims()[1]], &Device::flex());
            let whole = Tensor::cat(vec![start.clone(), x.clone(), rest], 1);
            let together = one.roots.times(whole).narrow(1, start.dims()[1], width);
            let apart = of_its_own.roots.times(x.cast(dtype)).cast(DType::F32);
            assert!(differ(&together, &apart) < 1e-4, "{width}");
        }
    }

    #[test]
    fn a_side_too_long_is_left_out_and_a_row_of_roots_makes_the_same_metric() {
        let long = LONGEST_SIDE + 1;
        let seats = seats_of(&[[2, long], [long, 2], [long, long], [3, 4], [2, 32], [2, 33], [33, 2]]);
        let widths: Vec<usize> = self::seats(&seats).iter().map(Seat::width).collect();
        assert_eq!(widths, [4, 4, long * long, 9 + 16, 4 + 32 * 32, 4, 4]);

        let seats = seats_of(&[[3, 4], [1, 2], [2, long], [3, 4], [2, long]]);
        let kronecker = kronecker(&random([5, 4 * long + 26]), &seats);
        let again = Kronecker::from_row(kronecker.row(), &seats);
        let x = random([1, 4 * long + 26]);
        let [first, second] =
            [kronecker, again].map(|kronecker| Metric::Kronecker(Box::new(kronecker)).root(x.clone()));
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
        let step = metric.root(metric.root(batches.narrow(0, 0, 1)));
        let lengths: Vec<f64> = step
            .split_with_sizes(vec![16, 16, 8], 1)
            .iter()
            .map(|piece| values(&(piece.clone() * piece.clone()).sum().reshape([1, 1]))[0].sqrt())
            .collect();
        assert!(lengths[1] < lengths[0] && lengths[2] < lengths[0] && lengths[0] > 0.0, "{lengths:?}");
        let nothing = Metric::Kronecker(Box::new(kronecker(&Tensor::zeros([4, 40], &Device::flex()), &seats)));
        assert!(values(&nothing.root(random([1, 40]))).into_iter().all(f64::is_finite));
    }
}
