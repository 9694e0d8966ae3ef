-- A module for tests/specs that remembers.
return { count = 0 }
