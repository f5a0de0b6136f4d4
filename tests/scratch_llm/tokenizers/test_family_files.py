"""tokenizer.json of the models of the family: byte-level as in Llama 3 and Qwen, characters as in Llama 2 and Gemma.

The files are made with the tokenizers library, which is also what ids are compared with.
"""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from scratch_llm.tokenizers import ByteLevelBPE, SentencePieceBPE, StreamingDecoder, load_tokenizer

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK = [r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", O200K]

ENGLISH = "The quick brown foxes weren't jumping over 12,345 lazy dogs' backs.\n\nDef f(x):\n    return x ** 2\n" * 3
SPECIAL = ["<unk>", "<s>", "</s>", "<|im_end|>"]
ORDINARY = ["<think>", "\n\n", "밑바닥", "▁▁▁"]


def isolated(*expressions):
    splits = [pre_tokenizers.Split(Regex(expression), "isolated") for expression in expressions]
    return pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def byte_level(pre_tokenizer, normalizer=None, **options):
    peer = Tokenizer(models.BPE(**options))
    peer.normalizer, peer.pre_tokenizer, peer.decoder = normalizer, pre_tokenizer, decoders.ByteLevel()
    return peer


def characters(normalizer=None, pre_tokenizer=None, decoder=(), byte_fallback=True):
    peer = Tokenizer(models.BPE(byte_fallback=byte_fallback, fuse_unk=True, unk_token="<unk>"))
    peer.normalizer, peer.pre_tokenizer = normalizer, pre_tokenizer
    peer.decoder = decoders.Sequence([*([decoders.ByteFallback()] if byte_fallback else []), *decoder])
    return peer


REPLACE, PREPEND = normalizers.Replace(" ", "▁"), normalizers.Prepend("▁")
SHOW = [decoders.Replace("▁", " "), decoders.Fuse()]
STRIP = decoders.Strip(" ", 1, 0)


def metaspace(scheme, split):
    pre_tokenizer = pre_tokenizers.Metaspace("▁", scheme, split)
    return characters(None, pre_tokenizer, [decoders.Metaspace("▁", scheme, split)])


def digits():
    steps = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    return byte_level(pre_tokenizers.Sequence(steps))


def removed():
    split = pre_tokenizers.Split(Regex(LLAMA3), "removed", invert=True)
    return byte_level(pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]))


BYTE_LEVEL = {
    "llama3": lambda: byte_level(isolated(LLAMA3)),
    "qwen": lambda: byte_level(isolated(QWEN), normalizers.NFC()),
    "o200k": lambda: byte_level(isolated(O200K)),
    "deepseek": lambda: byte_level(isolated(*DEEPSEEK)),
    "gaps": lambda: byte_level(isolated(r"[a-z가-깋]+")),
    "groups": lambda: byte_level(isolated(r"( ?\p{L}+)|\s(\s)")),
    "smollm": digits,
    "removed": removed,
}
CHARACTERS = {
    "llama2": lambda: characters(normalizers.Sequence([PREPEND, REPLACE]), None, [*SHOW, STRIP]),
    "gemma": lambda: characters(REPLACE, pre_tokenizers.Split(" ", "merged_with_previous"), SHOW),
    "nfkc": lambda: characters(normalizers.Sequence([normalizers.NFKC(), PREPEND, REPLACE]), None, [*SHOW, STRIP]),
    "metaspace-always": lambda: metaspace("always", True),
    "metaspace-first-whole": lambda: metaspace("first", False),
    "metaspace-never": lambda: metaspace("never", True),
    "no-bytes": lambda: characters(normalizers.Sequence([PREPEND, REPLACE]), None, [*SHOW, STRIP], byte_fallback=False),
}
KINDS = BYTE_LEVEL | CHARACTERS


def add_tokens(peer, normalized=False):
    peer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    peer.add_tokens([AddedToken(name, normalized=normalized) for name in ORDINARY])


