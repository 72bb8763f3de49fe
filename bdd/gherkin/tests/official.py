"""Prints what the official Gherkin parser makes of feature files: one line of JSON per file named on standard input.

{"document": ..., "pickles": [...]} or {"faults": [[line, column or null], ...]}
"""

import json
import sys

from gherkin.ast_builder import AstBuilder
from gherkin.errors import CompositeParserException, ParserException
from gherkin.parser import Parser
from gherkin.pickles.compiler import Compiler
from gherkin.stream.id_generator import IdGenerator


def read(path):
    with open(path, encoding="utf-8-sig", newline="") as file:
        source = file.read()
    if "/full-width/" in path:
        source = "".join(narrow_colon(line) for line in source.splitlines(keepends=True))
    ids = IdGenerator()
    try:
        document = Parser(AstBuilder(ids)).parse(source)
        document["uri"] = path
        return {"document": document, "pickles": Compiler(ids).compile(document)}
    except CompositeParserException as error:
        places = [place(fault) for fault in error.errors]
        # A tag with white space is reported twice at one place: once as such, once as an unexpected line.
        return {"faults": sorted(map(list, dict.fromkeys(map(tuple, places))), key=lambda at: (at[0], at[1] or 0))}
    except ParserException as error:
        return {"faults": [place(error)]}


def narrow_colon(line):
    """A title's full-width colon is our extension: the official parser is shown an ordinary one."""
    head, colon, rest = line.partition("：")
    title = head.strip() in ("功能", "背景", "规则", "场景", "场景大纲", "例子")
    return head + ":" + rest if colon and title else line


def place(fault):
    return [fault.location["line"], fault.location.get("column")]


for path in sys.stdin.read().splitlines():
    print(json.dumps(read(path)))
