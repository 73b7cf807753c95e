"""Any token classifier of Transformers, on a tiny one made here: whole words, long texts, thresholds, bad models."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from odd_letters import LETTERS, assert_places_are_right, odd_texts
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForTokenClassification, PreTrainedTokenizerFast

from nescio.core.errors import NescioError
from nescio.pii.base import Detector, Span
from nescio.pii.registry import load_detector

LABELS = ["O", "B-PER", "I-PER", "B-LOC", "S-PHONE"]
WORDS = {"Ann": 1, "Lee": 2, "##son": 2, "Leeds": 3, "555": 4, "walks": 0, "in": 0, "call": 0, ".": 0, "Bo": 1}
FILLER = "Bo walks in . call . "


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT without layers that matter: it labels each token by what the token is, with a probability of 0.9."""
    path = tmp_path_factory.mktemp("model")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    tokenizer = Tokenizer(models.WordPiece({word: n for n, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", model_max_length=16).save_pretrained(path)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        max_position_embeddings=16, id2label=dict(enumerate(LABELS)),
        label2id={name: n for n, name in enumerate(LABELS)},
    )  # fmt: skip
    model = BertForTokenClassification(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        for name, module in model.named_modules():
            if name.endswith("LayerNorm"):
                module.weight.fill_(1.0)
        for n, word in enumerate(vocabulary):  # the label's own direction, which LayerNorm keeps
            model.bert.embeddings.word_embeddings.weight[n, WORDS.get(word, 0)] = 1.0
        peak = float(torch.nn.functional.layer_norm(torch.eye(16)[0], (16,)).max())
        odds = torch.log(torch.tensor(0.9 / 0.1 * (len(LABELS) - 1)))
        for label in range(len(LABELS)):
            model.classifier.weight[label, label] = odds / (peak + 0.25)
    model.save_pretrained(path)
    return path


def found(folder: Path, text: str, **settings: object) -> list[Span]:
    spans = load_detector(f"hf:{folder}", **settings).find([text])[0]  # type: ignore[arg-type]
    assert [text[span.start : span.end] for span in spans] == [span.text for span in spans]
    assert all(one.end <= other.start for one, other in pairwise(spans))
    return spans


def test_pieces_are_whole_words_with_their_types(folder: Path) -> None:
    text = "Ann Leeson walks in Leeds . call 555 555 , Bo"
    assert [(span.type, span.label, span.text) for span in found(folder, text)] == [
        ("person", "PER", "Ann Leeson"), ("place", "LOC", "Leeds"), ("phone", "PHONE", "555"),
        ("phone", "PHONE", "555"), ("person", "PER", "Bo"),
    ]  # fmt: skip


@pytest.mark.parametrize("repeats", [1, 2, 3, 7, 30])
def test_long_texts_are_read_in_windows_that_lose_nothing(folder: Path, repeats: int) -> None:
    spans = found(folder, FILLER * repeats + "Ann Lee " + FILLER * repeats)
    assert [span.text for span in spans] == ["Bo"] * repeats + ["Ann Lee"] + ["Bo"] * repeats


def test_a_batch_gives_what_each_text_gives(folder: Path) -> None:
    detector, texts = load_detector(f"hf:{folder}"), ["Ann", "", FILLER * 9, "Leeds 🙂 Bo"]
    assert detector.find(texts) == [detector.find([text])[0] for text in texts]
    assert detector.find([]) == []


@pytest.fixture(scope="module")
def decomposing(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Detector:
    """The same model behind a tokenizer that takes letters apart: "ﬁ" is two, "ΐ" three."""
    path = tmp_path_factory.mktemp("decomposing")
    BertForTokenClassification.from_pretrained(folder).save_pretrained(path)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    tokenizer.backend_tokenizer.normalizer = normalizers.NFKD()
    tokenizer.save_pretrained(path)
    return load_detector(f"hf:{path}")


@given(text=odd_texts())
def test_letters_that_the_tokenizer_makes_longer_move_nothing(decomposing: Detector, text: str) -> None:
    assert_places_are_right(decomposing, text)
    (spans,) = decomposing.find([f"{LETTERS} Ann {text} Leeds"])
    assert (spans[0].text, spans[-1].text) == ("Ann", "Leeds")


def test_ignored_labels_and_thresholds(folder: Path) -> None:
    text = "Ann walks in Leeds"
    assert [span.text for span in found(folder, text, ignore=["PER"])] == ["Leeds"]
    assert [span.text for span in found(folder, text, thresholds={"person": 0.95})] == ["Leeds"]
    assert found(folder, text, thresholds={"default": 0.95}) == []
    assert len(found(folder, text, thresholds={"default": 0.5})) == 2


def test_mistakes_are_one_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NescioError, match="names no model; use hf:MODEL"):
        load_detector("hf:")
    with pytest.raises(NescioError, match=r"hf:.*nothing: cannot be loaded \(.*give a folder or a hub id"):
        load_detector(f"hf:{tmp_path / 'nothing'}")
    model = BertForTokenClassification.from_pretrained(folder)
    model.config.id2label = {n: f"LABEL_{n}" for n in range(len(LABELS))}
    model.save_pretrained(tmp_path / "plain")
    PreTrainedTokenizerFast.from_pretrained(folder).save_pretrained(tmp_path / "plain")
    with pytest.raises(NescioError, match="its labels have no names; set id2label"):
        load_detector(f"hf:{tmp_path / 'plain'}")
