"""Text files of tables as others write them: separators, headers, encodings, and fields that are one too many."""

import pytest

from strata.engine.data.config import DataConfig
from strata.engine.data.sources.catalogue import load
from strata.engine.data.sources.delimited import read_delimited
from strata.engine.errors import DataError

ROWS = [("1.5", "3", "x"), ("2.5", "1", "y"), ("0.25", "7", "x"), ("8.0", "2", "y")]


@pytest.fixture
def table(tmp_path):
    """Write lines to a file, read it, and give the frame's columns as lists, with the remarks."""

    def read(lines, name="t.csv", encoding="utf-8", **options):
        (tmp_path / name).write_bytes("".join(f"{line}\n" for line in lines).encode(encoding))
        frame, remarks = read_delimited(tmp_path / name, name.rsplit(".", 1)[-1], DataConfig(**options))
        return frame.to_dict("list"), remarks

    return read


def lines(separator=",", header=("a", "b", "label"), end="", rows=ROWS):
    return [separator.join(fields) + (end if at else "") for at, fields in enumerate([header, *rows])]


PLAIN = {"a": [1.5, 2.5, 0.25, 8.0], "b": [3, 1, 7, 2], "label": ["x", "y", "x", "y"]}


@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_fields_may_be_separated_by_other_marks(table, name, separator):
    found, remarks = table(lines(separator), name)
    assert found == PLAIN
    usual = separator == (",", "\t")[name == "t.tsv"]
    assert ("fields are separated by" in "".join(remarks.notes)) is not usual


def test_a_separator_within_fields_is_none(table):
    text = ['text,label,"a;b"', '"one; two, three",x,1', '"four; five; six",y,2']
    found, _ = table(text)
    assert found == {"text": ["one; two, three", "four; five; six"], "label": ["x", "y"], "a;b": [1, 2]}


def test_decimal_commas_are_numbers(table):
    found, remarks = table(lines(";", rows=[(a.replace(".", ","), b, c) for a, b, c in ROWS]))
    assert found == PLAIN
    assert any("decimal comma" in note for note in remarks.notes)
    # Commas before three digits each time are between thousands.
    assert table(["a;label", "1,234;x", "2,500;y"])[0]["a"] == ["1,234", "2,500"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_marked_encodings_are_read(table, encoding):
    found, _ = table(lines(header=("ä", "b", "label")), encoding=encoding)
    assert list(found) == ["ä", "b", "label"]
    assert found["label"] == PLAIN["label"]


@pytest.mark.parametrize(
    ("encoding", "message"), [("utf-16-le", "it holds zero bytes. Save it as UTF-8"), ("latin-1", "is not in UTF-8")]
)
def test_encodings_that_are_not_marked_are_refused(tmp_path, encoding, message):
    (tmp_path / "t.csv").write_bytes("ä,label\n1,x\n2,y\n".encode(encoding))
    with pytest.raises(DataError, match=message):
        load(DataConfig(name=str(tmp_path / "t.csv")), 1, 0)


@pytest.mark.parametrize(
    "first",
    [
        "5.1,3,x",  # numbers, and a class that is there again
        "1,2,x",
        "x,y,x",
    ],
)
def test_a_file_without_header_loses_no_row(table, first):
    rows = [",".join(("x", "y", "x"))] * 2 if first == "x,y,x" else ["1.5,3,x", "2.5,1,y"]
    found, remarks = table([first, *rows])
    assert list(found) == ["0", "1", "2"]
    assert len(found["0"]) == 3
    assert "has no header: its columns are called 0 to 2" in remarks.cautions[0]


@pytest.mark.parametrize("header", [("0", "1", "label"), ("1", "2", "3"), ("a", "b", "label"), ("x1", "x2", "y")])
def test_names_are_names_though_some_are_numbers(table, header):
    found, remarks = table(lines(header=header))
    assert list(found) == list(header)
    assert not remarks.cautions


def test_names_that_may_be_values_are_said_and_the_setting_decides(table):
    text = ["2019,2020,label", "1,2,x", "3,4,y"]
    found, remarks = table(text)
    assert list(found) == ["2019", "2020", "label"]
    assert "names of columns such as '2019' look like values. data.header=no" in remarks.cautions[0]
    assert table(text, header="yes")[1].cautions == ()
    assert table(text, header="no")[0]["2"] == ["label", "x", "y"]


def test_the_columns_of_a_file_without_header_can_be_named(tmp_path):
    (tmp_path / "t.csv").write_text("5.1,3,x\n1.5,3,x\n2.5,1,y\n")
    with pytest.raises(DataError, match=r"no column 'label'. Set data.target to one of: 0, 1, 2\. .*has no header"):
        load(DataConfig(name=str(tmp_path / "t.csv")), 1, 0)
    found = load(DataConfig(name=str(tmp_path / "t.csv"), target="2"), 1, 0)
    assert found.y.tolist() == [0, 0, 1]
    assert found.x.shape == (3, 2)


def test_a_separator_at_the_end_of_each_line_shifts_no_column(table):
    found, remarks = table(lines(end=","))
    assert found == PLAIN
    assert any("each line ends in a separator" in note for note in remarks.notes)
    found, _ = table([f"{line}," for line in lines()])  # in the header as well
    assert found == PLAIN


def test_row_names_as_r_writes_them_are_left_out(table):
    found, remarks = table(lines()[:1] + [f"r{at},{line}" for at, line in enumerate(lines()[1:])])
    assert found == PLAIN
    assert any("the first field of each line has no name and is left out" in note for note in remarks.notes)


@pytest.mark.parametrize(
    "text",
    [
        [lines()[0], *(f"1,{line}" for line in lines()[1:])],  # a first field that is no name of a row
        [lines()[0], *(f"{at},{line},{at}" for at, line in enumerate(lines()[1:]))],
        [*lines(), "9,9,9,9"],
    ],
)
def test_lines_with_more_fields_than_names_are_refused(table, text):
    with pytest.raises(DataError, match=r"the header names 3 columns, and lines have up to \d fields"):
        table(text)


def test_targets_and_clients_stand_as_they_are(table):
    found, _ = table(["who,a,label", "01,1,01", "1,2,1", "02,3,2"], client_column="who")
    assert found == {"who": ["01", "1", "02"], "a": [1, 2, 3], "label": ["01", "1", "2"]}


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["10", "2", "10"], ("2", "10")),
        (["1", "1.0", "2"], ("1", "2")),
        (["01", "02", "01"], ("1", "2")),
        (["True", "False", "True"], ("False", "True")),
        (["b", "1", "b"], ("1", "b")),
    ],
)
def test_labels_that_are_numbers_are_numbered_as_such(tmp_path, labels, names):
    (tmp_path / "t.csv").write_text("a,label\n" + "".join(f"{at}.5,{label}\n" for at, label in enumerate(labels)))
    assert load(DataConfig(name=str(tmp_path / "t.csv")), 1, 0).class_names == names


