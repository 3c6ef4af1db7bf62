"""Recipes and their data from TOML files.

[model]
path = "model.onnx"            # ONNX or IR text, relative to the recipe
target = "host"

[data]
train = "train.npz"            # arrays `inputs` and `targets`, or one for each input and `targets`
test = { images = "t10k-images-idx3-ubyte.gz", labels = "t10k-labels-idx1-ubyte.gz" }    # or IDX files
mean = 0.286                   # of IDX images in 0 … 1; with deviation
deviation = 0.353

[[stage]]
name = "prune"
passes = "prune-channels{target-macs=0.5}"
epochs = 3
learning-rate = 1e-3
distill = { teacher = "original", response = 0.9 }
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.training.fit_options import FitOptions
from edgeir.training.idx import read_idx
from edgeir.training.recipes.recipe import Distill, Recipe, RecipeData, Stage, Train

_FIT = {item.name for item in fields(FitOptions)}
_TRAIN = {item.name for item in fields(Train)} - {"options", "distill"}
_RECIPE = {item.name for item in fields(Recipe)} - {"model", "stages"}


def read_recipe(path: str | Path) -> tuple[Recipe, Callable[[], RecipeData]]:
    """A recipe, and a function that reads its data.

    Raises:
        EdgeIRError: the file is no TOML, or says something that a recipe cannot say; the place is named.
    """
    path = Path(path)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise EdgeIRError("cannot read the recipe", where=str(path), got=str(error)) from None
    _only(document, {"model", "data", "training", "stage"}, str(path))
    model = _table(document, "model", str(path))
    common = _underscored(_table(document, "training", str(path), needed=False))
    if "path" not in model:
        raise EdgeIRError("the recipe names no model", where=f"{path}, [model]", expected='path = "…"')
    settings = _underscored({key: value for key, value in model.items() if key != "path"})
    _only(settings, _RECIPE, f"{path}, [model]")
    stages = document.get("stage", [])
    if not isinstance(stages, list):
        raise EdgeIRError("stages are written as [[stage]]", where=str(path))
    recipe = _made(
        Recipe,
        f"{path}, [model]",
        model=str(path.parent / str(model["path"])),
        stages=tuple(_stage(entry, common, f"{path}, stage {n}") for n, entry in enumerate(stages, 1)),
        **{key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()},
    )
    recipe.rounds()
    data = _table(document, "data", str(path))
    _only(data, {"train", "test", "validation", "mean", "deviation"}, f"{path}, [data]")
    for part in ("train", "test"):
        if part not in data:
            raise EdgeIRError(f"the recipe has no {part} data", where=f"{path}, [data]")

    def read() -> RecipeData:
        parts = {
            part: _arrays(data[part], path.parent, data, f"{path}, [data], {part}")
            for part in ("train", "test", "validation")
            if part in data
        }
        return RecipeData(**parts)

    return recipe, read


def _stage(entry: Mapping[str, Any], common: Mapping[str, Any], where: str) -> Stage:
    own = _underscored(entry)
    _only(own, {"name", "passes", "distill"} | _FIT | _TRAIN, where)
    if "name" not in own:
        raise EdgeIRError("a stage has no name", where=where)
    passes = own.get("passes", ())
    texts = (passes,) if isinstance(passes, str) else tuple(passes)
    if "epochs" not in own and "steps" not in own:
        extra = sorted(set(own) - {"name", "passes"})
        if extra:
            raise EdgeIRError("a stage that does not train has training options", where=where, got=", ".join(extra))
        return Stage(str(own["name"]), texts)
    given = {**common, **own}
    for one, other in (("epochs", "steps"), ("steps", "epochs")):
        if one in own and other not in own:
            given.pop(other, None)
    _only(given, {"name", "passes", "distill"} | _FIT | _TRAIN, f"{where} or [training]")
    options = _made(FitOptions, where, **{key: value for key, value in given.items() if key in _FIT})
    options.check()
    extra = {key: tuple(given[key]) if isinstance(given[key], list) else given[key] for key in _TRAIN if key in given}
    distill = None
    if "distill" in given:
        table = _underscored(given["distill"])
        _only(table, {item.name for item in fields(Distill)}, f"{where}, distill")
        if "pairs" in table:
            table["pairs"] = tuple((str(a), str(b)) for a, b in table["pairs"])
        distill = _made(Distill, f"{where}, distill", **table)
    train = _made(Train, where, options=options, distill=distill, **extra)
    return Stage(str(own["name"]), texts, train)


def _arrays(entry: Any, folder: Path, data: Mapping[str, Any], where: str) -> tuple[Any, np.ndarray]:
    if isinstance(entry, Mapping):
        _only(entry, {"images", "labels"}, where)
        images, labels = (read_idx(folder / str(entry[key])) for key in ("images", "labels"))
        mean, deviation = float(data.get("mean", 0.0)), float(data.get("deviation", 1.0))
        scaled = (images[:, None].astype(np.float32) / 255 - np.float32(mean)) / np.float32(deviation)
        return scaled, labels.astype(np.int64)
    path = folder / str(entry)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception as error:  # zipfile, zlib and numpy each raise types of their own.
        raise EdgeIRError("cannot read arrays", where=where, got=f"{path}: {error}") from None
    if "targets" not in arrays or len(arrays) < 2:
        raise EdgeIRError("data needs arrays for inputs and `targets`", where=str(path), got=", ".join(arrays))
    targets = arrays.pop("targets")
    return (arrays["inputs"] if list(arrays) == ["inputs"] else arrays), targets


def _table(document: Mapping[str, Any], key: str, where: str, needed: bool = True) -> dict[str, Any]:
    value = document.get(key, None if needed else {})
    if not isinstance(value, dict):
        raise EdgeIRError(f"the recipe has no table [{key}]", where=where)
    return value


def _underscored(table: Any) -> dict[str, Any]:
    if not isinstance(table, Mapping):
        raise EdgeIRError("a table is expected", got=repr(table))
    return {str(key).replace("-", "_"): value for key, value in table.items()}


def _only(table: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise EdgeIRError("unknown entry", where=where, expected=", ".join(sorted(known)), got=key)


def _made(kind: type, where: str, **values: Any) -> Any:
    """A dataclass of these values, whose kinds are those of its defaults and annotations."""
    for item in fields(kind):
        if item.name not in values:
            continue
        value, annotation = values[item.name], str(item.type)
        numbers = "float" in annotation and isinstance(value, int | float) and not isinstance(value, bool)
        exact = [name for name in ("int", "bool", "str") if name in annotation.split(" | ")]
        fits = numbers or type(value).__name__ in exact or not (exact or "float" in annotation)
        if not fits:
            raise EdgeIRError(
                "an entry of the wrong kind", where=f"{where}, {item.name}", expected=annotation, got=repr(value)
            )
    return kind(**values)
