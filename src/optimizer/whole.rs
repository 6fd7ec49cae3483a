//! What the room holds of the tensors: their gradients' sum, the running average of their iterates, and the vectors of the
//! convex phase.

use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::gather::Gather;
use super::metric::{self, Kronecker, Metric, Moments};
use super::products::squared_norm;
use super::rows::{Pieces, Row, Seat, Vector, piece};
use super::vectors::{Trial, Vectors, along};
use crate::convex::Move;

/// What a tensor brings in a pass, as a matrix each.
#[derive(Debug)]
pub(crate) struct Visit {
    pub slot: usize,
    pub gradient: Tensor<2>,
    /// The parameters before the pass, where they are asked for.
    pub parameters: Option<Tensor<2>>,
    /// Those the inner optimizer has gone to, where they enter the running average.
    pub iterate: Option<Tensor<2>>,
    /// Whether the metric is being made of the gradients.
    pub moments: bool,
}

/// The objective's gradient at the evaluation just closed, row by row.
#[derive(Debug, Default)]
pub(super) struct Evaluated(Vec<Trial>);

/// The whole model's vectors.
#[derive(Debug, Default)]
pub(super) struct Whole {
    // Brought in the open pass and not taken up yet.
    gradients: Pieces,
    iterates: Pieces,
    parameters: Pieces,
    roots: Pieces,
    moments_brought: Pieces,
    /// Weighted sum of the gradients of the window or evaluation.
    sum: Vector,
    /// Moments of the batches' gradients, where the metric is being made of them, at the swap or anew.
    moments: Vector,
    /// Gradients of batches of the evaluations before the first search in a metric, in parameters.
    batches: Batches,
    /// Running average of the inner optimizer's iterates, where the convex phase may start there.
    average: Vector,
    /// Those of the convex phase, for each device and element type.
    vectors: Vec<Vectors>,
    /// The base point of tensors that sat out the pass in which the others went back to it.
    waiting: Vector,
}

impl Whole {
    pub fn bring(&mut self, visit: Visit) {
        let Visit { slot, gradient, parameters, iterate, moments } = visit;
        self.moments_brought.extend(moments.then(|| (slot, metric::moments(&gradient))));
        self.gradients.push((slot, gradient));
        self.parameters.extend(parameters.map(|row| (slot, row)));
        self.iterates.extend(iterate.map(|row| (slot, row)));
    }

    /// The square root of a tensor's metric.
    pub fn bring_root(&mut self, slot: usize, root: Option<Tensor<2>>) {
        self.roots.extend(root.map(|root| (slot, root)));
    }

    /// A window or an evaluation begins; whether the batch gradients of those before it are still of use.
    pub fn begin(&mut self, keeps_batches: bool) {
        (self.sum, self.moments) = (Vector::default(), Vector::default());
        if !keeps_batches {
            self.batches = Batches::default();
        }
    }

    /// No convex phase will start from the running average.
    pub fn forget_average(&mut self) {
        self.average = Vector::default();
    }

    /// Add `share` times the gradients brought, each that of so many batches `summed`, to the sum, and the iterates to the running
    /// average, `decay * average + (1 - decay) * iterate`; the squared norms of the gradients, where they are `watched`. Of the
    /// gradients, at most so many `batches` are kept.
    pub fn take_up(&mut self, share: f64, summed: f64, decay: f64, batches: usize, watched: bool) -> Vec<Tensor<1>> {
        if self.gradients.is_empty() {
            return Vec::new();
        }
        let gradient = Vector::join(std::mem::take(&mut self.gradients));
        let rows = gradient.0.iter().filter(|_| watched);
        let norms = rows.map(|row| squared_norm(&row.values)).collect();
        let times = |factor: f64| move |row: Tensor<2>| if factor == 1.0 { row } else { row.mul_scalar(factor) };
        let gradient = gradient.map(times(share));
        if batches > 0 {
            // Several batches whose gradients come as their sum are one larger batch.
            self.batches.push(gradient.clone(), share * summed, batches);
        }
        self.sum = std::mem::take(&mut self.sum).merge(gradient, |sum, more| sum + more);
        let moments = Vector::join(std::mem::take(&mut self.moments_brought)).map(times(summed.powi(-2)));
        self.moments = std::mem::take(&mut self.moments).merge(moments, |sum, more| sum + more);
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
        self.vectors.iter().any(|vectors| vectors.metric.is_none())
    }

