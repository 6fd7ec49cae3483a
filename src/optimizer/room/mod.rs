//! The room shared by all tensors of one optimizer: it counts passes, closes windows and evaluations, and decides.
//!
//! Burn shows the optimizer one tensor at a time. Each visit asks [`Room::enter`] what to do in this pass; the pass ends
//! when a tensor comes by a second time, when a tracked loader is asked for the next batch, or when `attach` says so.

use std::sync::mpsc::Sender;
use std::thread::ThreadId;

use burn::tensor::{DType, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Work;
use super::event::{Counters, Event, EventKind, Phase, Report};
use super::gather::Gather;
use super::whole::{Evaluated, Visit, Whole};
use crate::convex::direction::{Direction, Products};
use crate::convex::line_search::LineSearch;
use crate::convex::{Descent, Evaluation, Move, Note, Outcome, SafeResort};
use crate::detector::{Observation, SwapDetector, Verdict};
use crate::error::Refusal;

mod plan;
mod record;

pub(crate) use plan::{Feed, Orders, Plan, Ticket};
pub(crate) use record::Carried;

/// Passes of a window where nothing else tells: no tracked loader and no configured number.
const DEFAULT_WINDOW: u64 = 100;

/// Passes between two iterates of the running average, and the decay it tends to: an iterate counts for some 200 passes.
const AVERAGE_EVERY: u64 = 8;
const AVERAGE_DECAY: f64 = 0.96;

/// Events kept; older ones are dropped, so that memory stays flat in a run without end.
const EVENTS_KEPT: usize = 1_000;

/// The pluggable parts and settings an optimizer was built from.
#[derive(Debug)]
pub(crate) struct Parts {
    pub direction: Box<dyn Direction>,
    pub search: Box<dyn LineSearch>,
    pub window: Option<u64>,
    pub evaluation_batches: Option<u64>,
    pub resort: Option<Resort>,
    /// Whether evaluations are checked for noise at the swap.
    pub check: bool,
    /// Whether the convex phase may start at the running average of the iterates.
    pub average: bool,
    /// Whether the metric is the diagonal of the inner optimizer, unless it is made of the gradients.
    pub diagonal: bool,
    /// Batches of an evaluation that are enough to make the metric of their gradients.
    pub kronecker: Option<u64>,
    /// Cost after which a metric made of gradients is made anew.
    pub metric_renewal: Option<f64>,
    /// Weight of half the squared norm of the parameters in the objective.
    pub l2: f64,
    /// The configuration as it goes into the record, to refuse a record of another one.
    pub config: Value,
}

/// The safe resort with its hold-off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resort {
    pub stall: SafeResort,
    pub hold_off: u64,
    pub max_hold_off: u64,
}

/// Sums over the passes of a window or an evaluation.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Tally {
    passes: u64,
    /// Weight of the first pass; all shares are relative to it, so that equal batches need no product.
    unit: f64,
    /// Sum of the relative weights.
    total: f64,
    /// Relative weight, gradients summed and losses shown of each pass, in the order of `scalars`.
    layout: Vec<(f64, f64, usize, usize)>,
    /// Squared gradient norms, then losses, pass by pass.
    scalars: Gather,
}

/// Everything that goes into the record.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Book {
    layout: u32,
    config: Value,
    phase: Phase,
    /// Whether the model saved beside it is at the accepted point.
    shows_accepted: bool,
    detector: Value,
    descent: Value,
    pass: u64,
    open: bool,
    plan: Plan,
    seen: usize,
    /// Parameters (not tensors) seen in the open or last pass, and the bytes they take.
    elements: usize,
    bytes: usize,
    /// Tensors seen in the last pass of the non-convex phase: the set every evaluation must see.
    tensors: usize,
    slots: Vec<u64>,
    lr: f64,
    tally: Tally,
    /// Scalars of the open pass: squared norms or losses.
    pass_scalars: Gather,
    norms: usize,
    /// Carried out by the vectors and waiting for the tensors: without its coefficients.
    next: Option<Move>,
    events: Vec<Event>,
    counters: Counters,
    windows: u64,
    /// Passes of the non-convex phase since it began, for the running average.
    averaged: u64,
    /// The largest norm of a window of the non-convex phase, and of the points where convex phases began.
    peak: f64,
    /// The loss at an accepted point of an earlier convex phase that nothing has reached since.
    left: Option<f64>,
    /// The penalty's part of the objective when it was last evaluated, and at the accepted point.
    penalty: f64,
    accepted_penalty: f64,
    gradient_norm: Option<f64>,
    step_length: Option<f64>,
    /// The detector's abstention has been told.
    abstained: bool,
    /// And in this convex phase that training flags are off.
    flags_told: bool,
    hold_off: u64,
    swap_from: u64,
    /// Parameters came by of which nobody knows in which pass: every evaluation would be of two points.
    #[serde(default)]
    late: bool,
    refusal: Option<Refusal>,
}

/// What a metric shows at one iteration.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Snapshot {
    pub phase: Phase,
    pub gradient_norm: Option<f64>,
    pub step_length: Option<f64>,
    pub cost: f64,
}

