#!/bin/bash
# What each broker costs, and how long it takes: the memory broker, embedded NATS on one node and on three, and, where Go is there to build it, a
# NATS server beside one node. All of them are processes of this machine, with addresses of loopback for hosts; clients connect to the second node of
# three, and what is published goes to the first. Prints a table and writes it to docs/benchmarks/brokers.md; takes some five minutes.
#
# docs/benchmarks/brokers.sh [memory] [embedded] [cluster] [external]     CONNECTIONS=10000 SPAN=4s OUT=docs/benchmarks/brokers.md
set -euo pipefail
cd "$(dirname "$0")/../.."
tool=$PWD/bin/millpond connections=${CONNECTIONS:-10000} span=${SPAN:-4s} out=${OUT:-docs/benchmarks/brokers.md}
arguments="docs/benchmarks/brokers.sh${*:+ $*}" begun=$(date -u '+%Y-%m-%d %H:%M UTC') load=$(cut -d' ' -f1 /proc/loadavg)
budget=64 # bytes of a connection that any broker may take over the memory broker
(($#)) || set -- memory embedded cluster external
work=$(mktemp -d)
nodes=() others=() # processes: of the service, and of those that subscribe all the time
finish() {
	((${#others[@]})) && { kill "${others[@]}" 2>/dev/null || true; }
	((${#nodes[@]})) && { kill "${nodes[@]}" 2>/dev/null || true; }
	wait
	others=() nodes=()
}
trap 'finish; rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

die() {
	echo "brokers.sh: $1" >&2
	[[ ! ${2:-} ]] || tail -n 20 "$2" >&2
	exit 1
}

# await runs a command until it succeeds, for at most a minute.
await() {
	local i
	for ((i = 0; i < 300; i++)); do
		if "$@"; then return; fi
		sleep 0.2
	done
	die "waited in vain: $*"
}

# As the bench's own server has it, and the same for names without a namespace, which bench api publishes to.
history='history_size: 10, history_ttl: 300s, force_recovery: true'
printf 'channels: {%s}\nnamespaces:\n  - {name: bench, %s}\n' "$history" "$history" >"$work/millpond.yaml"
printf 'millpond:%s' "$RANDOM$RANDOM$RANDOM" >"$work/credentials"

# free_port says one below those of outgoing connections that nobody listens on.
free_port() {
	local port
	until port=$((20000 + RANDOM % 10000)) && ! { : <>"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null; do :; done
	echo "$port"
}

# serve starts node number $1. No heartbeats: how many fall into a run would be chance. On a busy machine publications shall be late, not refused.
serve() {
	"$tool" serve --dev --config="$work/millpond.yaml" --listen="127.0.0.$1:0" --internal-listen="127.0.0.$1:0" --log-format=text --ping-interval=-1s \
		--nats-publish-timeout=25s --api-timeout=30s "${@:2}" 2>"$work/log-$1" &
	nodes+=($!)
}

# listens says the address of a listener of node $1.
listens() { sed -n "s/.*listener=$2 address=\([^ ]*\).*/\1/p" "$work/log-$1"; }
is_listening() { [[ $(listens "$1" internal) ]]; }
is_ready() { curl -sf -o "$work/readyz" "http://$(listens "$1" internal)/readyz"; }

# metric prints one without labels, or by a pattern the sum of several, of the node with the clients; 0 if there is none.
metric() { curl -sf "http://$metrics/metrics" | awk -v m="^millpond_$1(\\\\{[^}]*\\\\})?\$" '$1 ~ m { n += $2 } END { printf "%.0f\n", n }'; }
is_metric() { (($(metric "$1") == $2)); }

start() {
	local at=1 n
	rm -rf "$work"/data-* "$work"/log-* "$work"/subscribe-*
	port=''
	case $1 in
	memory) serve 1 ;;
	embedded) serve 1 --nats-embedded --data-dir="$work/data-1" ;;
	cluster)
		port=$(free_port) at=2
		for n in 1 2 3; do
			serve "$n" --node-name="node-$n" --nats-embedded --data-dir="$work/data-$n" --cluster-name=brokers --cluster-listen="127.0.0.$n:$port" \
				--cluster-routes="127.0.0.1:$port,127.0.0.2:$port,127.0.0.3:$port" --cluster-credentials-file="$work/credentials"
		done
		;;
	external)
		port=$(free_port)
		"$work/nats-server" -a 127.0.0.1 -p "$port" -js -sd "$work/data-1" -l "$work/log-nats" &
		nodes+=($!)
		serve 1 --nats-url="nats://127.0.0.1:$port"
		;;
	esac
	for ((n = 1; n <= (at == 2 ? 3 : 1); n++)); do
		await is_listening "$n"
		await is_ready "$n"
	done
	public=$(listens $at public) metrics=$(listens $at internal) api=$(listens 1 internal)
	case $1 in # the process that has the clients, and those beside it
	cluster) client=${nodes[1]} beside=("${nodes[0]}" "${nodes[2]}") ;;
	external) client=${nodes[1]} beside=("${nodes[0]}") ;;
	*) client=${nodes[0]} beside=() ;;
	esac
}

# listen_all has somebody in so many channels that the node reads all groups, and a publication in each: what that costs is no connection's.
listen_all() {
	local i names=() list=''
	for ((i = 0; i < 256; i++)); do
		names+=("bench:all-$i") list+="${list:+,}\"bench:all-$i\""
	done
	for ((i = 0; i < 256; i += 64)); do
		"$tool" subscribe --url="ws://$public" "${names[@]:i:64}" >"$work/subscribe-$i" 2>&1 &
		others+=($!)
	done
	await is_metric channels 256
	if [[ $1 != memory ]]; then
		await is_metric broker_groups_consumed 32
		await is_metric broker_groups_behind 0
	fi
	curl -sf -X POST "http://$api/api/broadcast" -d "{\"channels\":[$list],\"data\":1}" >"$work/broadcast"
	if grep -q '"error":{' "$work/broadcast"; then die "refused" "$work/broadcast"; fi
	has_all() { (($(cat "$work"/subscribe-* | wc -l) >= 256)); }
	await has_all
}

# rss is the memory of processes, in bytes.
rss() {
	local pid pages sum=0
	for pid in "$@"; do
		read -r _ pages _ <"/proc/$pid/statm"
		sum=$((sum + pages))
	done
	echo $((sum * $(getconf PAGESIZE)))
}

# traffic is how many bytes went over all connections between servers of NATS, or to the one beside the node.
traffic() {
	[[ $port ]] || { echo 0; return; }
	ss -Htin state established "( sport = :$port or dport = :$port )" | grep -o 'bytes_sent:[0-9]*' | awk -F: '{ n += $2 } END { printf "%.0f\n", n }'
}

load() {
	timeout 90 "$tool" bench "$1" --quiet --url="ws://$public" --api="http://$api/api/" --out="$work/report.json" "${@:2}" >"$work/bench.log" 2>&1 || die "bench $*" "$work/bench.log"
}

# figure reads one of the last report, divided by $2, with $3 decimals.
figure() {
	tr -d '\n' <"$work/report.json" | sed -nE "s/.*\"name\": *\"${1//\//\\/}\", *\"value\": *([-+.0-9e]+).*/\1/p" |
		awk -v by="${2:-1}" -v digits="${3:-0}" '{ printf "%.*f\n", digits, $1 / by }'
}

# note keeps a cell of the table.
declare -A cell
note() {
	cell[$kind:$1]=$2
	echo "   $1 $2" >&2
}

# measure_memory is what a connection takes: first of all, for what goes leaves memory that is taken again.
measure_memory() {
	local before
	before=$(rss "${beside[@]}")
	load personal --pid="$client" --connections="$connections" --rate=1000 --settle=3s
	note subscribed "$(figure bytes/conn-subscribed)"
	note conn "$(figure bytes/conn)"
	note p50 "$(figure p50 1e6 2)"
	note p99 "$(figure p99 1e6 2)"
	note beside "$(($(rss "${beside[@]}") - before))"
}

# measure_broadcast is one publication to half as many as there are connections, five a second.
measure_broadcast() {
	load fanout "${pids[@]}" --no-bare --connections=$((connections / 2)) --rate=5 --duration="$span"
	note delivery "$(figure cpu-us/delivery 1 1)"
	note broadcast50 "$(figure p50 1e6 1)"
	note broadcast99 "$(figure p99 1e6 1)"
}

# measure_channels has 1,000 publications a second go to a tenth of the channels and to all, each of which has one subscriber. Meanwhile the
# interest of NATS is watched: what it is when all have subscribed and nothing was published yet.
measure_channels() {
	load fanout "${pids[@]}" --no-bare --publishers=8 --channels=$((connections / 10)) --connections=$((connections / 10)) --rate=1000 --duration="$span"
	note channels-tenth "$(figure cpu-us/delivery)"
	await is_metric connections 4
	local idle from begin now sum subscriptions ready published loading
	begin=$EPOCHREALTIME from=$(traffic)
	sleep 4
	idle=$(awk -v a="$from" -v b="$(traffic)" -v t="$begin" -v u="$EPOCHREALTIME" 'BEGIN { print (b - a) / (u - t) }')
	note interest-before "$(interest)"
	begin=$EPOCHREALTIME from=$(traffic) published=$(count_published)
	load fanout "${pids[@]}" --no-bare --publishers=8 --channels="$connections" --connections="$connections" --rate=1000 --duration="$span" --warmup=1s &
	loading=$!
	while kill -0 $loading 2>/dev/null; do
		now=$EPOCHREALTIME sum=$(traffic) subscriptions=$(interest) ready=$(metric channels)
		(($(count_published) == published)) || break # it publishes: that is traffic
		if ((ready <= 256)) || [[ $kind == memory ]]; then
			sleep 0.2
			continue
		fi
		note interest-channels $((ready - 256))
		note interest-after "$subscriptions"
		if [[ $port ]]; then
			note interest-idle "$(awk -v i="$idle" 'BEGIN { printf "%.0f", i }')"
			note interest-traffic "$(awk -v a="$from" -v b="$sum" -v t="$begin" -v u="$now" 'BEGIN { printf "%.0f", (b - a) / (u - t) }')"
		fi
		sleep 0.2
	done
	wait $loading
	note channels-all "$(figure cpu-us/delivery)"
}

# interest is how many subscriptions the node has at NATS, and how many the embedded server knows.
interest() {
	case $kind in
	memory) ;;
	external) metric broker_subscriptions ;;
	*) echo "$(metric broker_subscriptions), $(metric broker_interest_subscriptions)" ;;
	esac
}

