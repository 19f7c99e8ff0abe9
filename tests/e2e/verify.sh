# After all disturbances: every event once, and the tables are what the naive reference makes of the same events. Sourced.
# shellcheck shell=bash

verify() {
    local name
    for name in category-sales medallion; do
        "$TARGET/debug/clickstream" generate "$WORK/$name.yaml" -o "$WORK/$name.jsonl"
    done
    rows_by_route
    prove category-sales "transactions=$WORK/category-sales.jsonl"
    prove medallion "ecom_clickstream_raw=$WORK/medallion.jsonl"
    prove dataset-split "views=$WORK/views.jsonl" "purchase=$WORK/purchase.jsonl"
}

# The rows of dataset-split as its ingester should write them.
rows_by_route() {
    : >"$WORK/views.jsonl"
    : >"$WORK/purchase.jsonl"
    awk -F, -v folder="$WORK" 'NR > 1 {
        topic = $4 == "purchase" ? "purchase" : "views"
        printf "{\"timestamp\":\"%s\",\"user_id\":\"%s\",\"product_id\":\"%s\",\"action\":\"%s\"}\n", $1, $2, $3, $4 >> (folder "/" topic ".jsonl")
    }' examples/data/clickstream.csv
}

# prove PIPELINE TOPIC=FILE…: first until all events are counted, then until the last early rows are out.
prove() {
    local name=$1 made topic arguments=()
    shift
    made=$(cat "${@#*=}" | wc -l)
    [ "$made" = "${EVENTS[$name]}" ] || fail "$name: $made events, not ${EVENTS[$name]}: the suite or the example has changed"
    for topic in "$@"; do arguments+=(--events "$topic"); done
    await 900 "$name: all $made events read" has_read "$name" $((made - 1))
    await 120 "$name: tables and ledger are what the reference says" agrees "$name" "${arguments[@]}"
    "$TARGET/debug/truth" "$WORK/$name.yaml" "${arguments[@]}" --served "$WORK/served" | sed 's/^/           /'
}

agrees() { # PIPELINE ARGUMENTS…
    local name=$1 table
    shift
    mkdir -p "$WORK/served"
    for table in $("$TARGET/debug/truth" "$WORK/$name.yaml" --tables); do
        api "$name" "/api/v1/tables/$table?limit=100000" >"$WORK/served/$table.json" || return
    done
    api "$name" /api/v1/ledger >"$WORK/served/ledger.json" || return
    "$TARGET/debug/truth" "$WORK/$name.yaml" "$@" --served "$WORK/served"
}