def train(kind: str, texts: list[str]) -> Tokenizer:
    peer = KINDS[kind]()
    is_bytes = kind in BYTE_LEVEL
    alphabet = pre_tokenizers.ByteLevel.alphabet() if is_bytes else ["▁", *"abcdefghijklmnopqrstuvwxyz가나다"]
    names = SPECIAL + ([] if is_bytes else [f"<0x{byte:02X}>" for byte in range(256)])
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=names, initial_alphabet=alphabet, limit_alphabet=600, show_progress=False
    )
    # Without a pre-tokenizer a text is one piece, so texts are words with the space before them.
    if not is_bytes and peer.pre_tokenizer is None:
        texts = [word for text in texts for word in text.replace(" ", "\0 ").split("\0")]
    peer.train_from_iterator(texts, trainer)
    if not is_bytes:
        # Training made the byte tokens special; in real files they are ordinary.
        data = json.loads(peer.to_str())
        data["added_tokens"] = [added for added in data["added_tokens"] if added["content"] in SPECIAL]
        peer = Tokenizer.from_str(json.dumps(data))
    add_tokens(peer)
    return peer


@pytest.fixture(scope="module")
def opened(korean_texts, tmp_path_factory):
    """kind -> (theirs, ours), made when first asked for."""
    made = {}

    def get(kind):
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            theirs = train(kind, [*korean_texts[:700], *ENGLISH.splitlines(keepends=True)])
            theirs.save(str(folder / "tokenizer.json"))
            made[kind] = theirs, load_tokenizer(folder)
        return made[kind]

    return get


def ids_of(theirs, text):
    return theirs.encode(text, add_special_tokens=False).ids


def shown_by(theirs, ids, skip=False):
    return theirs.decode(ids, skip_special_tokens=skip)


def check(theirs, ours, text):
    ids = ours.encode(text)
    assert ids == ids_of(theirs, text)
    assert ours.decode(ids) == shown_by(theirs, ids)
    assert ours.decode(ids, skip_special=True) == shown_by(theirs, ids, True)
    for skip in (False, True):
        decoder = StreamingDecoder(ours, skip_special=skip)
        pieces = [*map(decoder.push, ids), decoder.flush()]
        assert "".join(pieces) == shown_by(theirs, ids, skip)
        assert sum(piece.count("\ufffd") for piece in pieces) == text.count("\ufffd")


def texts_of(korean_texts, awkward_texts):
    marked = [f"<s> {text}<|im_end|><think>{text}</s>\n\n{text}밑바닥" for text in awkward_texts]
    decomposed = [unicodedata.normalize("NFD", text) for text in korean_texts[:20]]
    spaces = [" ", "  ", "   a", "a   ", " a  b   c    d", "▁", "▁a ▁ b", "\u00a0a", "<s>", "<s>a", "a<s> b", " <s> ▁▁▁", "\n"]
    return [*awkward_texts, *marked, *korean_texts[700:900], *decomposed, *spaces, ENGLISH, "ſ 'S 'ſ i'LL", "あ漢字1234字"]


@pytest.mark.parametrize("kind", KINDS)
def test_ids_and_text_are_those_of_the_library(kind, opened, korean_texts, awkward_texts):
    theirs, ours = opened(kind)
    assert isinstance(ours, ByteLevelBPE if kind in BYTE_LEVEL else SentencePieceBPE)
    assert ours.vocab_size == theirs.get_vocab_size() > 300
    texts = [text for text in texts_of(korean_texts, awkward_texts) if kind != "no-bytes" or "\ufffd" not in text]
    for text in texts:
        check(theirs, ours, text)
    assert ours.encode_batch(texts) == [encoded.ids for encoded in theirs.encode_batch(texts, add_special_tokens=False)]
    many = list(ours.encode_documents(texts, allow_special=True, end_with="</s>"))
    assert [ids[:-1].tolist() for ids in many] == [ids_of(theirs, text) for text in texts]


# Characters that both sides know: assigned in the Unicode of Python 3.11.
LETTERS = st.one_of(
    st.sampled_from("가힣뷁ㅋㅠ한\u1112\u1161\u11ab👍🏽🇰🇷\u200d'sSſ \n\t\r▁1٣²漢あe\u0301<>|"),
    st.characters(exclude_categories=["Cs", "Cn", "Co"]),
)
WRITINGS = st.lists(
    st.one_of(st.text(LETTERS, max_size=8), st.sampled_from([*SPECIAL, *ORDINARY, "  ", " the", "1234"])), max_size=8
).map("".join)


