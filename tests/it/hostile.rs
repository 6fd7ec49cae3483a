//! Numbers that no training should see, at any pass, in any tensor, in both phases.
//!
//! What holds: nothing panics; until the swap every parameter is that of Burn's own Adam bit for bit, which a gradient
//! that is no number poisons for good; in the convex phase no parameter shown becomes infinite or no number that was
//! not when it began; an event tells of every such number that was used; and training goes on. A number that is finite
//! and wrong is believed.

use burn::data::dataloader::DataLoader;
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Tensor, TensorData};
use burn::train::{RegressionOutput, TrainOutput, TrainStep};
use burn_convexity::{ConvexitySwitching, EventKind, Phase};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use crate::cases::for_each;
use crate::support::{Batch, Net, all, config, count, directions, loader, swap_at, values};

const DENORMAL: f32 = 1e-40;

const NUMBERS: [f32; 9] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e38, -1e38, f32::MAX, DENORMAL, 0.0, -1e18];

/// Where a number goes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    /// One element of the gradient of one of the four tensors.
    Element(usize),
    /// The whole gradient of one tensor.
    Tensor(usize),
    /// Every gradient.
    Gradient,
    /// The loss shown; its gradients stay what they are.
    Loss,
    /// The targets of the batch.
    Targets,
}

#[derive(Clone, Copy, Debug)]
struct Poison {
    pass: usize,
    place: Place,
    number: f32,
}

/// Puts a number into gradients.
struct Put<'a> {
    grads: &'a mut GradientsParams,
    place: Place,
    number: f32,
    visited: usize,
}

impl ModuleVisitor for Put<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let here = self.visited;
        self.visited += 1;
        let whole = match self.place {
            Place::Element(tensor) if tensor == here => false,
            Place::Tensor(tensor) if tensor == here => true,
            Place::Gradient => true,
            _ => return,
        };
        let Some(grad) = self.grads.remove::<D>(param.id) else { return };
        let mut data: Vec<f32> = grad.to_data().iter().collect();
        let changed = if whole { data.len() } else { 1 };
        data[..changed].fill(self.number);
        let changed = Tensor::<D>::from_data(TensorData::new(data, grad.shape()), &grad.device());
        self.grads.register(param.id, changed);
    }
}

/// What is served at a pass: the batch, and the poisons of that pass.
#[derive(Clone, Debug)]
struct Served {
    batch: Batch,
    poisons: Vec<Poison>,
}

impl Served {
    fn at(poisons: &[Poison], pass: usize, mut batch: Batch) -> Self {
        let poisons: Vec<_> = poisons.iter().filter(|poison| poison.pass == pass).copied().collect();
        for poison in poisons.iter().filter(|poison| poison.place == Place::Targets) {
            batch.y = batch.y.mul_scalar(0.0).add_scalar(poison.number);
        }
        Self { batch, poisons }
    }

    fn loss_and_gradients(&self, net: &Net) -> (Tensor<1>, GradientsParams) {
        let loss = net.loss(&self.batch);
        let mut grads = GradientsParams::from_grads(loss.backward(), net);
        let mut loss = loss;
        for &Poison { place, number, .. } in &self.poisons {
            net.visit(&mut Put { grads: &mut grads, place, number, visited: 0 });
            if place == Place::Loss {
                loss = loss.mul_scalar(0.0).add_scalar(number);
            }
        }
        (loss, grads)
    }
}

#[derive(Module, Debug)]
struct Victim {
    net: Net,
}

impl TrainStep for Victim {
    type Input = Served;
    type Output = RegressionOutput;

