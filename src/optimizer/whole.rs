//! What the room holds of the tensors: their gradients' sum, the running average of their iterates, and the vectors of the
//! convex phase.

use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::gather::Gather;
use super::rows::{Pieces, Row, Seat, Vector, piece};
use super::vectors::{Vectors, along, squared_norm};
use crate::convex::Move;

/// What a tensor brings in a pass, one row each.
#[derive(Debug)]
pub(crate) struct Visit {
    pub slot: usize,
    pub gradient: Tensor<2>,
    /// The parameters before the pass, where they are asked for.
    pub parameters: Option<Tensor<2>>,
    /// Those the inner optimizer has gone to, where they enter the running average.
    pub iterate: Option<Tensor<2>>,
}

/// The whole model's vectors.
#[derive(Debug, Default)]
pub(super) struct Whole {
    // Brought in the open pass and not taken up yet.
    gradients: Pieces,
    iterates: Pieces,
    parameters: Pieces,
    roots: Pieces,
    /// Weighted sum of the gradients of the window or evaluation.
    sum: Vector,
    /// Running average of the inner optimizer's iterates, where the convex phase may start there.
    average: Vector,
    /// Those of the convex phase, for each device and element type.
    vectors: Vec<Vectors>,
    /// The objective's gradient at the evaluation just closed, in the order of `vectors`.
    evaluated: Vec<Tensor<2>>,
    /// The base point of tensors that sat out the pass in which the others went back to it.
    waiting: Vector,
}

impl Whole {
    pub fn bring(&mut self, visit: Visit) {
        let Visit { slot, gradient, parameters, iterate } = visit;
        self.gradients.push((slot, gradient));
        self.parameters.extend(parameters.map(|row| (slot, row)));
        self.iterates.extend(iterate.map(|row| (slot, row)));
    }

    /// The square root of a tensor's metric.
    pub fn bring_root(&mut self, slot: usize, root: Option<Tensor<2>>) {
        self.roots.extend(root.map(|root| (slot, root)));
    }

    /// A window or an evaluation begins.
    pub fn begin(&mut self) {
        self.sum = Vector::default();
    }

    /// No convex phase will start from the running average.
    pub fn forget_average(&mut self) {
        self.average = Vector::default();
    }

    /// Add `share` times the gradients brought to the sum, and the iterates to the running average, `decay * average + (1 -
    /// decay) * iterate`; the squared norms of the gradients.
    pub fn take_up(&mut self, share: f64, decay: f64) -> Vec<Tensor<1>> {
        let gradient = Vector::join(std::mem::take(&mut self.gradients));
        let norms = gradient.0.iter().map(|row| squared_norm(&row.values)).collect();
        let share_of = |row: Tensor<2>| if share == 1.0 { row } else { row.mul_scalar(share) };
        self.sum = std::mem::take(&mut self.sum).merge(gradient.map(share_of), |sum, more| sum + more);
        let iterate = Vector::join(std::mem::take(&mut self.iterates));
        if !iterate.is_empty() {
            let mix = |average: Tensor<2>, iterate: Tensor<2>| match decay > 0.0 {
                true => average.mul_scalar(decay) + iterate.mul_scalar(1.0 - decay),
                false => iterate,
            };
            self.average = std::mem::take(&mut self.average).merge(iterate, mix);
        }
        norms
    }

    fn mean(&mut self, total: f64) -> Vector {
        let sum = std::mem::take(&mut self.sum);
        if total == 1.0 { sum } else { sum.map(|sum| sum.div_scalar(total)) }
    }

    /// A window ends: the squared norms of its mean gradient and of the parameters brought.
    pub fn close_window(&mut self, total: f64) -> [Gather; 2] {
        let parameters = Vector::join(std::mem::take(&mut self.parameters));
        [self.mean(total), parameters].map(|vector| gather(vector.0.iter().map(|row| squared_norm(&row.values))))
    }

    /// Whether the next evaluation is the first of a convex phase.
    pub fn enters(&self) -> bool {
        self.vectors.is_empty()
    }

