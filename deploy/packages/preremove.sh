#!/bin/sh
# Stops the server when the package goes, not when a newer one comes: dpkg says remove, rpm 0.
set -e
case "$1" in
remove | 0)
	if [ -z "${DPKG_ROOT:-}" ] && [ -d /run/systemd/system ]; then
		systemctl disable --now millpond.socket millpond.service || :
		systemctl stop 'millpond@*.service' || :
	fi
	;;
esac
