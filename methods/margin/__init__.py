"""Classifiers with a margin: Softmax, Cosine, Neg-Softmax, Neg-Cosine (Liu et al., ECCV 2020, arXiv:2003.12060).

One network and one classifier learn all base classes by cross-entropy on scaled similarities; a *negative* margin
helps the true class, so that training is easier and base classes stay less compact, which transfers better. Each
episode then trains a small classifier of its own on frozen support features. Softmax and Cosine are the same
without a margin.

What differs from the authors' code (github.com/bl0/negative-margin.few-shot): labels are remapped, so that a
classifier has one row a base class (``unused_rows`` adds theirs); DropBlock clears whole squares
(``squares="as-published"`` has their defect); the weights are chosen by the harness's validation episodes, at 1
shot where the published cell is 1-shot; the logged training accuracy is without the margin. Their tables have two
baselines from another paper; here the baselines differ from Neg-Cosine and Neg-Softmax in the margin alone.
"""

from methods.margin.method import Cosine, NegCosine, NegSoftmax, Softmax

__all__ = ["Cosine", "NegCosine", "NegSoftmax", "Softmax"]
