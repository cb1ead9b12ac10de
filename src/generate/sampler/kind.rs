//! The samplers there are, and which training steps each visits.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Which of the training steps a short run visits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestepSpacing {
    Leading,
    Trailing,
    Linspace,
}

/// The samplers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum SamplerKind {
    /// Denoising diffusion implicit models with eta 0 (Song et al. 2021), the paper's
    Ddim,
    /// Pseudo linear multistep of order 4 (Liu et al. 2022), one call more than --steps; the Stable Diffusion release's
    Pndm,
    /// Euler's method along the probability flow (Karras et al. 2022)
    Euler,
    /// Euler's method with noise added after every step
    EulerA,
    /// DPM-Solver++ of order 2, multistep (Lu et al. 2022); good from 15 to 25 steps
    #[serde(rename = "dpmpp_2m")]
    #[value(name = "dpmpp_2m")]
    Dpmpp2m,
    /// The same over Karras' noise levels
    #[serde(rename = "dpmpp_2m_karras")]
    #[value(name = "dpmpp_2m_karras")]
    Dpmpp2mKarras,
}

impl fmt::Display for SamplerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_possible_value().map_or(Ok(()), |value| f.write_str(value.get_name()))
    }
}

impl SamplerKind {
    /// Which training steps a run visits if the config does not say.
    pub(super) fn own_spacing(self) -> TimestepSpacing {
        match self {
            Self::Ddim | Self::Pndm => TimestepSpacing::Leading,
            Self::Euler | Self::EulerA | Self::Dpmpp2m | Self::Dpmpp2mKarras => TimestepSpacing::Linspace,
        }
    }

    /// Diffusers' class that draws the same, and its solver keys that would change what it draws.
    pub(super) fn own_class(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Ddim => ("DDIMScheduler", &["thresholding"]),
            Self::Pndm => ("PNDMScheduler", &[]),
            Self::Euler => (
                "EulerDiscreteScheduler",
                &[
                    "interpolation_type",
                    "use_karras_sigmas",
                    "use_exponential_sigmas",
                    "use_beta_sigmas",
                    "timestep_type",
                    "final_sigmas_type",
                ],
            ),
            Self::EulerA => ("EulerAncestralDiscreteScheduler", &[]),
            Self::Dpmpp2m | Self::Dpmpp2mKarras => (
                "DPMSolverMultistepScheduler",
                &[
                    "algorithm_type",
                    "solver_order",
                    "solver_type",
                    "use_karras_sigmas",
                    "use_exponential_sigmas",
                    "use_beta_sigmas",
                    "use_lu_lambdas",
                    "final_sigmas_type",
                    "lambda_min_clipped",
                    "variance_type",
                    "thresholding",
                ],
            ),
        }
    }
}
