"""People and facts: lists with their errors, dialogs, what proves nothing, and made-up people."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scripted import PEOPLE, Nothing, Scripted

from nescio.audit.base import Setting
from nescio.audit.common import why_left_out
from nescio.audit.controls import controls
from nescio.audit.matching import match
from nescio.audit.people import Fact, facts_of_dialogs, read_people
from nescio.audit.plan import plan
from nescio.core.errors import NescioError
from nescio.core.files import write_jsonl, write_text

Facts = list[list[Fact]]
CarryOut = Callable[..., dict[str, Any]]


def test_csv_and_json_lines_are_the_same_people(people: Facts, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "p.jsonl", ({"name": name, "phone": phone, "city": city} for name, phone, city in PEOPLE))
    assert list(read_people(tmp_path / "p.jsonl")) == people
    semicolons = "\n".join(["Name;phone;city;", *(f"{name};{phone};{city};" for name, phone, city in PEOPLE)])
    write_text(tmp_path / "p.csv", "\ufeff" + semicolons.replace(";\n", "\n").rstrip(";"))
    assert list(read_people(tmp_path / "p.csv")) == people
    first = people[0][0]
    assert (first.type, first.noun, first.asked) == ("phone", "phone", "What is Anna Ferrari's phone?")
    assert first.clues == (("city", "Geneva"),)


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("p.csv", "name,phone\nAnna,\n", "p.csv:2: 'Anna' has no facts"),
        ("p.csv", "name,phone\nAnna,1\nTom,2\nAnna,3\n", "p.csv:4: 'Anna' stands at line 2 already"),
        ("p.csv", "name,phone\n,1\n", "p.csv:2: name: missing or empty"),
        ("p.csv", "phone,city\n1,Leeds\n", "p.csv:2: name: missing or empty"),
        ("p.csv", "name,phone\nAnna,1,2\n", "p.csv:2: other columns than in the header"),
        ("p.csv", "name,phone\n", "p.csv: holds no people"),
        ("p.csv", "name,phone, Phone\nAnna,1,2\n", "p.csv:1: column 'phone' stands there twice"),
        ("p.csv", "name,phone,\nAnna,1,2\n", "p.csv:1: a column has no name"),
        ("p.csv", f'name,phone\nAnna,"{"1" * 200_000}\n', "look for a quotation mark that is not closed"),
        (
            "p.csv",
            'name,phone\nAnna,"415-555-0101\nTom,2\n',
            "p.csv:2: unexpected end of data; look for a quotation mark",
        ),
        ("p.csv", 'name,phone\nAnna,"1\nTom,2\nIda,"3"\n', "p.csv:2: "),
        ("p.csv", 'name,phone\nAnna,"1\nTom,2\nIda,"\n', "p.csv:4: a cell goes on over lines and holds ',': '1'…"),
        ("p.csv", "sep=;\nname;phone\nAnna;1;2\n", "p.csv:3: other columns than in the header"),
        ("p.csv", "name,phone\nAnn Lee,1\nANN  lee,2\n", "p.csv:3: 'ANN  lee' stands at line 2 already"),
        ("p.csv", 'name,phone\n"Lee, Ann",1\nAnn Lee,2\n', "p.csv:3: 'Ann Lee' stands at line 2 already"),
        ("p.csv", "name,Geburtsdatum\nAnna,31900\n", "Geburtsdatum: '31900' is a spreadsheet's number of a day"),
        ("p.csv", "name,phone\nAnna,4.15556E+09\n", "p.csv:2: phone: '4.15556E+09' is a number that a spreadsheet has"),
        ("p.csv", 'name;tel\nAnna;"4,15556E+09"\n', "p.csv:2: tel: '4,15556E+09' is a number that a spreadsheet has"),
        (
            "p.csv",
            "name,date of birth\nAnna,31900\n",
            "p.csv:2: date of birth: '31900' is a spreadsheet's number of a day",
        ),
        (
            "p.csv",
            "name,tel\nAnna,415-555-0101 / 415-555-0102\n",
            "p.csv:2: tel: '415-555-0101 / 415-555-0102' is more than",
        ),
        ("p.csv", "name,tel\nAnna,415-555-0101 or 0102\n", "is more than one telephone number; give each a column"),
        ("p.csv", "name,tel\nAnna,14155550101 4155550102\n", "is more than one telephone number; give each a column"),
        ("p.csv", "name,email\nAnna,a@x.example; b@x.example\n", "is more than one e-mail address; give each a column"),
        ("p.jsonl", '{"name": "Anna", "size": NaN}\n', "p.jsonl:1: size: must be a text or a number"),
        ("p.jsonl", '{"name": "Anna"}\n', "p.jsonl:1: 'Anna' has no facts"),
        ("p.jsonl", '{"name": "Anna", "city": "\\ud800"}\n', "p.jsonl:1: city: holds half a character (U+D800"),
        ("p.jsonl", f'{{"name": "Anna", "tel": {"1" * 400}}}\n', "is more than one telephone number"),
        ("p.jsonl", '{"name": "Anna", "phones": ["1"]}\n', "p.jsonl:1: phones: must be a text or a number"),
        ("p.jsonl", '{"messages": []}\n', "p.jsonl:1: is a conversation; give a file of conversations as --dialogs"),
        ("p.jsonl", "[1]\n\n", "p.jsonl:1: not a JSON object"),
        ("p.jsonl", "Anna\n", "p.jsonl:1: not JSON"),
    ],
)
def test_bad_lists_are_one_line_with_file_and_line(name: str, text: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(NescioError) as error:
        list(read_people(tmp_path / name))
    assert complaint in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\nname;phone;city\nAnna Ferrari;415-555-0101;Geneva\n",
        "name,phone,city\r\n,,\r\nAnna Ferrari,415-555-0101,Geneva\r\n,,,,\r\n",
        "name,phone,city\nAnna Ferrari,415-555-0101,Geneva\nanna  FERRARI,415-555-0101,Geneva\n",
        '"name";"phone";"city"\n"Anna Ferrari";"415-555-0101";"Geneva"\n',
        "\ufeffname\tphone\tcity\nAnna Ferrari\t415-555-0101\tGeneva\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_files_of_spreadsheets_are_read(text: str, encoding: str, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_bytes(text.encode(encoding))
    ((phone, city),) = read_people(tmp_path / "p.csv")
    assert (phone.person, phone.value, city.value) == ("Anna Ferrari", "415-555-0101", "Geneva")


def test_delimiters_inside_quotation_marks_are_none(tmp_path: Path) -> None:
    write_text(tmp_path / "p.csv", '"name";"phone, mobile, fax"\nAnna;"1\n2"\n')
    ((fact,),) = read_people(tmp_path / "p.csv")
    assert (fact.noun, fact.value) == ("phone, mobile, fax", "1\n2")


def test_whole_numbers_are_written_without_a_point(tmp_path: Path) -> None:
    write_text(tmp_path / "p.csv", "name,phone,salary,score\nAnna,4155550101.0,52000.0,3.0\n")
    write_text(tmp_path / "p.jsonl", '{"name": "Anna", "phone": 4155550101.0, "salary": 5.2e4, "score": "3.0"}\n')
    for name in ("p.csv", "p.jsonl"):
        (own,) = read_people(tmp_path / name)
        assert [fact.value for fact in own] == ["4155550101", "52000", "3.0"]


def test_a_name_with_the_surname_first_is_asked_about_as_it_is_said(tmp_path: Path) -> None:
    write_text(tmp_path / "p.csv", 'name,phone\n"Lee, Ann",415-555-0101\n')
    ((fact,),) = read_people(tmp_path / "p.csv")
    assert (fact.person, fact.names, fact.asked) == ("Lee, Ann", ("Ann Lee",), "What is Ann Lee's phone?")


@pytest.mark.parametrize("name", ["lost.csv", "lost.jsonl", "lost"])
def test_a_list_that_is_not_there(name: str, tmp_path: Path) -> None:
    with pytest.raises(NescioError, match=rf"{name}: no such file; check the path"):
        list(read_people(tmp_path / name))


def test_dialogs_without_personal_data_are_an_error(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good day."}]
    write_jsonl(tmp_path / "d.jsonl", [{"messages": turns}])
    with pytest.raises(NescioError, match="no assistant turn holds personal data"):
        list(facts_of_dialogs(tmp_path / "d.jsonl", Nothing()))


def test_what_proves_nothing_is_left_out_with_its_reason(tmp_path: Path) -> None:
    lines = ["name,day,code,team,age,city,note"]
    lines += [f"P{n} Quill,Monday,K{n},Reds,{20 + n},Place{n}ville,about P{n} Quill" for n in range(10)]
    write_text(tmp_path / "p.csv", "\n".join(lines))
    facts = [fact for own in read_people(tmp_path / "p.csv") for fact in own]
    reasons = why_left_out(facts)
    assert reasons["P0 Quill/day"] == "an everyday word" and reasons["P0 Quill/code"] == "too short"
    assert reasons["P0 Quill/team"] == "the same for 10 of 10" and "P0 Quill/city" not in reasons
    assert reasons["P0 Quill/age"] == "too short"
    planned = plan([facts], ["as_in_dialog"], 100, Setting())
    assert {fact.noun for fact in planned.facts} == {"city", "note"}
    assert len(planned.left_out) == 40
    with pytest.raises(NescioError, match="no fact could prove anything: 'Monday' is an everyday word"):
        plan([[fact for fact in facts if fact.noun == "day"]], [], 100, Setting())


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("city", "北京", None),
        ("city", "서울", None),
        ("name of the cat", "たま", None),
        ("city", "京", "too short"),
        ("city", "Ux", "too short"),
        ("phone", "x204", "no telephone number of four digits"),
        ("phone", "+1 415-555-0101 x204", None),
        ("date of birth", "3 мая 1987", "a date in a form that is not read; write it as 1987-05-03"),
        ("date of birth", "45/67/1987", "a date in a form that is not read; write it as 1987-05-03"),
        ("date of birth", "May 1987", None),
    ],
)
def test_what_is_too_short_or_in_no_form_that_is_compared(
    column: str, value: str, reason: str | None, tmp_path: Path
) -> None:
    write_text(tmp_path / "p.csv", f"name,{column}\nAnna,{value}\n")
    ((fact,),) = read_people(tmp_path / "p.csv")
    assert why_left_out([fact]).get(fact.id) == reason
    several = replace(fact, type="phone", value="415-555-0101 / 415-555-0102")  # as a dialog may say it
    assert "more than one telephone number" in why_left_out([several])[fact.id]


def test_what_those_share_who_are_asked_about_together_is_told_by_others(tmp_path: Path) -> None:
    family = [f"{name} Holm,12 Elm Road Boston,415-555-0101,Boston,chess" for name in ("Ada", "Tom", "Ida")]
    write_text(tmp_path / "p.csv", "\n".join(["name,address,phone,city,hobby", *family]))
    write_text(
        tmp_path / "others.csv",
        "\n".join(["name,address,city", *(f"P{n} Quill,12 Elm Road Boston,Boston" for n in range(5))]),
    )
    facts = [fact for own in read_people(tmp_path / "p.csv") for fact in own]
    others = [fact for own in read_people(tmp_path / "others.csv") for fact in own]
    assert len(why_left_out(facts)) == len(facts), "nothing tells them apart from each other"
    assert why_left_out(facts, ()) == {}
    assert why_left_out(facts, others) == {
        f"{name} Holm/city": "the same for 5 of 5 others" for name in ("Ada", "Tom", "Ida")
    }
    assert len(plan([facts], ["as_in_dialog"], 100, Setting(), strangers=others).facts) == 9


def test_what_the_conversation_says_already_is_left_out(dialogs: Facts) -> None:
    fact = dialogs[0][0]
    turns = [{"role": "user", "content": "I am ANNA ferrari."}, {"role": "assistant", "content": "Hello"}]
    said_before = Fact(**{name: getattr(fact, name) for name in Fact.__slots__} | {"messages": turns})
    assert why_left_out([said_before]) == {fact.id: "said in the question"}


def test_one_fact_of_each_before_a_second_of_any(people: Facts) -> None:
    planned = plan(people, ["as_in_dialog"], 5, Setting())
    assert len({fact.person for fact in planned.facts}) == 5
    assert len(plan(people, ["as_in_dialog"], 7, Setting()).facts) == 7


@pytest.mark.parametrize("source", ["people", "dialogs"])
def test_made_up_people_are_asked_about_alike_and_are_in_no_data(source: str, request: pytest.FixtureRequest) -> None:
    facts = [fact for own in request.getfixturevalue(source) for fact in own]
    pieces = {piece for person in PEOPLE for piece in person}
    for fact, other in zip(facts, controls(facts, 0), strict=True):
        text = "\n".join(turn["content"] for turn in other.messages)
        assert not any(match(text, piece, "other") for piece in pieces), "no real name is in the question"
        assert not pieces & {other.value, *other.names, *(value for _, value in other.clues)}
        assert len(other.messages) == len(fact.messages) and other.noun == fact.noun
        assert other.other is not None and other.other.person != fact.person and other.other.value != fact.value
    assert controls(facts, 0) == controls(facts, 0) != controls(facts, 1)


def test_what_a_column_holds_is_told_by_its_name_or_by_the_form_of_its_values(tmp_path: Path) -> None:
    header = "name,mobile number,work email,blood type,contact"
    write_text(tmp_path / "p.csv", f"{header}\nAnna,1,2,AB negative,ann@lee.example\nTom,3,4,A,Leeds\n")
    anna, tom = read_people(tmp_path / "p.csv")
    assert [fact.type for fact in anna] == ["phone", "email", "other", "email"]
    assert tom[3].type == "other"
    (made_up, _) = controls([anna[2], tom[2]], 0)
    assert made_up.value.replace(" ", "").isalpha(), "words that can be said"


@pytest.mark.parametrize(
    ("column", "value", "kind"),
    [
        ("email", "415-555-0132", "email"),  # the whole name is known
        ("date of birth", "soon", "birth_date"),
        ("work email", "+49 30 901820", "phone"),  # the form is
        ("home phone", "ann@lee.example", "email"),
        ("customer", "ann@lee.example", "email"),
        ("phone (alt)", "GB82 WEST 1234 5698 7654 32", "account"),
        ("joined", "2021-05-03", "date"),
        ("joined", "2021-05-03T00:00:00", "date"),
        ("born_on", "1981-05-03 00:00:00", "birth_date"),
        ("Geburtsdatum", "19810503", "birth_date"),
        ("order", "19810503", "other"),
        ("contact", "415-555-0132 #204", "phone"),
        ("joined", "3 May 2021", "date"),
        ("born_on", "3 May 1981", "birth_date"),
        ("customer dob", "1981-05-03", "birth_date"),
        ("order number", "415-555-0132", "other"),
        ("joined", "2021", "other"),
        ("mobile number", "12", "phone"),  # the name's last words
        ("work email", "none", "email"),
        ("hire_date", "last spring", "date"),
        ("file_name", "Leeds", "other"),
        ("favourite colour", "green", "other"),
    ],
)
def test_a_whole_name_decides_before_the_form_and_the_form_before_a_names_last_words(
    tmp_path: Path, column: str, value: str, kind: str
) -> None:
    write_jsonl(tmp_path / "p.jsonl", [{"name": "Anna", column: value}])
    ((fact,),) = read_people(tmp_path / "p.jsonl")
    assert fact.type == kind


def test_one_value_that_is_told_to_everybody_is_guessed(people: Facts, carry_out: CarryOut) -> None:
    phones = [own[0] for own in people]
    told = Scripted(lambda request: phones[0].value)
    (plain,) = carry_out(told, [[each] for each in phones[:2]], "as_in_dialog")["attacks"]
    assert (plain["found"], plain["guessed"]) == (1, 0.5)
    strangers = controls(phones[:2], 0, phones[2:])
    assert {made_up.other.person for made_up in strangers if made_up.other} <= {each.person for each in phones[2:]}
    assert all(made_up.other is None for made_up in controls(phones[:2], 0, ()))


def test_strangers_are_of_the_same_type_and_each_stands_for_one(people: Facts) -> None:
    def taken(facts: Sequence[Fact], strangers: Sequence[Fact] | None = None) -> list[str | None]:
        return [made_up.other and made_up.other.person for made_up in controls(facts, 0, strangers)]

    anna, tom, mary, otto, ines = (own[0] for own in people)
    first = ["Anna Ferrari", "Tom Hale", "Mary Quill", "Otto Brandt", "Ines Duarte"]
    every = [fact for own in people for fact in own]
    assert taken(every) == [name for name in [*first[1:], first[0]] for _ in range(2)], "the next one, of either kind"
    # 1) As dialogs call them, who know no columns.
    strangers = [replace(fact, noun="phone number") for fact in (mary, otto, ines)]
    assert taken([anna, tom], strangers) == ["Mary Quill", "Otto Brandt"]
    assert taken([anna, people[0][1], tom], strangers) == ["Mary Quill", None, "Otto Brandt"]
    # 2) One whose value differs comes first, then one of the same noun.
    alike = replace(mary, value=anna.value)
    assert taken([anna], [alike, strangers[1], ines]) == ["Ines Duarte"]
    assert taken([anna], [alike, strangers[1]]) == ["Otto Brandt"]
    assert taken([anna], [alike]) == ["Mary Quill"]
    # 3) What has no type is compared under one noun alone.
    blood, shoe = (replace(anna, type="other", noun=noun) for noun in ("blood type", "shoe size"))
    assert taken([blood], [replace(shoe, person="Tom Hale"), replace(blood, person="Otto Brandt")]) == ["Otto Brandt"]
    assert taken([blood], [replace(shoe, person="Tom Hale")]) == [None]


def test_questions_that_say_the_value_are_not_asked(people: Facts, make_fact: Callable[..., Fact]) -> None:
    own = make_fact("Ann Lee", "ann.lee@example.com")
    assert plan([[own], *people], ["inverse"], 100, Setting()).count("inverse") < 2 * 2 * 11
    assert not any(q.fact is own for q in plan([[own], *people], ["inverse"], 100, Setting()).questions["inverse"])
