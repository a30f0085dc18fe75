#!/bin/bash
# Runs every scenario of millpond bench on this machine and writes its reports beside this file: NAME.txt with the command, NAME.json, and
# NAME.html. With arguments it runs those scenarios alone. `make benchmarks` builds the tool first.
set -uo pipefail
cd "$(dirname "$0")/../.."
tool=bin/millpond
out=docs/benchmarks

# name and arguments of each run, in the order of the table in README.md.
runs() {
	cat <<-'LIST'
		idle            idle
		idle-tls        idle --tls
		heartbeats      idle --duration=25s
		echo            echo --duration=30s
		echo-16         echo --duration=30s --depth=16
		echo-10k        echo --duration=30s --connections=10000
		connect         connect
		handshakes      handshakes
		slow            slow
		personal        personal
		personal-protobuf personal --protocol=centrifuge-protobuf --presence
		fanout          fanout
		fanout-channels fanout --channels=100 --publishers=8 --connections=5000 --no-bare
		fanout-protobuf fanout --protocol=centrifuge-protobuf
		fanout-plain    fanout --protocol=plain --no-bare
		api             api
		churn           churn
		recover         recover
		recover-plain   recover --protocol=plain --deliveries=100000 --duration=20s
		drain           drain
		drain-takeover  drain --how=takeover
		mixed           mixed
	LIST
}

failed=()
while read -r name args; do
	if (($# > 0)) && [[ " $* " != *" $name "* ]]; then
		continue
	fi
	echo "== $name: millpond bench $args" >&2
	# shellcheck disable=SC2086 # words of the list
	"$tool" bench --quiet --out="$out/$name.json" --html="$out/$name.html" $args >"$out/$name.out" 2>"$out/$name.err" || failed+=("$name")
	{
		printf '$ millpond bench %s\n\n' "$args"
		cat "$out/$name.out" "$out/$name.err"
	} >"$out/$name.txt"
	rm -f "$out/$name.out" "$out/$name.err"
done < <(runs)

if ((${#failed[@]} > 0)); then
	echo "failed: ${failed[*]}" >&2
	exit 1
fi