    /// All tensors of a pass of the convex phase have come by: begin with the parameters they brought, and put the roots of
    /// their metric in place.
    pub fn settle(&mut self) {
        let parameters = Vector::join(std::mem::take(&mut self.parameters));
        self.vectors.extend(parameters.0.into_iter().map(|row| Vectors::at(row.seats, row.values)));
        if self.roots.is_empty() {
            return;
        }
        let roots = Vector::join(std::mem::take(&mut self.roots));
        for vectors in self.vectors.iter_mut().filter(|vectors| vectors.metric.is_none()) {
            // The phase is left where a tensor has not come; those that have stand where their own roots led them.
            let ones = Row { seats: vectors.seats.clone(), values: vectors.base.ones_like() };
            let root = Vector(vec![ones]).merge(roots.clone(), |_, root| root).seated(&vectors.seats, &vectors.base);
            vectors.metric = root.map(Box::new).map(Metric::Diagonal);
        }
    }

    /// An evaluation for it has ended: make the metric of the moments of its gradients. `None` where those of a tensor are
    /// missing.
    fn take_kronecker(&mut self, moments: Vector, damping: f64) -> Option<()> {
        let mut rows = Vec::with_capacity(self.vectors.len());
        for vectors in &mut self.vectors {
            let seats = metric::seats(&vectors.seats);
            let row = moments.seated(&seats, &vectors.base)?;
            if row.dims()[1] != seats.iter().map(Seat::width).sum::<usize>() {
                return None;
            }
            // The old one goes first.
            vectors.metric = None;
            rows.push(Moments::new(row, &vectors.seats));
        }
        let elements: usize = self.vectors.iter().flat_map(|vectors| &vectors.seats).map(Seat::width).sum();
        let floor = Moments::floor(&rows, elements)?;
        for (vectors, moments) in self.vectors.iter_mut().zip(rows) {
            let kronecker = Kronecker::new(moments, &vectors.seats, floor.clone(), damping);
            vectors.metric = Some(Metric::Kronecker(Box::new(kronecker)));
        }
        Some(())
    }

    /// An evaluation ends of whose gradients at most so many were kept.
    pub fn close_batches(&mut self, most: usize) {
        self.batches.close(most);
    }

    /// Batch gradients of evaluations that were not finite are of no use.
    pub fn discard_batches(&mut self) {
        self.batches = Batches::default();
    }

    /// Whether the metric is made of gradients.
    pub fn has_kronecker(&self) -> bool {
        self.vectors.iter().any(|vectors| matches!(vectors.metric, Some(Metric::Kronecker(_))))
    }

    /// Copy the batch gradients gathered among the vectors, where the metric is made of their moments; their products with each
    /// other, row by row of vectors. `None` where a tensor is missing.
    fn copy_batches(&mut self) -> Option<Gather> {
        let mut grams = Gather::default();
        if self.batches.closed.is_empty() || !self.has_kronecker() {
            return Some(grams);
        }
        // They go when the next evaluation begins: where the descent goes back from the running average, with its own gradients.
        let closed = &self.batches.closed;
        for vectors in &mut self.vectors {
            let (seats, base) = (vectors.seats.clone(), vectors.base.clone());
            grams.push(vectors.set_batches(closed.iter().map(|batch| batch.row(&seats, &base)))?);
        }
        Some(grams)
    }

