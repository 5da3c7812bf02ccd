"""Transductive information maximisation on the features of any fit: TIM (Boudiaf et al. 2020, arXiv:2008.11297) and alpha-TIM.

Class weights start at the class means of the support and move so that the support is told apart (cross-entropy), each
query is decided (low conditional entropy) and the queries spread over the classes (high entropy of the mean
prediction). The last term asks for as many queries of every class; alpha-TIM (Veilleux et al. 2021, arXiv:2204.11181)
asks less by Tsallis' entropies. ``solver=gd`` takes 1,000 Adam steps of 1e-4 as all scripts of the authors do,
``adm`` alternates 150 times without gradients; both look at one episode alone. Where features hardly separate the
classes, adm does not settle but wanders, in the authors' form too, and carries rounding to the second digit of a score.

``--recipe gd`` is the scripts' form; ``--recipe dirichlet`` that of the code of alpha-TIM under unbalanced queries, whose
weights are 1, 1, 1 there, which is another method; with equal ones it runs the first, times ten.
``likeness=cosine`` with 50 steps, weights 1, 1, 0.1 and temperature 10 is what easy-few-shot-learning calls TIM.
"""

from methods.tim.alpha import AlphaTim
from methods.tim.method import Tim

__all__ = ["AlphaTim", "Tim"]
