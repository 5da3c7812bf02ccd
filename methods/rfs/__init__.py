"""A good embedding is all you need: RFS (Tian et al. 2020, arXiv:2003.11539).

A backbone learns to tell the base classes apart by cross-entropy (RFS-simple); in each ``generation`` more a student of the
same architecture is trained from scratch to agree with the last one's soft predictions, too (RFS-distill, born-again, §3.3).
An episode's classes are told by logistic regression on features of unit length, on the authors' benchmarks and the small
ones fitted on five changed views of each support image (``views``; 0: the image as it is); a query is as it is.

What differs from the authors' code (github.com/WangYueFt/rfs): the views of an image are drawn once, not in each episode;
logistic regression is at its optimum, not at scikit-learn's tolerance; validation episodes choose the epoch (theirs: the
last).
"""

from methods.rfs.method import Rfs

__all__ = ["Rfs"]