    /// An evaluation ends where the parameters have gone by `step`: the squared norms of the objective's gradient and of the
    /// parameters, where they are penalised, the inner products, where the metric has just been made of `moments` the squared norm
    /// of the gradient times the metric, and where the descent may start from here, which `starts`, the products of the batch
    /// gradients with each other. `None` where a tensor is missing, or its root of a `diagonal`.
    pub fn close_evaluation(
        &mut self,
        total: f64,
        l2: f64,
        step: f64,
        moments: bool,
        diagonal: bool,
        starts: bool,
    ) -> Option<([Gather; 5], Evaluated)> {
        let mut mean = self.mean(total);
        let sums = std::mem::take(&mut self.moments);
        if moments {
            self.take_kronecker(sums, metric::damping(l2))?;
        } else if diagonal && self.wants_roots() {
            return None;
        }
        let grams = if starts { self.copy_batches()? } else { Gather::default() };
        let [mut norms, mut penalties, mut products, mut lengths] = std::array::from_fn(|_| Gather::default());
        let mut evaluated = Evaluated::default();
        for vectors in &mut self.vectors {
            let mut gradient = mean.take_seated(&vectors.seats, &vectors.base)?;
            let point = vectors.stand(step);
            if l2 > 0.0 {
                penalties.push(squared_norm(&point));
                gradient = gradient + point.mul_scalar(l2);
            }
            norms.push(squared_norm(&gradient));
            let gradient = vectors.rooted(gradient);
            if moments {
                lengths.push(squared_norm(&vectors.rooted(gradient.clone())));
            }
            let (contribution, trial) = vectors.close(gradient);
            contribution.into_iter().for_each(|values| products.push(values));
            evaluated.0.push(trial);
        }
        Some(([norms, penalties, products, lengths, grams], evaluated))
    }

    /// Bytes of a vector of the convex phase.
    pub fn bytes(&self) -> usize {
        self.vectors.iter().map(|vectors| vectors.base.dims()[1] * vectors.base.dtype().size()).sum()
    }

    /// How many batch gradients are among the vectors.
    pub fn batches(&self) -> usize {
        self.vectors.first().map_or(0, Vectors::batches)
    }

    /// Those just taken are not wanted.
    pub fn forget_batches(&mut self) {
        self.vectors.iter_mut().for_each(Vectors::forget_batches);
    }

    /// How many rows contribute to an inner product.
    pub fn parts(&self) -> usize {
        self.vectors.len()
    }

    /// Carry out a move; the tensors go there when they come by.
    pub fn apply(&mut self, next: &Move, evaluated: Evaluated) {
        let mut evaluated = evaluated.0.into_iter();
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
            if let (None, Some(root)) = (&vectors.metric, root) {
                let base = piece(&vectors.base, &vectors.seats, slot)?;
                let direction = vectors.direction().and_then(|row| piece(&row, &vectors.seats, slot));
                return Some(along(&base, direction.as_ref(), step, |way| {
                    way * root.clone().to_device(&base.device())
                }));
            }
            piece(&vectors.stand(step), &vectors.seats, slot)
        })
    }

    /// That a tensor still has as many elements as the vectors have of it.
    ///
    /// # Panics
    ///
    /// Where it has not: no sum of the two makes sense, as in Burn's own optimizers.
    pub fn check(&self, slot: usize, elements: usize) {
        for vectors in &self.vectors {
            if let Ok(at) = vectors.seats.binary_search_by_key(&slot, |seat| seat.slot) {
                let had = vectors.seats[at].width();
                assert!(had == elements, "incompatible shapes: a parameter had {had} elements and has {elements}");
            }
        }
    }

    /// The convex phase is over, and the tensors that came by are at the base point.
    pub fn leave(&mut self, came: impl Fn(usize) -> bool) {
        let Self { vectors, waiting, .. } = std::mem::take(self);
        let rows = vectors.iter().flat_map(|vectors| {
            let absent = vectors.seats.iter().filter(|seat| !came(seat.slot));
            absent.filter_map(|seat| Some((seat.slot, piece(&vectors.base, &vectors.seats, seat.slot)?)))
        });
        let longer = waiting.0.iter().flat_map(Row::pieces).filter(|(slot, _)| !came(*slot));
        self.waiting = Vector::join(rows.chain(longer).collect());
    }

    /// Where a tensor has to go first that sat out the end of the convex phase.
    pub fn awaited(&mut self, slot: usize) -> Option<Tensor<2>> {
        let base = self.waiting.piece(slot)?;
        let others = self.waiting.0.iter().flat_map(Row::pieces).filter(|(waiting, _)| *waiting != slot);
        self.waiting = Vector::join(others.collect());
        Some(base)
    }
}

