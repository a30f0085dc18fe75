#!/bin/sh
# The keys go with dpkg's purge alone, and data and logs never.
set -e
root=${DPKG_ROOT:-}
case "$1" in
purge)
	rm -f "$root/etc/millpond/token.secret" "$root/etc/millpond/api.keys"
	rmdir "$root/etc/millpond" 2>/dev/null || :
	;;
esac
if [ -z "$root" ] && [ -d /run/systemd/system ]; then
	systemctl daemon-reload || :
fi
