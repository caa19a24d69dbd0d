"""Closures: on small made-up packages, on a copy of this project, and against what really runs."""

import ast
import inspect
import json
import shutil
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import save_file

import generators
from benchmarks import fit
from benchmarks.methods import METHODS
from generators import GENERATORS, sample
from generators.base import file_sha256
from pipeline import closure
from pipeline.closure import PACKAGES, Tree
from pipeline.errors import UserError
from pipeline.images import Jpeg
from pipeline.params import Generator
from pipeline.syntax import shape

ROOT = Path(__file__).parents[2]
FILES = {
    "ours/__init__.py": "",
    "ours/tools.py": """
import os
import numpy as np
from scipy import fft
from ours.more import helper as borrowed

os.environ["SWITCH"] = "1"
LEVELS = 2
BINS = LEVELS * 4


def used(x: "Unseen") -> int:
    '''Say what.'''
    return borrowed(x) + BINS  # why


def unused(fft):
    images = np.zeros(BINS)
    return [images for images in fft]


class Unseen:
    pass
""",
    "ours/more.py": "def helper(x):\n    return x\n\n\ndef other(x):\n    return -x\n",
    "ours/registry.py": """
from importlib import import_module

KINDS = {"a": "ours.a:A", "b": "ours.b:B"}
PAIRS = {"a": ("ours.a:A", "ours.more:helper"), "b": ("ours.b:B", "ours.more:other")}


def load(kind):
    module, _, name = KINDS[kind].partition(":")
    return getattr(import_module(module), name)()


def both(kind):
    return [getattr(import_module(one.partition(":")[0]), one[-1]) for one in PAIRS[kind]]


def network(kind):
    return import_module(f"ours.nets.{kind}").Net()
""",
    "ours/a.py": "from ours import tools\n\n\nclass A:\n    size = tools.used(1)\n",
    "ours/b.py": "import tqdm\nimport torch\n\n\nclass B:\n    x = tqdm.tqdm(torch.ones(2))\n",
    "ours/nets/__init__.py": "",
    "ours/nets/a.py": "class Net:\n    pass\n\n\nclass Critic:\n    pass\n",
    "ours/nets/b.py": "class Net:\n    deep = True\n",
    "ours/options.py": """
from pydantic import BaseModel, model_validator


class Base(BaseModel):
    pass


class Inner(Base):
    width: int = 3

    def doubled(self):
        return 2 * self.width


class Outer(Base):
    inner: Inner

    @model_validator(mode="after")
    def check(self):
        return self

    def rule(self):
        return 1

    def nobody(self):
        return 2


def run(values):
    outer = Outer.model_validate(values)
    return outer.rule() + outer.inner.doubled()
""",
    "ours/page.py": "PAGE = 'page.j2'\n\n\ndef main():\n    print(PAGE)\n\n\n"
    "if __name__ == '__main__':\n    main()\n",
    "ours/page.j2": "<p>",
}


