//! Layers of Stable Diffusion 1.5 at 512², one image; by the variant that the model would take.

use half::f16;

use super::compare::{as_chosen, shape};
use super::cross::{compare_cross, rows};
use crate::ops::attention::Shape;
use crate::ops::check::Check;

pub const CHECKS: &[Check] = &[
    Check { name: "attention of 4096 tokens, heads of 40", run: |case| as_chosen(case, shape(1, 4096, 2, 40)) },
    Check { name: "attention of 1024 tokens, heads of 80", run: |case| as_chosen(case, shape(1, 1024, 2, 80)) },
    Check { name: "attention of 256 tokens, heads of 160", run: |case| as_chosen(case, shape(1, 256, 8, 160)) },
    Check { name: "attention of 64 tokens, heads of 160", run: |case| as_chosen(case, shape(1, 64, 8, 160)) },
    Check {
        name: "attention of the decoder, 32 of its 4096 queries",
        run: |case| as_chosen(case, Shape { queries: 32, ..shape(1, 4096, 1, 512) }),
    },
    Check {
        name: "attention of the text encoder, causal",
        run: |case| as_chosen(case, Shape { causal: true, ..shape(1, 77, 12, 64) }),
    },
    Check {
        name: "cross-attention of 4096 tokens to 77, both branches",
        run: |case| compare_cross::<f16>(case, &rows(shape(2, 4096, 8, 40), 77, 1, &[1, 0]), 1.0, 0.0),
    },
];
