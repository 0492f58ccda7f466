"""How right answers are, one module for each kind of answer."""
