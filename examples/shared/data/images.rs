//! Images in host memory, from the bytes of a file to what a model is shown.

use burn::tensor::{Device, Tensor, TensorData};

use super::{DataError, DeviceImages, permutation};

/// Square images and their classes, in host memory.
#[derive(Clone, Debug)]
pub struct Images {
    /// `[images, channels, side, side]`, row by row.
    pub pixels: Vec<f32>,
    pub labels: Vec<u8>,
    pub channels: usize,
    pub side: usize,
    pub classes: usize,
}

/// A data set's two parts.
#[derive(Clone, Debug)]
pub struct Split {
    pub train: Images,
    pub valid: Images,
}

impl Images {
    /// # Errors
    /// [`DataError`] where the lengths do not fit together or a label names no class.
    pub fn new(pixels: Vec<f32>, labels: Vec<u8>, [channels, side, classes]: [usize; 3]) -> Result<Self, DataError> {
        if labels.is_empty() {
            return Err(DataError::Empty);
        }
        if pixels.len() != labels.len() * channels * side * side {
            let (pixels, labels) = (pixels.len(), labels.len());
            return Err(DataError::Shape { pixels, labels, channels, side });
        }
        if let Some(image) = labels.iter().position(|&label| usize::from(label) >= classes) {
            let label = labels[image].into();
            return Err(DataError::Label { image, label, classes });
        }
        Ok(Self { pixels, labels, channels, side, classes })
    }

    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Resampled bilinearly to `side` x `side`. Pixels are areas (corners are not aligned), as in
    /// PyTorch's default.
    pub fn resized(self, side: usize) -> Self {
        if side == self.side {
            return self;
        }
        let scale = self.side as f32 / side as f32;
        // For each target coordinate the two source coordinates and the weight of the second.
        let taps: Vec<(usize, usize, f32)> = (0..side)
            .map(|target| {
                let source = ((target as f32 + 0.5) * scale - 0.5).max(0.0);
                let first = (source as usize).min(self.side - 1);
                (first, (first + 1).min(self.side - 1), source - first as f32)
            })
            .collect();
        let plane = |plane: &[f32]| -> Vec<f32> {
            let row = |y: usize, &(x0, x1, w): &(usize, usize, f32)| {
                plane[y * self.side + x0] * (1.0 - w) + plane[y * self.side + x1] * w
            };
            let pixel = |&(y0, y1, w): &(usize, usize, f32), x| row(y0, x) * (1.0 - w) + row(y1, x) * w;
            taps.iter().flat_map(|y| taps.iter().map(move |x| pixel(y, x))).collect()
        };
        let pixels = self.pixels.chunks_exact(self.side * self.side).flat_map(plane).collect();
        Self { pixels, side, ..self }
    }

    /// `(pixel - mean) / deviation`, with one mean and one deviation a channel.
    pub fn normalised(mut self, mean: &[f32], deviation: &[f32]) -> Self {
        for (i, plane) in self.pixels.chunks_exact_mut(self.side * self.side).enumerate() {
            let channel = i % self.channels;
            plane.iter_mut().for_each(|pixel| *pixel = (*pixel - mean[channel]) / deviation[channel]);
        }
        self
    }

    /// The labels of this share of the images, drawn once for all seeds, shuffled among those images: noise that leaves each
    /// class as large as it is.
    pub fn with_label_noise(mut self, share: f64) -> Self {
        const NOISE_SEED: u64 = 3;
        let chosen = (share * self.len() as f64).round() as usize;
        let (images, sources) = (permutation(self.len(), NOISE_SEED, 0), permutation(chosen, NOISE_SEED, 1));
        let labels = self.labels.clone();
        for (&image, source) in images.iter().zip(sources) {
            self.labels[image] = labels[images[source]];
        }
        self
    }

    /// One copy on the device, which any number of loaders can share.
    pub fn upload(&self, device: &Device) -> DeviceImages {
        let device = &device.clone().without_autodiff();
        let shape = [self.len(), self.channels, self.side, self.side];
        let labels: Vec<i32> = self.labels.iter().map(|&label| label.into()).collect();
        DeviceImages {
            pixels: Tensor::from_data(TensorData::new(self.pixels.clone(), shape), device),
            labels: Tensor::from_data(TensorData::new(labels, [self.len()]), device),
        }
    }
}

/// Images as their files have them, a quarter of the size of [`Images`].
pub struct Bytes {
    pub pixels: Vec<u8>,
    pub labels: Vec<u8>,
    pub channels: usize,
    pub side: usize,
    pub classes: usize,
    /// The value of the brightest pixel.
    pub white: u8,
}

impl Bytes {
    /// The images at `indices`, in that order.
    pub fn subset(&self, indices: &[usize]) -> Self {
        let volume = self.channels * self.side * self.side;
        let image = |&i: &usize| &self.pixels[i * volume..(i + 1) * volume];
        Self {
            pixels: indices.iter().flat_map(image).copied().collect(),
            labels: indices.iter().map(|&i| self.labels[i]).collect(),
            ..*self
        }
    }

    /// On the scale 0 to 1.
    ///
    /// # Errors
    /// As [`Images::new`].
    pub fn images(self) -> Result<Images, DataError> {
        let white = f32::from(self.white);
        let pixels = self.pixels.iter().map(|&pixel| f32::from(pixel) / white).collect();
        Images::new(pixels, self.labels, [self.channels, self.side, self.classes])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resampling_is_bilinear_without_aligned_corners() {
        // The example of torch.nn.Upsample(scale_factor=2, mode="bilinear"), less 1.
        let image = Images::new(vec![0.0, 1.0, 2.0, 3.0], vec![0], [1, 2, 1]).unwrap();
        let expected = [[0.0, 0.25, 0.75, 1.0], [0.5, 0.75, 1.25, 1.5], [1.5, 1.75, 2.25, 2.5], [2.0, 2.25, 2.75, 3.0]];
        assert_eq!(image.clone().resized(4).pixels, expected.concat());
        assert_eq!(image.clone().resized(2).pixels, image.pixels);
    }

    #[test]
    fn label_noise_changes_its_share_of_the_labels_and_no_class_size() {
        let labels: Vec<u8> = (0..1000).map(|i| (i % 10) as u8).collect();
        let images = Images::new(vec![0.0; 1000], labels.clone(), [1, 1, 10]).unwrap();
        for (share, changed) in [(0.0, 0..=0), (0.5, 400..=500), (1.0, 850..=950)] {
            let noisy = images.clone().with_label_noise(share).labels;
            let differ = noisy.iter().zip(&labels).filter(|(noisy, label)| noisy != label).count();
            assert!(changed.contains(&differ), "{share}: {differ}");
            assert!((0..10).all(|class| noisy.iter().filter(|&&label| label == class).count() == 100));
        }
    }

    #[test]
    fn impossible_images_are_refused_by_name() {
        let images = |pixels: usize, labels| Images::new(vec![0.0; pixels], labels, [1, 1, 10]).err();
        assert_eq!(images(0, vec![]), Some(DataError::Empty));
        assert!(matches!(images(1, vec![0, 1]), Some(DataError::Shape { .. })));
        assert_eq!(images(2, vec![9, 10]), Some(DataError::Label { image: 1, label: 10, classes: 10 }));
    }
}
