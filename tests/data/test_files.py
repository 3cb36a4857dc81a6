import gzip
from pathlib import Path

import pytest

from trm import InputError
from trm.data import from_folder, from_hub
from trm.data.files import read_csv

HEADER = "source,question,answer,rating"
GOOD = "made,1...............,1234341221434321,3"


def write(path: Path, *lines: str, end: str = "\n") -> Path:
    text = "".join(line + end for line in lines)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, newline="")
    return path


@pytest.mark.parametrize("name", ["puzzles.csv", "puzzles.csv.gz"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_reads_the_published_layout(tmp_path, sudoku, name, end):
    puzzles = read_csv(write(tmp_path / name, HEADER, GOOD, GOOD, end=end), sudoku)
    assert len(puzzles) == 2
    assert sudoku.decode(puzzles.x_input[0]) == GOOD.split(",")[1]
    assert sudoku.decode(puzzles.y_true[1]) == GOOD.split(",")[2]
    assert puzzles.rating.tolist() == [3, 3]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("made,1...............,1234341221434321", "line 3: 3 fields instead of the 4"),
        (
            "made,1....,1234341221434321,0",
            "line 3: question '1....' has 5 cells, sudoku_4x4 needs 16",
        ),
        ("made,1..x............,1234341221434321,0", "row 1 column 4 holds 'x'"),
        ("made,1..€............,1234341221434321,0", "row 1 column 4 holds '€'"),
        ("made,2...............,1234341221434321,0", "is 2 in the puzzle but 1 in the answer"),
        ("made,11..............,1234341221434321,0", "row 1 holds the digit 1 twice"),
        ("made,1...............,1134341221434321,0", "row 1 holds the digit 1 twice"),
        ("made,1...............,12343412214343.1,0", "row 4 column 3 is empty"),
        ("made,1...............,1234341221434321,hard", "rating 'hard' is no whole number"),
    ],
)
def test_a_bad_row_is_named_with_file_line_value_and_rule(tmp_path, sudoku, bad, said):
    path = write(tmp_path / "train.csv", HEADER, GOOD, bad, GOOD, bad, bad)
    with pytest.raises(InputError) as error:
        read_csv(path, sudoku)
    assert str(error.value).startswith(f"{path}, line 3: ")
    assert said in str(error.value)
    assert str(error.value).endswith("; 2 more bad rows follow")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("header", ["question,answer", "", HEADER.replace(",", ";")])
def test_a_wrong_header_is_refused(tmp_path, sudoku, header):
    with pytest.raises(InputError, match=r"line 1: header .* must be 'source,question"):
        read_csv(write(tmp_path / "train.csv", header, GOOD), sudoku)


def test_a_line_without_end_is_refused_before_it_fills_the_memory(tmp_path, sudoku):
    with pytest.raises(InputError, match="line 2 is longer than"):
        read_csv(write(tmp_path / "train.csv", HEADER, "1" * 10**6), sudoku)


def test_a_truncated_archive_is_refused(tmp_path, sudoku):
    path = write(tmp_path / "train.csv.gz", HEADER, *[GOOD] * 100)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="cannot be read"):
        read_csv(path, sudoku)


def test_a_file_without_puzzles_is_refused(tmp_path, sudoku):
    with pytest.raises(InputError, match="holds no puzzles"):
        read_csv(write(tmp_path / "train.csv", HEADER), sudoku)


def rows_of(task, data, split):
    puzzles = data.splits[split]
    pairs = zip(puzzles.x_input, puzzles.y_true, strict=True)
    return [f"made,{task.decode(x)},{task.decode(y)},0" for x, y in pairs]


def test_validation_holds_out_whole_symmetry_classes(tmp_path, puzzles, sudoku):
    write(tmp_path / "train.csv", HEADER, *rows_of(sudoku, puzzles, "train"))
    write(tmp_path / "test.csv.gz", HEADER, *rows_of(sudoku, puzzles, "test"))
    data = from_folder(sudoku, str(tmp_path), val_share=0.4)
    counts = data.manifest["counts"]
    assert counts["train"] + counts["val"] == len(puzzles.splits["train"])
    assert counts["train"] > 0 < counts["val"]
    assert counts["test"] == len(puzzles.splits["test"])
    assert set(data.manifest["shared_symmetry_classes"].values()) == {0}
    assert f"{counts['val']} of 32 training puzzles held out" in data.manifest["source"]


def test_one_symmetry_class_is_never_split(tmp_path, sudoku):
    write(tmp_path / "train.csv", HEADER, GOOD, GOOD.replace(",1...", ",.2.."))
    write(tmp_path / "test.csv", HEADER, GOOD)
    with pytest.raises(InputError, match="split .* is empty"):
        from_folder(sudoku, str(tmp_path), val_share=0.5)


def test_puzzles_in_both_training_and_test_are_counted(tmp_path, puzzles, sudoku):
    rows = rows_of(sudoku, puzzles, "train")
    write(tmp_path / "train.csv", HEADER, *rows)
    write(tmp_path / "test.csv", HEADER, *rows)
    data = from_folder(sudoku, str(tmp_path), val_share=0.4)
    assert data.manifest["shared_symmetry_classes"]["train and test"] > 0


@pytest.mark.parametrize("path", [None, "nowhere"])
def test_a_missing_folder_is_named(sudoku, path):
    with pytest.raises(InputError, match=rf"data.path={'null' if path is None else path}"):
        from_folder(sudoku, path)


def test_a_missing_file_is_named(tmp_path, sudoku):
    with pytest.raises(InputError, match="holds neither train.csv nor train.csv.gz"):
        from_folder(sudoku, str(tmp_path))


def test_the_hub_without_network_says_what_to_do(sudoku, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="download train.csv and test.csv by hand"):
        from_hub(sudoku, "nobody/nothing")


def test_files_in_the_hubs_cache_are_read_at_their_commit(tmp_path, puzzles, sudoku, monkeypatch):
    folder = tmp_path / "snapshots" / "0123abcd"
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        write(folder / f"{split}.csv", HEADER, *rows_of(sudoku, puzzles, split))

    def cached(repo, file, repo_type, revision):
        return str(folder / file)

    monkeypatch.setattr("trm.data.files.hf_hub_download", cached)
    data = from_hub(sudoku, "someone/puzzles", subsample=20, val_share=0.4)
    assert data.manifest["counts"]["train"] + data.manifest["counts"]["val"] == 20
    assert "hub someone/puzzles at 0123abcd; 20 of 32 training puzzles" in data.manifest["source"]
