"""Every promise of a method, in the order of checking, and what each rests on."""

from __future__ import annotations

from harness.testing import closed_promises, episode_promises, fitting_promises, joint_promises
from harness.testing.promise import Promise

_FITTED, _SCORES, _STEADY = "fits_in_seconds", "scores_are_well_formed", "same_rng_same_scores"
_EPISODIC = "episodic"
PROMISES = (
    Promise(fitting_promises.builds_from_every_entry),
    Promise(fitting_promises.config_is_documented),
    Promise(fitting_promises.keeps_novel_closed),
    Promise(fitting_promises.fits_in_seconds, ("keeps_novel_closed",)),
    Promise(fitting_promises.features_are_well_formed, (_FITTED,)),
    Promise(episode_promises.scores_are_well_formed, (_FITTED, "features_are_well_formed"), _EPISODIC),
    Promise(episode_promises.any_way_and_shot, (_SCORES,), _EPISODIC),
    Promise(episode_promises.inputs_are_not_changed, (_SCORES,), _EPISODIC),
    Promise(episode_promises.beats_chance, ("inputs_are_not_changed",), _EPISODIC, is_quick=False),
    Promise(episode_promises.queries_may_be_permuted, (_SCORES,), _EPISODIC),
    Promise(episode_promises.queries_may_be_uneven, (_SCORES,), _EPISODIC),
    Promise(episode_promises.queries_are_independent, ("queries_may_be_permuted",), _EPISODIC),
    Promise(fitting_promises.embed_is_independent, ("features_are_well_formed",)),
    Promise(episode_promises.same_rng_same_scores, (_SCORES,), _EPISODIC),
    Promise(episode_promises.leaves_global_random_state, (_SCORES,), _EPISODIC),
    Promise(
        episode_promises.classes_may_be_renamed,
        (_STEADY, "inputs_are_not_changed"),
        _EPISODIC,
        is_quick=False,
    ),
    Promise(episode_promises.keeps_no_state, (_STEADY,), _EPISODIC),
    Promise(episode_promises.batch_equals_loop, (_STEADY,), _EPISODIC),
    Promise(episode_promises.passes_are_as_stated, (_SCORES,), _EPISODIC),
    Promise(fitting_promises.survives_a_checkpoint, (_STEADY, "features_are_well_formed"), _EPISODIC),
    Promise(fitting_promises.untrained_means_it, (_STEADY, "features_are_well_formed"), _EPISODIC),
    Promise(
        joint_promises.experiments_are_scored, (_FITTED, "features_are_well_formed"), "joint", is_quick=False
    ),
    Promise(
        joint_promises.experiments_together_equal_alone, ("experiments_are_scored",), "joint", is_quick=False
    ),
    Promise(
        closed_promises.closed_classes_are_named,
        (_FITTED, "features_are_well_formed"),
        "closed",
        is_quick=False,
    ),
    Promise(
        closed_promises.closed_images_are_independent, ("closed_classes_are_named",), "closed", is_quick=False
    ),
)
