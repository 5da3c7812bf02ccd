"""Weights from the Hugging Face hub, named with the revision that they are of: ``hub:ORGANISATION/NAME@REVISION``."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from harness.errors import ConfigError, DataError

PREFIX = "hub:"
_NAME = re.compile(r"hub:(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w.-]+))?(:(?P<file>[\w./-]+))?")
_USUAL = ("model.safetensors", "pytorch_model.bin")


def is_on_hub(path: Path) -> bool:
    """Whether ``--weights`` names a file on the hub."""
    return str(path).startswith(PREFIX)


def fetch(name: Path) -> Path:
    """Find a file of the hub on this machine, or download it; what was downloaded once is read without a network.

    Args:
        name: ``hub:ORGANISATION/NAME@REVISION``, with ``:FILE`` behind it where it is not model.safetensors or
            pytorch_model.bin. A revision is a commit or a tag: without one the same words may mean other weights later.

    Raises:
        ConfigError: for other words, and where huggingface_hub is not installed.
        DataError: when it is not there, or the hub cannot be reached.
    """
    said = _NAME.fullmatch(str(name))
    if said is None or not said["revision"]:
        raise ConfigError(
            f"--weights {name}: expected {PREFIX}ORGANISATION/NAME@REVISION, the revision being a commit or a tag of that "
            f"repository; {PREFIX}ORGANISATION/NAME@REVISION:FILE for a file that is not {' or '.join(_USUAL)}."
        )
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise ConfigError(
            f"--weights {name} needs huggingface_hub: pip install 'fsbench[encoders]'. A file of your own needs nothing."
        ) from error
    files = [said["file"]] if said["file"] else list(_USUAL)
    for file in files:
        with suppress(LocalEntryNotFoundError):
            return Path(
                hf_hub_download(said["repository"], file, revision=said["revision"], local_files_only=True)
            )
    for file in files:
        try:
            return Path(hf_hub_download(said["repository"], file, revision=said["revision"]))
        except LocalEntryNotFoundError as error:
            raise DataError(
                f"--weights {name}: the hub could not be reached, and revision {said['revision']} of {said['repository']} was "
                "never downloaded here. Download the file on a machine with a network and give it as --weights FILE."
            ) from error
        except EntryNotFoundError:
            continue
        except (HfHubHTTPError, OSError) as error:
            told = str(error).strip().splitlines()
            raise DataError(
                f"--weights {name}: the hub answered: {told[0] if told else type(error).__name__}"
            ) from error
    raise DataError(
        f"--weights {name}: revision {said['revision']} of {said['repository']} has no {' and no '.join(files)}. Name the file: "
        f"{PREFIX}{said['repository']}@{said['revision']}:FILE."
    )
