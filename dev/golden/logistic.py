"""Golden file tests/fixtures/logistic.json: minima of logistic regression by scikit-learn's lbfgs at tol 1e-12.

Each case: `features` [N][D] (exact in f32), `labels` [N], and per strength C of `strengths` the `objectives`
1/2 |W|^2 + C sum CE on standardised features (std over N; a constant feature is 0), which another solver of
scikit-learn's reaches too; `weights` [K][D] and `intercepts` [K] (less their mean) of the second strength. Cases of two
classes have one row: scikit-learn fits a single logistic function then.
"""
import numpy as np
from common import save_json, setup
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression


def standardised(features: np.ndarray) -> np.ndarray:
    deviation = features.std(0)
    constant = (features == features[0]).all(0)
    return np.where(constant, 0.0, (features - features.mean(0)) / np.where(constant, 1.0, deviation))


def objective(model: LogisticRegression, x: np.ndarray, labels: np.ndarray, strength: float) -> float:
    scores = x @ model.coef_.T + model.intercept_
    if scores.shape[1] == 1:
        loss = np.logaddexp(0.0, np.where(labels == model.classes_[1], -scores[:, 0], scores[:, 0])).sum()
    else:
        places = np.searchsorted(model.classes_, labels)
        loss = (logsumexp(scores, axis=1) - scores[np.arange(len(x)), places]).sum()
    return 0.5 * (model.coef_**2).sum() + strength * loss


def case(features: np.ndarray, labels: np.ndarray, strengths: list[float]) -> dict:
    features = features.astype(np.float32).astype(np.float64)
    x, objectives = standardised(features), []
    for strength in strengths:
        fits = [
            LogisticRegression(C=strength, solver=solver, tol=1e-12, max_iter=100_000).fit(x, labels)
            for solver in ("lbfgs", "newton-cholesky")
        ]
        found = [objective(fit, x, labels, strength) for fit in fits]
        assert abs(found[0] - found[1]) < 1e-9 * found[1], (strength, found)
        objectives.append(found[0])
        if strength == strengths[1]:
            # Newton's steps are nearer to the minimum, of which a weight depends on the root of what is left.
            weights, intercepts = fits[1].coef_, fits[1].intercept_
    if len(intercepts) > 1:
        intercepts = intercepts - intercepts.mean()
    return {
        "features": features.tolist(),
        "labels": labels.tolist(),
        "strengths": strengths,
        "objectives": objectives,
        "weights": weights.tolist(),
        "intercepts": intercepts.tolist(),
    }


def main() -> None:
    setup()
    draw = np.random.default_rng(0)
    wave = np.sin(1.0 + np.arange(12.0)).reshape(6, 2)
    # Features that correlate, of very unlike sizes, one of them constant; labels that they tell in part.
    mixed = draw.normal(size=(60, 7)) @ draw.normal(size=(7, 7)) * 10.0 ** np.arange(-3, 4) + 5.0
    mixed = np.insert(mixed, 3, 0.1, axis=1)
    four = ((mixed[:, 0] - 5) * 1000 + draw.normal(size=60) > 0.0).astype(int) * 2 + (mixed[:, 7] > np.median(mixed[:, 7]))
    two = ((mixed[:, 1] - 5) * 100 + draw.normal(size=60) * 2 > 0.0).astype(int)
    save_json(
        "logistic.json",
        {
            "wave": case(wave, np.array([0, 1, 2, 0, 1, 2]), [0.01, 1.0, 100.0]),
            "four": case(mixed, np.array([3, 7, 900_000, 12])[four], [1e-5, 0.1, 10.0, 1000.0]),
            "two": case(mixed, two, [1e-4, 0.1, 100.0]),
        },
    )


if __name__ == "__main__":
    main()