@settings(max_examples=250, deadline=None)
@given(kind=st.sampled_from(sorted(KINDS)), text=WRITINGS)
def test_any_text(kind, text, opened):
    theirs, ours = opened(kind)
    check(theirs, ours, text)


@settings(max_examples=100, deadline=None)
@given(kind=st.sampled_from(sorted(KINDS)), ids=st.lists(st.integers(0, 10**6), max_size=12), skip=st.booleans())
def test_any_ids_stream_as_they_decode(kind, ids, skip, opened):
    _, ours = opened(kind)
    ids = [number % ours.vocab_size for number in ids]
    for errors in ("ignore", "replace"):
        decoder = StreamingDecoder(ours, skip_special=skip, errors=errors)
        streamed = "".join([*map(decoder.push, ids), decoder.flush()])
        assert streamed == ours.decode(ids, skip_special=skip, errors=errors)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_files_open_again_with_the_same_ids(kind, opened, korean_texts, awkward_texts, tmp_path):
    theirs, ours = opened(kind)
    ours.save(tmp_path)
    again, library = load_tokenizer(tmp_path), Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert type(again) is type(ours) and again.vocab_size == ours.vocab_size
    for text in texts_of(korean_texts, awkward_texts):
        ids = ids_of(theirs, text)
        assert again.encode(text) == ids_of(library, text) == ids
        assert again.decode(ids) == shown_by(library, ids) == shown_by(theirs, ids)


def test_typed_text_cannot_be_special(opened):
    for kind in ("llama3", "llama2"):
        theirs, ours = opened(kind)
        theirs.encode_special_tokens = True
        try:
            for text in ("<s>a</s>", "<think>가<|im_end|>\n\n"):
                assert ours.encode(text, allow_special=False) == ids_of(theirs, text)
                assert not any(ours.is_special(number) for number in ours.encode(text, allow_special=False))
        finally:
            theirs.encode_special_tokens = False
        think = ours.token_to_id("<think>")
        assert think in ours.encode("<think>", allow_special=False) and not ours.is_special(think)


def test_late_added_tokens(opened, tmp_path):
    """normalized: true -- looked for after normalisation, in what the others left."""
    theirs = Tokenizer.from_str(opened("qwen")[0].to_str())
    theirs.add_tokens([AddedToken("<가>", normalized=True), AddedToken("가>나", normalized=False)])
    theirs.save(str(tmp_path / "tokenizer.json"))
    ours = load_tokenizer(tmp_path)
    ours.save(tmp_path / "again")
    for text in ("<가>", unicodedata.normalize("NFD", "a<가>b"), "<가>나", "<가>\u0338", "<s><가><가>"):
        assert ours.encode(text) == load_tokenizer(tmp_path / "again").encode(text) == ids_of(theirs, text)


@pytest.mark.parametrize("kind", ["llama3", "llama2"])
def test_merges_as_strings_and_merges_that_are_ignored(kind, opened, tmp_path, korean_texts, awkward_texts):
    data = json.loads(opened(kind)[0].to_str())
    model = data["model"]
    model["merges"] = [" ".join(merge) for merge in model["merges"]]
    model["ignore_merges"] = True
    # Tokens that no merge makes: with ignore_merges a piece that is one becomes it.
    tokens = ["Ġ닭갈비를", "Ġquickly"] if kind == "llama3" else ["▁닭갈비를", "▁quickly"]
    if kind == "llama3":
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokens[0] = byte_level.pre_tokenize_str(" 닭갈비를")[0][0]
    # The library numbers added tokens anew where the vocabulary does not hold them.
    model["vocab"] |= {added["content"]: added["id"] for added in data["added_tokens"]}
    for token in tokens:
        model["vocab"][token] = 2000 + len(model["vocab"])
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    theirs, ours = Tokenizer.from_file(str(tmp_path / "tokenizer.json")), load_tokenizer(tmp_path)
    texts = [*texts_of(korean_texts, awkward_texts), " 닭갈비를", "닭갈비를", "he ran quickly", "quickly", " quickly"]
    for text in texts:
        assert ours.encode(text) == ids_of(theirs, text), text
    assert any(2000 <= number for number in ours.encode(" quickly" if kind == "llama3" else "quickly"))
    # Many different pieces at once take another way through the code.
    words = [f"{word}{n} quickly" for n, word in enumerate("가나다라마바사아자차" * 30)]
    assert ours.encode_batch(words) == [ids_of(theirs, word) for word in words]
    assert list(map(list, ours.encode_documents(words, end_with=None))) == [ids_of(theirs, word) for word in words]
    ours.save(tmp_path / "again")
    again = Tokenizer.from_file(str(tmp_path / "again" / "tokenizer.json"))
    assert [ids_of(again, text) for text in texts] == [ours.encode(text) for text in texts]


