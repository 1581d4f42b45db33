"""The benchmark on texts, in its short form."""

import json

import text_pair


def test_the_table_is_of_a_teacher_and_a_student_of_a_tenth(tmp_path, capsys):
    assert text_pair.main(["--quick", "--json", str(tmp_path / "a.json"), "--out", str(tmp_path / "a.md")]) == 0
    assert (tmp_path / "a.md").read_text() + "\n" == capsys.readouterr().out
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["classes"] == 4 and found["sources"] == 300 and sum(found["examples"].values()) == 900
    assert "groups of examples" in found["verdict"]
    metrics = found["metrics"]
    assert metrics["teacher"]["test_examples"] == found["examples"]["test"]
    assert (tmp_path / "a.md").read_text().count("\n| ") == 5 - 1


def test_packages_have_their_source_and_common_sections(monkeypatch):
    monkeypatch.setattr(text_pair, "FEWEST", 2)
    printed = (
        "Package: a\nSource: x (1.2)\nSection: contrib/net\nDescription: one\n two lines\nTag: a::b\n\n"
        "Package: b\nSection: net\nDescription: three\n\nPackage: c\nSection: odd\nDescription: four\n\n"
        "Package: d\nSection: net"
    )
    assert text_pair.packages(printed) == [
        {"text": "one two lines", "label": "net", "source": "x"},
        {"text": "three", "label": "net", "source": "b"},
    ]


def test_a_student_has_less_than_a_tenth_of_the_teacher_s_bytes():
    sizes = text_pair.TEACHER, text_pair.STUDENT
    teacher, student = (
        sum(each.numel() for each in text_pair.WeightedBag("tokens", size, 43, 0).parameters()) for size in sizes
    )
    members = 5  # by default
    assert student < members * teacher / 10
