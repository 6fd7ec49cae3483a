//! From a device's name on the command line to a Burn device.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;
#[cfg(feature = "wgpu")]
use burn::tensor::DeviceKind;
#[cfg(any(feature = "tch", feature = "cuda", feature = "wgpu"))]
use burn::tensor::DeviceType;

/// `flex` and `ndarray` (pure Rust, on the CPU), `libtorch` (on the CPU), `libtorch-cuda:N` and `cuda:N`, N the number of
/// the GPU, and `wgpu`, the best GPU that Vulkan, Metal or DirectX finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceName {
    Flex,
    NdArray,
    LibTorch,
    LibTorchCuda(usize),
    Cuda(usize),
    Wgpu,
}

/// Why there is no such device.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    #[error(
        "there is no device {0:?}: write flex, ndarray, libtorch, libtorch-cuda:N, cuda:N or wgpu, N the number of the GPU"
    )]
    Unknown(String),
    #[error("the device {device} is not compiled in: build with `--features {feature}`{needs}")]
    NotCompiledIn { device: DeviceName, feature: &'static str, needs: &'static str },
    #[error("there is no GPU for the device {0}: none was found, or no driver for one")]
    NoGpu(DeviceName),
    #[error("there is no GPU for the device {device}: the last of the {found} found has the number {}", .found - 1)]
    NoSuchGpu { device: DeviceName, found: usize },
}

impl FromStr for DeviceName {
    type Err = DeviceError;

    fn from_str(name: &str) -> Result<Self, DeviceError> {
        let gpu = |kind: fn(usize) -> Self, index: &str| index.parse().ok().map(kind);
        match name.split_once(':') {
            None if name == "flex" => Some(Self::Flex),
            None if name == "ndarray" => Some(Self::NdArray),
            None if name == "libtorch" => Some(Self::LibTorch),
            None if name == "wgpu" => Some(Self::Wgpu),
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
            Self::NdArray => f.write_str("ndarray"),
            Self::LibTorch => f.write_str("libtorch"),
            Self::LibTorchCuda(index) => write!(f, "libtorch-cuda:{index}"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Wgpu => f.write_str("wgpu"),
        }
    }
}

impl DeviceName {
    /// The device, without autodiff.
    ///
    /// # Errors
    /// [`DeviceError::NotCompiledIn`] where this program was built without the device's backend, [`DeviceError::NoGpu`] and
    /// [`DeviceError::NoSuchGpu`] where the machine lacks the GPU or its driver. A GPU that is there and refuses its work, as
    /// it is occupied or too old, shows only at the first tensor, and Burn panics.
    // Burn 0.22 is the last with NdArray and LibTorch and says so at every constructor.
    #[allow(deprecated)]
    pub fn open(self) -> Result<Device, DeviceError> {
        match self {
            Self::Flex => Ok(Device::flex()),
            #[cfg(feature = "ndarray")]
            Self::NdArray => Ok(Device::ndarray()),
            #[cfg(feature = "tch")]
            Self::LibTorch => Ok(Device::libtorch()),
            #[cfg(feature = "tch")]
            Self::LibTorchCuda(index) => {
                self.found(index, Device::enumerate(DeviceType::LibTorch).len())?;
                Ok(Device::libtorch_cuda(index))
            }
            #[cfg(feature = "cuda")]
            Self::Cuda(index) => {
                self.found(index, Device::enumerate(DeviceType::Cuda).len())?;
                Ok(Device::cuda(index))
            }
            #[cfg(feature = "wgpu")]
            Self::Wgpu => {
                self.found(0, Device::enumerate(DeviceType::Wgpu).len())?;
                Ok(Device::wgpu(DeviceKind::DefaultDevice))
            }
            #[cfg(not(feature = "ndarray"))]
            Self::NdArray => Err(DeviceError::NotCompiledIn { device: self, feature: "ndarray", needs: "" }),
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
            #[cfg(not(feature = "wgpu"))]
            Self::Wgpu => Err(DeviceError::NotCompiledIn {
                device: self,
                feature: "wgpu",
                needs: ", which needs a driver of Vulkan, Metal or DirectX when it runs",
            }),
        }
    }

    /// Whether the GPU of this number is among those found.
    fn found(self, index: usize, found: usize) -> Result<(), DeviceError> {
        match found {
            0 => Err(DeviceError::NoGpu(self)),
            _ if index >= found => Err(DeviceError::NoSuchGpu { device: self, found }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_read_back_from_its_name() {
        for name in ["flex", "ndarray", "libtorch", "libtorch-cuda:0", "cuda:3", "wgpu"] {
            assert_eq!(name.parse::<DeviceName>().unwrap().to_string(), name);
        }
        for name in ["", "cpu", "cuda", "cuda:", "cuda:x", "cuda:-1", "libtorch:0", "flex:0", "wgpu:0"] {
            assert_eq!(name.parse::<DeviceName>(), Err(DeviceError::Unknown(name.into())));
        }
        assert!(DeviceName::Flex.open().is_ok());
    }

    #[test]
    fn a_device_that_is_not_compiled_in_is_refused_with_the_feature_that_brings_it() {
        let compiled_in = [
            ("ndarray", "ndarray", cfg!(feature = "ndarray")),
            ("libtorch", "tch", cfg!(feature = "tch")),
            ("cuda:0", "cuda", cfg!(feature = "cuda")),
            ("wgpu", "wgpu", cfg!(feature = "wgpu")),
        ];
        for (name, feature, _) in compiled_in.into_iter().filter(|(.., compiled_in)| !compiled_in) {
            let message = name.parse::<DeviceName>().unwrap().open().unwrap_err().to_string();
            assert!(message.contains(name) && message.contains(&format!("--features {feature}`")), "{message}");
        }
    }

    #[test]
    fn a_gpu_that_is_not_there_is_refused() {
        let found = |index, found| DeviceName::Cuda(index).found(index, found).map_err(|error| error.to_string());
        assert_eq!(found(1, 2), Ok(()));
        let expected = "there is no GPU for the device cuda:2: the last of the 2 found has the number 1";
        assert_eq!(found(2, 2), Err(expected.into()));
        let expected = "there is no GPU for the device cuda:0: none was found, or no driver for one";
        assert_eq!(found(0, 0), Err(expected.into()));
    }
}
