"""How many lines of code a script has: what docs/journeys.md compares."""

__all__ = ["code_lines"]

import ast
import io
import tokenize

_SILENT = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)


def code_lines(text: str) -> int:
    """Lines with code: not blank, not a comment, not part of the module's docstring; of a long statement each line."""
    held: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _SILENT:
            held.update(range(token.start[0], token.end[0] + 1))
    body = ast.parse(text).body
    first = body[0] if body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        held -= set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return len(held)
