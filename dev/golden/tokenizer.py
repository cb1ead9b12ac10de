"""CLIP token ids of 200 awkward captions with the real CLIP vocabulary and with the tiny one.

    python dev/golden/tokenizer.py

Reference: transformers' CLIPTokenizer (version 5: the `tokenizers` backend; no ftfy, no HTML unescaping): NFC, white space to one
blank, lower case character by character, split into words, single digits and runs of other signs, byte-level BPE.
The real merges come from open_clip's copy of OpenAI's vocabulary (MIT licence); vocab.json follows from them: 256 bytes, 256 bytes
at a word's end, 48,894 merges, two special tokens = 49,408.
"""
import gzip
import json
import tempfile
from pathlib import Path

import open_clip
from transformers import CLIPTokenizer

from common import FIXTURES, TINY_SD, report, save_json

START, END = "<|startoftext|>", "<|endoftext|>"
MERGES = 49152 - 256 - 2

AWKWARD = [
    "", " ", "   ", "\t", "a", "A", ".", "!", "0", "a  b", " leading and trailing ", "tab\tinside", "line\nbreak", "carriage\r\nreturn",
    "no\u00a0break\u00a0space", "thin\u2009space", "ideographic\u3000space", "zero\u200bwidth\u200bspace", "zero\u200djoiner", "soft\u00adhyphen",
    "vertical\x0btab", "form\x0cfeed", "next\x85line", "line\u2028separator\u2029paragraph", "nul\x00inside", "\x01\x02\x03", "del\x7fete", "esc\x1b[31mred\x1b[0m",
    "bell\x07 rings", "\ufeffbyte order mark", "\ufffdreplacement", "private \ue000 use", "noncharacter \uffff", "unassigned \U000e0fff",
    "It's a dog's life", "they're we've I'm you'll he'd can't", "THEY'RE IT'S I'M", "rock 'n' roll", "''quoted''", "it’s a curly apostrophe", "'s", "s'", "'", "''s", "don''t",
    "1", "12", "1234567890", "3.14159", "1,000,000", "2nd 3rd 4th", "v2.0.1", "x=y+z", "50%", "$99.99", "€5 £6 ¥7", "½ cup ¼ spoon", "x² + y³", "Ⅷ roman", "①②③", "٣٤٥ arabic digits",
    "१२३ devanagari digits", "１２３ full width", "ＡＢＣ full width letters", "10-year-old", "a/b\\c", "a_b-c", "a.b.c", "e.g. i.e. etc.", "...", "…", "--", "—", "–", "- dash -", "?!?!", "!!!???",
    "@user #hashtag", "https://example.com/a?b=c&d=e#f", "mail@example.com", "C:\\path\\file.txt", "<b>bold</b>", "&amp; &lt; &gt; &quot; &#39; &eacute;", "&amp;amp;", "{json: [1, 2]}", "(paren) [bracket] {brace}",
    "`code`", "~tilde~ ^caret^ |pipe|", "\"double\" “curly” «guillemets» „low“", "a & b", "#1", "100%!", "*star* **bold**", "/* comment */",
    "café", "cafe\u0301", "naïve façade", "Ångström", "A\u030angstro\u0308m", "ÀÉÎÕÜ", "ß straße STRASSE", "ẞ capital sharp s", "İstanbul dotted", "ıstanbul dotless", "ΟΔΟΣ final sigma", "ὈΔΥΣΣΕΎΣ", "ﬁne ﬂow ligatures", "æther œuvre ÆŒ",
    "ǅ titlecase", "ŉ apostrophe n", "ſ long s", "Kelvin \u212a Angstrom \u212b Ohm \u2126", "e\u0301\u0301 double accent", "z\u0351\u036b\u0343a\u0348l\u0321g\u0322o", "\u0301leading accent", "한국어 고양이", "\u1112\u1161\u11ab conjoining jamo",
    "고양이가 소파에 앉아 있다", "猫", "一只猫坐在沙发上", "猫がソファに座っている", "カタカナ ｶﾀｶﾅ", "か\u3099 voiced", "漢字かな交じり文", "㍻ ㎏ ㈱", "𠮷野家", "﨑 compatibility", "кот на диване", "ЖЁЛТЫЙ Йод", "ёлка е\u0308лка",
    "قطة على الأريكة", "שלום עולם", "שָׁלוֹם", "الْعَرَبِيَّةُ", "\u202bright to left\u202c", "\u200fmark", "ไทย แมว", "हिन्दी बिल्ली", "தமிழ்", "ქართული ᲐᲑᲒ", "Ελληνικά γάτα", "ელ", "አማርኛ", "မြန်မာ", "ខ្មែរ", "བོད", "ᏣᎳᎩ ꮳꮃꭹ cherokee", "𐐔𐐯𐑅 deseret", "𝒜𝓁𝓅𝒽𝒶 math",
    "😀", "😀😀😀", "a 😀 cat", "👍🏽 skin tone", "👨‍👩‍👧‍👦 family", "🇫🇷🇯🇵 flags", "❤️ heart", "❤", "☺︎ text style", "1️⃣ keycap", "🏴󠁧󠁢󠁥󠁮󠁧󠁿 england", "cat😺dog🐶", "★☆✓✗", "→←↑↓", "♠♥♦♣", "∑∫√∞≠≤", "α β γ", "°C °F", "™ ® ©",
    "<|endoftext|>", "a <|endoftext|> b", "<|startoftext|>", "<|startoftext|>a cat<|endoftext|>", "a<|endoftext|>b", "<|ENDOFTEXT|>", "<|endoftext", "< |endoftext| >", "</w>", "a</w> b", "<|startoftext|> <|startoftext|>",
    "the quick brown fox jumps over the lazy dog", "A Photo Of A CAT", "camelCaseWord and snake_case_word", "antidisestablishmentarianism", "pneumonoultramicroscopicsilicovolcanoconiosis", "Donaudampfschifffahrtsgesellschaftskapitän", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "qwrtpsdfghjklzxcvbnm", "a photo of a dark patterned slim dress", "a photo of a light plain wide ankle boot", "t-shirt", "pair of trousers",
    "a " * 75, "a " * 76, "dog " * 74 + "cat", "dog " * 75 + "cat", "dog " * 76 + "cat", "a very long caption " * 30, "x" * 400, "日" * 60, "😀" * 40, "é" * 120, "!" * 300, "1" * 100, "word, " * 60, " " * 500 + "far right", "a" + " " * 500,
]  # fmt: skip


