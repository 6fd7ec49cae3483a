//! The tools from outside: files, the schema, the command and the protocol.

mod command;
mod files;
mod schema;
mod session;

use std::path::PathBuf;

/// A path in this repository.
fn path(relative: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(relative)
}
