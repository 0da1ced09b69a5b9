"""What the compiled loops are called with."""

from __future__ import annotations

#: Rows of a tile: those whose distances are computed at once.
TILE = 128
#: Those of each loop, after the columns: distance from column to column, first row, number of rows;
#: weights and whether there are any; centroids and how many; what the loop writes; room to work in.
ARGUMENTS = {
    "label_rows": "iii Ni LNN",
    "add_rows": "iii Ni Ni LNNN CCNNN",
    "move_rows": "iii Ni Ni f LN NNNN NNNNLR",
    "measure_rows": "iii Ni LN",
}
