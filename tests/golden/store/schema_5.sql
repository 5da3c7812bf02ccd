CREATE TABLE fsbench_schema (
	version INTEGER NOT NULL
);
CREATE TABLE run (
	pk INTEGER NOT NULL, 
	id TEXT NOT NULL, 
	replicate TEXT NOT NULL, 
	status TEXT NOT NULL, 
	method TEXT NOT NULL, 
	method_version TEXT NOT NULL, 
	benchmark TEXT NOT NULL, 
	setting TEXT NOT NULL, 
	n_way INTEGER NOT NULL, 
	shot INTEGER NOT NULL, 
	n_query INTEGER NOT NULL, 
	n_episodes INTEGER NOT NULL, 
	backbone TEXT NOT NULL, 
	image_size INTEGER NOT NULL, 
	pipeline TEXT NOT NULL, 
	recipe TEXT NOT NULL, 
	seed BIGINT NOT NULL, 
	precision TEXT NOT NULL, 
	episode_digest TEXT NOT NULL, 
	novel_digest TEXT NOT NULL, 
	fit_key TEXT NOT NULL, 
	spec TEXT NOT NULL, 
	provenance TEXT NOT NULL, 
	curves TEXT NOT NULL, 
	traceback TEXT NOT NULL, 
	finished TEXT NOT NULL, 
	created TEXT NOT NULL, 
	self_reported INTEGER DEFAULT '0' NOT NULL, 
	PRIMARY KEY (pk), 
	UNIQUE (id, replicate), 
	CHECK (status IN ('done', 'failed'))
);
CREATE INDEX ix_run_episode_digest ON run (episode_digest);
CREATE TABLE episode_list (
	pk INTEGER NOT NULL, 
	digest TEXT NOT NULL, 
	setting TEXT NOT NULL, 
	n_way INTEGER NOT NULL, 
	shot INTEGER NOT NULL, 
	n_query INTEGER NOT NULL, 
	n_stored INTEGER NOT NULL, 
	stored_sha256 TEXT NOT NULL, 
	support BLOB NOT NULL, 
	"query" BLOB NOT NULL, 
	PRIMARY KEY (pk), 
	UNIQUE (digest)
);
CREATE TABLE metric (
	pk INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	PRIMARY KEY (pk), 
	UNIQUE (name)
);
CREATE TABLE shared (
	pk INTEGER NOT NULL, 
	sha256 TEXT NOT NULL, 
	content TEXT NOT NULL, 
	PRIMARY KEY (pk), 
	UNIQUE (sha256)
);
CREATE TABLE trial (
	id TEXT NOT NULL, 
	method TEXT NOT NULL, 
	benchmark TEXT NOT NULL, 
	setting TEXT NOT NULL, 
	backbone TEXT NOT NULL, 
	recipe TEXT NOT NULL, 
	config TEXT NOT NULL, 
	spec TEXT NOT NULL, 
	n_correct INTEGER NOT NULL, 
	n_query INTEGER NOT NULL, 
	seconds INTEGER NOT NULL, 
	traceback TEXT NOT NULL, 
	finished TEXT NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE hardness (
	episode_digest TEXT NOT NULL, 
	novel_digest TEXT NOT NULL, 
	extractor TEXT NOT NULL, 
	n_episodes INTEGER NOT NULL, 
	omega BLOB NOT NULL, 
	PRIMARY KEY (episode_digest, novel_digest)
);
CREATE TABLE episode_class (
	list_pk INTEGER NOT NULL, 
	episode INTEGER NOT NULL, 
	label INTEGER NOT NULL, 
	class_id INTEGER NOT NULL, 
	PRIMARY KEY (list_pk, episode, label), 
	FOREIGN KEY(list_pk) REFERENCES episode_list (pk)
)
 WITHOUT ROWID;
CREATE TABLE list_class (
	list_pk INTEGER NOT NULL, 
	class_id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	class_group TEXT NOT NULL, 
	PRIMARY KEY (list_pk, class_id), 
	FOREIGN KEY(list_pk) REFERENCES episode_list (pk)
)
 WITHOUT ROWID;
CREATE TABLE result (
	run_pk INTEGER NOT NULL, 
	metric_pk INTEGER NOT NULL, 
	episode INTEGER NOT NULL, 
	n_correct INTEGER NOT NULL, 
	n_query INTEGER NOT NULL, 
	PRIMARY KEY (run_pk, metric_pk, episode), 
	CHECK (n_correct >= 0 AND n_correct <= n_query), 
	FOREIGN KEY(run_pk) REFERENCES run (pk), 
	FOREIGN KEY(metric_pk) REFERENCES metric (pk)
)
 WITHOUT ROWID;
CREATE TABLE prediction (
	run_pk INTEGER NOT NULL, 
	metric_pk INTEGER NOT NULL, 
	labels BLOB NOT NULL, 
	PRIMARY KEY (run_pk, metric_pk), 
	FOREIGN KEY(run_pk) REFERENCES run (pk), 
	FOREIGN KEY(metric_pk) REFERENCES metric (pk)
);
CREATE TABLE run_picture (
	run_pk INTEGER NOT NULL, 
	image INTEGER NOT NULL, 
	shared_pk INTEGER NOT NULL, 
	PRIMARY KEY (run_pk, image), 
	FOREIGN KEY(run_pk) REFERENCES run (pk), 
	FOREIGN KEY(shared_pk) REFERENCES shared (pk)
)
 WITHOUT ROWID;
CREATE TABLE run_about (
	run_pk INTEGER NOT NULL, 
	shared_pk INTEGER NOT NULL, 
	PRIMARY KEY (run_pk), 
	FOREIGN KEY(run_pk) REFERENCES run (pk), 
	FOREIGN KEY(shared_pk) REFERENCES shared (pk)
)
 WITHOUT ROWID;
CREATE TABLE recheck (
	run_pk INTEGER NOT NULL, 
	checked TEXT NOT NULL, 
	device TEXT NOT NULL, 
	seed BIGINT NOT NULL, 
	n_episodes INTEGER NOT NULL, 
	n_differing INTEGER NOT NULL, 
	PRIMARY KEY (run_pk, checked, device, seed, n_episodes, n_differing), 
	FOREIGN KEY(run_pk) REFERENCES run (pk)
);
CREATE VIEW episode_accuracy AS
SELECT run.pk AS run_pk, run.id AS run_id, run.replicate AS replicate, run.method AS method,
       run.setting AS setting, run.seed AS seed, run.episode_digest AS episode_digest,
       metric.name AS metric, result.episode AS episode,
       result.n_correct AS n_correct, result.n_query AS n_query,
       CAST(result.n_correct AS DOUBLE PRECISION) / NULLIF(result.n_query, 0) AS accuracy
FROM result JOIN run ON run.pk = result.run_pk JOIN metric ON metric.pk = result.metric_pk;
INSERT INTO fsbench_schema (version) VALUES (5);
