"""Line searches: flat searches along a direction, and what makes a method out of a direction and a search."""

from gdjax.linesearch.descent import DescentState, descend
from gdjax.linesearch.directions import Direction, Move
from gdjax.linesearch.lengths import careful_unit, carried_gain, unit_step
from gdjax.linesearch.searches import (
    ACCEPT,
    CONTINUE,
    GIVE_UP,
    Bracket,
    Point,
    Search,
    backtracking,
    chosen,
    hager_zhang,
    strong_wolfe,
    weak_wolfe,
)
from gdjax.linesearch.wrapping import line_search

__all__ = [
    "ACCEPT",
    "CONTINUE",
    "GIVE_UP",
    "Bracket",
    "DescentState",
    "Direction",
    "Move",
    "Point",
    "Search",
    "backtracking",
    "careful_unit",
    "carried_gain",
    "chosen",
    "descend",
    "hager_zhang",
    "line_search",
    "strong_wolfe",
    "unit_step",
    "weak_wolfe",
]
