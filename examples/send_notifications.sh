#!/usr/bin/env bash
# send_notifications.sh [SECONDS]: sends the e-mail that waits in opsflow.notifications and says what became of each; once,
# or again every so many seconds. Start as many as you like, on any machine.
#
# psql's own environment (PGHOST, PGDATABASE, PGUSER, ...) says where and as whom. That is one of
#   - a login of opsflow_worker that a DBA has bound to an organization
#     (ALTER ROLE mailer SET opsflow.organization_id = '...'), which sends for that one, or
#   - a login of opsflow_service, which sends for all of them.
#
# SENDMAIL  command that takes a message on its standard input and the address as its last argument; its exit status is
#           that of sendmail: 0 sent, 67 no such person, anything else: not now (default: /usr/sbin/sendmail -i --)
# FROM      who it is from (default: opsflow@ this host)
set -euo pipefail
export LC_ALL=C.UTF-8 PGCLIENTENCODING=UTF8

read -ra sendmail <<<"${SENDMAIL:-/usr/sbin/sendmail -i --}"
from=${FROM:-opsflow@$(hostname)}
again=${1:-}

# What a sender has at a time, and for how long: 10 messages of at most 20 seconds, and a margin.
quantity=10
lease='5 minutes'
patience=20

# sql ORGANIZATION STATEMENT [psql's options]: in the organization, or in the one the login is bound to.
sql()
{
	local organization=$1 statement="$2;"
	shift 2
	if [ -n "$organization" ]; then
		statement="BEGIN; SELECT opsflow.set_context(:'organization') \g /dev/null
			$statement COMMIT;"
	fi
	psql -XqtA -v ON_ERROR_STOP=1 -v organization="$organization" "$@" <<<"$statement"
}

# What a header can hold of a text in any language (RFC 2047).
encoded()
{
	local text=$1 i
	for ((i = 0; i < ${#text}; i += 10)); do
		[ "$i" -eq 0 ] || printf '\n'
		printf ' =?UTF-8?B?%s?=' "$(printf '%s' "${text:i:10}" | base64 -w 0)"
	done
}

message()
{
	local id=$1 address=$2 title=$3 body=$4
	printf 'From: %s\nTo: %s\nSubject:%s\n' "$from" "$address" "$(encoded "$title")"
	# The same one twice (a sender that died after sending) can be told by its id.
	printf 'Message-ID: <%s@opsflow>\nAuto-Submitted: auto-generated\nMIME-Version: 1.0\n' "$id"
	printf 'Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\n'
	printf '%s\n' "${body:-$title}" | base64
}

# deliver ORGANIZATION ID TOKEN ADDRESS TITLE BODY
deliver()
{
	local organization=$1 id=$2 token=$3 address=$4 title=$5 body=$6 text complaint status=0
	text=$(message "$id" "$address" "$title" "$body")
	complaint=$(timeout "$patience" "${sendmail[@]}" "$address" 2>&1 <<<"$text") || status=$?
	# A lease that was lost is no reason to stop: somebody else has it.
	if [ "$status" -eq 0 ]; then
		sql "$organization" "SELECT opsflow.complete_notification(:'id', :'token')" -v id="$id" -v token="$token" >/dev/null || true
	else
		sql "$organization" "SELECT opsflow.fail_notification(:'id', :'token', :'error', :'retry')" -v id="$id" \
			-v token="$token" -v error="exit status $status: $complaint" -v retry="$([ "$status" -eq 67 ] && echo false || echo true)" \
			>/dev/null || true
	fi
}

# Sends a handful; false if nothing was due.
send_some()
{
	local organization=$1 id token address title body found=1
	while IFS= read -r -d '' id && IFS= read -r -d '' token && IFS= read -r -d '' address &&
		IFS= read -r -d '' title && IFS= read -r -d '' body; do
		found=0
		deliver "$organization" "$id" "$token" "$address" "$title" "$body"
	done < <(sql "$organization" "SELECT id, lease_token, email, title, body
		FROM opsflow.claim_notifications('email', :quantity, :'lease')" -z -0 -v quantity="$quantity" -v lease="$lease")
	wait "$!" || exit 1
	return "$found"
}

# A handful of each organization in turn, so that one with much to say keeps no other waiting.
send_all()
{
	local organization bound more=0
	bound=$(sql '' 'SELECT opsflow.current_organization_id() IS NOT NULL')
	while [ "$more" -eq 0 ]; do
		more=1
		if [ "$bound" = t ]; then
			if send_some ''; then more=0; fi
		else
			for organization in $(sql '' "SELECT opsflow.organizations_to_notify('email')"); do
				if send_some "$organization"; then more=0; fi
			done
		fi
	done
}

send_all
while [ -n "$again" ]; do
	sleep "$again"
	send_all
done