#[derive(Debug)]
pub(crate) struct Room {
    parts: Parts,
    detector: Box<dyn SwapDetector>,
    descent: Option<Descent>,
    book: Book,
    whole: Whole,
    pub feed: Feed,
    thread: Option<ThreadId>,
    /// Records read so far.
    records: u64,
    /// The slot of the tensor that came first in the last pass: in the next it meets the record before all others.
    first: usize,
    snapshots: Vec<Sender<Snapshot>>,
    reports: Vec<Sender<Report>>,
}

impl Room {
    pub fn new(parts: Parts, detector: Box<dyn SwapDetector>) -> Self {
        let book = Book {
            layout: record::LAYOUT,
            config: parts.config.clone(),
            phase: Phase::NonConvex,
            shows_accepted: false,
            detector: Value::Null,
            descent: Value::Null,
            pass: 0,
            open: false,
            plan: Plan::Inner { share: 1.0, close: false, average: None },
            seen: 0,
            elements: 0,
            bytes: 0,
            tensors: 0,
            slots: Vec::new(),
            lr: 0.0,
            tally: Tally::default(),
            pass_scalars: Gather::default(),
            norms: 0,
            next: None,
            events: Vec::new(),
            counters: Counters::default(),
            windows: 0,
            averaged: 0,
            peak: 0.0,
            left: None,
            penalty: 0.0,
            accepted_penalty: 0.0,
            gradient_norm: None,
            step_length: None,
            abstained: false,
            flags_told: false,
            hold_off: parts.resort.map_or(0, |resort| resort.hold_off),
            swap_from: 0,
            late: false,
            refusal: None,
        };
        Self {
            parts,
            detector,
            descent: None,
            book,
            whole: Whole::default(),
            feed: Feed::default(),
            thread: None,
            records: 0,
            first: 0,
            snapshots: Vec::new(),
            reports: Vec::new(),
        }
    }

    // ---- what the world asks ----

    pub fn phase(&self) -> Phase {
        self.book.phase
    }

    pub fn events(&self) -> &[Event] {
        &self.book.events
    }

    pub fn counters(&self) -> Counters {
        self.book.counters
    }

    pub fn refusal(&self) -> Option<&Refusal> {
        self.book.refusal.as_ref()
    }

    /// The step length at which the parameters stand away from the accepted point.
    pub fn trial_step(&self) -> f64 {
        self.descent.as_ref().map_or(0.0, Descent::step)
    }

    /// Whether the parameters go back from a running average that was worse, and the point shown stays.
    pub fn returns(&self) -> bool {
        self.descent.as_ref().is_some_and(Descent::is_returning)
    }

    /// Whether the coming passes are the convex phase's, so far as is known.
    pub fn stays_convex(&self) -> bool {
        let leaves = self.book.next.as_ref().is_some_and(|next| matches!(next.outcome, Outcome::HandBack { .. }));
        self.book.phase == Phase::Convex && !leaves
    }

    /// Whether the convex phase has converged and the parameters stand still.
    pub fn rests(&self) -> bool {
        self.descent.as_ref().is_some_and(Descent::is_resting)
    }

    /// The loss at the accepted point: of the convex phase, or of the one it left behind and is still the best.
    pub fn accepted_loss(&self) -> Option<f64> {
        let base = self.descent.as_ref().and_then(Descent::base_value);
        self.book.left.map_or(base, |left| Some(base.map_or(left, |base| base.min(left))))
    }

    /// Whether an accepted point left behind is still the one to be shown.
    pub fn shows_left(&self) -> bool {
        self.book.left.is_some()
    }

    /// Plan a pass that goes to the trial point.
    pub fn go_to_trial(&mut self) {
        self.go(Move { step: self.trial_step(), ..Move::default() }, Evaluated::default());
    }

    /// Have the vectors carry out a move from the point where the objective's gradient is `evaluated`, and the tensors go
    /// there in the next pass.
    fn go(&mut self, next: Move, evaluated: Evaluated) {
        self.whole.apply(&next, evaluated);
        self.book.next = Some(Move { direction: None, ..next });
    }

    /// The point left behind has been passed.
    fn release(&mut self, loss: Option<f64>) {
        if loss.is_some_and(|loss| self.book.left.is_some_and(|left| loss < left)) {
            self.book.left = None;
        }
    }

    /// Whether the next evaluation must bring a gradient.
    pub fn wants_gradient(&self) -> bool {
        self.parts.l2 > 0.0 || self.descent.as_ref().is_none_or(Descent::wants_gradient)
    }

    /// A forward-only evaluation of an own loop: a third of the cost of one with gradient.
    pub fn observe_value(&mut self, value: f64) {
        let Some(descent) = self.descent.as_mut() else {
            return;
        };
        self.book.counters.loss_evaluations += 1;
        self.book.counters.cost += 1.0 / 3.0;
        let mut notes = Vec::new();
        let next = descent.observe_value(value, &mut notes);
        notes.into_iter().for_each(|note| self.note(note));
        self.go(next, Evaluated::default());
    }

    /// The move that waits for the next pass.
    pub fn pending(&self) -> Option<Move> {
        self.book.next.clone()
    }

    pub fn watch_snapshots(&mut self, sender: Sender<Snapshot>) {
        self.snapshots.push(sender);
    }

    pub fn watch_reports(&mut self, sender: Sender<Report>) {
        self.reports.push(sender);
    }

