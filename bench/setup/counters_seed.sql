-- The same with the seed's trigger. PostgreSQL refuses its WHEN clause (an INSERT has no OLD, a DELETE no NEW), so it is
-- made three times, each with its half of the clause.

SET search_path = seed, public;

INSERT INTO agents (organization_id, id, name, agent_type, system_prompt, status, created_by)
VALUES (:'organization', :'agent', 'Ticket Sorter', 'workflow', 'You sort support tickets.', 'active', :'requester');
INSERT INTO workflows (organization_id, id, name, status, requires_human_approval, created_by)
VALUES (:'organization', :'workflow', 'Sort tickets', 'active', false, :'requester');

INSERT INTO workflow_executions (organization_id, workflow_id, agent_id, total_steps, requires_approval, status,
    started_at, completed_at)
SELECT :'organization', :'workflow', :'agent', 3, false, CASE WHEN n % 20 = 0 THEN 'failed' ELSE 'completed' END,
    at, at + interval '90 seconds'
FROM (
    SELECT n, now() - interval '90 days' * (1 - n::float8 / (:history + 1)) AS at
    FROM generate_series(1, :history) AS n) AS executions;

CREATE FUNCTION update_agent_stats()
RETURNS TRIGGER AS $$
DECLARE
    total_executions INTEGER;
    successful_executions INTEGER;
    new_success_rate DECIMAL(5,2);
BEGIN
    SELECT
        COUNT(*),
        COUNT(*) FILTER (WHERE status = 'completed')
    INTO total_executions, successful_executions
    FROM seed.workflow_executions
    WHERE agent_id = COALESCE(NEW.agent_id, OLD.agent_id);
    IF total_executions > 0 THEN
        new_success_rate := (successful_executions::DECIMAL / total_executions) * 100;
    ELSE
        new_success_rate := 0;
    END IF;
    UPDATE seed.agents
    SET
        execution_count = total_executions,
        success_rate = new_success_rate,
        last_executed = NOW(),
        updated_at = NOW()
    WHERE id = COALESCE(NEW.agent_id, OLD.agent_id);
    RETURN COALESCE(NEW, OLD);
END;
$$ LANGUAGE plpgsql;

CREATE TRIGGER update_agent_statistics_insert AFTER INSERT ON workflow_executions FOR EACH ROW
    WHEN (NEW.agent_id IS NOT NULL) EXECUTE FUNCTION seed.update_agent_stats();
CREATE TRIGGER update_agent_statistics_update AFTER UPDATE ON workflow_executions FOR EACH ROW
    WHEN (NEW.agent_id IS NOT NULL OR OLD.agent_id IS NOT NULL) EXECUTE FUNCTION seed.update_agent_stats();
CREATE TRIGGER update_agent_statistics_delete AFTER DELETE ON workflow_executions FOR EACH ROW
    WHEN (OLD.agent_id IS NOT NULL) EXECUTE FUNCTION seed.update_agent_stats();
VACUUM ANALYZE;
