from __future__ import annotations

import json

import pytest

from nnunet_active.data.patients import Patients
from nnunet_active.util.errors import CampaignError

CASES = [f"p{number}_{frame}" for number in range(4) for frame in ("ed", "es")]


@pytest.mark.parametrize(
    ("pattern", "patient"), [(r"^(p\d)_", "p1"), (r"p\d", "p1"), (r"x(p\d)|(p\d)_", "p1"), ("nobody", "p1_ed")]
)
def test_a_pattern_names_the_patient_by_its_first_group_or_by_all_that_it_matches(pattern, patient):
    assert Patients.given(pattern).of("p1_ed") == patient


@pytest.mark.parametrize("ending", [".csv", ".json"])
def test_a_file_names_the_patients_and_its_content_is_what_is_kept(tmp_path, ending):
    file = tmp_path / f"groups{ending}"
    file.write_text('{"p1_ed": "x", "p1_es": "x"}' if ending == ".json" else "p1_ed, x\np1_es,x\n\n")
    patients = Patients.given(str(file))
    assert patients.of("p1_es") == "x" and patients.of("p2_ed") == "p2_ed"
    file.unlink()
    assert Patients.from_json(json.loads(json.dumps(patients.to_json()))) == patients


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("twice.csv", "a,x\na,y\n", "two patients for a"),
        ("empty.csv", "\n", "is empty"),
        ("list.json", "[1, 2]", "cannot be read"),
        ("number.json", '{"a": 1}', "must be text"),
        ("bytes.csv", b"\xff\xfe\x00", "cannot be read"),
        ("no_patient.csv", "a,x\nb\n", "row 2, 'b', is a single cell"),
        ("space.csv", "a x\n", "each row has a case and its patient, with a comma between"),
    ],
)
def test_a_file_that_says_something_else_is_refused_in_one_sentence(tmp_path, name, content, said):
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CampaignError, match=said):
        Patients.given(str(file))


@pytest.mark.parametrize(
    ("content", "case"),
    [
        ("\ufeffcase;patient\r\n001;7\r\n002;7\r\n", "001"),
        ("001\t7\n002\t7\n", "001"),
        ("001.nii.gz,7\n002.NRRD,7\n", "002"),
        ("mu\u0308ller,7\n", "m\u00fcller"),
        ("m\u00fcller,7\n", "mu\u0308ller"),
    ],
)
def test_a_file_that_went_through_another_program_still_names_its_cases(tmp_path, content, case):
    file = tmp_path / "groups.csv"
    file.write_text(content, encoding="utf-8", newline="")
    patients = Patients.given(str(file))
    assert patients.of(case) == "7" and patients.check([case]) == ()
    assert Patients.from_json(json.loads(json.dumps(patients.to_json()))).of(case) == "7"


@pytest.mark.parametrize(
    ("patients", "said"),
    [
        (Patients(table={"1": "x", "2": "x", "100": "y"}), "names 1 where the data set has 001"),
        (Patients(table={"a": "x", "b": "x"}), "The file of --groups names a, b, which is none of the cases"),
        (Patients("^(pat)_"), r"The regular expression \^\(pat\)_ of --groups matches none of the cases"),
    ],
)
def test_groups_that_speak_of_other_cases_are_refused(patients, said):
    with pytest.raises(CampaignError, match=said):
        patients.check(["001", "002", "100"])


@pytest.mark.parametrize("patients", [Patients(table={"p0_ed": "x", "p0_es": "x"}), Patients("^(p0)_")])
def test_cases_that_groups_do_not_name_are_told(patients):
    (warning,) = patients.check(CASES[:4])
    assert "does not say whose p1_ed, p1_es is" in warning
    assert warning == patients.about_unnamed(CASES[:4]) and "init ... --groups FILE --restart" in warning
    assert patients.about_unnamed(CASES[:2]) == "" and Patients().about_unnamed(CASES) == ""
    assert patients.check(CASES[:2]) == () and Patients().check(CASES) == ()


@pytest.mark.parametrize("text", ["(", "", "x" * 2000, "missing.csv"])
def test_what_is_neither_a_file_nor_an_expression_is_refused(text):
    with pytest.raises(CampaignError, match="--groups"):
        Patients.given(text)


@pytest.mark.parametrize("content", [{"pattern": 3}, {"table": {"a": 1}}, {"table": []}])
def test_a_damaged_setting_is_refused(content):
    with pytest.raises(CampaignError):
        Patients.from_json(content)


def test_without_groups_every_case_is_a_patient_of_its_own():
    assert Patients.from_json({}) == Patients() and Patients().to_json() == {}
    assert Patients().cases_of(["b", "a"]) == {"a": ["a"], "b": ["b"]}


def test_companions_are_the_other_scans_of_the_same_patients():
    assert Patients("^p.").companions(["p1_ed", "p3_es"], CASES) == {"p1_ed", "p1_es", "p3_ed", "p3_es"}


@pytest.mark.parametrize("pattern", [r"^(p\d)?", r"\d*$", "x?"])
def test_a_pattern_that_matches_nothing_of_a_name_does_not_join_cases(pattern):
    patients = Patients(pattern)
    assert patients.of("a_b") == "a_b" and patients.companions(["a_b"], ["a_b", "c_d"]) == {"a_b"}
    assert "does not say whose a_b, c_d is" in patients.about_unnamed(["a_b", "c_d"])