    /// Show the metrics one iteration, as it is before its pass.
    pub fn snapshot(&mut self, cost: f64) {
        let snapshot = Snapshot {
            phase: self.book.phase,
            gradient_norm: self.book.gradient_norm,
            step_length: self.book.step_length,
            cost: self.book.counters.cost + cost,
        };
        self.snapshots.retain(|sender| sender.send(snapshot).is_ok());
    }

    pub fn event(&mut self, kind: EventKind) {
        let event =
            Event { pass: self.book.counters.passes, window: self.book.windows, cost: self.book.counters.cost, kind };
        match &event.kind {
            EventKind::Refused { refusal } => log::error!("the convex phase is refused: {refusal}"),
            EventKind::NonFinite { .. } | EventKind::DefaultWindow { .. } => log::warn!("{event:?}"),
            _ => log::info!("{event:?}"),
        }
        if self.book.events.len() == EVENTS_KEPT {
            self.book.events.remove(0);
        }
        self.book.events.push(event);
    }

    /// Bytes of a vector the size of the parameters.
    fn vector_bytes(&self) -> usize {
        match self.whole.bytes() {
            0 => self.book.bytes,
            bytes => bytes,
        }
    }

    /// What to do about a panic in the middle of some work.
    pub fn interruption(&self, work: &Work) -> String {
        let phase = self.book.phase;
        let (work, after) = match work {
            Work::Evaluation => ("an evaluation", "the optimizer is as it was before the evaluation"),
            Work::Step => ("the step of a parameter", "go on from the last record"),
        };
        let vectors = match (phase, self.vector_bytes()) {
            (Phase::NonConvex, _) => String::new(),
            (Phase::Convex, vector) => format!(
                ", `direction.memory`, of which a pair takes {} bytes, or `direction.batch_gradients`, each of {vector}",
                2 * vector
            ),
        };
        let metric = match self.makes_metric() || self.whole.has_kronecker() {
            true => ", or take the `metric` `inner`: that of the gradients has two matrices for each parameter",
            false => "",
        };
        format!(
            "a panic in {work} of the {phase} phase: where the device's memory ran out, lower the batch size{vectors}{metric}; \
             {after}"
        )
    }

    /// The convex phase cannot begin, or not go on; in the non-convex phase this matters only once a swap is due.
    pub fn obstruct(&mut self, refusal: Refusal) {
        match self.book.phase {
            Phase::NonConvex => drop(self.feed.obstacle.get_or_insert(refusal)),
            Phase::Convex => self.refuse(refusal),
        }
    }

    /// Refuse the convex phase for good; training goes on with the inner optimizer.
    pub fn refuse(&mut self, refusal: Refusal) {
        if self.book.refusal.is_some() {
            return;
        }
        let reason = refusal.to_string();
        self.whole.forget_average();
        self.book.refusal = Some(refusal.clone());
        self.event(EventKind::Refused { refusal });
        if self.book.phase == Phase::Convex {
            self.leave(reason);
        }
    }

    /// The refusal, the first time it is asked for.
    pub fn refusal_untold(&mut self) -> Option<Refusal> {
        let told = self.feed.refusal_told;
        self.feed.refusal_told = self.book.refusal.is_some();
        self.book.refusal.clone().filter(|_| !told)
    }

    /// A tracked loader hands out a batch.
    pub fn draw(&mut self, items: usize, last: bool, epoch_items: usize) {
        let feed = &mut self.feed;
        feed.items += items;
        feed.last |= last;
        feed.epoch_items = epoch_items;
        if !feed.attached {
            feed.batches += 1;
            self.snapshot(self.pass_cost());
        }
    }

    /// A batch's loss, from the wrapped model.
    pub fn show_loss(&mut self, loss: Tensor<1>) {
        self.feed.batches += 1;
        self.feed.losses.push(loss);
        self.snapshot(self.pass_cost());
    }

    /// Tell once in every convex phase that training flags are off, where any was on.
    pub fn tell_flags(&mut self, count: impl FnOnce() -> usize) {
        if !std::mem::replace(&mut self.book.flags_told, true) {
            let modules = count();
            if modules > 0 {
                self.event(EventKind::TrainingFlagsOff { modules });
            }
        }
    }

    // ---- passes ----

    /// A tensor comes by: what it does in this pass.
    pub fn enter(&mut self, ticket: &mut Ticket, lr: f64, dtype: DType, elements: usize) -> Orders {
        if ticket.records != self.records {
            *ticket = self.blank_ticket();
        }
        if self.book.open && ticket.slot.is_some() && ticket.pass == self.book.pass {
            self.finish_pass();
        } else if self.is_late(ticket) {
            self.book.late = true;
            if self.book.phase == Phase::Convex {
                self.refuse(Refusal::LateParameter);
            }
        }
        if !self.book.open {
            self.begin_pass(lr);
        }
        if !matches!(dtype, DType::F32 | DType::F64) {
            self.obstruct(Refusal::Precision { dtype: format!("{dtype:?}") });
        }
        let here = std::thread::current().id();
        let slot = *ticket.slot.get_or_insert(self.book.slots.len());
        if slot >= self.book.slots.len() {
            self.book.slots.resize(slot + 1, 0);
        } else if self.book.slots[slot] != ticket.pass {
            self.refuse(Refusal::SecondStepper);
        }
        // An own loop's steps are one after the other, on whatever thread.
        if !self.feed.own && self.thread.is_some_and(|thread| thread != here) {
            self.refuse(Refusal::SecondStepper);
        }
        self.thread = Some(here);
        if self.book.seen == 0 {
            self.first = slot;
        }
        ticket.pass = self.book.pass;
        self.book.slots[slot] = self.book.pass;
        self.book.seen += 1;
        self.book.elements += elements;
        self.book.bytes += elements * dtype.size();
        self.whole.check(slot, elements);
        let (plan, l2) = (self.book.plan.clone(), self.parts.l2);
        let enters = matches!(plan, Plan::Collect { close: true, .. }) && self.whole.enters();
        let awaited = self.whole.awaited(slot);
        if awaited.is_some() && matches!(plan, Plan::Collect { .. }) && self.book.next.is_none() {
            // Its gradient is of another point than the one it goes to.
            self.leave("a parameter that sat out the end of the phase before has come by again".into());
        }
        Orders {
            slot,
            l2,
            parameters: enters || (l2 > 0.0 && matches!(plan, Plan::Inner { close: true, .. })),
            root: self.parts.diagonal && (enters || self.whole.wants_roots()),
            moments: self.makes_metric(),
            awaited,
            plan,
            keep: self.book.left.is_some(),
        }
    }

