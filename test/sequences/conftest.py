"""What is planted shows what the model finds; a slower daemon with sanitizers adds nothing to that."""

from bramble import SANITIZED

collect_ignore = ["test_planted.py"] if SANITIZED else []
