//! From a device's name on the command line to a Burn device.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;

/// `flex` (pure Rust, on the CPU), `libtorch` (on the CPU), `libtorch-cuda:N` and `cuda:N`, N the
/// number of the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceName {
    Flex,
    LibTorch,
    LibTorchCuda(usize),
    Cuda(usize),
}

/// Why there is no such device.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    #[error("there is no device {0:?}: write flex, libtorch, libtorch-cuda:N or cuda:N, N the number of the GPU")]
    Unknown(String),
    #[error("the device {device} is not compiled in: build with `--features {feature}`{needs}")]
    NotCompiledIn { device: DeviceName, feature: &'static str, needs: &'static str },
}

impl FromStr for DeviceName {
    type Err = DeviceError;

    fn from_str(name: &str) -> Result<Self, DeviceError> {
        let gpu = |kind: fn(usize) -> Self, index: &str| index.parse().ok().map(kind);
        match name.split_once(':') {
            None if name == "flex" => Some(Self::Flex),
            None if name == "libtorch" => Some(Self::LibTorch),
            Some(("libtorch-cuda", index)) => gpu(Self::LibTorchCuda, index),
            Some(("cuda", index)) => gpu(Self::Cuda, index),
            _ => None,
        }
        .ok_or_else(|| DeviceError::Unknown(name.into()))
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Flex => f.write_str("flex"),
            Self::LibTorch => f.write_str("libtorch"),
            Self::LibTorchCuda(index) => write!(f, "libtorch-cuda:{index}"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl DeviceName {
    /// The device, without autodiff.
    ///
    /// # Errors
    /// [`DeviceError::NotCompiledIn`] where this program was built without the device's backend.
    // Burn 0.22 is the last with LibTorch and says so at every constructor.
    #[allow(deprecated)]
    pub fn open(self) -> Result<Device, DeviceError> {
        match self {
            Self::Flex => Ok(Device::flex()),
            #[cfg(feature = "tch")]
            Self::LibTorch => Ok(Device::libtorch()),
            #[cfg(feature = "tch")]
            Self::LibTorchCuda(index) => Ok(Device::libtorch_cuda(index)),
            #[cfg(feature = "cuda")]
            Self::Cuda(index) => Ok(Device::cuda(index)),
            #[cfg(not(feature = "tch"))]
            Self::LibTorch | Self::LibTorchCuda(_) => Err(DeviceError::NotCompiledIn {
                device: self,
                feature: "tch",
                needs: ", which needs libtorch 2.9 (the README says how)",
            }),
            #[cfg(not(feature = "cuda"))]
            Self::Cuda(_) => Err(DeviceError::NotCompiledIn {
                device: self,
                feature: "cuda",
                needs: ", which needs CUDA when it runs",
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_read_back_from_its_name() {
        for name in ["flex", "libtorch", "libtorch-cuda:0", "cuda:3"] {
            assert_eq!(name.parse::<DeviceName>().unwrap().to_string(), name);
        }
        for name in ["", "cpu", "cuda", "cuda:", "cuda:x", "cuda:-1", "libtorch:0", "flex:0"] {
            assert_eq!(name.parse::<DeviceName>(), Err(DeviceError::Unknown(name.into())));
        }
        assert!(DeviceName::Flex.open().is_ok());
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_device_that_is_not_compiled_in_is_refused_with_the_feature_that_brings_it() {
        let message = DeviceName::Cuda(0).open().unwrap_err().to_string();
        assert!(message.contains("cuda:0") && message.contains("--features cuda"), "{message}");
    }
}