    /// Whether the metric is made of the gradients of the evaluation under way.
    fn makes_metric(&self) -> bool {
        let batches = match self.parts.evaluation_batches {
            _ if self.feed.own => Some(1),
            None if !self.feed.tracked => Some(self.parts.window.unwrap_or(DEFAULT_WINDOW)),
            configured => configured,
        };
        // How many a tracked loader has is known at its end.
        let enough = |fewest| batches.is_none_or(|batches| batches >= fewest);
        self.parts.kronecker.is_some_and(enough) && self.descent.as_ref().is_some_and(Descent::makes_metric)
    }

    /// How many batch gradients are kept of the evaluations up to the one under way.
    fn batch_gradients(&self) -> usize {
        match &self.descent {
            Some(descent) if self.makes_metric() || self.whole.has_kronecker() => descent.batch_gradients(),
            _ => 0,
        }
    }

    /// What a tensor has to give in this pass.
    pub fn bring(&mut self, visit: Visit) {
        self.whole.bring(visit);
        // The last of them, as far as the pass before can tell: its gradients are not kept for longer.
        if self.book.seen == self.book.tensors {
            self.take_up();
        }
    }

    /// The root of a tensor's metric, where it was asked for.
    pub fn bring_root(&mut self, slot: usize, root: Option<Tensor<2>>) {
        self.whole.bring_root(slot, root);
    }

    /// Where a tensor goes in a pass that carries out a move.
    pub fn point(&mut self, slot: usize, step: f64, root: Option<&Tensor<2>>) -> Option<Tensor<2>> {
        self.whole.point(slot, step, root)
    }

    /// Add up what was brought in the open pass.
    fn take_up(&mut self) {
        let (share, decay) = match self.book.plan {
            Plan::Inner { share, average, .. } => (share, average.unwrap_or(0.0)),
            Plan::Collect { share, .. } => (share, 0.0),
            Plan::Apply(_) => return,
        };
        let summed = self.book.tally.layout.last().map_or(1.0, |&(_, summed, ..)| summed);
        let watched = self.book.phase == Phase::NonConvex;
        let norms = self.whole.take_up(share, summed, decay, self.batch_gradients(), watched);
        if self.book.refusal.is_some() {
            self.whole.forget_average();
        }
        self.book.norms += norms.len();
        norms.into_iter().for_each(|norm| self.book.pass_scalars.push(norm));
    }

    /// Whether a tensor comes by that was not in the last pass, where the open one is complete and may have ended.
    fn is_late(&self, ticket: &Ticket) -> bool {
        let copied = ticket.slot.is_some_and(|slot| self.book.slots.get(slot) != Some(&ticket.pass));
        let elsewhere = self.thread.is_some_and(|thread| thread != std::thread::current().id());
        let complete = self.book.open && self.book.pass > 1 && self.book.seen >= self.book.tensors;
        complete && ticket.pass + 1 < self.book.pass && self.is_plain() && !(copied || elsewhere)
    }

    /// Whether nobody tells where a pass ends.
    fn is_plain(&self) -> bool {
        !(self.feed.tracked || self.feed.attached || self.feed.own)
    }

    /// Whether a record was read.
    pub fn has_read(&self) -> bool {
        self.records > 0
    }

    /// The ticket of a tensor that has not been seen.
    pub fn blank_ticket(&self) -> Ticket {
        Ticket { records: self.records, ..Ticket::default() }
    }

    /// A ticket from the record just read.
    pub fn honour(&self, ticket: &mut Ticket) {
        ticket.records = self.records;
    }

    /// The ticket as it goes into a record, and whether its tensor carries the room.
    pub fn saved_ticket(&self, ticket: Ticket) -> (Ticket, bool) {
        match ticket.records == self.records {
            true => (ticket, ticket.slot == Some(self.first)),
            false => (Ticket::default(), false),
        }
    }

    /// Whether the open pass is the last of its window or evaluation.
    fn closes(&self, configured: Option<u64>) -> bool {
        let passes = self.book.tally.passes;
        match configured {
            Some(count) => passes >= count,
            None if self.feed.own => true,
            None if self.feed.tracked => self.feed.last,
            None => passes >= self.parts.window.unwrap_or(DEFAULT_WINDOW),
        }
    }

