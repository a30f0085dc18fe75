#!/bin/sh
# Makes the keys that the service wants, if there are none. Starts and restarts nothing: clients of a server that
# runs are its own, and are let go when whoever is responsible says so.
set -e
root=${DPKG_ROOT:-}
etc=$root/etc/millpond

secret() { # FILE BYTES: a file that was not there, with so many random bytes in hexadecimal
	[ -e "$etc/$1" ] && return
	(
		umask 077
		od -An -v -tx1 -N "$2" /dev/urandom | tr -d ' \n' >"$etc/$1.new"
		echo >>"$etc/$1.new"
		[ "$(wc -c <"$etc/$1.new")" -gt "$2" ] || { echo "millpond: $etc/$1.new is short" >&2; exit 1; }
		mv "$etc/$1.new" "$etc/$1"
	)
}

case "$1" in
configure | 1 | 2)
	secret token.secret 32
	secret api.keys 32
	if [ -z "$root" ] && [ -d /run/systemd/system ]; then
		systemd-sysusers millpond.conf || :
		systemctl daemon-reload || :
	fi
	;;
esac
