# The cluster of the suite: one that the user names, or one of its own from the kit beside the clone. Sourced.
# shellcheck shell=bash

# Where the kit lies: `build`, `up`, `load-image`, `mkimage`, `down`.
KIT=${KUBERNETES_PARTS:-$ROOT/../shared/kubernetes}

# choose_cluster: sets KUBECTL, HELM, OWN and the images; exit code 3 where there is no cluster to be had.
choose_cluster() {
    if [ -n "${KUBECONFIG:-}" ]; then
        OWN=
        KUBECTL=${KUBECTL:-$(command -v kubectl)} || { echo "no kubectl on PATH"; exit 1; }
        IMAGE=${E2E_IMAGE:-clickstream:0.1.0}
        KAFKA_IMAGE=${E2E_KAFKA_IMAGE:-apache/kafka:4.1.0}
        REDIS_IMAGE=${E2E_REDIS_IMAGE:-redis:8}
        HELM=$("$ROOT/tests/tools/helm")
        say "cluster of $KUBECONFIG, images $IMAGE, $KAFKA_IMAGE and $REDIS_IMAGE"
        return
    fi
    if [ ! -x "$KIT/up" ]; then
        echo "not run: no cluster. Set KUBECONFIG (a kind cluster with our image loaded, say), or KUBERNETES_PARTS to a folder"
        echo "with \`up\`, \`down\`, \`build\`, \`mkimage\`, \`load-image\`; tests/e2e/README.md says more."
        exit 3
    fi
    [ "$(id -u)" = 0 ] || { echo "not run: the kit in $KIT starts nodes, which takes root"; exit 3; }
    OWN=1
    IMAGE=localhost/clickstream:e2e
    KAFKA_IMAGE=localhost/kafka:e2e
    REDIS_IMAGE=localhost/redis:e2e
    # What it builds stays for the next time, beside what the other tests build with it. What runs has one place on a machine,
    # whatever clone it was started from: addresses and ports are the machine's, and a suite that was killed leaves them taken.
    export K8S_BIN=$ROOT/target/tools/kubernetes/bin K8S_IMAGES=$ROOT/target/tools/kubernetes/images
    export K8S_STATE=${K8S_STATE:-/var/lib/clickstream-e2e} K8S_NODES=${K8S_NODES:-3}
    KUBECTL=$K8S_BIN/kubectl
    HELM=$K8S_BIN/helm
}

# start_cluster: nodes and images; nothing to do where the user brought them.
start_cluster() {
    local image
    [ -n "$OWN" ] || return 0
    exec {LOCK}>"$K8S_STATE.lock"
    flock --wait 30 "$LOCK" || { OWN=; fail "another run of the suite has its cluster in $K8S_STATE: one at a time"; }
    # `down` does nothing without the directory; with it, it removes whatever a run that was killed has left.
    mkdir -p "$K8S_STATE"
    "$KIT/down"
    "$KIT/build" >"$WORK/build.log" 2>&1 || { tail -20 "$WORK/build.log"; fail "the kit did not build"; }
    say "programs of the cluster are there"
    clickstream_image "$WORK/clickstream.tar" "$IMAGE"
    kafka_image "$WORK/kafka.tar" "$KAFKA_IMAGE"
    redis_image "$WORK/redis.tar" "$REDIS_IMAGE"
    say "images made: $(du -h "$WORK"/*.tar | awk '{print $1}' | paste -sd' ')"
    KUBECONFIG=$("$KIT/up" 2>"$WORK/up.log" {LOCK}>&-) || { tail -20 "$WORK/up.log"; fail "the cluster did not come up"; }
    export KUBECONFIG
    say "$K8S_NODES nodes ready"
    for image in clickstream kafka redis; do "$KIT/load-image" "$WORK/$image.tar" >/dev/null; done
    rm -rf "$WORK"/image-* "$WORK"/*.tar
    say "images on all nodes"
}

# stop_cluster: whatever happened before.
stop_cluster() {
    [ -n "${OWN:-}" ] || return 0
    "$KIT/down" || echo "the cluster in $K8S_STATE could not be stopped"
}

# The kit's volumes belong to root, and host paths do not heed fsGroup; elsewhere the provisioner sees to it.
open_volumes() {
    [ -n "$OWN" ] || return 0
    local claims
    claims=$(k get pvc -o name | wc -l)
    bound() { k get pvc --no-headers; [ "$(k get pvc --no-headers | grep -c ' Bound ')" = "$claims" ]; }
    await 60 "$claims volumes bound" bound
    chmod 0777 "$K8S_STATE"/volumes/*
}
