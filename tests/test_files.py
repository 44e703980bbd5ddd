"""Files are written whole or not at all, and what is no file is left alone."""

import os
import stat

import pytest

from vsvf.files import write_atomically


def names(folder):
    return sorted(os.listdir(folder))


def test_a_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "x.bin"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new" and names(tmp_path) == ["x.bin"]
    assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0o066 & ~_umask()


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask & 0o077


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_bytes() == b"new"
    assert names(tmp_path) == ["link", "real"]


def test_a_link_that_points_nowhere_is_refused(tmp_path):
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(FileNotFoundError, match=r"symbolic link to .*nowhere"):
        write_atomically(tmp_path / "link", b"new")
    assert names(tmp_path) == ["link"] and (tmp_path / "link").is_symlink()


def test_pipes_devices_and_folders_are_left_as_they_are(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/null")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "device"):
        with pytest.raises(FileExistsError, match=f"{name} is a device, a pipe or a socket"):
            write_atomically(tmp_path / name, b"new")
    with pytest.raises(FileExistsError, match="/dev/null is a device"):
        write_atomically("/dev/null", b"new")
    with pytest.raises(IsADirectoryError, match="folder is a folder"):
        write_atomically(tmp_path / "folder", b"new")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode) and stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert names(tmp_path) == ["device", "folder", "pipe"]


@pytest.mark.parametrize("failing", ["replace", "fdopen", "chmod"])
def test_errors_name_the_file_and_leave_nothing_behind(tmp_path, monkeypatch, failing):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device", str(tmp_path / ".x.bin.abcd"))

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_atomically(tmp_path / "x.bin", b"new")
    assert caught.value.filename == str(tmp_path / "x.bin")
    assert names(tmp_path) == []


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_leaves_nothing_behind(tmp_path, monkeypatch, stop):
    def interrupted(*arguments):
        raise stop

    monkeypatch.setattr(os, "chmod", interrupted)
    with pytest.raises(stop):
        write_atomically(tmp_path / "x.bin", b"new")
    assert names(tmp_path) == []


def test_the_folder_must_be_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"folder .* does not exist"):
        write_atomically(tmp_path / "none" / "x.bin", b"new")
