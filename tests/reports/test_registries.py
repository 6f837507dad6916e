"""Every declaration is where it has to be."""

from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from reports import reference
from reports.declarations import Dimension, Measure, Rate
from reports.dimensions import registry as dimensions
from reports.measures import registry as measures
from reports.query import parts

_OF = {measures: (measures.MEASURES, (Measure, Rate)), dimensions: (dimensions.DIMENSIONS, (Dimension,))}


@pytest.mark.parametrize("registry", [measures, dimensions])
def test_every_file_of_the_folder_is_in_the_registry(registry: ModuleType) -> None:
    known, kinds = _OF[registry]
    package = registry.__name__.rpartition(".")[0]
    declared = set()
    for file in Path(registry.__file__ or "").parent.glob("[!_]*.py"):
        if file.stem != "registry":
            own = {one for one in vars(import_module(f"{package}.{file.stem}")).values() if isinstance(one, kinds)}
            assert own, f"{file.name} declares nothing"
            declared |= own
    assert declared == set(known), f"put them into {registry.__name__}"
    assert len({one.slug for one in known}) == len({one.label for one in known}) == len(known)


def test_a_rate_is_of_counts_of_one_source() -> None:
    for measure in measures.MEASURES:
        assert len({part.source.name for part in parts((measure,))}) == 1, measure.slug


def test_keys_of_one_name_are_one_key() -> None:
    keys = [key for dimension in dimensions.DIMENSIONS for key in dimension.keys]
    assert len({key.name for key in keys}) == len({id(key) for key in keys})


def test_the_documented_measures_are_those_that_there_are() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reports.md").read_text(encoding="utf-8")
    assert reference.put_into(page) == page, "run `make reference`"
