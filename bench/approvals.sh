# Asking for an approval and deciding on it, two transactions by two people, at 1, 8 and 32 clients of one organization,
# under one of three policies, with a stage, an assignment, a vote, events, a notification and the ledger.
# opsflow: one statement each, which is the transaction (and, without a target, in explicit transactions). By hand:
# calls of PL/pgSQL functions with the same rules on plain tables (setup/approvals_plpgsql.sql).
#
# Then the same with 1,000 and with BENCH_ROWS past requests, and the first 50 in the inbox of a person for whom 10,000
# wait beside them, whose plan is printed.
# shellcheck shell=bash disable=SC2154,SC2317

arguments="'Deploy release 42', 'Rolls the new pricing page out to all customers.',
	'{\"kind\": \"deploy\", \"service\": \"web\", \"version\": \"42\"}'"
request="opsflow.request_approval($arguments, risk_level => 2, priority => 'high', ai_recommendation => 'approve',
	ai_confidence => 0.92, ai_reasoning => 'All checks passed on staging.', risk_factors => '{\"customer facing\"}',
	expires_at => now() + interval '2 days')"

script approvals_opsflow <<-END
	SELECT $request AS request FROM opsflow.set_context(:organization, :requester) \\gset
	SELECT opsflow.approve(:request, 'Looks good.') FROM opsflow.set_context(:organization, :approver);
END

script approvals_explicit <<-END
	BEGIN;
	SELECT opsflow.set_context(:organization, :requester);
	SELECT $request AS request \\gset
	COMMIT;
	BEGIN;
	SELECT opsflow.set_context(:organization, :approver);
	SELECT opsflow.approve(:request, 'Looks good.');
	COMMIT;
END

script approvals_plpgsql <<-END
	SELECT hand.request_approval(:organization, :requester, $arguments, 2, 'high', 'approve', 0.92,
	    'All checks passed on staging.', '{"customer facing"}', now() + interval '2 days') AS request \\gset
	SELECT hand.decide_approval(:organization, :approver, :request, 'approve', 'Looks good.');
END

# pairs DATABASE SCRIPT: pairs of request and decision per second.
pairs()
{
	database=$1
	rate "$clients" "$2" -U bench_service
}

arm_explicit() { pairs bench_approvals approvals_explicit; }
arm_opsflow() { pairs bench_approvals approvals_opsflow; }
arm_plpgsql() { pairs bench_approvals approvals_plpgsql; }
arm_few() { pairs bench_approvals approvals_opsflow; }
arm_many() { pairs bench_approvals_many approvals_opsflow; }

# past REQUESTS STATUS: so many more requests, of that status, of the approver.
past()
{
	sql -v requests="$1" -v status="$2" -v member="$approver" -f "$here/setup/approvals_history.sql"
}

for clients in 1 8 32; do
	fresh_database approvals
	sql -f "$here/setup/approvals_plpgsql.sql"
	# Tables that were empty when a plan was made are nobody's for long.
	for name in opsflow plpgsql; do
		run_seconds=2 rate 1 "approvals_$name" -U bench_service >"$results/output"
	done
	sql -c 'VACUUM ANALYZE'
	measure "approvals_$clients" opsflow explicit plpgsql
	report "request and decide, $(clients_of "$clients")" "the same rules in PL/pgSQL" pairs/s "approvals_$clients" \
		opsflow plpgsql '>=3'
	report "the same in BEGIN … COMMIT, $(clients_of "$clients")" "the same rules in PL/pgSQL" pairs/s \
		"approvals_$clients" explicit plpgsql -
done

fresh_database approvals_many
sql -f "$here/setup/approvals_plpgsql.sql"
past "$rows" approved
sql -c 'VACUUM ANALYZE'
fresh_database approvals
sql -f "$here/setup/approvals_plpgsql.sql"
past 1000 approved
sql -c 'VACUUM ANALYZE'
clients=8
measure approvals_history many few
report "request and decide, $rows past requests" "1,000 past requests" pairs/s approvals_history many few '>=0.95'
drop_database bench_approvals

# The inbox, as an application role sees it: milliseconds of its execution in a warm session, as EXPLAIN ANALYZE says.
# shellcheck disable=SC2034
database=bench_approvals_many
past 10000 pending
sql -c 'VACUUM ANALYZE'
inbox()
{
	local query="SELECT * FROM opsflow.approval_inbox LIMIT 50"
	sql -At -U bench_service -c BEGIN -c "SELECT opsflow.set_context('$organization', '$approver')" -c "$query" \
		-c "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, COSTS OFF) $query" -c ROLLBACK | sed -n '/^Limit/,$p'
}
arm_inbox() { inbox | sed -n 's/^Execution Time: \([0-9.]*\) ms.*/\1/p'; }
arm_limit() { echo 5; }
# Pages read to find which requests they are: those of the first step that has them in order.
arm_pages()
{
	inbox | awk '/Merge Append/ { found = 1 }
		found && /Buffers:/ { gsub(/[^0-9 ]/, ""); for (i = 1; i <= NF; i++) n += $i; print n; found = 0 }'
}
arm_twenty() { echo 20; }
measure approvals_inbox inbox limit pages twenty
inbox | grep -v 'never executed' | sed 's/^/    /'
report "first 50 of an inbox of 10,000, of $rows" "a limit of 20 beside the rows" pages approvals_inbox pages twenty \
	'<=1'
report "the same" "a limit of 5 ms" ms approvals_inbox inbox limit -
