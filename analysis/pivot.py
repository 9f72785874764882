"""Long tables as readers have them: one row a cell, and what were rows beside each other as groups of columns.

The numbers stay long, a row an observation, as programs want them.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from analysis.table import Table

# The group and the head of a column, from the keys of a row of a long table and the head of its column.
Place = Callable[[tuple[str, ...], str], tuple[str, str]]


def pivoted(table: Table, keys: int, place: Place, cells: Sequence[str]) -> Table:
    """Return a table with one row for each cell, of a table with several: values, bold and differences are the same.

    keys    how many columns after the cell say which row of the cell it is; they become groups and heads
    cells   all cells, in the order of the rows
    """
    values = range(1 + keys, len(table.head))
    rows = [cell for cell in cells if any(row[0] == cell for row in table.rows)]
    columns = _columns(table, keys, place, values)
    texts = [[cell, *[""] * len(columns)] for cell in rows]
    best: set[tuple[int, int]] = set()
    differences: dict[tuple[int, int], str] = {}
    better: dict[int, str] = {}
    for index, row in enumerate(table.rows):
        for value in values:
            head = place(row[1 : 1 + keys], table.head[value])
            if head not in columns:
                continue
            to = (rows.index(row[0]), 1 + columns.index(head))
            texts[to[0]][to[1]] = row[value]
            if value in table.better:
                better[to[1]] = table.better[value]
            if (index, value) in table.best:
                best.add(to)
            if (difference := table.differences.get((index, value))) is not None:
                differences[to] = difference
    return replace(
        table,
        head=(table.head[0], *(head for _, head in columns)),
        groups=("", *(group for group, _ in columns)),
        rows=tuple(map(tuple, texts)),
        better=better,
        best=frozenset(best),
        differences=differences,
    )


def _columns(table: Table, keys: int, place: Place, values: range) -> list[tuple[str, str]]:
    """Return group and head of every column that holds anything, group by group, in the order of the rows."""
    found: dict[tuple[str, str], None] = {}
    for row in table.rows:
        found |= {place(row[1 : 1 + keys], table.head[value]): None for value in values if row[value]}
    groups = list(dict.fromkeys(group for group, _ in found))
    return sorted(found, key=lambda column: groups.index(column[0]))
