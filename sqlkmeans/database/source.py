"""What is read of a source: its columns, and its rows some at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa


@dataclass(frozen=True)
class Column:
    """A column of a source.

    Attributes
    ----------
    name : str
    type : str
        The database's own name of the type.
    kind : {"number", "boolean", "text", "date", "other"}
        What can be done with it: which type of feature it can be.
    can_be_key : bool
        Whether its values can be compared for equality without doubt.
    can_be_category : bool
        Whether its values are texts, or as good as texts.
    """

    name: str
    type: str
    kind: str
    can_be_key: bool
    can_be_category: bool = False

    @property
    def profile_type(self) -> str | None:
        """As what it can be described: a number, a boolean, a date or a category; None for other
        types."""
        if self.kind == "text":
            return "category" if self.can_be_category else None
        return None if self.kind == "other" else self.kind


@dataclass(frozen=True)
class Batch:
    """Some rows of a source.

    Attributes
    ----------
    keys : pyarrow.RecordBatch
        The key columns.
    features : pyarrow.RecordBatch
        The feature columns, NULL where missing: numbers as float64, dates as days since
        1970-01-01 in float64, categories as text.
    sample_weight : pyarrow.Array or None
        As float64, where the segmentation names such a column.
    """

    keys: pa.RecordBatch
    features: pa.RecordBatch
    sample_weight: pa.Array | None = None


def split_batch(batch: pa.RecordBatch, n_keys: int, n_features: int) -> Batch:
    """Rows of a query that names the keys, the features and then the weight, if there is one."""
    end = n_keys + n_features
    return Batch(
        batch.select(list(range(n_keys))),
        batch.select(list(range(n_keys, end))),
        batch.column(end) if batch.num_columns > end else None,
    )


@dataclass
class Source:
    """An open source: all that is read from it is of one moment.

    Attributes
    ----------
    row_count : int
    batches : iterator of Batch
        Can be read once.
    in_key_order : bool
        Whether the database has sorted the batches by key; where that is dear, it leaves it to
        the reader.
    """

    row_count: int
    batches: Iterator[Batch] = field(repr=False)
    in_key_order: bool


#: Gives a text to all processes that read together, and gives back the texts of all, in their
#: order, once each has given one.
Share = Callable[[str], Sequence[str]]


@dataclass(frozen=True)
class TogetherReader:
    """What several processes at once read a source with, of one moment.

    Attributes
    ----------
    read : callable
        Called in each process with its place, from 0, how many they are, and a :data:`Share`; gives
        its part of the rows: keys, features, the weight if there is one, and two numbers that are
        the same in all rows of a moment: one by which to tell it from others, and how many rows
        there are. It travels by value: where it runs, nothing of this package has to be. What it
        raises because they could not begin has :data:`NOT_BEGUN` in its text.
    keys, features : list of pyarrow.DataType
    weighted : bool
    """

    read: Callable[[int, int, Share], Iterator[pa.RecordBatch]] = field(repr=False)
    keys: list[pa.DataType]
    features: list[pa.DataType]
    weighted: bool


NOT_BEGUN = "could not begin to read"
