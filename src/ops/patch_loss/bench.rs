//! The loss of a masked autoencoder that is given a quarter of the patches of pictures of 224².

use half::bf16;

use crate::ops::bench::{Case, Size, Work};
use crate::ops::patch_loss::Shape;
use crate::ops::patch_loss::cuda::loss;

pub fn cases(size: Size) -> Vec<Case> {
    let shape = size.pick(
        Shape { n: 512, of: 512, side: 224, patch: 16, kept: 49 },
        Shape { n: 1, of: 1, side: 64, patch: 16, kept: 4 },
    );
    let (n, rows) = (shape.n, shape.n * shape.rows());
    let values = rows * shape.patch_len();
    let name = ("patch_loss", "loss and gradient bf16", format!("[{n}, {}, {}]", shape.rows(), shape.patch_len()));
    let case = Case::new(name, Work { bytes: shape.bytes(2, 1), ..Work::default() }, move |inputs| {
        let (d, predictions) = (inputs.room::<bf16>(values)?, inputs.normal::<bf16>(values)?);
        let (images, at) = (inputs.bytes(n * shape.image_len())?, inputs.below(rows, shape.rows())?);
        let losses = inputs.room(rows)?;
        Ok(move |gpu: &_| {
            let (d, losses) = (d.view(), losses.view());
            loss(gpu, d, losses, predictions.view(), images.view(), at.view(), shape)
        })
    });
    vec![case]
}