    /// Whether the tensors are to bring the roots of their metric, which no record has.
    pub fn wants_roots(&self) -> bool {
        self.vectors.iter().any(|vectors| vectors.root_metric.is_none())
    }

    /// All tensors of a pass of the convex phase have come by: begin with the parameters they brought, and put the roots of
    /// their metric in place.
    pub fn settle(&mut self) {
        let parameters = Vector::join(std::mem::take(&mut self.parameters));
        self.vectors.extend(parameters.0.into_iter().map(|row| Vectors::at(row.seats, row.values)));
        let roots = Vector::join(std::mem::take(&mut self.roots));
        if roots.is_empty() {
            return;
        }
        for vectors in self.vectors.iter_mut().filter(|vectors| vectors.root_metric.is_none()) {
            // A tensor without a metric has the identity.
            let ones = Row { seats: vectors.seats.clone(), values: vectors.base.ones_like() };
            let roots = Vector(vec![ones]).merge(roots.clone(), |_, root| root);
            vectors.root_metric = roots.seated(&vectors.seats, &vectors.base);
        }
    }

    /// An evaluation ends where the parameters have gone by `step`: the squared norms of the objective's gradient and of the
    /// parameters, where they are penalised, and the inner products. `None` where a tensor is missing.
    pub fn close_evaluation(&mut self, total: f64, l2: f64, step: f64) -> Option<[Gather; 3]> {
        let mean = self.mean(total);
        let [mut norms, mut penalties, mut products] = std::array::from_fn(|_| Gather::default());
        self.evaluated.clear();
        for vectors in &mut self.vectors {
            let mut gradient = mean.seated(&vectors.seats, &vectors.base)?;
            let point = vectors.stand(step);
            if l2 > 0.0 {
                penalties.push(squared_norm(&point));
                gradient = gradient + point.mul_scalar(l2);
            }
            norms.push(squared_norm(&gradient));
            let gradient = vectors.scaled(gradient);
            products.push(vectors.products(&gradient));
            self.evaluated.push(gradient);
        }
        Some([norms, penalties, products])
    }

    /// How many rows contribute to an inner product.
    pub fn parts(&self) -> usize {
        self.vectors.len()
    }

    /// Carry out a move; the tensors go there when they come by.
    pub fn apply(&mut self, next: &Move) {
        let mut evaluated = std::mem::take(&mut self.evaluated).into_iter();
        for vectors in &mut self.vectors {
            vectors.apply(evaluated.next(), next, &self.average);
        }
        if next.to_average || next.direction.is_some() {
            self.forget_average();
        }
    }

    /// Where a tensor stands after a move by `step`; `root` is that of its metric where it has just brought one.
    pub fn point(&mut self, slot: usize, step: f64, root: Option<&Tensor<2>>) -> Option<Tensor<2>> {
        self.vectors.iter_mut().find_map(|vectors| {
            let base = piece(&vectors.base, &vectors.seats, slot)?;
            if vectors.root_metric.is_none() && root.is_some() {
                let direction = vectors.direction.as_ref().and_then(|row| piece(row, &vectors.seats, slot));
                return Some(along(&base, direction.as_ref(), step, root));
            }
            piece(&vectors.stand(step), &vectors.seats, slot)
        })
    }

    /// A tensor of so many elements comes by.
    ///
    /// # Panics
    ///
    /// Where the vectors are of another: no sum of the two makes sense, as in Burn's own optimizers.
    pub fn greet(&self, slot: usize, elements: usize) {
        let seats = self.vectors.iter().flat_map(|vectors| &vectors.seats);
        for seat in seats.filter(|seat| seat.slot == slot) {
            let had = seat.columns;
            assert!(had == elements, "incompatible shapes: a parameter had {had} elements and has {elements}");
        }
    }

    /// The convex phase is over, and the tensors that came by are at the base point.
    pub fn leave(&mut self, came: impl Fn(usize) -> bool) {
        let vectors = std::mem::take(self).vectors;
        let rows = vectors.iter().flat_map(|vectors| {
            let absent = vectors.seats.iter().filter(|seat| !came(seat.slot));
            absent.filter_map(|seat| Some((seat.slot, piece(&vectors.base, &vectors.seats, seat.slot)?)))
        });
        self.waiting = Vector::join(rows.collect());
    }

