"""Golden file tests/fixtures/few_shot.json: episodes scored by easyfsl's PrototypicalNetworks.

`features` [N][D] (exact in f32) and `episodes`, each with `protocol`, rows of `support` and of `queries` by class, and
the `share` of queries that are right. `lgssl` has features centred by the mean of the support and scaled to unit length.
"""
import numpy as np
import torch
from common import save_json, setup
from easyfsl.methods import PrototypicalNetworks


def share(features: torch.Tensor, protocol: str, support: list, queries: list) -> float:
    learn, ask = (features[[i for rows in of for i in rows]] for of in (support, queries))
    labels = lambda of: torch.tensor([label for label, rows in enumerate(of) for _ in rows])
    more = {"feature_centering": learn.mean(0), "feature_normalization": 2} if protocol == "lgssl" else {}
    model = PrototypicalNetworks(torch.nn.Identity(), **more)
    model.process_support_set(learn, labels(support))
    return float((model(ask).argmax(1) == labels(queries)).double().mean())


def main() -> None:
    setup()
    draw = np.random.default_rng(3)
    kinds = np.arange(60) % 5
    means = draw.normal(size=(60, 6)) * 1.6, draw.normal(size=(5, 6))[kinds] * np.array([3, 1, 1, 1, 0.3, 0.1])
    features = means[0] + means[1] + 4.0
    features = features.astype(np.float32)
    rows, episodes = [np.flatnonzero(kinds == kind) for kind in range(5)], []
    for number in range(12):
        classes = draw.permutation(5)[: 3 + number % 3]
        shots = 1 + number % 5
        drawn = [draw.permutation(rows[kind]) for kind in classes]
        support = [d[:shots].tolist() for d in drawn]
        queries = [d[shots : shots + 4 + i].tolist() for i, d in enumerate(drawn)]
        for protocol in ("ssl-transfer", "lgssl"):
            right = share(torch.from_numpy(features).double(), protocol, support, queries)
            episodes.append({"protocol": protocol, "support": support, "queries": queries, "share": right})
    save_json("few_shot.json", {"features": features.tolist(), "episodes": episodes})


if __name__ == "__main__":
    main()