    fn begin_pass(&mut self, lr: f64) {
        let feed = &self.feed;
        if !feed.tracked && !feed.own && self.parts.window.is_none() && self.book.pass == 0 {
            self.event(EventKind::DefaultWindow { passes: DEFAULT_WINDOW });
        }
        self.book.open = true;
        self.book.pass += 1;
        self.book.seen = 0;
        (self.book.elements, self.book.bytes) = (0, 0);
        // In the convex phase it means nothing.
        if self.book.phase == Phase::NonConvex {
            self.book.lr = lr;
        }
        // In the convex phase always: only now is it known which loader serves it.
        self.feed.asked = std::mem::take(&mut self.feed.reveal);
        let reveal = self.feed.asked && (self.feed.own || self.book.phase == Phase::Convex || self.book.left.is_some());
        self.feed.revealed = reveal;
        let spends_batch = if reveal {
            // Behind an accepted point left behind the base point comes first; `drive` goes on to the trial point.
            let step = if self.book.left.is_some() { 0.0 } else { self.trial_step() };
            let next = Move { step, ..Move::default() };
            self.whole.apply(&next, Evaluated::default());
            self.book.plan = Plan::Apply(next);
            // An own loop has no epoch.
            self.feed.restarts += u64::from(!self.feed.own);
            false
        } else if let Some(next) = self.book.next.take() {
            self.book.plan = Plan::Apply(next);
            !self.feed.attached && !self.feed.own
        } else {
            self.begin_tally();
            true
        };
        if spends_batch {
            self.book.counters.passes += 1;
            self.book.counters.cost += self.pass_cost();
        }
        if !self.feed.attached && !self.feed.tracked {
            self.snapshot(0.0);
        }
    }

    /// The cost of the coming pass.
    pub fn pass_cost(&self) -> f64 {
        let feed = &self.feed;
        if feed.own && self.book.phase == Phase::Convex {
            1.0
        } else if feed.own {
            1.0 / self.parts.window.unwrap_or(1) as f64
        } else if feed.tracked && feed.epoch_items > 0 {
            feed.items as f64 / feed.epoch_items as f64
        } else {
            1.0 / self.parts.window.unwrap_or(DEFAULT_WINDOW) as f64
        }
    }

    /// Add the coming pass to the window or evaluation and plan it.
    fn begin_tally(&mut self) {
        let feed = &self.feed;
        let weight = if feed.tracked { feed.items.max(1) as f64 } else { 1.0 };
        // Gradients accumulated over several batches arrive as their sum.
        let summed = feed.batches.max(1) as f64;
        let batches = self.batch_gradients();
        let tally = &mut self.book.tally;
        if tally.passes == 0 {
            tally.unit = weight;
            self.whole.begin(batches > 0);
        }
        let relative = weight / tally.unit;
        tally.passes += 1;
        tally.total += relative;
        tally.layout.push((relative, summed, 0, 0));
        let convex = self.book.phase == Phase::Convex;
        let configured = match convex {
            true => self.parts.evaluation_batches.filter(|_| !self.feed.own),
            false => self.parts.window.filter(|_| !self.feed.tracked),
        };
        let close = self.closes(configured);
        let share = relative / summed;
        self.book.plan = match convex {
            true => Plan::Collect { share, close },
            false => Plan::Inner { share, close, average: self.average_decay() },
        };
    }

    /// The decay with which the coming iterate enters the running average; `None` where it does not. It grows from 0, so
    /// that the first iterates are soon forgotten.
    fn average_decay(&mut self) -> Option<f64> {
        if !self.parts.average || self.book.refusal.is_some() {
            return None;
        }
        let passes = self.book.averaged;
        self.book.averaged += 1;
        let taken = (passes / AVERAGE_EVERY) as f64;
        let decay = if passes == 0 { 0.0 } else { AVERAGE_DECAY.min((1.0 + taken) / (10.0 + taken)) };
        passes.is_multiple_of(AVERAGE_EVERY).then_some(decay)
    }

    /// All tensors have been visited: decide what is due. Does nothing where no pass is open.
    pub fn finish_pass(&mut self) {
        if !self.book.open {
            return;
        }
        self.take_up();
        self.book.open = false;
        if self.book.phase == Phase::Convex {
            self.whole.settle();
        }
        if std::mem::take(&mut self.feed.orphans) {
            self.feed.lost = true;
            let reason = "the parameter that carries the optimizer's decisions has no gradient any more".into();
            self.refuse(Refusal::RecordUnreadable { reason });
        }
        let losses = std::mem::take(&mut self.feed.losses);
        if let Some(given) = self.feed.given.take()
            && given != self.book.seen + self.feed.strangers
        {
            self.obstruct(Refusal::OtherOptimizer { given, seen: self.book.seen });
        }
        self.feed.strangers = 0;
        (self.feed.batches, self.feed.items) = (0, 0);
        self.feed.last = false;
        let leaves = matches!(&self.book.plan, Plan::Apply(next) if matches!(next.outcome, Outcome::HandBack { .. }));
        // A move goes by those that no evaluation saw: of a parameter that comes by with a gradient the next one tells.
        let unseen = matches!(self.book.plan, Plan::Apply(_)) && self.book.seen > self.book.tensors;
        match (self.book.phase, self.book.seen, self.book.tensors) {
            (Phase::NonConvex, seen, _) => self.book.tensors = seen,
            (Phase::Convex, seen, before) if seen != before && !unseen && self.book.next.is_none() && !leaves => {
                self.leave(format!("{before} parameters had a gradient at the swap and {seen} have one now"))
            }
            _ => {}
        }
        match self.book.plan.clone() {
            Plan::Apply(applied) => self.applied(&applied),
            Plan::Inner { close, .. } | Plan::Collect { close, .. } => {
                let mut scalars = std::mem::take(&mut self.book.pass_scalars);
                let shown = losses.len();
                losses.into_iter().for_each(|loss| scalars.push(loss));
                let norms = std::mem::take(&mut self.book.norms);
                // Nothing is left to count for where the phase is being left.
                if let Some((_, _, n, l)) = self.book.tally.layout.last_mut() {
                    (*n, *l) = (norms, shown);
                    self.book.tally.scalars.append(scalars);
                }
                if close {
                    self.close();
                }
            }
        }
    }

