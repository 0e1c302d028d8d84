"""CLIP's byte-pair tokenizer against open_clip's, and its learning against a slow rewrite."""

from collections import Counter

import open_clip
import pytest
import torch

from labutils.data import emoji
from press import technique


@pytest.fixture(scope="module")
def clip():
    return technique.load("clip")


@pytest.fixture(scope="module")
def captions():
    return [", ".join([c.name, *c.keywords]) for c in emoji.concepts_and_styles()[0]]


TEXTS = [
    "a photo of a cat", "it's a dog’s life", "Tom &amp;amp; Jerry &lt;3", "  spaced\n\tout  ",
    "2024 was 100% fun!!", "café Zürich 日本 ☕🙂", "ALL CAPS", "under_score", "",
    "don't we'll I'm", "“quoted” ‘single’", "semi;colon,comma.", "x" * 300,
]  # fmt: skip


def released(clip):
    theirs = open_clip.get_tokenizer("ViT-B-32")
    number = theirs.encoder
    pairs = sorted(theirs.bpe_ranks, key=theirs.bpe_ranks.get)
    return theirs, clip.Tokenizer({(number[a], number[b]): number[a + b] for a, b in pairs}, 77)


def test_with_the_released_merges_tokens_equal_open_clips(clip, captions):
    theirs, ours = released(clip)
    assert (ours.vocab_size, ours.sot, ours.eot) == (49_408, 49_406, 49_407)
    texts = TEXTS + captions
    for text, a, b in zip(texts, ours(texts), theirs(texts), strict=True):
        assert torch.equal(a, b), text


def slow_merges(clip, texts, count):
    """Recount every pair of every word for every merge."""
    words = [clip.spell(w) for text in texts for w in clip.words_of(text)]
    merges = {}
    for _ in range(count):
        pairs = Counter((w[k], w[k + 1]) for w in words for k in range(len(w) - 1))
        if not pairs:
            break
        pair = min(pairs, key=lambda p: (-pairs[p], p))
        merges[pair] = new = 512 + len(merges)
        for w in words:
            k = 0
            while k < len(w) - 1:
                if (w[k], w[k + 1]) == pair:
                    w[k : k + 2] = [new]
                k += 1
    return merges


@pytest.mark.parametrize(
    "texts",
    [
        ["low lower lowest", "new newer newest wide"],
        ["aaaa aaa aa a aaaaaaa", "abab ababab ba"],
        ["日本 日本語 café", "!!! !! ?!"],
        [],
    ],
)
def test_merges_equal_those_of_a_slow_recount(clip, texts):
    assert list(clip.learn_merges(texts, 60).items()) == list(slow_merges(clip, texts, 60).items())


def test_merges_of_real_captions_equal_the_slow_recount(clip, captions):
    some = captions[::40]
    assert list(clip.learn_merges(some, 80).items()) == list(slow_merges(clip, some, 80).items())


def test_merges_do_not_depend_on_the_order_of_the_texts(clip, captions):
    some = captions[::20]
    assert clip.learn_merges(some, 200) == clip.learn_merges(some[::-1], 200)


def test_encoding_a_learned_word_gives_what_learning_left(clip):
    """Applying the merges in order, each everywhere, is what encoding has to give."""
    texts = ["the cat sat on the mat", "the catalogue that sat there"]
    merges = clip.learn_merges(texts, 25)
    tokenizer = clip.Tokenizer(merges, 20)
    for word in {w for text in texts for w in clip.words_of(text)} | {"hatch", "matinee", "z"}:
        symbols = clip.spell(word)
        for pair, new in merges.items():
            symbols = clip.join(symbols, pair, new)
        assert tokenizer.encode_word(word) == symbols


def test_round_trip(clip, captions):
    tokenizer = clip.Tokenizer(clip.learn_merges(captions, 500), 1200)
    for text in [*captions[::60], "crème brûlée", "日本 🙂", "never seen: xyzzy 42"]:
        expected = " ".join(clip.words_of(text))
        assert clip.decode(tokenizer, tokenizer([text])[0]) == expected


def test_rows_start_end_fill_and_cut(clip):
    tokenizer = clip.Tokenizer({}, 6)
    rows = tokenizer(["ab", "abcdefgh", ""])
    a, b = clip.spell("ab")
    assert rows[0].tolist() == [512, a, b, 513, 0, 0]
    assert (rows[1, 0], rows[1, -1]) == (512, 513)
    assert (rows[1] != 0).all()
    assert rows[2].tolist() == [512, 513, 0, 0, 0, 0]
    assert rows.dtype == torch.int64
    assert (rows.argmax(1) == torch.tensor([3, 5, 1])).all()  # the end is the largest token


def test_every_byte_has_its_own_symbol(clip):
    assert sorted(clip.BYTES) == list(range(256))
    assert clip.SYMBOL[ord("!")] == 0  # as in the released vocabulary
    assert clip.spell("a") == [clip.SYMBOL[ord("a")] + 256]


def test_a_single_text_is_refused(clip):
    with pytest.raises(TypeError, match="expects a list of texts"):
        clip.Tokenizer({}, 6)("a cat")
