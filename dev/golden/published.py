"""Golden files tests/fixtures/published/: the eleven data sets of transfer as their authors lay them out, with two
classes and a handful of images each. MATLAB files are scipy's. Nothing in them is of the data sets themselves but their names.
"""
import io

import numpy as np
from common import FIXTURES, report, setup
from PIL import Image
from scipy.io import savemat

ROOT = FIXTURES / "published"


def write(path: str, data: bytes) -> None:
    (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
    (ROOT / path).write_bytes(data)


def text(path: str, lines: list[str]) -> None:
    write(path, "".join(line + "\n" for line in lines).encode())


def picture(path: str, kind: int, number: int = 0) -> None:
    """A picture of one colour: reddish for the first kind, bluish for the second."""
    color = (200 - 3 * number, 40, 30) if kind == 0 else (30, 40, 200 - 3 * number)
    file = io.BytesIO()
    Image.new("RGB", (10, 8), color).save(file, "JPEG", quality=40, optimize=True)
    write(path, file.getvalue())


def mat(path: str, arrays: dict, compressed: bool) -> None:
    file = io.BytesIO()
    savemat(file, arrays, do_compression=compressed)
    data = file.getvalue()
    # The header's text has the time of writing in it.
    write(path, b"MATLAB 5.0 MAT-file".ljust(116) + data[116:])


def cifar() -> None:
    def records(kinds: list[int], labels: list[list[int]]) -> bytes:
        out = b""
        for kind, label in zip(kinds, labels):
            planes = ((200, 40, 30), (30, 40, 200))[kind]
            out += bytes(label) + b"".join(bytes([plane]) * 1024 for plane in planes)
        return out

    for i in range(5):
        write(f"cifar10/data_batch_{i + 1}.bin", records([i % 2], [[3 + 6 * (i % 2)]]))
    write("cifar10/test_batch.bin", records([1, 0], [[9], [3]]))
    write("cifar100/train.bin", records([0, 1, 0, 1, 0], [[7, 12], [5, 99], [7, 12], [5, 99], [7, 12]]))
    write("cifar100/test.bin", records([1, 0], [[5, 99], [7, 12]]))


def aircraft() -> None:
    names = ["F/A-18", "Boeing 707-320"]
    for p, part in enumerate(["train", "val", "test"]):
        images = [f"{1000000 + 10 * p + i:07}" for i in range(2)]
        for i, image in enumerate(images):
            picture(f"aircraft/data/images/{image}.jpg", i, p)
        text(f"aircraft/data/images_variant_{part}.txt", [f"{image} {names[i]}" for i, image in enumerate(images)])


def cars() -> None:
    def annotations(classes: list[int], labelled: bool) -> np.ndarray:
        fields = ["bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2"] + ["class"] * labelled + ["fname"]
        out = np.zeros((1, len(classes)), dtype=[(field, object) for field in fields])
        for i, number in enumerate(classes):
            out[0, i] = (1, 2, 300, 200) + (number,) * labelled + (f"{i + 1:05}.jpg",)
        return out

    train, test = [14, 3, 14, 3, 14, 3], [3, 14]
    for folder, classes in [("cars_train", train), ("cars_test", test)]:
        for i, number in enumerate(classes):
            picture(f"cars/{folder}/{i + 1:05}.jpg", int(number == 14), i)
    mat("cars/devkit/cars_train_annos.mat", {"annotations": annotations(train, True)}, True)
    mat("cars/devkit/cars_test_annos.mat", {"annotations": annotations(test, False)}, True)
    mat("cars/cars_test_annos_withlabels.mat", {"annotations": annotations(test, True)}, False)


def flowers() -> None:
    labels = [1, 102, 1, 102, 1, 102, 102]
    for i, label in enumerate(labels):
        picture(f"flowers/jpg/image_{i + 1:05}.jpg", int(label == 102), i)
    mat("flowers/imagelabels.mat", {"labels": np.array([labels], dtype=np.uint8)}, True)
    sets = {"trnid": [2, 1], "valid": [3, 4], "tstid": [5, 6, 7]}
    mat("flowers/setid.mat", {name: np.array([ids], dtype=np.float64) for name, ids in sets.items()}, True)


def lists() -> None:
    for p, part in enumerate(["train", "val", "test"]):
        images = [f"{name}/{name}_{p + 1:04}.jpg" for name in ("banded", "zigzagged")]
        for i, image in enumerate(images):
            picture(f"dtd/images/{image}", i, p)
        text(f"dtd/labels/{part}1.txt", images)
    pets = [(f"{name}_{n}", i) for n in range(1, 5) for i, name in enumerate(("Abyssinian", "american_bulldog"))]
    for image, i in pets:
        picture(f"pets/images/{image}.jpg", i)
    lines = [f"{image} {i + 1} {i + 1} 1" for image, i in pets]
    text("pets/annotations/trainval.txt", lines[:6])
    text("pets/annotations/test.txt", lines[6:])
    sun = [(f"/{name}/sun_{n}.jpg", i) for n in "abcd" for i, name in enumerate(("a/abbey", "w/woodland/outdoor"))]
    for image, i in sun:
        picture(f"sun397{image}", i)
    text("sun397/Training_01.txt", [image for image, _ in sun[:6]])
    text("sun397/Testing_01.txt", [image for image, _ in sun[6:]])
    food = [(f"{name}/{100 + n}", i) for n in range(4) for i, name in enumerate(("apple_pie", "waffles"))]
    for image, i in food:
        picture(f"food101/images/{image}.jpg", i)
    text("food101/meta/train.txt", [image for image, _ in food[:6]])
    text("food101/meta/test.txt", [image for image, _ in food[6:]])
    for i, name in enumerate(("BACKGROUND_Google", "accordion")):
        for n in range(31):
            picture(f"caltech101/{name}/image_{n + 1:04}.jpg", i, n)


def voc() -> None:
    # The first shows a dog, the second a person, the third both; in the fourth a dog is hard to see.
    shows = {"dog": ["1", "-1", "1", "0"], "person": ["-1", "1", "1", "-1"]}
    for p, part in enumerate(["train", "val", "test"]):
        images = [f"{100 * p + i + 1:06}" for i in range(4)]
        for i, image in enumerate(images):
            picture(f"voc2007/JPEGImages/{image}.jpg", i % 2, p)
        for thing, signs in shows.items():
            lines = [f"{image} {sign:>2}" for image, sign in zip(images, signs)]
            text(f"voc2007/ImageSets/Main/{thing}_{part}.txt", lines)


def main() -> None:
    setup()
    for make in (cifar, aircraft, cars, flowers, lists, voc):
        make()
    for path in sorted(ROOT.rglob("*.mat")):
        report(path)


if __name__ == "__main__":
    main()