def test_an_added_token_that_merges_make_too(opened, tmp_path):
    """Gemma's "▁▁": cut out where the text spells it, and made by merging where there are spaces."""
    data = json.loads(opened("gemma")[0].to_str())
    model = data["model"]
    model["vocab"] |= {added["content"]: added["id"] for added in data["added_tokens"]} | {"▁▁": 1500}
    model["merges"] += [["▁", "▁"], ["▁▁", "▁"]]
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    theirs, ours = Tokenizer.from_file(str(tmp_path / "tokenizer.json")), load_tokenizer(tmp_path)
    ours.save(tmp_path / "again")
    for text in ("a   b", "▁▁▁", "   ", "  a", "▁▁▁   ▁▁ "):
        check(theirs, ours, text)
        assert load_tokenizer(tmp_path / "again").encode(text) == ours.encode(text)
    assert ours.encode("   ") == ours.encode("▁▁▁") == [ours.token_to_id("▁▁▁")]


def test_tokens_around_a_text(opened, tmp_path):
    theirs = Tokenizer.from_str(opened("llama3")[0].to_str())
    theirs.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]),
    ])  # fmt: skip
    theirs.save(str(tmp_path / "tokenizer.json"))
    ours = load_tokenizer(tmp_path)
    assert ours.encode("가", add_special_tokens=True) == theirs.encode("가").ids == [1, *ours.encode("가"), 2]
    ours.save(tmp_path / "again")
    assert Tokenizer.from_file(str(tmp_path / "again" / "tokenizer.json")).encode("가").ids == theirs.encode("가").ids


def test_roles_and_chat_template(opened, tmp_path):
    opened("llama3")[0].save(str(tmp_path / "tokenizer.json"))
    config = {"eos_token": {"content": "<|im_end|>"}, "bos_token": "<s>", "chat_template": "{{ messages }}", "pad_token": None}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    ours = load_tokenizer(tmp_path)
    ours.save(tmp_path / "again")
    for tokenizer in (ours, load_tokenizer(tmp_path / "again")):
        assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (1, 3, None)
        assert tokenizer.chat_template == "{{ messages }}"


def test_a_text_that_goes_on_keeps_its_space(opened):
    ours = opened("llama2")[1]
    ids = ours.encode("the dogs")
    assert ours.decode(ids) == "the dogs"
    decoder = StreamingDecoder(ours, continues=True)
    assert "".join(map(decoder.push, ids)) == " the dogs"


def test_a_broken_character_from_bytes(opened):
    """Ours shows whole characters and one U+FFFD; the library gives up all neighbouring byte tokens."""
    theirs, ours = opened("llama2")
    ids = [ours.encode(text)[-n:] for text, n in (("뷁", 3), ("뷁", 3))]
    broken = [*ids[0], *ids[1][:2]]
    assert ours.decode(broken) == "뷁\ufffd" and shown_by(theirs, broken) == "\ufffd" * 5


def test_stories260k(shared_data, korean_texts, awkward_texts):
    """A real Llama 2 file: 512 tokens, byte fallback, "<s>" in front."""
    folder = shared_data / "tiny_models" / "stories260K" / "hf"
    theirs, ours = Tokenizer.from_file(str(folder / "tokenizer.json")), SentencePieceBPE.load(folder)
    assert (ours.vocab_size, ours.bos_id, ours.eos_id) == (512, 1, 2)
    for text in [*texts_of(korean_texts, awkward_texts), "Once upon a time, there was a little girl named Lily."]:
        check(theirs, ours, text)
        assert ours.encode(text, add_special_tokens=True) == theirs.encode(text).ids
    long = " ".join(korean_texts) + "a" * 3000
    assert ours.encode(long) == ids_of(theirs, long)


