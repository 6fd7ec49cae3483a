//! The configuration as one of Burn's, so that it nests in a user's own `#[derive(Config)]`.

use std::path::Path;

use burn::config::{Config, ConfigError};

use super::ConvexitySwitchingConfig;

/// [`load`](Config::load) and [`load_binary`](Config::load_binary) check as
/// [`ConvexitySwitchingConfig::load`] does. A configuration nested in another is read by serde alone, and checked when
/// the optimizer is made of it.
impl Config for ConvexitySwitchingConfig {
    fn load<P: AsRef<Path>>(file: P) -> Result<Self, ConfigError> {
        Self::load(file).map_err(|error| match error {
            super::ConfigError::Unreadable { .. } => ConfigError::FileNotFound(error.to_string()),
            _ => ConfigError::InvalidFormat(error.to_string()),
        })
    }

    fn load_binary(data: &[u8]) -> Result<Self, ConfigError> {
        let invalid = |error: &dyn std::fmt::Display| ConfigError::InvalidFormat(error.to_string());
        let text = std::str::from_utf8(data).map_err(|error| invalid(&error))?;
        Self::from_json(text, "configuration").map_err(|error| invalid(&error))
    }
}
