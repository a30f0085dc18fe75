#!/bin/bash
# What looking costs, by three questions. Each pair of runs is made one after the other, in turns of order, each run with a server of its own; CPU is
# the server's, by /proc, for each message. Prints the ratio of each pair, the median, and from where to where they go.
#
#   1. A server as it is, of which /metrics is read every 15 s as deploy/prometheus does, against one built without what taps and metrics do for each message or frame:
#      the test of a session's bit, the counters of messages, bytes and deliveries, and the timing of a sample. There is no flag for that, so these lines
#      are taken out by sed while it is built; one that is not found is an error. With REVISION=… the other one is built from that revision as it is.
#   2. 10,000 connections without a capture, against the same with one of ten of them, at as much as the machine can do.
#   3. 10,000 connections that say little, so that nothing waits for a core, and ten others that say more: these with a capture of the ten, against
#      none. Latencies are those of the 10,000 alone; CPU is the server's for all, by the messages of the 10,000.
#
# docs/benchmarks/observability.sh [metrics] [broadcast] [tap] [others] [scrape]     PAIRS=7 SPAN=15s EVERY=15 RATE=2000
set -euo pipefail
cd "$(dirname "$0")/../.."
pairs=${PAIRS:-7} span=${SPAN:-15s} every=${EVERY:-15} rate=${RATE:-2000} revision=${REVISION:-}
work=$(mktemp -d)
server='' others=()
finish() {
	((${#others[@]})) && kill "${others[@]}" 2>/dev/null
	[[ $server ]] && kill "$server" 2>/dev/null
	wait
	rm -rf "$work"
}
trap finish EXIT

# What there is for taps and metrics in the path of a message: file, and what sed does to it.
seams() {
	cat <<-'LIST'
		session/taphook.go	s/return s.flags.Load\(\)&tapped != 0/return false/
		session/receive.go	s/s.srv.counter\(s\).messagesIn.Add\(int64\(messages\)\)//
		session/session.go	s/c.messagesOut.Add\(int64\(n\)\)/_ = c/
		session/dispatch.go	s/timed := rand.Uint32\(\)%handlerSample == 0/timed := rand.Uint32() == 0 \&\& false/
		poller/read.go	s/c.loop.bytesRead.Add\(int64\(n\)\)//
		poller/write.go	s/c.loop.bytesSent.Add\(int64\(n\)\)//
		poller/write.go	s/if c.state&reporting != 0/if false/
		push/hub/hub.go	s/timed := p.Kind == KindMessage && .*/timed := false/
		push/hub/shard.go	s/bucket.deliveries.Add\(uint64\(delivered\)\)//
	LIST
}

build() { CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' "$@" ./cmd/millpond; }

# overlay writes the files without that, and which are in place of which.
overlay() {
	local file expression replaced=''
	while IFS=$'\t' read -r file expression; do
		local own="$work/${file//\//-}"
		[[ -e $own ]] || cp "$file" "$own"
		cp "$own" "$own.before"
		sed -E -i "$expression" "$own"
		if cmp -s "$own" "$own.before"; then
			echo "observability.sh: $file: nothing to do for $expression" >&2
			exit 1
		fi
		[[ $replaced == *"\"$PWD/$file\""* ]] || replaced+="${replaced:+,}\"$PWD/$file\":\"$own\""
	done < <(seams)
	printf '{"Replace":{%s}}' "$replaced" >"$work/overlay.json"
}

# without builds the server that does nothing of that.
without() {
	if [[ ! $revision ]]; then
		overlay
		build -overlay="$work/overlay.json" -o "$work/without"
		return
	fi
	git worktree add -q --detach "$work/tree" "$revision"
	(cd "$work/tree" && build -buildvcs=false -o "$work/without")
	git worktree remove --force "$work/tree"
}

# As the bench's own server has it.
printf 'namespaces:\n  - name: bench\n    history_size: 10\n    history_ttl: 300s\n    force_recovery: true\n' >"$work/millpond.yaml"

# serve starts a server of a kind; public, internal and server say where and who it is.
serve() {
	"$work/$1" serve --dev --config="$work/millpond.yaml" --listen=127.0.0.1:0 --internal-listen=127.0.0.1:0 --log-format=text 2>"$work/log" &
	server=$!
	until public=$(sed -n 's/.*listener=public address=\([^ ]*\).*/\1/p' "$work/log") && internal=$(sed -n 's/.*listener=internal address=\([^ ]*\).*/\1/p' "$work/log") && [[ $public && $internal ]]; do
		kill -0 "$server" || { cat "$work/log" >&2; exit 1; }
		sleep 0.1
	done
}

stop() {
	((${#others[@]})) && { kill "${others[@]}" 2>/dev/null || true; }
	others=()
	kill "$server"
	wait || true
	server=''
}

# read_metrics reads /metrics once, scrape all the time.
read_metrics() {
	exec 3<>"/dev/tcp/${internal%:*}/${internal##*:}"
	printf 'GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3
	cat <&3 >"$work/metrics"
	exec 3>&-
}

scrape() {
	while read_metrics 2>/dev/null; do
		sleep "$every"
	done
}

# figure reads one of the last report.
figure() { echo "$(tr -d '\n' <"$work/report.json" | sed -E "s/.*\"name\": *\"${1//\//\\/}\", *\"value\": *([-+.0-9e]+).*/\1/")"; }

load() { "$work/with" bench "$1" --quiet --url="ws://$public" --pid="$server" --duration="$span" --out="$work/report.json" "${@:2}" >"$work/bench.log" 2>&1 || { cat "$work/bench.log" >&2; exit 1; }; }

# The three loads; each prints its figures, the first of them CPU.
one_metrics() {
	serve "$1"
	[[ $1 == with ]] && { scrape & others+=($!); }
	load echo
	figure cpu-us/message
	stop
}

one_broadcast() {
	serve "$1"
	[[ $1 == with ]] && { scrape & others+=($!); }
	load fanout --api="http://$internal/api/" --connections=5000 --rate=10 --no-bare
	figure cpu-us/delivery
	stop
}

one_tap() {
	serve with
	[[ $1 == with ]] && { "$work/with" tap --url="http://$internal" --path=/echo --connections=10 --json >"$work/tap.log" & others+=($!); }
	load echo --connections=10000 --rate=10000
	printf '%s %s %s\n' "$(figure cpu-us/message)" "$(figure p50)" "$(figure p99)"
	[[ $1 == without ]] || { echo "    frames seen: $(grep -c '"type":"frame"' "$work/tap.log") of $(grep -c '"type":"open"' "$work/tap.log") connections" >&2; }
	stop
}

# awaits waits until /metrics has a line.
awaits() {
	local i
	for ((i = 0; i < 600; i++)); do
		read_metrics && grep -q "^$1\$" "$work/metrics" && return
		sleep 0.1
	done
	echo "observability.sh: no $1 in a minute" >&2
	exit 1
}

# The ten have an address of their own, by which the capture knows them.
one_others() {
	local ten=127.0.0.77 cpu
	serve with
	"$work/with" bench echo --quiet --url="ws://$public" --source="$ten" --connections=10 --rate=100 --duration=10m >"$work/ten.log" 2>&1 &
	others+=($!)
	awaits 'millpond_connections 10'
	[[ $1 == with ]] && {
		"$work/with" tap --url="http://$internal" --address="$ten" --json >"$work/tap.log" &
		others+=($!)
		awaits 'millpond_tap_connections 10'
	}
	load echo --source=127.0.0.1 --connections=10000 --rate="$rate"
	cpu=$(figure cpu-us/message)
	printf '%s %s %s\n' "$cpu" "$(figure p50)" "$(figure p99)"
	awk -v c="$cpu" -v l="$(figure client-cpu-us/message)" -v r="$rate" -v w="$1" \
		'BEGIN { printf "    %s: server %.0f %% of a core, load %.0f %%\n", w, c * r / 1e4, l * r / 1e4 }' >&2
	[[ $1 == without ]] || { echo "    frames seen: $(grep -c '"type":"frame"' "$work/tap.log") of $(grep -c '"type":"open"' "$work/tap.log") connections" >&2; }
	stop
}

# scrape_cost says what one look at /metrics takes, with 1,000 connections.
scrape_cost() {
	serve with
	"$work/with" bench idle --quiet --url="ws://$public" --pid="$server" --connections=1000 --duration=60s >"$work/bench.log" 2>&1 &
	others+=($!)
	local before i
	until read_metrics && grep -q '^millpond_connections 1000' "$work/metrics"; do sleep 0.5; done
	before=$(ticks)
	for ((i = 0; i < 200; i++)); do read_metrics; done
	awk -v n="$(($(ticks) - before))" -v hz="$(getconf CLK_TCK)" -v b="$(wc -c <"$work/metrics")" 'BEGIN { printf "one look at /metrics, %d bytes: %.2f ms of CPU\n", b, 1000 * n / hz / 200 }'
	stop
}

# ticks are those of CPU that the server has used.
ticks() { awk '{ print $14 + $15 }' "/proc/$server/stat"; }

# rounded prints figures as people read them.
rounded() { awk -v v="$1" 'BEGIN { n = split(v, x); for (k = 1; k <= n; k++) printf "%s%.2f", (k > 1 ? " " : ""), x[k] }'; }

# compare makes the pairs; what are the words for the columns.
compare() {
	local name=$1 question=$2 what=$3 i a b
	echo "$question"
	: >"$work/ratios"
	for ((i = 1; i <= pairs; i++)); do
		if ((i % 2)); then
			"one_$name" with >"$work/a" && "one_$name" without >"$work/b"
		else
			"one_$name" without >"$work/b" && "one_$name" with >"$work/a"
		fi
		read -r a <"$work/a"
		read -r b <"$work/b"
		awk -v a="$a" -v b="$b" -v i="$i" 'BEGIN { n = split(a, x); split(b, y); s = ""; for (k = 1; k <= n; k++) s = s sprintf(" %.4f", x[k] / y[k]); print s }' >>"$work/ratios"
		echo "  pair $i: with $(rounded "$a"), without $(rounded "$b"): ratio$(tail -n 1 "$work/ratios")"
	done
	local column=0 word
	for word in $what; do
		((++column))
		awk -v c="$column" '{ print $c }' "$work/ratios" | sort -g |
			awk -v w="$word" '{ r[NR] = $1 } END { m = NR % 2 ? r[(NR + 1) / 2] : (r[NR / 2] + r[NR / 2 + 1]) / 2; printf "  %s: median %.4f, from %.4f to %.4f\n", w, m, r[1], r[NR] }'
	done
}

if [[ $* == overlay ]]; then # a test asks whether all of that is still found
	overlay
	exit
fi
build -o "$work/with"
(($#)) || set -- scrape metrics broadcast tap others
[[ " $* " == *" metrics "* || " $* " == *" broadcast "* ]] && without
for name in "$@"; do
	case $name in
	metrics) compare metrics "echo, 100 connections: taps off and metrics read every ${every} s, against neither" "CPU/message" ;;
	broadcast) compare broadcast "broadcast to 5,000: taps off and metrics read every ${every} s, against neither" "CPU/delivery" ;;
	tap) compare tap "10,000 connections that echo 10,000 messages/s in all: a capture of ten of them, against none" "CPU/message p50 p99" ;;
	others) compare others "10,000 connections that echo $rate messages/s in all: a capture of ten others, against none" "CPU/message p50 p99" ;;
	scrape) scrape_cost ;;
	*)
		echo "observability.sh: there are scrape, metrics, broadcast, tap, others" >&2
		exit 2
		;;
	esac
done