def real_merges() -> str:
    packed = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.decompress(packed.read_bytes()).decode("utf-8").split("\n")
    return "\n".join(["#version: 0.2"] + lines[1 : MERGES + 1]) + "\n"


def byte_signs() -> list[str]:
    """The 256 signs that stand for bytes, in CLIP's order: printable bytes first, then the others moved above 255."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    moved = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(moved))]


def vocabulary(merges: str) -> dict[str, int]:
    signs = byte_signs()
    joined = [line.replace(" ", "") for line in merges.split("\n")[1:] if line]
    tokens = signs + [sign + "</w>" for sign in signs] + joined + [START, END]
    return {token: i for i, token in enumerate(tokens)}


def rows(tokenizer: CLIPTokenizer) -> list[dict]:
    result = []
    for text in AWKWARD:
        padded = tokenizer(text, padding="max_length", max_length=77, truncation=True)["input_ids"]
        result.append({"text": text, "tokens": len(tokenizer(text)["input_ids"]), "ids": padded})
    return result


def main() -> None:
    assert len(AWKWARD) >= 200 and len(set(AWKWARD)) == len(AWKWARD), len(AWKWARD)
    folder = FIXTURES / "clip_tokenizer"
    folder.mkdir(parents=True, exist_ok=True)
    merges = real_merges()
    (folder / "merges.txt").write_text(merges, encoding="utf-8")
    report(folder / "merges.txt")
    with tempfile.TemporaryDirectory() as scratch:
        vocab = vocabulary(merges)
        assert len(vocab) == 49408
        (Path(scratch) / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
        (Path(scratch) / "merges.txt").write_text(merges, encoding="utf-8")
        config = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END, "model_max_length": 77}
        (Path(scratch) / "tokenizer_config.json").write_text(json.dumps(config))
        real = CLIPTokenizer.from_pretrained(scratch)
        assert real("a photo of a cat")["input_ids"] == [49406, 320, 1125, 539, 320, 2368, 49407]
        save_json("tokenizer_real.json", rows(real))
    tiny = CLIPTokenizer.from_pretrained(TINY_SD / "tokenizer")
    save_json("tokenizer_tiny.json", rows(tiny))
    # The same tiny tokenizer as one file, for readers of tokenizer.json.
    with tempfile.TemporaryDirectory() as scratch:
        # Loaded anew: the calls above left their padding and truncation in the tokenizer.
        CLIPTokenizer.from_pretrained(TINY_SD / "tokenizer").save_pretrained(scratch)
        text = (Path(scratch) / "tokenizer.json").read_text(encoding="utf-8")
        target = FIXTURES / "tiny_tokenizer" / "tokenizer.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
        report(target)


if __name__ == "__main__":
    main()
