import json
from pathlib import Path

import pytest

from vsvf.apps.captions import Captions, read_captions

COCO = {
    "images": [{"id": 9, "file_name": "COCO_val2014_000000000009.jpg"}, {"id": 2, "file_name": "COCO_val2014_000000000002.jpg"}],
    "annotations": [
        {"image_id": 9, "id": 70, "caption": "A cat.\n"},
        {"image_id": 2, "id": 31, "caption": "Two  dogs"},
        {"image_id": 9, "id": 4, "caption": "A cat on a mat."},
    ],
}


def write(path, text):
    path.write_text(text)
    return path


def test_coco_captions_in_the_order_of_files_and_ids(tmp_path):
    found = read_captions(write(tmp_path / "captions_val2014.json", json.dumps(COCO)))
    assert found.texts == ("Two dogs", "A cat on a mat.", "A cat.")
    assert [name[-6:] for name in found.files] == ["02.jpg", "09.jpg", "09.jpg"]


def test_csv_and_text(tmp_path):
    table = read_captions(write(tmp_path / "x.csv", 'path,caption\nfolder/a.png,"one, two"\nb.png,three\n'))
    assert table == Captions(("one, two", "three"), ("a.png", "b.png"))
    assert read_captions(write(tmp_path / "x.tsv", "prompt\none\ttwo\n")) == Captions(("one",))
    assert read_captions(write(tmp_path / "x.txt", "\ufeffone\n\n two \n")) == Captions(("one", "two"))


def test_each_image_gets_its_first_caption_and_what_is_missing_is_said():
    captions = Captions(("first", "second", "lost"), ("a.png", "a.png", "c.png"))
    pairs, problems = captions.of([Path("x/a.png"), Path("x/b.png")])
    assert pairs == [(Path("x/a.png"), "first")]
    assert problems == ["x/b.png has no caption", "no image for the caption of c.png"]
    assert Captions(("one", "two")).of([Path("a"), Path("b")]) == ([(Path("a"), "one"), (Path("b"), "two")], [])
    with pytest.raises(ValueError, match="2 lines of captions for 1 images"):
        Captions(("one", "two")).of([Path("a")])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.json", "{", "not a readable file of captions"),
        ("x.json", "[]", "not COCO's captions"),
        ("x.json", '{"images": [], "annotations": [{"image_id": 1, "caption": "x"}]}', "not COCO's captions"),
        ("x.json", '{"images": [], "annotations": []}', "holds no captions"),
        ("x.csv", "a,b\n1,2\n", "names no column of captions"),
        ("x.csv", "file,caption\na.png\n", "row 2 has 1 columns"),
        ("x.csv", "", "names no column"),
        ("x.txt", "\n\n", "holds no captions"),
    ],
)
def test_files_of_another_shape_are_one_clear_error(tmp_path, name, text, message):
    with pytest.raises(ValueError, match=message):
        read_captions(write(tmp_path / name, text))


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_captions(tmp_path / "none.json")
    (tmp_path / "x.txt").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ValueError, match="not a readable file of captions"):
        read_captions(tmp_path / "x.txt")
