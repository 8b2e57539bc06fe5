"""Datasets joined by Apache Spark: the rule of `featurestore.pointintime` on a cluster.

session   which session, and the settings under which values come through as they are
spine     a spine that executors read: its rows numbered, its times and keys checked
join      the rule as Spark SQL
dataset   datasets in memory, and written by the executors
"""

from featurestore.spark.dataset import build, write

__all__ = ["build", "write"]
