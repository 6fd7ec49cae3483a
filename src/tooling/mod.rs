//! The `burn-convexity` command: schema, starting files, checks, explanations, a language server, and reports of runs. All
//! but the last rests on the rules of [`config`](crate::config).

mod cli;
mod edit;
mod explain;
mod format;
mod init;
mod render;
pub mod report;
mod server;
mod shape;
mod tree;

pub use cli::run;
pub use server::serve;

/// The schema's file name, by which a `$schema` is recognised.
const SCHEMA_FILE: &str = "convexity-switching.schema.json";
/// No configuration is that large; a larger text is left alone.
const MAX_BYTES: usize = 4 << 20;
/// The names of configuration files; `*` stands for anything.
const PATTERNS: [&str; 4] = ["*switching*.json", "*switching*.jsonc", "*.convexity.json", "*.convexity.jsonc"];
