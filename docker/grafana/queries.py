"""Short names for the PromQL that the dashboards use."""

from __future__ import annotations

from panels import Panel, Query

OURS = 'job="audiolm"'  # for process_* series, which Prometheus has of itself too
CONTINUE = 'route="/continue"'
DETECT = 'route="/detect"'


def here(name: str, more: str = "") -> str:
    """Series `name` of the chosen instances, with `more` label matchers."""
    return f'{name}{{instance=~"$instance"{", " + more if more else ""}}}'


def rate(name: str, more: str = "", by: str = "") -> str:
    """Growth of a counter per second, added up over instances and all labels but `by`."""
    grouped = f"sum by ({by})" if by else "sum"
    return f"{grouped} (rate({here(name, more)}[$__rate_interval]))"


def quantile(share: float, name: str, more: str = "", by: str = "") -> str:
    """The value that `share` of the observations of histogram `name` stay under."""
    return f"histogram_quantile({share}, {rate(name + '_bucket', more, 'le, ' + by if by else 'le')})"


def mean(name: str, by: str = "") -> str:
    """Mean of the observations of histogram `name`; nothing where there were none."""
    return f"{rate(name + '_sum', by=by)} / ({rate(name + '_count', by=by)} > 0)"


def quantiles(name: str, more: str = "") -> tuple[Query, ...]:
    return tuple(Query(quantile(share, name, more), f"p{share * 100:g}") for share in (0.5, 0.95, 0.99))


def heatmap(title: str, description: str, unit: str, name: str, more: str = "", width: int = 12) -> Panel:
    query = Query(rate(name + "_bucket", more, "le"))
    return Panel(title, description, unit, (query,), kind="heatmap", width=width)


def stat(title: str, description: str, unit: str, expression: str, limit: float | None = None) -> Panel:
    return Panel(title, description, unit, (Query(expression),), kind="stat", width=4, limit=limit)
