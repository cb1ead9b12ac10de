//! The samplers there are, and which training steps each visits.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Which of the training steps a short run visits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum TimestepSpacing {
    /// The first of each of as many stretches: never the noisiest
    Leading,
    /// The last of each: begins at the noisiest, as models of few steps do
    Trailing,
    /// Evenly from the noisiest to the cleanest
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
    /// UniPC of order 2, predictor and corrector (Zhao et al. 2023); good from 8 to 20 steps
    Unipc,
    /// Latent consistency, for networks distilled to it (Luo et al. 2023); 2 to 8 steps, with noise after each
    Lcm,
    /// Trajectory consistency, for networks distilled to it (Zheng et al. 2024); 2 to 8 steps
    Tcd,
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
            Self::Euler | Self::EulerA | Self::Dpmpp2m | Self::Dpmpp2mKarras | Self::Unipc => TimestepSpacing::Linspace,
            // Steps that no key of the schedule moves.
            Self::Lcm | Self::Tcd => TimestepSpacing::Trailing,
        }
    }

    /// Whether it is for networks that were distilled to it.
    pub(super) fn is_of_distilled(self) -> bool {
        matches!(self, Self::Lcm | Self::Tcd)
    }

    /// Whether it visits steps of its own, whatever spacing is asked for.
    pub(super) fn has_own_steps(self) -> bool {
        self.is_of_distilled() || self == Self::Dpmpp2mKarras
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
            Self::Unipc => (
                "UniPCMultistepScheduler",
                &[
                    "solver_order",
                    "solver_type",
                    "predict_x0",
                    "disable_corrector",
                    "solver_p",
                    "use_karras_sigmas",
                    "use_exponential_sigmas",
                    "use_beta_sigmas",
                    "final_sigmas_type",
                    "thresholding",
                ],
            ),
            Self::Lcm => ("LCMScheduler", &["thresholding"]),
            Self::Tcd => ("TCDScheduler", &["thresholding"]),
        }
    }
}
