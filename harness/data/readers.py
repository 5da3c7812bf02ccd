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
_CUB = "no licence text, pictures of Flickr users: research use; please cite Wah et al. (2011), Caltech-UCSD Birds-200-2011"
_CUB_HOW = "PATH is CUB_200_2011.tgz or its folder; without --source it is downloaded"
_IMAGENET = (
    "ImageNet pictures: access by agreement with image-net.org, non-commercial research and education only, "
    "not to be passed on"
)
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
        Reader(
            "mini",
            "harness.data.mini",
            "PATH is your own ILSVRC2012_img_train.tar or its folders, mini-imagenet-cache-*.pkl, "
            "miniImageNet_category_split_*.pickle, few-shot-*.npz, or a folder of n0153282900000005.jpg and so on",
            _IMAGENET,
            must_accept=True,
        ),
        Reader(
            "tiered",
            "harness.data.tiered",
            "PATH is your own ILSVRC2012_img_train.tar or its folders, *_images_png.pkl and *_labels.pkl, or "
            "*_images.npz and *_labels.pkl",
            _IMAGENET,
            must_accept=True,
        ),
        Reader("cub", "harness.data.cub", _CUB_HOW, _CUB),
        Reader("cub-bbox", "harness.data.cub", _CUB_HOW, _CUB),
        Reader(
            "cifar100",
            "harness.data.cifar100",
            "PATH is cifar-100-python.tar.gz or its folder, or holds CIFAR_FS_*.pickle or FC100_*.pickle; without "
            "--source it is downloaded",
            "no licence text; please cite Krizhevsky (2009), Learning multiple layers of features from tiny images",
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
        return f"Pictures of your own become a set with `fsbench import-folder PATH --name {dataset}`.{nearest(dataset, READERS)}"
    source = " --source PATH" if known.module else ""
    accept = " --accept-terms" if known.must_accept else ""
    return f"Type `fsbench prepare {dataset}{source}{accept}`; {known.how}."