fn gather(values: impl Iterator<Item = Tensor<1>>) -> Gather {
    let mut gather = Gather::default();
    values.for_each(|value| gather.push(value));
    gather
}

/// Gradients of batches, each less the mean of its evaluation.
#[derive(Debug, Default)]
struct Batches {
    /// Of the evaluation under way, with their mean.
    open: Vec<Batch>,
    /// Of those before it.
    closed: Vec<Batch>,
}

/// A sum of gradients of neighbouring batches.
#[derive(Clone, Debug)]
struct Batch {
    /// How many they are.
    count: u64,
    /// Their weights, added up: each mean gradient was multiplied by its own.
    weight: f64,
    sum: Vector,
}

impl Batches {
    /// Keep a batch's mean gradient, already times its weight. Where that makes more than so many, neighbours are added together.
    fn push(&mut self, gradient: Vector, weight: f64, most: usize) {
        // All sums are of as many batches as the first, and the last one grows up to that.
        let full = self.open.first().map_or(1, |first| first.count);
        let batch = Batch { count: 1, weight, sum: gradient };
        match self.open.last_mut().filter(|last| last.count < full) {
            Some(last) => last.add(batch),
            None => self.open.push(batch),
        }
        thin(&mut self.open, most);
    }

    /// The evaluation has ended.
    fn close(&mut self, most: usize) {
        let open = std::mem::take(&mut self.open);
        if open.len() < 2 {
            return; // Nothing is left of one less the mean.
        }
        let weights: f64 = open.iter().map(|batch| batch.weight).sum();
        let add = |total: Vector, sum| total.merge(sum, |total, sum| total + sum);
        let total = open.iter().map(|batch| batch.sum.clone()).reduce(add).unwrap_or_default();
        let mean = total.map(|total| total.div_scalar(weights));
        self.closed.extend(open.into_iter().map(|Batch { count, weight, sum }| {
            // A tensor without a gradient in some batch has zeros there.
            let sum = mean.clone().map(|mean| mean.mul_scalar(-weight)).merge(sum, |less, sum| sum + less);
            Batch { count, weight, sum }
        }));
        thin(&mut self.closed, most);
    }
}

impl Batch {
    fn add(&mut self, other: Self) {
        self.count += other.count;
        self.weight += other.weight;
        self.sum = std::mem::take(&mut self.sum).merge(other.sum, |sum, more| sum + more);
    }

    /// As a row with these seats, over the root of its weight: all batches have the same variance then.
    fn row(&self, seats: &[Seat], like: &Tensor<2>) -> Option<Tensor<2>> {
        Some(self.sum.seated(seats, like)?.div_scalar(self.weight.sqrt()))
    }
}

/// Add neighbours together where there are more than so many.
fn thin(batches: &mut Vec<Batch>, most: usize) {
    if batches.len() > most {
        let mut from = std::mem::take(batches).into_iter();
        while let Some(mut batch) = from.next() {
            from.next().into_iter().for_each(|next| batch.add(next));
            batches.push(batch);
        }
    }
}

