"""Distances between sets of features: pytorch-fid's formula with scipy's root, torch-fidelity's kernel distance and precision and recall,
prdc's density and coverage.

    python dev/golden/distances.py
"""
import numpy as np
import torch
from prdc import compute_prdc
from scipy import linalg
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from common import save_tensors, setup

WIDTH = 24
NEIGHBOURS = 3
SUBSET = {"kid_subsets": 1, "kid_kernel": "poly", "kid_kernel_poly_degree": 3, "kid_kernel_poly_gamma": None, "kid_kernel_poly_coef0": 1, "verbose": False, "rng_seed": 0}


def features(rng: np.random.Generator, count: int, shift: float) -> np.ndarray:
    """Correlated, of unequal variances, without negative values as Inception's are."""
    mixing = rng.normal(size=(WIDTH, WIDTH)) * np.geomspace(1, 0.05, WIDTH)
    return np.maximum(rng.normal(size=(count, WIDTH)) @ mixing + 1 + shift, 0).astype(np.float32)


def frechet(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """By scipy's root of the product, and by singular values of the centred sets, which are right where covariances are singular."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    s1, s2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    rest = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s1) + np.trace(s2)
    root = linalg.sqrtm(s1 @ s2)
    centred = [(x - x.mean(0)) / np.sqrt(len(x) - 1) for x in (a, b)]
    values = np.linalg.svd(centred[0] @ centred[1].T, compute_uv=False)
    return float(rest - 2 * np.trace(root).real), float(rest - 2 * values.sum())


def main() -> None:
    setup(7)
    rng = np.random.default_rng(7)
    sets = {"real": features(rng, 150, 0.0), "generated": features(rng, 110, 0.2), "few": features(rng, 9, 0.1)}
    sets["flat"] = np.repeat(sets["few"][:1], 30, axis=0)
    found = {}
    for name in ("generated", "few", "flat", "real"):
        real, other = sets["real"], sets[name]
        found[f"frechet.{name}"] = frechet(real, other)
        if name == "few":
            continue
        pair = [torch.from_numpy(other).double(), torch.from_numpy(real).double()]
        size = min(len(other), len(real))
        one = kid_features_to_metric(pair[0][:size], pair[1][:size], kid_subset_size=size, **SUBSET)
        found[f"kernel.{name}"] = one["kernel_inception_distance_mean"]
        prc = prc_features_to_metric(*pair, prc_neighborhood=NEIGHBOURS, prc_batch_size=1000, save_cpu_ram=False, verbose=False)
        prdc = compute_prdc(real.astype(np.float64), other.astype(np.float64), NEIGHBOURS)
        found[f"neighbours.{name}"] = [prc["precision"], prc["recall"], float(prdc["density"]), float(prdc["coverage"])]
    # By definition the density of a set with itself and of one point many times over is decided by rims, where prdc and the paper differ.
    found["neighbours.real"][2:] = [(NEIGHBOURS + 1) / NEIGHBOURS, 1.0]
    tensors = {name: torch.from_numpy(x) for name, x in sets.items()}
    save_tensors("distances.safetensors", tensors, {"found": found, "neighbours": NEIGHBOURS})


if __name__ == "__main__":
    main()
