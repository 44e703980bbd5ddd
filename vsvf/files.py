"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write to a temporary file beside `path` and rename it, so that no partial file is ever seen.

    A symbolic link stays a link: the file that it points to is written.

    Raises:
        OSError: named by `path`, never by the temporary file: no such folder, no permission, no room, or something at `path` that
            is not a regular file (`writable_target`).
    """
    target = writable_target(path)
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:100]}.")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except BaseException as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise type(error)(error.errno, error.strerror or str(error), str(path)) from None
        raise


def writable_target(path: str | os.PathLike[str]) -> Path:
    """Where a file of this name is to be written: `path`, or what it links to.

    Raises:
        FileNotFoundError: no such folder, or a link that points nowhere. IsADirectoryError: a folder. FileExistsError: a device,
            a pipe or a socket, which a rename would replace.
    """
    given = Path(path)
    target = Path(os.path.realpath(given)) if given.is_symlink() else given
    if given.is_symlink() and not target.exists():
        raise FileNotFoundError(f"{given} is a symbolic link to {target}, which does not exist: remove it or write elsewhere")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"the folder {target.parent} does not exist")
    if target.is_dir():
        raise IsADirectoryError(f"{given} is a folder")
    if target.exists() and not target.is_file():
        raise FileExistsError(f"{given} is a device, a pipe or a socket, not a file: it is left as it is")
    return target


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
