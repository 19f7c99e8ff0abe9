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
    compare_with_the_lake medallion nightly
    prove shop --resent "orders=$WORK/shop.jsonl"
    await 60 "shop: Redis has the rows that are served" redis_agrees
    prove dataset-split "views=$WORK/views.jsonl" "purchase=$WORK/purchase.jsonl"
}

# A schedule, now: what it computes from the archive on the volume is what the pipeline has in its tables. PIPELINE SCHEDULE
compare_with_the_lake() {
    local job=$1-$2-now
    must "$1: its schedule $2 is run now" k create job "$job" "--from=cronjob/$1-schedule-$2"
    await 180 "$1: the lake is read and computed again, and nothing differs" has_succeeded "$job"
    k logs "job/$job" | tail -n 3 | sed 's/^/           /'
    must "the job is cleared away" k delete job "$job"
}

has_succeeded() { # JOB
    local said
    said=$(k get job "$1" -o 'jsonpath={.status.succeeded}/{.status.failed}')
    echo "succeeded/failed: $said"
    k logs "job/$1" | tail -n 20
    [ "${said%/*}" = 1 ]
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

# The rows of shop in its store, as they are served.
redis_agrees() {
    local stored served script
    script="local all = {}
        for _, key in ipairs(redis.call('KEYS', 'shop:*')) do
            local row = {}
            for at, text in ipairs(redis.call('HGETALL', key)) do row[at] = text end
            local by = {}
            for at = 1, #row, 2 do by[row[at]] = row[at + 1] end
            if not by._deleted then
                all[#all + 1] = by.window_start .. ' ' .. by.category .. ' ' .. by.total_sales .. ' ' .. by.transaction_count .. ' ' .. by.largest_sale
            end
        end
        return all"
    stored=$(k exec deployment/redis -- redis-cli --raw eval "$script" 0 | sort)
    served=$(grep -o '{[^{}]*"window_start":[^{}]*}' "$WORK/served/category_sales.json" | while read -r row; do
        for column in window_start category total_sales transaction_count largest_sale; do
            grep -o "\"$column\":[^,}]*" <<<"$row" | cut -d: -f2- | tr -d '"'
        done | paste -sd' '
    done | sort)
    echo "in Redis: $(wc -l <<<"$stored") rows, served: $(wc -l <<<"$served")"
    diff <(echo "$stored") <(echo "$served") | head -5
    [ -n "$stored" ] && [ "$stored" = "$served" ]
}

# prove PIPELINE [--resent] TOPIC=FILE…: first until all events are counted, then until the last early rows are out.
prove() {
    local name=$1 made topic arguments=()
    shift
    if [ "$1" = --resent ]; then
        arguments+=(--resent)
        shift
    fi
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
