"""How large the expressions of a query are for SQL Server, once all names in them are written out.

The server takes 65,535 identifiers and constants in one expression (error 8632). Its documentation
says that they are counted after names are expanded, and that the SELECT list as a whole is one
expression. So a column of a derived table or of an APPLY counts as much as what it stands for.
Not written out are columns of tables, what an aggregate or a window function gives, what a TOP
orders by, and columns of a VALUES list; the list itself counts as one expression.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import sqlglot
from sqlglot import exp

LIMIT = 65_535

#: What each column of a source of rows counts; None for a table, whose columns count 1.
Columns = dict[str, int] | None


def largest_expression(text: str) -> int:
    """The largest expression of the queries of a statement or script."""
    return max(expression_sizes(text), default=0)


def expression_sizes(text: str) -> list[int]:
    """The sizes of all expressions of a statement or script of T-SQL."""
    found = _Sizes()
    for statement in sqlglot.parse(_queries(text), read="tsql"):
        # A query inside another one is reached from there, where its names are known.
        outermost = [
            node
            for node in (statement.find_all(exp.Query) if statement else ())
            if not node.find_ancestor(exp.Query)
        ]
        for query in outermost:
            found.query(query, [])
    return found.sizes


def mixed_aggregates(text: str) -> list[str]:
    """Aggregates of a script that mix columns of their own query with those of the row outside."""
    found = []
    for statement in sqlglot.parse(text, read="tsql", error_level=sqlglot.ErrorLevel.IGNORE):
        for query in statement.find_all(exp.Select) if statement else ():
            from_ = query.args.get("from_") or query.args.get("from")
            sources = [*([from_] if from_ else []), *query.args.get("joins", [])]
            own = {source.this.alias_or_name for source in sources}
            own |= {source.alias_or_name for source in query.args.get("laterals", [])}
            for aggregate in query.find_all(exp.AggFunc):
                if aggregate.find_ancestor(exp.Select) is query and _mixes(aggregate, own):
                    found.append(aggregate.sql("tsql")[:200])
    return found


def _queries(text: str) -> str:
    """Without what the parser does not read: the head of a function, a hint of an INSERT."""
    text = text.replace(" WITH (TABLOCK)", "")
    if "CREATE FUNCTION" not in text:
        return text
    start = text.index("RETURN", text.index("RETURNS TABLE") + len("RETURNS TABLE"))
    return text[text.index("(", start) + 1 : text.rindex(")")]


@dataclass
class _Scope:
    """Sources of rows by their aliases."""

    sources: dict[str, Columns]
    #: Queries of a WITH; each is written out where it is named.
    named: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass
class _Sizes:
    sizes: list[int] = field(default_factory=list)

    def query(self, node: exp.Expression, outer: list[_Scope]) -> dict[str, int]:
        """Count a query; what each of its columns counts where it is named."""
        if isinstance(node, exp.Subquery):
            return self.query(node.this, outer)
        if isinstance(node, exp.SetOperation):
            first = self.query(node.this, outer)
            self.query(node.expression, outer)
            return dict.fromkeys(first, 1)
        if isinstance(node, exp.Values):
            rows = [row.expressions for row in node.expressions]
            self.sizes.append(sum(self.size(cell, outer) for row in rows for cell in row))
            return {f"#{place}": 1 for place in range(len(rows[0]))}
        assert isinstance(node, exp.Select), type(node)
        scope = _Scope({})
        scopes = [*outer, scope]
        if (with_ := node.args.get("with_") or node.args.get("with")) is not None:
            named = _Scope({})
            scopes.insert(len(outer), named)
            for part in with_.expressions:
                named.named[part.alias] = self.query(part.this, scopes[:-1])
        from_ = node.args.get("from_") or node.args.get("from")
        for source in [from_, *node.args.get("joins", []), *node.args.get("laterals", [])]:
            if source is not None:
                self._source(source if isinstance(source, exp.Lateral) else source.this, scopes)
                if isinstance(source, exp.Join) and source.args.get("on") is not None:
                    self.sizes.append(self.size(source.args["on"], scopes))
        for clause in ("where", "having", "group", "order"):
            if node.args.get(clause) is not None:
                self.sizes.append(self.size(node.args[clause], scopes))
        aggregated = [a for a in node.find_all(exp.AggFunc) if self._is_of(a, node)]
        # Computed below the aggregation, all together.
        self.sizes.append(
            sum(self.size(argument, scopes) for a in aggregated for argument in _children(a))
        )
        for aggregate in aggregated:
            _refuse_mixed(aggregate, scope)
        columns = {
            item.alias_or_name or f"#{place}": self.size(item, scopes)
            for place, item in enumerate(node.expressions)
        }
        self.sizes.append(sum(columns.values()))
        if node.args.get("limit") is not None and node.args.get("order") is not None:
            for ordered in node.args["order"].expressions:
                name = ordered.this.name if isinstance(ordered.this, exp.Column) else ""
                if name in columns:
                    columns[name] = 1
        return columns

    def size(self, node: exp.Expression, scopes: list[_Scope]) -> int:
        """Identifiers and constants of an expression."""
        if isinstance(node, exp.Column):
            return _column(node, scopes)
        if isinstance(node, (exp.Literal, exp.National, exp.Parameter, exp.Null, exp.Boolean)):
            return 1
        if isinstance(node, (exp.DataType, exp.Var, exp.Star)):
            return 0
        if isinstance(node, exp.Window):
            self.sizes.append(sum(self.size(child, scopes) for child in _children(node)))
            return 1
        if isinstance(node, exp.AggFunc):
            return 1
        if isinstance(node, (exp.Subquery, exp.Select)):
            return sum(self.query(node, scopes).values())
        children = [self.size(child, scopes) for child in _children(node)]
        total = sum(children)
        # Forms that the server takes for another one, in which something stands several times.
        if isinstance(node, exp.Case) and node.this is not None:
            total += (len(node.args["ifs"]) - 1) * self.size(node.this, scopes)
        elif isinstance(node, exp.Coalesce):
            total += total - children[-1]
        elif isinstance(node, (exp.Nullif, exp.Between)):
            total += self.size(node.this, scopes)
        elif isinstance(node, exp.In) and node.expressions:
            total += (len(node.expressions) - 1) * self.size(node.this, scopes)
        return total

    def _source(self, node: exp.Expression, scopes: list[_Scope]) -> None:
        alias = node.args.get("alias")
        name = alias.name if alias is not None else node.name
        # A derived table sees the sources before it only in an APPLY; more is no harm to count.
        columns: Columns = None
        if isinstance(node, exp.Table):
            columns = next((s.named[node.name] for s in scopes if node.name in s.named), None)
        elif isinstance(node, exp.Lateral) and not isinstance(
            node.this, (exp.Subquery, exp.Query, exp.Values)
        ):
            pass  # a function of somebody else's text
        elif isinstance(node, (exp.Lateral, exp.Subquery)):
            columns = self.query(node.this, scopes)
        elif isinstance(node, exp.Values):
            columns = self.query(node, scopes)
        if alias is not None and alias.columns and columns is not None:
            columns = dict(zip([column.name for column in alias.columns], columns.values()))
        scopes[-1].sources[name] = columns

    def _is_of(self, aggregate: exp.Expression, select: exp.Select) -> bool:
        """Whether an aggregate stands in this query itself and is no window function."""
        windowed = isinstance(aggregate.parent, exp.Window)
        return not windowed and aggregate.find_ancestor(exp.Select) is select


def _children(node: exp.Expression) -> list[exp.Expression]:
    return list(node.iter_expressions())


def _column(node: exp.Column, scopes: list[_Scope]) -> int:
    for scope in reversed(scopes):
        for alias, columns in scope.sources.items():
            if node.table == alias:
                return 1 if columns is None else columns[node.name]
            if not node.table and columns is not None and node.name in columns:
                return columns[node.name]
    return 1


def _refuse_mixed(aggregate: exp.Expression, scope: _Scope) -> None:
    if _mixes(aggregate, scope.sources):
        raise ValueError(f"error 8124: {aggregate.sql('tsql')[:200]}")


def _mixes(aggregate: exp.Expression, own: Collection[str]) -> bool:
    """Error 8124: an aggregate of a column of the row outside may have no other column."""
    columns = list(aggregate.find_all(exp.Column))
    return len(columns) > 1 and any(c.table and c.table not in own for c in columns)
