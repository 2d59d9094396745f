#!/bin/sh
# Runs a program for as long as whoever started this one holds our standard input: tether.sh COMMAND...
# So no peer survives a spec, however that ends. It has a process group of its own where there is setsid, for browsers
# are many processes.
trap : HUP INT TERM # what ends us ends cat, and then the program
if command -v setsid >/dev/null 2>&1; then
    setsid "$@" </dev/null &
else
    "$@" </dev/null &
fi
program=$!
cat <&0 >/dev/null
kill -s TERM -- "-$program" 2>/dev/null || kill -s TERM "$program" 2>/dev/null
wait "$program"
