"""Draw accuracy on base and novel classes against the margin, from the runs of ``make results``.

``python docs/margin_sweep.py results.db docs/margin_sweep.png [SETTING]`` reads every neg-cosine run of the setting:
"novel" is its mean accuracy; "base" is that of the validation episodes, which on cifar10 are held-out images of the
base classes. Published sweeps (Liu et al. 2020, figure 3) use the base classifier's own accuracy instead.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import matplotlib as mpl
import numpy as np

from harness.store import Store

mpl.use("Agg")
from matplotlib import pyplot as plt


def curves(store: Store, setting: str) -> dict[str, dict[float, list[float]]]:
    """Curve → margin → percent of each seed."""
    found: dict[str, dict[float, list[float]]] = {"novel": defaultdict(list), "base": defaultdict(list)}
    for run_id in store.runs(metrics=(), setting=[setting], method=["neg-cosine"]).id:
        run = store.run(run_id)
        others = [
            name for name, entry in run.spec.config.items() if entry.origin == "--set" and name != "margin"
        ]
        if run.status != "done" or others or run.spec.backbone != "conv4":
            continue
        margin = float(run.spec.config["margin"].value)
        correct, asked = store.counts(run.pk, "top1")
        found["novel"][margin].append(100 * float((correct / asked).mean()))
        found["base"][margin].append(100 * run.provenance["selection"]["validation_accuracy"])
    return found


def main() -> None:
    """Write the picture and print its numbers."""
    database, picture, setting = sys.argv[1], Path(sys.argv[2]), (*sys.argv[3:], "cifar10-5w1s")[0]
    store = Store.open(database)
    found = curves(store, setting)
    store.close()
    figure, axes = plt.subplots(figsize=(5.2, 3.2), layout="constrained")
    for name, colour in (("base", "#0072b2"), ("novel", "#d55e00")):
        margins = sorted(found[name])
        means = [float(np.mean(found[name][m])) for m in margins]
        axes.plot(margins, means, "o-", color=colour, label=f"{name} classes")
        for margin in margins:
            axes.plot([margin] * len(found[name][margin]), found[name][margin], ".", color=colour, alpha=0.4)
        print(name, {m: round(mean, 2) for m, mean in zip(margins, means, strict=True)})
    axes.set_xlabel("margin")
    axes.set_ylabel("accuracy, %")
    axes.set_title(f"neg-cosine, conv4, {setting}", fontsize=10)
    axes.legend(frameon=False)
    figure.savefig(picture, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
