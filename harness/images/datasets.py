"""The data sets fsbench can prepare: where each comes from, under which terms, and what to type."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.errors import ConfigError, nearest


@dataclass(frozen=True)
class Reader:
    """How one data set is come by.

    Attributes:
        dataset: its name.
        module: the module with ``plans(dataset, sources)`` and ``fetch``.
        how: what the user needs, for error messages.
        terms: licence or terms of use.
        must_accept: whether the user has to accept the terms (``--accept-terms``).
        is_generated: whether it is made here, from no source.
    """

    dataset: str
    module: str
    how: str
    terms: str
    must_accept: bool = False
    is_generated: bool = False


_MIT = "MIT, copyright 2015 Brenden Lake; please cite Lake, Salakhutdinov, Tenenbaum (2015)"
_CUB = "no licence text, pictures of Flickr users: research use; please cite Wah et al. (2011), Caltech-UCSD Birds-200-2011"
_CUB_HOW = "PATH is CUB_200_2011.tgz or its folder; without --source it is downloaded"
_IMAGENET = (
    "ImageNet pictures: access by agreement with image-net.org, non-commercial research and education only, "
    "not to be passed on"
)
_OMNIGLOT = "https://github.com/brendenlake/omniglot"

_GENERATED = "harness.images.sources.generated"

READERS: dict[str, Reader] = {
    r.dataset: r
    for r in (
        Reader("glyphs", _GENERATED, "it is drawn on first use", "MIT, part of fsbench", is_generated=True),
        Reader(
            "digits",
            _GENERATED,
            "it comes with scikit-learn",
            "CC BY 4.0, Alpaydin and Kaynak (1998), UCI",
            is_generated=True,
        ),
        Reader(
            "omniglot",
            "harness.images.sources.omniglot",
            f"PATH holds images_background.zip and images_evaluation.zip of {_OMNIGLOT}",
            _MIT,
        ),
        Reader(
            "omniglot-small",
            "harness.images.sources.omniglot",
            f"PATH holds images_background_small1.zip, images_background_small2.zip or both, of {_OMNIGLOT}",
            _MIT,
        ),
        Reader(
            "mini",
            "harness.images.sources.mini",
            "PATH is your own ILSVRC2012_img_train.tar or its folders, mini-imagenet-cache-*.pkl, "
            "miniImageNet_category_split_*.pickle, few-shot-*.npz, {train,val,test}.pth, or a folder of n0153282900000005.jpg and so on",
            _IMAGENET,
            must_accept=True,
        ),
        Reader(
            "tiered",
            "harness.images.sources.tiered",
            "PATH is your own ILSVRC2012_img_train.tar or its folders, *_images_png.pkl and *_labels.pkl, "
            "*_images.npz and *_labels.pkl, or files named like val_3_21_17.png",
            _IMAGENET,
            must_accept=True,
        ),
        Reader(
            "imagenet-lowshot",
            "harness.images.sources.imagenet_lowshot",
            "PATH is your own ILSVRC2012_img_train.tar or its folders; give ILSVRC2012_img_val.tar or its pictures with "
            "another --source",
            _IMAGENET,
            must_accept=True,
        ),
        Reader(
            "imagenet-lowshot-features",
            "harness.images.sources.lowshot_features",
            "PATH holds two HDF5 files of all_feats, all_labels and count: a pass over the training pictures and one over "
            "the validation pictures of ILSVRC2012, in the order of the authors' lists",
            _IMAGENET,
            must_accept=True,
        ),
        Reader("cub", "harness.images.sources.cub", _CUB_HOW, _CUB),
        Reader("cub-bbox", "harness.images.sources.cub", _CUB_HOW, _CUB),
        Reader(
            "cifar100",
            "harness.images.sources.cifar100",
            "PATH is cifar-100-python.tar.gz or its folder, or holds CIFAR_FS_*.pickle, FC100_*.pickle, "
            "few-shot-*.npz of FC100, or PNG files in folders by class; without --source it is downloaded",
            "no licence text; please cite Krizhevsky (2009), Learning multiple layers of features from tiny images",
        ),
        Reader(
            "flowers",
            "harness.images.sources.flowers",
            "PATH holds 102flowers.tgz (or its folder jpg), imagelabels.mat and setid.mat; without --source they are downloaded",
            "no licence text, pictures from the web: research use; please cite Nilsback and Zisserman (2008), Automated flower "
            "classification over a large number of classes",
        ),
        Reader(
            "pets",
            "harness.images.sources.pets",
            "PATH holds images.tar.gz and annotations.tar.gz, or their folders; without --source they are downloaded",
            "CC BY-SA 4.0; please cite Parkhi et al. (2012), Cats and dogs",
        ),
        Reader(
            "dogs",
            "harness.images.sources.dogs",
            "PATH holds images.tar and lists.tar, or their folders; without --source they are downloaded",
            f"{_IMAGENET}; please cite Khosla et al. (2011), Novel dataset for fine-grained image categorization",
            must_accept=True,
        ),
        Reader(
            "omniglot-runs",
            "harness.images.sources.omniglot",
            f"PATH holds all_runs.zip of {_OMNIGLOT}",
            _MIT,
        ),
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


GENERATED = tuple(r.dataset for r in READERS.values() if r.is_generated)

PICTURE_FOLDERS = {  # sets of `fsbench import-folder` whose split comes with fsbench: size, and what PATH is
    "cifar10": (
        32,
        "a folder or zip of CIFAR-10's photographs, the first 600 of each class in a folder of its name",
    ),
}


def how_to_prepare(dataset: str) -> str:
    """What to type to have a data set, as one sentence.

    >>> how_to_prepare("glyphs")
    'Type `fsbench prepare glyphs`; it is drawn on first use.'
    """
    if dataset in PICTURE_FOLDERS:
        size, what = PICTURE_FOLDERS[dataset]
        return f"Type `fsbench import-folder PATH --name {dataset} --size {size}`; PATH is {what}."
    known = READERS.get(dataset)
    if known is None:
        return f"Pictures of your own become a set with `fsbench import-folder PATH --name {dataset}`.{nearest(dataset, READERS)}"
    return f"Type `{_command(known)}`; {known.how}."


def how_to_have_originals(dataset: str, folder: Path) -> str:
    """What to type to have a data set with its original pictures in place of one without them, as one sentence."""
    known = READERS.get(dataset)
    if known is None:
        return f"Remove {folder} and type `fsbench import-folder PATH --name {dataset}` with whole pictures in PATH."
    whole = (
        "your own ILSVRC2012_img_train.tar or its folders" if known.terms == _IMAGENET else "whole pictures"
    )
    return f"Remove {folder} and type `{_command(known)}`, where PATH is {whole}."


def _command(known: Reader) -> str:
    source = " --source PATH" if not known.is_generated else ""
    return f"fsbench prepare {known.dataset}{source}{' --accept-terms' if known.must_accept else ''}"