    /// Read the window or evaluation back, the one synchronisation with the device, and decide.
    fn close(&mut self) {
        let tally = std::mem::take(&mut self.book.tally);
        if self.book.next.is_some() {
            return; // The phase is being left: this evaluation decides nothing any more.
        }
        let closed = match self.book.phase {
            Phase::NonConvex => {
                let [norms, penalties] = self.whole.close_window(tally.total);
                let [products, lengths, grams] = std::array::from_fn(|_| Gather::default());
                Some(([norms, penalties, products, lengths, grams], Evaluated::default()))
            }
            Phase::Convex => {
                let step = self.trial_step();
                let enough = self.parts.kronecker.is_some_and(|fewest| tally.passes >= fewest);
                let moments = self.makes_metric() && enough;
                let loss = tally.layout.iter().all(|(.., losses)| *losses > 0);
                let starts = self.descent.as_ref().is_some_and(|descent| descent.may_start(loss));
                let batches = self.batch_gradients();
                if batches > 0 {
                    self.whole.close_batches(batches);
                }
                self.whole.close_evaluation(tally.total, self.parts.l2, step, moments, self.parts.diagonal, starts)
            }
        };
        let Some(([norms, penalties, products, lengths, grams], evaluated)) = closed else {
            return self.leave("not all parameters of the swap have come by".into());
        };
        let layout = tally.layout;
        let read = Gather::read([tally.scalars, norms, penalties, products, lengths, grams]);
        let [scalars, norms, penalties, products, lengths, grams] = match read {
            Ok(values) => values,
            Err(reason) => {
                return self.refuse(Refusal::Device { phase: self.book.phase.to_string(), reason });
            }
        };
        let (mut batch_norms, mut loss, mut weights) = (0.0, 0.0, 0.0);
        let mut scalars = scalars.into_iter();
        for &(relative, summed, norms, losses) in &layout {
            let squared: f64 = scalars.by_ref().take(norms).sum();
            batch_norms += squared.sqrt() / summed;
            if losses > 0 {
                let mean = scalars.by_ref().take(losses).sum::<f64>() / losses as f64;
                loss += relative * mean;
                weights += relative;
            }
        }
        let norm = norms.iter().sum::<f64>().sqrt();
        self.book.penalty = 0.5 * self.parts.l2 * penalties.iter().fold(0.0, |sum, penalty| sum + penalty);
        let loss = (weights == tally.total && weights > 0.0).then(|| loss / weights + self.book.penalty);
        match self.book.phase {
            Phase::NonConvex => {
                if weights == 0.0 && self.parts.search.needs_value() {
                    self.refuse(Refusal::NoLoss);
                }
                self.close_window(batch_norms / layout.len() as f64, norm, loss);
            }
            Phase::Convex => {
                if !lengths.is_empty() {
                    self.metric_made(lengths.iter().sum::<f64>().sqrt());
                }
                let (parts, batches) = (self.whole.parts(), self.whole.batches());
                let gram = sum_contributions(&grams, parts);
                let products = sum_contributions(&products, parts);
                let mut products = to_products(&products, batches);
                if !(products.is_finite() && loss.is_none_or(f64::is_finite)) {
                    self.whole.discard_batches();
                }
                if gram.iter().any(|product| !product.is_finite()) {
                    // Of one that is no number or too large nothing good comes.
                    self.whole.forget_batches();
                    products.batches.clear();
                } else if let (Some(descent), false) = (&mut self.descent, gram.is_empty()) {
                    let rows = gram.chunks_exact(batches.max(1)).map(<[f64]>::to_vec);
                    descent.set_batch_gradients(&rows.collect::<Vec<_>>());
                }
                self.close_evaluation(products, norm, loss, evaluated);
            }
        }
    }

    fn observation(&self, batch_norm: f64, mean_norm: f64, loss: Option<f64>) -> Observation {
        Observation {
            window: self.book.windows,
            passes: self.book.counters.passes,
            cost: self.book.counters.cost,
            batch_norm,
            mean_norm,
            loss,
            learning_rate: self.book.lr,
        }
    }