@pytest.fixture
def ours(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    def reach(*roots, picks=()):
        return Tree(tmp_path, ["ours"]).closure(roots, picks)

    reach.folder = tmp_path
    return reach


def names(found):
    return {name for name in found.shapes if not name.endswith(" import")}


def test_names_are_followed_from_definition_to_definition(ours):
    found = ours("ours.a:A")
    assert names(found) == {
        *("ours.a:A", "ours.tools:", "ours.tools:used", "ours.tools:BINS", "ours.tools:LEVELS"),
        "ours.more:helper",
    }
    assert found.libraries == set()


def test_a_name_of_a_function_is_not_that_of_its_module(ours):
    found = ours("ours.tools:unused")
    assert found.libraries == {"numpy"}  # `fft` is its argument
    assert "ours.tools:fft import" not in found.shapes


@pytest.mark.parametrize(
    ("file", "old", "new", "same"),
    [
        ("ours/tools.py", "Say what.", "Say it.", True),
        ("ours/tools.py", "# why", "# because", True),
        ("ours/tools.py", 'x: "Unseen"', "x: int", True),
        ("ours/tools.py", "borrowed(x) + BINS", "(\n        borrowed(x) + BINS)", True),
        ("ours/tools.py", "    pass\n", "    size = 1\n", True),
        ("ours/more.py", "return -x", "return x * x", True),
        ("ours/more.py", "return x\n", "return x + 1\n", False),
        ("ours/tools.py", "LEVELS = 2", "LEVELS = 3", False),
        ("ours/tools.py", '"SWITCH"', '"OTHER"', False),
        ("ours/tools.py", "import helper as", "import other as", False),
    ],
)
def test_what_acts_moves_the_digest_and_nothing_else_does(ours, file, old, new, same):
    before = ours("ours.a:A").digest()
    path = ours.folder / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert (ours("ours.a:A").digest() == before) is same


def test_of_a_registry_the_picked_line_counts_and_without_a_pick_all_do(ours):
    assert "ours.a:A" in names(ours("ours.registry:load", picks=["a"]))
    assert "ours.b:B" not in names(ours("ours.registry:load", picks=["a"]))
    assert {"ours.a:A", "ours.b:B"} <= names(ours("ours.registry:load"))
    assert {"ours.a:A", "ours.more:helper"} <= names(ours("ours.registry:both", picks=["a"]))
    assert not {"ours.b:B", "ours.more:other"} & names(ours("ours.registry:both", picks=["a"]))
    before = ours("ours.registry:load", picks=["a"]).digest()
    path = ours.folder / "ours/registry.py"
    path.write_text(path.read_text().replace('"b": ', '"c": "ours.b:B", "b": '))
    assert ours("ours.registry:load", picks=["a"]).digest() == before
    path.write_text(path.read_text().replace("ours.a:A", "ours.b:B"))
    assert ours("ours.registry:load", picks=["a"]).digest() != before


def test_a_module_whose_name_is_put_together_is_found_by_the_pick(ours):
    assert names(ours("ours.registry:network", picks=["b"])) == {
        *("ours.registry:network", "ours.nets.b:Net"),
    }
    assert {"ours.nets.a:Net", "ours.nets.b:Net"} < names(ours("ours.registry:network"))
    assert "ours.nets.a:Critic" not in names(ours("ours.registry:network"))


def test_options_count_by_the_methods_that_are_used_and_not_by_their_fields(ours):
    before = ours("ours.options:run").digest()
    path = ours.folder / "ours/options.py"
    text = path.read_text()
    for old, new, same in (
        ("width: int = 3", "width: int = 4", True),  # its value counts where it is read
        ("return self\n", "return self or None\n", True),
        ("return 2\n", "return 3\n", True),
        ("return 1\n", "return 3\n", False),
        ("return 2 * self", "return 3 * self", False),
    ):
        assert old in text
        path.write_text(text.replace(old, new))
        assert (ours("ours.options:run").digest() == before) is same, old


def test_a_template_beside_the_module_counts(ours):
    before = ours("ours.page").digest()
    (ours.folder / "ours/page.j2").write_text("<h1>")
    assert ours("ours.page").digest() != before


def test_versions_count_but_of_what_moves_no_bit(ours, monkeypatch):
    found = ours("ours.b:B")
    assert found.libraries == {"tqdm", "torch"}
    before = found.digest()
    for library, same in (("tqdm", True), ("torch", False)):
        closure.version_of.cache_clear()
        with monkeypatch.context() as patch:
            version = closure.metadata.version
            patch.setattr(
                closure.metadata,
                "version",
                lambda name, of=library, real=version: "0" if name == of else real(name),
            )
            assert (ours("ours.b:B").digest() == before) is same
    closure.version_of.cache_clear()


def test_an_unknown_root_is_an_error(ours):
    with pytest.raises(UserError, match=r"ours\.a:C is not there"):
        ours("ours.a:C")


def test_the_shape_of_a_dataclass_has_its_fields_and_their_types():
    first, second = ("class A:\n    x: int", "class A:\n    x: str")
    assert shape(ast.parse(first).body) != shape(ast.parse(second).body)


# ---- this project


def digests(root):
    tree = Tree(root)
    return {
        **{name: tree.closure(sample.PICTURES, [name]).digest() for name in GENERATORS},
        **{name: tree.closure(["benchmarks.fit"], [name]).digest() for name in METHODS},
    }


@pytest.fixture
def copy(tmp_path):
    skip = shutil.ignore_patterns("__pycache__", "weights", "runs", "*.parquet", "report")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=skip)
    return tmp_path


ADAPTERS, FITS = {*GENERATORS}, {*METHODS}
PLACE = "benchmarks.methods.spectrum"
METHOD_LINE = f'    "spectrum": ("{PLACE}:Spectrum", "{PLACE}:Options"),\n'
OTHER_LINE = METHOD_LINE.replace('"spectrum"', '"another"')


