#!/bin/sh
# An order in one line of shell. It is safe to repeat: curl tries again for up to a minute while the server is away, under one
# key, so that the order counts once.
#
#     sh examples/order.sh A1 2
#
# The key has the time and the process, so that the next order has another one. SERVER names another server.

curl -sS --fail-with-body --max-time 10 --retry 30 --retry-connrefused --retry-max-time 60 -H 'Content-Type: application/json' -H "Idempotency-Key: \"$(date +%s)-$$\"" -d "{\"amount\":${2:-1}}" "${SERVER:-http://localhost:3000}/orders/$1"