    fn report(&mut self, observation: Observation, step_length: Option<f64>, accepted: bool) {
        if accepted && self.book.left.is_none() {
            self.book.accepted_penalty = self.book.penalty;
        }
        let report = Report {
            phase: self.book.phase,
            observation,
            step_length,
            accepted,
            accepted_loss: self.accepted_loss(),
            penalty: self.book.penalty,
            accepted_penalty: self.book.accepted_penalty,
        };
        self.reports.retain(|sender| sender.send(report.clone()).is_ok());
    }

    fn close_window(&mut self, batch_norm: f64, mean_norm: f64, loss: Option<f64>) {
        self.book.windows += 1;
        self.book.gradient_norm = Some(batch_norm);
        self.raise_peak(batch_norm);
        self.release(loss);
        let observation = self.observation(batch_norm, mean_norm, loss);
        self.report(observation, None, true);
        if !batch_norm.is_finite() || loss.is_some_and(|loss| !loss.is_finite()) {
            self.event(EventKind::NonFinite { phase: Phase::NonConvex, step: None });
        }
        let verdict = self.detector.observe(&observation);
        if let Verdict::Abstain { reason } = &verdict
            && !std::mem::replace(&mut self.book.abstained, true)
        {
            self.event(EventKind::DetectorAbstains { reason: reason.clone() });
        }
        let (Verdict::Swap { reason }, None) = (verdict, &self.book.refusal) else {
            return;
        };
        if self.book.windows < self.book.swap_from {
            return;
        }
        let late = (self.book.late && self.is_plain()).then_some(Refusal::LateParameter);
        if let Some(obstacle) = self.feed.obstacle.clone().or(late) {
            return self.refuse(obstacle);
        }
        if loss.is_none() && self.parts.search.needs_value() {
            // Shown for a part of this window only: the next one can be complete.
            return;
        }
        let mut descent = self.first_trial(self.new_descent());
        if let Err(limit) = descent.fit(2 * self.book.bytes as u64) {
            return self.refuse(Refusal::Memory(limit));
        }
        self.descent = Some(descent);
        if self.skips_first() {
            self.book.next = Some(Move::default());
        }
        self.book.phase = Phase::Convex;
        self.book.flags_told = false;
        self.event(EventKind::Swap { reason });
    }

    /// Whether a move takes the first batch of an epoch and the evaluation behind it goes over the rest. For all to be of one
    /// function, those with nothing to move are without that batch too.
    fn skips_first(&self) -> bool {
        let feed = &self.feed;
        feed.tracked && !feed.attached && !feed.own && self.parts.evaluation_batches.is_none()
    }

    /// A norm that is no number or too large says nothing.
    fn raise_peak(&mut self, norm: f64) {
        if norm.is_finite() {
            self.book.peak = self.book.peak.max(norm);
        }
    }

    fn new_descent(&self) -> Descent {
        let Parts { direction, search, resort, .. } = &self.parts;
        Descent::new(direction.boxed(), search.boxed(), resort.map(|resort| resort.stall))
            .with_check(self.parts.check)
            .with_average(self.parts.average)
            .with_renewal(self.parts.metric_renewal)
    }

    /// The first trial goes as far as a step of the inner optimizer did: about `lr` in every parameter.
    fn first_trial(&self, descent: Descent) -> Descent {
        match self.parts.diagonal {
            true => descent.with_first_step(self.book.lr),
            false => descent.with_first_length(self.inner_length()),
        }
    }

    /// The same where the metric has just been made of the gradients, and takes the gradient to a way of this length.
    fn metric_made(&mut self, length: f64) {
        let (step, cost) = (self.inner_length() / length, self.book.counters.cost);
        self.descent.iter_mut().for_each(|descent| descent.metric_made(cost));
        // Of a gradient that is zero or no number no step follows, and of one in another metric neither.
        self.descent = self.descent.take().map(|descent| match step.is_finite() && step > 0.0 {
            true => descent.with_first_step(step),
            false => descent.with_first_length(self.inner_length()),
        });
    }

    /// The length of a step of the inner optimizer.
    fn inner_length(&self) -> f64 {
        self.book.lr * (self.book.elements as f64).sqrt()
    }

    fn close_evaluation(&mut self, products: Products, norm: f64, loss: Option<f64>, evaluated: Evaluated) {
        let Some(descent) = self.descent.as_mut() else {
            return;
        };
        let counters = &mut self.book.counters;
        counters.gradient_evaluations += 1;
        counters.loss_evaluations += u64::from(loss.is_some());
        let step = descent.step();
        let (step_length, renews) = (descent.is_searching().then_some(step), descent.is_renewing());
        self.book.gradient_norm = Some(norm);
        let evaluation = Evaluation { loss, products, cost: self.book.counters.cost };
        let mut notes = Vec::new();
        let mut next = descent.observe(&evaluation, &mut notes);
        // The points compared at the start are no climb.
        if next.commit.is_some() && step_length.is_none() && !renews {
            self.raise_peak(norm);
        }
        let peak = self.book.peak;
        if self.parts.resort.is_some() && next.commit.is_some_and(|step| step > 0.0) && norm > peak {
            let reason = format!("the gradient's norm is {norm:.3e} and has climbed above its old peak, {peak:.3e}");
            next = Move { step: 0.0, outcome: Outcome::HandBack { reason }, ..next };
        }
        let leaves = matches!(next.outcome, Outcome::HandBack { .. });
        // Nothing begins anew then.
        notes.retain(|note| !(leaves && matches!(note, Note::Restart(_))));
        notes.into_iter().for_each(|note| self.note(note));
        if self.returns() {
            // The way back brings batch gradients of its own, and all are copied again at its end.
            self.whole.forget_batches();
            self.descent.iter_mut().for_each(|descent| descent.set_batch_gradients(&[]));
        }
        let base = self.descent.as_ref().and_then(Descent::base_value);
        self.release(base);
        let observation = self.observation(norm, norm, loss);
        self.report(observation, step_length, next.commit.is_some() && !self.returns());
        let stays = next.commit.is_none() && next.direction.is_none() && next.step == step && !leaves;
        // Where a pass is a batch, none is spent on going to where the parameters stand.
        let there = next.outcome == Outcome::Renew && !self.feed.attached && !self.feed.own;
        match (stays || there) && !self.skips_first() {
            true => self.whole.apply(&next, evaluated),
            false => self.go(next, evaluated),
        }
    }