    fn step(&self, served: Served) -> TrainOutput<RegressionOutput> {
        let (loss, grads) = served.loss_and_gradients(&self.net);
        let Batch { x, y } = served.batch;
        TrainOutput { grads, item: RegressionOutput::new(loss, x, y) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    OwnLoop,
    Plain,
    Track,
    Attach,
    AttachAndTrack,
}

impl Mode {
    /// Whether the model is never shown at a trial point and no batch is spare.
    fn is_exact(self) -> bool {
        matches!(self, Self::OwnLoop | Self::Attach | Self::AttachAndTrack)
    }

    fn shows_loss(self) -> bool {
        self.is_exact()
    }
}

/// A pass, or a call of an own loop.
#[derive(Clone, Debug)]
struct Moment {
    before: Phase,
    after: Phase,
    /// Passes begun, that is where poisons are counted.
    passes: usize,
    values: Vec<f32>,
}

fn finite(values: &[f32]) -> bool {
    values.iter().all(|x| x.is_finite())
}

#[derive(Clone, Debug)]
struct Case {
    mode: Mode,
    json: Value,
    poisons: Vec<Poison>,
}

struct Run {
    switching: ConvexitySwitching,
    moments: Vec<Moment>,
}

const EPOCHS: usize = 14;
const SEED: u64 = 1;

/// Burn's Adam beside the run, fed alike until the swap.
struct Twin {
    net: Net,
    adam: ModuleOptimizer,
}

impl Twin {
    fn new() -> Self {
        Self { net: Net::new(4, SEED), adam: AdamConfig::new().init() }
    }

    /// Follow a pass and compare; over once there was a swap.
    fn follow(&mut self, switching: &ConvexitySwitching, served: &Served, values: &[f32]) {
        if count(switching, |kind| matches!(kind, EventKind::Swap { .. })) > 0 {
            return;
        }
        let (_, grads) = served.loss_and_gradients(&self.net);
        self.net = self.adam.step(1e-2, self.net.clone(), grads);
        let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(values), bits(&self.net.values()), "not Adam's step");
    }
}

fn run(case: &Case, poisons: &[Poison]) -> Run {
    let switching = config(case.json.clone()).init().expect("valid");
    let moments = match case.mode {
        Mode::OwnLoop => own_loop(&switching, poisons),
        _ => passes(&switching, case.mode, poisons),
    };
    Run { switching, moments }
}

fn own_loop(switching: &ConvexitySwitching, poisons: &[Poison]) -> Vec<Moment> {
    let (mut net, mut moments, mut pass) = (Net::new(4, SEED), Vec::new(), 0);
    let mut twin = Twin::new();
    while pass < 4 * EPOCHS {
        let before = switching.phase();
        let mut served = None;
        (net, _) = switching.step_with(1e-2, net, |net| {
            let now = Served::at(poisons, pass, all(60));
            pass += 1;
            let result = now.loss_and_gradients(net);
            served = Some(now);
            result
        });
        if before == Phase::NonConvex && switching.phase() == Phase::NonConvex {
            twin.follow(switching, served.as_ref().expect("a call"), &net.values());
        }
        moments.push(Moment { before, after: switching.phase(), passes: pass, values: net.values() });
    }
    moments
}

/// A model, bare or wrapped.
#[allow(clippy::large_enum_variant)]
enum Model {
    Bare(Net),
    Wrapped(burn_convexity::Attached<Victim>),
}

impl Model {
    fn values(&self) -> Vec<f32> {
        match self {
            Self::Bare(net) => net.values(),
            Self::Wrapped(wrapped) => values(wrapped.inner()),
        }
    }

