"""Binocular mutual learning (Zhou et al., ICCV 2021, arXiv:2108.12104), and its two views alone as baselines.

One trunk carries two last stages. The global one classifies every location of every image among all base classes;
the local one solves a training episode by squared distances of query locations to class prototypes, with an elastic
margin on the true class of undecided queries; a symmetric divergence pulls their pooled features together. At test
time a class is the mean of square-rooted, flattened maps, and the two views' scores are added.

What differs from the authors' code (github.com/ZZQzzq/BML): the weights are chosen on validation classes (theirs: on test
classes); a step of two episodes runs on one device, so the running statistics of batch norm see both; DropBlock clears
whole squares (``squares="as-published"`` has their defect) and counts training steps alone. With fewer base classes than
``train_way`` an episode has them all; the curves record the way as ``train_way``. ``bml-global`` and ``bml-local`` take
pooled features in training and at test, as published; ``classifier`` gives either the other's test. The authors' scripts
train all five sets by SGD; their code's other optimiser is ``optimiser=adam``, and ``follows`` makes the divergence one
way, from one view to the other.

``--recipe as-published`` has their pixels (mini-ImageNet from ready squares of 84 pixels, CUB from photographs), DropBlock
and selection on novel classes. Where it differs still: what their CIFAR and tieredImageNet files were enlarged with is
not known (bicubic here), and their mini-ImageNet squares are of another making than those brought down from photographs.
"""

from methods.bml.method import Bml, BmlGlobal, BmlLocal

__all__ = ["Bml", "BmlGlobal", "BmlLocal"]