    fn note(&mut self, note: Note) {
        match note {
            Note::Iteration { step, .. } => {
                self.book.counters.iterations += 1;
                self.feed.iterated = true;
                self.book.step_length = Some(step);
            }
            Note::Restart(reason) => {
                self.book.counters.restarts += 1;
                self.event(EventKind::Restart { reason });
            }
            Note::NonFinite { step } => self.event(EventKind::NonFinite { phase: Phase::Convex, step: Some(step) }),
            Note::Start { last, average } => self.event(EventKind::Start { last, average }),
            Note::MemoryFull { pairs } => self.event(EventKind::MemoryFull { pairs }),
            Note::Noise { loss, gradient } => self.event(EventKind::Noise { loss, gradient }),
            Note::Converged { reason } => self.event(EventKind::Converged { reason }),
        }
    }

    /// A move has been carried out by all tensors.
    fn applied(&mut self, applied: &Move) {
        if let Outcome::HandBack { reason } = &applied.outcome {
            if self.feed.attached && self.book.left.is_none() {
                self.book.left = self.descent.as_ref().and_then(Descent::base_value);
            }
            self.book.phase = Phase::NonConvex;
            self.book.next = None;
            self.book.averaged = 0;
            self.descent = None;
            let (slots, pass) = (&self.book.slots, self.book.pass);
            self.whole.leave(|slot| slots.get(slot) == Some(&pass));
            self.book.step_length = None;
            self.detector.rearm();
            let hold_off = self.book.hold_off;
            self.book.swap_from = self.book.windows + hold_off + 1;
            let longest = self.parts.resort.map_or(0, |resort| resort.max_hold_off);
            self.book.hold_off = (2 * hold_off).min(longest.max(hold_off));
            self.event(EventKind::HandBack { reason: reason.clone(), hold_off });
        }
    }

    /// Leave the convex phase at the next pass, whatever was under way.
    pub fn leave(&mut self, reason: String) {
        self.book.tally = Tally::default();
        let next = self.descent.as_ref().map_or_else(Move::default, Descent::leave);
        self.go(Move { outcome: Outcome::HandBack { reason }, ..next }, Evaluated::default());
    }
}

/// Sum the rows' contributions, which have one layout.
fn sum_contributions(values: &[f64], rows: usize) -> Vec<f64> {
    let each = values.len() / rows.max(1);
    let mut sum = vec![0.0; each];
    for contribution in values.chunks_exact(each.max(1)) {
        sum.iter_mut().zip(contribution).for_each(|(sum, value)| *sum += value);
    }
    sum
}

/// Read `[gg]`, or the gradient's change `y` and the gradient `g`, each against the direction `d`, `y`, `g`, so many batch gradients
/// and the pairs, and `d` against itself.
fn to_products(sums: &[f64], batches: usize) -> Products {
    if let [gg] = sums {
        return Products { gg: *gg, ..Products::default() };
    }
    let mut each = sums.chunks_exact((sums.len() / 2).max(1));
    let (Some([yd, yy, _, y @ ..]), Some([gd, gy, gg, g @ ..]), [dd]) = (each.next(), each.next(), each.remainder())
    else {
        return Products { gg: f64::NAN, ..Products::default() };
    };
    let rows: Vec<[f64; 2]> = g.iter().zip(y).map(|(g, y)| [*g, *y]).collect();
    let (batches, pairs) = rows.split_at(batches.min(rows.len()));
    Products {
        gg: *gg,
        gy: *gy,
        gd: *gd,
        yy: *yy,
        yd: *yd,
        dd: *dd,
        pairs: pairs.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect(),
        batches: batches.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_read_in_the_order_in_which_they_are_made() {
        // y and g against d, y, g, two batch gradients and two pairs.
        let sums: Vec<f64> = (0..19).map(f64::from).collect();
        let read = to_products(&sums, 2);
        assert_eq!([read.yd, read.yy, read.gd, read.gy, read.gg, read.dd], [0.0, 1.0, 9.0, 10.0, 11.0, 18.0]);
        assert_eq!(read.batches, [[12.0, 3.0], [13.0, 4.0]]);
        assert_eq!(read.pairs, [[[14.0, 5.0], [15.0, 6.0]], [[16.0, 7.0], [17.0, 8.0]]]);
        assert_eq!(to_products(&[3.0], 0), Products { gg: 3.0, ..Products::default() });
        assert!(!to_products(&[], 0).is_finite());
    }
}
