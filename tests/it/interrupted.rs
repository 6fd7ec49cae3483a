//! Evaluations that end in a panic, as where the device's memory runs out.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::Tensor;
use serde_json::json;

use crate::support::{Net, all, config, device, objective, swap_at, values};

/// A tensor of 64 TiB where the backend answers with a panic; elsewhere the program would be aborted.
fn run_out_of_memory() {
    if std::env::var("BURN_CONVEXITY_DEVICE").is_ok_and(|name| name.starts_with("libtorch")) {
        drop(Tensor::<1>::zeros([1_usize << 44], &device()));
    }
    panic!("out of memory");
}

/// Sixty iterations of a caller that keeps the model and tries again: its bits, everything told, and the panics.
fn train(runs_out: impl Fn(u64) -> bool) -> (Vec<u32>, String, u64) {
    let json = json!({
        "detector": swap_at(4),
        "window": 2,
        "safe_resort": { "stall_gain": 0.5, "stall_cost": 3.0, "hold_off": 1, "max_hold_off": 2 },
    });
    let switching = config(json).init().expect("valid");
    let (mut net, batch) = (Net::new(8, 1), all(60));
    let (mut iterations, mut evaluations, mut panics) = (0, 0, 0);
    while iterations < 60 {
        let stepped = catch_unwind(AssertUnwindSafe(|| {
            switching.step_with(1e-2, net.clone(), |net| {
                evaluations += 1;
                if runs_out(evaluations) {
                    run_out_of_memory();
                }
                objective(&batch)(net)
            })
        }));
        match stepped {
            Ok((next, _)) => (net, iterations) = (next, iterations + 1),
            Err(_) => panics += 1,
        }
    }
    let bits = values(&net).into_iter().map(f32::to_bits).collect();
    (bits, format!("{:?} {:?}", switching.counters(), switching.events()), panics)
}

#[test]
fn an_evaluation_that_runs_out_of_memory_is_made_again_as_if_nothing_had_been() {
    let (bits, told, _) = train(|_| false);
    assert!(told.contains("Swap") && told.contains("HandBack"), "{told}");
    for every in [2, 3, 7] {
        let (again, told_again, panics) = train(|evaluation| evaluation % every == 0);
        assert!(panics > 10, "{panics}");
        assert_eq!(told_again, told, "every {every}th");
        assert_eq!(again, bits, "every {every}th");
    }
}

thread_local! {
    static TOLD: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Keeps for each thread the errors told in it.
struct Kept;

impl log::Log for Kept {
    fn enabled(&self, metadata: &log::Metadata) -> bool {
        metadata.level() == log::Level::Error
    }

    fn log(&self, record: &log::Record) {
        if self.enabled(record.metadata()) {
            TOLD.with_borrow_mut(|told| told.push(record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

#[test]
fn it_is_told_in_which_phase_and_what_to_lower() {
    log::set_logger(&Kept).expect("the only one");
    log::set_max_level(log::LevelFilter::Error);
    let (_, _, panics) = train(|evaluation| evaluation % 5 == 0);
    let told = TOLD.take();
    let of = |phase: &str, lower: &str| {
        let told = told.iter().filter(|told| {
            **told
                == format!(
                    "a panic in an evaluation of the {phase} phase: where the device's memory ran out, lower {lower}; \
                     the optimizer is as it was before the evaluation"
                )
        });
        told.count() as u64
    };
    // 33 parameters of 4 bytes.
    let in_phases = [
        of("non-convex", "the batch size"),
        of(
            "convex",
            "the batch size, `direction.memory`, of which a pair takes 264 bytes, or `direction.batch_gradients`, each of 132",
        ),
    ];
    assert!(in_phases.iter().all(|panics| *panics > 0), "{told:?}");
    assert_eq!(in_phases.iter().sum::<u64>(), panics, "{told:?}");
}
