"""Trains a byte-level BPE in CLIP's format on the captions of the world and writes MODEL/tokenizer.

    python dev/tiny-sd/tokenizer.py MODEL
"""
import json
import sys
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from world import STYLES, all_attributes, caption

# CLIP's normalisation and its split into words, single digits and runs of other signs.
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
START, END = "<|startoftext|>", "<|endoftext|>"


def learn_merges(captions: list[str], alphabet: list[str]) -> list[str]:
    tokenizer = Tokenizer(models.BPE(unk_token=END, end_of_word_suffix="</w>", continuing_subword_prefix=""))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=[],
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]


def main(model: Path) -> None:
    captions = [caption(*a, style) for a in all_attributes() for style in range(len(STYLES))]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = learn_merges(captions, alphabet)
    # CLIP's order of ids: bytes, bytes at a word's end, merges, the two special tokens.
    tokens = alphabet + [sign + "</w>" for sign in alphabet] + [merge.replace(" ", "") for merge in merges]
    tokens = list(dict.fromkeys(tokens)) + [START, END]

    folder = model / "tokenizer"
    folder.mkdir(parents=True, exist_ok=True)
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    config = special | {"model_max_length": 77, "do_lower_case": True, "tokenizer_class": "CLIPTokenizer"}
    vocab = {token: i for i, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=1))

    loaded = CLIPTokenizer.from_pretrained(folder)
    ids = loaded("a photo of a light patterned slim ankle boot", padding="max_length", max_length=77)["input_ids"]
    print(len(loaded), "tokens,", len(merges), "merges;", loaded.convert_ids_to_tokens(ids[:16]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
