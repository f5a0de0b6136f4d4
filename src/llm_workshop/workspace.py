"""Where the workshop's folders are, wherever a script or a notebook is started from."""

from __future__ import annotations

from pathlib import Path


def workspace() -> Path:
    """The checkout around the working folder: the nearest folder upwards with ``pyproject.toml`` and ``labs/``.

    Jupyter and VS Code start a notebook in the notebook's own folder; artifacts belong to the checkout all
    the same.  Outside a checkout it is the working folder.  Relative where the two are the same.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "pyproject.toml").is_file() and (folder / "labs").is_dir():
            return Path() if folder == here else folder
    return Path()