EDITS = [
    (
        "generators/networks/pggan.py",
        "WIDTHS = (8, 8, 4, 2, 1)",
        "WIDTHS = (8, 8, 4, 2, 2)",
        {"pggan"},
    ),
    ("generators/networks/pggan.py", "x.float().var(0", "x.double().var(0", set()),  # of its critic
    (
        "generators/networks/dcgan.py",
        "(8, 4), (4, 2), (2,",
        "(8, 5), (5, 2), (2,",
        {"dcgan", "wgan"},
    ),
    ("generators/base.py", '"""Draw standard normal noise', '"""Draw normal noise', set()),
    ("benchmarks/methods/spectrum.py", "FLOOR = 1e-6", "FLOOR = 1e-5", {"spectrum"}),
    ("benchmarks/methods/__init__.py", METHOD_LINE, METHOD_LINE + OTHER_LINE, set()),
    ("pipeline/params.py", "train_generators if name != generator)", "train_generators)", FITS),
    ("pipeline/seeds.py", "def seed_for(", "X = 1\n\n\ndef seed_for(", set()),
    ("pipeline/images.py", "Image.Resampling.LANCZOS", "Image.Resampling.BOX", ADAPTERS),
]


@pytest.mark.parametrize(("file", "old", "new", "changed"), EDITS)
def test_an_edit_of_this_project_moves_the_digests_of_what_it_changes(
    copy, file, old, new, changed
):
    before = digests(copy)
    path = copy / file
    assert path.read_text().count(old) == 1
    path.write_text(path.read_text().replace(old, new))
    after = digests(copy)
    moved = {name for name in before if before[name] != after[name]}
    assert changed <= moved
    if changed not in (ADAPTERS, FITS):
        assert moved == changed
    assert changed != FITS or moved == FITS


class Watch:
    """Names of the project's definitions that were really run."""

    def __init__(self):
        self.codes = set()

    def __enter__(self):
        sys.setprofile(lambda frame, event, _: self.codes.add(frame.f_code))
        return self

    def __exit__(self, *_):
        sys.setprofile(None)

    def names(self):
        """`module:definition` or `module:Class.method` of each function of ours."""
        found = set()
        for one in self.codes:
            path = Path(one.co_filename)
            # Bodies of modules and classes are run by the import, whoever uses what is in them.
            if not one.co_flags & inspect.CO_OPTIMIZED or not path.is_relative_to(ROOT):
                continue
            module = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
            module = module.removesuffix(".__init__")
            if module.partition(".")[0] in PACKAGES and module not in closure.LEFT_OUT:
                found.add(f"{module}:{one.co_qualname}")
        return found

    def missing(self, reached):
        """Those that a closure does not have."""
        return {
            name for name in self.names()
            if name.split(".<")[0] not in reached.shapes
            and f"{name.partition(':')[0]}:{name.partition(':')[2].split('.')[0]}"
            not in reached.shapes
        }  # fmt: skip


def test_whatever_a_fit_runs_is_in_its_closure(small_profile, tmp_path, monkeypatch):
    learned = {"widths": [8], "crop": 16, "steps": 2, "batch": 8, "lr": 0.001}
    methods = {"spectrum": {"method": "spectrum"}, "deepfd": {"method": "deepfd", **learned}}
    monkeypatch.chdir(tmp_path)
    checked, _ = small_profile(methods=methods)
    for name in methods:
        with Watch() as watch:
            fit.Run(checked, name, "planted data").fold("a")
        assert any(one.endswith(".fit") for one in watch.names())
        assert watch.missing(Tree(ROOT).closure(["benchmarks.fit"], [name])) == set()


@pytest.mark.parametrize("adapter", ["dcgan", "pggan"])
def test_whatever_makes_pictures_is_in_the_closure_of_their_spec(adapter, tmp_path):
    torch.manual_seed(0)
    network = import_module(f"generators.networks.{adapter}").Generator(channels=1, width=2)
    weights = tmp_path / "gan.safetensors"
    save_file(network.state_dict(), weights)
    card = {"adapter": adapter, "channels": 1, "config": {"channels": 1, "width": 2}}
    card["sha256"] = file_sha256(weights)
    weights.with_suffix(".json").write_text(json.dumps(card))
    values = {"adapter": adapter, "family": "x", "images": 4, "batch": 4, "weights": str(weights)}
    options = TypeAdapter(Generator).validate_python(values)
    with Watch() as watch:
        generator = generators.load(options)
        sample.pictures(sample.Job("a", options, "", 64, 1, Jpeg(90)), generator, 0)
    assert f"generators.networks.{adapter}:Generator.forward" in watch.names()
    assert watch.missing(Tree(ROOT).closure(sample.PICTURES, [adapter])) == set()
