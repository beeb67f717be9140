"""The form of Grafana's dashboards: rows of panels, each with a title, one sentence on what to look for, and queries.

Knows Grafana's JSON (schema 39, Grafana 10 and later) and nothing of what is shown; `dashboards.py` says that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

SCHEMA_VERSION = 39
DATASOURCE = {"type": "prometheus", "uid": "audiolm-prometheus"}  # as provisioned beside this file
COLUMNS = 24
STAT_HEIGHT, PANEL_HEIGHT = 4, 8

Kind = Literal["timeseries", "heatmap", "stat", "table"]


@dataclass(frozen=True)
class Query:
    """A PromQL expression; `legend` names its lines, with labels in {{braces}}."""

    expression: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One picture. `unit` is one of Grafana's: s, short, percentunit, bytes, reqps, none.

    `limit` draws a line where things get bad; `stacked` adds the lines up."""

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    kind: Kind = "timeseries"
    width: int = 8
    limit: float | None = None
    stacked: bool = False

    @property
    def height(self) -> int:
        return STAT_HEIGHT if self.kind == "stat" else PANEL_HEIGHT

    def to_json(self, number: int, x: int, y: int) -> dict[str, Any]:
        """The panel with id `number`, its upper left corner at (`x`, `y`)."""
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": DATASOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "targets": [
                self._target(query, letter) for query, letter in zip(self.queries, "ABCDEFGH", strict=False)
            ],
            "fieldConfig": {"defaults": self._field(), "overrides": []},
            "options": self._options(),
            "transformations": [{"id": "merge", "options": {}}] if self.kind == "table" else [],
        }

    def _target(self, query: Query, letter: str) -> dict[str, Any]:
        form = {"heatmap": "heatmap", "table": "table"}.get(self.kind, "time_series")
        instant = self.kind in ("stat", "table")
        return {
            "refId": letter,
            "datasource": DATASOURCE,
            "expr": query.expression,
            "legendFormat": "{{le}}" if self.kind == "heatmap" else query.legend,
            "format": form,
            "instant": instant,
            "range": not instant,
        }

    def _field(self) -> dict[str, Any]:
        steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
        if self.limit is not None:
            steps.append({"color": "red", "value": self.limit})
        field: dict[str, Any] = {
            "unit": self.unit,
            "min": 0,
            "thresholds": {"mode": "absolute", "steps": steps},
        }
        if self.kind == "timeseries":
            field["custom"] = {
                "drawStyle": "line",
                "fillOpacity": 30 if self.stacked else 5,
                "showPoints": "never",
                "stacking": {"mode": "normal" if self.stacked else "none", "group": "A"},
                "thresholdsStyle": {"mode": "off" if self.limit is None else "line"},
            }
        return field

    def _options(self) -> dict[str, Any]:
        match self.kind:
            case "heatmap":
                return {
                    "calculate": False,
                    "yAxis": {"unit": self.unit},
                    "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64},
                    "tooltip": {"mode": "single", "yHistogram": True},
                    "legend": {"show": True},
                }
            case "stat":
                return {
                    "colorMode": "value",
                    "graphMode": "none",
                    "reduceOptions": {"calcs": ["lastNotNull"]},
                }
            case "table":
                return {"showHeader": True}
            case "timeseries":
                return {
                    "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
                    "tooltip": {"mode": "multi", "sort": "desc"},
                }


@dataclass(frozen=True)
class Row:
    """Panels under a heading, from left to right, wrapped where they would not fit."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Dashboard:
    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["audiolm"],
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "editable": True,
            "timezone": "browser",
            "refresh": "10s",
            "time": {"from": "now-1h", "to": "now"},
            "templating": {"list": [_INSTANCES]},
            "panels": self._panels(),
        }

    def _panels(self) -> list[dict[str, Any]]:
        panels: list[dict[str, Any]] = []
        y = 0
        for row in self.rows:
            panels.append(
                {
                    "id": len(panels) + 1,
                    "type": "row",
                    "title": row.title,
                    "collapsed": False,
                    "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
                    "panels": [],
                }
            )
            y += 1
            x = height = 0
            for panel in row.panels:
                if x + panel.width > COLUMNS:
                    x, y, height = 0, y + height, 0
                panels.append(panel.to_json(len(panels) + 1, x, y))
                x, height = x + panel.width, max(height, panel.height)
            y += height
        return panels


_INSTANCES = {
    "name": "instance",
    "label": "Instance",
    "type": "query",
    "datasource": DATASOURCE,
    "query": {"query": "label_values(audiolm_ready, instance)", "refId": "instances"},
    "refresh": 2,
    "multi": True,
    "includeAll": True,
    "allValue": ".*",
    "current": {"text": "All", "value": "$__all"},
}
