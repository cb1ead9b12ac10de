"""Reads what stablerep writes with the tools it is made for: webdataset, TensorBoard, timm. See pypi.sh.

    python dev/check/pypi.py PATH_TO_STABLEREP

Generates a few images with the bundled tiny Stable Diffusion, trains a small ViT on them for a few steps and exports it, in a temporary
folder. Every check prints a line; the last line counts them; the exit code is 1 if any failed.
"""
import json
import math
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import timm
import torch
import webdataset
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tensorboard import context
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups, metadata
from torch.utils.tensorboard.summary import hparams

ROOT = Path(__file__).resolve().parent.parent.parent
CAPTIONS = [
    "a photo of a dark patterned slim dress",
    "a photo of a light plain wide ankle boot",
    "a gray patterned wide bag",
    "Café № 7, “quoted”: a pair of trousers 😀",
    "a photo of a dark patterned slim dress",
    "a photo of a sneaker",
    "a dark plain slim coat",
    "a photo of a light patterned wide shirt",
]
IMAGES_PER_CAPTION = 3
STEPS = 6

passed, failed = 0, 0


def check(what: str, good, detail="") -> None:
    global passed, failed
    if good:
        passed += 1
        print(f"ok      {what}")
    else:
        failed += 1
        print(f"FAILED  {what}: {detail}")


