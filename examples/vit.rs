//! A vision transformer on handwritten digits: Adam, then the convex phase, beside Adam alone at equal cost.
//!
//! `cargo run --release --example vit` needs no network and no GPU; `-- --help` lists the options.

use crate::shared::experiment::{self, Defaults};
use crate::shared::models::ModelKind;
use crate::shared::models::vit::VitConfig;

mod shared;

fn main() {
    experiment::main(Defaults {
        model: ModelKind::VitNomlpWkewq,
        size: VitConfig { layers: 2, heads: 4, width: 32, ..VitConfig::default() },
        epochs: 150,
    });
}
