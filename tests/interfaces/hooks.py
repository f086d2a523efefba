"""For schemathesis: NDJSON as an array of its lines, as OpenAPI 3.2 has sequential media types."""

import json

import schemathesis

TYPES = ("application/x-ndjson", "application/jsonl")


@schemathesis.serializer(*TYPES)
def print_lines(context, value):
    lines = value if isinstance(value, list) else [value]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


@schemathesis.deserializer(*TYPES)
def read_lines(context, response):
    return [json.loads(line) for line in response.content.splitlines()]
