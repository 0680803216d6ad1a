#!/bin/sh
# progress.sh LABEL COMMAND...
# Runs a command that may take long: says every few seconds how long it has taken and
# what its last line of output was, says nothing if it is quick, and shows the whole
# output only when it fails.
set -u
label=$1
shift
log=$(mktemp)
child=
cleanup() { rm -f "$log"; }
trap cleanup EXIT
trap '[ -n "$child" ] && kill "$child" 2>/dev/null; exit 130' INT TERM HUP

begun=$(date +%s)
"$@" >"$log" 2>&1 </dev/null &
child=$!
next=2
while kill -0 "$child" 2>/dev/null; do
	sleep 0.2
	now=$(($(date +%s) - begun))
	if [ "$now" -ge "$next" ]; then
		at=$(tail -n 1 "$log" | cut -c 1-90)
		echo "$label: $now s${at:+, $at}"
		next=$((now + 5))
	fi
done
wait "$child"
status=$?
now=$(($(date +%s) - begun))
if [ "$status" -ne 0 ]; then
	cat "$log" >&2
	echo "$label: failed after $now s" >&2
elif [ "$next" -gt 2 ]; then
	echo "$label: done after $now s"
fi
exit "$status"
