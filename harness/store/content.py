"""One digest of everything a database says, whatever the order in which it learnt it."""

from __future__ import annotations

import hashlib
import json

from sqlalchemy import Connection, select

from harness.runs import REPORTED_BY
from harness.store.hardness import every_hardness
from harness.store.lists import list_sha256, read_list
from harness.store.models import episode_list, run
from harness.store.reading import metric_names, read_counts, read_predictions
from harness.store.rechecks import read_rechecks
from harness.store.shared import read_about, read_pictures
from harness.store.trials import read_trials


def _without_source(provenance: str) -> str:
    """Provenance without the name of whoever reported it, which is about this database, as the time of storing is."""
    told = json.loads(provenance)
    return json.dumps({k: v for k, v in told.items() if k != REPORTED_BY}, sort_keys=True)


def content_sha256(connection: Connection, *, provenance: bool) -> str:
    """sha256 over runs, counts, predictions, rechecks, trials, lists and their hardness; not over keys and the time of storing."""
    digest = hashlib.sha256(b"fsbench content v1")
    for row in connection.execute(select(run).order_by(run.c.id, run.c.replicate)).all():
        said = [row.id, row.replicate, row.status, row.spec, row.curves, row.traceback]
        beside = [*read_about(connection, row.pk).values(), read_pictures(connection, row.pk)]
        said += [_without_source(row.provenance), row.finished, *beside] if provenance else []
        digest.update(json.dumps(said).encode())
        if row.self_reported:
            digest.update(b"self-reported")
        for check in read_rechecks(connection, row.pk):
            said = [check.seed, check.n_episodes, check.n_differing, *check[5:] * bool(check.n_predictions)]
            digest.update(json.dumps([*said, check.checked, check.device] if provenance else said).encode())
        for name in metric_names(connection, row.pk):
            n_correct, n_query = read_counts(connection, row.pk, name)
            labels = read_predictions(connection, row.pk, name)
            digest.update(
                json.dumps([name, len(n_correct), None if labels is None else labels.shape]).encode()
            )
            digest.update(n_correct.astype("<i8").tobytes() + n_query.astype("<i8").tobytes())
            digest.update(b"" if labels is None else labels.tobytes())
    for row in connection.execute(select(episode_list).order_by(episode_list.c.digest)).all():
        said = [row.digest, row.setting, row.n_way, row.shot, row.n_query, row.n_stored]
        digest.update(json.dumps([*said, list_sha256(read_list(connection, row.digest))]).encode())
    for entry in read_trials(connection):
        said = [entry.spec.to_json(), entry.n_correct, entry.n_query, entry.traceback]
        digest.update(json.dumps([*said, entry.seconds, entry.finished] if provenance else said).encode())
    for measured in every_hardness(connection):
        said = [measured.episode_digest, measured.novel_digest, dict(measured.extractor), len(measured.omega)]
        digest.update(json.dumps(said, sort_keys=True).encode() + measured.omega.astype("<f8").tobytes())
    return digest.hexdigest()
