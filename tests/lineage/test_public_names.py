import types

import lineage


def test_all_lists_what_the_package_exposes() -> None:
    exposed = {
        name
        for name, value in vars(lineage).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert sorted(lineage.__all__) == sorted(exposed)


def test_every_public_name_is_documented() -> None:
    undocumented = [
        name for name in lineage.__all__ if name != "JSON" and not getattr(lineage, name).__doc__
    ]
    assert undocumented == []


def test_each_error_has_the_status_that_the_tree_in_its_module_draws() -> None:
    tree = lineage.errors.__doc__ or ""
    for name in lineage.__all__:
        value = getattr(lineage, name)
        if isinstance(value, type) and issubclass(value, lineage.LineageError):
            line = next(line for line in tree.splitlines() if name in line)
            assert name == "LineageError" or value.code in line.split()