/// What a row in a record is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Sum,
    Moments,
    /// A part of one of the sums of batch gradients, of an evaluation that has ended or not.
    Batch {
        closed: bool,
        at: usize,
        count: u64,
        weight: f64,
    },
    Average,
    Waiting,
    Base,
    Roots,
    Gradient,
    Direction,
    /// So many batch gradients, then pairs.
    Memory {
        batches: usize,
    },
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
        let mut rows = Vec::new();
        let mut put = |kind: Kind, seats: &[Seat], row: Option<&Tensor<2>>| {
            rows.extend(row.map(|row| (SavedRow { kind, seats: seats.to_vec() }, row.to_data())));
        };
        let vectors = [
            (Kind::Sum, &self.sum),
            (Kind::Moments, &self.moments),
            (Kind::Average, &self.average),
            (Kind::Waiting, &self.waiting),
        ];
        for (kind, vector) in vectors {
            vector.0.iter().for_each(|row| put(kind, &row.seats, Some(&row.values)));
        }
        for (closed, batches) in [(true, &self.batches.closed), (false, &self.batches.open)] {
            for (at, Batch { count, weight, sum }) in batches.iter().enumerate() {
                let kind = Kind::Batch { closed, at, count: *count, weight: *weight };
                sum.0.iter().for_each(|row| put(kind, &row.seats, Some(&row.values)));
            }
        }
        for vectors in &self.vectors {
            let seats = &vectors.seats;
            put(Kind::Base, seats, Some(&vectors.base));
            if let Some(Metric::Kronecker(kronecker)) = &vectors.metric {
                put(Kind::Roots, seats, Some(&kronecker.row()));
            }
            put(Kind::Gradient, seats, vectors.gradient.as_ref());
            put(Kind::Direction, seats, vectors.direction().as_ref());
            if let Some((batches, rows)) = vectors.memory() {
                put(Kind::Memory { batches }, seats, Some(&rows));
            }
        }
        rows
    }

    /// From [`save`](Self::save), on one device.
    ///
    /// # Errors
    ///
    /// What does not fit, in words.
    pub fn restore(rows: Vec<(SavedRow, TensorData)>, device: &Device) -> Result<Self, String> {
        let mut whole = Self::default();
        for (SavedRow { kind, seats }, data) in rows {
            let (shape, dtype) = (data.shape().clone(), data.dtype());
            let misfit = || format!("a row ({kind:?}) of {shape:?} numbers does not fit the parameters");
            let held = match kind {
                Kind::Roots => metric::seats(&seats),
                _ => seats.clone(),
            };
            let columns = held.iter().try_fold(0_usize, |sum, seat| sum.checked_add(seat.elements()?));
            let height = |rows: usize| match kind {
                Kind::Memory { batches } => {
                    rows > 0 && rows.checked_sub(batches).is_some_and(|pairs| pairs.is_multiple_of(2))
                }
                _ => rows == 1,
            };
            let fits = shape.len() == 2 && columns == Some(shape[1]) && height(shape[0]);
            if !fits || !seats.is_sorted_by(|a, b| a.slot < b.slot) {
                return Err(misfit());
            }
            let values: Tensor<2> = Tensor::from_data(data, (device, dtype));
            let row = Row { seats, values };
            let vectors = whole.vectors.iter_mut().find(|vectors| vectors.seats == row.seats);
            match (kind, vectors) {
                (Kind::Sum, _) => whole.sum.0.push(row),
                (Kind::Moments, _) => whole.moments.0.push(row),
                (Kind::Batch { closed, at, count, weight }, _) => {
                    let Batches { open, closed: ended } = &mut whole.batches;
                    let batches = if closed { ended } else { open };
                    let known = batches.len();
                    match batches.get_mut(at) {
                        Some(batch) => batch.sum.0.push(row),
                        None if at == known => batches.push(Batch { count, weight, sum: Vector(vec![row]) }),
                        None => return Err(misfit()),
                    }
                }
                (Kind::Average, _) => whole.average.0.push(row),
                (Kind::Waiting, _) => whole.waiting.0.push(row),
                (Kind::Base, None) => whole.vectors.push(Vectors::at(row.seats, row.values)),
                (Kind::Roots, Some(vectors)) => {
                    let kronecker = Kronecker::from_row(row.values, &row.seats);
                    vectors.metric = Some(Metric::Kronecker(Box::new(kronecker)));
                }
                (Kind::Gradient, Some(vectors)) => vectors.gradient = Some(row.values),
                (Kind::Direction, Some(vectors)) => vectors.set_direction(row.values),
                (Kind::Memory { batches }, Some(vectors)) => vectors.set_memory(batches, row.values),
                _ => return Err(misfit()),
            }
        }
        Ok(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(value: f64) -> Tensor<2> {
        Tensor::from_data(TensorData::new(vec![value; 2], [1, 2]), &Device::flex())
    }

    fn enter(whole: &mut Whole, slot: usize, value: f64) {
        let parameters = Some(row(value));
        whole.bring(Visit { slot, gradient: row(0.0), parameters, iterate: None, moments: false });
    }

    #[test]
    fn a_tensor_that_sits_out_two_hand_backs_still_goes_to_its_base_first() {
        let mut whole = Whole::default();
        enter(&mut whole, 0, 1.0);
        enter(&mut whole, 1, 2.0);
        whole.settle();
        whole.leave(|slot| slot == 0);
        enter(&mut whole, 0, 3.0);
        whole.settle();
        whole.leave(|slot| slot == 0);
        let mut whole = Whole::restore(whole.save(), &Device::flex()).expect("as it was saved");
        assert!(whole.awaited(0).is_none());
        let base = whole.awaited(1).expect("it waits");
        assert_eq!(base.to_data().iter::<f64>().collect::<Vec<_>>(), [2.0, 2.0]);
        assert!(whole.awaited(1).is_none());
    }

    /// The batch gradients kept of evaluations with these gradients of two tensors, the second without one in the last batch.
    fn kept(evaluations: &[&[f64]], most: usize) -> Whole {
        let mut whole = Whole::default();
        for gradients in evaluations {
            whole.begin(true);
            for (at, gradient) in gradients.iter().enumerate() {
                for slot in [0, 1] {
                    if slot == 0 || at + 1 < gradients.len() {
                        let gradient = row(*gradient + slot as f64);
                        whole.bring(Visit { slot, gradient, parameters: None, iterate: None, moments: false });
                    }
                }
                whole.take_up(1.0, 1.0, 0.0, most, false);
            }
            whole.close_batches(most);
        }
        whole
    }

    fn first_of_each(whole: &Whole) -> Vec<[f64; 2]> {
        let seats = [0, 1].map(|slot| Seat { slot, matrix: [1, 2] });
        let like: Tensor<2> = Tensor::zeros([1, 4], &Device::flex());
        let rows = whole.batches.closed.iter().map(|batch| batch.row(&seats, &like).expect("all seats"));
        rows.map(|row| row.to_data().iter::<f64>().collect::<Vec<_>>()).map(|row| [row[0], row[2]]).collect()
    }

    #[test]
    fn batch_gradients_are_those_less_the_mean_of_their_evaluation() {
        let whole = kept(&[&[1.0, 2.0, 6.0], &[10.0, 20.0]], 9);
        let expected = [[-2.0, 1.0 / 3.0], [-1.0, 4.0 / 3.0], [3.0, -5.0 / 3.0], [-5.0, 5.5], [5.0, -5.5]];
        let near = |whole: &Whole| {
            let rows = first_of_each(whole);
            rows.len() == 5 && rows.iter().flatten().zip(expected.iter().flatten()).all(|(a, b)| (a - b).abs() < 1e-5)
        };
        assert!(near(&whole), "{:?}", first_of_each(&whole));
        let again = Whole::restore(whole.save(), &Device::flex()).expect("as it was saved");
        assert!(near(&again));
        // Nothing is left of them behind the start.
        let mut whole = whole;
        whole.begin(false);
        assert!(whole.save().is_empty());
    }

    #[test]
    fn too_many_batch_gradients_are_added_up_to_sums_of_the_same_variance() {
        // Of six batches, as many sums as were asked for at most: pairs, then fours.
        // One sum of all is zero, and not kept.
        for (most, counts) in [(6, vec![1; 6]), (5, vec![2, 2, 2]), (3, vec![2, 2, 2]), (2, vec![4, 2]), (1, vec![])] {
            let whole = kept(&[&[1.0, -1.0, 2.0, -2.0, 3.0, -3.0]], most);
            let kept: Vec<u64> = whole.batches.closed.iter().map(|batch| batch.count).collect();
            assert_eq!(kept, counts, "{most}");
            let weights: Vec<f64> = whole.batches.closed.iter().map(|batch| batch.weight).collect();
            assert_eq!(weights, counts.iter().map(|count| *count as f64).collect::<Vec<_>>());
        }
        // 1 + 3 and 5 + 7 less twice the mean of 4, over the root of 2.
        let rows = first_of_each(&kept(&[&[1.0, 3.0, 5.0, 7.0]], 2));
        let expected = [-4.0 / 2f64.sqrt(), 4.0 / 2f64.sqrt()];
        assert!(rows.iter().zip(expected).all(|([row, _], expected)| (row - expected).abs() < 1e-5), "{rows:?}");
        // In the middle of an evaluation a record has those that were added up and those that were not, one by one.
        let mut whole = kept(&[&[1.0, 3.0]], 9);
        for slot in [0, 1] {
            whole.bring(Visit { slot, gradient: row(5.0), parameters: None, iterate: None, moments: false });
            whole.take_up(0.5, 1.0, 0.0, 9, false);
        }
        let again = Whole::restore(whole.save(), &Device::flex()).expect("as it was saved");
        let of = |batches: &[Batch]| batches.iter().map(|batch| (batch.count, batch.weight)).collect::<Vec<_>>();
        assert_eq!((of(&again.batches.open), of(&again.batches.closed)), (vec![(1, 0.5); 2], vec![(1, 1.0); 2]));
        let mut without_the_first = whole.save();
        without_the_first.retain(|(row, _)| !matches!(row.kind, Kind::Batch { at: 0, .. }));
        assert!(Whole::restore(without_the_first, &Device::flex()).is_err());
    }

    #[test]
    fn gradients_that_come_as_a_sum_count_as_one_larger_batch() {
        // Seven batches of the gradients 1 to 7, in passes of three, three and one.
        let mut summed = Whole::default();
        let mut meant = Whole::default();
        for (count, sum) in [(3.0, 6.0), (3.0, 15.0), (1.0, 7.0)] {
            let visit = |gradient: f64| Visit {
                slot: 0,
                gradient: row(gradient),
                parameters: None,
                iterate: None,
                moments: true,
            };
            let relative = count / 3.0;
            summed.bring(visit(sum));
            summed.take_up(relative / count, count, 0.0, 9, false);
            meant.bring(visit(sum / count));
            meant.take_up(relative, 1.0, 0.0, 9, false);
        }
        let near = |a: Vec<f64>, b: Vec<f64>| {
            assert!(a.len() == b.len() && !a.is_empty());
            assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5 * b.abs().max(1.0)), "{a:?} {b:?}");
        };
        let flat = |vector: &Vector| vector.0[0].values.to_data().iter::<f64>().collect::<Vec<_>>();
        near(flat(&summed.moments), flat(&meant.moments));
        near(flat(&summed.sum), flat(&meant.sum));
        let first = |whole: &mut Whole| {
            whole.close_batches(9);
            let seats = [Seat { slot: 0, matrix: [1, 2] }];
            let like: Tensor<2> = Tensor::zeros([1, 2], &Device::flex());
            let rows = whole.batches.closed.iter().map(|batch| batch.row(&seats, &like).expect("the seat"));
            rows.map(|row| row.to_data().iter::<f64>().next().expect("two")).collect::<Vec<f64>>()
        };
        // 2, 5 and 7 with the weights 1, 1 and 1/3, whose mean is 4.
        near(first(&mut summed), vec![-2.0, 1.0, 3f64.sqrt()]);
        near(first(&mut meant), vec![-2.0, 1.0, 3f64.sqrt()]);
    }

    #[test]
    fn a_record_of_rows_that_do_not_fit_is_refused() {
        let mut whole = Whole::default();
        enter(&mut whole, 0, 1.0);
        enter(&mut whole, 3, 2.0);
        whole.settle();
        let restore = |rows| Whole::restore(rows, &Device::flex()).map(|whole| whole.save().len());
        let saved = whole.save();
        assert_eq!(restore(saved.clone()), Ok(1));
        let change = |change: &dyn Fn(&mut SavedRow)| {
            let mut rows = saved.clone();
            change(&mut rows[0].0);
            restore(rows)
        };
        assert!(change(&|row| row.seats[0].matrix = [1, 3]).is_err());
        assert!(change(&|row| row.seats[0].matrix = [2, usize::MAX]).is_err());
        assert!(change(&|row| row.seats.swap(0, 1)).is_err());
        assert!(change(&|row| row.seats[1].slot = row.seats[0].slot).is_err());
        assert!(change(&|row| row.kind = Kind::Gradient).is_err());
    }
}