    fn step(self, optim: &mut ModuleOptimizer, served: Served) -> Self {
        match self {
            Self::Bare(net) => {
                let (_, grads) = served.loss_and_gradients(&net);
                Self::Bare(optim.step(1e-2, net, grads))
            }
            Self::Wrapped(wrapped) => {
                let output = TrainStep::step(&wrapped, served);
                Self::Wrapped(TrainStep::optimize(wrapped, optim, 1e-2.into(), output.grads))
            }
        }
    }
}

fn passes(switching: &ConvexitySwitching, mode: Mode, poisons: &[Poison]) -> Vec<Moment> {
    let plain = loader(60, 16);
    let train: std::sync::Arc<dyn DataLoader<Batch>> = match mode {
        // So that four batches are left for an evaluation, of whose gradients the metric is made.
        Mode::Track => switching.track(loader(60, 12)),
        Mode::AttachAndTrack => switching.track(plain),
        _ => plain,
    };
    let net = Net::new(4, SEED);
    let mut model = match mode {
        Mode::Attach | Mode::AttachAndTrack => Model::Wrapped(switching.attach(Victim { net })),
        _ => Model::Bare(net),
    };
    let mut optim: ModuleOptimizer = switching.clone().into();
    let (mut moments, mut twin, mut pass) = (Vec::new(), Twin::new(), 0);
    for _ in 0..EPOCHS {
        for batch in train.iter() {
            let before = switching.phase();
            let served = Served::at(poisons, pass, batch.expect("a batch"));
            pass += 1;
            model = model.step(&mut optim, served.clone());
            let values = model.values();
            if before == Phase::NonConvex {
                twin.follow(switching, &served, &values);
            }
            moments.push(Moment { before, after: switching.phase(), passes: pass, values });
        }
    }
    moments
}

fn no_parameter_of_the_convex_phase_becomes_infinite_or_no_number(case: &Case, run: &Run) {
    for pair in run.moments.windows(2) {
        let [was, is] = pair else { unreachable!("windows of two") };
        let convex = is.before == Phase::Convex && (is.after == Phase::Convex || case.mode.is_exact());
        assert!(!convex || !finite(&was.values) || finite(&is.values), "{is:?} {:?}", run.switching.events());
    }
}

/// A number that is infinite or none, or whose square is.
fn is_told(poison: &Poison) -> bool {
    match poison.place {
        Place::Loss => !poison.number.is_finite(),
        _ => !(poison.number * poison.number).is_finite(),
    }
}

fn an_event_tells_of_it(case: &Case, run: &Run) {
    let told = count(&run.switching, |kind| matches!(kind, EventKind::NonFinite { .. }));
    // Windows and evaluations that the end of the run leaves open are not judged.
    let judged = |poison: &&Poison| poison.pass < 4 * (EPOCHS - 2);
    // Adam's second moment may be infinite, whose metric is 0 and hides what is finite yet.
    let poisons = case.poisons.iter().filter(judged).filter(|poison| is_told(poison));
    let wild = poisons.filter(|poison| !poison.number.is_finite()).count();
    let many = if case.mode == Mode::OwnLoop { wild } else { wild.min(1) };
    if case.mode.is_exact() {
        assert!(told >= many, "{told} of {many}: {:?}", run.switching.events());
    } else if told == 0 && case.poisons.iter().all(is_told) && wild == case.poisons.len() {
        // Spare passes: their gradients are ignored.
        let clean = self::run(case, &[]);
        let end = |run: &Run| run.moments.last().expect("moments").values.clone();
        assert_eq!(end(run), end(&clean), "{:?}", run.switching.events());
    }
}

/// Whether every poison fell into the convex phase, where the inner optimizer does not see it.
fn only_convex(case: &Case, run: &Run) -> bool {
    case.poisons.iter().all(|poison| {
        let moment = run.moments.iter().find(|moment| moment.passes > poison.pass);
        moment.is_some_and(|moment| moment.before == Phase::Convex && moment.after == Phase::Convex)
    })
}

/// Whether the parameters moved on behind the last poison, where only the convex phase saw any; they must, or rest.
fn training_goes_on(case: &Case, run: &Run) -> bool {
    let last = case.poisons.iter().map(|poison| poison.pass).max().unwrap_or(0);
    let moved = run.moments.iter().filter(|moment| moment.passes > last + 1).map(|moment| &moment.values);
    let moved = moved.collect::<Vec<_>>().windows(2).any(|pair| pair[0] != pair[1]);
    if only_convex(case, run) && last + 12 < 4 * EPOCHS {
        let end = &run.moments.last().expect("moments").values;
        assert!(finite(end), "{:?}", run.switching.events());
        // With `attach` the best point may be shown until the end; and where a number that is finite and wrong was
        // believed, the searches may look until the end for what is not there.
        let shows_best = matches!(case.mode, Mode::Attach | Mode::AttachAndTrack);
        let believed = case.poisons.iter().any(|poison| poison.number.is_finite());
        let still = run.switching.has_converged() || shows_best || believed;
        assert!(moved || still, "{:?}", run.switching.events());
        return moved;
    }
    false
}

fn poisons() -> impl Strategy<Value = Vec<Poison>> {
    let tensor = 0..4_usize;
    let place = prop_oneof![
        tensor.clone().prop_map(Place::Element),
        tensor.prop_map(Place::Tensor),
        Just(Place::Gradient),
        Just(Place::Loss),
        Just(Place::Targets),
    ];
    // Mostly behind the swap.
    let pass = prop_oneof![1 => 0..12_usize, 4 => 12..4 * EPOCHS];
    let poison = (pass, place, select(NUMBERS.to_vec()));
    let poisons =
        proptest::collection::vec(poison.prop_map(|(pass, place, number)| Poison { pass, place, number }), 1..4);
    // One a pass: a second could put its number in the place of the first one's.
    poisons.prop_map(|mut poisons| {
        poisons.sort_by_key(|poison| poison.pass);
        poisons.dedup_by_key(|poison| poison.pass);
        poisons
    })
}

fn cases() -> impl Strategy<Value = Case> {
    let modes = vec![Mode::OwnLoop, Mode::Plain, Mode::Track, Mode::Attach, Mode::AttachAndTrack];
    let searches = ["hager_zhang", "strong_wolfe", "golden_section"];
    let method =
        (select(modes), select(directions()), select(searches.to_vec()), select(vec!["auto", "kronecker", "identity"]));
    let settings = (select(vec!["last", "average"]), any::<bool>(), any::<bool>(), poisons());
    (method, settings).prop_map(|((mode, direction, search, metric), (start, check, resort, mut poisons))| {
        let search = if mode.shows_loss() { search } else { "hager_zhang" };
        let window = match mode {
            Mode::Plain | Mode::Attach => json!(4),
            _ => Value::Null,
        };
        for poison in poisons.iter_mut().filter(|_| !mode.shows_loss()) {
            // Nobody sees that loss.
            poison.place = if poison.place == Place::Loss { Place::Gradient } else { poison.place };
        }
        let json = json!({
            "detector": swap_at(3),
            "window": window,
            "direction": direction,
            "line_search": { "kind": search },
            "metric": metric,
            "metric_renewal": 2.0,
            "start": start,
            "evaluation": { "check": check },
            "safe_resort": { "enabled": resort, "hold_off": 2 },
        });
        Case { mode, json, poisons }
    })
}

#[test]
fn numbers_that_are_none_are_told_and_survived_wherever_they_come_from() {
    let (went_on, told) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    for_each(80, cases(), |case| {
        let run = run(&case, &case.poisons);
        no_parameter_of_the_convex_phase_becomes_infinite_or_no_number(&case, &run);
        an_event_tells_of_it(&case, &run);
        went_on.set(went_on.get() + usize::from(training_goes_on(&case, &run)));
        let events = count(&run.switching, |kind| matches!(kind, EventKind::NonFinite { phase: Phase::Convex, .. }));
        told.set(told.get() + usize::from(events > 0));
    });
    println!(
        "moved on behind poisons of the convex phase: {}, told in the convex phase: {}",
        went_on.get(),
        told.get()
    );
    assert!(went_on.get() >= 5 && told.get() >= 20, "{} {}", went_on.get(), told.get());
}
