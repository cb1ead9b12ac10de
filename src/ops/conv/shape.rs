//! Sizes of a convolution.

/// Sizes of the input, and what is done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub n: usize,
    pub height: usize,
    pub width: usize,
    /// Input channels C.
    pub channels: usize,
    /// 1 or 2.
    pub stride: usize,
    /// Height and width to which the input is enlarged first (source index = ⌊i·in/out⌋).
    pub enlarge: Option<(usize, usize)>,
}

impl Shape {
    /// Stride 1, no enlargement.
    pub fn same(n: usize, height: usize, width: usize, channels: usize) -> Self {
        Self { n, height, width, channels, stride: 1, enlarge: None }
    }

    /// Height and width of the convolved image before striding.
    pub(super) fn canvas(self) -> (usize, usize) {
        self.enlarge.unwrap_or((self.height, self.width))
    }

    /// Height and width of the output.
    pub fn output(self) -> (usize, usize) {
        let (height, width) = self.canvas();
        (height.div_ceil(self.stride), width.div_ceil(self.stride))
    }

    /// Output pixels of all images.
    pub fn rows(self) -> usize {
        let (height, width) = self.output();
        self.n * height * width
    }

    /// FLOPs of a convolution to `outputs` channels.
    pub fn flops(self, outputs: usize) -> f64 {
        2.0 * self.rows() as f64 * 9.0 * self.channels as f64 * outputs as f64
    }

    /// Bytes moved at least.
    pub fn bytes(self, outputs: usize) -> f64 {
        let input = self.n * self.height * self.width * self.channels;
        4.0 * (input + self.rows() * outputs + 9 * self.channels * outputs) as f64
    }
}