    /// Where a tensor has to go first that sat out the end of the convex phase.
    pub fn awaited(&mut self, slot: usize) -> Option<Tensor<2>> {
        if self.waiting.is_empty() {
            return None;
        }
        let (ours, others): (Pieces, Pieces) =
            self.waiting.0.iter().flat_map(Row::pieces).partition(|(waiting, _)| *waiting == slot);
        self.waiting = Vector::join(others);
        ours.into_iter().next().map(|(_, base)| base)
    }
}

fn gather(values: impl Iterator<Item = Tensor<1>>) -> Gather {
    let mut gather = Gather::default();
    values.for_each(|value| gather.push(value));
    gather
}

/// What a row in a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Sum,
    Average,
    Waiting,
    Base,
    Gradient,
    Direction,
    Steps,
    Changes,
}

/// A row in a record, beside its values.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SavedRow {
    kind: Kind,
    seats: Vec<Seat>,
}

impl Whole {
    /// All rows, for a record.
    pub fn save(&self) -> Vec<(SavedRow, TensorData)> {
        let vectors = [(Kind::Sum, &self.sum), (Kind::Average, &self.average), (Kind::Waiting, &self.waiting)];
        let vectors = vectors
            .into_iter()
            .flat_map(|(kind, vector)| vector.0.iter().map(move |row| (kind, &row.seats, Some(&row.values))));
        let convex = self.vectors.iter().flat_map(|vectors| {
            let [steps, changes] =
                vectors.pairs.as_ref().map_or([None; 2], |[steps, changes]| [Some(steps), Some(changes)]);
            let rows = [
                (Kind::Base, Some(&vectors.base)),
                (Kind::Gradient, vectors.gradient.as_ref()),
                (Kind::Direction, vectors.direction.as_ref()),
                (Kind::Steps, steps),
                (Kind::Changes, changes),
            ];
            rows.map(|(kind, row)| (kind, &vectors.seats, row))
        });
        let rows = vectors
            .chain(convex)
            .filter_map(|(kind, seats, row)| Some((SavedRow { kind, seats: seats.clone() }, row?.to_data())));
        rows.collect()
    }

    /// From [`save`](Self::save), on one device.
    ///
    /// # Errors
    ///
    /// What does not fit, in words.
    pub fn restore(rows: Vec<(SavedRow, TensorData)>, device: &Device) -> Result<Self, String> {
        let mut whole = Self::default();
        for (SavedRow { kind, seats }, data) in rows {
            let columns = seats.iter().try_fold(0_usize, |sum, seat| sum.checked_add(seat.columns));
            let fits = data.shape().len() == 2 && columns == Some(data.shape()[1]);
            if !fits || !seats.is_sorted_by(|a, b| a.slot < b.slot) {
                return Err(format!("a row ({kind:?}) of {:?} numbers does not fit the parameters", data.shape()));
            }
            let dtype = data.dtype();
            let values: Tensor<2> = Tensor::from_data(data, (device, dtype));
            let row = Row { seats, values };
            match kind {
                Kind::Sum => whole.sum.0.push(row),
                Kind::Average => whole.average.0.push(row),
                Kind::Waiting => whole.waiting.0.push(row),
                Kind::Base => whole.vectors.push(Vectors::at(row.seats, row.values)),
                _ => {
                    let of = whole.vectors.iter_mut().find(|vectors| vectors.seats == row.seats);
                    let vectors = of.ok_or_else(|| format!("a row ({kind:?}) without its base point"))?;
                    match kind {
                        Kind::Gradient => vectors.gradient = Some(row.values),
                        Kind::Direction => vectors.direction = Some(row.values),
                        Kind::Steps => vectors.pairs = Some([row.values.clone(), row.values]),
                        _ => vectors.pairs = vectors.pairs.take().map(|[steps, _]| [steps, row.values]),
                    }
                }
            }
        }
        Ok(whole)
    }
}
