//! See [`burn_convexity::tooling`].

fn main() -> std::process::ExitCode {
    burn_convexity::tooling::run(std::env::args_os())
}
