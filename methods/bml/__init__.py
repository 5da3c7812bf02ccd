"""Binocular mutual learning (Zhou et al., ICCV 2021, arXiv:2108.12104), and its two views alone as baselines.

One trunk carries two last stages. The global one classifies every location of every image among all base classes;
the local one solves a training episode by squared distances of query locations to class prototypes, with an elastic
margin on the true class of undecided queries; a symmetric divergence pulls their pooled features together. At test
time a class is the mean of square-rooted, flattened maps, and the two views' scores are added.

What differs from the authors' code: the weights are chosen on validation classes (theirs: on test classes); a step
of two episodes runs on one device, so the running statistics of batch norm see both; DropBlock clears whole squares
(``squares="as-published"`` has their defect) and counts training steps alone. With fewer base classes than
``train_way`` an episode has them all; the curves record the way as ``train_way``. ``bml-global`` and ``bml-local``
take pooled features in training and at test, as published; ``classifier`` gives either the other's test.
"""

from methods.bml.method import Bml, BmlGlobal, BmlLocal

__all__ = ["Bml", "BmlGlobal", "BmlLocal"]
