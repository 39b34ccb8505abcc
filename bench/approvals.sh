# Asking for an approval and deciding on it, two transactions by two people, at 1 and 8 clients of one organization.
# opsflow: one statement each, which is the transaction (and, without a target, in explicit transactions). By hand: the statements an application would send into the seed's tables, for the same work
# (the requester is a member, the decider another one who may, the request is still open, both changes are recorded).
# shellcheck shell=bash disable=SC2154,SC2317

script approvals_opsflow <<-'END'
	SELECT opsflow.request_approval('Deploy release 42', 'Rolls the new pricing page out to all customers.',
	    '{"kind": "deploy", "service": "web", "version": "42"}', risk_level => 2, priority => 'high',
	    ai_recommendation => 'approve', ai_confidence => 0.92, ai_reasoning => 'All checks passed on staging.',
	    risk_factors => '{"customer facing"}', expires_at => now() + interval '2 days') AS request
	FROM opsflow.set_context(:organization, :requester) \gset
	SELECT opsflow.approve(:request, 'Looks good.') FROM opsflow.set_context(:organization, :approver);
END

script approvals_explicit <<-'END'
	BEGIN;
	SELECT opsflow.set_context(:organization, :requester);
	SELECT opsflow.request_approval('Deploy release 42', 'Rolls the new pricing page out to all customers.',
	    '{"kind": "deploy", "service": "web", "version": "42"}', risk_level => 2, priority => 'high',
	    ai_recommendation => 'approve', ai_confidence => 0.92, ai_reasoning => 'All checks passed on staging.',
	    risk_factors => '{"customer facing"}', expires_at => now() + interval '2 days') AS request \gset
	COMMIT;
	BEGIN;
	SELECT opsflow.set_context(:organization, :approver);
	SELECT opsflow.approve(:request, 'Looks good.');
	COMMIT;
END

script approvals_statements <<-'END'
	BEGIN;
	SELECT first_name, last_name FROM seed.users
	WHERE id = :requester AND organization_id = :organization AND status = 'active';
	INSERT INTO seed.approval_requests (organization_id, title, description, requested_action, priority,
	    ai_recommendation, ai_confidence, ai_reasoning, risk_factors, due_date, requested_by)
	VALUES (:organization, 'Deploy release 42', 'Rolls the new pricing page out to all customers.',
	    '{"kind": "deploy", "service": "web", "version": "42"}', 'high', 'approve', 0.92,
	    'All checks passed on staging.', '{"customer facing"}', now() + interval '2 days', :requester)
	RETURNING id AS request \gset
	INSERT INTO seed.audit_trail (organization_id, event_type, entity_type, entity_id, actor_type, actor_id, actor_name,
	    action, new_values, ai_reasoning, confidence_score)
	SELECT organization_id, 'approval_request', 'approval', id, 'user', requested_by, 'Rita Requester', 'insert',
	    to_jsonb(r), ai_reasoning, ai_confidence
	FROM seed.approval_requests AS r WHERE id = :request;
	COMMIT;
	BEGIN;
	SELECT status, requested_by, due_date FROM seed.approval_requests
	WHERE id = :request AND organization_id = :organization FOR UPDATE;
	SELECT first_name, last_name, role FROM seed.users
	WHERE id = :approver AND organization_id = :organization AND status = 'active';
	UPDATE seed.approval_requests
	SET status = 'approved', decision_reason = 'Looks good.', decided_at = now(), decided_by = :approver,
	    updated_at = now()
	WHERE id = :request AND status = 'pending' AND requested_by <> :approver;
	INSERT INTO seed.audit_trail (organization_id, event_type, entity_type, entity_id, actor_type, actor_id, actor_name,
	    action, previous_values, new_values)
	VALUES (:organization, 'approval_request', 'approval', :request, 'user', :approver, 'Ada Approver', 'update',
	    '{"status": "pending"}', jsonb_build_object('status', 'approved', 'decision_reason', 'Looks good.',
	        'decided_at', now(), 'decided_by', :approver::uuid));
	COMMIT;
END

arm_explicit() { rate "$clients" approvals_explicit -U bench_service; }
arm_opsflow() { rate "$clients" approvals_opsflow -U bench_service; }
arm_statements() { rate "$clients" approvals_statements -U bench_service; }

for clients in 1 8; do
	fresh_database approvals
	# The seed does not know who asked, and knows only requests of executions.
	sql -c "ALTER TABLE seed.approval_requests ADD COLUMN requested_by uuid REFERENCES seed.users (id),
		ALTER COLUMN execution_id DROP NOT NULL"
	measure "approvals_$clients" opsflow explicit statements
	report "request and decide, $(clients_of "$clients")" "client statements" pairs/s "approvals_$clients" \
		opsflow statements '>=2'
	report "the same in BEGIN … COMMIT, $(clients_of "$clients")" "client statements" pairs/s "approvals_$clients" \
		explicit statements -
done
