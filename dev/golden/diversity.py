"""What a set of features holds by itself, in numpy: cosines within captions and between them, Vendi score, alignment, uniformity.

    python dev/golden/diversity.py
"""
from itertools import combinations

import numpy as np
import torch

from common import save_tensors, setup

# Pictures of each caption; the third's are near-copies.
CAPTIONS = [4, 1, 5, 3, 9, 4, 300]


def case(x: np.ndarray, labels: np.ndarray) -> dict:
    x = x.astype(np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    cosines = x @ x.T
    pairs = list(combinations(range(len(x)), 2))
    same = [p for p in pairs if labels[p[0]] == labels[p[1]]]
    different = [p for p in pairs if labels[p[0]] != labels[p[1]]]
    mean = lambda of: float(np.mean([cosines[p] for p in of])) if of else None
    captions = [mean([p for p in same if labels[p[0]] == label]) for label in np.unique(labels)]
    captions = [c for c in captions if c is not None]
    values = np.linalg.eigvalsh(cosines / len(x))
    values = values[values > 1e-15]
    distances = lambda of: np.array([((x[i] - x[j]) ** 2).sum() for i, j in of])
    return {
        "captions": captions,
        "within": float(np.mean(captions)) if captions else None,
        "between": mean(different),
        "vendi": float(np.exp(-(values * np.log(values)).sum())),
        "alignment": float(distances(same).mean()) if same else None,
        "uniformity": float(np.log(np.exp(-2 * distances(pairs)).mean())) if pairs else None,
    }


def main() -> None:
    setup(0)
    rng = np.random.default_rng(3)
    width = 20
    labels = np.repeat(np.arange(len(CAPTIONS)), CAPTIONS)
    centres = rng.normal(size=(len(CAPTIONS), width)) + 0.5
    x = centres[labels] + rng.normal(size=(len(labels), width)) * np.where(labels == 2, 0.05, 0.7)[:, None]
    order = rng.permutation(len(x))
    x, labels = x[order].astype(np.float32), labels[order]
    cuts = {"all": slice(None), "few": slice(0, 12), "one": slice(0, 1)}
    cuts["caption"] = labels == 2
    found = {name: case(x[cut], labels[cut]) for name, cut in cuts.items()}
    tensors = {}
    for name, cut in cuts.items():
        tensors[name] = torch.from_numpy(x[cut])
        tensors[f"{name}.labels"] = torch.from_numpy(labels[cut].astype(np.int32))
    save_tensors("diversity.safetensors", tensors, {"found": found})


if __name__ == "__main__":
    main()
