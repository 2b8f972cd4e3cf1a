"""Files damaged in every structural way, and a folder that is put back as it was after each try."""

from __future__ import annotations

import copy
import io
import json
import os
import random
import shutil
import zipfile
from pathlib import Path
from typing import Any

VALUES: tuple[Any, ...] = (
    None,
    True,
    [],
    {},
    "",
    "x",
    "../../../../etc/x",
    "Ö\n\u202e" * 200,
    0,
    -1,
    1.5,
    10**30,
    float("nan"),
    float("inf"),
    [None],
    [["x"]],
    {"x": {"x": []}},
)
WHOLE = ("empty", "half", "noise", "nul", "not text", "nested", "gone", "folder", "nowhere", "a byte", "appended")
JSON = ("drop", "replace", "replace", "replace", "rename", "twice", "shuffle")
TABLE = ("header only", "no header", "column gone", "cell", "row gone", "row twice", "ragged")
ARCHIVE = ("member gone", "member empty", "member noise", "other archive")


def kinds_for(file: Path) -> tuple[str, ...]:
    """What can be done to a file of this kind."""
    own = {".json": JSON, ".csv": TABLE, ".npz": ARCHIVE, ".pth": ARCHIVE}
    return (*WHOLE, *own.get(file.suffix, ()), *own.get(file.suffix, ()))


def damage(file: Path, kind: str, rng: random.Random) -> None:
    """Damage a file."""
    content = file.read_bytes()
    if kind in ("gone", "folder", "nowhere"):
        file.unlink()
        if kind == "folder":
            file.mkdir()
        elif kind == "nowhere":
            file.symlink_to(file.with_name("nowhere"))
    elif kind in JSON:
        file.write_text(json.dumps(_damaged_json(json.loads(content), kind, rng)))
    elif kind in TABLE:
        file.write_text(_damaged_table(content.decode().splitlines(), kind, rng))
    elif kind in ARCHIVE:
        file.write_bytes(_damaged_archive(content, kind, rng))
    else:
        file.write_bytes(_damaged_bytes(content, kind, rng))


def _damaged_bytes(content: bytes, kind: str, rng: random.Random) -> bytes:
    if kind == "a byte":
        place = rng.randrange(max(1, len(content)))
        return content[:place] + bytes([rng.randrange(256)]) + content[place + 1 :]
    return {
        "empty": b"",
        "half": content[: len(content) // 2],
        "noise": rng.randbytes(max(10, min(len(content), 1000))),
        "nul": bytes(len(content)),
        "not text": b'{"\xff\xfe": \x80}',
        "nested": b"[" * 50_000,
        "appended": content + b"}x",
    }[kind]


def _damaged_json(content: Any, kind: str, rng: random.Random) -> Any:
    content = copy.deepcopy(content)
    places = list(_places(content))
    if not places or rng.random() < 0.05:
        return rng.choice(VALUES)
    parent, key = rng.choice(places)
    if kind == "drop":
        del parent[key]
    elif kind == "rename" and isinstance(parent, dict):
        parent[rng.choice(["x", "../x", "", "case_9"])] = parent.pop(key)
    elif kind == "twice" and isinstance(parent, list):
        parent.append(copy.deepcopy(parent[key]))
    elif kind == "shuffle" and isinstance(parent[key], list):
        rng.shuffle(parent[key])
    else:
        parent[key] = rng.choice(VALUES)
    return content


def _places(content: Any):
    keys = content if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ()
    for key in list(keys):
        yield content, key
        yield from _places(content[key])


def _damaged_table(lines: list[str], kind: str, rng: random.Random) -> str:
    rows = [line.split(",") for line in lines]
    place = rng.randrange(len(rows))
    if kind == "header only":
        rows = rows[:1]
    elif kind == "no header":
        rows = rows[1:]
    elif kind == "column gone":
        column = rng.randrange(len(rows[0]))
        rows = [row[:column] + row[column + 1 :] for row in rows]
    elif kind == "cell":
        rows[place][rng.randrange(len(rows[place]))] = rng.choice(["x", "", "nan", "../x", "1e999", '"'])
    elif kind == "row gone":
        del rows[place]
    elif kind == "row twice":
        rows.append(list(rows[place]))
    else:
        rows[place] = rows[place] + ["x", "y"]
    return "\n".join(",".join(row) for row in rows) + "\n"


def _damaged_archive(content: bytes, kind: str, rng: random.Random) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(sorted(members))
    if kind == "member gone":
        del members[name]
    elif kind == "other archive":
        members = {"x.npy": b"x"}
    else:
        members[name] = b"" if kind == "member empty" else rng.randbytes(len(members[name]))
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return written.getvalue()


class Snapshot:
    """The content of a folder, in memory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.content = self._read()
        self.times = {path: os.stat(root / path, follow_symlinks=False).st_mtime_ns for path in self.content}

    def _read(self) -> dict[str, bytes | str | None]:
        """File -> its bytes, or where a link points to; folder -> None."""
        found: dict[str, bytes | str | None] = {}
        for folder, names, files in os.walk(self.root):
            for name in (*names, *files):
                path = Path(folder, name)
                if not name.startswith(".lock"):
                    key = str(path.relative_to(self.root))
                    found[key] = (
                        os.readlink(path) if path.is_symlink() else None if path.is_dir() else path.read_bytes()
                    )
        return found

    def changes(self, but: Path) -> list[str]:
        """Files that differ from the snapshot, except one."""
        now, left_out = self._read(), str(but.relative_to(self.root))
        paths = sorted({*now, *self.content})
        return [path for path in paths if path != left_out and now.get(path, 0) != self.content.get(path, 0)]

    def restore(self) -> None:
        """Put everything back, times included."""
        now = self._read()
        for path in sorted(now, reverse=True):
            if path not in self.content or (now[path] is None) != (self.content[path] is None):
                place = self.root / path
                if place.is_dir() and not place.is_symlink():
                    shutil.rmtree(place)
                else:
                    place.unlink(missing_ok=True)
        for path, content in sorted(self.content.items()):
            place = self.root / path
            if content is None:
                place.mkdir(exist_ok=True)
            elif now.get(path, 0) != content or place.stat(follow_symlinks=False).st_mtime_ns != self.times[path]:
                place.unlink(missing_ok=True)
                if isinstance(content, str):
                    place.symlink_to(content)
                else:
                    place.write_bytes(content)
                    os.utime(place, ns=(self.times[path], self.times[path]))
