"""Zero-shot classes, retrieval, ARO and FairFace of the model in language_run/init.safetensors, by PyTorch and open_clip.

    python dev/golden/zero_shot.py

zero_shot.json  class rows of open_clip's build_zero_shot_classifier, how alike the pictures of train_run/stablerep are to them, and what
                follows: top-1, top-5, accuracy of every class (scikit-learn's recall); recalls both ways; ARO's and FairFace's counts
"""
import numpy as np
import torch
from open_clip.zero_shot_classifier import build_zero_shot_classifier
from safetensors.torch import load_file
from sklearn.metrics import recall_score, top_k_accuracy_score

from common import FIXTURES, save_json, setup
from encoder import IMAGENET_MEAN, IMAGENET_STD
from language import TEXT, Model, shard, tokens

CLASSES = ["bag", "dress", "dark coat", "ankle boot", "sandal", "shirt", "trouser"]
TEMPLATES = ["itap of a {}.", "a bad photo of the {}.", "a {} in a video game."]
RACES = ["black", "east asian", "indian", "latino hispanic", "middle eastern", "southeast asian", "white"]


class Joined:
    """The model as open_clip's builder asks for it."""

    def __init__(self, model: Model):
        self.model = model

    def encode_text(self, ids: torch.Tensor, normalize: bool = False) -> torch.Tensor:
        rows = self.model.text(ids)
        return torch.nn.functional.normalize(rows, dim=-1) if normalize else rows


def loaded() -> Model:
    model = Model()
    stored = load_file(FIXTURES / "language_run/init.safetensors")
    state = {k: stored[k if k in stored else k.removeprefix("text.")] for k in model.state_dict() if not k.endswith("attn_mask")}
    assert not model.load_state_dict(state, strict=False).unexpected_keys
    return model.eval()


def longer(model: Model) -> None:
    """48 places of texts; those that were not trained are sines."""
    more = torch.sin(0.1 * torch.arange(16 * TEXT["width"], 48 * TEXT["width"])).reshape(32, TEXT["width"]) * 0.1
    model.text.positional_embedding = torch.nn.Parameter(torch.cat([model.text.positional_embedding, more]))
    model.text.context_length = model.text.num_pos = TEXT["context"] = 48
    model.text.register_buffer("attn_mask", model.text.build_causal_mask(), persistent=False)


def classifier(model: Model, names: list[str], templates: list[str]) -> torch.Tensor:
    sentences = [lambda name, t=template: t.replace("{}", name) for template in templates]
    return build_zero_shot_classifier(Joined(model), tokens, names, sentences, num_classes_per_batch=None, use_tqdm=False).T


def one_of_each_class(scores: np.ndarray, labels: np.ndarray) -> dict:
    taken = scores.argmax(1)
    each = recall_score(labels, taken, average=None, labels=sorted(set(labels)), zero_division=0)
    return {"top1": float((taken == labels).mean() * 100), "mean": float(each.mean() * 100), "each": (each * 100).tolist()}


def recalls(alike: torch.Tensor, same: torch.Tensor) -> list[float]:
    order = alike.argsort(dim=1, descending=True)
    found = same.gather(1, order)
    return [found[:, :k].any(1).double().mean().item() * 100 for k in (1, 5, 10)]


@torch.no_grad()
def main() -> None:
    setup(5)
    model = loaded()
    texts, images = shard()
    pictures = torch.from_numpy(images.reshape(-1, *images.shape[2:]))
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    x = ((pictures / 255 - mean) / std).permute(0, 3, 1, 2)
    rows = torch.nn.functional.normalize(model.visual(x) @ model.image_projection, dim=1)
    unit = lambda sentences: Joined(model).encode_text(tokens(sentences), normalize=True)
    n = len(rows)

    classes = classifier(model, CLASSES, TEMPLATES)
    alike = (rows @ classes.T).double().numpy()
    # A class of no picture, and one of a single picture.
    labels = np.array([(5 * i + i // 4) % 6 for i in range(n)])
    labels[labels == 4] = 3
    labels[7] = 4
    result = {
        "names": CLASSES,
        "templates": TEMPLATES,
        "rows": classes.tolist(),
        "alike": alike.tolist(),
        "labels": labels.tolist(),
        "zero_shot": one_of_each_class(alike, labels) | {"top5": float(top_k_accuracy_score(labels, alike, k=5, labels=range(7)) * 100)},
    }

    # No two are alike: the order of equals is nobody's.
    first = ["the", "a", "one", "that"]
    mark = lambda i: f"{chr(ord('a') + i // 4)} {first[i % 4]}"
    captions = [[f"{mark(i)} {texts[i // 4]}", f"{mark(i)} bad {texts[(i // 4 + 5) % len(texts)]}"] for i in range(n)]
    flat = [text for pair in captions for text in pair]
    assert len({tuple(ids.tolist()) for ids in tokens(flat)}) == 2 * n
    same = torch.arange(n)[:, None] == torch.arange(2 * n)[None, :] // 2
    sentences = unit(flat)
    result["retrieval"] = {"captions": captions, "text": recalls(rows @ sentences.T, same), "picture": recalls(sentences @ rows.T, same.T)}

    cases = []
    for i in range(n):
        right = f"{texts[i // 4]} beside {texts[(i // 4 + 3) % len(texts)]}"
        other = f"{texts[(i // 4 + 3) % len(texts)]} beside {texts[i // 4]}"
        margin = (rows[i] @ unit([right, other]).T).double()
        cases.append({"true": right, "false": other, "right": bool(margin[0] > margin[1]), "group": ["on", "under", "beside"][i % 3]})
    result["aro"] = cases
    shuffled = [[texts[i // 4], " ".join(reversed(texts[i // 4].split())), texts[i // 4] + " a", "a " + texts[i // 4]] for i in range(n)]
    best = [bool((rows[i] @ unit(four).T).argmax() == 0) for i, four in enumerate(shuffled)]
    result["order"] = {"captions": shuffled, "right": best}

    # Races and genders take more tokens than the model has places for: it gets more, of small values.
    longer(model)
    race, gender = np.array([(3 * i) % 7 for i in range(n)]), np.array([i // 2 % 2 for i in range(n)])
    said = lambda noun: ("an " if noun[0] in "aeiou" else "a ") + noun
    score = lambda names, labels: one_of_each_class((rows @ classifier(model, [said(m) for m in names], ["a photo of {}"]).T).double().numpy(), labels)
    result["faces"] = {
        "race": race.tolist(),
        "gender": gender.tolist(),
        "by_race": score([f"{race} person" for race in RACES], race),
        "by_gender": score(["man", "woman"], gender),
        "by_both": score([f"{race} {gender}" for race in RACES for gender in ("man", "woman")], 2 * race + gender),
    }
    save_json("zero_shot.json", result)
    print({k: result[k] for k in ("zero_shot",)}, result["retrieval"]["text"], result["retrieval"]["picture"])


if __name__ == "__main__":
    main()
