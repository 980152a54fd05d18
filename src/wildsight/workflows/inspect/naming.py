"""A person's word for a group or a find, given and taken back."""

from __future__ import annotations

from wildsight.errors import ConfigError
from wildsight.workflows.inspect.project import Project


def name(project: Project, what: str, word: str) -> int:
    """Give a group, or one find, a name; ``good`` says that it was a false alarm.

    Args:
        project: an open project; saved.
        what: a group's name, or a find's.
        word: the name.

    Returns:
        How many finds carry it now.

    Raises:
        ConfigError: no such group or find, or an empty name.
    """
    given = word.strip()
    if not given:
        raise ConfigError("an empty name", hint="give a word")
    members = _members(project, what)
    chosen = [f for f in members if not project.groups.get(f, {}).get("doubtful")] or members
    for find in chosen:
        project.names[find] = given
        project.groups[find] = {"group": given, "confidence": 1.0, "doubtful": False}
    _forget_answers(project)
    project.save()
    return sum(n == given for n in project.names_here().values())


def clear(project: Project, what: str) -> int:
    """Take the names of a group, or of one find, back; it is then what the machine says.

    Args:
        project: an open project; saved.
        what: a group's name, or a find's.

    Returns:
        How many finds lost their name.

    Raises:
        ConfigError: no such group or find, or none of its finds was named by a person.
    """
    chosen = [f for f in _members(project, what) if f in project.names]
    if not chosen:
        raise ConfigError("was not named by a person", where=what, hint="there is nothing to take back")
    for find in chosen:
        if project.groups.get(find, {}).get("group") == project.names.pop(find):
            del project.groups[find]
    _forget_answers(project)
    project.save()
    return len(chosen)


def _members(project: Project, what: str) -> list[str]:
    """The find called ``what``, or the finds of the group; ConfigError where there is neither."""
    finds = project.finds()
    if what in finds:
        return [what]
    members = [f for f in finds if what in (project.groups.get(f, {}).get("group"), project.label(f))]
    if not members:
        groups = {str(project.groups[f]["group"]) for f in finds if f in project.groups}
        known = ", ".join(sorted(groups)) or "none yet"
        raise ConfigError(f"no group or find is called {what!r}", hint=f"the groups are: {known}")
    return members


def _forget_answers(project: Project) -> None:
    """Drop the learner's answers whose name no find carries any more."""
    there = project.answerable()
    project.answers = {f: a for f, a in project.answers.items() if a["name"] in there}