# count_published is how much was, ever.
count_published() { curl -sf "http://$api/metrics" | awk '/^millpond_(publications_total|broker_publishes_total)/ { n += $2 } END { printf "%.0f\n", n }'; }

# measure_publishing is what the API takes, of channels that nobody listens to.
measure_publishing() {
	load api "${pids[@]}" --duration=2s
	for way in single broadcast bulk; do
		note $way "$(figure $way/s)"
		note $way-cpu "$(figure cpu-us/$way 1 1)"
	done
}

kinds=()
for kind; do
	case $kind in
	memory | embedded | cluster) ;;
	external)
		if ! command -v go >/dev/null; then
			echo "brokers.sh: there is no Go to build a NATS server" >&2
			continue
		fi
		go build -o "$work/nats-server" github.com/nats-io/nats-server/v2
		;;
	*)
		echo "brokers.sh: there are memory, embedded, cluster, external" >&2
		exit 2
		;;
	esac
	kinds+=("$kind")
	echo "== $kind" >&2
	start "$kind"
	pids=(--pid="$client" "${beside[@]/#/--pid=}")
	note rest "$(rss "$client")"
	listen_all "$kind"
	sleep 2
	note read "$(rss "$client")"
	measure_memory
	measure_broadcast
	measure_channels
	measure_publishing
	finish
