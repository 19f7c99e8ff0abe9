# Makes the three images of the suite without a container engine: programs with the libraries they are linked with. Sourced.
# shellcheck shell=bash

# with_libraries ROOT PROGRAM…: copies what the dynamic linker would load.
with_libraries() {
    local root=$1 library
    shift
    ldd "$@" 2>/dev/null | grep -o '/[^ :]*\.so[^ :]*' | sort -u | while read -r library; do
        mkdir -p "$root${library%/*}"
        cp -L "$library" "$root$library"
    done
}

# clickstream_image OUT.tar REFERENCE: both programs, as cargo built them for the tests.
clickstream_image() {
    local root=$WORK/image-clickstream programs=("$TARGET/debug/clickstream" "$TARGET/debug/clickstream-operator") program
    mkdir -p "$root/usr/local/bin" "$root/tmp" "$root/etc"
    for program in "${programs[@]}"; do strip -o "$root/usr/local/bin/${program##*/}" "$program"; done
    with_libraries "$root" "${programs[@]}"
    "$KIT/mkimage" "$1" "$2" '["clickstream"]' "$root"
}

# kafka_image OUT.tar REFERENCE: Kafka's jars and this machine's JRE, behind the official image's script names.
kafka_image() {
    local root=$WORK/image-kafka home lib=${KAFKA_LIB:-$ROOT/target/kafka/lib} tool
    "$ROOT/tests/kafka/fetch" >"$WORK/fetch.log" 2>&1 || { tail -20 "$WORK/fetch.log"; fail "no jars of Kafka"; }
    command -v java >/dev/null || fail "no java: apt-get install default-jre-headless"
    home=$(dirname "$(dirname "$(readlink -f "$(command -v java)")")")
    mkdir -p "$root/bin" "$root/usr/bin" "$root/tmp" "$root/etc" "$root/opt/kafka/bin" "$root$home/bin"
    for tool in sh sed cp mkdir cat; do cp -L "$(command -v "$tool")" "$root/bin/$tool"; done
    cp "$home/bin/java" "$root$home/bin/"
    ln -s "$home/bin/java" "$root/usr/bin/java"
    # Links that lead nowhere (sources, fonts) belong to packages that a broker has no use for.
    cp -rL "$home/lib" "$home/conf" "$root$home/" 2>/dev/null || [ -e "$root$home/lib/server/libjvm.so" ]
    rm -rf "$root$home/lib/src.zip" "$root$home/lib/ct.sym"
    cp -r "$lib" "$root/opt/kafka/libs"
    cp "$ROOT"/tests/e2e/broker/*.sh "$root/opt/kafka/bin/"
    with_libraries "$root" "$root"/bin/* "$home/bin/java" "$home"/lib/lib{java,jli,net,nio,zip,management,management_ext}.so "$home/lib/server/libjvm.so"
    "$KIT/mkimage" "$1" "$2" '["/bin/sh"]' "$root"
}

# redis_image OUT.tar REFERENCE: this machine's Redis.
redis_image() {
    local root=$WORK/image-redis program
    command -v redis-server >/dev/null || fail "no redis-server: apt-get install redis-server"
    mkdir -p "$root/usr/local/bin" "$root/tmp" "$root/etc"
    for program in redis-server redis-cli; do cp -L "$(command -v "$program")" "$root/usr/local/bin/"; done
    with_libraries "$root" "$root"/usr/local/bin/*
    "$KIT/mkimage" "$1" "$2" '["redis-server"]' "$root"
}
