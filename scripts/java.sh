#!/bin/sh
# Puts Pyrolite, a Java library for Pyro, into .cache/java.  Does nothing if it is there and up to date.
# On Debian as root it installs what is missing of a JDK and Maven.
set -eu
cd "$(dirname "$0")/.."
missing=
javac -version >/dev/null 2>&1 || missing="default-jdk-headless"
want=$(cksum <internal/pyrolite/pom.xml)
have=$(cat .cache/java/made-from 2>/dev/null || true)
[ "$have" = "$want" ] || mvn -v >/dev/null 2>&1 || missing="$missing maven"
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        apt-get update -q
        # shellcheck disable=SC2086
        DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $missing
    else
        echo "java.sh: missing: $missing: install these packages and run it again" >&2
        exit 1
    fi
fi
[ "$have" = "$want" ] && exit 0
rm -rf .cache/java
mvn -q -B -Dstyle.color=never -f internal/pyrolite/pom.xml dependency:copy-dependencies -DoutputDirectory="$PWD/.cache/java"
echo "$want" >.cache/java/made-from
