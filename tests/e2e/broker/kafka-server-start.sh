#!/bin/sh
# Starts the broker, as the official image's script of this name does: kafka-server-start.sh FILE
# shellcheck disable=SC2086 # the variables hold several words
exec java ${KAFKA_HEAP_OPTS:-} -XX:+UseSerialGC -XX:TieredStopAtLevel=1 ${KAFKA_LOG4J_OPTS:-} \
    -cp '/opt/kafka/libs/*' kafka.Kafka "$@"
