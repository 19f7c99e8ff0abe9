# Shared by the suite's scripts: time, waiting with a deadline, what the cluster says. Sourced, never run.
# shellcheck shell=bash

# Tenths of a second since the suite began.
tenths() {
    local now=${EPOCHREALTIME//[!0-9]/}
    echo $(((now - BEGIN_US) / 100000))
}

# A line of progress with its time.
say() {
    local passed
    passed=$(tenths)
    printf '%5d.%d s  %s\n' $((passed / 10)) $((passed % 10)) "$*"
}

# Ends the suite, with what there is to see; why is the last word as well.
fail() {
    say "FAILED: $*"
    diagnose || true
    say "FAILED: $*"
    exit 1
}

# await SECONDS WHAT COMMAND…: until the command succeeds; what it prints is the last state where it never does. No wait goes
# beyond the END of the suite.
await() {
    local deadline=$((SECONDS + $1)) what=$2 last
    [ $deadline -lt "$END" ] || deadline=$END
    shift 2
    until last=$("$@" 2>&1); do
        [ $SECONDS -lt $deadline ] || fail "gave up waiting for: $what"$'\n'"last seen: ${last:-nothing}"
        sleep 0.5
    done
    say "$what"
}

# must WHAT COMMAND…: now, without waiting.
must() {
    local what=$1 said
    shift
    said=$("$@" 2>&1) || fail "$what"$'\n'"$said"
    say "$what"
}

k() { "$KUBECTL" -n "$NAMESPACE" "$@"; }

helm() { "$HELM" -n "$NAMESPACE" "$@"; }

# is PIPELINE CONDITION STATUS: said of the spec that is there now.
is() {
    local said
    said=$(k get csp "$1" -o "jsonpath={.metadata.generation}={.status.observedGeneration}{\"\n\"}{range .status.conditions[*]}{.type}={.status} {.reason}: {.message}{\"\n\"}{end}") || return
    echo "$said"
    [[ $said =~ ^([0-9]+)=([0-9]+)$'\n' ]] && [ "${BASH_REMATCH[1]}" = "${BASH_REMATCH[2]}" ] && grep -q "^$2=$3 " <<<"$said"
}

# Pods of a pipeline's parts as `name uid`, in order. The Job that sets topics up is none.
pods_of() {
    k get pods -l "clickstream.dev/pipeline=$1,app.kubernetes.io/component!=setup" \
        -o 'jsonpath={range .items[*]}{.metadata.name} {.metadata.uid}{"\n"}{end}' | sort
}

# pods_are PIPELINE LIST: the very same pods, none restarted as a whole.
pods_are() { diff <(echo "$2") <(pods_of "$1"); }

# A pod of a part: PIPELINE COMPONENT.
pod_of() {
    k get pods -l "clickstream.dev/pipeline=$1,app.kubernetes.io/component=$2" -o 'jsonpath={.items[0].metadata.name}'
}

# What serving answers: PIPELINE PATH.
api() { k get --raw "/api/v1/namespaces/$NAMESPACE/services/$1-serve:http/proxy$2"; }

# Events that were read so far: PIPELINE.
events_read() { api "$1" /api/v1/ledger | grep -o '"read":[0-9]*' | head -1 | cut -d: -f2; }

has_read() { # PIPELINE MORE-THAN
    local read
    read=$(events_read "$1") || { echo "no ledger: ${read:-no answer}"; return 1; }
    echo "$read events read"
    [ "${read:-0}" -gt "$2" ]
}

# goes_on PIPELINE WHAT: new events get into the tables after what just happened.
goes_on() {
    local before=0
    before=$(events_read "$1" 2>/dev/null) || true
    if [ "${before:-0}" = "${EVENTS[$1]}" ]; then
        say "left out: $2: all events of $1 were there before"
        return
    fi
    await 120 "$2: events of $1 go on" has_read "$1" "${before:-0}"
}

# What a person would look at first.
diagnose() {
    echo "--- pipelines"
    k get csp -o wide
    echo "--- pods"
    k get pods -o wide
    echo "--- pods that are not ready"
    local pod
    for pod in $(k get pods -o 'jsonpath={range .items[?(@.status.phase!="Succeeded")]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}' | grep -v '=True' | cut -d= -f1 | head -5); do
        echo "--- $pod: $(k get --raw "/api/v1/namespaces/$NAMESPACE/pods/$pod:9090/proxy/readyz" 2>&1 | tail -1)"
        k logs "$pod" --tail=15 --all-containers 2>&1
        k logs "$pod" --tail=8 --all-containers --previous 2>/dev/null
    done
    echo "--- the last words of all parts, and how far ingesters are"
    for pod in $(k get pods -o 'jsonpath={range .items[?(@.status.phase=="Running")]}{.metadata.name}{"\n"}{end}' | grep -v '^kafka-'); do
        echo "--- $pod"
        k logs "$pod" --tail=6 2>&1 | cut -c1-400
        k get --raw "/api/v1/namespaces/$NAMESPACE/pods/$pod:9090/proxy/metrics" 2>/dev/null | grep '^clickstream_ingest_' | head -6
    done
    echo "--- events"
    k get events --sort-by=.lastTimestamp | tail -25
    echo "--- operator"
    k logs deployment/clickstream --tail=15
}