def run(binary: Path, *words) -> None:
    command = [str(binary), *map(str, words)]
    print("$ stablerep " + " ".join(command[1:]), flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        sys.exit(f"exit code {done.returncode}:\n{done.stdout[-4000:]}")


def generate(binary: Path, scratch: Path) -> Path:
    captions, shards = scratch / "captions.txt", scratch / "shards"
    captions.write_text("\n".join(CAPTIONS) + "\n", encoding="utf-8")
    run(
        binary, "generate", "--model", ROOT / "assets" / "tiny-sd", "--captions", captions,
        "--images-per-caption", IMAGES_PER_CAPTION, "--guidance-scale", 2, "--steps", 3, "--sampler", "ddim",
        "--seed", 5, "--images-per-shard", 9, "--output", shards,
    )  # fmt: skip
    return shards


def check_webdataset(shards: Path) -> None:
    files = sorted(shards.glob("*.tar"))
    check("several shards were written", len(files) > 1, files)
    dataset = webdataset.WebDataset([str(f) for f in files], shardshuffle=False, empty_check=False).decode("pil")
    samples = list(dataset)
    expected = [(c, i) for c in range(len(CAPTIONS)) for i in range(IMAGES_PER_CAPTION)]
    check("webdataset finds every sample", len(samples) == len(expected), len(samples))
    keys = [f"{c:08}_{i:03}" for c, i in expected]
    check("keys in order, the images of a caption adjacent", [s["__key__"] for s in samples] == keys)
    about = [s["json"] for s in samples]
    check("json names caption and image", [(a["caption_id"], a["image_index"]) for a in about] == expected)
    check("txt is the caption", all(s["txt"] == CAPTIONS[c] for s, (c, _) in zip(samples, expected)))
    check("json holds the caption too", all(a["caption"] == CAPTIONS[c] for a, (c, _) in zip(about, expected)))
    pictures = [next((s[e] for e in ("png", "jpg") if e in s), None) for s in samples]
    good = all(isinstance(p, Image.Image) and p.size == (32, 32) and p.mode == "RGB" for p in pictures)
    check("every image decodes to 32x32 RGB", good)
    check("the images differ", len({p.tobytes() for p in pictures}) == len(pictures))
    homes = {}
    for sample, (c, _) in zip(samples, expected):
        homes.setdefault(c, set()).add(sample["__url__"])
    check("no caption is split over shards", all(len(home) == 1 for home in homes.values()), homes)
    sizes = json.loads((shards / "sizes.json").read_text())
    counted = {f.name: sum(s["__url__"] == str(f) for s in samples) for f in files}
    check("sizes.json counts what webdataset counts", sizes == counted, f"{sizes} {counted}")


def train(binary: Path, shards: Path, scratch: Path) -> Path:
    out = scratch / "run"
    run(
        binary, "train", "--data", shards, "--method", "stablerep", "--output", out,
        "--model", "custom", "--image-size", 32, "--patch-size", 8, "--width", 48, "--depth", 2, "--heads", 3,
        "--head-dims", "64,32", "--batch", 4, "--images-per-caption", IMAGES_PER_CAPTION, "--steps", STEPS, "--lr", "1e-3",
    )  # fmt: skip
    return out


def check_tensorboard(out: Path) -> None:
    lines = [json.loads(line) for line in next(out.glob("*.jsonl")).read_text().splitlines()]
    lines = [line for line in lines if "loss" in line]
    check("one line of metrics per step", len(lines) == STEPS, len(lines))
    folder = next(out.rglob("events.out.tfevents.*")).parent
    events = EventAccumulator(str(folder))
    events.Reload()
    tags = events.Tags()["scalars"]
    check("TensorBoard finds scalars", len(tags) >= 4, tags)
    tag = next((t for t in tags if t.split("/")[-1] == "loss"), None)
    check("among them the loss", tag is not None, tags)
    if tag is None:
        return
    scalars = events.Scalars(tag)
    as_f32 = lambda v: struct.unpack("<f", struct.pack("<f", v))[0]
    check("steps agree with the JSONL", [s.step for s in scalars] == [line["step"] for line in lines])
    check("losses agree with the JSONL", [s.value for s in scalars] == [as_f32(line["loss"]) for line in lines])
    check("losses are finite", all(math.isfinite(s.value) for s in scalars))
    check("the floor of the loss is among the scalars", "train/loss_floor" in tags, tags)
    floors = [s.value for s in events.Scalars("train/loss_floor")]
    # Captions of one text are each other's positives too: 2 others at least.
    check("losses lie above their floors", all(loss.value > floor >= as_f32(math.log(IMAGES_PER_CAPTION - 1)) for loss, floor in zip(scalars, floors)), floors)
    check_hparams(out, folder, events)


def flat(value, name="") -> dict:
    """Settings by names such as model.width, as TensorBoard has them: what is no number, yes or no as a text."""
    if isinstance(value, dict):
        return {key: of for part, inner in value.items() for key, of in flat(inner, f"{name}.{part}" if name else part).items()}
    plain = isinstance(value, (str, int, float))
    return {} if value is None else {name: value if plain else json.dumps(value, separators=(",", ":"))}


def check_hparams(out: Path, folder: Path, events: EventAccumulator) -> None:
    """The messages are those of PyTorch's add_hparams, and TensorBoard's own table of runs has settings and metrics."""
    found = events.PluginTagToContent("hparams")
    start = metadata.parse_session_start_info_plugin_data(found[metadata.SESSION_START_INFO_TAG])
    experiment = metadata.parse_experiment_plugin_data(found[metadata.EXPERIMENT_TAG])
    end = metadata.parse_session_end_info_plugin_data(found[metadata.SESSION_END_INFO_TAG])
    settings = flat(json.loads((out / "config.json").read_text()))
    metrics = [metric.name.tag for metric in experiment.metric_infos]
    check("the loss is a metric", metrics[0] == "train/loss", metrics)
    contents = [s.value[0].metadata.plugin_data.content for s in hparams(settings, dict.fromkeys(metrics, 0.0))]
    theirs = [
        metadata.parse_experiment_plugin_data(contents[0]),
        metadata.parse_session_start_info_plugin_data(contents[1]),
        metadata.parse_session_end_info_plugin_data(contents[2]),
    ]
    # PyTorch writes yes and no as numbers.
    for name in (name for name, value in settings.items() if isinstance(value, bool)):
        theirs[1].hparams[name].bool_value = settings[name]
        next(info for info in theirs[0].hparam_infos if info.name == name).type = api_pb2.DATA_TYPE_BOOL
    infos = lambda all: sorted((info.name, info.type) for info in all.hparam_infos)
    check("settings are named as add_hparams names them", infos(experiment) == infos(theirs[0]), infos(experiment))
    check("metrics too", list(experiment.metric_infos) == list(theirs[0].metric_infos))
    check("their values are add_hparams's", start == theirs[1], start)
    check("the session has ended as add_hparams ends it", end == theirs[2], end)

    multiplexer = EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    backend = backend_context.Context(TBContext(data_provider=MultiplexerDataProvider(multiplexer, str(folder))))
    asked = api_pb2.ListSessionGroupsRequest(slice_size=10, allowed_statuses=[api_pb2.STATUS_SUCCESS], include_metrics=True)
    for metric in experiment.metric_infos:
        asked.col_params.add().metric.CopyFrom(metric.name)
    groups = list_session_groups.Handler(context.RequestContext(), backend, "", asked).run().session_groups
    shown = {value.name.tag: value.value for group in groups for value in group.metric_values}
    check("TensorBoard's table of runs has the run", len(groups) == 1, groups)
    check("with its last loss", shown.get("train/loss") == events.Scalars("train/loss")[-1].value, shown)
    check("and its settings", groups and len(groups[0].hparams) == len(settings), groups)


def checkpoint_of(out: Path) -> Path:
    for path in sorted(out.rglob("*.safetensors")):
        with safe_open(path, "pt") as file:
            if any(name.endswith("pos_embed") for name in file.keys()):
                return path
    sys.exit(f"no checkpoint with a ViT below {out}")


def check_timm(binary: Path, out: Path, scratch: Path) -> None:
    checkpoint, export = checkpoint_of(out), scratch / "export"
    run(binary, "export", "--checkpoint", checkpoint, "--output", export)
    model = timm.create_model(f"local-dir:{export}", pretrained=True).eval()
    check("timm builds the exported model", model.num_classes == 0 and model.num_features == 48)
    state = model.state_dict()
    stored = load_file(export / "model.safetensors")
    check("timm's parameters are exactly the file's tensors", state.keys() == stored.keys(), state.keys() ^ stored.keys())
    check("timm loads them bit for bit", all(torch.equal(state[k], stored[k]) for k in state))
    with safe_open(checkpoint, "pt") as file:
        names = {name: next(n for n in file.keys() if n.endswith(f"visual.{name}") and "adam" not in n) for name in state}
        equal = all(torch.equal(state[name], file.get_tensor(source)) for name, source in names.items())
    check("and bit-equal to the training checkpoint", equal)
    config = model.pretrained_cfg
    mean_std = (tuple(config["mean"]), tuple(config["std"]))
    check("mean and std are ImageNet's", mean_std == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), mean_std)
    check("input size is the training size", tuple(config["input_size"]) == (3, 32, 32), config["input_size"])

    example = binary.parent / "examples" / "features"
    torch.manual_seed(0)
    images = torch.randint(0, 256, (5, 32, 32, 3), dtype=torch.uint8)
    save_file({"images": images}, scratch / "images.safetensors")
    subprocess.run([example, export, scratch / "images.safetensors", scratch / "features.safetensors"], check=True)
    ours = load_file(scratch / "features.safetensors")["features"]
    mean, std = (torch.tensor(config[k]) for k in ("mean", "std"))
    with torch.no_grad():
        theirs = model(((images.float() / 255 - mean) / std).permute(0, 3, 1, 2))
    difference = ((ours - theirs).norm() / theirs.norm()).item()
    check("timm computes our features", difference <= 1e-4, difference)
    print(f"        relative difference {difference:.1e}")


def main(binary: Path) -> None:
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        shards = generate(binary, scratch)
        check_webdataset(shards)
        out = train(binary, shards, scratch)
        check_tensorboard(out)
        check_timm(binary, out, scratch)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