done

# row prints a row: what, which cell of each kind, and its unit.
row() {
	local kind line="| $1 |"
	for kind in "${kinds[@]}"; do line+=" ${cell[$kind:$2]:+${cell[$kind:$2]}${3:-}} |"; done
	echo "$line"
}

# megabytes has cells in MB; over adds those that are what a connection takes over the memory broker's.
megabytes() { for kind in "${kinds[@]}"; do note "$1" "$(awk -v b="${cell[$kind:$1]}" 'BEGIN { printf "%.1f", b / 1e6 }')"; done; }
over() {
	for kind in "${kinds[@]}"; do
		[[ $kind != memory && ${cell[memory:$1]:-} ]] || continue
		note "$1-over" "$((${cell[$kind:$1]} - ${cell[memory:$1]}))"
	done
}

declare -A title=([memory]="memory" [embedded]="embedded NATS" [cluster]="three nodes" [external]="a NATS server")
table() {
	local heads='' line='' kind
	for kind in "${kinds[@]}"; do heads+=" ${title[$kind]} |" line+='---|'; done
	echo "| |$heads"
	echo "|---|$line"
	row "publications a second by the API, one request each" single
	row "server CPU for each" single-cpu " µs"
	row "publications a second, broadcasts to 100 channels" broadcast
	row "server CPU for each" broadcast-cpu " µs"
	row "publications a second, lines of a bulk, 8 channels" bulk
	row "server CPU for each" bulk-cpu " µs"
	row "publish → delivery, 1,000 a second to one of $connections users each: p50" p50 " ms"
	row "p99" p99 " ms"
	row "publish → delivery, 5 a second to $((connections / 2)) users: p50" broadcast50 " ms"
	row "p99" broadcast99 " ms"
	row "server CPU for each of those deliveries" delivery " µs"
	row "server CPU to publish and deliver one, in one of $((connections / 10)) channels" channels-tenth " µs"
	row "the same, in one of $connections channels" channels-all " µs"
	row "memory of the node with the clients, at rest" rest " MB"
	row "the same, when it reads all groups" read " MB"
	row "memory of a connection with a channel of its own and a shared one" subscribed " B"
	row "over the memory broker: at most $budget B" subscribed-over
	row "the same and the publications that are kept, after one in each channel" conn " B"
	row "over the memory broker" conn-over " B"
	row "growth of the other processes meanwhile" beside " MB"
	row "subscriptions to NATS before so many connect: the node's, and those its server knows" interest-before
	row "after" interest-after
	row "channels of their own that were subscribed to then" interest-channels
	row "bytes a second between processes before" interest-idle
	row "while they connect and subscribe" interest-traffic
}

