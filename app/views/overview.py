"""The overview of a user: who they are, what they wrote, what they have to do."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from app.resilience.call import Answer
from app.sources.posts import Post, posts_by
from app.sources.resource import Id
from app.sources.todos import Todo, todos_of
from app.sources.users import User, user
from app.views.plan import Outcome, Outcomes, Plan
from app.views.section import SKIPPED, Failed, Ok, Skipped, failed, ok
from app.views.timeline import Timeline

SectionName = Literal["user", "posts", "todos"]

_QUESTIONS = {"user": user, "posts": posts_by, "todos": todos_of}


class UserOk(Ok[User]):
    """The user could be had."""


class PostsOk(Ok[list[Post]]):
    """The posts could be had."""


class TodosOk(Ok[list[Todo]]):
    """The todos could be had."""


UserSection = Annotated[UserOk | Failed | Skipped, Field(discriminator="status")]
PostsSection = Annotated[PostsOk | Failed | Skipped, Field(discriminator="status")]
TodosSection = Annotated[TodosOk | Failed | Skipped, Field(discriminator="status")]


class Sections(BaseModel):
    """Every section of the overview; the key set never changes."""

    user: UserSection
    posts: PostsSection
    todos: TodosSection


class Overview(Sections):
    """One user, as far as it could be had."""

    user_id: Id
    complete: Annotated[
        bool, Field(description="Every included section is ok, not stale, and dropped nothing")
    ]
    timeline: Timeline = None


def overview(user_id: int, include: Iterable[str], require: Iterable[str]) -> Plan:
    wanted = set(include)
    return Plan(
        subject=user_id,
        sections=tuple(_QUESTIONS),
        questions={name: ask(user_id) for name, ask in _QUESTIONS.items() if name in wanted},
        required=frozenset(require),
    )


def section_json(plan: Plan, outcomes: Outcomes) -> dict[str, bytes]:
    """Every section of the view as JSON, in order."""
    return {
        name: render_section(plan, name, outcomes[name]) if name in outcomes else SKIPPED
        for name in plan.sections
    }


def overview_json(
    plan: Plan, complete: bool, sections: Mapping[str, bytes], timeline: bytes | None = None
) -> bytes:
    return b'{"user_id":%d,"complete":%b,%b%b}' % (
        plan.subject,
        b"true" if complete else b"false",
        b",".join(b'"%b":%b' % (name.encode(), text) for name, text in sections.items()),
        b"" if timeline is None else b',"timeline":' + timeline,
    )


def href(plan: Plan) -> str:
    """Where this overview is to be had."""
    return f"/v1/users/{plan.subject}/overview"


def render_section(plan: Plan, name: str, outcome: Outcome) -> bytes:
    """One section as JSON."""
    if isinstance(outcome.result, Answer):
        return ok(outcome.result)
    return failed(name, outcome, f"{href(plan)}?include={name}")
