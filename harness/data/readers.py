"""The data sets fsbench can prepare: where each comes from, under which terms, and what to type."""

from __future__ import annotations

from dataclasses import dataclass

from harness.errors import ConfigError, nearest


@dataclass(frozen=True)
class Reader:
    """How one data set is come by.

    Attributes:
        dataset: its name.
        module: the module with ``plans(dataset, sources)``; empty when it is generated.
        how: what the user needs, for error messages.
        terms: licence or terms of use.
        must_accept: whether the user has to accept the terms (``--accept-terms``).
    """

    dataset: str
    module: str
    how: str
    terms: str
    must_accept: bool = False


_MIT = "MIT, copyright 2015 Brenden Lake; please cite Lake, Salakhutdinov, Tenenbaum (2015)"
_OMNIGLOT = "https://github.com/brendenlake/omniglot"

READERS: dict[str, Reader] = {
    r.dataset: r
    for r in (
        Reader("glyphs", "", "it is drawn on first use", "MIT, part of fsbench"),
        Reader("digits", "", "it comes with scikit-learn", "CC BY 4.0, Alpaydin and Kaynak (1998), UCI"),
        Reader(
            "omniglot",
            "harness.data.omniglot",
            f"PATH holds images_background.zip and images_evaluation.zip of {_OMNIGLOT}",
            _MIT,
        ),
        Reader(
            "omniglot-small",
            "harness.data.omniglot",
            f"PATH holds images_background_small1.zip, images_background_small2.zip or both, of {_OMNIGLOT}",
            _MIT,
        ),
        Reader("omniglot-runs", "harness.data.omniglot", f"PATH holds all_runs.zip of {_OMNIGLOT}", _MIT),
    )
}


def reader(dataset: str) -> Reader:
    """Look a data set up by name.

    Raises:
        ConfigError: when there is none of that name.
    """
    if dataset not in READERS:
        raise ConfigError(
            f"`{dataset}` is not a data set.{nearest(dataset, READERS)} Known: {', '.join(READERS)}."
        )
    return READERS[dataset]


def how_to_prepare(dataset: str) -> str:
    """What to type to have a data set, as one sentence.

    >>> how_to_prepare("glyphs")
    'Type `fsbench prepare glyphs`; it is drawn on first use.'
    """
    known = READERS.get(dataset)
    if known is None:
        return f"Type `fsbench prepare {dataset} --source PATH`."
    source = " --source PATH" if known.module else ""
    accept = " --accept-terms" if known.must_accept else ""
    return f"Type `fsbench prepare {dataset}{source}{accept}`; {known.how}."