for name in rest read beside; do megabytes $name; done
for name in subscribed conn; do over $name; done
for kind in "${kinds[@]}"; do
	[[ ! ${cell[$kind:subscribed-over]:-} ]] || cell[$kind:subscribed-over]+=" B $( ((cell[$kind:subscribed-over] <= budget)) && echo ✓ || echo ✗)"
done
{
	cat <<TEXT
# Brokers side by side

Written by \`$arguments\` (CONNECTIONS=$connections SPAN=$span), $begun, in $SECONDS s, with $(nproc) cores ($(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)), \
Linux $(uname -r), $("$tool" version | head -n 1). The load of the machine was $load at the start.

All servers, and the load, share these cores. Of three nodes, clients are connected to the second and what is published goes to the first; each publication is
answered when two have it (\`--replicas 3\`). CPU is that of all processes of the service, the NATS server's too. Channels keep 10 publications, and there are no heartbeats.
What one bulk has is published one after another, each when the log has the one before, of one broadcast 64 at a time; 8 of them are under way at a time.

TEXT
	table
	cat <<'TEXT'

A connection with its subscriptions takes no more with NATS than without. A publication does: of each that is kept the node has a copy for recovery, in the channel's ring, and the embedded
server has the channel's subject in the log's index, in the cache of who listens to it, and for a while the block that it was written to. In a heap profile of 10,000 channels with one publication each, 4.1 MB were the
rings, and 5 MB NATS's. What that grows with is publications and channels that have any, not connections: [Sizing](../brokers.md#sizing).

The subscriptions are those of the groups that are read and of what nodes tell each other. Channels without history are spread over `--nats-partitions` subjects, of which a node subscribes to those that it has channels of: as many at most.
TEXT
} | tee "$out"