# -- refusals -----------------------------------------------------------------------------------------


def change(**parts):
    return lambda data: data.update(parts)


REFUSED = [
    ("llama3", change(normalizer={"type": "Lowercase"}), "normalizer 'Lowercase' is not supported"),
    ("llama3", change(normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "NFKC"}]}), "['NFC', 'NFKC']"),
    ("llama3", lambda d: d["pre_tokenizer"]["pretokenizers"][0].update(behavior="Contiguous"), "behavior 'Contiguous'"),
    ("llama3", lambda d: d["pre_tokenizer"]["pretokenizers"][1].update(add_prefix_space=True), "without a prefix space"),
    ("llama3", lambda d: d["pre_tokenizer"]["pretokenizers"].insert(0, {"type": "Punctuation"}), "pre-tokenizer 'Punctuation'"),
    ("llama3", change(post_processor={"type": "RobertaProcessing"}), "post-processor 'RobertaProcessing'"),
    ("llama3", lambda d: d["model"].update(dropout=0.1), "dropout 0.1 is not supported"),
    ("llama3", lambda d: d["model"].update(continuing_subword_prefix="##"), "continuing_subword_prefix '##'"),
    ("llama3", lambda d: d["model"].update(type="WordLevel"), "model type 'WordLevel'"),
    ("llama3", lambda d: d["added_tokens"][0].update(rstrip=True), "added token '<unk>' with rstrip"),
    ("llama2", change(normalizer={"type": "Precompiled"}), "normalizer 'Precompiled' is not supported"),
    ("llama2", change(normalizer=None), "does not write spaces as '▁'"),
    ("llama2", change(normalizer={"type": "Replace", "pattern": {"Regex": " +"}, "content": "▁"}), "normalizer Replace of"),
    ("llama2", change(normalizer={"type": "Sequence", "normalizers": [
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}, {"type": "NFC"}]}), "normalizer NFC after others"),
    ("llama2", change(pre_tokenizer={"type": "Whitespace"}), "pre-tokenizer 'Whitespace'"),
    ("llama2", change(pre_tokenizer={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"}), "together with"),
    ("llama2", change(decoder=None), "decoder [] is not supported"),
    ("llama2", change(decoder={"type": "Replace", "pattern": {"String": "▁"}, "content": " "}), "with ByteFallback"),
    ("llama2", lambda d: d["decoder"]["decoders"][-1].update(start=2), "decoder Strip of (' ', 2, 0)"),
    ("llama2", lambda d: d["decoder"]["decoders"].append({"type": "WordPiece"}), "decoder 'WordPiece'"),
    ("llama2", lambda d: d["model"]["vocab"].pop("<0x41>"), "<0x41> is missing"),
    ("llama2", lambda d: d["added_tokens"][0].update(normalized=True), "added token '<unk>' with normalized"),
    ("no-bytes", lambda d: d["model"].update(unk_token=None), "neither byte_fallback nor an unknown token"),
]  # fmt: skip


@pytest.mark.parametrize("kind, damage, expected", REFUSED, ids=[expected for _, _, expected in REFUSED])
def test_what_is_not_supported_is_named(kind, damage, expected, opened, tmp_path):
    data = json.loads(opened(kind)[0].to_str())
    damage(data)
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    with pytest.raises(ValueError) as error:
        load_tokenizer(tmp_path)
    assert expected in str(error.value) and str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_the_other_kind(opened, tmp_path):
    opened("llama2")[0].save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match="holds a SentencePieceBPE, not a ByteLevelBPE: open it with"):
        ByteLevelBPE.load(tmp_path)


def test_a_lone_surrogate(opened):
    for kind in ("llama3", "llama2", "no-bytes"):
        with pytest.raises(ValueError, match=r"lone surrogate U\+D800"):
            opened(kind)[1].encode("가\ud800")
