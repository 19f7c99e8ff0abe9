#!/bin/sh
# Makes a broker's folders ready, as the official image's script of this name does: kafka-storage.sh format …
# shellcheck disable=SC2086 # the variable holds several words
exec java -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 ${KAFKA_LOG4J_OPTS:-} \
    -cp '/opt/kafka/libs/*' kafka.tools.StorageTool "$@"
