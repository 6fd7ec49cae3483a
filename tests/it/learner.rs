//! Through Burn's Learner.

use burn::train::{Learner, SupervisedTraining, metric::LossMetric};
use burn_convexity::Phase;
use serde_json::json;

use crate::support::{Net, config, loader, mean_loss, swap_at};

#[test]
fn one_line_in_a_learner_works() {
    let dir = tempfile::tempdir().expect("a folder");
    let switching = config(json!({ "detector": swap_at(3) })).init().expect("valid");
    let train = switching.track(loader(60, 16));
    let learner = Learner::new(switching.attach(Net::new(8, 1)), switching.clone().into(), 1e-2);
    let result = SupervisedTraining::new(dir.path(), train, loader(60, 60))
        .metrics((LossMetric::new(),))
        .metrics(switching.metrics())
        .with_application_logger(None)
        .num_epochs(20)
        .launch(learner);
    let counters = switching.counters();
    println!("{counters:?} {:#?}", switching.events());
    assert!(result.error.is_none());
    assert_eq!(switching.phase(), Phase::Convex);
    assert_eq!(counters.cost, 20.0);
    assert_eq!(counters.gradient_evaluations, 17);
    let net = result.model.into_inner();
    let loss = mean_loss(&net, 60);
    let accepted = switching.accepted_loss().expect("a loss");
    assert!((loss - accepted).abs() < 1e-6 * accepted.max(1.0), "{loss} {accepted}");
}