def test_labels_that_are_the_same_number_are_refused(tmp_path):
    (tmp_path / "t.csv").write_text("a,label\n0.5,01\n1.5,1\n2.5,2\n")
    with pytest.raises(DataError, match="the labels '01' and '1' look like one"):
        load(DataConfig(name=str(tmp_path / "t.csv")), 1, 0)


def test_a_header_of_numbers_is_no_series(tmp_path):
    (tmp_path / "t.tsv").write_text("0\t1\t2\n5\t1.5\t2.5\n7\t3.5\t1.5\n")
    found = load(DataConfig(name=str(tmp_path / "t.tsv"), target="0"), 1, 0)
    assert found.class_names == ("5", "7")
    assert found.x.shape == (2, 2)


def test_tables_of_a_folder_that_are_not_read_are_said(tmp_path):
    for name in ("train", "test", "val"):
        (tmp_path / f"{name}.csv").write_text("a,label\n0.5,x\n1.5,y\n")
    (caution,) = load(DataConfig(name=str(tmp_path)), 1, 0).remarks.cautions
    assert caution.endswith("val.csv is not read.")


def test_a_line_for_spreadsheets_is_no_header(table):
    with pytest.raises(DataError, match="its first line, sep=;, is one for spreadsheets, and names no columns"):
        table(["sep=;", *lines(";")])


def test_a_key_of_json_is_there_once(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"a": 1, "a": 2, "label": 0}\n{"a": 3, "label": 1}\n')
    with pytest.raises(DataError, match=r"cannot be read as jsonl \(the key 'a' is there twice\)"):
        load(DataConfig(name=str(tmp_path / "t.jsonl")), 1, 0)


@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
@pytest.mark.parametrize("separator", [" ", "  ", ":", "^"])
def test_fields_that_nothing_known_separates_are_said(tmp_path, name, separator):
    (tmp_path / name).write_text("\n".join(lines(separator)))
    field = separator.join(("a", "b", "label"))
    known = r"each line is one field, such as .*\. Columns are separated by commas, semicolons, tabs, bars; replace"
    with pytest.raises(DataError, match=known) as caught:
        load(DataConfig(name=str(tmp_path / name)), 1, 0)
    assert f"has no column 'label': {field!r} is its only one. " in str(caught.value)
    with pytest.raises(DataError, match=rf"no column is left to be an input beside .* \(target, client\)\. .*{known}"):
        load(DataConfig(name=str(tmp_path / name), target=field), 1, 0)


def test_a_column_of_texts_may_be_the_only_one(table):
    found, remarks = table(["my text", "one two", "three four"], text="my text")
    assert found == {"my text": ["one two", "three four"]}
    assert not remarks.cautions


@pytest.mark.parametrize("title", ["My data,,", ",My data,", "My data,2024,"])
def test_a_title_above_the_header_is_said(tmp_path, title):
    (tmp_path / "t.csv").write_text("\n".join([title, *lines()]))
    with pytest.raises(DataError, match=r"no column 'label'.*Unnamed: \d\. Lines before the header have to go\.$"):
        load(DataConfig(name=str(tmp_path / "t.csv")), 1, 0)


def test_names_of_rows_without_a_name_are_said(table):
    found, remarks = table(
        [f"{at}{line}" for at, line in zip(["", 7, 5, 2, 9], lines(header=("", "a", "label")), strict=True)]
    )
    assert "Unnamed: 0" in found
    (note,) = remarks.notes
    assert note.endswith("columns that the first line does not name are called Unnamed: 0")
    assert not remarks.cautions


def test_a_name_of_several_columns_is_said(table):
    rows = ["a,a,label,a", "1.5,2.5,x,3.5", "2.5,3.5,y,4.5"]
    found, remarks = table(rows)
    assert found == {"a": [1.5, 2.5], "a.1": [2.5, 3.5], "label": ["x", "y"], "a.2": [3.5, 4.5]}
    (caution,) = remarks.cautions
    assert caution.endswith("t.csv: 3 columns are called 'a'; the later are read as a.1, a.2.")
    for setting in ("target", "inputs", "text", "client_column"):
        with pytest.raises(DataError, match=r"t\.csv: 3 columns are called 'a'\. Give each a name of its own\."):
            table(rows, **{setting: "a"})
