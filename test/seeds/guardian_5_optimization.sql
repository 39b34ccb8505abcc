-- Identify optimization opportunities for organizations
WITH agent_performance AS (
    SELECT 
        organization_id,
        agent_id,
        COUNT(*) as executions,
        AVG(confidence_score) as avg_confidence,
        COUNT(*) FILTER (WHERE status = 'completed') as successes,
        AVG(EXTRACT(EPOCH FROM (completed_at - started_at))) as avg_duration
    FROM workflow_executions 
    WHERE started_at >= NOW() - INTERVAL '30 days'
    GROUP BY organization_id, agent_id
),
approval_patterns AS (
    SELECT 
        organization_id,
        COUNT(*) as total_requests,
        COUNT(*) FILTER (WHERE status = 'approved') as approved_requests,
        AVG(EXTRACT(EPOCH FROM (decided_at - created_at))) as avg_approval_time,
        AVG(ai_confidence) as avg_ai_confidence
    FROM approval_requests
    WHERE created_at >= NOW() - INTERVAL '30 days'
    GROUP BY organization_id
)

SELECT 
    o.name as organization,
    o.risk_tolerance,
    
    -- Current Performance
    COALESCE(ap_perf.avg_confidence, 0) as avg_agent_confidence,
    COALESCE(ap_patterns.avg_ai_confidence, 0) as avg_approval_ai_confidence,
    
    -- Optimization Opportunities
    CASE 
        WHEN ap_patterns.avg_ai_confidence > 0.9 AND o.risk_tolerance = 'low' 
        THEN 'Consider increasing auto-approval threshold'
        WHEN ap_perf.avg_confidence < 0.7 
        THEN 'Review agent prompts and training'
        WHEN ap_patterns.avg_approval_time > 3600 
        THEN 'Approval workflow optimization needed'
        ELSE 'Performance within acceptable range'
    END as recommendation,
    
    -- Metrics for Decision Making
    ap_patterns.total_requests as approval_requests_30d,
    ap_patterns.approved_requests,
    ap_patterns.avg_approval_time / 3600 as avg_approval_hours,
    
    -- Cost Optimization Potential
    CASE 
        WHEN aul.total_cost > 1000 AND ap_perf.avg_confidence > 0.85
        THEN 'Consider using lighter model for high-confidence scenarios'
        WHEN aul.total_tokens > 100000 AND o.plan_type = 'starter'
        THEN 'Plan upgrade recommended'
        ELSE 'Cost optimization not immediately needed'
    END as cost_optimization

FROM organizations o
LEFT JOIN (
    SELECT organization_id, AVG(avg_confidence) as avg_confidence
    FROM agent_performance 
    GROUP BY organization_id
) ap_perf ON o.id = ap_perf.organization_id
LEFT JOIN approval_patterns ap_patterns ON o.id = ap_patterns.organization_id
LEFT JOIN (
    SELECT organization_id, SUM(total_cost) as total_cost, SUM(total_tokens) as total_tokens
    FROM ai_usage_logs 
    WHERE timestamp >= NOW() - INTERVAL '30 days'
    GROUP BY organization_id
) aul ON o.id = aul.organization_id
WHERE o.status = 'active'
ORDER BY ap_patterns.total_requests DESC NULLS LAST;
