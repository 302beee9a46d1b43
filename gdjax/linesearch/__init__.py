"""Line searches: flat searches along a direction, and what makes a method out of a direction and a search."""

from gdjax.linesearch.descent import Direction, LineSearchState, Move, descend
from gdjax.linesearch.searches import ACCEPT, CONTINUE, GIVE_UP, Bracket, Point, Search, backtracking, hager_zhang, strong_wolfe
