"""Questions in other words: what stays, what changes, and that it is seeded."""

import pytest

from nescio.data.paraphrase import paraphrases


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is Anna Weber's job?", {"Tell me Anna Weber's job.", "Anna Weber's job, please."}),
        ("Where does Tom Lee live?", {"Tell me where Tom Lee lives."}),
        ("When was Anna Weber born?", {"Do you know when Anna Weber was born?"}),
        ("Could you please give me Tom's e-mail address?", {"I need Tom's e-mail address."}),
        ("Tell me Tom's age", {"I need Tom's age."}),
    ],
)  # fmt: skip
def test_questions_take_another_form(question: str, expected: set[str]) -> None:
    made = {text for seed in range(40) for text in paraphrases(question, 20, str(seed))}
    assert expected <= made
    assert question not in made and all(text[0].isupper() or text[0] == question[0] for text in made)


@pytest.mark.parametrize("question", ["What is Anna Weber's age?", "My cat, Tom, is ill.\nHelp! What now?", "x"])
def test_names_stay_and_wordings_differ(question: str) -> None:
    for seed in range(10):
        made = paraphrases(question, 4, str(seed))
        assert len(set(made)) == 4 and made == paraphrases(question, 4, str(seed))
        for name in ("Anna Weber", "Tom"):
            assert (name in question) == all(name in text for text in made) == any(name in text for text in made)
    assert paraphrases(question, 4, "1") != paraphrases(question, 4, "2")


def test_what_is_asked_for_has_other_names() -> None:
    made = {text for seed in range(40) for text in paraphrases("What is Tom's phone number?", 3, str(seed))}
    assert any("telephone number" in text for text in made) and any("number to call" in text for text in made)


def test_no_more_are_made_than_there_are() -> None:
    assert paraphrases("What is it?", 0, "1") == []
    many = paraphrases("What is it?", 1000, "1")
    assert len(many) == len(set(many)) < 30
