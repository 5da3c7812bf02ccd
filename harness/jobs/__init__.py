"""Planned work carried out: here, in processes of this machine or on a cluster.

Work goes out and comes back as files; the database is not known here.
"""
