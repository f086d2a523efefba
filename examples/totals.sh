#!/bin/sh
# The live totals in one line of shell: "A1 13" for each product, and again for every order.
#
#     sh examples/totals.sh
#
# -N because curl would keep a part of the stream in its buffer, -u because sed would. SERVER names another server.

curl -sSN --fail-with-body -H 'Accept: text/event-stream' "${SERVER:-http://localhost:3000}/orders" | sed -un 's/^data: {"id":"\([^"]*\)","total":\(-\{0,1\}[0-9]*\).*/\1 \2/p'
