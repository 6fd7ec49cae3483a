//! Property tests whose cases are the same in every run.

use std::fmt::Debug;
use std::str::FromStr;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestRunner};

fn variable<T: FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// Run a test over drawn cases. `PROPTEST_CASES` raises their number, `PROPTEST_RNG_SEED` draws others.
pub fn for_each<S: Strategy>(cases: u32, strategy: S, test: impl Fn(S::Value))
where
    S::Value: Debug,
{
    let config = Config {
        cases: variable("PROPTEST_CASES").unwrap_or(cases),
        rng_seed: RngSeed::Fixed(variable("PROPTEST_RNG_SEED").unwrap_or(1)),
        failure_persistence: None,
        max_shrink_iters: 64,
        ..Config::default()
    };
    let result = TestRunner::new(config).run(&strategy, |case| {
        test(case);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}
