import gzip
from pathlib import Path

import pytest

from trm import InputError
from trm.data import from_folder, from_hub
from trm.data.files import read_csv
from trm.tasks import Sudoku

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
        ("made,1...............,1134341221434321,0", "row 1 of the answer holds the digit 1 twice"),
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


@pytest.mark.parametrize("header", ["question,solved_by", "", HEADER.replace(",", ":")])
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


@pytest.fixture
def split_files(tmp_path, puzzles, sudoku):
    """Write the puzzles of a split to a file of any name."""

    def write_split(name: str, split: str) -> Path:
        return write(tmp_path / name, HEADER, *rows_of(sudoku, puzzles, split))

    return write_split


@pytest.mark.parametrize(
    ("train", "test", "named"),
    [
        ("train.csv", "test_hard.csv", {}),
        ("train_1k.csv.gz", "test.csv", {}),
        ("Train.CSV", "Test.csv", {}),
        ("a.csv", "b.csv", {"train_file": "a.csv", "test_file": "b.csv"}),
        ("a.tsv", "test.csv", {"train_file": "a.tsv"}),
        ("train.csv", "b.txt", {"test_file": "b.txt"}),
    ],
)
def test_files_of_other_names_are_read_and_named(tmp_path, sudoku, split_files, train, test, named):
    split_files(train, "train")
    split_files(test, "test")
    manifest = from_folder(sudoku, str(tmp_path), val_share=0.4, **named).manifest
    assert manifest["counts"]["train"] + manifest["counts"]["val"] == 32
    assert manifest["counts"]["test"] == 8
    assert f"{tmp_path.name}: {train} and {test}; " in manifest["source"]


def test_of_several_files_that_may_be_meant_none_is_taken(tmp_path, sudoku, split_files):
    for name in ("train.csv", "test_easy.csv", "test_hard.csv"):
        split_files(name, "train")
    with pytest.raises(
        InputError, match="no test.csv, but test_easy.csv, test_hard.csv; .* data.test_file"
    ):
        from_folder(sudoku, str(tmp_path))
    (tmp_path / "test_easy.csv").rename(tmp_path / "a.csv")
    (tmp_path / "test_hard.csv").rename(tmp_path / "b.csv")
    with pytest.raises(
        InputError, match="no test.csv, but a.csv, b.csv, train.csv; .*data.test_file"
    ):
        from_folder(sudoku, str(tmp_path))
    (tmp_path / "train.csv").unlink()
    with pytest.raises(InputError, match="nor one CSV file alone, but a.csv, b.csv; name files"):
        from_folder(sudoku, str(tmp_path))
    with pytest.raises(InputError, match="data.test_file=c.csv: .* holds no such file, but a.csv"):
        from_folder(sudoku, str(tmp_path), test_file="c.csv")


@pytest.mark.parametrize("name", ["sudoku.csv", "train.csv", "puzzles.csv.gz"])
def test_a_single_file_is_split_by_a_seed(tmp_path, sudoku, split_files, name):
    path = split_files(name, "train")
    by_folder, by_file, other = (
        from_folder(sudoku, str(place), val_share=0.3, seed=seed)
        for place, seed in ((tmp_path, 0), (path, 0), (path, 1))
    )
    counts = by_file.manifest["counts"]
    assert sum(counts.values()) == 32
    assert min(counts.values()) > 0
    assert set(by_file.manifest["shared_symmetry_classes"].values()) == {0}
    assert by_file.manifest["sha256"] == by_folder.manifest["sha256"]
    assert by_file.manifest["sha256"] != other.manifest["sha256"]
    held_out = f"split with seed 0: {counts['test']} of 32 puzzles held out for the test"
    assert f"file {name}; {held_out}" in by_file.manifest["source"]
    assert f"folder {tmp_path.name}: {name} alone; {held_out}" in by_folder.manifest["source"]
    with pytest.raises(InputError, match="is a file, in which data.train_file"):
        from_folder(sudoku, str(path), test_file="test.csv")


def test_a_small_file_is_not_refused_by_chance(tmp_path):
    task = Sudoku(2, 3)
    pairs = zip(*task.generator(0)(6), strict=True)
    rows = [f"made,{task.decode(x)},{task.decode(y)},0" for x, y in pairs]
    path = write(tmp_path / "six.csv", HEADER, *rows)
    for seed in range(10):
        counts = from_folder(task, str(path), seed=seed).manifest["counts"]
        assert sum(counts.values()) == 6
        assert min(counts.values()) > 0


def test_test_puzzles_alone_are_a_test_split_alone(tmp_path, sudoku, split_files):
    split_files("test_hard.csv", "test")
    data = from_folder(sudoku, str(tmp_path))
    assert data.manifest["counts"] == {"test": 8}
    assert data.manifest["source"].endswith(": test_hard.csv alone")
    with pytest.raises(InputError, match="has no val puzzles but test; these can be evaluated"):
        data.splits["val"]
    (tmp_path / "test_hard.csv").rename(tmp_path / "train.csv")
    named = from_folder(sudoku, str(tmp_path), test_file="train.csv")
    assert named.manifest["counts"] == {"test": 8}


def test_a_folder_that_may_not_be_read_is_named(tmp_path, sudoku, monkeypatch):
    def forbidden(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", forbidden)
    with pytest.raises(InputError, match="cannot be read: Permission denied; give the folder"):
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
