//! One thread trains, others watch.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use burn::optim::{AdamConfig, ModuleOptimizer, SgdConfig};
use burn_convexity::{Attached, ConvexitySwitching, ConvexitySwitchingConfig, SwitchingMetrics, TrackedLoader};
use serde_json::json;

use crate::support::{Batch, Net, all, config, objective, swap_at, values};

fn assert_send_sync<T: Send + Sync>() {}

#[test]
fn the_handle_and_what_it_gives_out_go_between_threads() {
    assert_send_sync::<ConvexitySwitching>();
    assert_send_sync::<ConvexitySwitchingConfig>();
    assert_send_sync::<Attached<Net>>();
    assert_send_sync::<TrackedLoader<Batch>>();
    assert_send_sync::<SwitchingMetrics>();
}

fn start() -> ConvexitySwitching {
    let json = json!({
        "detector": swap_at(4),
        "window": 2,
        "safe_resort": { "stall_gain": 0.9, "stall_cost": 3.0, "hold_off": 1, "max_hold_off": 2 },
    });
    config(json).init().expect("valid")
}

fn train(switching: &ConvexitySwitching, between: impl Fn(u64)) -> (Vec<u32>, String) {
    let (mut net, batch) = (Net::new(8, 1), all(60));
    for iteration in 0..120 {
        between(iteration);
        (net, _) = switching.step_with(1e-2, net, |net| {
            // The closure may ask too.
            let _ = (switching.phase(), switching.counters());
            objective(&batch)(net)
        });
    }
    let bits = values(&net).into_iter().map(f32::to_bits).collect();
    (bits, format!("{:?} {:?}", switching.counters(), switching.events()))
}

#[test]
fn an_own_loop_may_go_from_thread_to_thread() {
    let (unmoved, moved) = (start(), start());
    let whole = train(&unmoved, |_| ());
    let (mut net, batch) = (Net::new(8, 1), all(60));
    for _ in 0..120 {
        let (switching, batch) = (moved.clone(), batch.clone());
        let step = move || switching.step_with(1e-2, net, |net| objective(&batch)(net));
        (net, _) = std::thread::spawn(step).join().expect("no panic");
    }
    let bits: Vec<u32> = values(&net).into_iter().map(f32::to_bits).collect();
    assert_eq!((bits, format!("{:?} {:?}", moved.counters(), moved.events())), whole);
}

/// The control of the test above: where this fails, that does for the same reason, which is Burn's.
#[test]
fn burn_s_own_optimizers_may_go_from_thread_to_thread() {
    let batch = all(60);
    let train = |mut optim: ModuleOptimizer, moves: bool| {
        let mut net = Net::new(8, 1);
        for _ in 0..6 {
            let batch = batch.clone();
            let step = move || {
                let grads = objective(&batch)(&net).1;
                (optim.step(1e-2, net, grads), optim)
            };
            (net, optim) = if moves { std::thread::spawn(step).join().expect("no panic") } else { step() };
        }
        values(&net)
    };
    let optims: [fn() -> ModuleOptimizer; 2] = [|| SgdConfig::new().init(), || AdamConfig::new().init()];
    for optim in optims {
        assert_eq!(train(optim(), true), train(optim(), false));
    }
}

#[test]
fn a_tracked_loader_in_an_own_loop_ends_its_epochs() {
    let switching = start();
    let (train, mut net) = (switching.track(crate::support::loader(60, 16)), Net::new(8, 1));
    for _ in 0..40 {
        let mut batches = 0;
        for batch in burn::data::dataloader::DataLoader::iter(train.as_ref()) {
            let batch = batch.expect("a batch");
            (net, _) = switching.step_with(1e-2, net, |net| objective(&batch)(net));
            batches += 1;
            assert!(batches <= 4);
        }
    }
    assert!(switching.counters().iterations > 0);
}

/// Everything that can be asked, from clones that come and go.
fn watch(switching: &ConvexitySwitching, round: u64) {
    let clone = switching.clone();
    let reports = clone.reports();
    let _ = (clone.phase(), clone.counters(), clone.accepted_loss(), clone.refusal(), clone.has_converged());
    let (events, shown) = (clone.events(), format!("{clone:?}"));
    assert!(events.len() <= 1_000 && shown.contains("phase"));
    if round.is_multiple_of(16) {
        // Waits for the iteration under way, and saves between two.
        drop(clone.to_record());
    }
    if round.is_multiple_of(2) {
        drop(clone);
    }
    assert!(reports.try_iter().all(|report| report.observation.cost >= 0.0));
}

#[test]
fn threads_that_watch_change_nothing_and_block_nothing() {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let (switching, over, rounds) = (start(), Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let watchers: Vec<_> = (0..4)
            .map(|_| {
                let (switching, over, rounds) = (switching.clone(), over.clone(), rounds.clone());
                std::thread::spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        watch(&switching, rounds.fetch_add(1, Ordering::Relaxed));
                        std::thread::yield_now();
                    }
                })
            })
            .collect();
        // No faster than the watchers, however busy the machine.
        let result = train(&switching, |iteration| {
            while rounds.load(Ordering::Relaxed) < iteration / 4 {
                std::thread::yield_now();
            }
        });
        over.store(true, Ordering::Relaxed);
        let panicked = watchers.into_iter().map(std::thread::JoinHandle::join).any(|joined| joined.is_err());
        let _ = sender.send((result, panicked, rounds.load(Ordering::Relaxed)));
    });
    let (watched, panicked, rounds) = receiver.recv_timeout(Duration::from_secs(60)).expect("a deadlock or a panic");
    assert!(!panicked, "a watcher panicked after {rounds} rounds");
    let alone = start();
    assert_eq!(watched, train(&alone, |_| ()));
}

#[test]
fn handles_dropped_while_others_train_leave_the_run_whole() {
    // The optimizer given to Burn keeps what it needs when every handle the program held is gone.
    let mut optim: burn::optim::ModuleOptimizer = start().into();
    let mut net = Net::new(4, 1);
    for _ in 0..60 {
        net = optim.step(1e-2, net.clone(), objective(&all(60))(&net).1);
    }
    let kept = start();
    let mut with_handle: burn::optim::ModuleOptimizer = kept.clone().into();
    let mut other = Net::new(4, 1);
    for _ in 0..60 {
        other = with_handle.step(1e-2, other.clone(), objective(&all(60))(&other).1);
    }
    assert!(kept.counters().iterations >= 1, "{:?}", kept.events());
    assert_eq!(values(&net), values(&other));
}

/// What would wait for itself says so, and the optimizer is as good as before.
#[test]
fn a_closure_that_saves_or_steps_is_told_to_do_so_between_iterations() {
    let (mut net, batch) = (Net::new(8, 1), all(60));
    let switching = start();
    type Inside = fn(&ConvexitySwitching, &Net);
    let inside: [(&str, Inside); 2] = [
        ("to_record", |switching, _| drop(switching.to_record())),
        ("step_with", |switching, net| drop(switching.step_with(1e-2, net.clone(), objective(&all(60))))),
    ];
    for (name, inside) in inside {
        let called = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            switching.step_with(1e-2, net.clone(), |net| {
                inside(&switching, net);
                objective(&batch)(net)
            })
        }));
        let Err(told) = called else { panic!("{name} went through") };
        let told = told.downcast::<String>().expect("a message");
        assert_eq!(
            *told,
            format!(
                "`{name}` was called by the closure of an iteration that is under way: call it between two iterations"
            )
        );
    }
    drop(switching.to_record());
    (net, _) = switching.step_with(1e-2, net, objective(&batch));
    assert!(values(&net).iter().all(|value| value.is_finite()));
}
