-- Comprehensive organization analytics query
SELECT 
    o.name as organization,
    o.plan_type,
    
    -- User & Resource Counts
    COUNT(DISTINCT u.id) as total_users,
    COUNT(DISTINCT a.id) as total_agents,
    COUNT(DISTINCT w.id) as total_workflows,
    
    -- Execution Statistics (Last 30 Days)
    COUNT(DISTINCT we.id) FILTER (WHERE we.started_at >= NOW() - INTERVAL '30 days') as executions_30d,
    COUNT(DISTINCT we.id) FILTER (WHERE we.status = 'completed' AND we.started_at >= NOW() - INTERVAL '30 days') as successful_executions_30d,
    
    -- Success Rate Calculation
    CASE 
        WHEN COUNT(DISTINCT we.id) FILTER (WHERE we.started_at >= NOW() - INTERVAL '30 days') > 0 
        THEN ROUND(
            (COUNT(DISTINCT we.id) FILTER (WHERE we.status = 'completed' AND we.started_at >= NOW() - INTERVAL '30 days')::DECIMAL / 
             COUNT(DISTINCT we.id) FILTER (WHERE we.started_at >= NOW() - INTERVAL '30 days')) * 100, 
            2
        )
        ELSE 0 
    END as success_rate_30d,
    
    -- Approval Statistics
    COUNT(DISTINCT ar.id) FILTER (WHERE ar.created_at >= NOW() - INTERVAL '30 days') as approval_requests_30d,
    COUNT(DISTINCT ar.id) FILTER (WHERE ar.status = 'approved' AND ar.created_at >= NOW() - INTERVAL '30 days') as approvals_granted_30d,
    COUNT(DISTINCT ar.id) FILTER (WHERE ar.status = 'pending') as pending_approvals,
    
    -- AI Usage & Costs
    COALESCE(SUM(aul.total_tokens) FILTER (WHERE aul.timestamp >= NOW() - INTERVAL '30 days'), 0) as tokens_used_30d,
    COALESCE(SUM(aul.total_cost) FILTER (WHERE aul.timestamp >= NOW() - INTERVAL '30 days'), 0) as ai_cost_30d,
    
    -- Performance Metrics
    AVG(EXTRACT(EPOCH FROM (we.completed_at - we.started_at))) FILTER (WHERE we.completed_at IS NOT NULL AND we.started_at >= NOW() - INTERVAL '30 days') as avg_execution_time_seconds,
    AVG(we.confidence_score) FILTER (WHERE we.started_at >= NOW() - INTERVAL '30 days') as avg_confidence_score,
    
    -- Risk Assessment
    COUNT(DISTINCT we.id) FILTER (WHERE we.status = 'requires_approval' AND we.started_at >= NOW() - INTERVAL '30 days') as high_risk_executions_30d,
    
    -- Growth Metrics
    COUNT(DISTINCT u.id) FILTER (WHERE u.created_at >= NOW() - INTERVAL '30 days') as new_users_30d,
    COUNT(DISTINCT a.id) FILTER (WHERE a.created_at >= NOW() - INTERVAL '30 days') as new_agents_30d

FROM organizations o
LEFT JOIN users u ON o.id = u.organization_id AND u.status = 'active'
LEFT JOIN agents a ON o.id = a.organization_id AND a.status IN ('active', 'paused')
LEFT JOIN workflows w ON o.id = w.organization_id AND w.status = 'active'
LEFT JOIN workflow_executions we ON o.id = we.organization_id
LEFT JOIN approval_requests ar ON o.id = ar.organization_id
LEFT JOIN ai_usage_logs aul ON o.id = aul.organization_id
WHERE o.status = 'active'
GROUP BY o.id, o.name, o.plan_type
ORDER BY tokens_used_30d DESC;
