-- Comprehensive audit trail analysis for security and compliance
SELECT 
    DATE_TRUNC('day', at.timestamp) as date,
    o.name as organization,
    
    -- Activity Breakdown
    COUNT(*) as total_events,
    COUNT(*) FILTER (WHERE at.actor_type = 'user') as user_actions,
    COUNT(*) FILTER (WHERE at.actor_type = 'agent') as agent_actions,
    COUNT(*) FILTER (WHERE at.actor_type = 'system') as system_actions,
    
    -- Event Types
    COUNT(*) FILTER (WHERE at.event_type = 'workflow_execution') as workflow_events,
    COUNT(*) FILTER (WHERE at.event_type = 'approval_request') as approval_events,
    COUNT(*) FILTER (WHERE at.event_type = 'configuration_change') as config_changes,
    COUNT(*) FILTER (WHERE at.event_type = 'security_event') as security_events,
    
    -- Risk Levels
    COUNT(*) FILTER (WHERE at.severity = 'error') as error_events,
    COUNT(*) FILTER (WHERE at.severity = 'warning') as warning_events,
    COUNT(*) FILTER (WHERE at.severity = 'critical') as critical_events,
    
    -- AI-specific metrics
    AVG(at.confidence_score) FILTER (WHERE at.confidence_score IS NOT NULL) as avg_ai_confidence,
    SUM(at.tokens_used) FILTER (WHERE at.tokens_used IS NOT NULL) as total_ai_tokens,
    
    -- Unique actors
    COUNT(DISTINCT at.actor_id) FILTER (WHERE at.actor_type = 'user') as unique_users,
    COUNT(DISTINCT at.actor_id) FILTER (WHERE at.actor_type = 'agent') as unique_agents

FROM audit_trail at
JOIN organizations o ON at.organization_id = o.id
WHERE at.timestamp >= NOW() - INTERVAL '7 days'
  AND o.status = 'active'
GROUP BY DATE_TRUNC('day', at.timestamp), o.id, o.name
ORDER BY date DESC, total_events DESC;
