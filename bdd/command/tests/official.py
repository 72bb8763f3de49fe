"""Validates reports by their schemas: official.py messages SCHEMA FILE | official.py junit FILE SCHEMA..."""

import json
import sys


def messages(schema, path):
    from jsonschema import Draft202012Validator

    with open(schema, encoding="utf-8") as file:
        validator = Draft202012Validator(json.load(file))
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    assert lines, "no messages"
    for number, line in enumerate(lines, 1):
        for error in validator.iter_errors(json.loads(line)):
            sys.exit(f"{path}:{number}: {error.json_path}: {error.message}")
    print(len(lines), "messages are valid")


def junit(path, *schemas):
    import xmlschema

    for schema in schemas:
        xmlschema.XMLSchema(schema).validate(path)
        print("valid by", schema.rsplit("/", 1)[-1])


{"messages": messages, "junit": junit}[sys.argv[1]](*sys.argv[2:])
