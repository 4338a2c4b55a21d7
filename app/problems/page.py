"""A problem type as a page: whoever opens a `type` in a browser wants to read."""

from html import escape
from pathlib import Path
from string import Template

from app.problems.types import ProblemType

_TEMPLATE = Template((Path(__file__).parents[1] / "web" / "problem.html").read_text("utf-8"))


def wants_page(accept: str) -> bool:
    """Browsers name HTML, and programs JSON or nothing."""
    return "text/html" in accept and "json" not in accept


def problem_page(problem_type: ProblemType) -> str:
    members = problem_type.model_dump(mode="json")
    return _TEMPLATE.substitute({name: escape(str(value)) for name, value in members.items()})
